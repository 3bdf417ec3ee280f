"""Splits and parts by a hash of the prompt: no draw puts a prompt on two sides, on any machine, in any row order.

Labels that the data bring are kept, and may disagree about a prompt: see :func:`split` and `conflicting_prompts`.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from math import ceil

import polars as pl

from data_tools.errors import UserError
from data_tools.order import hash64, unit
from data_tools.schema import SPLITS


def text_of_prompt() -> pl.Expr:
    """All turns' contents."""
    return pl.col("prompt").list.eval(pl.element().struct.field("content")).list.join("\n")


def normalised_prompt() -> pl.Expr:
    """The text by which two prompts count as the same: all turns' contents, lower-cased, whitespace collapsed."""
    # Single spaces, nearly all there is of whitespace, are not replaced by themselves: a third of the time.
    return text_of_prompt().str.to_lowercase().str.replace_all(r"\s{2,}|[^\S ]", " ").str.strip_chars(" ")


def split(
    frame: pl.DataFrame,
    *,
    validation: float = 0.1,
    test: float = 0.1,
    redo: bool = False,
    where: object = "split",
) -> pl.DataFrame:
    """PREFERENCE with every row in train, validation or test.

    A labelled row keeps its label. An unlabelled one takes that of the same prompt elsewhere in the table (test
    before validation before train), else one drawn from the prompt's hash. Labels that already disagree about a
    prompt are kept; :func:`data_tools.clean.clean` then drops such rows from training.

    Args:
        validation, test: expected shares of the prompts (not of the rows), in [0, 1), together below 1.
        redo: forget all labels and draw anew.
        where: the file the frame came from, for errors.

    Raises:
        UserError: shares out of range, or a label that is none of train, validation and test.
    """
    check_shares(validation, test)
    if not redo:
        check_labels(frame.lazy(), where)
    texts = frame.lazy().with_columns(_text=normalised_prompt())
    narrow = texts.select(split_columns(validation=validation, test=test, redo=redo))
    return frame.with_columns(narrow.select(settled()).collect().to_series())


def split_columns(*, validation: float, test: float, redo: bool) -> list[pl.Expr]:
    """What :func:`decide_split` looks at, of PREFERENCE with ``_text``, the normalised prompt."""
    text = pl.col("_text")
    return [text.hash().alias("_key"), *labels(text, validation=validation, test=test, redo=redo)]


def decide_split(rows: pl.DataFrame) -> pl.DataFrame:
    """``_row``, ``split`` and ``_crosses`` (the first row of a prompt that is in several splits); all rows of a prompt
    are there, or none."""
    rows = rows.with_columns(settled())
    crosses = (pl.col("split").n_unique().over("_key") > 1) & pl.col("_key").is_first_distinct()
    return rows.select("_row", "split", _crosses=crosses)


def check_shares(validation: float, test: float) -> None:
    """Raises UserError for shares out of range."""
    if not (validation >= 0 and test >= 0 and validation + test < 1):
        raise UserError(
            f"split shares validation={validation} and test={test}: each must be at least 0, together below 1"
        )


def check_labels(table: pl.LazyFrame, where: object) -> None:
    """Raises UserError for a label in ``split`` that there is not, with its row."""
    numbered = table.select("split").with_row_index("_row", 1)
    unknown = numbered.filter(~pl.col("split").is_in(SPLITS)).head(1).collect(engine="streaming")
    if not unknown.is_empty():
        raise UserError(
            f"{where}: row {unknown['_row'][0]}: split '{unknown['split'][0]}' is unknown; "
            f"there are: {', '.join(SPLITS)}; or draw all anew with --redo"
        )


def labels(text: pl.Expr, *, validation: float, test: float, redo: bool) -> tuple[pl.Expr, pl.Expr]:
    """Of rows of PREFERENCE: ``_label``, what a row brings, and ``_drawn``, what its prompt's hash says where it brings
    nothing; both the place of a split in SPLITS, so that the largest is the one that must not leak.

    Args:
        text: the normalised prompt.
    """
    given = pl.lit(None, pl.String) if redo else pl.col("split")

    # unit() below a share is the hash below the share's 64 bits: compared as bytes, in a loop over all prompts.
    shares = (test, test + validation)
    below_test, below_held = ((ceil(share * 2**53) << 11).to_bytes(8, "big") for share in shares)

    def rank(text: str) -> int:
        at = blake2b(b"split|" + text.encode(), digest_size=8).digest()
        return 2 if at < below_test else 1 if at < below_held else 0

    def draw(prompts: pl.Series) -> pl.Series:
        return pl.Series([None if text is None else rank(text) for text in prompts.to_list()], dtype=pl.UInt8)

    drawn = pl.when(given.is_null()).then(text).map_batches(draw, return_dtype=pl.UInt8, is_elementwise=True)
    return given.cast(pl.Enum(SPLITS)).to_physical().cast(pl.UInt8).alias("_label"), drawn.alias("_drawn")


def stable_part(text: pl.Expr, n: int) -> pl.Expr:
    """Which of ``n`` parts (from 0) a row is in, by its normalised prompt alone: more rows move none that were there.

    The price are unequal sizes, by about the square root of a part's prompts; :func:`parts` cuts equal ones.
    """

    def draw(prompts: pl.Series) -> pl.Series:
        return pl.Series([int(unit("part", key) * n) for key in prompts], dtype=pl.UInt16)

    return text.map_batches(draw, return_dtype=pl.UInt16, is_elementwise=True)


def settled() -> pl.Expr:
    """``split`` of rows with ``_label``, ``_drawn`` and ``_key``, the prompt's hash; all rows of a prompt are there."""
    rank = pl.coalesce("_label", pl.col("_label").max().over("_key"), "_drawn")
    return rank.replace_strict(range(len(SPLITS)), list(SPLITS), return_dtype=pl.String).alias("split")


def conflicting_prompts(frame: pl.DataFrame) -> int:
    """How many prompts have rows in more than one split: labels that the data brought, for none is drawn so."""
    return frame.group_by(normalised_prompt().alias("_key")).agg(pl.col("split").n_unique() > 1)["split"].sum()


def sample(frame: pl.DataFrame, rows: int) -> pl.DataFrame:
    """At most ``rows`` rows, those with the smallest hash of the pair's id: a fair sample, not the first ones.

    A larger sample contains every smaller one. Rows keep their order.
    """
    if frame.height <= rows:
        return frame
    hashes = pl.Series([hash64("sample", pair) for pair in frame["pair_id"]], dtype=pl.UInt64)
    kept = hashes.arg_sort()[:rows].sort()
    return frame[kept]


def take(frame: pl.DataFrame, rows: int, categories: Sequence[str] = ()) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(a sample of ``rows`` rows, the rows that share no prompt with it), both drawn by hash.

    Args:
        categories: sample among the rows of these alone; empty for all.

    Raises:
        UserError: a category that the table does not have, fewer rows than wanted, or nothing would be left.
    """
    known = frame["category"].drop_nulls().unique().sort().to_list()
    if absent := [name for name in categories if name not in known]:
        raise UserError(f"no pair has category '{absent[0]}'; there are: {', '.join(known) or 'none'}")
    among = frame.filter(pl.col("category").is_in(list(categories))) if categories else frame
    if rows > among.height:
        raise UserError(f"{rows} pairs are more than the {among.height} there are to take from; take fewer")
    taken = sample(among, rows)
    prompts = taken.select(normalised_prompt().alias("prompt"))["prompt"].implode()
    rest = frame.filter(~normalised_prompt().is_in(prompts))
    if not len(rest):
        raise UserError(f"{rows} pairs taken leave none of {len(frame)}; take fewer")
    return taken, rest


def parts(frame: pl.DataFrame, n: int) -> list[pl.DataFrame]:
    """``frame`` cut into ``n`` disjoint parts whose union is the whole; rows of one prompt stay together.

    Prompts stand in the order of their hash, rows of a prompt in that of their pair id, so the result depends on
    neither the order nor the order of arrival of the rows. Each part's size is that of an equal cut, to within the
    largest prompt's number of rows. Further rows may move prompts near a cut; :func:`stable_part` moves none.

    Raises:
        UserError: ``n`` below 1, or too few prompts for a row in every part.
    """
    if n < 1:
        raise UserError(f"parts={n}: the number of parts must be at least 1")
    keyed = frame.with_columns(_key=normalised_prompt())
    groups = keyed.group_by("_key").len()
    hashes = pl.Series("_hash", [hash64("part", key) for key in groups["_key"]], dtype=pl.UInt64)
    groups = groups.with_columns(hashes).sort("_hash", "_key").with_columns(pl.col("len").cast(pl.Int64))
    # A prompt belongs to the part in which its middle row falls: both ends of a part are off by half a prompt at most.
    twice_middle = 2 * pl.col("len").cum_sum() - pl.col("len")
    groups = groups.with_columns(_part=twice_middle * n // (2 * max(frame.height, 1)))
    keyed = keyed.join(groups.select("_key", "_hash", "_part"), on="_key").sort("_hash", "_key", "pair_id")
    found = [keyed.filter(pl.col("_part") == i).select(frame.columns) for i in range(n)]
    if any(part.is_empty() for part in found):
        raise UserError(
            f"parts={n}: the table has {frame.height} pairs over {groups.height} prompts, which leaves a part empty; "
            "use fewer parts or more data"
        )
    return found


def part(frame: pl.DataFrame, index: int, of: int) -> pl.DataFrame:
    """Part ``index`` (from 0) of ``of``; see :func:`parts`. Raises UserError for an index that there is not."""
    if not 0 <= index < of:
        raise UserError(f"part {index + 1} of {of}: there are only {of} parts; cut into more, or use fewer iterations")
    return parts(frame, of)[index]
