"""What was judged -> the files of an evaluation (:mod:`~genrm_lightning.evaluation.folder`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from data_tools import lineage
from data_tools.artifact import digest, digest_of, write_json, write_text
from data_tools.errors import UserError
from data_tools.schema import PREFERENCE
from data_tools.shift import by_category, distances
from genrm_lightning.evaluation.benchmarks import protocols
from genrm_lightning.evaluation.card import card
from genrm_lightning.evaluation.folder import EVALUATION, PAIRS, SCORES, SETS, EvaluationSet, read_evaluation, read_set
from genrm_lightning.evaluation.measured import measure
from genrm_lightning.evaluation.paired import paired
from genrm_lightning.evaluation.results import write_rewardbench
from genrm_lightning.evaluation.scores import presentations
from genrm_lightning.evaluation.shift import shift
from genrm_lightning.judges.base import REWARDS, Judge, Judged, by_contents, way

Sets = Sequence[EvaluationSet]


def write_evaluation(
    out: Path,
    judge: Judge,
    sets: Sets,
    judged: Sequence[Judged],
    seed: int,
    *,
    train: Sets = (),
    against: Sequence[str] = (),
    **parts: Any,
) -> dict[str, Any]:
    """Measure what was judged and write it; evaluation.json comes last, so that its being there means all is.

    Args:
        out: the folder, which has the sets already.
        judged: of each set.
        train: tables that the judge was trained on: the key ``shift`` of scores.json, for each set.
        against: evaluations of other judges: the key ``against``, for each and each set that both have.
        parts: further keys of scores.json.

    Returns:
        What scores.json holds.

    Raises:
        UserError: tables that do not belong together; names the set.
    """
    scores: dict[str, Any] = {
        "judge": judge.name,
        "kind": judge.kind,
        "sets": {one.name: _measured(judge, one, found) for one, found in zip(sets, judged, strict=True)},
        "benchmarks": _benchmarks(sets, judged),
        **({"shift": _shift(train, sets, judged)} if train else {}),
        **({"against": {folder: _against(folder, judge, sets, judged) for folder in against}} if against else {}),
        **parts,
    }
    evaluation = {
        "judge": judge.name,
        "kind": judge.kind,
        "objective": judge.objective,
        "judge_prompt": judge.judge_prompt,
        "n_samples": judge.n_samples,
        "probabilities": judge.probabilities,
        "seed": seed,
        "key": digest_of(way(by_contents(judge.key()))),  # of one judge that is asked in one way
        "sets": [
            {
                "name": one.name,
                "data": one.source,
                "digest": digest(out / SETS / one.name / PAIRS),
                "n_pairs": len(one.pairs),
                "n_dropped": len(found.dropped),
                "seconds": found.seconds,
                "tokens": found.tokens,
                "folder": f"{SETS}/{one.name}",
            }
            for one, found in zip(sets, judged, strict=True)
        ],
        "versions": lineage.versions(),
    }
    (out / EVALUATION).unlink(missing_ok=True)  # of a call before: it does not describe what comes now
    write_json(out / SCORES, scores)
    write_text(out / "README.md", card(scores, evaluation))
    shown, preferences, rewards = _joined(sets, judged)
    write_rewardbench(out / "rewardbench", judge.name, shown, preferences, rewards)
    write_json(out / EVALUATION, evaluation)
    return scores


def check_against(folders: Sequence[str], sets: Sets) -> None:
    """Before anything is judged: the other evaluations are done and of the same pairs.

    Raises:
        UserError: names the evaluation and the set.
    """
    for folder in folders:
        for one in _shared(folder, sets):
            theirs = read_set(folder, one.name)[0]
            if not theirs.sort("pair_id").equals(one.pairs.sort("pair_id")):
                raise UserError(
                    f"--against: {folder}: its set '{one.name}' holds other pairs; evaluate both on the same rows"
                )


def _shared(folder: str, sets: Sets) -> list[EvaluationSet]:
    names = {one["name"] for one in read_evaluation(folder)["sets"]}
    shared = [one for one in sets if one.name in names]
    if not shared:
        raise UserError(f"--against: {folder}: has none of the sets {', '.join(one.name for one in sets)}")
    return shared


def _measured(judge: Judge, one: EvaluationSet, judged: Judged) -> dict[str, Any]:
    try:
        return measure(
            judged.judgments,
            one.pairs,
            dropped=judged.dropped,
            rewards=judged.rewards,
            seconds=judged.seconds,
            probabilities=judge.probabilities,
        )
    except ValueError as error:
        raise UserError(f"{one.source}: {error}") from None


def _joined(sets: Sets, judged: Sequence[Judged]) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame | None]:
    """(presentations, PREFERENCE, REWARDS) of all sets together; a pair of several sets counts once.

    A benchmark may lie in several files: RM-Bench's domains, LLMBar's subsets.

    Raises:
        UserError: one id stands for different pairs.
    """
    rows = pl.concat([one.pairs for one in sets]).unique()
    if (twice := rows.filter(pl.col("pair_id").is_duplicated())["pair_id"]).len():
        raise UserError(f"--data: id '{twice.min()}' stands for different pairs of two sets; evaluate them apart")
    shown = pl.concat([presentations(one.judgments) for one in judged]).unique(["pair_id", "swapped"], keep="first")
    preferences = pl.concat([PREFERENCE.to_frame(), *(one.pairs for one in sets)])
    preferences = preferences.unique("pair_id", keep="first", maintain_order=True)
    scored = [one.rewards for one in judged if one.rewards is not None]
    rewards = pl.concat([REWARDS.to_frame(), *scored]).unique("pair_id", keep="first", maintain_order=True)
    return shown.sort("pair_id", "swapped"), preferences, rewards if len(scored) == len(judged) else None


def _benchmarks(sets: Sets, judged: Sequence[Judged]) -> dict[str, Any]:
    try:
        return protocols(*_joined(sets, judged))
    except ValueError as error:
        raise UserError(f"{', '.join(one.source for one in sets)}: {error}") from None


def _shift(train: Sets, sets: Sets, judged: Sequence[Judged]) -> dict[str, Any]:
    rows = pl.concat([one.pairs for one in train]).lazy()
    named = ", ".join(one.source for one in train)
    found = {}
    for one, of in zip(sets, judged, strict=True):
        away = distances(rows, one.pairs.lazy())
        numbers = shift(of.judgments, one.pairs, away, train=named, dropped=of.dropped)
        apart = by_category(rows, one.pairs.lazy(), away).to_dicts()
        found[one.name] = {**numbers, "divergence": apart}
    return found


def _against(folder: str, judge: Judge, sets: Sets, judged: Sequence[Judged]) -> dict[str, Any]:
    theirs = read_evaluation(folder)
    # Evaluations of earlier versions do not say.
    probabilities = judge.probabilities and theirs.get("probabilities", theirs.get("kind") != "scores")
    names = [one.name for one in _shared(folder, sets)]
    return {
        one.name: paired(
            read_set(folder, one.name)[1].judgments, found.judgments, one.pairs, probabilities=probabilities
        )
        for one, found in zip(sets, judged, strict=True)
        if one.name in names
    }
