"""Judges that reason: K rationales a presentation, a verdict read after each."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import polars as pl

from data_tools.errors import UserError
from data_tools.judging import prompt_named
from data_tools.told import Told
from genrm_lightning.backbone import load_renderer
from genrm_lightning.budget import TooLong, policy_key
from genrm_lightning.claims import Claims
from genrm_lightning.evaluation.stopping import StoppingSettings
from genrm_lightning.judges.base import Judge, Judged
from genrm_lightning.judgments import fitting, named, requests, shards_of
from genrm_lightning.progress import Progress
from genrm_lightning.samplers.base import PromptRefused, Sampler, SamplingSettings
from genrm_lightning.samplers.choice import SamplerSettings, chosen_sampler
from genrm_lightning.samplers.sequential import check_stopping, until_decided
from genrm_lightning.shards import Shards, rows_of, table_of
from genrm_lightning.star.stage import identity


class SampledJudge(Judge):
    """A judge whose rationales a sampler draws: this process, vLLM's engine or a served model.

    Args:
        backbone: judge folder, hub id or "embedded"; of a served model its name.
        sampling: how rationales are drawn.
        sampler: who draws them.
        judge_prompt: name in data_tools.judging.PROMPTS.
        dtype: of the weights.
        too_long: what becomes of judge prompts that do not fit the context.
        stopping: ends a pair's sampling where more would hardly change its verdict.
        seed, purpose, iteration, told, shard_size: as :func:`~genrm_lightning.judgments.shards_of` takes them.

    Raises:
        UserError: settings that do not go together; names the key.
    """

    kind = "cot"

    def __init__(
        self,
        backbone: str,
        sampling: SamplingSettings,
        sampler: SamplerSettings,
        judge_prompt: str,
        *,
        dtype: str = "bfloat16",
        too_long: TooLong = "shorten",
        stopping: StoppingSettings | None = None,
        seed: int = 0,
        purpose: str = "evaluate",
        iteration: int = 0,
        told: Told | None = None,
        shard_size: int = 64,
    ) -> None:
        prompt_named(judge_prompt)
        if shard_size < 1:
            raise UserError(f"--shard_size: {shard_size} is not above 0")
        if stopping is not None:
            check_stopping(sampling, stopping, shard_size)
        if too_long == "drop" and sampler.rendered_by(backbone) is None:
            raise UserError("--too_long: drop counts tokens as the served model does; name sampler.openai.tokenizer")
        self.name = self.backbone = backbone
        self.judge_prompt, self.n_samples = judge_prompt, sampling.n_samples
        self.sampling, self.sampler, self.stopping = sampling, sampler, stopping
        self.dtype, self.too_long, self.told = dtype, too_long, told
        self.purpose, self.iteration, self.seed, self.shard_size = purpose, iteration, seed, shard_size
        self._renderer = cache(load_renderer)
        self._opened: ExitStack | None = None
        self._held: Sampler | None = None

    def key(self) -> dict[str, Any]:
        served = self.sampler.served is not None
        key: dict[str, Any] = {
            "stage": self.purpose,
            "judge": self.backbone if served else self._identity,
            "judge_prompt": self.judge_prompt,
            "seed": self.seed,
            "shard_size": self.shard_size,
            "iteration": self.iteration,
            "told": self.told or False,
            **policy_key(self.too_long),
            **self.sampler.sampler_key(),
        }
        if not served:  # it has weights of its own
            key["dtype"] = self.dtype
        key |= {name: value for name, value in vars(self.sampling).items() if name != "batch_tokens"}
        if self.stopping is not None:
            key["stopping"] = {**vars(self.stopping), "prior": list(self.stopping.prior)}  # as JSON has it
        return key

    @cached_property
    def _identity(self) -> Any:
        """Of gigabytes of weights: once is enough."""
        return identity(self.backbone)

    def asked(self, pairs: pl.DataFrame, folder: Path, where: str, aloud: bool = True) -> Shards:
        """Both orders of the pairs that fit, as shards in ``folder``."""
        pairs = self._fitting(pairs, where, aloud)
        return shards_of(
            folder, pairs, self.sampling, template=self.judge_prompt, judge=self.name, iteration=self.iteration,
            seed=self.seed, purpose=self.purpose, told=self.told, shard_size=self.shard_size,
        )  # fmt: skip

    def fill(
        self,
        shards: Shards,
        claims: Claims | None = None,
        among: range | None = None,
        go_on: Callable[[], bool] = lambda: True,
        label: str | None = None,
        aloud: bool = True,
    ) -> None:
        """Draw what is missing of ``shards``; arguments as of :meth:`Shards.fill`."""
        total = None if self.stopping else shards.samples(among)
        with Progress(label or self.purpose, total, "samples", aloud=aloud) as progress:
            # Made only where a shard is missing, and kept for the next set.
            make = until_decided(lambda: self.opened, self.stopping)
            shards.fill(make, claims, among, drew=progress.advance, found=progress.advance, go_on=go_on)

    def judge(self, pairs: pl.DataFrame, folder: Path, where: str, aloud: bool = True) -> Judged:
        """As :meth:`Judge.judge`; what is there is read from ``shard-*.parquet``."""
        shards = self.asked(pairs, folder, where, aloud)
        while (table := shards.table()) is None:
            self.fill(shards, label=where, aloud=aloud)
        return self.judged(table, pairs)

    def judge_now(self, pairs: pl.DataFrame, where: str) -> Judged:
        """As :meth:`Judge.judge_now`; the samples of :meth:`judge`, and no text is written anywhere."""
        return self._now(pairs, where, each=False)[0]

    def judge_each(self, pairs: pl.DataFrame, where: str) -> tuple[Judged, dict[str, PromptRefused]]:
        """As :meth:`judge_now`, but a pair of which a prompt is refused, by a served model, harms no other.

        Returns:
            What is said of the others; pair id -> what was said of a refused one.
        """
        return self._now(pairs, where, each=True)

    def _now(self, pairs: pl.DataFrame, where: str, each: bool) -> tuple[Judged, dict[str, PromptRefused]]:
        asked = requests(self._fitting(pairs, where, aloud=False), self.judge_prompt, self.told)
        salt, facts = named(self.purpose, self.name, self.iteration, self.seed, self.told)
        sampler = until_decided(lambda: self.opened, self.stopping)()
        sampler.check(asked, self.sampling)
        refused: dict[str, PromptRefused] = {}
        rows: list[dict[str, Any]] = []
        for start in range(0, len(asked), self.shard_size):  # as shards are: so much is held at a time
            chunk = asked[start : start + self.shard_size]
            draw = sampler.attempt if each else sampler.sample
            for index, samples in draw(chunk, self.sampling, salt):
                if isinstance(samples, PromptRefused):
                    refused[chunk[index].pair_id] = samples
                else:
                    rows += rows_of(chunk[index], samples, facts)
        table = table_of([row for row in rows if row["pair_id"] not in refused])
        gone = frozenset(pairs["pair_id"]) - {request.pair_id for request in asked}
        return Judged(table, None, gone), refused

    def _fitting(self, pairs: pl.DataFrame, where: str, aloud: bool) -> pl.DataFrame:
        renderer = self.sampler.rendered_by(self.backbone)
        if renderer is None:
            return pairs
        return fitting(
            pairs, renderer, self.sampling, template=self.judge_prompt, told=self.told, too_long=self.too_long,
            where=where, context=self.sampler.context(self.backbone), aloud=aloud, load=self._renderer,
        )  # fmt: skip

    def open(self) -> None:
        """Make the sampler now and not with the first call that needs it; it is kept until :meth:`close`."""
        if self._opened is None:
            with ExitStack() as stack:
                self._held = stack.enter_context(chosen_sampler(self.sampler, self.backbone, self.dtype))()
                self._opened = stack.pop_all()

    @property
    def opened(self) -> Sampler:
        """The sampler that :meth:`open` made."""
        self.open()
        assert self._held is not None
        return self._held

    def close(self) -> None:
        stack, self._opened, self._held = self._opened, None, None
        if stack is not None:
            stack.close()

    def judged(self, table: pl.DataFrame, pairs: pl.DataFrame) -> Judged:
        """The shards' table, of the pairs that were asked about."""
        return Judged(table, None, frozenset(pairs["pair_id"]) - frozenset(table["pair_id"]))
