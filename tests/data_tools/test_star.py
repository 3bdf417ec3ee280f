import doctest
import itertools

import polars as pl
import pytest

from data_tools import star
from data_tools.errors import UserError
from data_tools.judging import Verdict, parse, render_completion, render_prompt
from data_tools.order import chosen_is_a, hash64, responses
from data_tools.schema import EXAMPLE, JUDGMENT, PREFERENCE, conform
from data_tools.selection import texts

PAIRS = [f"pair-{i}" for i in range(8)]
_count = itertools.count()


def preferences(ids=PAIRS):
    rows = [
        {
            "pair_id": i,
            "prompt": [{"role": "user", "content": f"ask {i}"}],
            "chosen": f"good {i}",
            "rejected": f"bad {i}",
        }
        for i in ids
    ]
    names = ("pair_id", "prompt", "chosen", "rejected")
    return conform(pl.DataFrame(rows, schema={name: PREFERENCE[name] for name in names}), PREFERENCE)


def judgment(pair, swapped, right, prob=0.5, rationale=None, **more):
    """One sampled row; ``right``: whether it votes for the chosen response."""
    letter = "A" if chosen_is_a(pair, swapped) == right else "B"
    number = next(_count)
    return {
        "pair_id": pair,
        "swapped": swapped,
        "sample_index": number,
        "rationale": f"reason number {number}" if rationale is None else rationale,
        "token_ids": [number, 7],
        "vote": letter,
        "verdict": "INVALID",  # what the text says plays no part here
        "mean_token_prob": prob,
        "n_tokens": 4,
        **more,
    }


def judgments(rows):
    keys = {key: JUDGMENT[key] for row in rows for key in row}
    return conform(pl.DataFrame(rows, schema=keys), JUDGMENT)


def run(rows, objective="sft", **more):
    return star.examples(judgments(rows), preferences(), objective=objective, **more)


def ids(frame, column="completion_ids"):
    return [row[0] for row in frame[column]]


def test_doctests():
    assert doctest.testmod(texts).failed == 0


@pytest.mark.parametrize("objective", ["sft", "rationalizer"])
@pytest.mark.parametrize("template", ["mt_bench", "brief"])
def test_imitated_are_right_samples_alone(objective, template):
    rows = [
        judgment(pair, swapped, right, rationale=f"{pair} {swapped} {right}")
        for pair, swapped, right in itertools.product(PAIRS, (False, True), (False, True))
    ]
    frame, counts = run(rows, objective, template=template)
    assert frame.schema == EXAMPLE
    assert frame.select("pair_id", "swapped").rows() == [(p, s) for p in PAIRS for s in (False, True)]
    for row in frame.iter_rows(named=True):
        a, b, letter = responses(row["pair_id"], row["swapped"], f"good {row['pair_id']}", f"bad {row['pair_id']}")
        assert row["prompt"] == render_prompt([{"role": "user", "content": f"ask {row['pair_id']}"}], a, b, template)
        assert row["completion"] == render_completion(f"{row['pair_id']} {row['swapped']} True", Verdict(letter))
        assert parse(row["completion"]) == letter
    for column in ("rejected_completion", "rejected_ids", "ref_logp", "ref_rejected_logp"):
        assert frame[column].null_count() == frame.height
    steps = counts.pop("steps")
    assert [step["step"] for step in steps] == list(counts["dropped"])
    assert counts == {
        "sampled": 32, "right": 16, "wrong": 16, "kept": 16, "couples": 0, "pairs": 8, "letters": {"A": 8, "B": 8},
        "dropped": dict.fromkeys([star.REPEAT, *([star.TOLD] if objective == "rationalizer" else []), star.SURPLUS], 0),
    }  # fmt: skip


def test_the_sampled_ids_are_taken_over():
    rows = [judgment("pair-0", False, True, token_ids=[5, 6, 7]), judgment("pair-0", False, False, token_ids=[5, 9])]
    frame, _ = run(rows, "dpo")
    assert frame["completion_ids"].to_list() == [[5, 6, 7]] and frame["rejected_ids"].to_list() == [[5, 9]]


def test_the_most_probable_samples_are_taken():
    rows = [judgment("pair-0", False, True, prob, token_ids=[i]) for i, prob in enumerate([0.2, 0.9, None, 0.5])]
    assert ids(run(rows)[0]) == [1]
    frame, counts = run(rows, per_prompt=3)
    assert ids(frame) == [1, 3, 0]
    assert counts["dropped"] == {star.REPEAT: 0, star.SURPLUS: 1}


def test_the_order_of_the_rows_makes_no_difference():
    rows = [judgment(p, s, r) for p in PAIRS for s in (False, True) for r in (True, True, False, False)]
    for objective in ("sft", "dpo"):
        there, back = (run(order, objective, per_prompt=2) for order in (rows, rows[::-1]))
        assert there[0].equals(back[0]) and there[1] == back[1]


def test_the_same_text_counts_once():
    rows = [judgment("pair-0", False, True, prob, "same", token_ids=[i]) for i, prob in enumerate([0.1, 0.3, 0.2])]
    frame, counts = run(rows, per_prompt=3)
    assert ids(frame) == [1] and counts["dropped"][star.REPEAT] == 2 and counts["right"] == 3


def test_dpo_couples_rank_by_rank_and_uses_no_sample_twice():
    right = [judgment("pair-0", False, True, p, token_ids=[i]) for i, p in [(1, 0.2), (2, 0.9), (3, 0.5)]]
    wrong = [judgment("pair-0", False, False, p, token_ids=[i]) for i, p in [(11, 0.4), (12, 0.8)]]
    frame, counts = run([*right, *wrong], "dpo", per_prompt=3)
    assert list(zip(ids(frame), ids(frame, "rejected_ids"), strict=True)) == [(2, 12), (3, 11)]
    assert counts["dropped"] == {star.REPEAT: 0, star.UNCOUPLED: 1, star.SURPLUS: 0}
    frame, counts = run([*right, *wrong], "dpo", per_prompt=1)
    assert ids(frame) == [2] and counts["dropped"][star.SURPLUS] == 1


def test_right_samples_alone_are_kept_where_asked_for():
    couple = [judgment("pair-0", False, right, p) for right, p in [(True, 0.9), (True, 0.2), (False, 0.5)]]
    alone = [judgment("pair-0", True, True, p) for p in (0.1, 0.3)]
    lost = judgment("pair-1", False, False)
    frame, counts = run([*couple, *alone, lost], "dpo", uncoupled="keep")
    assert ids(frame) == [couple[0]["token_ids"][0], alone[1]["token_ids"][0]]
    assert frame["rejected_completion"].is_null().to_list() == [False, True]
    assert frame["rejected_ids"].is_null().to_list() == [False, True]
    assert (counts["kept"], counts["couples"]) == (2, 1) and star.UNCOUPLED not in counts["dropped"]
    assert run([*couple, *alone, lost], "dpo")[1]["dropped"][star.UNCOUPLED] == 3
    # Nothing to couple with anywhere is no mistake then; and a filter of couples looks at couples alone.
    assert run(alone, "dpo", uncoupled="keep")[1]["couples"] == 0
    frame, _ = run([*couple, *alone], "dpo", uncoupled="keep", filters=["max_length_ratio"], per_prompt=5)
    assert frame.height == 4
    # A couple goes before a right sample alone, however probable that is.
    late = [judgment("pair-0", False, True, p, n_tokens=n) for p, n in [(0.9, 90), (0.1, 4)]]
    late += [judgment("pair-0", False, False, p) for p in (0.9, 0.1)]
    late.append(judgment("pair-0", False, True, 0.05))
    frame, _ = run(late, "dpo", uncoupled="keep", filters=["max_length_ratio"])
    assert ids(frame) == [late[1]["token_ids"][0]]


def test_labelled_takes_every_sample_with_the_labels_verdict():
    rows = [judgment(p, s, r, rationale=f"{p} {s} {r}") for p in PAIRS for s in (False, True) for r in (False, True)]
    frame, counts = run(rows, "labelled", per_prompt=2)
    assert counts["kept"] == 32 and counts["letters"] == {"A": 16, "B": 16}
    for row in frame.iter_rows(named=True):
        assert parse(row["completion"]) == ("A" if chosen_is_a(row["pair_id"], row["swapped"]) else "B")
    assert frame["completion"].str.contains("False\n", literal=False).sum() == 16, "samples with a wrong vote, too"
    # Their ids end in the vote: the text is what counts.
    assert frame["completion_ids"].null_count() == 32


def test_own_takes_the_samples_drawn_first_as_they_are():
    rows = [judgment("pair-0", False, right, p) for p, right in [(0.1, False), (0.9, True), (0.5, True)]]
    rows.append(judgment("pair-1", True, False, 0.2))
    frame, counts = run(rows, "own")
    assert ids(frame) == [rows[0]["token_ids"][0], rows[3]["token_ids"][0]], "not the likeliest, not the right ones"
    assert [parse(text) for text in frame["completion"]] == [rows[0]["vote"], rows[3]["vote"]]
    assert counts["kept"] == 2 and frame["rejected_completion"].null_count() == 2
    assert ids(run(rows, "own", per_prompt=9)[0]) == [row["token_ids"][0] for row in rows]
    with pytest.raises(
        UserError, match=r"no own example is left .*loosen or leave out what dropped most \('min_words'\)"
    ):
        run(rows[:1], "own", filters=["min_words:words=9"])


def test_dpo_never_couples_across_orders_or_pairs():
    rows = [judgment("pair-0", False, True), judgment("pair-0", True, False), judgment("pair-1", False, False)]
    with pytest.raises(UserError, match="no prompt has both a right and a wrong vote"):
        run(rows, "dpo")
    frame, _ = run([*rows, judgment("pair-1", False, True)], "dpo")
    assert frame.select("pair_id", "swapped").rows() == [("pair-1", False)]
    chosen, rejected = frame.select("completion", "rejected_completion").row(0)
    right = "A" if chosen_is_a("pair-1", False) else "B"
    assert parse(chosen) == right != parse(rejected)


@pytest.mark.parametrize(
    "text",
    [
        "I was told that B is better.",
        "I've been told so, so A.",
        "We are told that Response A is better.",
        "The correct answer is given: A.",
        "Since the right answer is already known, B.",
        "As stated, Response A follows the request.",
        "as already stated above, A wins",
        "Response B is said to be better.",
        "It is stated that Response B is better.",
        "The hint says A.",
    ],
)
def test_rationales_that_speak_of_being_told(text):
    rows = [judgment("pair-0", False, True, 0.9, text), judgment("pair-0", False, True, 0.1, "It is shorter.")]
    frame, counts = run(rows, "rationalizer")
    assert "It is shorter." in frame["completion"][0] and counts["dropped"][star.TOLD] == 1
    assert text in run(rows, "sft")[0]["completion"][0]  # nobody was told: it may stand


@pytest.mark.parametrize(
    "text",
    [
        "Response A is in upper case, as requested.",
        "The format is as stated in the request.",
        "We are told that Tom has five apples, and A counts six.",
        "The correct answer is given by Response B alone.",
        "B tells the user what they told it.",
        "A gives the correct answer.",
    ],
)
def test_rationales_that_do_not(text):
    rows = [judgment("pair-0", False, True, 0.9, text)]
    assert run(rows, "rationalizer")[1]["dropped"][star.TOLD] == 0


def test_both_orders():
    rows = [judgment("pair-0", False, True), judgment("pair-0", True, True), judgment("pair-1", False, True)]
    rows += [judgment("pair-1", True, False), judgment("pair-2", True, True)]
    frame, counts = run(rows, filters=["both_orders"])
    assert frame.select("pair_id", "swapped").rows() == [("pair-0", False), ("pair-0", True)]
    assert counts["dropped"]["both_orders"] == 2 and counts["kept"] == 2 and counts["pairs"] == 1


def test_balance_drops_the_surplus_by_hash():
    # of pair-0 … pair-7 in their own order, A is right for 0, 6 and 7 (test_order)
    frame, counts = run([judgment(pair, False, True) for pair in PAIRS], filters=["balance"])
    assert counts["letters"] == {"A": 3, "B": 3} and counts["dropped"]["balance"] == 2
    letter_b = sorted((f"pair-{i}" for i in range(1, 6)), key=lambda pair: hash64("balance", pair))
    assert set(frame["pair_id"]) == {"pair-0", "pair-6", "pair-7", *letter_b[:3]}


def test_balance_keeps_both_orders():
    rows = []
    for i, pair in enumerate(PAIRS):
        for swapped in (False, True):  # letter A: two samples a pair, letter B: one
            rows += [judgment(pair, swapped, True, 0.9 - i / 10) for _ in range(1 + chosen_is_a(pair, swapped))]
    frame, counts = run(rows, filters=["both_orders", "balance"], per_prompt=2)
    assert counts["letters"] == {"A": 8, "B": 8} and counts["dropped"]["balance"] == 8
    assert frame.select("pair_id", "swapped").is_unique().all()


def test_balance_of_one_letter_alone_leaves_nothing():
    with pytest.raises(UserError, match="'balance'"):
        run([judgment("pair-0", False, True)], filters=["balance"])


def test_no_repetition():
    good, run_on, loop = "It is clear and short.", "It is very very very very good.", "it is good and " * 6
    rows = [judgment("pair-0", False, True, prob, text) for prob, text in ((0.1, good), (0.9, run_on), (0.8, loop))]
    frame, counts = run(rows, filters=["no_repetition"], per_prompt=3)
    assert frame["completion"].str.starts_with(good).to_list() == [True]
    assert counts["dropped"]["no_repetition"] == 2
    assert run(rows, filters=["no_repetition:max_run=4"], per_prompt=3)[1]["kept"] == 2
    assert run(rows, filters=["no_repetition: max_run=4, min_distinct=0.1"], per_prompt=3)[1]["kept"] == 3


def test_min_words():
    rows = [judgment("pair-0", False, True, 0.9, "too short"), judgment("pair-0", False, True, 0.1, "one two three")]
    frame, counts = run(rows, filters=["min_words:words=3"])
    assert frame["completion"].str.starts_with("one").to_list() == [True]
    assert counts["dropped"]["min_words"] == 1
    with pytest.raises(UserError, match="min_words: 2"):
        run(rows, filters=["min_words"])


def test_quality_is_asked_of_the_chosen_alone():
    rows = [judgment("pair-0", False, True, rationale="a b c d e f"), judgment("pair-0", False, False, rationale="x")]
    assert run(rows, "dpo", filters=["min_words"])[1]["kept"] == 1


def test_max_length_ratio():
    def couple(pair, chosen, rejected):
        return [judgment(pair, False, True, n_tokens=chosen), judgment(pair, False, False, n_tokens=rejected)]

    rows = couple("pair-0", 4, 8) + couple("pair-1", 9, 4) + couple("pair-2", 4, 9)
    frame, counts = run(rows, "dpo", filters=["max_length_ratio"])
    assert frame["pair_id"].to_list() == ["pair-0"] and counts["dropped"]["max_length_ratio"] == 2
    assert run(rows, "dpo", filters=["max_length_ratio:ratio=2.25"])[1]["kept"] == 3
    with pytest.raises(UserError, match="compares the two samples of a couple; objective sft has none"):
        run(rows, "sft", filters=["max_length_ratio"])


def test_another_couple_steps_in_for_one_that_a_filter_dropped():
    rows = [judgment("pair-0", False, True, 0.9, n_tokens=90), judgment("pair-0", False, True, 0.1, n_tokens=5)]
    rows += [judgment("pair-0", False, False, 0.9, n_tokens=5), judgment("pair-0", False, False, 0.1, n_tokens=5)]
    frame, _ = run(rows, "dpo", filters=["max_length_ratio"], per_prompt=1)
    assert ids(frame) == [rows[1]["token_ids"][0]] and ids(frame, "rejected_ids") == [rows[3]["token_ids"][0]]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"objective": "ppo"}, "objective 'ppo' is unknown; there are: sft, dpo, rationalizer, labelled, own"),
        ({"uncoupled": "maybe"}, "uncoupled 'maybe' is unknown; there are: drop, keep"),
        ({"filters": ["both_order"]}, "filter 'both_order' is unknown; there are: no_repetition, min_words, max_words"),
        ({"filters": ["min_words:n=3"]}, "filter 'min_words' has no parameter 'n'; there are: words"),
        ({"filters": ["balance:x=1"]}, "filter 'balance' has no parameter 'x'; there are: none"),
        ({"filters": ["min_words:words=few"]}, "filter 'min_words': words=few should be a whole number"),
        ({"filters": ["no_repetition:min_distinct"]}, "min_distinct= should be a number"),
        ({"filters": ["min_words:words=-1"]}, "filter 'min_words': words=-1 should be finite and not below 0"),
        ({"filters": ["no_repetition:min_distinct=nan"]}, "min_distinct=nan should be finite"),
        ({"filters": ["no_repetition:min_distinct=inf"]}, "min_distinct=inf should be finite"),
        ({"template": "nope"}, "judge prompt 'nope' is unknown"),
        ({"per_prompt": 0}, "per_prompt=0"),
    ],
)
def test_unknown_names(more, said):
    with pytest.raises(UserError, match=said):
        run([judgment("pair-0", False, True)], **more)


def test_no_judgments():
    with pytest.raises(UserError, match="there are no judgments"):
        star.examples(pl.DataFrame(schema=JUDGMENT), preferences(), objective="sft")


def test_a_judgment_of_an_unknown_pair():
    with pytest.raises(UserError, match="1 pair ids, 'ghost' among them, are not in the preferences"):
        run([judgment("pair-0", False, True), judgment("ghost", False, True), judgment("ghost", True, True)])


@pytest.mark.parametrize("vote", [None, "INVALID"])
def test_a_judgment_without_a_vote(vote):
    with pytest.raises(UserError, match=f"column 'vote' is {vote!r} for pair 'pair-1'"):
        run([judgment("pair-0", False, True), {**judgment("pair-1", False, True), "vote": vote}])


def test_an_id_of_two_pairs():
    with pytest.raises(UserError, match="pair id 'pair-0' stands for several pairs"):
        star.examples(judgments([judgment("pair-0", False, True)]), preferences(["pair-0", "pair-0"]), objective="sft")


def test_an_empty_result_says_why_and_what_to_do():
    wrong = [judgment(pair, False, False) for pair in PAIRS]
    with pytest.raises(
        UserError, match=r"no sft example is left of 8 judgments \(right 0, wrong 8\); no vote was right"
    ):
        run(wrong)
    right = [judgment(pair, False, True) for pair in PAIRS]
    with pytest.raises(
        UserError, match=r"right 8, wrong 0; no wrong sample to couple with: 8\); .* higher temperature"
    ):
        run(right, "dpo")
    with pytest.raises(UserError, match=r"right 8, wrong 0; both_orders: 8\); loosen .*'both_orders'"):
        run(right, filters=["both_orders"])
