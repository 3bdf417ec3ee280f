"""The endpoints: a body that is not too large is read, answered in its time, or refused in one sentence."""

from __future__ import annotations

import asyncio
import sys
import traceback
from collections.abc import Callable, Coroutine
from time import monotonic
from typing import Any

from genrm_lightning.serving import answers, extra, shapes
from genrm_lightning.serving.guard import Guard, refusal
from genrm_lightning.serving.metrics import CONTENT_TYPE
from genrm_lightning.serving.refusals import Refused, gone, stopping, too_slow
from genrm_lightning.serving.service import Service

with extra():
    from fastapi import FastAPI, Request, Response
    from fastapi.responses import JSONResponse
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect

_DISCARDED = 16  # times the limit: so much of a body that is too large is read all the same, for the answer to arrive

Handler = Callable[[Any, float], Coroutine[Any, Any, dict[str, Any]]]


def make_app(service: Service, token: str) -> FastAPI:
    """The application.

    Args:
        token: that every request but /health must carry.
    """
    # Without pages about itself: they would be for anybody, and load scripts from elsewhere.
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
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
        return JSONResponse({"status": service.status}, 200 if service.status == "ok" else 503)

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
            return refusal(Refused(error.status_code, f"{said}; there are: {there}", error.headers), request.url.path)
        return refusal(Refused(500, "the server failed on the request; its log says more"), request.url.path)

    app.add_exception_handler(HTTPException, told)
    app.add_exception_handler(Exception, told)
    app.add_middleware(Guard, service=service, token=token, paths={*posts, *gets})
    return app


def _endpoint(service: Service, shape: type[shapes.Shape], handler: Handler) -> Callable:
    """What reads a request, has it answered in its time, and tells what was wrong."""

    async def answer(request: Request) -> Response:
        deadline = monotonic() + service.limits.seconds
        async with asyncio.timeout(service.limits.seconds) as timer:
            service.timers.add(timer)
            try:
                asked = shapes.read(shape, await _body(request, service.limits.characters))
                return JSONResponse(await _while_there(request, handler(asked, deadline)))
            finally:
                service.timers.discard(timer)

    async def endpoint(request: Request) -> Response:
        try:
            return await answer(request)
        except Refused as error:
            refused = error
        except ClientDisconnect:  # before its body was whole, or its answer
            refused = gone()
        except TimeoutError:
            refused = stopping() if service.ended else too_slow(service.limits.seconds)
        except Exception as error:
            traceback.print_exception(error, file=sys.stderr)
            refused = Refused(500, f"the server failed ({type(error).__name__}); its log says more")
        return refusal(refused, request.url.path)

    return endpoint


async def _while_there(request: Request, work: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
    """The work's result; it is cancelled when its client goes away.

    Raises:
        ClientDisconnect: it has gone.
    """

    async def left() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    working = asyncio.ensure_future(work)
    tasks = (working, asyncio.ensure_future(left()))
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _body(request: Request, most: int) -> bytes:
    """The request's body, as far as it is not too large."""
    refused = Refused(413, f"the body has more than {most} bytes; send less at a time")
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
