"""``python -m genrm_lightning rank``: the candidates of each prompt in order, by any judge."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import polars as pl
from jsonargparse import Namespace
from rich.console import Console
from rich.table import Table
from rich.text import Text

from data_tools import lineage
from data_tools.artifact import digest_of, write_json, write_table, write_text
from data_tools.candidates import Candidates, load_candidates, pair_id
from data_tools.errors import UserError
from data_tools.order import hash64
from genrm_lightning.budget import NoneFits
from genrm_lightning.judges.base import Judge
from genrm_lightning.judges.memory import p_both, pairs_of
from genrm_lightning.judges.stage import judge_pairs
from genrm_lightning.judging_commands import (
    at_work,
    command_parser,
    common_flags,
    judge_flags,
    judge_from,
    put_away,
    refuse_inputs,
    settings_of,
    stopping_flags,
)
from genrm_lightning.parsing import mistakes_told
from genrm_lightning.ranking.tables import GROUPS, RANKED, by_reward, ranked
from genrm_lightning.ranking.tournament import MOST, Both, Ranking, RankingSettings, rank
from genrm_lightning.samplers.base import SamplingSettings


def rank_(argv: list[str]) -> None:
    parser = command_parser("rank", "Candidates of each prompt -> their order, the best one, and how sure that is.")
    judge_flags(parser)
    parser.add_argument("--data", type=str, nargs="+", required=True, help="raw files: prompt, and responses, a list")
    parser.add_argument("--out", type=str, required=True, help="ranked.parquet; what else there is lies beside it")
    parser.add_argument("--rows", type=int | None, default=None, help="at most this many prompts, drawn by hash")
    parser.add_class_arguments(RankingSettings, "ranking")
    common_flags(parser, SamplingSettings(n_samples=1))
    stopping_flags(parser)
    arguments, sampling, sampler = settings_of(parser, argv)
    with mistakes_told():
        settings = parser.instantiate_classes(arguments).ranking
    out = Path(arguments.out)
    if out.suffix != ".parquet" or out.is_dir():
        raise UserError(f"--out: {out}: is no file that ends in .parquet; name one")
    sidecars = (".best.jsonl", ".groups.parquet", ".report.json", ".broken.jsonl")
    refuse_inputs(
        [*arguments.data, *filter(None, [arguments.judge])], [out, *(out.with_name(out.stem + end) for end in sidecars)]
    )
    if arguments.share or arguments.part is not None:
        raise UserError("--share, --shard: a round of comparisons waits for the one before; leave them out")
    judge = judge_from(arguments, sampling, sampler)
    if judge.kind == "scores":
        raise UserError(f"--judge: {judge.name}: a file of scores has none of these pairs; name a judge")
    given = load_candidates(arguments.data)
    rows = _drawn(given.rows, arguments.rows)
    _check_sizes(rows)
    folder = out.with_name(f"{out.stem}.judging")
    with at_work(arguments, folder):
        try:
            if judge.objective == "BradleyTerry":
                tables = by_reward(rows, _rewards(judge, rows, folder))
            else:
                tables = ranked(rows, _tournament(judge, rows, folder, settings))
        finally:
            judge.close()
        _write(arguments, out, judge.name, *tables, given)


def _drawn(rows: pl.DataFrame, most: int | None) -> pl.DataFrame:
    if most is not None and most < 1:
        raise UserError(f"--rows: {most} is not above 0")
    if most is None:
        return rows
    groups = sorted(rows["group_id"].unique(), key=lambda group: hash64("sample", group))[:most]
    return rows.filter(pl.col("group_id").is_in(groups))


def _check_sizes(rows: pl.DataFrame) -> None:
    """Before anything is judged: what the tournament would refuse later."""
    sizes = rows.group_by("group_id").len().filter(pl.col("len") > MOST).sort("group_id")
    if len(sizes):
        raise UserError(
            f"group '{sizes['group_id'][0]}' has {sizes['len'][0]} candidates, at most {MOST} are ranked; sort some "
            "out before"
        )


def _texts(rows: pl.DataFrame) -> dict[str, tuple[list[dict[str, str]], list[str]]]:
    """group -> (prompt, its responses)."""
    grouped = rows.sort("group_id", "candidate").group_by("group_id", maintain_order=True)
    table = grouped.agg(pl.col("prompt").first(), "response")
    return {group: (prompt, responses) for group, prompt, responses in table.iter_rows()}


def _tournament(judge: Judge, rows: pl.DataFrame, folder: Path, settings: RankingSettings) -> dict[str, Ranking]:
    texts = _texts(rows)

    def compare(number: int, asked: list[tuple[str, int, int]]) -> list[Both | None]:
        shown = [
            (pair_id(group, i, j), texts[group][0], texts[group][1][i], texts[group][1][j]) for group, i, j in asked
        ]
        p: dict[str, Both] = {}
        if shown:
            # By its pairs: with more comparisons a run goes on from the rounds that are the same.
            place = folder / f"round-{number:03d}-{digest_of(shown)[:8]}"
            with suppress(NoneFits):  # none of the round's: they count for nothing, the others go on
                p = p_both(judge_pairs(judge, pairs_of(shown), place, f"round {number + 1}"))
        return [p.get(pair_id(*one)) for one in asked]

    responses = {group: found for group, (_, found) in texts.items()}
    return rank({group: len(found) for group, found in responses.items()}, compare, settings, responses)


def _rewards(judge: Judge, rows: pl.DataFrame, folder: Path) -> pl.DataFrame:
    """group_id, candidate, reward of each candidate of a reward model, null of one that does not fit.

    Each is read beside itself: what fits, and what is cut to fit, then hangs on no neighbour.
    """
    places = [
        (pair_id(group, i, i), group, i, prompt, response)
        for group, (prompt, responses) in _texts(rows).items()
        for i, response in enumerate(responses)
    ]
    shown = pairs_of([(name, prompt, response, response) for name, _, _, prompt, response in places])
    judged = judge_pairs(judge, shown, folder, "candidates")
    found = {row["pair_id"]: row["chosen_reward"] for row in judged.rewards.iter_rows(named=True)}
    rewards = [(group, i, found.get(name)) for name, group, i, _, _ in places]
    schema = {"group_id": pl.String, "candidate": pl.Int32, "reward": pl.Float64}
    return pl.DataFrame(rewards, schema=schema, orient="row")


def _write(
    arguments: Namespace, out: Path, judge: str, table: pl.DataFrame, groups: pl.DataFrame, given: Candidates
) -> None:
    put_away(out, given.broken)
    known = pl.col("reward").is_not_null() | (pl.col("comparisons") > 0)  # else nothing is known of the first one
    best = table.filter((pl.col("rank") == 1) & known).select(
        "group_id", "prompt", "response", "candidate", "p_best", "reward"
    )
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in best.iter_rows(named=True))
    write_text(out.with_name(f"{out.stem}.best.jsonl"), lines)
    write_table(groups, out.with_name(f"{out.stem}.groups.parquet"), GROUPS)
    report = _report(judge, table, groups, given)
    write_json(out.with_name(f"{out.stem}.report.json"), report)
    write_table(table, out, RANKED)
    inputs = [file for file in arguments.data if Path(file).exists()]
    lineage.write(out, "rank", inputs, {"judge": judge}, {"groups": len(groups), "candidates": len(table)})
    shown = Table(title=Text(str(out)), show_header=False)
    for name, value in report.items():
        shown.add_row(name, Text("–" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)))
    Console().print(shown)


def _report(judge: str, table: pl.DataFrame, groups: pl.DataFrame, given: Candidates) -> dict[str, Any]:
    every = groups.select((pl.col("candidates") * (pl.col("candidates") - 1) // 2).sum()).item()
    compared = int(groups["comparisons"].sum())
    return {
        "prompts": len(groups),
        "candidates": len(table),
        "comparisons": compared,
        "share of all pairs": compared / every if every else None,
        "p(best) in the mean": groups["p_best"].mean(),
        "cyclic triples": int(groups["cyclic"].sum()),
        "triples compared": int(groups["triples"].sum()),
        "candidates in cycles": int(groups["in_cycles"].sum()),
        "broken rows": len(given.broken),
        "repeated rows": given.repeats,
    }
