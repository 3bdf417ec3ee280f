"""What a selection looks at: a narrow table of all judgments in memory, and their texts where they lie.

Ten million judgments are ten gigabytes of text and one of everything else. So texts are read as they stream by, and
rows go by their number in the scan.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from data_tools.errors import UserError
from data_tools.order import chosen_is_a, hash64

LETTER = pl.Enum(["A", "B"])
VERDICT = pl.Enum(["A", "B", "INVALID"])
PLACE = ["pair", "swapped"]  # one prompt as the judge saw it


@dataclass(frozen=True)
class Judgments:
    """The judgments of a selection.

    Attributes:
        scan: JUDGMENT with ``row``, the number of a row.
        pairs: a row a pair, sorted by id: pair (its number), pair_id, own_is_a (whether the preferred response is A in
            the pair's own order), draw (a hash of the id), category.
        preferences: PREFERENCE, of these pairs and others.
    """

    scan: pl.LazyFrame
    pairs: pl.DataFrame
    preferences: pl.LazyFrame

    def texts(self, rows: pl.LazyFrame, *columns: str, how: str = "inner") -> pl.LazyFrame:
        """``rows`` (with a column ``row``, small beside the scan) and their rationales, or other columns.

        Args:
            how: inner, or semi: the columns of the scan alone.
        """
        wide = self.scan.select("row", *(columns or ["rationale"])).with_columns(pl.col("rationale").fill_null(""))
        return wide.join(rows, on="row", how=how, build_side="force_right" if how == "inner" else "auto")

    def with_pairs(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        """``rows`` (with a column ``pair``) and what their judges read: prompt, chosen, rejected."""
        read = self.preferences.select("pair_id", "prompt", "chosen", "rejected")
        of_pair = self.pairs.lazy().select("pair", "pair_id").join(read, on="pair_id").drop("pair_id")
        return rows.join(of_pair, on="pair", build_side="force_right")


def read(
    judgments: pl.LazyFrame | pl.DataFrame, preferences: pl.LazyFrame, read_by: str
) -> tuple[Judgments, pl.DataFrame]:
    """Check judgments and preferences against each other and read everything but the texts.

    Args:
        read_by: the column that says what a sample judges: vote or verdict.

    Returns:
        The judgments where they lie, and a row a judgment without its text: the columns of :func:`_narrow`.

    Raises:
        UserError: no judgments; a judgment of an unknown pair, without id or order, or without a vote; a pair id that
            stands for two pairs.
    """
    scan = judgments.lazy().with_row_index("row")
    pairs = _pairs(judgments.lazy(), preferences)
    return Judgments(scan, pairs, preferences), _narrow(scan, pairs, read_by)


def _pairs(judgments: pl.LazyFrame, preferences: pl.LazyFrame) -> pl.DataFrame:
    ids = judgments.select(pl.col("pair_id").unique()).collect(engine="streaming")["pair_id"].sort()
    if ids.is_empty():
        raise UserError("there are no judgments; sample some first")
    if ids.null_count():
        raise UserError("judgments: column 'pair_id' is null in a row; correct the row or leave it out")
    known = preferences.select("pair_id", pl.col("category").cast(pl.Categorical)).collect(engine="streaming")
    twice = known.filter(pl.col("pair_id").is_duplicated())
    if not twice.is_empty():
        raise UserError(f"preferences: pair id '{twice['pair_id'].min()}' stands for several pairs; ids must be unique")
    pairs = ids.to_frame().with_row_index("pair").join(known, on="pair_id", how="left", maintain_order="left")
    unknown = pairs.join(known, on="pair_id", how="anti")
    if not unknown.is_empty():
        raise UserError(
            f"judgments: {unknown.height} pair ids, '{unknown['pair_id'].min()}' among them, are not in the "
            "preferences; give the table the judgments were sampled from"
        )
    return pairs.with_columns(
        pl.Series("own_is_a", [chosen_is_a(pair, False) for pair in ids], dtype=pl.Boolean),
        pl.Series("draw", [hash64("balance", pair) for pair in ids], dtype=pl.UInt64),
    )


def _narrow(scan: pl.LazyFrame, pairs: pl.DataFrame, read_by: str) -> pl.DataFrame:
    """A row a judgment, in the order of the scan.

    Columns: row; pair, swapped; letter (of the preferred response in the order shown), vote (what the sample judges,
    null where its own text is to say and does not), verdict, voted (by the forced verdict, whatever ``vote`` is read
    from); right (vote is letter), own_ids (whether token_ids end in vote); p_vote (probability of that letter at the
    forced verdict); mean_token_prob; length (tokens of the rationale; characters, should any row not know its tokens);
    stopped (the model ended its text); text (a number that equal texts share); the share of right samples: right_share
    of the pair, right_share_here of the pair in this order, right_share_both the lower of its two orders (0 where one
    was not sampled). Until they are put in order also iteration, sample_index and seed.
    """
    pair = pl.col("own_is_a") != pl.col("swapped")
    letter = pl.when(pair).then(pl.lit("A")).otherwise(pl.lit("B")).cast(LETTER)
    p_vote = pl.when(pl.col("vote") == "A").then("p_a").otherwise(1 - pl.col("p_a"))
    rationale = pl.col("rationale").fill_null("")
    samples = (
        scan.select(
            "row", "pair_id", "swapped", "iteration", "sample_index", "seed", "p_a", "mean_token_prob", "n_tokens",
            voted=pl.col("vote").cast(LETTER, strict=False),
            verdict=pl.col("verdict").cast(VERDICT, strict=False),
            stopped=pl.col("finish_reason") == "stop",
            # Equality within one run of the program; nothing is drawn or ordered by it.
            text=rationale.hash(),
            characters=rationale.str.len_chars(),
        )
        .with_columns(vote=pl.col("verdict").replace_strict({"A": "A", "B": "B"}, default=None, return_dtype=LETTER)
                      if read_by == "verdict" else pl.col("voted"))
        .join(pairs.lazy().select("pair_id", "pair", "own_is_a"), on="pair_id", build_side="force_right")
        .with_columns(letter=letter, p_vote=p_vote.cast(pl.Float32))
        .with_columns(right=pl.col("vote") == pl.col("letter"), own_ids=pl.col("vote") == pl.col("voted"))
        .drop("pair_id", "own_is_a", "p_a")
        .collect(engine="streaming")
    )  # fmt: skip
    _complain(scan, samples)
    length = "characters" if samples["n_tokens"].null_count() else "n_tokens"
    samples = samples.with_columns(length=pl.col(length).cast(pl.Int32)).drop("characters", "n_tokens")
    return _with_shares(samples)


def _complain(scan: pl.LazyFrame, samples: pl.DataFrame) -> None:
    def row(where: pl.Expr) -> dict | None:
        found = samples.filter(where).select(pl.col("row").min()).item()
        if found is None:
            return None
        return scan.filter(pl.col("row") == found).select("pair_id", "vote", "row").collect().row(0, named=True)

    if bad := row(pl.col("swapped").is_null()):
        raise UserError(f"judgments: row {bad['row'] + 1}: column 'swapped' is null; correct the row or leave it out")
    if bad := row(pl.col("voted").is_null()):
        raise UserError(
            f"judgments: column 'vote' is {bad['vote']!r} for pair '{bad['pair_id']}'; every sample votes A or B"
        )


def _with_shares(samples: pl.DataFrame) -> pl.DataFrame:
    """An invalid verdict counts as not right."""
    right = pl.col("right").fill_null(False)
    here = samples.group_by(PLACE).agg(pl.len(), right=right.sum())
    share = (pl.col("right") / pl.col("len")).cast(pl.Float32)
    pair = here.group_by("pair").agg(
        right_share=(pl.col("right").sum() / pl.col("len").sum()).cast(pl.Float32),
        right_share_both=pl.when(pl.len() == 2).then(share.min()).otherwise(0),
    )
    here = here.select(*PLACE, right_share_here=share)
    return samples.join(here.join(pair, on="pair"), on=PLACE, how="left", maintain_order="left")
