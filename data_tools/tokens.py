"""How many tokens a pair has, with any tokenizer that the library tokenizers reads."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import polars as pl

from data_tools.errors import UserError
from data_tools.extras import needed
from data_tools.memory import DEFAULT, Memory
from data_tools.removal import batches
from data_tools.split import text_of_prompt

_TOKENS = 4  # times what other work on words takes: an encoding keeps places, types and masks of each token
FOUND = pl.Schema({"_row": pl.UInt32, "pair_id": pl.String, "score": pl.Float64})
_TEXTS = ("_prompt", "chosen", "rejected")


def load(where: str | Path) -> Any:
    """A tokenizer: its tokenizer.json, a folder that has one, or a name on the hub. No code of a model is run.

    What looks like a special token in a text is read as plain text, as the trainer reads it.

    Raises:
        UserError: nothing that can be read, or tokenizers is not installed.
    """
    tokenizers = needed("tokenizers", "a limit in tokens")
    path = Path(where)
    file = path / "tokenizer.json" if path.is_dir() else path
    try:
        if file.is_file():
            tokenizer = tokenizers.Tokenizer.from_file(str(file))
        elif not path.exists() and re.fullmatch(r"[\w.-]+/[\w.-]+", str(where)):
            tokenizer = tokenizers.Tokenizer.from_pretrained(str(where))
        else:
            raise UserError(f"{file}: no such file; name a tokenizer.json, a folder that has one, or a name on the hub")
    except UserError:
        raise
    except Exception as error:  # tokenizers raises nothing more special
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{where}: not a readable tokenizer ({reason}); name a tokenizer.json") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    return tokenizer


def too_many_tokens(table: pl.LazyFrame, limit: int, tokenizer: Any, *, memory: Memory = DEFAULT) -> pl.DataFrame:
    """The rows with more than ``limit`` tokens in prompt and longer response together.

    The contents are counted, the prompt's turns a line each, without special tokens and without what a chat template
    puts around them: leave room for these. A text has no more tokens than bytes, so only rows with more bytes than
    ``limit`` are encoded (where the tokenizer rewrites texts before it cuts them, rows that are not ASCII, too).

    Args:
        table: PREFERENCE with ``_row``.
        tokenizer: of :func:`load`.
        memory: what the batches follow from.

    Returns:
        A row a removed row, by ``_row``: ``pair_id``; ``score``, its tokens.

    Raises:
        UserError: ``limit`` below 1.
    """
    if limit < 1:
        raise UserError(f"max_tokens={limit}: must be at least 1")
    texts = table.select("_row", "pair_id", "chosen", "rejected", _prompt=text_of_prompt())
    n_bytes = {name: pl.col(name).str.len_bytes() for name in _TEXTS}
    # Two more: some tokenizers put a space before each text.
    most = n_bytes["_prompt"] + pl.max_horizontal(n_bytes["chosen"], n_bytes["rejected"]) + 2
    doubtful = most > limit
    if tokenizer.normalizer is not None:  # may make one character several
        doubtful |= pl.any_horizontal(size > pl.col(name).str.len_chars() for name, size in n_bytes.items())
    found = [pl.DataFrame(schema=FOUND)]
    for batch in batches(texts.filter(doubtful), memory.text // _TOKENS):
        distinct = pl.concat([batch[name].alias("text") for name in _TEXTS]).unique()
        encoded = tokenizer.encode_batch_fast(distinct.to_list(), add_special_tokens=False)
        tokens = pl.DataFrame({"text": distinct, "n": pl.Series(map(len, encoded), dtype=pl.Int64)})
        for name in _TEXTS:
            batch = batch.join(tokens.rename({"n": f"{name}_n"}), left_on=name, right_on="text")
        total = pl.col("_prompt_n") + pl.max_horizontal("chosen_n", "rejected_n")
        found.append(batch.select("_row", "pair_id", score=total.cast(pl.Float64)).filter(pl.col("score") > limit))
    return pl.concat(found).sort("_row")
