"""Where an iteration's rationales come from: the newest judge, told an answer or not; for the first one another model.

The STaR-IPO Rationalizer draws two tables, the right and the wrong answer told. ``rationalize_failed`` adds one
of the prompts that no sample got right, with the answer told. ``bootstrap`` takes those of the first iteration from a
file, or from another judge; ``warm_start.rationales`` those of the warm start.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from data_tools import rationales as files
from data_tools import told as telling
from data_tools import verifiable
from data_tools.artifact import digest, digest_of, read_table, write_table
from data_tools.errors import UserError
from data_tools.schema import JUDGMENT, PREFERENCE
from data_tools.told import Told
from genrm_lightning.star import stages
from genrm_lightning.star.settings import OWN, REFERENCE, StarSettings
from genrm_lightning.star.stage import Artifact, identity, run_stage
from genrm_lightning.star.tokens import retokenised
from genrm_lightning.star.variants import VARIANTS

_FOLDERS = {None: "sample", "right": "sample", "wrong": "sample-told-wrong"}  # by what is told
_RATIONALIZE = "rationalize"


@dataclass(frozen=True)
class Rationales:
    """The JUDGMENT tables of an iteration; the second and the third where the settings ask for them.

    Attributes:
        from_file: whether ``samples`` and ``told_wrong`` were given in a file, and not sampled.
    """

    samples: Artifact
    told_wrong: Artifact | None = None
    rationalized: Artifact | None = None
    from_file: bool = False

    @property
    def all(self) -> list[Artifact]:
        return [table for table in (self.samples, self.told_wrong, self.rationalized) if table is not None]

    def counts(self, total: int) -> dict[str, int]:
        """Of ``total`` rationales in these tables: how many were ``sampled``; where there was a file, ``given``."""
        if not self.from_file:
            return {"sampled": total}
        drawn = {} if self.rationalized is None else self.rationalized.facts
        sampled = drawn.get("taken", drawn.get("sampled", 0))
        return {"sampled": sampled, "given": total - sampled}


def of_iteration(
    settings: StarSettings,
    folder: Path,
    pairs: Artifact,
    judge: str,
    judge_digest: str,
    iteration: int,
    given: Rationales | None = None,
) -> Rationales:
    """Draw what the iteration of that folder needs; ``given``: what :func:`of_file` has taken for it."""
    reader = sampler = None
    if iteration == 1 and settings.bootstrap is not None and settings.bootstrap.file is None:
        reader, sampler = (judge, judge_digest), settings.bootstrap.sampler
        judge = settings.bootstrap.judge or sampler.served
        judge_digest = digest_of(identity(judge))
    found = given or Rationales(
        *(
            stages.sample_part(
                settings, folder / _FOLDERS[told], pairs, judge, judge_digest, iteration, told, reader, sampler
            )
            for told in _told(settings)
        )
    )
    if not settings.rationalize_failed:
        return found
    key = {"stage": _RATIONALIZE, "samples": found.samples.digest, "iteration": iteration}
    if settings.right != StarSettings.right:
        key["right"] = settings.right

    def failed() -> stages.Prompts:
        prompts = telling.failed(read_table(found.samples.folder / "judgments.parquet", JUDGMENT), settings.right)
        rows = stages.part_of(settings, pairs, iteration).join(prompts, on="pair_id", how="semi")
        return rows, prompts.rows()

    label = f"iteration {iteration}: rationalize"
    hinted = stages.draw(
        settings, folder / _RATIONALIZE, key, failed, judge, judge_digest, settings.sampling, iteration, label,
        "right", reader, sampler,
    )  # fmt: skip
    return Rationales(found.samples, found.told_wrong, hinted, found.from_file)


def of_file(
    settings: StarSettings, folder: Path, pairs: Artifact, backbone: str, backbone_digest: str
) -> Rationales | None:
    """The first iteration's rationales from ``bootstrap.file``; None where there is none."""
    if settings.bootstrap is None or settings.bootstrap.file is None:
        return None
    file = Path(settings.bootstrap.file)
    both = len(_told(settings)) > 1
    tables = []
    for told in _told(settings):
        given = _Given(
            "bootstrap.file",
            "the first part",
            1,
            {"parts": settings.parts, "file": digest(file), "told": both and told},
            lambda: stages.part_of(settings, pairs, 1),
            lambda: files.read(file),
            file.name,
            str(file),
            told if both else None,
            file=file,
        )
        tables.append(_take(settings, folder / _FOLDERS[told], pairs, backbone, backbone_digest, given))
    return Rationales(*tables, from_file=True)


def of_warm_start(
    settings: StarSettings, folder: Path, pairs: Artifact, backbone: str, backbone_digest: str
) -> Artifact:
    """A stage: the rationales that the warm start trains on, the backbone's own or those it is given."""
    chosen = settings.warm_start.rationales
    if chosen == OWN:
        return stages.sample_warm(settings, folder, pairs, backbone, backbone_digest)
    if chosen == REFERENCE:
        data = settings.data.embedded
        key = {"embedded": vars(data), "generator": verifiable.VERSION}
        named = "those of the embedded data"

        def read() -> tuple[pl.DataFrame, int]:
            return files.judgments(verifiable.rationales(data.rows, data.seed, data.levels, data.kinds))
    else:
        key, named = {"file": digest(chosen)}, chosen

        def read() -> tuple[pl.DataFrame, int]:
            return files.read(chosen)

    given = _Given(
        "warm_start.rationales",
        "the warm start",
        0,
        {"warm": True, **key},
        lambda: read_table(pairs.folder / "warm.parquet", PREFERENCE),
        read,
        Path(chosen).name,
        named,
        only_right=True,  # the label's verdict stands behind each
        file=None if chosen == REFERENCE else chosen,
    )
    return _take(settings, folder, pairs, backbone, backbone_digest, given)


def check(settings: StarSettings) -> None:
    """Read what ``bootstrap`` and ``warm_start.rationales`` name, before anything is sampled.

    Raises:
        UserError: no such file or judge, or one that cannot write this run's rationales.
    """
    if settings.warm_start is not None and settings.warm_start.rationales not in (OWN, REFERENCE):
        files.read(settings.warm_start.rationales)
    if settings.bootstrap is None:
        return
    if settings.bootstrap.file is not None:
        files.read(settings.bootstrap.file)
        return
    if settings.bootstrap.judge is None:
        return
    from genrm_lightning.backbone import context_of, judge_info, load_renderer, resolve

    judge = settings.bootstrap.judge
    info = judge_info(resolve(judge))
    if info.get("objective") in ("BradleyTerry", "PairRM"):
        raise UserError(f"bootstrap.judge: '{judge}' is a reward model ({info['objective']}), it writes no rationales")
    if info.get("judge_prompt") not in (None, settings.judge_prompt):
        raise UserError(
            f"bootstrap.judge: '{judge}' was trained with judge prompt '{info['judge_prompt']}', the run has "
            f"'{settings.judge_prompt}'; take another judge, or its judge_prompt"
        )
    context_of(judge)
    load_renderer(judge)


def _told(settings: StarSettings) -> tuple[Told | None, ...]:
    return VARIANTS[settings.variant].told or (None,)


@dataclass(frozen=True)
class _Given:
    """Rationales that no judge of the run has written.

    Attributes:
        setting: that names them.
        of: whose they should be, for people.
        iteration: that they are for; the warm start is 0.
        key: what decides them.
        wanted: PREFERENCE, the pairs whose rationales are taken.
        read: (JUDGMENT, how many had no verdict).
        writer: the judge's name where the rows have none.
        named: the source, for people.
        told: take those that vote like this answer; None takes all.
        only_right: leave out what is not for the label's verdict.
        file: that ``read`` reads, where it reads one.
    """

    setting: str
    of: str
    iteration: int
    key: dict[str, Any]
    wanted: Callable[[], pl.DataFrame]
    read: Callable[[], tuple[pl.DataFrame, int]]
    writer: str
    named: str
    told: Told | None = None
    only_right: bool = False
    file: str | Path | None = None


def _take(
    settings: StarSettings, folder: Path, pairs: Artifact, backbone: str, backbone_digest: str, given: _Given
) -> Artifact:
    """A stage: the given rationales of the wanted pairs that fit the budget; says what is left out."""
    budget = settings.sampling.rationale_tokens
    key = {"stage": "bootstrap", "data": pairs.digest, "tokens": backbone_digest, "rationale_tokens": budget}

    def work() -> dict[str, Any]:
        table, invalid = given.read()
        ids = given.wanted().select("pair_id")
        ours = table.join(ids, on="pair_id", how="semi")
        fits = retokenised(ours, backbone, budget)
        too_long = ours.height - fits.height
        wrong = int((~telling.is_right(fits)).sum()) if given.only_right else 0
        if wrong:
            fits = fits.filter(telling.is_right(fits))
        counts = {
            "rows": table.height + invalid,
            "taken": fits.height,
            "pairs": fits["pair_id"].n_unique(),
            "pairs_without": ids.height - fits["pair_id"].n_unique(),
            "other_pairs": table.height - ours.height,
            "invalid": invalid,
            "too_long": too_long,
            "wrong": wrong,
        }
        said = (
            f"{given.setting}: {given.named}: {counts['taken']} of {counts['rows']} rationales are taken, for "
            f"{counts['pairs']} pairs of {given.of} ({counts['pairs_without']} have none); left out: "
            f"{counts['other_pairs']} of other pairs, {counts['invalid']} without a verdict, {counts['too_long']} "
            f"longer than sampling.rationale_tokens of {budget}"
            + (f", {wrong} with the wrong verdict" if wrong else "")
        )
        if fits.is_empty():
            raise UserError(f"{said}; give rationales of this run's training pairs")
        if given.told != "wrong":
            print(said, file=sys.stderr, flush=True)
        if given.told:
            fits = fits.filter(telling.is_right(fits) == (given.told == "right"))
        named = fits.with_columns(
            iteration=pl.lit(given.iteration, pl.Int32), judge=pl.col("judge").fill_null(given.writer)
        )
        write_table(named.sort("pair_id", "swapped", "sample_index"), folder / "judgments.parquet", JUDGMENT)
        return counts

    return run_stage(folder, key | given.key, work, () if given.file is None else [given.file])
