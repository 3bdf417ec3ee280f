"""The local sampler: a prompt is one row, its K samples are branches of the tree that training uses too.

The prompt is computed once and its keys and values are kept once, whatever K is; each step feeds one token a
branch. A rationale is then cut where its verdict begins, what stands behind is masked, and the verdict's frame is
forced on all branches in one more step: the two letters' probabilities there are the judgment.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from data_tools.errors import UserError
from data_tools.judging import FRAME, Verdict, parse, rationale_of
from genrm_lightning.policy import Policy
from genrm_lightning.prefix import tree_mask
from genrm_lightning.rendering import Renderer
from genrm_lightning.samplers.base import Request, Sample, Sampler, SamplingSettings, uniforms

# Candidates looked at: most nuclei fit the first number, nearly all the second, the rest is sorted in full.
_NUCLEUS = (64, 2048)


class LocalSampler(Sampler):
    """Samples with a policy in this process.

    Args:
        policy: in eval mode (:func:`~genrm_lightning.backbone.load_judge`).
        renderer: of the same backbone.
    """

    def __init__(self, policy: Policy, renderer: Renderer) -> None:
        self.policy = policy
        self.renderer = renderer
        self.device = next(policy.parameters()).device
        self.context: int | None = getattr(policy.base.config, "max_position_embeddings", None)  # None: no limit known

    def check(self, requests: Sequence[Request], settings: SamplingSettings) -> None:
        self._prompts(requests, settings)

    @torch.inference_mode()
    def sample(
        self, requests: Sequence[Request], settings: SamplingSettings, salt: str
    ) -> Iterator[tuple[int, list[Sample]]]:
        prompts = self._prompts(requests, settings)
        steps = self._steps(settings)
        counts = [len(request.indices(settings)) for request in requests]
        for k in sorted(set(counts)):  # rows of a batch have as many branches each
            alike = [i for i, count in enumerate(counts) if count == k]
            for batch in self._batches([prompts[i] for i in alike], k * steps, settings.batch_tokens):
                chosen = [alike[i] for i in batch]
                draws = torch.from_numpy(np.stack([uniforms(requests[i], salt, k, steps + 1) for i in chosen]))
                judged = self._judge([prompts[i] for i in chosen], draws.to(self.device), settings)
                yield from zip(chosen, judged, strict=True)

    def _steps(self, settings: SamplingSettings) -> int:
        """Tokens of a branch: room for the model's own verdict behind a rationale that fills its budget."""
        return settings.rationale_tokens + len(self.renderer.frame_ids) + 1 + len(self.renderer.close_ids)

    def _prompts(self, requests: Sequence[Request], settings: SamplingSettings) -> list[list[int]]:
        """Token ids of the judge prompts. Raises UserError for one that leaves no room for its judgment."""
        prompts = [self.renderer.prompt(request.messages) for request in requests]
        steps = self._steps(settings)
        for request, prompt in zip(requests, prompts, strict=True):
            if self.context is not None and len(prompt) + steps + len(self.renderer.frame_ids) > self.context:
                raise UserError(
                    f"pair '{request.pair_id}': its judge prompt has {len(prompt)} tokens, a judgment up to {steps}, "
                    f"the model's context is {self.context}; drop long pairs with: "
                    "python -m data_tools clean --max-chars"
                )
        return prompts

    @staticmethod
    def _batches(prompts: list[list[int]], tail: int, budget: int) -> Iterator[list[int]]:
        """Indices of prompts of like length, padded together within the token budget; longest first."""
        batch: list[int] = []
        longest = 0
        for index in sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), i)):
            longest = longest or len(prompts[index])
            if batch and (len(batch) + 1) * (longest + tail) > budget:
                yield batch
                batch, longest = [], len(prompts[index])
            batch.append(index)
        if batch:
            yield batch

    def _judge(self, prompts: list[list[int]], draws: Tensor, settings: SamplingSettings) -> list[list[Sample]]:
        """All samples of a batch of prompts. draws: (R, K, steps + 1) uniforms, the last one for the vote."""
        steps = draws.shape[2] - 1
        tokens, logps, tree = self._write(prompts, draws, settings)
        kept = [[self._cut(ids, settings) for ids in row] for row in tokens.tolist()]  # (tokens kept, why it ended)
        letters = self._force(tree, tokens, kept, steps)  # (R, K, 2) logits of A and B
        margin = letters[..., 0] - letters[..., 1]
        p_a = torch.sigmoid(margin)
        votes = draws[..., -1] < torch.sigmoid(margin / settings.verdict_temperature)
        result = []
        for r in range(len(prompts)):
            row = []
            for k in range(draws.shape[1]):
                n, reason, text = kept[r][k]
                rationale = tokens[r, k, :n].tolist()
                vote = Verdict.A if votes[r, k] else Verdict.B
                logp = logps[r, k, :n]
                row.append(
                    Sample(
                        rationale=self.renderer.decode(rationale).strip(),
                        token_ids=self.renderer.completion(rationale, vote).ids,
                        verdict=parse(text),
                        vote=vote,
                        p_a=float(p_a[r, k]),
                        logp=float(logp.sum()),
                        mean_token_prob=float(logp.exp().mean()) if n else 1.0,
                        n_tokens=n,
                        finish_reason=reason,
                    )
                )
            result.append(row)
        return result

    def _write(
        self, prompts: list[list[int]], draws: Tensor, settings: SamplingSettings
    ) -> tuple[Tensor, Tensor, _Tree]:
        """Sample every branch to its end: token ids (R, K, steps; the end token behind an end), log-probs, the tree."""
        rows, branches, steps = draws.shape[0], draws.shape[1], draws.shape[2] - 1
        tree = _Tree(self.policy, prompts, self.renderer.pad_id, branches, steps + len(self.renderer.frame_ids))
        tokens = torch.full((rows * branches, steps), self.renderer.end_id, device=self.device)
        logps = torch.zeros(rows * branches, steps, device=self.device)
        control = torch.tensor(self.renderer.control_ids, device=self.device)
        live = torch.arange(rows * branches, device=self.device)  # branches that are still written, row after row
        logits = self._logits(tree.states)[live // branches]
        for step in range(steps):
            drawn, logp = draw(logits, draws.flatten(0, 1)[live, step], settings.temperature, settings.top_p)
            tokens[live, step] = drawn
            logps[live, step] = logp
            going = ~torch.isin(drawn, control)
            live, drawn = live[going], drawn[going]
            if not len(live) or step == steps - 1:
                break
            logits = self._logits(tree.write(drawn, live // branches, live % branches, step))
        shape = (rows, branches, steps)
        return tokens.view(shape), logps.view(shape), tree

    def _cut(self, ids: list[int], settings: SamplingSettings) -> tuple[int, str, str]:
        """(tokens of the rationale, finish reason, the text the model wrote) of one sample's ids."""
        controls = set(self.renderer.control_ids)
        written = ids[: next((i for i, token in enumerate(ids) if token in controls), len(ids))]
        text = self.renderer.decode(written)
        lead = len(text) - len(text.lstrip())
        n = min(len(written), settings.rationale_tokens)

        def characters(n: int) -> int:
            return len(self.renderer.decode(written[:n]).rstrip()) - lead

        length = len(rationale_of(text))
        reason = "length" if n < len(written) and characters(n) < length else "stop"
        if n < len(written):  # the budget may end in the middle of what then looks like a verdict's frame
            length = min(length, len(rationale_of(self.renderer.decode(written[:n]))))
        # The verdict, and blanks before it, are not rationale. Tokens do not end where characters do: walk back.
        while n and characters(n) > length:
            n -= 1
        while n and not self.renderer.decode(written[n - 1 : n]).strip():
            n -= 1
        return n, reason, text

    def _force(self, tree: _Tree, tokens: Tensor, kept: list[list[tuple[int, str, str]]], steps: int) -> Tensor:
        """Force the verdict's frame behind every rationale; logits of A and B there: (R, K, 2) float32."""
        lengths = torch.tensor([[n for n, _, _ in row] for row in kept], device=self.device)  # (R, K)
        tree.forget(lengths)
        with_rationale, alone = self.renderer.frame_ids, self.renderer.text(FRAME.lstrip())
        width = max(len(with_rationale), len(alone))
        frames = [[with_rationale if n else alone for n in row] for row in lengths.tolist()]
        # Padded on the left: the letter is predicted at the last column of each branch.
        ids = torch.tensor(
            [[[self.renderer.pad_id] * (width - len(f)) + f for f in row] for row in frames], device=self.device
        )
        blank = torch.tensor(
            [[[True] * (width - len(f)) + [False] * len(f) for f in row] for row in frames], device=self.device
        )
        segments = tree.branch_segments[:, :, None].expand_as(ids).masked_fill(blank, -1)
        start = tree.lengths[:, None] + lengths
        positions = (start[:, :, None] + (~blank).cumsum(-1) - 1).clamp(min=0)
        states = tree.grow(ids.flatten(1), segments.flatten(1), positions.flatten(1))
        states = states.view(*ids.shape, -1)[:, :, -1]  # (R, K, H)
        letters = torch.tensor([self.renderer.letter_ids[v] for v in (Verdict.A, Verdict.B)], device=self.device)
        # In float32: bf16 logits lie an eighth apart, and the two letters' difference is the judgment.
        return states.float() @ self.policy.base.get_output_embeddings().weight[letters].float().T

    def _logits(self, states: Tensor) -> Tensor:
        return self.policy.base.get_output_embeddings()(states).float()


class _Tree:
    """R prompts with K growing branches each: keys and values once a prompt, and who may see what."""

    def __init__(self, policy: Policy, prompts: list[list[int]], pad_id: int, branches: int, room: int) -> None:
        self.decoder = policy.base.get_decoder()
        device = next(policy.parameters()).device
        longest = max(map(len, prompts))
        ids = torch.tensor([p + [pad_id] * (longest - len(p)) for p in prompts], device=device)
        self.lengths = torch.tensor([len(p) for p in prompts], device=device)
        columns = torch.arange(longest, device=device)
        self.segments = torch.where(columns < self.lengths[:, None], 0, -1)  # of every cached token: (R, cached)
        self.positions = columns.expand_as(ids)
        self.branch_segments = torch.arange(1, branches + 1, device=device).expand(len(prompts), -1)
        capacity = longest + branches * room
        layers = policy.base.config.num_hidden_layers
        self.cache = Cache(layers=[_Room(capacity) for _ in range(layers)])
        states = self._forward(ids, self.positions, tree_mask(self.segments))
        self.states = states[torch.arange(len(prompts)), self.lengths - 1]  # (R, H), each prompt's last

    def write(self, ids: Tensor, rows: Tensor, branches: Tensor, step: int) -> Tensor:
        """Feed the next token of N branches that are sorted by row: (N,) each; returns their states (N, H)."""
        slot = torch.arange(len(rows), device=rows.device) - torch.searchsorted(rows, rows)
        # As many columns as the row with the most branches wants: those that have ended cost nothing.
        size = (len(self.lengths), int(slot.max()) + 1)
        packed = ids.new_zeros(size).index_put((rows, slot), ids)
        segments = ids.new_full(size, -1).index_put((rows, slot), branches + 1)
        states = self.grow(packed, segments, (self.lengths[:, None] + step).expand(size))
        return states[rows, slot]

    def grow(self, ids: Tensor, segments: Tensor, positions: Tensor) -> Tensor:
        """Feed (R, T) tokens of the given branches (-1: ignored); returns their states (R, T, H)."""
        self.segments = torch.cat([self.segments, segments], 1)
        self.positions = torch.cat([self.positions, positions], 1)
        return self._forward(ids, positions, tree_mask(segments, self.segments))

    def forget(self, lengths: Tensor) -> None:
        """Mask what stands behind the first ``lengths`` (R, K) tokens of each branch."""
        branch = (self.segments - 1).clamp(min=0)
        end = self.lengths[:, None] + lengths.gather(1, branch)
        self.segments = self.segments.masked_fill((self.segments > 0) & (self.positions >= end), -1)

    def _forward(self, ids: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        return self.decoder(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=self.cache, use_cache=True
        ).last_hidden_state


class _Room(CacheLayerMixin):
    """One layer's keys and values with room reserved: a step writes its own columns and copies nothing."""

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.capacity = capacity
        self.length = 0

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        rows, heads, _, size = key_states.shape
        self.keys = key_states.new_empty(rows, heads, self.capacity, size)
        self.values = torch.empty_like(self.keys)
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        end = self.length + key_states.shape[2]
        self.keys[:, :, self.length : end] = key_states
        self.values[:, :, self.length : end] = value_states
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.length + query_length, 0

    def get_seq_length(self) -> int:
        return self.length

    def get_max_length(self) -> int:
        return self.capacity


def draw(logits: Tensor, u: Tensor, temperature: float, top_p: float) -> tuple[Tensor, Tensor]:
    """Draw one token a row by inverting the nucleus' distribution function at ``u``.

    Args:
        logits: (N, V) float32.
        u: (N,) uniforms in [0, 1).

    Returns:
        (N,) token ids, and (N,) log-probabilities under the untempered, uncut distribution, nats.
    """
    scaled = logits if temperature == 1 else logits / temperature
    total = scaled.logsumexp(-1)
    tokens = torch.empty_like(u, dtype=torch.long)
    left = torch.arange(len(u), device=u.device)
    for size in (*_NUCLEUS, logits.shape[-1]):
        size = min(size, logits.shape[-1])
        values, order = (scaled if len(left) == len(u) else scaled[left]).topk(size, dim=-1)
        mass = (values.double() - total[left, None]).exp()
        fits = (mass.sum(-1) >= top_p) if size < logits.shape[-1] else torch.ones_like(left, dtype=torch.bool)
        inside = mass.cumsum(-1) - mass < top_p  # the token that crosses top_p is in the nucleus
        edges = mass.where(inside, 0.0).cumsum(-1)
        pick = torch.searchsorted(edges, (u[left].double() * edges[:, -1])[:, None], right=True)
        pick = pick.minimum(inside.sum(-1, keepdim=True) - 1)  # where rounding made u reach the last edge
        picked = order.gather(-1, pick).squeeze(-1)
        tokens[left[fits]] = picked[fits]
        left = left[~fits]
        if not len(left):
            break
    logp = logits.gather(-1, tokens[:, None]).squeeze(-1) - (total if temperature == 1 else logits.logsumexp(-1))
    return tokens, logp
