"""Whether a judge answers, as its last batches say."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import Any

from genrm_lightning.serving.refusals import Refused

_FAILED = 3  # batches in a row that answered nothing: what they hold may be to blame, so the judge is tried then
_REMEMBERED = 60.0  # seconds: who is asked nothing while it is out of order would never be known to work again


class Health:
    """Watches batches.

    Args:
        longest: seconds that a batch may take: whoever asked for it has been told by then that it took too long.
        works: tries the judge, in the batches' thread, on what no client has sent.
    """

    def __init__(self, longest: float, works: Callable[[], bool]) -> None:
        self.longest, self.works = longest, works
        self._failed, self._last = 0, 0.0
        self._since: float | None = None

    @property
    def failing(self) -> bool:
        """Whether the judge answered neither the last batches nor when it was tried, or the one that runs seems to
        hang."""
        now = monotonic()
        hangs = self._since is not None and now - self._since > self.longest
        return hangs or (self._failed >= _FAILED and now - self._last < _REMEMBERED)

    @contextmanager
    def batch(self) -> Iterator[list[Sequence[Any]]]:
        """Around a batch, whose results are to be put into the list."""
        self._since, results = monotonic(), []
        try:
            yield results
        finally:
            answered = any(map(is_answer, (one for some in results for one in some)))
            self._failed = 0 if answered else self._failed + 1
            if self._failed and self._failed % _FAILED == 0 and self.works():
                self._failed = 0  # it is what was sent that cannot be judged
            self._since, self._last = None, monotonic()


def is_answer(result: Any) -> bool:
    """Whether a judge that works may say it: an answer, or what is wrong with the request."""
    return not isinstance(result, Refused) or result.status < 500
