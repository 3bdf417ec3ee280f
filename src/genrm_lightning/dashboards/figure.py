"""A validation pass in pictures: is its confidence earned, does it find the better response, where is it wrong.

Drawn on Agg's canvas without pyplot: no global state, nothing to close. The card is white with dark text, so it reads
on TensorBoard's light page and on its dark one.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from data_tools.visible import visible
from genrm_lightning.dashboards.held_out import ValidationRows, average_precision, precision_recall, reliability
from genrm_lightning.evaluation.intervals import wilson

_INK, _GREY, _FAINT, _BLUE, _ORANGE = "#202124", "#5f6368", "#9aa0a6", "#1a73e8", "#e8710a"
_SIZE, _DPI = (4.3, 4.3), 80  # square and as wide as TensorBoard shows it without being asked for the actual size
_LOOK = {
    "text.color": _INK, "axes.labelcolor": _INK, "axes.titlecolor": _INK, "xtick.color": _INK, "ytick.color": _INK,
    "axes.edgecolor": _FAINT, "axes.facecolor": "white", "font.size": 11.5, "text.usetex": False,
    "text.parse_math": False,  # names are data's
}  # fmt: skip
_LABEL = 18  # characters of a category's name


def pictures(
    rows: ValidationRows, categories: Mapping[str, tuple[float, float, float, int]], of: str
) -> dict[str, NDArray[np.uint8]]:
    """Reliability, precision over recall and accuracy by category, by name: (height, width, 3) uint8 each.

    Args:
        rows: with presentations.
        categories: as :func:`~genrm_lightning.dashboards.held_out.by_category` gives them; none: no such picture.
        of: stands below each: what the rows are.
    """
    better_is_a, p_a = rows.right
    plots: dict[str, tuple[Any, tuple[Any, ...]]] = {"reliability": (_reliability, (rows,))}
    if better_is_a.any():
        plots["precision_recall"] = _precision, (better_is_a, p_a)
    if categories:
        plots["accuracy_by_category"] = _categories, (categories,)
    found = {}
    with rc_context(_LOOK):  # a user's style sheet must not turn text white on white
        for name, (plot, given) in plots.items():
            figure = Figure(figsize=_SIZE, dpi=_DPI, facecolor="white", layout="constrained")
            canvas = FigureCanvasAgg(figure)
            plot(figure.subplots(), *given)
            figure.supxlabel(of, fontsize=9, color=_GREY)
            with warnings.catch_warnings():  # names are data's: the font may lack their letters, and shows boxes
                warnings.filterwarnings("ignore", message="Glyph ")
                canvas.draw()
            found[name] = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    return found


def _reliability(panel: Any, rows: ValidationRows) -> None:
    means, shares, counts, effective = (np.array(column) for column in zip(*reliability(rows), strict=True))
    low, high = np.array([wilson(share, n) for share, n in zip(shares, effective, strict=True)]).T
    panel.plot([0.5, 1], [0.5, 1], color=_FAINT, linestyle="--", linewidth=1)
    panel.vlines(means, low, high, color=_BLUE, alpha=0.35, linewidth=3)
    panel.plot(means, shares, color=_BLUE, linewidth=1)
    panel.scatter(means, shares, s=12 + 120 * counts / counts.max(), color=_BLUE, zorder=3)
    _ways(panel, "reliability: on the line is calibrated", "confidence (larger dot: more pairs)", "share right")
    panel.set_xlim(0.48, 1.02)


def _precision(panel: Any, better_is_a: NDArray[np.bool_], p_a: NDArray[np.float64]) -> None:
    precision, recall = precision_recall(better_is_a, p_a)
    chance = float(better_is_a.mean())
    panel.axhline(chance, color=_FAINT, linestyle="--", linewidth=1)
    panel.step(np.append(0.0, recall), np.append(precision[0], precision), where="pre", color=_BLUE, linewidth=1.6)
    name = f"A is better: average precision {average_precision(precision, recall):.2f}"
    _ways(panel, name, "recall", "precision")
    panel.set_xlim(-0.02, 1.02)


def _categories(panel: Any, categories: Mapping[str, tuple[float, float, float, int]]) -> None:
    names = sorted(categories, key=lambda name: categories[name][0])
    found = [categories[name] for name in names]
    accuracy, low, high = (np.array([one[i] for one in found]) for i in range(3))
    places = np.arange(len(names))
    panel.barh(places, accuracy, color=_BLUE, alpha=0.8, height=0.6)
    panel.hlines(places, low, high, color=_INK, linewidth=1.4)
    panel.axvline(0.5, color=_ORANGE, linestyle="--", linewidth=1)
    labels = [f"{_short(name)} ({one[3]})" for name, one in zip(names, found, strict=True)]
    panel.set_yticks(places, labels, fontsize=10 if len(names) < 8 else 8)
    panel.set_xlim(0, 1)
    panel.set_xlabel("accuracy, 95 % interval")
    panel.set_title("categories (pairs)", fontsize=11)
    panel.spines[["top", "right"]].set_visible(False)


def _ways(panel: Any, title: str, across: str, up: str) -> None:
    panel.set_title(title, fontsize=11)
    panel.set_xlabel(across)
    panel.set_ylabel(up)
    panel.set_ylim(-0.02, 1.02)
    panel.grid(color="#e8eaed", linewidth=0.8)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)


def _short(name: str) -> str:
    name = visible(" ".join(name.split()))
    return name if len(name) <= _LABEL else name[: _LABEL - 1] + "…"
