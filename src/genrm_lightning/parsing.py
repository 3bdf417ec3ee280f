"""What both command lines share and what needs no torch: one-line errors, and the names of LightningCLI's commands."""

from __future__ import annotations

import re
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any, NoReturn

from data_tools.errors import UserError

INTERRUPTED = 130  # exit status after Ctrl-C, as shells have it
TERMINATED = 143  # after SIGTERM, which a cluster sends to a job that it takes the machine from
SUBCOMMANDS = ("fit", "validate", "test", "predict")
# Lines of jsonargparse's that say where it looked, not what is wrong.
_WRAPPING = re.compile(
    r"Unable to load config .*|Does not validate against any of the Union subtypes|Subtypes: .*|Errors:|"
    r"Given value type: .*|Given value: .*|Expected a <class 'NoneType'>"
)


class Terminated(KeyboardInterrupt):
    """SIGTERM: ends a command in the way that Ctrl-C does."""


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM raises :class:`Terminated`, once: the second one must not disturb the end that the first one began."""
    if threading.current_thread() is not threading.main_thread():  # only there do signals have handlers
        yield
        return

    def ends(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Terminated

    before = signal.signal(signal.SIGTERM, ends)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class OneLineErrors:
    """Mixed into a jsonargparse parser: a mistake in a config or flag is one line that names the key, and status 2."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        print(f"error: {one_line(message)}", file=sys.stderr)
        sys.exit(2)


@contextmanager
def mistakes_told() -> Iterator[None]:
    """Let a UserError of a settings class through: jsonargparse wraps it where the setting may also be null."""
    try:
        yield
    except ValueError as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, UserError):
            cause = cause.__cause__
        if cause is None:
            raise
        raise cause from None


def one_line(message: str) -> str:
    """The lines of a message that say something, in one line.

    >>> one_line('Parser key "model.beta":\\n  Errors:\\n    - Expected a number')
    "key 'model.beta': Expected a number"
    """
    lines = [re.sub(r"\s+", " ", line).strip(" -") for line in message.splitlines()]
    said = list(dict.fromkeys(line for line in lines if line and not _WRAPPING.fullmatch(line)))
    text = "; ".join(said or lines).replace(":;", ":")
    return re.sub(r'Parser key "([^"]*)"', r"key '\1'", text)


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """``changes`` laid over ``base``, mapping by mapping; every other value is replaced. Neither is touched.

    >>> merged({"a": {"b": 1, "c": 2}, "d": [1]}, {"a": {"b": 3}, "d": []})
    {'a': {'b': 3, 'c': 2}, 'd': []}
    """
    result = deepcopy(base)
    for key, value in changes.items():
        both = isinstance(result.get(key), dict) and isinstance(value, dict)
        result[key] = merged(result[key], value) if both else deepcopy(value)
    return result
