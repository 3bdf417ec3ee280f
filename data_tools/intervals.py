"""Shares with 95 % intervals over clusters, from sums alone: what a table of any size can be reduced to.

The pairs of one prompt are not independent, so prompts are counted, not pairs: Wilson's interval at the effective
number of trials. The formulas are those of genrm_lightning.evaluation.intervals (a test compares the two), for columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

import polars as pl

_Z = NormalDist().inv_cdf(0.975)


def clustered_shares(sums: pl.DataFrame, names: Sequence[str], by: Sequence[str], cluster: str) -> pl.DataFrame:
    """The mean of each named value with its interval, for each combination of the values of ``by``.

    With n_g rows in cluster g, S_g the sum of its outcomes, n = sum n_g and m = sum n_g² / n the size of the cluster in
    which a row lies on average, two clusters of m rows are added, one all right and one all wrong, which gives
    ``p' = (S + m) / (n + 2m)`` and

    ``n_eff = n (n + 2m) p' (1-p') / (sum_g (S_g - n_g p')² + m² ((1-p')² + p'²))``, clipped to [n/m, n];

    the interval is Wilson's at the observed share and n_eff.

    Args:
        sums: partial sums over rows of one cluster (several of one are added up): ``rows``, and for each of ``names``
            the sum of outcomes in [0, 1].
        by: columns of ``sums``; none for all rows together.

    Returns:
        ``by``, ``name``, ``rows``, ``clusters``, ``score``, ``low``, ``high``: a row a combination and name,
        combinations in the order of their values, names in theirs.
    """
    by, names = list(by), list(names)
    whole = sums.group_by([*by, cluster]).agg(
        pl.sum("rows").cast(pl.Float64), *(pl.sum(x).cast(pl.Float64) for x in names)
    )
    n = pl.col("rows")
    parts = [
        pl.struct(
            pl.lit(name).alias("name"), S=pl.col(name).sum(), SS=(pl.col(name) ** 2).sum(), NS=(n * pl.col(name)).sum()
        ).alias(name)
        for name in names
    ]
    common = [n.sum().alias("n"), (n**2).sum().alias("NN"), pl.len().alias("clusters")]
    grouped = whole.group_by(by).agg(*common, *parts).sort(by, nulls_last=True) if by else whole.select(*common, *parts)
    long = (
        grouped.with_columns(_each=pl.concat_list(names))
        .drop(names)
        .explode("_each")
        .unnest("_each")
    )  # fmt: skip
    m, total, right = pl.col("NN") / pl.col("n"), pl.col("n"), pl.col("S")
    centre = (right + m) / (total + 2 * m)
    spread = pl.col("SS") - 2 * centre * pl.col("NS") + centre**2 * pl.col("NN")
    spread += m**2 * ((1 - centre) ** 2 + centre**2)
    trials = (total * (total + 2 * m) * centre * (1 - centre) / spread).clip(total / m, total)
    score = right / total
    scored = long.with_columns(score=score, _trials=trials)
    p, trials, z2 = pl.col("score"), pl.col("_trials"), _Z * _Z
    middle = p + z2 / (2 * trials)
    half = _Z * (p * (1 - p) / trials + z2 / (4 * trials**2)).clip(0.0).sqrt()
    return scored.select(
        *by,
        "name",
        pl.col("n").cast(pl.Int64).alias("rows"),
        "clusters",
        "score",
        low=((middle - half) / (1 + z2 / trials)).clip(0.0, 1.0),
        high=((middle + half) / (1 + z2 / trials)).clip(0.0, 1.0),
    )
