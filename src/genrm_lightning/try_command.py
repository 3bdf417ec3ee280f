"""``python -m genrm_lightning try``: a pair of the user's own, judged before his eyes."""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from rich.console import Console
from rich.text import Text

from data_tools.errors import UserError
from data_tools.judging import Verdict
from data_tools.order import chosen_is_a
from data_tools.visible import visible
from genrm_lightning.judges.base import Judge, Judged
from genrm_lightning.judges.memory import p_first, pairs_of
from genrm_lightning.judging_commands import (
    command_parser,
    common_flags,
    judge_flags,
    judge_from,
    settings_of,
    stopping_flags,
)
from genrm_lightning.samplers.base import Sample, SamplingSettings

_END = "."  # a line of its own that ends a text
_FIRST, _SECOND = "response 1", "response 2"

# Judges one pair (prompt, first, second) and shows it on the way.
Show = Callable[[str, str, str], None]


def try_(argv: list[str]) -> None:
    parser = command_parser("try", "Type or paste a prompt and two responses, and see them judged in both orders.")
    judge_flags(parser)
    for name, what in (("prompt", "the prompt"), ("first", _FIRST), ("second", _SECOND)):
        parser.add_argument(
            f"--{name}", type=str | None, default=None, help=f"{what}: a text, or @FILE; left out: it is asked for"
        )
    common_flags(parser, SamplingSettings(n_samples=1))
    stopping_flags(parser)
    arguments, sampling, sampler = settings_of(parser, argv)
    if arguments.share or arguments.part is not None:
        raise UserError("--share, --shard: there is one pair; leave them out")
    if arguments.stopping is not None:
        raise UserError("--stopping: all samples of a pair are shown here; leave it out")
    given = [_given(f"--{name}", arguments[name]) for name in ("prompt", "first", "second")]
    judge = judge_from(arguments, sampling, sampler)
    if judge.kind == "scores":
        raise UserError(f"--judge: {judge.name}: a file of scores has none of a new pair; name a judge")
    console = Console(highlight=False)
    with _shower(judge, arguments, console) as show:
        if None not in given:
            show(*_whole(given))
            return
        while (texts := _asked(given, console)) is not None:
            try:
                show(*_whole(texts))
            except UserError as error:  # of this pair; the next one may do
                console.print(Text(f"error: {error}", style="red"))


def _given(flag: str, value: str | None) -> str | None:
    """A text, or what the file behind an @ holds."""
    if value is None or not value.startswith("@"):
        return value
    try:
        return Path(value[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        said = getattr(error, "strerror", None) or "is not UTF-8"
        raise UserError(f"{flag}: {value[1:]}: {said}; name a text file") from None


def _asked(given: list[str | None], console: Console) -> list[str] | None:
    """Prompt and responses, those asked for that were not given; None at the end of the input."""
    texts = []
    for name, text in zip(("prompt", _FIRST, _SECOND), given, strict=True):
        if text is None:
            console.print(Text(f"{name} (a line with a single {_END} ends it)", style="bold"))
            if (text := _typed()) is None:
                return None
        texts.append(text)
    return texts


def _whole(texts: list[str]) -> list[str]:
    # Half characters (of a terminal, or of a name) are no text that a model could read.
    texts = [text.encode("utf-8", "replace").decode().strip() for text in texts]
    if not all(texts):
        raise UserError("the prompt and both responses need a text; give each")
    return texts


def _typed() -> str | None:
    """Lines up to the one that ends them, or to the end of the input; None where there is nothing more."""
    lines = []
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")
    for line in sys.stdin:
        if line.strip() == _END:
            return "".join(lines)
        lines.append(line)
    return "".join(lines) if "".join(lines).strip() else None


@contextmanager
def _shower(judge: Judge, arguments: Namespace, console: Console) -> Iterator[Show]:
    from genrm_lightning.judges.sampled import SampledJudge

    if not isinstance(judge, SampledJudge):

        def show(prompt: str, first: str, second: str) -> None:
            _show_numbers(judge.judge_now(pairs_of([("pair", prompt, first, second)]), "the pair"), console)

        try:
            yield show
        finally:
            judge.close()
        return

    from genrm_lightning.judgments import fitting, requests
    from genrm_lightning.samplers.choice import chosen_sampler

    with chosen_sampler(judge.sampler, judge.backbone, judge.dtype) as make:
        sampler = make()

        def reason(prompt: str, first: str, second: str) -> None:
            p = []
            pairs = pairs_of([("pair", prompt, first, second)])
            if (renderer := judge.sampler.rendered_by(judge.backbone)) is not None:
                pairs = fitting(
                    pairs, renderer, judge.sampling, template=judge.judge_prompt, told=None, too_long=judge.too_long,
                    where="the pair", context=judge.sampler.context(judge.backbone),
                )  # fmt: skip
            for request in requests(pairs, judge.judge_prompt):
                is_a = chosen_is_a("pair", request.swapped)
                console.print(Text(f"\n{_FIRST} is {'A' if is_a else 'B'}", style="bold"))
                streamed = _streaming(sampler, judge.sampling.n_samples)
                ((_, samples),) = sampler.sample([request], judge.sampling, f"try|{arguments.seed}")
                _show_samples(samples, console, streamed)
                mean = sum(sample.p_a for sample in samples) / len(samples)
                p.append(mean if is_a else 1 - mean)
                console.print(Text(f"p({_FIRST}) = {p[-1]:.3f}"))
            _conclude(p, console)

        yield reason


def _streaming(sampler: Any, n_samples: int) -> bool:
    """Let the sampler's tokens appear as they are drawn, where it can tell of them and there is one sample to read."""
    if n_samples > 1 or not hasattr(sampler, "watch"):
        return False
    shown = 0

    def watch(request: int, place: int, ids: list[int]) -> None:
        nonlocal shown
        shown = 0 if len(ids) == 1 else shown
        text = sampler.renderer.tokenizer.decode(ids, skip_special_tokens=True)
        if not text.endswith("\N{REPLACEMENT CHARACTER}"):  # half a character, so far
            sys.stdout.write(visible(text[shown:]))
            sys.stdout.flush()
            shown = len(text)

    sampler.watch = watch
    return True


def _show_samples(samples: list[Sample], console: Console, streamed: bool) -> None:
    for sample in samples:
        if not streamed:
            console.print(Text(visible(sample.rationale)))
        own = "none" if sample.verdict is Verdict.INVALID else sample.verdict.value
        said = f"verdict of its own: {own}, {sample.n_tokens} tokens, p(A) {sample.p_a:.3f}"
        console.print(Text(("\n" if streamed else "") + said, style="dim"))


def _show_numbers(judged: Judged, console: Console) -> None:
    if not len(judged.judgments):
        raise UserError("the pair does not fit the judge's context; take shorter texts")
    if judged.rewards is not None:
        _, first, second = judged.rewards.row(0)
        console.print(Text(f"scores: {_FIRST} {first:.3f}, {_SECOND} {second:.3f}"))
    orders = {row["swapped"]: row["p_a"] for row in judged.judgments.iter_rows(named=True)}
    p = [orders[swapped] if chosen_is_a("pair", swapped) else 1 - orders[swapped] for swapped in (False, True)]
    for swapped in (False, True):
        letter = "A" if chosen_is_a("pair", swapped) else "B"
        console.print(Text(f"{_FIRST} is {letter}: p({_FIRST}) = {p[swapped]:.3f}"))
    _conclude([p_first(judged)["pair"]] if p[0] == p[1] else p, console)


def _conclude(p: list[float], console: Console) -> None:
    mean = sum(p) / len(p)
    if not math.isfinite(mean):
        raise UserError("the judge's answer is no number; its weights or --dtype may be to blame")
    better = _FIRST if mean > 0.5 else _SECOND
    verdict = "no preference" if mean == 0.5 else f"{better} is better, p = {max(mean, 1 - mean):.3f}"
    if (min(p) > 0.5) != (max(p) > 0.5):
        verdict += "; the two orders disagree: the judge follows the position here"
    console.print(Text(f"\n{verdict}", style="bold"))
