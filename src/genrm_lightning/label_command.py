"""``python -m genrm_lightning label`` and ``study``: labels by a judge, and how far they can be trusted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
from jsonargparse import Namespace
from rich.console import Console
from rich.table import Table
from rich.text import Text

from data_tools import exports, lineage
from data_tools.artifact import MANIFEST, atomic_path, read_json, remove, write_json
from data_tools.errors import UserError
from data_tools.passes import scratch
from data_tools.schema import PREFERENCE
from data_tools.unlabelled import AT_ONCE, Unlabelled, read_unlabelled
from genrm_lightning.evaluation.folder import SETS, read_evaluation, read_set
from genrm_lightning.judges.base import Judge, Judged, by_contents, way
from genrm_lightning.judges.stage import Missing, judge_pairs
from genrm_lightning.judging_commands import (
    at_work,
    command_parser,
    common_flags,
    judge_flags,
    judge_from,
    refuse_inputs,
    settings_of,
    stopping_flags,
    tell_missing,
)
from genrm_lightning.labelling.blocks import NAMES, LabelParts, at_once, label_blocks
from genrm_lightning.labelling.labels import check_thresholds, labels_of
from genrm_lightning.labelling.trust import Promise, least_confidence, promises
from genrm_lightning.locking import remove_empty
from genrm_lightning.samplers.base import SamplingSettings


def label(argv: list[str]) -> None:
    parser = command_parser("label", "Unlabelled pairs -> preference labels by a judge; unsure pairs apart.")
    judge_flags(parser)
    parser.add_argument(
        "--data", type=str, nargs="+", required=True,
        help="raw files of pairs: prompt and response_a, response_b (or responses, a list of two); any kind of file",
    )  # fmt: skip
    parser.add_argument("--out", type=str, required=True, help="labels.parquet; what else there is lies beside it")
    parser.add_argument("--rows", type=int | None, default=None, help="at most this many pairs, drawn by hash")
    parser.add_argument("--confidence", type=float, default=0.5, help="the least p of a label; others are abstained on")
    parser.add_argument(
        "--agreement", type=float | None, default=None,
        help="in place of --confidence: the lowest at which the judge agreed with people so far, by --heldout",
    )  # fmt: skip
    parser.add_argument(
        "--heldout", type=str, nargs="*", default=[],
        help="outputs of evaluate of the same judge on pairs that people labelled: what the labels are worth",
    )  # fmt: skip
    parser.add_argument("--ties", type=float, default=0.0, help="|p - 0.5| of a tie at most; ties lie apart")
    parser.add_argument(
        "--export", type=str, nargs="*", default=[], help=f"formats, too: {', '.join(exports.formats())}"
    )
    common_flags(parser, SamplingSettings(n_samples=1))
    stopping_flags(parser)
    arguments, sampling, sampler = settings_of(parser, argv)
    out = Path(arguments.out)
    _check(arguments, out)
    judge = judge_from(arguments, sampling, sampler)
    held_out = _held_out(arguments.heldout, judge)
    confidence, chosen = arguments.confidence, None
    if arguments.agreement is not None:
        chosen = least_confidence(*held_out, arguments.agreement, arguments.ties)
        confidence = chosen.confidence
    folder = out.with_name(f"{out.stem}.judging")
    with closing(judge), at_work(arguments, folder), _space(out, arguments) as space:
        given = read_unlabelled(arguments.data, space, arguments.rows, at_once(folder, AT_ONCE))
        labels = partial(labels_of, confidence=confidence, tie=arguments.ties, judge=judge.name)
        parts = LabelParts(space)
        try:
            label_blocks(given.blocks, partial(_judged, arguments, judge), labels, folder, parts)
        except Missing as missing:
            tell_missing(arguments, folder, missing.args)
            return
        promise = promises(*held_out, (confidence,), arguments.ties)[0] if held_out else None
        _write(arguments, out, judge.name, parts, given, confidence, promise)


@contextmanager
def _space(out: Path, arguments: Namespace) -> Iterator[Path]:
    """A folder for a while, in one of this output alone: judging takes days, and others sweep what is a day old."""
    own = out.with_name(f".{out.stem}.pairs")
    if not arguments.share and arguments.part is None:
        remove(own)  # of a killed call: nobody else is at work on this output
    try:
        with scratch(own) as space:
            yield space
    finally:
        remove_empty([own])


def _judged(arguments: Namespace, judge: Judge, pairs: pl.DataFrame, folder: Path, where: str) -> Judged:
    inputs = [name for name in arguments.data if Path(name).is_file()]
    return judge_pairs(judge, pairs, folder, where, inputs, share=arguments.share, part=arguments.part)


def study(argv: list[str]) -> None:
    parser = command_parser("study", "How a judge agrees with people, before its labels are trusted.")
    parser.add_argument("evaluations", type=str, nargs="+", help="outputs of evaluate on pairs that people labelled")
    parser.add_argument("--agreement", type=float | None, default=None, help="find the lowest confidence that gives it")
    parser.add_argument("--out", type=str | None, default=None, help="JSON file of the numbers")
    arguments = parser.parse_args(argv)
    numbers: dict[str, Any] = {}
    failed: list[UserError] = []
    for folder in arguments.evaluations:
        for name, judgments, people in _sets(folder):
            rows = _of(folder, name, promises, judgments, people)
            numbers[f"{folder}/{name}"] = {"promises": [row.as_dict() for row in rows]}
            _show_promises(f"{folder}, {name}", rows)
            if arguments.agreement is not None:
                try:
                    held = least_confidence(judgments, people, arguments.agreement)
                except UserError as error:  # of this set; the others are shown
                    failed.append(UserError(f"{folder}, {name}: {error}"))
                    continue
                numbers[f"{folder}/{name}"]["chosen"] = held.as_dict()
                print(
                    f"{arguments.agreement:.1%} agreement: --confidence {held.confidence!r}, "
                    f"{held.coverage:.1%} of pairs"
                )
    if arguments.out is not None:
        write_json(arguments.out, numbers)
    if failed:
        raise failed[0]


def _check(arguments: Namespace, out: Path) -> None:
    if out.suffix != ".parquet" or out.is_dir():
        raise UserError(f"--out: {out}: is no file that ends in .parquet; name one")
    refuse_inputs(arguments.data, _outputs(out))
    if arguments.agreement is not None and arguments.confidence != 0.5:
        raise UserError("--agreement: finds the confidence; leave --confidence out, or it")
    if arguments.agreement is not None and not arguments.heldout:
        raise UserError("--agreement: needs pairs that people labelled; name an output of evaluate with --heldout")
    for name in arguments.export:
        if name not in exports.formats():
            raise UserError(f"--export: '{name}' is unknown; there are: {', '.join(exports.formats())}")
    check_thresholds(arguments.confidence, arguments.ties)


def _held_out(folders: Sequence[str], judge: Judge) -> tuple[pl.DataFrame, pl.DataFrame] | None:
    """(JUDGMENT, PREFERENCE) of all sets of the evaluations; None without any.

    Raises:
        UserError: one is of another judge, or the same one asked in another way; or a pair is in two of them.
    """
    own = way(json.loads(json.dumps(by_contents(judge.key()))))
    tables = []
    for folder in folders:
        for name, judgments, people in _sets(folder):
            there = way(read_json(Path(folder) / SETS / name / MANIFEST)["key"])
            differing = [key for key in sorted(own.keys() | there.keys()) if own.get(key) != there.get(key)]
            if differing:
                raise UserError(
                    f"--heldout: {folder}: was judged with another '{differing[0]}' than the labels will be; evaluate "
                    "this judge in the same way"
                )
            tables.append((judgments, people))
    if not tables:
        return None
    judgments, people = (pl.concat(list(side)) for side in zip(*tables, strict=True))
    if (twice := people.filter(pl.col("pair_id").is_duplicated())["pair_id"]).len():
        raise UserError(f"--heldout: pair '{twice.min()}' is in two of the sets; name one of them")
    return judgments, people


def _sets(folder: str) -> list[tuple[str, pl.DataFrame, pl.DataFrame]]:
    """(name, JUDGMENT, PREFERENCE) of each set of an evaluation."""
    names = [one["name"] for one in read_evaluation(folder)["sets"]]
    found = [(name, *read_set(folder, name)) for name in names]
    return [(name, judged.judgments, pairs) for name, pairs, judged in found]


def _of(folder: str, name: str, function, *tables: pl.DataFrame):
    try:
        return function(*tables)
    except ValueError as error:
        raise UserError(f"{folder}, {name}: {error}") from None


def _write(
    arguments: Namespace,
    out: Path,
    judge: str,
    found: LabelParts,
    given: Unlabelled,
    confidence: float,
    promise: Promise | None,
) -> None:
    """Every table, the formats, the report; the labels themselves last, so that their being there means all is."""
    for path in _outputs(out):  # of a call before: what is there now must belong together
        path.unlink(missing_ok=True)
    counts = {name: found.counts[name] for name in NAMES}
    for name in ("ties", "abstained"):
        if counts[name]:
            found.write(name, out.with_name(f"{out.stem}.{name}.parquet"))
    counts |= {"did not fit": found.counts["dropped"], "broken": given.n_broken, "repeats": given.repeats}
    if given.n_broken:
        with atomic_path(out.with_name(f"{out.stem}.broken.jsonl")) as temporary:
            shutil.copyfile(given.broken, temporary)
    report = {
        "judge": judge,
        "confidence": confidence,
        "ties": arguments.ties,
        "counts": counts,
        "tokens": found.counts["tokens"],
        "promise": None if promise is None else promise.as_dict(),
    }
    write_json(out.with_name(f"{out.stem}.report.json"), report)
    for name in arguments.export if counts["labels"] else ():
        module = exports.formats()[name]
        target = out.with_name(f"{out.stem}.{name}{module.ENDINGS[0] if module.ENDINGS else ''}")
        exports.export(found.scan("labels").select(list(PREFERENCE)), name, target)
    found.write("labels", out)
    settings = {"judge": judge, "confidence": confidence, "ties": arguments.ties}
    lineage.write(out, "label", [file for file in arguments.data if Path(file).exists()], settings, counts)
    _show(out, report)


def _outputs(out: Path) -> list[Path]:
    """Every file that a call may write; the labels first, which say that all is there."""
    endings = [".ties.parquet", ".abstained.parquet", ".broken.jsonl", ".report.json"]
    endings += [f".{name}{module.ENDINGS[0]}" for name, module in exports.formats().items() if module.ENDINGS]
    return [out, lineage.manifest_of(out), *(out.with_name(out.stem + ending) for ending in endings)]


def _show(out: Path, report: dict[str, Any]) -> None:
    table = Table(title=Text(str(out)))
    counts = {name: n for name, n in report["counts"].items() if n or name == "labels"}
    for name in (*counts, "tokens a pair"):
        table.add_column(name, justify="right")
    judged = sum(report["counts"][name] for name in ("labels", "ties", "abstained"))
    table.add_row(*(f"{n:,}" for n in counts.values()), f"{report['tokens'] / max(judged, 1):,.0f}")
    Console().print(table)
    if promise := report["promise"]:
        coverage = report["counts"]["labels"] / max(judged, 1)
        agreement = (
            f"{promise['agreement']:.1%} ({promise['low']:.1%} to {promise['high']:.1%})" if promise["n_pairs"] else "–"
        )
        print(
            f"held-out pairs promise {agreement} agreement with people at a confidence of "
            f"{report['confidence']:.3f}, and a label for {promise['coverage']:.1%} of pairs; "
            f"here {coverage:.1%} got one"
        )
    else:
        print(
            "nothing says what these labels are worth: evaluate the judge on pairs of people, and name it in --heldout"
        )


def _show_promises(title: str, rows: Sequence[Promise]) -> None:
    table = Table(title=Text(title))
    for name in ("confidence", "pairs labelled", "coverage", "agreement with people"):
        table.add_column(name, justify="right")
    for row in rows:
        agreement = f"{row.agreement:.1%} ({row.low:.1%} to {row.high:.1%})" if row.n_pairs else "–"
        table.add_row(f"{row.confidence:.2f}", f"{row.n_pairs:,}", f"{row.coverage:.1%}", agreement)
    Console().print(table)
