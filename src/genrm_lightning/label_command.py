"""``python -m genrm_lightning label`` and ``study``: labels by a judge, and how far they can be trusted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
from jsonargparse import Namespace
from rich.console import Console
from rich.table import Table
from rich.text import Text

from data_tools import exports, lineage
from data_tools.artifact import MANIFEST, read_json, write_json, write_table
from data_tools.errors import UserError
from data_tools.schema import PREFERENCE
from data_tools.unlabelled import Unlabelled, load_unlabelled
from genrm_lightning.evaluation.folder import SETS, read_evaluation, read_set
from genrm_lightning.judges.base import Judge, by_contents, way
from genrm_lightning.judging_commands import (
    at_work,
    command_parser,
    common_flags,
    drawn,
    judge_flags,
    judge_from,
    judged_here,
    put_away,
    refuse_inputs,
    settings_of,
    stopping_flags,
)
from genrm_lightning.labelling.labels import LABELS, Labels, check_thresholds, labels_of
from genrm_lightning.labelling.trust import Promise, least_confidence, promises
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
    given = load_unlabelled(arguments.data)
    pairs = drawn(given.pairs, arguments.rows, ", ".join(arguments.data))
    folder = out.with_name(f"{out.stem}.judging")
    with at_work(arguments, folder):
        try:
            judged = judged_here(arguments, judge, pairs, folder, "the pairs", arguments.data)
        finally:
            judge.close()
        if judged is None:
            return
        found = labels_of(pairs, judged.judgments, confidence=confidence, tie=arguments.ties, judge=judge.name)
        promise = promises(*held_out, (confidence,), arguments.ties)[0] if held_out else None
        _write(arguments, out, judge.name, found, given, judged.dropped, confidence, promise)


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
    found: Labels,
    given: Unlabelled,
    dropped: frozenset[str],
    confidence: float,
    promise: Promise | None,
) -> None:
    """Every table, the formats, the report; the labels themselves last, so that their being there means all is."""
    for path in _outputs(out):  # of a call before: what is there now must belong together
        path.unlink(missing_ok=True)
    counts = {"labels": len(found.labels), "ties": len(found.ties), "abstained": len(found.abstained)}
    counts |= {"did not fit": len(dropped), "broken": len(given.broken), "repeats": given.repeats}
    for name in ("ties", "abstained"):
        table = getattr(found, name)
        beside = out.with_name(f"{out.stem}.{name}.parquet")
        if len(table):
            write_table(table, beside, LABELS)
    put_away(out, given.broken)
    tokens = sum(int(getattr(found, name)["n_tokens"].sum()) for name in ("labels", "ties", "abstained"))
    report = {
        "judge": judge,
        "confidence": confidence,
        "ties": arguments.ties,
        "counts": counts,
        "tokens": tokens,
        "promise": None if promise is None else promise.as_dict(),
    }
    write_json(out.with_name(f"{out.stem}.report.json"), report)
    for name in arguments.export if len(found.labels) else ():
        module = exports.formats()[name]
        target = out.with_name(f"{out.stem}.{name}{module.ENDINGS[0] if module.ENDINGS else ''}")
        exports.export(found.labels.select(list(PREFERENCE)).lazy(), name, target)
    write_table(found.labels, out, LABELS)
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
