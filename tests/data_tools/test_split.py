import polars as pl
import pytest

from data_tools.errors import UserError
from data_tools.order import hash64, unit
from data_tools.schema import PREFERENCE, conform
from data_tools.split import conflicting_prompts, normalised_prompt, part, parts, sample, split, take


def table(rows):
    """rows: (pair_id, prompt text, split)"""
    return conform(
        pl.DataFrame(
            [
                {
                    "pair_id": i,
                    "prompt": [{"role": "user", "content": text}],
                    "split": label,
                    "chosen": "c",
                    "rejected": "r",
                }
                for i, text, label in rows
            ],
            schema={
                "pair_id": pl.String,
                "prompt": PREFERENCE["prompt"],
                "split": pl.String,
                "chosen": pl.String,
                "rejected": pl.String,
            },
        ),
        PREFERENCE,
    )


def labels(frame):
    return dict(frame.select("pair_id", "split").iter_rows())


def test_normalised_prompt():
    turns = [{"role": "user", "content": " Hi\t THERE "}, {"role": "assistant", "content": "X\u00a0\n"}]
    frame = pl.DataFrame({"prompt": [turns, []]}, schema={"prompt": PREFERENCE["prompt"]})
    assert frame.select(normalised_prompt()).to_series().to_list() == ["hi there x", ""]


def test_split_draws_by_the_hash_of_the_normalised_prompt():
    # "prompt 0" … "prompt 299": below 0.2 test, below 0.5 validation
    frame = split(table([(str(i), f"Prompt   {i}", None) for i in range(300)]), validation=0.3, test=0.2)
    for i, label in labels(frame).items():
        at = unit("split", f"prompt {i}")
        assert label == ("test" if at < 0.2 else "validation" if at < 0.5 else "train")
    counts = frame["split"].value_counts()
    assert dict(counts.iter_rows()).keys() == {"train", "validation", "test"}


def test_no_prompt_is_on_two_sides():
    frame = split(table([(f"{i}-{j}", f"q{i}" if j else f" Q{i}", None) for i in range(100) for j in range(3)]))
    sides = (
        frame.with_columns(i=pl.col("pair_id").str.split("-").list.first())
        .group_by("i")
        .agg(pl.col("split").n_unique())
    )
    assert sides["split"].to_list() == [1] * 100
    assert frame["split"].n_unique() == 3


def test_labels_stay_and_twins_follow_them():
    rows = [("a", "q", "test"), ("b", "Q ", None), ("c", "w", "train"), ("d", "w", None), ("e", "w", "validation")]
    done = split(table(rows), validation=0, test=0)
    assert labels(done) == {
        "a": "test", "b": "test", "c": "train", "d": "validation", "e": "validation"
    }  # fmt: skip
    assert conflicting_prompts(done) == 1  # "w", whose labels disagreed before
    assert conflicting_prompts(split(table(rows), redo=True)) == 0


def test_redo_forgets_them():
    rows = [(str(i), f"q{i}", "test") for i in range(20)]
    assert set(labels(split(table(rows), validation=0, test=0, redo=True)).values()) == {"train"}


def test_split_keeps_rows_order_and_columns():
    frame = table([(str(i), f"q{i % 7}", None) for i in range(50)])
    done = split(frame)
    assert done.drop("split").equals(frame.drop("split"))
    assert done.columns == frame.columns


@pytest.mark.parametrize("shares", [(-0.1, 0.1), (0.5, 0.5), (1.0, 0.0), (float("nan"), 0.1)])
def test_shares_out_of_range(shares):
    with pytest.raises(UserError, match="split shares"):
        split(table([("a", "q", None)]), validation=shares[0], test=shares[1])


def test_an_unknown_label():
    said = "^x.parquet: row 2: split 'dev' is unknown; there are: train, validation, test; .* --redo"
    with pytest.raises(UserError, match=said):
        split(table([("a", "q", None), ("b", "q", "dev")]), where="x.parquet")


def test_sample_is_by_hash_and_nested():
    frame = table([(f"p{i}", "q", None) for i in range(100)])
    five = sample(frame, 5)["pair_id"].to_list()
    smallest = sorted(frame["pair_id"], key=lambda pair: hash64("sample", pair))[:5]
    assert five == sorted(smallest, key=lambda pair: int(pair[1:]))  # in the table's order
    assert set(five) < set(sample(frame, 20)["pair_id"])
    assert sample(frame, 100).equals(frame) and sample(frame, 1000).equals(frame)


def prompts(frame):
    return set(frame.select(normalised_prompt()).to_series())


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_parts_are_disjoint_equal_and_whole(n):
    frame = table([(f"{i}-{j}", f"q{i}", None) for i in range(40) for j in range(1 + i % 4)])  # 100 rows
    found = parts(frame, n)
    assert len(found) == n
    assert all(abs(p.height - 100 / n) <= 4 for p in found)
    assert sorted(pl.concat(found)["pair_id"]) == sorted(frame["pair_id"])
    for i in range(n):
        assert all(prompts(found[i]).isdisjoint(prompts(other)) for other in found[i + 1 :])
        assert part(frame, i, n).equals(found[i])


def test_parts_do_not_depend_on_the_order_of_the_rows():
    frame = table([(f"{i}-{j}", f"q{i}", None) for i in range(40) for j in range(1 + i % 4)])
    shuffled = frame.sample(fraction=1, shuffle=True, seed=3)
    assert all(a.equals(b) for a, b in zip(parts(frame, 5), parts(shuffled, 5), strict=True))


def test_parts_by_hand():
    # three prompts in the order of their hash, of 1, 2 and 3 rows; two parts of 3 rows:
    # middles at 0.5, 2 and 4.5 of 6, so the first two prompts are part 0
    names = sorted(["x", "y", "z"], key=lambda name: hash64("part", name))
    frame = table([(f"{name}{j}", name, None) for size, name in enumerate(names, 1) for j in range(size)])
    first, second = parts(frame, 2)
    assert first["pair_id"].to_list() == [f"{names[0]}0", f"{names[1]}0", f"{names[1]}1"]
    assert second["pair_id"].to_list() == [f"{names[2]}{j}" for j in range(3)]


def test_too_many_parts():
    frame = table([(str(i), "one prompt", None) for i in range(10)])
    with pytest.raises(UserError, match="parts=2: the table has 10 pairs over 1 prompts"):
        parts(frame, 2)
    with pytest.raises(UserError, match="parts=0"):
        parts(frame, 0)
    with pytest.raises(UserError, match="parts=1: the table has 0 pairs"):
        parts(frame.clear(), 1)


@pytest.mark.parametrize("index", [-1, 3])
def test_a_part_that_there_is_not(index):
    with pytest.raises(UserError, match="there are only 3 parts"):
        part(table([(str(i), f"q{i}", None) for i in range(10)]), index, 3)


def test_take_leaves_no_prompt_on_both_sides():
    frame = table([(f"p{i}", f"prompt {i // 2}", "train") for i in range(20)])
    taken, rest = take(frame, 5)
    assert len(taken) == 5
    prompts = [set(side.select(normalised_prompt().alias("p"))["p"]) for side in (taken, rest)]
    assert not prompts[0] & prompts[1]
    # Every row is taken, left, or shares its prompt with a taken one.
    assert len(rest) == sum(1 for row in frame.iter_rows(named=True) if row["prompt"][0]["content"] not in prompts[0])
    assert take(frame.reverse(), 5)[0].sort("pair_id").equals(taken.sort("pair_id"))
    with pytest.raises(UserError, match="20 pairs taken leave none of 20"):
        take(frame, 20)
    with pytest.raises(UserError, match="21 pairs are more than the 20"):
        take(frame, 21)


def test_take_from_some_categories():
    frame = table([(f"p{i}", f"prompt {i}", "train") for i in range(20)])
    frame = frame.with_columns(category=pl.Series(["easy", "hard"] * 10))
    taken, rest = take(frame, 6, ["easy"])
    assert set(taken["category"]) == {"easy"} and len(taken) == 6 and len(rest) == 14
    assert take(frame, 10, ["easy"])[1]["category"].unique().to_list() == ["hard"]
    with pytest.raises(UserError, match="11 pairs are more than the 10 there are"):
        take(frame, 11, ["easy"])
    with pytest.raises(UserError, match="no pair has category 'esay'; there are: easy, hard"):
        take(frame, 5, ["esay"])


@pytest.mark.parametrize(("test", "validation"), [(0.1, 0.1), (0.0, 0.3), (1 / 3, 0.0), (0.0, 0.0), (0.7, 0.29)])
def test_the_draw_is_the_projects_one_hash(test, validation):
    """Every prompt's label is what ``unit`` says, however it is worked out."""
    texts = [f"question {i}" for i in range(2000)]
    rows = [{"pair_id": t, "prompt": [{"role": "user", "content": t}], "chosen": "c", "rejected": "r"} for t in texts]
    drawn = split(conform(pl.DataFrame(rows), PREFERENCE), validation=validation, test=test)["split"].to_list()
    at = [unit("split", text) for text in texts]
    assert drawn == ["test" if u < test else "validation" if u < test + validation else "train" for u in at]
