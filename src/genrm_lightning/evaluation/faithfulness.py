"""Whether a judge's verdicts come from its rationales, measured by asking again with other ones.

The forced verdict (:mod:`~genrm_lightning.samplers.base`) is read behind rationales that are given, not sampled: one
judge prompt is one row, the rationales are its branches. The judge is asked

- without a rationale: does the verdict change?
- with a rationale of the same prompt that led it to the other verdict, and with one of another pair that did: does the
  verdict flip? (Sensitivity to the explanation, after arXiv 2307.13702's interventions on a chain of thought.)

A *reader*, a judge that was not trained on these rationales, gets the conversation and the rationale with the responses
hidden: does it say what the judge said, more than without the rationale? (Simulatability without the input, the leakage
of arXiv 2010.04119.) The rationale's log-probability under both gives the drift.

A *side* is the letter with more than half of p(A); at exactly half there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
import torch

from data_tools.errors import UserError
from data_tools.judging import Verdict
from data_tools.order import hash64
from genrm_lightning.backbone import load_judge, load_renderer
from genrm_lightning.budget import TooLong
from genrm_lightning.evaluation.faithfulness_scores import TABLE
from genrm_lightning.judgments import fitting, requests
from genrm_lightning.policy import Policy
from genrm_lightning.prefix import Branch, Role, Tree, collate
from genrm_lightning.rendering import Renderer
from genrm_lightning.samplers.base import SamplingSettings

HIDDEN = "(not shown)"  # what a reader sees in place of either response
_PLACE = ["pair_id", "swapped"]
_BATCH_TOKENS = 8192


@dataclass(frozen=True)
class Reading:
    """What a model says behind a given rationale: p(A) at the verdict, and the rationale's log-probability in nats."""

    p_a: float
    logp: float
    n_tokens: int


@torch.inference_mode()
def read(
    policy: Policy, renderer: Renderer, trees: Sequence[Tree], batch_tokens: int = _BATCH_TOKENS
) -> Iterator[tuple[int, list[Reading]]]:
    """Yield (index of the tree, a reading of each of its branches), longest trees first.

    Args:
        policy: in eval mode.
        trees: judge prompts with judgments as branches (:meth:`Renderer.judgment`); what stands behind a letter is
            not looked at.
    """
    device = next(policy.parameters()).device
    letters = tuple(renderer.letter_ids[v] for v in (Verdict.A, Verdict.B))
    for rows in _batches(trees, batch_tokens):
        batch = collate([trees[i] for i in rows], renderer.pad_id, letters).to(device)
        logps = policy(batch).logps
        a, b = batch.letters(logps)
        readings = iter(
            zip(
                (a - b).sigmoid().tolist(),
                batch.by_branch(logps, [Role.RATIONALE]).tolist(),
                batch.counts([Role.RATIONALE]).tolist(),
                strict=True,
            )
        )
        for i in rows:
            found = [next(readings) for _ in trees[i].branches]
            yield i, [Reading(p_a, logp, int(n)) for p_a, logp, n in found]


def faithfulness(
    judgments: pl.DataFrame,
    preferences: pl.DataFrame,
    judge: str,
    reader: str,
    *,
    template: str,
    dtype: torch.dtype = torch.bfloat16,
    sampling: SamplingSettings | None = None,
    too_long: TooLong = "shorten",
    advance: Callable[[int], None] = lambda prompts: None,
) -> pl.DataFrame:
    """Ask a judge again behind other rationales, and a reader behind the rationales alone.

    Args:
        judgments: JUDGMENT rows of the judge; the rationales that are put in place of one another come from these.
        preferences: PREFERENCE rows of their pairs.
        judge: the judge folder (or backbone) that wrote them.
        reader: one that was not trained on them; its tokenizer may be another.
        template: the judge prompt's name.
        sampling: how the rationales were drawn: it says how far conversations were shortened; None: the longest says.
        too_long: as when they were drawn.
        advance: told how many prompts are done; there are three a presentation.

    Returns:
        TABLE, a row a judgment by pair, order and sample; pairs that do not fit a model's context are left out.

    Raises:
        UserError: no judgments, a judgment of a pair that the preferences lack, or no pair fits.
    """
    if judgments.is_empty():
        raise UserError("there are no judgments of these pairs; name the file they were judged from")
    unknown = judgments.join(preferences, on="pair_id", how="anti")
    if len(unknown):
        raise UserError(
            f"judgments: pair '{unknown['pair_id'].min()}' is not among the pairs; name the file they were judged from"
        )
    longest = judgments["n_tokens"].max()  # None where a server did not say
    sampling = sampling or (SamplingSettings(rationale_tokens=longest) if longest else SamplingSettings())
    pairs = preferences.join(judgments, on="pair_id", how="semi")
    for name in dict.fromkeys((judge, reader)):
        pairs = fitting(
            pairs, name, sampling, template=template, told=None, too_long=too_long, where=f"faithfulness: {name}"
        )
    judgments = judgments.with_columns(pl.col("rationale").fill_null("")).join(pairs, on="pair_id", how="semi")
    rows = judgments.sort(*_PLACE, "sample_index").to_dicts()
    found: list[dict[str, Any]] = [{name: row[name] for name in (*_PLACE, "sample_index")} for row in rows]
    places: dict[tuple[str, bool], list[int]] = {}
    for i, row in enumerate(rows):
        places.setdefault((row["pair_id"], row["swapped"]), []).append(i)
    strangers = _strangers(rows)
    renderer = load_renderer(judge)
    hidden = pairs.with_columns(chosen=pl.lit(HIDDEN), rejected=pl.lit(HIDDEN))

    def behind(i: int, renderer: Renderer, looked_at: bool = False) -> Branch:
        ids = rows[i]["token_ids"] if own_tokens else None
        vote = Verdict(rows[i]["vote"])
        judgment = renderer.judgment("", ids) if ids else renderer.completion(rows[i]["rationale"], vote)
        return _to_letter(judgment, looked_at)

    def without(renderer: Renderer) -> Branch:
        return _to_letter(renderer.completion("", Verdict.A), False)

    def of_judge(at: list[int], renderer: Renderer) -> list[_Question]:
        asked = [_Question(without(renderer), at, "p_a_without")]
        asked += [_Question(behind(i, renderer, True), [i], "p_a", "logp") for i in at]
        donors = [(i, donor) for i in at if (donor := strangers[i]) is not None]
        return asked + [_Question(behind(donor, renderer), [i], "p_a_stranger") for i, donor in donors]

    def of_reader(at: list[int], renderer: Renderer) -> list[_Question]:
        asked = [_Question(without(renderer), at, "reader_p_a_without")]
        return asked + [_Question(behind(i, renderer), [i], "reader_p_a") for i in at]

    def of_base(at: list[int], renderer: Renderer) -> list[_Question]:
        return [_Question(behind(i, renderer, True), [i], None, "reader_logp") for i in at]

    for name, asked in ((judge, [(pairs, of_judge)]), (reader, [(hidden, of_reader), (pairs, of_base)])):
        renderer = load_renderer(name)
        own_tokens = renderer.same_tokens(load_renderer(judge))
        policy = load_judge(name, dtype).to("cuda" if torch.cuda.is_available() else "cpu")
        for shown, questions in asked:
            prompts = {(r.pair_id, r.swapped): renderer.prompt(r.messages) for r in requests(shown, template)}
            _ask(
                policy,
                renderer,
                [(place, prompts[place], questions(at, renderer)) for place, at in places.items()],
                found,
                advance,
            )
        del policy
    for at in places.values():
        for i in at:
            # What the judge says behind the other sample's rationale is what it said there.
            other = next((j for j in at if _side(rows[i]["p_a"]) not in (None, rows[j]["vote"])), None)
            found[i]["p_a_opposite"] = None if other is None else found[other]["p_a"]
            found[i]["stranger"] = None if strangers[i] is None else rows[strangers[i]]["pair_id"]
    return pl.DataFrame(found, schema=TABLE)


@dataclass(frozen=True)
class _Question:
    """A branch, and the columns of which rows its reading fills."""

    branch: Branch
    rows: Sequence[int]
    p_a: str | None
    logp: str | None = None


def _ask(
    policy: Policy,
    renderer: Renderer,
    asked: Sequence[tuple[tuple[str, bool], list[int], list[_Question]]],
    found: list[dict[str, Any]],
    advance: Callable[[int], None],
) -> None:
    trees = [Tree(pair_id, prompt, [q.branch for q in questions]) for (pair_id, _), prompt, questions in asked]
    for index, readings in read(policy, renderer, trees):
        for question, reading in zip(asked[index][2], readings, strict=True):
            for i in question.rows:
                if question.p_a:
                    found[i][question.p_a] = reading.p_a
                if question.logp:
                    found[i][question.logp] = reading.logp
                    found[i].setdefault("n_tokens", reading.n_tokens)  # of the judge, who is asked first
        advance(1)


def _to_letter(judgment: Branch, looked_at: bool) -> Branch:
    """The branch up to its letter, its rationale looked at or not: what nobody asks for costs a vocabulary head."""
    end = judgment.letter_at + 1
    roles = [role if looked_at and role is Role.RATIONALE else None for role in judgment.roles[:end]]
    return Branch(judgment.ids[:end], roles, judgment.letter_at)


def _side(p_a: float | None) -> str | None:
    return None if p_a in (None, 0.5) else "A" if p_a > 0.5 else "B"


def _strangers(rows: Sequence[dict[str, Any]]) -> list[int | None]:
    """For each row one of another pair that voted for the other side, drawn by hash; None where there is none."""
    by_vote = {letter: [i for i, row in enumerate(rows) if row["vote"] == letter] for letter in "AB"}
    donors: list[int | None] = []
    for row in rows:
        side = _side(row["p_a"])
        among = by_vote["B" if side == "A" else "A"] if side else []
        start = hash64("stranger", f"{row['pair_id']}|{row['swapped']}|{row['sample_index']}")
        drawn = (among[(start + step) % len(among)] for step in range(len(among)))
        donors.append(next((i for i in drawn if rows[i]["pair_id"] != row["pair_id"]), None))
    return donors


def _batches(trees: Sequence[Tree], budget: int) -> Iterator[list[int]]:
    """Indices of trees of like length, padded together within the token budget; longest first."""
    batch: list[int] = []
    for index in sorted(range(len(trees)), key=lambda i: (-len(trees[i]), i)):
        if batch and (len(batch) + 1) * len(trees[batch[0]]) > budget:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
