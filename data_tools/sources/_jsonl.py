"""JSON Lines (plain, .gz, .zst) in chunks of lines, and single lines explained.

polars cuts the file into lines and parses them a chunk at a time. Only a file with bytes that are no UTF-8 is read line
by line by Python, from the chunk on that polars refuses.
"""

from __future__ import annotations

import glob
import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from data_tools.errors import UserError
from data_tools.sources import _broken
from data_tools.sources._broken import Broken

_GZIP, _ZSTD, _PARQUET, BOM = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PAR1", "\ufeff"
_HEAD = 100  # lines by which the mean line is known
_LINES = {"number": pl.UInt32, "line": pl.String}


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


def _lines(path: Path) -> pl.LazyFrame:
    """The file's lines that are not blank: ``number`` (from 1) and ``line``, without spaces around."""
    # A path is a pattern to polars: without the escape, "a[1].jsonl" would be read as no file at all.
    frame = pl.scan_lines(glob.escape(str(path)), row_index_name="number", row_index_offset=1)
    return frame.select("number", pl.col("line").str.strip_chars(" \t\r\n" + BOM)).filter(pl.col("line") != "")


def head(path: Path) -> pl.DataFrame:
    """The first lines that are not blank, as far as they can be read."""
    try:
        return _lines(path).head(_HEAD).collect()
    except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return next(_by_hand(path, 0, _HEAD), (pl.DataFrame(schema=_LINES), []))[0]


def chunks(path: Path, rows: int) -> Iterator[tuple[pl.DataFrame, list[Broken]]]:
    """(``number`` and ``line`` of at most ``rows`` lines that are not blank, those of them that are no UTF-8).

    Raises:
        UserError: a compressed file that is damaged.
    """
    done = 0
    try:
        for chunk in _lines(path).collect_batches(chunk_size=rows, maintain_order=True):
            for part in chunk.iter_slices(rows):  # polars takes the size as a wish
                if not part.is_empty():
                    done = part["number"][-1]
                    yield part, []
    except OSError as error:
        raise _damaged(path, error) from None
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        if _begins(path, _ZSTD):
            reason = str(error).partition("\n")[0]
            raise UserError(
                f"{path}: cannot be read ({reason}); fetch it again, or unpack it, and what is wrong can be told"
            ) from None
        yield from _by_hand(path, done, rows)


def _damaged(path: Path, error: Exception) -> UserError:
    return UserError(f"{path}: the compressed file is damaged ({error}); fetch it again")


def _begins(path: Path, mark: bytes) -> bool:
    with open(path, "rb") as handle:
        return handle.read(len(mark)) == mark


def _by_hand(path: Path, done: int, rows: int) -> Iterator[tuple[pl.DataFrame, list[Broken]]]:
    """As :func:`chunks`, behind line number ``done``."""
    lines: list[tuple[int, str]] = []
    broken: list[Broken] = []

    def chunk() -> tuple[pl.DataFrame, list[Broken]]:
        return pl.DataFrame(lines, schema=_LINES, orient="row"), list(broken)

    with gzip.open(path) if _begins(path, _GZIP) else open(path, "rb") as handle:
        try:
            for number, line in enumerate(handle, 1):
                if number <= done:
                    continue
                try:
                    text = line.decode("utf-8").strip(" \t\r\n" + BOM)
                except UnicodeDecodeError as error:
                    said = f"line {number} is not UTF-8 (byte {error.start + 1}); save the file as UTF-8"
                    broken.append(Broken(number, _broken.NOT_UTF8, said, line.decode("utf-8", "replace").rstrip()))
                else:
                    if text:
                        lines.append((number, text))
                if len(lines) + len(broken) >= rows:
                    yield chunk()
                    lines.clear()
                    broken.clear()
        except (OSError, EOFError, zlib.error) as error:
            raise _damaged(path, error) from None
    if lines or broken:
        yield chunk()


def parse(line: str, place: str) -> dict[str, Any] | Broken:
    """The JSON object of a line, or why it is none. ``row`` of what is broken is 0."""
    try:
        row = json.loads(line, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        said = (
            f"{place} is not valid JSON ({error.msg}, column {error.colno}); "
            f"correct or remove the {place.split()[0]}: the file needs one whole JSON object a {place.split()[0]}"
        )
        return Broken(0, _broken.NOT_JSON, said, line)
    except RecursionError:
        said = f"{place} is nested too deeply; a row has strings, numbers and turns"
        return Broken(0, _broken.NOT_JSON, said, line)
    except _Constant as error:
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
        return None if cell is None else json.loads(cell, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return cell


def begins_an_array(path: Path) -> bool:
    """Whether the first character of a file that is no blank opens an array."""
    if not path.is_file():
        return False
    with open(path, "rb") as handle:
        return handle.read(4096).removeprefix(BOM.encode()).lstrip()[:1] == b"["


def parse_array(path: Path) -> list[Any]:
    """The items of a file that is one JSON array. Raises UserError."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 (byte {error.start + 1}); save the file as UTF-8") from None
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}: is not valid JSON ({error.msg}, line {error.lineno}, column {error.colno}); "
            "the file needs one whole array of objects, or an object a line"
        ) from None
    except RecursionError:
        raise UserError(f"{path}: the array is nested too deeply; a row has strings, numbers and turns") from None
    except _Constant as error:
        raise UserError(f"{path}: the array is not valid JSON ({error}); write null instead") from None
    except ValueError:
        raise UserError(f"{path}: the array holds a number of thousands of digits; write a shorter one") from None


class _Constant(ValueError):
    """NaN or Infinity, which Python's parser would take."""


def _refuse_constant(name: str) -> None:
    raise _Constant(f"{name} is no JSON number")
