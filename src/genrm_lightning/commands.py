"""Commands beside LightningCLI's: which there are, and those that are small."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from jsonargparse import ArgumentParser

from data_tools.artifact import read_table, write_table
from data_tools.errors import UserError
from data_tools.schema import EXAMPLE
from data_tools.visible import visible
from genrm_lightning.compare.settings import CompareSettings
from genrm_lightning.judging_commands import command_parser
from genrm_lightning.parsing import SUBCOMMANDS, OneLineErrors, mistakes_told
from genrm_lightning.quiet import no_chatter
from genrm_lightning.star.settings import StarSettings


class _FlagParser(OneLineErrors, argparse.ArgumentParser):
    """Of a command whose other flags are those of a fit."""


# Where a command lies: what it needs is imported only where it runs.
COMMANDS = {
    "star": "commands:_star",
    "join": "commands:_join",
    "compare": "commands:_compare",
    "sample": "judging_commands:sample",
    "score": "commands:_score",
    "evaluate": "evaluate_command:evaluate",
    "hack": "hack_command:hack",
    "votes": "judging_commands:votes",
    "faithfulness": "judging_commands:faithfulness",
    "report": "report_command:report",
    "study": "label_command:study",
    "label": "label_command:label",
    "rank": "rank_command:rank_",
    "try": "try_command:try_",
    "serve": "serve_command:serve",
    "plan": "commands:_plan",
    "export": "commands:_export",
}


def main(argv: list[str]) -> int:
    """Run the command ``argv[0]`` names."""
    if argv[0] not in COMMANDS:
        raise UserError(f"'{argv[0]}' is no command; there are: {', '.join((*SUBCOMMANDS, *COMMANDS))}")
    no_chatter()
    resolve_name(f"genrm_lightning.{COMMANDS[argv[0]]}")(argv[1:])
    return 0


def star_settings(argv: list[str]) -> StarSettings:
    """The settings of a STaR run from ``--config`` files and flags."""
    parser = command_parser("star", "STaR: sample, select, fit, evaluate; N times.")
    parser.add_class_arguments(StarSettings, nested_key=None, as_group=False)
    _no_flag_into(argv, "fit", "objective", "warm_start.fit")
    return _built(parser, argv, StarSettings)


def _star(argv: list[str]) -> None:
    settings = star_settings(argv)
    from genrm_lightning.star.loop import run

    run(settings)


def _join(argv: list[str]) -> None:
    parser = command_parser("join", "Draw samples for a STaR run that another process has, here or on another machine.")
    parser.add_argument("--run", type=str, required=True, help="folder of the run, in a file system that both see")
    parser.add_argument(
        "--wait", type=float, default=60.0,
        help="seconds to wait for the run to begin, or to be started again after its process has died",
    )  # fmt: skip
    arguments = parser.parse_args(argv)
    from genrm_lightning.star.joining import join

    drawn = join(Path(arguments.run), arguments.wait)
    print(f"{arguments.run}: the run has ended; {drawn} shards were drawn here")


def _no_flag_into(argv: list[str], *mappings: str) -> None:
    """Refuse flags for what lies deeper in a free mapping: jsonargparse would put them in place of all beside it."""
    for flag in (given.partition("=")[0] for given in argv):
        for name in mappings:
            if flag.startswith(f"--{name}.") and flag.count(".") > name.count(".") + 1:
                whole = flag.rpartition(".")[0].removeprefix("--")
                raise UserError(f"{flag}: would replace the whole of '{whole}'; write it into the config file")


def compare_settings(argv: list[str]) -> CompareSettings:
    """The settings of a comparison from ``--config`` files and flags."""
    parser = command_parser("compare", "The methods of the paper on the same pairs: train, evaluate, one table.")
    parser.add_class_arguments(CompareSettings, nested_key=None, as_group=False)
    _no_flag_into(argv, "star", "methods")
    return _built(parser, argv, CompareSettings)


def _compare(argv: list[str]) -> None:
    settings = compare_settings(argv)
    from genrm_lightning.compare.loop import run

    run(settings)


def _score(argv: list[str]) -> None:
    parser = command_parser("score", "Examples -> the same with ref_logp.")
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
    parser = command_parser("export", "A judge -> one plain Hugging Face folder, its adapter merged or alone.")
    parser.add_argument("--judge", type=str, required=True, help="judge folder")
    parser.add_argument("--out", type=str, required=True, help="folder to write")
    parser.add_argument("--dtype", type=str, default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--adapter", type=bool, default=False, help="the LoRA adapter alone, as a PEFT folder")
    parser.add_argument(
        "--base", type=str | None, default=None,
        help="hub id or folder under which others find the model it was trained from; left out: as this machine does",
    )  # fmt: skip
    parser.add_argument(
        "--evaluation", type=str | None, default=None, help="output of evaluate of this judge: numbers of its card"
    )
    parser.add_argument("--license", type=str | None, default=None, help="that the card names, such as apache-2.0")
    arguments = parser.parse_args(argv)

    import torch

    from genrm_lightning.export import export_judge
    from genrm_lightning.export_adapter import base_notice, export_adapter
    from genrm_lightning.quiet import no_loading_bars

    no_loading_bars()
    judge, out, dtype = arguments.judge, arguments.out, getattr(torch, arguments.dtype)
    said = {name: arguments[name] for name in ("base", "evaluation", "license")}
    if not arguments.adapter:
        print(f"{type(export_judge(judge, out, dtype, **said)).__name__}: {out}")
        return
    config = export_adapter(judge, out, dtype, **said)
    print(f"{config.task_type} adapter of rank {config.r}: {out}")
    if notice := base_notice(config, judge):
        print(visible(notice))


def _built(parser: ArgumentParser, argv: list[str], kind: type):
    given = parser.parse_args(argv)
    with mistakes_told():
        found = parser.instantiate_classes(given)
    return kind(**{k: v for k, v in vars(found).items() if k != "config"})
