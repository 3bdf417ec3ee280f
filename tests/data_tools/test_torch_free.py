"""data_tools works where nothing but polars and rich is installed."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
FORBIDDEN = ("torch", "transformers", "lightning", "datasets", "numpy", "pyarrow", "genrm_lightning")

# Runs in a fresh interpreter: importing a forbidden package raises, as if it were not installed.
SCRIPT = f"""
import importlib, pkgutil, sys

class Forbid:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {FORBIDDEN!r}:
            raise ModuleNotFoundError(f"forbidden here: {{name}}", name=name)

sys.meta_path.insert(0, Forbid())
import data_tools
names = [found.name for found in pkgutil.walk_packages(data_tools.__path__, "data_tools.")]
for name in names:
    importlib.import_module(name)
from data_tools.__main__ import main
folder = sys.argv[1]
assert main(["verifiable", "--rows", "20", "--test-rows", "5", "--out", folder + "/out"]) == 0
assert main(["stats", folder + "/out/train.parquet"]) == 0
assert main(["probe", folder + "/out/train.parquet"]) == 0
assert main(["ingest", folder + "/trl.jsonl", "--out", folder + "/ingested"]) == 0
loaded = sorted(name for name in sys.modules if name.partition(".")[0] in {FORBIDDEN!r})
assert not loaded, loaded
print("imported", len(names))
"""


def test_in_an_interpreter_without_them(tmp_path):
    sides = {side: [{"role": "assistant", "content": side}] for side in ("chosen", "rejected")}
    rows = [json.dumps({"prompt": f"q{i}", **sides}) for i in range(5)]
    (tmp_path / "trl.jsonl").write_text("\n".join(rows))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) >= 12
    assert sorted(path.name for path in (tmp_path / "out").iterdir())[-1] == "validation.parquet"


def test_the_hook_forbids(tmp_path):
    """The test above can fail."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    script = SCRIPT.replace("import data_tools\n", "import numpy\n", 1)
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode != 0 and "forbidden here: numpy" in done.stderr


def test_only_polars_rich_and_the_standard_library_are_imported():
    allowed = {"polars", "rich", "data_tools", *sys.stdlib_module_names}
    for file in sorted((ROOT / "data_tools").rglob("*.py")):
        for node in ast.parse(file.read_text()).body:  # the top of the module; functions may import more
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module]
            else:
                continue
            assert {name.partition(".")[0] for name in names} <= allowed, f"{file}: {names}"
