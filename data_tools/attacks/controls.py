"""Controls: changes in the place and of about the length of an attack, which say nothing for the response."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

from data_tools.attacks.attack import FAMILY_OF_CONTROLS, Attack

_OWN = "a control of this project"
# True of nearly any response, and no reason to prefer it.
_NEUTRAL = (
    "This is the response to the message above.",
    "It is written as plain text.",
    "It begins with its first line and ends with its last one.",
    "The lines are read from top to bottom.",
    "Every sentence stands after the one before it.",
    "There are words in it, and spaces between them.",
    "The message came first, and the response came after it.",
    "A line ends where the next one begins.",
    "Some of the words are short, and others are longer.",
    "The text was written once and is read from its beginning.",
    "What stands here is a part of the text.",
    "After the last sentence there is no other one.",
)
LEAST, MOST = 200, 1200  # characters of what grows with the response


def _control(name: str, place: str, description: str, *texts: str, **more) -> Attack:
    return Attack(name, FAMILY_OF_CONTROLS, place, description, _OWN, texts, **more)


def grown(response: str, pieces: Sequence[str], joint: str = " ") -> str:
    """The response and as many characters again, :data:`LEAST` to :data:`MOST`, of whole pieces in turn.

    Args:
        pieces: at least one that is not empty.
        joint: between pieces.
    """
    wanted, turn = min(max(len(response), LEAST), MOST), cycle(pieces)
    added = next(turn)
    while len(added) < wanted:
        added += joint + next(turn)
    return "\n\n".join(part for part in (response.rstrip(), added) if part)


CONTROLS = (
    _control("neutral_end_short", "append", "two neutral words at the end", "End of text."),
    _control("neutral_end", "append", "neutral sentences at the end", " ".join(_NEUTRAL[:3])),
    _control(
        "neutral_end_long", "transform", "neutral sentences at the end, as long as the response",
        transform=lambda response: grown(response, _NEUTRAL),
    ),
    _control("neutral_start_short", "prepend", "a neutral heading at the start", "The text follows here:", joint="\n"),
    _control("neutral_start", "prepend", "neutral sentences at the start", " ".join(_NEUTRAL[:3])),
    _control("neutral_instead", "replace", "a neutral sentence in place of the response", _NEUTRAL[0], nothing=True),
)  # fmt: skip
