"""Judge prompts and verdicts: rendered and parsed side by side, so training target and grader agree.

A judgment is ``{rationale}\\nVerdict: [[A]]``. The sampler forces the frame after a rationale and reads the
two letters' probabilities there; :func:`parse` reads a model's own text, where the last verdict counts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from data_tools.errors import UserError


class Verdict(StrEnum):
    """Which response is better; INVALID: the text names none. INVALID is never a tie and never half right."""

    A = "A"
    B = "B"
    INVALID = "INVALID"


FRAME = "\nVerdict: [["  # between rationale and letter
CLOSE = "]]"  # after the letter

_VERDICT = re.compile(r"\[\[\s*([AB])\s*\]\]")
# A frame, whole or cut off by the end of the text. Brackets alone are none: a judge may write about x[[1]].
_FRAME = re.compile(r"\bVerdict\s*:\s*(?:\[\[|\[?\s*$)|\[\[\s*(?:[AB]\s*(?:\]|$)|$)", re.IGNORECASE)
# Marks that only the judge prompt and the judge may write; inside data they are taken apart.
_VERDICT_MARK = re.compile(r"\[\[(?=\s*[AB]\s*\]\])", re.IGNORECASE)
# The head of a turn in a judge prompt; defused text holds none.
_TURN = re.compile(r"(?:\A|\n\n)\[Turn \d+: (System|User|Assistant)\](?:\n|\Z)")
_BLOCK_MARK = re.compile(
    r"\[(\s*(?:(?:End\s+of\s+)?(?:Conversation|Response\s+[AB])|Turn\s+\d+\s*:[^\[\]]*)\s*)\]", re.IGNORECASE
)


def render_completion(rationale: str, verdict: Verdict) -> str:
    """What a judge should write. ``parse(render_completion(r, v)) == v`` for every rationale and A or B."""
    if verdict is Verdict.INVALID:
        raise ValueError("INVALID is what a parser finds, never what is rendered")
    return f"{rationale}{FRAME}{verdict}{CLOSE}"


def parse(text: str) -> Verdict:
    """The last ``[[A]]`` or ``[[B]]`` in the text, else INVALID.

    >>> parse("At first [[A]], but no. Verdict: [[B]]")
    <Verdict.B: 'B'>
    >>> parse("I cannot say.")
    <Verdict.INVALID: 'INVALID'>
    """
    found = _VERDICT.findall(text)
    return Verdict(found[-1]) if found else Verdict.INVALID


def rationale_of(text: str) -> str:
    """The text before the first verdict's frame; the whole text where there is none.

    A verdict in passing ends the rationale too, so that rendering adds the only one. A frame that the end of the
    text cuts off (``Verdict: [``) is taken away as well.

    >>> rationale_of("A is shorter; x[[1]] is right.\\nVerdict: [[A]]")
    'A is shorter; x[[1]] is right.'
    """
    frame = _FRAME.search(text)
    return (text[: frame.start()] if frame else text).strip()


@dataclass(frozen=True)
class JudgePrompt:
    """A judge prompt: system turn, the words around the pair, and the hint of the post-rationalization model."""

    system: str
    question: str  # after the pair
    hint: str  # replaces `question` when the answer is told; holds {better} and {worse}


PROMPTS = {
    # The MT-Bench pair prompt without ties, as in the paper (arXiv 2410.12832, appendix).
    "mt_bench": JudgePrompt(
        system=(
            "Please act as an impartial judge and evaluate the quality of the responses provided by two AI "
            "assistants to the user question displayed below. You should choose the assistant that follows the "
            "user's instructions and answers the user's question better. Your evaluation should consider factors "
            "such as the helpfulness, relevance, accuracy, depth, creativity, and level of detail of their "
            "responses. Begin your evaluation by comparing the two responses and provide a short explanation. "
            "Avoid any position biases and ensure that the order in which the responses were presented does not "
            "influence your decision. Do not allow the length of the responses to influence your evaluation. Do "
            "not favor certain names of the assistants. Be as objective as possible. After providing your "
            'explanation, output your final verdict by strictly following this format: "[[A]]" if assistant A is '
            'better, "[[B]]" if assistant B is better.'
        ),
        question="Compare the two responses, then give your verdict.",
        hint=(
            "Response {better} is better than response {worse}. Explain why, from the responses alone, as if you had "
            "found it out yourself, then give your verdict."
        ),
    ),
    # For small judges and short contexts: the same task in a tenth of the tokens.
    "brief": JudgePrompt(
        system=(
            'You compare two responses to a request. Explain briefly, then write "Verdict: [[A]]" or "Verdict: [[B]]".'
        ),
        question="Which response follows the request better?",
        hint="Response {better} follows the request better than response {worse}. Explain why.",
    ),
}


def prompt_named(name: str) -> JudgePrompt:
    """The judge prompt of that name. Raises UserError that lists the names there are."""
    if name not in PROMPTS:
        raise UserError(f"judge prompt '{name}' is unknown; there are: {', '.join(PROMPTS)}")
    return PROMPTS[name]


def defuse(text: str) -> str:
    """Take apart, inside data, the marks that only judge prompt and judge may write.

    A judge that quotes a response can then not quote a verdict, a response cannot end its own block, and a turn cannot
    begin another one. The text stays readable, and code keeps its meaning: ``x[[A]]`` becomes ``x[ [A]]``,
    ``[Response A]`` becomes ``(Response A)``, ``[Turn 2: User]`` likewise; letter case and spaces inside the marks
    make no difference. Defusing twice changes nothing more. Control tokens are the renderer's matter: contents are
    tokenised with special tokens split.
    """
    return _BLOCK_MARK.sub(r"(\1)", _VERDICT_MARK.sub("[ [", text))


def hint(template: str, told: Verdict) -> str:
    """The words that tell a post-rationalization model the answer; they stand in no prompt that is trained on."""
    better, worse = (told, Verdict.B if told is Verdict.A else Verdict.A)
    return prompt_named(template).hint.format(better=better, worse=worse)


def render_prompt(
    conversation: list[dict[str, str]],
    response_a: str,
    response_b: str,
    template: str = "mt_bench",
    told: Verdict | None = None,
) -> list[dict[str, str]]:
    """The judge prompt as chat messages: a system turn and a user turn.

    Args:
        conversation: turns ``{"role", "content"}``; a single turn is shown as it is, in several (system turns among
            them) each is headed by a mark with its number and role, such as ``[Turn 2: User]``.
        told: the right verdict, for the post-rationalization model only; never for training or evaluation.
    """
    prompt = prompt_named(template)
    question = prompt.question if told is None else hint(template, told)
    blocks = [_block("Conversation", _shown(conversation)), render_pair(response_a, response_b), question]
    return [{"role": "system", "content": prompt.system}, {"role": "user", "content": "\n\n".join(blocks)}]


def render_pair(response_a: str, response_b: str) -> str:
    """Both responses in their frames: a part of the judge prompt, and alone what a cross-encoder reads.

    >>> print(render_pair("a fox", "the sky"))
    [Response A]
    a fox
    [End of Response A]
    <BLANKLINE>
    [Response B]
    the sky
    [End of Response B]
    """
    return "\n\n".join(_block(f"Response {x}", defuse(y)) for x, y in (("A", response_a), ("B", response_b)))


def conversation_of(prompt: list[dict[str, str]]) -> list[dict[str, str]] | None:
    """The conversation that a rendered judge prompt shows, defused; None where it is no prompt of render_prompt's.

    Inverts :func:`with_conversation`. A turn that is shown without a head is the user's.
    """
    begin, end = _CONVERSATION
    content = prompt[-1]["content"] if prompt else ""
    shown, closed, _ = content.removeprefix(begin).partition(end)
    if not content.startswith(begin) or not closed:
        return None
    first, *turns = _TURN.split(shown)
    if not turns or first:  # one turn alone has no head
        return [{"role": "user", "content": shown}]
    return [{"role": role.lower(), "content": text} for role, text in zip(turns[::2], turns[1::2], strict=True)]


def with_conversation(prompt: list[dict[str, str]], conversation: list[dict[str, str]]) -> list[dict[str, str]]:
    """The judge prompt ``prompt`` about another conversation; all else, responses and hint, is as it was.

    ``with_conversation(render_prompt(one, a, b), other) == render_prompt(other, a, b)``.

    Raises:
        ValueError: ``prompt`` is no prompt of :func:`render_prompt`'s.
    """
    if conversation_of(prompt) is None:
        raise ValueError("the prompt holds no [Conversation] block")
    *before, last = prompt
    rest = last["content"].partition(_CONVERSATION[1])[2]
    return [*before, {**last, "content": _block("Conversation", _shown(conversation)) + "\n\n" + rest}]


def _shown(conversation: list[dict[str, str]]) -> str:
    if len(conversation) == 1:
        return defuse(conversation[0]["content"])
    # Heads after defusing: "System:" in a line of its own would be for anybody to write.
    return "\n\n".join(
        f"[Turn {number}: {turn['role'].capitalize()}]\n{defuse(turn['content']).strip()}"
        for number, turn in enumerate(conversation, start=1)
    )


def _block(name: str, text: str) -> str:
    return f"[{name}]\n{text.strip()}\n[End of {name}]"


# What stands before and after the conversation in a judge prompt.
_CONVERSATION = ("[Conversation]\n", "\n[End of Conversation]\n\n")


def tell(messages: list[dict[str, str]], template: str, told: Verdict) -> list[dict[str, str]]:
    """A judge prompt with the answer told: what :func:`render_prompt` makes with ``told``, from what it made without.

    Raises:
        UserError: the prompt does not end in that template's question.
    """
    question = prompt_named(template).question
    *before, last = messages
    if not last["content"].endswith(question):
        raise UserError(
            f"the prompt does not end in the question of judge prompt '{template}'; name its own judge_prompt"
        )
    return [*before, {**last, "content": last["content"].removesuffix(question) + hint(template, told)}]
