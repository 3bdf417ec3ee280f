"""Losses as pure functions of tensors: per-example values, so that the caller decides how they are averaged."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor


def bradley_terry(
    chosen: Tensor, rejected: Tensor, margin: Tensor | None = None, label_smoothing: float = 0.0
) -> Tensor:
    """Bradley-Terry: −log σ(r(x, y_w) − r(x, y_l) − m), arXiv 2410.12832 section 2, margin as in Llama 2.

    Args:
        chosen, rejected: (N,) float32 rewards of the preferred and the other response.
        margin: (N,) m, how much better the preferred one should score; None = 0.
        label_smoothing: probability ε that a label is flipped: (1−ε)·loss + ε·loss of the flipped pair.

    Returns:
        (N,) losses in nats.
    """
    difference = chosen - rejected
    if margin is not None:
        difference = difference - margin
    return -(1 - label_smoothing) * F.logsigmoid(difference) - label_smoothing * F.logsigmoid(-difference)


def dpo(
    chosen: Tensor,
    rejected: Tensor,
    ref_chosen: Tensor,
    ref_rejected: Tensor,
    beta: float,
    variant: Literal["sigmoid", "ipo"] = "sigmoid",
    label_smoothing: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Direct preference optimisation over completions, arXiv 2305.18290 eq. 7; for judges 2410.12832 eq. 9.

    sigmoid: −log σ(β·h), smoothed by ε as in cDPO: −(1−ε) log σ(β·h) − ε log σ(−β·h);
    ipo: (h − 1/(2β))², arXiv 2310.12036 eq. 17; with h = log π(c)/π_ref(c) − log π(r)/π_ref(r).

    Args:
        chosen, rejected: (N,) log π of the completions, summed over their tokens, nats.
        ref_chosen, ref_rejected: (N,) the same under the reference policy.
        beta: β > 0.

    Returns:
        losses (N,), and the implicit rewards β·log π/π_ref of chosen and rejected (N,), detached.

    Raises:
        ValueError: an unknown variant.
    """
    chosen_ratio, rejected_ratio = chosen - ref_chosen, rejected - ref_rejected
    h = chosen_ratio - rejected_ratio
    if variant == "sigmoid":
        losses = -(1 - label_smoothing) * F.logsigmoid(beta * h) - label_smoothing * F.logsigmoid(-beta * h)
    elif variant == "ipo":
        losses = (h - 1 / (2 * beta)) ** 2
    else:
        raise ValueError(f"variant is 'sigmoid' or 'ipo', not {variant!r}")
    return losses, (beta * chosen_ratio).detach(), (beta * rejected_ratio).detach()


def mean_nll(logp: Tensor, n_tokens: Tensor) -> Tensor:
    """Length-normalised negative log-likelihood: −log π(completion) / its number of tokens, (N,) nats a token."""
    return -logp / n_tokens


def verdict_nll(logp_right: Tensor, logp_wrong: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """GenRM, arXiv 2410.12832 eq. 7: −log π(I | x, y1, y2) of the right letter, over the whole vocabulary.

    Args:
        logp_right, logp_wrong: (N,) log-probabilities of the two letters, nats.
        label_smoothing: ε of the target mass goes to the other letter (GRAM, arXiv 2506.14175).

    Returns:
        (N,) losses in nats.
    """
    return -(1 - label_smoothing) * logp_right - label_smoothing * logp_wrong


def choice_nll(logp_right: Tensor, logp_wrong: Tensor) -> Tensor:
    """−log p(right | {right, wrong}) = −log σ(log p(right) − log p(wrong)): the verdict among the two letters alone.

    Args:
        logp_right, logp_wrong: (N,) log-probabilities, nats.

    Returns:
        (N,) losses in nats; ln 2 where the two are equal.
    """
    return -F.logsigmoid(logp_right - logp_wrong)
