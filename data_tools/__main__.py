"""python -m data_tools: raw preference files -> clean tables -> training examples, without torch."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from data_tools import artifact, lineage
from data_tools.commands import commands
from data_tools.errors import UserError
from data_tools.visible import visible

OUTPUTS = ("out", "html", "json", "report")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:
        """argparse would print its usage, too: our errors are one line."""
        raise UserError(f"{message}; see: {self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns 0, 2 after an error the user can mend (one line on stderr), 130 after Ctrl-C."""
    try:
        arguments = _parser().parse_args(argv)
        _check_outputs(arguments)
        with lineage.watched(_inputs(arguments)), _damage_told(arguments):
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
    except UnicodeEncodeError as error:
        return _fail(f"a name that is no text ({error.reason}); rename the file")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def _check_outputs(arguments: argparse.Namespace) -> None:
    """Raises UserError where an output has the place of an input, or of another output."""
    taken = {path.resolve(): name for name, path in _paths(arguments) if name not in OUTPUTS}
    for name, path in _paths(arguments):
        if name in OUTPUTS:
            at = taken.get(path.resolve())
            if at is not None and not (at == "file" and name == "out" and arguments.in_place):
                raise UserError(f"{path}: is read or written by this command, too; name another file for --{name}")
            taken[path.resolve()] = name


def _paths(arguments: argparse.Namespace) -> list[tuple[str, Path]]:
    """(flag, path) of each file that is named."""
    given = ((name, value if isinstance(value, list) else [value]) for name, value in vars(arguments).items())
    return [(name, path) for name, paths in given for path in paths if isinstance(path, Path)]


def _inputs(arguments: argparse.Namespace) -> list[Path]:
    return [path for name, path in _paths(arguments) if name not in (*OUTPUTS, "look_in") and path.exists()]


def _damage_told(arguments: argparse.Namespace) -> AbstractContextManager[None]:
    """A table that is damaged where its first check does not look is told with its name, whichever query meets it."""
    tables = [path for path in _inputs(arguments) if path.suffix == ".parquet" and path.is_file()]
    if arguments.shows_progress:  # which needs a terminal, and such a command reads raw files, which tell themselves
        return nullcontext()
    return artifact.damage_told(tables) if tables else nullcontext()


def _fail(message: str) -> int:
    print("error:", visible(" ".join(message.splitlines())), file=sys.stderr)
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m data_tools", description=__doc__)
    there = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, command in commands().items():
        said = " ".join((command.run.__doc__ or "").split())
        added = there.add_parser(
            name,
            help=command.SUMMARY,
            description=f"{command.SUMMARY}. {said}",
            epilog="examples:\n" + "\n".join(f"  python -m data_tools {line}" for line in command.EXAMPLES),
            formatter_class=_Help,
        )
        command.add(added)
        added.set_defaults(
            run=command.run,
            shows_progress=getattr(command, "PROGRESS", False),
            in_place=getattr(command, "IN_PLACE", False),
        )
    return parser


class _Help(argparse.HelpFormatter):
    """Text is filled as usual, examples keep their lines."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if text.startswith("examples:\n") else super()._fill_text(text, width, indent)


if __name__ == "__main__":
    sys.exit(main())
