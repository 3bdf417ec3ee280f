"""``python -m genrm_lightning label`` and ``study``: labels by a judge, and how far they can be trusted."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
from jsonargparse import Namespace
from rich.console import Console
from rich.table import Table
from rich.text import Text

from data_tools import exports, lineage
from data_tools.artifact import MANIFEST, atomic_path, full_disk_told, read_json, remove, temporary_name, write_json
from data_tools.errors import UserError
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
from genrm_lightning.locking import only_one, remove_empty
from genrm_lightning.samplers.base import SamplingSettings

_PATIENCE = 3600.0  # seconds for another process to write what all have judged
_LEFT_OVER = 86_400  # seconds


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
    watched = lineage.watched(file for file in arguments.data if Path(file).exists())
    with watched, closing(judge), at_work(arguments, folder), _space(out, _alone(arguments)) as space:
        given = read_unlabelled(arguments.data, space, arguments.rows, at_once(folder, AT_ONCE))
        labels = partial(labels_of, confidence=confidence, tie=arguments.ties, judge=judge.name)
        parts = LabelParts(space)
        try:
            label_blocks(given.blocks, partial(_judged, arguments, judge), labels, folder, parts)
        except Missing as missing:
            tell_missing(arguments, folder, missing.args)
            return
        promise = promises(*held_out, (confidence,), arguments.ties)[0] if held_out else None
        report = _report(arguments, judge.name, parts, given, confidence, promise)
        with nullcontext() if _alone(arguments) else only_one(folder / "writing", patience=_PATIENCE):
            if _alone(arguments) or not _is_written(arguments, out, folder, report):
                _write(arguments, out, parts, given, report)
    _show(out, report)


def _alone(arguments: Namespace) -> bool:
    """Whether no other process works on this output."""
    return not arguments.share and arguments.part is None


@contextmanager
def _space(out: Path, alone: bool) -> Iterator[Path]:
    """A folder for a while beside the output, held as long as it is used; what killed calls left there is removed.

    Args:
        alone: else others may hold theirs, and where a file system knows no locks their age alone tells.
    """
    place = out.with_name(f".{out.stem}.pairs")
    for left in place.glob(".pairs.*.tmp"):
        with suppress(UserError, FileNotFoundError):  # it is held, or gone
            if alone or time.time() - left.stat().st_mtime > _LEFT_OVER:
                with only_one(left):
                    remove(left)
    space = place / temporary_name("pairs")
    try:
        with full_disk_told(out.parent), only_one(space):
            yield space
    finally:
        remove(space)
        remove_empty([place])


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
    refuse_inputs([*arguments.data, *filter(None, [arguments.judge]), *arguments.heldout], _outputs(out))
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


def _report(
    arguments: Namespace,
    judge: str,
    found: LabelParts,
    given: Unlabelled,
    confidence: float,
    promise: Promise | None,
) -> dict[str, Any]:
    counts = {name: found.counts[name] for name in NAMES}
    counts |= {"did not fit": found.counts["dropped"], "broken": given.n_broken, "repeats": given.repeats}
    return {
        "judge": judge,
        "confidence": confidence,
        "ties": arguments.ties,
        "counts": counts,
        "tokens": found.counts["tokens"],
        "promise": None if promise is None else promise.as_dict(),
    }


def _is_written(arguments: Namespace, out: Path, folder: Path, report: dict[str, Any]) -> bool:
    """Whether another process of this call, which saw the same judgments, has written everything."""
    targets = [_target(out, name) for name in arguments.export if report["counts"]["labels"]]
    said = _beside(out, ".report.json")
    if not all(path.exists() for path in (out, lineage.manifest_of(out), said, *targets)):
        return False
    judged = max(path.stat().st_mtime for path in folder.rglob(MANIFEST))
    return out.stat().st_mtime >= judged and read_json(said) == report


def _write(arguments: Namespace, out: Path, found: LabelParts, given: Unlabelled, report: dict[str, Any]) -> None:
    """Every table, the formats, the report; the labels themselves last, so that their being there means all is."""
    for path in _tables(out):  # of a call before: what is there now must belong together
        path.unlink(missing_ok=True)
    for name in exports.formats():
        exports.forget(name, _target(out, name))
    for name in ("ties", "abstained"):
        if report["counts"][name]:
            found.write(name, _beside(out, f".{name}.parquet"))
    if given.n_broken:
        with atomic_path(_beside(out, ".broken.jsonl")) as temporary:
            shutil.copyfile(given.broken, temporary)
    write_json(_beside(out, ".report.json"), report)
    for name in arguments.export if report["counts"]["labels"] else ():
        exports.export(found.scan("labels").select(list(PREFERENCE)), name, _target(out, name))
    found.write("labels", out)
    settings = {name: report[name] for name in ("judge", "confidence", "ties")}
    lineage.write(
        out, "label", [file for file in arguments.data if Path(file).exists()], settings, report["counts"]
    )  # fmt: skip


def _beside(out: Path, ending: str) -> Path:
    return out.with_name(out.stem + ending)


def _target(out: Path, format: str) -> Path:
    """Where labels go in another trainer's format."""
    endings = exports.formats()[format].ENDINGS
    return _beside(out, f".{format}{endings[0] if endings else ''}")


def _tables(out: Path) -> list[Path]:
    """The files of this project's own that a call may write; the labels first, which say that all is there."""
    endings = (".ties.parquet", ".abstained.parquet", ".broken.jsonl", ".report.json")
    return [out, lineage.manifest_of(out), *(_beside(out, ending) for ending in endings)]


def _outputs(out: Path) -> list[Path]:
    """Every file, and folder, that a call may write."""
    return [*_tables(out), *(_target(out, name) for name in exports.formats())]


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
