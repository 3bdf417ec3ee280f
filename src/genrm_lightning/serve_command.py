"""``python -m genrm_lightning serve``: a judge over HTTP."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path

from jsonargparse import Namespace

from data_tools.errors import UserError
from genrm_lightning.judges.base import Judge
from genrm_lightning.judging_commands import (
    command_parser,
    judge_flags,
    judge_from,
    sampling_flags,
    sampling_from,
    stopping_flags,
)
from genrm_lightning.parsing import mistakes_told
from genrm_lightning.samplers.base import SamplingSettings
from genrm_lightning.serving.limits import Limits


def serve(argv: list[str]) -> None:
    from genrm_lightning.serving.server import Server, bound, is_loopback
    from genrm_lightning.serving.service import Service

    arguments, judge, limits = read(argv)
    token, is_own = _token(arguments.token_env)
    if is_own and not is_loopback(arguments.host):
        raise UserError(
            f"--host: {arguments.host}: is reached from other machines; export a token of your own in "
            f"{arguments.token_env} first"
        )
    name = arguments.name or Path(judge.name).name or judge.name  # no path goes out
    service = Service(judge, name.encode("utf-8", "replace").decode(), limits)  # half characters of a folder's name
    with bound(arguments.host, arguments.port) as listening:
        service.start()
        host, port = listening.getsockname()[:2]
        _say(f"{judge.name}: served at http://{f'[{host}]' if ':' in host else host}:{port}")
        _say(f"token (made for this run): {token}" if is_own else f"token: as {arguments.token_env} says")
        Server(service, token).run([listening])
    ended = service.close()
    _say("the server has ended")
    if not ended:
        # A batch still runs, and no thread can be broken off; Python would wait for it, torch may crash at its exit.
        sys.stdout.flush()
        os._exit(0)
    judge.close()


def read(argv: list[str]) -> tuple[Namespace, Judge, Limits]:
    """The flags of serve, the judge that they name, not yet loaded, and what requests may take.

    Raises:
        UserError: as :func:`~genrm_lightning.judges.choice.judge_of`.
    """
    parser = command_parser(
        "serve", "A judge over HTTP: /get_reward, /classify, /score, /compare, /v1/chat/completions."
    )
    judge_flags(parser)
    sampling_flags(parser, SamplingSettings(n_samples=1))
    stopping_flags(parser)
    parser.add_argument("--host", type=str, default="127.0.0.1", help="address to listen at; others need a token set")
    parser.add_argument("--port", type=int, default=8800, help="0: any free one")
    parser.add_argument(
        "--token_env", type=str, default="GENRM_TOKEN",
        help="environment variable with the token that requests must carry; not set: one is made, and told on stderr",
    )  # fmt: skip
    parser.add_argument("--name", type=str | None, default=None, help="what answers call the judge; left out: --judge")
    parser.add_class_arguments(Limits, "limits")
    arguments = parser.parse_args(argv)
    with mistakes_told():
        made = parser.instantiate_classes(arguments)
    arguments.stopping, arguments.shard_size = made.stopping, 2 * made.limits.batch
    judge = judge_from(arguments, sampling_from(arguments, made), made.sampler)
    if judge.kind == "scores":
        raise UserError(f"--judge: {judge.name}: a file of scores has none of new pairs; name a judge")
    return arguments, judge, made.limits


def _token(variable: str) -> tuple[str, bool]:
    """The token, and whether it was made here.

    Raises:
        UserError: the variable holds what no header can carry.
    """
    given = os.environ.get(variable, "").strip()
    if not given:
        return secrets.token_urlsafe(24), True
    if not given.isascii() or not given.isprintable() or " " in given:
        raise UserError(f"--token_env: {variable}: holds what no token can be; take letters, digits and -_.~+/=")
    return given, False


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
