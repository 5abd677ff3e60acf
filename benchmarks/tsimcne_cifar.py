"""15-NN accuracy of a t-SimCNE map of CIFAR-10 images, beside t-SNE of their pixels, on the same splits.

    python benchmarks/tsimcne_cifar.py cifar10-test.parquet --minutes 25 [--preset tiny] [--seeds 1]

The file is any source with a column `label`; on a GPU try `--preset fast` on all 60,000 images.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from measure import hardware

from imagescape.collection.ingest import ingest
from imagescape.collection.store import Collection
from imagescape.evaluate.metrics import knn_accuracy
from imagescape.evaluate.splits import stratified_split
from imagescape.pipeline.maps import map_images


def accuracy(x: np.ndarray, labels: list[object], splits: int = 3) -> str:
    values = [knn_accuracy(x, labels, k=15, split=stratified_split(labels, seed=seed)).value for seed in range(splits)]
    return f"{np.mean(values):.4f} +- {np.std(values, ddof=1):.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+")
    parser.add_argument("--minutes", type=float, default=25)
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--no-tsne", action="store_true", help="leave t-SNE out (it needs the package openTSNE)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ingest(options.sources, Path(folder) / "cifar.scape")
        scape = Collection.open(Path(folder) / "cifar.scape")
        labels = scape.read(["label"], where="status = 'ok'")["label"].to_pylist()
        print(hardware())
        print(
            f"{len(labels)} images; 15-NN accuracy, mean and sd over 3 stratified splits with 20 % test, at most 10,000"
        )
        pixels = np.asarray(scape.pixels(32)).reshape(len(labels), -1).astype(np.float32) / 255
        print(f"  pixels                      {accuracy(pixels, labels)}", flush=True)
        if not options.no_tsne:
            from openTSNE import TSNE

            began = time.perf_counter()
            map_of_pixels = np.asarray(TSNE(random_state=0, n_jobs=-1).fit(pixels))
            minutes = (time.perf_counter() - began) / 60
            print(f"  t-SNE of pixels             {accuracy(map_of_pixels, labels)}  {minutes:.1f} minutes", flush=True)
        for seed in range(options.seeds):
            began = time.perf_counter()
            name = f"seed{seed}"
            model = map_images(scape, name, preset=options.preset, minutes=options.minutes, seed=seed)
            minutes = (time.perf_counter() - began) / 60
            epochs = "+".join(str(stage.epochs) for stage in model.recipe_.stages)
            rate = statistics.median(line["images_per_second"] for line in model.history_ if line["stage"] == 1)
            text = f"{accuracy(model.coords_, labels)}  {minutes:.1f} minutes, {epochs} epochs"
            text += f", {len(labels) / rate:.1f} s an epoch of stage 1"
            print(f"  t-SimCNE map, seed {seed}        {text}")
            print(f"  its features H              {accuracy(model.features_, labels)}", flush=True)


if __name__ == "__main__":
    main()
