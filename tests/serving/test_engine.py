"""One fault in a batch, inside of the judge: it is that of one request."""

import pytest
import torch

from genrm_lightning.judges.choice import judge_of
from genrm_lightning.samplers.base import SamplingSettings
from genrm_lightning.samplers.local import LocalSampler
from genrm_lightning.serving.engine import Engine
from genrm_lightning.serving.refusals import Refused
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
