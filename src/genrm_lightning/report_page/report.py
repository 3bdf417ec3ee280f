"""Several runs as one report: sets that agree, methods with names and colours of their own, pair by pair scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property

from data_tools.errors import UserError
from genrm_lightning.report_page.model import Method, Numbers, OnSet, PairSet, Run
from genrm_lightning.report_page.pairwise import Scored


class Report:
    """What the page's sections look at.

    Attributes:
        sets: by name, in the order of the runs.
        methods: in the order of the runs; their labels are unique. A method's place is its colour.

    Raises:
        UserError: two runs have different pairs under one name.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        runs = _folded(runs)
        self.sets: dict[str, PairSet] = {}
        origin = {}
        for run in runs:
            for name, one in run.sets.items():
                if name in self.sets and self.sets[name].digest != one.digest:
                    raise UserError(
                        f"{run.folder}: its set '{name}' holds other pairs than that of {origin[name]} (their digests "
                        "differ); evaluate both on the same file, or report on them apart"
                    )
                self.sets.setdefault(name, one)
                origin.setdefault(name, run.folder)
        self.methods: list[Method] = _named([method for run in runs for method in run.methods])

    @cached_property
    def scored(self) -> Mapping[str, Scored]:
        """The sets, pair by pair."""
        return {name: Scored(one, self.on(name)) for name, one in self.sets.items()}

    def on(self, name: str) -> dict[str, OnSet]:
        """Label -> what that method did on a set, of those that judged it."""
        return {method.label: method.sets[name] for method in self.methods if name in method.sets}

    def numbers(self, name: str, *needed: str) -> Iterator[tuple[Method, Numbers]]:
        """The methods that have all ``needed`` numbers of a set, with these numbers."""
        for method in self.methods:
            if name in method.sets and all(has(method.sets[name].numbers, one) for one in needed):
                yield method, method.sets[name].numbers

    def colour(self, method: Method | str) -> int:
        """A method's place among all."""
        label = method if isinstance(method, str) else method.label
        return next(i for i, one in enumerate(self.methods) if one.label == label)


def has(numbers: Numbers, name: str) -> bool:
    """Whether something is known under a name."""
    return numbers.get(name) not in (None, [], {})


def _folded(runs: Sequence[Run]) -> list[Run]:
    """The same runs, where evaluations of one judge in several folders are one.

    They are where they judged different sets, or where one of them attacked the judge and the other did not: then the
    other's sets count, and of the attacked one only what the attacks did.
    """
    result: list[Run] = []
    for run in runs:
        for i, earlier in enumerate(result):
            first, own = earlier.methods[0], run.methods[0]
            disjoint = first.sets.keys().isdisjoint(own.sets)
            attacked = bool(first.hacking), bool(own.hacking)
            if first.identity and first.identity == own.identity and (disjoint or attacked[0] != attacked[1]):
                result[i] = _joined(run, earlier) if attacked[0] and not disjoint else _joined(earlier, run)
                break
        else:
            result.append(run)
    return result


def _joined(main: Run, other: Run) -> Run:
    """``main``, with what ``other`` has beyond it."""
    method, more = main.methods[0], other.methods[0]
    parts = {
        name: {**getattr(more, name), **getattr(method, name)} for name in ("benchmarks", "hacking", "shift", "sets")
    }
    parts["sets"] = {**method.sets, **parts["sets"]}  # in main's order
    settings = [*method.settings, ("also from", str(more.folder))]
    sets = {**main.sets, **{name: one for name, one in other.sets.items() if name not in main.sets}}
    return replace(main, sets=sets, methods=[replace(method, **parts, settings=settings)])


def _named(methods: list[Method]) -> list[Method]:
    """The same methods, told apart: by their run where labels are equal, then by a number."""
    labels = Counter(method.label for method in methods)
    named = [replace(m, label=f"{m.run}: {m.label}") if labels[m.label] > 1 else m for m in methods]
    labels, seen, result = Counter(method.label for method in named), Counter(), []
    for method in named:
        seen[method.label] += 1
        again = f" ({seen[method.label]})" if labels[method.label] > 1 else ""
        result.append(replace(method, label=method.label + again))
    return result
