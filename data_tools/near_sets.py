"""Each side of each row as a set of hashed n-grams, on the disk: the texts are cut into words once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from data_tools.extras import needed
from data_tools.memory import Memory
from data_tools.ngrams import grams, words
from data_tools.order import hash64
from data_tools.removal import batches
from data_tools.split import text_of_prompt

GRAM_BITS = 48  # two n-grams of a pair of 10,000 words each are the same by chance once in three million pairs
COUNTER_BITS = 20  # counters are shared by n-grams: they tell what most rows have from what a few have
_ROWS = 1 << (64 - GRAM_BITS - 2)  # of a batch: a row's three sides are numbered above the n-gram's bits


@dataclass(frozen=True)
class Sets:
    """n rows of S sides; arrays are numpy's.

    Attributes:
        file: all sets, one after another, each in ascending order, as 64-bit numbers.
        rows: (n,) UInt32, their ``_row``.
        sides: S, one or three.
        starts: (n * S + 1,) Int64, where in the file each side's set begins; a row's sides are neighbours.
        equal_to: (n,) UInt32, the first row (from 0) whose sides are the same sets.
        counters: (2 ** COUNTER_BITS,) Int64, by an n-gram's upper bits: how many sets have one of these n-grams.
    """

    file: Path
    rows: Any
    sides: int
    starts: Any
    equal_to: Any
    counters: Any


def write_sets(
    table: pl.LazyFrame, folder: Path, ngram: int, seed: int, memory: Memory, *, prompt_only: bool = False
) -> Sets:
    """The sets of a table's prompts, chosen and rejected responses, a side's n-grams told apart from another's.

    Args:
        table: PREFERENCE with ``_row``.
    """
    np = needed("numpy", "a search for near duplicates")
    columns = ["prompt"] if prompt_only else ["prompt", "chosen", "rejected"]
    sides = len(columns)
    sums = pl.concat_list(text_of_prompt(), *columns[1:])
    file = folder / "sets"
    rows, sizes, kinds = [np.empty(0, np.uint32)], [np.empty(0, np.int64)], [np.empty(0, np.uint64)]
    counters = np.zeros(1 << COUNTER_BITS, dtype=np.int64)
    with open(file, "wb") as out:
        for batch in batches(table.select("_row", *columns), memory.text):
            for part in batch.iter_slices(_ROWS):
                packed = _packed(np, part.select(_sides=sums), sides, ngram, seed)
                found = packed & np.uint64((1 << GRAM_BITS) - 1)
                size = np.bincount(packed >> np.uint64(GRAM_BITS), minlength=len(part) * sides)
                counters += np.bincount(found >> np.uint64(GRAM_BITS - COUNTER_BITS), minlength=len(counters))
                firsts = np.cumsum(size)[sides - 1 :: sides] - size.reshape(-1, sides).sum(axis=1)
                kinds.append(np.add.reduceat(_mixed(np, found), firsts))  # sums of n-grams' own hashes may be equal
                rows.append(part["_row"].to_numpy())
                sizes.append(size)
                found.tofile(out)
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.concatenate(sizes))])
    _, first, kind = np.unique(np.concatenate(kinds), return_index=True, return_inverse=True)
    return Sets(file, np.concatenate(rows), sides, starts, first.astype(np.uint32)[kind], counters)


def _packed(np: Any, batch: pl.DataFrame, sides: int, ngram: int, seed: int) -> Any:
    """(side of the batch's rows << GRAM_BITS | n-gram), in ascending order, each once; ``batch`` has ``_sides``."""
    texts = batch.explode("_sides").with_row_index("_side").with_columns(_words=words(pl.col("_sides")))
    count = pl.col("_words").list.len()
    short = texts.filter(count < ngram)
    whole = pl.when(count == 0).then("_sides").otherwise(pl.col("_words").list.join(" "))
    short = short.with_columns(_words=pl.concat_list(whole.str.strip_chars()))
    parts = [grams(texts.drop("_sides"), ngram, seed=seed), grams(short.drop("_sides"), 1, seed=seed)]
    packed = []
    for part in parts:
        side = part["_side"].to_numpy().astype(np.uint64)
        apart = (side % np.uint64(sides)) * np.uint64(hash64("near", "side") | 1)
        gram = (part["_gram"].to_numpy() + apart) >> np.uint64(64 - GRAM_BITS)
        packed.append(side << np.uint64(GRAM_BITS) | gram)
    both = np.concatenate(packed)
    both.sort()
    return both[np.concatenate([np.ones(min(len(both), 1), bool), both[1:] != both[:-1]])]


def _mixed(np: Any, number: Any) -> Any:
    """Another 64-bit number of each (the finaliser of splitmix64)."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        number = (number ^ number >> np.uint64(shift)) * np.uint64(factor)  # modulo 2**64
    return number ^ number >> np.uint64(31)
