"""Tokens out of states: logits in float32 sums, and a draw from their nucleus."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from genrm_lightning.errors import REMEDY, NotFinite
from genrm_lightning.logprobs import factor, float32_sums, product

# Candidates looked at first: most nuclei fit. The top 64 tokens lie in the 64 blocks with the highest maxima.
_NUCLEUS = 64
_BLOCK = 32
# Where they do not: tokens above the first of these log-probabilities that hold the nucleus are sorted.
_FLOORS = (-8.0, -10.0, -np.inf)


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

    Raises:
        NotFinite: a row's logits are no numbers.
    """
    table = (logits if temperature == 1 else logits / temperature).log_softmax(-1)
    values, order = _top(table)
    if not values[:, 0].isfinite().all():  # one NaN makes a row NaN
        raise NotFinite(f"the judge's logits are NaN or infinite; {REMEDY}")
    tokens, fits = _invert(values, order, u, top_p)
    if not fits.all() and values.shape[-1] < table.shape[-1]:
        wide = (~fits).nonzero().squeeze(-1)
        if table.device.type == "cpu":  # numpy sorts ten times as fast as torch here
            rows = zip(table[wide].numpy(), u[wide].tolist(), strict=True)
            tokens[wide] = torch.tensor([_invert_row(row, x, top_p) for row, x in rows])
        else:
            tokens[wide], _ = _invert(*table[wide].sort(-1, descending=True), u[wide], top_p)
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


def _invert(values: Tensor, order: Tensor, u: Tensor, top_p: float) -> tuple[Tensor, Tensor]:
    """Tokens at ``u``, and whether the candidates hold the nucleus: (N,) each, from (N, M) in descending order."""
    mass = values.double().exp()
    reach = mass.cumsum(-1)
    inside = reach - mass < top_p  # the token that crosses top_p is in the nucleus
    edges = mass.where(inside, 0.0).cumsum(-1)
    pick = torch.searchsorted(edges, (u.double() * edges[:, -1])[:, None], right=True)
    pick = pick.minimum(inside.sum(-1, keepdim=True) - 1)  # where rounding made u reach the last edge
    return order.gather(-1, pick).squeeze(-1), reach[:, -1] >= top_p


def _invert_row(row: np.ndarray, u: float, top_p: float) -> int:
    """The same for one row, (V,), whatever its nucleus' size; of equal tokens the first one counts as the highest."""
    for floor in _FLOORS:
        values = row[row >= floor]
        values.sort()
        values = values[::-1]
        reach = np.exp(values, dtype=np.float64).cumsum()
        if len(reach) and reach[-1] >= top_p:
            break
    last = min(int(np.searchsorted(reach, top_p)), len(reach) - 1)
    pick = min(int(np.searchsorted(reach, u * reach[last], side="right")), last)
    first = int(np.searchsorted(-values, -values[pick]))
    return int(np.flatnonzero(row == values[pick])[pick - first])
