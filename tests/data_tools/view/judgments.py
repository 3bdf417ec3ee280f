"""Judgments by hand."""

import polars as pl

from data_tools.schema import JUDGMENT, conform


def judgment(pair, verdict, p_a, **more):
    return {"pair_id": pair, "swapped": False, "verdict": verdict, "p_a": p_a, "rationale": f"of {pair}", **more}


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    conform(pl.DataFrame(rows), JUDGMENT).write_parquet(path)
    return path
