"""Which sampler draws the rationales, and the one place where one is made.

| kind | who samples | needs |
| --- | --- | --- |
| local | the judge, in this process | nothing more |
| vllm | the judge, in vLLM's offline engine | a GPU, the extra ``vllm`` |
| openai | the model that an OpenAI-compatible server serves | a server, the extra ``openai`` |

A sampler's packages are imported only when it is chosen.
"""

from __future__ import annotations

import gc
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

from data_tools.errors import UserError
from genrm_lightning.ranks import local_rank
from genrm_lightning.samplers.base import Sampler

# Fields of a request that the sampler sets itself.
_OWN = (
    "model", "messages", "prompt", "n", "seed", "stream", "temperature", "top_p", "max_tokens", "max_completion_tokens",
    "logprobs", "top_logprobs", "continue_final_message", "add_generation_prompt",
)  # fmt: skip


@dataclass
class VLLMSettings:
    """vLLM's offline engine; see its documentation of LLM. A judge that is an adapter is loaded without merging.

    Attributes:
        tensor_parallel: GPUs that share the model.
        gpu_memory: share of a GPU's memory that it takes.
        max_model_len: tokens of the longest prompt with its judgment; null takes the model's context. Pairs are
            shortened or dropped (``too_long``) to fit it.
        eager: no CUDA graphs: a quicker start, slower sampling.
    """

    tensor_parallel: int = 1
    gpu_memory: float = 0.9
    max_model_len: int | None = None
    eager: bool = False

    def __post_init__(self) -> None:
        for name in ("tensor_parallel", "max_model_len"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise UserError(f"sampler.vllm.{name}: {getattr(self, name)} is not above 0")
        if not 0 < self.gpu_memory <= 1:
            raise UserError(f"sampler.vllm.gpu_memory: {self.gpu_memory} is not in (0, 1]")


@dataclass
class OpenAISettings:
    """An OpenAI-compatible server: vLLM, SGLang, llama.cpp, transformers serve, a hosted API.

    Attributes:
        url: its base address, such as http://127.0.0.1:8000/v1.
        model: name of the model, as the server has it.
        key_env: the environment variable that holds the API key; null sends none. Keys stand in no config.
        tokenizer: hub id or folder with the served model's tokenizer and chat template, where it is at hand: prompts
            are then rendered here and sent to /completions, as token ids if the server takes them. They look as they
            do in training, and no text of the data can become a control token.
        verdict: how the verdict is forced: behind a prompt rendered here (prompt; needs tokenizer), by continuing the
            assistant's turn (continue), or not at all: a second turn asks for the letter (ask). auto takes the first
            of these that the server can do.
        together: ask for all samples of a prompt in one request (n). A hosted API then bills the prompt once; but the
            samples share one seed, and no single one can be drawn again.
        concurrency: samples under way at a time.
        timeout: seconds for one request.
        patience: seconds without any answer after which to give up.
        requests_per_minute: at most; null for no limit of ours.
        tokens_per_minute: likewise, prompts and completions together.
        budget_tokens: most tokens one call of a command may spend, all its stages together; null for no cap.
        budget_money: most money it may spend, in the unit of the prices; needs both.
        price_prompt: of a million tokens of prompts.
        price_completion: of a million tokens of completions.
        extra: fields added to every request, as the server has them: {top_k: 50}, or for a model that thinks
            {chat_template_kwargs: {enable_thinking: false}}.
    """

    url: str = ""
    model: str = ""
    key_env: str | None = None
    tokenizer: str | None = None
    verdict: Literal["auto", "prompt", "continue", "ask"] = "auto"
    together: bool = False
    concurrency: int = 16
    timeout: float = 600.0
    patience: float = 120.0
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    budget_tokens: int | None = None
    budget_money: float | None = None
    price_prompt: float | None = None
    price_completion: float | None = None
    extra: dict = field(default_factory=dict)

    spent: ClassVar[tuple[int, int]] = (0, 0)  # tokens of prompts and completions, by samplers of this object

    def __post_init__(self) -> None:
        limits = ("requests_per_minute", "tokens_per_minute", "budget_tokens", "budget_money")
        for name in ("concurrency", "timeout", "patience", *limits):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise UserError(f"sampler.openai.{name}: {value} is not above 0")
        for name in ("price_prompt", "price_completion"):
            price = getattr(self, name)
            if price is not None and not 0 <= price < math.inf:
                raise UserError(f"sampler.openai.{name}: {price} is not a price")
            if price is None and self.budget_money is not None:
                raise UserError(f"sampler.openai.budget_money: needs {name} too, the price of a million tokens")
        if self.verdict == "prompt" and self.tokenizer is None:
            raise UserError(
                "sampler.openai.verdict: prompt renders prompts here and needs the model's tokenizer; name it in "
                "sampler.openai.tokenizer"
            )
        for name in _OWN:
            if name in self.extra:
                raise UserError(f"sampler.openai.extra: '{name}' is set by the sampler itself; leave it out")
        if self.url:
            self._check_url()

    def _check_url(self) -> None:
        try:
            address = urlsplit(self.url)
            usable = address.scheme in ("http", "https") and address.hostname and (address.port is None or address.port)
        except ValueError:  # a port that is no number
            usable = False
        if not usable or address.query or address.fragment:
            raise UserError(
                f"sampler.openai.url: '{self.url}' is no address; give one such as http://127.0.0.1:8000/v1"
            )
        if "@" in address.netloc:
            raise UserError(
                "sampler.openai.url: holds a name or password; put the key into an environment variable and name that "
                "in sampler.openai.key_env"
            )

    @property
    def base(self) -> str:
        """``url`` without a slash at its end; with /v1 where it is a host alone."""
        url = self.url.rstrip("/")
        return url if urlsplit(url).path else f"{url}/v1"

    @property
    def is_local(self) -> bool:
        return urlsplit(self.url).hostname in ("127.0.0.1", "localhost", "::1")

    def key(self) -> str | None:
        """The API key. Raises UserError where the variable that should hold it does not."""
        if self.key_env is None:
            return None
        key = os.environ.get(self.key_env, "").strip()
        if not key or not key.isascii() or not key.isprintable():
            wrong = "is not set" if not key else "holds what no key can be"
            raise UserError(f"sampler.openai.key_env: the environment variable {self.key_env} {wrong}; export the key")
        return key


@dataclass
class SamplerSettings:
    """Who draws the rationales.

    Attributes:
        kind: local (the judge in this process), vllm (the judge in vLLM's engine) or openai (a served model).
        vllm: of vLLM's engine.
        openai: of the server.
    """

    kind: Literal["local", "vllm", "openai"] = "local"
    vllm: VLLMSettings = field(default_factory=VLLMSettings)
    openai: OpenAISettings = field(default_factory=OpenAISettings)

    def __post_init__(self) -> None:
        for name in ("url", "model"):
            given = getattr(self.openai, name)
            if self.kind == "openai" and not given:
                what = "address" if name == "url" else "name of the served model"
                raise UserError(f"sampler.openai.{name}: no {what} is given; sampler.kind openai needs it")
            if self.kind != "openai" and given:
                raise UserError(
                    f"sampler.openai.{name}: is given, but sampler.kind is {self.kind}; set sampler.kind: openai, or "
                    "leave it out"
                )

    @classmethod
    def of(cls, values: dict[str, Any]) -> SamplerSettings:
        """From what ``asdict`` made."""
        return cls(values["kind"], VLLMSettings(**values["vllm"]), OpenAISettings(**values["openai"]))

    def sampler_key(self) -> dict[str, Any]:
        """What decides a draw beside judge and sampling; empty for local, whose tables are older than this choice.

        A server is known by its model: its address, pace and budget change no sample. Of an engine only the length it
        takes counts: it decides what is shortened.
        """
        if self.kind == "local":
            return {}
        chosen: dict[str, Any] = {"kind": self.kind}
        if self.kind == "openai":
            chosen |= {n: asdict(self.openai)[n] for n in ("model", "tokenizer", "verdict", "together", "extra")}
        if self.kind == "vllm" and self.vllm.max_model_len is not None:
            chosen["max_model_len"] = self.vllm.max_model_len
        return {"sampler": chosen}

    @property
    def served(self) -> str | None:
        """The model that samples whatever the judge, by its name; None where the judge itself does."""
        return self.openai.model if self.kind == "openai" else None

    def rendered_by(self, judge: str) -> str | None:
        """The backbone whose renderer and context prompts must fit; None where a server alone knows them."""
        return self.openai.tokenizer if self.kind == "openai" else judge

    def context(self, judge: str) -> int | None:
        """Tokens of the longest prompt with its judgment, where an engine has a limit of its own; None: the model's."""
        if self.kind != "vllm":
            return None
        from genrm_lightning.samplers.vllm import context  # which imports the engine only when it samples

        return context(self.vllm, judge)


@contextmanager
def chosen_sampler(settings: SamplerSettings, judge: str, dtype: str) -> Iterator[Callable[[], Sampler]]:
    """A function that makes the sampler; what it holds (weights, connections) is let go of at the end.

    Args:
        judge: backbone or judge folder; not looked at where a served model samples.
        dtype: of the weights.

    Raises:
        UserError: a package that the sampler needs is missing (names the extra), or its key.
    """
    made: list[Sampler] = []
    make = {"local": _local, "vllm": _vllm, "openai": _openai}[settings.kind](settings, judge, dtype)

    def sampler() -> Sampler:
        made.append(make())
        return made[-1]

    try:
        yield sampler
    finally:
        for each in made:
            each.close()
        made.clear()
        gc.collect()


def _local(settings: SamplerSettings, judge: str, dtype: str) -> Callable[[], Sampler]:
    import torch

    from genrm_lightning.backbone import load_judge, load_renderer
    from genrm_lightning.quiet import no_loading_bars
    from genrm_lightning.samplers.local import LocalSampler

    no_loading_bars()
    # A launcher's processes on one machine take a GPU each.
    device = f"cuda:{local_rank() % torch.cuda.device_count()}" if torch.cuda.is_available() else "cpu"
    return lambda: LocalSampler(load_judge(judge, getattr(torch, dtype)).to(device), load_renderer(judge))


def _vllm(settings: SamplerSettings, judge: str, dtype: str) -> Callable[[], Sampler]:
    with _extra("vllm", "vllm"):
        import vllm  # noqa: F401

    from genrm_lightning.samplers.vllm import VLLMSampler

    return lambda: VLLMSampler(settings.vllm, judge, dtype)


def _openai(settings: SamplerSettings, judge: str, dtype: str) -> Callable[[], Sampler]:
    with _extra("openai", "httpx2"):
        import httpx2  # noqa: F401

    from genrm_lightning.samplers.openai import OpenAISampler

    key = settings.openai.key()

    def make() -> Sampler:
        renderer = None
        if settings.openai.tokenizer is not None:
            from genrm_lightning.backbone import load_renderer

            renderer = load_renderer(settings.openai.tokenizer)
        return OpenAISampler(settings.openai, renderer, key)

    return make


@contextmanager
def _extra(extra: str, package: str) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise UserError(
            f"sampler.kind: {extra} needs the package {package} ({error}); install it with: "
            f"pip install 'genrm-lightning[{extra}]'"
        ) from None
