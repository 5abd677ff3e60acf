"""Where the work runs and how it reports: device, precision, seeds, threads, progress."""

import hashlib
import logging
import os
import signal
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Literal, Protocol

from imagescape.errors import InputError

if TYPE_CHECKING:  # torch takes seconds to import and `--help` must not wait for it
    import torch

_log = logging.getLogger(__name__)

DeviceName = Literal["auto", "cuda", "mps", "cpu"]
Precision = Literal["auto", "bf16", "fp32"]


def resolve_device(name: str = "auto") -> "torch.device":
    """The device called `name`; "auto" takes CUDA, then Apple's Metal, then the processor.

    Raises:
        InputError: the device is unknown, or not present on this machine.
    """
    import torch

    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, here in present.items() if here))
    kind = name.partition(":")[0]
    if not present.get(kind, False):
        here = ", ".join(kind for kind, is_here in present.items() if is_here)
        raise InputError(f"device must be 'auto' or one of those on this machine ({here}), got '{name}'")
    return torch.device(name)


def has_fast_bf16(device: "torch.device") -> bool:
    """Whether `device` multiplies bfloat16 in hardware, so that bf16 is the faster choice."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return False


def autocast_dtype(device: "torch.device", precision: Precision = "auto") -> "torch.dtype | None":
    """The dtype that matrix products and convolutions run in, or None for plain float32."""
    import torch

    if precision not in ("auto", "bf16", "fp32"):
        raise InputError(f"precision must be 'auto', 'bf16' or 'fp32', got '{precision}'")
    if precision == "bf16" or (precision == "auto" and has_fast_bf16(device)):
        return torch.bfloat16
    return None


def seed_for(*parts: object) -> int:
    """A 63-bit seed that depends on every part and on nothing else.

    Randomness is a function of where one is (run seed, stage, epoch, step), never of what ran
    before: this is what makes a resumed run equal to an uninterrupted one.

    >>> seed_for(0, "shuffle", 3) == seed_for(0, "shuffle", 3) != seed_for(0, "shuffle", 4)
    True
    """
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


_most_workers: int | None = None


def limit_workers(most: int | None) -> None:
    """Have `worker_count` say `most` at most, from now on; None: as many as there are cores."""
    global _most_workers
    if most is not None and most < 1:
        raise InputError(f"workers must be at least 1, got {most}")
    _most_workers = most


def worker_count() -> int:
    """Processor cores this process may use, or fewer where `limit_workers` said so."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores if _most_workers is None else min(cores, _most_workers)


def is_main_process() -> bool:
    """Whether this process is the one that writes and reports; under torchrun, the first of all."""
    return os.environ.get("RANK", "0") == "0"


_SECONDS_A_LINE = 10


class Tracker(Protocol):
    """What long work reports to."""

    def advance(self, count: int = 1, **fields: float) -> None:
        """`count` more units are done; `fields` (loss=…) are shown beside the bar."""

    def expect(self, total: int) -> None:
        """There will be `total` units in all, those of an earlier run among them."""


class _Silent:
    def advance(self, count: int = 1, **fields: float) -> None:
        pass

    def expect(self, total: int) -> None:
        pass


class _Lines:
    """Progress for logs and pipes: one line every few seconds, nothing that moves the cursor."""

    def __init__(self, description: str, total: int | None, unit: str, before: int) -> None:
        self._description, self._unit = description, unit
        self._before, self._done = before, 0
        self._total = None if total is None else total - before
        self._began = self._last = time.monotonic()
        self._fields: dict[str, float] = {}

    def advance(self, count: int = 1, **fields: float) -> None:
        self._done += count
        self._fields = fields or self._fields
        now = time.monotonic()
        if now - self._last >= _SECONDS_A_LINE:
            self._last = now
            self.show()

    def expect(self, total: int) -> None:
        self._total = total - self._before

    def show(self) -> None:
        seconds = max(time.monotonic() - self._began, 1e-9)
        rate = self._done / seconds
        of_total = f"/{self._total}" if self._total is not None else ""
        left = f", {_clock((self._total - self._done) / rate)} left" if self._total and rate else ""
        fields = "".join(f", {name} {value:.4g}" for name, value in self._fields.items())
        line = f"{self._description}: {self._done}{of_total} {self._unit}, {rate:.0f}/s{fields}{left}"
        print(line, file=sys.stderr, flush=True)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@contextmanager
def track(
    description: str, total: int | None = None, *, unit: str = "images", done: int = 0, quiet: bool = False
) -> Iterator[Tracker]:
    """Show progress on stderr with rate and time left: a bar on a terminal, else a line every 10 s.

    Args:
        description: What is being done, as shown.
        total: Units in all, or None when nobody knows.
        unit: What is counted.
        done: Units finished by an earlier, interrupted run.
        quiet: Show nothing, within work that shows its own progress.
    """
    if quiet or not is_main_process():
        yield _Silent()
        return
    if not sys.stderr.isatty():
        lines = _Lines(description, total, unit, done)
        yield lines
        lines.show()
        return

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit + "  {task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True), refresh_per_second=4) as bar:
        task = bar.add_task(description, total=total, completed=done, rate="", note="")
        began = time.monotonic()

        class Bar:
            def advance(self, count: int = 1, **fields: float) -> None:
                finished = bar.tasks[0].completed + count - done
                rate = f"{finished / max(time.monotonic() - began, 1e-9):.0f}/s"
                note = "  ".join(f"{name} {value:.4g}" for name, value in fields.items())
                bar.update(task, advance=count, rate=rate, note=note or bar.tasks[0].fields["note"])

            def expect(self, total: int) -> None:
                bar.update(task, total=total)

        yield Bar()


def keep_freed_memory() -> None:
    """Let the C allocator keep what tensors free, for work that allocates the same sizes at every step.

    By default glibc hands large blocks back at once, and each step pays for fresh pages again:
    half of the time of an augmented view on a processor, and a tenth of a whole step where maps are
    larger than 32 MiB. In return the process keeps its highest use of memory until it ends. Does
    nothing where there is no glibc.
    """
    import ctypes

    m_trim_threshold, m_mmap_max = -1, -4
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    mallopt(m_mmap_max, 0)  # no blocks of their own, which go back when freed
    mallopt(m_trim_threshold, 2**31 - 1)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Keep torch to so many threads: one for steps so small that sharing them out takes longer than doing them."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


_MUCH_FASTER = 1.5


@cache
def warn_of_busy_cores(count: int) -> None:
    """Say it where half of `count` threads would train faster because others use the cores; asked again, do nothing.

    The gradient of a convolution waits, spinning, for its last thread, and a thread that shares its core with another
    process comes late by a time slice: beside one such process two threads can be ten times as slow as one. The
    threads stay as they are, since a run is repeatable with the same number of them only. Takes a second at most.
    """
    if count == 1:
        return
    gain = _seconds_of_a_gradient(count) / _seconds_of_a_gradient(count // 2)
    if gain > _MUCH_FASTER:
        _log.warning(
            f"{count} threads are {gain:.1f} times as slow as {count // 2}: other processes use the cores; "
            f"OMP_NUM_THREADS={count // 2}, or fewer, makes this faster"
        )


def _seconds_of_a_gradient(count: int) -> float:
    """Mean of a few on so many threads, of a layer like those of a small network."""
    import torch

    dtype = torch.bfloat16 if has_fast_bf16(torch.device("cpu")) else torch.float32
    images = torch.ones(256, 32, 16, 16, dtype=dtype).contiguous(memory_format=torch.channels_last).requires_grad_()
    layer = torch.ones(64, 32, 3, 3, dtype=dtype, requires_grad=True)
    seconds = []
    with threads(count):
        for _ in range(6):
            result = torch.conv2d(images, layer, stride=2, padding=1)
            change = torch.ones_like(result)
            began = time.perf_counter()
            torch.autograd.grad(result, (images, layer), change)
            seconds.append(time.perf_counter() - began)
    return statistics.fmean(seconds[1:])  # the first one makes ready


@contextmanager
def stop_requested() -> Iterator[Callable[[], bool]]:
    """Turn Ctrl-C and termination into a question that long work asks between its steps.

    A second Ctrl-C interrupts at once. Outside the main thread, where signals cannot be
    caught, the answer is always no.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    asked = False

    def ask(number: int, frame: object) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
