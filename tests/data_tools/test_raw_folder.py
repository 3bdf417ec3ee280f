"""Manifests in a folder of raw files are not taken for raw files."""

import json

from data_tools import lineage, sources


def test_manifests_are_no_raw_files(tmp_path):
    for name in ("b.jsonl", "a.json"):
        rows = [{"prompt": f"{name} {i}", "chosen": "good", "rejected": "bad"} for i in range(2)]
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        lineage.write(tmp_path / name, "export", (), {}, {"written": 2})
    (tmp_path / "manifest.json").write_text("{}")
    (tmp_path / "my_manifest.json").write_text((tmp_path / "a.json").read_text())  # only by its name like one
    assert [file.name for file in sources.files(tmp_path)] == ["a.json", "b.jsonl", "my_manifest.json"]
    assert sources.read(tmp_path).height == 6
