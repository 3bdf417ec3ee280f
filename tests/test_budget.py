"""The context budget: conversations are shortened from their oldest end, nothing else is, and what is lost is said."""

from __future__ import annotations

import json

import polars as pl
import pytest

from data_tools.artifact import write_table
from data_tools.errors import UserError
from data_tools.judging import Verdict, conversation_of, hint
from data_tools.schema import EXAMPLE, PREFERENCE
from genrm_lightning.backbone import BackboneSettings, load_renderer
from genrm_lightning.budget import MARK, Limits, fit_rows, least, shorten
from genrm_lightning.data import Tables
from genrm_lightning.judgments import fitting, requests
from genrm_lightning.objectives import BradleyTerry, GenRM, RationaleDPO, Rationalizer, STaRSFT
from genrm_lightning.samplers.base import SamplingSettings
from genrm_lightning.scoring import score_examples
from tests.objectives.common import fit_config
from tests.tiny import examples, make_trainer, preferences

TALK = [
    {"role": "system", "content": "Be brief, and kind."},
    {"role": "user", "content": "one two three four five six seven eight nine ten"},
    {"role": "assistant", "content": "alpha beta gamma delta epsilon zeta eta theta"},
    {"role": "user", "content": "And what of the éléphants, 象 and the red fox?"},
]


@pytest.fixture(scope="module")
def renderer(tiny_llama):
    return load_renderer(str(tiny_llama))


def roles(talk) -> str:
    return "".join(turn["role"][0] for turn in talk)


def test_every_room_is_used_and_none_is_passed(renderer):
    """At each limit: the end of the talk word for word, system text whole, the mark where something is missing."""
    whole = len(renderer.prompt(TALK))
    room = len(renderer.prompt(least(TALK)))
    assert least(TALK) == [TALK[0], {"role": "user", "content": MARK}]
    seen = set()
    for limit in range(room, whole):
        kept = shorten(TALK, lambda talk: len(renderer.prompt(talk)) - limit, renderer)  # noqa: B023
        assert limit - 24 <= len(renderer.prompt(kept)) <= limit or kept == least(TALK)
        assert kept[0] == TALK[0] and kept[1]["role"] == "user"
        assert json.dumps(kept).count(MARK) in (1, 2)
        told = "".join(turn["content"] for turn in kept[1:]).replace(MARK, "")
        said = "".join(turn["content"] for turn in TALK[1:])
        assert "".join(said.split()).endswith("".join(told.split()))
        seen.add(roles(kept))
    assert seen == {"su", "suau"}
    assert shorten(TALK, lambda talk: len(renderer.prompt(talk)) - room + 1, renderer) is None


def test_turns_are_cut_on_token_boundaries_and_the_first_is_the_users(renderer):
    at = [len(renderer.text(turn["content"])) for turn in TALK]

    def kept(tokens: int):
        """The last so many tokens, by a measure that knows nothing of marks."""
        return shorten(TALK, lambda talk: _text(renderer, talk) - tokens, renderer)

    def _text(renderer, talk) -> int:
        said = (turn["content"].replace(MARK, "").strip() for turn in talk if turn["role"] != "system")
        return sum(len(renderer.text(text)) for text in said if text)

    in_answer = kept(at[3] + at[2] - 5)
    assert roles(in_answer) == "suau" and in_answer[1]["content"] == MARK
    assert in_answer[2]["content"].startswith(MARK) and in_answer[3] == TALK[3]
    tail = in_answer[2]["content"].removeprefix(f"{MARK} ")
    assert tail and TALK[2]["content"].endswith(tail)
    in_question = kept(at[3] - 4)
    assert roles(in_question) == "su" and in_question[1]["content"].startswith(f"{MARK} ")
    assert TALK[3]["content"].endswith(in_question[1]["content"].removeprefix(f"{MARK} "))


def test_a_character_is_never_cut_in_two(renderer):
    talk = [{"role": "user", "content": "象" * 40}]  # three tokens each
    for limit in range(len(renderer.prompt(least(talk))), len(renderer.prompt(talk))):
        kept = shorten(talk, lambda t: len(renderer.prompt(t)) - limit, renderer)  # noqa: B023
        assert set(kept[0]["content"].removeprefix(MARK).strip()) <= {"象"}


# Tables

OLD = "the old tale goes on and on. " * 40


def long_pairs(n: int, long: int) -> pl.DataFrame:
    """PREFERENCE rows, the first ``long`` of them with an old turn of some hundred tokens."""
    table = preferences(n).to_dicts()
    for row in table[:long]:
        row["prompt"] = [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": OLD},
            {"role": "assistant", "content": "I see."},
            *row["prompt"],
        ]
    return pl.DataFrame(table, schema=PREFERENCE)


def long_examples(n: int, long: int) -> pl.DataFrame:
    """EXAMPLE rows in both orders, the first ``long`` pairs with a long conversation; rationales differ in length."""
    pairs, plain = long_pairs(n, long), {row["pair_id"]: row for row in examples(n).to_dicts()}
    rows = []
    for request in requests(pairs, "brief"):
        row = {**plain[request.pair_id], "swapped": request.swapped, "prompt": request.messages}
        if request.swapped:
            row["completion"] = "A longer rationale, of some more words. " + row["completion"]
        rows.append(row)
    return pl.DataFrame(rows, schema=EXAMPLE)


def fitted_trees(objective, data, folder):
    trainer = make_trainer(folder)
    trainer.strategy.connect(objective)
    data.trainer = trainer
    data.setup("fit")
    return data.trees["train"]


KINDS = {"BradleyTerry": BradleyTerry, "GenRM": GenRM, "STaRSFT": STaRSFT}


def make(kind: str, folder, **more):
    named = {} if kind == "BradleyTerry" else {"judge_prompt": "brief"}
    return KINDS[kind](BackboneSettings(str(folder), lora=None), **named, **more)


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_with_long_conversations(tiny_llama, tmp_path, capsys, kind, renderer):
    pairs = kind != "STaRSFT"
    table = long_pairs(6, 2) if pairs else long_examples(6, 2)
    write_table(table, tmp_path / "t.parquet", table.schema)
    objective = make(kind, tiny_llama)
    everything = list(objective.trees(table, renderer))
    short = [tree for tree in everything if tree.pair_id not in ("pair-0", "pair-1")]
    most = max(map(len, short)) + 120
    trees = fitted_trees(objective, Tables(str(tmp_path / "t.parquet"), max_tokens=most), tmp_path)
    assert capsys.readouterr().err == (
        f"{tmp_path / 't.parquet'}: {2 if pairs else 4} of {len(table)} rows shortened, 0 dropped "
        f"(data.max_tokens is {most}, the model's context is 2048)\n"
    )
    assert [tree.pair_id for tree in trees] == [tree.pair_id for tree in everything]
    shown = {}
    for before, after in zip(everything, trees, strict=True):
        assert len(after) <= most
        assert after.branches == before.branches, "responses, rationales and verdicts are whole"
        if after.pair_id not in ("pair-0", "pair-1"):
            assert after.prefix == before.prefix
            continue
        text = renderer.decode(after.prefix)
        assert MARK in text and "Be kind." in text and f"Name an animal. ({after.pair_id[-1]})" in text
        if kind != "BradleyTerry":
            assert "a red fox" in text and "the blue sky" in text
            shown.setdefault(after.pair_id, set()).add(text.split("[End of Conversation]")[0])
    assert all(len(texts) == 1 for texts in shown.values()), "both orders are shortened alike"
    if kind != "BradleyTerry":
        assert max(len(tree) for tree in trees) > most - 50, "as much of the talk as fits"


def test_a_tree_with_a_told_branch(tiny_llama, tmp_path, capsys, renderer):
    """The prompt that tells the answer is the longest way through a Rationalizer's tree; its hint stays."""
    table = long_examples(6, 2)
    write_table(table, tmp_path / "t.parquet", EXAMPLE)
    objective = Rationalizer(BackboneSettings(str(tiny_llama), lora=None), judge_prompt="brief", told_weight=1.0)
    most = max(len(tree) for tree in objective.trees(table, renderer) if tree.pair_id == "pair-5") + 120
    trees = fitted_trees(objective, Tables(str(tmp_path / "t.parquet"), max_tokens=most), tmp_path)
    assert f"4 of 12 rows shortened, 0 dropped (data.max_tokens is {most}" in capsys.readouterr().err
    for tree in trees:
        assert len(tree) <= most and len(tree.branches) == 2
        told = renderer.decode(tree.prefix + tree.branches[-1].ids)
        assert (MARK in told) == (tree.pair_id in ("pair-0", "pair-1"))
        assert sum(hint("brief", letter) in told for letter in (Verdict.A, Verdict.B)) == 1


def test_drop_and_error(tiny_llama, tmp_path, capsys, renderer):
    write_table(long_pairs(6, 2), tmp_path / "t.parquet", PREFERENCE)
    file = str(tmp_path / "t.parquet")
    trees = fitted_trees(make("GenRM", tiny_llama), Tables(file, max_tokens=200, too_long="drop"), tmp_path)
    assert {tree.pair_id for tree in trees} == {f"pair-{i}" for i in range(2, 6)}
    assert f"{file}: 0 of 6 rows shortened, 2 dropped (data.max_tokens is 200" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"pair 'pair-[01]' has \d+ tokens, data.max_tokens is 200; raise it, or drop"):
        fitted_trees(make("GenRM", tiny_llama), Tables(file, max_tokens=200, too_long="error"), tmp_path)
    for policy in ("shorten", "drop"):
        with pytest.raises(UserError, match=r"no row fits: 0 of 6 rows shortened, 6 dropped \(data.max_tokens is 20"):
            fitted_trees(make("GenRM", tiny_llama), Tables(file, max_tokens=20, too_long=policy), tmp_path)


def test_a_row_whose_responses_are_too_long_is_dropped(tiny_llama, tmp_path, capsys):
    table = preferences(3).with_columns(
        chosen=pl.when(pl.col("pair_id") == "pair-1").then(pl.lit(OLD)).otherwise("chosen")
    )
    write_table(table, tmp_path / "t.parquet", PREFERENCE)
    data = Tables(str(tmp_path / "t.parquet"), max_tokens=200)
    assert [tree.pair_id for tree in fitted_trees(make("BradleyTerry", tiny_llama), data, tmp_path)] == [
        "pair-0",
        "pair-2",
    ]
    assert "0 of 3 rows shortened, 1 dropped" in capsys.readouterr().err


def test_a_prompt_of_another_kind_is_dropped(renderer):
    rows = examples(2).with_columns(prompt=pl.lit([{"role": "user", "content": OLD}], dtype=EXAMPLE["prompt"]))
    fitted = fit_rows(rows, lambda some: len(renderer.prompt(some["prompt"][0])) - 100, renderer, "shorten")
    assert fitted.dropped == ["pair-0", "pair-1"] and fitted.shortened == 0


# The reference's log-probabilities belong to a prompt


def dpo(folder) -> RationaleDPO:
    return RationaleDPO(
        BackboneSettings(str(folder), lora=None), judge_prompt="brief", direct_weight=1.0, nll_weight=1.0
    )


def scored(table, tiny_llama, most: int, **policy) -> pl.DataFrame:
    data = {"data": {"init_args": {"max_tokens": most, **policy}}}
    return score_examples(table, str(tiny_llama), {**fit_config(lora=None), **data})


def test_scores_are_of_the_prompts_beside_them(tiny_llama, tmp_path, capsys, renderer):
    table, most = long_examples(4, 2), 260
    found = scored(table, tiny_llama, most)
    assert capsys.readouterr().err.startswith("examples: 4 of 8 rows shortened, 0 dropped (data.max_tokens is 260")
    assert [MARK in row[-1]["content"] for row in found["prompt"]] == [i < 4 for i in _of_long(table)]
    # The same log-probabilities as of those prompts alone, and the fit takes them as they stand.
    again = scored(found.with_columns(ref_logp=None, ref_rejected_logp=None).cast(EXAMPLE), tiny_llama, 10**4)
    for name in ("ref_logp", "ref_rejected_logp"):
        assert again[name].to_list() == pytest.approx(found[name].to_list(), abs=1e-3)
    write_table(found, tmp_path / "scored.parquet", EXAMPLE)
    trees = fitted_trees(dpo(tiny_llama), Tables(str(tmp_path / "scored.parquet"), max_tokens=most), tmp_path)
    assert "shortened" not in capsys.readouterr().err
    assert [tree.prefix for tree in trees] == [renderer.prompt(p) for p in found["prompt"]]


def _of_long(table) -> list[int]:
    """0 to 3 for rows of the long pairs, else 4."""
    return [0 if pair in ("pair-0", "pair-1") else 4 for pair in table["pair_id"]]


def test_a_fit_with_narrower_limits_refuses_stored_scores(tiny_llama, tmp_path, capsys):
    """Also where only the other order of the pair is too long: both would be shortened."""
    found = scored(long_examples(4, 2), tiny_llama, 2000)
    write_table(found, tmp_path / "scored.parquet", EXAMPLE)
    longest = max(map(len, dpo(tiny_llama).trees(found, load_renderer(str(tiny_llama)))))
    for most in (longest - 1, 260):
        data = Tables(str(tmp_path / "scored.parquet"), max_tokens=most)
        with pytest.raises(UserError, match=r"pair 'pair-[01]' is too long .* and its ref_logp is of the whole prompt"):
            fitted_trees(dpo(tiny_llama), data, tmp_path)
    trees = fitted_trees(
        dpo(tiny_llama), Tables(str(tmp_path / "scored.parquet"), max_tokens=260, too_long="drop"), tmp_path
    )
    assert {tree.pair_id for tree in trees} == {"pair-2", "pair-3"}
    with pytest.raises(UserError, match=r"examples: pair 'pair-\d' is too long \(data.max_tokens is 260, the model's"):
        scored(long_examples(4, 2), tiny_llama, 260, too_long="error")
    assert len(scored(long_examples(4, 2), tiny_llama, 260, too_long="drop")) == 4


# Sampling


@pytest.mark.parametrize("told", [None, "right", "wrong"])
def test_judge_prompts_leave_room_for_a_judgment(tiny_llama, renderer, capsys, told):
    settings = SamplingSettings(rationale_tokens=1700)  # of a context of 2048
    pairs = long_pairs(5, 2)
    asked = fitting(pairs, str(tiny_llama), settings, template="brief", told=told, too_long="shorten", where="train")
    said = capsys.readouterr().err
    assert said.startswith("train: 2 of 5 rows shortened, 0 dropped (the model's context of 2048 leaves ")
    room = int(said.split("leaves ")[1].split()[0])
    whole = {(r.pair_id, r.swapped): r.messages for r in requests(pairs, "brief", told)}
    for request in requests(asked, "brief", told):
        before, after = whole[request.pair_id, request.swapped][-1]["content"], request.messages[-1]["content"]
        assert len(renderer.prompt(request.messages)) <= room
        assert after.split("[End of Conversation]")[1] == before.split("[End of Conversation]")[1]
        assert any(hint("brief", letter) in after for letter in (Verdict.A, Verdict.B)) == bool(told)
        assert (
            MARK in conversation_of(request.messages)[1 if len(conversation_of(request.messages)) > 1 else 0]["content"]
        ) == (request.pair_id in ("pair-0", "pair-1"))
    kept = fitting(pairs, str(tiny_llama), settings, template="brief", told=told, too_long="drop", where="train")
    assert kept["pair_id"].to_list() == ["pair-2", "pair-3", "pair-4"]
    assert fitting(pairs, str(tiny_llama), settings, template="brief", told=told, too_long="error", where="t").equals(
        pairs
    )
    with pytest.raises(UserError, match="train: no row fits"):
        fitting(
            pairs, str(tiny_llama), SamplingSettings(rationale_tokens=2040), template="brief", told=told,
            too_long="shorten", where="train",
        )  # fmt: skip


def test_limits():
    assert str(Limits(5, None)) == "data.max_tokens is 5"
