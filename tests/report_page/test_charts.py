"""Charts: where values lie, and what the pointer is told."""

import re

import pytest

from genrm_lightning.report_page.charts.axes import Axes, around, series
from genrm_lightning.report_page.charts.heat import Cell, heat_map, shade
from genrm_lightning.report_page.charts.intervals import bar_svg, interval_svg
from genrm_lightning.report_page.charts.lines import Level, Line, Point, line_chart
from genrm_lightning.report_page.charts.reliability import reliability


def test_places_on_axes():
    bare = dict.fromkeys(("left", "right", "top", "bottom"), 0)
    axes = Axes((1, 16), (0.5, 0.9), [], [], "x", logarithmic=True, width=200, height=100, **bare)
    assert [axes.across(x) for x in (1, 4, 16)] == [0, 100, 200]
    assert [axes.up(y) for y in (0.5, 0.7, 0.9, 2.0)] == pytest.approx([100, 50, 0, 0])


@pytest.mark.parametrize("low, high", [(0.0, 1.0), (0.5, 0.5), (0.871, 0.872), (0.0, 0.0), (1.0, 1.0), (0.43, 0.98)])
def test_a_range_holds_its_values_in_few_ticks(low, high):
    (first, last), ticks = around(low, high)
    assert first <= low <= high <= last and 0 <= first < last <= 1 and 2 <= len(ticks) <= 7


def test_a_line_chart_has_its_points_bands_and_names():
    points = [Point(1, 0.6, 0.5, 0.7), Point(2, 0.8, 0.7, 0.9)]
    lines = [Line("<b>one", 0, points), Line("two", 9, points[:1], dashed=True)]
    svg = line_chart(lines, [(1, "1"), (2, "2")], "K", "%", levels=[Level(0.5, "coin")])
    assert svg.count("<circle") == 3 and svg.count("<polygon") == 1 and svg.count("whisker") == 1
    assert "&lt;b&gt;one: 60.0 % (50.0 to 70.0)" in svg and "s9 m1 d1" in svg and "coin" in svg
    many = [Line(str(i), i, points) for i in range(6)]
    svg = line_chart(many, [(1, "1"), (2, "2")], "K", "%")
    assert svg.count("<polygon") == 0 and len(set(re.findall(r'whisker[^>]*x1="([\d.]+)"', svg))) == 12  # side by side


def test_a_series_beyond_the_colours_has_a_dash():
    assert [series(i) for i in (0, 7, 8, 23, 40)] == ["s0 m0", "s7 m7", "s8 m0 d1", "s23 m7 d2", "s40 m0 d2"]


def test_reliability_leaves_out_empty_bins():
    bins = [
        {"mean_p": 0.9, "share_right": 0.8, "share_low": 0.7, "share_high": 0.9, "n": 30},
        {"mean_p": None, "share_right": None, "share_low": None, "share_high": None, "n": 0},
        {"mean_p": 0.6, "share_right": 0.6, "share_low": None, "share_high": None, "n": 10},
    ]
    svg = reliability(bins, 1, "x")
    assert svg.count("<circle") == 2 and svg.count("whisker") == 1 and "30 verdicts" in svg


def test_intervals_lie_on_their_scale():
    svg = interval_svg(0.75, 0.7, 0.8, (0.5, 1.0), 0, marks=[0.5])
    assert 'x1="50.00"' in svg and 'x="40.00"' in svg and 'width="20.00"' in svg and "70.0 % to 80.0 %" in svg
    assert "range" not in interval_svg(0.75, None, None, (0.5, 1.0), 0)
    bar = bar_svg(-0.25, -0.3, -0.2, (-0.5, 0.5), 2)
    assert 'x="25.00"' in bar and 'width="25.00"' in bar and bar.count("class=interval") == 3


def test_heat_is_deeper_towards_the_ends():
    assert [shade(x) for x in (-2, -0.3, 0.05, 0.5, 1)] == ["n5", "n2", "none", "p2", "p5"]
    html = heat_map("<i>", ["a/b"], [("r", [Cell("1", 1.0, "<said>")]), ("s", [None])], ["s0", "s1"])
    assert 'class="p5" title="&lt;said&gt;"' in html and '<td class="none">–</td>' in html and "a/<wbr>b" in html
    html = heat_map("x", ["a", "b"], [("r", [Cell("1", 1.0), None])], ["s0"], ["s0", "s1"])
    assert "<th scope=col class=s1>b" in html and 'class="p5 s0"' in html and 'class="none s1"' in html


def test_labels_of_two_lines_and_room_beside_the_first_x():
    line = Line("one", 0, [Point(0, 0.6), Point(1, 0.8)])
    svg = line_chart([line], [(0, "−9\nto −1"), (1, "0")], "x", "%", inset=0.5)
    assert 'y="208.0" text-anchor=middle>−9</text>' in svg and 'y="220.0" text-anchor=middle>to −1</text>' in svg
    assert 'viewBox="0 0 360 242"' in svg and 'cx="120.0"' in svg and 'cx="272.0"' in svg  # a quarter from either end


def test_values_beyond_all_shares_do_not_fill_the_page():
    assert around(-5.0, 1e12) == around(0.0, 1.0)
