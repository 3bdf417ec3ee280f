"""TRL's unpaired rows (KTO): ``prompt``, ``completion``, ``label``; the better response's row, then the worse one's.

Both rows of a pair have its ``id`` and its other keys. What is read back without looking at ``id`` are pairs of each
good with each bad response to a prompt: as many as there were only where a prompt has one pair.
"""

from __future__ import annotations

import polars as pl

from data_tools.exports import _rows, trl
from data_tools.exports._rows import Found

SUMMARY = "TRL unpaired (KTO): prompt, completion, label; two rows a pair"
READER = "trl_unpaired"
ENDINGS = trl.ENDINGS


def rows(frame: pl.LazyFrame) -> pl.LazyFrame:
    sides = [
        pl.struct(completion=_rows.turns(side), label=pl.lit(label))
        for side, label in (("chosen", True), ("rejected", False))
    ]
    frame = frame.select("prompt", *_rows.extras(), _side=pl.concat_list(sides)).explode("_side").unnest("_side")
    return frame.select("prompt", "completion", "label", *_rows.EXTRAS)


def notes(found: Found, frame: pl.LazyFrame) -> list[str]:
    """Responses that are better than one and worse than another have both labels: KTO would be taught both."""
    hashes = frame.select(prompt=pl.col("prompt").hash(), good=pl.col("chosen").hash(), bad=pl.col("rejected").hash())
    narrow = hashes.collect(engine="streaming")
    good, bad = (narrow.select("prompt", text=side).unique() for side in ("good", "bad"))
    n = good.join(bad, on=["prompt", "text"], how="semi").height
    return [f"label: {n:,} responses are good in one row and bad in another (the middle of N-way groups)"] if n else []
