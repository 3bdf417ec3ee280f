import polars as pl
import pytest

from data_tools.errors import UserError
from data_tools.language import other_languages
from data_tools.removal import numbered
from data_tools.schema import PREFERENCE, conform

pytest.importorskip("lingua")

ROWS = {
    "english": ("What is the capital of France, and why?", "The capital of France is Paris, for historical reasons."),
    "german": ("Was ist die Hauptstadt von Frankreich?", "Die Hauptstadt von Frankreich ist Paris, seit langer Zeit."),
    "french": ("Quelle est la capitale de la France ?", "La capitale de la France est Paris depuis longtemps."),
    "japanese": ("フランスの首都はどこですか、教えてください。", "フランスの首都はパリです。とても美しい街です。"),
    "short": ("ja?", "nein"),
    "digits": ("1 + 1 = ?", "2 2 2 2 2 2 2 2 2 2 2 2 2 2 2 2"),
    "code": ("?", "```python\nfor element in container: print(element, container, sep=separator)\n```"),
    "nothing": ("", ""),
}


def table():
    records = [
        {"pair_id": name, "prompt": [{"role": "user", "content": q}], "chosen": c, "rejected": ROWS["french"][1]}
        for name, (q, c) in ROWS.items()
    ]
    schema = {name: PREFERENCE[name] for name in ("pair_id", "prompt", "chosen", "rejected")}
    return numbered(conform(pl.DataFrame(records, schema=schema), PREFERENCE).lazy())


def test_certainly_other_languages_go_and_the_uncertain_stay():
    gone, uncertain = other_languages(table(), ["en"])
    assert gone.rows() == [(1, "german", "de"), (2, "french", "fr"), (3, "japanese", "ja")]
    assert uncertain == 4
    gone, uncertain = other_languages(table(), ["DE", "ja"])
    assert gone["pair_id"].to_list() == ["english", "french"] and uncertain == 4
    gone, uncertain = other_languages(table().head(0), ["de"])
    assert gone.is_empty() and uncertain == 0


def test_unknown_languages():
    with pytest.raises(UserError, match="language 'xx' is unknown; there are: af, "):
        other_languages(table(), ["en", "xx"])
    with pytest.raises(UserError, match="no languages to keep"):
        other_languages(table(), [])
