"""The dashboard of fits of the tiny Llama, read back with TensorBoard's own readers."""

import json
import shutil
from html.parser import HTMLParser
from types import SimpleNamespace

import polars as pl
import pytest
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.custom_scalar.custom_scalars_plugin import CustomScalarsPlugin
from tensorboard.plugins.hparams import metadata
from tensorboard.plugins.text.text_plugin import plugin_util
from torch.utils.tensorboard import SummaryWriter

from data_tools.artifact import write_json
from genrm_lightning.__main__ import main
from genrm_lightning.dashboards import hparams
from genrm_lightning.dashboards.board import tags
from genrm_lightning.dashboards.layout import layout
from genrm_lightning.dashboards.samples import example_texts
from genrm_lightning.star import fitting
from genrm_lightning.star.variants import VARIANTS
from tests.dashboards.common import charts, config, fit, points, read
from tests.objectives.common import make
from tests.tiny import examples, preferences
from tests.tiny_star import write_yaml


@pytest.fixture(scope="module")
def whole(tiny_llama, tmp_path_factory):
    """The run of a fit of two epochs of three steps, in one go."""
    return fit(tmp_path_factory.mktemp("whole"), tiny_llama, max_epochs=2)


def test_every_chart_has_its_curves(whole):
    events = read(whole)
    shown, tags = charts(events), set(events.Tags()["scalars"])
    for title, category in shown.items():
        for name, chart in category.items():
            # Margin charts need each of theirs; of lines those are drawn that have points.
            assert set(chart) <= tags if title.startswith("Judge") else set(chart) & tags, name
    assert list(shown) == [
        "Judge on held-out pairs", "Judge by category (95 % interval)", "Loss", "Optimizer", "Pace",
    ]  # fmt: skip
    assert set(shown["Judge by category (95 % interval)"]) == {"maths", "chat_long"}
    assert shown["Loss"]["loss"] == ["train/loss", "val/loss"]
    assert shown["Optimizer"]["gradient norm before clipping"] == ["train/gradient_norm"]
    assert {"tokens a second", "memory, GiB", "share of the time in the step"} <= set(shown["Pace"])
    ends = [f"judge/accuracy{end}" for end in ("", "_low", "_high")]
    assert shown["Judge on held-out pairs"]["accuracy (95 % interval)"] == ends


def test_the_numbers_are_those_of_the_fit(whole):
    events = read(whole)
    ours, lightnings = ([(e.step, e.value) for e in events.Scalars(f"{name}/accuracy")] for name in ("judge", "val"))
    assert ours == lightnings and [step for step, _ in ours] == [1, 4]
    by_kind = [[e.value for e in events.Scalars(f"category/{name}")] for name in ("chat_long", "maths")]
    sizes = 4, 3  # of seven held-out pairs
    assert [(4 * a + 3 * b) / sum(sizes) for a, b in zip(*by_kind, strict=True)] == pytest.approx([v for _, v in ours])
    # Seven pairs in both orders are too few for pictures, not for a histogram and a curve.
    assert events.Tags()["images"] == []
    assert [e.histogram_value.num for e in events.Histograms("margins/verdict_log_odds")] == [14, 14]
    assert len(events.Tensors("judge/A_is_the_better_response")) == 2
    assert [e.value > 0 for e in events.Scalars("train/gradient_norm")] == [True] * 6


def test_charts_of_runs_shown_together_stand_once(whole, tmp_path):
    """One run with validation, one without: what both have is one chart, with the curves of both."""
    shutil.copytree(whole, tmp_path / "a")
    with SummaryWriter(str(tmp_path / "b")) as writer:
        writer.add_custom_scalars(layout({"train/loss", "train/margin", "lr-AdamW", "pace/busy"}))
    events = EventMultiplexer().AddRunsFromDirectory(str(tmp_path)).Reload()
    provider = MultiplexerDataProvider(events, str(tmp_path))
    found = CustomScalarsPlugin(TBContext(data_provider=provider)).layout_impl(RequestContext(), "")
    found = json.loads(found) if isinstance(found, str) else found
    titles = [(category["title"], chart["title"]) for category in found["category"] for chart in category["chart"]]
    assert len(titles) == len(set(titles)) and ("Chosen against rejected", "reward margin") in titles
    assert ("Judge on held-out pairs", "average precision") in titles


def test_settings_are_a_line_of_the_hparams_tab(whole):
    found = read(whole).summary_metadata
    content = {name: one.plugin_data.content for name, one in found.items()}
    started = metadata.parse_session_start_info_plugin_data(content[metadata.SESSION_START_INFO_TAG]).hparams
    assert started["objective"].string_value == "GenRM" and started["learning_rate"].number_value == 1e-3
    assert started["trained"].string_value == "all weights" and started["batch_size"].number_value == 8
    experiment = metadata.parse_experiment_plugin_data(content[metadata.EXPERIMENT_TAG])
    tags = read(whole).Tags()["scalars"]
    assert experiment.metric_infos[0].name.tag == "val/accuracy"
    assert all(one.name.tag in tags for one in experiment.metric_infos)
    first = {one.name for one in experiment.hparam_infos if one.differs}
    assert first == {"objective", "trained", "learning_rate", "batch_size", "epochs"}
    assert metadata.SESSION_END_INFO_TAG in content
    assert not [path for path in whole.iterdir() if path.is_dir()], "no run beside the fit's own"


def test_a_resumed_fit_shows_nothing_twice(whole, tiny_llama, tmp_path):
    """From a checkpoint of step 2, behind which its first life went on."""
    checkpoints = {
        "class_path": "lightning.pytorch.callbacks.ModelCheckpoint",
        "init_args": {"every_n_train_steps": 2, "save_top_k": -1, "filename": "{step}"},
    }
    fit(tmp_path, tiny_llama, max_epochs=2, callbacks=[checkpoints])
    last = tmp_path / "out/checkpoints/step=2.ckpt"
    assert main(["fit", "--config", str(tmp_path / "fit.yaml"), "--ckpt_path", str(last)]) == 0
    found, expected = points(read(tmp_path / "run")), points(read(whole))
    assert found.keys() == expected.keys()
    for name, steps in found.items():
        assert steps == sorted(set(steps)) or name == "epoch", name  # Lightning's own: of training, and of validation
    assert found["judge/accuracy"] == expected["judge/accuracy"]
    assert charts(read(tmp_path / "run")).keys() == charts(read(whole)).keys()


def test_a_resumed_fit_keeps_the_layout(tiny_llama, tmp_path):
    """No validation comes behind the checkpoint: the charts of the one before it stay."""
    checkpoints = {
        "class_path": "lightning.pytorch.callbacks.ModelCheckpoint",
        "init_args": {"every_n_train_steps": 3, "save_top_k": -1, "filename": "{step}"},
    }
    fit(tmp_path, tiny_llama, max_steps=3, max_epochs=2, callbacks=[checkpoints])
    before = charts(read(tmp_path / "run"))
    assert before["Judge on held-out pairs"]
    last = tmp_path / "out/checkpoints/step=3.ckpt"
    write_yaml(tmp_path / "fit.yaml", config(tmp_path, tiny_llama, max_steps=4, max_epochs=2))
    assert main(["fit", "--config", str(tmp_path / "fit.yaml"), "--ckpt_path", str(last)]) == 0
    events = read(tmp_path / "run")
    assert points(events)["train/loss"] == [0, 1, 2, 3] and points(events)["judge/accuracy"] == [1]
    assert charts(events) == before and len(events.Tensors("custom_scalars__config__")) > 1
    # A run of its own has no charts of the one that it came from.
    given = config(tmp_path, tiny_llama, max_steps=4, max_epochs=2)
    given["trainer"]["logger"]["init_args"]["version"] = "another"
    write_yaml(tmp_path / "fit.yaml", given)
    assert main(["fit", "--config", str(tmp_path / "fit.yaml"), "--ckpt_path", str(last)]) == 0
    assert "Loss" in (alone := charts(read(tmp_path / "another"))) and "Judge on held-out pairs" not in alone


def test_a_fit_shorter_than_the_logging_interval(tiny_llama, tmp_path):
    """Three steps, of which Lightning logs none: what is known at the end is shown all the same."""
    run = fit(tmp_path, tiny_llama, max_epochs=1, log_every_n_steps=50)
    events = read(run)
    assert "train/loss" not in events.Tags()["scalars"]
    assert list(charts(events)) == ["Judge on held-out pairs", "Judge by category (95 % interval)", "Loss", "Pace"]
    assert {metadata.SESSION_START_INFO_TAG, metadata.SESSION_END_INFO_TAG} <= events.summary_metadata.keys()
    assert points(events)["pace/tokens_per_second"] == [2]


def test_iterations_lie_behind_one_another(tiny_llama, tmp_path):
    run = fit(tmp_path, tiny_llama, objective="BradleyTerry", first_step=100, max_epochs=1)
    found = points(read(run))
    assert found["train/loss"] == [100, 101] and found["judge/accuracy"] == [101]
    assert found["margins/chosen_reward"] == [101] and min(found["pace/busy"]) >= 100
    # And where they lie is said by the fits before.
    folder = tmp_path / "star"
    for name, steps in ((fitting.WARM_START, 7), ("iteration-1", 20), ("iteration-2", 30)):
        (folder / name / "fit").mkdir(parents=True)
        write_json(folder / name / "fit/spent.json", {"steps": steps})
    offsets = [fitting._steps_before(folder / n / "fit", n) for n in (fitting.WARM_START, "iteration-1", "iteration-3")]
    assert offsets == [0, 7, 57]


def test_switched_off(tiny_llama, tmp_path):
    fit(tmp_path, tiny_llama, "--dashboard", "false", max_epochs=1)
    tags = read(tmp_path / "run").Tags()
    assert not [name for kind in tags.values() if isinstance(kind, list) for name in kind if "judge" in name]
    assert "train/gradient_norm" not in tags["scalars"] and "custom_scalars__config__" not in tags["tensors"]


class Page(HTMLParser):
    def __init__(self, markdown: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text = ""
        self.feed(plugin_util.markdown_to_safe_html(markdown))

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)

    def handle_data(self, data):
        self.text += data


def test_examples_are_shown_right_and_wrong(tiny_llama):
    rows = examples(6).with_columns(completion=pl.lit("<script>x</script>\n# It is.\n") + pl.col("completion"))
    for kind in ("dpo, direct", "rationalizer, told"):
        objective = make(kind, tiny_llama)
        rows = rows.with_columns(
            ref_logp=pl.lit(-1.0).cast(pl.Float32), ref_rejected_logp=pl.lit(-1.0).cast(pl.Float32)
        )
        trees = list(objective.trees(rows, objective.renderer))
        found = example_texts(trees, objective.renderer, 2)
        assert list(found) == ["examples/1", "examples/2"]
        for text in found.values():
            page = Page(text)
            assert page.tags == {"p", "strong", "pre", "code"} and "<script>x</script>" in page.text
            assert page.text.count("Wrong: it says") == kind.startswith("dpo") and "Right: it says" in page.text
            assert ("The sky is nice." in page.text) == kind.startswith("dpo")
            assert "Name an animal." in page.text
    verdicts = make("genrm", tiny_llama)
    assert example_texts(list(verdicts.trees(preferences(2), verdicts.renderer)), verdicts.renderer, 2) == {}


def test_every_star_fit_has_one_dashboard(tiny_llama, tmp_path):
    from genrm_lightning.cli import parse

    for variant in VARIANTS:
        settings = SimpleNamespace(
            fit={}, warm_start=None, variant=variant, judge_prompt="brief", too_long="drop", seed=0
        )
        given = fitting.fit_config(settings, tmp_path, str(tiny_llama), tmp_path, tmp_path, "iteration-2", 5)
        read = parse("fit", given, "here").fit
        ours = [one for one in read.trainer.callbacks if one.class_path == fitting.DASHBOARD]
        assert len(ours) == 1 and ours[0].init_args.before[0] == "STaR" and not ours[0].init_args.hparams
        assert read.trainer.logger.init_args.first_step == 5
    for off in ({"dashboard": False}, {"trainer": {"logger": False}}):
        settings.fit = off
        given = fitting.fit_config(settings, tmp_path, str(tiny_llama), tmp_path, tmp_path, "iteration-2")
        assert fitting.DASHBOARD not in str(given)


def test_names_and_settings():
    names = ["a/b  c\x1b[1m<i>", "", "a" * 99]
    assert list(tags(names).values()) == ["a_b c__1m_i_", "_", "a" * 40]
    alike = ["a/b", "a_b", "b" * 50, "b" * 51]
    ends = list(tags([*alike, "c"]).values())
    assert len(set(ends)) == 5 and max(map(len, ends)) == 40 and ends[-1] == "c"
    assert [end.split(" ")[0] for end in ends[:4]] == ["a_b", "a_b", "b" * 33, "b" * 33]
    assert tags(reversed(alike)) == tags(alike), "whatever their order"
    given = {
        "model": {"init_args": {"backbone": {"name": "/x/y/tiny", "lora": {"rank": 4}}, "beta": 0.1, "kinds": [1]}}
    }
    assert hparams.of_fit({**given, "data": None, "trainer": {"max_steps": -1, "max_epochs": 3}}) == {
        "backbone": "tiny", "trained": "LoRA, rank 4", "beta": 0.1, "epochs": 3,
    }  # fmt: skip
