"""Clients that do not read, leave in the middle of a request, or keep connections: nothing is theirs for ever."""

import contextlib
import resource
import signal
import socket
import threading
import time
from urllib.parse import urlsplit

import pytest

from genrm_lightning.serving.server import most_connections
from tests.serving.forking import COT_FLAGS, TOKEN
from tests.serving.test_clients import BODY, MUCH, SLOW, Raw, counted, judged, until

NAME = ("--name", "x" * 60_000)  # /v1/models tells it: a long answer that costs nothing


@pytest.fixture(scope="module", autouse=True)
def idle(place):
    """A connection over which nothing comes any more, and since when."""
    raw = Raw(place.serve(place.folder / "reward", "--limits.head", 60)).ask("/compare", BODY)
    assert raw.answer()[0] == 200
    return raw, time.monotonic()


def not_reading(server):
    """A connection whose client asks and asks, and reads no answer, once the server can write no more to it."""
    url = urlsplit(server.url)
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    client.connect((url.hostname, url.port))
    client.sendall(f"GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode() * 400)
    seen = -1.0
    while seen != (seen := counted(server).get('genrm_requests_total{endpoint="/v1/models",status="200"}', -1.0)):
        time.sleep(0.3)
    assert 0 < seen < 400 and counted(server)["genrm_requests_in_flight"] == 2  # the one that asks, too
    return client


def ended(client):
    """Whether the other side is gone: writing says so, as nothing is read."""
    try:
        client.send(b"x", socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return False


def test_who_does_not_read_loses_his_place(place):
    server = place.serve(place.folder / "reward", *NAME, "--limits.seconds", 2)
    reader = not_reading(server)
    until(lambda: counted(server)["genrm_requests_in_flight"] == 1)
    assert ended(reader)
    assert "Traceback" not in server.log.read_text()


def test_who_does_not_read_does_not_hold_up_the_end(place):
    server = place.serve(place.folder / "reward", *NAME, "--limits.grace", 0.2)
    reader = not_reading(server)
    begun = time.monotonic()
    server.signal(signal.SIGTERM)
    assert server.exit_status() == 0 and time.monotonic() - begun < 20 and ended(reader)
    assert "Traceback" not in server.log.read_text() and "the server has ended" in server.log.read_text()


def test_who_leaves_in_the_middle_of_his_next_request(place):
    """What he asked before is taken back while the batch before it runs."""
    server = place.serve(place.folder / "cot", *COT_FLAGS, *MUCH, "--limits.batch", 1)
    slow = threading.Thread(target=_chat, args=(server,))
    slow.start()
    until(lambda: counted(server).get("genrm_batch_size_count") == 1)
    raw = Raw(server).ask("/compare", BODY)
    until(lambda: counted(server)["genrm_queue_length"] == 1)
    raw.socket.sendall(b"G")
    time.sleep(0.1)
    raw.socket.sendall(b"E")
    time.sleep(0.1)
    raw.close()
    until(lambda: counted(server)["genrm_queue_length"] == 0)
    assert slow.is_alive() and counted(server)["genrm_taken_back_total"] == 1
    server.signal(signal.SIGKILL)
    slow.join()


def _chat(server):
    with contextlib.suppress(Exception), server.client() as client:
        client.post("/v1/chat/completions", json={**SLOW, "n": 200, "max_tokens": 1000})


def test_connections_that_are_kept(place):
    """More than there are files for, without a token: the first ones live, the log does not grow."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    server = place.serve(place.folder / "reward", ULIMIT="400")
    assert judged(server).status_code == 200
    size = server.log.stat().st_size
    kept = Raw(server)
    url = urlsplit(server.url)
    others = []
    for _ in range(600):
        others.append(socket.create_connection((url.hostname, url.port), timeout=10))
    assert kept.ask("/compare", BODY).answer()[0] == 200
    for one in others:
        one.close()
    until(lambda: _answered(server))
    assert server.log.stat().st_size == size
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (10, before[1]))  # no more files, though there were some
    with contextlib.suppress(OSError):
        socket.create_connection((url.hostname, url.port), timeout=10).close()
    until(lambda: server.log.stat().st_size > size)
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, before)
    until(lambda: _answered(server))
    said = server.log.read_text()[size:]
    assert said.count("\n") == 1 and "no connection could be accepted" in said


def _answered(server):
    try:
        return judged(server).status_code == 200
    except Exception:
        return False


@pytest.mark.parametrize(("token", "path", "status"), [("wrong", "/compare", 401), (TOKEN, "/compare/", 404)])
def test_a_body_that_is_held_back_and_never_asked_for(servers, token, path, status):
    """Else what its client sends next would be taken for that body, or the body for a request."""
    raw = Raw(servers["reward"]).ask(path, b"", "Expect: 100-continue", token=token, length=len(BODY))
    found, headers, _ = raw.answer()
    assert found == status and headers["connection"] == "close" and raw.ended()


def test_a_body_that_is_held_back_until_it_is_asked_for(servers):
    raw = Raw(servers["reward"]).ask("/compare", b"", "Expect: 100-continue", length=len(BODY))
    assert raw.file.readline().split()[1] == b"100" and raw.file.readline() == b"\r\n"
    raw.socket.sendall(BODY)
    status, headers, _ = raw.answer()
    assert status == 200 and "connection" not in headers


def test_an_idle_connection_has_the_time_of_a_head(idle):
    raw, begun = idle
    time.sleep(max(0.0, begun + 5.5 - time.monotonic()))  # uvicorn's own time is 5 s
    assert raw.ask("/compare", BODY).answer()[0] == 200


def test_how_many_connections(monkeypatch):
    """For a thousand that wait for a place, and what the system's limit leaves; never next to none."""
    found = {}
    for files in (resource.RLIM_INFINITY, 100_000, 1024, 256):
        monkeypatch.setattr(resource, "getrlimit", lambda what, files=files: (files, files))
        found[files] = most_connections(512)
    assert found.pop(1024) < 1024 - 256 and found == {resource.RLIM_INFINITY: 3072, 100_000: 3072, 256: 64}
