"""Near duplicates: rows whose texts share most of their word n-grams.

MinHash and banding (Broder 1997; Leskovec, Rajaraman, Ullman, "Mining of Massive Datasets", chapter 3) propose pairs
of rows, and the exact Jaccard similarity of their sets of n-grams decides, so no row goes for an estimate's sake.
Five-word n-grams and a threshold of 0.8 are those of Lee et al. 2022 (arXiv:2107.06499). Sketches are rensa's.

Two rows are as similar as the least similar of their sides: prompt, chosen and rejected. Over all words together a long
prompt or one long response would make duplicates of different comparisons. And the same two responses preferred the
other way round are a contradiction, not a duplicate (:mod:`data_tools.conflicts`).
"""

from __future__ import annotations

from itertools import chain
from math import ceil, log, log1p
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from data_tools.errors import UserError
from data_tools.extras import needed
from data_tools.ngrams import grams, words
from data_tools.order import hash64
from data_tools.removal import batches
from data_tools.split import text_of_prompt

THRESHOLD = 0.8
NGRAM = 5
MISSED = 0.01  # of pairs exactly at the threshold; of more similar ones fewer
HASHES = 128  # of a sketch, at most
BATCH = 10_000  # rows whose n-grams are in memory at once
SKETCHED = 500  # rows that rensa sketches in one call: their numbers come as Python lists, fastest while few
PAIRS = 200_000  # pairs that are compared at once
LEADERS = 32  # rows of one bucket that the others in it are compared with
IN_MEMORY = 1 << 29  # bytes: larger sets of n-grams are read from the disk again and again
FOUND = pl.Schema({"_row": pl.UInt32, "pair_id": pl.String, "match": pl.String, "score": pl.Float64})
_N_SIDES = 3
_MATCH = pl.Schema({"_rank": pl.UInt32, "_stays": pl.UInt32, "score": pl.Float64})


def banding(threshold: float) -> tuple[int, int]:
    """(bands, hashes a band): a pair at the threshold is missed with probability MISSED, ``(1 - t**hashes)**bands``.

    As many hashes a band as HASHES allows: the more, the fewer dissimilar pairs are proposed.

    >>> banding(0.8)
    (16, 6)
    """
    fitting = [(1, 1)]
    for hashes in range(1, HASHES + 1):
        alike = threshold**hashes
        bands = ceil(log(MISSED) / log1p(-alike)) if alike < 1 else 1
        if bands * hashes <= HASHES:
            fitting.append((bands, hashes))
    return fitting[-1]


def near_duplicates(
    table: pl.LazyFrame,
    threshold: float = THRESHOLD,
    *,
    ngram: int = NGRAM,
    prompt_only: bool = False,
    seed: int = 0,
) -> pl.DataFrame:
    """The rows that are near duplicates of a row that stays.

    Rows are gone through by split (test, validation, none, train) and pair id: a row goes if its similarity with one
    that stays, before it, is at least ``threshold``. So the first of a cluster stays, every removed row has a similar
    one left, and a chain of small differences does not remove what lies at its two ends. The order of the rows does not
    matter, the seed only to which pairs near the threshold are missed.

    Memory: the sketches and n-grams lie in temporary files; in memory are a band of all rows (12 bytes a row and a
    hash table) and about 200 bytes a row that has any candidate. In one bucket rows are compared
    with at most LEADERS others; a chain of rows, each like the next, takes a round for each.

    Args:
        table: PREFERENCE with ``_row``; read twice.
        threshold: Jaccard similarity of each side, in (0, 1].
        ngram: words; a side of fewer words is one n-gram, as is one without any (by its characters).
        prompt_only: compare the prompts alone.

    Returns:
        A row a duplicate, by ``_row``: ``pair_id``; ``match``, the id of the row that stays; ``score``, the Jaccard
        similarity of their least similar sides.

    Raises:
        UserError: arguments out of range, or rensa is not installed.
    """
    if not 0 < threshold <= 1:
        raise UserError(f"threshold={threshold}: must be above 0 and at most 1")
    if ngram < 1:
        raise UserError(f"ngram={ngram}: must be at least 1 word")
    held = pl.col("split").replace_strict(["test", "validation", "train"], [0, 1, 3], default=2, return_dtype=pl.Int8)
    sides = table.select("_row", "pair_id", _held=held, _sides=pl.concat_list(_sides(prompt_only)))
    with TemporaryDirectory(prefix="near-duplicates-") as name:
        folder = Path(name)
        bands, hashes = banding(threshold)
        sketches = _write_sketches(sides, folder, bands, hashes, ngram, seed)
        alike = _in_shared_buckets(sketches, bands)
        if alike.is_empty():
            return pl.DataFrame(schema=FOUND)
        rows, sets = _write_sets(sides.join(alike.lazy(), on="_row", how="semi"), folder, ngram, seed)
        # Rows of equal sets are one from here on, named by their rank: the place of their smallest pair id.
        rows = rows.sort("_held", "pair_id", "_row").with_row_index("_own_rank")
        rows = rows.with_columns(_rank=pl.col("_own_rank").min().over("_set"))
        distinct = rows.filter(pl.col("_rank") == pl.col("_own_rank")).select("_rank", "_row", "_size")
        members = _members(sketches, bands, distinct.select("_rank", "_row"))
        matches = _matches(members, distinct, sets, threshold)
    # An equal row is as near to what stays as the first of its kind; where that one stays, it is the match.
    return (
        rows.join(matches, on="_rank", how="left")
        .with_columns(pl.col("_stays").fill_null(pl.col("_rank")), pl.col("score").fill_null(1.0))
        .filter(pl.col("_stays") != pl.col("_own_rank"))
        .join(rows.select(_stays="_own_rank", match="pair_id"), on="_stays")
        .select(list(FOUND))
        .sort("_row")
    )


def _sides(prompt_only: bool) -> list[pl.Expr]:
    return [text_of_prompt()] if prompt_only else [text_of_prompt(), pl.col("chosen"), pl.col("rejected")]


def _shingles(batch: pl.DataFrame, ngram: int, seed: int) -> pl.DataFrame:
    """(_row, _side, _gram): the n-grams of a batch's rows, each side's its own; a row's stand together.

    If each side's similarity is at least a threshold, so is that of all n-grams of the rows together, by which they are
    sketched: the shared n-grams are summed, and so are all.
    """
    texts = batch.select("_row", "_sides", _side=pl.int_ranges(0, pl.col("_sides").list.len(), dtype=pl.UInt64))
    texts = texts.explode("_sides", "_side").with_columns(_words=words(pl.col("_sides")))
    count = pl.col("_words").list.len()
    short = texts.filter(count < ngram)
    whole = pl.when(count == 0).then("_sides").otherwise(pl.col("_words").list.join(" "))
    short = short.with_columns(_words=pl.concat_list(whole.str.strip_chars()))
    found = grams(texts, ngram, seed=seed)
    if not short.is_empty():
        found = pl.concat([found, grams(short, 1, seed=seed)]).sort("_row", maintain_order=True)
    apart = pl.col("_side") * pl.lit(hash64("near", "side") | 1, pl.UInt64)
    return found.select("_row", "_side", _gram=pl.col("_gram") + apart)


def _write_sketches(sides: pl.LazyFrame, folder: Path, bands: int, hashes: int, ngram: int, seed: int) -> pl.LazyFrame:
    """(_row, "0", "1", …): a 64-bit number a band."""
    np = needed("numpy", "a search for near duplicates")
    rensa = needed("rensa", "a search for near duplicates")
    sketch = rensa.RMinHash.digest_matrix_from_flat_token_hashes
    factors = np.array([hash64("band", str(k)) | 1 for k in range(hashes)], dtype=np.uint64)
    schema = {"_row": pl.UInt32} | {str(band): pl.UInt64 for band in range(bands)}
    pl.DataFrame(schema=schema).write_parquet(folder / "sketches-none.parquet")
    for number, batch in enumerate(batches(sides.select("_row", "_sides"), BATCH)):
        found = _shingles(batch, ngram, seed)
        rows = found.group_by("_row", maintain_order=True).len()
        ends = rows["len"].cum_sum().to_numpy().astype(np.uint64)
        starts = np.concatenate([np.zeros(1, dtype=np.uint64), ends])
        tokens = found["_gram"].to_numpy()
        keys = np.empty((len(rows), bands), dtype=np.uint64)
        for begin in range(0, len(rows), SKETCHED):
            offsets = starts[begin : begin + SKETCHED + 1]
            n = len(offsets) - 1
            digests = sketch(tokens[offsets[0] : offsets[-1]], offsets - offsets[0], bands * hashes, seed).to_rows()
            numbers = np.fromiter(chain.from_iterable(digests), dtype=np.uint64, count=n * bands * hashes)
            keys[begin : begin + n] = (numbers.reshape(n, bands, hashes) * factors).sum(axis=2, dtype=np.uint64)
        columns = {str(band): pl.Series(keys[:, band]) for band in range(bands)}
        rows.select("_row").with_columns(**columns).write_parquet(folder / f"sketches-{number:06}.parquet")
    return pl.scan_parquet(folder / "sketches-*.parquet")


def _in_shared_buckets(sketches: pl.LazyFrame, bands: int) -> pl.DataFrame:
    """(_row) of the rows that share a band with another row: a band at a time, for a table may be large."""
    alike = pl.DataFrame(schema={"_row": pl.UInt32})
    for band in range(bands):
        keys = sketches.select("_row", _key=str(band)).collect(engine="streaming")
        shared = keys.filter(pl.col("_key").is_duplicated()).select("_row")
        alike = pl.concat([alike, shared]).unique()
    return alike


def _write_sets(sides: pl.LazyFrame, folder: Path, ngram: int, seed: int) -> tuple[pl.DataFrame, pl.LazyFrame]:
    """(_row, pair_id, _size, _set: a hash of its n-grams) in memory; (_row, _grams_0, …: each side's) on the disk."""
    rows = []
    for number, batch in enumerate(batches(sides, BATCH)):
        of_side = [pl.col("_gram").filter(pl.col("_side") == side).unique() for side in range(_N_SIDES)]
        sets = _shingles(batch, ngram, seed).group_by("_row").agg(g.alias(f"_grams_{i}") for i, g in enumerate(of_side))
        sets.write_parquet(folder / f"sets-{number:06}.parquet", compression="uncompressed")
        # n-grams are hashed before they are summed: their own hashes are sums, too.
        grams_of_all = pl.concat_list(f"_grams_{side}" for side in range(_N_SIDES))
        whole = grams_of_all.list.eval(pl.element().hash(seed + 1)).list.sum()
        sizes = sets.select("_row", _size=grams_of_all.list.len(), _set=whole)
        rows.append(sizes.join(batch.select("_row", "pair_id", "_held"), on="_row"))
    files = sorted(folder.glob("sets-*.parquet"))
    sets = pl.scan_parquet(files)
    if sum(file.stat().st_size for file in files) <= IN_MEMORY:
        sets = sets.collect().lazy()
    return pl.concat(rows), sets


def _members(sketches: pl.LazyFrame, bands: int, distinct: pl.DataFrame) -> pl.DataFrame:
    """(_bucket, _rank): who shares which band with whom."""
    found = [pl.DataFrame(schema={"_bucket": pl.UInt64, "_rank": pl.UInt32})]
    for band in range(bands):
        keys = sketches.select("_row", _key=str(band)).join(distinct.lazy(), on="_row").collect(engine="streaming")
        shared = keys.filter(pl.col("_key").is_duplicated())
        found.append(shared.select(_bucket=pl.col("_key").hash(band), _rank="_rank"))
    return pl.concat(found)


def _matches(members: pl.DataFrame, distinct: pl.DataFrame, sets: pl.LazyFrame, threshold: float) -> pl.DataFrame:
    """(_rank, _stays, score): the ranks that go, each with the most similar one that stays (of equals the first).

    In rounds: a rank that is the smallest of all its buckets cannot go any more. It stays, is compared with the others
    in its buckets, and leaves them together with those that it is similar to.
    """
    found = [pl.DataFrame(schema=_MATCH)]
    led = pl.DataFrame(schema={"_bucket": pl.UInt64, "_led": pl.UInt32})
    while not members.is_empty():
        members = members.join(members.group_by("_bucket").agg(_first=pl.col("_rank").min()), on="_bucket")
        leads = (pl.col("_first") == pl.col("_rank")).all()
        staying = members.group_by("_rank").agg(_leads=leads).filter("_leads").select("_rank")
        leading = members.join(staying.rename({"_rank": "_first"}), on="_first", how="semi")
        pairs = leading.filter(pl.col("_rank") != pl.col("_first")).select("_rank", _stays="_first").unique()
        similar = _similar(pairs, distinct, sets, threshold)
        found.append(similar)
        led = pl.concat([led, leading.select("_bucket").unique().with_columns(_led=pl.lit(1, pl.UInt32))])
        led = led.group_by("_bucket").agg(pl.col("_led").sum())
        members = (
            members.drop("_first")
            .join(staying, on="_rank", how="anti")
            .join(similar.select("_rank"), on="_rank", how="anti")
            .join(led.filter(pl.col("_led") >= LEADERS), on="_bucket", how="anti")
            .filter(pl.len().over("_bucket") > 1)
        )
    return pl.concat(found)


def _similar(pairs: pl.DataFrame, distinct: pl.DataFrame, sets: pl.LazyFrame, threshold: float) -> pl.DataFrame:
    """Those pairs (_rank, _stays) whose sides are all similar enough, the most similar of each _rank."""
    pairs = (
        pairs.join(distinct.rename({"_row": "_row_one", "_size": "_one"}), on="_rank")
        .join(distinct.rename({"_rank": "_stays", "_row": "_row_other", "_size": "_other"}), on="_stays")
        # Sets of sizes too different cannot be similar enough.
        .filter(pl.min_horizontal("_one", "_other") >= threshold * pl.max_horizontal("_one", "_other"))
        .sort("_stays", "_rank")
    )
    found = [pl.DataFrame(schema=_MATCH)]
    for part in pairs.iter_slices(PAIRS):
        rows = pl.concat([part["_row_one"], part["_row_other"]]).unique().to_frame("_row")
        known = sets.join(rows.lazy(), on="_row", how="semi").collect(engine="streaming")
        both = part.join(known, left_on="_row_one", right_on="_row")
        both = both.join(known, left_on="_row_other", right_on="_row", suffix="_other")
        score = pl.min_horizontal(_jaccard(f"_grams_{side}", f"_grams_{side}_other") for side in range(_N_SIDES))
        found.append(both.select("_rank", "_stays", score=score).filter(pl.col("score") >= threshold))
    best = pl.concat(found).sort("_rank", "score", "_stays", descending=[False, True, False])
    return best.unique("_rank", keep="first")


def _jaccard(one: str, other: str) -> pl.Expr:
    """Of two columns of sets; 1 for two empty ones (a side that is not compared)."""
    shared = pl.col(one).list.set_intersection(other).list.len()
    either = pl.col(one).list.len() + pl.col(other).list.len() - shared
    return pl.when(either == 0).then(1.0).otherwise(shared / either)
