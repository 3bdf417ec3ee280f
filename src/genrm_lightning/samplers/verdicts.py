"""What a sampler makes of the tokens a judge wrote: the rationale, why it ended, and the frame behind it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from data_tools.judging import FRAME, Verdict, parse, rationale_of
from genrm_lightning.rendering import Renderer
from genrm_lightning.samplers.base import Sample


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
    lead = len(text) - len(text.lstrip())
    n = min(len(written), rationale_tokens)

    def characters(n: int) -> int:
        return len(renderer.decode(written[:n]).rstrip()) - lead

    length = len(rationale_of(text))
    reason = "length" if n < len(written) and characters(n) < length else "stop"
    if n < len(written):  # the budget may end in the middle of what then looks like a verdict's frame
        length = min(length, len(rationale_of(renderer.decode(written[:n]))))
    # The verdict, and blanks before it, are not rationale. Tokens do not end where characters do: walk back.
    while n and characters(n) > length:
        n -= 1
    while n and not renderer.decode(written[n - 1 : n]).strip():
        n -= 1
    return Cut(n, reason, text)


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
