"""Every command that the documents show is read by the real parsers, and reads what is there or was made before."""

import re
import shlex
from pathlib import Path

import pytest

from data_tools.__main__ import _parser
from genrm_lightning import cli, commands, judging_commands
from genrm_lightning.cli import SUBCOMMANDS, _Parsed, _ReadOnlyCLI, _run

ROOT = Path(__file__).parents[1]
# What `make star-iter` leaves, and what a reader is to have.
GIVEN = (
    *("my_pairs.jsonl", "people.jsonl", "new.jsonl", "candidates.jsonl", "runs/mine/judge"),
    *("other/test.parquet", "data/pairs/", "meta-llama/", "OWNER/", "embedded", "configs/"),
)


def shown(file: str) -> list[list[str]]:
    """The ``... -m`` commands of a document's code blocks, as argument lists without python, torchrun or srun."""
    blocks = re.findall(r"^```\n(.*?)^```", (ROOT / file).read_text(), re.DOTALL | re.MULTILINE)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    words = [shlex.split(line) for line in lines if line.startswith(("python -m ", "torchrun ", "srun python -m "))]
    return [command[command.index("-m") + 1 :] for command in words]


FILES = (
    "README.md",
    "docs/by-hand.md",
    "docs/many-devices.md",
    "docs/sharing.md",
    "docs/servers.md",
    "docs/using.md",
    "docs/evaluation.md",
)
COMMANDS = [(file, argv) for file in FILES for argv in shown(file)]


class _Read(Exception):
    pass


def parsed(argv: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Read a command as its program does, and stop there."""
    package, command, *rest = argv
    if package == "data_tools":
        _parser().parse_args(argv[1:])
    elif command in SUBCOMMANDS:
        with pytest.raises(_Parsed):
            _run(_ReadOnlyCLI, argv[1:])
    elif command == "star":
        commands.star_settings(rest)
    elif command == "plan":
        read_fit = cli.read_fit

        def stop_there(flags):
            read_fit(flags)
            raise _Read

        with monkeypatch.context() as patch, pytest.raises(_Read):
            patch.setattr(cli, "read_fit", stop_there)
            commands.main(argv[1:])
    else:
        parse_args = judging_commands._Parser.parse_args

        def stop(self, *arguments, **more):
            parse_args(self, *arguments, **more)
            raise _Read

        with monkeypatch.context() as patch, pytest.raises(_Read):
            patch.setattr(judging_commands._Parser, "parse_args", stop)
            commands.main(argv[1:])


def test_the_documents_show_commands():
    found = {(argv[0], argv[1]) for _, argv in COMMANDS}
    assert {
        ("genrm_lightning", c) for c in ("fit", "star", "join", "sample", "score", "evaluate", "plan", "export")
    } <= found
    assert {("data_tools", c) for c in ("ingest", "stats", "star", "verifiable")} <= found


@pytest.mark.parametrize(("file", "argv"), COMMANDS, ids=lambda value: " ".join(value[:2]) if len(value) > 1 else value)
def test_a_shown_command_is_read(file, argv, monkeypatch):
    monkeypatch.chdir(ROOT)
    parsed(argv, monkeypatch)


def test_a_wrong_command_is_not_read(monkeypatch):
    for argv in (
        ["genrm_lightning", "evaluate", "--judgee", "x"],
        ["data_tools", "star", "--objectiv", "sft"],
        ["genrm_lightning", "fit", "--trainer.max_epoch", "1"],
        ["genrm_lightning", "plan", "--trainer.max_epoch", "1"],
    ):
        with pytest.raises(BaseException) as error:
            parsed(argv, monkeypatch)
        assert not isinstance(error.value, _Parsed | _Read)


@pytest.mark.parametrize("file", FILES)
def test_a_command_reads_what_was_given_or_made_before_and_writes_where_nothing_lies(file):
    made: list[str] = []
    for argv in shown(file):
        out = None
        for flag, value in zip(["", *argv[:-1]], argv, strict=True):
            if argv[1] == "join" and flag == "--run":
                assert value in made, f"{value}: no command above begins it"
            elif flag in ("--out", "--run", "--trainer.default_root_dir"):
                out = value
            elif "/" in value and "://" not in value and flag not in ("--fit", "--shard"):
                before = value.startswith(GIVEN) or any(value == m or value.startswith(f"{m}/") for m in made)
                assert before, f"{value}: no command above makes it"
        assert out is None or out not in made, f"{out}: another command has written there"
        made += [out] if out else []
