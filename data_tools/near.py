"""Near duplicates: rows whose texts share most of their word n-grams.

Two rows are as similar as the least similar of their sides: prompt, chosen and rejected. Over all words together a long
prompt or one long response would make duplicates of different comparisons. And the same two responses preferred the
other way round are a contradiction, not a duplicate (:mod:`data_tools.conflicts`). Five-word n-grams and a threshold of
0.8 are those of Lee et al. 2022 (arXiv:2107.06499).

Nothing is estimated and nothing missed, as it would be by MinHash, but for 48-bit hashes that are equal by chance.
Pairs are proposed by prefix filtering (:mod:`data_tools.near_prefixes`) and decided by the Jaccard similarity of their
sets of n-grams. What many rows share, a system prompt or a template, proposes no pairs there, and rows that have
nothing rare in common with another row on one side are done with, however alike they are on the others.

Time: linear in the words, to hash and to sort them. Then, a row that is left, what it is compared with: those before it
that stay and share one of its rare n-grams on the side where these are fewest. That is more than a few only where many
rows that are no duplicates have rare n-grams in common on all sides, as all pairings of a few hundred responses do.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from data_tools.errors import UserError
from data_tools.memory import DEFAULT, Memory
from data_tools.near_join import matches
from data_tools.near_prefixes import shared_prefixes
from data_tools.near_sets import write_sets

THRESHOLD = 0.8
NGRAM = 5
FOUND = pl.Schema({"_row": pl.UInt32, "pair_id": pl.String, "match": pl.String, "score": pl.Float64})


def near_duplicates(
    table: pl.LazyFrame,
    threshold: float = THRESHOLD,
    *,
    ngram: int = NGRAM,
    prompt_only: bool = False,
    seed: int = 0,
    memory: Memory = DEFAULT,
    folder: Path | None = None,
) -> pl.DataFrame:
    """The rows that are near duplicates of a row that stays.

    Rows are gone through by split (test, validation, none, train) and pair id: a row goes if its similarity with one
    that stays, before it, is at least ``threshold``. So the first of a cluster stays, every removed row has a similar
    one left, and a chain of small differences does not remove what lies at its two ends. The order of the rows does not
    matter.

    Args:
        table: PREFERENCE with ``_row``; read twice, and its ids once more.
        threshold: Jaccard similarity of each side, in (0, 1].
        ngram: words; a side of fewer words is one n-gram, as is one without any (by its characters).
        prompt_only: compare the prompts alone.
        seed: of the n-grams' hashes.
        memory: what the batches follow from. Beside them some 60 bytes a row are in memory, and for rows that may have
            a duplicate 12 bytes a rare n-gram (a fifth of all at 0.8).
        folder: for a temporary folder: 8 bytes an n-gram, about the size of the texts, and up to half as much again.

    Returns:
        A row a duplicate, by ``_row``: ``pair_id``; ``match``, the id of the row that stays; ``score``, the Jaccard
        similarity of their least similar sides. The match is the nearest of those before it; a row with the same
        n-grams as one that goes takes that one's match, though a nearer may stand between them. Which rows go is exact.

    Raises:
        UserError: arguments out of range, or numpy is not installed.
    """
    if not 0 < threshold <= 1:
        raise UserError(f"threshold={threshold}: must be above 0 and at most 1")
    if ngram < 1:
        raise UserError(f"ngram={ngram}: must be at least 1 word")
    with TemporaryDirectory(prefix="near-duplicates-", dir=folder) as name:
        sets = write_sets(table, Path(name), ngram, seed, memory, prompt_only=prompt_only)
        prefixes = shared_prefixes(sets, threshold, Path(name), memory)
        # Rows of equal sets are one from here on, named by their rank: the place of their smallest pair id.
        classes = pl.DataFrame({"_row": sets.rows, "_set": sets.equal_to, "_any": prefixes.of[sets.equal_to]})
        classes = classes.filter(pl.col("_any") | pl.col("_set").is_duplicated()).drop("_any")
        if classes.is_empty():
            return pl.DataFrame(schema=FOUND)
        rows = _ranked(table, classes)
        firsts = rows.filter(pl.col("_rank") == pl.col("_own_rank"))
        firsts = firsts.filter(pl.Series(prefixes.of[firsts["_set"].to_numpy()], dtype=pl.Boolean))
        similar = matches(firsts["_set"].to_numpy(), sets, prefixes, threshold)
        ranks = firsts["_rank"]
        goes = pl.DataFrame({"_rank": ranks[similar.rows], "_stays": ranks[similar.stays], "score": similar.scores})
    # An equal row is as near to what stays as the first of its kind; where that one stays, it is the match.
    return (
        rows.join(goes, on="_rank", how="left")
        .with_columns(pl.col("_stays").fill_null(pl.col("_rank")), pl.col("score").fill_null(1.0))
        .filter(pl.col("_stays") != pl.col("_own_rank"))
        .join(rows.select(_stays="_own_rank", match="pair_id"), on="_stays")
        .select(list(FOUND))
        .sort("_row")
    )


def _ranked(table: pl.LazyFrame, classes: pl.DataFrame) -> pl.DataFrame:
    """(_row, _set) with ``pair_id``, ``_own_rank``, the row's place in the order, and ``_rank``, that of its class."""
    held = pl.col("split").replace_strict(["test", "validation", "train"], [0, 1, 3], default=2, return_dtype=pl.Int8)
    ids = table.select("_row", "pair_id", _held=held).join(classes.lazy(), on="_row").collect(engine="streaming")
    rows = ids.sort("_held", "pair_id", "_row").drop("_held").with_row_index("_own_rank")
    return rows.with_columns(_rank=pl.col("_own_rank").min().over("_set"))
