"""t-SimCNE by us and by its authors' package (tsimcne 0.3.12): images a second, and 15-NN after the same epochs.

    python benchmarks/tsimcne.py cifar10-test.parquet --package-python PYTHON --images 1000 --epochs 3,1,2
    python benchmarks/tsimcne.py cifar10-test.parquet --package-python PYTHON --stem imagenet --epochs 20,2,6

PYTHON is the interpreter of an environment with `tsimcne==0.3.12`, which is never imported here; `--package-path` adds
a folder to its path. Same images, network (ResNet-18), batch, loss, epochs and warm-up; each side in a process of its
own, with its own defaults for everything else. Seconds are of `fit`, which is all three stages. The ImageNet stem makes
small maps of small images: a processor has time for enough epochs then that both learn something.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from measure import hardware

# Run by the package's own interpreter. Its torchvision asks for operators that it only brings for its own build of
# torch; beside another build (one for the processor) they are declared first. The package uses none of them.
THEIRS = """
import json, re, sys, time
import numpy as np, torch
from PIL import Image
declared = torch.library.Library("torchvision", "FRAGMENT")
while True:
    try:
        import torchvision
        break
    except RuntimeError as error:
        missing = re.search(r"operator torchvision::(\\w+) does not exist", str(error))
        if missing is None:
            raise
        declared.define(missing[1] + "(Tensor a) -> Tensor")
        for name in [one for one in sys.modules if one.startswith("torchvision")]:
            del sys.modules[name]
from tsimcne.tsimcne import TSimCNE

file, out, epochs, batch, seed, workers, stem = sys.argv[1:]
images = np.load(file)["images"]

class Pictures(torch.utils.data.Dataset):
    def __len__(self):
        return len(images)
    def __getitem__(self, row):
        return Image.fromarray(images[row]), 0

torch.manual_seed(int(seed))
epochs = json.loads(epochs)
# A quarter of a stage at most, as ours: its own ten epochs are more than a short run has.
warmup = [min(10, epochs[0] // 4), 0, min(10, epochs[2] // 4)]
backbone = {"small": "resnet18_simclr", "imagenet": "resnet18"}[stem]
model = TSimCNE(
    total_epochs=epochs, warmup=warmup, backbone=backbone, batch_size=int(batch), num_workers=int(workers)
)
began = time.perf_counter()
model.fit(Pictures())
seconds = time.perf_counter() - began
np.save(out, np.asarray(model.transform(Pictures())))
print("RESULT", seconds, flush=True)
"""


def theirs(options: argparse.Namespace, file: Path, out: Path, epochs: list[int], seed: int) -> float | None:
    path = os.pathsep.join([*options.package_path, os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path}
    arguments = [json.dumps(epochs), str(options.batch_size), str(seed), str(options.workers), options.stem]
    command = [options.package_python, "-c", THEIRS, str(file), str(out), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=out.parent)
    found = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if not found:
        print(f"  tsimcne 0.3.12 failed: {(done.stderr.strip().splitlines() or ['(no message)'])[-1]}", flush=True)
        return None
    return float(found[0].split()[1])


def ours(options: argparse.Namespace, file: Path, out: Path, epochs: list[int], seed: int) -> float:
    command = [sys.executable, __file__, "--ours", str(file), str(out), json.dumps(epochs), str(seed)]
    command += ["--batch-size", str(options.batch_size), "--stem", options.stem]
    done = subprocess.run(command, capture_output=True, text=True)
    found = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if not found:
        raise SystemExit(done.stderr)
    return float(found[0].split()[1])


def fit_ours(file: str, out: str, epochs: str, seed: str, batch: int, stem: str) -> None:
    from imagescape.learn.tsimcne import TSimCNE

    images = np.load(file)["images"]
    model = TSimCNE(epochs=json.loads(epochs), preset="paper", stem=stem, batch_size=batch, random_state=int(seed))
    began = time.perf_counter()
    model.fit(images)
    seconds = time.perf_counter() - began
    np.save(out, model.coords_)
    print("RESULT", seconds, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", nargs="?")
    parser.add_argument("--package-python", default=sys.executable)
    parser.add_argument("--package-path", action="append", default=[])
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--epochs", default="3,1,1")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--stem", choices=("small", "imagenet"), default="small", help="of the ResNet-18")
    parser.add_argument("--workers", type=int, default=2, help="of the package's DataLoader")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--ours", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ours:
        fit_ours(*options.ours, batch=options.batch_size, stem=options.stem)
        return

    from imagescape.collection.ingest import ingest
    from imagescape.collection.store import Collection
    from imagescape.evaluate.metrics import knn_accuracy
    from imagescape.evaluate.splits import encode_labels, stratified_split

    epochs = [int(part) for part in options.epochs.split(",")]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ingest([options.source], folder / "c.scape")
        scape = Collection.open(folder / "c.scape")
        labels = scape.read(["label"], where="status = 'ok'")["label"].to_pylist()
        pixels = np.asarray(scape.pixels(scape.native_px() or 32))
        chosen = np.sort(np.random.default_rng(0).permutation(len(pixels))[: options.images])
        encoded = encode_labels([labels[row] for row in chosen])
        np.savez(folder / "images.npz", images=pixels[chosen])
        print(hardware())
        print(f"{len(chosen)} images, {options.stem} stem, batch {options.batch_size}, epochs {options.epochs}")
        rates: dict[str, list[float]] = {}
        for seed in range(options.seeds):
            for who, fit in (("tsimcne 0.3.12", theirs), ("ours", ours)):
                out = folder / f"{who}-{seed}.npy"
                seconds = fit(options, folder / "images.npz", out, epochs, seed)
                if seconds is None:
                    continue
                rate = len(chosen) * sum(epochs) / seconds
                splits = [stratified_split(encoded, seed=number) for number in range(3)]
                score = statistics.mean(knn_accuracy(np.load(out), encoded, split=split).value for split in splits)
                rates.setdefault(who, []).append(rate)
                print(f"  {who:15} seed {seed}: {rate:7.1f} images/s ({seconds:.0f} s), 15-NN {score:.4f}", flush=True)
        if len(rates) == 2:
            them, us = (statistics.median(rates[who]) for who in ("tsimcne 0.3.12", "ours"))
            print(f"  ours is {us / them:.1f} times as fast")


if __name__ == "__main__":
    main()
