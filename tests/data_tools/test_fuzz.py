"""No input crashes a command: it ends with 0 and whole tables, or with 2, one line, and nothing written."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from data_tools import artifact, lineage, sources
from data_tools.__main__ import main
from data_tools.schema import EXAMPLE, JUDGMENT, PREFERENCE, SPLITS, conform
from data_tools.visible import visible
from tests.data_tools import fuzzing

FORMATS = tuple(sources.formats())
# The deeper run is told by its marker and has other examples each time.
QUICK = dict(suppress_health_check=list(HealthCheck))
DEEP = dict(derandomize=False, suppress_health_check=list(HealthCheck))


@pytest.fixture
def command(tmp_path, capfd):
    """Runs a command in a folder of its own, and checks how it ends. What polars' threads say counts as well."""
    numbers = itertools.count()

    class Command:
        def folder(self) -> Path:
            made = tmp_path / str(next(numbers))
            made.mkdir()
            return made

        def __call__(self, *argv: object, out: Path | None = None) -> int:
            """The status, 0 or 2."""
            capfd.readouterr()
            code = main([str(argument) for argument in argv] + (["--out", str(out)] if out else []))
            said = capfd.readouterr()
            assert code in (0, 2), said.err
            assert "Traceback" not in said.err and "panicked" not in said.err
            if code == 2:
                assert said.out == ""
                assert said.err.startswith("error: ") and said.err.count("\n") == 1 and said.err.endswith("\n")
                assert visible(said.err) == said.err, "control characters"
                assert out is None or not _files(out), "half-written"
            return code

    return Command()


def _files(out: Path) -> list[str]:
    if not out.is_dir():
        return [out.name] if out.exists() else []
    return sorted(file.name for file in out.rglob("*"))


def ingested(command, name: str, raw: bytes, format: str) -> None:
    """Ingest one file; if that works, the tables are whole and their rows are those that the manifest counts."""
    folder = command.folder()
    file, out = folder / name, folder / "out"
    file.write_bytes(raw)
    if command("ingest", file, "--format", format, out=out) == 0:
        written = artifact.read_json(out / artifact.MANIFEST)["counts"]["written"]
        for split in SPLITS:
            table = out / f"{split}.parquet"
            assert (artifact.read_table(table, PREFERENCE).height if table.exists() else 0) == written[split]
        assert sum(written.values())
    shutil.rmtree(folder)


@st.composite
def broken_rows(draw: st.DrawFn, format: str) -> tuple[str, bytes, str]:
    """A file of rows that are wrong: (name, content, --format)."""
    kind = draw(st.sampled_from(fuzzing.KINDS))
    content = fuzzing.bytes_of(draw(fuzzing.mutated(fuzzing.good_rows(format))), kind)
    return f"f.{kind}", content, draw(st.sampled_from((format, "auto")))


@st.composite
def broken_bytes(draw: st.DrawFn, kind: str) -> tuple[str, bytes, str]:
    """A file of good rows whose bytes are damaged."""
    format = draw(st.sampled_from(FORMATS))
    content = fuzzing.bytes_of([list(row.items()) for row in fuzzing.good_rows(format)], kind)
    return f"f.{kind}", draw(fuzzing.corrupted(content)), draw(st.sampled_from((format, "auto")))


@st.composite
def broken_types(draw: st.DrawFn) -> tuple[str, bytes, str]:
    """A file with columns of types that no format knows."""
    format, kind = draw(st.sampled_from(FORMATS)), draw(st.sampled_from(("parquet", "arrow", "stream.arrow")))
    frame = draw(fuzzing.recast(pl.DataFrame(fuzzing.good_rows(format), strict=False)))
    try:
        content = fuzzing.framed(frame, kind)
    except pl.exceptions.PolarsError:  # such as a struct without fields, which Parquet has not
        reject()
    return f"f.{kind}", content, draw(st.sampled_from((format, "auto")))


@pytest.mark.parametrize("kind", fuzzing.KINDS)
def test_what_is_not_damaged_is_read(kind, command):
    """The tests below can reach what lies behind the readers' checks."""
    for format in ("pairs", "trl"):
        folder = command.folder()
        rows = [list(row.items()) for row in fuzzing.good_rows(format)]
        (folder / f"f.{kind}").write_bytes(fuzzing.bytes_of(rows, kind))
        assert command("ingest", folder / f"f.{kind}", out=folder / "out") == 0


@pytest.mark.parametrize("format", FORMATS)
@given(data=st.data())
@settings(**QUICK, max_examples=8)
def test_rows(format, command, data):
    ingested(command, *data.draw(broken_rows(format)))


@pytest.mark.parametrize("kind", fuzzing.KINDS)
@given(data=st.data())
@settings(**QUICK, max_examples=12)
def test_bytes(kind, command, data):
    ingested(command, *data.draw(broken_bytes(kind)))


@given(data=st.data())
@settings(**QUICK, max_examples=30)
def test_types(command, data):
    ingested(command, *data.draw(broken_types()))


@st.composite
def broken_table(draw: st.DrawFn, table: pl.DataFrame) -> bytes:
    """A table of ours as Parquet: with other types, odd values or damaged bytes."""
    what = draw(st.sampled_from(("types", "values", "values", "bytes")))
    if what == "bytes":
        return draw(fuzzing.corrupted(fuzzing.framed(table, "parquet")))
    made = draw(fuzzing.recast(table) if what == "types" else fuzzing.odd_values(table))
    try:
        return fuzzing.framed(made, "parquet")
    except pl.exceptions.PolarsError:
        reject()


def preferences() -> pl.DataFrame:
    turns = [[{"role": "user", "content": f"q {i}"}] for i in range(6)]
    made = {"pair_id": [f"p{i}" for i in range(6)], "source": "s", "prompt": turns, "chosen": "yes", "rejected": "no"}
    return conform(pl.DataFrame(made), PREFERENCE)


def judgments() -> pl.DataFrame:
    drawn = itertools.product(range(6), (False, True), range(2))
    made = [
        {"pair_id": f"p{i}", "swapped": swapped, "iteration": 0, "sample_index": k, "rationale": f"since {i} {k}",
         "token_ids": [i, k, 3], "verdict": "AB"[k], "vote": "AB"[k], "p_a": 0.9 - k * 0.8, "logp": -1.5 - k,
         "mean_token_prob": 0.5, "n_tokens": 3, "finish_reason": "stop", "seed": 0, "judge": "j"}
        for i, swapped, k in drawn
    ]  # fmt: skip
    return conform(pl.DataFrame(made), JUDGMENT)


# Commands that take tables, each with the table that is broken; {0} is its file, {1} a whole one of the other kind.
COMMANDS = {
    "clean": (preferences, "clean {0} --max-chars 100"),
    "split": (preferences, "split {0} --redo"),
    "stats": (preferences, "stats {0}"),
    "prompts": (preferences, "prompts {0}"),
    "star, pairs": (preferences, "star --preferences {0} --judgments {1} --objective dpo"),
    "star, judgments": (judgments, "star --judgments {0} --preferences {1} --objective dpo --filter min_words:words=1"),
    "star, sft": (judgments, "star --judgments {0} --preferences {1} --objective sft --right verdict --per-prompt 2"),
}  # fmt: skip


def given_a_table(command, name: str, content: bytes) -> int:
    """Run the command; what it wrote is a whole table with a manifest of just this file."""
    folder = command.folder()
    table, line = COMMANDS[name]
    (folder / "t.parquet").write_bytes(content)
    other = judgments if table is preferences else preferences
    other().write_parquet(folder / "other.parquet")
    out = None if name == "stats" else folder / "out.parquet"
    argv = line.format(folder / "t.parquet", folder / "other.parquet").split()
    if (code := command(*argv, out=out)) == 0 and out:
        if name != "prompts":
            artifact.read_table(out, EXAMPLE if name.startswith("star") else PREFERENCE)
        assert lineage.manifest_of(out).exists()
    elif out:
        assert _files(folder) == ["other.parquet", "t.parquet"]
    shutil.rmtree(folder)
    return code


@pytest.mark.parametrize("name", COMMANDS)
def test_a_whole_table_is_taken(name, command):
    table = COMMANDS[name][0]
    assert given_a_table(command, name, fuzzing.framed(table(), "parquet")) == 0


@pytest.mark.parametrize("name", COMMANDS)
@given(data=st.data())
@settings(**QUICK, max_examples=12)
def test_tables(name, command, data):
    given_a_table(command, name, data.draw(broken_table(COMMANDS[name][0]())))


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
@given(data=st.data())
@settings(**DEEP, max_examples=500)
def test_tables_deeper(name, command, data):
    given_a_table(command, name, data.draw(broken_table(COMMANDS[name][0]())))


@pytest.mark.slow
@pytest.mark.parametrize("what", ("rows", "bytes", "types"))
@given(data=st.data())
@settings(**DEEP, max_examples=1500)
def test_deeper(what, command, data):
    """Other examples in every run; what fails is printed whole."""
    if what == "types":
        made = broken_types()
    elif what == "rows":
        made = broken_rows(data.draw(st.sampled_from(FORMATS)))
    else:
        made = broken_bytes(data.draw(st.sampled_from(fuzzing.KINDS)))
    ingested(command, *data.draw(made))
