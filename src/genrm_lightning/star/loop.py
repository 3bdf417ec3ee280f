"""The order of a STaR run's stages (arXiv 2410.12832 section 3): sample, select, score, fit, evaluate; N times."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from data_tools.artifact import MANIFEST, digest_of, full_disk_told, read_json, read_table, sweep
from data_tools.schema import JUDGMENT, PREFERENCE
from genrm_lightning.evaluation import report
from genrm_lightning.evaluation.scores import set_scores, without
from genrm_lightning.locking import only_one
from genrm_lightning.star import early_stop, quality, rationales, stages
from genrm_lightning.star.fitting import WARM_START, check_config
from genrm_lightning.star.settings import HELD_OUT, StarSettings, model_args
from genrm_lightning.star.sharing import under_way
from genrm_lightning.star.stage import Artifact, identity
from genrm_lightning.star.variants import VARIANTS

SUMMARY = "summary.json"
LOGDIR = "tensorboard"
_PATIENCE = 2.0  # seconds for a killed run's processes to let go of its folder


def run(settings: StarSettings, alone: bool = True) -> dict[str, Any]:
    """Run what is missing of the settings' iterations, print the table, write the summary and return it.

    A finished run does nothing and says so. Iterations that an earlier call made beyond ``iterations`` stay in the
    table.

    Args:
        alone: whether the run is a line of TensorBoard's HParams tab; not as a part of a comparison, which has its own.
    """
    root = Path(settings.run)
    if _complete(root) < settings.iterations:
        check_config(settings)
        rationales.check(settings)
    with only_one(root, "--run", _PATIENCE), under_way(root):
        sweep(root)
        pairs = stages.data(settings, root / "data")
        judge, judge_digest = settings.backbone, digest_of(identity(settings.backbone))
        base = (judge, judge_digest)
        given = rationales.of_file(settings, root / "iteration-1", pairs, *base)  # a mistake there shows at once
        evaluated = [stages.evaluate(settings, root / "zero-shot", pairs, judge, judge_digest, 0, "zero-shot")]
        own = list(evaluated)
        if settings.warm_start is None:  # else the warm-started judge is where the iterations begin
            own += quality.faithful(settings, root / "zero-shot-quality", pairs, *evaluated, judge, base, "zero-shot")
        done = [pairs, *own]
        rows = [_row(settings, pairs, evaluated[0], "zero_shot", 0, own)]
        summary = _report(settings, root, pairs, rows, evaluated, alone)
        if settings.warm_start is not None:
            folder = root / WARM_START
            samples = rationales.of_warm_start(settings, folder / "sample", pairs, *base)
            examples = stages.select_warm(settings, folder / "select", pairs, samples)
            fitted = stages.fit(settings, folder / "fit", examples, *base, root / LOGDIR, WARM_START)
            base = judge, judge_digest = str(fitted.folder / "judge"), fitted.digest
            scores = stages.evaluate(settings, folder / "evaluate", pairs, judge, judge_digest, 0, "warm start")
            own = [samples, examples, fitted, scores]
            own += quality.faithful(settings, folder / "quality", pairs, scores, judge, base, "warm start")
            done += own
            evaluated.append(scores)
            rows.append(_row(settings, pairs, scores, "warm_start", 0, own))
            summary = _report(settings, root, pairs, rows, evaluated, alone)
        for iteration in range(1, max(settings.iterations, _complete(root)) + 1):
            name, label = f"iteration-{iteration}", f"iteration {iteration}"
            folder = root / name
            drawn = rationales.of_iteration(
                settings, folder, pairs, judge, judge_digest, iteration, given if iteration == 1 else None
            )
            examples = kept = stages.select(
                settings, folder / "select", pairs, drawn.samples, drawn.told_wrong, drawn.rationalized
            )
            if kept.made and "rationalized" in kept.facts:
                counts = "{rationalized} of {kept} examples are rationalized, of {failed} prompts that failed"
                note(f"{label}: {counts.format(**kept.facts)}")
            start = base if settings.start == "base" else (judge, judge_digest)
            if VARIANTS[settings.variant].objective == "dpo" and model_args(settings).get("reference") != "live":
                examples = stages.score(settings, folder / "score", kept, *start, label)
            fitted = stages.fit(settings, folder / "fit", examples, *start, root / LOGDIR, name)
            judge, judge_digest = str(fitted.folder / "judge"), fitted.digest
            scores = stages.evaluate(settings, folder / "evaluate", pairs, judge, judge_digest, iteration, label)
            own = [*drawn.all, kept, *([examples] if examples is not kept else []), fitted, scores]
            own += quality.faithful(settings, folder / "quality", pairs, scores, judge, base, label)
            done += own
            evaluated.append(scores)
            rows.append(_row(settings, pairs, scores, "iteration", iteration, own, kept.facts, drawn))
            stop = early_stop.verdict(settings, pairs, rows, evaluated)
            summary = _report(settings, root, pairs, rows, evaluated, alone, stop)
            if stop and iteration >= _complete(root):
                break
        _show(settings, summary, judge, any(stage.made for stage in done))
    return summary


def _complete(root: Path) -> int:
    """How many iterations lie finished in a run's folder."""
    found = 0
    while (root / f"iteration-{found + 1}" / "evaluate" / MANIFEST).exists():
        found += 1
    return found


def _row(
    settings: StarSettings,
    pairs: Artifact,
    evaluated: Artifact,
    kind: str,
    iteration: int,
    done: list[Artifact],
    counts: dict[str, Any] | None = None,
    drawn: rationales.Rationales | None = None,
) -> dict[str, Any]:
    """A row of the report; ``counts`` of the selection and what it was ``drawn`` from, for an iteration."""
    scores = {
        name: set_scores(
            read_table(evaluated.folder / f"{name}.parquet", JUDGMENT), _preferences(pairs, name),
            _dropped(evaluated, name),
        )
        for name in HELD_OUT
    }  # fmt: skip
    coupled = VARIANTS[settings.variant].objective == "dpo"
    row = report.row(
        kind,
        iteration,
        scores,
        kept=counts and counts["kept"],
        couples=counts.get("couples") if counts and coupled else None,
        **(drawn.counts(counts["sampled"]) if counts and drawn else {}),
        seconds=round(sum(stage.facts["seconds"] for stage in done), 1),
    )
    row |= quality.numbers(settings, pairs, evaluated, done, counts)
    row |= early_stop.numbers(settings, pairs, evaluated)
    row |= {name: counts[name] for name in ("failed", "rationalized") if counts and name in counts}
    if evaluated.made:
        accuracies = ", ".join(f"{report.percent(row[f'accuracy_{name}'])} % {name.upper()}" for name in HELD_OUT)
        note(f"{row['label']}: accuracy {accuracies}")
    return row


def _report(
    settings: StarSettings,
    root: Path,
    pairs: Artifact,
    rows: list[dict[str, Any]],
    evaluated: list[Artifact],
    alone: bool,
    stop: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """summary.json and TensorBoard from the rows so far; written only when a row is new."""
    differences = []
    # The last row against the zero-shot judge, and against the warm start where there is one.
    for before in [i for i, row in enumerate(rows[:-1]) if row["kind"] != "iteration"]:
        for name in HELD_OUT:
            first, last = (read_table(evaluated[i].folder / f"{name}.parquet", JUDGMENT) for i in (before, -1))
            labels = rows[before]["label"], rows[-1]["label"]
            judged = without(_preferences(pairs, name), _dropped(evaluated[-1], name))
            differences.append(report.difference(name, *labels, first, last, judged))
    summary = report.summary(
        rows,
        differences,
        variant=settings.variant,
        start=settings.start,
        backbone=settings.backbone,
        seed=settings.seed,
        judge_prompt=settings.judge_prompt,
        **({"stopped": stop} if stop else {}),
    )
    path = root / SUMMARY
    known = read_json(path) if path.exists() else {"rows": []}
    # On the way to its end a later call passes the states of the earlier ones: those are known, and shown already.
    if known["rows"][: len(rows)] != summary["rows"] or (len(known["rows"]) == len(rows) and known != summary):
        from genrm_lightning.dashboards.hparams import of_star
        from genrm_lightning.evaluation.dashboard import Samples, write_dashboard

        samples = [
            Samples(
                row["label"], name, read_table(e.folder / f"{name}.parquet", JUDGMENT),
                without(_preferences(pairs, name), _dropped(e, name)),
            )
            for row, e in zip(rows, evaluated, strict=True)
            for name in HELD_OUT
        ]  # fmt: skip
        # The dashboard first: a summary on disk means that everything is shown.
        with full_disk_told(root / LOGDIR):
            write_dashboard(root / LOGDIR, rows, samples, settings=of_star(settings) if alone else None)
        report.write_summary(path, summary)
    return summary


def _show(settings: StarSettings, summary: dict[str, Any], judge: str, made: bool) -> None:
    root = Path(settings.run)
    # Where there is no terminal rich would take 80 columns and fold the table.
    report.render(summary, Console(width=None if sys.stdout.isatty() else 120))
    print()
    stop = summary.get("stopped")
    if stop:
        print(early_stop.said(stop, summary["rows"]))
        judge = early_stop.judge_of(settings, summary["rows"], stop["best"])
    if stop and not made:
        print("nothing to do: the run has stopped; to go on from its newest judge all the same, leave early_stop out")
    elif not made:
        n = sum(row["kind"] == "iteration" for row in summary["rows"])
        more = " (in a new run with more parts)"
        if not settings.fresh:
            more = ""
        elif n < settings.parts:
            more = f" (up to {settings.parts}, the parts of the data)"
        print(f"nothing to do: {n} of {n} iterations are complete; for more, raise iterations{more}")
    print(f"numbers: {root / SUMMARY}")
    print(f"curves and rationales: make tensorboard LOGDIR={root / LOGDIR}")
    print(f"judge: {judge}")


def _preferences(pairs: Artifact, name: str):
    return read_table(pairs.folder / f"{name}.parquet", PREFERENCE)


def _dropped(evaluated: Artifact, name: str) -> list[str]:
    """Ids of the pairs of a set that did not fit; manifests of before had none."""
    return evaluated.facts.get("dropped", {}).get(name, [])


def note(text: str) -> None:
    """A line about the run, on stderr: stdout keeps the table alone."""
    print(text, file=sys.stderr, flush=True)
