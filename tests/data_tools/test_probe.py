import json
import random
from pathlib import Path

import polars as pl
import pytest

from data_tools import __main__ as cli
from data_tools import artifact, sources
from data_tools import probe as probing
from data_tools.errors import UserError
from data_tools.intervals import clustered_shares
from data_tools.label_noise import label_noise
from data_tools.logistic import Sparse, fit
from data_tools.measures import measure
from data_tools.naive_rules import RULES
from data_tools.order import chosen_is_a, hash64
from data_tools.probe import best, findings, naive_scores, probe
from data_tools.schema import PREFERENCE, conform


def table(rows, **same):
    """PREFERENCE from (prompt, chosen, rejected) and what all rows have."""
    columns = {name: [row[i] for row in rows] for i, name in enumerate(("prompt", "chosen", "rejected"))}
    columns["prompt"] = [[{"role": "user", "content": text}] for text in columns["prompt"]]
    columns["pair_id"] = [f"p{i}" for i in range(len(rows))]
    frame = pl.DataFrame(columns, schema_overrides={"prompt": PREFERENCE["prompt"]})
    return conform(frame.with_columns(**{name: pl.lit(value) for name, value in same.items()}), PREFERENCE)


def points(rule, chosen, rejected, prompt="Which word?"):
    """Of one pair: 2, 1 or 0."""
    frame = table([(prompt, chosen, rejected)]).with_columns(pl.lit(prompt.lower()).alias("_prompt"))
    return frame.select(RULES[rule].points).item()


MORE_AND_LESS = {
    "longer": ("three", "two"),
    "lines": ("a\nb", "a long line"),
    "list_items": ("- one\n 2) two", "- one -two 3)"),
    "headers": ("# Title\n## Part", "# Title #hashtag"),
    "bold": ("**a** and **b**", "**a** and ** b"),
    "code": ("```\nx\n```", "`x`"),
    "numbers": ("1 and 22", "333333"),
    "citations": ("so it is [1], http://x.org", "a[i] is [2]"),
    "questions": ("Really?", "Really!"),
    "exclamations": ("Really!", "Really?"),
    "refusals": ("I’m sorry, but I cannot say.", "I can say that I am glad."),
    "eager": ("Certainly! It is", "It certainly is"),
    "ended": ("It is.", "It is the most"),
    "non_ascii": ("naïve", "naive"),
    "long_words": ("extraordinary word", "a b c d e f g h i j k l"),
    "prompt_words": ("which Word, then", "which of them, then"),
    "variety": ("one two three", "one one two two"),
}


@pytest.mark.parametrize("rule", MORE_AND_LESS)
def test_a_rule_prefers_more_and_cannot_tell_equals(rule):
    more, less = MORE_AND_LESS[rule]
    assert (points(rule, more, less), points(rule, less, more), points(rule, more, more)) == (2, 0, 1)


def test_every_rule_is_tested():
    assert RULES.keys() == {*MORE_AND_LESS, "first"}


def test_scores_by_hand():
    frame = table(
        [("a", "long", "no"), ("a", "no", "long"), ("b", "longer", "x"), ("c", "one", "two")], source="s", category=None
    )
    frame = frame.with_columns(source=pl.Series(["s", "s", "s", "t"]))
    scores = naive_scores(frame.lazy(), ["source", "category"])
    longer = scores.filter(pl.col("rule") == "longer").select("by", "value", "rows", "clusters", "score", "decided")
    assert longer.rows() == [
        ("all", None, 4, 3, 0.625, 0.75),
        ("source", "s", 3, 2, 2 / 3, 1.0),
        ("source", "t", 1, 1, 0.5, 0.0),
        ("category", None, 4, 3, 0.625, 0.75),
    ]
    first = scores.filter((pl.col("rule") == "first") & (pl.col("by") == "all"))["score"].item()
    assert first == sum(chosen_is_a(f"p{i}", False) for i in range(4)) / 4
    with pytest.raises(UserError, match="no rows"):
        naive_scores(frame.clear().lazy())


def test_intervals_are_those_of_the_evaluation():
    intervals = pytest.importorskip("genrm_lightning.evaluation.intervals")
    draw = random.Random(1)
    groups = [draw.randrange(12) for _ in range(60)]
    likely = [draw.random() for _ in range(12)]
    values = [draw.choice([0.5, float(draw.random() < likely[group])]) for group in groups]
    rows = pl.DataFrame({"g": groups, "v": values, "w": 1.0, "part": [i % 2 for i in range(60)]})
    # Sums over parts of clusters, as they come from a group-by of finer groups.
    sums = rows.group_by("g", "part").agg(pl.len().alias("rows"), pl.sum("v", "w"))
    found = clustered_shares(sums, ["v", "w"], [], "g")
    assert found.select("name", "rows", "clusters").rows() == [("v", 60, 12), ("w", 60, 12)]
    for name, outcomes in (("v", values), ("w", [1.0] * 60)):
        trials = intervals.effective_n(outcomes, groups, per_pair=1)
        p = sum(outcomes) / 60
        low, high = intervals.wilson(p, trials)
        row = found.filter(pl.col("name") == name)
        assert row.select("score", "low", "high").row(0) == pytest.approx((p, low, high))
    split = clustered_shares(sums, ["v"], ["part"], "g")
    assert split["rows"].to_list() == [30, 30] and split["score"].mean() == pytest.approx(sum(values) / 60)


def test_the_regression_finds_the_known_optimum():
    # One feature that is 1 in three rows and -1 in one: without a penalty the odds, w = log(3 / 1).
    entries = pl.DataFrame({"row": [0, 1, 2, 3], "column": [0] * 4, "value": [1.0, 1.0, 1.0, -1.0]})
    signs, used = pl.repeat(1.0, 5, eager=True), pl.Series([True, True, True, True, False])
    weights = fit(Sparse(entries, (5, 2)), signs, used, 1e-9)
    assert weights.to_list() == pytest.approx([1.0986, 0.0], abs=0.01)
    # A row that is not used has no say.
    other = pl.concat([entries, pl.DataFrame({"row": [4], "column": [0], "value": [-9.0]})])
    assert fit(Sparse(other, (5, 2)), signs, used, 1e-9).to_list() == pytest.approx(weights.to_list())


def test_the_regression_ends_where_the_gradient_is_zero():
    draw = random.Random(2)
    places = sorted({(draw.randrange(40), draw.randrange(15)) for _ in range(200)})
    rows, columns = zip(*places, strict=True)
    values = [draw.gauss(0, 1) for _ in places]
    signs = [draw.choice([1.0, -1.0]) for _ in range(40)]
    matrix = Sparse(pl.DataFrame({"row": rows, "column": columns, "value": values}), (40, 15))
    weights = fit(matrix, pl.Series(signs), pl.repeat(True, 40, eager=True), 2.0)
    margins = [0.0] * 40
    for row, column, value in zip(rows, columns, values, strict=True):
        margins[row] += value * weights[column]
    assert matrix.times(weights).to_list() == pytest.approx(margins)
    gradient = [2.0 * weight for weight in weights]
    for row, column, value in zip(rows, columns, values, strict=True):
        gradient[column] -= value * signs[row] / (1 + 2.718281828459045 ** (signs[row] * margins[row]))
    assert max(map(abs, gradient)) < 40 * 1e-3 and max(map(abs, weights)) > 0.1


def given_away(n, **same):
    """Pairs of one length and form whose better response says "indeed", the other "perhaps"."""
    rows = [(f"question {i}", f"it is {i % 7} indeed", f"it is {i % 5} perhaps") for i in range(n)]
    return table(rows, **same)


def test_words_that_give_the_label_away_are_found_in_prompts_never_seen():
    found = probe(given_away(120, source="s", category="c", label_kind="human"), sample=100)
    score = {rule: score for by, rule, score in found.scores.select("by", "rule", "score").rows() if by == "all"}
    assert (found.folds, found.trained, found.scored) == (5, 80, 100)
    assert score["words"] == 1.0
    # "perhaps" is longer and stands in every pair: the opposite of "longer" wins, and is what is said.
    assert score["longer"] == 0.0
    lines = findings(found.scores)
    assert lines[0].startswith("all pairs (120 pairs, 120 prompts): 'shorter' wins 100 % [")
    assert not any("masked" in line for line in lines) and 0.3 < score["masked"] < 0.7
    top = best(found.scores).select("by", "value", "rule", "turned", "score").rows()
    assert top == [("all", None, "longer", True, 1.0), ("source", "s", "longer", True, 1.0),
                   ("category", "c", "longer", True, 1.0)]  # fmt: skip


def test_labels_without_reason_are_not_learnt():
    draw = random.Random(5)
    words = ["one", "two", "three", "four", "five", "six"]
    rows = [(f"question {i}", *(" ".join(draw.choices(words, k=8)) for _ in "ab")) for i in range(200)]
    found = probe(table(rows), by=[])
    row = found.scores.filter(pl.col("rule") == "words").row(0, named=True)
    assert row["low"] < 0.5 < row["high"] and row["clusters"] == 200


def test_rows_held_out_are_scored_alone_and_their_prompts_are_not_trained_on():
    frame = given_away(60).with_columns(split=pl.Series(["train"] * 40 + ["validation"] * 10 + ["test"] * 10))
    # Four train rows of a test prompt, in other letters: they are left out.
    shared = frame.head(4).with_columns(prompt=pl.lit([{"role": "user", "content": "QUESTION  59"}]))
    found = probe(pl.concat([shared, frame[4:]]))
    assert (found.folds, found.trained, found.scored) == (0, 36, 20)
    assert found.scores.filter(rule="words", by="all")["rows"].item() == 20
    assert found.scores.filter(rule="longer", by="all")["rows"].item() == 60
    crossed = probe(frame, folds=3)
    assert (crossed.folds, crossed.trained, crossed.scored) == (3, 40, 60)


def test_against_scores_the_other_table():
    turned = given_away(30).rename({"chosen": "rejected", "rejected": "chosen"}).select(list(PREFERENCE))
    other = turned.with_columns(prompt=pl.lit([{"role": "user", "content": "another"}]), source=pl.lit("other"))
    found = probe(given_away(60, source="own"), against=other)
    score = dict(found.scores.filter(by="all").select("rule", "score").rows())
    assert (score["words"], score["longer"], found.trained, found.scored) == (0.0, 1.0, 60, 30)
    assert set(found.scores.filter(by="source")["value"]) == {"other"}


def test_the_control_notices_an_order_that_follows_the_prompt():
    """Ids whose hash shows the chosen response as A stand with one kind of prompt, the others with another."""
    rows = [(f"{'red' if chosen_is_a(f'p{i}', False) else 'blue'} {i}", f"yes {i}", f"not {i}") for i in range(300)]
    found = probe(table(rows, source="s"), by=["source"])
    assert found.scores.filter(rule="masked", by="all")["score"].item() == 1.0
    lines = findings(found.scores)
    assert lines[0].startswith("all pairs (300 pairs, 300 prompts): order, ids or prompts tell the letter, 100 %")


def test_the_sample_is_that_of_the_smallest_hashes():
    frame = given_away(50).with_columns(split=pl.lit("train"))
    kept = sorted(frame["pair_id"], key=lambda pair: hash64("sample", pair))[:20]
    frame = frame.with_columns(
        subset=pl.when(pl.col("pair_id").is_in(kept)).then(pl.lit("in")).otherwise(pl.lit("out"))
    )
    scores = probe(frame, by=["subset"], sample=20).scores.filter(rule="words", by="subset")
    assert scores.select("value", "rows").rows() == [("in", 20)]


def test_prompts_of_a_large_table_share_clusters(monkeypatch):
    frame = given_away(400).with_columns(
        chosen=pl.col("chosen") + pl.when(pl.int_range(pl.len()) % 3 > 0).then(pl.lit("!" * 9)).otherwise(pl.lit(""))
    )
    exact = naive_scores(frame.lazy()).filter(rule="longer").row(0, named=True)
    monkeypatch.setattr(probing, "EXACT", 100)
    monkeypatch.setattr(probing, "CLUSTERS", 64)
    shared = naive_scores(frame.lazy()).filter(rule="longer").row(0, named=True)
    assert shared["merged"] and not exact["merged"]
    assert naive_scores(frame.lazy(), ["source"])["merged"].all()  # of small groups of a large table as well
    assert shared["score"] == exact["score"] and exact["clusters"] == 400 and 32 < shared["clusters"] <= 64
    width = {name: row["high"] - row["low"] for name, row in (("exact", exact), ("shared", shared))}
    assert width["shared"] == pytest.approx(width["exact"], rel=0.4)
    assert probing.prompts(shared) == "many" and probing.prompts(exact) == "400"


def test_texts_without_words_and_single_pairs():
    found = probe(table([("?", "!!!", "???")]), by=[])
    assert found.scores.filter(rule="words")["score"].item() == 0.5
    assert found.scores.filter(rule="questions")["score"].item() == 0.0


@pytest.mark.parametrize(
    ("wrong", "said"), [({"sample": 0}, "sample=0"), ({"folds": 1}, "folds=1"), ({"by": ["split"]}, "column 'split'")]
)
def test_settings_that_there_cannot_be(wrong, said):
    with pytest.raises(UserError, match=said):
        probe(given_away(4), **wrong)


def signs(frame, by=None):
    return {(value, sign): (rows, of) for value, sign, rows, of, _ in label_noise(measure(frame), by).rows()}


def test_signs_of_noise_by_hand():
    frame = table(
        [
            ("q", "a", "b"), ("Q ", "b", "a"), ("q", "a", "b"),  # one pair three times, once the other way round
            ("r", "a", "b"),  # another prompt
            ("t", "a", "bb"), ("t", "bb", "ccc"), ("t", "ccc", "a"),  # a circle
            ("u", "a", "bb"), ("u", "bb", "ccc"), ("u", "a", "ccc"),  # in order
            ("v", "same", " same"), ("v", "same and more", "same"),
        ]
    )  # fmt: skip
    frame = frame.with_columns(
        source=pl.Series(["x"] * 4 + ["y"] * 8), margin=pl.Series([0.05, 0.5] + [None] * 10, dtype=pl.Float64)
    )
    assert signs(frame) == {
        (None, "both_ways"): (3, 3),
        (None, "in_circle"): (3, 6),
        (None, "equal"): (1, 12),
        (None, "equal_length"): (4, 12),
        (None, "prefix"): (1, 12),
        (None, "little_margin"): (1, 2),
    }
    by_source = signs(frame, "source")
    assert by_source["x", "both_ways"] == (3, 3) and by_source["y", "both_ways"] == (0, 0)
    assert by_source["x", "in_circle"] == (0, 0) and by_source["y", "in_circle"] == (3, 6)
    assert label_noise(measure(frame), "source").filter(pl.col("of") == 0)["share"].null_count() == 3


def test_the_command(tmp_path, capsys, monkeypatch):
    file, test, out = (tmp_path / name for name in ("pairs.parquet", "test.parquet", "probe.json"))
    artifact.write_table(given_away(60, source="[red]s\x1b[31m", category="c"), file, PREFERENCE)
    artifact.write_table(given_away(30, source="t"), test, PREFERENCE)
    monkeypatch.setenv("COLUMNS", "100")
    assert cli.main(["probe", str(file), "--json", str(out)]) == 0
    said = capsys.readouterr().out
    assert "'shorter' wins 100 %" in said and "[red]s\N{REPLACEMENT CHARACTER}[31m" in said and "\x1b" not in said
    assert max(map(len, said.splitlines())) <= 100
    numbers = json.loads(out.read_text())
    assert {row["by"] for row in numbers["scores"]} == {"all", "source", "category"}
    assert numbers["learnt"] == {"trained": 48, "scored": 60, "folds": 5}
    assert artifact.read_json(tmp_path / "probe.json.manifest.json")["command"] == "probe"
    assert cli.main(["probe", str(file), "--against", str(test), "--by", "source", "--rules"]) == 0
    said = capsys.readouterr().out
    assert "30 pairs of --against" in said and "on FILE" in said and "every rule" in said
    assert cli.main(["probe", str(file), "--against", str(test), "--folds", "3"]) == 2
    artifact.write_table(given_away(1).clear(), file, PREFERENCE)
    assert cli.main(["probe", str(file)]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"error: {file}: the table has no rows"


def test_longer_wins_as_often_as_the_readme_of_the_pairs_says(pairs_folder):
    """Its shares count a tie as wrong, ours as half; they are whole per cents, two of 26 a hair off the nearest."""
    lines = (Path(pairs_folder) / "README.md").read_text().splitlines()
    cells = [[cell.strip() for cell in line.split("|")] for line in lines if line.startswith("| ")]
    told = {row[1]: int(row[-2].rstrip("%")) for row in cells if row[-2].endswith("%")}
    assert len(told) == 26
    for name, percent in told.items():
        scores = naive_scores(sources.read(Path(pairs_folder) / f"{name}.jsonl.gz").lazy())
        row = scores.filter(pl.col("rule") == "longer").row(0, named=True)
        assert 100 * (row["score"] - (1 - row["decided"]) / 2) == pytest.approx(percent, abs=0.53), name
