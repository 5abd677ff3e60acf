"""Timing that says how sure it is, and what it ran on."""

import datetime
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch


def seconds(work: Callable[[], object], *, repeats: int = 7) -> list[float]:
    """Times of `work`, after one run to warm up."""
    work()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return times


def rate(count: int, times: list[float]) -> tuple[float, str]:
    """Median rate, and a text with its range."""
    rates = sorted(count / one for one in times)
    return statistics.median(rates), f"{statistics.median(rates):9.0f}/s  ({rates[0]:.0f} … {rates[-1]:.0f})"


def hardware() -> str:
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        name = f"{lines[0].partition(':')[2].strip()}, {len(lines)} cores"
    capabilities = torch.cpu.get_capabilities()
    bf16 = [flag for flag in ("avx512_bf16", "amx_bf16") if capabilities.get(flag)]
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{name} ({', '.join(bf16) or 'no bf16'}){gpu}; torch {torch.__version__}; {datetime.date.today()}"


def pictures(count: int, size_px: int, seed: int = 0) -> np.ndarray:
    """Smooth random pictures, uint8 (count, size_px, size_px, 3): speed does not depend on what they show."""
    from PIL import Image

    coarse = np.random.default_rng(seed).integers(0, 256, (count, 6, 6, 3), dtype=np.uint8)
    side = (size_px, size_px)
    return np.stack([np.asarray(Image.fromarray(one).resize(side, Image.Resampling.BICUBIC)) for one in coarse])
