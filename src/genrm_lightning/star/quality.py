"""The quality of a judge's rationales in a STaR run: measures of their text, and a stage that asks about them again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from data_tools.artifact import read_table, write_table
from data_tools.schema import JUDGMENT, PREFERENCE
from data_tools.split import sample
from genrm_lightning.budget import TooLong
from genrm_lightning.evaluation import report
from genrm_lightning.evaluation.faithfulness_scores import TABLE, faithfulness_scores
from genrm_lightning.evaluation.rationales import rationale_scores
from genrm_lightning.progress import Progress
from genrm_lightning.samplers.base import SamplingSettings
from genrm_lightning.star.settings import HELD_OUT, StarSettings
from genrm_lightning.star.stage import Artifact, run_stage

FILE = "faithfulness.parquet"
SET = "id"  # the held-out set whose judgments are asked about


def faithful(
    settings: StarSettings, folder: Path, pairs: Artifact, evaluated: Artifact, judge: str, base: tuple[str, str],
    label: str,
) -> list[Artifact]:  # fmt: skip
    """Ask a judge again about some held-out judgments, and the iterations' start as the reader; [] where not wanted.

    Args:
        base: what the run's iterations start from (the warm start, else the backbone), and its digest.
    """
    if not settings.quality_pairs:
        return []
    reader, reader_digest = base
    key = {"stage": "quality", "scores": evaluated.digest, "reader": reader_digest, "pairs": settings.quality_pairs}

    def work() -> dict[str, Any]:
        held_out = read_table(pairs.folder / f"{SET}.parquet", PREFERENCE)
        judgments = read_table(evaluated.folder / f"{SET}.parquet", JUDGMENT)
        chosen = sample(held_out.join(judgments, on="pair_id", how="semi"), settings.quality_pairs)
        judgments = judgments.join(chosen, on="pair_id", how="semi")
        table = ask(
            judgments, chosen, judge, reader, samples=1, template=settings.judge_prompt, dtype=settings.dtype,
            too_long=settings.too_long, sampling=settings.evaluation, label=f"{label}: quality",
        )  # fmt: skip
        write_table(table, folder / FILE, TABLE)
        return {"rows": len(table)}

    return [run_stage(folder, key, work)]


def ask(
    judgments: pl.DataFrame,
    pairs: pl.DataFrame,
    judge: str,
    reader: str,
    *,
    samples: int,
    template: str,
    dtype: str,
    too_long: TooLong,
    label: str,
    sampling: SamplingSettings | None = None,
) -> pl.DataFrame:
    """:func:`genrm_lightning.evaluation.faithfulness.faithfulness` of each prompt's first samples, with progress."""
    import torch

    from genrm_lightning.evaluation.faithfulness import faithfulness
    from genrm_lightning.quiet import no_loading_bars

    no_loading_bars()
    rows = judgments.filter(pl.col("sample_index") < samples)
    prompts = rows.select("pair_id", "swapped").n_unique() * 3
    with Progress(label, prompts, "prompts") as progress:
        return faithfulness(
            rows, pairs, judge, reader, template=template, dtype=getattr(torch, dtype), sampling=sampling,
            too_long=too_long, advance=progress.advance,
        )  # fmt: skip


def numbers(
    settings: StarSettings, pairs: Artifact, evaluated: Artifact, done: list[Artifact], counts: dict[str, Any] | None
) -> dict[str, float | None]:
    """What a report row says of the rationales: measures of both sets' texts, faithfulness of the one, kept share."""
    found: dict[str, float | None] = {"kept_share": counts and counts["kept"] / counts["sampled"]}
    for name in HELD_OUT:
        judgments = read_table(evaluated.folder / f"{name}.parquet", JUDGMENT)
        preferences = read_table(pairs.folder / f"{name}.parquet", PREFERENCE)
        found |= report.with_set(rationale_scores(judgments, preferences, settings.judge_prompt), name)
    for asked in (stage.folder / FILE for stage in done if (stage.folder / FILE).exists()):
        preferences = read_table(pairs.folder / f"{SET}.parquet", PREFERENCE)
        scores = faithfulness_scores(read_table(asked, TABLE), preferences).as_dict()
        found |= report.with_set(scores, SET)
    return found
