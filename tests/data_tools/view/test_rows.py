import json

import polars as pl
import pytest

from data_tools.errors import UserError
from data_tools.schema import PREFERENCE, conform
from data_tools.view.rows import BLOCK, Choice, Pairs, opened


def row(i, **more):
    return {
        "pair_id": f"p{i}",
        "source": "one" if i % 2 == 0 else "two",
        "prompt": [{"role": "user", "content": f"question {i}"}],
        "chosen": "c" * (i + 1),
        "rejected": "r" * (2 * i + 1),
        "label_kind": "human",
        **more,
    }


def table(path, rows):
    conform(pl.DataFrame(rows), PREFERENCE).write_parquet(path)
    return path


@pytest.fixture(params=["table", "raw"])
def file(request, tmp_path):
    """Forty rows, as a table of this project and as a raw file; more than a block."""
    margins = {3: 0.5, 4: 0.9, 5: 0.5}
    rows = [row(i, margin=margins.get(i), category=None if i < 38 else "code") for i in range(40)]
    if request.param == "table":
        return table(tmp_path / "pairs.parquet", rows)
    for one in rows:
        one["id"] = one.pop("pair_id")
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return path


def ids(file, number=None, **choice):
    pairs = Pairs(opened(file), Choice(**choice), number)
    found = []
    while (one := pairs.get(len(found))) is not None:
        found.append(one["pair_id"])
    assert pairs.total in (None, len(found))
    assert pairs.head(3)["pair_id"].to_list() == found[:3]
    return found


def names(*numbers):
    return [f"p{i}" for i in numbers]


def test_all_in_the_order_of_the_file(file):
    assert 2 * BLOCK < 40
    assert ids(file) == names(*range(40))
    assert ids(file, number=3) == names(0, 1, 2)
    assert ids(file, reverse=True) == names(*reversed(range(40)))


def test_choices(file):
    assert ids(file, pair_id="p7") == ["p7"]
    assert ids(file, where={"source": ["two"]}) == names(*range(1, 40, 2))
    assert len(ids(file, where={"source": ["two", "one"]})) == 40
    assert ids(file, where={"category": ["code"], "source": ["one"]}) == ["p38"]
    assert ids(file, where={"category": [""]}) == names(*range(38))
    assert len(ids(file, where={"category": ["", "code"]})) == 40
    assert ids(file, among=pl.Series(["p9", "p2", "no"])) == names(2, 9)
    assert ids(file, search="QUESTION 1") == names(1, *range(10, 20))
    assert ids(file, search="c" * 40) == ["p39"]
    assert ids(file, search="r" * 78) == ["p39"]


def test_what_is_searched_is_no_pattern(tmp_path):
    file = table(tmp_path / "pairs.parquet", [row(0, chosen="a.b (c)"), row(1, chosen="axb (c)")])
    assert ids(file, search="A.B (") == ["p0"]


def test_orders(file):
    # Unknown margins last, in the file's order; equal ones too.
    assert ids(file, sort="margin")[:5] == names(4, 3, 5, 0, 1)
    assert ids(file, sort="margin", reverse=True)[:4] == names(3, 5, 4, 0)
    # Prompts have 10 or 11 characters, the longer response 2 i + 1.
    assert ids(file, sort="length")[:2] == names(39, 38)
    # Chosen minus rejected is -i.
    assert ids(file, sort="length_difference", number=2) == names(0, 1)
    assert ids(file, sort="length_difference", reverse=True, number=2) == names(39, 38)
    drawn = ids(file, sort="random", seed=1)
    assert sorted(drawn) == sorted(names(*range(40))) and drawn != names(*range(40))
    assert drawn == ids(file, sort="random", seed=1) != ids(file, sort="random", seed=2)


def test_find(file):
    pairs = Pairs(opened(file), Choice())
    assert pairs.find("question 1", -1) == 1
    assert pairs.find("question 1", 1) == 10
    assert pairs.find("question 1", 19) is None
    sorted_ = Pairs(opened(file), Choice(where={"source": ["two"]}, reverse=True))  # 39, 37, …
    assert sorted_.find("question 3", -1) == 0
    assert sorted_.find("question 3", 4) == 18  # behind 39, 37, 35, 33 and 31 comes 3
    assert Pairs(opened(file), Choice(), 5).find("question 9", -1) is None


def test_nothing_found_is_told_in_a_line(file):
    for choice, said in (
        ({"pair_id": "p99"}, "no pair has the id 'p99'"),
        ({"where": {"source": ["three"]}}, "no pair has source=three; there are: one, two"),
        ({"search": "nowhere"}, "contains 'nowhere'"),
        ({"where": {"source": ["two"], "category": ["code"]}, "search": "question 1"}, "contains 'question 1'"),
        ({"among": pl.Series(["other"])}, "no pair that is asked for has a judgment"),
    ):
        with pytest.raises(UserError, match=said) as caught:
            Pairs(opened(file), Choice(**choice))
        assert str(caught.value).startswith(f"{file}: ")


def test_a_folder_and_its_manifests(tmp_path):
    table(tmp_path / "a.parquet", [row(0)])
    table(tmp_path / "b.parquet", [row(1), row(2)])
    (tmp_path / "manifest.json").write_text("{}")
    (tmp_path / "b.parquet.manifest.json").write_text("{}")
    assert ids(tmp_path) == names(0, 1, 2)


def test_only_the_rows_that_are_asked_for_are_read(tmp_path):
    """A broken line far behind is no matter, until one comes to it."""
    file = tmp_path / "pairs.jsonl"
    fine = "".join(json.dumps({**row(i % 50), "id": f"p{i}"}) + "\n" for i in range(3_000))
    file.write_text(fine + "{broken\n")
    with pytest.raises(UserError, match="line 3001 is not valid JSON"):
        Pairs(opened(file), Choice(pair_id="p3"))
    file.write_text(fine * 20 + "{broken\n")
    assert Pairs(opened(file), Choice(), 10).get(9)["pair_id"] == "p9"


def test_files_that_are_no_pairs(tmp_path):
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"PAR1 and nothing")
    with pytest.raises(UserError, match="not a readable parquet file"):
        opened(broken)
    with pytest.raises(UserError, match="no such file"):
        opened(tmp_path / "none.parquet")
    judgments = tmp_path / "judgments.parquet"
    pl.DataFrame({"pair_id": ["p"], "p_a": [0.5]}).write_parquet(judgments)
    with pytest.raises(UserError, match="column 'group_id' is missing; a PREFERENCE table has"):
        opened(judgments)


def test_a_parquet_file_in_a_raw_format(tmp_path):
    file = tmp_path / "trl.parquet"
    pl.DataFrame({"prompt": ["q"], "chosen": ["yes"], "rejected": ["no"]}).write_parquet(file)
    assert Pairs(opened(file), Choice()).get(0)["chosen"] == "yes"


def test_margins_of_raw_files_are_as_ingest_writes_them(tmp_path):
    folder = tmp_path / "raw"
    folder.mkdir()
    for name, margins in (("a", [None, 2.0]), ("b", [8.0, 1.0])):
        rows = [{"prompt": f"{name}{i}", "chosen": "c", "rejected": "r", "margin": m} for i, m in enumerate(margins)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    found = opened(folder).frame.select("margin").collect()["margin"].to_list()
    assert found == [None, 0.25, 1.0, 0.125]
    assert opened(folder / "a.jsonl").frame.select("margin").collect()["margin"].to_list() == [None, 1.0]
