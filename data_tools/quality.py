"""How sound a rationale is, read off its text; and how alike the rationales of a set are.

A filter that looks at outcomes alone lets reasoning decay (docs/log.md). What decays is measured here, in polars
expressions that stream, millions of rows a table. Of one text (``ngrams`` are of words, in lower case):

| measure | is | range | after |
| --- | --- | --- | --- |
| ``n_words`` | runs of letters and digits | 0… | |
| ``own_words`` | those outside quotation marks | 0… | |
| ``repeated_share`` | 1 − distinct n-grams / n-grams | [0, 1) | distinct-n within a text, arXiv 1510.03055 |
| ``longest_run`` | how often a word stands in a row, at most | 0… | |
| ``copied_share`` | distinct n-grams that a source has too / distinct n-grams | [0, 1] | 1 − novelty, 1704.04368 |
| ``is_finished`` | whether it ends as a sentence does | | |
| ``nontext_share`` | control, private, unassigned and replacement characters / characters | [0, 1] | |
| ``named`` | the responses it speaks of: A, B, both or none | | |
| ``claim`` | the response that it calls the better one: A, B or null | | |

Of a set, in :func:`diversity`. Filters (``LazyFrame -> LazyFrame``, for :mod:`data_tools.star`) stand in
:mod:`data_tools.quality_filters`.
"""

from __future__ import annotations

import polars as pl

from data_tools.judging import prompt_named
from data_tools.ngrams import WORD
from data_tools.words import NGRAM

# 2^64 over the golden ratio, odd: words' hashes become an n-gram's fingerprint.
_MIX = 11400714819323198485
_END = r"""[.!?…。！？؟।][\s"'”’»)\]*_`]*$"""
_QUOTATION = r"""\"[^\"]*(?:\"|$)|“[^”]*(?:”|$)"""
_NONTEXT = r"[\p{Cc}\p{Co}\p{Cn}&&[^\t\n\r]]|\x{FFFD}"
_NOUN = r"(?i:responses?|assistants?|answers?|options?|sentences?)"
_ORDINAL = {"A": r"(?i:first|former)", "B": r"(?i:second|latter)"}
_VERB = r"(?:is|was|has|does|did|gives|follows|answers|appears|seems|names|repeats|contains)"
_MUCH = r"(?:(?i:indeed|much|clearly|slightly|far|therefore|thus|significantly|overall|the|a|to|be)\s+){0,3}"
_BE = r"(?i:is|was|seems|appears|would\s+be)"
_DO = r"(?i:follows?|answers?|addresse?s?|fits?|meets?|does|matche?s?)"
_NEGATED = r"(?i)\b(?:not|no|never|neither|nor)\b|n['’]t\b"


def words(text: str | pl.Expr) -> pl.Expr:
    """Runs of letters, marks, digits and underscores, in lower case: a list of strings; see :mod:`data_tools.words`."""
    return _column(text).str.to_lowercase().str.extract_all(WORD)


def ngrams(text: str | pl.Expr, n: int = NGRAM) -> pl.Expr:
    """The word n-grams of a text, in its order: a list of 64-bit fingerprints, empty for fewer than ``n`` words.

    They are equal for equal n-grams, and mean nothing outside the process: nothing is drawn by them.
    """
    word = pl.element().hash()
    gram = word
    for later in range(1, n):
        gram = gram * _MIX + word.shift(-later)
    return words(text).list.eval(gram.drop_nulls())


def n_words(text: str = "rationale") -> pl.Expr:
    """Words of a text."""
    return pl.col(text).str.count_matches(WORD)


def own_words(text: str = "rationale") -> pl.Expr:
    """Words outside quotation marks; one that is never closed runs to the end: what a rationale says of its own.

    >>> stencil = pl.DataFrame({"rationale": ['The sentence "A red fox ran" is', 'It says "no']})
    >>> stencil.select(own_words()).to_series().to_list()
    [3, 2]
    """
    return pl.col(text).str.replace_all(_QUOTATION, " ").str.count_matches(WORD)


def repeated_share(grams: pl.Expr) -> pl.Expr:
    """The share of word n-grams that the text has said before: 0 for none (or fewer than n words), near 1 for a loop.

    Args:
        grams: :func:`ngrams` of the text; as a column where more than one measure looks at it.

    >>> looped = pl.DataFrame({"rationale": ["good good good good good", "one two"]})
    >>> looped.select(repeated_share(ngrams("rationale")).round(3)).to_series().to_list()
    [0.667, 0.0]
    """
    return (1 - grams.list.n_unique() / grams.list.len()).fill_nan(0.0)


def longest_run(text: str = "rationale") -> pl.Expr:
    """How often a word is repeated in immediate succession, at most; 1: never, 0: no words."""
    runs = words(text).list.eval(pl.element().rle().struct.field("len").max())
    return runs.list.first().fill_null(0).cast(pl.Int64)


def copied_share(grams: pl.Expr, source: pl.Expr) -> pl.Expr:
    """The share of the text's distinct n-grams that the source has too; 0 for fewer than n words.

    With ``n`` words in a row as the unit, a small n counts borrowed phrases, one of 8 and more whole quotations.

    Args:
        grams, source: :func:`ngrams` of the text and of the source, of the same n.
    """
    own = grams.list.unique()
    return (own.list.set_intersection(source).list.len() / own.list.len()).fill_nan(0.0)


def of_pair(n: int = NGRAM) -> pl.Expr:
    """The n-grams of a PREFERENCE row: its conversation and both responses, none across their borders."""
    conversation = pl.col("prompt").list.eval(pl.element().struct.field("content")).list.join("\n")
    return pl.concat_list(ngrams(text, n) for text in (conversation, "chosen", "rejected"))


def of_judge_prompt(template: str, n: int = NGRAM) -> pl.Expr:
    """The n-grams of a judge prompt's own words: its system turn and its question."""
    prompt = prompt_named(template)
    own = [ngrams(pl.lit(text), n) for text in (prompt.system, prompt.question)]
    return pl.lit(pl.select(pl.concat_list(own)).to_series())


def is_finished(text: str = "rationale") -> pl.Expr:
    """Whether the text ends as a sentence does: a full stop or its like, then quotes, brackets and blanks alone.

    A rationale may stop in mid-sentence without a budget's doing: judges learn it from rationales that were cut off.
    """
    return pl.col(text).str.contains(_END)


def nontext_share(text: str = "rationale") -> pl.Expr:
    """The share of characters that are no text: control (but tab and line ends), private use, unassigned, U+FFFD."""
    return (pl.col(text).str.count_matches(_NONTEXT) / pl.col(text).str.len_chars()).fill_nan(0.0)


def named(text: str = "rationale") -> pl.Expr:
    """Which responses the text speaks of, by letter ("Response A", "[B]", "A is") or order ("the first response").

    "A", "B", "both" or "none". A rationale that quotes a response without naming it has "none".
    """
    has_a, has_b = (pl.col(text).str.contains(_name(letter)) for letter in "AB")
    return (
        pl.when(has_a & has_b)
        .then(pl.lit("both"))
        .when(has_a)
        .then(pl.lit("A"))
        .when(has_b)
        .then(pl.lit("B"))
        .otherwise(pl.lit("none"))
    )


def claim(text: str = "rationale") -> pl.Expr:
    """The letter of the response that the text calls the better one; null where it calls none so, or both.

    Read by phrases ("Response A is clearly better", "B is worse", "the second response follows the request better"),
    negated ones left out: what it finds is nearly always meant so, much is not found.
    """
    says_a, says_b = (_says(text, letter) for letter in "AB")
    return pl.when(says_a & ~says_b).then(pl.lit("A")).when(says_b & ~says_a).then(pl.lit("B"))


def checked(text: str = "rationale") -> pl.Expr:
    """The letter whose check ends in yes where the other one's ends in no; null where there are no such two.

    >>> steps = pl.DataFrame({"rationale": ['Response A has "ox": no. Response B has "ass": yes.', "A: yes. B: yes."]})
    >>> steps.select(checked()).to_series().to_list()
    ['B', None]
    """
    ends = {(letter, end): pl.col(text).str.contains(_check(letter, end)) for letter in "AB" for end in ("yes", "no")}
    is_a, is_b = (
        ends[own, "yes"] & ends[other, "no"] & ~ends[own, "no"] & ~ends[other, "yes"] for own, other in ("AB", "BA")
    )
    return pl.when(is_a).then(pl.lit("A")).when(is_b).then(pl.lit("B"))


def contradicts(text: str = "rationale", vote: str = "vote") -> pl.Expr:
    """Whether the text claims the one response, or finds it alone to pass, and the vote chooses the other one."""
    chosen = pl.col(vote).cast(pl.String)
    return (claim(text) != chosen).fill_null(False) | (checked(text) != chosen).fill_null(False)


def opening(text: str = "rationale", n: int = NGRAM) -> pl.Expr:
    """The first ``n`` words of a text, in lower case."""
    return words(text).list.head(n).list.join(" ")


def measured(
    judgments: pl.LazyFrame, preferences: pl.LazyFrame, template: str, n: int = NGRAM, quotation: int = 8
) -> pl.LazyFrame:
    """JUDGMENT rows with the measures of their rationales beside them.

    Args:
        preferences: the PREFERENCE rows judged.
        template: the judge prompt's name.
        n: words of an n-gram.
        quotation: words in a row that count as a quotation.

    Returns:
        The rows, and: n_words, n_characters, repeated_share, longest_run, copied_share (from the pair), quoted_share
        (the same with n = ``quotation``), prompt_share (from the judge prompt's own words), finished, cut (the token
        budget ended it), nontext_share, named, claim, contradicts.
    """
    sources = preferences.select("pair_id", _pair=of_pair(n), _pair_long=of_pair(quotation))
    grams, long = pl.col("_grams"), pl.col("_long")
    return (
        judgments.with_columns(pl.col("rationale").fill_null(""))
        .join(sources, on="pair_id", how="left", maintain_order="left")
        .with_columns(_grams=ngrams("rationale", n), _long=ngrams("rationale", quotation))
        .with_columns(
            n_words=n_words(),
            n_characters=pl.col("rationale").str.len_chars(),
            repeated_share=repeated_share(grams),
            longest_run=longest_run(),
            copied_share=copied_share(grams, pl.col("_pair")),
            quoted_share=copied_share(long, pl.col("_pair_long")),
            prompt_share=copied_share(grams, of_judge_prompt(template, n)),
            finished=is_finished(),
            cut=(pl.col("finish_reason") == "length").fill_null(False),
            nontext_share=nontext_share(),
            named=named(),
            claim=claim(),
            contradicts=contradicts(),
        )
        .drop("_pair", "_pair_long", "_grams", "_long")
    )


def diversity(rationales: pl.LazyFrame, n: int = NGRAM, text: str = "rationale") -> pl.LazyFrame:
    """How alike the rationales of a set are, in one row.

    ==================  ============================================================================================
    n_rationales        how many
    distinct_ngrams     distinct n-grams / n-grams of all together (distinct-n, arXiv 1510.03055), (0, 1]; falls with
                        the size of the set: compare sets of one size
    self_overlap        the share of a rationale's distinct n-grams that another one, drawn at random, has too:
                        Σ d(d−1) / ((N−1) Σ d) over the n-grams, d the number of rationales that have it; [0, 1],
                        whatever the size (Self-BLEU's question, arXiv 1802.01886, at the price of a group-by)
    top_share           share of the commonest rationale
    top_opening_share   share of the commonest first n words
    ==================  ============================================================================================
    """
    rows = rationales.select(pl.col(text).fill_null("")).with_row_index("_row")
    each = rows.select("_row", gram=ngrams(text, n)).explode("gram").drop_nulls().group_by("_row", "gram").len("n")
    grams = each.group_by("gram").agg(n=pl.col("n").sum(), d=pl.len().cast(pl.Float64))
    counts = grams.select(
        distinct_ngrams=(pl.len() / pl.col("n").sum()).fill_nan(0.0),
        _both=(pl.col("d") * (pl.col("d") - 1)).sum(),
        _all=pl.col("d").sum(),
    )
    tops = [
        rows.select(_key=key).group_by("_key").len().select(pl.col("len").max().alias(name))
        for name, key in (("_top", pl.col(text)), ("_opening", opening(text, n)))
    ]
    size = pl.col("n_rationales")
    overlap = pl.col("_both") / ((size - 1) * pl.col("_all"))
    return pl.concat([rows.select(n_rationales=pl.len()), counts, *tops], how="horizontal").select(
        "n_rationales",
        "distinct_ngrams",
        self_overlap=pl.when(overlap.is_finite()).then(overlap).otherwise(0.0),
        top_share=pl.col("_top") / size,
        top_opening_share=pl.col("_opening") / size,
    )


def _column(text: str | pl.Expr) -> pl.Expr:
    return pl.col(text) if isinstance(text, str) else text


def _name(letter: str) -> str:
    by_letter = rf"\b{_NOUN}\s*[\[(*]*{_letter(letter)}|\[{letter}\]|\b{letter}\s+{_VERB}\b"
    return rf"{by_letter}|\b{_ORDINAL[letter]}\s+(?:{_NOUN}|(?i:one))\b"


def _says(text: str, letter: str) -> pl.Expr:
    """Whether a phrase puts the response of that letter first, or the other one last."""
    other = "B" if letter == "A" else "A"
    phrases = [
        rf"(?:{_subject(letter)}{_BE}\s+{_MUCH}(?i:better|best|superior|preferable|preferred|stronger|winner)\b)",
        rf"(?:{_subject(letter)}{_DO}\s+(?:[\w']+\s+){{0,5}}(?i:better|best)\b)",
        rf"(?:{_subject(other)}{_BE}\s+{_MUCH}(?i:worse|worst|inferior|weaker)\b)",
    ]
    found = [pl.col(text).str.extract(f"({phrase})", 1) for phrase in phrases]
    return pl.any_horizontal((~phrase.str.contains(_NEGATED)).fill_null(False) for phrase in found)


def _check(letter: str, end: str) -> str:
    """A response's name, a clause (what it quotes may hold anything), a colon, and yes or no."""
    return rf"""(?:{_name(letter)}|\b{letter})[^.:;,!?\n"]*(?:"[^"\n]*"[^.:;,!?\n"]*)*:\s*(?i:{end})\b"""


def _letter(letter: str) -> str:
    """The letter after a noun, bare or in quotes that it fills: a quotation may begin with an article."""
    return rf"""(?:{letter}\b|["'“]{letter}["'”])"""


def _subject(letter: str) -> str:
    named = rf"(?:\b{_NOUN}\s*[\[(*]*{_letter(letter)}|\[{letter}|\b{letter})[\])*]*\s+"
    return rf"(?:{named}|\b{_ORDINAL[letter]}\s+(?:{_NOUN}|(?i:one))\s+)"
