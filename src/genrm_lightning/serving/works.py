"""What waits in the queue: pairs that the judge compares, or conversations that it writes a judgment to."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from genrm_lightning.judges.memory import Turns, content_id
from genrm_lightning.samplers.base import Sample, SamplingSettings

PAIRS = "pairs"  # the group of all pairs: any of them may share a batch
_COLDEST = 1e-6  # temperature: below, logits divided by it would overflow, and draw the likeliest token anyhow


@dataclass(frozen=True)
class Pair:
    """A pair to compare; its id is one of its content."""

    pair_id: str
    prompt: str | Turns
    first: str
    second: str

    @classmethod
    def of(cls, prompt: str | Turns, first: str, second: str) -> Pair:
        return cls(content_id(prompt, first, second), prompt, first, second)

    @property
    def characters(self) -> int:
        return _length(self.prompt) + len(self.first) + len(self.second)


@dataclass(frozen=True)
class Chat:
    """A conversation to write judgments to."""

    messages: Turns
    n: int

    @property
    def characters(self) -> int:
        return _length(self.messages)


@dataclass(frozen=True)
class Drawing:
    """How judgments to a conversation are drawn: what conversations of one batch share."""

    temperature: float
    top_p: float
    max_tokens: int
    seed: int

    def settings(self, base: SamplingSettings) -> SamplingSettings:
        """At a temperature of 0, or hardly above, the likeliest token, and the likelier letter."""
        greedy = self.temperature < _COLDEST
        return SamplingSettings(
            n_samples=1,
            temperature=1.0 if greedy else self.temperature,
            top_p=1e-9 if greedy else self.top_p,
            verdict_temperature=1e-6 if greedy else base.verdict_temperature,
            rationale_tokens=self.max_tokens,
            batch_tokens=base.batch_tokens,
        )


@dataclass(frozen=True)
class Written:
    """Judgments to a conversation, and the tokens of its prompt."""

    samples: list[Sample]
    prompt_tokens: int


def sizes(group: Hashable, work: Pair | Chat) -> tuple[int, int]:
    """Characters of a work's texts, and tokens that its client may have written; a pair's are the server's choice."""
    tokens = work.n * group.max_tokens if isinstance(group, Drawing) and isinstance(work, Chat) else 0
    return work.characters, tokens


def _length(prompt: str | Turns) -> int:
    return len(prompt) if isinstance(prompt, str) else sum(len(turn["content"]) for turn in prompt)
