"""The commands that judge pairs, and look at what came of it: sample, evaluate, votes, faithfulness."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from data_tools.artifact import MANIFEST, digest, read_json, read_table, write_json, write_table
from data_tools.errors import UserError
from data_tools.schema import JUDGMENT, PREFERENCE, check_unique_ids
from data_tools.told import Told
from genrm_lightning.budget import TooLong, policy_key
from genrm_lightning.claims import STALE, Claims
from genrm_lightning.evaluation.stopping import StoppingSettings
from genrm_lightning.judge_folder import judge_info
from genrm_lightning.locking import only_one
from genrm_lightning.parsing import OneLineErrors, mistakes_told
from genrm_lightning.ranks import part
from genrm_lightning.samplers.base import SamplingSettings
from genrm_lightning.samplers.choice import SamplerSettings, chosen_sampler
from genrm_lightning.samplers.sequential import check_stopping, until_decided

_PROMPT = "mt_bench"  # the judge prompt of a model that is no judge of ours


class _Parser(OneLineErrors, ArgumentParser):  # jsonargparse makes more of the class for nested settings
    pass


def command_parser(command: str, description: str) -> _Parser:
    # An abbreviated flag is a misspelt one, and refused like one.
    parser = _Parser(prog=f"python -m genrm_lightning {command}", description=description, allow_abbrev=False)
    if command != "score":
        parser.add_argument("--config", action="config", help="settings as YAML; flags after it win")
    return parser


def sample(argv: list[str]) -> None:
    parser = command_parser("sample", "Preference pairs -> judgments, in both orders.")
    parser.add_argument(
        "--judge", type=str | None, default=None,
        help="backbone or judge folder that samples; left out: embedded, or the served model (--sampler.kind openai)",
    )  # fmt: skip
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
    _stoppable(parser)
    arguments, sampling, sampler = _sampling(parser, argv)
    arguments.judge = _judge_name(arguments.judge, sampler, "embedded")
    with _at_work(arguments):
        table = _judged(arguments, sampling, sampler, "sample", arguments.told, arguments.iteration)
    if table is None:
        return
    print(f"{len(table)} judgments: {Path(arguments.out) / 'judgments.parquet'}")


def evaluate(argv: list[str]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from genrm_lightning.evaluation.scores import set_scores

    parser = command_parser("evaluate", "A judge on held-out pairs, both orders.")
    parser.add_argument(
        "--judge", type=str | None, default=None,
        help="judge folder or backbone; left out only for a served model (--sampler.kind openai)",
    )  # fmt: skip
    parser.add_argument("--pairs", type=str, required=True, help="PREFERENCE parquet")
    parser.add_argument("--out", type=str, required=True, help="folder for judgments.parquet and scores.json")
    parser.add_argument("--rows", type=int, default=None, help="at most this many pairs, drawn by hash")
    _common(parser, SamplingSettings(n_samples=1))
    _stoppable(parser)
    arguments, sampling, sampler = _sampling(parser, argv)
    arguments.judge = _judge_name(arguments.judge, sampler, None)
    with _at_work(arguments):
        table = _judged(arguments, sampling, sampler, "evaluate", None, 0)
        if table is None:
            return
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


def votes(argv: list[str]) -> None:
    parser = command_parser("votes", "Judgments with several samples -> accuracy by K, stopping early, abstention.")
    parser.add_argument("--judgments", type=str, nargs="+", required=True, help="JUDGMENT parquet, a table each")
    parser.add_argument("--pairs", type=str, required=True, help="PREFERENCE parquet that was judged")
    for name, kind, default in (("prior", tuple[float, float] | None, None), ("weight", float, 1.0)):
        parser.add_argument(f"--{name}", type=kind, default=default, help=f"stopping.{name} of the simulated stopping")
    parser.add_argument("--out", type=str, default=None, help="folder for votes.json and tables of the verdicts")
    arguments = parser.parse_args(argv)

    from rich.console import Console

    from genrm_lightning.evaluation.votes import report, show
    from genrm_lightning.evaluation.voting import verdicts

    given = {} if arguments.prior is None else {"prior": arguments.prior}
    StoppingSettings(weight=arguments.weight, **given)  # refuses what cannot be
    pairs = check_unique_ids(read_table(arguments.pairs, PREFERENCE), arguments.pairs)
    tables = {file: read_table(file, JUDGMENT) for file in arguments.judgments}
    found = {}
    for file, table in tables.items():
        try:
            found[file] = report(table, pairs, arguments.prior, arguments.weight)
        except ValueError as error:
            raise UserError(f"{file}: {error}") from None
    for file in found:
        show(found[file], file, Console())
    if arguments.out is not None:
        out = Path(arguments.out)
        for i, (file, table) in enumerate(tables.items()):
            found[file]["verdicts"] = f"verdicts-{i}.parquet"
            rows = verdicts(table)
            write_table(rows, out / found[file]["verdicts"], rows.schema)
        write_json(out / "votes.json", found)


def faithfulness(argv: list[str]) -> None:
    parser = command_parser("faithfulness", "Whether a judge's verdicts come from its rationales.")
    parser.add_argument("--judge", type=str, required=True, help="the judge folder or backbone that wrote them")
    parser.add_argument("--judgments", type=str, required=True, help="its judgments.parquet")
    parser.add_argument("--pairs", type=str, required=True, help="PREFERENCE parquet they were judged from")
    parser.add_argument(
        "--reader", type=str, required=True, help="a judge not trained on them: the run's warm start or its backbone"
    )
    parser.add_argument("--out", type=str, required=True, help="folder for faithfulness.parquet and scores.json")
    parser.add_argument("--rows", type=int, default=None, help="at most this many pairs, drawn by hash")
    parser.add_argument("--samples", type=int, default=1, help="samples of a prompt to ask about, the first ones")
    _models(parser)
    arguments = parser.parse_args(argv)
    if arguments.samples < 1:
        raise UserError(f"--samples: {arguments.samples} is not above 0")
    arguments.judge_prompt = _judge_prompt(arguments.judge, arguments.judge_prompt)
    judgments, pairs = read_table(arguments.judgments, JUDGMENT), _pairs(arguments)
    if arguments.rows is not None:
        judgments = judgments.join(pairs, on="pair_id", how="semi")

    from rich.console import Console

    from genrm_lightning.evaluation.faithfulness_scores import TABLE, faithfulness_scores, render
    from genrm_lightning.star.quality import FILE, ask
    from genrm_lightning.star.stage import identity, run_stage

    names = ("judge_prompt", "dtype", "rows", "samples", "too_long")
    key: dict[str, Any] = {"stage": "faithfulness", **{name: arguments[name] for name in names}}
    key |= {name: digest(arguments[name]) for name in ("judgments", "pairs")}
    key |= {name: identity(arguments[name]) for name in ("judge", "reader")}
    folder = Path(arguments.out)

    def work() -> dict[str, Any]:
        table = ask(
            judgments, pairs, arguments.judge, arguments.reader, samples=arguments.samples, label="faithfulness",
            template=arguments.judge_prompt, dtype=arguments.dtype, too_long=arguments.too_long,
        )  # fmt: skip
        write_table(table, folder / FILE, TABLE)
        scores = faithfulness_scores(table, pairs).as_dict()
        write_json(folder / "scores.json", scores)
        return {"rows": len(table)}

    with only_one(folder):
        run_stage(folder, key, work, [arguments.judgments, arguments.pairs])
    render(read_json(folder / "scores.json"), Console())


def _models(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--judge_prompt", type=str | None, default=None,
        help=f"name in data_tools.judging.PROMPTS; left out: the one the judge was trained with, else {_PROMPT}",
    )  # fmt: skip
    parser.add_argument("--dtype", type=str, default="bfloat16", choices=("float32", "bfloat16"))
    parser.add_argument(
        "--too_long", type=TooLong, default="shorten",
        help="of a judge prompt too long for the context: shorten its conversation, drop the pair, or take it as error",
    )  # fmt: skip


def _common(parser: ArgumentParser, default: SamplingSettings) -> None:
    _models(parser)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--shard_size", type=int, default=64, help="judge prompts a shard; a killed run goes on after the last"
    )
    parser.add_argument(
        "--shard", type=str | int | None, default=None, metavar="i/n",
        help="draw only every n-th shard, from the i-th on (i from 1 to n); the process that draws the last one writes "
        "the table, or the same command again. Under torchrun or srun their ranks say it",
    )  # fmt: skip
    parser.add_argument(
        "--share", type=bool, default=False,
        help="divide the shards as they come with every process that runs this command on this folder, on any machine; "
        f"one that is silent for {STALE:g} s is replaced",
    )  # fmt: skip
    parser.add_class_arguments(SamplingSettings, "sampling")
    parser.set_defaults({f"sampling.{k}": v for k, v in vars(default).items()})
    parser.add_class_arguments(SamplerSettings, "sampler")


def _stoppable(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--stopping", type=StoppingSettings | None, default=None,
        help="end a pair's sampling where more would hardly change its verdict, such as --stopping.alpha 0.05",
    )  # fmt: skip


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


def _sampling(parser: ArgumentParser, argv: list[str]) -> tuple[Namespace, SamplingSettings, SamplerSettings]:
    arguments = parser.parse_args(argv)
    with mistakes_told():
        made = parser.instantiate_classes(arguments)
    if arguments.share and arguments.shard is not None:
        raise UserError("--share: divides the shards as they come; leave --shard out, or --share")
    arguments.part = None if arguments.share else part(arguments.shard)
    arguments.stopping = made.stopping
    return arguments, made.sampling, made.sampler


def _judge_name(given: str | None, sampler: SamplerSettings, default: str | None) -> str:
    """Who judges: the served model, else the judge that is named.

    Raises:
        UserError: none is named, or one beside a served model.
    """
    if sampler.served is not None and given is not None:
        raise UserError(
            f"--judge: {given}: the model that the server serves is the judge ('{sampler.served}'); leave the flag out"
        )
    name = sampler.served or given or default
    if name is None:
        raise UserError(
            "--judge: none is given; name a judge folder or backbone, or a server with --sampler.kind openai"
        )
    return name


def _at_work(arguments: Namespace) -> AbstractContextManager[None]:
    """The output folder is this process' alone, or that of all who share the shards."""
    return only_one(arguments.out, shared=arguments.share or arguments.part is not None)


def _pairs(arguments: Namespace):
    from data_tools.split import sample

    if arguments.rows is not None and arguments.rows < 1:
        raise UserError(f"--rows: {arguments.rows} is not above 0")
    pairs = read_table(arguments.pairs, PREFERENCE)
    if not len(pairs):
        raise UserError(f"{arguments.pairs}: no rows; name another file")
    check_unique_ids(pairs, arguments.pairs)
    return pairs if arguments.rows is None else sample(pairs, arguments.rows)


def _judged(
    arguments: Namespace,
    sampling: SamplingSettings,
    sampler: SamplerSettings,
    purpose: str,
    told: Told | None,
    iteration: int,
):
    """The judgments; None where shards are missing that other processes are to draw."""
    from data_tools.judging import prompt_named
    from genrm_lightning.judgments import fitting, shards_of
    from genrm_lightning.progress import Progress
    from genrm_lightning.shards import Shards
    from genrm_lightning.star.peers import shared_stage
    from genrm_lightning.star.stage import STARTED, identity, remove_shards, run_stage

    served = sampler.served is not None
    arguments.judge_prompt = _judge_prompt("embedded" if served else arguments.judge, arguments.judge_prompt)
    prompt_named(arguments.judge_prompt)
    if arguments.shard_size < 1:
        raise UserError(f"--shard_size: {arguments.shard_size} is not above 0")
    stopping = arguments.stopping
    if stopping is not None:
        check_stopping(sampling, stopping, arguments.shard_size)
    if arguments.too_long == "drop" and sampler.rendered_by(arguments.judge) is None:
        raise UserError("--too_long: drop counts tokens as the served model does; name sampler.openai.tokenizer")
    pairs = _pairs(arguments)
    folder = Path(arguments.out)
    names = ("judge_prompt", "seed", "shard_size", "rows", *(() if served else ("dtype",)))
    key = {"stage": purpose, "pairs": digest(arguments.pairs), "told": told or False, "iteration": iteration}
    key["judge"] = arguments.judge if served else identity(arguments.judge)
    key |= policy_key(arguments.too_long) | sampler.sampler_key()
    key |= {n: arguments[n] for n in names} | {k: v for k, v in vars(sampling).items() if k != "batch_tokens"}

    if served:  # it has weights of its own; folders of before have a dtype in their key that meant nothing
        key |= _dtype_of(folder / MANIFEST) or _dtype_of(folder / STARTED)
    if stopping is not None:
        key["stopping"] = {**vars(stopping), "prior": list(stopping.prior)}  # as JSON has it

    def asked() -> Shards:
        renderer = sampler.rendered_by(arguments.judge)
        rows = pairs if renderer is None else fitting(
            pairs, renderer, sampling, template=arguments.judge_prompt, told=told, too_long=arguments.too_long,
            where=arguments.pairs, context=sampler.context(arguments.judge),
        )  # fmt: skip
        return shards_of(
            folder, rows, sampling, template=arguments.judge_prompt, judge=arguments.judge, iteration=iteration,
            seed=arguments.seed, purpose=purpose, told=told, shard_size=arguments.shard_size,
        )  # fmt: skip

    def fill(shards: Shards, claims: Claims | None = None, among: range | None = None, go_on=lambda: True) -> None:
        with (
            Progress(purpose, None if stopping else shards.samples(among), "samples") as progress,
            chosen_sampler(sampler, arguments.judge, arguments.dtype) as make,
        ):
            shards.fill(
                until_decided(make, stopping), claims, among, drew=progress.advance, found=progress.advance, go_on=go_on
            )

    def finish(shards: Shards) -> dict[str, Any]:
        while (table := shards.table()) is None:
            fill(shards)
        write_table(table, folder / "judgments.parquet", JUDGMENT)
        return {"rows": len(table)}

    if not arguments.share and arguments.part is None:
        run_stage(folder, key, lambda: finish(asked()), [arguments.pairs])
    elif missing := shared_stage(folder, key, asked, fill, finish, arguments.part, [arguments.pairs]):
        names = ", ".join(path.name for path in missing[:3]) + (f" and {len(missing) - 3} more" if missing[3:] else "")
        print(f"{folder}: part {'/'.join(map(str, arguments.part))} is drawn, still missing: {names}")
        return None
    remove_shards(folder)
    return read_table(folder / "judgments.parquet", JUDGMENT)


def _dtype_of(file: Path) -> dict[str, Any]:
    """``dtype`` in the key that a stage's file holds; empty where there is none."""
    said = read_json(file) if file.exists() else None
    key = said.get("key") if isinstance(said, dict) else None
    return {"dtype": key["dtype"]} if isinstance(key, dict) and "dtype" in key else {}
