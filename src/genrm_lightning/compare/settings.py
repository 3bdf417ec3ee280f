"""The settings of a comparison: what all methods share, and a line for each of them."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jsonargparse import ArgumentError, ArgumentParser

from data_tools.errors import UserError
from genrm_lightning.parsing import merged, mistakes_told, one_line
from genrm_lightning.star.settings import DataSettings, StarSettings

if TYPE_CHECKING:
    from genrm_lightning.objectives import Objective

KINDS = ("zero-shot", "pairs", "star")
LABELLED = ("BradleyTerry", "PairRM", "GenRM")  # objectives that are trained on pairs
# What a method's line may say beside ``kind`` and ``label``; a star line takes the keys of a star config.
_KEYS = {"zero-shot": ("rationale",), "pairs": ("objective", "fit")}
_SHARED = ("run", "data", "seed")  # the comparison decides them
_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")  # a method's name is a folder's


@dataclass
class CompareSettings:
    """The methods of arXiv 2410.12832 on the same rows and budget.

    The budget: every method is given the labels of the same pairs (the warm start's and those of all iterations), each
    in both orders, and unless its line says otherwise as many epochs of the same batches at the same learning rate.
    Samples come on top and are counted: the table has samples, steps, tokens and seconds beside the accuracies.

    Attributes:
        out: folder of the comparison.
        seeds: n, how many seeds each method is run with, from ``seed`` on; of samples and fits, never of the data.
            Raising it later goes on.
        seed: the first of them.
        only: methods to run now, separated by commas; null for all. Those that are done stay in the table.
        data: the pairs, the same for all.
        star: a star config (configs/star) without run, data and seed: what all methods begin from. Its ``fit`` is that
            of the methods on labelled pairs, too.
        methods: name -> what it is, in the table's order. ``kind: zero-shot`` (``rationale: true`` lets the backbone
            write one first), ``kind: pairs`` (``objective: BradleyTerry, PairRM or GenRM``; ``fit`` is laid over
            star.fit) or ``kind: star`` (all further keys are laid over ``star``). ``label`` is shown in the table.
        baselines: methods that all others are compared with, pair by pair.
        equal: what the methods must have in common, to within one percent: pairs, samples, steps. What a method has
            none of (samples, where it draws none) is left out. Counted in what was done; a difference is an error at
            the end.
    """

    out: str = "runs/compare"
    seeds: int = 1
    seed: int = 0
    only: str | None = None
    data: DataSettings = field(default_factory=DataSettings)
    star: dict = field(default_factory=dict)  # bare: with value types jsonargparse would make the classes named in it
    methods: dict = field(default_factory=dict)
    baselines: list[str] = field(default_factory=list)
    equal: list[Literal["pairs", "samples", "steps"]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise UserError(f"seeds: {self.seeds} is not above 0")
        if self.seed < 0:
            raise UserError(f"seed: {self.seed} is below 0")
        if not self.methods:
            raise UserError("methods: none given; configs/compare/embedded.yaml has those of the paper")
        for name, line in self.methods.items():
            _check_line(name, line)
        _known("baselines", self.baselines, self.methods)
        _known("only", self.chosen, self.methods)
        if not self.chosen:
            raise UserError(f"only: no method named; there are: {', '.join(self.methods)}")

    @property
    def chosen(self) -> list[str]:
        """The methods to run now, in the table's order."""
        if self.only is None:
            return list(self.methods)
        given = [name.strip() for name in self.only.split(",") if name.strip()]
        return [name for name in self.methods if name in given] + [n for n in given if n not in self.methods]

    def label(self, name: str) -> str:
        return self.methods[name].get("label") or name

    def star_settings(self, name: str | None = None, seed: int = 0, run: str | Path = "unused") -> StarSettings:
        """The star settings of a method; of another kind than star, or None: those that all share.

        Raises:
            UserError: a key that there is not, or one that the comparison decides; names the method.
        """
        line = self.methods[name] if name else {}
        where = f"methods.{name}" if name else "star"
        changes = {k: v for k, v in line.items() if k not in ("kind", "label")} if line.get("kind") == "star" else {}
        for section, given in (("star", self.star), (where, changes)):
            if taken := [key for key in _SHARED if key in given]:
                raise UserError(f"{section}.{taken[0]}: the comparison decides it; leave it out")
        config = merged(self.star, changes)
        config |= {"run": str(run), "seed": self.seed + seed, "data": asdict(self.data)}
        parser = ArgumentParser(exit_on_error=False)
        parser.add_class_arguments(StarSettings, nested_key=None, as_group=False)
        try:
            with mistakes_told():
                found = StarSettings(**vars(parser.instantiate_classes(parser.parse_object(config))))
        except (ArgumentError, TypeError, ValueError) as error:
            raise UserError(f"{where}: {one_line(str(error))}") from None
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
        if name and _data_side(found) != _data_side(self.star_settings()):
            raise UserError(f"{where}.warm_start: its pairs are the same for all methods; leave pairs and categories")
        return found

    def fit_section(self, name: str) -> dict[str, Any]:
        """The fit section of a method on labelled pairs: star.fit with its own laid over it."""
        return merged(self.star.get("fit") or {}, self.methods[name].get("fit") or {})


def objective_of(line: dict[str, Any]) -> type[Objective]:
    """The class by which a method's judge is read: that of its fit, direct GenRM for an untrained one."""
    from genrm_lightning import objectives  # torch: not for a command line that is only read

    return getattr(objectives, line.get("objective", "GenRM"))


def _data_side(settings: StarSettings) -> list[Any]:
    """What of the settings decides which pairs there are."""
    warm = settings.warm_start
    return [warm and warm.pairs, warm and warm.categories]


def _check_line(name: str, line: Any) -> None:
    if not (isinstance(name, str) and _NAME.fullmatch(name)):
        raise UserError(f"methods: '{name}' is no name; take lower-case letters, digits and hyphens")
    if not isinstance(line, dict) or line.get("kind") not in KINDS:
        found = line.get("kind") if isinstance(line, dict) else line
        raise UserError(f"methods.{name}.kind: '{found}' is unknown; there are: {', '.join(KINDS)}")
    if not isinstance(line.get("label", ""), str):
        raise UserError(f"methods.{name}.label: {line['label']!r} is no text; put it in quotes")
    kind = line["kind"]
    if kind == "star":
        return
    if strange := [key for key in line if key not in ("kind", "label", *_KEYS[kind])]:
        raise UserError(
            f"methods.{name}.{strange[0]}: a {kind} method has no such key; there are: {', '.join(_KEYS[kind])}"
        )
    if kind == "pairs" and line.get("objective") not in LABELLED:
        raise UserError(
            f"methods.{name}.objective: '{line.get('objective')}' is unknown; there are: {', '.join(LABELLED)}"
        )
    if not isinstance(line.get("fit") or {}, dict):
        raise UserError(f"methods.{name}.fit: {line['fit']!r}; it must be a mapping")
    if not isinstance(line.get("rationale", False), bool):
        raise UserError(f"methods.{name}.rationale: '{line['rationale']}' is neither true nor false")


def _known(key: str, given: list[str], methods: dict[str, Any]) -> None:
    if strange := [name for name in given if name not in methods]:
        raise UserError(f"{key}: '{strange[0]}' is no method; there are: {', '.join(methods)}")
