"""Rationales of one model as another one can read them: ids where both have the same tokens, else the text alone."""

from __future__ import annotations

import sys

import polars as pl

from data_tools.schema import JUDGMENT


def in_tokens_of(reader: str, writer: str | None, drawn: pl.DataFrame, budget: int) -> pl.DataFrame:
    """What ``writer`` drew, for ``reader``; what takes more than ``budget`` of its tokens is left out, and said.

    Args:
        reader, writer: backbones or judges; ``writer`` None: nobody here knows its tokens.
        drawn: JUDGMENT.
    """
    from genrm_lightning.backbone import load_renderer

    if writer is not None and load_renderer(reader).same_tokens(load_renderer(writer)):
        return drawn
    fits = retokenised(drawn, reader, budget)
    if too_long := drawn.height - fits.height:
        print(
            f"bootstrap: {too_long} of {drawn.height} rationales have more than sampling.rationale_tokens of "
            f"{budget} in the tokens of '{reader}', and are left out",
            file=sys.stderr,
            flush=True,
        )
    return fits


def retokenised(table: pl.DataFrame, reader: str, budget: int) -> pl.DataFrame:
    """The rows whose text has at most ``budget`` of the reader's tokens, without ids; ``n_tokens`` counts those."""
    from genrm_lightning.backbone import load_renderer

    renderer = load_renderer(reader)
    counts = pl.Series("n_tokens", [len(renderer.text(text)) for text in table["rationale"]], JUDGMENT["n_tokens"])
    table = table.with_columns(counts, token_ids=pl.lit(None, JUDGMENT["token_ids"]))
    return table.filter(pl.col("n_tokens") <= budget)
