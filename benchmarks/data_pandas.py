"""The cases of data_sides.py with pandas: Arrow's columns in blocks, read with Arrow's threads; Python only to hash."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.data_labels import JUDGED, SPLITS, TABLE, label

BLOCK = 128 * 2**20  # bytes of JSON Lines that are read at once
ROWS = 200_000  # rows of a table that are read at once
HELD = 2 * 2**30  # bytes of input whose blocks are kept; larger files are read twice
TEXT = pd.ArrowDtype(pa.string())
LABEL = pd.CategoricalDtype(SPLITS)


def run(case: str, folder: Path, out: Path) -> None:
    pairs = folder / "pairs.parquet"
    if case == "join":
        judgments = pq.read_table(folder / "judgments.parquet", columns=JUDGED).to_pandas(types_mapper=pd.ArrowDtype)
        judgments = judgments.set_index("pair_id")
        write((frame.join(judgments, on="pair_id", how="inner") for frame in table_blocks(pairs)), out)
    elif case == "split":
        write((frame.assign(split=labels(keys(frame["prompt"]))) for frame in table_blocks(pairs)), out)
    elif case == "clean":
        write(usable(pairs, table_blocks, facts), out)
    else:
        found = usable(folder / "raw.jsonl", json_blocks, lambda frame: facts(frame, labelled=True))
        write((frame.rename(columns={"id": "pair_id"}) for frame in found), out, by_split=True)


def json_blocks(file: Path) -> Iterator[pd.DataFrame]:
    with open(file, "rb") as handle:
        while block := handle.read(BLOCK):
            lines = io.BytesIO(block + handle.readline())
            yield pd.read_json(lines, lines=True, engine="pyarrow", dtype_backend="pyarrow")


def table_blocks(file: Path) -> Iterator[pd.DataFrame]:
    for batch in pq.ParquetFile(file).iter_batches(ROWS):
        yield pa.Table.from_batches([batch]).to_pandas(types_mapper=pd.ArrowDtype)


def usable(
    file: Path,
    read: Callable[[Path], Iterable[pd.DataFrame]],
    facts_of: Callable[[pd.DataFrame], pd.DataFrame],
) -> Iterator[pd.DataFrame]:
    """The usable rows, in blocks; with their label where ``facts_of`` tells it."""
    held = list(read(file)) if file.stat().st_size < HELD else None
    found = pd.concat([facts_of(frame) for frame in held or read(file)], ignore_index=True)
    # Of a couple that is preferred both ways two rows are left here, of any other one.
    first = found[found["usable"]].drop_duplicates(["couple", "in_order"])
    found["usable"] = found.index.isin(first.index[~first.duplicated("couple", keep=False)])
    start = 0
    for frame in held or read(file):
        its = found.iloc[start : start + len(frame)].set_axis(frame.index)
        start += len(frame)
        kept = frame[its["usable"]]
        yield kept.assign(split=its["split"]) if "split" in its else kept


def facts(frame: pd.DataFrame, labelled: bool = False) -> pd.DataFrame:
    """Of each row: whether it says something, a hash of its couple, and which of the couple is preferred."""
    chosen, rejected, key = frame["chosen"].str.strip(), frame["rejected"].str.strip(), keys(frame["prompt"])
    in_order = chosen < rejected
    turns = joined(
        frame["prompt"], lambda turn: turn.field("role") + "\x1f" + turn.field("content").str.strip(), "\x1e"
    )
    couple = turns + "\x1e" + chosen.where(in_order, rejected) + "\x1e" + rejected.where(in_order, chosen)
    found = pd.DataFrame(
        {
            "usable": (key != "") & (chosen != "") & (rejected != "") & (chosen != rejected),
            "couple": pd.util.hash_array(couple.to_numpy(object), categorize=False),
            "in_order": in_order,
        }
    ).astype({"usable": bool, "in_order": bool})
    return found.assign(split=labels(key).astype(LABEL)) if labelled else found


def keys(prompt: pd.Series) -> pd.Series:
    """What the label is drawn from."""
    contents = joined(prompt, lambda turn: turn.field("content"), "\n")
    return contents.str.lower().str.replace(r"\s+", " ", regex=True).str.strip()


def labels(key: pd.Series) -> pd.Series:
    codes, prompts = pd.factorize(key)
    return pd.Series([label(prompt) for prompt in prompts], dtype=TEXT).take(codes).set_axis(key.index)


def joined(prompt: pd.Series, text_of: Callable[[pd.Series], pd.Series], between: str) -> pd.Series:
    """A text of each turn, and those of a conversation in one. No function of pandas joins lists fast: Arrow's does."""
    texts = pa.chunked_array(text_of(prompt.list.flatten().struct)).combine_chunks().cast(pa.string())
    ends = prompt.list.len().cumsum().to_numpy("int32")
    lists = pa.ListArray.from_arrays(pa.array([0, *ends], pa.int32()), texts)
    return pd.Series(pc.binary_join(lists, between), dtype=TEXT, index=prompt.index)


def write(frames: Iterable[pd.DataFrame], out: Path, by_split: bool = False) -> None:
    """A block after the other into one file, or a file a split."""
    writers: dict[str, pq.ParquetWriter] = {}
    with ExitStack() as stack:
        for frame in frames:
            parts = (
                {f"{name}.parquet": frame[frame["split"] == name] for name in SPLITS} if by_split else {TABLE: frame}
            )
            for name, part in parts.items():
                table = pa.Table.from_pandas(part, preserve_index=False)
                if name not in writers:
                    writers[name] = stack.enter_context(pq.ParquetWriter(out / name, table.schema, compression="zstd"))
                writers[name].write_table(table)
