"""Fixed attacks on judges: the worse response of a pair, changed so that a judge who can be fooled prefers it.

No attack knows the prompt, the better response, the judge or the place in which the response will be shown, and none
makes the response better: every win that it adds is the judge's mistake. Controls change a response in the same place
by about as many characters and say nothing for it (:mod:`data_tools.attacks.controls`): a shift that a control shows
too is due to length or to any change at all, not to what the attack says.

To add an attack, write it into a tuple of :mod:`~data_tools.attacks.phrases` or :mod:`~data_tools.attacks.dress`.
"""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from data_tools.attacks.attack import FAMILIES, PLACES, Attack
from data_tools.attacks.controls import CONTROLS
from data_tools.attacks.dress import DRESS
from data_tools.attacks.phrases import PHRASES
from data_tools.errors import UserError
from data_tools.schema import Frame

__all__ = ["ATTACKS", "FAMILIES", "PLACES", "Attack", "attacked", "chosen"]

ATTACKS: dict[str, Attack] = {attack.name: attack for attack in (*PHRASES, *DRESS, *CONTROLS)}


def attacked(pairs: Frame, name: str) -> Frame:
    """The same pairs, the ``rejected`` response of each under attack.

    Everything else stays, **pair ids too**: A/B order and a judge's random numbers are drawn from the id
    (:mod:`data_tools.order`), so judgments of a pair with and without the attack differ by the attack alone. Hence two
    attacks must never stand in one table, and none beside the clean pairs: a table, and a folder, an attack.

    Args:
        pairs: PREFERENCE.
        name: one of :data:`ATTACKS`; a draw of its variants is a hash of the pair's id.

    Raises:
        UserError: no such attack; lists those there are.
    """
    if name not in ATTACKS:
        raise UserError(f"attack '{name}' is unknown; there are: {', '.join(ATTACKS)}")
    attack = ATTACKS[name]

    def change(rows: pl.Series) -> pl.Series:
        return pl.Series([attack(row["rejected"], row["pair_id"]) for row in rows], dtype=pl.String)

    both = pl.struct("rejected", "pair_id")
    return pairs.with_columns(rejected=both.map_batches(change, return_dtype=pl.String, is_elementwise=True))


def chosen(names: Iterable[str] | None = None, controls: bool = True) -> list[Attack]:
    """Attacks by their own names or their families', each once, in the order of :data:`ATTACKS`.

    Args:
        names: None: all.
        controls: the controls of those attacks, too.

    Raises:
        UserError: an unknown name, or none at all; lists what there is.
    """
    names = [*ATTACKS] if names is None else list(names)
    known = f"there are: {', '.join(ATTACKS)}; or families of them: {', '.join(FAMILIES)}"
    if not names:
        raise UserError(f"no attack is named; {known}")
    for name in names:
        if name not in ATTACKS and name not in FAMILIES:
            raise UserError(f"attack '{name}' is unknown; {known}")
    found = {attack.name for attack in ATTACKS.values() if {attack.name, attack.family} & set(names)}
    if controls:
        found |= {ATTACKS[name].control for name in found} - {None}
    return [attack for attack in ATTACKS.values() if attack.name in found]
