"""JSON Lines (plain, .gz, .zst) in chunks of lines, and single lines explained.

Python reads bytes, polars cuts them into lines. Only a chunk with bytes that are no UTF-8 is gone through line by line.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from data_tools.errors import UserError
from data_tools.sources import _broken, _unpacking
from data_tools.sources._broken import Broken
from data_tools.sources._raw import LONGEST

_PARQUET, BOM = b"PAR1", "\ufeff"
_BLANK = " \t\r\n" + BOM


def existing_file(path: str | Path) -> Path:
    """``path`` if it is a file. Raises UserError for a folder, or where there is no such file."""
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path}: is a folder; name a file in it")
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    return path


def existing(path: str | Path) -> Path:
    """``path`` if it is a file that may hold JSON Lines.

    Raises:
        UserError: no such file, a folder, an empty file, or parquet under another name.
    """
    path = existing_file(path)
    with open(path, "rb") as handle:
        start = handle.read(4)
    if not start:
        raise UserError(f"{path}: the file is empty; it needs one JSON object a line")
    if start == _PARQUET:
        raise UserError(f"{path}: is parquet, though its name does not say so; name it .parquet")
    return path


def _lines(text: bytes, before: int) -> pl.DataFrame:
    """The lines of a text that are not blank: ``number`` (from 1, behind those ``before``) and ``line``, without spaces
    around. Raises a PolarsError where the text is no UTF-8."""
    frame = pl.scan_lines(io.BytesIO(text), row_index_name="number", row_index_offset=before + 1)
    return frame.select("number", pl.col("line").str.strip_chars(_BLANK)).filter(pl.col("line") != "").collect()


def _by_hand(text: bytes, before: int) -> tuple[pl.DataFrame, list[Broken]]:
    """As :func:`_lines`, without the lines that are no UTF-8, and these."""
    lines: list[tuple[int, str]] = []
    broken: list[Broken] = []
    for number, line in enumerate(text.split(b"\n"), before + 1):
        try:
            if decoded := line.decode("utf-8").strip(_BLANK):
                lines.append((number, decoded))
        except UnicodeDecodeError as error:
            said = f"line {number} is not UTF-8 (byte {error.start + 1}); save the file as UTF-8"
            broken.append(Broken(number, _broken.NOT_UTF8, said, line.decode("utf-8", "replace").rstrip()))
    return numbered(lines), broken


def numbered(lines: list[tuple[int, str]]) -> pl.DataFrame:
    """``number`` and ``line``."""
    return pl.DataFrame(lines, schema={"number": pl.UInt32, "line": pl.String}, orient="row")


def _blocks(path: Path, size: int) -> Iterator[bytes]:
    """The file's bytes, unpacked, in pieces of whole lines and about ``size`` bytes.

    Raises:
        UserError: a compressed file that is damaged.
    """
    rest: list[bytes] = []
    held = 0
    try:
        with _unpacking.unpacked(path) as handle:
            while piece := handle.read(size):
                cut = piece.rfind(b"\n") + 1
                if not cut:
                    rest.append(piece)
                    held += len(piece)
                    if held > LONGEST:
                        raise UserError(f"{path}: a line is longer than {LONGEST >> 20} MiB; is it JSON Lines?")
                    continue
                yield b"".join(rest) + piece[:cut]
                rest, held = [piece[cut:]], len(piece) - cut
    except _unpacking.DAMAGE as error:
        raise _unpacking.damaged(path, error) from None
    if held:
        yield b"".join(rest)


def chunks(path: Path, size: int) -> Iterator[tuple[pl.DataFrame, list[Broken]]]:
    """(``number`` and ``line`` of lines that are not blank, those that are no UTF-8), some ``size`` bytes at a time.

    Raises:
        UserError: a compressed file that is damaged.
    """
    before = 0
    for text in _blocks(path, size):
        try:
            yield _lines(text, before), []
        except pl.exceptions.PolarsError:
            yield _by_hand(text, before)
        before += text.count(b"\n")


def parse(line: str, place: str) -> dict[str, Any] | Broken:
    """The JSON object of a line, or why it is none. ``row`` of what is broken is 0."""
    try:
        row = json.loads(line, parse_constant=refuse_constant)
    except json.JSONDecodeError as error:
        said = (
            f"{place} is not valid JSON ({error.msg}, column {error.colno}); "
            f"correct or remove the {place.split()[0]}: the file needs one whole JSON object a {place.split()[0]}"
        )
        return Broken(0, _broken.NOT_JSON, said, line)
    except RecursionError:
        said = f"{place} is nested too deeply; a row has strings, numbers and turns"
        return Broken(0, _broken.NOT_JSON, said, line)
    except Constant as error:
        return Broken(0, _broken.NOT_JSON, f"{place} is not valid JSON ({error}); write null instead", line)
    except ValueError:  # Python turns no more than 4300 digits into an integer
        said = f"{place} holds a number of thousands of digits; write a shorter one"
        return Broken(0, _broken.NUMBER, said, line)
    if not isinstance(row, dict):
        return Broken(0, _broken.NOT_OBJECT, f"{place} is not a JSON object; the file needs one object a line", line)
    return row


def loads_or_text(cell: str | None) -> Any:
    """The JSON value of a text, or the text where it is none."""
    try:
        return None if cell is None else json.loads(cell, parse_constant=refuse_constant)
    except (ValueError, RecursionError):
        return cell


class Constant(ValueError):
    """NaN or Infinity, which Python's parser would take."""


def refuse_constant(name: str) -> None:
    raise Constant(f"{name} is no JSON number")
