import json

import polars as pl
import pytest

from data_tools.errors import UserError
from data_tools.removal import numbered
from data_tools.schema import PREFERENCE, conform
from data_tools.tokens import load, too_many_tokens

tokenizers = pytest.importorskip("tokenizers")


@pytest.fixture(params=[None, "lowercase"])
def tokenizer_file(request, tmp_path):
    """Word-level: a token a run of letters or of other signs; <end> is special."""
    vocabulary = {"[UNK]": 0, "a": 1}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.normalizer = None if request.param is None else tokenizers.normalizers.Lowercase()
    made.add_special_tokens(["<end>"])
    made.post_processor = tokenizers.processors.TemplateProcessing(single="<end> $A", special_tokens=[("<end>", 2)])
    made.enable_truncation(3)
    made.enable_padding(length=9)
    made.save(str(tmp_path / "tokenizer.json"))
    return tmp_path / "tokenizer.json"


def table(rows):
    """rows: (prompt, chosen, rejected)"""
    records = [
        {"pair_id": f"p{i}", "prompt": [{"role": "user", "content": q}], "chosen": c, "rejected": r}
        for i, (q, c, r) in enumerate(rows)
    ]
    schema = {name: PREFERENCE[name] for name in ("pair_id", "prompt", "chosen", "rejected")}
    return numbered(conform(pl.DataFrame(records, schema=schema), PREFERENCE).lazy())


def test_prompt_and_longer_response(tokenizer_file):
    rows = [
        ("a b c", "d e", "f g h"),  # 3 + 3
        ("a b c", "d e", "f g h i"),  # 3 + 4
        ("a b c", "d e f g h", "i"),  # 3 + 5
        ("aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb", "c"),  # 2, of many characters
        ("ä b c d e f", "ö", ""),  # 7
    ]
    for place in (tokenizer_file, tokenizer_file.parent, str(tokenizer_file)):
        found = too_many_tokens(table(rows), 6, load(place))
        assert found.rows() == [(1, "p1", 7.0), (2, "p2", 8.0), (4, "p4", 7.0)]
    assert too_many_tokens(table(rows), 8, load(tokenizer_file)).is_empty()
    assert too_many_tokens(table([]), 1, load(tokenizer_file)).is_empty()


def test_a_special_token_in_a_text_is_text(tokenizer_file):
    rows = [("<end>", "a", "a")]  # "<", "end", ">" and "a"
    assert too_many_tokens(table(rows), 3, load(tokenizer_file))["score"].to_list() == [4.0]


def test_the_bound_in_bytes_changes_nothing(tokenizer_file):
    rows = [("x" * n + " é" * n, "y " * (n % 7), "z" * n) for n in range(30)]
    tokenizer = load(tokenizer_file)

    def tokens(text):
        return len(tokenizer.encode(text, add_special_tokens=False))

    for limit in (1, 5, 10, 20):
        slow = [i for i, (q, c, r) in enumerate(rows) if tokens(q) + max(tokens(c), tokens(r)) > limit]
        assert too_many_tokens(table(rows), limit, tokenizer)["_row"].to_list() == slow


def test_wrong_settings(tmp_path, tokenizer_file):
    with pytest.raises(UserError, match="max_tokens=0"):
        too_many_tokens(table([]), 0, load(tokenizer_file))
    with pytest.raises(UserError, match="no such file"):
        load(tmp_path / "none.json")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="tokenizer.json: no such file"):
        load(tmp_path / "empty")
    (tmp_path / "other.json").write_text(json.dumps({"model": "?"}))
    with pytest.raises(UserError, match="other.json: not a readable tokenizer"):
        load(tmp_path / "other.json")
