"""Who is called the best, of which pairs, and in which words."""

import re

import polars as pl
import pytest

from data_tools.artifact import read_json, write_json
from data_tools.order import chosen_is_a
from genrm_lightning.evaluation.scores import set_scores
from genrm_lightning.report_page import write
from genrm_lightning.report_page.sections.headline import standings
from tests.report_page import made

N = 40


@pytest.fixture
def judged(tmp_path):
    """A judge that has judged the pairs at some places, and is right in both orders at some."""
    pairs = made.preferences(N, 1)

    def make(name, right, places=range(N), data=pairs, called="own"):
        run = made.evaluation(tmp_path / name, name, {called: data})
        file = run / "sets" / called / "judgments.parquet"
        ids = sorted(data["pair_id"])
        table = pl.read_parquet(file).filter(pl.col("pair_id").is_in([ids[i] for i in places]))
        wins = {ids[i] for i in right}
        p_a = [0.9 if chosen_is_a(i, s) == (i in wins) else 0.1 for i, s in table.select("pair_id", "swapped").rows()]
        table = table.with_columns(pl.Series("p_a", p_a, table["p_a"].dtype))
        table.write_parquet(file)
        scores = read_json(run / "scores.json")
        dropped = {*ids} - {*table["pair_id"]}
        scores["sets"][called] = set_scores(table, data, dropped).as_dict()
        write_json(run / "scores.json", scores)
        return run

    return make


def read(tmp_path, *runs):
    """The headline and the lines below it as text, the whole page, and the report."""
    report = write(runs, tmp_path / "r.html")
    html = (tmp_path / "r.html").read_text()
    section = re.search("<section id=headline>(.*?)</section>", html, re.DOTALL)[1]
    lede, lines = re.search("<p class=lede>(.*?)</p>(<ul.*?</ul>)", section, re.DOTALL).groups()
    return re.sub("<.*?>", "", lede), re.sub("<.*?>", "", lines), html, report


def test_a_judge_that_could_not_read_the_hard_pairs_does_not_win_by_it(judged, tmp_path):
    """It is right on 18 of its 20 pairs (90 %), the other one on all of these, and on 30 of all 40 (75 %)."""
    few = judged("few", range(18), range(20))
    all_ = judged("all", range(30))
    for runs in ((few, all_), (all_, few)):
        _, lines, html, report = read(tmp_path, *runs)
        (one,) = standings(report)
        assert one.best.label == "all" and (one.n, one.left_out) == (20, 20) and one.accuracy[0] == 1.0
        assert "own, 20 pairs that all judges could read (20 more did not fit one or another)" in lines
        assert "all has the highest accuracy, 100.0 %" in lines and "few −10.0" in lines
        assert "<b>75.0</b>" in html and "<b>90.0</b>" in html  # the table tells each judge’s own
        assert "Of the 40 pairs not all fitted every judge: few 20." in html


def test_no_pair_in_common(judged, tmp_path):
    lede, lines, html, report = read(
        tmp_path, judged("a", range(9), range(9)), judged("b", range(20, 30), range(20, N))
    )
    assert standings(report) == [] and lede == "No pair was judged by all judges of its set"
    assert "none is called the best" in lines and "<b>100.0</b>" in html and "<b>50.0</b>" in html


def test_a_coin(judged, tmp_path):
    for right, said in (
        (range(N), "."),
        (range(22), ", which a coin may reach too."),
        (range(5), ", worse than a coin."),
    ):
        name = f"right on {len(right)}"
        _, lines, *_ = read(tmp_path, judged(name, right))
        assert re.search(rf"{name} is right [\d.]+ % of the time \([\d.]+ to [\d.]+\){re.escape(said)}$", lines), lines


def test_which_are_ahead(judged, tmp_path):
    good, fair, poor = judged("good", range(38)), judged("fair", range(37)), judged("poor", range(4))
    lede = read(tmp_path, good, fair, poor)[0]
    assert lede == "good and fair are ahead: each is best or within chance of the best on this set"
    assert read(tmp_path, good, fair)[0] == "good and fair: each is best or within chance of the best on this set"


def test_judges_of_different_sets_are_not_compared(judged, tmp_path):
    one = judged("one", range(30))
    two = judged("two", range(10), range(20), made.preferences(20, 5), "other")
    lede, lines, html, _ = read(tmp_path, one, two)
    assert lede == "one is right 75.0 % of the time on own; two is right 50.0 % of the time on other"
    assert "highest" not in lines and "To the best" not in html and "within chance" not in html


def test_many_sets_of_one_judge(tmp_path):
    sets = {f"set {i}": made.preferences(4, i) for i in range(5)}
    lede, lines, *_ = read(tmp_path, made.evaluation(tmp_path / "run", "judge", sets))
    assert re.fullmatch(r"judge is right from [\d.]+ % on set \d to [\d.]+ % on set \d, 5 sets in all", lede)
    assert lines.count("of the time") == 5


def test_how_two_judges_were_chosen_is_told(judged, tmp_path):
    runs = [judged(name, range(n)) for name, n in (("a", 30), ("b", 20), ("c", 10))]
    assert read(tmp_path, *runs)[2].count("(the best two)") == 2
    assert "(the best two)" not in read(tmp_path, *runs[:2])[2]
    write(runs, tmp_path / "r.html", judges=("c", "a"))
    assert (tmp_path / "r.html").read_text().count("(named for this page)") == 2
