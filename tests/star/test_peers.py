"""Equal processes at one stage: one that gives up takes nothing from the others."""

import pytest

from data_tools.artifact import is_complete, write_json
from data_tools.errors import UserError
from genrm_lightning.claims import Claims
from genrm_lightning.star.peers import shared_stage
from genrm_lightning.star.sharing import SHARED
from genrm_lightning.star.stage import STARTED, run_stage

KEY = {"stage": "sample"}


class Drawn:
    def missing(self):
        return []

    def __len__(self):
        return 0


def refused():
    raise UserError("no")


@pytest.mark.parametrize("part", [None, (1, 2)])
def test_one_that_gives_up_leaves_the_others_their_claims(tmp_path, monkeypatch, part):
    def wait(self):
        raise AssertionError("nobody else holds anything")

    def asked():
        with pytest.raises(UserError, match="no"):
            shared_stage(tmp_path, KEY, refused, None, None, part)
        assert (tmp_path / STARTED).exists()
        return Drawn()

    monkeypatch.setattr(Claims, "wait", wait)
    assert shared_stage(tmp_path, KEY, asked, lambda *given: None, lambda shards: {}, part) == []
    assert is_complete(tmp_path, KEY)


def test_the_last_one_to_give_up_leaves_no_trace(tmp_path):
    with pytest.raises(UserError, match="no"):
        shared_stage(tmp_path, KEY, refused, None, None, None)
    assert list(tmp_path.iterdir()) == [] and not (tmp_path / SHARED).exists()


def test_what_is_left_of_one_that_was_killed_before_it_drew_anything(tmp_path):
    (tmp_path / SHARED).mkdir()
    (tmp_path / SHARED / "process-1").write_text("")
    write_json(tmp_path / STARTED, {"key": KEY, "began": 0.0, "seconds": 0.0})
    assert run_stage(tmp_path, KEY | {"seed": 1}, dict).made
