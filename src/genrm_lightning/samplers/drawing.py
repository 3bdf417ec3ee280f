"""Tokens out of states: logits in float32 sums, and a draw from their nucleus."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from genrm_lightning.logprobs import factor, float32_sums, product

# Candidates looked at first: most nuclei fit. The top 64 tokens lie in the 64 blocks with the highest maxima.
_NUCLEUS = 64
_BLOCK = 32
# Where they do not: tokens above the first of these log-probabilities that hold the nucleus are sorted.
_FLOORS = (-9.0, -11.5, -14.0)


class Vocabulary:
    """The vocabulary head of a judge that is only sampled from.

    Its bf16 weight is kept once more in float32 on a CPU, whose matrix units round factors themselves: logits are then
    sums in float32, which costs a quarter more than bf16 logits, an eighth apart.

    Args:
        weight: (V, H).
    """

    def __init__(self, weight: Tensor) -> None:
        self.low = weight.dtype == torch.bfloat16
        self.weight = weight
        self.table = factor(weight.detach(), self.low)

    def logits(self, states: Tensor) -> Tensor:
        """(N, H) -> (N, V) float32."""
        with float32_sums(states.device.type, self.low):
            return product(factor(states, self.low), self.table.T)

    def margins(self, states: Tensor, tokens: tuple[int, int]) -> Tensor:
        """(N, H) -> (N,) float32: the first token's logit less the second's, in float32 throughout."""
        first, second = self.weight[list(tokens)].float()
        return states.float() @ (first - second)


def draw(logits: Tensor, u: Tensor, temperature: float, top_p: float) -> tuple[Tensor, Tensor]:
    """Draw one token a row by inverting the nucleus' distribution function at ``u``.

    Args:
        logits: (N, V) float32.
        u: (N,) uniforms in [0, 1).

    Returns:
        (N,) token ids, and (N,) log-probabilities under the untempered, uncut distribution, nats.
    """
    table = (logits if temperature == 1 else logits / temperature).log_softmax(-1)
    values, order = _top(table)
    tokens, fits = _invert(values, order, u, top_p)
    wide = (~fits).nonzero().squeeze(-1) if values.shape[-1] < table.shape[-1] else ()
    if len(wide):
        pairs = [_above(table[row], top_p) for row in wide]
        values = pad_sequence([values for values, _ in pairs], batch_first=True, padding_value=-torch.inf)
        order = pad_sequence([order for _, order in pairs], batch_first=True)
        tokens[wide], _ = _invert(values, order, u[wide], top_p)
    plain = table if temperature == 1 else logits.log_softmax(-1)
    return tokens, plain.gather(-1, tokens[:, None]).squeeze(-1)


def _top(table: Tensor) -> tuple[Tensor, Tensor]:
    """The highest values of each row and where they lie, in descending order: as ``topk``, in a third of the time."""
    rows, size = table.shape
    whole = size - size % _BLOCK
    if whole // _BLOCK <= _NUCLEUS:
        return table.topk(min(_NUCLEUS, size), dim=-1)
    blocks = table[:, :whole].view(rows, -1, _BLOCK)
    best = blocks.amax(-1).topk(_NUCLEUS, dim=-1, sorted=False).indices
    where = (best[:, :, None] * _BLOCK + torch.arange(_BLOCK, device=table.device)).flatten(1)
    if whole < size:
        rest = torch.arange(whole, size, device=table.device)
        where = torch.cat((where, rest.expand(rows, -1)), 1)
    values, order = table.gather(-1, where).topk(_NUCLEUS, dim=-1)
    return values, where.gather(-1, order)


def _above(row: Tensor, top_p: float) -> tuple[Tensor, Tensor]:
    """Values and places of a row's tokens, the highest first, as many as hold the nucleus: (M,) each."""
    for floor in _FLOORS:
        order = (row > floor).nonzero().squeeze(-1)
        values = row[order]
        if values.double().exp().sum() >= top_p:
            break
    else:
        values, order = row, torch.arange(len(row), device=row.device)
    values, places = values.sort(descending=True, stable=True)
    return values, order[places]


def _invert(values: Tensor, order: Tensor, u: Tensor, top_p: float) -> tuple[Tensor, Tensor]:
    """Tokens at ``u``, and whether the candidates hold the nucleus: (N,) each, from (N, M) in descending order."""
    mass = values.double().exp()
    reach = mass.cumsum(-1)
    inside = reach - mass < top_p  # the token that crosses top_p is in the nucleus
    edges = mass.where(inside, 0.0).cumsum(-1)
    pick = torch.searchsorted(edges, (u.double() * edges[:, -1])[:, None], right=True)
    pick = pick.minimum(inside.sum(-1, keepdim=True) - 1)  # where rounding made u reach the last edge
    return order.gather(-1, pick).squeeze(-1), reach[:, -1] >= top_p
