"""The local sampler: a prompt is computed once, its K samples are branches of the tree that training uses too.

Each step feeds one token a sample. As samples end, the next prompts join, the longest first, as far as the token budget
has room. A rationale is cut where its verdict begins, what stands behind is forgotten, and the verdict's frame is fed
in the next steps, as far as the model did not write the very same tokens: the two letters' probabilities behind it are
the judgment.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from data_tools.errors import UserError
from data_tools.judging import Verdict
from genrm_lightning.policy import Policy
from genrm_lightning.rendering import Renderer
from genrm_lightning.samplers.base import Request, Sample, Sampler, SamplingSettings, uniforms
from genrm_lightning.samplers.drawing import Vocabulary, draw
from genrm_lightning.samplers.pool import Pool, plan
from genrm_lightning.samplers.verdicts import Cut, cut, frame_behind, judged

_PREFILL = 2048  # tokens of prompts computed at once, or one prompt
_SHORTER = 0.85  # the pool is laid out anew where prompts have shrunk to this share of what it holds


class LocalSampler(Sampler):
    """Samples with a policy in this process.

    Args:
        policy: in eval mode (:func:`~genrm_lightning.backbone.load_judge`); its weights stay as they are from here on.
        renderer: of the same backbone.

    Attributes:
        watch: told of each drawn token: its request's index, its sample's place, and all ids of that sample by now.
    """

    def __init__(self, policy: Policy, renderer: Renderer) -> None:
        self.policy = policy
        self.renderer = renderer
        self.watch: Callable[[int, int, list[int]], None] | None = None
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
        found: dict[int, list[Sample | None]] = {}
        for index, request in enumerate(requests):
            found[index] = [None] * len(request.indices(settings))
            if not found[index]:
                yield index, []
        run = _Run(self, prompts, [len(samples) for samples in found.values()], steps, settings)
        while run.waiting or run.drafts:
            for index in run.admit():
                numbers = uniforms(requests[index], salt, len(found[index]), steps + 1)
                run.drafts += [_Draft(index, place, row) for place, row in enumerate(numbers)]
            for draft, sample in run.step():
                found[draft.request][draft.place] = sample
                if None not in found[draft.request]:
                    yield draft.request, found.pop(draft.request)

    def _steps(self, settings: SamplingSettings) -> int:
        """Tokens of a sample: room for the model's own verdict behind a rationale that fills its budget."""
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

    @cached_property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary(self.policy.base.get_output_embeddings().weight)


@dataclass
class _Draft:
    """A sample under way.

    Attributes:
        u: its random numbers, one a step, and one for the vote.
        margins: logit of A less that of B behind 0, 1, … of its tokens.
        cut: what is kept of it, once it has ended.
        frame: what is still to be fed of the verdict's frame.
        margin: the one behind the frame: the judgment.
    """

    request: int
    place: int
    u: np.ndarray
    ids: list[int] = field(default_factory=list)
    logps: list[float] = field(default_factory=list)
    margins: list[float] = field(default_factory=list)
    cut: Cut | None = None
    frame: list[int] = field(default_factory=list)
    margin: float | None = None


class _Run:
    """One call of the sampler: prompts that wait, and drafts in the slots of a pool."""

    def __init__(
        self, sampler: LocalSampler, prompts: list[list[int]], counts: list[int], steps: int, settings: SamplingSettings
    ) -> None:
        self.renderer, self.vocabulary, self.device = sampler.renderer, sampler.vocabulary, sampler.device
        self.watch = sampler.watch
        self.prompts, self.counts, self.steps, self.settings = prompts, counts, steps, settings
        self.controls = set(self.renderer.control_ids)
        self.letters = tuple(self.renderer.letter_ids[letter] for letter in (Verdict.A, Verdict.B))
        self.pool = Pool(sampler.policy)
        self.drafts: list[_Draft] = []  # as in the pool's slots
        self.states: Tensor | None = None  # (drafts, H): behind each one's last token
        asked = (i for i, n in enumerate(counts) if n)
        self.waiting = deque(sorted(asked, key=lambda i: (-len(prompts[i]), i)))  # by the data alone

    def admit(self) -> list[int]:
        """Compute the next prompts that there is room for; the caller appends their drafts."""
        admitted: list[int] = []
        if self.waiting:
            self._make_room()
        while self.waiting:
            more = [*admitted, self.waiting[0]]
            long = len(more) > 1 and sum(len(self.prompts[i]) for i in more) > _PREFILL
            if long or not self.pool.fits(len(more), sum(self.counts[i] for i in more)):
                break
            admitted.append(self.waiting.popleft())
        if admitted:
            states = self.pool.prefill([self.prompts[i] for i in admitted], [self.counts[i] for i in admitted])
            self.states = states if self.states is None else torch.cat((self.states, states))
        return admitted

    def _make_room(self) -> None:
        """Lay the pool out for the prompts that wait: where it is new, and where they have grown shorter."""
        longest = max([*self.pool.prompts, len(self.prompts[self.waiting[0]])])
        now = self.pool.capacity
        if now.rows and longest > _SHORTER * now.longest:
            return
        prompts = len(self.pool.prompts) + len(self.waiting)
        capacity = plan(self.settings.batch_tokens, longest, prompts, max(self.counts), self.steps)
        if capacity.rows > now.rows and capacity.slots >= len(self.drafts):
            self.pool.reserve(capacity)

    def step(self) -> list[tuple[_Draft, Sample]]:
        """Draw or force a token of every draft and feed it; the drafts that are done, with their samples."""
        margins = self.vocabulary.margins(self.states, self.letters).tolist()
        drawn = self._draw([slot for slot, draft in enumerate(self.drafts) if draft.cut is None])
        for slot, draft in enumerate(self.drafts):
            if slot in drawn:
                token, logp = drawn[slot]
                draft.ids.append(token)
                draft.logps.append(logp)
                draft.margins.append(margins[slot])
                if self.watch is not None:
                    self.watch(draft.request, draft.place, draft.ids)
                if token in self.controls or len(draft.ids) == self.steps:
                    self._end(slot, draft)
            elif not draft.frame:
                draft.margin = margins[slot]
        done = []
        for slot in reversed(range(len(self.drafts))):
            if (draft := self.drafts[slot]).margin is not None:
                self.pool.leave(slot)
                self.drafts[slot] = self.drafts[-1]
                del self.drafts[-1]
                done.append((draft, self._sample(draft)))
        feed = [draft.frame.pop(0) if draft.cut is not None else draft.ids[-1] for draft in self.drafts]
        self.states = self.pool.decode(feed) if feed else None
        return done

    def _draw(self, slots: list[int]) -> dict[int, tuple[int, float]]:
        """The next token of each slot, and its log-probability."""
        if not slots:
            return {}
        u = torch.tensor([self.drafts[slot].u[len(self.drafts[slot].ids)] for slot in slots], dtype=torch.float64)
        states = self.states if len(slots) == len(self.drafts) else self.states[slots]
        logits = self.vocabulary.logits(states)
        tokens, logps = draw(logits, u.to(self.device), self.settings.temperature, self.settings.top_p)
        return dict(zip(slots, zip(tokens.tolist(), logps.tolist(), strict=True), strict=True))

    def _end(self, slot: int, draft: _Draft) -> None:
        """Nothing more is drawn: cut the rationale, and feed of the verdict's frame what the model did not write."""
        draft.cut = cut(draft.ids, self.renderer, self.settings.rationale_tokens)
        n = draft.cut.n
        frame = frame_behind(n, self.renderer)
        same = 0
        for token, written in zip(frame, draft.ids[n:-1], strict=False):  # the last one was not fed
            if token != written:
                break
            same += 1
        if same == len(frame):
            draft.margin = draft.margins[n + same]
        else:
            draft.frame = frame[same:]
            self.pool.lengths[slot] = n + same

    def _sample(self, draft: _Draft) -> Sample:
        n = draft.cut.n
        return judged(
            draft.ids[:n], draft.logps[:n], draft.cut, draft.margin, float(draft.u[-1]),
            self.settings.verdict_temperature, self.renderer,
        )  # fmt: skip
