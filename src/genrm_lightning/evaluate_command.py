"""``python -m genrm_lightning evaluate``: any judge on any sets of pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from data_tools import lineage
from data_tools.artifact import digest, write_json, write_table
from data_tools.errors import UserError
from data_tools.schema import PREFERENCE
from genrm_lightning.evaluation.folder import EVALUATION, PAIRS, SCORES, SETS, EvaluationSet, load_sets
from genrm_lightning.judges.base import Judge, Judged
from genrm_lightning.judging_commands import (
    at_work,
    command_parser,
    common_flags,
    drawn,
    judge_flags,
    judge_from,
    judged_here,
    settings_of,
    stopping_flags,
)
from genrm_lightning.samplers.base import SamplingSettings


def evaluate(argv: list[str]) -> None:
    parser = command_parser("evaluate", "A judge on held-out pairs, both orders.")
    judge_flags(parser)
    parser.add_argument(
        "--data", type=str, nargs="+", required=True,
        help="sets: PREFERENCE parquet, raw files or folders of any format that data_tools reads, "
        "hub:OWNER/NAME[@REVISION][:SPLIT]",
    )  # fmt: skip
    parser.add_argument("--split", type=str | None, default=None, help="of the tables: train, validation or test alone")
    parser.add_argument("--out", type=str, required=True, help="folder for judgments, scores.json and the model card")
    parser.add_argument("--rows", type=int | None, default=None, help="at most this many pairs a set, drawn by hash")
    common_flags(parser, SamplingSettings(n_samples=1))
    stopping_flags(parser)
    arguments, sampling, sampler = settings_of(parser, argv)
    judge = judge_from(arguments, sampling, sampler)
    sets = [
        EvaluationSet(one.name, one.source, drawn(one.pairs, arguments.rows, one.source))
        for one in load_sets(arguments.data, arguments.split)
    ]
    with at_work(arguments):
        judged = _judged(arguments, judge, sets)
        if judged is not None:
            write_evaluation(arguments, judge, sets, judged)


def _judged(arguments: Namespace, judge: Judge, sets: list[EvaluationSet]) -> list[Judged] | None:
    """What was judged of each set; None where shards are missing that other processes are to draw."""
    found = []
    try:
        for one in sets:
            folder = Path(arguments.out) / SETS / one.name
            found.append(judged_here(arguments, judge, one.pairs, folder, one.source))
            write_table(one.pairs, folder / PAIRS, PREFERENCE)
    finally:
        judge.close()
    return None if None in found else found


def write_evaluation(
    arguments: Namespace, judge: Judge, sets: list[EvaluationSet], judged: list[Judged], **parts: Any
) -> None:
    """evaluation.json and scores.json of the sets, ``parts`` being further keys of scores.json; prints a table."""
    out = Path(arguments.out)
    scores: dict[str, Any] = {"judge": judge.name, "kind": judge.kind, "sets": {}, "benchmarks": {}}
    for one, found in zip(sets, judged, strict=True):
        scores["sets"][one.name] = _measured(one, found)
    scores |= parts
    evaluation = {
        "judge": judge.name,
        "kind": judge.kind,
        "objective": judge.objective,
        "judge_prompt": judge.judge_prompt,
        "n_samples": judge.n_samples,
        "seed": arguments.seed,
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
    write_json(out / SCORES, scores)
    write_json(out / EVALUATION, evaluation)
    _show(scores)


def _measured(one: EvaluationSet, judged: Judged) -> dict[str, Any]:
    from genrm_lightning.evaluation.scores import set_scores

    try:
        return set_scores(judged.judgments, one.pairs, judged.dropped).as_dict()
    except ValueError as error:
        raise UserError(f"{one.source}: {error}") from None


def _show(scores: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(scores["judge"]))  # a path may hold what rich takes for markup
    table.add_column("set")
    for name in ("accuracy", "free accuracy", "right in both orders", "invalid", "pairs"):
        table.add_column(name, justify="right")
    dropped = any(found["n_dropped"] for found in scores["sets"].values())
    if dropped:
        table.add_column("did not fit", justify="right")
    for name, found in scores["sets"].items():
        interval = f"{found['accuracy']:.1%} ({found['accuracy_low']:.1%} to {found['accuracy_high']:.1%})"
        shares = (found[k] for k in ("free_accuracy", "position_consistent_accuracy", "invalid_rate"))
        counts = [str(found["n_pairs"]), *([str(found["n_dropped"])] if dropped else [])]
        table.add_row(Text(name), interval, *(f"{share:.1%}" for share in shares), *counts)
    Console().print(table)
