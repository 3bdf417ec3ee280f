"""The local sampler against a naive one (a plain forward of every branch from its start), and its cuts and draws."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from data_tools.errors import UserError
from data_tools.judging import CLOSE, FRAME, Verdict, parse, rationale_of
from genrm_lightning.backbone import load_judge, load_renderer
from genrm_lightning.policy import Policy
from genrm_lightning.rendering import Renderer
from genrm_lightning.samplers import local
from genrm_lightning.samplers.base import Request, Sample, SamplingSettings, uniforms
from genrm_lightning.samplers.drawing import draw
from genrm_lightning.samplers.local import LocalSampler
from genrm_lightning.samplers.verdicts import cut

SETTINGS = SamplingSettings(n_samples=3, temperature=1.0, top_p=0.9, rationale_tokens=4, batch_tokens=4096)
SALT = "sample|1|0"
GOLDEN = [[0.1405265735634612, 0.044169425455648836], [0.733039352574271, 0.07004619842069237]]


@pytest.fixture(scope="module")
def renderer(tiny_llama) -> Renderer:
    return load_renderer(str(tiny_llama))


@pytest.fixture(scope="module")
def policy(tiny_llama) -> Policy:
    return load_judge(str(tiny_llama), torch.float32)


@pytest.fixture(scope="module")
def sampler(policy, renderer) -> LocalSampler:
    return LocalSampler(policy, renderer)


def requests() -> list[Request]:
    texts = ["Name an animal.", "Which one?", "a red fox or the blue sky, which one is on topic?", "x"]
    return [
        Request(f"pair-{i}", i % 2 == 1, [{"role": "system", "content": "Compare."}, {"role": "user", "content": text}])
        for i, text in enumerate(texts)
    ]


def judged(
    sampler: LocalSampler, asked: list[Request], settings: SamplingSettings, salt: str = SALT
) -> list[list[Sample]]:
    found = dict(sampler.sample(asked, settings, salt))
    assert sorted(found) == list(range(len(asked)))
    return [found[i] for i in range(len(asked))]


def plain(policy: Policy, ids: list[int]) -> torch.Tensor:
    """Logits behind these ids, from transformers' own forward without a cache."""
    with torch.no_grad():
        return policy.lm(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]


def naive(policy: Policy, renderer: Renderer, request: Request, settings: SamplingSettings, salt: str) -> list[dict]:
    """Every sample by itself: draw a token, run the whole sequence again."""
    steps = settings.rationale_tokens + len(renderer.frame_ids) + 1 + len(renderer.close_ids)
    numbers = uniforms(request, salt, settings.n_samples, steps + 1)
    prompt = renderer.prompt(request.messages)
    result = []
    for row in numbers:
        ids, logps = [], []
        for u in row[:-1]:
            logits = plain(policy, prompt + ids)
            token, logp = draw(logits[None], torch.tensor([u]), settings.temperature, settings.top_p)
            if int(token) in renderer.control_ids:
                break
            ids.append(int(token))
            logps.append(float(logp))
        text = renderer.decode(ids)
        n = min(len(ids), settings.rationale_tokens)
        length = min(len(rationale_of(said)) for said in (text, renderer.decode(ids[:n]) if n < len(ids) else text))
        while n and (len(renderer.decode(ids[:n]).strip()) > length or not renderer.decode(ids[n - 1 : n]).strip()):
            n -= 1
        frame = renderer.frame_ids if n else renderer.text(FRAME.lstrip())
        logits = plain(policy, prompt + ids[:n] + frame)
        p_a = float((logits[renderer.letter_ids["A"]] - logits[renderer.letter_ids["B"]]).sigmoid())
        vote = Verdict.A if row[-1] < p_a else Verdict.B
        result.append({"ids": ids[:n], "logp": sum(logps[:n]), "p_a": p_a, "vote": vote, "text": text})
    return result


def agree(sample: Sample, expected: dict, renderer: Renderer) -> None:
    assert sample.token_ids == renderer.completion(expected["ids"], expected["vote"]).ids
    assert sample.n_tokens == len(expected["ids"])
    assert sample.logp == pytest.approx(expected["logp"], abs=1e-4)
    assert sample.p_a == pytest.approx(expected["p_a"], abs=1e-5)
    assert sample.vote is expected["vote"]
    assert sample.verdict is parse(expected["text"])
    assert sample.rationale == renderer.decode(expected["ids"]).strip()


@pytest.mark.parametrize("changes", [{}, {"temperature": 0.7, "top_p": 1.0}, {"temperature": 1.5, "n_samples": 1}])
def test_the_tree_draws_what_a_plain_forward_of_each_branch_draws(sampler, policy, renderer, changes):
    settings = replace(SETTINGS, **changes)
    for request, samples in zip(requests(), judged(sampler, requests(), settings), strict=True):
        assert len(samples) == settings.n_samples
        for sample, expected in zip(samples, naive(policy, renderer, request, settings, SALT), strict=True):
            agree(sample, expected, renderer)


def test_neither_batches_nor_order_change_a_sample(sampler):
    expected = judged(sampler, requests(), SETTINGS)
    for other in (
        judged(sampler, requests(), replace(SETTINGS, batch_tokens=1)),
        judged(sampler, requests(), replace(SETTINGS, batch_tokens=200)),
        judged(sampler, requests()[::-1], SETTINGS)[::-1],
        [judged(sampler, [request], SETTINGS)[0] for request in requests()],
    ):
        for ours, theirs in zip(chain(*expected), chain(*other), strict=True):
            assert ours.token_ids == theirs.token_ids
            assert ours.p_a == pytest.approx(theirs.p_a, abs=1e-5)
            assert ours.logp == pytest.approx(theirs.logp, abs=1e-4)


def test_the_key_of_a_draw_is_pair_order_sample_and_salt(sampler):
    request = requests()[0]
    first = judged(sampler, [request], SETTINGS)[0]
    assert judged(sampler, [request], SETTINGS)[0] == first
    more = judged(sampler, [request], replace(SETTINGS, n_samples=5))[0]
    assert [s.token_ids for s in more[:3]] == [s.token_ids for s in first]
    for other, salt in (
        (request, "sample|2|0"),
        (replace(request, swapped=True), SALT),
        (replace(request, pair_id="another"), SALT),
    ):
        assert [s.token_ids for s in judged(sampler, [other], SETTINGS, salt)[0]] != [s.token_ids for s in first]
    assert len({tuple(s.token_ids) for s in first}) == 3


def test_requests_may_ask_for_other_samples_than_the_settings(sampler):
    """Samples [0, 8) drawn at once are those drawn in pieces, whatever else is drawn beside them."""
    whole = judged(sampler, requests(), replace(SETTINGS, n_samples=8))
    pieces = [(0, 0, 5), (0, 5, 3), (1, 0, None), (2, 7, 1), (3, 0, 8), (1, 3, 4)]
    asked = [replace(requests()[i], first=first, n_samples=n) for i, first, n in pieces]
    for (i, first, n), found in zip(pieces, judged(sampler, asked, SETTINGS), strict=True):
        expected = whole[i][first : first + (n or SETTINGS.n_samples)]
        assert [s.token_ids for s in found] == [s.token_ids for s in expected]
        assert [s.p_a for s in found] == pytest.approx([s.p_a for s in expected], abs=1e-5)
        assert [s.logp for s in found] == pytest.approx([s.logp for s in expected], abs=1e-4)


def test_a_watcher_sees_the_tokens_as_they_are_drawn(policy, renderer):
    sampler, seen = LocalSampler(policy, renderer), {}
    expected = judged(sampler, requests(), SETTINGS)

    def watch(request, place, ids):
        before = seen.setdefault((request, place), [])
        assert ids[: len(before)] == before and len(ids) == len(before) + 1
        seen[request, place] = list(ids)

    sampler.watch = watch
    assert judged(sampler, requests(), SETTINGS) == expected
    assert len(seen) == 4 * 3
    for (request, place), ids in seen.items():
        sample = expected[request][place]
        assert ids[: sample.n_tokens] == sample.token_ids[: sample.n_tokens]


def test_uniforms_are_golden():
    request = Request("pair", False, [])
    np.testing.assert_allclose(uniforms(replace(request, first=1), "s", 1, 2), GOLDEN[1:], rtol=0, atol=1e-15)
    np.testing.assert_allclose(uniforms(request, "s", 2, 2), GOLDEN, rtol=0, atol=1e-15)
    assert np.array_equal(uniforms(request, "s", 1, 50)[:, :20], uniforms(request, "s", 1, 20))


class Script:
    """Stands in for `draw`: every branch writes the given ids, one after the other, then the end token."""

    def __init__(self, ids: list[int], end: int) -> None:
        self.ids = iter([*ids, *[end] * 500])

    def __call__(self, logits: torch.Tensor, *_) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.full((len(logits),), next(self.ids)), torch.full((len(logits),), -1.0)


@pytest.fixture
def write(sampler, renderer, monkeypatch) -> Callable[..., Sample]:
    """Let the model write these ids (or this text) and judge."""

    def sample(written: list[int] | str, **changes) -> Sample:
        ids = renderer.text(written) if isinstance(written, str) else written
        monkeypatch.setattr(local, "draw", Script(ids, renderer.end_id))
        settings = replace(SETTINGS, n_samples=2, **{"rationale_tokens": 30, **changes})
        first, second = judged(sampler, requests()[:1], settings)[0]
        assert first.token_ids[:-4] == second.token_ids[:-4]
        return first

    return sample


def test_the_models_own_verdict_is_cut_off_and_read_at_the_same_place(write, policy, renderer):
    prompt = renderer.prompt(requests()[0].messages)
    rationale = "It names an animal, the other one does not."
    free = write(rationale)
    for verdict in ("A", "B"):
        sample = write(f"{rationale}{FRAME}{verdict}{CLOSE}")
        assert (sample.rationale, sample.verdict, sample.finish_reason) == (rationale, Verdict(verdict), "stop")
        assert sample.n_tokens == len(renderer.text(rationale))
        logits = plain(policy, [*prompt, *renderer.text(rationale), *renderer.frame_ids])
        expected = float((logits[renderer.letter_ids["A"]] - logits[renderer.letter_ids["B"]]).sigmoid())
        assert sample.p_a == pytest.approx(expected, abs=1e-5)
        assert sample.p_a == pytest.approx(free.p_a, abs=1e-6)
        assert sample.token_ids == renderer.completion(rationale, sample.vote).ids
        assert sample.logp == pytest.approx(-sample.n_tokens)
        assert sample.mean_token_prob == pytest.approx(math.exp(-1))
    assert (free.verdict, free.finish_reason) == (Verdict.INVALID, "stop")


def test_a_verdict_without_a_rationale(write, policy, renderer):
    prompt = renderer.prompt(requests()[0].messages)
    for written in ("Verdict: [[B]]", " \n Verdict: [[B]]", "[[B]]"):
        sample = write(written)
        assert (sample.rationale, sample.n_tokens, sample.verdict) == ("", 0, Verdict.B)
        assert (sample.logp, sample.mean_token_prob, sample.finish_reason) == (0.0, 1.0, "stop")
        assert sample.token_ids == renderer.completion("", sample.vote).ids
        logits = plain(policy, [*prompt, *renderer.text("Verdict: [[")])
        expected = float((logits[renderer.letter_ids["A"]] - logits[renderer.letter_ids["B"]]).sigmoid())
        assert sample.p_a == pytest.approx(expected, abs=1e-5)
    assert write([]).n_tokens == 0


def test_the_budget_ends_a_rationale(write, renderer):
    text = "a red fox is an animal and so it is on topic, the blue sky is none"
    sample = write(text, rationale_tokens=5)
    assert (sample.n_tokens, sample.finish_reason) == (5, "length")
    assert sample.rationale == renderer.decode(renderer.text(text)[:5]).strip()
    # A verdict behind the budget counts as written, and does not make the rationale a whole one.
    n = len(renderer.text("a red fox"))
    sample = write("a red fox" + FRAME + "A" + CLOSE, rationale_tokens=n - 1)
    assert (sample.n_tokens, sample.finish_reason, sample.verdict) == (n - 1, "length", Verdict.A)
    sample = write("a red fox" + FRAME + "A" + CLOSE, rationale_tokens=n)
    assert (sample.n_tokens, sample.finish_reason, sample.verdict) == (n, "stop", Verdict.A)


def test_the_budget_leaves_no_half_frame_behind(write, renderer):
    written = "fox. Verdict: [maybe]"
    for budget in range(3, len(renderer.text(written))):
        sample = write(written, rationale_tokens=budget)
        assert rationale_of(sample.rationale) == sample.rationale


def test_any_control_token_ends_a_sample(write, renderer):
    fox = renderer.text("a red fox")
    for control in renderer.control_ids:
        sample = write([*fox, control, *renderer.text(" Verdict: [[A]]")])
        assert (sample.rationale, sample.n_tokens) == ("a red fox", len(fox))
        assert (sample.verdict, sample.finish_reason) == (Verdict.INVALID, "stop")
        assert not set(sample.token_ids[:-1]) & set(renderer.control_ids)


_PIECES = [
    "fox", " A is", "x[[1]]", "[", "[[", "]]", "A", "B", " ", "\n", "é", "日本", "🦊", ".", "\n\n",
    "Verdict", "Verdict:", "verdict:", " Verdict: [", "\nVerdict: [[", "Verdict: [[A]]", "conVerdict: [[A]]",
    "[[A]]", "VERDICT : [[b", " and [[ B ]]",
]  # fmt: skip


def test_cuts_agree_with_the_text_tools(renderer):
    """What is kept is the rationale that data_tools reads from the text, up to a token that lies across its end."""
    random = np.random.default_rng(0)
    exact = 0
    for _ in range(200):
        text = "".join(random.choice(_PIECES, size=random.integers(1, 9)))
        if random.random() < 0.5:
            ids = renderer.text(text)
        else:  # tokens as a model may draw them: a character each
            ids = [token for character in text for token in renderer.text(character)]
        budget = 1000 if random.random() < 0.7 else int(random.integers(1, 12))
        found = cut([*ids, renderer.end_id], renderer, budget)
        n = found.n
        kept = renderer.decode(ids[:n]).strip()
        assert found.text == text
        assert n <= budget
        if n < len(ids) and budget >= len(ids):
            assert rationale_of(text).startswith(kept)
            boundaries = {renderer.decode(ids[:i]).strip() for i in range(len(ids) + 1)}
            if rationale_of(text) in boundaries:
                assert kept == rationale_of(text), text
                exact += 1
        if budget >= len(ids):
            assert found.reason == "stop"
        rendered = renderer.decode(renderer.completion(ids[:n], Verdict.B).ids)
        assert (rationale_of(rendered), parse(rendered)) == (kept, Verdict.B), text
    assert exact > 25


def test_a_prompt_that_is_too_long_is_refused_by_name(sampler, policy):
    long = Request("pair-9", False, [{"role": "user", "content": "fox " * 3000}])
    for asked in (
        lambda: next(sampler.sample([requests()[0], long], SETTINGS, SALT)),
        lambda: sampler.check([requests()[0], long], SETTINGS),
    ):
        with pytest.raises(UserError, match="pair 'pair-9': its judge prompt has .* context is 2048"):
            asked()
    sampler.check(requests(), SETTINGS)


def test_a_config_without_a_context_sets_no_limit(policy, renderer):
    unlimited = SimpleNamespace(parameters=policy.parameters, base=SimpleNamespace(config=SimpleNamespace()))
    sampler = LocalSampler(unlimited, renderer)
    assert sampler.context is None
    sampler.check([Request("pair-9", False, [{"role": "user", "content": "fox " * 3000}])], SETTINGS)


def test_a_bf16_judge_samples_too(tiny_llama, renderer):
    sampler = LocalSampler(load_judge(str(tiny_llama), torch.bfloat16), renderer)
    for samples in judged(sampler, requests(), SETTINGS):
        assert all(0 < s.p_a < 1 and s.logp <= 0 for s in samples)


@pytest.mark.parametrize(
    "change",
    [
        {"n_samples": 0},
        {"temperature": 0},
        {"top_p": 0},
        {"top_p": 1.5},
        {"batch_tokens": -1},
        {"temperature": math.nan},
        {"verdict_temperature": math.inf},
        {"top_p": math.nan},
    ],
)
def test_settings_that_mean_nothing_are_refused(change):
    with pytest.raises(UserError, match=f"sampling.{next(iter(change))}"):
        SamplingSettings(**change)


# draw


def reference(logits: np.ndarray, u: float, temperature: float, top_p: float) -> int:
    """Nucleus sampling in float64 with a full sort."""
    p = np.exp(logits.astype(np.float64) / temperature)
    p /= p.sum()
    order = np.argsort(-p, kind="stable")
    size = int((np.cumsum(p[order]) - p[order] < top_p).sum())
    cumulated = np.cumsum(p[order[:size]])
    return int(order[np.searchsorted(cumulated, u * cumulated[-1], side="right")])


# Spreads of the logits: nuclei within 64 tokens, within 2,048, and beyond.
@pytest.mark.parametrize("spread", [6.0, 2.0, 0.3])
@pytest.mark.parametrize("temperature, top_p", [(1.0, 0.95), (0.7, 1.0), (2.0, 0.8)])
def test_draws_equal_a_float64_reference(spread, temperature, top_p):
    rows, vocabulary = 48, 6000
    random = np.random.default_rng(0)
    logits = torch.tensor(random.normal(size=(rows, vocabulary)) * spread, dtype=torch.float32)
    u = torch.tensor(random.random(rows))
    tokens, logps = draw(logits, u, temperature, top_p)
    expected = [reference(row, float(x), temperature, top_p) for row, x in zip(logits.numpy(), u, strict=True)]
    same = sum(a == b for a, b in zip(tokens.tolist(), expected, strict=True))
    assert same >= rows - 1  # a u may lie within rounding of an edge
    table = logits.double().log_softmax(-1)
    torch.testing.assert_close(logps.double(), table.gather(1, tokens[:, None])[:, 0], atol=1e-5, rtol=0)


def test_draws_of_rows_with_different_nuclei_do_not_mix():
    peaked = torch.full((6000,), -30.0)
    peaked[17] = 10.0
    flat = torch.zeros(6000)
    middle = torch.full((6000,), -20.0)
    middle[1000:1500] = 5.0
    u = torch.tensor([0.5, 0.999, 0.5, 0.3])
    tokens, _ = draw(torch.stack([peaked, flat, middle, peaked]), u, 1.0, 0.99)
    assert tokens[0] == tokens[3] == 17
    assert 1000 <= tokens[2] < 1500


def test_draws_have_the_exact_distribution():
    p = torch.tensor([0.4, 0.3, 0.2, 0.06, 0.04])
    n = 20_000
    u = (torch.arange(n, dtype=torch.float64) + 0.5) / n  # every quantile once: counts are exact
    logits = p.log().expand(n, -1)
    counts = torch.bincount(draw(logits, u, 1.0, 0.85)[0], minlength=5)
    torch.testing.assert_close(counts / n, torch.tensor([4 / 9, 3 / 9, 2 / 9, 0, 0]), atol=2 / n, rtol=0)
    counts = torch.bincount(draw(logits, u, 1.0, 1.0)[0], minlength=5)
    torch.testing.assert_close(counts / n, p, atol=2 / n, rtol=0)
    sharp = p**2 / (p**2).sum()
    counts = torch.bincount(draw(logits, u, 0.5, 1.0)[0], minlength=5)
    torch.testing.assert_close(counts / n, sharp, atol=2 / n, rtol=0)


def test_the_ends_of_the_unit_interval_stay_in_the_nucleus():
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()
    assert draw(logits, torch.tensor([0.0], dtype=torch.float64), 1.0, 0.9)[0].item() == 0
    assert draw(logits, torch.tensor([1 - 2**-53], dtype=torch.float64), 1.0, 0.9)[0].item() == 2
    assert draw(logits, torch.tensor([1.0]), 1.0, 0.9)[0].item() == 2  # what float32 may round a uniform to
