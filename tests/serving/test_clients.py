"""Clients that lie, dawdle, leave or come all at once, over plain sockets: the server answers the others, and lives."""

import asyncio
import contextlib
import json
import shutil
import signal
import socket
import threading
import time
from urllib.parse import urlsplit

import httpx2
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.serving.forking import COT_FLAGS, TOKEN

BODY = json.dumps({"prompt": "Name an animal.", "response_a": "a fox", "response_b": "the sky"}).encode()
SLOW = {"messages": [{"role": "user", "content": "Why?"}], "n": 24, "max_tokens": 200, "temperature": 3.0}
MUCH = ("--limits.tokens", 10**6)


class Raw:
    """A connection that sends what it is told, right or wrong."""

    def __init__(self, server):
        url = urlsplit(server.url)
        self.socket = socket.create_connection((url.hostname, url.port), timeout=20)
        self.file = self.socket.makefile("rb")

    def ask(self, path, body=b"", *headers, token=TOKEN, method="POST", length=None, chunked=False):
        lines = [f"{method} {path} HTTP/1.1", "Host: x", *headers]
        lines += [f"Authorization: Bearer {token}"] if token else []
        lines += [
            "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body) if length is None else length}"
        ]
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        return self

    def answer(self):
        """(status, headers, body) of the next one."""
        status = int(self.file.readline().split()[1])
        lines = iter(self.file.readline, b"\r\n")
        headers = dict(line.decode("latin-1").strip().lower().split(": ", 1) for line in lines)
        body = b"" if "transfer-encoding" in headers else self.file.read(int(headers.get("content-length", 0)))
        return status, headers, body

    def ended(self):
        """Whether the server closes the connection, whatever it still sends, before the socket's timeout."""
        try:
            while self.file.read1(1 << 16):
                pass
        except ConnectionError:
            pass
        except TimeoutError:
            return False
        return True

    def close(self):
        self.file.close()
        self.socket.close()


def counted(server):
    with server.client() as client:
        lines = client.get("/metrics").text.splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")}


def until(condition):
    limit = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.02)


def judged(server):
    with server.client() as client:
        return client.post("/compare", content=BODY)


@pytest.mark.parametrize(
    "asked",
    [
        {"path": "/compare", "token": "wrong"},
        {"path": "/compare", "token": None},
        {"path": "/health", "method": "GET", "token": None},
        {"path": "/nothing"},
    ],
)
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_nobody_asked_for_is_not_read(servers, asked, chunked):
    """Answered before it is sent, and the connection ends: a client may not keep the server reading."""
    raw = Raw(servers["reward"]).ask(**asked, chunked=chunked, length=1 << 40)
    status, headers, _ = raw.answer()
    assert status == {"/health": 200, "/nothing": 404}.get(asked["path"], 401) and headers["connection"] == "close"
    with pytest.raises(ConnectionError):
        for _ in range(1000):
            raw.socket.sendall(bytes(1 << 16))


def test_a_small_body_costs_no_connection(servers):
    raw = Raw(servers["reward"])
    for token, status in (("wrong", 401), (TOKEN, 200)):
        assert raw.ask("/compare", BODY, token=token).answer()[0] == status


def test_who_has_no_token_takes_no_place(place):
    """Room for one request: those without a token are refused beside it, however many there are."""
    server = place.serve(place.folder / "reward", "--limits.queue", 1)

    async def without(client, until):
        while not until.is_set():
            assert (await client.post("/compare", content=BODY, headers={"Authorization": "x"})).status_code == 401

    async def run():
        found, end = [], asyncio.Event()
        async with httpx2.AsyncClient(base_url=server.url, timeout=60) as client:
            others = [asyncio.create_task(without(client, end)) for _ in range(16)]
            for _ in range(20):
                answer = await client.post("/compare", content=BODY, headers={"Authorization": f"Bearer {TOKEN}"})
                found.append(answer.status_code)
            end.set()
            await asyncio.gather(*others)
        return found

    assert asyncio.run(run()) == [200] * 20
    assert counted(server)["genrm_requests_in_flight"] == 1  # the one that asks


def test_what_nobody_waits_for_is_not_judged(place):
    """Clients go away while their requests wait behind a slow one: /compare, and rewards, which have threads."""
    server = place.serve(place.folder / "cot", *COT_FLAGS, *MUCH, "--limits.batch", 1, "--limits.queue", 4)
    answer = []

    def slow():
        with server.client() as client:
            answer.append(client.post("/v1/chat/completions", json=SLOW).status_code)

    thread = threading.Thread(target=slow)
    thread.start()
    until(lambda: counted(server).get("genrm_batch_size_count") == 1)
    leaving = [Raw(server).ask("/compare", BODY) for _ in range(2)]
    score = json.dumps({"text_1": "Name an animal.", "text_2": ["a fox", "the sky"]}).encode()
    leaving.append(Raw(server).ask("/score", score))
    until(lambda: counted(server)["genrm_queue_length"] == 3)
    for raw in leaving:
        raw.close()
    until(lambda: counted(server)["genrm_queue_length"] == 0)
    assert thread.is_alive()  # their places are free while the batch before them runs
    numbers = counted(server)
    assert numbers["genrm_taken_back_total"] == 3 and numbers["genrm_batch_size_count"] == 1
    assert numbers['genrm_requests_total{endpoint="/compare",status="499"}'] == 2
    until(lambda: counted(server)['genrm_requests_total{endpoint="/score",status="499"}'] == 1)
    assert judged(server).status_code == 200
    thread.join()
    assert answer == [200] and counted(server)["genrm_batch_size_sum"] == 2
    assert "Traceback" not in server.log.read_text()


def test_clients_that_take_their_time(place):
    """A head that never ends, none at all, and a body that never ends; others are answered meanwhile."""
    server = place.serve(place.folder / "reward", "--limits.head", 1, "--limits.seconds", 2)
    silent, loris, again = Raw(server), Raw(server), Raw(server)
    assert again.ask("/compare", BODY).answer()[0] == 200
    dawdling = Raw(server).ask("/compare", BODY[:10], length=len(BODY))
    begun = time.monotonic()
    with contextlib.suppress(ConnectionError):
        while time.monotonic() - begun < 5:
            loris.socket.sendall(b"G")
            again.socket.sendall(b"G")
            time.sleep(0.2)
    assert 0.5 < time.monotonic() - begun < 4  # one of them was closed, though something came all the time
    assert loris.ended() and again.ended() and silent.ended()
    status, _, said = dawdling.answer()
    assert status == 504 and b"within 2 s" in said
    assert judged(server).status_code == 200


def test_lengths_that_are_not_true(servers):
    server = servers["reward"]
    short = Raw(server).ask("/compare", BODY, length=10)
    assert short.answer()[0] == 400 and short.ended()  # the rest is no request
    long = Raw(server).ask("/compare", BODY, length=len(BODY) + 10)
    long.close()
    for length in ("-1", "x", "9" * 5000, "1, 2", "\u00b2"):
        assert Raw(server).ask("/compare", b"", length=length).answer()[0] == 400
    no_chunk = Raw(server).ask("/compare", b"zz\r\n", "Transfer-Encoding: chunked")
    assert no_chunk.answer()[0] == 400 and no_chunk.ended()
    until(lambda: counted(server).get('genrm_requests_total{endpoint="/compare",status="499"}', 0) >= 1)
    assert judged(server).status_code == 200
    assert "Traceback" not in server.log.read_text() and "Invalid HTTP" not in server.log.read_text()


def test_what_is_no_http(servers):
    for sent in (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
                 b"GET / HTTP/1.1\r\nX: " + b"x" * (1 << 20), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"):  # fmt: skip
        raw = Raw(servers["reward"])
        with contextlib.suppress(ConnectionError):
            raw.socket.sendall(sent)
        assert raw.ended()
    upgrade = Raw(servers["reward"]).ask("/metrics", b"", "Connection: upgrade", "Upgrade: websocket", method="GET")
    assert upgrade.answer()[0] == 200
    assert judged(servers["reward"]).status_code == 200
    assert servers["reward"].log.read_text().count("\n") == 2  # address and token: no client makes the log grow


def test_chunks_over_the_limit(place):
    server = place.serve(place.folder / "reward", "--limits.characters", 10_000)
    chunk = b"1000\r\n" + b"x" * 4096 + b"\r\n"
    much = Raw(server).ask("/compare", 4 * chunk + b"0\r\n\r\n", chunked=True)
    status, _, said = much.answer()
    assert status == 413 and b"more than 10000 bytes" in said
    assert much.ask("/compare", BODY).answer()[0] == 200  # it was read to its end
    endless = Raw(server).ask("/compare", chunked=True)
    with pytest.raises(ConnectionError):
        for _ in range(100_000):
            endless.socket.sendall(chunk)
    with_pieces = b"".join(b"%x\r\n%c\r\n" % (1, byte) for byte in BODY) + b"0\r\n\r\n"
    assert Raw(server).ask("/compare", with_pieces, chunked=True).answer()[0] == 200


def test_pipelining(servers):
    """Several requests in one breath: as many answers, in their order."""
    raw = Raw(servers["reward"])
    asked = ["/compare", "/nothing", "/compare", "/score", "/compare"]
    for path in asked:
        raw.ask(path, BODY)
    found = [raw.answer() for _ in asked]
    assert [status for status, *_ in found] == [200, 404, 200, 422, 200]
    assert len({json.loads(body)["p"] for status, _, body in found if status == 200}) == 1


def test_a_thousand_at_once(place):
    """As many as there is room for are judged, the others told so; nobody is left without an answer."""
    server = place.serve(place.folder / "reward", "--limits.queue", 100)
    url = urlsplit(server.url)
    head = f"POST /compare HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {len(BODY)}\r\n"
    request = f"{head}Connection: close\r\n\r\n".encode() + BODY

    async def ask():
        reader, writer = await asyncio.open_connection(url.hostname, url.port)
        writer.write(request)
        said = await reader.read()
        writer.close()
        return int(said.split()[1])

    async def run():
        return await asyncio.gather(*(ask() for _ in range(1000)))

    found = asyncio.run(asyncio.wait_for(run(), 60))
    assert set(found) == {200, 429} and found.count(200) >= 100
    assert judged(server).status_code == 200 and counted(server)["genrm_queue_length"] == 0


@pytest.mark.parametrize("kind", ["reward", "cot"])
def test_a_judge_that_says_no_number(place, tmp_path, kind):
    """Weights that are none, in the middle of the model: a sentence for each request, and /health says it."""
    broken = shutil.copytree(place.folder / kind, tmp_path / "broken")
    for path in broken.glob("*.safetensors"):
        weights = load_file(path)
        weights = {name: torch.full_like(value, torch.nan) for name, value in weights.items()}
        save_file(weights, path, {"format": "pt"})
    server = place.serve(broken, *(COT_FLAGS if kind == "cot" else ()))
    with server.client() as client:
        assert client.get("/health").status_code == 200
    asked = {"query": ["ab", "ac"], "prompts": ["a", "a"]}
    for _ in range(3):
        with server.client() as client:
            answer = client.post("/get_reward", json=asked)
        assert answer.status_code == 500 and list(answer.json()) == ["error"] and "\n" not in answer.json()["error"]
    with server.client(token=None) as client:
        answer = client.get("/health")
    assert answer.status_code == 503 and answer.json() == {"status": "failing"}
    server.signal(signal.SIGTERM)
    assert server.exit_status() == 0


def test_sigterm_with_a_body_that_never_ends(place):
    """Whoever is still sending when grace is over is told so, and the server is gone soon after."""
    server = place.serve(place.folder / "reward", "--limits.grace", 0.5)
    dawdling = Raw(server).ask("/compare", BODY[:10], length=len(BODY))
    until(lambda: counted(server)["genrm_requests_in_flight"] == 2)
    begun = time.monotonic()
    server.signal(signal.SIGTERM)
    time.sleep(0.2)
    status, _, said = Raw(server).ask("/compare", BODY).answer()  # a new one, over a new connection
    assert status == 503 and b"being stopped" in said
    status, _, said = dawdling.answer()
    assert status == 503 and b"being stopped" in said
    assert server.exit_status() == 0 and time.monotonic() - begun < 8
    assert "Traceback" not in server.log.read_text()


def test_no_text_is_written(place, tmp_path):
    """Not while a judge writes its rationales, so not after a hard end either."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    server = place.serve(place.folder / "cot", *COT_FLAGS, *MUCH, TMPDIR=str(temporary))
    assert judged(server).status_code == 200
    thread = threading.Thread(target=_asked, args=(server,))
    thread.start()
    seen = set()
    until(lambda: counted(server)["genrm_batch_size_count"] == 2)
    for _ in range(50):
        seen |= set(temporary.rglob("*"))
        time.sleep(0.005)
    server.signal(signal.SIGKILL)
    thread.join()
    assert not seen and not list(temporary.rglob("*"))
    assert "fox" not in server.log.read_text()


def _asked(server):
    with contextlib.suppress(httpx2.HTTPError), server.client() as client:
        client.post("/compare", json={"prompt": "x " * 200, "response_a": "a fox " * 20, "response_b": "a cat"})
