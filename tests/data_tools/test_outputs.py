"""What a command writes never takes the place of what it reads; every export ends with its manifest."""

import json

import polars as pl
import pytest

from data_tools import artifact, exports, lineage, sources
from data_tools.__main__ import main
from data_tools.schema import PREFERENCE, conform


def table(path, *prompts, split="train"):
    rows = [
        {"pair_id": f"{path.stem}{i}", "prompt": [{"role": "user", "content": text}], "chosen": "c", "rejected": "r"}
        for i, text in enumerate(prompts)
    ]
    frame = conform(pl.DataFrame(rows), PREFERENCE).with_columns(source=pl.lit("s"), split=pl.lit(split))
    artifact.write_table(frame, path, PREFERENCE)
    return path


@pytest.fixture
def files(tmp_path):
    return table(tmp_path / "a.parquet", "one", "two"), table(tmp_path / "b.parquet", "three", split="test")


@pytest.mark.parametrize(
    "line",
    [
        "decontaminate {a} --against {b} --out {b}",
        "clean {a} --against {b} --out {b}",
        "clean {a} --out {c} --against {b} --report {b}",
        "clean {a} --out {c} --report {c}",
        "export {a} --to trl --out {a}",
        "mix {a}:1 {b}:2 --out {b}",
        "stats {a} --json {a}",
        "stats {a} --html {c} --json {c}",
        "probe {a} --against {b} --json {b}",
        "view {a} --html {a}",
        "prompts {a} --out {a}",
    ],
)
def test_an_output_is_no_input(tmp_path, capsys, files, line):
    a, b = files
    before = {file: file.read_bytes() for file in files}
    argv = line.format(a=a, b=b, c=tmp_path / "c.parquet").split()
    assert main(argv) == 2
    said = capsys.readouterr().err
    assert "name another file for --" in said and said.count("\n") == 1
    assert {file: file.read_bytes() for file in files} == before and not (tmp_path / "c.parquet").exists()


@pytest.mark.parametrize(
    "command", ["clean {a} --out {a}", "split {a} --out {a} --redo", "decontaminate {a} --against {b} --out {a}"]
)
def test_a_table_may_be_replaced_by_itself(files, command):
    a, b = files
    assert main(command.format(a=a, b=b).split()) == 0
    assert artifact.read_table(a, PREFERENCE).height == 2
    assert any("replaced" in one for one in artifact.read_json(lineage.manifest_of(a))["inputs"])


@pytest.mark.parametrize("name", exports.formats())
def test_every_export_has_a_manifest(tmp_path, capsys, files, name):
    out = tmp_path / "out" if not exports.formats()[name].ENDINGS else tmp_path / "out.jsonl"
    assert main(["export", str(files[0]), "--to", name, "--out", str(out)]) == 0
    assert artifact.read_json(lineage.manifest_of(out))["counts"]["written"] == 2
    assert main(["lineage", str(out), "--check"]) == 0
    assert main(["export", str(files[0]), "--to", name, "--out", str(out)]) == 0  # again, in the place of itself


def test_a_folder_of_tables_is_no_export(tmp_path, capsys):
    folder = tmp_path / "d"
    for split in ("train", "test"):
        table(folder / f"{split}.parquet", split, split=split)
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert main(["export", str(folder / "train.parquet"), "--to", "datasets", "--out", str(folder)]) == 2
    assert "no export of ours, and would be replaced" in capsys.readouterr().err
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_two_files_of_one_name_are_two_data_sets(tmp_path, capsys, files):
    for part, file in zip(("train", "test"), files, strict=True):
        assert main(["export", str(file), "--to", "llama-factory", "--out", str(tmp_path / f"m.{part}.jsonl")]) == 0
    entries = json.loads((tmp_path / "dataset_info.json").read_text())
    assert {name: entry["file_name"] for name, entry in entries.items()} == {
        "m.train": "m.train.jsonl", "m.test": "m.test.jsonl",
    }  # fmt: skip
    assert main(["export", str(files[0]), "--to", "llama-factory", "--out", str(tmp_path / "m.train.parquet")]) == 2
    assert "has a data set 'm.train' of another file" in capsys.readouterr().err


def test_prompts_of_ties_are_held_out(tmp_path, capsys, files):
    raw = tmp_path / "hs.jsonl"
    row = {"context": [{"role": "user", "content": "ONE"}], "response1": "x", "response2": "y", "overall_preference": 0}
    other = row | {"context": [{"role": "user", "content": "else"}], "overall_preference": 1}
    raw.write_text("\n".join(map(json.dumps, (row, other))))
    assert main(["decontaminate", str(files[0]), "--against", str(raw), "--out", str(tmp_path / "c.parquet")]) == 0
    assert artifact.read_table(tmp_path / "c.parquet", PREFERENCE)["pair_id"].to_list() == ["a1"]
    pl.read_ndjson(raw).write_parquet(tmp_path / "raw.parquet")  # as the hub has such sets
    assert main(["check", str(files[0]), str(tmp_path / "raw.parquet"), "--by-file"]) == 2
    assert "have a prompt of" in capsys.readouterr().err
    empty = table(tmp_path / "none.parquet", "x")
    pl.read_parquet(empty).clear().write_parquet(empty)
    assert main(["clean", str(files[0]), "--against", str(empty), "--out", str(tmp_path / "d.parquet")]) == 2
    assert "no rows to compare with" in capsys.readouterr().err


def test_tables_may_have_columns_of_their_own(files, capsys):
    pl.read_parquet(files[1]).with_columns(more=1).write_parquet(files[1])
    assert main(["stats", *map(str, files)]) == 0
    assert "3" in capsys.readouterr().out


def test_a_damaged_table_is_named_by_mix(tmp_path, capsys, files):
    data = bytearray(files[0].read_bytes())
    data[4:200] = bytes(196)
    files[0].write_bytes(data)
    assert main(["mix", *map(str, files), "--out", str(tmp_path / "m.parquet")]) == 2
    said = capsys.readouterr().err
    assert str(files[0]) in said and said.count("\n") == 1


def test_an_id_of_each_unpaired_row_pairs_nothing(tmp_path):
    raw = tmp_path / "kto.jsonl"
    rows = [{"id": i, "prompt": f"q{i // 2}", "completion": f"c{i}", "label": i % 2 == 0} for i in range(6)]
    raw.write_text("\n".join(map(json.dumps, rows)))
    found = sources.read(raw)
    assert found.select("chosen", "rejected").rows() == [("c0", "c1"), ("c2", "c3"), ("c4", "c5")]
    assert found["pair_id"].n_unique() == 3 and found["group_id"].null_count() == 0
    both = [{**row, "id": row["id"] // 2} for row in rows]
    raw.write_text("\n".join(map(json.dumps, both)))
    assert sources.read(raw)["pair_id"].to_list() == ["0", "1", "2"]


def test_a_near_duplicate_in_training_goes_and_not_the_held_out_row(tmp_path):
    from data_tools.near import near_duplicates
    from data_tools.removal import numbered

    pytest.importorskip("numpy")
    text = " ".join(f"word{i}" for i in range(40))
    one, other = table(tmp_path / "a.parquet", text), table(tmp_path / "z.parquet", f"{text}!", split="test")
    found = near_duplicates(numbered(artifact.scan_tables([one, other], PREFERENCE)), 0.8)
    assert found.select("pair_id", "match").rows() == [("a0", "z0")]


def test_a_step_between_that_was_changed_is_noticed(tmp_path, capsys, files):
    a, mixed = files[0], tmp_path / "m.parquet"
    assert main(["split", str(a), "--out", str(tmp_path / "b.parquet"), "--redo"]) == 0
    pl.read_parquet(tmp_path / "b.parquet").with_columns(chosen="rejected").write_parquet(tmp_path / "b.parquet")
    assert main(["mix", str(tmp_path / "b.parquet"), "--out", str(mixed)]) == 0
    capsys.readouterr()
    assert main(["lineage", str(mixed), "--check"]) == 2
    assert "b.parquet" in capsys.readouterr().err
