"""LLMBar (Zeng et al., arXiv 2310.07641): instruction following, a natural set and four adversarial ones.

As the authors' code has it (princeton-nlp/LLMBar: LLMEvaluator/evaluate.py): a subset's accuracy is the mean of the two
orders' (``correct_average``), its positional agreement rate the share of pairs with the same winner in both (``equal``;
no winner in either counts as the same). A reply without a winner is wrong; a tie in p(A) is one here. The score is the
mean of the five subsets, as in the last column of the paper's tables; that of the four adversarial ones stands beside.

Scores of single responses are the authors' "rating": of equal ones each order names the second response, so the pair is
half right and the orders disagree.

Rows whose subset is null (a file of the benchmark does not name its own) cannot be told apart: they are one section.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import polars as pl

from genrm_lightning.evaluation.benchmarks import _report, _rows
from genrm_lightning.evaluation.benchmarks._report import Outcomes, Section
from genrm_lightning.evaluation.benchmarks._rows import Rows

NAME = "LLMBar"
PAIRS = {"Natural": 100, "Neighbor": 134, "GPTInst": 92, "GPTOut": 47, "Manual": 46}
ADVERSARIAL = tuple(PAIRS)[1:]
UNNAMED = "all rows"
_PLAIN = {_rows.plain(title): title for title in PAIRS}
_BEFORE = ("llmbar", "adversarial", "adver")
SOURCES = ("llmbar", *(f"llmbar{before}{name}" for name in _PLAIN for before in ("", *_BEFORE[1:])))


def protocol(rows: Rows) -> dict[str, Any]:
    right = ((pl.col("own") == 1).cast(pl.Float64) + (pl.col("other") == 1).cast(pl.Float64)) / 2
    agree = pl.col("own") == pl.col("other")
    if rows.scored:
        right, agree = _rows.higher(tie=0.5), pl.col("chosen_reward") != pl.col("rejected_reward")
    table = rows.judged.select("cluster", "source", "subset", right=right, agree=agree.cast(pl.Float64))
    title = [_subset(source, subset) for source, subset in table.select("source", "subset").iter_rows()]
    unnamed = title.count(None)
    missing = rows.unjudged()
    if unnamed:
        missing.append(f"{unnamed} pairs do not say their subset (Natural or one of the adversarial ones)")
    if unnamed < len(title) or not title:
        table = table.filter(pl.Series([name is not None for name in title], dtype=pl.Boolean))
        title = [name for name in title if name is not None]
        weights = dict.fromkeys(PAIRS, 1 / len(PAIRS))
    else:
        title, weights = [UNNAMED] * len(title), {UNNAMED: 1.0}
    sizes = Counter(title)
    outcomes = Outcomes()
    outcomes.add(title, table["cluster"], table["right"])
    outcomes.add([f"agree {name}" for name in title], table["cluster"], table["agree"])
    sections = {name: Section({name: 1.0}, n=sizes[name], weight=weight) for name, weight in weights.items()}
    hard = [name for name in ADVERSARIAL if sizes[name]]
    if hard:
        adversarial = {name: 1 / len(hard) for name in hard}
        sections["Adversarial"] = Section(adversarial, n=sum(sizes[name] for name in hard))
    there = [name for name in weights if sizes[name]]
    agreement = {f"agree {name}": 1 / len(there) for name in there}
    sections["Positional agreement"] = Section(agreement, n=table.height)
    subsets = {name: name for name in sizes} | {f"{name}: positional agreement": f"agree {name}" for name in there}
    off = [f"{name} {sizes[name]} of {n}" for name, n in PAIRS.items() if name in sizes and sizes[name] != n]
    if off:
        missing.append(f"other numbers of pairs than published: {', '.join(off)}")
    return _report.report(NAME, outcomes, sections, subsets, n_expected=sum(PAIRS.values()), missing=missing)


def _subset(source: str, subset: str | None) -> str | None:
    """The subset's title, from the column or from a source that is named after it."""
    for text in (subset, source):
        name = _rows.plain(text or "")
        for before in _BEFORE:
            name = name.removeprefix(before)
        if name in _PLAIN:
            return _PLAIN[name]
    return None
