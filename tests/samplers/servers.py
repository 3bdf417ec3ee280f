"""Real servers in processes of their own, on loopback, and a proxy between them and a client that makes trouble."""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from genrm_lightning.embedded import GGUF, PACKAGE

SERVE = "from transformers.cli.transformers import main; main()"
LLAMA = """
import sys, time, xllamacpp
p = xllamacpp.CommonParams()
p.model.path, p.hostnames, p.port = sys.argv[1], ["127.0.0.1"], int(sys.argv[2])
p.n_ctx, p.n_parallel, p.warmup, p.cpuparams.n_threads = 4096, 2, False, 1
server = xllamacpp.Server(p)
time.sleep(3600)
"""


def installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@contextmanager
def running(command: list[str], port: int, log: Path, seconds: float = 180) -> Iterator[int]:
    """A server's process from when it answers /health to the end of the block; the port."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with open(log, "wb") as out:
        process = subprocess.Popen([sys.executable, "-c", *command], stdout=out, stderr=out, env=environment)
    try:
        limit = time.monotonic() + seconds
        while not _healthy(port):
            assert process.poll() is None and time.monotonic() < limit, log.read_text()[-2000:]
            time.sleep(0.2)
        yield port
    finally:
        process.kill()
        process.wait()


def _healthy(port: int) -> bool:
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False


@contextmanager
def transformers_serve(model: Path, folder: Path) -> Iterator[int]:
    """``transformers serve`` with a copy of a model that samples; the model's name is the copy's folder."""
    for package in ("fastapi", "uvicorn", "openai"):
        if not installed(package):
            pytest.skip(f"transformers serve needs the package {package}: pip install 'transformers[serving]'")
    copy = Path(shutil.copytree(model, folder / "served"))
    config = copy / "generation_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "do_sample": True}))  # else it takes the likeliest
    port = free_port()
    command = [SERVE, "serve", str(copy), "--host", "127.0.0.1", "--port", str(port), "--log-level", "error"]
    with running(command, port, folder / "serve.log"):
        yield port


@contextmanager
def llama_server(folder: Path) -> Iterator[int]:
    """llama.cpp's server with the embedded backbone: it tells log-probabilities."""
    for package, why in (("xllamacpp", "no server that tells log-probabilities"), (PACKAGE, "no embedded backbone")):
        if not installed(package):
            pytest.skip(f"{why}: the package {package} is not installed")
    carrier = importlib.util.find_spec(PACKAGE)
    port = free_port()
    with running([LLAMA, str(Path(carrier.origin).parent / GGUF), str(port)], port, folder / "llama.log"):
        yield port


class Proxy:
    """Passes requests on to a server, or does to them what ``trouble`` says of each.

    Args:
        trouble: from a request's number (from 0) to None, or one of:
            "drop" (close the connection unanswered), "garbage", "page", "empty", "cut" (half of the answer's body),
            a number (wait so many seconds first), or (status, headers, body).
    """

    def __init__(self, upstream: int, trouble: Callable[[int], Any] = lambda number: None) -> None:
        self.upstream, self.trouble = upstream, trouble
        self.asked: list[dict[str, Any]] = []  # bodies of all requests
        self.answered: list[tuple[dict[str, Any], dict[str, Any]]] = []  # requests answered whole, and the answers
        self.headers: list[dict[str, str]] = []
        self.lock = threading.Lock()
        self.under_way = self.most = 0  # requests at a time
        self.port = free_port()
        self.server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> Proxy:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                with proxy.lock:
                    proxy.under_way += 1
                    proxy.most = max(proxy.most, proxy.under_way)
                proxy.handle(self)
                with proxy.lock:
                    proxy.under_way -= 1

            def log_message(self, *_: object) -> None:
                pass

        ThreadingHTTPServer.allow_reuse_address = True
        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        data = handler.rfile.read(int(handler.headers["Content-Length"]))
        body = json.loads(data)
        with self.lock:
            number = len(self.asked)
            self.asked.append(body)
            self.headers.append(dict(handler.headers))
        trouble = self.trouble(number)
        if trouble == "drop":
            handler.connection.shutdown(socket.SHUT_RDWR)
        elif isinstance(trouble, tuple):
            status, headers, text = trouble
            self.send(handler, status, text.encode(), **headers)
        elif trouble in ("garbage", "page", "empty"):
            said = {"garbage": b"\xff\x00{", "page": b"<html>oops</html>", "empty": b'{"choices": []}'}[trouble]
            self.send(handler, 200, said)
        else:
            if isinstance(trouble, float):
                time.sleep(trouble)
            status, answer = self.ask(handler.path, data)
            if trouble == "cut":
                self.send(handler, status, answer[: len(answer) // 2], length=len(answer))
            else:
                if status == 200:
                    self.answered.append((body, json.loads(answer)))
                self.send(handler, status, answer)

    def ask(self, path: str, data: bytes) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.upstream, timeout=300)
        connection.request("POST", path, data, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read()

    @staticmethod
    def send(handler: BaseHTTPRequestHandler, status: int, data: bytes, length: int | None = None, **headers: str):
        try:
            handler.send_response(status)
            for name, value in headers.items():
                handler.send_header(name.replace("_", "-"), value)
            handler.send_header("Content-Length", str(len(data) if length is None else length))
            handler.end_headers()
            handler.wfile.write(data)
        except OSError:  # the client has gone
            pass
        handler.close_connection = True
