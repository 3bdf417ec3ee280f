import doctest
import re
import unicodedata

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_tools import ngrams as columns
from data_tools import visible, words
from data_tools.differences import differences
from data_tools.selection.wordlists import word_codes
from data_tools.words import distinct_share, ngrams


@pytest.mark.parametrize("module", [words, visible])
def test_doctests(module):
    found = doctest.testmod(module)
    assert found.attempted and not found.failed


def test_ngrams():
    assert ngrams("") == ngrams("one two") == ngrams("one, two!") == []
    assert ngrams("A b, c-d") == [("a", "b", "c"), ("b", "c", "d")]
    assert ngrams("a a b", 1) == [("a",), ("a",), ("b",)]


def test_punctuation_and_case_hide_no_repetition():
    assert distinct_share("It is good. it is good, IT IS GOOD") == distinct_share("it is good it is good it is good")


def test_tabs_and_line_ends_stay_visible():
    assert visible.visible("a\tb\nc\rd\x00\u2066é") == "a\tb\nc\ufffdd\ufffd\ufffdé"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("今天天气很好。", ["今", "天", "天", "气", "很", "好"]),
        ("日本語のテキスト、カ\u3099ー 2024年", [*"日本語のテキスト", "カ\u3099", "ー", "2024", "年"]),
        ("ที่นี่ ๒๐", ["ที่", "นี่", "๒๐"]),  # a consonant with a vowel and a tone; digits
        ("ສະ", ["ສ", "ະ"]),
        ("ខ្មែរ", ["ខ្", "មែ", "រ"]),
        ("မြန်မာ", ["မြ", "န်", "မာ"]),
        ("한국어 텍스트", ["한국어", "텍스트"]),
        ("GPT很好x_1", ["gpt", "很", "好", "x_1"]),
        ("Straße, naïve Ω-3 Привет", ["straße", "naïve", "ω", "3", "привет"]),
    ],
)
def test_scripts_without_spaces_everywhere_alike(text, wanted):
    assert words.words(text) == wanted
    assert pl.select(columns.words(pl.lit(text))).item().to_list() == wanted
    codes, vocabulary = word_codes(pl.Series([text]))
    assert vocabulary.gather(codes["word"]).to_list() == wanted
    shown = differences(f"{text} a b c", f"{text} a b d")
    assert "".join(piece for piece, marked in shown.first if marked) == "c"


def test_every_letter_of_such_a_script_is_a_word():
    """The ranges are those of the scripts, as polars knows them."""
    every = pl.Series([chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000])
    scripts = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
    inside = every.filter(every.str.contains(rf"^[[{scripts}]&&[\p{{L}}\p{{M}}]]$"))
    missing = inside.filter(~inside.str.contains(f"[{words.UNSPACED}]"))
    rare = {"MYANMAR", "OLD", "VIETNAMESE", "?"}
    assert {unicodedata.name(character, "?").split()[0] for character in missing} <= rare
    others = rf"^[[\p{{L}}\p{{M}}]--[{scripts}\p{{Common}}\p{{Inherited}}]]$"
    assert not every.filter(every.str.contains(others)).str.contains(f"[{words.UNSPACED}]").any()


@given(st.text(st.characters(max_codepoint=0x0DFF)))
def test_nothing_changes_where_words_have_spaces(text):
    assert words.words(text) == re.findall(r"\w+", text.lower())
    both = pl.select(new=columns.words(pl.lit(text)), old=pl.lit(text).str.to_lowercase().str.extract_all(r"\w+"))
    assert both["new"].equals(both["old"])
    assert words._WORD.findall(text) == re.findall(r"\w+", text)


def test_a_chinese_text_can_repeat_itself_and_differ():
    assert distinct_share("很好很好很好很好") == 2 / 6
    changed = differences("今天天气很好，我们去公园散步吧。", "今天天气很坏，我们去公园散步吧。")
    assert [piece for piece in changed.second if piece[1]] == [("坏", True)]
