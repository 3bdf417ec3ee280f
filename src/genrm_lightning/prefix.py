"""PrefixBatch: prompts with their branches, and where a loss looks.

Everything here is one prompt with a few branches: a Bradley-Terry pair is a conversation with two responses, a
verdict a judge prompt with one short branch, STaR-DPO a judge prompt with a right and a wrong rationale. A row
holds the prefix once and its branches behind it; the mask lets a branch see the prefix and itself, and its
positions go on where the prefix ends. So the forward equals that of each branch alone, and costs the prefix once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from enum import IntEnum

import torch
from torch import Tensor

from data_tools.errors import UserError


class Role(IntEnum):
    """What a looked-at entry of a :class:`PrefixBatch` is."""

    RATIONALE = 0
    VERDICT = 1  # frame, letter, close and end of turn
    LETTER_A = 2  # a query: the log-probability of A where the branch has its letter
    LETTER_B = 3


TOKENS = (Role.RATIONALE, Role.VERDICT)  # the branch's own tokens, queries left out


@dataclass(frozen=True)
class Branch:
    """One continuation of a prefix.

    Attributes:
        ids: its token ids.
        roles: a :class:`Role` for each token, None where no loss looks (a response that is only scored).
        letter_at: index of the verdict's letter, None without one.
    """

    ids: list[int]
    roles: Sequence[Role | None]
    letter_at: int | None = None

    @classmethod
    def scored(cls, ids: list[int]) -> Branch:
        """A branch of which only the last state is wanted (Bradley-Terry)."""
        return cls(ids, [None] * len(ids))


@dataclass(frozen=True)
class Tree:
    """A prefix (token ids) with its branches: one row of a batch.

    ``extras`` are numbers a loss needs, one a branch (``ref_logp``) or one a row (``margin``).
    """

    pair_id: str
    prefix: list[int]
    branches: list[Branch]
    right: int = 0  # index of the letter that is right (0 A, 1 B), or of the preferred branch
    extras: dict[str, list[float]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.prefix) + sum(len(b.ids) for b in self.branches)


@dataclass
class PrefixBatch:
    """R rows of at most S tokens with B branches in all, looked at in N places.

    Attributes:
        input_ids: (R, S) int64; prefix, then the branches one after the other, then padding.
        position_ids: (R, S) int64; each branch goes on where its prefix ends.
        segments: (R, S) int64; 0 prefix, 1… branches, -1 padding.
        rows, cols: (N,) int64; the state that predicts ``targets`` stands at ``[rows, cols]``.
        targets: (N,) int64 token ids.
        branch: (N,) int64 in [0, B); the branch an entry belongs to.
        role: (N,) int64, :class:`Role`.
        last_rows, last_cols: (B,) int64; each branch's last token.
        right: (R,) int64.
        extras: name -> float32 tensor, the rows' values one after the other.
        pair_ids: one a row.
        weight: what the batch's mean loss counts in its optimizer step (:class:`~genrm_lightning.data.TreeLoader`);
            0: it only fills up, and is logged nowhere.
    """

    input_ids: Tensor
    position_ids: Tensor
    segments: Tensor
    rows: Tensor
    cols: Tensor
    targets: Tensor
    branch: Tensor
    role: Tensor
    last_rows: Tensor
    last_cols: Tensor
    right: Tensor
    extras: dict[str, Tensor]
    pair_ids: list[str]
    weight: float = 1.0

    @property
    def n_branches(self) -> int:
        return len(self.last_rows)

    @property
    def sizes(self) -> Tensor:
        """How many branches each row has: (R,) int64."""
        return torch.bincount(self.last_rows, minlength=len(self.right))

    @property
    def first(self) -> Tensor:
        """Index of each row's first branch: (R,) int64 in [0, B)."""
        sizes = self.sizes
        return sizes.cumsum(0) - sizes

    def to(self, device: torch.device | str, non_blocking: bool = False) -> PrefixBatch:
        """The batch on another device (Lightning calls this)."""

        def move(value):
            if isinstance(value, Tensor):
                return value.to(device, non_blocking=non_blocking)
            return {k: move(v) for k, v in value.items()} if isinstance(value, dict) else value

        return PrefixBatch(**{f.name: move(getattr(self, f.name)) for f in fields(self)})

    def by_branch(self, values: Tensor, roles: Sequence[Role] = TOKENS) -> Tensor:
        """Sum ``values`` (N,) over each branch's entries of these roles: (B,)."""
        wanted = torch.isin(self.role, torch.tensor([int(r) for r in roles], device=self.role.device))
        sums = values.new_zeros(self.n_branches)
        return sums.index_add(0, self.branch[wanted], values[wanted])

    def counts(self, roles: Sequence[Role] = TOKENS) -> Tensor:
        """How many entries of these roles each branch has: (B,) float32."""
        return self.by_branch(torch.ones_like(self.role, dtype=torch.float32), roles)

    def letters(self, logps: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities of A and of B at each verdict, in the order of the branches that have one."""
        return logps[self.role == Role.LETTER_A], logps[self.role == Role.LETTER_B]


def collate(trees: Sequence[Tree], pad_id: int, letter_ids: tuple[int, int]) -> PrefixBatch:
    """Lay trees out as one batch, padded on the right to the longest.

    Args:
        letter_ids: token ids of A and B, for the queries at each verdict.
    """
    size = (len(trees), max(map(len, trees)))
    input_ids = torch.full(size, pad_id)
    position_ids = torch.zeros(size, dtype=torch.long)
    segments = torch.full(size, -1)
    look: list[tuple[int, int, int, int, int]] = []
    last: list[tuple[int, int]] = []
    for row, tree in enumerate(trees):
        start = len(tree.prefix)
        if not start:  # nothing would predict its branches' first tokens
            raise UserError(f"pair {tree.pair_id}: its prompt has no tokens; take a chat template that shows it")
        input_ids[row, :start] = torch.as_tensor(tree.prefix)
        position_ids[row, :start] = torch.arange(start)
        segments[row, :start] = 0
        at = start
        for number, branch in enumerate(tree.branches):
            end = at + len(branch.ids)
            input_ids[row, at:end] = torch.as_tensor(branch.ids)
            position_ids[row, at:end] = torch.arange(start, start + len(branch.ids))
            segments[row, at:end] = number + 1
            for i, (token, role) in enumerate(zip(branch.ids, branch.roles, strict=True)):
                # A branch's first token is predicted by the prefix's last state.
                col = at + i - 1 if i else start - 1
                if role is not None:
                    look.append((row, col, token, len(last), role))
                if i == branch.letter_at:
                    look.append((row, col, letter_ids[0], len(last), Role.LETTER_A))
                    look.append((row, col, letter_ids[1], len(last), Role.LETTER_B))
            last.append((row, end - 1))
            at = end
    rows, cols, targets, branch, role = torch.tensor(look, dtype=torch.long).reshape(-1, 5).unbind(1)
    last_rows, last_cols = torch.tensor(last, dtype=torch.long).unbind(1)
    extras = {
        name: torch.tensor([value for tree in trees for value in tree.extras[name]], dtype=torch.float32)
        for name in trees[0].extras
    }
    return PrefixBatch(
        input_ids, position_ids, segments, rows, cols, targets, branch, role, last_rows, last_cols,
        torch.tensor([tree.right for tree in trees]), extras, [tree.pair_id for tree in trees],
    )  # fmt: skip


@dataclass
class TreeShape:
    """Where a tree lies among trees behind one another: its first token, the lengths of prefix and branches.

    ``blocks`` are the attention's own.
    """

    start: int
    prefix: int
    branches: list[int]
    blocks: dict = field(default_factory=dict)


def tree_shapes(segments: Tensor) -> list[TreeShape]:
    """The trees of a batch, laid behind one another without its padding. segments: (R, S)."""
    shapes, start = [], 0
    for lengths in ((row[row >= 0]).bincount().tolist() for row in segments):
        shapes.append(TreeShape(start, lengths[0], lengths[1:]))
        start += sum(lengths)
    return shapes


def tree_mask(query_segments: Tensor, key_segments: Tensor | None = None) -> Tensor:
    """Who may attend to whom: (R, 1, Q, K) bool, True = attend.

    A token sees what stands before it in the prefix and in its own branch. Padding sees itself, so that no row of
    the softmax is empty; nothing sees padding.

    Args:
        query_segments: (R, Q), the last Q tokens of the row.
        key_segments: (R, K); the queries themselves where None.
    """
    key_segments = query_segments if key_segments is None else key_segments
    q, k = query_segments.shape[1], key_segments.shape[1]
    queries, keys = query_segments[:, :, None], key_segments[:, None, :]
    order = torch.arange(k - q, k, device=keys.device)[:, None] >= torch.arange(k, device=keys.device)
    mask = order & ((keys == 0) | ((keys == queries) & (keys > 0)))
    mask |= torch.eye(q, k, dtype=torch.bool, device=keys.device).roll(k - q, 1)
    return mask[:, None]
