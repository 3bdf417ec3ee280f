"""What clients send: OpenRLHF's, vLLM's and OpenAI's shapes, and ours. Anything else is refused in one sentence."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from data_tools.visible import visible
from genrm_lightning.serving import extra
from genrm_lightning.serving.refusals import Refused

with extra():
    from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

_LONGEST = 80  # characters of a name that is told back


class Shape(BaseModel):
    """No field but its own, no value of another type, no number that is none."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True)


class Message(Shape):
    role: Literal["system", "user", "assistant"]
    content: str


MOST_TURNS = 256  # of a conversation: each is tokenised by itself
Conversation = Annotated[list[Message], Field(min_length=1, max_length=MOST_TURNS)]
Text = str | Conversation


class RewardAsked(Shape):
    """OpenRLHF's remote reward model: ``query`` is prompt and response in one text, or in one list of turns.

    ``labels`` are reference responses, to a judge that compares; a reward model does not look at them.
    """

    query: list[Text]
    prompts: list[Text]
    labels: list[Any] | None = None


class Activated(Shape):
    """vLLM's: whether a score becomes a probability; each name overrules the ones behind it."""

    model: str | None = None
    user: str | None = None
    use_activation: bool | None = None
    activation: bool | None = None
    softmax: bool | None = None

    @property
    def activated(self) -> bool:
        given = (self.use_activation, self.activation, self.softmax)
        return next((one for one in given if one is not None), True)


class ClassifyAsked(Activated):
    """vLLM's, of conversations: one as ``messages``, or several as ``input``; each ends with the response."""

    messages: Conversation | None = None
    input: list[Conversation] | str | list[str] | list[int] | list[list[int]] | None = None


class ScoreAsked(Activated):
    """vLLM's: prompts and responses to them; one prompt may stand for all."""

    text_1: str | list[Text] = Field(validation_alias=AliasChoices("text_1", "queries", "data_1"))
    text_2: str | list[str] = Field(validation_alias=AliasChoices("text_2", "documents", "data_2"))


class CompareAsked(Shape):
    """A pair: which response to the prompt is the better one."""

    prompt: Text
    response_a: str
    response_b: str
    model: str | None = None


class ChatAsked(Shape):
    """OpenAI's, of what a judge can do: what is left out is as the server was told to sample."""

    messages: Conversation
    model: str | None = None
    n: int = Field(1, ge=1)
    temperature: float | None = Field(None, ge=0, le=100)
    top_p: float | None = Field(None, gt=0, le=1)
    max_tokens: int | None = Field(None, ge=1, le=1 << 20)
    max_completion_tokens: int | None = Field(None, ge=1, le=1 << 20)
    seed: int | None = Field(None, ge=-(1 << 63), lt=1 << 63)
    stream: bool | None = None
    user: str | None = None


Asked = TypeVar("Asked", bound=Shape)


def read(shape: type[Asked], body: bytes) -> Asked:
    """The request of a body.

    Raises:
        Refused: it is no JSON in UTF-8 (400), or of another shape (422); an escaped half of a surrogate pair is none.
    """
    try:
        return shape.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    if first["type"] == "json_invalid":
        raise Refused(
            400, f"the body is no JSON that can be read: {_told(first['msg'].removeprefix('Invalid JSON: '))}"
        )
    where = _told(".".join(map(str, first["loc"])) or "the body")
    if first["type"] == "extra_forbidden":
        raise Refused(422, f"{where}: is unknown here; there are: {', '.join(shape.model_fields)}")
    raise Refused(422, f"{where}: {_told(first['msg'])}")


def turns(text: str | list[Message]) -> str | list[dict[str, str]]:
    """As judges take a prompt."""
    return text if isinstance(text, str) else [message.model_dump() for message in text]


def _told(text: str) -> str:
    text = visible(text)
    return text if len(text) <= 2 * _LONGEST else text[: 2 * _LONGEST] + "..."
