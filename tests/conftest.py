"""What every test shares. The environment is set here, before anything imports torch or transformers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples in every run; `--hypothesis-profile searching` looks for others, as `make test-all` does.
settings.register_profile("repeatable", derandomize=True, database=None, deadline=None)
settings.register_profile("searching", database=None, deadline=None)
settings.load_profile("repeatable")

os.environ["HF_HUB_OFFLINE"] = "1"  # no test may depend on the hub; this holds for the processes they start, too
os.environ["TOKENIZERS_PARALLELISM"] = "false"
if "PYTEST_XDIST_WORKER" in os.environ:  # several workers of several threads each would wait for one another
    os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(autouse=True)
def _no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables are as wide as in a pipe, whatever terminal the tests are started from."""
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture(scope="session")
def pairs_folder() -> Path:
    """The folder of real preference pairs that GENRM_PAIRS names; unset, the test skips."""
    name = os.environ.get("GENRM_PAIRS")
    if not name:
        pytest.skip("GENRM_PAIRS names no folder of real pairs")
    folder = Path(name).resolve()
    assert folder.is_dir(), f"GENRM_PAIRS={name}: no such folder"
    return folder


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny random Llama (tests/tiny.py); nothing may write into it."""
    from tests.tiny import make_tiny_llama  # here, so that the data tools' tests need not wait for torch

    return make_tiny_llama(tmp_path_factory.mktemp("backbone") / "tiny-llama")


@pytest.fixture(scope="session")
def judges(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path) -> Path:
    """A folder with untrained judges of the tiny Llama by their objective: BradleyTerry, PairRM, GenRM, and STaRSFT,
    which reasons; nothing may write into it."""
    from tests.tiny import make_tiny_judges

    return make_tiny_judges(tmp_path_factory.mktemp("judges"), tiny_llama)
