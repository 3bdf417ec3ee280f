"""The settings of a STaR run: the signature is the config's schema."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import yaml

from data_tools import verifiable
from data_tools.errors import UserError
from data_tools.judging import prompt_named
from data_tools.star import FILTERS, parse_filter, parse_pairing
from genrm_lightning.budget import TooLong, check_too_long, policy_key
from genrm_lightning.parsing import merged
from genrm_lightning.samplers.base import SamplingSettings
from genrm_lightning.samplers.choice import SamplerSettings
from genrm_lightning.star.variants import VARIANTS

HELD_OUT = ("id", "ood")  # the sets every judge of a run is evaluated on
VALIDATION = "validation"  # and this one where there is one: for early_stop, no result


@dataclass
class EmbeddedSettings:
    """The embedded data (python -m data_tools verifiable).

    Attributes:
        rows: training pairs, cut into ``parts``.
        seed: of the pairs.
        test_rows: held-out pairs in each of the two sets.
        levels: of difficulty, 1 (easy) to 3.
        kinds: kinds of task in training and in the in-distribution test.
    """

    rows: int = 480
    seed: int = 0
    test_rows: int = 100
    levels: list[int] = field(default_factory=lambda: list(verifiable.LEVELS))
    kinds: list[str] = field(default_factory=lambda: list(verifiable.TRAINABLE))


@dataclass
class DataSettings:
    """Where the pairs come from: files, or the embedded data where no file is named.

    Attributes:
        train: PREFERENCE parquet that the iterations draw fresh parts of.
        test: held-out pairs like the training pairs (in distribution).
        ood: held-out pairs unlike them (out of distribution).
        test_rows: at most this many pairs of each test file, drawn by hash; null takes all.
        validation_rows: training pairs, drawn by hash, that no iteration nor warm start sees, nor any pair of their
            prompts: every judge is evaluated on them, for ``early_stop``. null keeps none back.
        decontaminate: leave out the training pairs of ``train`` whose prompts overlap held-out ones by 8-word n-grams
            (Tülu 3's rule); false refuses equal prompts alone.
        embedded: used where ``train`` is null.
    """

    train: str | None = None
    test: str | None = None
    ood: str | None = None
    test_rows: int | None = None
    validation_rows: int | None = None
    decontaminate: bool = True
    embedded: EmbeddedSettings = field(default_factory=EmbeddedSettings)

    def __post_init__(self) -> None:
        given = [name for name in ("train", "test", "ood") if getattr(self, name)]
        if given and len(given) < 3:
            missing = next(name for name in ("train", "test", "ood") if name not in given)
            raise UserError(f"data.{missing}: no file given, but data.{given[0]} is; name all three or none")
        if self.validation_rows is not None and self.validation_rows < 1:
            raise UserError(f"data.validation_rows: {self.validation_rows} is not above 0; null keeps none back")


OWN, REFERENCE = "own", "reference"  # whose rationales a warm start takes, where it names no file


@dataclass
class WarmStart:
    """A short labelled fit before the first iteration: rationales, each followed by the label's verdict; STaR-SFT.

    With the backbone's own rationales (one a prompt, whatever the backbone itself would say at their end) the verdicts
    begin to mean something and the rationales stay what they were; with those of a better writer they begin to give
    reasons. Its judge is a row of its own in the table.

    Attributes:
        pairs: how many training pairs it takes; no iteration samples their prompts.
        categories: take them from these categories of the training pairs alone; empty for all.
        rationales: own, the backbone's; reference, those that come with the embedded data; or a file of any model's,
            as for ``bootstrap.file``, of which those with the wrong verdict are left out.
        fit: its config in LightningCLI's own words, like ``fit``.
    """

    pairs: int
    categories: list[str] = field(default_factory=list)
    rationales: str = OWN
    fit: dict = field(default_factory=dict)  # bare: with value types jsonargparse would make the classes named in it

    def __post_init__(self) -> None:
        if self.pairs < 1:
            raise UserError(f"warm_start.pairs: {self.pairs} is not above 0")


@dataclass
class Bootstrap:
    """Where the first iteration's rationales come from, if not from the judge (arXiv 2410.12832: bootstrapping).

    One of the three. The text alone is taken over where the tokens are others.

    Attributes:
        file: rationales of any model: a JUDGMENT parquet, or JSON Lines of pair_id, swapped, rationale and verdict
            (data_tools.rationales). A rationale votes as its verdict says; INVALID ones are dropped.
        judge: another backbone or judge that samples, as the run samples: hub id or folder.
        sampler: a served model that samples (kind: openai).
    """

    file: str | None = None
    judge: str | None = None
    sampler: SamplerSettings | None = None

    def __post_init__(self) -> None:
        if sum(one is not None for one in (self.file, self.judge, self.sampler)) != 1:
            raise UserError(
                "bootstrap: name a file of rationales, a judge that writes them or a sampler: one of the three"
            )
        if self.sampler is not None and self.sampler.served is None:
            raise UserError(
                f"bootstrap.sampler.kind: {self.sampler.kind} samples a judge; name it in bootstrap.judge, or a served "
                "model with kind: openai"
            )


@dataclass
class StarSettings:
    """A STaR run (arXiv 2410.12832 section 3).

    Attributes:
        run: folder of the run.
        iterations: N, how many iterations to run; raising it later goes on with the run.
        parts: parts the training data is cut into; iteration i uses part i, so N is at most this.
        fresh: whether each iteration has a part of its own; false: all of them take the first part (an ablation), and
            N may be any.
        variant: what the samples train: star-sft, star-dpo, star-rationalizer, star-rationalizer-kl or
            star-ipo-rationalizer.
        start: the model each iteration's fit begins from: the newest judge (previous) or the backbone (base).
        backbone: hub id, folder or "embedded".
        dtype: of the weights that sample and evaluate.
        judge_prompt: name in data_tools.judging.PROMPTS.
        seed: of samples and fits.
        data: the pairs.
        sampler: who draws them: the judge in this process (local) or in vLLM's engine (vllm). A served model cannot:
            each iteration samples the judge that the one before has trained.
        sampling: how an iteration's rationales are drawn.
        evaluation: how rationales are drawn on the held-out pairs.
        filters: data_tools.star filters, in order.
        per_prompt: most examples a judge prompt gives.
        rationalize_failed: star-sft and star-dpo: sample the prompts that no sample got right once more with the answer
            told, K each, and let what is right join the samples (Zelikman et al. 2022).
        bootstrap: where the first iteration's rationales come from, if not from the judge.
        uncoupled: star-dpo: whether right samples that find no wrong one are trained on too, without a preference
            (keep). A judge that is nearly always right leaves few couples, and they are its mistakes: a fit on them
            alone unlearns the rest (docs/log.md).
        right: what says that a sample is right: its vote at the forced verdict, or the verdict in its own text.
            star-rationalizer-kl takes right and wrong ones alike: for it only filters read this.
        ranking: which samples of a prompt are best (data_tools.selection.ranking); r_star is ReasonGRM's.
            star-rationalizer-kl has none: it takes those that were drawn first.
        pairing: star-dpo: which right sample goes with which wrong one (data_tools.selection.pairings).
        fit: the fit's config in LightningCLI's own words (model.init_args, data.init_args, trainer). A second --config
            that names it, ``objective`` or ``warm_start.fit`` replaces that section as a whole.
        objective: what the variant's objective alone takes (beta, say), laid over fit.model.init_args: a second
            --config that names another variant sets this and leaves ``fit`` as it is (configs/star/embedded).
        warm_start: a labelled fit before the first iteration; null for none. "base" is then the warm-started judge.
        too_long: what becomes of a pair that does not fit the model's context or fit.data.init_args.max_tokens, in
            samples, fits and evaluations alike: shorten its conversation, drop it, or take it for an error
            (genrm_lightning.budget).
        shard_size: judge prompts a shard of samples holds; a killed stage goes on after its last finished shard.
        quality_pairs: held-out pairs on which each judge is asked again whether its verdicts come from its rationales
            (genrm_lightning.evaluation.faithfulness); 0 does not ask.
        early_stop: end the run when a judge's accuracy on the validation pairs falls below the best so far, the
            difference's 95 % interval wholly below zero (beyond_interval); null: never.
    """

    run: str = "runs/star"
    iterations: int = 3
    parts: int = 3
    fresh: bool = True
    variant: Literal["star-sft", "star-dpo", "star-rationalizer", "star-rationalizer-kl", "star-ipo-rationalizer"] = (
        "star-dpo"
    )
    start: Literal["previous", "base"] = "previous"
    backbone: str = "embedded"
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    judge_prompt: str = "mt_bench"
    seed: int = 0
    data: DataSettings = field(default_factory=DataSettings)
    sampler: SamplerSettings = field(default_factory=SamplerSettings)
    sampling: SamplingSettings = field(default_factory=SamplingSettings)
    evaluation: SamplingSettings = field(default_factory=lambda: SamplingSettings(n_samples=1))
    filters: list[str] = field(default_factory=list)
    per_prompt: int = 1
    rationalize_failed: bool = False
    bootstrap: Bootstrap | None = None
    uncoupled: Literal["drop", "keep"] = "drop"
    right: Literal["vote", "verdict"] = "vote"
    ranking: Literal["mean_token_prob", "r_star", "confidence", "shortest", "random", "drawn"] = "mean_token_prob"
    pairing: str = "rank"
    fit: dict = field(default_factory=dict)  # bare: with value types jsonargparse would make the classes named in it
    objective: dict = field(default_factory=dict)
    warm_start: WarmStart | None = None
    too_long: TooLong = "shorten"
    shard_size: int = 64
    quality_pairs: int = 16
    early_stop: Literal["beyond_interval"] | None = None

    def __post_init__(self) -> None:
        if self.early_stop and self.data.validation_rows is None:
            raise UserError(
                "early_stop: is decided on pairs kept back from training; say how many with data.validation_rows"
            )
        if self.quality_pairs < 0:
            raise UserError(f"quality_pairs: {self.quality_pairs} is below 0; 0 asks about none")
        for name in ("iterations", "parts", "per_prompt", "shard_size"):
            if getattr(self, name) < 1:
                raise UserError(f"{name}: {getattr(self, name)} is not above 0")
        if self.fresh and self.iterations > self.parts:
            raise UserError(
                f"iterations: {self.iterations} is more than parts ({self.parts}); each iteration needs a "
                "fresh part of the data: lower --iterations, or start a new run with more parts"
            )
        _mappings(self.fit, "fit")
        if self.warm_start is not None:
            _mappings(self.warm_start.fit, "warm_start.fit")
            if self.warm_start.rationales == REFERENCE and self.data.train is not None:
                raise UserError(
                    "warm_start.rationales: reference ones come with the embedded data alone; name a file of "
                    "rationales for these pairs, or own"
                )
        if self.objective:
            given = {name: _as_in_a_file(value) for name, value in self.objective.items()}
            self.fit = merged(self.fit, {"model": {"init_args": given}})
        chosen = VARIANTS[self.variant]
        if self.rationalize_failed and (chosen.told or chosen.objective not in ("sft", "dpo")):
            raise UserError(f"rationalize_failed is for star-sft and star-dpo, not for {self.variant}; leave it out")
        if self.bootstrap is not None and chosen.objective == "own":
            raise UserError(f"bootstrap: {self.variant} reads the judge's own rationales; leave it out")
        if self.sampler.served is not None:
            raise UserError(
                f"sampler.kind: openai samples one model, '{self.sampler.served}', but a run samples the judge that it "
                "has just trained; use local or vllm"
            )
        if self.uncoupled == "keep":
            if chosen.objective != "dpo":
                raise UserError(
                    f"uncoupled: keep is for star-dpo and star-ipo-rationalizer, not for {self.variant}; leave it out"
                )
            if not any(model_args(self).get(f"{name}_weight") for name in ("nll", "choice", "direct")):
                raise UserError(
                    "uncoupled: keep trains on right samples without a preference; give "
                    "fit.model.init_args nll_weight, choice_weight or direct_weight"
                )
        check_too_long(self.too_long, "too_long")
        prompt_named(self.judge_prompt)
        for spec in self.filters:
            name, _ = parse_filter(spec)
            if FILTERS[name].needs_couples and chosen.objective != "dpo":
                raise UserError(
                    f"filters: '{name}' compares the two samples of a couple, {self.variant} has none; leave it out"
                )
        if chosen.objective == "own":
            if self.ranking != StarSettings.ranking:
                raise UserError(
                    f"ranking: {self.ranking} changes nothing for {self.variant}, which takes the rationales that were "
                    f"drawn first; leave it out, or say {StarSettings.ranking}, the default, over a shared config"
                )
            if self.right != StarSettings.right and not self.filters:
                raise UserError(
                    f"right: {self.right} changes nothing for {self.variant}, which takes right and wrong rationales "
                    "alike, without filters that read it; leave it out"
                )
        parse_pairing(self.pairing)
        if self.pairing != StarSettings.pairing and chosen.objective != "dpo":
            raise UserError(
                f"pairing: {self.pairing} is for star-dpo and star-ipo-rationalizer, not for {self.variant}; leave it "
                "out"
            )

    def sampler_key(self, sampling: SamplingSettings) -> dict[str, Any]:
        """What decides a draw: batch size is left out, it changes no sample."""
        chosen = {k: v for k, v in asdict(sampling).items() if k != "batch_tokens"}
        return {
            "sampling": chosen,
            "seed": self.seed,
            "judge_prompt": self.judge_prompt,
            "dtype": self.dtype,
            "shard_size": self.shard_size,
            **policy_key(self.too_long),
            **self.sampler.sampler_key(),
        }


def model_args(settings: StarSettings) -> dict[str, Any]:
    """What the ``fit`` section gives the objective."""
    return (settings.fit.get("model") or {}).get("init_args") or {}


def _as_in_a_file(value: Any) -> Any:
    """Of a flag's text what YAML makes of it: "0" is a number, and a stage's key is that of the same config."""
    try:
        return yaml.safe_load(value) if isinstance(value, str) else value
    except yaml.YAMLError:
        return value


def _mappings(fit: dict[str, Any], section: str) -> None:
    """Refuse what is no mapping where a fit's config has one: what reads it here would fall over it."""
    for name in ("model", "data", "trainer"):
        part = fit.get(name)
        inner = part.get("init_args") if isinstance(part, dict) and name != "trainer" else None
        for where, value in ((name, part), (f"{name}.init_args", inner)):
            if value is not None and not isinstance(value, dict):
                raise UserError(f"the star config's '{section}' section: '{where}' is {value!r}; it must be a mapping")
