import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import polars as pl
import pytest

from data_tools import __main__ as cli
from data_tools import artifact, page
from data_tools.errors import UserError
from data_tools.order import chosen_is_a
from data_tools.page import look
from data_tools.page.pairs import MAX_CHARS
from data_tools.page.samples import sample
from data_tools.schema import PREFERENCE, conform
from data_tools.view.judged import Judgments
from tests.data_tools.view.judgments import judgment, write

EVIL = "<script>document.title='evil'</script><img src=x onerror=\"document.title='evil'\">&lt;"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)


def row(i, **more):
    return {
        "pair_id": f"p{i}",
        "source": "one",
        "category": "chat",
        "prompt": [{"role": "user", "content": f"question {i}"}],
        "chosen": f"It is {i} km away.",
        "rejected": "It is far away.",
        **more,
    }


def table(rows):
    return conform(pl.DataFrame(rows, infer_schema_length=None), PREFERENCE).lazy()


class Reader(HTMLParser):
    """Elements and their texts; an attribute or an element that loads or runs something is an error."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.marks, self.texts, self._open = [], [], [], None
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self._open = tag
        assert tag not in ("img", "link", "iframe", "object", "base"), tag
        for name, _ in attributes:
            assert not name.startswith("on") and name not in ("src", "href", "style", "action"), name

    def handle_data(self, data):
        self.texts.append(data)
        if self._open == "mark":
            self.marks.append(data)
        self._open = None


def written(tmp_path, rows, **more):
    out = tmp_path / "page.html"
    page.write(table(rows), out, **more)
    return out.read_text()


def test_what_stands_there(tmp_path):
    rows = [row(1), row(2, source="two", category=None, margin=0.5), row(3, source="two", prompt=row(2)["prompt"])]
    out = tmp_path / "sub" / "page.html"
    assert page.write(table(rows), out) == {"rows": 3, "shown": 3}
    html = out.read_text()
    assert html.count("<article") == 3 and html.count("<mark>") == 6
    assert "It is <mark>1 km</mark> away." in html and "It is <mark>far</mark> away." in html
    assert "median 0.5" in html and "<h1>Preference pairs: page</h1>" in html
    a = "chosen" if chosen_is_a("p1", False) else "rejected"
    assert f"<span>A is</span> {a}" in html
    tags = Reader(html).tags
    assert tags.count("script") == 1 and tags.count("style") == 1


def test_a_probe(tmp_path):
    probe = pl.DataFrame(
        [("longer wins", "all", 0.75, 0.7, 0.8, 1200), ("longer wins", "<b>x</b>", 1.0, None, None, 3)],
        schema=["rule", "slice", "accuracy", "low", "high", "rows"],
        orient="row",
    )
    html = written(tmp_path, [row(1)], probe=probe)
    assert "75.0 % <small>70–80</small>" in html and "100.0 %" in html and "1,200" in html
    assert html.count("longer wins") == 2 and "&lt;b&gt;x" in html
    assert "naive rules" not in written(tmp_path, [row(1)])
    with pytest.raises(ValueError, match="missing: low"):
        page.write(table([row(1)]), tmp_path / "page.html", probe.drop("low"))


def test_judgments_beneath_their_pairs(tmp_path):
    right = "A" if chosen_is_a("p1", False) else "B"
    file = write(
        tmp_path / "judgments.parquet", [judgment("p1", right, 0.5, rationale=EVIL), judgment("p2", "INVALID", 0.5)]
    )
    html = written(tmp_path, [row(1), row(2), row(3)], judgments=Judgments(file))
    assert html.count("<details>") == 2
    assert "<summary>1 judgments: 1 right</summary>" in html and "1 judgments: 1 invalid" in html
    assert Reader(html).tags.count("script") == 1


def test_hostile_text_stays_text(tmp_path):
    evil = EVIL + "\x00\x1b[31m\u202egnp.exe</script></style><!--"
    names = ("pair_id", "group_id", "source", "category", "subset", "split", "chosen", "label_kind")
    rows = [row(1, **dict.fromkeys(names, evil), prompt=[{"role": evil, "content": evil}])]
    html = written(tmp_path, rows, title=evil, probe=pl.DataFrame(
        {"rule": [evil], "slice": [evil], "accuracy": [0.5], "low": [0.4], "high": [0.6], "rows": [1]}
    ))  # fmt: skip
    plain = Reader(written(tmp_path, [row(1)])).tags
    assert Reader(html).tags.count("script") == 1 and set(Reader(html).tags) - set(plain) <= {"tr"}
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", html)
    assert "".join(Reader(html).texts).count("document.title='evil'") >= 2 * len(names)


def test_long_texts_are_cut_and_it_is_said(tmp_path):
    html = written(
        tmp_path, [row(1, chosen="x" * (MAX_CHARS + 1234), prompt=[{"role": "user", "content": "w" * 100_000}])]
    )
    assert "x" * MAX_CHARS in html and "x" * (MAX_CHARS + 1) not in html
    assert "… 1,234 more characters" in html and "… 80,000 more characters" in html


def test_a_sample_takes_from_every_source_in_turn():
    rows = [row(i, source="big") for i in range(5000)] + [row(i, source="small") for i in range(5000, 5003)]
    rows += [row(6000, source=None), row(1)]  # an id again
    drawn = sample(table(rows), 10)
    assert drawn["source"].to_list() == ["big"] * 6 + ["small"] * 3 + [None]
    assert drawn.schema == PREFERENCE and drawn["pair_id"].is_unique().all()
    assert sample(table(rows[::-1]), 10)["pair_id"].to_list() == drawn["pair_id"].to_list()
    assert sample(table(rows), 2).height == 2
    assert sample(table(rows[:7]), 10)["pair_id"].sort().to_list() == [f"p{i}" for i in range(7)]


def test_no_rows_no_page(tmp_path):
    with pytest.raises(UserError, match="no rows"):
        page.write(PREFERENCE.to_frame().lazy(), tmp_path / "page.html")
    with pytest.raises(UserError, match="is a folder"):
        page.write(table([row(1)]), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_commands(tmp_path, capsys):
    pairs, out = tmp_path / "pairs.parquet", tmp_path / "page.html"
    table([row(i, source="one" if i % 2 else "two") for i in range(20)]).collect().write_parquet(pairs)
    assert cli.main(["view", str(pairs), "--html", str(out), "--where", "source=two", "--number", "3"]) == 0
    assert capsys.readouterr().out == f"3 of 10 pairs: {out}\n"
    manifest = artifact.read_json(tmp_path / "page.html.manifest.json")
    assert manifest["counts"] == {"rows": 10, "shown": 3} and manifest["settings"]["where"] == ["source=two"]
    assert cli.main(["view", str(pairs), "--html", str(out), "--sort", "length_difference", "--number", "2"]) == 0
    assert re.findall(r"<h3>(\w+)</h3>", out.read_text()) == ["p10", "p11"]  # two digits, the first of them
    assert cli.main(["stats", str(pairs), "--html", str(out)]) == 0
    assert out.read_text().count("<article") == 20
    assert artifact.read_json(tmp_path / "page.html.manifest.json")["command"] == "stats"
    capsys.readouterr()
    assert cli.main(["view", str(pairs), "--number", "2"]) == 0
    out = capsys.readouterr().out
    assert "{+0 km+}" in out and "p1 " in out and "p2 " not in out and "\x1b" not in out
    for argv, said in (
        (["--where", "colour=red"], "should be COLUMN=VALUE; there are: pair_id, "),
        (["--where", "source"], "should be COLUMN=VALUE"),
        (["--number", "0"], "must be at least 1"),
        (["--id", "p99"], "no pair has the id 'p99'"),
    ):
        assert cli.main(["view", str(pairs), *argv]) == 2
        err = capsys.readouterr().err
        assert said in err and err.count("\n") == 1


def opened(file, profile):
    """(the document after its script has run, what the browser complained of)."""
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
        f"--user-data-dir={profile}", "--virtual-time-budget=2000", "--dump-dom", file.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_in_a_browser(tmp_path, monkeypatch):
    """Hostile text does nothing, and the filter filters: by a source with a hostile name and a text."""
    source = json.dumps(f"{EVIL}  \n").replace("<", r"\u003c")
    choose = f"form.elements.source.value = {source}; form.elements.text.value = 'QUESTION 2'; show();"
    monkeypatch.setattr(look, "SCRIPT", look.SCRIPT + choose)
    rows = [row(i, source=f"{EVIL}  \n" if i else "one", chosen=EVIL) for i in range(4)]
    page.write(table([*rows, row(22)]), tmp_path / "page.html", title="harmless")
    document, complaints = opened(tmp_path / "page.html", tmp_path / "profile")
    assert complaints == []
    assert "<title>harmless</title>" in document and "1 of 5 shown" in document
    assert len(re.findall(r"<article[^>]* hidden", document)) == 4
    shown = re.search(r"<article(?![^>]* hidden).*?</article>", document, re.DOTALL)[0]
    assert "<h3>p2</h3>" in shown and "<script" not in shown and "&lt;script&gt;" in shown


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_the_policy_refuses_any_other_script(tmp_path):
    """What the test above relies on: the browser would complain, and a script that is not ours does not run."""
    page.write(table([row(1)]), tmp_path / "page.html", title="harmless")
    html = (tmp_path / "page.html").read_text()
    (tmp_path / "page.html").write_text(html.replace("</body>", "<script>document.title = 'evil'</script></body>"))
    document, complaints = opened(tmp_path / "page.html", tmp_path / "profile")
    assert "<title>harmless</title>" in document and "1 of 1 shown" in document
    assert len(complaints) == 1 and "Content Security Policy" in complaints[0]
