"""What a server counts, for Prometheus; a registry of its own, so that nothing else of the process is in it."""

from __future__ import annotations

from collections.abc import Callable

from genrm_lightning.serving import extra

with extra():
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Requests by endpoint and status, their seconds, queue, batches, tokens that the judge wrote."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own = {"registry": self.registry}
        self._requests = Counter("genrm_requests", "Requests answered.", ["endpoint", "status"], **own)
        self._seconds = Histogram(
            "genrm_request_seconds", "From a request's head to the end of its answer.", ["endpoint"],
            buckets=_SECONDS, **own,
        )  # fmt: skip
        self._batches = Histogram("genrm_batch_size", "Items judged together.", buckets=_SIZES, **own)
        self._taken_back = Counter(
            "genrm_taken_back", "Items that left the queue unjudged: their client was gone, or their time over.", **own
        )
        self._tokens = Counter("genrm_written_tokens", "Tokens that the judge wrote.", **own)
        self._gauges = {
            name: Gauge(f"genrm_{name}", text, **own)
            for name, text in (("queue_length", "Items that wait."), ("requests_in_flight", "Requests under way."))
        }

    def watch(self, name: str, value: Callable[[], float]) -> None:
        """Read a gauge, ``queue_length`` or ``requests_in_flight``, from a function."""
        self._gauges[name].set_function(value)

    def request(self, endpoint: str, status: int, seconds: float) -> None:
        self._requests.labels(endpoint, str(status)).inc()
        self._seconds.labels(endpoint).observe(seconds)

    def batch(self, size: int) -> None:
        self._batches.observe(size)

    def taken_back(self) -> None:
        self._taken_back.inc()

    def tokens(self, written: int) -> None:
        self._tokens.inc(written)

    def text(self) -> bytes:
        """In Prometheus' text format, which every version reads."""
        return generate_latest(self.registry)
