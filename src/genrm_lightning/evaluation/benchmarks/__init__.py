"""Benchmarks by their own published protocols: one small module each, found by its presence here.

The measures of :mod:`~genrm_lightning.evaluation.scores` treat every set alike. What a benchmark's authors report is
another number: sections weighed in their way, best of four, a vote over two orders. A module here computes that one, as
the authors' code does, and says in ``notes`` what of it could not be followed. It has

    NAME             as the authors write it
    SOURCES          the ``source`` of its PREFERENCE rows, as :func:`_rows.plain` writes it (lower case, letters and
                     digits only)
    protocol(rows)   a :class:`_rows.Rows` in, the protocol out: :func:`_report.report` makes it from the outcomes of
                     the pairs (or prompts), each in a *cell*, and what the sections are made of

Nothing else has to be touched to add one. A protocol is plain JSON:

    benchmark, score, low, high    the benchmark's final number with its interval; fractions; None where nothing of it
                                   could be scored
    sections     name -> score, low, high, n, weight: its share of the final number; None: reported beside it
    subsets      name -> score, n
    n_expected   what n sums to over the whole benchmark; None where it is not known
    complete     whether the rows are the whole benchmark, all judged, and every part of the score could be computed
    notes        lines about what differs

Intervals are 95 %: the percentile bootstrap over clusters of pairs
(:func:`~genrm_lightning.evaluation.scores.clusters`), widened by what a bootstrap cannot see where all outcomes of a
cell are alike (:mod:`~._ends`); None where nothing of the spread was seen.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import Any

import polars as pl

from data_tools.errors import UserError
from data_tools.visible import visible
from genrm_lightning.evaluation.benchmarks import _rows


def benchmarks() -> dict[str, ModuleType]:
    """The benchmarks there are, by the name that their authors write."""
    names = sorted(found.name for found in pkgutil.iter_modules(__path__) if not found.name.startswith("_"))
    modules = [import_module(f"{__name__}.{name}") for name in names]
    return {module.NAME: module for module in modules}


def protocols(
    shown: pl.DataFrame,
    preferences: pl.DataFrame,
    rewards: pl.DataFrame | None = None,
    only: Sequence[str] | None = None,
) -> dict[str, dict[str, Any]]:
    """The protocol of every benchmark that ``preferences`` has rows of, by its name.

    Args:
        shown: :func:`~genrm_lightning.evaluation.scores.presentations` of one judge.
        preferences: PREFERENCE rows, those that were not judged too (their benchmark is then incomplete); rows of no
            benchmark are looked over.
        rewards: scores of single responses, of judges that have them: pair_id, chosen_reward, rejected_reward, for
            every judged pair.
        only: names of the benchmarks wanted, however they are written; None: all that there are rows of.

    Raises:
        UserError: a name that is none, or a benchmark wanted without rows.
        ValueError: tables that do not belong together.
    """
    wanted = _named(only)
    result = {}
    for name, module in wanted.items():
        rows = _rows.rows(shown, preferences, rewards, module.SOURCES)
        if rows is not None:
            result[name] = module.protocol(rows)
        elif only is not None:
            raise UserError(
                f"benchmark '{name}': no row of the data has its source ({', '.join(module.SOURCES)}); add its file"
            )
    return result


def _named(only: Sequence[str] | None) -> dict[str, ModuleType]:
    known = benchmarks()
    if only is None:
        return known
    by_plain = {_rows.plain(name): name for name in known}
    for name in only:
        if _rows.plain(name) not in by_plain:
            raise UserError(f"benchmark '{visible(name)}' is unknown; there are: {', '.join(known)}")
    return {by_plain[_rows.plain(name)]: known[by_plain[_rows.plain(name)]] for name in only}
