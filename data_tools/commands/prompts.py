"""``prompts``: judge prompts of a table, for any model to answer."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import get_args

from data_tools import artifact, lineage, told
from data_tools.errors import UserError
from data_tools.judging import PROMPTS, prompt_named
from data_tools.prompts import prompts
from data_tools.schema import PREFERENCE, check_unique_ids

SUMMARY = "judge prompts of a table, for any model to answer"
PLACE = 50
EXAMPLES = (
    "prompts data/pairs/train.parquet --out prompts.jsonl",
    "prompts data/pairs/train.parquet --told right --out prompts.jsonl",
)


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="PREFERENCE parquet")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="JSON Lines to write")
    parser.add_argument("--told", choices=get_args(told.Told), help="tell the right answer, or the wrong one as right")
    parser.add_argument("--template", default="mt_bench", help=f"judge prompt: {', '.join(PROMPTS)} (default mt_bench)")


def run(arguments: argparse.Namespace) -> None:
    """A line for either order of a pair: pair_id, swapped, messages. The answers, lines of pair_id, swapped, rationale
    and verdict, are what `bootstrap.file` of a STaR run takes."""
    prompt_named(arguments.template)
    lineage.begin([arguments.file])
    pairs = check_unique_ids(artifact.read_table(arguments.file, PREFERENCE), arguments.file)
    if arguments.out.is_dir():
        raise UserError(f"{arguments.out}: is a folder; name a file for --out")
    with artifact.atomic_path(arguments.out) as temporary, open(temporary, "w", encoding="utf-8") as file:
        for pair, swapped, messages in prompts(pairs, arguments.template, arguments.told):
            line = {"pair_id": pair, "swapped": swapped, "messages": messages}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
    settings = {"told": arguments.told, "template": arguments.template}
    counts = {"read": pairs.height, "written": 2 * pairs.height}
    lineage.write(arguments.out, "prompts", [arguments.file], settings, counts)
    print(f"{2 * pairs.height} prompts: {arguments.out}")
