"""Rewards behind the queue: what they hold in memory, and how they end."""

import threading
import time
import tracemalloc
from concurrent.futures import CancelledError

import pytest

from genrm_lightning.judges.choice import judge_of
from genrm_lightning.ranking.rewards import JudgeReward
from genrm_lightning.serving.batching import Batcher
from genrm_lightning.serving.queued import QueuedJudge

PROMPT = "word " * 200_000


@pytest.fixture(scope="module")
def judge(judges):
    return {kind: judge_of(str(judges / kind), dtype="float32") for kind in ("BradleyTerry", "GenRM")}


class Held:
    """A batch that is not answered until it is let go."""

    def __init__(self):
        self.works, self.free = [], threading.Event()

    def __call__(self, group, works):
        self.works += works
        self.free.wait(10)
        return [ValueError("let go")] * len(works)


@pytest.mark.parametrize("kind", ["BradleyTerry", "GenRM"])
@pytest.mark.parametrize("turns", [False, True])
def test_a_long_prompt_is_there_once(judge, kind, turns):
    """A megabyte before each of 60 responses, queued and in a batch: one more that names the group, and no more."""
    run = Held()
    batcher = Batcher(run, most=32, wait=0.0, capacity=1000)
    batcher.start()
    prompt = [{"role": "user", "content": PROMPT}] if turns else PROMPT
    found = []

    def ask():
        try:
            JudgeReward(QueuedJudge(judge[kind], batcher, time.monotonic() + 60))(
                [prompt] * 60, list(map(str, range(60)))
            )
        except ValueError as error:
            found.append(str(error))

    tracemalloc.start()
    thread = threading.Thread(target=ask)
    thread.start()
    while not (run.works and batcher.waiting) and thread.is_alive():
        time.sleep(0.01)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    waiting = batcher.waiting
    run.free.set()
    thread.join()
    assert batcher.close(10)
    assert found == ["let go"] and waiting >= 60 - 32
    assert all(work.prompt is prompt for work in run.works)
    assert held < 2 * len(PROMPT) and peak < 6 * len(PROMPT)


def test_giving_up_takes_back_what_waits(judge):
    run = Held()
    batcher = Batcher(run, most=1, wait=0.0, capacity=1000)
    batcher.start()
    queued = QueuedJudge(judge["BradleyTerry"], batcher, time.monotonic() + 60)
    ended = []

    def ask():
        try:
            queued.judge_rows([(str(i), "prompt", "first", "second") for i in range(5)])
        except CancelledError:
            ended.append("given up")
        except ValueError:  # its first pair runs, and cannot be taken back
            ended.append("answered")

    thread = threading.Thread(target=ask)
    thread.start()
    while batcher.waiting != 4:
        time.sleep(0.01)
    queued.give_up()
    assert batcher.waiting == 0
    with pytest.raises(CancelledError):
        queued.judge_rows([("6", "prompt", "first", "second")])
    assert batcher.waiting == 0
    run.free.set()
    thread.join()
    assert ended == ["answered"] and len(run.works) == 1
    assert batcher.close(10)
