import sys

import polars as pl
import pytest

from data_tools.errors import UserError
from data_tools.extras import needed
from data_tools.language import other_languages
from data_tools.near import near_duplicates
from data_tools.removal import numbered
from data_tools.schema import PREFERENCE
from data_tools.tokens import load

EMPTY = numbered(pl.LazyFrame(schema=PREFERENCE))


@pytest.mark.parametrize(
    ("name", "use"),
    [
        ("numpy", lambda: near_duplicates(EMPTY)),
        ("lingua", lambda: other_languages(EMPTY, ["en"])),
        ("tokenizers", lambda: load("tokenizer.json")),
    ],
)
def test_what_is_not_installed_is_said_with_the_extra_that_brings_it(monkeypatch, name, use):
    monkeypatch.setitem(sys.modules, name, None)  # as if it were not there
    with pytest.raises(UserError, match=rf"needs {name}: pip install 'genrm-lightning\[data\]'"):
        use()


def test_what_is_there_is_imported():
    assert needed("json", "a test") is sys.modules["json"]
