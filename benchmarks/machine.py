"""The machine: what it is, how fast it multiplies, how much memory a process takes."""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import resource
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_PACKAGES = ("torch", "transformers", "trl", "peft", "lightning", "accelerate", "tokenizers")
# What makes bf16 products fast, where the kernel lists it.
_FLAGS = ("amx_bf16", "avx512_bf16", "avx512f", "avx2")


def describe(threads: int) -> dict[str, Any]:
    """CPU, memory and versions; no names of hosts or folders."""
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
    fields = dict(line.split(":", 1) for line in info.splitlines() if ":" in line)
    fields = {name.strip(): value.strip() for name, value in fields.items()}
    flags = set(fields.get("flags", "").split())
    return {
        "cpu": fields.get("model name") or platform.processor() or platform.machine(),
        "flags": [flag for flag in _FLAGS if flag in flags],
        "cores": os.cpu_count(),
        "threads": threads,
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: version(name) for name in _PACKAGES},
    }


def feed_forward_rate(hidden: int, width: int, tokens: int = 1024, seconds: float = 0.3) -> float:
    """FLOP/s of bf16 products of a model's feed-forward shapes, up and down: the best of five runs.

    Args:
        hidden, width: of the model and of its feed-forward's inner state.
        seconds: of a run.
    """
    x, up, down = (torch.randn(s, dtype=torch.bfloat16) for s in ((tokens, hidden), (hidden, width), (width, hidden)))
    best = 0.0
    with torch.no_grad():
        for _ in range(5):
            done, start = 0, time.perf_counter()
            while (spent := time.perf_counter() - start) < seconds:
                (x @ up) @ down
                done += 1
            best = max(best, done * 4 * tokens * hidden * width / spent)
    return best


def resident() -> int:
    """Bytes of this process in memory."""
    if _STATUS.is_file():
        return _status("VmRSS")
    import psutil  # comes with accelerate

    return psutil.Process().memory_info().rss


def reset_peak() -> bool:
    """Give freed memory back and forget the peak so far; False where the system cannot forget it."""
    gc.collect()
    if sys.platform != "linux":
        return False
    ctypes.CDLL(None).malloc_trim(0)
    try:
        _CLEAR.write_text("5")
    except OSError:
        return False
    return True


def peak() -> int:
    """The most bytes this process has had in memory since :func:`reset_peak`, or ever where that is False."""
    if _STATUS.is_file():
        return _status("VmHWM")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _status(name: str) -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024
