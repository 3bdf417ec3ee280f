"""Chat messages and completions -> token ids: one renderer for training, sampling, scoring and evaluation.

The template's frame is tokenised with its special tokens, every content with special tokens split: text from
data can never become a control token (``<|im_end|>`` inside a response stays seven characters of text). The
template is frozen: no date, and its hash travels with every checkpoint.
"""

from __future__ import annotations

import re
from datetime import datetime
from functools import cached_property
from hashlib import blake2b

import numpy as np
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from data_tools.errors import UserError
from data_tools.judging import CLOSE, FRAME, Verdict, parse, rationale_of
from genrm_lightning.prefix import Branch, Role

# Llama 3's template prints the day of the run; this is the day it falls back to.
_DATE = datetime(2024, 7, 26)
DATE_STRING = _DATE.strftime("%d %b %Y")
_SLOT = re.compile("\ue000([0-9]+)\ue001")  # private-use characters: where a content goes in the rendered frame
_CLOCK = re.compile(r"""strftime_now\(\s*(["'])(.*?)\1\s*\)""")
# Roles stand in the frame, whose special tokens are read as such: only these may come out of data.
_ROLES = ("system", "user", "assistant")
_FRAMES = 1024  # renderings of roles that are kept
# Reserved tokens that may serve as padding where the tokenizer has none of its own, or only its end token.
_PADDING = ("<|finetune_right_pad_id|>", "<|endoftext|>", "<pad>", "<|pad|>", "<unk>")


def load_tokenizer(folder: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a hub id or folder, with a padding token that is not the end token.

    Raises:
        UserError: nothing there, no chat template, or no token that could pad.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # a broken tokenizer.json ends in a KeyError, or in an Exception of the Rust library's
        said = str(error).strip().splitlines()
        reason = f"{type(error).__name__}: {error}" if isinstance(error, KeyError) or not said else said[0]
        raise UserError(f"backbone.name: no tokenizer in '{folder}' ({reason}); give a hub id or a HF folder") from None
    if not tokenizer.chat_template:
        raise UserError(
            f"backbone.name: the tokenizer of '{folder}' has no chat template; "
            "take the model's chat version, or put chat_template.jinja into its folder"
        )
    if tokenizer.eos_token_id is None:
        raise UserError(f"backbone.name: the tokenizer of '{folder}' has no end token; add an eos_token to it")
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        vocabulary = tokenizer.get_vocab()
        spare = [t for t in (*_PADDING, tokenizer.unk_token) if t in vocabulary and t != tokenizer.eos_token]
        if not spare:
            raise UserError(
                f"backbone.name: the tokenizer of '{folder}' has no token to pad with; add a pad_token to it"
            )
        tokenizer.pad_token = spare[0]
    return tokenizer


class Renderer:
    """Token ids of prompts and completions for one tokenizer.

    Args:
        tokenizer: with a chat template and a padding token other than its end token (:func:`load_tokenizer`).

    Raises:
        UserError: A and B are not one token each in this vocabulary.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self.pad_id: int = tokenizer.pad_token_id
        self.end_id: int = tokenizer.eos_token_id
        special = {token for token, added in tokenizer.added_tokens_decoder.items() if added.special}
        self.control_ids: list[int] = sorted(special | {self.end_id})
        self.frame_ids = self.text(FRAME)
        self.close_ids = [*self.text(CLOSE), self.end_id]
        letters = {letter: self.text(letter) for letter in (Verdict.A, Verdict.B)}
        if any(len(ids) != 1 for ids in letters.values()):
            raise UserError("backbone.name: this tokenizer has no single token for A and for B; the verdict needs them")
        self.letter_ids = {letter: ids[0] for letter, ids in letters.items()}
        self._letters = {token: letter for letter, token in self.letter_ids.items()}
        self._frames: dict[tuple[str, ...], str] = {}

    @cached_property
    def template_hash(self) -> str:
        """BLAKE2b-128 over what this renderer makes of a fixed conversation, in hex.

        Two renderers with the same hash render alike; a checkpoint keeps the hash of the one it was trained with.
        """
        probe = [{"role": r, "content": f"{r} <|x|>\n1"} for r in ("system", "user", "assistant", "user")]
        ids = [
            *self.prompt(probe),
            -1,
            *self.completion("r", Verdict.A).ids,
            -1,
            self.pad_id,
            *self.letter_ids.values(),
        ]
        return blake2b(np.asarray(ids, dtype=np.int64).tobytes(), digest_size=16).hexdigest()

    @property
    def template(self) -> str:
        """The chat template, its clock stopped: transformers gives templates no functions but its own."""
        return _CLOCK.sub(_stopped, self.tokenizer.get_chat_template())

    def same_tokens(self, other: Renderer) -> bool:
        """Whether ids of the other renderer's judgments mean the same here."""
        mine, theirs = (renderer.tokenizer.get_vocab() for renderer in (self, other))
        return self.template_hash == other.template_hash and mine == theirs

    def text(self, text: str) -> list[int]:
        """Ids of plain text: no special token is read out of it, none is added."""
        return self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)

    def starts(self, text: str) -> list[int]:
        """Where in ``text`` each token of :meth:`text` begins: indices of characters."""
        found = self.tokenizer(
            text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True, verbose=False
        )
        return [start for start, _ in found["offset_mapping"]]

    def decode(self, ids: list[int]) -> str:
        """Text of sampled ids, control tokens left out."""
        return self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def prompt(self, messages: list[dict[str, str]]) -> list[int]:
        """Ids of a conversation up to where the assistant begins to write.

        Raises:
            UserError: a role that is none of system, user and assistant, or that the template refuses.
        """
        for message in messages:
            if message["role"] not in _ROLES:
                shown = repr(message["role"])
                raise UserError(
                    f"the role of a message is {shown if len(shown) <= 60 else shown[:57] + '...'}; "
                    f"it must be one of: {', '.join(_ROLES)}"
                )
        ids: list[int] = []
        for position, piece in enumerate(_SLOT.split(self._frame(tuple(m["role"] for m in messages)))):
            if position % 2:  # the number of a message
                ids += self.text(messages[int(piece)]["content"].strip())
            elif piece:
                ids += self.tokenizer.encode(piece, add_special_tokens=False)
        return ids

    def completion(self, rationale: str | list[int], verdict: Verdict) -> Branch:
        """A judgment as a branch: rationale (text or sampled ids), frame, letter, close, end of turn.

        Every token is looked at; the letter carries a query for A and for B (:class:`~genrm_lightning.prefix.Role`).
        """
        ids = self.text(rationale) if isinstance(rationale, str) else list(rationale)
        # Without a rationale the frame's leading line break would open the turn.
        frame = self.frame_ids if ids else self.text(FRAME.lstrip())
        roles = [Role.RATIONALE] * len(ids) + [Role.VERDICT] * (len(frame) + 1 + len(self.close_ids))
        letter_at = len(ids) + len(frame)
        return Branch([*ids, *frame, self.letter_ids[verdict], *self.close_ids], roles, letter_at)

    def judgment(self, text: str, ids: list[int] | None = None) -> Branch:
        """A sampled judgment as a branch, from its ids where they were kept (text does not always tokenise back).

        Raises:
            UserError: neither ids nor text end in a verdict.
        """
        if ids:
            tail = 1 + len(self.close_ids)
            verdict = (
                self._letters.get(ids[-tail]) if len(ids) >= tail and list(ids[1 - tail :]) == self.close_ids else None
            )
            # A judgment without a rationale has the frame without its leading line break.
            for frame in (self.frame_ids, self.text(FRAME.lstrip())):
                end = len(ids) - tail
                if verdict and list(ids[max(0, end - len(frame)) : end]) == frame:
                    return self.completion(list(ids[: end - len(frame)]), verdict)
            raise UserError(
                "token ids of a completion do not end in a verdict of this tokenizer; sample them with this backbone"
            )
        verdict = parse(text)
        if verdict is Verdict.INVALID:
            raise UserError(f"a completion holds no verdict: '{text[-40:]}'; it must end in [[A]] or [[B]]")
        return self.completion(rationale_of(text), verdict)

    def verdict_of(self, branch: Branch) -> Verdict:
        """The letter a judgment's branch holds."""
        return self._letters[branch.ids[branch.letter_at]]

    def response(self, text: str) -> list[int]:
        """Ids of an assistant turn's content, closed by the end token, as it follows :meth:`prompt`."""
        return [*self.text(text.strip()), self.end_id]

    def _frame(self, roles: tuple[str, ...]) -> str:
        """The template's rendering of a conversation with these roles, a numbered slot for each content."""
        if roles not in self._frames:
            if len(self._frames) >= _FRAMES:  # whoever sends conversations chooses their roles
                self._frames.clear()
            slots = [{"role": role, "content": f"\ue000{i}\ue001"} for i, role in enumerate(roles)]
            try:
                self._frames[roles] = self.tokenizer.apply_chat_template(
                    slots,
                    chat_template=self.template,
                    tokenize=False,
                    add_generation_prompt=True,
                    date_string=DATE_STRING,
                )
            except Exception as error:  # a template may refuse roles in any way it likes
                raise UserError(f"the chat template refuses a conversation of {', '.join(roles)}: {error}") from None
        return self._frames[roles]


def _stopped(call: re.Match[str]) -> str:
    """The template's literal for what ``strftime_now(format)`` says on :data:`_DATE`."""
    return repr(_DATE.strftime(call[2]))
