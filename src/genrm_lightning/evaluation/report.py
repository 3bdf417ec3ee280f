"""The end of a STaR run: one row a judge, as JSON and as a table that shows nothing the JSON does not hold.

A row is a flat dict: ``label``, ``kind`` (zero_shot, warm_start or iteration), ``iteration``, ``kept``, ``sampled``,
``seconds``, and every number of :class:`SetScores` for both sets: ``accuracy_id``, ``accuracy_id_low``,
``accuracy_id_high``, ``accuracy_ood`` ... ``categories_ood``; ``given`` where rationales were given and not sampled.
Accuracies are fractions; the table prints percent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import isclose
from pathlib import Path
from typing import Any

import polars as pl
from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from data_tools import artifact
from genrm_lightning.evaluation.scores import SetScores, compare

SETS = {"id": "in distribution", "ood": "out of distribution"}
KINDS = ("zero_shot", "warm_start", "iteration")
# What a table needs: a row without one of them is a mistake of the caller, not an empty cell.
_NEEDED = (
    *("label", "kind", "iteration", "kept", "sampled", "seconds"),
    *(f"accuracy_{key}{end}" for key in SETS for end in ("", "_low", "_high")),
    *(f"n_pairs_{key}" for key in SETS),
    *("position_consistent_accuracy_id", "free_accuracy_id", "invalid_rate_id"),
)
_DIFFERENCE = ("set", "before", "after", "diff", "low", "high", "n_pairs")
_NONE = "–"


def row(
    kind: str,
    iteration: int,
    scores: Mapping[str, SetScores],
    *,
    kept: int | None = None,
    couples: int | None = None,
    sampled: int | None = None,
    given: int | None = None,
    seconds: float | None = None,
) -> dict[str, Any]:
    """One judge's row.

    Args:
        kind: zero_shot, warm_start or iteration.
        iteration: 0 for zero_shot and warm_start, else 1..N.
        scores: ``{"id": ..., "ood": ...}``.
        kept, sampled: examples that trained this judge, and the sampled rationales they were taken from; None: nothing
            was.
        given: rationales they were taken from that nobody sampled, such as a file's; None: there were none.
        couples: how many of the examples have a wrong side too, None where the objective knows none.
        seconds: wall time of everything this row took.

    Raises:
        ValueError: an unknown kind, an iteration that does not fit it, or other sets than id and ood.
    """
    if kind not in KINDS:
        raise ValueError(f"expected a kind of {', '.join(KINDS)}, got '{kind}'")
    if (iteration >= 1) != (kind == "iteration") or iteration < 0:
        raise ValueError(f"expected iteration 0 for zero_shot and warm_start, else 1 or more, got {kind} {iteration}")
    if set(scores) != set(SETS):
        raise ValueError(f"expected scores of {', '.join(SETS)}, got {', '.join(scores)}")
    label = {"zero_shot": "zero-shot", "warm_start": "warm start"}.get(kind, f"iteration {iteration}")
    result: dict[str, Any] = {"label": label, "kind": kind, "iteration": iteration}
    result |= {"kept": kept, "couples": couples, "sampled": sampled, "seconds": seconds}
    if given is not None:
        result["given"] = given
    for key in SETS:
        result |= with_set(scores[key].as_dict(), key)
    return result


def with_set(numbers: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Numbers of one set under their names in a row.

    >>> with_set({"accuracy": 0.5, "accuracy_low": 0.4}, "id")
    {'accuracy_id': 0.5, 'accuracy_id_low': 0.4}
    """
    ends = {name: next((end for end in ("_low", "_high") if name.endswith(end)), "") for name in numbers}
    return {f"{name.removesuffix(end)}_{key}{end}": numbers[name] for name, end in ends.items()}


def difference(
    key: str,
    before_label: str,
    after_label: str,
    before: pl.DataFrame,
    after: pl.DataFrame,
    preferences: pl.DataFrame | None = None,
) -> dict[str, Any]:
    """Accuracy of one row minus that of another on the set ``key``, with its paired 95 % interval; plain values.

    Args:
        key: id or ood.
        before_label, after_label: labels of the two rows.
        before, after: their JUDGMENT rows on that set.
        preferences: the set's PREFERENCE rows; without them pairs of one prompt count as independent.

    Raises:
        ValueError: as in :func:`genrm_lightning.evaluation.scores.compare`.
    """
    (diff, low, high), n_pairs = compare(before, after, preferences)
    return {
        "set": key,
        "before": before_label,
        "after": after_label,
        "diff": diff,
        "low": low,
        "high": high,
        "n_pairs": n_pairs,
    }


def summary(
    rows: Sequence[Mapping[str, Any]], differences: Sequence[Mapping[str, Any]] = (), **facts: Any
) -> dict[str, Any]:
    """What a run has to say: checked, plain, and all that :func:`render` prints.

    Args:
        rows: of :func:`row`, in the table's order.
        differences: of :func:`difference`.
        facts: anything else that is JSON, such as the variant, the judge or the seed.

    Raises:
        ValueError: a key is missing, a label occurs twice, a value is not JSON (NaN is not), or a difference names a
            row or set that is not there or is not that of the accuracies in the rows it names.
    """
    labels = [str(r.get("label")) for r in rows]
    if not rows or len(set(labels)) != len(labels):
        raise ValueError(f"expected at least one row and each label once, got {labels}")
    for label, one in zip(labels, rows, strict=True):
        missing = [name for name in _NEEDED if name not in one]
        if missing:
            raise ValueError(f"row '{label}' lacks {', '.join(missing)}")
    by_label = dict(zip(labels, rows, strict=True))
    for one in differences:
        if missing := [name for name in _DIFFERENCE if name not in one]:
            raise ValueError(f"a difference lacks {', '.join(missing)}: {dict(one)}")
        if one["set"] not in SETS:
            raise ValueError(f"expected a difference of {', '.join(SETS)}, got one of '{one['set']}'")
        if strange := [one[end] for end in ("before", "after") if one[end] not in by_label]:
            raise ValueError(f"expected a difference of two rows ({', '.join(labels)}), got '{strange[0]}'")
        name = f"accuracy_{one['set']}"
        expected = by_label[one["after"]][name] - by_label[one["before"]][name]
        # The intervals come from the judgments, the rows from elsewhere: tables that were mixed up show here.
        if not isclose(one["diff"], expected, abs_tol=1e-9):
            raise ValueError(
                f"difference of {name} from '{one['before']}' to '{one['after']}' is {one['diff']}, "
                f"the rows say {expected}"
            )
    result = {**facts, "rows": [dict(r) for r in rows], "differences": [dict(d) for d in differences]}
    # A round trip: what is printed is what a reader of the file gets, and NaN fails here and not in his parser.
    return json.loads(json.dumps(result, allow_nan=False))


def write_summary(path: str | Path, value: Mapping[str, Any]) -> None:
    """Write the result of :func:`summary` as JSON, atomically."""
    artifact.write_json(path, value)


def render(value: Mapping[str, Any], console: Console) -> None:
    """Print the table of a :func:`summary` and the differences below it.

    Made for 100 to 120 columns; on a narrower terminal the intervals stand below their numbers.
    """
    rows = value["rows"]
    table = _table(rows, wide=True)
    # Measured on a wide terminal: a measure never says more than the terminal has.
    if Measurement.get(console, console.options.update(width=1000), table).maximum > console.width:
        table = _table(rows, wide=False)
    console.print(table)
    for one in value["differences"]:
        text = (
            f"{one['after']} − {one['before']}, {one['set'].upper()}: {points(one['diff'])} points "
            f"(95 %: {points(one['low'])} to {points(one['high'])}, {one['n_pairs']} pairs)"
        )
        console.print(Text(text, style="bold"))
    sizes = "; ".join(f"{key.upper()}: {name}, {_size(rows[-1], key)}" for key, name in SETS.items())
    notes = (
        f"{sizes}. Percent, 95 % intervals. Accuracy reads p(A) after the rationale, every pair in both orders; "
        "free accuracy parses the judge's own text, invalid is wrong. Right in both orders, free accuracy and "
        "invalid are ID."
    )
    console.print(Text(notes, style="dim"))


def _size(one: Mapping[str, Any], key: str) -> str:
    dropped = one.get(f"n_dropped_{key}", 0)  # summaries of before had none
    return f"{one[f'n_pairs_{key}']} pairs" + (f" ({dropped} more did not fit the context)" if dropped else "")


def percent(share: float) -> str:
    """A fraction as percent with one decimal, without the sign.

    >>> percent(0.7125)
    '71.2'
    """
    return f"{100 * share:.1f}"


def points(share: float) -> str:
    """A difference of fractions in points with one decimal and its sign.

    >>> points(-0.0312), points(0.2)
    ('-3.1', '+20.0')
    """
    return f"{100 * share:+.1f}"


def _table(rows: Sequence[Mapping[str, Any]], wide: bool) -> Table:
    """The rows; not wide: intervals and sampled rationales below their numbers, for 80 columns."""
    # The box's own divider is a space; with it, columns are two apart, and one apart where space is short.
    padding = (0, 1, 0, 0) if wide else (0, 0)
    table = Table(box=box.SIMPLE_HEAD, title="Held-out accuracy of each judge", padding=padding, pad_edge=False)
    table.add_column("judge", no_wrap=True)
    heads = (
        "accuracy\nID",
        "accuracy\nOOD",
        "right\nin both\norders",
        "free\naccuracy",
        "invalid",
        "kept\n(couples)/\nsampled",
    )
    for head in (*heads, "seconds"):
        # A number is never cut off: on a terminal that is too narrow even so, it goes on in the next line.
        table.add_column(head, justify="right", overflow="fold")
    for one in rows:
        table.add_row(
            Text(one["label"]),
            *(_with_interval(one, f"accuracy_{key}", wide) for key in SETS),
            percent(one["position_consistent_accuracy_id"]),
            percent(one["free_accuracy_id"]),
            percent(one["invalid_rate_id"]),
            _kept(one, wide),
            _NONE if one["seconds"] is None else f"{one['seconds']:.0f}",
        )
    return table


def _with_interval(one: Mapping[str, Any], name: str, wide: bool) -> Text:
    interval = f"{percent(one[f'{name}_low'])}–{percent(one[f'{name}_high'])}"
    if wide:
        interval = f" ({interval})"
    return Text.assemble((percent(one[name]), "bold"), "" if wide else "\n", (interval, "dim"))


def _kept(one: Mapping[str, Any], wide: bool) -> str:
    if one["sampled"] is None:
        return _NONE
    slash = "/" if wide else "/\n"
    given = f"{' ' if wide else chr(10)}+ {one['given']} given" if one.get("given") else ""
    # Summaries of before had no couples.
    couples = "" if one.get("couples") is None else f"{' ' if wide else chr(10)}({one['couples']})"
    return f"{one['kept']}{couples}{slash}{one['sampled']}{given}"
