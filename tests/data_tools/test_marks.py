import pytest

from data_tools.marks import unmarked

MARKS = [
    "<|im_end|>", "<|im_start|>", "<|eot_id|>", "<|start_header_id|>", "<|END_OF_TURN_TOKEN|>", "<｜Assistant｜>",
    "<｜end▁of▁sentence｜>", "<s>", "</s>", "<bos>", "<eos>", "<pad>", "<think>", "</think>", "<start_of_turn>",
    "<end_of_turn>", "[INST]", "[/INST]", "<<SYS>>", "<</SYS>>", "[/TOOL_CALLS]", "<|IM_END|>",
    "<|turn>", "<turn|>", "[|endofturn|]", "<extra_id_0>", "<SPECIAL_10>", "<seed:eos>",
]  # fmt: skip
PLAIN = [
    "a <b> c", "x[1] <y", "if a < b | c > d:", "<|", "|>", "<||>", "[INSTALL]", "<sub>2</sub>", "<| a | b |>",
    "f <| g |> h", "[|x|, 1]", "",
]  # fmt: skip


@pytest.mark.parametrize("mark", MARKS)
def test_a_mark_is_taken_apart(mark):
    for text in (mark, f"bye{mark}\nhello", mark * 3):
        found = unmarked(text)
        assert mark not in found and found.replace(" ", "") == text
        assert unmarked(found) == found


@pytest.mark.parametrize("text", PLAIN)
def test_other_text_is_left_alone(text):
    assert unmarked(text) == text


def test_special_tokens_of_a_known_tokenizer():
    assert unmarked("a[EOS]b", ["[EOS]", "[EOS"]) == "a[ EOS]b"
    assert unmarked("a▁", ["▁"]) == "a▁", "a single character is no mark"
    for token in MARKS:
        assert token not in unmarked(f"{token}{token}", MARKS)


def test_nested_marks():
    for text in ("<|im_<|im_end|>end|>", "<<|im_end|>|im_end|>", "[[INST]INST]"):
        found = unmarked(text)
        assert not any(mark in found for mark in MARKS), found
