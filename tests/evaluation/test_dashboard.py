"""The dashboard, read back with TensorBoard's own reader and rendered with its own Markdown."""

from __future__ import annotations

import random
import re
from dataclasses import fields
from html.parser import HTMLParser

import polars as pl
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugin_util import markdown_to_safe_html
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import metadata

from data_tools.artifact import temporary_name
from data_tools.order import chosen_is_a
from genrm_lightning.compare.board import write_board
from genrm_lightning.evaluation import dashboard, report
from genrm_lightning.evaluation.dashboard import Samples, code_block, write_dashboard
from genrm_lightning.evaluation.faithfulness_scores import Faithfulness
from genrm_lightning.evaluation.rationales import rationale_scores
from genrm_lightning.evaluation.report import with_set
from genrm_lightning.evaluation.scores import set_scores

IDS = [f"p{i}" for i in range(6)]


@pytest.fixture
def tables(judgments, preferences):
    def make(right: int):
        frame = judgments({p: ([(0.9, "right") if i < right else (0.2, "INVALID")],) * 2 for i, p in enumerate(IDS)})
        return frame, preferences(IDS)

    return make


@pytest.fixture
def rows(tables):
    def one(kind, iteration, right, **extra):
        return report.row(kind, iteration, {k: set_scores(*tables(right)) for k in ("id", "ood")}, **extra)

    return [
        one("zero_shot", 0, 3),
        one("warm_start", 0, 4),
        one("iteration", 1, 4, kept=7, sampled=12, seconds=8.5),
        one("iteration", 2, 6, kept=9, sampled=12, seconds=9.5),
    ]


def read(folder) -> EventAccumulator:
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    return events.Reload()


def points(folder, tag) -> list[tuple[int, float]]:
    return [(e.step, pytest.approx(e.value, abs=1e-6)) for e in read(folder).Scalars(tag)]


def test_scalars_are_the_rows_numbers(rows, tmp_path):
    folder = write_dashboard(tmp_path, rows)
    assert folder == tmp_path / "star"
    assert points(folder, "star/accuracy_id") == [(0, 0.5), (1, 4 / 6), (2, 1.0)]
    assert points(folder, "star/accuracy_ood_low") == [
        (r["iteration"], r["accuracy_ood_low"]) for r in rows if r["kind"] != "warm_start"
    ]
    # Where there is no number (the zero-shot judge was not trained), there is no point, and no 0 either.
    assert points(folder, "star/kept") == [(1, 7), (2, 9)]
    assert points(folder, "star/seconds") == [(1, 8.5), (2, 9.5)]
    assert {"star/invalid_rate_id", "star/position_consistent_accuracy_ood"} <= set(read(folder).Tags()["scalars"])
    # The warm start is no iteration: a run of its own, so that step 0 stays the zero-shot judge.
    assert points(folder / "warm_start", "star/accuracy_id") == [(0, 4 / 6)]


def test_rebuilding_replaces(rows, tables, tmp_path):
    (tmp_path / "fit").mkdir()
    (tmp_path / "fit" / "events.out.tfevents.1").write_bytes(b"of a fit")
    samples = [Samples("zero-shot", "id", *tables(3))]
    write_dashboard(tmp_path, rows[:2], samples)
    write_dashboard(tmp_path, rows[:3], samples)
    folder = write_dashboard(tmp_path, [rows[0], *rows[2:]], samples)
    assert points(folder, "star/accuracy_id") == [(0, 0.5), (1, 4 / 6), (2, 1.0)]
    files = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file())
    assert len(files) == 2 and files[0] == "fit/events.out.tfevents.1" and files[1].startswith("star/events.out")


def test_the_new_file_is_whole_before_the_old_one_goes(rows, tmp_path, monkeypatch):
    """A failure while writing leaves what was there; TensorBoard never sees a half-written event file."""
    write_dashboard(tmp_path, rows[:1])
    monkeypatch.setattr(dashboard.shutil, "copyfile", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_dashboard(tmp_path, rows)
    assert points(tmp_path / "star", "star/accuracy_id") == [(0, 0.5)]


def charts(folder) -> dict[str, dict[str, list[str]]]:
    """category -> chart -> the tags of its value and its ends, as TensorBoard reads the layout."""
    config = read(folder).Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0]
    return {
        category.title: {
            chart.title: [tag for series in chart.margin.series for tag in (series.value, series.lower, series.upper)]
            for chart in category.chart
        }
        for category in layout_pb2.Layout.FromString(config).category
    }


def test_layout_names_tags_that_exist(rows, tmp_path):
    folder = write_dashboard(tmp_path, rows)
    found = charts(folder)
    tags = set(read(folder).Tags()["scalars"])
    assert all(len(chart) == 3 and set(chart) <= tags for category in found.values() for chart in category.values())
    accuracies = [f"star/accuracy_{key}{end}" for key in ("ood", "id") for end in ("", "_low", "_high")]
    assert [tag for chart in found["STaR"].values() for tag in chart] == accuracies  # shown from the last to the first
    assert found["STaR: verdicts"]["right in both orders"] == ["star/position_consistent_accuracy_id"] * 3
    # Nobody asked about rationales here: no empty chart tells of it.
    assert list(found) == ["STaR", "STaR: verdicts", "STaR: rationales"]


def test_every_chart_shows_where_a_row_has_every_number(rows, tables, tmp_path):
    """A chart of a number that nobody writes would never show."""
    asked = Faithfulness(*[0.5] * len(fields(Faithfulness))).as_dict()
    scores = {name: 0.5 if value is None else value for name, value in rationale_scores(*tables(3), "brief").items()}
    more = {"kept_share": 0.5, **with_set(asked, "id"), **with_set(scores, "id")}
    more |= {f"accuracy_validation{end}": 0.5 for end in ("", "_low", "_high")}
    found = charts(write_dashboard(tmp_path, [row | more for row in rows]))
    assert {title: set(shown) for title, shown in found.items()} == {
        title: set(wanted) for title, wanted in dashboard._CHARTS.items()
    }
    with_interval = {name for shown in found.values() for name, chart in shown.items() if len(set(chart)) == 3}
    assert with_interval == {name for shown in found.values() for name in shown if "95 % interval" in name}


def test_rationales_follow_the_same_pairs(rows, tables, tmp_path):
    samples = [Samples("zero-shot", "id", *tables(3)), Samples("iteration 2", "id", *tables(6))]
    events = read(write_dashboard(tmp_path, rows, samples, n_samples=2))
    tags = [t for t in events.Tags()["tensors"] if t.startswith("rationales/")]
    assert tags == ["rationales/id_1/text_summary", "rationales/id_2/text_summary"]
    for tag in tags:
        texts = {e.step: e.tensor_proto.string_val[0].decode() for e in events.Tensors(tag)}
        assert list(texts) == [0, 2]
        pair = re.search(r"request of (p\d)", texts[0])[1]
        assert f"    request of {pair}\n" in texts[2] and f"    good {pair}\n" in texts[2]
        assert "    the first one is shorter\n" in texts[0]
        right = "A" if chosen_is_a(pair, False) else "B"
        start = f"**right**: the better response is {right}, p({right}) = 0.900"
        assert texts[2].startswith(start) and f"own text says {right} (right)" in texts[2]
        if int(pair[1]) >= 3:  # the zero-shot judge knew the first three only
            assert texts[0].startswith("**wrong**") and "says INVALID (wrong)" in texts[0]


def test_responses_stand_under_their_letters(tables):
    judgments, preferences = tables(6)
    for text in dashboard.rationale_texts(Samples("zero-shot", "id", judgments, preferences), 6).values():
        right = re.search(r"the better response is (\w)", text)[1]
        assert re.search(r"Response (\w):\n\n    good", text)[1] == right


class Tags(HTMLParser):
    """The tags of a page, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        assert not attrs

    def handle_data(self, data):
        self.text += data


EVIL = [
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "x\n<img src='http://127.0.0.1/x'>\n\n![x](http://127.0.0.1/y)",
    "```\n# not a heading\n```\n~~~\n[link](javascript:alert(1))",
    "a\r<b>bold</b>\r\n# heading\x0b# heading\x0c# heading\x85# heading\u2028# heading\u2029| a | b |",
    "\n\n\n# after blank lines\n\n- list\n\n\n1. list",
    "| a | b |\n|---|---|\n| 1 | 2 |",
    "\x02wzxhzdk:0\x03 \x02klzzwxh:0001\x03 &lt;b&gt; <!-- <?php ?> <![CDATA[ ]]>",
    "</code></pre><h1>out</h1>",
    "\t<i>tab</i>\n  \t# tab",
    "<div markdown=1>\n\n# x\n\n</div>",
    "[x]: http://127.0.0.1/ 'title'\n\n[x] <http://127.0.0.1/>",
    "",
    " \n\t\n ",
]


@pytest.mark.parametrize("text", EVIL)
def test_text_of_data_is_shown_and_never_rendered(text):
    page = Tags(markdown_to_safe_html(f"head\n\n{code_block(text)}\n\ntail"))
    assert page.tags == ["p", "pre", "code", "p"]
    # Readable as it stood: every printable character is still there.
    visible = [c for c in text if c.isprintable() and not c.isspace()]
    assert [c for c in page.text.removeprefix("head").removesuffix("tail") if c in visible] == visible


def test_random_mixtures_are_never_rendered():
    generator = random.Random(0)
    pieces = [
        *EVIL,
        "\n",
        "\n\n",
        "    ",
        "\t",
        "<",
        ">",
        "&",
        "`",
        "```",
        "~~~",
        "#",
        "\r",
        "\x0c",
        "-",
        "***",
        "</pre>",
    ]
    for _ in range(300):
        text = "".join(generator.choices(pieces, k=8))
        page = Tags(markdown_to_safe_html(f"head\n\n{code_block(text)}\n\ntail"))
        assert page.tags == ["p", "pre", "code", "p"], repr(text)


def test_every_field_of_the_tables_is_untrusted(tables):
    judgments, preferences = tables(6)
    evil = pl.lit("# x\n<script>alert(1)</script>\n```\n")
    pair = "<h1>p</h1>\n# x"
    judgments = judgments.head(1).with_columns(rationale=evil, verdict=evil, pair_id=pl.lit(pair))
    content = pl.concat_list(pl.struct(role=pl.lit("user"), content=evil))
    preferences = preferences.head(1).with_columns(chosen=evil, rejected=evil, prompt=content, pair_id=pl.lit(pair))
    texts = dashboard.rationale_texts(Samples("zero-shot", "id", judgments, preferences), 1)
    (text,) = texts.values()
    page = Tags(markdown_to_safe_html(text))
    assert page.tags == ["p", "strong", *["p", "pre", "code"] * 5]
    assert page.text.count("<script>") == 4


def test_control_characters_do_nothing_and_long_texts_are_cut():
    assert code_block("a\u202eb\x1b[31mc") == "    a\ufffdb\ufffd[31mc"
    assert code_block("x" * 50, most=10) == "    " + "x" * 10 + " …"


def test_what_a_killed_writer_left_goes_and_what_a_user_keeps_stays(rows, tmp_path):
    folder = write_dashboard(tmp_path, rows)
    left = folder / temporary_name("events")
    left.write_bytes(b"half")
    (folder / ".notes.tmpl").write_text("mine")
    (folder / "notes.txt").write_text("mine")
    write_dashboard(tmp_path, rows)
    assert not left.exists()
    names = sorted(path.name for path in folder.iterdir() if path.is_file() and "tfevents" not in path.name)
    assert names == [".notes.tmpl", "notes.txt"]


def test_refuses(rows, tables, tmp_path):
    with pytest.raises(ValueError, match="samples of a row"):
        write_dashboard(tmp_path, rows, [Samples("iteration 7", "id", *tables(3))])
    with pytest.raises(ValueError, match="one row a step"):
        write_dashboard(tmp_path, [rows[0], {**rows[0], "label": "again"}])
    assert not (tmp_path / "star").exists()


def test_settings_make_a_run_a_line_of_the_hparams_tab(rows, tmp_path):
    plain = read(write_dashboard(tmp_path / "plain", rows)).summary_metadata
    found = read(write_dashboard(tmp_path / "one", rows, settings={"method": "star-dpo", "learning_rate": 1e-3}))
    tags = {metadata.EXPERIMENT_TAG, metadata.SESSION_START_INFO_TAG, metadata.SESSION_END_INFO_TAG}
    assert not tags & plain.keys() and tags <= found.summary_metadata.keys()
    content = found.summary_metadata[metadata.EXPERIMENT_TAG].plugin_data.content
    experiment = metadata.parse_experiment_plugin_data(content)
    assert experiment.metric_infos[0].name.tag == "star/accuracy_id"
    assert {one.name for one in experiment.hparam_infos} == {"method", "learning_rate"}


def test_a_comparison_shows_accuracies_first(tmp_path):
    row = {
        "method": "a",
        "label": "A",
        "seeds": 1,
        "steps": 3,
        "accuracy_ood": 0.5,
        "accuracy_id": 0.75,
        "seconds": None,
    }
    write_board(tmp_path / "board", [row])
    found = read(tmp_path / "board/a")
    content = found.summary_metadata[metadata.EXPERIMENT_TAG].plugin_data.content
    shown = [one.name.tag for one in metadata.parse_experiment_plugin_data(content).metric_infos]
    assert shown == [f"compare/{name}" for name in ("accuracy_id", "accuracy_ood", "seeds", "steps")]
    assert found.Scalars("compare/accuracy_id")[0].value == 0.75
