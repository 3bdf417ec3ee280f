"""JudgeBench (Tan et al., arXiv 2410.12784): pairs with one correct response, judged in both orders.

As the authors' code has it (ScalerLab/JudgeBench: compute_final_metrics in utils/metrics.py): a verdict for the correct
response counts +1, one for the other -1, none 0; a pair is right where the two orders sum to more than 0, so a judge
that contradicts itself is wrong. The score is the share of pairs, not the mean of the four categories. A tie in p(A) is
no verdict here.

A reward model plays one game (``--single_game``): the higher score wins. Of equal ones the authors take the second
response, whichever it is; half a pair is counted, which is that in the mean.

The data have two splits, of pairs by GPT-4o (350) and by Claude 3.5 Sonnet (270); the rows do not say which, so their
number does.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import polars as pl

from genrm_lightning.evaluation.benchmarks import _report, _rows
from genrm_lightning.evaluation.benchmarks._report import Outcomes, Section
from genrm_lightning.evaluation.benchmarks._rows import Rows

NAME = "JudgeBench"
SOURCES = ("judgebench",)
CATEGORIES = {
    "Knowledge": "mmlu-pro",
    "Reasoning": "livebench-reasoning",
    "Math": "livebench-math",
    "Coding": "livecodebench",
}
SPLITS = {
    "gpt": {"Knowledge": 154, "Reasoning": 98, "Math": 56, "Coding": 42},
    "claude": {"Knowledge": 154, "Reasoning": 51, "Math": 34, "Coding": 31},
}


def protocol(rows: Rows) -> dict[str, Any]:
    net = pl.col("own") + pl.col("other") > 1  # of 1, 0.5 and 0 for a verdict for, none, against
    earned = _rows.higher(tie=0.5) if rows.scored else net.cast(pl.Float64)
    judged = rows.judged.select("cluster", "subset", result=earned)
    category = [_category(subset or "") for subset in judged["subset"]]
    outcomes = Outcomes()
    outcomes.add("all", judged["cluster"], judged["result"])
    outcomes.add(category, judged["cluster"], judged["result"])
    outcomes.add("source " + judged["subset"].fill_null("(none)"), judged["cluster"], judged["result"])
    sizes, n = Counter(category), max(judged.height, 1)
    sections = {title: Section({title: 1.0}, n=sizes[title], weight=sizes[title] / n) for title in CATEGORIES}
    missing = rows.unjudged()
    if sizes[""]:
        missing.append(f"{sizes['']} pairs are of no source of the benchmark's; they count in the score alone")
        sections["Other"] = Section({"": 1.0}, n=sizes[""], weight=sizes[""] / n)
    n_expected = _expected(sizes)
    if n_expected == judged.height and not _whole(sizes):
        missing.append("other numbers of pairs by category than published")
    subsets = {name.removeprefix("source "): name for name in sorted(set(outcomes.cell)) if name.startswith("source ")}
    return _report.report(
        NAME, outcomes, sections, subsets, n_expected=n_expected, missing=missing, overall={"all": 1.0}
    )


def _category(subset: str) -> str:
    """The category of a source such as mmlu-pro-law; empty: none."""
    return next((title for title, start in CATEGORIES.items() if subset.startswith(start)), "")


def _expected(sizes: Counter[str]) -> int:
    """Pairs of the split that has so many, or of both; else of the one that the paper's tables are of."""
    n = {split: sum(counts.values()) for split, counts in SPLITS.items()}
    return next((total for total in (*n.values(), sum(n.values())) if total == sizes.total()), n["gpt"])


def _whole(sizes: Counter[str]) -> bool:
    both = sum((Counter(counts) for counts in SPLITS.values()), Counter())
    return +sizes in (*map(Counter, SPLITS.values()), both)
