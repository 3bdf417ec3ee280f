"""The command try: a pair judged before the user's eyes."""

import io
import re
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from genrm_lightning.__main__ import main

FLAGS = ["--dtype", "float32", "--sampling.rationale_tokens", "8"]
PAIR = ["--prompt", "Name a colour.", "--first", "Blue.", "--second", "Seven."]


def tried(capfd, judges, kind, *argv, typed=None, monkeypatch=None):
    if typed is not None:
        monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    assert main(["try", "--judge", str(judges / kind), *FLAGS, *map(str, argv)]) == 0
    return capfd.readouterr().out


@pytest.mark.parametrize("kind", ["BradleyTerry", "GenRM", "STaRSFT"])
def test_both_orders_are_shown(capfd, judges, kind):
    said = tried(capfd, judges, kind, *PAIR)
    p = [float(x) for x in re.findall(r"p\(response 1\) = ([\d.]+)", said)]
    assert len(p) == 2 and "response 1 is A" in said and "response 1 is B" in said
    mean = sum(p) / 2
    better = "response 1" if mean > 0.5 else "response 2"
    assert f"{better} is better" in said
    assert float(re.search(r"is better, p = ([\d.]+)", said)[1]) == pytest.approx(max(mean, 1 - mean), abs=2e-3)
    assert ("scores:" in said) == (kind == "BradleyTerry") and ("verdict of its own" in said) == (kind == "STaRSFT")


def test_pairs_are_typed(capfd, judges, monkeypatch):
    typed = "Name a\ncolour.\n.\nBlue.\n.\nSeven.\n.\nAnother\n.\n \n.\nx\n.\n"
    said = tried(capfd, judges, "BradleyTerry", typed=typed, monkeypatch=monkeypatch)
    assert said.count("scores:") == 1 and "both responses need a text" in said  # of the second; the session goes on
    given = tried(capfd, judges, "BradleyTerry", "--prompt", "Name a\ncolour.", *PAIR[2:])
    assert re.findall("scores.*", given) == re.findall("scores.*", said)


def test_a_file_and_hostile_text(capfd, judges, tmp_path):
    (tmp_path / "a.txt").write_text("Blue.\x1b[2J")
    said = tried(capfd, judges, "STaRSFT", *PAIR[:2], "--first", f"@{tmp_path / 'a.txt'}", *PAIR[4:])
    assert "\x1b[2J" not in said and "is better" in said


def test_mistakes(capfd, judges, tmp_path):
    for argv, message in [
        ([*PAIR[:4], "--second", "@nowhere.txt"], "--second: nowhere.txt: No such file"),
        ([*PAIR[:4], "--second", " "], "both responses need a text"),
        ([*PAIR, "--shard", "1/2"], "there is one pair"),
        ([*PAIR[:4], "--second", "word " * 4000], "fit"),
    ]:
        assert main(["try", "--judge", str(judges / "BradleyTerry"), *FLAGS, *argv]) == 2
        said = capfd.readouterr().err
        assert message in said and said.strip().count("\n") == 0, said


def test_half_characters_are_data(capfd, judges):
    said = tried(capfd, judges, "BradleyTerry", *PAIR[:4], "--second", "Seven\udcff.")
    assert "is better" in said


def test_a_long_prompt_is_shortened(capfd, judges):
    argv = ["--prompt", "word " * 3000, *PAIR[2:]]
    assert "is better" in tried(capfd, judges, "STaRSFT", *argv) or "no preference" in capfd.readouterr().out


@pytest.mark.parametrize("kind", ["BradleyTerry", "GenRM"])
def test_a_judge_that_says_no_number(capfd, judges, tmp_path, kind):
    """Weights that are none: no verdict is made of what it says."""
    broken = shutil.copytree(judges / kind, tmp_path / "broken")
    for path in broken.glob("*.safetensors"):
        save_file({name: torch.full_like(x, torch.nan) for name, x in load_file(path).items()}, path, {"format": "pt"})
    assert main(["try", "--judge", str(broken), *FLAGS, *PAIR]) == 2
    said = capfd.readouterr()
    assert "is better" not in said.out and "no number" in said.err and said.err.strip().count("\n") == 0
