"""``decontaminate``: drop rows whose prompt overlaps a prompt of an evaluation set."""

from __future__ import annotations

import argparse
from pathlib import Path

from data_tools import artifact, lineage, passes, removal
from data_tools.commands import _evaluation
from data_tools.commands._shared import no_folder, show
from data_tools.contamination import contaminated, evaluation
from data_tools.errors import UserError
from data_tools.memory import Memory, add_memory
from data_tools.schema import PREFERENCE

SUMMARY = "drop rows whose prompt overlaps a prompt of an evaluation set"
PLACE = 22
IN_PLACE = True
EXAMPLES = (
    "decontaminate data/train.parquet --against rewardbench.jsonl data/test.parquet --out data/clean.parquet",
    "decontaminate data/train.parquet --against test.parquet --out clean.parquet --coverage 0.75 --report gone.jsonl",
)


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="PREFERENCE parquet")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="parquet to write")
    _evaluation.against(parser, required=True)
    parser.add_argument(
        "--report", type=Path, metavar="FILE", help="what was dropped and what it matched: *.jsonl or *.parquet"
    )
    add_memory(parser)


def run(arguments: argparse.Namespace) -> None:
    """A row goes, whatever its split, if at least half of the words of one evaluation prompt stand in 8-word n-grams
    that its own prompt has, too (the rule of Tülu 3); shorter evaluation prompts match as the same text alone."""
    _evaluation.check_rule(arguments)
    removal.check_report(arguments.report)
    no_folder(arguments.out)
    memory = Memory.of(arguments.memory)
    left = removal.Left(artifact.scan_tables([arguments.file], PREFERENCE))
    known = evaluation(_evaluation.held_out(arguments.against), arguments.ngram)
    gone = contaminated(left.rows(), known, coverage=arguments.coverage, memory=memory)
    left.drop(removal.CONTAMINATED, gone)
    if not left.height:
        raise UserError(f"{arguments.file}: none of {left.read:,} rows is left; raise --coverage or use other data")
    left.write(arguments.out, memory.row_group(passes.bytes_a_row(arguments.file, left.read), 1))
    if arguments.report is not None:
        left.write_report(arguments.report)
    by_file = {file: int((gone["file"] == file).sum()) for file in map(str, arguments.against)}
    counts = {"read": left.read, "dropped": left.counts, "by_file": by_file, "written": left.height}
    settings = {"ngram": arguments.ngram, "coverage": arguments.coverage}
    lineage.write(arguments.out, "decontaminate", [arguments.file, *arguments.against], settings, counts)
    dropped = {f"dropped, overlaps {file}": n for file, n in by_file.items()}
    show("decontaminate", {"read": left.read, **dropped, "written": left.height})
