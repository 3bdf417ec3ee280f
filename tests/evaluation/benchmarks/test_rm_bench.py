"""RM-Bench against the authors' algorithm, written anew from its description."""

from __future__ import annotations

import numpy as np
import pytest

from genrm_lightning.evaluation.benchmarks import rm_bench

DOMAINS = ("chat", "math", "code", "safety-refuse", "safety-response")


def reference(prompts):
    """Over (domain, right scores, wrong scores): the domains' means, the levels' means, the score."""
    domains = {}
    for domain in ("chat", "math", "code", "safety"):
        of = [(np.array(r), np.array(w)) for name, r, w in prompts if name.startswith(domain)]
        matrix = np.mean([r[:, None] > w[None, :] for r, w in of], axis=0)
        upper, lower = np.triu_indices(3, 1), np.tril_indices(3, -1)
        domains[domain] = {"hard": matrix[upper].mean(), "normal": np.diag(matrix).mean(), "easy": matrix[lower].mean()}
    means = {domain: np.mean(list(levels.values())) for domain, levels in domains.items()}
    levels = {lvl: np.mean([domains[domain][lvl] for domain in domains]) for lvl in ("easy", "normal", "hard")}
    return means | levels, np.mean(list(means.values()))


def random_prompts(seed):
    random = np.random.default_rng(seed)
    return [
        (domain, random.integers(0, 5, 3).astype(float), random.integers(0, 4, 3).astype(float))
        for domain in DOMAINS
        for _ in range(int(random.integers(2, 7)))
    ]


def filled(pairs, prompts, rewards=True, dashed=True):
    made = pairs("rm_bench" if dashed else "rm-bench")
    for k, (domain, right, wrong) in enumerate(prompts):
        for i in range(3):
            for j in range(3):
                p = 0.5 + 0.3 * np.sign(right[i] - wrong[j])
                name = f"rm_bench/{k}/{i}-{j}" if dashed else f"rm-bench-{domain}-{k}-{i}{j}"
                group = f"rm_bench/{k}" if dashed else None
                scores = (right[i], wrong[j]) if rewards else None
                subset = f"{domain}/{rm_bench.level(i, j)}"
                made.add(name, (p, p), scores, subset=subset, group_id=group)
    return made


@pytest.mark.parametrize("seed", range(4))
def test_as_the_authors_compute_it(pairs, seed):
    prompts = random_prompts(seed)
    sections, score = reference(prompts)
    # With rewards and without, with ids as ingested and as in other files.
    result = filled(pairs, prompts, rewards=seed % 2 == 0, dashed=seed < 2).protocol()
    assert {name: one["score"] for name, one in result["sections"].items()} == pytest.approx(sections)
    assert result["score"] == pytest.approx(score)
    assert result["low"] < result["score"] < result["high"]
    assert [result["sections"][lvl]["weight"] for lvl in rm_bench.LEVELS] == [None] * 3
    chat = [(r, w) for domain, r, w in prompts if domain == "chat"]
    assert result["matrix"]["chat"][2][0] == pytest.approx(np.mean([r[2] > w[0] for r, w in chat]))


def test_published_sizes(pairs, monkeypatch):
    assert sum(rm_bench.PROMPTS.values()) == 1327
    monkeypatch.setattr(rm_bench, "PROMPTS", {"chat": 1, "math": 1, "code": 1, "safety": 2})
    prompts = [(domain, np.ones(3), np.zeros(3)) for domain in DOMAINS]
    result = filled(pairs, prompts, rewards=False).protocol()
    assert result["complete"] and (result["score"], result["n_expected"]) == (1, 45)


def test_ids_that_say_no_styles(pairs):
    made = filled(pairs, random_prompts(5))
    for rows in (made.preferences, made.judgments):
        for row in rows:
            row["pair_id"] += "x"
    made.rewards = [(f"{pair_id}x", *scores) for pair_id, *scores in made.rewards]
    # Which order is whose has changed with the ids, but not what the rewards say.
    result = made.protocol()
    sections, score = reference(random_prompts(5))
    assert result["score"] == pytest.approx(score) and "matrix" not in result
    assert result["sections"]["hard"]["score"] == pytest.approx(sections["hard"])
    assert any("ids do not say both styles" in note for note in result["notes"])


def test_a_domain_without_rows_and_an_unknown_one(pairs):
    prompts = [(d, np.ones(3), np.zeros(3)) for d in ("chat", "code", "safety-refuse", "art")]
    made = filled(pairs, prompts)
    made.judgments = [row for row in made.judgments if row["pair_id"] != "rm_bench/1/0-2"]
    result = made.protocol()
    assert result["score"] == 1 and not result["complete"]
    told = "\n".join(result["notes"])
    assert "no rows in section math: the score is over the others, not the benchmark's" in told
    assert "9 pairs have a subset that is no domain/level" in told
    assert "1 of 36 pairs were not judged" in told and "1 prompts have not nine judged pairs each" in told
    assert result["matrix"]["code"][0] == [1, 1, None]
