"""One evaluated set: a JUDGMENT table in, its accuracies, biases and the health of its rationales out.

A *presentation* is one pair in one order; it is judged by K >= 1 samples, as many as the pair's other order, perhaps
more or fewer than another pair's (:mod:`~genrm_lightning.evaluation.stopping`): every presentation weighs alike. Two
accuracies are kept apart everywhere: *accuracy* is read from p(A) at the forced verdict, where every sample has a vote;
*free accuracy* parses the model's own text, and a text without a verdict is wrong. All shares are fractions.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import polars as pl

from data_tools.judging import Verdict
from data_tools.order import chosen_is_a
from data_tools.split import normalised_prompt
from data_tools.words import NGRAM, ngrams
from genrm_lightning.evaluation.intervals import Difference, clustered_interval, paired_difference

NO_CATEGORY = "(none)"
_NEEDED = ("pair_id", "swapped", "sample_index", "verdict", "p_a", "n_tokens")


@dataclass(frozen=True)
class SetScores:
    """What one judge did on one set. Shares are fractions; low and high are the ends of a 95 % interval.

    Attributes:
        n_dropped: pairs of the set that were not judged: their judge prompts did not fit the context. They are in no
            other number.
        accuracy: share of presentations whose mean p(A) over the samples lies on the right side of 0.5. A mean of
            exactly 0.5 chooses nothing and counts as wrong in either order.
        free_accuracy: share of a presentation's samples whose own text names the right response, in the mean over
            presentations as all below it; INVALID counts as wrong.
        invalid_rate: share of samples whose own text names none.
        position_consistent_accuracy: share of pairs that are right in both orders.
        position_consistency: share of pairs whose two orders choose the same response, right or wrong.
        share_a: share of presentations that choose A, one of exactly 0.5 counted half. Each response stands once as A,
            so a judge without position bias has 0.5.
        tie_rate: share of presentations with a mean of exactly 0.5.
        mean_p_right: mean over samples of the probability of the right letter among {A, B}.
        mean_n_tokens: tokens a rationale.
        distinct_3grams: distinct word 3-grams of all rationales over all their 3-grams; falls as rationales become one
            stencil. It also falls with the number of rationales: compare it on the same set only.
        mean_repetition: mean of :func:`repetition`: the share of 3-grams that a rationale has said before.
        length_share: share of samples that the token budget ended (finish_reason == length).
        categories: for each PREFERENCE.category its n_pairs, accuracy, accuracy_low and accuracy_high.
    """

    n_pairs: int
    n_dropped: int
    n_presentations: int
    n_samples: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    free_accuracy: float
    free_accuracy_low: float
    free_accuracy_high: float
    invalid_rate: float
    position_consistent_accuracy: float
    position_consistency: float
    share_a: float
    tie_rate: float
    mean_p_right: float
    mean_n_tokens: float
    distinct_3grams: float
    mean_repetition: float
    length_share: float
    categories: dict[str, dict[str, float]]

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values for JSON."""
        return asdict(self)


def set_scores(judgments: pl.DataFrame, preferences: pl.DataFrame, dropped: Collection[str] = ()) -> SetScores:
    """Score one judge on one set.

    Args:
        judgments: JUDGMENT rows of one judge on one set: both orders of every pair, the same number of samples each
            (pairs may differ).
        preferences: the PREFERENCE rows of exactly that set; a pair without a judgment is an error, not a smaller set.
        dropped: ids of pairs of the set that were not judged because they did not fit; counted, and in no other number.

    Raises:
        ValueError: an order is missing, sample counts are uneven, a sample occurs twice, a value is missing or no
            probability, or the two tables do not hold the same pairs.
    """
    preferences = without(preferences, dropped)
    shown = presentations(judgments)
    pairs = pair_scores(shown)
    _same_pairs(pairs["pair_id"], preferences["pair_id"], "judgments", "preferences")
    pairs = pairs.join(clusters(preferences), on="pair_id", how="left", maintain_order="left")
    accuracy, accuracy_low, accuracy_high = _interval(pairs, "accuracy")
    # n_eff is capped at two trials a pair here too: further samples of the same prompt are not counted as evidence.
    free, free_low, free_high = _interval(pairs, "free_accuracy")
    rationales = judgments["rationale"].fill_null("").to_list()
    counts = judgments.select(pl.len().over("pair_id", "swapped")).to_series()
    distinct, repeated = _distinct_and_repeated(rationales)
    weights = counts.max() / counts  # all 1 where every presentation has as many samples

    def evenly(values: pl.Series) -> float:
        """The mean of a presentation's samples, in the mean over presentations."""
        return float((values.cast(pl.Float64) * weights).sum() / (shown.height * counts.max()))

    return SetScores(
        n_pairs=pairs.height,
        n_dropped=len(dropped),
        n_presentations=shown.height,
        n_samples=judgments.height,
        accuracy=accuracy,
        accuracy_low=accuracy_low,
        accuracy_high=accuracy_high,
        free_accuracy=free,
        free_accuracy_low=free_low,
        free_accuracy_high=free_high,
        invalid_rate=evenly(judgments["verdict"] == Verdict.INVALID.value),
        position_consistent_accuracy=_mean(pairs["both_right"]),
        position_consistency=_mean(pairs["consistent"]),
        share_a=_mean((shown["p_a"] > 0.5) + 0.5 * (shown["p_a"] == 0.5)),
        tie_rate=_mean(shown["p_a"] == 0.5),
        mean_p_right=_mean(shown["p_right"]),
        mean_n_tokens=evenly(judgments["n_tokens"]),
        distinct_3grams=distinct,
        mean_repetition=evenly(pl.Series(repeated, dtype=pl.Float64)),
        length_share=evenly((judgments["finish_reason"] == "length").fill_null(False)),
        categories=_by_category(pairs, preferences),
    )


def without(preferences: pl.DataFrame, dropped: Collection[str]) -> pl.DataFrame:
    """The pairs of a set that were judged: all but the ``dropped`` ids."""
    return preferences.filter(~pl.col("pair_id").is_in(list(dropped)))


def compare(
    before: pl.DataFrame, after: pl.DataFrame, preferences: pl.DataFrame | None = None
) -> tuple[Difference, int]:
    """Accuracy of ``after`` minus accuracy of ``before`` on the same pairs, with its paired 95 % interval.

    Args:
        before, after: JUDGMENT rows of two judges on one set, as in :func:`set_scores`.
        preferences: the PREFERENCE rows of that set, which say what pairs belong together (:func:`clusters`). Without
            them every pair counts as independent: right only where no prompt and no group has several.

    Returns:
        The difference (fractions) and the number of pairs.

    Raises:
        ValueError: the tables hold different pairs, or as in :func:`set_scores`.
    """
    first, second = (pair_scores(presentations(table)) for table in (before, after))
    _same_pairs(first["pair_id"], second["pair_id"], "first judge's table", "second judge's")
    groups = None
    if preferences is not None:
        _same_pairs(first["pair_id"], preferences["pair_id"], "judgments", "preferences")
        groups = first.join(clusters(preferences), on="pair_id", how="left", maintain_order="left")["cluster"]
    # Both are sorted by pair_id, so the rows are aligned.
    return paired_difference(first["accuracy"].to_numpy(), second["accuracy"].to_numpy(), groups), first.height


def clusters(preferences: pl.DataFrame) -> pl.DataFrame:
    """``pair_id`` and ``cluster``: equal for pairs of one group_id of a source, else for those of one prompt.

    Such pairs ask the judge nearly the same thing, so they are right or wrong together: intervals count clusters.
    Prompts are compared as everywhere (:func:`data_tools.split.normalised_prompt`).
    """
    group = pl.format("group {} {}", pl.col("source").fill_null(""), "group_id")
    return preferences.select("pair_id", cluster=pl.coalesce(group, pl.format("prompt {}", normalised_prompt())))


def presentations(judgments: pl.DataFrame) -> pl.DataFrame:
    """One row a presentation, sorted by (pair_id, swapped), the samples averaged in double precision.

    Returns:
        pair_id, swapped, right_is_a (whether the preferred response stands as A), p_a (mean over samples), p_right (the
        same for the right letter), right and wrong (whether p_a chooses the right or the wrong response; neither at
        exactly 0.5), free (share of samples whose own text is right).

    Raises:
        ValueError: as in :func:`set_scores`.
    """
    check_judgments(judgments)
    # Hashed once a pair: a table has a row for each sample of either order.
    ids = judgments["pair_id"].unique()
    own = pl.DataFrame({"pair_id": ids, "_own": [chosen_is_a(pair_id, False) for pair_id in ids]})
    right_is_a = pl.col("_own") != pl.col("swapped")
    right_letter = pl.when("right_is_a").then(pl.lit(Verdict.A.value)).otherwise(pl.lit(Verdict.B.value))
    return (
        judgments.join(own, on="pair_id", how="left", maintain_order="left")
        .select("pair_id", "swapped", "verdict", pl.col("p_a").cast(pl.Float64), right_is_a=right_is_a)
        .with_columns(free=pl.col("verdict") == right_letter)
        .group_by("pair_id", "swapped")
        .agg(pl.col("right_is_a").first(), pl.col("p_a").mean(), pl.col("free").mean())
        .with_columns(p_right=pl.when("right_is_a").then("p_a").otherwise(1 - pl.col("p_a")))
        .select(
            "pair_id",
            "swapped",
            "right_is_a",
            "p_a",
            "p_right",
            # Compared on the side of A itself: 1 - p_a may round a p_a beside 0.5 onto it.
            right=pl.when("right_is_a").then(pl.col("p_a") > 0.5).otherwise(pl.col("p_a") < 0.5),
            wrong=pl.when("right_is_a").then(pl.col("p_a") < 0.5).otherwise(pl.col("p_a") > 0.5),
            free="free",
        )
        .sort("pair_id", "swapped")
    )


def pair_scores(shown: pl.DataFrame) -> pl.DataFrame:
    """One row a pair, sorted by pair_id, from the rows of :func:`presentations`.

    Returns:
        pair_id, accuracy (0, 0.5 or 1: over the two orders), free_accuracy, both_right, consistent.
    """
    return (
        shown.group_by("pair_id")
        .agg(
            accuracy=pl.col("right").mean(),
            free_accuracy=pl.col("free").mean(),
            both_right=pl.col("right").all(),
            consistent=pl.col("right").all() | pl.col("wrong").all(),
        )
        .sort("pair_id")
    )


def repetition(text: str, n: int = NGRAM) -> float:
    """The share of a text's word n-grams that occurred in it before: 0 for none, near 1 for a loop.

    Words are those of :func:`data_tools.words.ngrams`. A text of fewer than n words repeats nothing. It is one minus
    the share that the filter ``no_repetition`` looks at.

    >>> repetition("good good good good good")
    0.6666666666666667
    """
    return _distinct_and_repeated([text], n)[1][0]


def corpus_distinct_share(texts: Iterable[str], n: int = NGRAM) -> float:
    """Distinct word n-grams over all n-grams of all texts together (distinct-n of Li et al., arXiv 1510.03055).

    0 where no text has n words: rationales that say nothing are not diverse.
    """
    return _distinct_and_repeated(texts, n)[0]


def _distinct_and_repeated(texts: Iterable[str], n: int = NGRAM) -> tuple[float, list[float]]:
    """:func:`corpus_distinct_share`, and :func:`repetition` of each text: its words are found once for both."""
    seen: set[tuple[str, ...]] = set()
    total, repeated = 0, []
    for text in texts:
        grams = ngrams(text, n) if text else []
        own = set(grams)
        seen |= own
        total += len(grams)
        repeated.append(1 - len(own) / len(grams) if grams else 0.0)
    return len(seen) / total if total else 0.0, repeated


def _interval(pairs: pl.DataFrame, column: str) -> tuple[float, float, float]:
    return clustered_interval(pairs[column].to_numpy(), pairs["cluster"])


def _by_category(pairs: pl.DataFrame, preferences: pl.DataFrame) -> dict[str, dict[str, float]]:
    kinds = preferences.select("pair_id", pl.col("category").fill_null(NO_CATEGORY))
    result = {}
    for (kind,), members in sorted(pairs.join(kinds, on="pair_id").partition_by("category", as_dict=True).items()):
        accuracy, low, high = _interval(members, "accuracy")
        result[kind] = {
            "n_pairs": members.height,
            "accuracy": accuracy,
            "accuracy_low": low,
            "accuracy_high": high,
        }
    return result


def check_judgments(judgments: pl.DataFrame) -> None:
    if judgments.is_empty():
        raise ValueError("expected judgments of at least one pair, got an empty table")
    for name in _NEEDED:
        if judgments[name].null_count():
            raise ValueError(f"expected a value in every row, got {judgments[name].null_count()} nulls in '{name}'")
    # polars orders NaN above every number, so a range check alone says little about it.
    if not (judgments["p_a"].is_finite() & judgments["p_a"].is_between(0, 1)).all():
        raise ValueError(f"expected p_a in [0, 1], got {judgments['p_a'].min()} to {judgments['p_a'].max()}, or NaN")
    strange = set(judgments["verdict"].unique()) - {verdict.value for verdict in Verdict}
    if strange:
        raise ValueError(f"expected verdicts {', '.join(Verdict)}, got {', '.join(sorted(strange))}")
    key = ["pair_id", "swapped", "sample_index"]
    twice = judgments.filter(judgments.select(key).is_duplicated())
    if twice.height:
        raise ValueError(
            f"expected each sample once, got {dict(zip(key, twice.select(key).row(0), strict=True))} again: "
            "a table of one judge on one set is needed"
        )
    counts = judgments.group_by("pair_id", "swapped").agg(len=pl.len(), last=pl.col("sample_index").max())
    counts = counts.sort("pair_id", "swapped")
    orders = counts.group_by("pair_id", maintain_order=True).len("orders").filter(pl.col("orders") != 2)
    if orders.height:
        raise ValueError(
            f"expected both orders of every pair, got one of {orders.height} pairs, the first '{orders['pair_id'][0]}'"
        )
    # Samples are numbered from 0 and both orders have as many: a row that is lacking shows, wherever it stood.
    most = pl.max_horizontal(pl.col("len").max(), pl.col("last").max() + 1).over("pair_id")
    uneven = counts.with_columns(expected=most).filter(pl.col("len") != pl.col("expected"))
    if uneven.height:
        raise ValueError(
            f"expected {uneven['expected'][0]} samples of every pair and order, got {uneven['len'][0]} of "
            f"'{uneven['pair_id'][0]}' with swapped={uneven['swapped'][0]}"
        )


def _same_pairs(first: pl.Series, second: pl.Series, name: str, other: str) -> None:
    if second.n_unique() != len(second):
        raise ValueError(f"expected each pair once in the {other}, got {len(second) - second.n_unique()} repeated rows")
    lacking, extra = set(second) - set(first), set(first) - set(second)
    if lacking or extra:
        raise ValueError(
            f"expected the same pairs in the {name} and the {other}, got {len(extra)} only in the one and "
            f"{len(lacking)} only in the other, such as '{min(lacking | extra)}'"
        )


def _mean(series: pl.Series) -> float:
    return float(series.cast(pl.Float64).mean())
