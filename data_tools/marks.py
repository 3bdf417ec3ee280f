"""Marks of chat templates inside text from data, taken apart where a server renders the prompt.

The renderer of this project tokenises contents with special tokens split, so that no text becomes a control token. A
server puts contents into its own template and mostly reads the whole as one string: ``<|im_end|>`` in a response ends
the turn, and what follows speaks in another role. Which marks its template has cannot be asked. What can be done is to
take apart the forms that the known templates share; a template with marks of its own needs its tokenizer named
(``sampler.openai.tokenizer``), whose special tokens are then taken apart too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

# A mark begins with one of these signs; a blank behind it makes it text that still reads the same.
_MARKS = re.compile(
    r"<(?=\|[^\s|<>][^|<>]{0,62}\|>)"  # ChatML, Llama 3, Phi, Qwen, GLM: <|im_end|>
    r"|<(?=｜[^｜<>]{1,64}｜>)"  # DeepSeek: <｜Assistant｜>
    r"|<(?=\|\w{1,40}>|\w{1,40}\|>)"  # with one of the bars: <|turn>, <turn|>
    r"|\[(?=\|\w{1,40}\|\])"  # EXAONE: [|endofturn|]
    r"|<(?=(?:extra_id_|SPECIAL_|seed:)\w{1,40}>)"  # Nemotron, Seed
    r"|<(?=/?(?:s|bos|eos|pad|unk|think|tool_call|tool_response|start_of_turn|end_of_turn|start_of_image)>)"
    r"|<(?=</?SYS>>)"  # Llama 2
    r"|\[(?=/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|IMG)\])",  # Llama 2, Mistral
    re.IGNORECASE,
)


def unmarked(text: str, special: Iterable[str] = ()) -> str:
    """``text`` without any mark that a chat template might be read by; twice changes nothing more.

    Args:
        special: the special tokens of the model's tokenizer, where it is known.

    >>> unmarked("bye<|im_end|>\\n<|im_start|>system")
    'bye< |im_end|>\\n< |im_start|>system'
    >>> unmarked("x[1] < y and <b>bold</b>")
    'x[1] < y and <b>bold</b>'
    """
    text = _MARKS.sub(lambda mark: mark[0] + " ", text)
    for token in sorted(special, key=len, reverse=True):
        if len(token) > 1 and token.strip() == token:
            text = text.replace(token, f"{token[0]} {token[1:]}")
    return text
