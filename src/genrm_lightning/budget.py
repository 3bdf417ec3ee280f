"""The context budget: what becomes of a row that is longer than the model's context, or than its user allows.

A conversation is shortened, its oldest text first; a response under judgment, a rationale and a verdict never are.
Training, scoring, sampling and evaluation all shorten here, so the cut looks the same wherever a judge sees one. Needs
no torch: settings are read with it.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, get_args

import polars as pl

from data_tools.errors import UserError
from data_tools.judging import conversation_of, with_conversation
from data_tools.schema import PREFERENCE

if TYPE_CHECKING:
    from genrm_lightning.prefix import Tree
    from genrm_lightning.rendering import Renderer

MAX_TOKENS = 4096  # of a tree, where data.max_tokens is not given
MARK = "[...]"  # stands where text was cut away
TooLong = Literal["shorten", "drop", "error"]
REMEDY = "drop long pairs with: python -m data_tools clean --max-chars"
_SLACK = 4  # tokens that a shortened row may leave unused: nearer is not worth another rendering

Conversation = list[dict[str, str]]
Row = dict[str, Any]


class NoneFits(UserError):
    """Not one row fits."""


def check_too_long(value: str, key: str = "data.too_long") -> None:
    """Raises UserError for a policy that is none; names ``key``."""
    if value not in get_args(TooLong):
        raise UserError(f"{key}: '{value}' is unknown; there are: {', '.join(get_args(TooLong))}")


@dataclass(frozen=True)
class Limits:
    """Longest tree, and how far a branch may reach behind its prompt; tokens, None for no limit."""

    tree: int | None
    context: int | None

    def excess(self, tree: Tree) -> int:
        """Tokens by which a tree passes the limits; at most 0 where it fits."""
        reach = len(tree.prefix) + max(len(branch.ids) for branch in tree.branches)
        room = [length - most for length, most in ((len(tree), self.tree), (reach, self.context)) if most is not None]
        return max(room, default=-sys.maxsize)

    def __str__(self) -> str:
        said = (("data.max_tokens", self.tree), ("the model's context", self.context))
        return ", ".join(f"{name} is {most}" for name, most in said if most is not None)


def policy_key(too_long: TooLong) -> dict[str, str]:
    """The policy's part of a stage's key. The default has none: a run begun before there was a policy goes on."""
    return {} if too_long == "shorten" else {"too_long": too_long}


def of_fit(fit: Mapping[str, Any]) -> tuple[int, TooLong]:
    """(data.max_tokens, data.too_long) of a fit's config, defaults where it does not say."""
    arguments = (fit.get("data") or {}).get("init_args") or {}
    return arguments.get("max_tokens", MAX_TOKENS), arguments.get("too_long", "shorten")


def judgment_tokens(renderer: Renderer, rationale_tokens: int) -> int:
    """Tokens that a judge prompt must leave for a sampled judgment: rationale, own verdict, the forced one's frame."""
    return rationale_tokens + 2 * len(renderer.frame_ids) + 1 + len(renderer.close_ids)


@dataclass(frozen=True)
class Fitted:
    """What a policy made of a table.

    Attributes:
        rows: those that are left, in their order, shortened where they had to be.
        shortened: how many.
        dropped: pair ids of the rows that are not left, one a row.
    """

    rows: pl.DataFrame
    shortened: int
    dropped: list[str]

    def say(self, where: str, limit: object, aloud: bool = True) -> None:
        """One line on stderr, where there is anything to say.

        Args:
            limit: what the rows had to fit.
            aloud: False for all processes but one.

        Raises:
            NoneFits: no row is left.
        """
        of = len(self.rows) + len(self.dropped)
        counts = f"{self.shortened} of {of} rows shortened, {len(self.dropped)} dropped"
        if self.dropped and not len(self.rows):
            raise NoneFits(f"{where}: no row fits: {counts} ({limit}); raise the limit, or take shorter pairs")
        if aloud and (self.shortened or self.dropped):
            print(f"{where}: {counts} ({limit})", file=sys.stderr)


def shorten(
    conversation: Conversation, excess: Callable[[Conversation], int], renderer: Renderer
) -> Conversation | None:
    """The conversation without its oldest text, so much of it that ``excess`` is not above 0.

    Cut on token boundaries; system turns stay, and of the rest as much of the end as fits (but for a few tokens). A
    mark stands where text is missing, and the turn after the system's is still the user's, as chat templates want it.

    Args:
        excess: tokens by which a conversation is too long where it stands; above 0 for ``conversation`` itself.

    Returns:
        None where nothing but the mark and the system turns is too long, too.
    """
    starts = [renderer.starts(turn["content"].strip()) for turn in conversation]
    high = sum(len(s) for turn, s in zip(conversation, starts, strict=True) if turn["role"] != "system")
    best = least(conversation)
    if excess(best) > 0:
        return None
    low, guess = 0, high - excess(conversation)
    while high - low > 1:
        guess = min(max(guess, low + 1), high - 1)
        kept = _end(conversation, starts, guess)
        over = excess(kept)
        if over > 0:
            high = guess
        else:
            low, best = guess, kept
            if over >= -_SLACK:
                break
        guess -= over
    return best


def least(conversation: Conversation) -> Conversation:
    """What is left of a conversation that is cut away: its system turns and the mark."""
    return _end(conversation, [[] for _ in conversation], 0)


def _end(conversation: Conversation, starts: list[list[int]], keep: int) -> Conversation:
    """System turns and the last ``keep`` tokens of the others; fewer than all.

    Args:
        starts: where each turn's tokens begin, :meth:`Renderer.starts`; unused where nothing is kept.
    """
    kept: Conversation = []
    marked = False
    for turn, at in zip(reversed(conversation), reversed(starts), strict=True):
        if turn["role"] == "system":
            kept.append(turn)
        elif marked or not keep:
            marked = True
        elif len(at) <= keep:
            kept.append(turn)
            keep -= len(at)
        else:
            marked = True
            kept.append({**turn, "content": f"{MARK} {turn['content'].strip()[at[-keep] :].lstrip()}"})
    kept.reverse()
    first = next((i for i, turn in enumerate(kept) if turn["role"] != "system"), len(kept))
    if first == len(kept) or kept[first]["role"] == "assistant":
        kept.insert(first, {"role": "user", "content": MARK})
    elif not kept[first]["content"].startswith(MARK):
        kept[first] = {**kept[first], "content": f"{MARK} {kept[first]['content'].strip()}"}
    return kept


def fit_rows(
    rows: pl.DataFrame,
    excess: Callable[[pl.DataFrame], int],
    renderer: Renderer,
    too_long: TooLong,
    suspects: Iterable[str] | None = None,
) -> Fitted:
    """A table of which every row fits.

    Rows of one pair with the same conversation, its two orders above all, are shortened alike.

    Args:
        rows: PREFERENCE, whose conversations are shortened, or EXAMPLE: those in the [Conversation] block of its judge
            prompts. An EXAMPLE row with another kind of prompt cannot be shortened and is dropped.
        excess: tokens by which the longest of some rows is too long.
        too_long: shorten or drop.
        suspects: ids of the pairs to look at; None for all.
    """
    rendered = rows.schema != PREFERENCE
    known = None if suspects is None else set(suspects)
    table = rows.to_dicts()
    groups: dict[str, list[int]] = {}
    for number, row in enumerate(table):
        if known is None or row["pair_id"] in known:
            shown = conversation_of(row["prompt"]) if rendered else row["prompt"]
            groups.setdefault(json.dumps([row["pair_id"], shown]), []).append(number)

    def too_much(numbers: list[int], conversation: Conversation | None) -> int:
        some = [_about(table[i], conversation, rendered) for i in numbers]
        with warnings.catch_warnings():  # they are about a table as a whole, which a few rows are not
            warnings.simplefilter("ignore")
            return excess(pl.DataFrame(some, schema=rows.schema))

    gone: set[int] = set()
    shortened = 0
    for key, numbers in groups.items():
        long = [i for i in numbers if too_much([i], None) > 0]
        conversation = json.loads(key)[1]
        if too_long == "shorten" and conversation is not None:
            left = [i for i in numbers if i not in long or too_much([i], least(conversation)) <= 0]
            if set(long) & set(left):
                short = shorten(conversation, partial(too_much, left), renderer)
                if short is not None:
                    for i in left:
                        table[i] = _about(table[i], short, rendered)
                    shortened += len(left)
                    long = [i for i in long if i not in left]
        gone.update(long)
    if not (gone or shortened):
        return Fitted(rows, 0, [])
    kept = pl.DataFrame([row for i, row in enumerate(table) if i not in gone], schema=rows.schema)
    return Fitted(kept, shortened, [table[i]["pair_id"] for i in sorted(gone)])


def _about(row: Row, conversation: Conversation | None, rendered: bool) -> Row:
    """The row with another conversation; None leaves it."""
    if conversation is None:
        return row
    return {**row, "prompt": with_conversation(row["prompt"], conversation) if rendered else conversation}
