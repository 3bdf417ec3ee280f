"""The order of a STaR run's stages (arXiv 2410.12832 section 3): sample, select, score, fit, evaluate; N times."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from data_tools.artifact import digest_of, read_json, read_table
from data_tools.errors import UserError
from data_tools.schema import JUDGMENT, PREFERENCE
from genrm_lightning.evaluation import report
from genrm_lightning.evaluation.dashboard import Samples, write_dashboard
from genrm_lightning.evaluation.scores import set_scores
from genrm_lightning.star import stages
from genrm_lightning.star.settings import VARIANTS, StarSettings
from genrm_lightning.star.stages import SETS, Artifact

SUMMARY = "summary.json"
LOGDIR = "tensorboard"


def run(settings: StarSettings) -> dict[str, Any]:
    """Run what is missing of the settings' iterations; returns (and writes) the summary. A finished run does nothing."""
    root = Path(settings.run)
    root.mkdir(parents=True, exist_ok=True)
    with _only_one(root):
        if not (root / SUMMARY).exists():
            from genrm_lightning.star.fitting import check_config

            check_config(settings)
        pairs = stages.data(settings, root / "data")
        judge, judge_digest = settings.backbone, digest_of(_identity(settings.backbone))
        base = (judge, judge_digest)
        evaluated = [stages.evaluate(settings, root / "zero-shot", pairs, judge, judge_digest, 0, "zero-shot")]
        rows = [_row(pairs, evaluated[0], 0, [evaluated[0]])]
        _report(settings, root, pairs, rows, evaluated, final=False)
        for iteration in range(1, settings.iterations + 1):
            name = f"iteration-{iteration}"
            folder = root / name
            samples = stages.sample_part(settings, folder / "sample", pairs, judge, judge_digest, iteration)
            examples = kept = stages.select(settings, folder / "select", pairs, samples)
            start = base if settings.start == "base" else (judge, judge_digest)
            done = [samples, kept]
            if VARIANTS[settings.variant][0] == "dpo":
                examples = stages.score(settings, folder / "score", kept, *start, f"iteration {iteration}")
                done.append(examples)
            fitted = stages.fit(settings, folder / "fit", examples, *start, root / LOGDIR, name)
            judge, judge_digest = str(fitted.folder / "judge"), fitted.digest
            scores = stages.evaluate(settings, folder / "evaluate", pairs, judge, judge_digest, iteration, f"iteration {iteration}")
            evaluated.append(scores)
            rows.append(_row(pairs, scores, iteration, [*done, fitted, scores], kept.facts))
            summary = _report(settings, root, pairs, rows, evaluated, final=iteration == settings.iterations)
    return summary


def _row(pairs: Artifact, evaluated: Artifact, iteration: int, done: list[Artifact], counts: dict[str, Any] | None = None) -> dict[str, Any]:
    scores = {
        name: set_scores(read_table(evaluated.folder / f"{name}.parquet", JUDGMENT), _preferences(pairs, name)) for name in SETS
    }
    return report.row(
        "iteration" if iteration else "zero_shot",
        iteration,
        scores,
        kept=counts and counts["kept"],
        sampled=counts and counts["sampled"],
        seconds=sum(stage.facts["seconds"] for stage in done),
    )


def _report(
    settings: StarSettings, root: Path, pairs: Artifact, rows: list[dict[str, Any]], evaluated: list[Artifact], final: bool
) -> dict[str, Any]:
    """Table, summary.json and TensorBoard from the rows so far; the table is printed when the run is done."""
    differences = []
    if len(rows) > 1:
        for name in SETS:
            first, last = (read_table(e.folder / f"{name}.parquet", JUDGMENT) for e in (evaluated[0], evaluated[-1]))
            differences.append(report.difference(name, rows[0]["label"], rows[-1]["label"], first, last))
    summary = report.summary(
        rows, differences, variant=settings.variant, backbone=settings.backbone, seed=settings.seed, judge_prompt=settings.judge_prompt
    )
    path = root / SUMMARY
    if not path.exists() or read_json(path) != summary:
        # The dashboard first: a summary on disk means that everything that is shown is there.
        samples = [
            Samples(row["label"], name, read_table(e.folder / f"{name}.parquet", JUDGMENT), _preferences(pairs, name))
            for row, e in zip(rows, evaluated, strict=True)
            for name in SETS
        ]
        write_dashboard(root / LOGDIR, rows, samples)
        report.write_summary(path, summary)
    if final:
        report.render(summary, Console())
        print(f"\nnumbers: {path}\ncurves and rationales: make tensorboard LOGDIR={root / LOGDIR}\njudge: {evaluated[-1].folder.parent / 'fit' / 'judge'}")
    return summary


def _preferences(pairs: Artifact, name: str):
    return read_table(pairs.folder / f"{name}.parquet", PREFERENCE)


def _identity(backbone: str) -> Any:
    """What a backbone is known by: its name, and for a folder the names and sizes of its files."""
    folder = Path(backbone)
    return [backbone, sorted((str(f.relative_to(folder)), f.stat().st_size) for f in folder.rglob("*") if f.is_file())]


@contextmanager
def _only_one(root: Path) -> Iterator[None]:
    with open(root / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{root}: another run is at work in this folder; wait for it, or name another one with --run") from None
        yield
