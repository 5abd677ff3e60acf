"""Learned clusterings of frozen features against spherical k-means: accuracy over seeds, seconds, clusters in use.

    python benchmarks/clusters_learned.py features.npz [--rows 500,5000,10000] [--seeds 5] [--methods kmeans,multihead]
        [--k 10] [--long-tail 100] [--set entropy_weight=2]

The file holds `x` (n, d) features and `y` (n,) classes, which only the figures use; instead of one, `blobs` makes ten
clear classes in 512 dimensions and `digits` takes the 1,797 of scikit-learn. Accuracy is the share of rows in
the right cluster, clusters being matched to classes by the Hungarian method. Each seed draws its own rows.
"""

import argparse
import json
import statistics
import time
from typing import Any

import numpy as np
from measure import hardware
from scipy.optimize import linear_sum_assignment

METHODS = ("kmeans", "multihead", "scan", "scan+selflabel")


def accuracy(labels: np.ndarray, clusters: np.ndarray) -> float:
    counts = np.zeros((clusters.max() + 1, labels.max() + 1), np.int64)
    np.add.at(counts, (clusters, labels), 1)
    return float(counts[linear_sum_assignment(-counts)].sum() / len(labels))


def load(name: str, skip: int) -> tuple[np.ndarray, np.ndarray]:
    """Features and the number of each row's class."""
    if name == "blobs":
        rng = np.random.default_rng(0)
        y = np.arange(5000) % 10
        centres = rng.normal(0, 0.5, (10, 512))
        return (5 + centres[y] + rng.normal(0, 2, (5000, 512))).astype(np.float32), y
    if name == "digits":
        from sklearn.datasets import load_digits

        digits = load_digits()
        return digits.data.astype(np.float32), digits.target
    data = np.load(name)
    return data["x"][skip:], np.unique(data["y"][skip:], return_inverse=True)[1]


def draw(y: np.ndarray, count: int, long_tail: float, seed: int) -> np.ndarray:
    """Rows, the classes as they come; or falling in equal ratios, the largest `long_tail` times the smallest."""
    shuffled = np.random.default_rng(seed).permutation(len(y))
    if long_tail <= 1:
        return shuffled[:count]
    classes = np.unique(y)
    share = long_tail ** -(np.arange(len(classes)) / (len(classes) - 1))
    # As many rows as asked for, and never more of a class than there are.
    size = np.minimum(np.round(count * share / share.sum()), np.bincount(y)[classes]).astype(int)
    return np.concatenate([shuffled[y[shuffled] == c][:n] for c, n in zip(classes, size, strict=True)])


def kmeans(x: np.ndarray, k: int, seed: int, restarts: int) -> np.ndarray:
    import faiss

    unit = x - x.mean(0)
    unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-12)
    run = faiss.Kmeans(
        x.shape[1],
        k,
        niter=50,
        nredo=restarts,
        spherical=True,
        seed=seed,
        max_points_per_centroid=len(x),
        min_points_per_centroid=1,
    )
    run.train(unit)
    return run.index.search(unit, 1)[1][:, 0]


def cluster(method: str, x: np.ndarray, k: int, seed: int, settings: dict[str, Any]) -> tuple[np.ndarray, str]:
    """Clusters of the rows, and what the method says of itself."""
    if method == "kmeans":
        return kmeans(x, k, seed, restarts=10), ""
    from imagescape.learn.multihead import MultiHead
    from imagescape.learn.scan import SCAN

    if method == "multihead":
        model: Any = MultiHead(k, random_state=seed, **settings).fit(x)
    else:
        model = SCAN(k, random_state=seed, selflabel=method.endswith("selflabel"), **settings).fit(x)
    back = ", rolled back" if getattr(model, "rolled_back_", False) else ""
    return model.labels_, f"loss {model.loss_.min():.4f}{back}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", help="npz, or 'blobs' or 'digits'")
    parser.add_argument("--rows", default="10000", help="how many, separated by commas")
    parser.add_argument("--skip", type=int, default=0, help="rows at the start of the file to leave out")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--k", type=int, help="clusters; as many as classes when not given")
    parser.add_argument("--long-tail", type=float, default=1, help="largest class over smallest")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="settings of learned methods")
    options = parser.parse_args()
    settings = {name: json.loads(value) for name, value in (one.split("=", 1) for one in options.set)}
    features, classes = load(options.file, options.skip)
    k = options.k or int(classes.max()) + 1
    print(hardware())
    print(f"{features.shape[1]} features, {k} clusters, long tail {options.long_tail:g}, {settings or 'as they come'}")
    for count in map(int, options.rows.split(",")):
        for method in options.methods.split(","):
            scores, times, used = [], [], []
            for seed in range(options.seeds):
                rows = draw(classes, count, options.long_tail, seed)
                x, y = np.ascontiguousarray(features[rows], np.float32), classes[rows]
                began = time.perf_counter()
                found, note = cluster(method, x, k, seed, settings)
                times.append(time.perf_counter() - began)
                scores.append(accuracy(y, found))
                used.append(int((np.bincount(found, minlength=k) >= 0.02 * len(x) / k).sum()))
                print(f"    {method} seed {seed}: {scores[-1]:.4f}  {times[-1]:.1f} s  {used[-1]} in use  {note}")
            spread = statistics.stdev(scores) if len(scores) > 1 else 0
            print(
                f"  {len(x):6} rows  {method:15} ACC {statistics.mean(scores):.4f} ± {spread:.4f}  "
                f"{statistics.median(times):6.1f} s  clusters in use {min(used)} at least",
                flush=True,
            )


if __name__ == "__main__":
    main()
