"""Runs as one HTML page: which judge is best on what, and how sure that is. Nothing is fetched from anywhere.

``adapters`` turn folders into methods and sets, ``sections`` turn these into HTML and know nothing of folders,
``charts`` draw and know nothing of judges.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from data_tools import artifact
from data_tools.errors import UserError
from genrm_lightning.report_page import adapters, look
from genrm_lightning.report_page.report import Report
from genrm_lightning.report_page.sections import (
    benchmarks,
    calibration,
    categories,
    cost,
    couples,
    disagreements,
    hacking,
    headline,
    iterations,
    length,
    methods,
    position,
    shift,
    slices,
    sources,
    votes,
)

PAIRS = 12  # of a set
TITLE = "Judges in comparison"


def write(
    runs: Sequence[Path],
    out: Path,
    *,
    title: str | None = None,
    pairs: int = PAIRS,
    judges: tuple[str, str] | None = None,
) -> Report:
    """Write the page of some runs, atomically.

    Args:
        runs: folders of evaluate, star and compare, in the order of the page.
        out: the HTML file.
        title: the page's.
        pairs: how many pairs of a set are shown, at most.
        judges: labels of the two judges whose pairs are shown; None: the best of the first set and the next one.

    Raises:
        UserError: a folder is no run, has no results so far or other pairs under a set's name; a label that is none;
            a folder in the file's place.
    """
    if out.is_dir():
        raise UserError(f"{out}: is a folder; name a file for --out")
    report = Report([adapters.read(folder) for folder in runs])
    labels = [method.label for method in report.methods]
    for label in judges or ():
        if label not in labels:
            raise UserError(f"--judges: '{label}' is none of the judges; there are: {', '.join(labels)}")
    artifact.write_text(out, look.document(title or TITLE, body(report, pairs, judges)))
    return report


def body(report: Report, pairs: int, judges: tuple[str, str] | None = None) -> str:
    """The page's sections behind their table of contents."""
    standings = headline.standings(report)
    two = judges or disagreements.couple(standings)
    parts = [
        methods.section(report, standings),
        couples.section(report),
        benchmarks.section(report),
        iterations.section(report),
        votes.section(report),
        calibration.diagrams(report),
        calibration.risk(report),
        position.section(report),
        length.section(report),
        categories.section(report),
        hacking.section(report),
        shift.section(report),
        slices.section(report, two),
        disagreements.section(report, two, pairs),
        cost.section(report),
        sources.section(report),
    ]
    main = "\n".join([look.switches(report), headline.section(report, standings), *filter(None, parts)])
    return f"<div class=page><nav aria-label=contents><ul>{_contents(main)}</ul></nav><main>{main}</main></div>"


def _contents(main: str) -> str:
    """A line a section. Texts of the data are escaped, so what looks like a section's beginning is one."""
    found = re.findall(r"<section id=(\w+)><h2>(.*?)</h2>", main)
    return "".join(f"<li><a href=#{name}>{heading}</a></li>" for name, heading in found)
