"""Fits of the tiny Llama with a dashboard, and their runs as TensorBoard reads them."""

import polars as pl
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2

from data_tools.artifact import write_table
from data_tools.schema import PREFERENCE
from genrm_lightning.__main__ import main
from tests.tiny import preferences
from tests.tiny_star import write_yaml

CATEGORIES = ["maths", "chat/long"]


def config(folder, backbone, *, objective="GenRM", first_step=0, **trainer):
    """A fit of 11 pairs with 7 held-out ones, uneven for two processes, which validates after every second step."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = preferences(18).with_columns(category=pl.Series([CATEGORIES[i % 2] for i in range(18)]))
    write_table(rows[:11], folder / "train.parquet", PREFERENCE)
    write_table(rows[11:], folder / "validation.parquet", PREFERENCE)
    prompt = {"judge_prompt": "brief"} if objective == "GenRM" else {}
    return {
        "model": {
            "class_path": f"genrm_lightning.objectives.{objective}",
            "init_args": {
                "backbone": {"name": str(backbone), "lora": None}, "optimizer": {"learning_rate": 1e-3}, **prompt,
            },
        },
        "data": {
            "class_path": "genrm_lightning.data.Tables",
            "init_args": {
                "train": str(folder / "train.parquet"), "validation": str(folder / "validation.parquet"),
                "batch_size": 8,
            },
        },
        "trainer": {
            "accelerator": "cpu", "devices": 1, "precision": "32-true", "default_root_dir": str(folder / "out"),
            "val_check_interval": 2, "enable_progress_bar": False,
            "logger": {
                "class_path": "genrm_lightning.dashboards.logger.ContinuedLogger",
                "init_args": {"save_dir": str(folder), "version": "run", "first_step": first_step},
            },
            **trainer,
        },
    }  # fmt: skip


def fit(folder, backbone, *flags, **more):
    file = write_yaml(folder / "fit.yaml", config(folder, backbone, **more))
    assert main(["fit", "--config", str(file), *flags]) == 0
    return folder / "run"


def read(folder) -> EventAccumulator:
    return EventAccumulator(
        str(folder), size_guidance=dict.fromkeys(("scalars", "tensors", "images", "histograms"), 0)
    ).Reload()


def points(events) -> dict[str, list[int]]:
    """Steps of everything that has steps, by tag."""
    tags = events.Tags()
    found = {name: [e.step for e in events.Scalars(name)] for name in tags["scalars"]}
    found |= {name: [e.step for e in events.Histograms(name)] for name in tags["histograms"]}
    found |= {name: [e.step for e in events.Images(name)] for name in tags["images"]}
    return found | {name: [e.step for e in events.Tensors(name)] for name in tags["tensors"] if "text" in name}


def charts(events) -> dict[str, dict[str, list[str]]]:
    """category -> chart -> tags of the layout that TensorBoard takes, the last."""
    content = events.Tensors("custom_scalars__config__")[-1].tensor_proto.string_val[0]
    return {
        category.title: {
            chart.title: [t for s in chart.margin.series for t in (s.value, s.lower, s.upper)]
            or [t.strip("^$").replace("\\", "") for t in chart.multiline.tag]
            for chart in category.chart
        }
        for category in layout_pb2.Layout.FromString(content).category
    }
