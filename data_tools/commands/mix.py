"""``mix``: several tables -> one, by weights and under caps."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import polars as pl
from rich.table import Table
from rich.text import Text

from data_tools import artifact, lineage
from data_tools.commands._shared import at_least_one, console, no_folder
from data_tools.errors import UserError
from data_tools.mix import CAPS, SHARES, Mixture, mix, write
from data_tools.visible import visible

SUMMARY = "several tables -> one, by weights and under caps"
PLACE = 34
EXAMPLES = (
    "mix a.parquet b.parquet --out data/mixed.parquet",
    "mix a.parquet:2 b.parquet:1 --rows 30000 --seed 7 --out data/mixed.parquet",
    "mix a.parquet b.parquet --cap source=5000 --cap prompt=4 --cap category=0.3 --out data/mixed.parquet",
)


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files", nargs="+", metavar="FILE[:WEIGHT]",
        help="PREFERENCE parquet, and what its rows are to the others'; weights for all or for none (then each counts "
        "by its size)",
    )  # fmt: skip
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="parquet to write")
    parser.add_argument("--rows", type=int, metavar="N", help="rows in all (default: as many as there can be)")
    parser.add_argument(
        "--cap", action="append", default=[], metavar="WHAT=N",
        help=f"at most N rows of one {', '.join(CAPS[:-1])} or {CAPS[-1]}, before weights count; for one of "
        f"{' and '.join(SHARES)} also a share of the mixture, below 1; rows without one are not capped",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="another one draws other rows (default 0)")


def run(arguments: argparse.Namespace) -> None:
    """No row is taken twice, rows of one id must be the same, and splits stay as they are. Rows are drawn and shuffled
    by a hash of the id: a larger mixture of the same seed contains the smaller ones, unless a cap is a share."""
    at_least_one(arguments, "rows")
    no_folder(arguments.out)
    files, weights = _weighted(arguments.files)
    caps = _caps(arguments.cap)
    if same := next((file for file in files if file.resolve() == arguments.out.resolve()), None):
        raise UserError(f"{same}: is read by this command; name another file for --out")
    with artifact.damage_told(files):
        mixture = mix(files, weights, rows=arguments.rows, caps=caps, seed=arguments.seed)
        write(files, mixture, arguments.out)
    settings = {
        "weights": weights and [str(weight) for weight in weights],
        "rows": arguments.rows,
        "caps": {name: str(cap) for name, cap in caps.items()},
        "seed": arguments.seed,
    }
    parts = {"inputs": mixture.inputs, "sources": mixture.sources}
    counts = {"written": mixture.taken.height, **{name: part.to_dicts() for name, part in parts.items()}}
    lineage.write(arguments.out, "mix", files, settings, counts)
    _show(mixture)
    if mixture.crossing:
        print(
            f"on more than one side: {mixture.crossing:,} prompts, which the inputs put on different sides of the "
            "split; clean drops such rows from training, split --redo draws all anew"
        )


def _weighted(given: Sequence[str]) -> tuple[list[Path], list[Fraction] | None]:
    files, weights = [], []
    for text in given:
        name, _, weight = text.rpartition(":")
        number = None if Path(text).exists() else _number(weight)
        if number is not None and name:
            files.append(Path(name))
            weights.append(number)
            if number <= 0:
                raise UserError(f"{text}: the weight must be above 0; leave the file out to have none of it")
        else:
            files.append(Path(text))
    if weights and len(weights) < len(files):
        bare = next(text for text, file in zip(given, files, strict=True) if text == str(file))
        raise UserError(f"{bare}: has no weight, though others have; write {bare}:WEIGHT, or leave all weights out")
    return files, weights or None


def _caps(given: Sequence[str]) -> dict[str, Fraction]:
    caps: dict[str, Fraction] = {}
    for text in given:
        name, _, value = text.partition("=")
        number = _number(value)
        if name not in CAPS:
            raise UserError(f"--cap {text}: '{name}' cannot be capped; there are: {', '.join(CAPS)}")
        if name in caps:
            raise UserError(f"--cap {text}: {name} has a cap already; give one")
        if number is None or number <= 0 or (number > 1 and number.denominator != 1):
            raise UserError(f"--cap {text}: should be a number of rows, or a share above 0 and below 1")
        caps[name] = number
    return caps


def _number(text: str) -> Fraction | None:
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        return None


def _show(mixture: Mixture) -> None:
    shown = Table(title=f"mix: {mixture.taken.height:,} rows")
    shown.add_column("", overflow="fold")
    for heading in ("there", "repeated", "capped", "wanted", "taken", "share"):
        shown.add_column(heading, justify="right")
    for part in (mixture.inputs, mixture.sources):
        _lines(shown, part)
        shown.add_section()
    console().print(shown)


def _lines(shown: Table, part: pl.DataFrame) -> None:
    for line in part.iter_rows(named=True):
        shown.add_row(
            Text(visible(line["name"] if line["name"] is not None else "no source")),
            *(f"{line[name]:,}" for name in ("there", "repeated", "capped")),
            "" if line["wanted"] is None else f"{line['wanted']:.1%}",
            f"{line['taken']:,}",
            f"{line['share']:.1%}",
        )
