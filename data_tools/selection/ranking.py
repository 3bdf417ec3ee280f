"""Which samples of a prompt are best: a named expression each, higher is better, unknown comes last."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from data_tools.order import hash64
from data_tools.selection.frames import PLACE, Judgments
from data_tools.selection.wordlists import mixed


def mean_token_prob() -> pl.Expr:
    """Mean probability of the rationale's tokens. It favours common words."""
    return pl.col("mean_token_prob")


def r_star() -> pl.Expr:
    """R* (ReasonGRM, arXiv 2506.16712): mean token probability of the rationale times the probability of the answer.

    The answer is the voted letter at the forced verdict. Where token probabilities are unknown so is R*.
    """
    return pl.col("mean_token_prob") * pl.col("p_vote")


def confidence() -> pl.Expr:
    """Probability of the voted letter at the forced verdict."""
    return pl.col("p_vote")


def shortest() -> pl.Expr:
    """Fewest tokens."""
    return -pl.col("length")


def random() -> pl.Expr:
    """By a hash of the pair's id, order, iteration and sample: for comparison with the others."""
    return pl.col("luck")


def drawn() -> pl.Expr:
    """None is better; the first drawn comes first."""
    return pl.lit(None, pl.Float32)


RANKINGS: dict[str, Callable[[], pl.Expr]] = {
    function.__name__: function for function in (mean_token_prob, r_star, confidence, shortest, random, drawn)
}


VOTED_RANKINGS = ("r_star", "confidence")  # those that look at the vote, or the verdict where that says what is right


def best_first(judgments: Judgments, samples: pl.DataFrame, by: str) -> pl.DataFrame:
    """The samples, best first in each place, with ``order``: their number in that sequence.

    It depends on the samples alone, not on their order in files: after ``by`` go iteration, sample index and text, then
    what else tells two rows apart.
    """
    if by == "random":
        samples = _with_luck(judgments.pairs, samples)
    samples = samples.with_columns(_score=RANKINGS[by]().fill_nan(None))
    keys = [*PLACE, "_score", "iteration", "sample_index"]
    samples = _sorted(samples, keys)
    # Texts are read only where nothing else decides, as where two judges' files lie together.
    same = pl.all_horizontal(pl.col(key).eq_missing(pl.col(key).shift(1)) for key in keys).fill_null(False)
    tied = samples.select("row", same=same | same.shift(-1, fill_value=False)).filter("same").select("row")
    if not tied.is_empty():
        texts = judgments.texts(tied.lazy(), "rationale").select("row", tie=pl.col("rationale").rank("dense"))
        samples = samples.join(texts.collect(engine="streaming"), on="row", how="left")
        samples = _sorted(samples, [*keys, "tie", "vote", "p_vote", "length", "seed"]).drop("tie")
    return samples.drop("_score", "seed", "iteration", "sample_index").with_row_index("order")


def _sorted(samples: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
    return samples.sort(keys, descending=[key == "_score" for key in keys], nulls_last=True, maintain_order=True)


def _with_luck(pairs: pl.DataFrame, samples: pl.DataFrame) -> pl.DataFrame:
    """``luck``: a hash of pair, order, iteration and sample index, made of two hashes of fewer things."""
    key = ["swapped", "iteration", "sample_index"]
    drawn = samples.select(key).unique()
    salts = [hash64("random", "|".join(map(str, row))) for row in drawn.iter_rows()]
    drawn = drawn.with_columns(pl.Series("salt", salts, dtype=pl.UInt64))
    samples = samples.join(drawn, on=key, how="left", nulls_equal=True, maintain_order="left")
    samples = samples.join(pairs.select("pair", "draw"), on="pair", how="left", maintain_order="left")
    return samples.with_columns(luck=mixed(pl.col("draw") ^ pl.col("salt"))).drop("salt", "draw")
