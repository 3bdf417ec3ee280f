"""What a sampler makes of the tokens a judge wrote: the rationale, why it ended, and the frame behind it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from data_tools.judging import FRAME, Verdict, parse
from genrm_lightning.rendering import Renderer
from genrm_lightning.samplers.base import Sample
from genrm_lightning.samplers.cutting import kept


@dataclass(frozen=True)
class Cut:
    """What is kept of a sample.

    Attributes:
        n: tokens of the rationale.
        reason: "stop", or "length" where the budget ended it.
        text: all that the model wrote.
    """

    n: int
    reason: str
    text: str


def cut(ids: list[int], renderer: Renderer, rationale_tokens: int) -> Cut:
    """Cut a sample's ids where its verdict begins, or at its budget; a control token ends what was written."""
    controls = set(renderer.control_ids)
    written = ids[: next((i for i, token in enumerate(ids) if token in controls), len(ids))]
    text = renderer.decode(written)
    n, ended = kept(
        len(written),
        lambda n: renderer.decode(written[:n]),
        lambda i: not renderer.decode(written[i : i + 1]).strip(),
        rationale_tokens,
    )
    return Cut(n, "length" if ended else "stop", text)


def frame_behind(n: int, renderer: Renderer) -> list[int]:
    """The verdict's frame behind a rationale of ``n`` tokens: without one its line break would open the turn."""
    return renderer.frame_ids if n else renderer.text(FRAME.lstrip())


def judged(
    rationale: list[int],
    logps: list[float],
    found: Cut,
    margin: float,
    u: float,
    verdict_temperature: float,
    renderer: Renderer,
) -> Sample:
    """A sample with its verdicts.

    Args:
        rationale, logps: token ids, and their log-probabilities in nats.
        margin: the logit of A less that of B at the forced verdict.
        u: in [0, 1), draws the vote.
    """
    n = len(rationale)
    vote = Verdict.A if u < _sigmoid(margin / verdict_temperature) else Verdict.B
    return Sample(
        rationale=renderer.decode(rationale).strip(),
        token_ids=renderer.completion(rationale, vote).ids,
        verdict=parse(found.text),
        vote=vote,
        p_a=_sigmoid(margin),
        logp=math.fsum(logps),
        mean_token_prob=math.fsum(map(math.exp, logps)) / n if n else 1.0,
        n_tokens=n,
        finish_reason=found.reason,
    )


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
