"""What the texts of a set's rationales say of a judge, in numbers (:mod:`data_tools.quality`)."""

from __future__ import annotations

import polars as pl

from data_tools.quality import diversity, measured
from data_tools.quotations import with_quotations
from genrm_lightning.evaluation.scores import presentations


def rationale_scores(judgments: pl.DataFrame, preferences: pl.DataFrame, template: str) -> dict[str, float | None]:
    """Means over a set's rationales, and how alike they are.

    Args:
        judgments: JUDGMENT rows of one judge on one set.
        preferences: the PREFERENCE rows of their pairs.
        template: the judge prompt's name.

    Returns:
        ======================  ====================================================================================
        mean_n_words            words a rationale
        copied_share            mean share of word 3-grams taken from the conversation or the responses
        quoted_share            the same of 8-grams: whole quotations
        prompt_share            mean share of word 3-grams taken from the judge prompt's own words
        finished_share          share that end as a sentence does
        names_share             share that name a response, by letter or place
        contradiction_share     share that call the one response better and vote for the other
        misquoted_share         share of the quotations that are none (:mod:`data_tools.quotations`); null without any
        nontext_share           mean share of characters that are no text
        self_overlap            share of a rationale's 3-grams that another one has too
        top_share               share of the commonest rationale
        top_opening_share       share of the commonest first three words
        position_bias           share of presentations that choose A, less one half: each response is shown once as A,
                                so a judge that looks at the responses alone has 0; ±0.5: one letter always
        ======================  ====================================================================================
    """
    means = measured(judgments.lazy(), preferences.lazy(), template).select(
        mean_n_words=pl.col("n_words").mean(),
        copied_share=pl.col("copied_share").mean(),
        quoted_share=pl.col("quoted_share").mean(),
        prompt_share=pl.col("prompt_share").mean(),
        finished_share=pl.col("finished").mean(),
        names_share=(pl.col("named") != "none").mean(),
        contradiction_share=pl.col("contradicts").mean(),
        nontext_share=pl.col("nontext_share").mean(),
    )
    alike = diversity(judgments.lazy()).select("self_overlap", "top_share", "top_opening_share")
    shown = presentations(judgments)["p_a"]
    quoted = with_quotations(judgments, preferences).select(
        misquoted_share=pl.when(pl.col("quotations").sum() > 0).then(
            pl.col("misquotations").sum() / pl.col("quotations").sum()
        )
    )
    bias = float(((shown > 0.5) + 0.5 * (shown == 0.5)).mean()) - 0.5
    numbers = (means.collect(), alike.collect(), quoted)
    return {name: value for table in numbers for name, value in table.to_dicts()[0].items()} | {"position_bias": bias}
