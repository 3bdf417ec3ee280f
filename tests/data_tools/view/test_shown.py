import io

import pytest
from rich.console import Console

from data_tools.errors import UserError
from data_tools.order import chosen_is_a
from data_tools.view.judged import Judgments, said
from data_tools.view.shown import pair
from tests.data_tools.view.judgments import judgment, write

ROW = {
    "pair_id": "p0",
    "group_id": None,
    "source": "hand",
    "category": "math",
    "subset": None,
    "split": "train",
    "prompt": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "How far?"}],
    "chosen": "It is 12 km away.",
    "rejected": "It is 13 km away.",
    "margin": 0.5,
    "label_kind": "human",
}
A = "chosen" if chosen_is_a("p0", False) else "rejected"


def shown(row=None, judgments=(), width=120, colour=False):
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=colour, color_system="standard" if colour else None)
    console.print(pair({**ROW, **(row or {})}, "1 of 9", judgments, width=width, plain=not colour))
    return out.getvalue()


def test_side_by_side_or_one_under_the_other():
    wide = [line for line in shown().splitlines() if "km" in line]
    assert len(wide) == 1 and "It is {+12+} km away." in wide[0] and "It is [-13-] km away." in wide[0]
    narrow = [line for line in shown(width=60).splitlines() if "km" in line]
    assert len(narrow) == 2 and all(len(line) == 60 for line in narrow)


def test_what_is_known_stands_above():
    lines = shown().splitlines()
    assert "1 of 9" in lines[0]
    assert lines[1] == f"id p0 · source hand · category math · split train · label human · margin 0.5 · A is {A}"
    assert [line.strip() for line in lines[3:7]] == ["system", "Be brief.", "user", "How far?"]
    assert f"{A} (A), 17 characters" in shown()


def test_marks_are_colours_in_a_terminal():
    out = shown(colour=True)
    assert "{+" not in out and "\x1b[1;32m12\x1b[0m" in out and "\x1b[1;31m13\x1b[0m" in out


def test_hostile_text_stays_text():
    evil = "[bold]x[/bold] [/] \x1b[31mred\x1b[0m \x07 \u202egnp.exe\r\x9b2J"
    out = shown({"chosen": evil, "rejected": evil + "!", "source": evil, "prompt": [{"role": "user", "content": evil}]})
    assert not any(character in out for character in "\x1b\x07\u202e\r\x9b")
    assert out.count("[bold]x[/bold] [/]") == 4 and out.count("\ufffd[31mred") == 4


def test_no_text_is_lost():
    word = "w" * 100_000
    out = shown({"chosen": word, "rejected": "https://example.org/" + "path" * 100, "prompt": None})
    assert out.count("w") >= 100_000 and out.count("path") >= 90  # some are broken by a line's end
    assert "…" not in out
    assert "(missing)" in shown({"chosen": None})


def test_what_was_judged(tmp_path):
    right, wrong = ("A", "B") if A == "chosen" else ("B", "A")
    likely = 0.75 if right == "A" else 0.25
    rows = [
        judgment("p0", wrong, 1 - likely, iteration=1, sample_index=1, judge="m"),
        judgment("p0", right, 1 - likely, iteration=1, sample_index=0),
        judgment("p0", right, 0.5, swapped=True, iteration=0, sample_index=0, finish_reason="length"),
        judgment("p0", "INVALID", None, iteration=0, sample_index=0),
        judgment("p1", "A", 0.5, iteration=0, sample_index=0),
    ]
    write(tmp_path / "runs" / "judgments.parquet", rows[:3])
    write(tmp_path / "runs" / "deeper" / "other.parquet", rows[3:])
    (tmp_path / "runs" / "manifest.json").write_text("{}")
    judgments = Judgments(tmp_path / "runs")
    assert sorted(judgments.pairs()) == ["p0", "p1"]
    found = judgments.of(["p0", "p9", None])
    assert list(found) == ["p0"]
    other = 1 - likely
    assert [said(one) for one in found["p0"]] == [
        (f"{right} is chosen · no verdict · iteration 0 · sample 0", "invalid"),
        # In the other order the other letter is right.
        (
            f"{wrong} is chosen (order swapped) · verdict {right}: wrong · p(A) 0.50: undecided · iteration 0"
            " · sample 0 · cut off",
            "wrong",
        ),
        (f"{right} is chosen · verdict {right}: right · p(A) {other:.2f}: wrong · iteration 1 · sample 0", "right"),
        (
            f"{right} is chosen · verdict {wrong}: wrong · p(A) {other:.2f}: wrong · iteration 1 · sample 1 · judge m",
            "wrong",
        ),
    ]
    assert shown(judgments=found["p0"]).count("of p0") == 4


def test_folders_without_judgments(tmp_path):
    with pytest.raises(UserError, match="holds no judgments.parquet"):
        Judgments(tmp_path)
    with pytest.raises(UserError, match="no such file"):
        Judgments(tmp_path / "none.parquet")
