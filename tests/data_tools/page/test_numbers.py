import doctest

import polars as pl
import pytest

from data_tools.page import plots
from data_tools.page.numbers import Share, measured
from data_tools.schema import PREFERENCE, conform


def row(i, chosen, rejected, prompt="q", **more):
    turns = [{"role": "user", "content": prompt}]
    sides = {"chosen": "c" * chosen, "rejected": "r" * rejected}
    return {"pair_id": f"p{i}", "source": "one", "prompt": turns, **sides, **more}


def table(rows):
    return conform(pl.DataFrame(rows, infer_schema_length=None), PREFERENCE).lazy()


def test_by_hand():
    rows = [
        row(0, 5, 3, split="train", category="chat", margin=0.5),
        row(1, 2, 2, split="train", category="chat", prompt="other"),
        row(2, 1, 4, split="test", category=None),
        row(3, 9, 4, source="two", split=None, margin=0.5),
        row(4, 9, 4, source=None, split="unknown", label_kind="human"),  # the same as none
    ]
    found = measured(table(rows))
    assert (found.rows, found.prompts) == (5, 2)  # a prompt of several sources is one
    assert [(one.name, one.rows, one.prompts, one.splits) for one in found.sources] == [
        ("one", 3, 2, {"train": 2, "test": 1}),
        ("two", 1, 1, {"unknown": 1}),
        ("unknown", 1, 1, {"unknown": 1}),
    ]
    assert found.splits == {"train": 2, "unknown": 2, "test": 1}
    assert found.categories == {"unknown": 3, "chat": 2} and found.labels == {"unknown": 4, "human": 1}
    assert [one.longer.share for one in found.sources] == [0.5, 1.0, 1.0]  # (1 + 1/2 + 0) / 3
    assert found.longer.share == pytest.approx(3.5 / 5)
    assert found.values["difference"].rows() == [(-3, 1), (0, 1), (2, 1), (5, 2)]
    assert found.values["prompt"].rows() == [(1, 4), (5, 1)]
    assert found.values["margin"].rows() == [(0.5, 2)]


def test_intervals_count_prompts():
    """100 pairs, half of them won: of 100 prompts Wilson's 0.4038 to 0.5962, of 10 prompts that agree much wider."""
    apart = measured(table([row(i, 1 + i % 2 * 2, 2, prompt=f"q{i}") for i in range(100)])).longer
    assert apart == Share(0.5, pytest.approx(0.4038, abs=1e-3), pytest.approx(0.5962, abs=1e-3))
    together = measured(table([row(i, 1 + i // 10 % 2 * 2, 2, prompt=f"q{i // 10}") for i in range(100)])).longer
    # Ten prompts that are worth ten pairs: Wilson's interval of 5 in 10.
    assert together == Share(0.5, pytest.approx(0.2366, abs=1e-3), pytest.approx(0.7634, abs=1e-3))


def test_intervals_are_those_of_the_evaluation():
    intervals = pytest.importorskip("genrm_lightning.evaluation.intervals")
    rows = [row(i, 1 + (i * 7 % 10 < 3 + i % 4) * 2, 2, prompt=f"q{i * i % 23}") for i in range(150)]
    wins, prompts = [float(len(one["chosen"]) > 2) for one in rows], [one["prompt"][0]["content"] for one in rows]
    worth = intervals.effective_n(wins, prompts, per_pair=1)
    expected = intervals.wilson(sum(wins) / 150, worth)
    found = measured(table(rows)).longer
    assert worth < 150 and (found.low, found.high) == pytest.approx(expected)


def test_an_empty_table_has_no_rows():
    assert measured(PREFERENCE.to_frame().lazy()).rows == 0


def values(*found):
    return pl.DataFrame(found, schema={"value": pl.Int64, "rows": pl.Int64}, orient="row")


def test_histograms_of_lengths():
    first, second = plots.lengths([values((1, 1), (2, 1), (3, 2), (12, 4)), values((40, 1))])
    # Half octaves in whole numbers: 1, 1.41, 2, 2.83, 4, 5.66, 8, 11.3, 16, 22.6, 32, 45.3, rounded up.
    assert first.edges == second.edges == [1, 2, 3, 4, 6, 8, 12, 16, 23, 32, 46]
    assert first.counts == [1, 1, 2, 0, 0, 0, 4, 0, 0, 0] and second.counts == [0] * 9 + [1]
    assert (first.below, first.above, first.median, first.ticks) == (0, 0, 3, [1, 10])
    assert [first.place(value) for value in (1, 5, 10, 46)] == [0, 3.5, 5.5, 10]
    assert plots.lengths([values(), values()]) == [None, None]
    assert plots.lengths([values(), values((0, 3))])[1].below == 3  # an empty prompt lies below 1


def test_histograms_of_differences_and_margins():
    drawn = plots.signed(values((-20, 1), (-1, 2), (0, 3), (29, 94)))
    # 58 / 30 is rounded up to 2; 15 bins on either side reach from -30 to below 30.
    assert (drawn.edges[0], drawn.edges[-1], len(drawn.counts)) == (-30, 30, 30)
    assert (drawn.counts[5], drawn.counts[14], drawn.counts[15], drawn.counts[29]) == (1, 2, 3, 94)
    assert (drawn.below, drawn.above) == (0, 0)
    far = plots.signed(values((-10_000, 1), (0, 1000), (10_000, 1)))
    assert (far.below, far.above, sum(far.counts)) == (1, 1, 1000)
    margins = plots.margins(pl.DataFrame({"value": [0.04, 0.05, 0.5, 1.0], "rows": [1, 2, 3, 4]}))
    assert margins.counts == [1, 2, *[0] * 8, 3, *[0] * 8, 4] and margins.above == 0
    assert plots.signed(values()) is None and plots.margins(values()) is None


def test_pictures():
    svg = plots.histogram_svg(plots.signed(values((-3, 5), (2, 10))), "a < b", "difference")
    assert svg.count("<rect") == 2 and svg.count('"bar rejected"') == svg.count('"bar chosen"') == 1
    assert "-3 to -2: 5 pairs" in svg and "2 to 3: 10 pairs" in svg and "a &lt; b" in svg
    # A bar goes from the middle to its share.
    assert 'x="25.00" y="3" width="25.00"' in plots.share_svg(0.25, 0.2, 0.3)
    assert 'x="50.00" y="3" width="40.00"' in plots.share_svg(0.9, None, None)
    assert plots.share_svg(0.9, 0.8, 1.0).count('"interval"') == 3 and '"interval"' not in plots.share_svg(0.9, None, 1)
    assert doctest.testmod(plots).failed == 0
