"""Training rows whose prompt overlaps a prompt of an evaluation set.

The rule is that of Tülu 3 (Lambert et al. 2024, arXiv:2411.15124, section 3.2 and the decontamination scripts of
open-instruct): a word of an evaluation prompt is covered if one of the 8-word n-grams that it belongs to also occurs in
the training prompt, and the training row goes if at least half of the words of ONE evaluation prompt are covered. What
differs from there:

- words are those of :func:`data_tools.ngrams.words` (no punctuation, lower case), not spaCy's tokens;
- "at least half" where the paper says more than half;
- every training row is compared with every evaluation prompt, where Elasticsearch returned the ten best hits of an
  n-gram, and rows are removed, where Tülu 3 removed whole data sets above a share of contaminated evaluation rows;
- a prompt is all its turns, whoever speaks;
- evaluation prompts of fewer than ``ngram`` words have no n-grams and match the same normalised text alone
  (:func:`data_tools.split.normalised_prompt`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import polars as pl

from data_tools.errors import UserError
from data_tools.memory import DEFAULT, Memory
from data_tools.ngrams import grams, words
from data_tools.removal import batches
from data_tools.split import normalised_prompt, text_of_prompt

NGRAM = 8
COVERAGE = 0.5
_PLACE = 512  # bytes of a pair (n-gram of a row, its place in an evaluation prompt) while it is looked at
EXCERPT = 160  # characters of shared words in the report
FOUND = pl.Schema(
    {
        "_row": pl.UInt32,
        "pair_id": pl.String,
        "file": pl.String,
        "match": pl.String,
        "score": pl.Float64,
        "words": pl.String,
    }
)
_NONE = pl.DataFrame(schema={"_row": pl.UInt32, "_eval": pl.UInt32, "score": pl.Float64, "words": pl.String})


@dataclass(frozen=True)
class Evaluation:
    """Prompts that must not be trained on: each once, with the first file and the smallest pair id that has it.

    ``prompts``: ``_eval`` (UInt32), ``file``, ``match``, ``_key`` (normalised text), ``_words`` (list).
    ``grams``: ``_gram`` (UInt64), ``_eval``, ``_at`` (the place of its first word); ``short``: prompts without any.
    """

    ngram: int
    prompts: pl.DataFrame
    grams: pl.DataFrame
    short: pl.DataFrame


def evaluation(against: Mapping[str, pl.LazyFrame], ngram: int = NGRAM) -> Evaluation:
    """The evaluation sets as they are compared: in memory, about 20 bytes an n-gram.

    Args:
        against: PREFERENCE tables by the name of their file.

    Raises:
        UserError: ``ngram`` below 2, or no evaluation set.
    """
    if ngram < 2:
        raise UserError(f"ngram={ngram}: must be at least 2 words")
    if not against:
        raise UserError("no evaluation set to compare with; name one with --against")
    tables = []
    for place, (file, table) in enumerate(against.items()):
        narrow = table.select("pair_id", _key=normalised_prompt(), _text=text_of_prompt())
        first = narrow.group_by("_key").agg(match=pl.col("pair_id").min(), _text=pl.col("_text").first())
        tables.append(first.with_columns(file=pl.lit(file), _file=pl.lit(place)).collect(engine="streaming"))
    prompts = (
        pl.concat(tables)
        .sort("_file", "match", "_key")
        .unique("_key", keep="first", maintain_order=True)
        .with_row_index("_eval")
        .select("_eval", "file", "match", "_key", _words=words(pl.col("_text")))
    )
    found = grams(prompts.select("_eval", "_words"), ngram, at=True)
    return Evaluation(ngram, prompts, found, prompts.filter(pl.col("_words").list.len() < ngram))


def contaminated(
    table: pl.LazyFrame,
    against: Evaluation,
    *,
    coverage: float = COVERAGE,
    memory: Memory = DEFAULT,
) -> pl.DataFrame:
    """The rows of a table whose prompt covers at least ``coverage`` of an evaluation prompt's words.

    Rows are streamed, whatever their split; time is linear in the words of the prompts. Rows that share the same
    n-grams with the evaluation sets (a template of both, mostly) are compared with them once a batch.

    Args:
        table: PREFERENCE with ``_row``.
        coverage: in (0, 1].
        memory: what the batches follow from, beside the evaluation sets.

    Returns:
        A row a contaminated row, by ``_row``: ``pair_id``; ``file`` and ``match``, the evaluation prompt that it covers
        most of (of several the first), as the file and the pair id; ``score``, the covered share of its words;
        ``words``, the beginning of the longest run of words that both have.

    Raises:
        UserError: ``coverage`` out of range.
    """
    if not 0 < coverage <= 1:
        raise UserError(f"coverage={coverage}: must be above 0 and at most 1")
    known = against.grams.select("_gram").unique()
    found = [pl.DataFrame(schema=FOUND)]
    for batch in batches(table.select("_row", "pair_id", "prompt"), memory.text):
        texts = batch.select("_row", _key=normalised_prompt(), _words=words(text_of_prompt()))
        same = texts.join(against.short.select("_key", "_eval"), on="_key").select(
            "_row", "_eval", score=pl.lit(1.0), words=pl.col("_key").str.head(EXCERPT)
        )
        hits = grams(texts.select("_row", "_words"), against.ngram).join(known, on="_gram", how="semi").unique()
        matches = pl.concat([same, _matches(hits, against, coverage, memory.bytes // _PLACE)])
        named = matches.join(against.prompts.select("_eval", "file", "match"), on="_eval")
        found.append(named.join(batch.select("_row", "pair_id"), on="_row").select(list(FOUND)))
    return pl.concat(found).sort("_row")


def _matches(hits: pl.DataFrame, against: Evaluation, coverage: float, at_once: int) -> pl.DataFrame:
    """(_row, _gram) -> (_row, _eval, score, words) of the rows that cover enough of an evaluation prompt."""
    # Hashed before they are summed: the n-grams' own hashes are sums of words' hashes, which may add up alike.
    kinds = hits.group_by("_row").agg(_kind=pl.col("_gram").hash(1).sum())
    firsts = hits.join(kinds.group_by("_kind").agg(pl.col("_row").min()), on="_row", how="semi")
    best = pl.concat([_NONE, *(_best(part, against, coverage) for part in _portions(firsts, against, at_once))])
    return best.join(kinds, on="_row").drop("_row").join(kinds, on="_kind").select(_NONE.columns)


def _portions(hits: pl.DataFrame, against: Evaluation, at_once: int) -> Iterator[pl.DataFrame]:
    """Whole rows' n-grams, so many that their places in evaluation prompts are about ``at_once``."""
    places = against.grams.group_by("_gram").len("_places").with_columns(pl.col("_places").cast(pl.UInt64))
    by_row = hits.join(places, on="_gram").group_by("_row").agg(pl.col("_places").sum()).sort("_row")
    by_row = by_row.select("_row", _portion=pl.col("_places").cum_sum() // at_once)
    yield from hits.join(by_row, on="_row").partition_by("_portion", include_key=False)


def _best(hits: pl.DataFrame, against: Evaluation, coverage: float) -> pl.DataFrame:
    """The evaluation prompt of which each row covers most, if that is enough; see :func:`_matches`."""
    pair = ["_row", "_eval"]
    places = hits.join(against.grams, on="_gram").select(*pair, pl.col("_at").cast(pl.Int64)).sort(*pair, "_at")
    # An n-gram covers its words up to where the next one begins, the last of a prompt all of its own.
    next_at = pl.col("_at").shift(-1).over(pair)
    places = places.with_columns(_covers=pl.min_horizontal(next_at - pl.col("_at"), against.ngram))
    lengths = against.prompts.select("_eval", _length=pl.col("_words").list.len())
    best = (
        places.group_by(pair)
        .agg(pl.col("_covers").sum())
        .join(lengths, on="_eval")
        .select(*pair, score=pl.col("_covers") / pl.col("_length"))
        .filter(pl.col("score") >= coverage)
        .sort("_row", "score", "_eval", descending=[False, True, False])
        .unique("_row", keep="first")
    )
    # n-grams at places one after another are one run of words.
    runs = (
        places.join(best, on=pair, how="semi")
        .with_columns(_run=(pl.col("_at").diff().over(pair).fill_null(0) != 1).cum_sum())
        .group_by(*pair, "_run")
        .agg(_start=pl.col("_at").min(), _words_in=pl.len() + against.ngram - 1)
        .sort(*pair, "_words_in", "_start", descending=[False, False, True, False])
        .unique(pair, keep="first")
        .join(against.prompts.select("_eval", "_words"), on="_eval")
        .select(*pair, words=pl.col("_words").list.slice("_start", "_words_in").list.join(" ").str.head(EXCERPT))
    )
    return best.join(runs, on=pair).select(_NONE.columns)
