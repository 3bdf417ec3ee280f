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
ENDING = ".html"


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
        title: the page's; None: one that says whether it is of one judge or of several.
        pairs: how many pairs of a set are shown, at most.
        judges: labels of the two judges whose pairs are shown; None: of the first set that several have judged the
            best two of those that write rationales, or the best two where fewer than two do.

    Raises:
        UserError: a folder is no run, has no results so far, other pairs under a set's name, or text where a number
            should be; a label that is none, or the same twice; an out that is a folder or no .html file.
    """
    _check_out(out)
    if judges and judges[0] == judges[1]:
        raise UserError(f"--judges: '{judges[0]}' is named twice; name two judges")
    report = Report([adapters.read(folder) for folder in runs])
    labels = [method.label for method in report.methods]
    for label in judges or ():
        if label not in labels:
            raise UserError(f"--judges: '{label}' is none of the judges; there are: {', '.join(labels)}")
    alone = f"{labels[0]}: evaluation" if len(labels) == 1 else TITLE
    artifact.write_text(out, look.document(title or alone, body(report, pairs, judges)))
    return report


def _check_out(out: Path) -> None:
    """A page replaces at most another page: not the tables of a run, and not what a link leads to."""
    if out.is_dir():
        raise UserError(f"{out}: is a folder; name a file for --out")
    for path in (out, out.resolve()):
        if path.suffix.lower() != ENDING:
            leads = "" if path == out else f" (it leads to {path})"
            raise UserError(
                f"--out: {out} does not end in {ENDING}{leads}; name a file of its own, such as report.html"
            )


def body(report: Report, pairs: int, judges: tuple[str, str] | None = None) -> str:
    """The page's sections behind their table of contents."""
    standings = headline.standings(report)
    two = disagreements.Couple(*judges, "named for this page") if judges else disagreements.couple(report, standings)
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
