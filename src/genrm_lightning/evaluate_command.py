"""``python -m genrm_lightning evaluate``: any judge on any sets of pairs."""

from __future__ import annotations

from pathlib import Path

from jsonargparse import Namespace
from rich.console import Console

from data_tools.artifact import write_table
from data_tools.schema import PREFERENCE
from genrm_lightning.evaluation.folder import PAIRS, SETS, EvaluationSet, load_sets, trained_on
from genrm_lightning.evaluation.show import show
from genrm_lightning.evaluation.writing import check_against, write_evaluation
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
    parser.add_argument(
        "--train", type=str, nargs="*", default=[],
        help="what the judge was trained on, as --data (rows of the split train, where a table has any): accuracy "
        "against the distance from it",
    )  # fmt: skip
    parser.add_argument(
        "--against", type=str, nargs="*", default=[],
        help="outputs of evaluate of other judges on the same sets: paired differences, this judge minus theirs",
    )  # fmt: skip
    common_flags(parser, SamplingSettings(n_samples=1))
    stopping_flags(parser)
    arguments, sampling, sampler = settings_of(parser, argv)
    judge = judge_from(arguments, sampling, sampler)
    sets = [
        EvaluationSet(one.name, one.source, drawn(one.pairs, arguments.rows, one.source))
        for one in load_sets(arguments.data, arguments.split)
    ]
    train = [trained_on(one) for one in load_sets(arguments.train, flag="--train")]
    check_against(arguments.against, sets)
    with at_work(arguments):
        judged = _judged(arguments, judge, sets)
        if judged is None:
            return
        scores = write_evaluation(
            Path(arguments.out), judge, sets, judged, arguments.seed, train=train, against=arguments.against
        )
    show(scores, Console())


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
