"""Signs that labels are noise: pairs labelled both ways, preferences that go round in circles, hardly any difference.

Each sign is a share of the pairs that can show it, so that sets of different make can be compared.
"""

from __future__ import annotations

import polars as pl

from data_tools.measures import by_prompt

LITTLE = 0.1  # a margin below it says that the label is close to a coin
WEDGES = 5_000_000  # a > b > c looked at for circles, at most; prompts beyond are left out of that sign
_EDGE = ["prompt_key", "chosen_key", "rejected_key"]

# name -> what a row of the result says
SIGNS = {
    "both_ways": "labelled both ways, of pairs labelled more than once",
    "in_circle": "in a circle a > b > c > a, of pairs in a triangle of responses",
    "equal": "responses equal apart from outer whitespace",
    "equal_length": "responses of equal length",
    "prefix": "one response is the beginning of the other",
    "little_margin": f"margin below {LITTLE}, of pairs with a margin",
}


def label_noise(measured: pl.DataFrame, by: str | None = None) -> pl.DataFrame:
    """The signs in MEASURES (measures.py), over all or for each value of ``by``.

    Returns:
        ``value`` (of ``by``; null where the table's is, and without ``by``), ``sign`` (a name of ``SIGNS``), ``rows``
        that show it, ``of`` rows that could, ``share`` (null where ``of`` is 0).

    A pair is the same pair for the same prompt and the same two responses, in either order. Coins for labels would put
    half of repeated pairs at odds and a quarter of triangles in a circle. Circles are looked for in the prompts with
    the fewest chances of one, until ``WEDGES`` were looked at.
    """
    chances = pl.concat(_chances(piece.select(_EDGE)) for piece in by_prompt(measured))
    looked_at = chances.sort("_n", "prompt_key").filter(pl.col("_n").cum_sum() <= WEDGES)
    counts = [_counted(piece, looked_at, by) for piece in by_prompt(measured)]
    summed = pl.concat(counts).group_by("value", "sign").agg(pl.col("rows", "of").sum())
    found = summed.with_columns(share=pl.when(pl.col("of") > 0).then(pl.col("rows") / pl.col("of")))
    return found.sort("value", pl.col("sign").cast(pl.Enum(list(SIGNS))), nulls_last=True)


def _counted(measured: pl.DataFrame, looked_at: pl.DataFrame, by: str | None) -> pl.DataFrame:
    """``value``, ``sign``, ``rows``, ``of`` for all pairs of some prompts."""
    couple = [
        "prompt_key",
        pl.min_horizontal("chosen_key", "rejected_key"),
        pl.max_horizontal("chosen_key", "rejected_key"),
    ]
    differ = pl.col("chosen_key") != pl.col("rejected_key")
    flagged = (
        measured.select(
            *_EDGE, "margin", "prefix", "chosen_chars", "rejected_chars", value=by if by else pl.lit(None, pl.String)
        )
        .with_columns(
            _times=pl.len().over(couple),
            _ways=pl.col("chosen_key").n_unique().over(couple),
        )
        .join(_triangles(measured.select(_EDGE), looked_at), on=_EDGE, how="left")
    )
    equal_length = pl.col("chosen_chars") == pl.col("rejected_chars")
    every = pl.col("_times") > 0
    signs = {
        "both_ways": (pl.col("_ways") > 1, differ & (pl.col("_times") > 1)),
        "in_circle": (pl.col("circle"), pl.col("circle").is_not_null()),
        "equal": (~differ, every),
        "equal_length": (equal_length, every),
        "prefix": (differ & pl.col("prefix"), every),
        "little_margin": (pl.col("margin") < LITTLE, pl.col("margin").is_not_null()),
    }
    return pl.concat(
        flagged.group_by(pl.col("value").cast(pl.String))
        .agg(rows=(shows & could).sum().cast(pl.Int64), of=pl.when(could).then(1).sum().cast(pl.Int64))
        .select("value", pl.lit(name).alias("sign"), "rows", "of")
        for name, (shows, could) in signs.items()
    )


def _chances(edges: pl.DataFrame) -> pl.DataFrame:
    """``prompt_key`` and ``_n``, the number of a > b > c, of prompts that have any."""
    edges = edges.filter(pl.col("chosen_key") != pl.col("rejected_key")).unique()
    wins = edges.group_by("prompt_key", node="chosen_key").agg(wins=pl.len())
    losses = edges.group_by("prompt_key", node="rejected_key").agg(losses=pl.len())
    both = wins.join(losses, on=["prompt_key", "node"])
    return both.group_by("prompt_key").agg(_n=(pl.col("wins").cast(pl.UInt64) * pl.col("losses")).sum())


def _triangles(edges: pl.DataFrame, looked_at: pl.DataFrame) -> pl.DataFrame:
    """The distinct preferences that are sides of triangles, and ``circle``: whether one of these is a circle."""
    edges = edges.join(looked_at, on="prompt_key", how="semi")
    edges = edges.filter(pl.col("chosen_key") != pl.col("rejected_key")).unique()
    first = edges.rename({"chosen_key": "a", "rejected_key": "b"})
    wedges = first.join(edges.rename({"chosen_key": "b", "rejected_key": "c"}), on=["prompt_key", "b"])
    wedges = wedges.filter(pl.col("a") != pl.col("c"))
    # The third side: a over c closes in order, c over a in a circle.
    ordered = wedges.join(
        edges, left_on=["prompt_key", "a", "c"], right_on=["prompt_key", "chosen_key", "rejected_key"], how="semi"
    )
    circles = wedges.join(
        edges, left_on=["prompt_key", "c", "a"], right_on=["prompt_key", "chosen_key", "rejected_key"], how="semi"
    )
    sides = [
        closed.select("prompt_key", chosen_key=one, rejected_key=other, circle=pl.lit(circle))
        for closed, circle, named in (
            (ordered, False, (("a", "b"), ("b", "c"), ("a", "c"))),
            (circles, True, (("a", "b"), ("b", "c"), ("c", "a"))),
        )
        for one, other in named
    ]
    return pl.concat(sides).group_by("prompt_key", "chosen_key", "rejected_key").agg(pl.col("circle").any())
