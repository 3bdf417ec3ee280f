"""Paging through pairs: what a key does is apart from the terminal that it came from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console, RenderableType
from rich.control import Control
from rich.segment import Segment, Segments
from rich.text import Text

from data_tools.errors import UserError
from data_tools.view import keys
from data_tools.view.rows import Pairs
from data_tools.visible import visible

HELP = "n next · p previous · space scrolls · 7 Enter goes to 7 · / searches · q quits"
_POLL = 0.2  # seconds between two looks at the terminal's size
_LINES = list[list[Segment]]

Render = Callable[[dict[str, Any], str, int], RenderableType]  # of (row, heading, columns)


class Pager:
    """Where a reader is in the pairs. ``lines`` shows it, ``press`` moves it.

    Args:
        pairs: at least one.
        render: a pair to print.
        console: gives the size, and renders.
    """

    def __init__(self, pairs: Pairs, render: Render, console: Console) -> None:
        self.at = 0
        self.top = 0  # line of the pair that stands at the top
        self.entry = ""  # a number, or a search behind its slash, that is being typed
        self.message = ""
        self._last_search = ""
        self._pairs, self._render, self._console = pairs, render, console
        self._drawn: tuple[tuple[int, int], _LINES] | None = None

    def heading(self, i: int) -> str:
        """Which pair it is, from 1."""
        total = self._pairs.total
        return f"{i + 1:,}" + (f" of {total:,}" if total is not None else "")

    def lines(self) -> _LINES:
        """The part of the pair that fits, all of the terminal's lines but the last."""
        everything, height = self._everything(), self._height()
        self.top = max(0, min(self.top, len(everything) - height))
        shown = everything[self.top : self.top + height]
        return shown + [[] for _ in range(height - len(shown))]

    def status(self) -> str:
        """The last line."""
        if self.entry:
            return self.entry
        below = len(self._everything()) - self.top - self._height()
        more = f"{below:,} line{'s' * (below > 1)} below · " if below > 0 else ""
        return self.message or f"{self.heading(self.at)} · {more}{HELP}"

    def press(self, key: str) -> bool:
        """Do what a key says. False: the reader wants to leave."""
        self.message = ""
        if self.entry:
            self._type(key)
        elif key == "q":
            return False
        elif key == "/" or (key.isascii() and key.isdigit()):
            self.entry = key
        else:
            self._move(key)
        return True

    def go(self, i: int) -> None:
        """To the pair of that number from 0, if it is there."""
        if self._pairs.get(i) is None:
            end = i > 0 and i == self.at + 1
            self.message = (
                "this is the last pair" if end else "this is the first pair" if i < 0 else f"no pair {i + 1:,}"
            )
        else:
            self.at, self.top, self._drawn = i, 0, None

    def search(self, text: str) -> None:
        """To the next pair with that text, from the first again at the end; an empty one repeats the last search."""
        text = self._last_search = text or self._last_search
        if not text:
            return
        found = self._pairs.find(text, self.at)
        if found is None:
            found = self._pairs.find(text, -1)
        if found is None:
            self.message = f"not found: {text}"
        else:
            wrapped = found <= self.at
            self.go(found)
            self.message = "found before this one, from the first on" if wrapped else ""

    def _move(self, key: str) -> None:
        height = self._height()
        more = self.top + height < len(self._everything())
        if key in ("n", "right", "enter") or (key in ("space", "page down") and not more):
            self.go(self.at + 1)
        elif key in ("p", "b", "left") or (key == "page up" and self.top == 0):
            self.go(self.at - 1)
        elif key == "home":
            self.go(0)
        elif key == "end" and self._pairs.total is not None:
            self.go(self._pairs.total - 1)
        elif key in ("up", "down", "k", "j", "space", "page up", "page down"):
            step = {"up": -1, "k": -1, "down": 1, "j": 1, "page up": 1 - height}.get(key, height - 1)
            self.top = max(0, self.top + step)
        else:
            self.message = HELP

    def _type(self, key: str) -> None:
        if key == "escape":
            self.entry = ""
        elif key == "backspace":
            self.entry = self.entry[:-1]
        elif key == "enter":
            entry, self.entry = self.entry, ""
            self.obey(entry)
        else:
            typed = " " if key == "space" else key
            digit = typed.isascii() and typed.isdigit()
            if len(typed) == 1 and typed.isprintable() and (self.entry[0] == "/" or digit):
                self.entry += typed

    def obey(self, entry: str) -> None:
        """Do what a typed line says: a number goes to a pair, a slash and a text search."""
        if entry.startswith("/"):
            self.search(entry[1:])
        else:
            self.go(int(entry[:9]) - 1)

    def _height(self) -> int:
        return max(1, self._console.size.height - 1)

    def _everything(self) -> _LINES:
        size = (self.at, self._console.size.width)
        if self._drawn is None or self._drawn[0] != size:
            shown = self._render(self._pairs.get(self.at), self.heading(self.at), size[1])
            options = self._console.options.update(width=size[1], height=None)
            self._drawn = size, self._console.render_lines(shown, options, pad=True)
        return self._drawn[1]


def run(pairs: Pairs, render: Render, console: Console) -> None:
    """Page by keys until the reader leaves. The terminal's earlier content is there again afterwards."""
    pager = Pager(pairs, render, console)
    with keys.reading() as terminal, console.screen():
        drawn = None
        while True:
            if drawn != console.size:  # at first, after a key, and after a resize
                drawn = console.size
                _draw(pager, console)
            key = terminal.next(_POLL)
            if key is None:
                continue
            try:
                if not pager.press(key):
                    return
            except UserError as error:  # a file that cannot be read any further: the pairs before it can
                pager.message = visible(" ".join(str(error).split()))
            drawn = None


def _draw(pager: Pager, console: Console) -> None:
    lines: Sequence[list[Segment]] = pager.lines()
    segments = [Segment(" ")] if not lines else []
    for line in lines:
        segments += [*Segment.adjust_line_length(line, console.width), Segment.line()]
    status = Text(visible(pager.status()), "reverse", no_wrap=True, overflow="ellipsis", end="")
    status.truncate(console.width - 1, overflow="ellipsis", pad=True)
    console.control(Control.home())
    console.print(Segments(segments), status, sep="", end="")


def run_by_lines(pairs: Pairs, render: Render, console: Console, ask: Callable[[str], str] = input) -> None:
    """Page by lines that end with Enter, where single keys cannot be read."""
    pager = Pager(pairs, render, console)
    shown = None
    while True:
        if shown != pager.at:
            shown = pager.at
            console.print(render(pairs.get(shown), pager.heading(shown), console.width), "")
        if pager.message:
            console.print(Text(visible(pager.message)))
        try:
            entry = ask("enter: next · p previous · number · /text · q quit: ").strip()
        except EOFError:
            return
        pager.message = ""
        if entry.startswith("/") or (entry.isascii() and entry.isdigit()):
            pager.obey(entry)
        elif not pager.press(entry[:1] or "n"):
            return
