"""Shards on disk: what is damaged is drawn again and said, what is another draw's is refused."""

import shutil

import pytest
from polars.testing import assert_frame_equal

from data_tools.errors import UserError
from genrm_lightning.ranks import local_rank, part
from tests.test_judgments import Made, judge, preferences


@pytest.fixture
def whole(tmp_path):
    return judge(tmp_path / "draw", Made())


def damaged(data: bytes, how: str) -> bytes:
    middle = len(data) // 2
    return {
        "empty": b"",
        "cut": data[:middle],
        "zeros": data[:middle] + bytes(len(data) - middle),
        "no": bytes(len(data)),
    }[how]


@pytest.mark.parametrize("how", ["empty", "cut", "zeros", "no"])
def test_a_damaged_shard_is_drawn_again(tmp_path, capfd, whole, how):
    shard = tmp_path / "draw/shard-00001.parquet"
    good = shard.read_bytes()
    shard.write_bytes(damaged(good, how))
    again = Made()
    assert_frame_equal(judge(tmp_path / "draw", again), whole)
    said = capfd.readouterr().err
    assert f"{shard}: the file is damaged; the shard is drawn again\n" in said
    assert len(again.asked) == 4 and shard.read_bytes() == good
    assert f"{tmp_path / 'draw'}: goes on after 3 of 4 shards, none of which is drawn again\n" in said


def test_rows_that_are_not_those_that_were_written_are_never_taken(tmp_path, whole):
    """Wherever a byte of the file is wrong: drawn again, or the very same rows."""
    shard = tmp_path / "draw/shard-00001.parquet"
    good = shard.read_bytes()
    for place in range(7, len(good), len(good) // 60):
        shard.write_bytes(good[:place] + bytes([good[place] ^ 0x10]) + good[place + 1 :])
        assert_frame_equal(judge(tmp_path / "draw", Made()), whole)


@pytest.mark.parametrize("changes", [{"iteration": 3}, {"seed": 4}, {"judge": "k"}, {"told": "right"}, {"pairs": 6}])
def test_a_shard_of_another_draw_is_refused(tmp_path, whole, changes):
    if "pairs" in changes:
        changes = {"pairs": preferences(6).with_columns(chosen=preferences(6)["rejected"])}
    with pytest.raises(UserError, match="shard-00000.parquet: drawn from other pairs, with other settings"):
        judge(tmp_path / "draw", Made(), **changes)


class Served(Made):
    """A server's sampler: it finds out how verdicts are read, and says so once it has checked."""

    def __init__(self, found: str) -> None:
        super().__init__()
        self.found, self.known = found, None

    def check(self, requests, settings):
        self.known = self.found

    def reading(self):
        return self.known


def test_a_table_holds_verdicts_of_one_reading(tmp_path):
    whole = judge(tmp_path, Served("ask without log-probabilities"))
    shard = tmp_path / "shard-00001.parquet"
    good = shard.read_bytes()
    shard.unlink()
    other = Served("continue with log-probabilities")
    with pytest.raises(UserError, match="shard-00000.parquet: its verdicts are .*'ask without .*'continue with") as no:
        judge(tmp_path, other)
    assert "\n" not in str(no.value) and other.asked == [] and not shard.exists()
    assert_frame_equal(judge(tmp_path, Served("ask without log-probabilities")), whole)
    assert shard.read_bytes() == good
    # Two processes that began together may each have found another one: the table is refused, with nothing to draw.
    judge(tmp_path / "other", other)
    shutil.copy(tmp_path / "other/shard-00001.parquet", shard)
    with pytest.raises(UserError, match="must not mix"):
        judge(tmp_path, Served("ask without log-probabilities"))


def test_shards_that_do_not_say_how_they_were_read_go_on(tmp_path, whole):
    (tmp_path / "draw/shard-00001.parquet").unlink()
    again = Served("continue with log-probabilities")
    assert_frame_equal(judge(tmp_path / "draw", again), whole)
    assert len(again.asked) == 4


def test_a_reading_that_is_damaged_refuses_nothing(tmp_path, whole):
    served = tmp_path / "served"
    judge(served, Served("ask without log-probabilities"))
    first = served / "shard-00000.parquet"
    first.write_bytes(first.read_bytes().replace(b"ask without", b"ask wiThout"))
    (served / "shard-00001.parquet").unlink()
    assert_frame_equal(judge(served, Served("ask without log-probabilities")), whole)


@pytest.mark.parametrize(
    ("given", "environment", "found"),
    [
        (None, {}, None),
        ("2/3", {}, (2, 3)),
        ("2/3", {"RANK": "0", "WORLD_SIZE": "4"}, (2, 3)),
        (None, {"RANK": "0", "WORLD_SIZE": "4"}, (1, 4)),
        (None, {"RANK": "0", "WORLD_SIZE": "1"}, None),
        (None, {"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "4"}, (4, 4)),
        (None, {"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, None),  # a batch script: one process
    ],
)
def test_the_part_of_a_process(given, environment, found):
    assert part(given, environment) == found


def test_the_number_on_a_machine():
    assert [local_rank(e) for e in ({}, {"LOCAL_RANK": "3"}, {"SLURM_LOCALID": "2"})] == [0, 3, 2]


@pytest.mark.parametrize("given", ["64", 64, "0/2", "3/2", "1/0", "a/b", "1/2/3", "-1/2", ""])
def test_no_part(given):
    with pytest.raises(UserError, match="--shard: .*i/n") as refused:
        part(given, {})
    assert ("--shard_size" in str(refused.value)) == (str(given) == "64")
