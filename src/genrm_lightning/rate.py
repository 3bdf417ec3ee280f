"""How fast this machine multiplies matrices: what every other rate is measured against."""

from __future__ import annotations

import time

import torch

_SIZES = {"cpu": 1024}
_SIZE = 8192  # of other devices


def matmul_rate(device: str, seconds: float = 1.0, dtype: torch.dtype = torch.bfloat16) -> float:
    """FLOP/s of square products on random data; the fastest of ten rounds, since others may use the machine too.

    Args:
        device: a torch device.
        seconds: about how long to measure.
    """
    kind = torch.device(device).type
    size = _SIZES.get(kind, _SIZE)
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(a)

    def took(products: int) -> float:
        start = time.perf_counter()
        for _ in range(products):
            torch.mm(a, b, out=out)
        if kind == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - start

    took(3)  # warm-up
    products = max(1, int(seconds / 10 / took(1)))
    return 2 * size**3 * products / min(took(products) for _ in range(10))
