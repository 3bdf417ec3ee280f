"""Judgments -> training examples: the STaR step (Zelikman et al. 2022; for judges arXiv 2410.12832).

A sample is *right* where its vote is the letter of the preferred response in the order it was shown. What a judge
wrote before a right vote is imitated; under DPO what it wrote before a wrong vote is pushed away.

| objective | a row of EXAMPLE |
| --- | --- |
| sft | a right sample |
| rationalizer | a right sample that was drawn with the answer told and does not speak of being told |
| dpo | a right and a wrong sample of the same pair in the same order; ``uncoupled="keep"``: also a right one alone |
| labelled | a sample, right or wrong, with the label's verdict in place of its own vote: for a warm start |
| own | a sample as it is, right or wrong, the first drawn first: for a teacher's token targets on it |

The prompt of an example is always the one without a hint.

Filters are named by string: ``both_orders``, or with thresholds ``min_words:words=8``. A filter is a function of a
LazyFrame (of the rows it looks at, see FILTERS) that keeps some of its rows.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import polars as pl

from data_tools.errors import UserError
from data_tools.judging import Verdict, prompt_named, render_completion, render_prompt
from data_tools.order import chosen_is_a, hash64, responses
from data_tools.schema import EXAMPLE, check, conform
from data_tools.words import distinct_share, words

OBJECTIVES = ("sft", "dpo", "rationalizer", "labelled", "own")
UNCOUPLED_WAYS = ("drop", "keep")
# What is dropped without a filter's name.
REPEAT = "repeat"
TOLD = "speaks of being told"
UNCOUPLED = "no wrong sample to couple with"
SURPLUS = "beyond per_prompt"

_PLACE = ["pair_id", "swapped"]  # one prompt as the judge saw it
_TOLD = re.compile(
    "|".join(
        (
            r"\bI\s*(?:was|am|['’]m|have\s+been|['’]ve\s+been|had\s+been)\s+(?:told|informed|given\s+the)\b",
            # "we are told that Tom has 5 apples" quotes the request
            r"\bwe\s+(?:were|are|have\s+been)\s+told\s+(?:that\s+)?(?:the\s+)?(?:response|assistant|answer|[AB]\b)",
            r"\b(?:correct|right|better|preferred)\s+(?:answer|response|verdict|choice|one)\s+(?:is|was|has\s+been)\s+"
            r"(?:already\s+)?(?:given|told|stated|provided|known|indicated)\b(?!\s+(?:in|by)\s+(?:response|assistant|[AB]\b))",
            r"\bas\s+(?:already\s+)?(?:stated|given|indicated)\b"
            r"(?!\s+(?:in|by)\s+(?:the\s+|its\s+)?(?:prompt|request|user|question|conversation|instructions?|response|text))",
            r"\bresponse\s+[AB]\s+(?:is|was)\s+(?:said|stated|known|given|declared)\s+(?:to\s+be|as)\s+(?:the\s+)?better\b",
            r"\b(?:given|stated|said|told)\s+that\s+response\s+[AB]\s+(?:is|was)\s+(?:the\s+)?better\b",
            r"\bthe\s+hint\b",
        )
    ),
    re.IGNORECASE,
)


def longest_run(text: str) -> int:
    """How often a word is repeated in immediate succession, at most; 1: never, 0: no words.

    >>> longest_run("It is very, very, VERY good")
    3
    """
    longest = run = 0
    last = None
    for word in words(text):
        run = run + 1 if word == last else 1
        last, longest = word, max(longest, run)
    return longest


def speaks_of_being_told(text: str) -> bool:
    """Whether a rationale gives away that its writer knew the answer; what only quotes the request does not.

    >>> speaks_of_being_told("As stated, Response A is better."), speaks_of_being_told("A is shorter, as asked.")
    (True, False)
    """
    return _TOLD.search(text) is not None


def _where(text: str, holds: Callable[[str], bool]) -> pl.Expr:
    return pl.col(text).map_elements(holds, return_dtype=pl.Boolean)


def no_repetition(frame: pl.LazyFrame, min_distinct: float = 0.6, max_run: int = 3) -> pl.LazyFrame:
    """Rationales with at least that share of distinct word 3-grams and no word more often than that in a run."""
    return frame.filter(
        _where("rationale", lambda text: distinct_share(text) >= min_distinct and longest_run(text) <= max_run)
    )


def min_words(frame: pl.LazyFrame, words: int = 5) -> pl.LazyFrame:
    """Rationales of at least that many words."""
    return frame.filter(pl.col("rationale").str.count_matches(r"\w+") >= words)


def max_length_ratio(frame: pl.LazyFrame, ratio: float = 2.0) -> pl.LazyFrame:
    """Couples whose longer rationale has at most that many times the tokens of the shorter."""
    longer = pl.max_horizontal("n_tokens", "rejected_n_tokens")
    return frame.filter(longer <= ratio * pl.min_horizontal("n_tokens", "rejected_n_tokens"))


def both_orders(frame: pl.LazyFrame) -> pl.LazyFrame:
    """Examples of pairs that have one in either order, so that position cannot pay."""
    return frame.filter(pl.col("swapped").n_unique().over("pair_id") == 2)


def balance(frame: pl.LazyFrame) -> pl.LazyFrame:
    """As many examples with right letter A as with B.

    Of the commoner letter those go first that are not the best of their prompt, then by a hash of the pair's id:
    after ``both_orders`` every pair thus keeps both its orders.
    """
    by_hash = pl.col("pair_id").map_elements(lambda pair: hash64("balance", pair), return_dtype=pl.UInt64)
    standing = pl.struct("rank", _hash=by_hash, _pair="pair_id", _swapped="swapped").rank("ordinal").over("letter")
    fewer = pl.min_horizontal((pl.col("letter") == letter).sum() for letter in "AB")
    return frame.filter(standing <= fewer)


@dataclass(frozen=True)
class _Filter:
    function: Callable[..., pl.LazyFrame]
    looks_at: str  # samples: right ones, before the choice of the best; couples: dpo's; examples: the chosen rows


# Quality is asked of what will be imitated, the right samples: a poor wrong one is a fair warning.
FILTERS = {
    "no_repetition": _Filter(no_repetition, "samples"),
    "min_words": _Filter(min_words, "samples"),
    "max_length_ratio": _Filter(max_length_ratio, "couples"),
    "both_orders": _Filter(both_orders, "examples"),
    "balance": _Filter(balance, "examples"),
}


def parse_filter(spec: str) -> tuple[str, Callable[[pl.LazyFrame], pl.LazyFrame]]:
    """``name`` or ``name:parameter=value,…`` -> (name, function of a LazyFrame).

    Raises:
        UserError: an unknown name or parameter (lists what there is), or a value that is no number, not finite or
            below 0.
    """
    name, _, settings = spec.partition(":")
    if name not in FILTERS:
        raise UserError(f"filter '{name}' is unknown; there are: {', '.join(FILTERS)}")
    function = FILTERS[name].function
    known = {key: found.default for key, found in inspect.signature(function).parameters.items() if key != "frame"}
    chosen: dict[str, Any] = {}
    for setting in filter(None, settings.split(",")):
        key, _, value = (piece.strip() for piece in setting.partition("="))
        if key not in known:
            raise UserError(f"filter '{name}' has no parameter '{key}'; there are: {', '.join(known) or 'none'}")
        try:
            chosen[key] = type(known[key])(value)
        except ValueError:
            kind = "a whole number" if isinstance(known[key], int) else "a number"
            raise UserError(f"filter '{name}': {key}={value} should be {kind}, as in {key}={known[key]}") from None
        # Written so that NaN fails too: compared with it, a filter would drop everything or nothing.
        if not 0 <= chosen[key] < float("inf"):
            raise UserError(
                f"filter '{name}': {key}={value} should be finite and not below 0, as in {key}={known[key]}"
            )
    return name, partial(function, **chosen)


def examples(
    judgments: pl.DataFrame,
    preferences: pl.DataFrame,
    *,
    objective: str,
    filters: Sequence[str] = (),
    per_prompt: int = 1,
    template: str = "mt_bench",
    uncoupled: str = "drop",
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Training examples from judgments.

    Args:
        judgments: JUDGMENT; of one or several iterations. A row is right where ``vote`` is the letter of the
            preferred response.
        preferences: PREFERENCE, with at least the pairs that were judged.
        objective: one of OBJECTIVES.
        filters: names, see FILTERS; applied in this order, those of samples first, then of couples, then of examples.
        per_prompt: examples at most for a pair in one order: the samples with the highest mean_token_prob; under dpo
            the first right one is coupled with the first wrong one, the second with the second, so none is used twice;
            under own the samples drawn first.
        template: name of the judge prompt.
        uncoupled: what becomes of a right sample that finds no wrong one under dpo: "drop" it, or "keep" it as an
            example without a rejected side (no preference; RationaleDPO's other losses still learn from it).

    Returns:
        EXAMPLE, sorted by pair id and order, and counts:

        ==========  =================================================================================
        sampled     judgments given; ``right`` and ``wrong`` are their votes
        kept        examples; ``couples``: those with a rejected side; ``pairs``: the pairs they come from
        dropped     {why: how many}: samples, or for couples and examples those, in order of the steps
        letters     {"A": examples whose right letter is A, "B": …}
        ==========  =================================================================================

    Raises:
        UserError: unknown objective, filter, template or ``uncoupled``; a judgment of an unknown pair or without a
            vote; a pair id that stands for two pairs; nothing kept (says how many went where, and what to change).
    """
    if objective not in OBJECTIVES:
        raise UserError(f"objective '{objective}' is unknown; there are: {', '.join(OBJECTIVES)}")
    if uncoupled not in UNCOUPLED_WAYS:
        raise UserError(f"uncoupled '{uncoupled}' is unknown; there are: {', '.join(UNCOUPLED_WAYS)}")
    if per_prompt < 1:
        raise UserError(f"per_prompt={per_prompt}: must be at least 1")
    prompt_named(template)
    steps = [parse_filter(spec) for spec in filters]
    if objective != "dpo" and (wrong := [name for name, _ in steps if FILTERS[name].looks_at == "couples"]):
        raise UserError(f"filter '{wrong[0]}' compares the two samples of a couple; objective {objective} has none")
    samples = _voted(judgments, preferences)
    is_right = pl.col("vote") == pl.col("letter")
    right, wrong = samples.filter(is_right), samples.filter(~is_right)
    counts: dict[str, Any] = {"sampled": samples.height, "right": right.height, "wrong": wrong.height}
    if objective == "own":
        # The likeliest samples would not be those that the judge writes.
        right = samples.with_columns(mean_token_prob=pl.lit(None, samples.schema["mean_token_prob"]))
    if objective == "labelled":
        # The ids end in the vote's letter; the judgment is tokenised anew from its text.
        right = samples.with_columns(vote="letter", token_ids=pl.lit(None, samples.schema["token_ids"]))
    dropped: dict[str, int] = {}

    def keep(frame: pl.DataFrame, name: str, function: Callable[[pl.LazyFrame], pl.LazyFrame]) -> pl.DataFrame:
        kept = function(frame.lazy()).collect()
        dropped[name] = dropped.get(name, 0) + frame.height - kept.height
        return kept

    def apply(frame: pl.DataFrame, looks_at: str) -> pl.DataFrame:
        for name, function in steps:
            if FILTERS[name].looks_at == looks_at:
                frame = keep(frame, name, function)
        return frame

    right = keep(right, REPEAT, _distinct)
    if objective == "rationalizer":
        right = keep(right, TOLD, lambda frame: frame.filter(~_where("rationale", speaks_of_being_told)))
    right = _ranked(apply(right, "samples"))
    if objective == "dpo":
        others = _ranked(_distinct(wrong.lazy()).collect()).select(
            *_PLACE,
            "rank",
            *(pl.col(name).alias(f"rejected_{name}") for name in ("rationale", "vote", "token_ids", "n_tokens")),
        )
        chosen = right.join(others, on=[*_PLACE, "rank"], how="left", maintain_order="left")
        is_couple = pl.col("rejected_vote").is_not_null()
        alone = chosen.filter(~is_couple)
        if uncoupled == "drop":
            alone = keep(alone, UNCOUPLED, lambda frame: frame.clear())
        couples = apply(chosen.filter(is_couple), "couples")
        # Couples first: they say more about a prompt than a right sample alone.
        chosen = _counted(pl.concat([couples, alone]).sort(*_PLACE, pl.col("rejected_vote").is_null(), "rank"))
    else:
        chosen = right
    chosen = keep(chosen, SURPLUS, lambda frame: frame.filter(pl.col("rank") < per_prompt))
    chosen = apply(chosen, "examples").sort(*_PLACE, "rank")
    counts |= {
        "kept": chosen.height,
        "couples": int(chosen["rejected_vote"].is_not_null().sum()) if objective == "dpo" else 0,
        "pairs": chosen["pair_id"].n_unique(),
        "dropped": dropped,
        "letters": {letter: int((chosen["letter"] == letter).sum()) for letter in "AB"},
    }
    if chosen.is_empty():
        raise UserError(_why_empty(objective, counts))
    return check(_rendered(chosen, preferences, template), EXAMPLE, "examples"), counts


def _voted(judgments: pl.DataFrame, preferences: pl.DataFrame) -> pl.DataFrame:
    """Judgments with ``letter``, that of the preferred response in the order shown."""
    if judgments.is_empty():
        raise UserError("there are no judgments; sample some first")
    twice = preferences.filter(pl.col("pair_id").is_duplicated())
    if not twice.is_empty():
        raise UserError(f"preferences: pair id '{twice['pair_id'].min()}' stands for several pairs; ids must be unique")
    unknown = judgments.select("pair_id").unique().join(preferences, on="pair_id", how="anti")
    if not unknown.is_empty():
        raise UserError(
            f"judgments: {unknown.height} pair ids, '{unknown['pair_id'].min()}' among them, are not in the "
            "preferences; give the table the judgments were sampled from"
        )
    voteless = judgments.filter(~pl.col("vote").is_in(["A", "B"]).fill_null(False))
    if not voteless.is_empty():
        raise UserError(
            f"judgments: column 'vote' is {voteless['vote'][0]!r} for pair '{voteless['pair_id'][0]}'; every sample "
            "votes A or B"
        )
    places = judgments.select(_PLACE).unique()
    letters = ["A" if chosen_is_a(pair, swapped) else "B" for pair, swapped in places.iter_rows()]
    places = places.with_columns(pl.Series("letter", letters, dtype=pl.String))
    return judgments.join(places, on=_PLACE, how="left").with_columns(pl.col("rationale").fill_null(""))


def _best_first(frame: pl.LazyFrame) -> pl.LazyFrame:
    """Samples in an order that depends on the samples alone: by mean_token_prob, unknown ones last."""
    return frame.sort(
        *_PLACE, "mean_token_prob", "iteration", "sample_index", "rationale",
        descending=[False, False, True, False, False, False],
        nulls_last=True,
    )  # fmt: skip


def _distinct(frame: pl.LazyFrame) -> pl.LazyFrame:
    """One of several samples with the same text and vote: the others would only weight it."""
    return _best_first(frame).unique([*_PLACE, "rationale", "vote"], keep="first", maintain_order=True)


def _ranked(frame: pl.DataFrame) -> pl.DataFrame:
    """Adds ``rank``: 0 for the best sample of a pair in one order, 1 for the next, …"""
    return _counted(_best_first(frame.lazy()).collect())


def _counted(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(rank=pl.int_range(pl.len()).over(_PLACE))


def _rendered(chosen: pl.DataFrame, preferences: pl.DataFrame, template: str) -> pl.DataFrame:
    """EXAMPLE rows: each prompt is rendered once."""
    places = chosen.select(_PLACE).unique(maintain_order=True).join(
        preferences.select("pair_id", "chosen", "rejected", conversation="prompt"), on="pair_id", how="left",
        maintain_order="left",
    )  # fmt: skip
    prompts = []
    for row in places.iter_rows(named=True):
        a, b, _ = responses(row["pair_id"], row["swapped"], row["chosen"], row["rejected"])
        prompts.append(render_prompt(row["conversation"], a, b, template))
    places = places.select(*_PLACE, pl.Series("prompt", prompts, dtype=EXAMPLE["prompt"]))
    sides = [("", "completion", "completion_ids")]
    if "rejected_vote" in chosen.columns:
        sides.append(("rejected_", "rejected_completion", "rejected_ids"))
    columns: list[pl.Series | pl.Expr] = []
    for side, text, ids in sides:
        texts = [
            vote and render_completion(rationale, Verdict(vote))
            for rationale, vote in chosen.select(f"{side}rationale", f"{side}vote").iter_rows()
        ]
        columns += [pl.Series(text, texts, dtype=pl.String), pl.col(f"{side}token_ids").alias(ids)]
    frame = chosen.with_columns(columns).join(places, on=_PLACE, how="left", maintain_order="left")
    return conform(frame, EXAMPLE)


def _why_empty(objective: str, counts: dict[str, Any]) -> str:
    gone = {why: n for why, n in counts["dropped"].items() if n}
    said = f"no {objective} example is left of {counts['sampled']} judgments "
    said += f"(right {counts['right']}, wrong {counts['wrong']}"
    said += "".join(f"; {why}: {n}" for why, n in gone.items()) + ")"
    if not counts["right"] and objective not in ("labelled", "own"):
        remedy = "no vote was right: sample more pairs or more a prompt, or start from a better judge"
    elif objective == "dpo" and gone.get(UNCOUPLED) == counts["right"] - gone.get(REPEAT, 0):
        remedy = "no prompt has both a right and a wrong vote: sample more a prompt, at a higher temperature"
    else:
        most = max(gone, key=lambda why: gone[why])
        remedy = f"loosen or leave out what dropped most ('{most}'), or sample more"
    return f"{said}; {remedy}"
