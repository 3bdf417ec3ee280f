"""The stages of a STaR run, a function each: inputs, settings and seed in; a folder with a manifest out.

A stage whose folder has the manifest of the same key is skipped; a key holds the stage's settings and the keys of
what it reads, so a change anywhere upstream shows. A killed stage is taken up at its last shard or checkpoint.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from data_tools import star as selection
from data_tools import verifiable
from data_tools.artifact import (
    MANIFEST,
    digest,
    digest_of,
    is_complete,
    read_json,
    read_table,
    sweep,
    write_json,
    write_manifest,
    write_table,
)
from data_tools.errors import UserError
from data_tools.schema import EXAMPLE, JUDGMENT, PREFERENCE
from data_tools.split import part, sample
from genrm_lightning.progress import Progress
from genrm_lightning.star.settings import VARIANTS, StarSettings

SETS = ("id", "ood")
STARTED = "started.json"  # the key of a stage that is under way: a resume with other settings must not mix with it


@dataclass(frozen=True)
class Artifact:
    """What a stage made: its folder, its key's digest (part of the keys downstream), and facts for people."""

    folder: Path
    digest: str
    facts: dict[str, Any] = field(default_factory=dict)


def run_stage(folder: Path, key: dict[str, Any], work: Callable[[], dict[str, Any]]) -> Artifact:
    """Do a stage unless its manifest says that it is done.

    Args:
        key: everything the result depends on.
        work: writes into ``folder`` and returns facts for the manifest; may find what a killed run left there.

    Raises:
        UserError: the folder was made, or begun, with another key.
    """
    if not is_complete(folder, key):
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder)
        started = folder / STARTED
        if started.exists():
            begun = read_json(started)
            for name in sorted(key.keys() | begun.keys()):
                if key.get(name) != begun.get(name):
                    raise UserError(f"{folder}: begun with another '{name}'; use another run folder, or remove this one to begin anew")
        else:
            write_json(started, key)
        clock = time.perf_counter()
        facts = work()
        write_manifest(folder, key, seconds=round(time.perf_counter() - clock, 1), facts=facts)
        started.unlink()
    manifest = read_json(folder / MANIFEST)
    return Artifact(folder, digest_of(key), {**manifest["facts"], "seconds": manifest["seconds"]})


def data(settings: StarSettings, folder: Path) -> Artifact:
    """The run's own copy of the pairs: train, id and ood, so that nothing changes under it."""
    given = settings.data
    if given.train is None:
        source: dict[str, Any] = {"embedded": vars(given.embedded), "generator": verifiable.VERSION}
    else:
        files = {"train": given.train, "test": given.test, "ood": given.ood}
        for name, file in files.items():
            if not Path(file).is_file():
                raise UserError(f"data.{name}: {file}: no such file; make it with: python -m data_tools ingest")
        source = {name: digest(file) for name, file in files.items()} | {"test_rows": given.test_rows}

    def work() -> dict[str, Any]:
        if given.train is None:
            embedded = given.embedded
            made = verifiable.build(embedded.rows, embedded.seed, embedded.test_rows)
            tables = {"train": made["train"], "id": made["test"], "ood": made["ood"]}
        else:
            tables = {"train": read_table(given.train, PREFERENCE)}
            for name, file in (("id", given.test), ("ood", given.ood)):
                table = read_table(file, PREFERENCE)
                tables[name] = table if given.test_rows is None else sample(table, given.test_rows)
        where = {"train": given.train, "id": given.test, "ood": given.ood}
        for name, table in tables.items():
            if not len(table):
                raise UserError(f"{where[name] or 'embedded data'}: no rows; the run needs pairs in train, test and ood")
        _refuse_shared_prompts(tables, where)
        for name, table in tables.items():
            write_table(table, folder / f"{name}.parquet", PREFERENCE)
        return {"rows": {name: len(table) for name, table in tables.items()}}

    return run_stage(folder, {"stage": "data", "source": source}, work)


def sample_part(settings: StarSettings, folder: Path, pairs: Artifact, judge: str, judge_digest: str, iteration: int) -> Artifact:
    """Rationales of the newest judge on a fresh part of the data, both orders, K each."""
    told = VARIANTS[settings.variant][2]
    key = {"stage": "sample", "data": pairs.digest, "judge": judge_digest, "iteration": iteration, "parts": settings.parts}
    key |= {"told": told, **settings.sampler_key(settings.sampling)}

    def work() -> dict[str, Any]:
        fresh = part(read_table(pairs.folder / "train.parquet", PREFERENCE), iteration - 1, settings.parts)
        table = _judge(settings, folder, fresh, judge, settings.sampling, iteration, "sample", f"iteration {iteration}: sample", told)
        write_table(table, folder / "judgments.parquet", JUDGMENT)
        _remove_shards(folder)
        return {"pairs": len(fresh), "sampled": len(table)}

    return run_stage(folder, key, work)


def select(settings: StarSettings, folder: Path, pairs: Artifact, samples: Artifact) -> Artifact:
    """Keep by verdict: judgments -> training examples."""
    objective = VARIANTS[settings.variant][0]
    options = {"objective": objective, "filters": settings.filters, "per_prompt": settings.per_prompt, "template": settings.judge_prompt}

    def work() -> dict[str, Any]:
        judgments = read_table(samples.folder / "judgments.parquet", JUDGMENT)
        table, counts = selection.examples(judgments, read_table(pairs.folder / "train.parquet", PREFERENCE), **options)
        write_table(table, folder / "examples.parquet", EXAMPLE)
        return counts

    return run_stage(folder, {"stage": "select", "samples": samples.digest, **options}, work)


def score(settings: StarSettings, folder: Path, examples: Artifact, start: str, start_digest: str, label: str) -> Artifact:
    """The reference's log-probabilities of the examples: the policy the fit begins from (PAPER eq. 9's π_ref)."""
    key = {"stage": "score", "examples": examples.digest, "start": start_digest, "fit": digest_of(_model_args(settings))}

    def work() -> dict[str, Any]:
        from genrm_lightning.scoring import score_examples

        table = read_table(examples.folder / "examples.parquet", EXAMPLE)
        with Progress(f"{label}: score", len(table), "examples") as progress:
            table = score_examples(table, start, settings.fit, progress.advance)
        write_table(table, folder / "examples.parquet", EXAMPLE)
        return {"rows": len(table)}

    return run_stage(folder, key, work)


def fit(settings: StarSettings, folder: Path, examples: Artifact, start: str, start_digest: str, logdir: Path, name: str) -> Artifact:
    """Train on the examples with LightningCLI in a process of its own; resumes in mid-epoch from its last checkpoint."""
    from genrm_lightning.star.fitting import run_fit, write_config

    key = {"stage": "fit", "examples": examples.digest, "start": start_digest, "seed": settings.seed, "fit": settings.fit}

    def work() -> dict[str, Any]:
        config = write_config(settings, folder, examples.folder / "examples.parquet", start, logdir, name)
        run_fit(config, folder)
        return {}

    return run_stage(folder, key, work)


def evaluate(settings: StarSettings, folder: Path, pairs: Artifact, judge: str, judge_digest: str, iteration: int, label: str) -> Artifact:
    """Judge the held-out sets in both orders, with the same random numbers for every judge."""
    key = {"stage": "evaluate", "data": pairs.digest, "judge": judge_digest, **settings.sampler_key(settings.evaluation)}

    def work() -> dict[str, Any]:
        for name in SETS:
            file = folder / f"{name}.parquet"
            if not file.exists():
                held_out = read_table(pairs.folder / f"{name}.parquet", PREFERENCE)
                shards = folder / name
                table = _judge(settings, shards, held_out, judge, settings.evaluation, iteration, "evaluate", f"{label}: evaluate {name}")
                write_table(table, file, JUDGMENT)
        for name in SETS:
            _remove_shards(folder / name)
        return {}

    return run_stage(folder, key, work)


def _judge(
    settings: StarSettings, folder: Path, pairs: pl.DataFrame, judge: str, sampling, iteration: int, purpose: str, label: str, told=False
) -> pl.DataFrame:
    from genrm_lightning.judgments import judge_pairs

    sweep(folder)
    with Progress(label, len(pairs) * 2 * sampling.n_samples, "samples") as progress, local_sampler(judge, settings.dtype) as sampler:
        return judge_pairs(
            folder, pairs, sampler, sampling, template=settings.judge_prompt, judge=judge, iteration=iteration,
            seed=settings.seed, purpose=purpose, told=told, shard=settings.shard, advance=progress.advance,
        )  # fmt: skip


@contextmanager
def local_sampler(judge: str, dtype: str) -> Iterator[Callable]:
    """A function that makes the local sampler of a judge; its weights are let go of at the end."""
    import torch

    from genrm_lightning.backbone import load_judge, load_renderer
    from genrm_lightning.samplers.local import LocalSampler

    device = "cuda" if torch.cuda.is_available() else "cpu"
    yield lambda: LocalSampler(load_judge(judge, getattr(torch, dtype)).to(device), load_renderer(judge))
    gc.collect()


def _model_args(settings: StarSettings) -> dict[str, Any]:
    return (settings.fit.get("model") or {}).get("init_args") or {}


def _remove_shards(folder: Path) -> None:
    for shard in folder.glob("shard-*.parquet"):
        shard.unlink()
    if folder.exists() and not any(folder.iterdir()):
        folder.rmdir()


def _refuse_shared_prompts(tables: dict[str, pl.DataFrame], where: dict[str, str | None]) -> None:
    """A held-out prompt in training makes every number of the run worthless."""
    from data_tools.split import normalised_prompt

    keys = {name: set(table.select(normalised_prompt().alias("key"))["key"]) for name, table in tables.items()}
    for name in SETS:
        if shared := keys["train"] & keys[name]:
            raise UserError(
                f"{where[name]}: {len(shared)} of its prompts also occur in {where['train']}; "
                "separate them with: python -m data_tools clean, or python -m data_tools split --redo"
            )


def note(text: str) -> None:
    """A line about the run, on stderr: stdout keeps the table alone."""
    print(text, file=sys.stderr, flush=True)
