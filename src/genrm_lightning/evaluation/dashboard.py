"""A STaR run as TensorBoard shows it: curves over iterations and the rationales behind them.

Everything goes into one run below the log folder and is written anew each time, from the rows of the report and the
judgment tables: a resumed loop leaves no point twice. Beside it, fits may log their own runs.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from torch.utils.tensorboard import SummaryWriter

from data_tools.artifact import sweep, temporary_name
from data_tools.judging import Verdict
from data_tools.order import hash64, responses
from data_tools.visible import visible
from genrm_lightning.dashboards import hparams
from genrm_lightning.dashboards.hparams import Value

RUN = "star"
# A warm start is no iteration and step 0 is the zero-shot judge: it is a run of its own, a point beside the curve.
WARM_START_RUN = "warm_start"
_EXCERPT = 600  # characters of a prompt or a response

# The custom layout as it is read: category -> chart -> the number of a row that it shows, with its ends where it has
# some. One a chart: TensorBoard colours by run, two curves of one chart look alike.
_CHARTS = {
    "STaR": {
        "accuracy, in distribution (95 % interval)": "accuracy_id",
        "accuracy, out of distribution (95 % interval)": "accuracy_ood",
        "accuracy, validation (95 % interval)": "accuracy_validation",
    },
    "STaR: verdicts": {
        "right in both orders": "position_consistent_accuracy_id",
        "both orders agree, right or wrong": "position_consistency_id",
        "free accuracy (95 % interval)": "free_accuracy_id",
        "position bias: share of A less one half": "position_bias_id",
        "kept share of the samples": "kept_share",
    },
    "STaR: rationales": {
        "words a rationale": "mean_n_words_id",
        "copied from the pair (share of 3-grams)": "copied_share_id",
        "quotations that are none": "misquoted_share_id",
        "distinct 3-grams": "distinct_3grams_id",
        "share of the commonest opening": "top_opening_share_id",
        "share that end as sentences do": "finished_share_id",
        "share that name a response": "names_share_id",
    },
    "STaR: do verdicts come from rationales?": {
        "unchanged without the rationale (95 % interval)": "unchanged_without_id",
        "flipped by another pair's rationale (95 % interval)": "flips_stranger_id",
        "what it alone tells a reader (95 % interval)": "reader_gain_id",
        "drift from the start, nats a token (95 % interval)": "drift_id",
    },
}
# Those that every run has: a fit's own charts come below them (dashboards.layout).
FIRST = ("STaR", "STaR: verdicts", "STaR: rationales")
_RESULTS = ("accuracy_id", "accuracy_ood", "position_consistent_accuracy_id", "position_bias_id", "invalid_rate_id")


@dataclass(frozen=True)
class Samples:
    """The judgments of one row on one set, to show some rationales of.

    Attributes:
        label: of the row they belong to.
        key: id or ood.
        judgments: JUDGMENT rows.
        preferences: PREFERENCE rows of the same pairs.
    """

    label: str
    key: str
    judgments: pl.DataFrame
    preferences: pl.DataFrame


def write_dashboard(
    logdir: str | Path,
    rows: Sequence[Mapping[str, Any]],
    samples: Iterable[Samples] = (),
    n_samples: int = 4,
    settings: Mapping[str, Value] | None = None,
) -> Path:
    """Write the run ``star`` below ``logdir``, in place of the one that is there.

    Every number of a row becomes the scalar ``star/NAME`` at the step of its iteration (0: zero-shot; None is left
    out); a custom layout shows accuracies with intervals and what to watch. For each set, ``n_samples`` pairs are
    drawn by the hash of their id, so every iteration shows the same pairs and nobody picks them: ``rationales/id_1``.

    A running TensorBoard sees either the old event file or the new one, whole.

    Args:
        settings: of the run, which makes it a line of the HParams tab with its last row's numbers; None: it is none.

    Returns:
        The folder of the run.

    Raises:
        ValueError: two rows share a step, or samples name a row that is not there.
    """
    rows = list(rows)
    places = {r["label"]: (WARM_START_RUN if r["kind"] == "warm_start" else "", int(r["iteration"])) for r in rows}
    if len(set(places.values())) != len(rows):
        raise ValueError(f"expected one row a step, got {[(r['label'], r['iteration']) for r in rows]}")
    folder = Path(logdir) / RUN
    with tempfile.TemporaryDirectory() as scratch:
        writers: dict[str, SummaryWriter] = {}
        for run, _ in sorted(places.values()):
            if run not in writers:
                writers[run] = SummaryWriter(str(Path(scratch) / run))
        try:
            if "" in writers:
                writers[""].add_custom_scalars(layout({tag for one in rows for tag in scalars(one)}))
                if settings:
                    hparams.begin(writers[""], settings, [f"star/{name}" for name in _RESULTS])
                    hparams.end(writers[""])
            for one in rows:
                run, step = places[one["label"]]
                for name, value in scalars(one).items():
                    writers[run].add_scalar(name, value, step)
            for one in samples:
                if one.label not in places:
                    raise ValueError(f"expected samples of a row ({', '.join(places)}), got '{one.label}'")
                run, step = places[one.label]
                for name, text in rationale_texts(one, n_samples).items():
                    writers[run].add_text(name, text, step)
        finally:
            for writer in writers.values():
                writer.close()
        _replace(Path(scratch), folder)
    return folder


def scalars(row: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a report row by tag; what is no number (labels, None, nested tables) is left out.

    So are the sizes of the sets (``n_pairs_id`` and the like): they are the same at every step.
    """
    return {
        f"star/{name}": float(value)
        for name, value in row.items()
        if isinstance(value, int | float) and name != "iteration" and not name.startswith("n_")
    }


def layout(tags: Collection[str]) -> dict[str, dict[str, list[Any]]]:
    """The custom layout: accuracy with its interval first, then what to watch beside it.

    All are margin charts, a number without an interval with none: TensorBoard scales them to all their points, and cuts
    the ends off other charts.

    Args:
        tags: of the scalars there are; a chart without any is left out.
    """
    made: dict[str, dict[str, list[Any]]] = {}
    for title, charts in _CHARTS.items():
        # TensorBoard 2.21 shows the margin charts of a category in reverse.
        for name, number in reversed(charts.items()):
            ends = [f"star/{number}{end}" for end in ("", "_low", "_high")]
            if ends[0] in tags:
                shown = [tag if tag in tags else ends[0] for tag in ends]
                made.setdefault(title, {})[name] = ["Margin", shown]
    return made


def rationale_texts(samples: Samples, n_samples: int) -> dict[str, str]:
    """Markdown of the first sample of some pairs, by tag; see :func:`write_dashboard` for which pairs.

    What comes from data or from a model stands in code blocks only (:func:`code_block`).
    """
    pairs = sorted(samples.preferences["pair_id"], key=lambda pair_id: hash64("dashboard", pair_id))[:n_samples]
    shown = samples.judgments.filter(pl.col("pair_id").is_in(pairs)).sort("swapped", "sample_index")
    judgments = {r["pair_id"]: r for r in shown.unique("pair_id", keep="first", maintain_order=True).to_dicts()}
    shown = samples.preferences.filter(pl.col("pair_id").is_in(pairs))
    preferences = {r["pair_id"]: r for r in shown.to_dicts()}
    return {
        f"rationales/{samples.key}_{number}": _markdown(judgments[pair_id], preferences[pair_id])
        for number, pair_id in enumerate(pairs, start=1)
        if pair_id in judgments
    }


def code_block(text: str, most: int | None = None) -> str:
    r"""Untrusted text as an indented Markdown code block, where neither Markdown nor HTML has a meaning.

    Every line is indented, whatever ends it: a fence or a tag that starts a line would be read before code blocks are.
    A fenced block would not do, the text could close it.

    Args:
        most: characters to keep.

    >>> code_block("<b>\n# x")
    '    <b>\n    # x'
    """
    if most is not None and len(text) > most:
        text = text[:most].rstrip() + " …"
    # Without a visible character there would be no block at all, and the next one would seem to be this text's.
    lines = text.splitlines() if text.strip() else ["(empty)"]
    return "\n".join("    " + visible(line) for line in lines)


def _markdown(judgment: Mapping[str, Any], preference: Mapping[str, Any]) -> str:
    a, b, right = responses(judgment["pair_id"], judgment["swapped"], preference["chosen"], preference["rejected"])
    p_right = judgment["p_a"] if right == Verdict.A else 1 - judgment["p_a"]
    # The verdict is a word of ours only if it is one of the three.
    own = judgment["verdict"] if judgment["verdict"] in set(Verdict) else Verdict.INVALID.value
    head = (
        f"**{'right' if p_right > 0.5 else 'wrong'}**: the better response is {right}, "
        f"p({right}) = {p_right:.3f} after the rationale; the judge's own text says {own} "
        f"({'right' if own == right else 'wrong'})"
    )
    blocks = [("Request", preference["prompt"][-1]["content"], _EXCERPT), ("Response A", a, _EXCERPT)]
    blocks += [("Response B", b, _EXCERPT), ("Rationale", judgment["rationale"] or "", None)]
    blocks += [("Pair", judgment["pair_id"], _EXCERPT)]
    return "\n\n".join([head, *(f"{name}:\n\n{code_block(text, most)}" for name, text, most in blocks)])


def _replace(scratch: Path, folder: Path) -> None:
    """Move the event files of ``scratch`` into ``folder``, then remove the event files it had before."""
    folder.mkdir(parents=True, exist_ok=True)
    old = {path for path in folder.rglob("*tfevents*") if path.is_file()}
    new = set()
    for source in sorted(path for path in scratch.rglob("*tfevents*") if path.is_file()):
        target = folder / source.relative_to(scratch)
        target.parent.mkdir(parents=True, exist_ok=True)
        sweep(target.parent)
        # TensorBoard reads whatever has "tfevents" in its name: the name comes when the file is whole.
        whole = target.parent / temporary_name("events")
        shutil.copyfile(source, whole)
        os.replace(whole, target)
        new.add(target)
    for path in old - new:
        path.unlink()
