"""The stages of a STaR run, a function each: what it reads, what its key holds, and its work (stage.py runs it).

A killed stage is taken up at its last shard or checkpoint.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import polars as pl

from data_tools import told as selection
from data_tools import verifiable
from data_tools.artifact import (
    digest,
    digest_of,
    read_table,
    scan_tables,
    sweep,
    write_table,
)
from data_tools.contamination import COVERAGE, NGRAM
from data_tools.errors import UserError
from data_tools.schema import EXAMPLE, JUDGMENT, PREFERENCE, check_unique_ids
from data_tools.split import part, parts, sample, take
from data_tools.told import Told
from genrm_lightning.budget import policy_key
from genrm_lightning.progress import Progress
from genrm_lightning.samplers.base import SamplingSettings
from genrm_lightning.samplers.choice import SamplerSettings, chosen_sampler
from genrm_lightning.star import checks, fitting
from genrm_lightning.star.settings import HELD_OUT, VALIDATION, StarSettings, model_args
from genrm_lightning.star.sharing import asking
from genrm_lightning.star.stage import Artifact, remove_shards, run_stage
from genrm_lightning.star.tokens import in_tokens_of
from genrm_lightning.star.variants import VARIANTS


def data(settings: StarSettings, folder: Path) -> Artifact:
    """The run's own copy of the pairs: train, id and ood, so that nothing changes under it."""
    given = settings.data
    files: dict[str, str] = {}
    if given.train is None:
        source: dict[str, Any] = {"embedded": vars(given.embedded), "generator": verifiable.VERSION}
    else:
        files = {"train": given.train, "test": given.test, "ood": given.ood}
        for name, file in files.items():
            if not Path(file).is_file():
                raise UserError(f"data.{name}: {file}: no such file; make it with: python -m data_tools ingest")
        source = {name: digest(file) for name, file in files.items()} | {"test_rows": given.test_rows}
        source["decontaminate"] = {"ngram": NGRAM, "coverage": COVERAGE} if given.decontaminate else None

    if given.validation_rows is not None:
        source[VALIDATION] = given.validation_rows
    warm = settings.warm_start
    if warm is not None:
        source["warm_start"] = {"pairs": warm.pairs, "categories": warm.categories}

    def work() -> dict[str, Any]:
        if given.train is None:
            embedded = given.embedded
            made = verifiable.build(embedded.rows, embedded.seed, embedded.test_rows, embedded.levels, embedded.kinds)
            tables = {"train": made["train"], "id": made["test"], "ood": made["ood"]}
        else:
            tables = {"train": read_table(given.train, PREFERENCE)}
            for name, file in (("id", given.test), ("ood", given.ood)):
                table = read_table(file, PREFERENCE)
                tables[name] = table if given.test_rows is None else sample(table, given.test_rows)
        where = {"train": given.train, "id": given.test, "ood": given.ood}
        for name, table in tables.items():
            check_unique_ids(table, where[name] or "embedded data")
            if not len(table):
                raise UserError(f"{where[name] or 'embedded data'}: no rows; a run needs train, test and ood")
        overlapping = {}
        if given.train is not None and given.decontaminate:
            overlapping = checks.decontaminated(tables, where, folder)
        checks.no_shared_prompts(tables, where)
        if given.validation_rows is not None:
            try:
                tables[VALIDATION], tables["train"] = take(tables["train"], given.validation_rows)
            except UserError as error:
                raise UserError(f"data.validation_rows: {error}") from None
        if warm is not None:
            try:
                tables["warm"], tables["train"] = take(tables["train"], warm.pairs, warm.categories)
            except UserError as error:
                raise UserError(f"warm_start: {error}") from None
        checks.lengths(settings, tables)
        parts(tables["train"], settings.parts)  # too few prompts: said now, not before the last iteration
        for name, table in tables.items():
            write_table(table, folder / f"{name}.parquet", PREFERENCE)
        return {"rows": {name: len(table) for name, table in tables.items()}, "decontaminated": overlapping}

    return run_stage(folder, {"stage": "data", "source": source}, work, files.values())


Prompts = tuple[pl.DataFrame, Sequence[Sequence] | None]  # PREFERENCE; [pair id, swapped] wanted, None: all


def part_of(settings: StarSettings, pairs: Artifact, iteration: int) -> pl.DataFrame:
    """The pairs that an iteration samples."""
    index = iteration - 1 if settings.fresh else 0
    return part(read_table(pairs.folder / "train.parquet", PREFERENCE), index, settings.parts)


def sample_part(
    settings: StarSettings,
    folder: Path,
    pairs: Artifact,
    judge: str,
    judge_digest: str,
    iteration: int,
    told: Told | None = None,
    reader: tuple[str, str] | None = None,
    sampler: SamplerSettings | None = None,
) -> Artifact:
    """Rationales of a judge on a fresh part of the data, both orders, K each; see :func:`draw`."""
    facts = {"iteration": iteration, "parts": settings.parts, "told": told or False}
    facts |= {} if settings.fresh else {"fresh": False}  # the default leaves no trace in the key
    label = f"iteration {iteration}: sample" + (", told the wrong answer" if told == "wrong" else "")
    key = {"stage": "sample", "data": pairs.digest, **facts}
    return draw(
        settings, folder, key, lambda: (part_of(settings, pairs, iteration), None), judge, judge_digest,
        settings.sampling, iteration, label, told, reader, sampler,
    )  # fmt: skip


def sample_warm(settings: StarSettings, folder: Path, pairs: Artifact, judge: str, judge_digest: str) -> Artifact:
    """One rationale of the backbone for each prompt of the warm start, both orders."""
    facts = {"iteration": 0, "parts": 1, "told": False}
    key = {"stage": "sample", "data": pairs.digest, **facts}
    once = replace(settings.sampling, n_samples=1)
    return draw(
        settings, folder, key, lambda: (read_table(pairs.folder / "warm.parquet", PREFERENCE), None), judge,
        judge_digest, once, 0, "warm start: sample",
    )  # fmt: skip


def draw(
    settings: StarSettings,
    folder: Path,
    key: dict[str, Any],
    asked: Callable[[], Prompts],
    judge: str,
    judge_digest: str,
    sampling: SamplingSettings,
    iteration: int,
    label: str,
    told: Told | None = None,
    reader: tuple[str, str] | None = None,
    sampler: SamplerSettings | None = None,
) -> Artifact:
    """A stage of samples: ``judgments.parquet``.

    Args:
        key: completed here with what else decides a draw.
        asked: the prompts; where there are none, no sampler is made.
        told: the answer that the judge is told.
        reader: (judge, its digest) of the one that is trained on this, where another one draws it.
        sampler: another than the run's.
    """
    key = {**key, "judge": judge_digest, **settings.sampler_key(sampling)} | (sampler.sampler_key() if sampler else {})
    if reader is not None:
        key["reader"] = reader[1]

    def work() -> dict[str, Any]:
        rows, places = asked()
        drawn = pl.DataFrame(schema=JUDGMENT)
        if len(rows):
            drawn = _judge(
                settings, folder, rows, judge, judge_digest, sampling, iteration, "sample", label, told, places, sampler
            )
        table = drawn
        if reader is not None:
            written = (sampler or settings.sampler).rendered_by(judge)
            table = in_tokens_of(reader[0], written, drawn, sampling.rationale_tokens)
        write_table(table, folder / "judgments.parquet", JUDGMENT)
        counts = {"pairs": drawn["pair_id"].n_unique(), "dropped": _dropped(rows, drawn), "sampled": len(drawn)}
        return counts | ({"taken": len(table)} if len(table) < len(drawn) else {})

    made = run_stage(folder, key, work)
    remove_shards(folder)  # only now: killed before the manifest, a second call needs them
    return made


def select(
    settings: StarSettings,
    folder: Path,
    pairs: Artifact,
    samples: Artifact,
    told_wrong: Artifact | None = None,
    rationalized: Artifact | None = None,
) -> Artifact:
    """Keep by verdict: judgments -> training examples."""
    options = {
        "objective": VARIANTS[settings.variant].objective,
        "filters": settings.filters,
        "per_prompt": settings.per_prompt,
        "template": settings.judge_prompt,
        "uncoupled": settings.uncoupled,
    }
    # Defaults leave no trace in the key.
    choices = {name: getattr(settings, name) for name in ("right", "ranking", "pairing")}
    options |= {name: value for name, value in choices.items() if value != getattr(StarSettings, name)}
    more = {"told_wrong": told_wrong, "rationalized": rationalized}
    given = {name: table for name, table in more.items() if table is not None}
    return _select(folder, pairs.folder / "train.parquet", samples, options, given)


def select_warm(settings: StarSettings, folder: Path, pairs: Artifact, samples: Artifact) -> Artifact:
    """Every rationale with the label's verdict."""
    options = {"objective": "labelled", "template": settings.judge_prompt}
    return _select(folder, pairs.folder / "warm.parquet", samples, options, {})


def _select(
    folder: Path, preferences: Path, samples: Artifact, options: dict[str, Any], more: dict[str, Artifact]
) -> Artifact:
    def scan(drawn: Artifact) -> pl.LazyFrame:
        return scan_tables([drawn.folder / "judgments.parquet"], JUDGMENT)

    def work() -> dict[str, Any]:
        pairs = scan_tables([preferences], PREFERENCE)
        others = {name: scan(drawn) for name, drawn in more.items()}
        return selection.write_examples(scan(samples), pairs, folder / "examples.parquet", **options, **others)

    digests = {name: drawn.digest for name, drawn in more.items()}
    return run_stage(folder, {"stage": "select", "samples": samples.digest, **options, **digests}, work)


def score(
    settings: StarSettings, folder: Path, examples: Artifact, start: str, start_digest: str, label: str
) -> Artifact:
    """The reference's log-probabilities of the examples: the policy the fit begins from (PAPER eq. 9's π_ref)."""
    key = {"stage": "score", "examples": examples.digest, "start": start_digest}
    # What decides the numbers: how the policy is loaded and in which precision it runs.
    key |= {"backbone": model_args(settings).get("backbone"), "precision": _trainer_args(settings).get("precision")}
    key |= policy_key(settings.too_long)
    arguments = {**_data_args(settings), "too_long": settings.too_long}
    if "max_tokens" in arguments:
        key["max_tokens"] = arguments["max_tokens"]

    def work() -> dict[str, Any]:
        from genrm_lightning.quiet import no_loading_bars
        from genrm_lightning.scoring import score_examples

        no_loading_bars()
        table = read_table(examples.folder / "examples.parquet", EXAMPLE)
        with Progress(f"{label}: score", len(table), "examples") as progress:
            table = score_examples(table, start, {**settings.fit, "data": {"init_args": arguments}}, progress.advance)
        write_table(table, folder / "examples.parquet", EXAMPLE)
        return {"rows": len(table)}

    return run_stage(folder, key, work)


def fit(
    settings: StarSettings,
    folder: Path,
    examples: Artifact,
    start: str,
    start_digest: str,
    logdir: Path,
    name: str,
) -> Artifact:
    """Train on the examples with LightningCLI in a process of its own; resumes in mid-epoch from a checkpoint.

    Args:
        name: iteration-i, or WARM_START.
    """
    key = {
        "stage": "fit",
        "examples": examples.digest,
        "start": start_digest,
        "seed": settings.seed,
        "fit": settings.warm_start.fit if name == fitting.WARM_START else settings.fit,
        **policy_key(settings.too_long),
    }

    def work() -> dict[str, Any]:
        table = examples.folder / "examples.parquet"
        fitting.run_fit(fitting.write_config(settings, folder, table, start, logdir, name), folder)
        return {}

    return run_stage(folder, key, work)


def evaluate(
    settings: StarSettings, folder: Path, pairs: Artifact, judge: str, judge_digest: str, iteration: int, label: str
) -> Artifact:
    """Judge the held-out sets in both orders, with the same random numbers for every judge."""
    key = {
        "stage": "evaluate",
        "data": pairs.digest,
        "judge": judge_digest,
        **settings.sampler_key(settings.evaluation),
    }

    sets = (*HELD_OUT, *([VALIDATION] if settings.data.validation_rows is not None else []))

    def work() -> dict[str, Any]:
        for name in sets:
            file = folder / f"{name}.parquet"
            if not file.exists():
                held_out = read_table(pairs.folder / f"{name}.parquet", PREFERENCE)
                what = f"{label}: evaluate {name}"
                table = _judge(
                    settings, folder / name, held_out, judge, judge_digest, settings.evaluation, iteration, "evaluate",
                    what,
                )  # fmt: skip
                write_table(table, file, JUDGMENT)
        dropped = {}
        for name in sets:
            remove_shards(folder / name)
            held_out = read_table(pairs.folder / f"{name}.parquet", PREFERENCE)
            dropped[name] = _dropped(held_out, read_table(folder / f"{name}.parquet", JUDGMENT))
        return {"dropped": dropped}

    return run_stage(folder, key, work)


def _judge(
    settings: StarSettings,
    folder: Path,
    pairs: pl.DataFrame,
    judge: str,
    judge_digest: str,
    sampling,
    iteration: int,
    purpose: str,
    label: str,
    told: Told | None = None,
    places: Sequence[Sequence] | None = None,
    sampler: SamplerSettings | None = None,
) -> pl.DataFrame:
    """``sampler``: another than the run's, such as a served model that writes the first rationales."""
    from genrm_lightning.judgments import fitting, shards_of

    sweep(folder)
    sampler = sampler or settings.sampler
    if (renderer := sampler.rendered_by(judge)) is not None:
        pairs = fitting(
            pairs, renderer, sampling, template=settings.judge_prompt, told=told, too_long=settings.too_long,
            where=label, context=sampler.context(judge),
        )  # fmt: skip
    run = Path(settings.run)
    in_run = Path(judge).is_relative_to(run)
    draw = {
        "template": settings.judge_prompt,
        # A judge of this run is named within it: the tables of two runs are then equal wherever they lie.
        "judge": sampler.served or (str(Path(judge).relative_to(run)) if in_run else judge),
        "iteration": iteration,
        "seed": settings.seed,
        "purpose": purpose,
        "told": told,
        "places": places,
        "shard_size": settings.shard_size,
    }
    shards = shards_of(folder, pairs, sampling, **draw)
    ask = {
        "label": label,
        "folder": os.path.relpath(folder, run),
        "judge": str(Path(judge).relative_to(run)) if in_run else judge,
        "in_run": in_run,
        "identity": judge_digest,
        "sampling": vars(sampling),
        "sampler": asdict(sampler),
        "dtype": settings.dtype,
        "draw": draw,
        "keys": digest_of(shards.keys),
    }
    with (
        Progress(label, shards.samples(), "samples") as progress,
        chosen_sampler(sampler, judge, settings.dtype) as make,
        asking(run, pairs, ask) as claims,
    ):
        return shards.complete(make, claims, progress.advance)


def _data_args(settings: StarSettings) -> dict[str, Any]:
    return (settings.fit.get("data") or {}).get("init_args") or {}


def _dropped(asked: pl.DataFrame, judged: pl.DataFrame) -> list[str]:
    """Ids of the pairs that the policy for long ones left out."""
    return asked.join(judged, on="pair_id", how="anti")["pair_id"].sort().to_list()


def _trainer_args(settings: StarSettings) -> dict[str, Any]:
    return settings.fit.get("trainer") or {}
