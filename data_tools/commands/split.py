"""``split``: label rows train, validation or test by a hash of the prompt."""

from __future__ import annotations

import argparse
from pathlib import Path

import polars as pl

from data_tools import artifact, lineage, passes
from data_tools.commands._flags import shares
from data_tools.commands._shared import at_least_one, no_folder, show
from data_tools.errors import UserError
from data_tools.memory import Memory, add_memory
from data_tools.schema import PREFERENCE, SPLITS
from data_tools.split import check_labels, check_shares, decide_split, normalised_prompt, split_columns, stable_part

MOST_PARTS = 1000
SUMMARY = "label rows train, validation or test by a hash of the prompt"
PLACE = 30
IN_PLACE = True
EXAMPLES = (
    "split data/pairs.parquet --out data/split.parquet --test 0.2",
    "split data/pairs/train.parquet --parts 3 --out data/parts",
)


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="PREFERENCE parquet")
    parser.add_argument(
        "--out", required=True, type=Path, metavar="FILE", help="parquet to write; of --parts the folder for them"
    )
    parser.add_argument(
        "--parts", type=int, metavar="N",
        help="instead of labels, N tables by a hash of the prompt: part-1.parquet and so on, for N rounds of STaR",
    )  # fmt: skip
    shares(parser)
    add_memory(parser)


def run(arguments: argparse.Namespace) -> None:
    """Rows that have a label keep it unless --redo is given; the others of a prompt go to one side together. Rows that
    are added later without a label change neither the label nor the part of those that were there."""
    at_least_one(arguments, "parts")
    if arguments.parts is not None:
        _write_parts(arguments)
        return
    names = ("validation", "test", "redo")
    settings = {name: getattr(arguments, name) for name in names}
    check_shares(arguments.validation, arguments.test)
    no_folder(arguments.out)
    memory = Memory.of(arguments.memory)
    lineage.begin([arguments.file])
    table = artifact.scan_tables([arguments.file], PREFERENCE)
    if not arguments.redo:
        check_labels(table, arguments.file)
    with passes.scratch(arguments.out.parent) as temporary:
        narrow = passes.narrowed(table, split_columns(**settings), temporary)
        found = passes.decided([narrow], decide_split, memory.rows)
    beside = found.select(_split="split")
    group = memory.row_group(passes.bytes_a_row(arguments.file, found.height), 1)
    passes.write(table, beside, {arguments.out: pl.lit(True)}, {"split": pl.col("_split")}, row_group=group)
    rows = {name: int((found["split"] == name).sum()) for name in SPLITS}
    lineage.write(arguments.out, "split", [arguments.file], settings, {"read": found.height, "written": rows})
    show("split", rows)
    if n := int(found["_crosses"].sum()):
        print(
            f"on more than one side: {n:,} prompts, whose labels in {arguments.file} disagree; "
            "clean drops such rows from training, --redo draws all anew"
        )


def _write_parts(arguments: argparse.Namespace) -> None:
    out, n = arguments.out, arguments.parts
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: is a file; name a folder for --out")
    if n > MOST_PARTS:
        raise UserError(f"--parts {n}: must be at most {MOST_PARTS}")
    known = {f"part-{i + 1}.parquet" for i in range(n)}
    if stale := sorted(file.name for file in out.glob("part-*.parquet") if file.name not in known):
        raise UserError(f"{out / stale[0]}: is left from another split; remove it or use another folder")
    table = artifact.scan_tables([arguments.file], PREFERENCE)
    rows = table.with_columns(_text=normalised_prompt()).select(_part=stable_part(pl.col("_text"), n))
    part = rows.collect(engine="streaming")
    counts = {f"part-{i + 1}": int((part["_part"] == i).sum()) for i in range(n)}
    if empty := [name for name, rows in counts.items() if not rows]:
        raise UserError(f"{arguments.file}: {empty[0]} of {n} would be empty; use fewer parts or more data")
    outs = {out / f"{name}.parquet": pl.col("_part") == i for i, name in enumerate(counts)}
    group = Memory.of(arguments.memory).row_group(passes.bytes_a_row(arguments.file, part.height), n)
    passes.write(table, part, outs, row_group=group)
    for name in counts:
        facts = {"read": part.height, "written": counts[name]}
        lineage.write(out / f"{name}.parquet", "split", [arguments.file], {"parts": n}, facts)
    show("split", counts)
