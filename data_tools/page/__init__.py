"""A table of pairs as one HTML page: numbers, plots, and pairs to read; nothing is fetched from anywhere."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from data_tools import artifact
from data_tools.errors import UserError
from data_tools.page import pairs as _pairs
from data_tools.page import sections
from data_tools.page.look import document
from data_tools.page.numbers import measured
from data_tools.page.samples import sample
from data_tools.view.judged import Judgments


def write(
    table: pl.LazyFrame,
    out: Path,
    probe: pl.DataFrame | None = None,
    pairs: int = 50,
    *,
    shown: pl.DataFrame | None = None,
    judgments: Judgments | None = None,
    title: str | None = None,
) -> dict[str, int]:
    """Write the page of a PREFERENCE table, atomically.

    The table is streamed over a few times for counts and lengths; only the pairs that are shown are materialised.

    Args:
        table: a query of PREFERENCE.
        out: the HTML file.
        probe: what naive rules score: ``rule``, ``slice``, ``accuracy``, ``low``, ``high`` (fractions; the ends of an
            interval may be null) and ``rows``; None: the page has no such part.
        pairs: how many are shown, drawn by :func:`data_tools.page.samples.sample`.
        shown: PREFERENCE rows to show instead of a sample.
        judgments: shown beneath their pairs.
        title: the page's; None: the file's name.

    Returns:
        ``rows`` of the table, and how many pairs are ``shown``.

    Raises:
        UserError: a table without rows, or a folder in the file's place.
        ValueError: a probe without one of its columns.
    """
    out = Path(out)
    if out.is_dir():
        raise UserError(f"{out}: is a folder; name a file for --html")
    numbers = measured(table)
    if not numbers.rows:
        raise UserError(f"{out}: the table has no rows, so there is no page to write")
    rows = sample(table, pairs) if shown is None else shown
    said = judgments.of(rows["pair_id"].to_list()) if judgments else {}
    body = [
        sections.overview(numbers),
        sections.sources(numbers),
        sections.lengths(numbers),
        "" if probe is None else sections.probe(probe),
        _pairs.section(rows, said, numbers.rows, sampled=shown is None),
    ]
    artifact.write_text(out, document(title or f"Preference pairs: {out.stem}", "\n".join(body)))
    return {"rows": numbers.rows, "shown": rows.height}
