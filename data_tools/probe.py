"""What naive rules would score on a preference table, by source and category: giveaways seen before a GPU is spent.

A judge is to be compared with the best of them, not with a half.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from data_tools import word_probes
from data_tools.errors import UserError
from data_tools.intervals import clustered_shares
from data_tools.naive_rules import PROMPT, RULES
from data_tools.order import hash64
from data_tools.split import normalised_prompt

ALL = "all"
COLUMNS = ("source", "category", "subset")
FOLDS = 5
SAMPLE = 10_000  # pairs on either side, for what is learnt
CONTROL = "masked"  # the one rule that must come out at chance
LEARNT = {
    "words": ("a bag of words", "a bag of words, turned"),
    CONTROL: ("the judge prompt, responses masked", "the judge prompt, responses masked, turned"),
}
ADVICE = "compare a judge with these, not with 50 %"
STANDS_OUT = 0.05  # from a half to the nearer end of the interval
FEWEST = 30  # prompts of a group that may stand out: the best of so many rules is high by luck on a handful
EXACT = 1 << 20  # rows up to which every prompt is a cluster; beyond, prompts share ``CLUSTERS`` of them
CLUSTERS = 1 << 16
_CLUSTER = "_cluster"


@dataclass(frozen=True)
class Probed:
    """What :func:`probe` found.

    Attributes:
        scores: a row a group of pairs and rule: ``by`` ("all" or a column's name), ``value`` (of that column),
            ``rule`` (a name of RULES or LEARNT), ``rows``, ``clusters`` (prompts; where ``merged``, several in one: see
            ``EXACT``), ``score`` (share of the pairs whose chosen response the rule prefers; ties half), ``low`` and
            ``high`` (95 %), ``decided`` (share of the pairs that are no tie).
        trained: pairs that the learnt rules saw in training (of one fold, on average).
        scored: pairs that they were scored on.
        folds: 0 where they were scored on rows held out already, else the number of folds by prompt.
    """

    scores: pl.DataFrame
    trained: int
    scored: int
    folds: int

    def how(self) -> str:
        """How the learnt rules were trained and scored, in words."""
        sides = f"cross-validated over {self.folds} folds by prompt" if self.folds else "scored on rows held out"
        return f"trained on {self.trained:,} pairs, {sides} ({self.scored:,}); no prompt on both sides; pairs by hash"


def probe(
    frame: pl.DataFrame | pl.LazyFrame,
    *,
    against: pl.DataFrame | pl.LazyFrame | None = None,
    by: Sequence[str] = ("source", "category"),
    sample: int = SAMPLE,
    folds: int | None = None,
    template: str = "mt_bench",
) -> Probed:
    """Score the naive rules on a PREFERENCE table.

    Rules that compare two numbers are streamed over all rows. What is learnt, and rules that take texts apart, see a
    sample by the hash of the pair's id. Learnt rules are trained on train rows and scored on test and validation rows
    where the table has both, else over folds by the prompt's hash; no prompt is on both sides. Intervals are Wilson's
    at the effective number of prompts (intervals.py).

    Args:
        against: another table to score on; the learnt rules are then trained on all of ``frame`` but its prompts.
        by: columns to group by besides the whole, of ``source``, ``category`` and ``subset``.
        sample: at most so many pairs to train on, and to score on.
        folds: cross-validate over so many although rows are held out already; not with ``against``.
        template: judge prompt of the control.

    Raises:
        UserError: no rows, ``sample`` below 1, ``folds`` below 2, a column that there is none of.
    """
    if sample < 1 or (folds is not None and folds < 2):
        raise UserError(f"sample={sample} and folds={folds}: a sample needs at least 1 pair, a split at least 2 folds")
    if unknown := [name for name in by if name not in COLUMNS]:
        raise UserError(f"column '{unknown[0]}' is none to group by; there are: {', '.join(COLUMNS)}")
    table = frame.lazy() if against is None else against.lazy()
    scores = naive_scores(table, by)
    drawn, in_folds = _held_out(frame.lazy(), against, sample, folds)
    words = [name for name, rule in RULES.items() if rule.splits_words]
    held = drawn.filter(pl.col("_fold") >= 0)
    points = (
        held.lazy()
        .with_columns(normalised_prompt().alias(PROMPT))
        .select(RULES[name].points.alias(name) for name in words)
    )
    learnt = {"words": _words(drawn), CONTROL: _masked(drawn, template)}
    sampled = pl.concat(
        [
            held.select(*COLUMNS, pl.col("_key").alias(_CLUSTER)),
            points.collect(),
            pl.DataFrame({name: series.filter(drawn["_fold"] >= 0) for name, series in learnt.items()}),
        ],
        how="horizontal",
    )
    scores = pl.concat([scores, _scored(_sums(sampled.lazy(), [*words, *learnt], by).collect(), [*words, *learnt], by)])
    places = {name: place for place, name in enumerate((ALL, *COLUMNS))}
    rules = {name: place for place, name in enumerate((*RULES, *LEARNT))}
    scores = scores.sort(
        pl.col("by").replace_strict(places), "value", pl.col("rule").replace_strict(rules), nulls_last=True
    )
    trained = round(drawn.height * (1 - 1 / in_folds)) if in_folds else int((drawn["_fold"] < 0).sum())
    return Probed(scores, trained, held.height, in_folds)


def says(rule: str) -> tuple[str, str]:
    """A rule and its opposite in words."""
    return (RULES[rule].says, RULES[rule].opposite) if rule in RULES else LEARNT[rule]


def best(scores: pl.DataFrame) -> pl.DataFrame:
    """For each group of :class:`Probed`'s scores its rule that is surest to be right, turned where its opposite is.

    Surest is the one whose interval begins highest. ``score``, ``low`` and ``high`` are the turned ones; ``turned``
    says which. The control is none of the rules.
    """
    score, low, high = pl.col("score"), pl.col("low"), pl.col("high")
    turned = scores.filter(pl.col("rule") != CONTROL).with_columns(turned=score < 0.5)
    turned = turned.with_columns(
        score=pl.when("turned").then(1 - score).otherwise(score),
        low=pl.when("turned").then(1 - high).otherwise(low),
        high=pl.when("turned").then(1 - low).otherwise(high),
    )
    ordered = turned.with_row_index("_place").sort("low", descending=True, maintain_order=True)
    return ordered.unique(["by", "value"], keep="first", maintain_order=True).sort("_place").drop("_place")


def findings(scores: pl.DataFrame) -> list[str]:
    """What stands out, in words, the surest first: a line a group whose best rule is well above a half.

    Such as ``source webgpt (775 pairs, 767 prompts): 'longer' wins 66 % [63, 70]``; what to do with it says ``ADVICE``.
    Well above: the whole interval is at least ``STANDS_OUT`` from a half, so that among hundreds of rules and groups
    few stand out by chance. A control that is not at chance is said first.
    """
    control = scores.filter(pl.col("rule") == CONTROL, pl.col("low") > 0.5)
    told = control.filter((pl.col("by") == ALL) | (pl.col("low") > 0.5 + STANDS_OUT), pl.col("clusters") >= FEWEST)
    lines = [
        f"{_group(row)}: order, ids or prompts tell the letter, {_percent(row)} with the responses masked"
        for row in told.iter_rows(named=True)
    ]
    strong = best(scores).filter(pl.col("low") > 0.5 + STANDS_OUT, pl.col("clusters") >= FEWEST)
    for row in strong.sort("low", descending=True, maintain_order=True).iter_rows(named=True):
        name = says(row["rule"])[row["turned"]]
        name = name if row["rule"] in LEARNT else f"'{name}'"
        lines.append(f"{_group(row)}: {name} wins {_percent(row)}")
    return lines


def _percent(row: dict) -> str:
    return f"{100 * row['score']:.0f} % [{100 * row['low']:.0f}, {100 * row['high']:.0f}]"


def _group(row: dict) -> str:
    called = (
        "all pairs" if row["by"] == ALL else f"{row['by']} {row['value'] if row['value'] is not None else '(none)'}"
    )
    return f"{called} ({row['rows']:,} pairs, {prompts(row)} prompts)"


def prompts(row: dict) -> str:
    """Of a row of scores; ``many`` where they are too many to have been counted one by one."""
    return "many" if row["merged"] else f"{row['clusters']:,}"


def naive_scores(table: pl.LazyFrame, by: Sequence[str] = ()) -> pl.DataFrame:
    """Scores as in :class:`Probed` of the rules that do not split words, over all rows, streamed.

    Raises:
        UserError: no rows.
    """
    names = [name for name, rule in RULES.items() if not rule.splits_words]
    rows = table.select(pl.len()).collect(engine="streaming").item()
    if not rows:
        raise UserError("the table has no rows")
    cluster = pl.col(PROMPT).hash()
    outcomes = table.with_columns(normalised_prompt().alias(PROMPT)).select(
        *COLUMNS,
        (cluster if rows <= EXACT else cluster % CLUSTERS).alias(_CLUSTER),
        *(RULES[name].points.alias(name) for name in names),
    )
    return _scored(_sums(outcomes, names, by).collect(engine="streaming"), names, by, merged=rows > EXACT)


def _sums(outcomes: pl.LazyFrame, names: Sequence[str], by: Sequence[str]) -> pl.LazyFrame:
    """Sums of outcomes and of decided pairs over each cluster's part in each combination of groups."""
    return outcomes.group_by(*by, _CLUSTER).agg(
        pl.len().alias("rows"),
        *((pl.col(name).sum().cast(pl.Float64) / 2).alias(name) for name in names),
        *((pl.col(name) != 1).sum().alias(f"{name}|decided") for name in names),
    )


def _scored(sums: pl.DataFrame, names: Sequence[str], by: Sequence[str], merged: bool = False) -> pl.DataFrame:
    """``merged``: whether clusters hold several prompts, which is decided for the whole table and so for each group."""
    parts = []
    for column in (None, *by):
        key = [] if column is None else [column]
        shares = clustered_shares(sums, names, key, _CLUSTER)
        decided = (
            sums.group_by(key or pl.lit(0).alias("_"))
            .agg((pl.col(f"{name}|decided").sum() / pl.sum("rows")).alias(name) for name in names)
            .unpivot(names, index=key, variable_name="name", value_name="decided")
        )
        joined = shares.join(decided, on=[*key, "name"], how="left", nulls_equal=True, maintain_order="left")
        parts.append(
            joined.select(
                by=pl.lit(column or ALL),
                value=pl.col(column).cast(pl.String) if column else pl.lit(None, pl.String),
                rule="name",
                merged=pl.lit(merged),
                **{name: pl.col(name) for name in ("rows", "clusters", "score", "low", "high", "decided")},
            )
        )
    return pl.concat(parts)


def _held_out(
    table: pl.LazyFrame, against: pl.DataFrame | pl.LazyFrame | None, sample: int, folds: int | None
) -> tuple[pl.DataFrame, int]:
    """A sample with ``_fold``, in which a row is held out (-1: it is trained on alone), and ``_key``, its prompt's.

    And the number of folds by prompt, 0 where there are rows held out already.
    """
    if against is not None:
        held, trained = _drawn(against.lazy(), sample), _drawn(table, sample)
    else:
        labelled = pl.col("split").is_in(["validation", "test"]).fill_null(False)
        held, trained = ((_drawn(table.filter(side), sample)) for side in (labelled, ~labelled))
        if folds or held.is_empty() or trained.is_empty():
            drawn = _drawn(table, sample)
            folds = folds or FOLDS
            numbers = [hash64("fold", key) % folds for key in drawn[PROMPT]]
            return drawn.drop(PROMPT).with_columns(_fold=pl.Series(numbers, dtype=pl.Int32)), folds
    trained = trained.join(held, on="_key", how="anti")
    sides = [side.drop(PROMPT).with_columns(_fold=pl.lit(fold, pl.Int32)) for side, fold in ((trained, -1), (held, 0))]
    return pl.concat(sides), 0


def _drawn(table: pl.LazyFrame, rows: int) -> pl.DataFrame:
    """The pairs with the smallest hashes of their ids, as split.sample draws them; the others' texts are not kept."""

    def hashes(ids: pl.Series) -> pl.Series:
        return pl.Series([hash64("sample", pair) for pair in ids], dtype=pl.UInt64)

    numbered = table.with_row_index("_row")
    hashed = pl.col("pair_id").map_batches(hashes, return_dtype=pl.UInt64, is_elementwise=True)
    chosen = numbered.select("_row", _hash=hashed).collect(engine="streaming").bottom_k(rows, by="_hash")
    columns = ("pair_id", *COLUMNS, "label_kind", "prompt", "chosen", "rejected")
    # Not a join, which might keep the table to have it in order.
    texts = numbered.filter(pl.col("_row").is_in(chosen["_row"].implode())).select(columns)
    keyed = texts.with_columns(normalised_prompt().alias(PROMPT)).with_columns(_key=pl.col(PROMPT).hash())
    return keyed.collect(engine="streaming")


def _words(drawn: pl.DataFrame) -> pl.Series:
    """Points of the bag of words: of the chosen response over the rejected one."""
    entries = word_probes.response_words(drawn)
    said = word_probes.held_out(entries, pl.repeat(1.0, drawn.height, eager=True), drawn["_fold"])
    return _points(said)


def _masked(drawn: pl.DataFrame, template: str) -> pl.Series:
    """Points of the control: whether it tells the letter that the pair's own order gives the chosen response."""
    shown_as_a = drawn.select((RULES["first"].points - 1).cast(pl.Float64).alias("sign"))["sign"]
    said = word_probes.held_out(word_probes.template_words(drawn, template), shown_as_a, drawn["_fold"])
    return _points(said * shown_as_a)


def _points(margins: pl.Series) -> pl.Series:
    return (margins.sign() + 1).cast(pl.Int8)
