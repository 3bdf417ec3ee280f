"""python -m data_tools: raw preference files -> clean tables -> training examples, without torch."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from data_tools import sources, star, told
from data_tools.commands import (
    SIDES,
    run_clean,
    run_ingest,
    run_prompts,
    run_split,
    run_star,
    run_stats,
    run_verifiable,
)
from data_tools.errors import UserError
from data_tools.judging import PROMPTS
from data_tools.visible import visible


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:
        """argparse would print its usage, too: our errors are one line."""
        raise UserError(f"{message}; see: {self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns 0, 2 after an error the user can mend (one line on stderr), 130 after Ctrl-C."""
    try:
        arguments = _parser().parse_args(argv)
        arguments.run(arguments)
        sys.stdout.flush()
    except UserError as error:
        return _fail(str(error))
    except BrokenPipeError:
        # The reader (head, less) has left: nobody is there to tell. rich ends the same way.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return _fail(f"{error.filename or 'input or output'}: {error.strerror or error}")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def _fail(message: str) -> int:
    print("error:", visible(" ".join(message.splitlines())), file=sys.stderr)
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m data_tools", description=__doc__)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(run, summary: str) -> argparse.ArgumentParser:
        added = commands.add_parser(
            run.__name__.removeprefix("run_"), help=summary, description=f"{summary}. {run.__doc__ or ''}"
        )
        added.set_defaults(run=run)
        return added

    def shares(added: argparse.ArgumentParser) -> None:
        added.add_argument(
            "--validation", type=float, default=0.1, metavar="SHARE", help="share of the prompts (default 0.1)"
        )
        added.add_argument(
            "--test", type=float, default=0.1, metavar="SHARE", help="share of the prompts (default 0.1)"
        )
        added.add_argument("--redo", action="store_true", help="forget the labels in the data and draw all rows anew")

    def max_chars(added: argparse.ArgumentParser) -> None:
        added.add_argument(
            "--max-chars", type=int, metavar="N",
            help="drop rows with more characters than N in prompt and longer response together",
        )  # fmt: skip

    added = command(run_ingest, "raw files -> train.parquet, validation.parquet, test.parquet")
    added.add_argument(
        "files", nargs="+", type=Path, metavar="FILE",
        help="JSON Lines (also .gz, .zst), a JSON array, CSV, Parquet, Arrow, or a folder of files of one format",
    )  # fmt: skip
    added.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder for the tables and the manifest")
    added.add_argument(
        "--format", default="auto", metavar="NAME",
        help=f"auto (by the first row, default) or one of: {', '.join(sources.formats())}",
    )  # fmt: skip
    for side in SIDES:
        added.add_argument(f"--{side}-key", metavar="COLUMN", help=f"OpenRLHF's rows: the column of {side}")
    added.add_argument(
        "--rows", type=int, metavar="N", help="at most N rows a split, chosen by a hash of the pair's id (default: all)"
    )
    max_chars(added)
    shares(added)

    added = command(run_clean, "drop unusable rows of a table and count them")
    added.add_argument("file", type=Path, metavar="FILE", help="PREFERENCE parquet")
    added.add_argument("--out", required=True, type=Path, metavar="FILE", help="parquet to write")
    max_chars(added)

    added = command(run_split, "label rows train, validation or test by a hash of the prompt")
    added.add_argument("file", type=Path, metavar="FILE", help="PREFERENCE parquet")
    added.add_argument("--out", required=True, type=Path, metavar="FILE", help="parquet to write")
    shares(added)

    added = command(run_star, "judgments -> training examples")
    added.add_argument(
        "--judgments", required=True, nargs="+", type=Path, metavar="FILE",
        help="JUDGMENT parquet, one or several, or folders of them; may be larger than memory",
    )  # fmt: skip
    added.add_argument(
        "--preferences", required=True, nargs="+", type=Path, metavar="FILE", help="PREFERENCE parquet, one or several"
    )
    for name, what in (
        ("told-wrong", "dpo: drawn with the wrong answer told, --judgments with the right one"),
        ("rationalized", "sft, dpo: drawn with the answer told where --judgments failed"),
    ):
        added.add_argument(f"--{name}", nargs="+", type=Path, metavar="FILE", help=f"JUDGMENT parquet; {what}")
    added.add_argument("--objective", required=True, help=f"one of: {', '.join(star.OBJECTIVES)}")
    added.add_argument("--out", required=True, type=Path, metavar="FILE", help="EXAMPLE parquet to write")
    added.add_argument(
        "--filter", action="append", default=[], dest="filters", metavar="NAME[:PARAMETER=VALUE,…]",
        help=f"may be repeated; one of: {', '.join(star.FILTERS)}",
    )  # fmt: skip
    added.add_argument(
        "--per-prompt", type=int, default=1, metavar="N", help="examples at most a pair and order (default 1)"
    )
    added.add_argument(
        "--uncoupled", default="drop", metavar="WAY",
        help="dpo: right samples without a wrong one, drop (default) or keep them",
    )  # fmt: skip
    added.add_argument(
        "--right", default="vote", metavar="WAY",
        help="what says that a sample is right: its vote at the forced verdict (default), or the verdict in its text",
    )  # fmt: skip
    added.add_argument(
        "--ranking", default="mean_token_prob", metavar="NAME",
        help=f"which samples of a prompt are best: {', '.join(star.RANKINGS)} (default mean_token_prob)",
    )  # fmt: skip
    added.add_argument(
        "--pairing", default="rank", metavar="NAME[:PARAMETER=VALUE,…]",
        help=f"dpo: which right sample goes with which wrong one: {', '.join(star.PAIRINGS)} (default rank)",
    )  # fmt: skip
    added.add_argument("--template", default="mt_bench", help=f"judge prompt: {', '.join(PROMPTS)} (default mt_bench)")

    added = command(run_prompts, "judge prompts of a table, for any model to answer")
    added.add_argument("file", type=Path, metavar="FILE", help="PREFERENCE parquet")
    added.add_argument("--out", required=True, type=Path, metavar="FILE", help="JSON Lines to write")
    added.add_argument("--told", choices=get_args(told.Told), help="tell the right answer, or the wrong one as right")
    added.add_argument("--template", default="mt_bench", help=f"judge prompt: {', '.join(PROMPTS)} (default mt_bench)")

    added = command(run_stats, "tables or raw files in numbers, by source")
    added.add_argument("files", nargs="+", type=Path, metavar="FILE", help="PREFERENCE parquet or raw JSON Lines")

    added = command(run_verifiable, "the embedded pairs, whose better answer is known by construction")
    added.add_argument("--rows", required=True, type=int, metavar="N", help="training pairs")
    added.add_argument("--seed", type=int, default=0, metavar="S", help="of the draw (default 0)")
    added.add_argument(
        "--test-rows", type=int, default=200, metavar="M", help="pairs in each of the two test sets (default 200)"
    )
    added.add_argument(
        "--levels", type=int, nargs="+", default=[1, 2, 3], metavar="L", help="of difficulty, 1 easy (default 1 2 3)"
    )
    added.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder for the tables and the manifest")
    return parser


if __name__ == "__main__":
    sys.exit(main())
