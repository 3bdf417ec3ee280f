"""No more samples of a pair than its verdict needs: a sampler around another one.

The pairs of a call are asked in rounds, all that are still open in one: samples [0, 2), then [2, 4), [4, 8), ... of
both orders. A sample's random numbers depend on its index and not on its round, and whether a pair goes on depends on
its own samples alone: the samples are those that :func:`~genrm_lightning.evaluation.stopping.stopped` keeps of a table
with all of them. A call is a shard, so shards that resume or are shared need to know nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from data_tools.errors import UserError
from data_tools.judging import Verdict
from genrm_lightning.evaluation.stopping import StoppingSettings, error
from genrm_lightning.samplers.base import PromptRefused, Request, Sample, Sampler, SamplingSettings


class SequentialSampler(Sampler):
    """Draws ``settings.n_samples`` of each order, or fewer where the pair's verdict is decided before.

    Args:
        sampler: draws the samples.
        stopping: when a pair is decided.
    """

    def __init__(self, sampler: Sampler, stopping: StoppingSettings) -> None:
        self.sampler = sampler
        self.stopping = stopping

    def check(self, requests: Sequence[Request], settings: SamplingSettings) -> None:
        self.sampler.check(requests, settings)

    def reading(self) -> str | None:
        return self.sampler.reading()

    def sample(
        self, requests: Sequence[Request], settings: SamplingSettings, salt: str
    ) -> Iterator[tuple[int, list[Sample]]]:
        """As :meth:`Sampler.sample`, with as many samples of either order of a pair, at most K.

        Raises:
            ValueError: only one order of a pair is asked for, or a part of its samples.
        """
        return self._rounds(self.sampler.sample, requests, settings, salt)

    def attempt(
        self, requests: Sequence[Request], settings: SamplingSettings, salt: str
    ) -> Iterator[tuple[int, list[Sample] | PromptRefused]]:
        """As :meth:`Sampler.attempt`; where one order of a pair is refused the other is left as it is."""
        return self._rounds(self.sampler.attempt, requests, settings, salt)

    def _rounds(self, draw: Callable, requests: Sequence[Request], settings: SamplingSettings, salt: str) -> Iterator:
        open_pairs = _pairs(requests)
        drawn: list[list[Sample]] = [[] for _ in requests]
        done = 0
        for k in self.stopping.looks(settings.n_samples):
            indices = [index for pair in open_pairs for index in pair]
            asked = [replace(requests[index], first=done, n_samples=k - done) for index in indices]
            refused = {}
            for place, samples in draw(asked, settings, salt):
                if isinstance(samples, PromptRefused):
                    refused[indices[place]] = samples
                else:
                    drawn[indices[place]] += samples
            yield from refused.items()
            open_pairs = [pair for pair in open_pairs if not refused.keys() & set(pair)]
            done = k
            decided = self._decided([[drawn[index] for index in pair] for pair in open_pairs], k, settings.n_samples)
            for pair, ends in zip(open_pairs, decided, strict=True):
                if ends:
                    yield from ((index, drawn[index]) for index in pair)
            open_pairs = [pair for pair, ends in zip(open_pairs, decided, strict=True) if not ends]
            if not open_pairs:
                break

    def _decided(self, pairs: list[list[list[Sample]]], k: int, k_max: int) -> list[bool]:
        """Whether each pair, given by the samples of its two orders, needs no more of them."""
        if k == k_max:
            return [True] * len(pairs)
        totals = [[sum(map(self._counted, order)) for order in pair] for pair in pairs]
        return (error(np.array(totals).reshape(-1, 2), k, k_max, self.stopping) <= self.stopping.alpha).tolist()

    def _counted(self, sample: Sample) -> float:
        """What a sample counts for A; p(A) as a table holds it."""
        return float(np.float32(sample.p_a)) if self.stopping.votes == "soft" else float(sample.vote == Verdict.A)


def until_decided(sampler: Callable[[], Sampler], stopping: StoppingSettings | None) -> Callable[[], Sampler]:
    """Makes the same sampler, which stops early; as it is where nothing says when."""
    return sampler if stopping is None else lambda: SequentialSampler(sampler(), stopping)


def check_stopping(settings: SamplingSettings, stopping: StoppingSettings, shard: int) -> None:
    """Raises UserError where nothing is left to stop, or a shard would cut a pair's orders apart."""
    if settings.n_samples <= stopping.first:
        raise UserError(
            f"stopping: sampling.n_samples is {settings.n_samples}, the first look comes after {stopping.first} "
            "(stopping.first); nothing is left to stop: take more samples, such as --sampling.n_samples 32"
        )
    if shard % 2:
        raise UserError(
            f"stopping: {shard} judge prompts a shard cut a pair's two orders apart; take an even number of them"
        )


def _pairs(requests: Sequence[Request]) -> list[list[int]]:
    """The indices of each pair's two orders, swapped last; pairs as they come."""
    found: dict[str, list[int]] = {}
    for index, request in enumerate(requests):
        found.setdefault(request.pair_id, []).append(index)
        if request.first or request.n_samples is not None:
            raise ValueError(f"expected requests for all samples, got a part of those of '{request.pair_id}'")
    for pair_id, pair in found.items():
        pair.sort(key=lambda index: requests[index].swapped)
        if [requests[index].swapped for index in pair] != [False, True]:
            raise ValueError(f"expected both orders of '{pair_id}' in one call, got {len(pair)} requests")
    return list(found.values())
