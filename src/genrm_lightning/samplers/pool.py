"""Keys and values of the judge prompts and samples under way, and the attention over them.

A prompt's keys and values lie once, whatever K is; a sample adds its own. Nothing is padded into the forward pass:
prompts are computed behind one another, samples one token each, all as one row. In a decode step the live samples of a
prompt, and the heads that share keys, are one matrix of queries against the prompt's keys; each sample attends to its
own tokens beside that, and the two are merged by their log-sum-exps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from data_tools.errors import UserError
from genrm_lightning import attention
from genrm_lightning.policy import Policy

_GROWTH = 32  # tokens by which the room of samples grows: products go over all of it
_LIVE = 0.7  # of a prompt's samples: the share that is under way, on average


@dataclass(frozen=True)
class Capacity:
    """Room for ``rows`` prompts of ``longest`` tokens and ``slots`` samples, which grow to ``room`` tokens."""

    rows: int = 0
    longest: int = 0
    slots: int = 0
    room: int = 0


def plan(budget: int, longest: int, prompts: int, samples: int, room: int) -> Capacity:
    """The most prompts, with so many samples each, that fit ``budget`` tokens; one where none does.

    More rows than slots for all of their samples: a prompt stays until its last sample ends.
    """
    rows = max(1, min(prompts, int(budget / (longest + _LIVE * samples * room))))
    return Capacity(rows, longest, min(rows * samples, max(samples, (budget - rows * longest) // room)), room)


class Pool:
    """Prompts in rows and samples in slots, without gaps: where one leaves, the last one takes its place.

    Args:
        policy: in eval mode, with genrm_tree attention.

    Raises:
        ValueError: with another attention, which would not see the pool.
    """

    def __init__(self, policy: Policy) -> None:
        config = policy.base.config
        if config._attn_implementation != attention.NAME:
            raise ValueError(f"attention '{config._attn_implementation}' grows no trees; set {attention.NAME}")
        self.decoder = policy.base.get_decoder()
        self.device = next(policy.parameters()).device
        self.count: int = config.num_hidden_layers
        self.layers: dict[int, _Layer] = {}
        self.capacity = Capacity()
        self.width = 0  # tokens a slot holds now
        self.prompts: list[int] = []  # of each row: its tokens
        self.row: list[int] = []  # of each slot: where its prompt lies
        self.lengths: list[int] = []  # of each slot: its tokens behind the prompt

    def reserve(self, capacity: Capacity) -> None:
        """Make room; what is live stays."""
        self.capacity = capacity
        self.width = min(max(self.width, _GROWTH), capacity.room)
        for layer in self.layers.values():
            layer.prompts.resize(capacity.rows, capacity.longest, len(self.prompts))
            layer.samples.resize(capacity.slots, self.width, len(self.row))

    def fits(self, prompts: int, samples: int) -> bool:
        """Whether there is room for so many more."""
        rows, slots = len(self.prompts) + prompts, len(self.row) + samples
        return rows <= self.capacity.rows and slots <= self.capacity.slots

    def prefill(self, prompts: Sequence[Sequence[int]], samples: Sequence[int]) -> Tensor:
        """Compute prompts, and open so many samples behind each; the states these begin with: (samples, H)."""
        lengths = [len(prompt) for prompt in prompts]
        first = len(self.prompts)
        self.prompts += lengths
        positions = torch.cat([torch.arange(n) for n in lengths])
        states = self._forward([i for prompt in prompts for i in prompt], positions, _Prefill(self, first))
        for row, n in enumerate(samples, first):
            self.row += [row] * n
            self.lengths += [0] * n
        ends = torch.tensor(lengths).cumsum(0) - 1
        return states[ends.repeat_interleave(torch.tensor(samples)).to(self.device)]

    def decode(self, ids: Sequence[int]) -> Tensor:
        """Feed every sample its next token; their states: (slots, H)."""
        if max(self.lengths) == self.width:
            self.width = min(self.width + _GROWTH, self.capacity.room)
            self.reserve(self.capacity)
        positions = torch.tensor([self.prompts[row] + n for row, n in zip(self.row, self.lengths, strict=True)])
        states = self._forward(ids, positions, _Decode(self))
        self.lengths = [n + 1 for n in self.lengths]
        return states

    def leave(self, slot: int) -> None:
        """Close a sample, and its prompt where it was the last one behind it."""
        row, last = self.row[slot], len(self.row) - 1
        self._move(slot, last, self.lengths, "samples")
        self.row[slot] = self.row[last]
        del self.row[last]
        if row in self.row:
            return
        last = len(self.prompts) - 1
        self._move(row, last, self.prompts, "prompts")
        self.row = [row if r == last else r for r in self.row]

    def _move(self, to: int, last: int, lengths: list[int], kind: str) -> None:
        if to < last:
            for layer in self.layers.values():
                getattr(layer, kind).move(last, to, lengths[last])
            lengths[to] = lengths[last]
        del lengths[last]

    def layer(self, number: int, key: Tensor, value: Tensor) -> _Layer:
        """A layer's states, made at its first tokens. key, value: (1, G, T, D)."""
        if number not in self.layers:
            prompts, samples = _Store(key, value), _Store(key, value)
            prompts.resize(self.capacity.rows, self.capacity.longest, 0)
            samples.resize(self.capacity.slots, self.width, 0)
            self.layers[number] = _Layer(prompts, samples)
        return self.layers[number]

    def _forward(self, ids: Sequence[int], positions: Tensor, step: _Prefill | _Decode) -> Tensor:
        """(T, H) last states of tokens behind one another."""
        states = self.decoder(
            input_ids=torch.tensor([ids], device=self.device), position_ids=positions[None].to(self.device),
            use_cache=False, step=step,
        ).last_hidden_state[0]  # fmt: skip
        if step.seen != self.count:
            raise UserError(
                f"backbone.name: {step.seen} of the model's {self.count} layers attend as the local sampler needs it; "
                "take a Llama-like model"
            )
        return states


class _Store:
    """Keys and values of a layer, (places, G, width, D) each. Zeros where nothing was written: 0 · NaN is NaN."""

    def __init__(self, key: Tensor, value: Tensor) -> None:
        self.keys, self.values = (states.new_zeros(0, states.shape[1], 0, states.shape[3]) for states in (key, value))

    def resize(self, places: int, width: int, live: int) -> None:
        def resized(old: Tensor) -> Tensor:
            if old.shape[::2] == (places, width):
                return old
            new = old.new_zeros(places, old.shape[1], width, old.shape[3])
            kept = min(width, old.shape[2])
            new[:live, :, :kept] = old[:live, :, :kept]
            return new

        self.keys = resized(self.keys)
        self.values = resized(self.values)

    def move(self, source: int, to: int, n: int) -> None:
        for states in (self.keys, self.values):
            states[to, :, :n] = states[source, :, :n]


@dataclass
class _Layer:
    prompts: _Store
    samples: _Store


class _Prefill:
    """Attention of prompts behind one another, each causal: rows ``first`` and on of the pool."""

    def __init__(self, pool: Pool, first: int) -> None:
        self.pool = pool
        self.seen = 0  # layers
        ends = torch.tensor([0, *pool.prompts[first:]]).cumsum(0).tolist()
        self.spans = [(row, slice(*span)) for row, span in enumerate(pairwise(ends), first)]

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """(1, H, T, D) queries, (1, G, T, D) keys and values -> (1, T, H, D)."""
        self.seen += 1
        store = self.pool.layer(layer, key, value).prompts
        mixed = query.new_empty(*query.shape[:3], value.shape[3])
        for row, at in self.spans:
            n = at.stop - at.start
            store.keys[row, :, :n] = key[0, :, at]
            store.values[row, :, :n] = value[0, :, at]
            mixed[:, :, at] = scaled_dot_product_attention(
                query[:, :, at], key[:, :, at], value[:, :, at], is_causal=True, scale=scaling, enable_gqa=True
            )
        return mixed.transpose(1, 2)


class _Decode:
    """Attention of the next token of every sample."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.seen = 0
        device = pool.device
        self.slots = torch.arange(len(pool.row), device=device)
        self.lengths = torch.tensor(pool.lengths, device=device)
        self.own = torch.arange(pool.width, device=device) > self.lengths[:, None]  # hidden: (N, width)
        # The samples of each prompt side by side: (R, most); what fills a row up is computed and not looked at.
        members: list[list[int]] = [[] for _ in pool.prompts]
        place = []
        for slot, row in enumerate(pool.row):
            place.append((row, len(members[row])))
            members[row].append(slot)
        self.most = max(map(len, members))
        self.members = torch.tensor([m + [0] * (self.most - len(m)) for m in members], device=device)
        self.place = torch.tensor([row * self.most + column for row, column in place], device=device)
        longest = pool.capacity.longest
        self.theirs = None
        if min(pool.prompts) < longest:
            self.theirs = torch.arange(longest, device=device) >= torch.tensor(pool.prompts, device=device)[:, None]

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """(1, H, N, D) queries, (1, G, N, D) keys and values -> (1, N, H, D)."""
        self.seen += 1
        stored = self.pool.layers[layer]
        stored.samples.keys[self.slots, :, self.lengths] = key[0].transpose(0, 1)
        stored.samples.values[self.slots, :, self.lengths] = value[0].transpose(0, 1)
        queries = query[0].unflatten(0, (key.shape[1], -1)).permute(2, 0, 1, 3)  # (N, G, H/G, D)
        n, rows = len(self.slots), len(self.members)
        own, own_mass = _products(
            queries, stored.samples.keys[:n], stored.samples.values[:n], self._added("own", query.dtype), scaling
        )
        packed = queries[self.members].transpose(1, 2).flatten(2, 3)  # (R, G, most · H/G, D)
        seen = _fused if query.device.type == "cpu" else _products
        theirs, mass = seen(
            packed,
            stored.prompts.keys[:rows],
            stored.prompts.values[:rows],
            self._added("theirs", query.dtype),
            scaling,
        )
        share = (own_mass - self._by_slot(mass)).sigmoid_().to(own.dtype)
        return torch.lerp(self._by_slot(theirs), own, share[..., None]).flatten(1, 2)[None]

    def _by_slot(self, packed: Tensor) -> Tensor:
        """(R, G, most · H/G, ...) -> (N, G, H/G, ...)."""
        return packed.unflatten(2, (self.most, -1)).transpose(1, 2).flatten(0, 1)[self.place]

    def _added(self, name: str, dtype: torch.dtype) -> Tensor | None:
        """A mask (B, K) as what is added to scores, (B, 1, 1, K); made once for all layers."""
        hidden = getattr(self, name)
        if hidden is not None and hidden.dtype == torch.bool:
            hidden = torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill_(hidden, -torch.inf)
            setattr(self, name, hidden := hidden[:, None, None])
        return hidden


def _products(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float) -> tuple[Tensor, Tensor]:
    """(B, G, Q, D) attention and its log-sum-exps, (B, G, Q) float32."""
    scores = ((query * scaling) @ key.transpose(-1, -2)).float()
    if mask is not None:
        scores += mask
    mass = scores.logsumexp(-1)
    return scores.sub_(mass[..., None]).exp_().to(value.dtype) @ value, mass


def _fused(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float) -> tuple[Tensor, Tensor]:
    """The same by the kernel behind torch's scaled_dot_product_attention on a CPU, scores in float32 throughout."""
    if mask is not None:
        mask = mask.expand(-1, 1, query.shape[2], -1)
    return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(query, key, value, attn_mask=mask, scale=scaling)
