"""What the samples of a JUDGMENT table say together, as numbers and as tables for a terminal: the command ``votes``."""

from __future__ import annotations

from typing import Any

import polars as pl
from rich.console import Console
from rich.table import Table
from rich.text import Text

from genrm_lightning.evaluation.abstention import aurc, selective
from genrm_lightning.evaluation.scores import clusters
from genrm_lightning.evaluation.stopping import StoppingSettings, counts, fit, simulate
from genrm_lightning.evaluation.voting import READINGS, SCOPES, curve, interval, samples, verdicts

ALPHAS = (0.01, 0.05, 0.1)
# How sure a verdict is: the reading of the verdict, the column of verdicts() that says so, and its name.
_UNCERTAINTIES = (("soft", "entropy", "soft votes"), ("hard", "vote_entropy", "hard votes"))


def report(
    judgments: pl.DataFrame, preferences: pl.DataFrame, prior: tuple[float, float] | None = None, weight: float = 1.0
) -> dict[str, Any]:
    """All that the votes of one judge on one set tell, as plain values for JSON.

    Args:
        preferences: the PREFERENCE rows of the set, which say what pairs belong together; others are passed over.
        prior, weight: of the simulated stopping, as in :class:`StoppingSettings`; the weight for soft votes.

    Returns:
        n_pairs; k_min, k_mean, k_max: samples of an order; tokens: of rationales a pair; as_drawn: accuracy of the
        verdict of all samples by reading; curve (:func:`~genrm_lightning.evaluation.voting.curve`) and stopping
        (:func:`~genrm_lightning.evaluation.stopping.simulate`), empty where pairs have different numbers of samples
        or one each; fitted (or None there): the prior and weight that these samples have; abstention: for each kind
        of votes, with K samples and with one, its aurc and selective accuracies.

    Raises:
        ValueError: a judged pair is not among the preferences, or as in
            :func:`~genrm_lightning.evaluation.scores.set_scores`.
    """
    pairs = verdicts(judgments)
    known = pairs.join(clusters(preferences), on="pair_id", how="left", maintain_order="left")
    if lacking := known["cluster"].null_count():
        example = known.filter(pl.col("cluster").is_null())["pair_id"][0]
        raise ValueError(f"{lacking} judged pairs are not among the given pairs, such as '{example}'")
    # Numbers in the order of the names, which hold whole prompts: numpy would pad each to the longest.
    groups = known["cluster"].rank("dense").to_list()
    k_min, k_max = int(pairs["n_samples"].min()), int(pairs["n_samples"].max())
    result: dict[str, Any] = {
        "n_pairs": pairs.height,
        "k_min": k_min,
        "k_mean": float(pairs["n_samples"].mean()),
        "k_max": k_max,
        "tokens": float(pairs["n_tokens"].mean()),
        "as_drawn": {r: _accuracy(pairs[r], groups) for r in READINGS},
        "curve": [],
        "stopping": [],
        "fitted": None,
        "abstention": [_abstention(pairs, groups, *kind, k_max) for kind in _UNCERTAINTIES],
    }
    if k_max > 1:
        one = verdicts(judgments.filter(pl.col("sample_index") == 0))
        result["abstention"] += [_abstention(one, groups, *_UNCERTAINTIES[0], 1)]
    if k_min == k_max > 1:
        given = samples(judgments)
        result["curve"] = curve(given, groups)
        result["fitted"] = dict(zip(("prior", "weight"), fit(counts(given, "soft")), strict=True))
        chosen = {} if prior is None else {"prior": prior}
        result["stopping"] = [
            simulate(given, StoppingSettings(alpha, votes=votes, scope=scope, weight=own, **chosen), groups)
            for scope in reversed(SCOPES)
            for votes, own in (("soft", weight), ("hard", 1.0))
            for alpha in ALPHAS
        ]
    return result


def show(found: dict[str, Any], title: str, console: Console) -> None:
    """Print the report's tables."""
    drawn = f"{found['k_min']}" if found["k_min"] == found["k_max"] else f"{found['k_min']} to {found['k_max']}"
    size = f"{found['n_pairs']} pairs, {drawn} samples an order, {found['tokens']:.0f} tokens a pair"
    console.print(Text(f"{title}: {size}"))
    if found["curve"]:
        _show_curve(found["curve"], console)
    else:
        table = _table("accuracy of all samples", *READINGS)
        table.add_row(*(_share(found["as_drawn"][r]) for r in READINGS))
        console.print(table)
    if found["stopping"]:
        _show_stopping(found, console)
    _show_abstention(found["abstention"], console)


def _show_curve(rows: list[dict[str, Any]], console: Console) -> None:
    apart = [f"{reading}, orders apart" for reading in READINGS]
    table = _table("accuracy by K samples an order", "K", "tokens a pair", *READINGS, *apart)
    cells = {(row["reading"], row["scope"], row["k"]): row for row in rows}
    for k in sorted({row["k"] for row in rows}):
        together = [_share(cells[r, "pair", k]) for r in READINGS]
        alone = [f"{cells[r, 'order', k]['accuracy']:.1%}" for r in READINGS]
        table.add_row(str(k), f"{cells['soft', 'pair', k]['tokens']:.0f}", *together, *alone)
    console.print(table)


def _show_stopping(found: dict[str, Any], console: Console) -> None:
    names = ("verdict", "alpha", "tokens", "rounds", "accuracy", f"with all {found['k_max']}", "difference", "changed")
    table = _table("sequential stopping, simulated on these samples", *names)
    for row in found["stopping"]:
        table.add_row(
            f"{row['votes']}, {'orders apart' if row['scope'] == 'order' else 'both orders'}",
            f"{row['alpha']:g}",
            f"{row['tokens']:.1%}",
            f"{row['rounds']:.1f}",
            f"{row['accuracy']:.1%}",
            f"{row['full_accuracy']:.1%} ({row['full_low']:.1%} to {row['full_high']:.1%})",
            f"{100 * row['diff']:+.1f} ({100 * row['diff_low']:+.1f} to {100 * row['diff_high']:+.1f})",
            f"{row['changed']:.1%}",
        )
    console.print(table)
    (a, b), weight = found["fitted"]["prior"], found["fitted"]["weight"]
    console.print(Text(f"of p(A) in these samples: stopping.prior [{a:.3g},{b:.3g}], stopping.weight {weight:.3g}"))


def _show_abstention(rows: list[dict[str, Any]], console: Console) -> None:
    names = ("of the pairs", *(f"{row['votes']}, K = {row['k']}" for row in rows))
    table = _table("accuracy of the surest pairs, by CoT-entropy", *names)
    for i, first in enumerate(rows[0]["selective"]):
        cells = []
        for row in rows:
            own = row["selective"][i]
            note = "" if own["covered"] < own["coverage"] + 0.01 else f", {own['covered']:.0%} kept"
            cells.append(f"{_share(own)}{note}")
        table.add_row(f"{first['coverage']:.0%}", *cells)
    table.add_section()
    table.add_row("AURC", *(f"{r['aurc']:.3f} ({r['low']:.3f} to {r['high']:.3f})" for r in rows))
    table.add_row("of the best order", *(f"{r['best']:.3f}" for r in rows))
    table.add_row("of no order", *(f"{r['risk']:.3f}" for r in rows))
    console.print(table)


def _abstention(pairs: pl.DataFrame, groups: list[int], reading: str, column: str, name: str, k: int) -> dict[str, Any]:
    scores, uncertainty = pairs[reading].to_numpy(), pairs[column].to_numpy()
    curve = {"votes": name, "k": k, **aurc(1 - scores, uncertainty, groups)}
    return {**curve, "selective": selective(scores, uncertainty, groups)}


def _accuracy(scores: pl.Series, groups: list[int]) -> dict[str, float]:
    return dict(zip(("accuracy", "low", "high"), interval(scores.to_numpy(), groups), strict=True))


def _share(row: dict[str, Any]) -> str:
    return f"{row['accuracy']:.1%} ({row['low']:.1%} to {row['high']:.1%})"


def _table(title: str, *columns: str) -> Table:
    table = Table(title=Text(title), title_justify="left")
    for column in columns:
        table.add_column(column)
    return table
