"""Images a second of our training step against a plain loop, same network, in one run.

The plain loop is what most repositories have: float32, NCHW, two workers that augment with Pillow
one image at a time, the whole similarity matrix, torch as it comes.

    python benchmarks/train_step.py [--backbone resnet10 --width 32 --stem strided] [--batch-size 128]

Each loop runs in a process of its own, so that ours alone has the settings that `import imagescape` makes; they take
turns, `--rounds` times.
"""

import sys

if "ours" in " ".join(sys.argv):
    import imagescape  # noqa: F401 - before torch is loaded, as for whoever uses it

import argparse
import json
import os
import subprocess
import time

import numpy as np
import torch
import torch.nn.functional as F
from measure import hardware, pictures, rate
from pillow_views import PillowPairs, PillowView
from torch import Tensor, nn
from torch.utils.data import DataLoader

from imagescape.learn.augment import Contrastive
from imagescape.learn.backbones import backbone
from imagescape.learn.heads import Network, Projector
from imagescape.learn.losses import InfoNCE, cauchy
from imagescape.learn.optim import Schedule
from imagescape.learn.pairs import Augmented
from imagescape.learn.train import fit, make_fabric

MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


def plain_loss(a: Tensor, b: Tensor) -> Tensor:
    rows = torch.cat([a, b])
    logits = -torch.cdist(rows, rows).square().log1p()
    logits.fill_diagonal_(-torch.inf)
    return F.cross_entropy(logits, torch.arange(len(rows)).roll(len(a)))


def plain_loop(
    network: nn.Module, pixels: np.ndarray, size_px: int, batch: int, steps: int, workers: int
) -> list[float]:
    """Seconds of each step, the first ones (workers starting) left out."""
    loader = DataLoader(
        PillowPairs(pixels, PillowView(size_px, MEAN, STD)), batch, shuffle=True, drop_last=True, num_workers=workers
    )
    optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.9, weight_decay=5e-4)
    network.train()
    times, began = [], time.perf_counter()
    while len(times) < steps + 2:
        for a, b in loader:
            loss = plain_loss(*network(torch.cat([a, b])).chunk(2))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            times.append(time.perf_counter() - began)
            began = time.perf_counter()
            if len(times) == steps + 2:
                break
    return times[2:]


def our_loop(
    network: nn.Module, pixels: np.ndarray, size_px: int, batch: int, steps: int, precision: str
) -> list[float]:
    fabric = make_fabric("cpu", precision)  # type: ignore[arg-type]  # as the plain loop
    pairs = Augmented(pixels, Contrastive(size_px=size_px, mean=MEAN, std=STD), fabric.device)
    per_epoch = len(pixels) // batch
    schedule = Schedule(epochs=-(-(steps + 2) // per_epoch), batch_size=batch, learning_rate=0.01)
    history = fit(network, pairs, InfoNCE(cauchy), schedule, fabric=fabric)
    return [batch / line["images_per_second"] for line in history[2:]]


LOOPS = {
    "plain": "plain: fp32, NCHW, Pillow in a DataLoader",
    "ours-fp32": "ours, fp32",
    "ours-auto": "ours, auto precision",
}


def one_loop(loop: str, options: argparse.Namespace) -> list[float]:
    """Seconds of each step, in this process."""
    pixels = pictures(options.batch_size * 4, round(1.25 * options.size))
    torch.manual_seed(0)
    body = backbone(options.backbone, stem=options.stem, width=options.width)
    network = Network(body, Projector(int(body.out_features)))  # type: ignore[arg-type]
    shape = (pixels, options.size, options.batch_size, options.steps)
    if loop == "plain":
        return plain_loop(network, *shape, workers=options.workers)
    return our_loop(network, *shape, precision=loop.removeprefix("ours-"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--stem", default="small", choices=("small", "strided", "imagenet"))
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--loop", choices=tuple(LOOPS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.loop:
        print(json.dumps(one_loop(options.loop, options)))
        return
    measured: dict[str, list[float]] = {loop: [] for loop in LOOPS}
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    for _ in range(options.rounds):
        for loop, times in measured.items():
            command = [sys.executable, *sys.argv, "--loop", loop]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=True)
            times += json.loads(done.stdout.splitlines()[-1])
    print(hardware())
    print(
        f"{options.backbone}, width {options.width}, {options.stem} stem, {options.size} px, "
        f"batch {options.batch_size}, {torch.get_num_threads()} threads; "
        "images (pairs of views) a second: median (least … most), ratio"
    )
    slowest = rate(options.batch_size, measured["plain"])[0]
    for loop, times in measured.items():
        value, text = rate(options.batch_size, times)
        print(f"  {LOOPS[loop]:44}{text}  {value / slowest:5.1f}x")


if __name__ == "__main__":
    main()
