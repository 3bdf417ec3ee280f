"""Evaluation sets as flags name them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from data_tools import artifact, contamination, sources
from data_tools.commands._reading import is_table
from data_tools.errors import UserError
from data_tools.schema import PREFERENCE


def against(parser: argparse.ArgumentParser, *, required: bool) -> None:
    parser.add_argument(
        "--against", nargs="+", type=Path, metavar="FILE", required=required, default=[],
        help="evaluation sets, PREFERENCE parquet or raw: drop rows whose prompt overlaps one of theirs",
    )  # fmt: skip
    rule(parser)


def rule(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--ngram", type=int, default=contamination.NGRAM, metavar="N",
        help=f"words in a row that prompts share (default {contamination.NGRAM})",
    )  # fmt: skip
    parser.add_argument(
        "--coverage", type=float, default=contamination.COVERAGE, metavar="SHARE",
        help=f"share of an evaluation prompt's words that is too much (default {contamination.COVERAGE})",
    )  # fmt: skip


def check_rule(arguments: argparse.Namespace) -> None:
    """What is wrong with the flags is said before a file is read."""
    if arguments.ngram < 2:
        raise UserError(f"--ngram {arguments.ngram}: must be at least 2")
    if not 0 < arguments.coverage <= 1:
        raise UserError(f"--coverage {arguments.coverage}: must be above 0 and at most 1")


def tables(files: Sequence[Path]) -> dict[str, pl.LazyFrame]:
    """PREFERENCE by the file's name as it was given, from parquet or raw files."""
    return {str(file): _table(file) for file in files}


def held_out(files: Sequence[Path]) -> dict[str, pl.LazyFrame]:
    """As :func:`tables`. Raises UserError for one without rows: nothing would be compared, and nothing said."""
    found = tables(files)
    for name, table in found.items():
        if not table.select(pl.len()).collect(engine="streaming").item():
            raise UserError(f"{name}: no rows to compare with; name a set that has some")
    return found


def _table(file: Path) -> pl.LazyFrame:
    """Of a raw file ties, too: a prompt is held out whether or not a response of it won."""
    if is_table(file):
        return artifact.scan_tables([file], PREFERENCE)
    frames = []
    for inside in sources.files(file):
        reading = sources.Reading(inside)
        for chunk in reading.chunks():
            batch = reading.batch(chunk, useless=False)
            if batch.broken:
                raise UserError(f"{inside}: {batch.broken[0].detail}")
            frames += [batch.frame, batch.ties]
    return pl.concat(frames).lazy()
