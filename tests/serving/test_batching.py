"""The queue alone."""

import threading
import time
from concurrent.futures import wait

import pytest

from genrm_lightning.serving.batching import Batcher
from genrm_lightning.serving.refusals import Refused


class Run:
    """Doubles numbers, in batches that it writes down; held until it is let go."""

    def __init__(self, held=False):
        self.batches, self.free = [], threading.Event()
        if not held:
            self.free.set()

    def __call__(self, group, works):
        self.batches.append((group, works))
        self.free.wait(10)
        if "bad" in works:
            raise RuntimeError("no number")
        return [ValueError("odd") if work % 2 else 2 * work for work in works]


def started(run, **settings):
    batcher = Batcher(run, **{"most": 4, "wait": 0.0, "capacity": 8, **settings})
    batcher.start()
    return batcher


def until(condition):
    limit = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.001)


def test_what_waits_shares_batches_of_its_group():
    run = Run(held=True)
    batcher = started(run, capacity=100)
    first = batcher.submit("x", [0])
    until(lambda: run.batches)
    futures = [*batcher.submit("x", [2, 4]), *batcher.submit("y", [6]), *batcher.submit("x", [8, 10, 12])]
    assert batcher.waiting == 6
    run.free.set()
    assert [one.result(10) for one in first + futures] == [0, 4, 8, 12, 16, 20, 24]
    assert run.batches == [("x", [0]), ("x", [2, 4, 8, 10]), ("y", [6]), ("x", [12])]
    assert batcher.close(10)


def test_the_first_of_a_batch_waits_for_others():
    run = Run()
    batcher = started(run, wait=5.0)
    begun = time.monotonic()
    futures = [batcher.submit("x", [number])[0] for number in (2, 4, 6, 8)]
    assert [one.result(10) for one in futures] == [4, 8, 12, 16] and time.monotonic() - begun < 4
    assert run.batches == [("x", [2, 4, 6, 8])]
    assert batcher.close(10)


def test_errors_are_answers_and_the_thread_goes_on():
    batcher = started(Run())
    one, two = batcher.submit("x", [1, 2])
    assert two.result(10) == 4
    with pytest.raises(ValueError, match="odd"):
        one.result(10)
    for future in batcher.submit("y", ["bad", 4]):
        with pytest.raises(RuntimeError, match="no number"):
            future.result(10)
    assert batcher.submit("x", [4])[0].result(10) == 8
    assert batcher.close(10)


def test_a_full_queue_refuses():
    run = Run(held=True)
    batcher = started(run, capacity=3)
    batcher.submit("x", [0])
    until(lambda: run.batches)
    batcher.submit("x", [2, 4, 6, 8])  # more than its capacity, and nothing else waits
    with pytest.raises(Refused, match="the queue is full") as error:
        batcher.submit("x", [10])
    assert error.value.status == 429 and "Retry-After" in error.value.headers
    late = batcher.submit("x", [12], admitted=True)
    run.free.set()
    assert late[0].result(10) == 24
    assert batcher.close(10)


def test_what_was_cancelled_is_not_run():
    run = Run(held=True)
    batcher = started(run)
    batcher.submit("x", [0])
    until(lambda: run.batches)
    gone, stays = batcher.submit("x", [2, 4])
    assert gone.cancel()
    run.free.set()
    assert stays.result(10) == 8 and run.batches == [("x", [0]), ("x", [4])]
    assert batcher.close(10)


def test_the_end_answers_everybody():
    run = Run(held=True)
    batcher = started(run)
    futures = batcher.submit("x", [0])
    until(lambda: run.batches)
    futures += batcher.submit("x", [2])
    assert not batcher.close(0.05)  # the batch cannot be broken off, but nobody waits for it
    assert not wait(futures, 1).not_done
    assert {one.exception().status for one in futures} == {503}
    with pytest.raises(Refused, match="being stopped"):
        batcher.submit("x", [4])
    run.free.set()
    assert batcher.close(10) and len(run.batches) == 1


def test_a_batch_that_panics_harms_no_later_one():
    """What a library in Rust raises is no Exception, and the one thread must outlive it."""

    class Panic(BaseException):
        pass

    def run(group, works):
        if works[0] == "panic":
            raise Panic
        return works if works[0] != "short" else []

    batcher = Batcher(run, most=1, wait=0.0, capacity=8)
    batcher.start()
    with pytest.raises(Panic):
        batcher.submit("g", ["panic"])[0].result(5)
    with pytest.raises(RuntimeError, match="1 results of a batch, got 0"):
        batcher.submit("g", ["short"])[0].result(5)
    assert batcher.submit("g", ["fine"])[0].result(5) == "fine"
    assert batcher.close(5)


def test_what_is_cancelled_leaves_its_place():
    run, left = Run(held=True), []
    batcher = started(run, most=1, capacity=2, taken_back=lambda: left.append(1))
    batcher.submit("x", [0])
    until(lambda: run.batches)
    gone, stays = batcher.submit("x", [2, 4])
    with pytest.raises(Refused, match="full"):
        batcher.submit("x", [6])
    assert gone.cancel() and batcher.waiting == 1 and left == [1]
    (late,) = batcher.submit("x", [8])
    run.free.set()
    assert (stays.result(10), late.result(10)) == (8, 16) and left == [1]
    assert [works for _, works in run.batches] == [[0], [4], [8]]
    assert batcher.close(10)


def test_a_first_of_a_batch_that_is_cancelled_while_it_waits_ends_nothing():
    batcher = started(Run(), wait=0.2)
    (gone,) = batcher.submit("x", [2])
    time.sleep(0.05)
    assert gone.cancel()
    time.sleep(0.3)
    assert batcher.alive and batcher.submit("x", [4])[0].result(10) == 8
    assert batcher.close(10) and not batcher.alive


def test_large_works_share_no_batch():
    run = Run(held=True)
    batcher = started(run, most=4, room=(10, 100), size=lambda group, work: (work, 1), capacity=100)
    batcher.submit("x", [0])
    until(lambda: run.batches)
    futures = batcher.submit("x", [4, 6, 2, 50, 2, 2, 2, 2, 2])
    run.free.set()
    wait(futures, 10)
    assert [works for _, works in run.batches] == [[0], [4, 6], [2], [50], [2, 2, 2, 2], [2]]
    assert batcher.close(10)


def test_works_that_are_large_in_another_measure_share_no_batch():
    run = Run(held=True)
    batcher = started(run, most=4, room=(100, 10), size=lambda group, work: (1, work * len(group)), capacity=100)
    batcher.submit("x", [0])
    until(lambda: run.batches)
    futures = [*batcher.submit("x", [6, 4, 2]), *batcher.submit("xx", [4, 2, 8])]
    run.free.set()
    wait(futures, 10)
    assert run.batches == [("x", [0]), ("x", [6, 4]), ("x", [2]), ("xx", [4]), ("xx", [2]), ("xx", [8])]
    assert batcher.close(10)
