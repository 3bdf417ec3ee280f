"""The loader, alone and inside Lightning: a fit that is killed goes on with the same batches."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from itertools import chain
from pathlib import Path

import lightning as L
import polars as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from data_tools.artifact import write_table
from data_tools.errors import UserError
from data_tools.schema import EXAMPLE, PREFERENCE
from genrm_lightning.backbone import BackboneSettings, load_renderer
from genrm_lightning.callbacks import LastCheckpoint
from genrm_lightning.data import EmbeddedPairs, Tables, TreeLoader
from genrm_lightning.objectives import BradleyTerry, GenRM, OptimizerSettings, STaRSFT
from genrm_lightning.prefix import Branch, Tree
from tests.tiny import Steps, examples, make_trainer, preferences


@pytest.fixture(scope="module")
def renderer(tiny_llama):
    return load_renderer(str(tiny_llama))


def loader(renderer, rows: int = 10, **options) -> TreeLoader:
    trees = [Tree(f"{i}", [5] * (i + 1), [Branch.scored([6])]) for i in range(rows)]
    return TreeLoader(trees, renderer, **{"batch_size": 3, "seed": 0, "shuffle": True, **options})


def ids(batches) -> list[list[str]]:
    return [batch.pair_ids for batch in batches]


@pytest.mark.parametrize("sizes", [{}, {"batch_size": None, "batch_tokens": 20}], ids=["rows", "tokens"])
def test_a_loader_goes_on_where_its_state_was_taken(renderer, sizes):
    """Ten trees of 2 to 11 tokens: 4 batches an epoch."""

    def make() -> TreeLoader:
        return loader(renderer, **sizes)

    whole = make()
    epochs = [ids(whole), ids(whole), ids(whole)]
    assert len(whole) == 4 == len(epochs[0])
    assert epochs[0] != epochs[1]
    for taken in range(9):  # batches seen; 4 and 8: at an epoch's end
        running, state = make(), None
        seen = 0
        for _ in range(3):
            for _ in running:
                if seen == taken:
                    break
                seen += 1
                state = running.state_dict()  # taken before the iterator goes on, as a checkpoint is
            if seen == taken:
                break
        resumed = make()
        if taken:
            resumed.load_state_dict(state)
        left = [*ids(resumed), *ids(resumed)]
        expected = list(chain(*epochs))[taken:]
        assert left[: len(expected)] == expected[: len(left)], taken


def test_an_iterator_that_is_left_early_has_had_its_epoch(renderer):
    """limit_train_batches, and the sanity check before a validation."""
    train, first = loader(renderer), loader(renderer)
    next(iter(train))
    epochs = [ids(first), ids(first)]
    assert ids(train) == epochs[1]
    validation = loader(renderer, shuffle=False)
    next(iter(validation))
    assert ids(validation) == ids(loader(renderer, shuffle=False))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"rows": 9}, "data.train: the checkpoint was made with 10 rows, now it is 9 rows"),
        ({"batch_size": 2}, "data.batch_size: the checkpoint was made with 3, now it is 2"),
        ({"batch_size": None, "batch_tokens": 20}, "data.batch_size: the checkpoint was made with 3, now it is null"),
        ({"accumulate": 2}, "trainer.accumulate_grad_batches: the checkpoint was made with 1, now it is 2"),
        ({"seed": 1}, "data.seed: the checkpoint was made with 0, now it is 1"),
        ({"ranks": 2}, "trainer.devices: the checkpoint was made with 1 processes, now it is 2"),
    ],
)
def test_a_loader_of_another_plan_refuses_the_state(renderer, options, named):
    with pytest.raises(UserError, match=named):
        loader(renderer, **options).load_state_dict(loader(renderer).state_dict())


def test_the_same_steps_dealt_out_otherwise_go_on_where_one_ended(renderer):
    """Two processes of two microbatches of one row, or one process of other shares: the rest of the epoch's rows."""
    shares = {"batch_size": 1, "accumulate": 2, "ranks": 2}
    begun = loader(renderer, **shares)
    batches = iter(begun)
    states = [(next(batches), begun.state_dict())[1] for _ in range(4)]  # step 1: two batches of this process
    whole = ids(loader(renderer, batch_size=4))
    for other in ({"batch_size": 4}, {"batch_size": 1, "accumulate": 4}, {"batch_size": 1, "ranks": 4}, shares):
        resumed = loader(renderer, **other)
        resumed.load_state_dict(states[1])
        assert len(list(resumed)) == (len(whole) - 1) * other.get("accumulate", 1)
    resumed = loader(renderer, batch_size=4)
    resumed.load_state_dict(states[1])
    assert ids(resumed) == whole[1:]
    for state, options in ((states[0], {"batch_size": 4}), (states[1], {"batch_size": 5})):
        with pytest.raises(UserError, match=r"data.batch_size: the checkpoint was made with 1, now it is \d"):
            loader(renderer, **options).load_state_dict(state)


def test_steps_of_tokens_dealt_out_otherwise_go_on_where_one_ended(renderer):
    """65 tokens in four steps of 22; rows and tokens are never the same steps."""
    tokens = {"batch_size": None, "batch_tokens": 11, "accumulate": 2}
    begun = loader(renderer, **tokens)
    batches = iter(begun)
    states = [(next(batches), begun.state_dict())[1] for _ in range(3)]
    whole = {"batch_size": None, "batch_tokens": 22}
    resumed = loader(renderer, **whole)
    resumed.load_state_dict(states[1])
    assert ids(resumed) == ids(loader(renderer, **whole))[1:]
    for state, options in ((states[2], whole), (states[1], {"batch_size": 22}), (states[1], whole | {"ranks": 2})):
        with pytest.raises(UserError, match=r"data.batch_\w+: the checkpoint was made with (null|11), now it is"):
            loader(renderer, **options).load_state_dict(state)


def test_a_loader_of_other_pairs_refuses_the_state(renderer):
    state = loader(renderer).state_dict()
    for others in (
        [Tree(f"{i + 1}", [5] * (i + 1), [Branch.scored([6])]) for i in range(10)],
        [Tree(f"{i}", [5] * (i + 2), [Branch.scored([6])]) for i in range(10)],  # other lengths: another plan
        loader(renderer).trees[::-1],
    ):
        with pytest.raises(UserError, match="data.train: the checkpoint was made on other pairs"):
            TreeLoader(others, renderer, 3, 0, True).load_state_dict(state)


@pytest.mark.parametrize(("key", "value"), [("batch_size", 0), ("batch_tokens", 0), ("max_tokens", 0), ("seed", -1)])
def test_numbers_out_of_range(key, value):
    for kind in (Tables, EmbeddedPairs):
        with pytest.raises(UserError, match=f"data.{key}: {value} is"):
            kind(**{key: value})


def test_rows_or_tokens():
    assert (Tables().batch_size, Tables().batch_tokens) == (8, None)
    assert (Tables(batch_tokens=64).batch_size, Tables(batch_tokens=64).batch_tokens) == (None, 64)
    with pytest.raises(UserError, match="data.batch_tokens: data.batch_size is set as well; set one of the two"):
        EmbeddedPairs(batch_size=8, batch_tokens=64)
    with pytest.raises(UserError, match="data.too_long: 'cut' is unknown; there are: shorten, drop, error"):
        Tables(too_long="cut")


SHARES = [(3, 1, 1), (1, 3, 1), (1, 1, 3), (2, 2, 1), (2, 3, 2), (1, 2, 7), (20, 1, 1), (4, 2, 3)]


@pytest.mark.parametrize(("batch_size", "accumulate", "ranks"), SHARES)
def test_every_row_counts_once_in_a_step_of_its_own_size(renderer, batch_size, accumulate, ranks):
    """Over processes and microbatches a row weighs 1 / rows of its step, after the division by both numbers."""
    options = {"batch_size": batch_size, "accumulate": accumulate, "ranks": ranks}
    processes = [loader(renderer, rank=rank, **options) for rank in range(ranks)]
    batches = [list(process) for process in processes]
    whole = loader(renderer, batch_size=batch_size * accumulate * ranks)
    steps = ids(whole)
    assert {len(own) for own in batches} == {len(processes[0])} == {len(steps) * accumulate}
    for number, rows in enumerate(steps):
        window = [own[i] for own in batches for i in range(number * accumulate, (number + 1) * accumulate)]
        counted = [row for batch in window if batch.weight for row in batch.pair_ids]
        assert sorted(counted) == sorted(rows), "the same rows as in one batch, each once"
        for batch in window:
            assert len(batch.pair_ids) <= batch_size
            if batch.weight:
                assert batch.weight / (accumulate * ranks) == pytest.approx(len(batch.pair_ids) / len(rows))
    assert all(batch.weight == 1 for batch in whole)


@pytest.mark.parametrize(
    ("batch_tokens", "accumulate", "ranks"), [(11, 6, 1), (66, 1, 1), (11, 2, 3), (22, 1, 3), (33, 2, 1), (13, 4, 2)]
)
def test_every_row_counts_once_in_a_step_of_tokens(renderer, batch_tokens, accumulate, ranks):
    """Forty trees of 2 to 11 tokens; every share of 66 tokens a step takes the steps of one batch."""
    sizes = [i * i % 10 + 1 for i in range(40)]

    def make(batch_tokens: int, accumulate: int = 1, rank: int = 0, ranks: int = 1) -> TreeLoader:
        trees = [Tree(f"{i}", [5] * size, [Branch.scored([6])]) for i, size in enumerate(sizes)]
        return TreeLoader(trees, renderer, None, 0, True, accumulate, rank, ranks, batch_tokens)

    processes = [make(batch_tokens, accumulate, rank, ranks) for rank in range(ranks)]
    whole = make(batch_tokens * accumulate * ranks)
    for _ in range(3):
        steps = ids(whole)
        assert len(steps) == len(whole) == -(-sum(size + 1 for size in sizes) // (batch_tokens * accumulate * ranks))
        batches = [list(process) for process in processes]
        assert {len(own) for own in batches} == {len(processes[0])} == {len(steps) * accumulate}
        for number, rows in enumerate(steps):
            window = [own[i] for own in batches for i in range(number * accumulate, (number + 1) * accumulate)]
            counted = [row for batch in window if batch.weight for row in batch.pair_ids]
            assert sorted(counted) == sorted(rows), "the same rows as in one batch, each once"
            for batch in window:
                tokens = int((batch.segments >= 0).sum())
                assert tokens < batch_tokens + 11
                if batch.weight:
                    assert batch.weight / (accumulate * ranks) == pytest.approx(len(batch.pair_ids) / len(rows))
                else:
                    assert tokens == min(sizes[int(row)] + 1 for row in rows)


def test_a_checkpoint_of_another_token_budget_is_refused(renderer):
    tokens = {"batch_size": None, "batch_tokens": 22}
    state = loader(renderer, **tokens).state_dict()
    with pytest.raises(UserError, match="data.batch_tokens: the checkpoint was made with 22, now it is 20"):
        loader(renderer, batch_size=None, batch_tokens=20).load_state_dict(state)
    with pytest.raises(UserError, match="data.batch_size: the checkpoint was made with null, now it is 3"):
        loader(renderer).load_state_dict(state)


@pytest.mark.parametrize("sizes", [{}, {"batch_size": None, "batch_tokens": 22}], ids=["rows", "tokens"])
def test_batches_that_are_only_looked_at_are_not_repeated(renderer, sizes):
    """Validation and prediction on three processes: what fills up weighs nothing."""
    parts = [list(loader(renderer, shuffle=False, rank=rank, ranks=3, **sizes)) for rank in range(3)]
    seen = [row for part in parts for batch in part if batch.weight for row in batch.pair_ids]
    assert sorted(seen) == sorted(str(i) for i in range(10))
    assert len({len(part) for part in parts}) == 1


# Inside Lightning


def tables(folder: Path, rows: int = 5, **options) -> Tables:
    for name, n in (("train", rows), ("validation", 2)):
        write_table(preferences(n), folder / f"{name}.parquet", PREFERENCE)
    files = {name: str(folder / f"{name}.parquet") for name in ("train", "validation")}
    return Tables(**files, **{"batch_size": 3, **options})


def genrm(tiny_llama: Path) -> GenRM:
    return GenRM(BackboneSettings(str(tiny_llama), lora=None), OptimizerSettings(1e-3), "brief", format_weight=0.0)


@pytest.mark.parametrize(
    ("accumulate", "sizes"),
    [(1, {}), (2, {}), (2, {"batch_size": None, "batch_tokens": 330})],
    ids=["1", "2", "2, tokens"],
)
def test_a_killed_fit_repeats_the_rest_exactly(tiny_llama, tmp_path, accumulate, sizes):
    """Ten trees in batches of three, two epochs: resumed in mid-epoch, at its end and before the last step."""

    def fit(resume: Path | None) -> Steps:
        steps = Steps()
        keep = ModelCheckpoint(tmp_path / "ckpt", "{step}", every_n_train_steps=1, save_top_k=-1)
        trainer = make_trainer(
            tmp_path, steps, *([] if resume else [keep]), max_epochs=2, accumulate_grad_batches=accumulate,
            enable_checkpointing=resume is None,
        )  # fmt: skip
        data = tables(tmp_path, **sizes)
        trainer.fit(genrm(tiny_llama), data, ckpt_path=resume, weights_only=resume and True)
        assert trainer.global_step == 8 // accumulate == trainer.estimated_stepping_batches
        return steps

    whole = fit(None)
    assert len(whole.seen) == 8
    for half in (whole.seen[:4], whole.seen[4:]):
        assert Counter(pair for pairs, _ in half for pair in pairs) == {f"pair-{i}": 2 for i in range(5)}
    assert whole.seen[0][0] != whole.seen[4][0] or whole.seen[1][0] != whole.seen[5][0]
    checkpoints = sorted((tmp_path / "ckpt").iterdir(), key=lambda path: int(path.stem.split("=")[1]))
    assert len(checkpoints) == 8 // accumulate
    for number, checkpoint in enumerate(checkpoints[:-1], start=1):
        rest = fit(checkpoint).seen
        expected = whole.seen[number * accumulate :]
        assert [pairs for pairs, _ in rest] == [pairs for pairs, _ in expected], checkpoint.name
        assert [loss for _, loss in rest] == pytest.approx([loss for _, loss in expected], abs=1e-5), checkpoint.name


def test_a_checkpoint_waits_for_the_end_of_its_accumulation_window(tiny_llama, tmp_path):
    """Four batches an epoch, two a step: asked for behind the third, taken behind the fourth; nothing is lost."""

    class Late(L.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
            # As if the last checkpoint were two hours old, but in the first epoch's third batch alone.
            asked = trainer.current_epoch == 0 and batch_idx == 2
            if asked or batch_idx == 0:
                trainer.checkpoint_callback._last_time_checked = time.monotonic() - 7200 * asked

        def on_train_batch_start(self, trainer, module, batch, batch_idx) -> None:
            if trainer.current_epoch == 1:
                raise ConnectionError("killed")

    def fit(*more: L.Callback, resume: Path | None = None) -> Steps:
        steps = Steps()
        trainer = make_trainer(
            tmp_path, steps, *more, max_epochs=2, accumulate_grad_batches=2, enable_checkpointing=bool(more),
        )  # fmt: skip
        with contextlib.suppress(ConnectionError):
            trainer.fit(genrm(tiny_llama), tables(tmp_path), ckpt_path=resume, weights_only=resume and True)
        return steps

    class Clock(LastCheckpoint):  # without the one that Lightning takes at an epoch's end
        def on_train_epoch_end(self, trainer, module) -> None:
            pass

    whole = fit()
    fit(Late(), Clock(minutes=60, dirpath=str(tmp_path / "ckpt")))
    rest = fit(resume=tmp_path / "ckpt/last.ckpt").seen
    assert rest == [(pairs, pytest.approx(loss, abs=1e-5)) for pairs, loss in whole.seen[4:]]


def test_the_last_checkpoint_is_the_end_of_the_fit(tiny_llama, tmp_path):
    class Early(L.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
            trainer.checkpoint_callback._last_time_checked = time.monotonic() - 7200 * (batch_idx == 0)

    keep = LastCheckpoint(minutes=60, dirpath=str(tmp_path / "ckpt"))
    trainer = make_trainer(tmp_path, Early(), keep, enable_checkpointing=True)
    trainer.fit(genrm(tiny_llama), tables(tmp_path))
    assert torch.load(tmp_path / "ckpt/last.ckpt", weights_only=True)["global_step"] == trainer.global_step == 4


@pytest.mark.parametrize("sizes", [{}, {"batch_size": None, "batch_tokens": 420}], ids=["rows", "tokens"])
def test_validation_and_prediction_keep_the_order(tiny_llama, tmp_path, sizes):
    data = tables(tmp_path, **sizes)
    trainer = make_trainer(tmp_path)
    found = trainer.validate(genrm(tiny_llama), data, verbose=False)[0]
    names = ("loss", "verdict_nll", "accuracy", "ece", "brier", "position_consistency", "position_bias")
    assert found.keys() == {f"val/{name}" for name in names}
    data.files["test"] = data.files["train"]
    said = make_trainer(tmp_path).predict(genrm(tiny_llama), data)
    assert [p for batch in said for p in batch["pair_id"]] == [f"pair-{i}" for i in range(5) for _ in range(2)]
    assert len(said[0]["verdict_nll"]) == 3


def setup(tiny_llama, tmp_path, data, objective=None) -> None:
    trainer = make_trainer(tmp_path)
    trainer.fit(objective or genrm(tiny_llama), data)


def test_a_pair_that_is_too_long_is_named(tiny_llama, tmp_path):
    error = {"too_long": "error"}
    with pytest.raises(UserError, match=r"train.parquet: pair 'pair-\d' has \d+ tokens, data.max_tokens is 20"):
        setup(tiny_llama, tmp_path, tables(tmp_path, max_tokens=20, **error))
    long = preferences(2).with_columns(chosen=pl.lit("fox " * 2100))
    write_table(long, tmp_path / "long.parquet", PREFERENCE)
    with pytest.raises(
        UserError, match=r"long.parquet: pair 'pair-\d' reaches \d+ tokens, the model's context is 2048"
    ):
        setup(tiny_llama, tmp_path, Tables(str(tmp_path / "long.parquet"), max_tokens=10**6, **error))


def test_a_tree_longer_than_a_batch_is_refused(tiny_llama, tmp_path):
    with pytest.raises(
        UserError, match=r"data.batch_tokens: 20 is less than the \d+ tokens of pair 'pair-\d' \(.*train"
    ):
        setup(tiny_llama, tmp_path, tables(tmp_path, batch_size=None, batch_tokens=20))


def test_no_rows_and_no_file_are_refused(tiny_llama, tmp_path):
    write_table(preferences(0), tmp_path / "empty.parquet", PREFERENCE)
    with pytest.raises(UserError, match="empty.parquet: no rows for train"):
        setup(tiny_llama, tmp_path, Tables(str(tmp_path / "empty.parquet")))
    with pytest.raises(UserError, match="data.train: no file given"):
        setup(tiny_llama, tmp_path, Tables())
    with pytest.raises(UserError, match="nowhere.parquet: no such file"):
        setup(tiny_llama, tmp_path, Tables(str(tmp_path / "nowhere.parquet")))


def test_a_table_of_another_kind_is_refused(tiny_llama, tmp_path):
    write_table(examples(2), tmp_path / "examples.parquet", EXAMPLE)
    with pytest.raises(UserError, match="examples.parquet: column 'group_id' is missing; a PREFERENCE table has"):
        setup(tiny_llama, tmp_path, Tables(str(tmp_path / "examples.parquet")))


def test_the_embedded_pairs_are_pairs(tiny_llama, tmp_path):
    settings = BackboneSettings(str(tiny_llama), lora=None)
    with pytest.raises(UserError, match="STaRSFT trains on sampled rationales"):
        setup(tiny_llama, tmp_path, EmbeddedPairs(rows=20, test_rows=10), STaRSFT(settings))
    steps = Steps()
    trainer = make_trainer(tmp_path, steps, limit_train_batches=2, limit_val_batches=1)
    trainer.fit(BradleyTerry(settings), EmbeddedPairs(rows=20, test_rows=10, batch_size=2))
    assert [len(pairs) for pairs, _ in steps.seen] == [2, 2]


def test_a_loader_state_of_before_accumulation_was_kept(renderer):
    """It does not say accumulate; one microbatch a step is what it was."""
    made = loader(renderer)
    old = {name: value for name, value in made.state_dict().items() if name not in ("accumulate", "batch_tokens")}
    made.load_state_dict({**old, "epoch": 1, "batch": 2})
    assert (made.epoch, made.next_batch) == (1, 2)
