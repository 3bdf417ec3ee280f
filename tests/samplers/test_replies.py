"""Answers of OpenAI-compatible servers, in the shapes that they come in."""

import json
import math

import pytest

from data_tools.judging import CLOSE, FRAME, rationale_of
from genrm_lightning.samplers.replies import Garbage, cut, p_of_a, replies, usage


def chat(text, tokens=None, finish="stop", **message):
    """As /chat/completions answers; tokens: (text, log-probability, {other: …})."""
    logprobs = tokens and {"content": [
        {"token": t, "logprob": p, "bytes": list(t.encode()),
         "top_logprobs": [{"token": o, "logprob": q} for o, q in tops.items()]}
        for t, p, tops in tokens
    ]}  # fmt: skip
    message = {"role": "assistant", "content": text} | message
    return {"choices": [{"index": 0, "message": message, "logprobs": logprobs, "finish_reason": finish}]}


def old(text, tokens=None, finish="stop"):
    """As /completions answers, in the parallel lists of old."""
    logprobs = tokens and {
        "tokens": [t for t, _, _ in tokens], "token_logprobs": [p for _, p, _ in tokens],
        "top_logprobs": [tops for _, _, tops in tokens],
    }  # fmt: skip
    return {"choices": [{"index": 0, "text": text, "logprobs": logprobs, "finish_reason": finish}]}


def said(tokens):
    return "".join(token for token, _, _ in tokens)


def words(*texts):
    return [(text, -0.5, {}) for text in texts]


@pytest.mark.parametrize("shape", [chat, old])
def test_a_rationale_ends_where_its_verdict_begins(shape):
    tokens = words("A is", " short", ".", "\n", "Verdict", ":", " [[", "A", "]]")
    (reply,) = replies(shape(said(tokens), tokens))
    found = cut(reply, 100)
    assert (found.text, found.n_tokens, found.logprobs) == ("A is short.", 3, [-0.5] * 3)
    assert found.finish_reason == "stop"
    short = cut(reply, 2)
    assert (short.text, short.n_tokens, short.finish_reason) == ("A is short", 2, "length")


def test_a_rationale_without_tokens_is_counted_by_the_server():
    body = chat(f"A is short.{FRAME}A{CLOSE}") | {"usage": {"prompt_tokens": 9, "completion_tokens": 20}}
    found = cut(replies(body)[0], 100)
    assert (found.text, found.logprobs, found.finish_reason) == ("A is short.", None, "stop")
    assert found.n_tokens == round(20 * 11 / len(f"A is short.{FRAME}A{CLOSE}"))
    assert cut(replies(chat("A is", finish="length"))[0], 100).finish_reason == "length"


def test_tokens_that_do_not_spell_the_text_are_not_trusted():
    tokens = words("A", " is", " shorter")
    assert cut(replies(chat("A is short", tokens))[0], 9).logprobs is None
    ended = [*words("A", " is"), ("", -0.1, {})]
    assert cut(replies(chat("A is", ended))[0], 9).logprobs == [-0.5, -0.5], "the end of the turn is no text"


def test_tokens_may_end_within_a_character():
    body = chat("é!", words("x", "y", "!"))
    for token, data in zip(body["choices"][0]["logprobs"]["content"], (b"\xc3", b"\xa9", b"!"), strict=True):
        token["bytes"] = list(data)
    (reply,) = replies(body)
    assert cut(reply, 9).n_tokens == 3
    assert cut(reply, 1).text == ""


def test_budgets_leave_no_half_frame_behind():
    tokens = words("fox", ".", " Verdict", ":", " [", "maybe", "]")
    for budget in range(1, 8):
        found = cut(replies(chat(said(tokens), tokens))[0], budget)
        assert rationale_of(found.text) == found.text and found.n_tokens <= budget


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize("shape", [chat, old])
def test_letters_with_and_without_blanks_count_together(shape):
    tops = {"A": -2.0, " A": -3.0, "B": -1.5, "The": -0.5}
    expected = (math.exp(-2) + math.exp(-3)) / (math.exp(-2) + math.exp(-3) + math.exp(-1.5))
    assert p_of_a(replies(shape("The", [("The", -0.5, tops)]))[0]) == pytest.approx(expected)
    only = {"B": -0.1, "The": -3.0}
    assert p_of_a(replies(shape("B", [("B", -0.1, only)]))[0]) == pytest.approx(0, abs=1e-9)
    assert p_of_a(replies(shape("Ah", [("Ah", -0.1, {"Ah": -0.1, "x": -9999.0})]))[0]) is None


def test_far_apart_letters_do_not_overflow():
    for a, b, p in ((-0.0, -9999.0, 1.0), (-9999.0, -0.0, 0.0), (-50.0, -51.0, sigmoid(1))):
        assert p_of_a(replies(chat("A", [("A", a, {"A": a, "B": b})]))[0]) == pytest.approx(p)


@pytest.mark.parametrize(
    ("text", "p"), [("A", 1.0), (" B]]", 0.0), ("[[A", 1.0), ("Answer", None), ("", None), ("C", None)]
)
def test_a_letter_alone(text, p):
    assert p_of_a(replies(chat(text))[0]) == p
    assert p_of_a(replies(chat(f"so it is{FRAME}{text}"))[0], f"so it is{FRAME}") == p, "repeated by the server"


@pytest.mark.parametrize(
    ("text", "p"),
    [
        ("Response B.", 0.0),
        ("[[A]] and not B", 1.0),
        ("I'd say A", 1.0),
        ("Both", None),
        ("B's", None),
        ("The answer is **A**", 1.0),
    ],
)
def test_a_letter_that_was_asked_for(text, p):
    assert p_of_a(replies(chat(text))[0], anywhere=True) == p
    tokens = [("It is", -0.1, {"It is": -0.1, "A": -5.0}), (" **B", -0.2, {" **B": -0.2, "A": -1.2})]
    found = p_of_a(replies(chat("It is **B", tokens))[0], anywhere=True)
    assert found == pytest.approx(sigmoid(-1.0)), "where the letter stands"


def test_a_server_that_splits_thoughts_off():
    (reply,) = replies(chat(None, reasoning_content="A is shorter."))
    assert reply.text == "A is shorter."
    assert replies(chat(None))[0].text == ""


def test_half_a_surrogate_pair_is_no_text():
    body = json.loads('{"choices": [{"message": {"content": "a\\ud83e b\\ud83e\\udd8a"}}]}')
    assert replies(body)[0].text == "a\ufffd b🦊"
    replies(body)[0].text.encode()


@pytest.mark.parametrize(
    "body",
    [
        None, [], "x", {}, {"choices": []}, {"choices": None}, {"choices": ["a"]}, {"choices": [{}]},
        {"choices": [{"message": "x"}]}, {"choices": [{"message": {"content": 3}}]}, {"choices": [{"text": None}]},
        chat("a", [("a", "much", {})]), chat("a", [("a", math.nan, {})]), chat("a", [("a", 10**400, {})]),
        {"choices": [{"text": "a", "logprobs": {"tokens": ["a", "b"], "token_logprobs": [0.0]}}]},
        {"choices": [{"text": "a", "logprobs": "none"}]}, {"error": {"message": "later"}},
    ],
)  # fmt: skip
def test_what_is_no_answer(body):
    with pytest.raises(Garbage):
        replies(body)


def test_no_log_probability_is_above_zero():
    (reply,) = replies(chat("A", [("A", 1000.0, {"A": math.inf, "B": -math.inf})]))
    assert reply.tokens[0].logprob == reply.tokens[0].top["A"] == 0 and p_of_a(reply) == 1


def test_counts():
    assert usage({"usage": {"prompt_tokens": 3, "completion_tokens": 4}}).prompt == 3
    for body in ({}, {"usage": None}, {"usage": {"prompt_tokens": "3"}}, {"usage": {"prompt_tokens": -1}}):
        assert usage(body).prompt is None
