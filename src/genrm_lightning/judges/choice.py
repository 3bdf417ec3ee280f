"""From a name to a judge: what it is called on the command line, and what kind of judge that is."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from data_tools.errors import UserError
from genrm_lightning.budget import TooLong
from genrm_lightning.evaluation.stopping import StoppingSettings
from genrm_lightning.judge_folder import REWARD_MODELS, judge_info
from genrm_lightning.judges import stored
from genrm_lightning.judges.base import Judge, Kind
from genrm_lightning.samplers.base import SamplingSettings
from genrm_lightning.samplers.choice import SamplerSettings

PROMPT = "mt_bench"  # the judge prompt of a model that is no judge of ours
ReadAs = Literal["auto", "reward", "direct", "cot"]


def judge_of(
    name: str | None,
    *,
    read_as: ReadAs = "auto",
    judge_prompt: str | None = None,
    dtype: str = "bfloat16",
    too_long: TooLong = "shorten",
    sampling: SamplingSettings | None = None,
    sampler: SamplerSettings | None = None,
    stopping: StoppingSettings | None = None,
    seed: int = 0,
    shard_size: int = 64,
) -> Judge:
    """The judge of a name.

    Args:
        name: judge folder, hub id, "embedded", or a file of scores or judgments; None: the served model.
        read_as: reward (scores of a Bradley-Terry model, PairRM or sequence classifier), direct (a verdict without a
            rationale) or cot (rationales first); auto: as it was trained, a classifier as reward, another model as cot.
        judge_prompt: None: the one it was trained with, else PROMPT.
        sampling, sampler, stopping, shard_size: of judges that reason; others do not look at them.

    Raises:
        UserError: no such judge, or one that cannot be read so; names the flag.
    """
    sampling, sampler = sampling or SamplingSettings(n_samples=1), sampler or SamplerSettings()
    name = judge_name(name, sampler)
    served = sampler.served is not None
    if not served and is_scores(name):
        if read_as != "auto":
            raise UserError(f"--read_as: {read_as}: '{name}' is a file of scores; leave the flag out")
        return stored.StoredScores(name)
    kind = "cot" if served else kind_of(name, read_as)
    if served and read_as not in ("auto", "cot"):
        raise UserError(f"--read_as: {read_as}: a served model is asked for rationales; leave the flag out")
    if kind != "cot" and stopping is not None:
        raise UserError(f"--stopping: '{name}' is read as {kind} and has one verdict an order; leave it out")
    if kind != "cot" and sampling.n_samples > 1:
        raise UserError(
            f"--votes, sampling.n_samples: {sampling.n_samples}: '{name}' is read as {kind}, the same verdict each "
            "time; leave the flag out"
        )
    if kind == "cot":
        from genrm_lightning.judges.sampled import SampledJudge

        prompt = judge_prompt or PROMPT if served else judge_prompt_of(name, judge_prompt)
        return SampledJudge(
            name, sampling, sampler, prompt, dtype=dtype, too_long=too_long, stopping=stopping, seed=seed,
            shard_size=shard_size,
        )  # fmt: skip

    import torch

    from genrm_lightning import objectives
    from genrm_lightning.judges.reading import ReadingJudge

    trained = _objective(name)
    if kind == "direct":
        return ReadingJudge(
            name, objectives.GenRM, judge_prompt_of(name, judge_prompt), dtype=getattr(torch, dtype),
            too_long=too_long, seed=seed,
        )  # fmt: skip
    if judge_prompt is not None:
        raise UserError(f"--judge_prompt: {judge_prompt}: the reward model '{name}' is shown none; leave the flag out")
    objective = getattr(objectives, trained if trained in REWARD_MODELS else "BradleyTerry")
    return ReadingJudge(name, objective, dtype=getattr(torch, dtype), too_long=too_long, seed=seed)


def is_scores(name: str) -> bool:
    """Whether a judge's name is that of a file of scores."""
    return Path(name).suffix in stored.ENDINGS and not Path(name).is_dir()


def kind_of(name: str, read_as: ReadAs = "auto") -> Kind:
    """How a judge folder, hub id or "embedded" comes to its verdicts.

    Raises:
        UserError: ``read_as`` asks for what it cannot do.
    """
    trained = _objective(name)
    is_reward = trained in REWARD_MODELS or (trained is None and _is_classifier(name))
    if read_as == "auto":
        return "reward" if is_reward else "direct" if trained == "GenRM" else "cot"
    if is_reward != (read_as == "reward"):
        what = "a reward model, it writes no verdicts" if is_reward else "no reward model, it scores no responses"
        raise UserError(f"--read_as: {read_as}: '{name}' is {what}; leave the flag out")
    return read_as


def judge_name(given: str | None, sampler: SamplerSettings, default: str | None = None) -> str:
    """Who judges: the served model, else the judge that is named.

    Raises:
        UserError: none is named, or one beside a served model.
    """
    if sampler.served is not None and given is not None:
        raise UserError(
            f"--judge: {given}: the model that the server serves is the judge ('{sampler.served}'); leave the flag out"
        )
    name = sampler.served or given or default
    if name is None:
        raise UserError(
            "--judge: none is given; name a judge folder or backbone, or a server with --sampler.kind openai"
        )
    return name


def judge_prompt_of(judge: str, given: str | None) -> str:
    """The judge prompt to show: what the judge was trained with, for a model that is no judge ``given`` or PROMPT.

    Raises:
        UserError: ``given`` is another one, or the judge writes no verdicts.
    """
    info = {} if judge == "embedded" else judge_info(judge)
    if info.get("objective") in REWARD_MODELS:
        raise UserError(
            f"--judge: '{judge}' is a reward model ({info['objective']}), its verdicts mean nothing; "
            "use: python -m genrm_lightning evaluate"
        )
    trained = info.get("judge_prompt")
    if trained and given not in (None, trained):
        raise UserError(
            f"--judge_prompt: {given}: the judge '{judge}' was trained with '{trained}'; leave the flag out"
        )
    return trained or given or PROMPT


def _objective(name: str) -> str | None:
    """The objective that trained a judge; None of a model that is no judge of ours."""
    return None if name == "embedded" else judge_info(name).get("objective")


def _is_classifier(name: str) -> bool:
    """Whether a model is a sequence classifier; of several labels too, which is refused where it is loaded."""
    if name == "embedded":
        return False
    from genrm_lightning.backbone import scores_of

    return scores_of(name) > 0
