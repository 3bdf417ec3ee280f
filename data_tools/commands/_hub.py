"""``--hub``: rows of a dataset on the Hugging Face hub in the place of files."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from data_tools.errors import UserError
from data_tools.ingest import Raw


def add_flags(parser: argparse.ArgumentParser) -> None:
    """``--hub OWNER/NAME[@REVISION]``, ``--hub-config`` and ``--hub-split``."""
    parser.add_argument(
        "--hub", metavar="OWNER/NAME[@REVISION]", help="a dataset of the Hugging Face hub; its scripts are never run"
    )
    parser.add_argument("--hub-config", metavar="NAME", help="of a dataset that has several")
    parser.add_argument("--hub-split", metavar="NAME", help="one split alone (default: all there are)")


def resolve(arguments: argparse.Namespace) -> tuple[list[Raw], dict[str, Any]]:
    """The files that ``--hub`` stands for, which lie in the user's cache, and what a manifest says of them.

    Rows that name no source are the dataset's; those of its splits test… and validation… (valid…, dev…) that name no
    split are test and validation rows, others are drawn.

    Returns:
        (Parquet files, {"hub": {repo, revision, config, splits}}); ([], {}) without the flag.

    Raises:
        UserError: as :func:`data_tools.hub.fetch`, or one of the other flags without ``--hub``.
    """
    if arguments.hub is None:
        for name in ("hub_config", "hub_split"):
            if getattr(arguments, name) is not None:
                raise UserError(f"--{name.replace('_', '-')}: says which part of --hub OWNER/NAME; give that, too")
        return [], {}
    from data_tools.hub import fetch

    given = arguments.hub
    if Path(given).is_dir():
        repo, at, revision = given, "", ""
    else:
        repo, at, revision = given.partition("@")
    if at and not revision:
        raise UserError(f"--hub {given}: a branch, tag or commit should stand behind the @")
    fetched = fetch(repo, revision or None, arguments.hub_config, arguments.hub_split)
    source = Path(repo).name
    return [Raw(file, source, _split_of(file.name), repo) for file in fetched.files], {"hub": fetched.facts}


def _split_of(name: str) -> str | None:
    known = {"test": "test", "valid": "validation", "dev": "validation"}
    return next((split for start, split in known.items() if name.startswith(start)), None)
