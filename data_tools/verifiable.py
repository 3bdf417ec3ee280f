"""The embedded preference data: the better answer is known by construction, and nothing gives it away.

Every pair asks one thing of a response, and both responses do one thing that might be asked: see
:class:`data_tools.verifiable_kinds.Task`. A coin picks which of the two prompts is asked, so chosen and
rejected responses have the same distribution, and neither length nor position nor wording of the responses
or the prompt alone says which is which. Some kinds are held out of training: the out-of-distribution test.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random

import polars as pl

from data_tools import verifiable_heldout as heldout
from data_tools import verifiable_kinds as kinds
from data_tools.errors import UserError
from data_tools.order import chosen_is_a, hash64, unit
from data_tools.schema import PREFERENCE, check, conform
from data_tools.verifiable_kinds import Kind, Task

TRAINED: tuple[Kind, ...] = (kinds.topic, kinds.case, kinds.keyword, kinds.form, kinds.copy, kinds.start)
UNSEEN: tuple[Kind, ...] = (heldout.category, heldout.ending, heldout.mood, heldout.language, heldout.opposite)
KINDS: dict[str, Kind] = {kind.__name__: kind for kind in (*TRAINED, *UNSEEN)}
HELD_OUT: tuple[str, ...] = tuple(kind.__name__ for kind in UNSEEN)
TRAINABLE: tuple[str, ...] = tuple(kind.__name__ for kind in TRAINED)
LEVELS = (1, 2, 3)

# Raised when the same arguments begin to give other pairs, or other rationales of them.
VERSION = 1
MAX_ROWS = 20_000
MAX_TEST_ROWS = 1_000
_TRIES = 5_000  # draws for one row; far above what the limits above need
# A prompt belongs to one part for good, whatever the seed: part -> its share [from, to) of the hashes.
_SHARES = {"train": (0.0, 0.7), "validation": (0.7, 0.8), "test": (0.8, 1.0)}


def normalised(prompt: str) -> str:
    """The prompt as compared between parts: lower case, single spaces."""
    return " ".join(prompt.lower().split())


def _belongs(prompt: str, part: str) -> bool:
    if part == "ood":  # its kinds have no prompt in common with the other parts'
        return True
    low, high = _SHARES[part]
    return low <= unit("verifiable-part", prompt) < high


def _tasks(
    part: str, rows: int, seed: int, levels: Sequence[int], names: Sequence[str]
) -> Iterator[tuple[str, str, int, Task, int]]:
    """(pair id, kind, level, task, which of its prompts is asked): the beginning of an endless list."""
    seen: set[str] = set()
    for index in range(rows):
        kind = names[index % len(names)]
        level = levels[index // len(names) % len(levels)]
        rng = Random(hash64("verifiable", f"{seed}|{part}|{index}"))
        for _ in range(_TRIES):
            task = KINDS[kind](rng, level)
            asked = int(rng.random() < 0.5)
            prompt = normalised(task.prompts[asked])
            if prompt not in seen and _belongs(prompt, part):
                break
        else:
            raise UserError(f"verifiable: {rows} rows of {part} are more than kind '{kind}' has prompts; ask for fewer")
        seen.add(prompt)
        yield f"verifiable-{seed}-{part}-{index}", kind, level, task, asked


def _part(part: str, rows: int, seed: int, levels: Sequence[int], names: Sequence[str]) -> pl.DataFrame:
    """The first ``rows`` pairs of an endless list that depends on the other arguments alone."""
    records = [
        {
            "pair_id": pair_id,
            "source": "verifiable",
            "category": kind,
            "subset": f"{kind}-{level}",
            "split": "test" if part == "ood" else part,
            "prompt": [{"role": "user", "content": task.prompts[asked]}],
            "chosen": task.responses[asked],
            "rejected": task.responses[1 - asked],
            "label_kind": "verified",
        }
        for pair_id, kind, level, task, asked in _tasks(part, rows, seed, levels, names)
    ]
    columns = {name: PREFERENCE[name] for name in records[0]}
    return check(conform(pl.DataFrame(records, schema=columns), PREFERENCE), PREFERENCE, f"verifiable {part}")


def build(
    rows: int, seed: int, test_rows: int = 200, levels: Sequence[int] = LEVELS, kinds: Sequence[str] = TRAINABLE
) -> dict[str, pl.DataFrame]:
    """The embedded data: a PREFERENCE table for each part.

    ============  ======================  ==========================================================
    part          rows                    pairs
    ============  ======================  ==========================================================
    train         ``rows``                kinds of ``TRAINED``, kinds and levels in turn
    validation    max(32, rows // 10)     the same kinds, prompts of its own
    test          ``test_rows``           the same kinds, prompts of its own: in distribution
    ood           ``test_rows``           kinds of ``HELD_OUT``, which no other part has (split: test)
    ============  ======================  ==========================================================

    ``category`` is the kind, ``subset`` kind and level (``topic-1`` easy … ``topic-3`` hard). The same
    arguments give the same tables everywhere; fewer rows give the beginning of the longer table; a prompt
    belongs to train, validation or test by its own hash, so no part of one seed holds a prompt from another
    part of any seed. ``levels`` keeps to some of the levels, in all parts; ``kinds``
    to some of the trained kinds (``ood`` always has every held-out kind).

    ``pair_id`` holds seed, part and index, but neither levels nor kinds: tables of one seed and other levels or kinds
    have the same ids for other pairs, and must not be put together.

    Raises:
        UserError: a level or kind there is not, or ``rows`` or ``test_rows`` below 1 or above what the kinds can
            fill with distinct prompts.
    """
    _check(rows, test_rows, levels, kinds)
    sizes = {"train": rows, "validation": max(32, rows // 10), "test": test_rows, "ood": test_rows}
    return {part: _part(part, size, seed, levels, HELD_OUT if part == "ood" else kinds) for part, size in sizes.items()}


def rationales(rows: int, seed: int, levels: Sequence[int] = LEVELS, kinds: Sequence[str] = TRAINABLE) -> pl.DataFrame:
    """Reference rationales of :func:`build`'s training pairs with the same arguments, by the rule that made them.

    They say what is asked and what either response has (:meth:`~data_tools.verifiable_kinds.Task.rationale`), as a
    careful person would, so a judge can begin from sound reasoning, or be compared with it.

    Returns:
        ``pair_id``, ``swapped``, ``rationale``, ``verdict``: both orders of every pair (:mod:`data_tools.rationales`).

    Raises:
        UserError: as :func:`build`.
    """
    _check(rows, 1, levels, kinds)
    records = []
    for pair_id, _, _, task, asked in _tasks("train", rows, seed, levels, kinds):
        for swapped in (False, True):
            right = "A" if chosen_is_a(pair_id, swapped) else "B"
            text = task.rationale(asked, asked if right == "A" else 1 - asked)
            records.append({"pair_id": pair_id, "swapped": swapped, "rationale": text, "verdict": right})
    return pl.DataFrame(records)


def _check(rows: int, test_rows: int, levels: Sequence[int], kinds: Sequence[str]) -> None:
    for name, value, most in (("rows", rows, MAX_ROWS), ("test_rows", test_rows, MAX_TEST_ROWS)):
        if not 1 <= value <= most:
            raise UserError(f"verifiable: {name} is {value}; it must lie between 1 and {most}")
    if not levels or not set(levels) <= set(LEVELS):
        raise UserError(f"verifiable: levels are {list(levels)}; there are {', '.join(map(str, LEVELS))}")
    if not kinds or not set(kinds) <= set(TRAINABLE):
        raise UserError(f"verifiable: kinds are {', '.join(kinds) or 'none'}; there are {', '.join(TRAINABLE)}")
