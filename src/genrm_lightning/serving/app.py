"""The endpoints, and what stands before each of them: a token, limits, one sentence where something is wrong."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import sys
import traceback
from collections.abc import Awaitable, Callable
from time import monotonic, perf_counter
from typing import Any

from genrm_lightning.serving import answers, extra, shapes
from genrm_lightning.serving.metrics import CONTENT_TYPE
from genrm_lightning.serving.refusals import Refused, full, stopping, too_slow
from genrm_lightning.serving.service import Service

with extra():
    from fastapi import FastAPI, Request, Response
    from fastapi.responses import JSONResponse
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_DISCARDED = 16  # times the limit: so much of a body that is too large is read all the same, for the answer to arrive

Handler = Callable[[Any, float], Awaitable[dict[str, Any]]]


def make_app(service: Service, token: str) -> FastAPI:
    """The application.

    Args:
        token: that every request but /health must carry.
    """
    # Without pages about itself: they would be for anybody, and load scripts from elsewhere.
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    posts: dict[str, tuple[type[shapes.Shape], Handler]] = {
        "/get_reward": (shapes.RewardAsked, service.get_reward),
        "/classify": (shapes.ClassifyAsked, service.classify),
        "/score": (shapes.ScoreAsked, service.score),
        "/compare": (shapes.CompareAsked, service.compare),
        "/v1/chat/completions": (shapes.ChatAsked, service.chat),
    }
    for path, (shape, handler) in posts.items():
        app.add_api_route(path, _endpoint(service, shape, handler), methods=["POST"], response_model=None)

    async def health(request: Request) -> Response:
        return JSONResponse({"status": "stopping" if service.stopping else "ok"}, 503 if service.stopping else 200)

    async def models(request: Request) -> Response:
        return JSONResponse(answers.models(service.name, service.judge.kind, service.judge.judge_prompt))

    async def metrics(request: Request) -> Response:
        return Response(service.metrics.text(), media_type=CONTENT_TYPE)

    gets = {"/health": health, "/v1/models": models, "/metrics": metrics}
    for path, get in gets.items():
        app.add_api_route(path, get, methods=["GET"], response_model=None)

    async def told(request: Request, error: Exception) -> Response:
        if isinstance(error, HTTPException):  # no such path, or another method
            said = f"{request.method} is not answered here" if error.status_code == 405 else "there is no such address"
            there = ", ".join((*posts, *gets))
            return _refusal(Refused(error.status_code, f"{said}; there are: {there}", error.headers), request.url.path)
        return _refusal(Refused(500, "the server failed on the request; its log says more"), request.url.path)

    app.add_exception_handler(HTTPException, told)
    app.add_exception_handler(Exception, told)
    app.add_middleware(Guard, service=service, token=token, paths={*posts, *gets})
    return app


class Guard:
    """Counts requests, asks for the token, and lets none in while the server is being stopped or has too many."""

    def __init__(self, app: ASGIApp, service: Service, token: str, paths: set[str]) -> None:
        self.app, self.service, self.token, self.paths = app, service, token.encode(), paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        service, begun, status = self.service, perf_counter(), 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        refused = self._refused(scope)
        service.in_flight += 1
        try:
            await (self.app if refused is None else _refusal(refused, scope["path"]))(scope, receive, watched)
        finally:
            service.in_flight -= 1
            endpoint = scope["path"] if scope["path"] in self.paths else "other"
            service.metrics.request(endpoint, status, perf_counter() - begun)

    def _refused(self, scope: Scope) -> Refused | None:
        if scope["path"] == "/health":
            return None
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        if not any(hmac.compare_digest(one, self.token) for one in _tokens(given)):
            return Refused(
                401, "the token is missing or wrong; send it as 'Authorization: Bearer TOKEN'",
                {"WWW-Authenticate": "Bearer"},
            )  # fmt: skip
        if scope["method"] != "POST":
            return None
        if self.service.stopping:
            return stopping()
        return full() if self.service.in_flight >= self.service.limits.queue else None


def _tokens(header: bytes) -> list[bytes]:
    """What an Authorization header holds: a bearer's token, or the password of a URL (http://x:TOKEN@host:port)."""
    scheme, _, value = header.strip().partition(b" ")
    if scheme.lower() == b"basic":
        try:
            return [base64.b64decode(value.strip(), validate=True).partition(b":")[2]]
        except binascii.Error:
            return []
    return [value.strip()] if scheme.lower() == b"bearer" else []


def _endpoint(service: Service, shape: type[shapes.Shape], handler: Handler) -> Callable:
    """What reads a request, has it answered in its time, and tells what was wrong."""

    async def answer(request: Request) -> Response:
        deadline = monotonic() + service.limits.seconds
        async with asyncio.timeout(service.limits.seconds):
            asked = shapes.read(shape, await _body(request, service.limits.characters))
            return JSONResponse(await handler(asked, deadline))

    async def endpoint(request: Request) -> Response:
        try:
            return await answer(request)
        except Refused as error:
            refused = error
        except ClientDisconnect:
            refused = Refused(400, "the body ended before it was whole")
        except TimeoutError:
            refused = too_slow(service.limits.seconds)
        except Exception as error:
            traceback.print_exception(error, file=sys.stderr)
            refused = Refused(500, f"the server failed ({type(error).__name__}); its log says more")
        return _refusal(refused, request.url.path)

    return endpoint


async def _body(request: Request, most: int) -> bytes:
    """The request's body, as far as it is not too large."""
    refused = Refused(413, f"the body has more than {most} bytes; send less at a time", {"Connection": "close"})
    declared = request.headers.get("content-length", "0")
    if declared.isdigit() and int(declared) > _DISCARDED * most:
        raise refused
    body, length = bytearray(), 0
    async for part in request.stream():
        length += len(part)
        if length <= most:
            body += part
        elif length > _DISCARDED * most:
            break
    if length > most:
        raise refused
    return bytes(body)


def _refusal(refused: Refused, path: str) -> JSONResponse:
    """One sentence, under /v1 in the object that OpenAI's clients look for it in."""
    said: Any = refused.sentence
    if path.startswith("/v1/"):
        kind = "invalid_request_error" if refused.status < 500 else "server_error"
        said = {"message": refused.sentence, "type": kind, "param": None, "code": refused.status}
    return JSONResponse({"error": said}, refused.status, refused.headers)
