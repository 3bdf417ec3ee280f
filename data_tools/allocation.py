"""How many rows a mixture takes from where: by weights exactly, under limits, and else in proportion to what is there.

A *unit* has a weight, a *value* may have a limit over all units, and a *cell* is the rows of a value in a unit. Nothing
here looks at rows: cells are few.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from fractions import Fraction
from heapq import heapify, heapreplace
from itertools import pairwise
from math import ceil, floor, inf

Cells = dict[tuple[int, int], int]  # (unit, value) -> rows
_Node = tuple[str, int]  # ("unit", its index) or ("value", its number)
_HALF = Fraction(1, 2)
_SWEEPS = 100

# Rows are given out one by one: the k-th of weight w stands at (k - 1/2) / w, and a mixture of n rows has the first n
# (the method of Webster). Unlike a rounding of n * w, which may take one back, this gives no unit less of a larger n.


def quotas(weights: Sequence[Fraction], rows: int) -> list[int]:
    """Rows by unit, ``rows`` in all; where ``rows`` grows, none falls.

    >>> quotas([Fraction(2), Fraction(1)], 7)
    [5, 2]
    """
    # Up to here everyone has what stands in front, and that is not too many: rounding adds half a row a unit at most.
    at = Fraction(max(rows - len(weights), 0)) / sum(weights)
    given = [floor(at * weight + _HALF) for weight in weights]
    ahead = [((n + _HALF) / weight, unit) for unit, (n, weight) in enumerate(zip(given, weights, strict=True))]
    heapify(ahead)
    for _ in range(rows - sum(given)):
        at, unit = ahead[0]
        given[unit] += 1
        heapreplace(ahead, (at + 1 / weights[unit], unit))
    return given


def largest(weights: Sequence[Fraction], available: Sequence[int]) -> int:
    """The most rows of which :func:`quotas` asks no unit for more than it has.

    >>> largest([Fraction(2), Fraction(1)], [5, 9])
    8
    """
    # All that stands in front of the first row that is not there.
    at, lacking = min(
        ((n + _HALF) / weight, unit) for unit, (n, weight) in enumerate(zip(available, weights, strict=True))
    )
    # At the very place of the missing row, units of a smaller index come first.
    return sum(
        floor(at * weight + _HALF) if unit < lacking else ceil(at * weight + _HALF) - 1
        for unit, weight in enumerate(weights)
    )


def allocate(there: Mapping[tuple[int, int], int], wanted: Sequence[int], limits: Mapping[int, int]) -> Cells:
    """Rows to take from each cell: ``wanted`` by unit, and of a value no more than its limit.

    A unit's rows are taken in proportion to its cells, each times a factor of the value that is the same for all units
    and 1 where there is no need for less (so the composition changes no more than the limits ask for).

    Returns:
        as many rows as can be had: fewer than ``wanted`` in all only where no choice of cells has them.
    """
    taken = _fitted(there, wanted, limits)
    missing = _missing(taken, wanted)
    room = _room(taken, limits)
    for unit in range(len(wanted)):
        while missing[unit] and _augment(unit, missing, room, there, taken):
            pass
    return taken


def possible(there: Mapping[tuple[int, int], int], wanted: Sequence[int], limits: Mapping[int, int]) -> int:
    """How many rows :func:`allocate` would take."""
    taken: Cells = dict.fromkeys(there, 0)
    missing, room = list(wanted), dict(limits)
    for unit in range(len(wanted)):
        while missing[unit] and _augment(unit, missing, room, there, taken):
            pass
    return sum(taken.values())


def _missing(taken: Cells, wanted: Sequence[int]) -> list[int]:
    missing = list(wanted)
    for (unit, _), n in taken.items():
        missing[unit] -= n
    return missing


def _room(taken: Cells, limits: Mapping[int, int]) -> dict[int, int]:
    room = dict(limits)
    for (_, value), n in taken.items():
        if value in room:
            room[value] -= n
    return room


def _fitted(there: Mapping[tuple[int, int], int], wanted: Sequence[int], limits: Mapping[int, int]) -> Cells:
    """The proportional choice, rounded down, and down to the limits: what is missing then is a few rows a unit."""
    factor: dict[int, float] = defaultdict(lambda: 1.0)
    cells: list[list[tuple[int, int]]] = [[] for _ in wanted]
    for (unit, value), n in there.items():
        cells[unit].append((value, n))
    exact: dict[tuple[int, int], float] = {}
    for _ in range(_SWEEPS):
        total: dict[int, float] = defaultdict(float)
        for unit, inside in enumerate(cells):
            level = _level([(n, factor[value]) for value, n in inside], wanted[unit])
            for value, n in inside:
                exact[unit, value] = n * min(1.0, factor[value] * level)
                total[value] += exact[unit, value]
        over = {v: total[v] / limits[v] if limits[v] else inf for v in limits if total[v] > limits[v] or factor[v] < 1}
        if all(1 - 1e-9 < ratio < 1 + 1e-9 for ratio in over.values()):
            break
        for value, ratio in over.items():
            factor[value] = min(1.0, factor[value] / ratio) if ratio else 1.0
    # Float noise must not turn a whole number into the one below.
    taken = {cell: min(floor(n + 1e-6), there[cell]) for cell, n in exact.items()}
    room = _room(taken, limits)
    for cell, n in taken.items():
        excess = min(n, max(0, -room.get(cell[1], 0)))
        if excess:
            taken[cell] -= excess
            room[cell[1]] += excess
    missing = _missing(taken, wanted)
    for cell, n in taken.items():
        excess = min(n, max(0, -missing[cell[0]]))
        taken[cell] -= excess
        missing[cell[0]] += excess
    return taken


def _level(cells: list[tuple[int, float]], wanted: int) -> float:
    """The t at which the sum of rows * min(1, factor * t) is what is wanted; infinite where all rows are too few."""
    whole, rest = 0.0, sum(n * factor for n, factor in cells)
    for n, factor in sorted(cells, key=lambda cell: -cell[1]):
        if rest <= 0:
            break
        level = (wanted - whole) / rest
        if level * factor <= 1:
            return max(level, 0.0)
        whole, rest = whole + n, rest - n * factor
    return inf if wanted > whole else 0.0


def _augment(
    unit: int, missing: list[int], room: dict[int, int], there: Mapping[tuple[int, int], int], taken: Cells
) -> bool:
    """Give a unit more rows, where need be by moving others to other values (a path of the maximal flow)."""
    came: dict[_Node, _Node | None] = {("unit", unit): None}
    queue = deque([("unit", unit)])
    units = range(len(missing))
    values = {value for _, value in there}
    while queue:
        kind, i = node = queue.popleft()
        if kind == "unit":
            nexts = [("value", v) for v in values if there.get((i, v), 0) > taken.get((i, v), 0)]
        elif room.get(i, 1) > 0:  # without a limit there is always room
            _push(node, came, missing, room, there, taken)
            return True
        else:
            nexts = [("unit", u) for u in units if taken.get((u, i), 0) > 0]
        for following in nexts:
            if following not in came:
                came[following] = node
                queue.append(following)
    return False


def _push(
    end: _Node, came: Mapping[_Node, _Node | None], missing: list[int], room: dict[int, int],
    there: Mapping[tuple[int, int], int], taken: Cells,
) -> None:  # fmt: skip
    """Move as many rows as can be along the path that ends there."""
    path = [end]
    while (before := came[path[-1]]) is not None:
        path.append(before)
    path.reverse()  # unit, value, unit, value, …
    steps = [(*sorted((a, b)), a[0] == "unit") for a, b in pairwise(path)]
    cells = [((unit[1], value[1]), forward) for unit, value, forward in steps]
    amounts = [there[cell] - taken[cell] if forward else taken[cell] for cell, forward in cells]
    amount = min(*amounts, missing[path[0][1]], room.get(end[1], missing[path[0][1]]))
    for cell, forward in cells:
        taken[cell] += amount if forward else -amount
    missing[path[0][1]] -= amount
    if end[1] in room:
        room[end[1]] -= amount
