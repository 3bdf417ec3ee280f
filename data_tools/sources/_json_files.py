"""JSON: an object a line, or one array of objects."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import polars as pl

from data_tools.errors import UserError
from data_tools.sources import _array, _broken, _jsonl
from data_tools.sources._broken import Broken
from data_tools.sources._raw import RawFile
from data_tools.sources._rows import ROW
from data_tools.sources._values import leaves

_HEAD = 1 << 20  # bytes in which a first row is looked for
_GUARD = "_ line"  # a key that no row has


class JsonLines(RawFile):
    """JSON Lines, plain, .gz or .zst."""

    unit = "line"

    def first(self) -> dict[str, Any]:
        path = _jsonl.existing(self.path)
        problem = None
        for lines, broken in _jsonl.chunks(path, _HEAD):
            problems = list(broken)
            for number, line in lines.iter_rows():
                row = _jsonl.parse(line, self.place(number))
                if isinstance(row, dict):
                    return row
                problems.append(replace(row, row=number))
            problem = problem or min(problems, key=lambda one: one.row, default=None)
            if problem:  # what stands at the beginning is no row, nor near it
                raise UserError(f"{path}: {problem.detail}")
        raise UserError(f"{path}: the file holds only blank lines; it needs one JSON object a line")

    def chunks(self, schema: pl.Schema) -> Iterator[tuple[pl.DataFrame, list[Broken]]]:
        return _jsonl.chunks(_jsonl.existing(self.path), self._chunk)

    def decode(self, chunk: pl.DataFrame, schema: pl.Schema) -> pl.DataFrame:
        # polars joins the lines to one array. The number that every object is given shows that each line was one
        # object, whatever brackets it holds.
        line = pl.col("line")
        comma = pl.when(line.str.contains(r"^\{\s*\}")).then(pl.lit("")).otherwise(pl.lit(","))
        guarded = pl.concat_str(pl.lit(f'{{"{_GUARD}":'), "number", comma, line.str.slice(1))
        parsed = chunk.select(guarded).to_series().str.json_decode(pl.Struct({_GUARD: pl.UInt32, **schema}))
        found = parsed.struct.unnest()
        if not (chunk["line"].str.starts_with("{").all() and found[_GUARD].equals(chunk["number"])):
            raise pl.exceptions.ComputeError("a line is not one object")
        return found.rename({_GUARD: ROW})

    def suspects(self, chunk: pl.DataFrame, schema: pl.Schema) -> pl.DataFrame:
        """Truth values where texts or numbers belong and half characters, which polars takes without a word.

        Regular expressions over the lines find the candidates (a quote inside a JSON string is escaped, so text does
        not match), the parser decides.
        """
        found = {leaf for key, dtype in schema.items() for leaf in leaves(dtype, key)}
        single = "|".join(sorted(re.escape(name) for name, several in found if not several))
        listed = "|".join(sorted(re.escape(name) for name, several in found if several))
        line = pl.col("line")
        suspect = line.str.contains(rf'"(?:{single})"\s*:\s*[tf]')
        if listed:  # any of its elements may be one: the parser looks at them all
            suspect |= line.str.contains(rf'"(?:{listed})"\s*:\s*[^n\s]')
        escaped = chunk.filter(line.str.contains(r"\\u[dD][89a-fA-F]"))
        whole = r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
        halves = escaped.filter(line.str.replace_all(whole, "").str.contains(r"\\u[dD][89a-fA-F]"))
        return pl.concat([chunk.filter(suspect), halves]).unique("number", maintain_order=True)

    def explain(self, row: dict[str, Any], schema: pl.Schema) -> Broken | None:
        number, line = row["number"], row["line"]
        value = _jsonl.parse(line, self.place(number))
        if isinstance(value, Broken):
            return replace(value, row=number)
        return self._said(number, value, schema, line)


class JsonArray(JsonLines):
    """A JSON array of objects, which is cut into them as it is read."""

    unit = "row"

    def first(self) -> dict[str, Any]:
        _jsonl.existing_file(self.path)
        empty = True
        for _, value in _array.items(self.path, _HEAD):
            if isinstance(value, dict):
                return value
            empty = False
        if empty:
            raise UserError(f"{self.path}: the array is empty; it needs one JSON object a row")
        raise UserError(f"{self.path}: row 1 is not a JSON object; the array needs one object a row")

    def chunks(self, schema: pl.Schema) -> Iterator[tuple[pl.DataFrame, list[Broken]]]:
        lines: list[tuple[int, str]] = []
        broken: list[Broken] = []
        held = 0
        for number, (text, value) in enumerate(_array.items(self.path, self._chunk), 1):
            if isinstance(value, dict):
                lines.append((number, text))
            else:
                said = f"row {number} is not a JSON object; the array needs one object a row"
                broken.append(Broken(number, _broken.NOT_OBJECT, said, text))
            held += len(text)
            if held >= self._chunk:
                yield _jsonl.numbered(lines), broken
                lines, broken, held = [], [], 0
        if lines or broken:
            yield _jsonl.numbered(lines), broken
