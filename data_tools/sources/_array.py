"""A JSON array, cut into its items as it is read."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_tools.errors import UserError
from data_tools.sources._jsonl import BOM, Constant, refuse_constant
from data_tools.sources._raw import LONGEST

_SPACE = re.compile(r"[ \t\n\r]*")
_LINE_ENDS = str.maketrans("\r\n", "  ")
_CUT = 16  # characters before the end of what is read, in which an error may be the end's
_EXPONENT = 3  # characters at most that may follow a number and are one only with what follows them
_decode = json.JSONDecoder(parse_constant=refuse_constant).raw_decode


def begins_an_array(path: Path) -> bool:
    """Whether the first character of a file that is no blank opens an array."""
    if not path.is_file():
        return False
    with open(path, "rb") as handle:
        return handle.read(4096).removeprefix(BOM.encode()).lstrip()[:1] == b"["


def items(path: Path, size: int) -> Iterator[tuple[str, Any]]:
    """(text on one line, value) of each item; some ``size`` bytes of the file are held at once.

    Raises:
        UserError: the file is not one JSON array, with the line and column.
    """
    with open(path, "rb") as handle:
        text = _Text(path, handle, max(size, 1))
        try:
            yield from _items(text)
        except json.JSONDecodeError as error:
            raise UserError(
                f"{path}: is not valid JSON ({error.msg}, {text.place(error.pos)}); "
                "the file needs one whole array of objects, or an object a line"
            ) from None
        except RecursionError:
            raise UserError(f"{path}: the array is nested too deeply; a row has strings, numbers and turns") from None
        except Constant as error:
            raise UserError(f"{path}: the array is not valid JSON ({error}); write null instead") from None
        except ValueError:
            raise UserError(f"{path}: the array holds a number of thousands of digits; write a shorter one") from None


def _items(text: _Text) -> Iterator[tuple[str, Any]]:
    at = text.skip(0)
    if text.at(at) != "[":
        raise json.JSONDecodeError("Expecting value", text.held, at)
    at = text.skip(at + 1)
    while text.at(at) != "]":
        at, end, value = text.item(at)
        yield text.held[at:end].translate(_LINE_ENDS), value
        at = text.skip(end)
        if text.at(at) == "]":
            break
        if text.at(at) != ",":
            raise json.JSONDecodeError("Expecting ',' delimiter", text.held, at)
        at = text.skip(at + 1)
        if text.at(at) == "]":
            raise json.JSONDecodeError("Expecting value", text.held, at)
    at = text.skip(at + 1)
    if text.at(at):
        raise json.JSONDecodeError("Extra data", text.held, at)


class _Text:
    """The part of a file that is looked at. Places are in ``held``, and change where a method reads on."""

    def __init__(self, path: Path, handle: Any, size: int) -> None:
        self.held = ""
        self._path, self._handle, self._size = path, handle, size
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._bytes = 0  # that were decoded
        self._lines, self._column = 0, 0  # that were let go: whole ones, and characters of the one that was cut
        self._ended = False
        self._more(0)
        if self.held.startswith(BOM):
            self.held = self.held[1:]

    def at(self, place: int) -> str:
        """The character there; none behind the end."""
        return self.held[place : place + 1]

    def skip(self, place: int) -> int:
        """The place of the next character that is no blank, or of the end."""
        while True:
            place = _SPACE.match(self.held, place).end()
            if place < len(self.held) or not self._more(place):
                return min(place, len(self.held))
            place = 0

    def item(self, place: int) -> tuple[int, int, Any]:
        """(where it begins, where it ends, its value) of the JSON value there."""
        while True:
            try:
                value, end = _decode(self.held, place)
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated") or error.pos > len(self.held) - _CUT
                if not cut or not self._more(place):
                    raise
            else:
                # A number at the end may go on behind it: 1, 1e+, 1e+5.
                if end < len(self.held) - _EXPONENT or self.held[end - 1] in '}]"' or not self._more(place):
                    return place, end, value
            place = 0

    def place(self, place: int) -> str:
        """In words, of the whole file."""
        before = self.held.count("\n", 0, place)
        column = place - self.held.rindex("\n", 0, place) if before else self._column + place + 1
        return f"line {self._lines + before + 1}, column {column}"

    def _more(self, place: int) -> bool:
        """Let go what lies before, and read on; whether there was more. The place is 0 then."""
        if self._ended:
            return False
        rest = len(self.held) - place
        if rest > LONGEST:
            raise UserError(f"{self._path}: a row is longer than {LONGEST >> 20} MiB; is it an array of rows?")
        # At least as much as there is: a long row is not looked at again and again.
        read = self._handle.read(max(self._size, rest))
        pending = len(self._decoder.getstate()[0])
        try:
            decoded = self._decoder.decode(read, final=not read)
        except UnicodeDecodeError as error:
            at = self._bytes - pending + error.start + 1
            raise UserError(f"{self._path}: is not UTF-8 (byte {at}); save the file as UTF-8") from None
        self._bytes += len(read)
        self._ended = not read
        gone = self.held[:place]
        if lines := gone.count("\n"):
            self._lines += lines
            self._column = len(gone) - gone.rindex("\n") - 1
        else:
            self._column += len(gone)
        self.held = self.held[place:] + decoded
        return True
