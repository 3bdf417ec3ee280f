"""What is done for a method: stages in its folder, and at the end a manifest that says what they took."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from data_tools.artifact import (
    MANIFEST,
    digest_of,
    read_json,
    read_table,
    sweep,
    write_manifest,
    write_table,
    write_text,
)
from data_tools.errors import UserError
from data_tools.schema import JUDGMENT, PREFERENCE
from data_tools.split import part
from genrm_lightning.budget import policy_key
from genrm_lightning.compare.place import Place
from genrm_lightning.compare.settings import objective_of
from genrm_lightning.compare.sharing import ZERO_SHOT, adopt
from genrm_lightning.parsing import merged
from genrm_lightning.star import fitting, rationales, stages
from genrm_lightning.star.fitting import DASHBOARD, WARM_START, takes_dashboard
from genrm_lightning.star.settings import HELD_OUT, StarSettings
from genrm_lightning.star.stage import Artifact, identity, remove_shards, run_stage

_SAMPLES = "judgments.parquet"
_JUDGING = ("evaluate", "quality")  # stages of an iteration that train nothing


def run(place: Place, others: Sequence[Place]) -> dict[str, Any]:
    """Do what is missing of a method; what it took and where it judged.

    Args:
        others: methods of the same comparison; what they share with this one is not done again.
    """
    key = place.key
    sweep(place.folder)
    facts = {"zero-shot": _zero_shot, "pairs": _pairs, "star": _star}[place.kind](place, others)
    write_manifest(place.folder, key, facts=facts)
    return facts


def check(place: Place) -> None:
    """Read the method's fits as they will be read, before anything is trained.

    Raises:
        UserError: names the method and the key.
    """
    try:
        if place.kind == "star":
            fitting.check_config(place.star)
            rationales.check(place.star)
        elif place.kind == "pairs":
            from genrm_lightning.cli import parse

            parse("fit", _fit_config(place, Path("unused"), Path("unused")), "fit")
    except UserError as error:
        raise UserError(f"methods.{place.name}: {error}") from None


def _zero_shot(place: Place, others: Sequence[Place]) -> dict[str, Any]:
    star = place.star
    start = digest_of(identity(star.backbone))
    if not place.writes:
        return _facts(place, _read(place, star.backbone, start))
    adopt(place, others)
    folder = place.folder / ZERO_SHOT
    return _facts(place, stages.evaluate(star, folder, place.pairs, star.backbone, start, 0, place.name))


def _pairs(place: Place, others: Sequence[Place]) -> dict[str, Any]:
    star = place.star
    rows = _labelled(star, place.folder / "labelled", place.pairs)
    section = place.settings.fit_section(place.name)
    key = {"stage": "fit", "objective": place.line["objective"], "examples": rows.digest, "fit": section}
    key |= {"start": digest_of(identity(star.backbone)), "seed": star.seed, "judge_prompt": star.judge_prompt}
    key |= policy_key(star.too_long)
    folder = place.folder / "fit"

    def work() -> dict[str, Any]:
        config = _fit_config(place, rows.folder / "train.parquet", folder)
        path = folder / fitting.CONFIG
        write_text(path, yaml.safe_dump(config, sort_keys=False))
        fitting.run_fit(path, folder)
        return {}

    fitted = run_stage(folder, key, work)
    judged = _read(place, str(folder / "judge"), fitted.digest)
    return _facts(place, judged, [fitted], pairs=rows.facts["rows"])


def _star(place: Place, others: Sequence[Place]) -> dict[str, Any]:
    from genrm_lightning.star import loop

    adopt(place, others)
    with contextlib.redirect_stdout(sys.stderr):  # our stdout holds the table of all methods alone
        summary = loop.run(place.star, alone=False)
    kinds = {"zero_shot": ZERO_SHOT, "warm_start": WARM_START}
    steps = [place.folder / kinds.get(row["kind"], f"iteration-{row['iteration']}") for row in summary["rows"]]
    # The newest judge, or where it ended the run by being worse (early_stop) the best before it.
    labels = [row["label"] for row in summary["rows"]]
    taken = steps[labels.index(summary["stopped"]["best"]) if "stopped" in summary else -1]
    trained = [
        _done(manifest.parent)
        for step in steps
        for manifest in sorted(step.glob(f"*/{MANIFEST}"))
        if manifest.parent.name not in _JUDGING
    ]
    tables = [
        pl.read_parquet(stage.folder / _SAMPLES, columns=["pair_id", "n_tokens"]).with_columns(given=_is_given(stage))
        for stage in trained
        if (stage.folder / _SAMPLES).exists()
    ]
    pairs = pl.concat(tables)
    samples = pairs.filter(~pl.col("given"))  # what is given costs nobody a sample
    judged = _done(taken if taken.name == ZERO_SHOT else taken / "evaluate")
    return _facts(place, judged, trained, pairs["pair_id"].n_unique(), len(samples), int(samples["n_tokens"].sum()))


def _is_given(stage: Artifact) -> pl.Expr:
    """Whether the rationales of a stage were given (a file's, say), and not sampled."""
    return pl.lit(read_json(stage.folder / MANIFEST)["key"].get("stage") == "bootstrap")


def _facts(
    place: Place,
    judged: Artifact,
    trained: Sequence[Artifact] = (),
    pairs: int = 0,
    samples: int = 0,
    sampled_tokens: int = 0,
) -> dict[str, Any]:
    from genrm_lightning.callbacks import SPENT

    spent = [read_json(stage.folder / SPENT) for stage in trained if stage.folder.name == "fit"]
    return {
        "judged": str(judged.folder.relative_to(place.folder)),
        "dropped": judged.facts["dropped"],
        "pairs": pairs,
        "samples": samples,
        "sampled_tokens": sampled_tokens,
        "steps": sum(one["steps"] for one in spent),
        "trained_tokens": sum(one["tokens"] for one in spent),
        "seconds": round(sum(stage.facts["seconds"] for stage in trained), 1),
        "judging_seconds": judged.facts["seconds"],
    }


def _labelled(star: StarSettings, folder: Path, pairs: Artifact) -> Artifact:
    """The pairs whose labels the star methods are given: the warm start's, and those of every iteration's part."""

    def work() -> dict[str, Any]:
        train = read_table(pairs.folder / "train.parquet", PREFERENCE)
        tables = [part(train, i, star.parts) for i in range(star.iterations if star.fresh else 1)]
        if star.warm_start is not None:
            tables.insert(0, read_table(pairs.folder / "warm.parquet", PREFERENCE))
        write_table(pl.concat(tables), folder / "train.parquet", PREFERENCE)
        return {"rows": sum(map(len, tables))}

    key = {"stage": "labelled", "data": pairs.digest, "parts": star.parts, "iterations": star.iterations}
    key |= {} if star.fresh else {"fresh": False}
    return run_stage(folder, key, work)


def _fit_config(place: Place, train: Path, folder: Path) -> dict[str, Any]:
    """LightningCLI's config of a fit on pairs: the method's section with what the comparison decides."""
    star, line = place.star, place.line
    prompt = {"judge_prompt": star.judge_prompt} if line["objective"] == "GenRM" else {}
    decided = {
        "seed_everything": star.seed,
        "model": {
            "class_path": f"genrm_lightning.objectives.{line['objective']}",
            "init_args": {"backbone": {"name": star.backbone}, **prompt},
        },
        "data": {
            "class_path": "genrm_lightning.data.Tables",
            "init_args": {"train": str(train), "seed": star.seed, "too_long": star.too_long},
        },
        "trainer": {"default_root_dir": str(folder)},
    }
    given = place.settings.fit_section(place.name)
    if both := _common(given, decided):
        raise UserError(f"fit.{both}: the comparison decides it; leave it out")
    config = merged(given, decided)
    bar = {"class_path": "genrm_lightning.callbacks.FitProgress", "init_args": {"label": f"{place.name}: fit"}}
    callbacks = config["trainer"].get("callbacks") or []
    callbacks = callbacks if isinstance(callbacks, list) else [callbacks]
    # The comparison is a table of the HParams tab; a fit in it has no line of its own.
    board = {"class_path": DASHBOARD, "init_args": {"hparams": False}}
    config["trainer"]["callbacks"] = [*callbacks, *([board] if takes_dashboard(config) else []), bar]
    return config


def _common(given: dict[str, Any], decided: dict[str, Any]) -> str | None:
    """The first key that both set, as a.b.c."""
    for key in given.keys() & decided.keys():
        if not (isinstance(given[key], dict) and isinstance(decided[key], dict)):
            return key
        if (below := _common(given[key], decided[key])) is not None:
            return f"{key}.{below}"
    return None


def _read(place: Place, judge: str, judge_digest: str) -> Artifact:
    """Judge the held-out pairs without a rationale: scores of a reward model, or the verdict's probabilities."""
    star = place.star
    folder = place.folder / "read"
    key = {"stage": "read", "data": place.pairs.digest, "judge": judge_digest, "dtype": star.dtype}
    key |= {"objective": place.line.get("objective"), "judge_prompt": star.judge_prompt, **policy_key(star.too_long)}

    def work() -> dict[str, Any]:
        import torch

        from genrm_lightning.judges.reading import ReadingJudge

        reading = ReadingJudge(
            judge, objective_of(place.line), star.judge_prompt, dtype=getattr(torch, star.dtype),
            too_long=star.too_long, name=place.name, seed=star.seed,
        )  # fmt: skip
        dropped = {}
        for name in HELD_OUT:
            pairs = read_table(place.pairs.folder / f"{name}.parquet", PREFERENCE)
            judged = reading.judge(pairs, folder / name, f"{place.name}: evaluate {name}")
            write_table(judged.judgments, folder / f"{name}.parquet", JUDGMENT)
            remove_shards(folder / name)
            dropped[name] = sorted(judged.dropped)
        return {"dropped": dropped}

    return run_stage(folder, key, work)


def _done(folder: Path) -> Artifact:
    """A finished stage."""
    manifest = read_json(folder / MANIFEST)
    return Artifact(folder, digest_of(manifest["key"]), {**manifest["facts"], "seconds": manifest["seconds"]})
