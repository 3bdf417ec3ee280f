"""The report as a whole: what stands in it, what is refused, and what a real browser makes of it."""

import json
import re
import shutil
import subprocess
import tracemalloc
from html import unescape
from html.parser import HTMLParser

import polars as pl
import pytest

from data_tools.artifact import read_json, write_json
from data_tools.errors import UserError
from genrm_lightning.__main__ import main
from genrm_lightning.evaluation.scores import set_scores
from genrm_lightning.report_page import look, write
from genrm_lightning.report_page.sections import disagreements
from tests.report_page import made

EVIL = (
    "</script><script>document.title='evil'</script><img src=x onerror=\"document.title='evil'\">\x00\x1b[31m\u202e&lt;"
)
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
EVERY = (
    *("headline", "methods", "couples", "benchmarks", "votes", "reliability", "risk", "position", "length"),
    *("categories", "hacking", "shift", "slices", "pairs", "cost", "sources"),
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Three judges on two sets, with all that an evaluation may hold."""
    root = tmp_path_factory.mktemp("runs")
    pairs = {"bench": made.preferences(80, 1), "own": made.preferences(60, 2)}
    more = {"benchmarks": {"bench": made.benchmark(0.8)}, "hacking": made.hacking(0.6), "shift": made.shift(0.8)}
    made.evaluation(root / "good", "runs/dpo/iteration-2/fit/judge", pairs, skill=2.5, k=4, more=more)
    made.evaluation(root / "poor", "poor", pairs, skill=0.3, k=2, seed=2, bias=1.0, rationale="I like {right} most.")
    made.evaluation(root / "reward", "reward", pairs, skill=2.5, kind="reward", seed=3, rationale="")
    return [root / name for name in ("good", "poor", "reward")]


@pytest.fixture(scope="module")
def page(runs, tmp_path_factory):
    out = tmp_path_factory.mktemp("page") / "report.html"
    write(runs, out, pairs=4)
    return out


class Reader(HTMLParser):
    """Elements, ids and texts; what would load or run something is an error."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.ids, self.links, self.texts = [], [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        assert tag not in ("img", "link", "iframe", "object", "base", "use", "image"), tag
        for name, value in attributes:
            assert not name.startswith("on") and name not in ("src", "style", "action", "xlink:href"), name
            self.ids += [value] if name == "id" else []
            if name == "href":
                assert value.startswith("#"), value
                self.links.append(value[1:])

    def handle_data(self, data):
        self.texts.append(data)


def test_every_section_is_there_and_in_the_contents(page):
    html = page.read_text()
    read = Reader(html)
    assert [name for name in read.ids if name != "judges"] == list(EVERY)
    assert read.links == list(EVERY)[1:]
    assert read.tags.count("script") == read.tags.count("style") == 1
    assert "nan" not in re.sub(r"<[^>]*title=[^>]*>", "", html).lower().split() and "None" not in "".join(read.texts)
    for ends in re.findall(r'(?:points|d)="([^"]*)"', html):
        assert not re.search("nan|inf", ends)


def test_the_headline_says_who_is_best_and_what_is_chance(page):
    html = page.read_text()
    lede = re.search("<p class=lede>(.*?)</p>", html)[1]
    assert "dpo/iteration-2" in lede and "reward" in lede and "poor" not in lede
    assert "are ahead: each is best or within chance of the best on both sets" in lede
    assert re.search("Clearly below it: poor <small>−", html)


def test_one_judge_clearly_best(runs, tmp_path):
    write(runs[:2], tmp_path / "r.html")
    assert "<b>dpo/iteration-2</b> is the best judge on both sets, beyond chance" in (tmp_path / "r.html").read_text()
    write(runs[:1], tmp_path / "r.html")  # alone
    html = (tmp_path / "r.html").read_text()
    assert "<title>dpo/iteration-2: evaluation</title>" in html
    assert re.search(r"<b>dpo/iteration-2</b> is right [\d.]+ % of the time on bench and [\d.]+ % on own</p>", html)
    assert len(re.findall(r"</b> is right [\d.]+ % of the time \(", html)) == 2  # a line a set
    assert "highest" not in html and "o the best" not in html and "id=couples" not in html and "id=pairs" not in html


def test_best_everywhere_but_clearly_so_on_one_set(tmp_path):
    pairs = {"one": made.preferences(60, 1), "two": made.preferences(12, 2)}
    good = made.evaluation(tmp_path / "good", "good", pairs, skill=2.0)
    write([good, made.evaluation(tmp_path / "fair", "fair", pairs, skill=0.2, seed=7)], tmp_path / "r.html")
    lede = re.search("<p class=lede>(.*?)</p>", (tmp_path / "r.html").read_text())[1]
    assert lede == "<b>good</b> has the highest accuracy on both sets, beyond chance on one"


def test_numbers_are_those_of_the_folder(runs, page):
    html = page.read_text()
    for run in runs:
        for numbers in read_json(run / "scores.json")["sets"].values():
            ends = f"{100 * numbers['accuracy_low']:.1f}–{100 * numbers['accuracy_high']:.1f}"
            assert f"<b>{100 * numbers['accuracy']:.1f}</b> <small>{ends}</small>" in html


def test_what_is_not_known_is_left_out(tmp_path):
    """An evaluation whose numbers are accuracies alone."""
    run = made.evaluation(tmp_path / "run", "judge", {"own": made.preferences(20)})
    scores = read_json(run / "scores.json")
    scores["sets"]["own"] = {k: v for k, v in scores["sets"]["own"].items() if k.startswith("accuracy")}
    write_json(run / "scores.json", scores)
    write([run], tmp_path / "r.html")
    assert Reader((tmp_path / "r.html").read_text()).ids == ["headline", "methods", "sources"]


def test_what_evaluate_itself_wrote(tmp_path, capsys):
    """The contract of the folder, by the command that writes it: a judge that is a file of scores."""
    pairs = made.preferences(30, 1)
    pairs.write_parquet(tmp_path / "own.parquet")
    for name, better in (("good", 1.0), ("bad", -1.0)):
        scores = pairs.select("pair_id", chosen_reward=better * (pl.int_range(30) - 2), rejected_reward=pl.lit(0.0))
        scores.write_csv(tmp_path / f"{name}.csv")
        given = ["--judge", tmp_path / f"{name}.csv", "--data", tmp_path / "own.parquet", "--out", tmp_path / name]
        assert main(["evaluate", *map(str, given)]) == 0
    capsys.readouterr()
    assert main(["report", *map(str, (tmp_path / "good", tmp_path / "bad")), "--out", str(tmp_path / "r.html")]) == 0
    assert capsys.readouterr().out == f"2 judges on 1 set: {tmp_path / 'r.html'}\n"
    html = (tmp_path / "r.html").read_text()
    assert "<b>good.csv</b> is the best judge on this set, beyond chance" in html and html.count("<article") == 12


def test_a_star_run(tmp_path):
    run = made.star(tmp_path / "dpo", {"id": made.preferences(40, 1), "ood": made.preferences(40, 2)})
    found = write([run], tmp_path / "r.html", pairs=3)
    assert [method.label for method in found.methods] == ["zero-shot", "dpo, iteration 2"]
    html = (tmp_path / "r.html").read_text()
    assert "id=iterations" in html and "<title>dpo, iteration 2: iteration 1: " in html
    assert html.count("<article") == 6 and "<summary>in the other order</summary>" in html
    assert "several seeds" not in html


def test_a_comparison_with_two_seeds(tmp_path):
    run = made.compare(tmp_path / "all", {"id": made.preferences(40, 1), "ood": made.preferences(40, 2)})
    found = write([run], tmp_path / "r.html")
    assert [method.label for method in found.methods] == ["Bradley-Terry", "STaR-DPO"]
    html = (tmp_path / "r.html").read_text()
    assert "2 seeds: accuracies are their means" in html and "not run yet: GenRM, seed 1" in html
    assert "<b>75.0</b> <small>70.0–80.0</small>" in html  # the summary's, of both seeds
    both = [pl.read_parquet(run / f"seed-{i}/bt/read/id.parquet") for i in (0, 1)]
    own = found.scored["id"].scores["Bradley-Terry"]
    right = pl.concat(both).select("pair_id", "p_a").group_by("pair_id").len()
    assert own.height == right.height and set(own["accuracy"]) <= {0, 0.25, 0.5, 0.75, 1.0}


def test_numbers_of_one_row_belong_together(tmp_path):
    """Of two seeds: what is compared with the first one's is the first one's, and it is told."""
    pairs = {"id": made.preferences(40, 1), "ood": made.preferences(40, 2)}
    run = made.compare(tmp_path / "all", pairs)
    summary = read_json(run / "summary.json")
    summary["rows"][0]["categories_id"] = {name: {"accuracy": 0.125, "n_pairs": 10} for name in made.CATEGORIES}
    write_json(run / "summary.json", summary)
    found = write([run], tmp_path / "r.html")
    on = found.methods[0].sets["id"]
    first = set_scores(pl.read_parquet(run / "seed-0/bt/read/id.parquet"), pairs["id"]).accuracy
    assert on.numbers["accuracy"] == 0.75 != first == on.own["accuracy"]
    assert {one["accuracy"] for one in on.numbers["by"]["category"].values()} == {0.125}
    assert {one["accuracy"] for one in on.numbers["by"]["subset"].values()} != {0.125}
    html = (tmp_path / "r.html").read_text()
    length = re.search("<section id=length>.*?</section>", html, re.DOTALL)[0]
    row = rf"Bradley-Terry</th><td>{100 * first:.1f}</td>.*?<td[^>]*>([+−][^ ]+) <small>"
    rule = first - on.numbers["longer_wins"]["accuracy"]
    assert re.search(row, length)[1] == f"{100 * rule:+.1f}".replace("-", "−")
    for name in ("methods", "reliability", "risk", "position", "length", "categories", "pairs", "cost"):
        part = re.search(f"<section id={name}>.*?</section>", html, re.DOTALL)[0]
        assert part.count("<p class=note>Judges have several seeds: ") >= 2, name  # a set each


def test_equal_names_are_told_apart(tmp_path):
    pairs = {"own": made.preferences(20)}
    first = made.evaluation(tmp_path / "a", "judge", pairs)
    second = made.evaluation(tmp_path / "b", "judge", pairs, seed=2)
    assert [m.label for m in write([first, second], tmp_path / "r.html").methods] == ["a: judge", "b: judge"]


def test_attacks_of_a_judge_in_a_folder_of_their_own(tmp_path):
    """Whatever the order: the evaluation's sets, and what the attacks did; other judges' folders stay apart."""
    whole, few = made.preferences(30), made.preferences(10)
    clean = made.evaluation(tmp_path / "evaluate", "judge", {"own": whole}, k=2)
    attacked = made.evaluation(tmp_path / "hack", "judge", {"own": few}, k=2, more={"hacking": made.hacking(0.5)})
    further = made.evaluation(tmp_path / "further", "judge", {"more": made.preferences(10, 5)}, k=2)
    for given in ([clean, attacked, further], [attacked, clean, further]):
        found = write(given, tmp_path / "r.html")
        (method,) = found.methods
        assert method.label == "judge" and method.hacking["attacks"] and list(found.sets) == ["own", "more"]
        assert found.scored["own"].pairs.height == 30 and method.sets["own"].numbers["n_samples"] == 120
        assert f"<dd>{attacked}</dd>" in (tmp_path / "r.html").read_text()
    other = made.evaluation(tmp_path / "other", "another", {"own": few}, more={"hacking": made.hacking(0.5)})
    with pytest.raises(UserError, match="holds other pairs"):
        write([clean, other], tmp_path / "r.html")


@pytest.mark.parametrize("keys, n", [(("a", "a"), 1), (("a", "b"), 2), (("a", None), 2), ((None, None), 1)])
def test_one_judge_in_two_folders(keys, n, tmp_path):
    """By the key where there is one, whatever the path that it was named by."""
    folders = []
    for i, key in enumerate(keys):
        named = f"judge-{i}" if keys[0] and keys[1] else "judge"
        folder = made.evaluation(tmp_path / f"{i}", named, {f"set {i}": made.preferences(8, i)})
        said = read_json(folder / "evaluation.json")
        write_json(folder / "evaluation.json", said | ({"key": key} if key else {}))
        folders.append(folder)
    assert len(write(folders, tmp_path / "r.html").methods) == n


@pytest.mark.parametrize("what", ["n_samples", "seed"])
def test_folders_without_a_key_are_apart_where_the_judge_was_asked_otherwise(what, tmp_path):
    folders = [made.evaluation(tmp_path / f"{i}", "judge", {f"set {i}": made.preferences(8, i)}) for i in range(2)]
    said = read_json(folders[1] / "evaluation.json")
    write_json(folders[1] / "evaluation.json", said | {what: 7})
    assert len(write(folders, tmp_path / "r.html").methods) == 2


def test_mistakes_are_one_line(tmp_path, capsys, runs):
    out = str(tmp_path / "r.html")
    (tmp_path / "none").mkdir()
    (tmp_path / "busy" / "data").mkdir(parents=True)
    (tmp_path / "busy" / "zero-shot").mkdir()
    (tmp_path / "old").mkdir()
    write_json(tmp_path / "old" / "scores.json", {"accuracy": 0.5})
    other = made.evaluation(tmp_path / "other", "judge", {"own": made.preferences(10, 9)})
    shutil.copytree(runs[0], tmp_path / "cut")
    (tmp_path / "cut" / "sets" / "own" / "judgments.parquet").write_bytes(b"PAR1")
    shutil.copytree(runs[0], tmp_path / "leads")
    said = json.loads((tmp_path / "leads" / "evaluation.json").read_text())
    said["sets"][0]["folder"] = "../good/sets/bench"
    write_json(tmp_path / "leads" / "evaluation.json", said)
    (link := tmp_path / "link").symlink_to(runs[0])
    half = made.evaluation(tmp_path / "half", "judge", {"own": made.preferences(10, 9)})
    file = half / "sets" / "own" / "judgments.parquet"
    pl.read_parquet(file).head(5).write_parquet(file)
    for given, message in (
        (["nowhere"], "nowhere: no such folder"),
        ([out + "x"], "no such folder"),
        ([str(tmp_path / "none")], "is no run: it has neither evaluation.json nor summary.json"),
        ([str(tmp_path / "busy")], "a run under way without results so far"),
        ([str(tmp_path / "old")], "has scores.json but no evaluation.json"),
        ([str(runs[0]), str(other)], "its set 'own' holds other pairs than that of"),
        ([str(runs[0]), str(runs[0])], "is named twice"),
        ([str(runs[0]), str(runs[0] / "sets" / "..")], "is named twice; name each folder once"),
        ([str(runs[0]), str(link)], "is named twice; name each folder once"),
        ([str(runs[0]), str(runs[1]), "--judges", "poor", "poor"], "--judges: 'poor' is named twice; name two judges"),
        ([str(tmp_path / "cut")], "judgments.parquet: not a readable parquet file"),
        ([str(tmp_path / "leads")], "leads out of"),
        ([str(half)], "judgments.parquet: expected both orders of every pair"),
        ([str(runs[0]), "--pairs", "-1"], "--pairs: -1 is below 0"),
        ([str(runs[0]), "--judges", "dpo/iteration-2", "else"], "'else' is none of the judges; there are: dpo"),
        ([str(runs[0]), "--out", str(tmp_path)], "is a folder; name a file for --out"),
    ):
        assert main(["report", *given, *([] if "--out" in given else ["--out", out])]) == 2, given
        err = capsys.readouterr().err
        assert message in err and err.count("\n") == 1, err
    assert not (tmp_path / "r.html").exists()


def test_the_page_replaces_nothing_but_a_page(tmp_path, capsys):
    run = made.evaluation(tmp_path / "run", "judge", {"own": made.preferences(8)})
    (tmp_path / "link.html").symlink_to(run / "scores.json")
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    inside = [run / "scores.json", run / "sets/own/judgments.parquet", run / "README"]
    for out in [*inside, tmp_path / "page.txt", tmp_path / "link.html"]:
        assert main(["report", str(run), "--out", str(out)]) == 2
        err = capsys.readouterr().err
        assert "does not end in .html" in err and err.count("\n") == 1
    assert before == {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    for _ in range(2):  # also in the run's own folder, and over the page of before
        assert main(["report", str(run), "--out", str(run / "page.HTML")]) == 0


def test_the_command(runs, tmp_path, capsys):
    out = tmp_path / "sub" / "r.html"
    judges = ["--judges", "poor", "reward"]
    assert main(["report", *map(str, runs), "--out", str(out), "--title", "<b>Mine", "--pairs", "2", *judges]) == 0
    assert capsys.readouterr().out == f"3 judges on 2 sets: {out}\n"
    html = out.read_text()
    assert "<h1>&lt;b&gt;Mine</h1>" in html and html.count("<article") == 4
    again = tmp_path / "again.html"
    write(runs, again, title="<b>Mine", pairs=2, judges=("poor", "reward"))
    assert again.read_text() == html  # deterministic


@pytest.fixture(scope="module")
def evil(tmp_path_factory):
    """A report of texts and names that would be programs."""
    root = tmp_path_factory.mktemp("evil")
    pairs = made.preferences(20, 3, text=EVIL + "w" * 3_000).with_columns(
        pl.lit(EVIL).alias("source"), category=pl.format("{} {}", pl.lit(EVIL), pl.col("category"))
    )
    huge = "h" * 400
    texts = {"data": EVIL, "rationale": EVIL.replace("{", "") + huge}
    hack = made.hacking(0.5)
    hack["attacks"][0] |= {"name": EVIL, "family": EVIL, "description": EVIL}
    more = {"benchmarks": {EVIL: {**made.benchmark(0.7), "benchmark": EVIL, "notes": [EVIL]}}, "hacking": hack}
    more["shift"] = {"own": made.shift(0.7, EVIL), EVIL: {**made.shift(0.7), "train": EVIL}}
    one = made.evaluation(root / "one", f"{EVIL} one", {"own": pairs}, skill=2.0, more=more, k=2, **texts)
    two = made.evaluation(root / "two", huge, {"own": pairs}, skill=-1.0, seed=2, **texts)
    out = root / "r.html"
    write([one, two], out, title="harmless", pairs=3)
    return out


def test_hostile_text_stays_text(evil):
    html = evil.read_text()
    read = Reader(html)
    assert read.tags.count("script") == 1 and "onerror" in "".join(read.texts)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", html)


def test_many_pairs_stay_in_bounds(tmp_path, monkeypatch):
    """The page stays small, and the report's own memory with it, when texts are large."""
    pairs = made.preferences(60, 3, text="long " * 20_000)
    two = [
        made.evaluation(tmp_path / name, name, {"own": pairs}, skill=skill) for name, skill in (("a", 2.0), ("b", -2.0))
    ]
    tracemalloc.start()
    write(two, tmp_path / "r.html", pairs=60)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    html = (tmp_path / "r.html").read_text()
    assert len(html.encode()) < 5_000_000 and peak < 100_000_000
    assert 50 < html.count("<article") <= 60 and "more characters" in html
    monkeypatch.setattr(disagreements, "MOST_BYTES", 100_000)
    write(two, tmp_path / "r.html", pairs=60)
    html = (tmp_path / "r.html").read_text()
    assert 1 < html.count("<article") < 10 and "would make this page too large" in html


# What the page tells of itself to the frame around it: how wide it is and how wide it may be, what it has fetched, its
# sections, and how many rows of a judge are seen before and after its switch is pressed.
PROBE = """
const seen = () => [...document.querySelectorAll("main tr.s1")].filter(one => one.getClientRects().length).length;
const told = {
  title: document.title, wide: document.documentElement.scrollWidth, room: innerWidth, rows: seen(),
  fetched: performance.getEntriesByType("resource").length,
  sections: [...document.querySelectorAll("section")].map(one => one.id),
};
document.querySelector("#judges input[value='1']").click();
parent.postMessage(JSON.stringify({...told, left: seen()}), "*");
"""
FRAME = """<!DOCTYPE html><meta charset=utf-8><title>silent</title><style>iframe { border: 0; }</style>
<script>addEventListener("message", event => document.title = event.data);</script>
<iframe src=page.html width=%d height=900></iframe>"""


def opened(file, profile):
    """(the document after its scripts have run, what the browser complained of)."""
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--hide-scrollbars",
        f"--user-data-dir={profile}", "--virtual-time-budget=2000", "--dump-dom", file.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
@pytest.mark.parametrize("which, width", [("page", 390), ("evil", 390), ("page", 1400)])
def test_in_a_browser(which, width, request, tmp_path, monkeypatch):
    """No complaint, nothing fetched, no sideways scrolling, all sections, and switches that hide a judge.

    In a frame, because Chromium's own windows are at least 500 pixels wide.
    """
    monkeypatch.setattr(look, "SCRIPT", look.SCRIPT + PROBE)
    source = request.getfixturevalue(which).read_text()
    title = re.search("<title>(.*?)</title>", source)[1]
    body = re.search("<div class=page>.*</div>", source, re.DOTALL)[0]
    (tmp_path / "page.html").write_text(look.document(title, body))
    (tmp_path / "frame.html").write_text(FRAME % width)
    document, complaints = opened(tmp_path / "frame.html", tmp_path / "profile")
    assert complaints == []
    told = json.loads(unescape(re.search("<title>(.*?)</title>", document)[1]))
    assert told["title"] == title and told["room"] == width and told["wide"] <= width
    assert told["fetched"] == 0 and told["rows"] > 0 and told["left"] == 0
    assert told["sections"] == [name for name in EVERY if which == "page" or name != "couples"]
