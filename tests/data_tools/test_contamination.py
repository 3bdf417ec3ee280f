"""The rule worked out by hand, and against a slow version of it in plain Python."""

from dataclasses import replace

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_tools import contamination, sources
from data_tools.contamination import contaminated, evaluation
from data_tools.errors import UserError
from data_tools.memory import DEFAULT
from data_tools.removal import numbered
from data_tools.schema import PREFERENCE, conform


def table(prompts, name="t"):
    """PREFERENCE, lazy; ids are the name and the place."""
    rows = [{"pair_id": f"{name}{i}", "prompt": turns(text), "chosen": "x", "rejected": "y"} for i, text in prompts]
    return conform(pl.DataFrame(rows, schema={key: PREFERENCE[key] for key in COLUMNS}), PREFERENCE).lazy()


COLUMNS = ("pair_id", "prompt", "chosen", "rejected")


def turns(text):
    return [{"role": "user", "content": text}]


def found(train, test, ngram=8, coverage=0.5, **settings):
    """[(pair id, the match's file and id, share, words)]"""
    against = {file: table(enumerate(prompts), file) for file, prompts in test.items()}
    rows = numbered(table(enumerate(train)))
    result = contaminated(rows, evaluation(against, ngram), coverage=coverage, **settings)
    assert result.schema == contamination.FOUND
    assert result["pair_id"].to_list() == [f"t{row}" for row in result["_row"]]
    return list(result.drop("_row", "file").iter_rows())


TEN = "a b c d e f g h i j"


def test_half_of_the_words_of_one_evaluation_prompt():
    # Of 16 words eight are in the one 8-gram that both have: exactly half. Of 17 they are less.
    sixteen, seventeen = f"{TEN} 1 2 3 4 5 6", f"{TEN} 1 2 3 4 5 6 7"
    train = "say: A, b. c! d e f g h -- and no more of it"
    assert found([train], {"e": [sixteen]}) == [("t0", "e0", 0.5, "a b c d e f g h")]
    assert found([train], {"e": [seventeen]}) == []
    assert found([train], {"e": [seventeen]}, coverage=8 / 17) == [("t0", "e0", 8 / 17, "a b c d e f g h")]


def test_overlapping_ngrams_cover_a_word_once():
    # abcdefgh, bcdefghi: nine words of eleven
    assert found(["a b c d e f g h i z"], {"e": [f"{TEN} k"]}) == [("t0", "e0", 9 / 11, "a b c d e f g h i")]


def test_the_shares_of_several_evaluation_prompts_do_not_add_up():
    other = "k l m n o p q r s t"
    train = "a b c k l m"
    assert found([train], {"e": [TEN, other]}, ngram=3) == []
    assert found([train], {"e": [TEN, other]}, ngram=3, coverage=0.3)[0][:3] == ("t0", "e0", 0.3)


def test_the_best_match_is_named_and_of_equals_the_first():
    train = [f"{TEN} k l"]
    assert found(train, {"e": [f"{TEN} x"], "f": [TEN, TEN]}) == [("t0", "f0", 1.0, TEN)]
    assert found(train, {"e": [f"{TEN} x"], "f": [f"{TEN} y"]}) == [("t0", "e0", 10 / 11, TEN)]


def test_the_longest_run_of_words_is_shown():
    gap = "a b c d x y z e f g h i j"
    assert found(["a b c d ... e f g h i j"], {"e": [gap]}, ngram=3) == [("t0", "e0", 10 / 13, "e f g h i j")]


def test_short_prompts_match_as_the_same_normalised_text_alone():
    test = {"e": ["What is  love?", "?!"]}
    train = ["what is LOVE?\n", "What is love, what is love, what is love", "What is love", "?!"]
    assert [row[:3] for row in found(train, test)] == [("t0", "e0", 1.0), ("t3", "e1", 1.0)]


def test_a_repeated_ngram_of_the_evaluation_prompt_is_covered_everywhere():
    assert found(["a b c"], {"e": ["a b c x a b c y"]}, ngram=3) == [("t0", "e0", 6 / 8, "a b c")]


def test_all_turns_count():
    rows = numbered(
        table(enumerate([TEN])).with_columns(prompt=pl.lit(pl.Series([turns("a b c d e f") + turns("g h i j")])))
    )
    assert contaminated(rows, evaluation({"e": table(enumerate([TEN]))}))["score"].to_list() == [1.0]


def test_scripts_without_spaces():
    assert [row[2] for row in found(["请问法国的首都是哪里呢"], {"e": ["法国的首都是哪里？"]})] == [1.0]


def test_wrong_settings():
    for wrong in (0, 1.01):
        with pytest.raises(UserError, match="coverage="):
            found(["a"], {"e": ["a"]}, coverage=wrong)
    with pytest.raises(UserError, match="ngram=1"):
        found(["a"], {"e": ["a"]}, ngram=1)
    with pytest.raises(UserError, match="--against"):
        found(["a"], {})


def test_empty_tables():
    assert found([], {"e": [TEN]}) == [] and found([TEN], {"e": []}) == []


def slow(train, test, n, coverage):
    """{row: (evaluation prompt, share)} by the rule's own words."""
    result = {}
    for row, text in enumerate(train):
        mine = text.split()
        have = {tuple(mine[i : i + n]) for i in range(len(mine) - n + 1)}
        for place, prompt in enumerate(test):
            its = prompt.split()
            covered = {i + k for i in range(len(its) - n + 1) if tuple(its[i : i + n]) in have for k in range(n)}
            share = len(covered) / len(its) if len(its) >= n else float(its == mine)
            if share >= coverage and share > result.get(row, (0, 0))[1]:
                result[row] = (place, share)
    return result


text = st.lists(st.sampled_from("abc"), min_size=1, max_size=14).map(" ".join)
texts = st.lists(text, min_size=1, max_size=10)


@settings(max_examples=12)
@given(texts, texts, st.integers(2, 5), st.sampled_from([0.2, 0.5, 0.75, 1.0]), st.sampled_from([5, 1000]))
def test_as_the_slow_version_in_any_portions(train, test, n, coverage, portion):
    test = list(dict.fromkeys(test))
    small = replace(DEFAULT, bytes=portion * contamination._PLACE, text=1100)  # four rows a batch
    seen = {int(row[0][1:]): (int(row[1][1:]), row[2]) for row in found(train, {"e": test}, n, coverage, memory=small)}
    assert seen == slow(train, test, n, coverage)


def test_real_pairs(pairs_folder):
    """Problems of GSM8K: no test prompt is in the training rows, one shares half of its words with another problem."""
    rows = sources.read(pairs_folder / "gsm8k_solutions.jsonl.gz").lazy()
    train, test = (rows.filter(pl.col("split") == split) for split in ("train", "test"))
    known = evaluation({"test": test})
    assert contaminated(numbered(train), known, coverage=0.75).is_empty()
    found = contaminated(numbered(train), known)
    assert set(found["words"]) == {"coins there are 30 more gold coins than silver coins"}
    assert found["score"].to_list() == [0.5] * found.height and found.height == 3
    itself = contaminated(numbered(test), known, coverage=1.0)
    assert itself.height == test.select(pl.len()).collect().item()
