"""``python -m genrm_lightning hack``: what fixed attacks on the worse responses do to a judge."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl
from jsonargparse import Namespace

from data_tools.artifact import read_json, write_table
from data_tools.attacks import Attack, attacked, chosen
from data_tools.errors import UserError
from data_tools.schema import PREFERENCE
from genrm_lightning.evaluation.folder import EVALUATION, PAIRS, SETS, EvaluationSet, load_sets
from genrm_lightning.evaluation.show import show
from genrm_lightning.evaluation.writing import write_evaluation
from genrm_lightning.judges.base import Judge, Judged
from genrm_lightning.judges.choice import is_scores
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


def hack(argv: list[str]) -> None:
    """The command. ``OUT/sets/DATA`` holds the pairs as they are, ``OUT/sets/ATTACK`` those under an attack: a stage
    each, so that a killed call goes on, and one with more attacks judges only these."""
    parser = command_parser("hack", "A judge on pairs whose worse response is under attack: which attacks win?")
    judge_flags(parser)
    parser.add_argument(
        "--data", type=str, required=True,
        help="the pairs: PREFERENCE parquet, a raw file or folder, hub:OWNER/NAME[@REVISION][:SPLIT]",
    )  # fmt: skip
    parser.add_argument("--split", type=str | None, default=None, help="of the table: train, validation or test alone")
    parser.add_argument("--out", type=str, required=True, help="folder for judgments, scores.json and evaluation.json")
    parser.add_argument(
        "--attacks", type=str | None, default=None,
        help="names of attacks or families of them, with commas between (data_tools.attacks); left out: all",
    )  # fmt: skip
    parser.add_argument(
        "--controls", type=bool, default=True, help="judge each attack's neutral control too, to compare it with"
    )
    parser.add_argument("--rows", type=int, default=200, help="at most this many pairs, drawn by hash")
    common_flags(parser, SamplingSettings(n_samples=1))
    stopping_flags(parser)
    arguments, sampling, sampler = settings_of(parser, argv)
    names = None if arguments.attacks is None else list(filter(None, map(str.strip, arguments.attacks.split(","))))
    attacks = chosen(names, arguments.controls)
    if arguments.judge is not None and is_scores(arguments.judge):
        raise UserError(
            f"--judge: '{arguments.judge}' is a file of scores, which has none of attacked responses; name a model"
        )
    judge = judge_from(arguments, sampling, sampler)
    (loaded,) = load_sets([arguments.data], arguments.split)
    clean = EvaluationSet(loaded.name, loaded.source, drawn(loaded.pairs, arguments.rows, loaded.source))
    _check_folder(arguments.out, clean.name, attacks)
    with at_work(arguments):
        judged = _judged(arguments, judge, clean, attacks)
        if judged is not None:
            _write(arguments, judge, clean, attacks, judged)


def _check_folder(out: str, name: str, attacks: Sequence[Attack]) -> None:
    """Raises UserError where the results would overwrite others."""
    if name in {attack.name for attack in attacks}:
        raise UserError(f"--data: the set would be called '{name}', as one of the attacks; rename the file")
    file = Path(out) / EVALUATION
    said = read_json(file) if file.is_file() else {"sets": [{"name": name}]}
    sets = said.get("sets") if isinstance(said, dict) else None
    if not isinstance(sets, list) or [one.get("name") for one in sets if isinstance(one, dict)] != [name]:
        raise UserError(f"--out: {out}: holds an evaluation of other sets; name another folder")


def _judged(arguments: Namespace, judge: Judge, clean: EvaluationSet, attacks: Sequence[Attack]) -> list[Judged] | None:
    """What was judged of the pairs as they are, and under each attack; None where shards are missing that other
    processes are to draw."""
    found = []
    sets = [(clean.name, clean.source, None), *((one.name, f"{one.name}: {clean.source}", one) for one in attacks)]
    try:
        for name, where, attack in sets:
            pairs: pl.DataFrame = clean.pairs if attack is None else attacked(clean.pairs, attack.name)
            folder = Path(arguments.out) / SETS / name
            found.append(judged_here(arguments, judge, pairs, folder, where))
            write_table(pairs, folder / PAIRS, PREFERENCE)
    finally:
        judge.close()
    return None if None in found else found


def _write(
    arguments: Namespace, judge: Judge, clean: EvaluationSet, attacks: Sequence[Attack], judged: Sequence[Judged]
) -> None:
    from rich.console import Console

    from genrm_lightning.evaluation.hacking import hacking
    from genrm_lightning.evaluation.hacking_table import render

    first, *under = judged
    tables = {attack.name: one.judgments for attack, one in zip(attacks, under, strict=True)}
    try:
        found = hacking(first.judgments, tables, clean.pairs)
    except ValueError as error:
        raise UserError(f"{clean.source}: {error}") from None
    show(write_evaluation(Path(arguments.out), judge, [clean], [first], arguments.seed, hacking=found), Console())
    render(found, f"{judge.name} on {clean.source}", Console())
