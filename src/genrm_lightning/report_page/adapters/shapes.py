"""What the files' numbers look like: anybody may have edited them, and a page shall not tell of text or NaN.

A shape is a function that says what is wrong with a value, a list of one shape, an object of some known keys (others
are free), or :class:`Each`. None under a known key means that nobody knows, and fits everywhere but as an item.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from data_tools.errors import UserError
from genrm_lightning.report_page.adapters.files import words

MOST = 1e15  # of a number: beyond it no count is, and a page would be full of digits
_ENDS = ("", "_low", "_high")


@dataclass(frozen=True)
class Each:
    """An object whose keys are free and whose values all have one shape."""

    shape: Shape


Shape = Callable[[Any], str] | list | Mapping[str, Any] | Each


def number(value: Any) -> str:
    usable = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= MOST  # NaN is not
    return "" if usable else "is no finite number"


def count(value: Any) -> str:
    return number(value) or ("is below 0" if value < 0 else "")


def positive(value: Any) -> str:
    return number(value) or ("is not above 0" if value <= 0 else "")


def plain(value: Any) -> str:
    return "" if isinstance(value, str) else "is no text"


def check(value: Any, shape: Shape, where: str, key: str = "") -> None:
    """Whether a value has a shape.

    Args:
        where: the file.
        key: of the value in it; "": the file's whole.

    Raises:
        UserError: names the file and the key.
    """
    if callable(shape):
        wrong = shape(value)
    elif isinstance(shape, list):
        wrong = "" if isinstance(value, list) else "is no JSON list"
    else:
        wrong = "" if isinstance(value, dict) else "is no JSON object"
    if wrong:
        at = f"{where}: key '{words(key)}'" if key else where
        raise UserError(f"{at}: {wrong}; write the file anew with the command that made it")
    if isinstance(shape, list):
        for i, one in enumerate(value):
            check(one, shape[0], where, f"{key}[{i}]")
    elif isinstance(shape, Each):
        for name, one in value.items():
            check(one, shape.shape, where, f"{key}.{name}" if key else name)
    elif isinstance(shape, Mapping):
        for name, inner in shape.items():
            if value.get(name) is not None:
                check(value[name], inner, where, f"{key}.{name}" if key else name)


def check_scores(scores: Mapping[str, Any], where: str) -> None:
    """Whether scores.json holds what its keys promise.

    Raises:
        UserError: names the file and the key.
    """
    check(scores, {"sets": Each(SET), "benchmarks": Each(BENCHMARK)}, where)
    for name, shape, told_by in (("hacking", HACKING, "attacks"), ("shift", SHIFT, "bins")):
        part = scores.get(name)  # of one set, or by set
        if part is not None:
            check(part, shape if isinstance(part, dict) and told_by in part else Each(shape), where, name)


def _of(kind: Callable[[Any], str], *names: str) -> dict[str, Shape]:
    return dict.fromkeys(names, kind)


def _with_ends(*names: str) -> dict[str, Shape]:
    return _of(number, *(name + end for name in names for end in _ENDS))


_SLICE = {**_with_ends("accuracy"), "n_pairs": count}
_CURVE = {"k": positive, "tokens": count, "reading": plain, "scope": plain, **_of(number, "accuracy", "low", "high")}
_STOPPING = {"votes": plain, "scope": plain, "tokens": count, **_of(number, "accuracy", "alpha", "diff")}
SET: Shape = {
    **_with_ends(
        *("accuracy", "free_accuracy", "position_consistent_accuracy", "ece", "brier", "auroc", "kappa"),
        "position_bias",
    ),
    **_of(number, "invalid_rate", "share_a", "position_consistency"),
    **_of(count, "n_pairs", "n_dropped", "n_presentations", "n_samples", "mean_n_tokens"),
    **_of(count, "tokens_per_verdict", "seconds_per_verdict"),
    "reliability": [{**_of(number, "mean_p", "share_right", "share_low", "share_high"), "n": count}],
    "risk_coverage": [_of(number, "coverage", "risk", "risk_low", "risk_high")],
    "by": Each(Each(_SLICE)),
    "categories": Each(_SLICE),
    "longer_wins": _of(number, "accuracy", "low", "high", "diff", "diff_low", "diff_high"),
    "by_length": [
        {"name": plain, "n_pairs": count, **_of(number, "low", "high", "accuracy", "low_accuracy", "high_accuracy")}
    ],
    "votes": {"curve": [_CURVE], "stopping": [_STOPPING]},
}
_SCORE = _of(number, "score", "low", "high")
BENCHMARK: Shape = {**_SCORE, "benchmark": plain, "sections": Each(_SCORE), "notes": [plain]}
HACKING: Shape = {
    "clean": _of(number, "win_rate", "win_low", "win_high"),
    "attacks": [
        {
            **_of(plain, "name", "family", "kind", "description"),
            **_of(number, "win_rate", "win_low", "win_high", "diff", "diff_low", "diff_high", "control_diff"),
        }
    ],
}
SHIFT: Shape = {
    "train": plain,
    "bins": [{**_SLICE, **_of(number, "low", "high")}],
    "categories": [{**_SLICE, "name": plain, "distance": number}],
    **_with_ends("spearman"),
}
ROW: Shape = {**_of(count, "iteration", "seeds"), **_of(plain, "label", "method", "kind")}  # of a summary.json
