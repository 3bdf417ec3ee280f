"""Whether a judge answers, as its last batches say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import Any

from genrm_lightning.serving.refusals import Refused

_FAILED = 3  # batches in a row that answered nothing: what one of them holds may be to blame, three are the judge's
_REMEMBERED = 60.0  # seconds: who is asked nothing while it is out of order would never be known to work again


class Health:
    """Watches batches.

    Args:
        longest: seconds that a batch may take: whoever asked for it has been told by then that it took too long.
    """

    def __init__(self, longest: float) -> None:
        self.longest = longest
        self._failed, self._last = 0, 0.0
        self._since: float | None = None

    @property
    def failing(self) -> bool:
        """Whether the last batches answered nothing because the judge failed, or the one that runs seems to hang."""
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
            self._since, self._last = None, monotonic()
            answered = any(not isinstance(one, Refused) or one.status < 500 for some in results for one in some)
            self._failed = 0 if answered else self._failed + 1
