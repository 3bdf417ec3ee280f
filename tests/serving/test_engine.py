"""One fault in a batch, inside of the judge: it is that of one request."""

import pytest
import torch

from genrm_lightning.judges.choice import judge_of
from genrm_lightning.samplers.base import SamplingSettings
from genrm_lightning.samplers.local import LocalSampler
from genrm_lightning.serving.engine import Engine
from genrm_lightning.serving.limits import Limits
from genrm_lightning.serving.refusals import Refused, Unfit
from genrm_lightning.serving.service import Service
from genrm_lightning.serving.works import PAIRS, Chat, Drawing, Pair

POISON = "poison"


@pytest.fixture(scope="module")
def engine(judges):
    sampling = SamplingSettings(n_samples=1, rationale_tokens=4)
    engine = Engine(judge_of(str(judges / "STaRSFT"), dtype="float32", sampling=sampling), aloud=False)
    engine.load()
    yield engine
    engine.judge.close()


@pytest.fixture
def poisoned(monkeypatch):
    """The sampler, which some text is too much for once it has begun."""
    sample = LocalSampler.sample

    def failing(self, requests, settings, salt):
        for index, request in enumerate(requests):
            if POISON in request.messages[-1]["content"]:
                raise torch.OutOfMemoryError
            yield from ((index, samples) for _, samples in sample(self, [request], settings, salt))

    def poison():
        monkeypatch.setattr(LocalSampler, "sample", failing)

    return poison


def test_a_pair(engine, poisoned):
    works = [Pair.of(f"Name animal {i}.", "a fox", POISON if i == 2 else "the sky") for i in range(5)]
    alone = engine(PAIRS, works)
    poisoned()
    found = engine(PAIRS, works)
    for i, (one, other) in enumerate(zip(found, alone, strict=True)):
        if i == 2:
            assert isinstance(one, Refused) and one.status == 500 and "OutOfMemoryError" in one.sentence
        else:
            for column in ("rationale", "verdict", "vote", "token_ids"):
                assert one.judgments[column].to_list() == other.judgments[column].to_list()
            assert one.judgments["p_a"].to_list() == pytest.approx(other.judgments["p_a"].to_list(), abs=1e-5)


def test_a_conversation(engine, poisoned):
    drawing = Drawing(1.0, 1.0, 4, 0)
    works = [Chat([{"role": "user", "content": POISON if i == 1 else f"Which {i}?"}], 2) for i in range(4)]
    works.append(Chat([{"role": "user", "content": "long " * 5000}], 1))
    alone = engine(drawing, works)
    poisoned()
    found = engine(drawing, works)
    for i, (one, other) in enumerate(zip(found, alone, strict=True)):
        if i in (1, 4):
            assert isinstance(one, Refused) and one.status == {1: 500, 4: 400}[i]
        else:
            assert one.prompt_tokens == other.prompt_tokens
            assert [sample.token_ids for sample in one.samples] == [sample.token_ids for sample in other.samples]


@pytest.mark.parametrize("temperature", [5e-324, 1e-300, 1e-7, 0.0])
def test_a_temperature_hardly_above_nothing_is_greedy(engine, temperature):
    work = Chat([{"role": "user", "content": "Which?"}], 1)
    found = [engine(Drawing(t, 1.0, 4, 0), [work])[0].samples[0].token_ids for t in (temperature, 0.0)]
    assert found[0] == found[1]


def test_what_a_client_sends_says_nothing_of_the_judge(engine, poisoned, monkeypatch):
    """Behind the queue: batch by batch one prompt that is too much for it, and /health says what is tried instead."""

    def three():
        for _ in range(3):
            with pytest.raises(Refused, match="OutOfMemoryError"):
                service.batcher.submit(PAIRS, [Pair.of("Name an animal.", "a fox", POISON)])[0].result(20)
        return service.status

    poisoned()
    service = Service(engine.judge, "judge", Limits())
    service.engine.aloud = False
    service.start()
    try:
        assert three() == "ok"

        def failing(self, requests, settings, salt):
            raise torch.OutOfMemoryError

        monkeypatch.setattr(LocalSampler, "sample", failing)
        assert three() == "failing"
    finally:
        service.close()


def test_a_pair_that_is_too_long_where_none_may_be(judges):
    """Told as where texts are shortened, and not how to prepare files; no other pair of its batch is harmed."""
    engine = Engine(judge_of(str(judges / "GenRM"), dtype="float32", too_long="error"), aloud=False)
    works = [Pair.of("Name an animal.", "a fox", "long " * (5000 * i) + "sky") for i in range(3)]
    found = engine(PAIRS, works)
    assert not isinstance(found[0], Refused) and all(isinstance(one, Unfit) for one in found[1:])
    engine.judge.close()
