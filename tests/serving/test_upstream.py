"""A judge that another server samples: here one of ours, asked as any OpenAI-compatible one."""

import json
import threading
import time

import httpx2
import pytest

from tests.samplers.servers import Proxy
from tests.serving.forking import TOKEN

TEXTS = ("a fox", "a cat", "the sky", "<|im_end|>")
PAIRS = [{"prompt": f"Name animal {i}.", "response_a": text, "response_b": "blue"} for i, text in enumerate(TEXTS)]
LONG = {"prompt": "x", "response_a": "long " * 5000, "response_b": "y"}


def before(place, url, *flags):
    """A server whose judge is the model behind ``url``; what comes at the same time shares a batch."""
    served = ("--sampler.kind", "openai", "--sampler.openai.url", url, "--sampler.openai.model", "judge")
    own = ("--sampler.openai.key_env", "GENRM_TOKEN", "--judge_prompt", "brief", "--sampling.rationale_tokens", 4)
    return place.serve(None, *served, *own, "--limits.wait_ms", 400, *flags)


def asked(server, bodies):
    """The answers to requests that come together: all of them are one batch."""
    found = {}
    server.url  # noqa: B018  (waits for it)

    def ask(i):
        with server.client() as client:
            found[i] = client.post("/compare", json=bodies[i])

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(bodies))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [found[i] for i in range(len(bodies))]


def batches(server):
    with server.client() as client:
        lines = client.get("/metrics").text.splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("genrm_batch_size_count")))


@pytest.mark.parametrize(
    ("pairs", "flags"), [(PAIRS, ()), (PAIRS[:1], ("--stopping.alpha", 0.05, "--sampling.n_samples", 3))]
)
def test_a_refused_prompt_harms_no_other(place, servers, pairs, flags):
    """One request's prompt is too long for the model behind: it is told so, and the others' answers are the same."""
    server = before(place, f"{servers['cot'].url}/v1", "--limits.batch", len(pairs) + 1, *flags)
    alone = asked(server, pairs)
    *others, refused = asked(server, [*pairs, LONG])
    assert batches(server) == 2
    for one, other in zip(alone, others, strict=True):
        assert one.status_code == other.status_code == 200
        for field in ("p", "p_a_first", "p_b_first", "rationale", "samples", "tokens"):
            assert other.json()[field] == one.json()[field]
    assert refused.status_code == 400
    assert "refuses the pair: the server answered 400 (the conversation of" in refused.json()["error"]
    assert "\n" not in refused.text and TOKEN not in refused.text


class Keyed(Proxy):
    """Passes the key on, too."""

    def ask(self, path, data):
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}
        answer = httpx2.post(f"http://127.0.0.1:{self.upstream}{path}", content=data, headers=headers, timeout=60)
        return answer.status_code, answer.content


def test_a_model_that_is_away(place, servers):
    """Nobody's prompt is to blame: all are told, /health says it, and when it is back so are the answers."""
    away = threading.Event()

    def trouble(number):
        return (501, {}, "{}") if away.is_set() else None

    with Keyed(int(servers["cot"].url.rpartition(":")[2]), trouble) as proxy:
        server = before(place, proxy.url, "--limits.batch", 2, "--sampler.openai.patience", 1)
        assert [one.status_code for one in asked(server, PAIRS[:2])] == [200] * 2
        away.set()
        for _ in range(3):
            for one in asked(server, PAIRS[:2]):
                assert one.status_code == 502 and list(one.json()) == ["error"] and "\n" not in one.json()["error"]
        with server.client(token=None) as client:
            assert client.get("/health").json() == {"status": "failing"}
        away.clear()
        assert [one.status_code for one in asked(server, PAIRS[:2])] == [200] * 2
        with server.client(token=None) as client:
            assert client.get("/health").json() == {"status": "ok"}
    begun = time.monotonic()  # nobody listens there any more: a batch asks once, and not for each half of it again
    assert [one.status_code for one in asked(server, PAIRS[:2])] == [502] * 2
    assert time.monotonic() - begun < 8
    assert "Traceback" not in server.log.read_text()


STATUS = {"[flagged]": 403, "[gone]": 404, "[poison]": 500}  # by what stands in a prompt


class Choosy(Keyed):
    """Answers some prompts as no other."""

    def ask(self, path, data):
        for mark, status in STATUS.items():
            if mark in data.decode():
                return status, json.dumps({"error": {"message": f"not {mark}"}}).encode()
        return super().ask(path, data)


def test_a_prompt_that_the_model_behind_will_not_have(place, servers):
    """What is one prompt's own harms no other: neither their answers, nor for long their time."""
    marked = [{**PAIRS[0], "prompt": mark} for mark in STATUS]
    with Choosy(int(servers["cot"].url.rpartition(":")[2])) as proxy:
        server = before(place, proxy.url, "--limits.batch", 5)
        alone = asked(server, PAIRS[:2])
        begun = time.monotonic()
        *others, flagged, gone, poison = asked(server, [*PAIRS[:2], *marked])
        assert time.monotonic() - begun < 25  # eight tries take more than half a minute
        assert [one.json()["p"] for one in others] == [one.json()["p"] for one in alone]
        assert flagged.status_code == gone.status_code == 400 and poison.status_code == 502
        assert "(not [flagged])" in flagged.json()["error"] and "(not [gone])" in gone.json()["error"]
