"""What one OpenAI-compatible server can do, asked once, and the requests that are written for it.

The verdict is forced in the first of these ways that the server has (``sampler.openai.verdict`` picks another):

1. ``ids``: the prompt rendered here, rationale and frame, as token ids, to /completions (vLLM, SGLang, llama.cpp);
2. ``text``: the same as a string (transformers serve);
3. ``continue``: the assistant's turn with rationale and frame, left open by ``continue_final_message`` (vLLM, SGLang,
   llama.cpp);
4. ``ask``: a turn that asks for the letter alone (every server).

The first two need the served model's tokenizer. Rationales go the same way as verdicts, in 3 and 4 as a plain chat.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from data_tools.errors import UserError
from data_tools.judging import FRAME
from data_tools.marks import unmarked
from genrm_lightning.samplers.client import Client, Refusal
from genrm_lightning.samplers.replies import Reply, Usage, replies, usage

if TYPE_CHECKING:
    from genrm_lightning.rendering import Renderer
    from genrm_lightning.samplers.choice import OpenAISettings

Messages = list[dict[str, str]]

ASK = "Which response is better? Answer with one letter, A or B, and nothing else."
_CANDIDATES = (20, 5)  # log-probabilities asked for at a place: most servers give 20, some only 5
_LETTER_TOKENS = {"ask": 8}  # of a verdict; where it is forced it is the next token
_PROBE = [{"role": "user", "content": "Write the letters of the alphabet with blanks between them, and nothing else."}]
_BEGUN = "A B C D E F G H I J K L M N O P Q"
_SAID = {
    "ids": "forced behind token ids",
    "text": "forced behind prompts rendered here",
    "continue": "forced by continuing the turn",
    "ask": "asked for in a second turn",
}


@dataclass(frozen=True)
class Dialect:
    """How to speak with a server.

    Attributes:
        way: ids, text, continue or ask.
        top: log-probabilities to ask for at each token; None where the server tells none.
        limit: the field that holds the budget of tokens.
        together: whether one request may ask for several samples.
    """

    settings: OpenAISettings
    renderer: Renderer | None
    way: str
    top: int | None = _CANDIDATES[0]
    limit: str = "max_tokens"
    together: bool = False

    def rationale(self, messages: Messages, n: int, tokens: int, seed: int, draw: dict[str, float]) -> tuple[str, dict]:
        """(path, body) of a request for ``n`` rationales."""
        path, body = self._request(messages, "", tokens, 0)
        return path, body | draw | {"seed": seed} | ({"n": n} if n > 1 else {})

    def verdict(self, messages: Messages, rationale: str) -> tuple[str, dict]:
        """(path, body) of the request for the verdict behind a rationale."""
        tokens = _LETTER_TOKENS.get(self.way, 1)
        written = rationale if self.way == "ask" else rationale + FRAME if rationale else FRAME.lstrip()
        path, body = self._request(messages, written, tokens, self.top)
        return path, body | {"temperature": 0.0}

    def _request(self, messages: Messages, written: str, tokens: int, top: int | None) -> tuple[str, dict]:
        body: dict[str, Any] = {"model": self.settings.model, self.limit: tokens, **self.settings.extra}
        if self.way in ("ids", "text"):
            body["prompt"] = self.ids(messages, written) if self.way == "ids" else self.text(messages, written)
            if self.top is not None:
                body["logprobs"] = max(1, top or 0)
            return "/completions", body
        body["messages"] = [message | {"content": unmarked(message["content"])} for message in messages]
        if written:
            self._write(body, unmarked(written))
        if self.top is not None:
            body |= {"logprobs": True} | ({"top_logprobs": top} if top else {})
        return "/chat/completions", body

    def _write(self, body: dict[str, Any], written: str) -> None:
        if self.way == "continue":
            body["messages"].append({"role": "assistant", "content": written})
            body |= {"continue_final_message": True, "add_generation_prompt": False}
        else:
            body["messages"] += [{"role": "assistant", "content": written}, {"role": "user", "content": ASK}]

    def ids(self, messages: Messages, written: str) -> list[int]:
        """Token ids of a prompt and what the assistant has written; no text of theirs becomes a control token."""
        rationale = written.removesuffix(FRAME)
        frame = self.renderer.frame_ids if rationale != written else []
        return [*self.renderer.prompt(messages), *self.renderer.text(rationale), *frame]

    def text(self, messages: Messages, written: str) -> str:
        """The same as a string, for a server that reads special tokens in it."""
        tokenizer = self.renderer.tokenizer
        special = list(tokenizer.get_added_vocab())
        safe = [message | {"content": unmarked(message["content"], special)} for message in messages]
        prompt = tokenizer.decode(self.renderer.prompt(safe), clean_up_tokenization_spaces=False)
        begin = tokenizer.bos_token
        if begin and prompt.startswith(begin) and tokenizer.encode("x")[:1] == [tokenizer.bos_token_id]:
            prompt = prompt.removeprefix(begin)  # the server's tokenizer adds it
        return prompt + unmarked(written, special)

    @property
    def reading(self) -> str:
        """How verdicts are had, in words that stay the same: shards keep them."""
        return f"{self.way} {'without' if self.top is None else 'with'} log-probabilities"

    def __str__(self) -> str:
        read = "with log-probabilities" if self.top is not None else "as the letter alone, so p_a is 0 or 1"
        return f"verdicts are {_SAID[self.way]}, {read}"


async def learn(client: Client, settings: OpenAISettings, renderer: Renderer | None, n_samples: int) -> Dialect:
    """Ask a server what it can do: up to a dozen requests of a token.

    Raises:
        UserError: it refuses the plainest chat, or the way that the settings want.
    """
    probe = _Probe(client, settings, renderer, n_samples)
    if settings.verdict in ("auto", "prompt") and renderer is not None:
        for way in ("ids", "text"):
            if found := await probe.rendered(way):
                return await probe.several(found)
        if settings.verdict == "prompt":
            raise UserError(
                f"sampler.openai.verdict: {settings.url} takes no prompts rendered here at /completions "
                f"({probe.last}); use auto"
            )
    chat = await probe.chat()
    if settings.verdict in ("auto", "continue"):
        if await probe.continues(chat):
            return await probe.several(replace(chat, way="continue"))
        if settings.verdict == "continue":
            raise UserError(
                f"sampler.openai.verdict: {settings.url} does not continue the assistant's turn "
                f"({probe.last}); use auto"
            )
    return await probe.several(chat)


class _Probe:
    def __init__(self, client: Client, settings: OpenAISettings, renderer: Renderer | None, n_samples: int) -> None:
        self.client, self.settings, self.renderer, self.n_samples = client, settings, renderer, n_samples
        self.last = "it ignores what it is asked"  # why the last thing tried did not work

    async def ask(self, path: str, body: dict[str, Any]) -> tuple[list[Reply], Usage] | None:
        """The answer, None where the server refuses."""

        def read(answer: Any) -> tuple[list[Reply], Usage]:
            return replies(answer), usage(answer)

        try:
            return await self.client.post(path, body, (200, body.get("n", 1)), read)
        except Refusal as refusal:
            self.last = str(refusal)
            return None

    async def rendered(self, way: str) -> Dialect | None:
        for top in (*_CANDIDATES, None):
            dialect = Dialect(self.settings, self.renderer, way, top)
            if found := await self.ask(*dialect.verdict(_PROBE, "It is short.")):
                (reply, *_), counted = found
                ids = dialect.ids(_PROBE, f"It is short.{FRAME}")
                if counted.prompt not in (None, len(ids)):
                    self.last = f"it counts {counted.prompt} tokens where the tokenizer named has {len(ids)}"
                    return None
                return dialect if reply.tokens else replace(dialect, top=None)
        return None

    async def chat(self) -> Dialect:
        """The plainest dialect that works."""
        said = None
        for limit in ("max_tokens", "max_completion_tokens"):
            for top in (*_CANDIDATES, None):
                dialect = Dialect(self.settings, None, "ask", top, limit)
                path, body = dialect._request(_PROBE, "", 1, top)
                if found := await self.ask(path, body):
                    return dialect if found[0][0].tokens else replace(dialect, top=None)
                said = said or self.last
        raise UserError(f"sampler.openai.url: {self.settings.url}, model '{self.settings.model}': {said}")

    async def continues(self, chat: Dialect) -> bool:
        """Whether the server leaves the assistant's turn open, and does not merely pass over being asked to."""
        path, body = replace(chat, way="continue")._request(_PROBE, _BEGUN, 1, chat.top)
        found = await self.ask(path, body | {"temperature": 0.0})
        if found is None:
            return False
        (reply, *_), counted = found
        if reply.text.removeprefix(_BEGUN).strip() == "R":
            return True
        # A weak model may write anything; but a closed turn and the head of a new one are more tokens.
        closed = {k: v for k, v in body.items() if k not in ("continue_final_message", "add_generation_prompt")}
        other = await self.ask(path, closed)
        self.last = "it ignores continue_final_message"
        return bool(other and counted.prompt and other[1].prompt and counted.prompt < other[1].prompt)

    async def several(self, dialect: Dialect) -> Dialect:
        """The same, knowing whether one request may ask for several samples."""
        if not self.settings.together or self.n_samples < 2:
            return dialect
        found = await self.ask(*dialect.rationale(_PROBE, self.n_samples, 1, 0, {"temperature": 1.0}))
        return replace(dialect, together=bool(found) and len(found[0]) == self.n_samples)


def counted_at_most(body: dict[str, Any], limit: str) -> tuple[int, int]:
    """(tokens of the prompt, about; tokens of the completions, at most) of a request."""
    prompt = body.get("prompt")
    if isinstance(prompt, list):
        n = len(prompt)
    else:  # bytes a token: three is few for most languages
        texts = [prompt] if prompt is not None else [message["content"] for message in body["messages"]]
        n = sum(len(text.encode()) for text in texts) // 3 + 16 * len(texts)
    return n, body[limit] * body.get("n", 1)
