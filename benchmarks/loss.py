"""Time and memory of the loss, forward and backward, by batch: whole against in blocks.

"plain" is what most repositories have, the whole (2B, 2B) matrix through autograd; "whole" is ours with as
many rows a block as there are; "blocks" is ours as it is used. Each measurement has a process of its own, so
that its peak of memory is its own: beyond what was there before the first loss, the projections and their
gradients.

    python benchmarks/loss.py [--pairs 512,1024,2048,4096,8192,16384,32768] [--kernels cauchy:2] [--threads 1]
"""

import argparse
import gc
import multiprocessing
import os
import resource
import statistics
from collections.abc import Callable

import torch
import torch.nn.functional as F
from measure import hardware, seconds
from torch import Tensor

from imagescape.learn.losses import cauchy, cosine, info_nce
from imagescape.runtime import keep_freed_memory, resolve_device

KERNELS = {"cauchy": cauchy, "cosine": cosine}
FORMS = ("plain", "whole", "blocks")
# Float32 matrices of (2B)^2 that the plain loss holds at once, at most.
MATRICES = 6


def plain(a: Tensor, b: Tensor, kernel: str) -> Tensor:
    rows = torch.cat([a, b])
    if kernel == "cosine":
        rows = F.normalize(rows)
        logits = rows @ rows.T / 0.5
    else:
        logits = -torch.cdist(rows, rows).square().log1p()
    logits.fill_diagonal_(-torch.inf)
    return F.cross_entropy(logits, torch.arange(len(rows), device=rows.device).roll(len(a)))


def loss_of(form: str, kernel: str) -> Callable[[Tensor, Tensor], Tensor]:
    if form == "plain":
        return lambda a, b: plain(a, b, kernel)
    return lambda a, b: info_nce(
        a, b, log_similarity=KERNELS[kernel], block_rows=2 * len(a) if form == "whole" else None
    )


def peak_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measure(
    form: str, kernel: str, dimensions: int, pairs: int, device_name: str, threads: int, repeats: int
) -> tuple[list[float], int]:
    """Seconds of forward and backward, and bytes at the peak beyond the start."""
    torch.set_num_threads(threads)
    device = torch.device(device_name)
    loss = loss_of(form, kernel)
    generator = torch.Generator().manual_seed(0)
    a = (10 * torch.randn(pairs, dimensions, generator=generator)).to(device)
    b = a + torch.randn(pairs, dimensions, generator=generator).to(device)
    a, b = a.requires_grad_(), b.requires_grad_()

    def step() -> None:
        loss(a, b).backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    def small() -> None:
        loss(a[:8], b[:8]).backward()

    small()  # what torch loads at first use is not the loss's
    if device.type == "cpu":
        keep_freed_memory()  # as the training loop does
    gc.collect()
    before = peak_bytes(device)
    times = seconds(step, repeats=repeats)
    return times, peak_bytes(device) - before


def memory_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", default="512,1024,2048,4096,8192,16384,32768")
    parser.add_argument("--kernels", default="cauchy:2,cauchy:128,cosine:128", help="kernel:dimensions, …")
    parser.add_argument("--forms", default=",".join(FORMS))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    device = resolve_device(arguments.device)
    print(f"{hardware()}; {device}, {arguments.threads} threads; medians of {arguments.repeats}")
    print("| kernel | pairs | form | ms (least … most) | million logits/s | peak MiB |\n|---|---|---|---|---|---|")
    processes = multiprocessing.get_context("spawn")
    for one in arguments.kernels.split(","):
        kernel, dimensions = one.split(":")
        for pairs in map(int, arguments.pairs.split(",")):
            for form in arguments.forms.split(","):
                row, logits = f"| {kernel} {dimensions}-D | {pairs} | {form} |", (2 * pairs) ** 2
                needed = 4 * MATRICES * logits
                if form != "blocks" and needed > memory_bytes(device):
                    print(f"{row} left out: about {needed / 2**30:.0f} GiB needed | | |", flush=True)
                    continue
                settings = (form, kernel, int(dimensions), pairs, str(device), arguments.threads, arguments.repeats)
                with processes.Pool(1) as pool:
                    times, peak = pool.apply(measure, settings)
                middle, span = statistics.median(times), f"{1e3 * min(times):.1f} … {1e3 * max(times):.1f}"
                print(
                    f"{row} {1e3 * middle:.1f} ({span}) | {logits / middle / 1e6:.0f} | {peak / 2**20:.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
