"""``clean``: drop unusable rows of a table and count them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import polars as pl

from data_tools import artifact, lineage, passes, removal
from data_tools.clean import clean_file, count
from data_tools.commands import _evaluation
from data_tools.commands._flags import max_chars
from data_tools.commands._shared import at_least_one, no_folder, nonzero, show
from data_tools.conflicts import WAYS, outvoted
from data_tools.contamination import contaminated, evaluation
from data_tools.errors import UserError
from data_tools.language import other_languages
from data_tools.memory import Memory, add_memory
from data_tools.near import THRESHOLD, near_duplicates
from data_tools.schema import PREFERENCE, check_unique_ids
from data_tools.tokens import load, too_many_tokens

SUMMARY = "drop unusable rows of a table and count them"
PLACE = 20
IN_PLACE = True
EXAMPLES = (
    "clean data/pairs.parquet --out data/clean.parquet --max-chars 6000",
    "clean data/pairs.parquet --out data/clean.parquet --near-duplicates --languages en de --report gone.jsonl",
    "clean train.parquet --out clean.parquet --max-tokens 2048 --tokenizer judge/ --against rewardbench.jsonl",
)
OUTVOTED = "outvoted"
TOKENS = "too many tokens"
LANGUAGE = "other language"
NEAR = "near duplicate"
Finder = Callable[[pl.LazyFrame], pl.DataFrame]


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="PREFERENCE parquet")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="parquet to write")
    max_chars(parser)
    parser.add_argument(
        "--max-tokens", type=int, metavar="N",
        help="drop rows with more tokens than N in prompt and longer response together, chat template not counted",
    )  # fmt: skip
    parser.add_argument(
        "--tokenizer", metavar="PLACE", help="for --max-tokens: a tokenizer.json, a folder that has one, or a hub name"
    )
    parser.add_argument("--languages", nargs="+", metavar="CODE", help="drop rows of others than these: en, de, ...")
    parser.add_argument(
        "--conflicts", choices=WAYS, default="drop",
        help="the same responses preferred both ways: drop all (default), or keep those of the majority",
    )  # fmt: skip
    parser.add_argument(
        "--near-duplicates", type=float, nargs="?", const=THRESHOLD, metavar="SIMILARITY",
        help="drop rows whose prompt, chosen and rejected each have this Jaccard similarity of word 5-grams with "
        f"those of a row that stays ({THRESHOLD} where no number is given)",
    )  # fmt: skip
    _evaluation.against(parser, required=False)
    parser.add_argument(
        "--report", type=Path, metavar="FILE",
        help="each row that was dropped, and why: *.jsonl or *.parquet",
    )  # fmt: skip
    add_memory(parser)


def run(arguments: argparse.Namespace) -> None:
    """Empty and identical responses, repeats, contradictions, and training rows whose prompt is held out; then, where
    flags ask for it, what is too long in tokens, in other languages, in an evaluation set, or a near duplicate. A row
    counts under the first reason that applies."""
    _check(arguments)
    memory = Memory.of(arguments.memory)
    left = removal.Left(artifact.scan_tables([arguments.file], PREFERENCE))
    if arguments.conflicts == "majority":  # before contradictions go altogether
        left.drop(OUTVOTED, outvoted(left.rows()))
    with passes.scratch(arguments.out.parent) as temporary:
        reason = clean_file(left.rows(), temporary, max_chars=arguments.max_chars, at_once=memory.rows)
    left.drop_for(reason, count(reason))
    ids = left.rows().select("pair_id").collect(engine="streaming")
    check_unique_ids(ids, arguments.file)
    notes: dict[str, int] = {}
    for why, find in _finders(arguments, notes, memory).items():
        left.drop(why, find(left.rows()))
    if not left.height:
        gone = ", ".join(f"{why}: {n:,}" for why, n in left.counts.items() if n)
        raise UserError(
            f"{arguments.file}: none of {left.read:,} rows is left ({gone}); loosen the flags or use other data"
        )
    if arguments.report is not None:  # reads the file, which --out may replace
        left.write_report(arguments.report)
    left.write(arguments.out, memory.row_group(passes.bytes_a_row(arguments.file, left.read), 1))
    names = ("max_chars", "max_tokens", "tokenizer", "languages", "conflicts", "near_duplicates", "ngram", "coverage")
    settings = {name: getattr(arguments, name) for name in names}
    facts = {"read": left.read, "dropped": left.counts, **notes, "written": left.height}
    lineage.write(arguments.out, "clean", [arguments.file, *arguments.against], settings, facts)
    show("clean", {"read": left.read, **nonzero(left.counts, "dropped: "), **notes, "written": left.height})


def _check(arguments: argparse.Namespace) -> None:
    """What is wrong with the flags is said before a file is read."""
    at_least_one(arguments, "max_chars", "max_tokens")
    if (arguments.max_tokens is None) != (arguments.tokenizer is None):
        raise UserError("--max-tokens and --tokenizer go together; give both or neither")
    near = arguments.near_duplicates
    if near is not None and not 0 < near <= 1:
        raise UserError(f"--near-duplicates {near}: must be above 0 and at most 1")
    _evaluation.check_rule(arguments)
    removal.check_report(arguments.report)
    no_folder(arguments.out)


def _finders(arguments: argparse.Namespace, notes: dict[str, int], memory: Memory) -> dict[str, Finder]:
    """What finds the rows to drop, by reason and in order: the cheap ones before those that compare rows.

    Near duplicates come last: of two, the one that stays must be one that no other rule drops.
    """
    found: dict[str, Finder] = {}
    if arguments.max_tokens is not None:
        tokenizer = load(arguments.tokenizer)
        found[TOKENS] = lambda rows: too_many_tokens(rows, arguments.max_tokens, tokenizer, memory=memory)
    if arguments.languages:

        def others(rows: pl.LazyFrame) -> pl.DataFrame:
            gone, notes["kept, of no certain language"] = other_languages(rows, arguments.languages, memory=memory)
            return gone

        found[LANGUAGE] = others
    if arguments.against:
        known = evaluation(_evaluation.held_out(arguments.against), arguments.ngram)
        found[removal.CONTAMINATED] = lambda rows: contaminated(rows, known, coverage=arguments.coverage, memory=memory)
    if arguments.near_duplicates is not None:

        def copies(rows: pl.LazyFrame) -> pl.DataFrame:
            with passes.scratch(arguments.out.parent) as temporary:
                return near_duplicates(rows, arguments.near_duplicates, memory=memory, folder=temporary)

        found[NEAR] = copies
    return found
