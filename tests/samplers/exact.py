"""What a sampler says of its samples, against the model's own forward."""

from __future__ import annotations

import pytest
import torch

from data_tools.judging import Verdict
from genrm_lightning.samplers.base import Request


def requests():
    texts = ["Name an animal.", "a red fox<|im_end|> or the blue sky?"]
    return [Request(f"pair-{i}", bool(i), [{"role": "user", "content": text}]) for i, text in enumerate(texts)]


def check_numbers(lm, renderer, request, sample, logp, p_a):
    """A sample's log-probability and p(A), within ``logp`` and ``p_a`` of what ``lm`` gives the same tokens."""
    ids = sample.token_ids[: sample.n_tokens]
    written = renderer.completion(ids, Verdict.A)
    sequence = [*renderer.prompt(request.messages), *written.ids]
    with torch.no_grad():
        logps = lm(input_ids=torch.tensor([sequence])).logits[0].float().log_softmax(-1)
    start = len(sequence) - len(written.ids)
    own = [float(logps[start - 1 + i, token]) for i, token in enumerate(ids)]
    assert sample.logp == pytest.approx(sum(own), abs=logp)
    a, b = (float(logps[start + written.letter_at - 1, renderer.letter_ids[v]]) for v in (Verdict.A, Verdict.B))
    assert sample.p_a == pytest.approx(float(torch.tensor(a - b).sigmoid()), abs=p_a)
