"""Files that somebody has edited: one line that names file and key, and what is not known is left out."""

import json
import shutil

import pytest

from data_tools.artifact import read_json
from data_tools.errors import UserError
from genrm_lightning.report_page import adapters, write
from tests.report_page import made

NAN = float("nan")
SET = ("sets", "own")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    more = {"benchmarks": {"bench": made.benchmark(0.8)}, "hacking": made.hacking(0.6), "shift": made.shift(0.8)}
    return made.evaluation(
        tmp_path_factory.mktemp("run") / "run", "judge", {"own": made.preferences(4)}, k=2, more=more
    )


def changed(run, folder, file, *changes):
    """A copy with other values at some paths of a file."""
    shutil.copytree(run, folder)
    content = read_json(folder / file)
    for path, value in changes:
        *parents, last = path
        inside = content
        for name in parents:
            inside = inside[name]
        inside[last] = value
    (folder / file).write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize("path, value, message", [
    ((*SET, "accuracy"), "many", "key 'sets.own.accuracy': is no finite number"),
    ((*SET, "accuracy"), True, "key 'sets.own.accuracy': is no finite number"),
    ((*SET, "ece_low"), NAN, "key 'sets.own.ece_low': is no finite number"),
    ((*SET, "n_pairs"), 10**400, "key 'sets.own.n_pairs': is no finite number"),
    ((*SET, "mean_n_tokens"), -1, "key 'sets.own.mean_n_tokens': is below 0"),
    ((*SET, "reliability"), {"n": 1}, "key 'sets.own.reliability': is no JSON list"),
    ((*SET, "reliability", 3, "n"), "x", "key 'sets.own.reliability[3].n': is no finite number"),
    ((*SET, "by_length", 1), None, "key 'sets.own.by_length[1]': is no JSON object"),
    ((*SET, "by", "category", "chat"), 5, "key 'sets.own.by.category.chat': is no JSON object"),
    ((*SET, "votes"), [1], "key 'sets.own.votes': is no JSON object"),
    ((*SET, "votes", "curve", 0, "k"), 0, "key 'sets.own.votes.curve[0].k': is not above 0"),
    ((*SET, "longer_wins", "diff"), float("inf"), "key 'sets.own.longer_wins.diff': is no finite number"),
    (("benchmarks", "bench", "sections", "Chat", "score"), "x", "key 'benchmarks.bench.sections.Chat.score': is no"),
    (("benchmarks", "bench", "notes"), "x", "key 'benchmarks.bench.notes': is no JSON list"),
    (("hacking",), "x", "key 'hacking': is no JSON object"),
    (("hacking", "attacks", 0, "name"), [1], "key 'hacking.attacks[0].name': is no text"),
    (("hacking", "attacks", 1, "win_rate"), NAN, "key 'hacking.attacks[1].win_rate': is no finite number"),
    (("shift", "bins", 2, "low"), "x", "key 'shift.bins[2].low': is no finite number"),
])  # fmt: skip
def test_what_no_number_is(whole, tmp_path, path, value, message):
    run = changed(whole, tmp_path / "run", "scores.json", (path, value))
    with pytest.raises(UserError) as told:
        adapters.read(run)
    assert f"{run / 'scores.json'}: {message}" in str(told.value) and "\n" not in str(told.value)


@pytest.mark.parametrize("name", ["a\0b", "\ud800"])
def test_what_no_folder_is(whole, tmp_path, name):
    run = changed(whole, tmp_path / "run", "evaluation.json", (("sets", 0, "folder"), name))
    with pytest.raises(UserError, match=r"evaluation.json: sets\[0\]: key 'folder': is no name of a folder"):
        adapters.read(run)


@pytest.mark.parametrize("key, value", [("accuracy_id", "x"), ("categories_ood", {"chat": {"accuracy": NAN}})])
def test_rows_of_a_summary(key, value, tmp_path):
    run = made.compare(tmp_path / "all", {"id": made.preferences(4, 1), "ood": made.preferences(4, 2)}, seeds=1)
    changed(run, tmp_path / "changed", "summary.json", (("rows", 1, key), value))
    with pytest.raises(UserError, match=r"changed/summary.json: key 'rows\[1\], of the set '\w+'.\w+.*': is no finite"):
        adapters.read(tmp_path / "changed")


def numbers_in(value, path=()):
    """The paths of all numbers of a JSON value."""
    if isinstance(value, dict | list):
        for name, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from numbers_in(inner, (*path, name))
    elif isinstance(value, int | float):
        yield path


def test_numbers_that_nobody_knows(whole, tmp_path):
    """Without any interval, and without any number: all that is left out of the page is what they would have said."""
    paths = list(numbers_in(read_json(whole / "scores.json")))
    ends = [(path, None) for path in paths if any(end in str(path[-1]) for end in ("low", "high", "ece", "brier"))]
    assert len(ends) > 100
    for name, changes in (("ends", ends), ("all", [(path, None) for path in paths])):
        run = changed(whole, tmp_path / name, "scores.json", *changes)
        write([run], tmp_path / "r.html", pairs=0)
        html = (tmp_path / "r.html").read_text()
        main = html[html.index("<main>") :]
        assert "None" not in main and "nan" not in main.lower()
        assert ("ECE" in main, "id=hacking" in main, "id=votes" in main) == (False, *[name == "ends"] * 2)
