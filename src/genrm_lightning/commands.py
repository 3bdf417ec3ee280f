"""The commands beside LightningCLI's: star, sample, score, evaluate, plan, export."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from data_tools.artifact import read_table, write_json, write_table
from data_tools.errors import UserError
from data_tools.schema import EXAMPLE, JUDGMENT, PREFERENCE, check_unique_ids
from data_tools.told import Told
from genrm_lightning.budget import TooLong, policy_key
from genrm_lightning.judge_folder import judge_info
from genrm_lightning.locking import only_one
from genrm_lightning.parsing import SUBCOMMANDS, OneLineErrors, mistakes_told
from genrm_lightning.samplers.base import SamplingSettings
from genrm_lightning.star.settings import StarSettings

_PROMPT = "mt_bench"  # the judge prompt of a model that is no judge of ours


class _FlagParser(OneLineErrors, argparse.ArgumentParser):
    """Of a command whose other flags are those of a fit."""


class _Parser(OneLineErrors, ArgumentParser):  # jsonargparse makes more of the class for nested settings
    pass


def _parser(command: str, description: str) -> _Parser:
    # An abbreviated flag is a misspelt one, and refused like one.
    parser = _Parser(prog=f"python -m genrm_lightning {command}", description=description, allow_abbrev=False)
    if command != "score":
        parser.add_argument("--config", action="config", help="settings as YAML; flags after it win")
    return parser


def main(argv: list[str]) -> int:
    """Run the command ``argv[0]`` names."""
    commands: dict[str, Callable[[list[str]], None]] = {
        "star": _star,
        "sample": _sample,
        "score": _score,
        "evaluate": _evaluate,
        "plan": _plan,
        "export": _export,
    }
    if argv[0] not in commands:
        raise UserError(f"'{argv[0]}' is no command; there are: {', '.join((*SUBCOMMANDS, *commands))}")
    commands[argv[0]](argv[1:])
    return 0


def star_settings(argv: list[str]) -> StarSettings:
    """The settings of a STaR run from ``--config`` files and flags."""
    parser = _parser("star", "STaR: sample, select, fit, evaluate; N times.")
    parser.add_class_arguments(StarSettings, nested_key=None, as_group=False)
    return _built(parser, argv, StarSettings)


def _star(argv: list[str]) -> None:
    settings = star_settings(argv)
    from genrm_lightning.star.loop import run

    run(settings)


def _sample(argv: list[str]) -> None:
    parser = _parser("sample", "Preference pairs -> judgments, in both orders.")
    parser.add_argument("--judge", type=str, default="embedded", help="backbone or judge folder that samples")
    parser.add_argument("--pairs", type=str, required=True, help="PREFERENCE parquet")
    parser.add_argument("--out", type=str, required=True, help="folder for judgments.parquet")
    parser.add_argument(
        "--told", type=Told | None, default=None,
        help="tell the right answer (for the Rationalizer), or the wrong one as if it were right (its IPO variant's "
        "rejected side)",
    )  # fmt: skip
    parser.add_argument("--rows", type=int, default=None, help="at most this many pairs, drawn by hash")
    _common(parser, SamplingSettings())
    parser.add_argument("--iteration", type=int, default=1)
    arguments, sampling = _sampling(parser, argv)
    with only_one(arguments.out):
        table = _judged(arguments, sampling, "sample", arguments.told, arguments.iteration)
    print(f"{len(table)} judgments: {Path(arguments.out) / 'judgments.parquet'}")


def _evaluate(argv: list[str]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from genrm_lightning.evaluation.scores import set_scores

    parser = _parser("evaluate", "A judge on held-out pairs, both orders.")
    parser.add_argument("--judge", type=str, required=True, help="judge folder or backbone")
    parser.add_argument("--pairs", type=str, required=True, help="PREFERENCE parquet")
    parser.add_argument("--out", type=str, required=True, help="folder for judgments.parquet and scores.json")
    parser.add_argument("--rows", type=int, default=None, help="at most this many pairs, drawn by hash")
    _common(parser, SamplingSettings(n_samples=1))
    arguments, sampling = _sampling(parser, argv)
    with only_one(arguments.out):
        table = _judged(arguments, sampling, "evaluate", None, 0)
        pairs = _pairs(arguments)
        dropped = set(pairs["pair_id"]) - set(table["pair_id"])  # said when they were
        scores = set_scores(table, pairs, dropped).as_dict()
        write_json(Path(arguments.out) / "scores.json", scores)
    shown = Table(title=Text(f"{arguments.judge} on {arguments.pairs}"))  # a path may hold what rich takes for markup
    for name in ("accuracy", "free accuracy", "position-consistent accuracy", "invalid rate", "pairs"):
        shown.add_column(name)
    interval = f"{scores['accuracy']:.1%} ({scores['accuracy_low']:.1%} to {scores['accuracy_high']:.1%})"
    rest = [f"{scores[k]:.1%}" for k in ("free_accuracy", "position_consistent_accuracy", "invalid_rate")]
    counts = [scores["n_pairs"]]
    if scores["n_dropped"]:
        shown.add_column("did not fit")
        counts.append(scores["n_dropped"])
    shown.add_row(interval, *rest, *map(str, counts))
    Console().print(shown)


def _score(argv: list[str]) -> None:
    parser = _parser("score", "Examples -> the same with ref_logp.")
    parser.add_argument("--examples", type=str, required=True, help="EXAMPLE parquet")
    parser.add_argument("--reference", type=str, default="embedded", help="what the fit will begin from")
    parser.add_argument(
        "--fit", type=str, nargs="+", default=[], help="the fit's YAML files: its backbone and precision are used"
    )
    parser.add_argument("--out", type=str, required=True, help="parquet to write")
    arguments = parser.parse_args(argv)
    for file in arguments.fit:
        if not Path(file).is_file():
            raise UserError(f"--fit: {file}: no such file")
    fit: dict[str, Any] = {}
    if arguments.fit:
        from genrm_lightning.cli import parse_files

        fit = parse_files("fit", arguments.fit, "--fit")["fit"].as_dict()
    table = read_table(arguments.examples, EXAMPLE)

    from genrm_lightning.progress import Progress
    from genrm_lightning.quiet import no_loading_bars
    from genrm_lightning.scoring import score_examples

    no_loading_bars()
    with Progress("score", len(table), "examples") as progress:
        scored = score_examples(table, arguments.reference, fit, progress.advance)
        write_table(scored, arguments.out, EXAMPLE)
    print(f"{len(scored)} examples: {arguments.out}")


def _plan(argv: list[str]) -> None:
    parser = _FlagParser(
        prog="python -m genrm_lightning plan",
        usage="%(prog)s --config FILE [--config FILE ...] [options] [any flag of fit]",
        description="What a fit takes, before any weights are loaded: parameters, tokens, steps, FLOPs, memory, time.",
        allow_abbrev=False,
    )
    rate = parser.add_mutually_exclusive_group()
    rate.add_argument("--tflops", type=float, default=None, help="10^12 FLOP/s that a device reaches; gives the time")
    rate.add_argument("--measure", action="store_true", help="take the rate of bf16 matrix products on this device")
    parser.add_argument("--json", action="store_true", help="JSON instead of a table")
    flags, of_fit = parser.parse_known_args(argv)
    if flags.tflops is not None and not 0 < flags.tflops < math.inf:
        raise UserError(f"--tflops: {flags.tflops:g} is not above 0")

    from rich.console import Console

    from genrm_lightning.cli import read_fit
    from genrm_lightning.plan import plan, rate_here, show

    config, objective, data = read_fit(of_fit)
    speed = rate_here(config.trainer) if flags.measure else flags.tflops and flags.tflops * 1e12
    found = plan(objective, data, config.trainer, speed)
    if flags.json:
        print(json.dumps(found, indent=2))
    else:
        show(found, Console())


def _export(argv: list[str]) -> None:
    parser = _parser("export", "A judge -> one plain Hugging Face folder, adapters merged.")
    parser.add_argument("--judge", type=str, required=True, help="judge folder")
    parser.add_argument("--out", type=str, required=True, help="folder to write")
    parser.add_argument("--dtype", type=str, default="float32", choices=("float32", "bfloat16"))
    arguments = parser.parse_args(argv)

    import torch

    from genrm_lightning.export import export_judge
    from genrm_lightning.quiet import no_loading_bars

    no_loading_bars()
    model = export_judge(arguments.judge, arguments.out, getattr(torch, arguments.dtype))
    print(f"{type(model).__name__}: {arguments.out}")


def _common(parser: ArgumentParser, default: SamplingSettings) -> None:
    parser.add_argument(
        "--judge_prompt", type=str | None, default=None,
        help=f"name in data_tools.judging.PROMPTS; left out: the one the judge was trained with, else {_PROMPT}",
    )  # fmt: skip
    parser.add_argument("--dtype", type=str, default="bfloat16", choices=("float32", "bfloat16"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--shard", type=int, default=64, help="judge prompts a shard; a killed run goes on after the last"
    )
    parser.add_argument(
        "--too_long", type=TooLong, default="shorten",
        help="of a judge prompt too long for the context: shorten its conversation, drop the pair, or take it as error",
    )  # fmt: skip
    parser.add_class_arguments(SamplingSettings, "sampling")
    parser.set_defaults({f"sampling.{k}": v for k, v in vars(default).items()})


def _judge_prompt(judge: str, given: str | None) -> str:
    """The judge prompt to show: what the judge was trained with, for a model that is no judge ``given`` or _PROMPT.

    Raises:
        UserError: ``given`` is another one, or the judge writes no verdicts.
    """
    info = {} if judge == "embedded" else judge_info(judge)
    if info.get("objective") in ("BradleyTerry", "PairRM"):
        raise UserError(
            f"--judge: '{judge}' is a reward model ({info['objective']}), its verdicts mean nothing; "
            "use: python -m genrm_lightning test, or predict"
        )
    trained = info.get("judge_prompt")
    if trained and given not in (None, trained):
        raise UserError(
            f"--judge_prompt: {given}: the judge '{judge}' was trained with '{trained}'; leave the flag out"
        )
    return trained or given or _PROMPT


def _sampling(parser: ArgumentParser, argv: list[str]) -> tuple[Namespace, SamplingSettings]:
    arguments = parser.parse_args(argv)
    return arguments, SamplingSettings(**vars(arguments.sampling))


def _pairs(arguments: Namespace):
    from data_tools.split import sample

    if arguments.rows is not None and arguments.rows < 1:
        raise UserError(f"--rows: {arguments.rows} is not above 0")
    pairs = read_table(arguments.pairs, PREFERENCE)
    if not len(pairs):
        raise UserError(f"{arguments.pairs}: no rows; name another file")
    check_unique_ids(pairs, arguments.pairs)
    return pairs if arguments.rows is None else sample(pairs, arguments.rows)


def _judged(arguments: Namespace, sampling: SamplingSettings, purpose: str, told: Told | None, iteration: int):
    from data_tools.artifact import digest
    from data_tools.judging import prompt_named
    from genrm_lightning.judgments import fitting, judge_pairs
    from genrm_lightning.progress import Progress
    from genrm_lightning.star.stages import identity, local_sampler, remove_shards, run_stage

    arguments.judge_prompt = _judge_prompt(arguments.judge, arguments.judge_prompt)
    prompt_named(arguments.judge_prompt)
    if arguments.shard < 1:
        raise UserError(f"--shard: {arguments.shard} is not above 0")
    pairs = _pairs(arguments)
    folder = Path(arguments.out)
    names = ("judge_prompt", "dtype", "seed", "shard", "rows")
    key = {"stage": purpose, "pairs": digest(arguments.pairs), "told": told or False, "iteration": iteration}
    key["judge"] = identity(arguments.judge)
    key |= policy_key(arguments.too_long)
    key |= {n: arguments[n] for n in names} | {k: v for k, v in vars(sampling).items() if k != "batch_tokens"}

    def work() -> dict[str, Any]:
        asked = fitting(
            pairs, arguments.judge, sampling, template=arguments.judge_prompt, told=told, too_long=arguments.too_long,
            where=arguments.pairs,
        )  # fmt: skip
        total = len(asked) * 2 * sampling.n_samples
        with (
            Progress(purpose, total, "samples") as progress,
            local_sampler(arguments.judge, arguments.dtype) as sampler,
        ):
            table = judge_pairs(
                folder, asked, sampler, sampling, template=arguments.judge_prompt, judge=arguments.judge,
                iteration=iteration, seed=arguments.seed, purpose=purpose, told=told, shard=arguments.shard,
                advance=progress.advance,
            )  # fmt: skip
        write_table(table, folder / "judgments.parquet", JUDGMENT)
        remove_shards(folder)
        return {"rows": len(table)}

    run_stage(folder, key, work)
    return read_table(folder / "judgments.parquet", JUDGMENT)


def _built(parser: ArgumentParser, argv: list[str], kind: type):
    given = parser.parse_args(argv)
    with mistakes_told():
        found = parser.instantiate_classes(given)
    return kind(**{k: v for k, v in vars(found).items() if k != "config"})
