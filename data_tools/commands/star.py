"""``star``: judgments -> training examples."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from data_tools import artifact, lineage, star, told
from data_tools.commands._shared import console, file_names, no_folder
from data_tools.errors import UserError
from data_tools.judging import PROMPTS
from data_tools.schema import JUDGMENT, PREFERENCE, check_unique_ids

SUMMARY = "judgments -> training examples"
PLACE = 60
EXAMPLES = (
    "star --judgments runs/hand/sample --preferences data/pairs/train.parquet --objective sft --out data/sft.parquet",
    "star --judgments runs/a runs/b --preferences train.parquet --objective dpo --filter right_in_both --out d.parquet",
)
# Tables of judgments, and what decides which of them become examples.
DRAWN = ("judgments", "told_wrong", "rationalized")
OPTIONS = ("objective", "filters", "per_prompt", "template", "uncoupled", "right", "ranking", "pairing")


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--judgments", required=True, nargs="+", type=Path, metavar="FILE",
        help="JUDGMENT parquet, one or several, or folders of them; may be larger than memory",
    )  # fmt: skip
    parser.add_argument(
        "--preferences", required=True, nargs="+", type=Path, metavar="FILE", help="PREFERENCE parquet, one or several"
    )
    for name, what in (
        ("told-wrong", "dpo: drawn with the wrong answer told, --judgments with the right one"),
        ("rationalized", "sft, dpo: drawn with the answer told where --judgments failed"),
    ):
        parser.add_argument(f"--{name}", nargs="+", type=Path, metavar="FILE", help=f"JUDGMENT parquet; {what}")
    parser.add_argument("--objective", required=True, help=f"one of: {', '.join(star.OBJECTIVES)}")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="EXAMPLE parquet to write")
    parser.add_argument(
        "--filter", action="append", default=[], dest="filters", metavar="NAME[:PARAMETER=VALUE,…]",
        help=f"may be repeated; one of: {', '.join(star.FILTERS)}",
    )  # fmt: skip
    parser.add_argument(
        "--per-prompt", type=int, default=1, metavar="N", help="examples at most a pair and order (default 1)"
    )
    parser.add_argument(
        "--uncoupled", default="drop", metavar="WAY",
        help="dpo: right samples without a wrong one, drop (default) or keep them",
    )  # fmt: skip
    parser.add_argument(
        "--right", default="vote", metavar="WAY",
        help="what says that a sample is right: its vote at the forced verdict (default), or the verdict in its text",
    )  # fmt: skip
    parser.add_argument(
        "--ranking", default="mean_token_prob", metavar="NAME",
        help=f"which samples of a prompt are best: {', '.join(star.RANKINGS)} (default mean_token_prob)",
    )  # fmt: skip
    parser.add_argument(
        "--pairing", default="rank", metavar="NAME[:PARAMETER=VALUE,…]",
        help=f"dpo: which right sample goes with which wrong one: {', '.join(star.PAIRINGS)} (default rank)",
    )  # fmt: skip
    parser.add_argument("--template", default="mt_bench", help=f"judge prompt: {', '.join(PROMPTS)} (default mt_bench)")


def run(arguments: argparse.Namespace) -> None:
    """Right votes are imitated; under dpo wrong ones of the same prompt are pushed away."""
    drawn = {name: _tables(files) for name in DRAWN if (files := getattr(arguments, name))}
    inputs = [*(file for files in drawn.values() for file in files), *arguments.preferences]
    lineage.begin(inputs)
    scanned = {name: artifact.scan_tables(files, JUDGMENT) for name, files in drawn.items()}
    preferences = artifact.scan_tables(arguments.preferences, PREFERENCE)
    check_unique_ids(preferences.select("pair_id").collect(engine="streaming"), file_names(arguments.preferences))
    no_folder(arguments.out)
    options = {name: getattr(arguments, name) for name in OPTIONS}
    with artifact.damage_told(inputs):
        counts = told.write_examples(scanned.pop("judgments"), preferences, arguments.out, **scanned, **options)
    lineage.write(arguments.out, "star", inputs, options, counts)
    _show_steps(arguments.objective, counts)


def _tables(given: Sequence[Path]) -> list[Path]:
    """Parquet files, and those in folders: of a finished stage its judgments.parquet, else all that lie there."""
    found = []
    for path in given:
        whole = path / "judgments.parquet"
        inside = [whole] if whole.is_file() else sorted(path.glob("[!.]*.parquet"))
        if path.is_dir() and not inside:
            raise UserError(f"{path}: no parquet files in this folder; name the folder of a finished or running sample")
        found += inside if path.is_dir() else [path]
    return found


def _show_steps(objective: str, counts: Mapping[str, Any]) -> None:
    """What each step kept, and what is left."""
    shown = Table("step", "of", "given", "kept", "dropped", title=f"star {objective}")
    for column in shown.columns[2:]:
        column.justify = "right"
    for name in ("sampled", "right", "wrong"):
        shown.add_row(name, "samples", "", f"{counts[name]:,}", "")
    for why, n in counts.get("before", {}).items():
        shown.add_row(why, "samples", "", "", f"{n:,}")
    shown.add_section()
    for step in counts["steps"]:
        lost = step["given"] - step["kept"]
        share = f"{lost:,} ({lost / step['given']:.1%})" if lost > 0 else ""
        shown.add_row(step["step"], step["of"], f"{step['given']:,}", f"{step['kept']:,}", share)
    shown.add_section()
    shown.add_row("kept", "examples", "", f"{counts['kept']:,}", "")
    if "rationalized" in counts:
        shown.add_row("rationalized", "examples", f"{counts['failed']:,}", f"{counts['rationalized']:,}", "")
    shown.add_row("from", "pairs", "", f"{counts['pairs']:,}", "")
    for letter, n in counts["letters"].items():
        shown.add_row(f"right letter {letter}", "examples", "", f"{n:,}", "")
    console().print(shown)
