"""Flags that several commands have."""

from __future__ import annotations

import argparse


def shares(parser: argparse.ArgumentParser) -> None:
    """Of a split by prompts."""
    for name in ("validation", "test"):
        parser.add_argument(
            f"--{name}", type=float, default=0.1, metavar="SHARE", help="share of the prompts (default 0.1)"
        )
    parser.add_argument("--redo", action="store_true", help="forget the labels in the data and draw all rows anew")


def max_chars(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--max-chars", type=int, metavar="N",
        help="drop rows with more characters than N in prompt and longer response together",
    )  # fmt: skip
