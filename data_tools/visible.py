"""Text of unknown origin on its way to a terminal or a page."""

from __future__ import annotations

import re

# Control characters (an escape may colour, move or rewrite what stands there already), and those that turn the
# direction of a line. Tabs and line ends stay. Half characters (of a file's name, say) cannot be written at all.
_UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    """``text`` with a box in place of each character that does something instead of showing something.

    >>> visible("red: \\x1b[31m")
    'red: \ufffd[31m'
    """
    return _UNSEEN.sub("\N{REPLACEMENT CHARACTER}", text)
