"""Where every number comes from: folders, data, settings."""

from __future__ import annotations

from data_tools.page.sections import text
from genrm_lightning.report_page.report import Report
from genrm_lightning.report_page.sections.parts import block, chip, set_name, table

HOW = "Which pairs were judged, and with what settings. Equal digests: the same pairs, byte by byte."


def section(report: Report) -> str:
    sets = []
    for name, one in report.sets.items():
        scored = report.scored[name]
        clusters = scored.pairs["cluster"].n_unique()
        sets.append(
            f"<tr><th scope=row>{set_name(name)}</th><td>{scored.pairs.height:,}</td><td>{clusters:,}</td>"
            f"<td class=name>{text(one.data)}</td><td class=name><code>{text(one.digest)}</code></td></tr>"
        )
    judges = []
    for method in report.methods:
        dropped = {name: on.numbers["n_dropped"] for name, on in method.sets.items() if on.numbers.get("n_dropped")}
        facts = [("folder", str(method.folder)), *method.settings, *(("note", note) for note in method.notes)]
        facts += [("pairs that did not fit", f"{n:,} of {name}") for name, n in dropped.items()]
        shown = "".join(f"<dt>{text(what)}</dt><dd>{text(value)}</dd>" for what, value in facts if value)
        name = f"{chip(report, method)}{text(method.label)}"
        judges.append(f"<div class=s{report.colour(method)}><h3>{name}</h3><dl class=facts>{shown}</dl></div>")
    body = (
        table(["set", "pairs", "prompts", "data", "digest"], sets, "words")
        + f"<div class=cards>{''.join(judges)}</div>"
    )
    return block("sources", "Data and settings", HOW, body)
