"""When a server says that its judge does not answer."""

import time

import pytest

from genrm_lightning.serving import health
from genrm_lightning.serving.refusals import Refused, Unfit


def ran(watched, *results):
    with watched.batch() as found:
        found.append(results)


def test_three_batches_that_answer_nothing(monkeypatch):
    watched, failed = health.Health(60, lambda: False), Refused(500, "failed")
    for _ in range(2):
        ran(watched, failed, failed)
        assert not watched.failing
    ran(watched, failed, "an answer")  # one pair of it was to blame
    for _ in range(3):
        assert not watched.failing
        ran(watched, failed)
    assert watched.failing
    ran(watched, Unfit("the pair"))  # it was too long, and said so by a judge that works
    assert not watched.failing
    for _ in range(3):
        with pytest.raises(MemoryError), watched.batch():
            raise MemoryError
    assert watched.failing
    monkeypatch.setattr(health, "_REMEMBERED", 0.01)
    time.sleep(0.02)
    assert not watched.failing  # who asks nothing any more is to try again


def test_a_batch_that_hangs():
    watched = health.Health(0.05, lambda: True)
    with watched.batch() as found:
        assert not watched.failing
        time.sleep(0.1)
        assert watched.failing
        found.append(["an answer"])
    assert not watched.failing


def test_what_is_sent_is_to_blame():
    """A judge that answers when it is tried does not fail; it is tried once in three batches that answer nothing."""
    tried, answers = [], [True]

    def works():
        tried.append(1)
        return answers[-1]

    watched, failed = health.Health(60, works), Refused(500, "failed")
    for i in range(9):
        ran(watched, failed)
        assert not watched.failing and len(tried) == (i + 1) // 3
    answers.append(False)
    for _ in range(3):
        ran(watched, failed)
    assert watched.failing
    answers.append(True)
    for _ in range(3):
        ran(watched, failed)
    assert not watched.failing and len(tried) == 5
