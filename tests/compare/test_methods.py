"""Which judge of a star run a comparison reads, what methods take over from one another, and which labels count."""

from types import SimpleNamespace

import polars as pl
import pytest

from data_tools.artifact import MANIFEST, write_json, write_manifest, write_table
from data_tools.errors import UserError
from data_tools.schema import PREFERENCE
from genrm_lightning.compare import digests, methods
from genrm_lightning.compare.place import Place
from genrm_lightning.compare.settings import CompareSettings
from genrm_lightning.compare.sharing import adopt
from genrm_lightning.star import loop
from genrm_lightning.star.settings import StarSettings, WarmStart
from genrm_lightning.star.stage import Artifact
from tests.tiny import preferences

ROWS = [
    {"label": "zero-shot", "kind": "zero_shot", "iteration": 0},
    {"label": "iteration 1", "kind": "iteration", "iteration": 1},
    {"label": "iteration 2", "kind": "iteration", "iteration": 2},
]


def done(folder, *parts):
    for part in parts:
        write_manifest(folder / part, {"of": part}, seconds=1.0, facts={"dropped": {"id": [], "ood": []}})


@pytest.mark.parametrize(
    ("best", "judged"),
    [(None, "iteration-2/evaluate"), ("iteration 1", "iteration-1/evaluate"), ("zero-shot", "zero-shot")],
)
def test_a_run_that_was_stopped_has_its_best_judge(tmp_path, monkeypatch, best, judged):
    done(tmp_path, "zero-shot")
    for i in (1, 2):
        done(tmp_path / f"iteration-{i}", "sample", "fit", "evaluate")
        write_json(tmp_path / f"iteration-{i}/fit/spent.json", {"steps": 3, "trees": 6, "tokens": 50})
        drawn = pl.DataFrame({"pair_id": [f"p{i}", f"q{i}"], "n_tokens": [4, 5]})
        drawn.write_parquet(tmp_path / f"iteration-{i}/sample/judgments.parquet")
    summary = {"rows": ROWS} | ({"stopped": {"best": best}} if best else {})
    monkeypatch.setattr(loop, "run", lambda star, alone: summary)
    facts = methods._star(SimpleNamespace(folder=tmp_path, star=None), [])
    assert facts["judged"] == judged
    # What was trained in vain was trained, too.
    assert (facts["steps"], facts["pairs"], facts["samples"], facts["sampled_tokens"]) == (6, 4, 4, 18)


def test_rationales_that_are_given_are_no_samples(tmp_path, monkeypatch):
    done(tmp_path / "iteration-1", "sample", "fit", "evaluate")
    write_json(tmp_path / "iteration-1/fit/spent.json", {"steps": 3, "trees": 6, "tokens": 50})
    for folder, stage, pairs in (("iteration-1", "bootstrap", ["p", "q"]), ("iteration-2", "sample", ["r"])):
        if folder == "iteration-2":
            done(tmp_path / folder, "evaluate")
        write_manifest(tmp_path / folder / "sample", {"stage": stage}, seconds=1.0, facts={})
        drawn = pl.DataFrame({"pair_id": pairs, "n_tokens": [4] * len(pairs)})
        drawn.write_parquet(tmp_path / folder / "sample/judgments.parquet")
    monkeypatch.setattr(loop, "run", lambda star, alone: {"rows": ROWS[1:]})
    facts = methods._star(SimpleNamespace(folder=tmp_path, star=None), [])
    assert (facts["pairs"], facts["samples"], facts["sampled_tokens"]) == (3, 1, 4)


@pytest.mark.parametrize(("fresh", "rows"), [(True, 12), (False, 4)])
def test_labels_are_those_that_the_star_methods_are_given(tmp_path, fresh, rows):
    pairs = Artifact(tmp_path / "data", "x")
    write_table(preferences(12), tmp_path / "data/train.parquet", PREFERENCE)
    found = methods._labelled(StarSettings(fresh=fresh), tmp_path / "labelled", pairs)
    assert found.facts["rows"] == rows


@pytest.mark.parametrize(("quality_pairs", "shared"), [(16, True), (8, False)])
def test_quality_is_shared_where_it_is_of_the_same_pairs(tmp_path, quality_pairs, shared):
    def place(name, kind="star", **more):
        star = StarSettings(warm_start=WarmStart(pairs=4), **more)
        return SimpleNamespace(name=name, kind=kind, writes=True, folder=tmp_path / name, star=star)

    one, other, untrained = place("one"), place("other", quality_pairs=quality_pairs), place("zero", "zero-shot")
    done(one.folder, "zero-shot")
    done(one.folder / "warm-start", "fit", "evaluate", "quality")
    adopt(other, [one, other])
    adopt(untrained, [one])
    for name in ("zero-shot", "warm-start/fit", "warm-start/evaluate"):
        assert (other.folder / name / MANIFEST).samefile(one.folder / name / MANIFEST)
    assert (other.folder / "warm-start/quality").exists() is shared
    assert (untrained.folder / "zero-shot").exists() and not (untrained.folder / "warm-start").exists()


def test_a_file_under_the_same_name_is_known_by_what_it_holds(tmp_path, monkeypatch):
    backbone, given, out = tmp_path / "backbone", tmp_path / "r.jsonl", tmp_path / "out"
    (backbone / "inner").mkdir(parents=True)
    out.mkdir()
    for file in (backbone / "config.json", backbone / "inner/weights", given):
        file.write_text("{}")

    def place(**star):
        digests._of.cache_clear()  # as in a new process
        settings = CompareSettings(out=str(out), star=star, methods={"x": {"kind": "star"}})
        return Place(settings, "x", 0, Artifact(tmp_path, "y"))

    ways = [
        {"backbone": str(backbone)},
        {"bootstrap": {"file": str(given)}},
        {"bootstrap": {"judge": str(backbone)}},
        {"warm_start": {"pairs": 4, "rationales": str(given)}},
    ]
    before = [place(**way).key for way in ways]
    with monkeypatch.context() as patch:
        patch.setattr(digests, "digest", lambda path: pytest.fail(f"{path} is read again"))
        assert [place(**way).key for way in ways] == before
    (backbone / "inner/weights").write_text("[]")
    given.write_text("[]")
    assert all(place(**way).key != old for way, old in zip(ways, before, strict=True))

    found = place(**ways[0])
    write_manifest(found.folder, found.key, facts={"samples": 3})
    assert place(**ways[0]).finished() == {"samples": 3}
    (backbone / "config.json").write_text("{...}")
    with pytest.raises(UserError, match="made with another 'backbone_digest'"):
        place(**ways[0]).finished()
    # A manifest of before there were digests: its method is gone through again.
    of_before = {name: value for name, value in found.key.items() if name != "backbone_digest"}
    write_manifest(found.folder, of_before, facts={"samples": 3})
    assert place(**ways[0]).finished() is None
    with pytest.raises(UserError, match="made with another 'per_prompt'"):
        place(**ways[0], per_prompt=2).finished()


def test_what_changes_no_number_does_not_ask_for_another_run(tmp_path):
    def key(**star):
        settings = CompareSettings(out=str(tmp_path), star=star, methods={"x": {"kind": "star"}})
        return Place(settings, "x", 0, Artifact(tmp_path, "y")).key

    served = {"kind": "openai", "openai": {"url": "http://here/v1", "model": "m"}}
    moved = {"kind": "openai", "openai": {"url": "http://there/v1", "model": "m", "concurrency": 2}}
    other = {"kind": "openai", "openai": {"url": "http://here/v1", "model": "n"}}
    vllm = {"kind": "vllm", "vllm": {"gpu_memory": 0.5}}
    assert key() == key(quality_pairs=3, sampling={"batch_tokens": 99})
    assert key(sampler={"kind": "vllm"}) == key(sampler=vllm) != key()
    assert key(sampler=vllm) != key(sampler={"kind": "vllm", "vllm": {"max_model_len": 512}})
    keys = [key(bootstrap={"sampler": one}) for one in (served, moved, other)]
    assert keys[0] == keys[1] != keys[2]
    assert key() != key(sampling={"n_samples": 3}) and key() != key(filters=["no_repetition"])
