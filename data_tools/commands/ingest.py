"""``ingest``: raw files -> train.parquet, validation.parquet, test.parquet."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from data_tools import artifact, lineage, sources
from data_tools.commands import _hub
from data_tools.commands._flags import max_chars, shares
from data_tools.commands._shared import at_least_one, file_names, named, nonzero, nothing_to_do, show
from data_tools.errors import UserError
from data_tools.ingest import QUARANTINE, TIES, Raw, Settings, ingest
from data_tools.memory import Memory, add_memory
from data_tools.schema import SPLITS
from data_tools.visible import visible

SUMMARY = "raw files -> train.parquet, validation.parquet, test.parquet"
PLACE = 10
PROGRESS = True
EXAMPLES = (
    "ingest my_pairs.jsonl --out data/pairs",
    "ingest raw/ more.parquet --out data/pairs --test 0.2 --max-chars 6000",
    "ingest --hub Anthropic/hh-rlhf --out data/hh --test 0",
)

# Raised when the same files and settings begin to give other tables.
INGEST_VERSION = 5
SIDES = ("prompt", "chosen", "rejected")


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files", nargs="*", type=Path, metavar="FILE",
        help="JSON Lines (also .gz, .zst), a JSON array, CSV, Parquet, Arrow, or a folder of files of one format",
    )  # fmt: skip
    _hub.add_flags(parser)
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder for the tables and the manifest")
    parser.add_argument(
        "--format", default="auto", metavar="NAME",
        help=f"auto (by the first row, default) or one of: {', '.join(sources.formats())}",
    )  # fmt: skip
    for side in SIDES:
        parser.add_argument(f"--{side}-key", metavar="COLUMN", help=f"OpenRLHF's rows: the column of {side}")
    parser.add_argument(
        "--rows", type=int, metavar="N", help="at most N rows a split, chosen by a hash of the pair's id (default: all)"
    )
    max_chars(parser)
    shares(parser)
    parser.add_argument("--ties", action="store_true", help="write comparisons of equals, too: ties.parquet")
    parser.add_argument(
        "--max-broken", type=float, default=0.05, metavar="SHARE",
        help="of a file's rows that may be broken; more is an error (default 0.05)",
    )  # fmt: skip
    parser.add_argument(
        "--max-pairs-per-prompt", type=int, default=sources.MOST_PAIRS, metavar="N",
        help="of formats with many responses to a prompt, of which each is set against each: at most N pairs, drawn by "
        f"a hash; the others are counted (default {sources.MOST_PAIRS}: 16 x 16 responses, or 23 that are ranked)",
    )  # fmt: skip
    add_memory(parser)


def run(arguments: argparse.Namespace) -> None:
    """Rows keep the split they have, others get one by a hash of the prompt. Rows that cannot be used go to
    quarantine.jsonl with their line and the reason; those of no use (repeats, contradictions, prompts that are held
    out) are dropped and counted. Memory is bounded, whatever the files' size."""
    at_least_one(arguments, "rows", "max_chars", "max_pairs_per_prompt")
    keys = {side: name for side in SIDES if (name := getattr(arguments, f"{side}_key")) is not None}
    names = ("format", "rows", "max_chars", "validation", "test", "redo", "ties", "max_broken", "max_pairs_per_prompt")
    settings = Settings(keys=keys, **{name: getattr(arguments, name) for name in names})
    memory = Memory.of(arguments.memory)
    fetched, hub = _hub.resolve(arguments)
    files = {given: [Raw(file, group=str(given)) for file in sources.files(given)] for given in arguments.files}
    if fetched:
        files[Path(arguments.hub)] = fetched
    if not files:
        raise UserError("no files: name some, or a dataset with --hub OWNER/NAME")
    for given, inside in files.items():
        formats = {raw.path.name: sources.Reading(raw.path, settings.format, keys).format for raw in inside}
        sources.one_format(given, formats)
    for given in arguments.files:
        if ignored := sources.passed_over(given):
            more = f" and {len(ignored) - 3} more" if len(ignored) > 3 else ""
            print(f"passed over in {visible(str(given))}: {visible(', '.join(ignored[:3]))}{more}", file=sys.stderr)
    every = [raw for inside in files.values() for raw in inside]
    paths = [raw.path for raw in every]
    lineage.begin(paths)  # the digests, beside the reading
    if arguments.out.exists() and not arguments.out.is_dir():
        raise UserError(f"{arguments.out}: is a file; name a folder for --out")
    if (arguments.out / artifact.MANIFEST).exists() and nothing_to_do(arguments.out, _key(every, settings)):
        return
    artifact.sweep(arguments.out)
    with Progress(
        TextColumn("reading"), BarColumn(), TextColumn("{task.completed:,.0f} rows"), TimeElapsedColumn(),
        console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty(),
    ) as progress:  # fmt: skip
        task = progress.add_task("reading", total=None)
        counts = ingest(every, arguments.out, settings, memory, lambda rows: progress.advance(task, rows))
    key = _key(every, settings)
    told = counts.told()
    tables = [name for name in SPLITS if counts.written[name]]
    facts = lineage.facts("ingest", paths, arguments.out)
    made = [arguments.out / name for name in (*(f"{name}.parquet" for name in tables), QUARANTINE, TIES)]
    outputs = lineage.outputs_of(file for file in made if file.exists())
    artifact.write_manifest(arguments.out, key, tables=tables, counts=told, outputs=outputs, **facts, **hub)
    for name in sorted(set(counts.formats.values())):
        of = [given for given, inside in files.items() if counts.formats[inside[0].path] == name]
        print(f"format {name}: {visible(file_names(of))}", file=sys.stderr)
    lost = {
        **named(told["broken"], "broken: "),
        **named(told["left_out"], "left out: "),
        **nonzero(told["dropped"], "dropped: "),
    }
    show("ingest", {"read": told["read"], **lost, **named(told["written"], "written: ")})
    if counts.broken:
        print(f"broken rows, with their lines: {arguments.out / QUARANTINE}")
    if missing := [name for name in SPLITS if name not in tables]:
        print(f"no rows for: {', '.join(missing)} (no such file written)")


def _key(files: list[Raw], settings: Settings) -> dict[str, Any]:
    # The name too: rows that name no source take it from there.
    found = [
        [raw.stem or raw.path.name, lineage.digest(raw.path), *([raw.split] if raw.split else [])] for raw in files
    ]
    return {"stage": "ingest", "version": INGEST_VERSION, "inputs": found, **asdict(settings)}
