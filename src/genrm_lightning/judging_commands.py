"""The commands that judge pairs, and look at what came of it: sample, votes, faithfulness; flags they share."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jsonargparse import ArgumentParser, Namespace

from data_tools.artifact import digest, read_json, read_table, write_json, write_table, write_text
from data_tools.errors import UserError
from data_tools.schema import JUDGMENT, PREFERENCE, check_unique_ids
from data_tools.told import Told
from genrm_lightning.budget import TooLong
from genrm_lightning.claims import STALE
from genrm_lightning.evaluation.stopping import StoppingSettings
from genrm_lightning.judges.base import Judge, Judged
from genrm_lightning.judges.choice import PROMPT, ReadAs, judge_name, judge_of, judge_prompt_of
from genrm_lightning.judges.stage import JUDGMENTS, Missing, judge_pairs
from genrm_lightning.locking import only_one
from genrm_lightning.parsing import OneLineErrors, mistakes_told
from genrm_lightning.ranks import part
from genrm_lightning.samplers.base import SamplingSettings
from genrm_lightning.samplers.choice import SamplerSettings

if TYPE_CHECKING:
    import polars as pl

    from data_tools.sources._broken import Broken


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
    common_flags(parser, SamplingSettings())
    parser.add_argument("--iteration", type=int, default=1)
    stopping_flags(parser)
    arguments, sampling, sampler = settings_of(parser, argv)
    name = judge_name(arguments.judge, sampler, "embedded")

    from genrm_lightning.judges.sampled import SampledJudge

    judge = SampledJudge(
        name, sampling, sampler, judge_prompt_of("embedded" if sampler.served else name, arguments.judge_prompt),
        dtype=arguments.dtype, too_long=arguments.too_long, stopping=arguments.stopping, seed=arguments.seed,
        purpose="sample", iteration=arguments.iteration, told=arguments.told, shard_size=arguments.shard_size,
    )  # fmt: skip
    with at_work(arguments), closing(judge):
        judged = judged_here(arguments, judge, _pairs(arguments), Path(arguments.out), arguments.pairs)
    if judged is not None:
        print(f"{len(judged.judgments)} judgments: {Path(arguments.out) / JUDGMENTS}")


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
    arguments.judge_prompt = judge_prompt_of(arguments.judge, arguments.judge_prompt)
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


def judge_flags(parser: ArgumentParser) -> None:
    """Whose verdicts they are; read by :func:`judge_from`."""
    parser.add_argument(
        "--judge", type=str | None, default=None,
        help="judge folder, hub id (a sequence classifier is read as a reward model), or a file of scores; left out "
        "only for a served model (--sampler.kind openai)",
    )  # fmt: skip
    parser.add_argument(
        "--read_as", type=ReadAs, default="auto",
        help="reward: scores; direct: a verdict without a rationale; cot: rationales first; auto: as it was trained",
    )  # fmt: skip
    parser.add_argument(
        "--votes", type=int | None, default=None, metavar="K",
        help="verdicts a pair and order, of a judge that writes rationales: sampling.n_samples by its shorter name",
    )  # fmt: skip
    parser.add_argument(
        "--orders", type=Literal["both"], default="both",
        help="always both: in one order alone nobody can tell a preference from a habit",
    )  # fmt: skip


def judge_from(arguments: Namespace, sampling: SamplingSettings, sampler: SamplerSettings) -> Judge:
    """The judge of parsed :func:`judge_flags`, :func:`common_flags` and :func:`stopping_flags`."""
    return judge_of(
        arguments.judge, read_as=arguments.read_as, judge_prompt=arguments.judge_prompt, dtype=arguments.dtype,
        too_long=arguments.too_long, sampling=sampling, sampler=sampler, stopping=arguments.stopping,
        seed=arguments.seed, shard_size=arguments.shard_size,
    )  # fmt: skip


def _models(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--judge_prompt", type=str | None, default=None,
        help=f"name in data_tools.judging.PROMPTS; left out: the one the judge was trained with, else {PROMPT}",
    )  # fmt: skip
    parser.add_argument("--dtype", type=str, default="bfloat16", choices=("float32", "bfloat16"))
    parser.add_argument(
        "--too_long", type=TooLong, default="shorten",
        help="of a judge prompt too long for the context: shorten its conversation, drop the pair, or take it as error",
    )  # fmt: skip


def common_flags(parser: ArgumentParser, default: SamplingSettings) -> None:
    sampling_flags(parser, default)
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


def sampling_flags(parser: ArgumentParser, default: SamplingSettings) -> None:
    """How a judge is shown pairs, and how it samples."""
    _models(parser)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_class_arguments(SamplingSettings, "sampling")
    parser.set_defaults({f"sampling.{k}": v for k, v in vars(default).items()})
    parser.add_class_arguments(SamplerSettings, "sampler")


def stopping_flags(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--stopping", type=StoppingSettings | None, default=None,
        help="end a pair's sampling where more would hardly change its verdict, such as --stopping.alpha 0.05",
    )  # fmt: skip


def sampling_from(arguments: Namespace, made: Namespace) -> SamplingSettings:
    """The settings that were made of the arguments; --votes, where it is there and given, says ``n_samples``."""
    votes = arguments.get("votes")
    if votes is None:
        return made.sampling
    if votes < 1:
        raise UserError(f"--votes: {votes} is not above 0")
    return replace(made.sampling, n_samples=votes)


def settings_of(parser: ArgumentParser, argv: list[str]) -> tuple[Namespace, SamplingSettings, SamplerSettings]:
    arguments = parser.parse_args(argv)
    with mistakes_told():
        made = parser.instantiate_classes(arguments)
    if arguments.share and arguments.shard is not None:
        raise UserError("--share: divides the shards as they come; leave --shard out, or --share")
    arguments.part = None if arguments.share else part(arguments.shard)
    arguments.stopping = made.stopping
    return arguments, sampling_from(arguments, made), made.sampler


def at_work(arguments: Namespace, folder: Path | None = None) -> AbstractContextManager[None]:
    """The output folder, or another one, is this process' alone, or that of all who share the shards."""
    return only_one(folder or arguments.out, shared=arguments.share or arguments.part is not None)


def _pairs(arguments: Namespace) -> pl.DataFrame:
    return drawn(read_table(arguments.pairs, PREFERENCE), arguments.rows, arguments.pairs)


def drawn(pairs: pl.DataFrame, rows: int | None, where: str) -> pl.DataFrame:
    """The pairs, or at most ``rows`` of them (the flag --rows).

    Raises:
        UserError: there are none, or an id stands for several; names ``where``.
    """
    from data_tools.split import sample

    if rows is not None and rows < 1:
        raise UserError(f"--rows: {rows} is not above 0")
    if not len(pairs):
        raise UserError(f"{where}: no rows; name another file")
    check_unique_ids(pairs, where)
    return pairs if rows is None else sample(pairs, rows)


def refuse_inputs(data: Sequence[str], outputs: Sequence[Path]) -> None:
    """Raises UserError where an output would be written over what was given, or into a folder that was given."""
    taken = {path.resolve() for path in outputs}
    for name in data:
        path = Path(name).resolve()
        if path in taken:
            raise UserError(f"--out: would write over {name}, which is read; name another file")
        if path.is_dir() and any(output.is_relative_to(path) for output in taken):
            raise UserError(f"--out: would write into {name}, which is read; name a file elsewhere")


def put_away(out: Path, broken: Sequence[tuple[Path, Broken]]) -> None:
    """Write rows that cannot be used beside ``out``, with file, line and reason; none: no file."""
    path = out.with_name(f"{out.stem}.broken.jsonl")
    path.unlink(missing_ok=True)
    if broken:
        write_text(path, "".join(row.line(file) for file, row in broken))


def judged_here(
    arguments: Namespace,
    judge: Judge,
    pairs: pl.DataFrame,
    folder: Path,
    where: str,
    inputs: Sequence[str] | None = None,
) -> Judged | None:
    """The judgments; None, and a line that says so, where shards are missing that other processes are to draw.

    Args:
        inputs: what the pairs were read from; None: ``where``, if that is a file.
    """
    inputs = [name for name in ([where] if inputs is None else inputs) if Path(name).is_file()]
    try:
        return judge_pairs(judge, pairs, folder, where, inputs, share=arguments.share, part=arguments.part)
    except Missing as missing:
        tell_missing(arguments, folder, missing.args)
        return None


def tell_missing(arguments: Namespace, folder: Path, shards: Sequence[Path]) -> None:
    """A line that says which shards in ``folder`` other processes are to draw."""
    files = [str(path.relative_to(folder)) for path in shards]
    names = ", ".join(files[:3]) + (f" and {len(files) - 3} more" if files[3:] else "")
    print(f"{folder}: part {'/'.join(map(str, arguments.part))} is drawn, still missing: {names}")
