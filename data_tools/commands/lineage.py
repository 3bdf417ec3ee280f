"""``lineage``: the way back from a file to the raw ones."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from rich.text import Text
from rich.tree import Tree

from data_tools.ancestry import Node, trace
from data_tools.commands._shared import console, file_names
from data_tools.errors import UserError
from data_tools.visible import visible

SUMMARY = "the way back from a table, examples or a judge to the raw files"
PLACE = 80
EXAMPLES = (
    "lineage data/pairs/train.parquet",
    "lineage runs/star/iteration-1/fit/judge --check",
    "lineage data/clean.parquet --check --look-in raw/",
)

_WIDEST = 200  # characters of settings or counts that a line shows
_DEEPEST = 12  # steps that one tree shows: what lies behind begins a tree of its own
_MANY = 20  # files without a history of their own that a step shows


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="a file, or a folder with a manifest")
    parser.add_argument(
        "--check", action="store_true", help="read all inputs and compare digests; ends with 2 where one differs"
    )
    parser.add_argument(
        "--look-in", nargs="+", type=Path, default=[], metavar="DIR",
        help="where to look, by name and digest, for inputs that are not where they were",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="JSON: a list of steps, whose inputs are places in it")


def run(arguments: argparse.Namespace) -> None:
    """Each step with its command, rows in and out, settings and versions, from manifest to manifest."""
    root = trace(arguments.file, arguments.check, arguments.look_in)
    if arguments.json:
        print(json.dumps(_listed(root), indent=2))
    else:
        _show(root)
    wrong = [node for node in root if node.state]
    if arguments.check and wrong:
        said = file_names([Path(f"{_line(node.name)} ({node.state})") for node in wrong])
        raise UserError(f"{arguments.file}: not made of what is there now: {said}")


def _listed(root: Node) -> list[dict[str, Any]]:
    nodes = list(root)
    places = {id(node): i for i, node in enumerate(nodes)}
    return [
        {
            "name": node.name,
            "path": None if node.path is None else str(node.path),
            "digest": node.digest or None,
            "state": node.state or None,
            "note": node.note or None,
            "manifest": None if node.manifest is None else str(node.manifest),
            "command": node.command or None,
            "made": node.made or None,
            "settings": node.settings,
            "counts": node.counts,
            "versions": node.versions,
            "again": node.again,
            "inputs": [places[id(child)] for child in node.inputs],
        }
        for node in nodes
    ]


def _show(root: Node) -> None:
    roots = [root]
    for top in roots:  # grows while it is gone through
        tree = Tree(_label(top))
        waiting = [(top, tree, 0)]
        while waiting:
            node, branch, depth = waiting.pop()
            plain = [child for child in node.inputs if not (child.inputs or child.state or child.note)]
            hidden = {id(child) for child in plain[_MANY:]}
            for child in node.inputs:
                if id(child) in hidden:
                    continue
                if depth == _DEEPEST and child.inputs:
                    branch.add(Text(f"{_line(child.name)}  (see below)"))
                    roots.append(child)
                else:
                    waiting.append((child, branch.add(_label(child)), depth + 1))
            if hidden:
                branch.add(Text(f"and {len(hidden):,} more like these"))
        console().print(tree)


def _label(node: Node) -> Text:
    """A few lines: what it is, how it was made, from how much, with which settings."""
    label = Text(_line(node.name), style="bold")
    if node.digest:
        label.append(f"  {_line(node.digest)[:8]}", style="not bold dim")
    if node.state:
        label.append(f"  {node.state}", style="red")
    if node.note:
        label.append(f"  ({_line(node.note)})", style="not bold yellow")
    if node.again:
        label.append("  (shown above)", style="not bold dim")
        return label
    if node.manifest is None:
        if not node.note and not node.state:
            label.append("  (no manifest: a raw file, or made elsewhere)", style="not bold dim")
        return label
    versions = ", ".join(f"{name} {number}" for name, number in node.versions.items())
    made = "  ".join(part for part in (node.command, node.made, versions) if part)
    for said in (made, _flat(node.counts), _flat(node.settings)):
        if said:
            label.append(f"\n{_line(said)}", style="not bold")
    return label


def _line(text: str) -> str:
    """Text from a manifest on one line of bounded length."""
    text = visible(" ".join(text.split()))
    return text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "…"


def _flat(values: dict[str, Any]) -> str:
    """What is set, as ``name value``; nested ones with the last two of their names."""
    said: list[str] = []
    waiting = [(str(name), value) for name, value in reversed(values.items())]
    while waiting and sum(map(len, said)) <= _WIDEST:
        name, value = waiting.pop()
        if isinstance(value, dict):
            waiting += [(f"{name}.{inner}", of) for inner, of in reversed(value.items())]
            continue
        name = ".".join(name.split(".")[-2:])
        if isinstance(value, list) and (len(value) > 5 or any(isinstance(item, dict | list) for item in value)):
            said.append(f"{name} ({len(value):,})")
        elif value not in (None, False, 0, "", []):
            shown = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
            said.append(f"{name} {shown}")
    return ", ".join(said)
