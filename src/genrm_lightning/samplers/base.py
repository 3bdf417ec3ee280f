"""What a sampler is given and what it returns, whatever runs behind it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from data_tools.errors import UserError
from data_tools.judging import Verdict
from data_tools.order import hash64


@dataclass
class SamplingSettings:
    """How rationales are drawn.

    Attributes:
        n_samples: K, rationales a prompt.
        temperature: of the rationale's tokens.
        top_p: nucleus: tokens are drawn from the smallest set with this much probability.
        verdict_temperature: of the vote drawn at the forced verdict; above 1 both letters are tried more often.
        rationale_tokens: budget of a rationale.
        batch_tokens: tokens of prompts, and room for those of samples, held at a time: memory against speed; in
            float32 no sample depends on it.
    """

    n_samples: int = 4
    temperature: float = 1.0
    top_p: float = 0.95
    verdict_temperature: float = 1.0
    rationale_tokens: int = 128
    batch_tokens: int = 16384

    def __post_init__(self) -> None:
        for name in ("n_samples", "rationale_tokens", "batch_tokens", "temperature", "verdict_temperature"):
            if not 0 < getattr(self, name) < math.inf:  # a comparison with nan is false
                raise UserError(f"sampling.{name}: {getattr(self, name)} is not above 0")
        if not 0 < self.top_p <= 1:
            raise UserError(f"sampling.top_p: {self.top_p} is not in (0, 1]")


@dataclass(frozen=True)
class Request:
    """One judge prompt, as chat messages, in one order.

    Attributes:
        first: index of its first sample: [0, 4) and then [4, 8) are the same samples as [0, 8).
        n_samples: rationales asked for; None: as many as the settings say.
    """

    pair_id: str
    swapped: bool
    messages: list[dict[str, str]]
    first: int = 0
    n_samples: int | None = None

    def indices(self, settings: SamplingSettings) -> range:
        """Of the samples asked for."""
        n = settings.n_samples if self.n_samples is None else self.n_samples
        return range(self.first, self.first + n)


@dataclass(frozen=True)
class Sample:
    """One sampled rationale with its verdict: the columns of JUDGMENT that a sampler knows.

    ``token_ids``, ``logp`` and ``mean_token_prob`` are None where a server tells them not; a judgment without ids is
    tokenised from its text.
    """

    rationale: str
    token_ids: list[int] | None
    verdict: Verdict
    vote: Verdict
    p_a: float
    logp: float | None
    mean_token_prob: float | None
    n_tokens: int
    finish_reason: str


class PromptRefused(UserError):
    """One prompt cannot be answered; others may be.

    Attributes:
        status: of HTTP, that the one who refused it gave.
        said: in its own words, made harmless.
    """

    def __init__(self, message: str, status: int, said: str) -> None:
        super().__init__(message)
        self.status, self.said = status, said


class Sampler(ABC):
    """Draws K rationales a prompt and reads the verdict after each."""

    def check(self, requests: Sequence[Request], settings: SamplingSettings) -> None:  # noqa: B027  (not every one must)
        """Refuse what :meth:`sample` would refuse, before anything is drawn.

        Raises:
            UserError: names the pair.
        """

    @abstractmethod
    def sample(
        self, requests: Sequence[Request], settings: SamplingSettings, salt: str
    ) -> Iterator[tuple[int, list[Sample]]]:
        """Yield (index of the request, its samples in the order of their indices) in any order, as they are done.

        Args:
            salt: names the draw (iteration and seed): with the request and the sample's index it fixes every
                random number, so a rerun draws the same samples.
        """

    def attempt(
        self, requests: Sequence[Request], settings: SamplingSettings, salt: str
    ) -> Iterator[tuple[int, list[Sample] | PromptRefused]]:
        """As :meth:`sample`, but a prompt that is refused ends nothing: what was said of it stands in its place."""
        yield from self.sample(requests, settings, salt)

    def reading(self) -> str | None:
        """How verdicts are read, where :meth:`check` found that out; None where it is always the same.

        One table holds verdicts of one reading: a probability and a letter that counts as 0 or 1 do not compare.
        """
        return None

    def close(self) -> None:  # noqa: B027  (most hold nothing)
        """Let go of what is not memory: connections, processes."""


def uniforms(request: Request, salt: str, n_samples: int, n: int) -> np.ndarray:
    """(n_samples, n) numbers in [0, 1), of samples ``request.first`` and on.

    They depend on pair, order, the sample's index and salt alone.
    """
    indices = range(request.first, request.first + n_samples)
    keys = [f"{request.pair_id}|{request.swapped}|{i}|{salt}" for i in indices]
    return np.stack([np.random.Generator(np.random.Philox(key=hash64("sample", key))).random(n) for key in keys])
