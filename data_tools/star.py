"""Judgments -> training examples: the STaR step (Zelikman et al. 2022; for judges arXiv 2410.12832).

A sample is *right* where its vote is the letter of the preferred response in the order it was shown. What a judge
wrote before a right vote is imitated; under DPO what it wrote before a wrong vote is pushed away.

| objective | a row of EXAMPLE |
| --- | --- |
| sft | a right sample |
| rationalizer | a right sample that was drawn with the answer told and does not speak of being told |
| dpo | a right and a wrong sample of the same pair in the same order; ``uncoupled="keep"``: also a right one alone |
| labelled | a sample, right or wrong, with the label's verdict in place of its own vote: for a warm start |
| own | a sample as it is, right or wrong, the first drawn first: for a teacher's token targets on it |

The prompt of an example is always the one without a hint.

Filters are named by string: ``both_orders``, or with thresholds ``min_words:words=8``; pairings (dpo) and rankings
likewise. They are in :mod:`data_tools.selection`: filters, pairings, ranking. Tables may be larger than memory: what is
held is a narrow table of all judgments, about 100 bytes each, and the texts of some thousand examples at a time.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from data_tools.artifact import atomic_path, temporary_name, write_table
from data_tools.errors import UserError
from data_tools.judging import prompt_named
from data_tools.schema import EXAMPLE
from data_tools.selection import texts
from data_tools.selection.filters import FILTERS, parse_filter
from data_tools.selection.frames import PLACE, read
from data_tools.selection.pairings import PAIRINGS, parse_pairing, ranked
from data_tools.selection.ranking import RANKINGS, VOTED_RANKINGS, best_first
from data_tools.selection.rendering import Chosen
from data_tools.selection.steps import Steps

__all__ = [
    "FILTERS", "OBJECTIVES", "PAIRINGS", "RANKINGS", "RIGHT_WAYS", "UNCOUPLED_WAYS",
    "choose", "examples", "parse_filter", "parse_pairing", "write_examples",
]  # fmt: skip

OBJECTIVES = ("sft", "dpo", "rationalizer", "labelled", "own")
UNCOUPLED_WAYS = ("drop", "keep")
RIGHT_WAYS = ("vote", "verdict")
# What is dropped without a filter's name.
UNREAD = "no verdict in the text"
REPEAT = "repeat"
TOLD = "speaks of being told"
UNCOUPLED = "no wrong sample to couple with"
SURPLUS = "beyond per_prompt"

Table = pl.DataFrame | pl.LazyFrame


def examples(judgments: Table, preferences: Table, **options: Any) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Training examples from judgments.

    Args:
        judgments: JUDGMENT; of one or several iterations.
        preferences: PREFERENCE, with at least the pairs that were judged.
        options: of :func:`choose`.

    Returns:
        EXAMPLE, sorted by pair id and order, and the counts of :func:`choose`.

    Raises:
        UserError: see :func:`choose`.
    """
    chosen, counts = choose(judgments, preferences, **options)
    return chosen.examples(), counts


def write_examples(judgments: Table, preferences: Table, path: str | Path, **options: Any) -> dict[str, Any]:
    """Write :func:`examples` as parquet, atomically and in bounded memory; returns the counts."""
    path = Path(path)
    chosen, counts = choose(judgments, preferences, **options)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(temporary_name(path.stem))
    try:
        parts = []
        for part in chosen.parts(scratch):
            if part.height == chosen.rows.height:
                write_table(part, path, EXAMPLE)
                return counts
            parts.append(scratch / f"part-{len(parts):05d}.parquet")
            write_table(part, parts[-1], EXAMPLE)
        with atomic_path(path) as temporary:
            pl.scan_parquet(parts, glob=False).sink_parquet(temporary, engine="streaming")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return counts


def choose(
    judgments: Table,
    preferences: Table,
    *,
    objective: str,
    filters: Sequence[str] = (),
    per_prompt: int = 1,
    template: str = "mt_bench",
    uncoupled: str = "drop",
    right: str = "vote",
    ranking: str = "mean_token_prob",
    pairing: str = "rank",
) -> tuple[Chosen, dict[str, Any]]:
    """The samples that make examples.

    Args:
        objective: one of OBJECTIVES.
        filters: names, see FILTERS; applied in this order, those of samples first, then of couples, then of examples.
        per_prompt: examples at most for a pair in one order: the best samples, or couples.
        template: name of the judge prompt.
        uncoupled: what becomes of a right sample that finds no wrong one under dpo: "drop" it, or "keep" it as an
            example without a rejected side (no preference; RationaleDPO's other losses still learn from it).
        right: what says whether a sample is right: its "vote" at the forced verdict, so that every sample is right or
            wrong, or the "verdict" in its own text; samples without one are then neither. Under labelled and own, which
            take right and wrong ones alike, only filters read it, and under labelled some rankings.
        ranking: which samples of a prompt are best, see RANKINGS; under own it is the first drawn, and none is given.
        pairing: how dpo couples right and wrong samples, see PAIRINGS. Under "rank" the best right one goes with the
            best wrong one, the second with the second, so none is used twice.

    Returns:
        What was chosen, and counts:

        ==========  =================================================================================
        sampled     judgments given; ``right`` and ``wrong`` are their votes
        kept        examples; ``couples``: those with a rejected side; ``pairs``: the pairs they come from
        dropped     {why: how many}: samples, or for couples and examples those, in order of the steps
        letters     {"A": examples whose right letter is A, "B": …}
        steps       the same step by step: [{"step", "of", "given", "kept"}]
        ==========  =================================================================================

    Raises:
        UserError: an unknown name; a choice that the objective does nothing with; a judgment of an unknown pair or
            without a vote; a pair id that stands for two pairs; nothing kept (says how many went where, and what to
            change).
    """
    for what, value, known in (
        ("objective", objective, OBJECTIVES),
        ("uncoupled", uncoupled, UNCOUPLED_WAYS),
        ("right", right, RIGHT_WAYS),
        ("ranking", ranking, RANKINGS),
    ):
        if value not in known:
            raise UserError(f"{what} '{value}' is unknown; there are: {', '.join(known)}")
    if per_prompt < 1:
        raise UserError(f"per_prompt={per_prompt}: must be at least 1")
    prompt_named(template)
    chosen_steps = [parse_filter(spec) for spec in filters]
    couple = parse_pairing(pairing)
    if objective != "dpo" and (of_couples := [name for name, _ in chosen_steps if FILTERS[name].needs_couples]):
        raise UserError(
            f"filter '{of_couples[0]}' compares the two samples of a couple; objective {objective} has none"
        )

    _check_used(objective, filters, right, ranking, pairing)

    preferences = preferences.lazy()
    read_judgments, samples = read(judgments, preferences, right)
    samples = best_first(read_judgments, samples, "drawn" if objective == "own" else ranking)
    is_right = pl.col("right")
    counts: dict[str, Any] = {"sampled": samples.height}
    counts |= {"right": int(samples["right"].sum()), "wrong": int((~samples["right"]).sum())}
    steps = Steps(read_judgments)

    def apply(frame: pl.DataFrame, *looks_at: str) -> pl.DataFrame:
        for name, function in chosen_steps:
            if (kind := FILTERS[name].looks_at) in looks_at:
                reads = kind if kind in ("texts", "pairs") else ""
                frame = steps.keep(frame, "samples" if reads else kind, name, function, reads)
        return frame

    if right == "verdict" and objective not in ("labelled", "own"):
        samples = steps.keep(samples, "samples", UNREAD, lambda frame: frame.filter(is_right.is_not_null()))
    if objective == "labelled":
        # The ids end in the vote's letter; the judgment is tokenised anew from its text.
        kept = samples.with_columns(vote="letter", own_ids=False)
    elif objective == "own":
        kept = samples.with_columns(vote="voted", own_ids=True)
    else:
        kept = samples.filter(is_right)
    # Millions of rows: what is not needed any more is let go of.
    wrong = samples.filter(~is_right) if objective == "dpo" else samples.clear()
    del samples
    kept = steps.keep(kept, "samples", REPEAT, _distinct)
    if objective == "rationalizer":
        kept = steps.keep(kept, "samples", TOLD, texts.not_told, "texts")
    kept = ranked(apply(kept, "samples", "texts", "pairs").lazy()).collect()
    if objective == "dpo":
        wrong = ranked(_distinct(wrong.lazy())).collect()
        kept = _coupled(kept, wrong, couple, uncoupled, steps, lambda couples: apply(couples, "couples"))
    kept = steps.keep(kept, "examples", SURPLUS, lambda frame: frame.filter(pl.col("rank") < per_prompt))
    kept = kept.join(read_judgments.pairs.select("pair", "draw", "category"), on="pair", maintain_order="left")
    kept = apply(kept, "examples").sort(*PLACE, "rank")
    counts |= {
        "kept": kept.height,
        "couples": int(kept["rejected_row"].is_not_null().sum()) if objective == "dpo" else 0,
        "pairs": kept["pair"].n_unique(),
        "dropped": steps.dropped(),
        "letters": {letter: int((kept["letter"] == letter).sum()) for letter in "AB"},
        "steps": steps.counts,
    }
    if kept.is_empty():
        raise UserError(_why_empty(objective, counts))
    return Chosen(kept, read_judgments, preferences, template), counts


def _check_used(objective: str, filters: Sequence[str], right: str, ranking: str, pairing: str) -> None:
    """Raises UserError for a choice that changes nothing under the objective."""
    by_vote = objective == "labelled" and ranking in VOTED_RANKINGS
    idle = (
        ("right", right, "vote", objective in ("labelled", "own") and not filters and not by_vote,
         "takes right and wrong samples alike"),
        ("ranking", ranking, "mean_token_prob", objective == "own", "keeps the samples that were drawn first"),
        ("pairing", pairing, "rank", objective != "dpo", "has no couples"),
    )  # fmt: skip
    for name, value, default, unused, why in idle:
        if unused and value != default:
            raise UserError(f"{name} '{value}' changes nothing: objective {objective} {why}; leave it out")


def _coupled(right, wrong, couple, uncoupled, steps: Steps, apply) -> pl.DataFrame:
    """Couples, and under ``uncoupled="keep"`` the right samples that are in none; ranked."""
    couples = couple(right.lazy(), wrong.lazy()).collect()
    alone = right.join(couples, on="order", how="anti", maintain_order="left")
    found = right.height - alone.height
    if uncoupled == "drop":
        steps.note("samples", UNCOUPLED, right.height, found)
        alone = alone.clear()
    if couples.height != found:
        steps.note("couples", "pairing", found, couples.height)
    couples = apply(couples)
    # Couples first: they say more about a prompt than a right sample alone.
    together = pl.concat([couples, alone], how="diagonal")
    return ranked(together.lazy().sort(*PLACE, pl.col("rejected_row").is_null(), "rank")).collect()


def _distinct(frame: pl.LazyFrame) -> pl.LazyFrame:
    """One of several samples with the same text and vote: the others would only weight it."""
    return frame.unique([*PLACE, "text", "vote"], keep="first", maintain_order=True)


def _why_empty(objective: str, counts: dict[str, Any]) -> str:
    gone = {why: n for why, n in counts["dropped"].items() if n}
    said = f"no {objective} example is left of {counts['sampled']} judgments "
    said += f"(right {counts['right']}, wrong {counts['wrong']}"
    said += "".join(f"; {why}: {n}" for why, n in gone.items()) + ")"
    if gone.get(UNREAD) == counts["sampled"]:
        remedy = "no text holds a verdict such as [[A]]: go by the vote (right=vote)"
    elif not counts["right"] and objective not in ("labelled", "own"):
        remedy = "no vote was right: sample more pairs or more a prompt, or start from a better judge"
    elif objective == "dpo" and gone.get(UNCOUPLED) == counts["right"] - gone.get(REPEAT, 0):
        remedy = "no prompt has both a right and a wrong vote: sample more a prompt, at a higher temperature"
    else:
        most = max(gone, key=lambda why: gone[why])
        remedy = f"loosen or leave out what dropped most ('{most}'), or sample more"
    return f"{said}; {remedy}"
