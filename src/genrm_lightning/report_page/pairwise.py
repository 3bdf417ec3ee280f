"""One set pair by pair: what each judge gave to the right response, and whether two judges differ beyond chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import polars as pl

from data_tools.artifact import damage_told, read_table, scan_tables
from data_tools.errors import UserError
from data_tools.schema import JUDGMENT, PREFERENCE, check_unique_ids
from genrm_lightning.evaluation.intervals import clustered_interval, paired_difference
from genrm_lightning.evaluation.scores import clusters, pair_scores, presentations
from genrm_lightning.report_page.model import OnSet, PairSet

SLICES = ("category", "subset", "source", "label_kind")
LEAST_GAP = 0.1  # between two judges that differ on a pair
LENGTHS = "length"  # a slice by chosen minus rejected characters
_EDGES = (-1000, -200, 0, 200, 1000)


class Compared(NamedTuple):
    """Accuracy of the second method minus that of the first, on their ``n`` pairs in common; fractions."""

    diff: float
    low: float | None  # None: not known
    high: float | None
    n: int

    @property
    def beyond_chance(self) -> bool:
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)

    @property
    def reversed(self) -> Compared:
        """The first minus the second."""
        low, high = (None if end is None else -end for end in (self.high, self.low))
        return Compared(-self.diff, low, high, self.n)


class Scored:
    """A set's pairs with their slices, and each method's scores of them.

    Of the judgments one table at a time is read, without its texts; what stays is some bytes a pair and method.

    Attributes:
        pairs: pair_id, cluster (a number), the SLICES (null where unknown) and length (a bin's name), sorted by id.
        scores: label -> pair_id, accuracy (0, 0.5 or 1 over the two orders), p_right (the mean probability of the right
            response over both orders and all samples); means over seeds; sorted by id.
    """

    def __init__(self, one: PairSet, judged: Mapping[str, OnSet]) -> None:
        self.set = one
        table = check_unique_ids(read_table(one.pairs, PREFERENCE), one.pairs)
        difference = pl.col("chosen").str.len_chars().cast(pl.Int64) - pl.col("rejected").str.len_chars()
        self.pairs = (
            table.select("pair_id", *SLICES, difference.alias(LENGTHS))
            .with_columns(_bin(pl.col(LENGTHS)).alias(LENGTHS))
            .join(clusters(table), on="pair_id")
            .with_columns(pl.col("cluster").rank("dense"))
            .sort("pair_id")
        )
        self.scores = {label: _over_seeds([_scores(path) for path in on.judgments]) for label, on in judged.items()}

    def compare(
        self, first: str, second: str, comparisons: int = 1, only: pl.DataFrame | None = None
    ) -> Compared | None:
        """Two methods on the pairs that both have judged; None where there are none.

        Args:
            comparisons: how many of a kind are looked at together; all their intervals hold at once with 95 %
                (Bonferroni).
            only: pair_id of the pairs that count; None: all.
        """
        known = self.pairs.select("pair_id", "cluster")
        known = known if only is None else known.join(only.select("pair_id"), on="pair_id", how="semi")
        both = known.join(self.scores[first], on="pair_id").join(self.scores[second], on="pair_id", suffix="_2")
        if both.is_empty():
            return None
        confidence = 1 - 0.05 / max(comparisons, 1)
        found = paired_difference(
            both["accuracy"].to_numpy(), both["accuracy_2"].to_numpy(), both["cluster"].to_list(), confidence
        )
        return Compared(*found, both.height)

    @cached_property
    def common(self) -> pl.DataFrame:
        """pair_id of the pairs that every method has judged; pairs that do not fit one of them are not among them."""
        found = self.pairs.select("pair_id")
        for own in self.scores.values():
            found = found.join(own, on="pair_id", how="semi")
        return found

    def accuracy(self, label: str) -> tuple[float, float | None, float | None]:
        """A method's accuracy on the pairs in ``common``, of which there must be some, with its 95 % interval."""
        own = self.pairs.select("pair_id", "cluster").join(self.common, on="pair_id", how="semi")
        own = own.join(self.scores[label], on="pair_id")
        return clustered_interval(own["accuracy"].to_numpy(), own["cluster"].to_list())

    def disagreements(self, first: str, second: str, n: int) -> pl.DataFrame:
        """The pairs whose p_right differs most between two methods; of each side half, where there are enough.

        Pairs that differ by less than ``LEAST_GAP`` are none.

        Returns:
            pair_id, first, second (p_right of each), the largest difference first, ties by id.
        """
        both = self.scores[first].join(self.scores[second], on="pair_id", suffix="_2")
        both = both.select("pair_id", first="p_right", second="p_right_2", gap=pl.col("p_right_2") - pl.col("p_right"))
        both = both.filter(pl.col("gap").abs() >= LEAST_GAP)
        sides = [both.filter(pl.col("gap") < 0), both.filter(pl.col("gap") > 0)]
        sides = [side.sort(pl.col("gap").abs(), "pair_id", descending=[True, False]) for side in sides]
        few = min(len(side) for side in sides)
        kept = [side.head(max((n + 1) // 2 if i == 0 else n // 2, n - few)) for i, side in enumerate(sides)]
        found = pl.concat(kept).sort(pl.col("gap").abs(), "pair_id", descending=[True, False])
        return found.head(n).drop("gap")


def _scores(path: Path) -> pl.DataFrame:
    """A row a pair, sorted by id.

    Raises:
        UserError: no readable JUDGMENT table with both orders of each pair.
    """
    # Averaged before the rest is done: presentations() looks at every row by itself.
    query = (
        scan_tables([path], JUDGMENT)
        .group_by("pair_id", "swapped")
        .agg(pl.col("p_a").cast(pl.Float64).mean(), lacking=pl.col("p_a").null_count())
        .with_columns(
            p_a=pl.when(pl.col("lacking") == 0).then("p_a"),
            sample_index=pl.lit(0, pl.Int32),
            n_tokens=pl.lit(0, pl.Int32),
            verdict=pl.lit("INVALID"),
        )
    )
    with damage_told([path]):
        table = query.collect(engine="streaming")
    try:
        shown = presentations(table)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None
    means = shown.group_by("pair_id").agg(pl.col("p_right").mean())
    return pair_scores(shown).select("pair_id", "accuracy").join(means, on="pair_id").sort("pair_id")


def _over_seeds(tables: Sequence[pl.DataFrame]) -> pl.DataFrame:
    if len(tables) == 1:
        return tables[0]
    means = pl.concat(tables).group_by("pair_id").agg(pl.col("accuracy", "p_right").mean(), _n=pl.len())
    return means.filter(pl.col("_n") == len(tables)).drop("_n").sort("pair_id")


def _bin(difference: pl.Expr) -> pl.Expr:
    found = pl.when(difference <= _EDGES[0]).then(pl.lit(_minus(f"up to {_EDGES[0]:,}")))
    for low, high in pairwise(_EDGES):
        found = found.when(difference <= high).then(pl.lit(_minus(f"{low + 1:,} to {high:,}")))
    return found.otherwise(pl.lit(f"above {_EDGES[-1]:,}"))


def _minus(shown: str) -> str:
    return shown.replace("-", "−")


def names(pairs: pl.DataFrame, column: str) -> list[str]:
    """The values of a slice, the commonest first."""
    counts = pairs[column].drop_nulls().value_counts()
    return counts.sort("count", column, descending=[True, False])[column].to_list()
