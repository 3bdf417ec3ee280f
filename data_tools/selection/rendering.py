"""The rows that were chosen -> EXAMPLE: their texts are fetched, completions and prompts rendered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from data_tools.judging import CLOSE, FRAME, render_prompt
from data_tools.order import responses
from data_tools.schema import EXAMPLE, check, conform
from data_tools.selection.frames import Judgments

PART = 50_000  # examples in memory at a time, with their texts


@dataclass(frozen=True)
class Chosen:
    """What a selection chose: rows by their number in the scan, in the order of the examples."""

    rows: pl.DataFrame
    judgments: Judgments
    preferences: pl.LazyFrame
    template: str

    def examples(self) -> pl.DataFrame:
        """EXAMPLE, all at once."""
        return self._rendered(self.rows, self._texts().collect(engine="streaming"), self.preferences)

    def parts(self, scratch: Path) -> Iterator[pl.DataFrame]:
        """EXAMPLE in parts of PART rows; what they need is put in order in files in ``scratch``, in one pass each."""
        if self.rows.height <= PART:
            yield self.examples()
            return
        rows = self.rows.with_row_index("part").with_columns(pl.col("part") // PART)
        needed = _sides(rows, "part").unique()
        texts = self.judgments.texts(needed.lazy(), "rationale", "token_ids")
        pairs = rows.select("pair", "part").unique().join(self.judgments.pairs.select("pair", "pair_id"), on="pair")
        pairs = pairs.select("pair_id", "part")
        preferences = self.preferences.join(pairs.lazy(), on="pair_id", build_side="force_right")
        for name, table in (("texts", texts), ("preferences", preferences)):
            table.sink_parquet(pl.PartitionBy(scratch / name, key="part"), mkdir=True, engine="streaming")
        for number, part in rows.group_by("part", maintain_order=True):
            texts, preferences = (
                pl.scan_parquet(scratch / name / f"part={number[0]}" / "*.parquet") for name in ("texts", "preferences")
            )
            yield self._rendered(part, texts.collect(), preferences)

    def _texts(self) -> pl.LazyFrame:
        return self.judgments.texts(_sides(self.rows).lazy(), "rationale", "token_ids", how="semi")

    def _rendered(self, rows: pl.DataFrame, texts: pl.DataFrame, preferences: pl.LazyFrame) -> pl.DataFrame:
        frame = rows.join(self.judgments.pairs.select("pair", "pair_id"), on="pair", how="left", maintain_order="left")
        other = pl.when(pl.col("letter") == "A").then(pl.lit("B")).otherwise(pl.lit("A"))
        sides = [("", "completion", "completion_ids", pl.col("vote").cast(pl.String))]
        if "rejected_row" in rows.columns:
            sides.append(("rejected_", "rejected_completion", "rejected_ids", other))
        for side, text, ids, vote in sides:
            fetched = texts.select(
                pl.col("row").alias(f"{side}row"), pl.col("rationale").alias(text), pl.col("token_ids").alias(ids)
            )
            frame = frame.join(fetched, on=f"{side}row", how="left", maintain_order="left").with_columns(
                pl.concat_str(pl.col(text), pl.lit(FRAME), vote, pl.lit(CLOSE)).alias(text),
                pl.when(pl.col(f"{side}own_ids")).then(ids).alias(ids),
            )
        prompts = self._prompts(frame.select("pair_id", "swapped").unique(maintain_order=True), preferences)
        frame = frame.join(prompts, on=["pair_id", "swapped"], how="left", maintain_order="left")
        return check(conform(frame, EXAMPLE), EXAMPLE, "examples")

    def _prompts(self, places: pl.DataFrame, preferences: pl.LazyFrame) -> pl.DataFrame:
        """Each prompt is rendered once."""
        pairs = preferences.select("pair_id", "chosen", "rejected", conversation="prompt")
        pairs = pairs.join(places.lazy().select("pair_id").unique(), on="pair_id", how="semi").collect(
            engine="streaming"
        )
        places = places.join(pairs, on="pair_id", how="left", maintain_order="left")
        prompts = []
        for row in places.iter_rows(named=True):
            a, b, _ = responses(row["pair_id"], row["swapped"], row["chosen"], row["rejected"])
            prompts.append(render_prompt(row["conversation"], a, b, self.template))
        return places.select("pair_id", "swapped", pl.Series("prompt", prompts, dtype=EXAMPLE["prompt"]))


def _sides(rows: pl.DataFrame, *columns: str) -> pl.DataFrame:
    """The rows of both sides of the examples."""
    sides = [rows.select("row", *columns)]
    if "rejected_row" in rows.columns:
        sides.append(rows.select(pl.col("rejected_row").alias("row"), *columns).drop_nulls("row"))
    return pl.concat(sides)
