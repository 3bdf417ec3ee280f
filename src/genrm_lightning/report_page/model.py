"""What a report is made from, wherever it came from: judges, the sets they judged, and numbers of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Numbers = Mapping[str, Any]  # of a judge on a set, under the names of scores.json; what is unknown is absent or None


@dataclass(frozen=True)
class PairSet:
    """Pairs that judges were shown.

    Attributes:
        name: what it is called on the page; sets of one name must hold the same pairs.
        pairs: PREFERENCE parquet.
        digest: of the data; equal for equal sets.
        data: where the pairs are from, in words.
    """

    name: str
    pairs: Path
    digest: str
    data: str


@dataclass(frozen=True)
class OnSet:
    """What a judge did on one set.

    Attributes:
        judgments: JUDGMENT parquet, a table a seed; at least one.
        numbers: means over the seeds where the run has them, the others those of the first table.
        first: those of the first table alone; None: ``numbers`` are.
        seconds: it took to judge the set; None where nobody wrote it down.
    """

    judgments: Sequence[Path]
    numbers: Numbers
    seconds: float | None = None
    first: Numbers | None = None

    @property
    def own(self) -> Numbers:
        """Numbers that all belong to the first table."""
        return self.numbers if self.first is None else self.first


@dataclass(frozen=True)
class Step:
    """One judge on the way of a STaR run: its iteration (0: before the first), and its numbers by set."""

    label: str
    iteration: int
    sets: Mapping[str, Numbers]


@dataclass(frozen=True)
class Method:
    """A judge, or a method whose judges differ by seed.

    Attributes:
        label: what it is called within its run.
        run: what its run is called, put before the label where two methods have the same.
        folder: where its files lie.
        kind: reward, direct, cot, scores; or of a comparison's methods: zero-shot, pairs, star.
        sets: name of a set -> what it did there.
        benchmarks, hacking, shift: as in scores.json; empty where nothing was measured.
        steps: the judges of a STaR run that ended in this one.
        training: what the training took: pairs, samples, sampled_tokens, steps, trained_tokens, seconds.
        settings: (what, value) of how it was judged and trained.
        notes: what a reader of its numbers must know, a line each.
        identity: equal for evaluations of one judge in several folders; empty where nobody knows.
    """

    label: str
    run: str
    folder: Path
    kind: str
    sets: Mapping[str, OnSet]
    benchmarks: Mapping[str, Any] = field(default_factory=dict)
    hacking: Mapping[str, Any] = field(default_factory=dict)
    shift: Mapping[str, Any] = field(default_factory=dict)
    steps: Sequence[Step] = ()
    training: Mapping[str, float] = field(default_factory=dict)
    settings: Sequence[tuple[str, str]] = ()
    notes: Sequence[str] = ()
    identity: tuple[str, ...] = ()


@dataclass(frozen=True)
class Run:
    """What one folder holds."""

    folder: Path
    kind: str  # evaluation, star or compare
    sets: Mapping[str, PairSet]
    methods: Sequence[Method]
