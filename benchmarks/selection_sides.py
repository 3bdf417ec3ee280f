"""One selection, three times: with data_tools, with pandas, with datasets. ``python -m benchmarks.selection_sides``.

Right votes of pairs that are judged right by most samples in either order, but not always; the first of equal texts in
a prompt; ranked by R*; coupled with the wrong samples rank by rank, neither more than twice as long as the other; the
best couple of a prompt; pairs with both orders; as many A as B; rendered as EXAMPLE. Case ``texts`` besides: right
samples without repetition, distinct over the whole table.
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from data_tools.judging import Verdict, render_completion, render_prompt
from data_tools.order import chosen_is_a, hash64, responses
from data_tools.words import ngrams, words

CASES = ("votes", "texts")
FILTERS = ("right_in_both", "consistency_band", "max_length_ratio", "both_orders", "balance")
TEXT_FILTERS = ("no_repetition", "distinct_rationales")  # after the first two
NARROW = ["pair_id", "swapped", "iteration", "sample_index", "vote", "p_a", "mean_token_prob", "n_tokens"]
SAYS_NOTHING = re.compile(r"[^\w]+")


def ours(case: str, folder: Path, out: Path, workers: int) -> None:
    from data_tools import artifact, star
    from data_tools.schema import JUDGMENT, PREFERENCE

    filters = (*FILTERS[:2], *(TEXT_FILTERS if case == "texts" else ()), *FILTERS[2:])
    star.write_examples(
        artifact.scan_tables(_judgments(folder), JUDGMENT),
        artifact.scan_tables([folder / "preferences.parquet"], PREFERENCE),
        out, objective="dpo", filters=filters, ranking="r_star",
    )  # fmt: skip


def reading(case: str, folder: Path, out: Path, workers: int) -> None:
    """Reads what ours reads, once, and does nothing with it: the floor of any selection with this reader."""
    import polars as pl

    columns = [pl.col(name).count() for name in NARROW]
    columns += [pl.col("rationale").str.len_bytes().sum(), pl.col("token_ids").list.len().sum()]
    pl.scan_parquet(_judgments(folder)).select(columns).collect(engine="streaming")


def pandas(case: str, folder: Path, out: Path, workers: int) -> None:
    """Columns at a time, strings and lists as Arrow's; Python only for the n-grams, which no column function counts."""
    import pandas as pd
    import pyarrow.parquet

    def read(paths: list[Path], columns: list[str] | None = None) -> pd.DataFrame:
        table = pyarrow.parquet.read_table(paths, columns=columns)
        return table.to_pandas(types_mapper=pd.ArrowDtype, split_blocks=True, self_destruct=True)

    table = read(_judgments(folder), [*NARROW, "rationale", "token_ids"])
    pairs = pd.Series(table["pair_id"].unique())
    own = pd.Series([chosen_is_a(pair, False) for pair in pairs], index=pairs, dtype="bool[pyarrow]")
    is_a = table["pair_id"].map(own) != table["swapped"]
    table["letter"] = is_a.map({True: "A", False: "B"}).astype("string[pyarrow]")
    table["right"] = table["vote"] == table["letter"]
    table["score"] = table["mean_token_prob"] * table["p_a"].where(table["vote"] == "A", 1 - table["p_a"])
    place = ["pair_id", "swapped"]
    here = table.groupby(place)["right"].mean().reset_index()
    orders = here.groupby("pair_id")["right"].agg(["min", "size"])
    share = table.groupby("pair_id")["right"].mean()
    good = (orders["min"] > 0.5) & (orders["size"] == 2) & (share > 0) & (share < 1)
    good = set(good[good].index)
    table = table.sort_values(
        [*place, "score", "iteration", "sample_index"], ascending=[True, True, False, True, True], kind="stable"
    ).drop_duplicates([*place, "rationale", "vote"])
    table = table[table["pair_id"].isin(good)]
    right, wrong = table[table["right"]], table[~table["right"]]
    if case == "texts":
        right = right[[sound(text) for text in right["rationale"]]]
        normal = right["rationale"].str.lower().str.replace(r"[^\pL\pN_]+", " ", regex=True).str.strip()
        right = right[~normal.duplicated()]
    right = right.assign(rank=right.groupby(place).cumcount())
    wrong = wrong.assign(rank=wrong.groupby(place).cumcount())
    sides = ["rationale", "vote", "token_ids", "n_tokens"]
    couples = right.merge(wrong[[*place, "rank", *sides]], on=[*place, "rank"], suffixes=("", "_rejected"))
    lengths = couples[["n_tokens", "n_tokens_rejected"]]
    couples = couples[lengths.max(axis=1) <= 2.0 * lengths.min(axis=1)]
    couples = couples.drop_duplicates(place)
    couples = couples[couples.groupby("pair_id")["swapped"].transform("nunique") == 2]
    couples["draw"] = [hash64("balance", pair) for pair in couples["pair_id"]]
    couples = couples.sort_values(["draw", *place])
    standing = couples.groupby("letter").cumcount()
    couples = couples[standing < couples["letter"].value_counts().reindex(["A", "B"]).min()].sort_values(place)
    preferences = read([folder / "preferences.parquet"]).set_index("pair_id")
    rows = couples.join(preferences[["prompt", "chosen", "rejected"]], on="pair_id").to_dict("records")
    examples = pd.DataFrame([example(row, "_rejected") for row in rows])
    examples.to_parquet(out)


def datasets(case: str, folder: Path, out: Path, workers: int) -> None:
    """Its own loader, batched functions on every core, indices instead of copies; groups by dictionary."""
    import datasets as hf
    import numpy as np

    hf.disable_progress_bars()

    def load(paths: list[Path]) -> hf.Dataset:
        return hf.load_dataset(
            "parquet", data_files=[str(p) for p in paths], split="train", cache_dir=str(out.parent / "cache")
        )

    table = load(_judgments(folder))

    def mapped(rows: list[int], name: str, function: Any) -> list:
        """A function of each rationale, on every core; the texts themselves are not written again."""
        made = table.select(rows).select_columns(["rationale"]).map(
            lambda batch: {name: [function(text) for text in batch["rationale"]]},
            batched=True, batch_size=1000, num_proc=workers, remove_columns=["rationale"],
        )  # fmt: skip
        return made.data.column(name).to_pylist()

    narrow = table.select_columns(NARROW).with_format("arrow")
    columns: dict[str, list] = {name: [] for name in NARROW}
    for batch in narrow.iter(batch_size=100_000):
        for name in NARROW:
            columns[name] += batch[name].to_pylist()
    pair, swapped, vote = columns["pair_id"], columns["swapped"], columns["vote"]
    own = {one: chosen_is_a(one, False) for one in set(pair)}
    right = [(v == "A") == (own[p] != s) for p, s, v in zip(pair, swapped, vote, strict=True)]
    here: dict[str, Any] = defaultdict(lambda: [0, 0, 0, 0])  # right and all, in either order
    for p, s, r in zip(pair, swapped, right, strict=True):
        count = here[p]
        count[2 * s] += r
        count[2 * s + 1] += 1
    good = {p for p, (a, n, b, m) in here.items() if n and m and a / n > 0.5 and b / m > 0.5 and 0 < a + b < n + m}
    p_a, prob = (np.array(columns[name], np.float32) for name in ("p_a", "mean_token_prob"))
    score = (prob * np.where(np.array(vote) == "A", p_a, np.float32(1) - p_a)).tolist()
    order = sorted(
        (i for i in range(len(pair)) if pair[i] in good),
        key=lambda i: (pair[i], swapped[i], -score[i], columns["iteration"][i], columns["sample_index"][i]),
    )
    texts = mapped(order, "text", lambda text: hash64("text", text) >> 1)
    seen: set = set()
    first = []
    for i, text in zip(order, texts, strict=True):
        key = (pair[i], swapped[i], vote[i], text)
        if key not in seen:
            seen.add(key)
            first.append(i)
    kept = [i for i in first if right[i]]
    if case == "texts":
        kept = [i for i, ok in zip(kept, mapped(kept, "sound", sound), strict=True) if ok]
        normal = mapped(kept, "normal", lambda text: hash64("text", SAYS_NOTHING.sub(" ", text.lower()).strip()) >> 1)
        known: dict[int, int] = {}
        for key, i in zip(normal, kept, strict=True):
            known.setdefault(key, i)
        kept = list(known.values())
    wrongs = defaultdict(list)
    for i in first:
        if not right[i]:
            wrongs[pair[i], swapped[i]].append(i)
    ranks: dict[Any, int] = defaultdict(int)
    couples = {}
    tokens = columns["n_tokens"]
    for i in kept:
        place = pair[i], swapped[i]
        rank, ranks[place] = ranks[place], ranks[place] + 1
        if rank < len(wrongs[place]) and place not in couples:
            j = wrongs[place][rank]
            if max(tokens[i], tokens[j]) <= 2.0 * min(tokens[i], tokens[j]):
                couples[place] = i, j
    couples = {place: both for place, both in couples.items() if (place[0], not place[1]) in couples}
    letters = defaultdict(list)
    for p, s in sorted(couples, key=lambda place: (hash64("balance", place[0]), *place)):
        letters[own[p] != s].append((p, s))
    fewer = min(len(letters[True]), len(letters[False]))
    places = sorted(place for side in (True, False) for place in letters[side][:fewer])
    preferences = load([folder / "preferences.parquet"])
    at = {p: i for i, p in enumerate(preferences["pair_id"])}
    side = ["rationale", "vote", "token_ids"]
    joined = table.select([couples[place][0] for place in places]).select_columns(["pair_id", "swapped", *side])
    rejected = table.select([couples[place][1] for place in places]).select_columns(side)
    rejected = rejected.rename_columns({name: f"{name}_rejected" for name in side})
    pairs = preferences.select([at[p] for p, _ in places]).select_columns(["prompt", "chosen", "rejected"])
    joined = hf.concatenate_datasets([joined, rejected, pairs], axis=1)
    joined.map(
        lambda row: example(row, "_rejected"), num_proc=workers, remove_columns=joined.column_names
    ).to_parquet(out)  # fmt: skip


def sound(text: str) -> bool:
    """The filter no_repetition in plain Python."""
    grams = ngrams(text)
    run, last = 0, None
    for word in words(text):
        run = run + 1 if word == last else 1
        if run > 3:
            return False
        last = word
    return not grams or len(set(grams)) / len(grams) >= 0.6


def example(row: dict[str, Any], suffix: str) -> dict[str, Any]:
    a, b, _ = responses(row["pair_id"], row["swapped"], row["chosen"], row["rejected"])
    return {
        "pair_id": row["pair_id"],
        "swapped": row["swapped"],
        "prompt": render_prompt(list(row["prompt"]), a, b),
        "completion": render_completion(row["rationale"], Verdict(row["vote"])),
        "completion_ids": list(row["token_ids"]),
        "rejected_completion": render_completion(row[f"rationale{suffix}"], Verdict(row[f"vote{suffix}"])),
        "rejected_ids": list(row[f"token_ids{suffix}"]),
    }


def _judgments(folder: Path) -> list[Path]:
    return sorted(folder.glob("judgments-*.parquet"))


SIDES = {"reading": reading, "ours": ours, "pandas": pandas, "datasets": datasets}

if __name__ == "__main__":
    side, case, folder, out, workers = sys.argv[1:]
    SIDES[side](case, Path(folder), Path(out), int(workers))
