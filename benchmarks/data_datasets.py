"""The cases of data_sides.py with datasets: its own loaders, batched functions on every core, no text copied twice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import datasets as hf
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.data_labels import JUDGED, SPLITS, TABLE, label
from data_tools.order import hash64


def run(case: str, folder: Path, out: Path, workers: int) -> None:
    hf.disable_progress_bars()

    def load(kind: str, name: str) -> hf.Dataset:
        return hf.load_dataset(kind, data_files=str(folder / name), split="train", cache_dir=str(out / "cache"))

    def narrow(table: hf.Dataset, function: Callable[..., dict[str, list]]) -> hf.Dataset:
        used = table.select_columns(["prompt", "chosen", "rejected"])
        return used.map(function, batched=True, num_proc=workers, remove_columns=used.column_names)

    def rows(table: hf.Dataset, mask: np.ndarray) -> hf.Dataset:
        """Those of the mask, copied by every core: written through a list of their places they take longer."""
        return table.with_format("arrow").map(
            lambda batch, at: batch.filter(pa.array(mask[at])),
            batched=True, batch_size=10_000, with_indices=True, num_proc=workers,
        )  # fmt: skip

    def write(table: hf.Dataset, name: str = TABLE) -> None:
        table.to_parquet(out / name)

    if case == "ingest":
        table = load("json", "raw.jsonl").rename_column("id", "pair_id")
        facts = narrow(table, labelled_facts).with_format("numpy")[:]
        table = table.add_column("split", np.array(SPLITS)[facts["split"]].tolist())
        usable = mask_of(facts)
        for number, name in enumerate(SPLITS):
            write(rows(table, usable & (facts["split"] == number)), f"{name}.parquet")
        return
    table = load("parquet", "pairs.parquet")
    if case == "clean":
        write(rows(table, mask_of(narrow(table, facts_of).with_format("numpy")[:])))
    elif case == "split":
        labels = narrow(table, lambda batch: {"split": [label(normal(turns)) for turns in batch["prompt"]]})
        write(table.remove_columns("split").add_column("split", labels["split"][:]))
    else:  # there is no join: judgments in the order of the pairs, as columns
        judged = load("parquet", "judgments.parquet").select_columns(JUDGED).with_format("arrow")[:]
        judged = judged.take(pc.index_in(table.data.column("pair_id"), judged["pair_id"]))
        for name in JUDGED[1:]:
            table = table.add_column(name, judged[name].to_pylist())
        write(table)


def facts_of(batch: dict[str, list]) -> dict[str, list]:
    """Of each row: whether it says something, and a number of its couple with the order in the last bit."""
    found: dict[str, list] = {"usable": [], "pair": []}
    for turns, chosen, rejected in zip(batch["prompt"], batch["chosen"], batch["rejected"], strict=True):
        chosen, rejected = chosen.strip(), rejected.strip()
        contents = [turn["content"].strip() for turn in turns]
        texts = [part for turn, content in zip(turns, contents, strict=True) for part in (turn["role"], content)]
        in_order = chosen < rejected
        texts += [chosen, rejected] if in_order else [rejected, chosen]
        found["usable"].append(bool(any(contents) and chosen and rejected and chosen != rejected))
        found["pair"].append((hash64("pair", "\x1e".join(texts)) >> 2 << 1) + in_order)
    return found


def labelled_facts(batch: dict[str, list]) -> dict[str, list]:
    return facts_of(batch) | {"split": [SPLITS.index(label(normal(turns))) for turns in batch["prompt"]]}


def mask_of(facts: dict[str, np.ndarray]) -> np.ndarray:
    """Whether each row stays: the first of equal ones, if no row prefers the couple the other way round."""
    usable = np.flatnonzero(facts["usable"])
    pair, first = np.unique(facts["pair"][usable], return_index=True)
    couple, orders = np.unique(pair >> 1, return_counts=True)
    mask = np.zeros(len(facts["usable"]), bool)
    mask[usable[first[np.isin(pair >> 1, couple[orders == 1])]]] = True
    return mask


def normal(turns: list[dict[str, str]]) -> str:
    return " ".join("\n".join(turn["content"] for turn in turns).lower().split())
