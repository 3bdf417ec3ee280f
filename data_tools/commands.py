"""What ``python -m data_tools`` does, a function a command: flags in; tables and a few lines of numbers out."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from data_tools import artifact, sources, told
from data_tools.clean import clean
from data_tools.errors import UserError
from data_tools.judging import prompt_named
from data_tools.prompts import prompts
from data_tools.schema import JUDGMENT, PREFERENCE, SPLITS, check_unique_ids
from data_tools.split import conflicting_prompts, sample, split
from data_tools.stats import TOTAL, stats
from data_tools.visible import visible

# Raised when the same files and settings begin to give other tables.
INGEST_VERSION = 2
SIDES = ("prompt", "chosen", "rejected")


def run_ingest(arguments: argparse.Namespace) -> None:
    """Rows keep the split they have, others get one by a hash of the prompt; unusable rows are dropped and counted."""
    _at_least_one(arguments, "rows", "max_chars")
    names = ("format", "rows", "max_chars", "validation", "test", "redo", *(f"{side}_key" for side in SIDES))
    settings = {name: getattr(arguments, name) for name in names}
    key = {
        "stage": "ingest",
        "version": INGEST_VERSION,
        # The name too: rows that name no source take it from there.
        "inputs": [[file.name, artifact.digest(file)] for given in arguments.files for file in sources.files(given)],
        **settings,
    }
    if _nothing_to_do(arguments.out, key):
        return
    console = Console(stderr=True)
    reading = track(arguments.files, "reading", console=console, transient=True, disable=not console.is_terminal)
    keys = {side: name for side in SIDES if (name := getattr(arguments, f"{side}_key")) is not None}
    loaded = [sources.load(file, arguments.format, keys) for file in reading]
    raw = pl.concat(file.frame for file in loaded)
    left_out = dict(sum((Counter(file.left_out) for file in loaded), Counter()))
    table, dropped = clean(
        split(raw, validation=arguments.validation, test=arguments.test, redo=arguments.redo),
        max_chars=arguments.max_chars,
    )
    if table.is_empty():
        gone = ", ".join(f"{reason}: {n:,}" for reason, n in {**left_out, **dropped}.items() if n)
        raise UserError(
            f"{_names(arguments.files)}: none of {raw.height + sum(left_out.values()):,} rows is left ({gone}); "
            "loosen --max-chars or use other data"
        )
    twice = table.filter(pl.col("pair_id").is_duplicated())["pair_id"].min()
    if twice is not None:
        holders = [file for file, of in zip(arguments.files, loaded, strict=True) if twice in of.frame["pair_id"]]
        raise UserError(f"{_names(holders)}: id '{twice}' stands for different pairs; make the ids unique")
    kept = {name: table.filter(pl.col("split") == name) for name in SPLITS}
    tables = {name: sample(rows, arguments.rows or rows.height) for name, rows in kept.items() if not rows.is_empty()}
    counts = {
        "read": raw.height,
        "left_out": left_out,
        "dropped": dropped,
        "kept": {name: rows.height for name, rows in kept.items()},
        "written": {name: tables[name].height if name in tables else 0 for name in SPLITS},
    }
    _write_tables(arguments.out, tables, SPLITS, key, counts=counts)
    for name in sorted({file.format for file in loaded}):
        of = [file for file, its in zip(arguments.files, loaded, strict=True) if its.format == name]
        print(f"format {name}: {visible(_names(of))}", file=sys.stderr)
    lost = {**_named(left_out, "left out: "), **_nonzero(dropped, "dropped: ")}
    _show("ingest", {"read": raw.height, **lost, **_named(counts["written"], "written: ")})
    if missing := [name for name in SPLITS if name not in tables]:
        print(f"no rows for: {', '.join(missing)} (no such file written)")


def run_clean(arguments: argparse.Namespace) -> None:
    """Empty and identical responses, repeats, contradictions, and training rows whose prompt is held out."""
    _at_least_one(arguments, "max_chars")
    raw = artifact.read_table(arguments.file, PREFERENCE)
    table, dropped = clean(raw, max_chars=arguments.max_chars)
    if table.is_empty():
        raise UserError(f"{arguments.file}: none of {raw.height:,} rows is left; loosen --max-chars or use other data")
    _write_table(check_unique_ids(table, arguments.file), arguments.out, PREFERENCE)
    _show("clean", {"read": raw.height, **_nonzero(dropped, "dropped: "), "written": table.height})


def run_split(arguments: argparse.Namespace) -> None:
    """Rows that have a label keep it unless --redo is given; the others of a prompt go to one side together."""
    raw = artifact.read_table(arguments.file, PREFERENCE)
    table = split(raw, validation=arguments.validation, test=arguments.test, redo=arguments.redo, where=arguments.file)
    _write_table(table, arguments.out, PREFERENCE)
    _show("split", {name: int((table["split"] == name).sum()) for name in SPLITS})
    if n := conflicting_prompts(table):
        print(
            f"on more than one side: {n:,} prompts, whose labels in {arguments.file} disagree; "
            "clean drops such rows from training, --redo draws all anew"
        )


def run_star(arguments: argparse.Namespace) -> None:
    """Right votes are imitated; under dpo wrong ones of the same prompt are pushed away."""
    judgments = artifact.scan_tables(_tables(arguments.judgments), JUDGMENT)
    preferences = artifact.scan_tables(arguments.preferences, PREFERENCE)
    check_unique_ids(preferences.select("pair_id").collect(engine="streaming"), _names(arguments.preferences))
    _no_folder(arguments.out)
    others = {
        name: artifact.scan_tables(_tables(files), JUDGMENT)
        for name, files in (("told_wrong", arguments.told_wrong), ("rationalized", arguments.rationalized))
        if files
    }
    counts = told.write_examples(
        judgments,
        preferences,
        arguments.out,
        objective=arguments.objective,
        **others,
        filters=arguments.filters,
        per_prompt=arguments.per_prompt,
        template=arguments.template,
        uncoupled=arguments.uncoupled,
        right=arguments.right,
        ranking=arguments.ranking,
        pairing=arguments.pairing,
    )
    _show_steps(arguments.objective, counts)


def run_prompts(arguments: argparse.Namespace) -> None:
    """A line for either order of a pair: pair_id, swapped, messages. The answers, lines of pair_id, swapped, rationale
    and verdict, are what `bootstrap.file` of a STaR run takes."""
    prompt_named(arguments.template)
    pairs = check_unique_ids(artifact.read_table(arguments.file, PREFERENCE), arguments.file)
    if arguments.out.is_dir():
        raise UserError(f"{arguments.out}: is a folder; name a file for --out")
    with artifact.atomic_path(arguments.out) as temporary, open(temporary, "w", encoding="utf-8") as file:
        for pair, swapped, messages in prompts(pairs, arguments.template, arguments.told):
            line = {"pair_id": pair, "swapped": swapped, "messages": messages}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
    print(f"{2 * pairs.height} prompts: {arguments.out}")


def _tables(given: Sequence[Path]) -> list[Path]:
    """Parquet files, and those in folders: of a finished stage its judgments.parquet, else all that lie there."""
    found = []
    for path in given:
        whole = path / "judgments.parquet"
        inside = [whole] if whole.is_file() else sorted(path.glob("[!.]*.parquet"))
        if path.is_dir() and not inside:
            raise UserError(f"{path}: no parquet files in this folder; name the folder of a finished or running sample")
        found += inside if path.is_dir() else [path]
    return found


def _show_steps(objective: str, counts: Mapping[str, Any]) -> None:
    """What each step kept, and what is left."""
    shown = Table("step", "of", "given", "kept", "dropped", title=f"star {objective}")
    for column in shown.columns[2:]:
        column.justify = "right"
    for name in ("sampled", "right", "wrong"):
        shown.add_row(name, "samples", "", f"{counts[name]:,}", "")
    for why, n in counts.get("before", {}).items():
        shown.add_row(why, "samples", "", "", f"{n:,}")
    shown.add_section()
    for step in counts["steps"]:
        lost = step["given"] - step["kept"]
        share = f"{lost:,} ({lost / step['given']:.1%})" if lost > 0 else ""
        shown.add_row(step["step"], step["of"], f"{step['given']:,}", f"{step['kept']:,}", share)
    shown.add_section()
    shown.add_row("kept", "examples", "", f"{counts['kept']:,}", "")
    if "rationalized" in counts:
        shown.add_row("rationalized", "examples", f"{counts['failed']:,}", f"{counts['rationalized']:,}", "")
    shown.add_row("from", "pairs", "", f"{counts['pairs']:,}", "")
    for letter, n in counts["letters"].items():
        shown.add_row(f"right letter {letter}", "examples", "", f"{n:,}", "")
    _console().print(shown)


def run_stats(arguments: argparse.Namespace) -> None:
    """Rows, splits, labels, lengths, and the accuracy of always preferring the longer response or response A."""
    table = pl.concat([_any_preferences(file) for file in arguments.files])
    if table.is_empty():
        raise UserError(f"{_names(arguments.files)}: the table has no rows")
    measured = stats(table)
    shown = Table(title=f"{table.height:,} pairs")
    headings = ("source", "rows", "train / validation / test", "prompts", "labels", "chars: median / 95%")
    for heading in (*headings, "longer chosen", "chosen is A"):
        left = heading in ("source", "labels")
        shown.add_column(heading, justify="left" if left else "right", overflow="fold")
    for row in measured.iter_rows(named=True):
        if row["source"] == TOTAL:
            shown.add_section()
        shown.add_row(
            Text(visible(row["source"])),  # a cell that is a string would be read as rich's markup
            f"{row['rows']:,}",
            " / ".join(f"{row[name]:,}" for name in SPLITS),
            f"{row['prompts']:,}",
            Text(visible(row["labels"])),
            f"{row['chars']:,} / {row['chars_95']:,}",
            f"{row['longer_chosen']:.0%}",
            f"{row['chosen_is_a']:.0%}",
        )
    _console().print(shown)


def run_verifiable(arguments: argparse.Namespace) -> None:
    """Writes train, validation, test (the same kinds of task) and ood (kinds held out of training)."""
    from data_tools import verifiable

    key = {
        "stage": "verifiable",
        **{name: getattr(arguments, name) for name in ("rows", "seed", "test_rows", "levels")},
    }
    key["generator"] = verifiable.VERSION
    tables = verifiable.build(arguments.rows, arguments.seed, arguments.test_rows, arguments.levels)
    if _nothing_to_do(arguments.out, key):
        return
    rows = {name: table.height for name, table in tables.items()}
    _write_tables(arguments.out, tables, tables, key, counts=rows)
    _show("verifiable", rows)


def _any_preferences(file: Path) -> pl.DataFrame:
    if file.suffix == ".parquet":
        return artifact.read_table(file, PREFERENCE)
    return sources.read(file)


def _nothing_to_do(folder: Path, key: dict[str, Any]) -> bool:
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file; name a folder for --out")
    if artifact.is_complete(folder, key):
        written = artifact.read_json(folder / artifact.MANIFEST).get("tables", ())
        if not all((folder / f"{name}.parquet").is_file() for name in written):
            return False  # someone removed a table: all are made anew
        print(f"{folder}: already complete, nothing to do")
        return True
    return False


def _write_tables(
    folder: Path, tables: Mapping[str, pl.DataFrame], names: Iterable[str], key: dict[str, Any], **facts: Any
) -> None:
    """Write the tables, then the manifest. A file of one of the names that is not written now would seem part of it."""
    for name in names:
        stale = folder / f"{name}.parquet"
        if name not in tables and stale.exists():
            raise UserError(
                f"{stale}: is left from another run, this one has no {name} rows; remove it or use another folder"
            )
    artifact.sweep(folder)
    for name, table in tables.items():
        artifact.write_table(table, folder / f"{name}.parquet", PREFERENCE)
    artifact.write_manifest(folder, key, tables=list(tables), **facts)


def _write_table(table: pl.DataFrame, file: Path, schema: pl.Schema) -> None:
    _no_folder(file)
    artifact.write_table(table, file, schema)


def _no_folder(file: Path) -> None:
    if file.is_dir():
        raise UserError(f"{file}: is a folder; name a file for --out")


def _at_least_one(arguments: argparse.Namespace, *names: str) -> None:
    for name in names:
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise UserError(f"--{name.replace('_', '-')} {value}: must be at least 1")


def _names(files: Sequence[Path]) -> str:
    """The files as the beginning of an error's line, however many there are."""
    return ", ".join(map(str, files[:3])) + (f" and {len(files) - 3} more" if len(files) > 3 else "")


def _nonzero(counts: Mapping[str, int], prefix: str) -> dict[str, int]:
    return _named({name: n for name, n in counts.items() if n}, prefix)


def _named(counts: Mapping[str, int], prefix: str) -> dict[str, int]:
    return {f"{prefix}{name}": n for name, n in counts.items()}


def _show(title: str, counts: Mapping[str, int]) -> None:
    table = Table("", "rows", title=title)
    table.columns[1].justify = "right"
    for name, n in counts.items():
        table.add_row(name, f"{n:,}")
    _console().print(table)


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else 160)  # in a file or a pipe rich would take 80
