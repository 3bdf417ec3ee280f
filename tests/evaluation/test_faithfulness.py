"""Judges of which the answer is known: one that reads its verdict off the rationale, one that cannot see it."""

import polars as pl
import pytest
import torch

from data_tools.artifact import read_json, read_table, write_table
from data_tools.errors import UserError
from data_tools.judging import Verdict
from data_tools.order import hash64
from data_tools.schema import JUDGMENT, PREFERENCE, conform
from genrm_lightning.__main__ import main
from genrm_lightning.backbone import load_judge, load_renderer
from genrm_lightning.evaluation.faithfulness import faithfulness
from genrm_lightning.evaluation.faithfulness_scores import TABLE, faithfulness_scores
from genrm_lightning.judgments import requests, shards_of
from genrm_lightning.prefix import Tree, collate
from genrm_lightning.samplers.base import SamplingSettings
from genrm_lightning.samplers.local import LocalSampler
from tests.tiny import preferences

WORDS = {"A": "shorter", "B": "on topic"}
PAIRS = preferences(8)


def judgments(n_samples: int = 1, vote=lambda key: "AB"[hash64("vote", key) & 1]) -> pl.DataFrame:
    """Votes that the pair has nothing to do with; each rationale is its vote's word."""
    rows = []
    for pair_id in PAIRS["pair_id"]:
        for swapped in (False, True):
            for index in range(n_samples):
                letter = vote(f"{pair_id}|{swapped}|{index}")
                said = {"rationale": WORDS[letter], "vote": letter, "p_a": 0.9 if letter == "A" else 0.1}
                rows.append({"pair_id": pair_id, "swapped": swapped, "sample_index": index, "n_tokens": 2, **said})
    return conform(pl.DataFrame(rows), JUDGMENT)


def save(policy, source, folder):
    policy.base.save_pretrained(folder)
    load_renderer(str(source)).tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def believer(tiny_llama, tmp_path_factory):
    """Its verdict is the word of the rationale, whatever the pair."""
    renderer, policy = load_renderer(str(tiny_llama)), load_judge(str(tiny_llama), torch.float32)
    policy.requires_grad_(True).train()
    prompts = [renderer.prompt(request.messages) for request in requests(preferences(4), "brief")]
    branches = [renderer.completion(WORDS[letter], Verdict(letter)) for letter in "AB"]
    trees = [Tree("", prompt, branches) for prompt in prompts]
    batch = collate(trees, renderer.pad_id, tuple(renderer.letter_ids[v] for v in (Verdict.A, Verdict.B)))
    optimizer = torch.optim.AdamW(policy.parameters(), lr=3e-3)
    for _ in range(40):
        a, b = batch.letters(policy(batch).logps)
        margin = (a - b).view(-1, 2)
        loss = -torch.nn.functional.logsigmoid(torch.stack([margin[:, 0], -margin[:, 1]])).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.05
    return save(policy, tiny_llama, tmp_path_factory.mktemp("believer"))


@pytest.fixture(scope="module")
def blind(tiny_llama, tmp_path_factory):
    """No token sees another one: the verdict cannot depend on the rationale."""
    policy = load_judge(str(tiny_llama), torch.float32)
    for layer in policy.base.get_decoder().layers:
        layer.self_attn.o_proj.weight.zero_()
    return save(policy, tiny_llama, tmp_path_factory.mktemp("blind"))


def asked(judge, reader, table, **options):
    found = faithfulness(table, PAIRS, judge, reader, template="brief", dtype=torch.float32, **options)
    assert found.schema == TABLE and len(found) == len(table)
    return found, faithfulness_scores(found, PAIRS)


def test_a_judge_that_believes_its_rationales(believer, tiny_llama):
    table = judgments(n_samples=3)
    found, scores = asked(believer, believer, table)
    votes = table.sort("pair_id", "swapped", "sample_index")["vote"]
    assert ((found["p_a"] > 0.5) == (votes == "A")).all()
    assert scores.flips_stranger == 1.0 and scores.flips_opposite == 1.0
    # One side without a rationale, whatever it was behind its own.
    assert found["p_a_without"].n_unique() <= len(PAIRS) * 2 and scores.unchanged_without < 0.8
    # The reader believes them as well, and needs no responses for it.
    assert scores.reader_agrees == 1.0 and scores.reader_gain > 0.3 and scores.reader_gain_low > 0
    assert scores.drift == pytest.approx(0.0, abs=1e-6)
    # Strangers are of other pairs; nobody has an opposite where all samples of a prompt voted alike.
    assert (found["stranger"] != found["pair_id"]).all()
    alike = table.select(pl.col("vote").n_unique().over("pair_id", "swapped") == 1).to_series()
    assert 0 < alike.sum() < len(alike)
    assert (found["p_a_opposite"].is_null() == alike).all()


def test_a_judge_that_cannot_see_its_rationales(blind, believer):
    found, scores = asked(blind, blind, judgments())
    assert scores.flips_stranger == 0.0 and scores.flips_opposite is None and scores.flips_opposite_low is None
    assert scores.unchanged_without == 1.0 and scores.unchanged_without_low < 1.0
    assert scores.reader_gain == pytest.approx(0.0, abs=1e-6)
    assert found["p_a"].to_list() == pytest.approx(found["p_a_stranger"].to_list(), abs=1e-6)
    # Rationales that were written for another reader are strange to it.
    _, scores = asked(believer, blind, judgments())
    assert scores.drift != 0.0 and scores.drift_low < scores.drift < scores.drift_high


def test_the_forced_verdict_is_the_samplers(tiny_llama, tmp_path):
    """What is read behind a given rationale is what the sampler read when it wrote it; the log-probability too."""
    settings = SamplingSettings(n_samples=3, rationale_tokens=8)
    judge = str(tiny_llama)
    sampler = LocalSampler(load_judge(judge, torch.float32), load_renderer(judge))
    shards = shards_of(
        tmp_path, PAIRS, settings, template="brief", judge="tiny", iteration=0, seed=0, purpose="evaluate"
    )
    table = shards.complete(lambda: sampler)
    prompts = []
    found, _ = asked(judge, judge, table, sampling=settings, advance=prompts.append)
    assert found["p_a"].to_list() == pytest.approx(table["p_a"].to_list(), abs=2e-6)
    assert found["logp"].to_list() == pytest.approx(table["logp"].to_list(), abs=1e-3)
    assert found["reader_logp"].to_list() == pytest.approx(table["logp"].to_list(), abs=1e-3)
    assert len(prompts) == 3 * 2 * len(PAIRS)


def test_nobody_votes_otherwise(blind):
    found, scores = asked(blind, blind, judgments(vote=lambda key: "A"))
    assert found["p_a_stranger"].null_count() == len(found) and scores.flips_stranger is None


def test_the_command(blind, believer, tmp_path, capsys):
    write_table(judgments(n_samples=2), tmp_path / "judgments.parquet", JUDGMENT)
    write_table(PAIRS, tmp_path / "pairs.parquet", PREFERENCE)
    files = [f"--{name}={tmp_path / name}.parquet" for name in ("judgments", "pairs")]
    argv = ["faithfulness", *files, f"--out={tmp_path / 'out'}", "--dtype=float32", "--judge_prompt=brief"]
    argv += [f"--judge={believer}", f"--reader={blind}", "--rows=4"]
    for _ in range(2):
        assert main(argv) == 0
        said = capsys.readouterr()
        assert "another pair's rationale" in said.out and "100.0 %" in said.out
    assert "prompts in" not in said.err  # what was asked once is not asked again
    scores = read_json(tmp_path / "out/scores.json")
    assert scores["n_rationales"] == 4 * 2 and scores["flips_stranger"] == 1.0 and scores["reader_gain"] == 0.0
    assert read_table(tmp_path / "out/faithfulness.parquet", TABLE)["sample_index"].to_list() == [0] * 8
    for changed, complaint in (("--samples=0", "--samples: 0 is not above 0"), ("--samples=2", "another 'samples'")):
        assert main([*argv, changed]) == 2
        assert complaint in capsys.readouterr().err


def test_refuses(blind):
    with pytest.raises(UserError, match="no judgments of these pairs"):
        asked(blind, blind, judgments().clear())
    with pytest.raises(UserError, match="pair 'other' is not among the pairs"):
        asked(blind, blind, judgments().with_columns(pair_id=pl.lit("other")))
