import itertools
import json
from fractions import Fraction

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_tools import __main__ as cli
from data_tools import artifact, mix
from data_tools.allocation import allocate, largest, possible, quotas
from data_tools.errors import UserError
from data_tools.order import hash64
from data_tools.schema import PREFERENCE, conform


def table(path, n, **same):
    """``n`` pairs; values of ``same`` may be functions of the row's number."""
    row = {
        "pair_id": lambda i: f"{path.stem}-{i}",
        "source": path.stem,
        "prompt": lambda i: [{"role": "user", "content": f"{path.stem} {i}"}],
        "chosen": lambda i: f"good {i}",
        "rejected": "bad",
        "split": lambda i: ("train", "test")[i % 2],
        **same,
    }
    rows = [{key: value(i) if callable(value) else value for key, value in row.items()} for i in range(n)]
    frame = conform(pl.DataFrame(rows, schema={key: PREFERENCE[key] for key in row}), PREFERENCE)
    artifact.write_table(frame, path, PREFERENCE)
    return path


def mixed(tmp_path, files, weights=None, **settings):
    out = tmp_path / "mixed.parquet"
    drawn = mix.mix(files, weights and [Fraction(weight) for weight in weights], **settings)
    mix.write(files, drawn, out)
    return drawn, artifact.read_table(out, PREFERENCE)


def fails(capsys, *argv):
    assert cli.main([str(argument) for argument in argv]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("error: ") and said.err.count("\n") == 1 and said.out == ""
    return said.err.removeprefix("error: ").strip()


def test_without_weights_everything_is_there_once_and_as_it_was(tmp_path):
    files = [table(tmp_path / "a.parquet", 30), table(tmp_path / "b.parquet", 12)]
    drawn, found = mixed(tmp_path, files)
    everything = pl.concat(artifact.read_table(file, PREFERENCE) for file in files)
    assert found.sort("pair_id").equals(everything.sort("pair_id"))
    assert not found.equals(everything)
    assert drawn.inputs["taken"].to_list() == [30, 12]
    assert drawn.crossing == 0


def test_weights_are_shares_and_the_rows_those_of_the_smallest_hashes(tmp_path):
    files = [table(tmp_path / "a.parquet", 30), table(tmp_path / "b.parquet", 12)]
    drawn, found = mixed(tmp_path, files, [2, 1], rows=15, seed=3)
    for name, wanted, there in (("a", 10, 30), ("b", 5, 12)):
        first = sorted((f"{name}-{i}" for i in range(there)), key=lambda pair: hash64("mix 3", pair))[:wanted]
        assert set(found.filter(pl.col("source") == name)["pair_id"]) == set(first)
    assert drawn.inputs.rows() == [
        (str(files[0]), 30, 0, 0, 2 / 3, 10, 10 / 15), (str(files[1]), 12, 0, 0, 1 / 3, 5, 5 / 15),
    ]  # fmt: skip
    assert drawn.sources.rows() == [("a", 30, 0, 0, None, 10, 10 / 15), ("b", 12, 0, 0, None, 5, 5 / 15)]
    assert mix.mix(files, [Fraction(2), Fraction(1)]).inputs["taken"].to_list() == [25, 12]  # all of b


def test_a_larger_mixture_contains_the_smaller_ones_and_other_files_change_no_draw(tmp_path):
    files = [table(tmp_path / f"{name}.parquet", n) for name, n in (("a", 90), ("b", 40), ("c", 70))]
    caps = {"source": Fraction(60), "prompt": Fraction(1)}
    before = set()
    for rows in (1, 2, 40, 41, 99):
        ids = set(mixed(tmp_path, files, [5, 2, 3], rows=rows, caps=caps)[1]["pair_id"])
        assert len(ids) == rows and before <= ids
        before = ids
    some = mixed(tmp_path, files[:2], [1, 1], rows=20)[1].filter(pl.col("source") == "a")["pair_id"]
    others = mixed(tmp_path, files, [1, 3, 1], rows=50)[1].filter(pl.col("source") == "a")["pair_id"]
    assert set(some) == set(others) and len(set(some)) == 10


def test_another_seed_draws_other_rows(tmp_path):
    files = [table(tmp_path / "a.parquet", 100)]
    one, again, other = (set(mixed(tmp_path, files, rows=20, seed=seed)[1]["pair_id"]) for seed in (1, 1, 2))
    assert one == again != other


def test_the_order_is_shuffled_where_few_of_an_input_are_taken(tmp_path):
    """In the order of what they were drawn by, the rows of the larger input would all stand in front."""
    files = [table(tmp_path / "large.parquet", 4000), table(tmp_path / "small.parquet", 200)]
    found = mixed(tmp_path, files, [1, 1], rows=400)[1]
    in_front = (found.head(200)["source"] == "large").sum()
    assert 70 <= in_front <= 130  # 100 expected, deviation 7


def test_buckets_on_disk_give_the_same_file_and_leave_nothing(tmp_path, monkeypatch):
    files = [table(tmp_path / "a.parquet", 300), table(tmp_path / "b.parquet", 120)]
    whole = mixed(tmp_path, files, [2, 1])[1]
    monkeypatch.setattr(mix, "_BATCH", 50)
    assert mixed(tmp_path, files, [2, 1])[1].equals(whole)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.parquet", "b.parquet", "mixed.parquet"]


def test_caps_by_each_name(tmp_path):
    one = table(
        tmp_path / "a.parquet", 60, category=lambda i: "ab"[i % 2],
        prompt=lambda i: [{"role": "user", "content": f" Same  {'ABC'[i % 3]}" if i % 2 else f"same {'abc'[i % 3]}"}],
        group_id=lambda i: str(i // 6) if i < 30 else None, source=lambda i: "xy"[i // 30],
    )  # fmt: skip
    for name, column, cap, values in (
        ("source", "source", 7, 2), ("category", "category", 7, 2), ("prompt", None, 4, 3), ("group", "group_id", 2, 5),
    ):  # fmt: skip
        drawn, found = mixed(tmp_path, [one], caps={name: Fraction(cap)})
        key = found[column] if column else found["prompt"].list.last().struct.field("content").str.to_lowercase()
        key = key.str.replace_all(r"\s+", " ").str.strip_chars()
        assert key.drop_nulls().value_counts()["count"].to_list() == [cap] * values
        assert key.null_count() == (30 if name == "group" else 0)  # rows without a group stay
        assert drawn.inputs["capped"].item() == 60 - found.height
    both = mixed(tmp_path, [one], caps={"source": Fraction(9), "prompt": Fraction(5)})[1]
    assert both["source"].value_counts()["count"].max() <= 9 and both.height <= 15


def test_a_share_is_of_the_mixture_and_the_weights_hold(tmp_path):
    """hh is all chat, a quarter of the mixture: what is left of chat's share goes to rmb, and no more."""
    kinds = ["chat"] * 7 + ["code"] * 2 + ["maths"]
    rmb = table(tmp_path / "rmb.parquet", 1000, category=lambda i: kinds[i % 10])
    hh = table(tmp_path / "hh.parquet", 300, category="chat")
    found = mixed(tmp_path, [rmb, hh], [3, 1], caps={"category": Fraction(6, 10)}, rows=400)[1]
    assert found["source"].value_counts(sort=True).rows() == [("rmb", 300), ("hh", 100)]
    of_rmb = dict(found.filter(pl.col("source") == "rmb")["category"].value_counts().iter_rows())
    assert of_rmb == {"chat": 140, "code": 107, "maths": 53}  # 240 of 400 chat; the rest as 2 : 1
    drawn = mix.mix([rmb, hh], [Fraction(3), Fraction(1)], caps={"category": Fraction(6, 10)})
    # 0.6 n of chat and 300 others: n = 750.
    assert drawn.taken.height == 750


def test_a_share_does_not_hang_on_the_order_of_rows(tmp_path):
    """Rows left over by rounding go to categories by their names, not by which of them was read first."""
    file = table(tmp_path / "a.parquet", 200, category=lambda i: f"c{i % 7}")
    rows = artifact.read_table(file, PREFERENCE)
    found = set()
    for seed in range(4):
        artifact.write_table(rows.sample(fraction=1, shuffle=True, seed=seed), file, PREFERENCE)
        drawn = mixed(tmp_path, [file], rows=30, caps={"category": Fraction(17, 100)})[1]
        found.add(tuple(drawn["pair_id"]))
    assert len(found) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rows", 0], "--rows 0: must be at least 1"),
        (
            ["--cap", "colour=3"],
            "--cap colour=3: 'colour' cannot be capped; there are: prompt, group, category, source",
        ),
        (["--cap", "source"], "--cap source: should be a number of rows, or a share above 0 and below 1"),
        (["--cap", "source=1.5"], "--cap source=1.5: should be a number of rows"),
        (["--cap", "source=1/0"], "--cap source=1/0: should be a number of rows"),
        (["--cap", "source=nan"], "--cap source=nan: should be a number of rows"),
        (["--cap", "source=1", "--cap", "source=2"], "--cap source=2: source has a cap already; give one"),
        (["--cap", "prompt=0.5"], "cap of prompt: takes a number of rows; a share is for category or source"),
        (["--cap", "source=0.5", "--cap", "category=.5"], "caps of source and category: only one can be a share"),
        (
            ["--cap", "source=0.4"],
            "1 rows cannot be had with at most 2/5 of them of one source; loosen weights or caps",
        ),
        (["--rows", 43], "the inputs: 43 rows wanted, 42 there under the caps; --rows 42 can be had"),
    ],
)
def test_what_cannot_be_had_is_said(tmp_path, capsys, arguments, said):
    files = [table(tmp_path / "a.parquet", 30), table(tmp_path / "b.parquet", 12)]
    assert said in fails(capsys, "mix", *files, "--out", tmp_path / "out.parquet", *arguments)
    assert not (tmp_path / "out.parquet").exists()


def test_weights_that_cannot_be_met_or_read(tmp_path, capsys):
    a, b = table(tmp_path / "a.parquet", 30), table(tmp_path / "b.parquet", 12)
    out = ["--out", tmp_path / "out.parquet"]
    said = fails(capsys, "mix", f"{a}:1", f"{b}:2", "--rows", 30, *out)
    assert said == f"{b}: 20 rows wanted, 12 there under the caps; --rows 18 can be had"
    assert "has no weight, though others have" in fails(capsys, "mix", f"{a}:1", b, *out)
    assert f"{b}:0: the weight must be above 0" in fails(capsys, "mix", f"{a}:1", f"{b}:0", *out)
    assert f"{tmp_path / 'c.parquet'}: no such file" in fails(capsys, "mix", tmp_path / "c.parquet", *out)
    assert "is a folder; name a file for --out" in fails(capsys, "mix", a, "--out", tmp_path)
    empty = table(tmp_path / "empty.parquet", 0)
    assert f"{empty}: there are no rows to mix" in fails(capsys, "mix", empty, *out)


def test_an_id_in_two_inputs(tmp_path, capsys):
    a = table(tmp_path / "a.parquet", 5)
    again = table(tmp_path / "b.parquet", 7, pair_id=lambda i: f"a-{i}", source="a",
                  prompt=lambda i: [{"role": "user", "content": f"a {i}"}])  # fmt: skip
    drawn, found = mixed(tmp_path, [a, again])
    assert found["pair_id"].sort().to_list() == [f"a-{i}" for i in range(7)]
    assert drawn.inputs["repeated"].to_list() == [0, 5]
    assert drawn.inputs["taken"].to_list() == [5, 2]
    other = table(tmp_path / "c.parquet", 1, pair_id="a-3")
    said = fails(capsys, "mix", a, again, other, "--out", tmp_path / "out.parquet")
    assert said == f"{a}, {again}, {other}: id 'a-3' stands for rows that differ; make the ids unique, or leave one out"


def test_the_command_shows_and_writes_what_it_did(tmp_path, capsys):
    a = table(tmp_path / "a.parquet", 30, source="[red]a\x1b[31m")
    b = table(
        tmp_path / "b.parquet", 12, split=lambda i: "test" if i else "train", prompt=[{"role": "user", "content": "q"}]
    )
    out = tmp_path / "out.parquet"
    assert cli.main(["mix", f"{a}:2", f"{b}:1", "--rows", "30", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "mix: 30 rows" in said and "66.7%" in said and "[red]a\N{REPLACEMENT CHARACTER}[31m" in said
    rows = artifact.read_table(out, PREFERENCE)
    assert ("on more than one side: 1 prompts" in said) == (
        rows.filter(pl.col("source") == "b")["split"].n_unique() > 1
    )
    manifest = json.loads((tmp_path / "out.parquet.manifest.json").read_text())
    assert manifest["settings"] == {"weights": ["2", "1"], "rows": 30, "caps": {}, "seed": 0}
    assert [line["taken"] for line in manifest["counts"]["inputs"]] == [20, 10]


# A busy machine is no failure.
quick = settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])
weights_of = st.lists(st.integers(1, 40).map(lambda n: Fraction(n, 6)), min_size=1, max_size=4)


@quick
@given(weights_of, st.integers(0, 200))
def test_quotas(weights, rows):
    """All rows are given out, near their exact shares, and none of them is taken back."""
    given = quotas(weights, rows)
    assert sum(given) == rows
    assert all(abs(n - rows * weight / sum(weights)) < len(weights) for n, weight in zip(given, weights, strict=True))
    assert all(n <= more for n, more in zip(given, quotas(weights, rows + 1), strict=True))


@quick
@given(weights_of, st.data())
def test_largest(weights, data):
    there = data.draw(st.lists(st.integers(0, 60), min_size=len(weights), max_size=len(weights)))
    most = largest(weights, there)
    assert all(n <= had for n, had in zip(quotas(weights, most), there, strict=True))
    assert any(n > had for n, had in zip(quotas(weights, most + 1), there, strict=True))


@quick
@given(st.data())
def test_allocate_takes_all_that_any_choice_could(data):
    """Against every choice there is, in two units of two values."""
    cells = list(itertools.product(range(2), range(2)))
    there = {cell: data.draw(st.integers(0, 4)) for cell in cells}
    wanted = [data.draw(st.integers(0, 6)) for _ in range(2)]
    limits = {value: data.draw(st.integers(0, 6)) for value in range(2) if data.draw(st.booleans())}

    def allowed(taken):
        return all(taken[u, 0] + taken[u, 1] <= wanted[u] for u in range(2)) and all(
            taken[0, value] + taken[1, value] <= limit for value, limit in limits.items()
        )

    choices = (dict(zip(cells, n, strict=True)) for n in itertools.product(*(range(there[c] + 1) for c in cells)))
    best = max(sum(choice.values()) for choice in choices if allowed(choice))
    taken = allocate(there, wanted, limits)
    assert allowed(taken) and all(0 <= n <= there[cell] for cell, n in taken.items())
    assert sum(taken.values()) == possible(there, wanted, limits) == best


def test_a_table_that_is_none(tmp_path):
    pl.DataFrame({"a": [1]}).write_parquet(tmp_path / "x.parquet")
    with pytest.raises(UserError, match="column 'pair_id' is missing"):
        mix.mix([tmp_path / "x.parquet"])
