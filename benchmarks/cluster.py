"""Clusters of many rows: seconds and memory of k-means, hierarchies and density, beside the usual way where it ends.

    python benchmarks/cluster.py [--rows 200000] [--only kmeans-10,hdbscan-map]

Rows are a mixture of 50 round clusters: 64 features, and a map of 2 dimensions. Every method runs in a process of its
own; compiling (numba's, of fast-hdbscan) is counted, and once more without. Memory is the most that the process ever
held, libraries and rows among it.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from measure import hardware


def mixture(rows: int, d: int, seed: int = 0) -> np.ndarray:
    """50 clusters of deviation 1 whose centres have deviation 4 (64 dimensions) or 40 (a map)."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(0, 40 if d == 2 else 4, (50, d))
    return (centres[rng.integers(0, 50, rows)] + rng.normal(0, 1, (rows, d))).astype(np.float32)


def kmeans(k: int) -> Callable[[np.ndarray], Any]:
    def fit(rows: np.ndarray) -> Any:
        from imagescape.cluster.partition import KMeans

        return KMeans(k=k, random_state=0).fit(rows)

    return fit


def sklearn_kmeans(k: int) -> Callable[[np.ndarray], Any]:
    def fit(rows: np.ndarray) -> Any:
        from sklearn.cluster import KMeans

        return KMeans(k, n_init=10, random_state=0).fit(rows)

    return fit


def ward(rows: np.ndarray) -> Any:
    from imagescape.cluster.hierarchy import Hierarchy

    return Hierarchy(k=50, cuts=[400, 100, 50], random_state=0).fit(rows)


def hdbscan(rows: np.ndarray) -> Any:
    from imagescape.cluster.density import HDBSCAN

    return HDBSCAN().fit(rows)


def dbscan(eps: float) -> Callable[[np.ndarray], Any]:
    def fit(rows: np.ndarray) -> Any:
        from imagescape.cluster.density import DBSCAN

        return DBSCAN(eps=[eps, eps * 1.5], min_samples=10).fit(rows)

    return fit


def choose(rows: np.ndarray) -> Any:
    from imagescape.cluster.choose import choose_k

    return choose_k(rows, seed=0)


# Name -> dimensions, and what is done.
METHODS: dict[str, tuple[int, Callable[[np.ndarray], Any]]] = {
    "kmeans-10": (64, kmeans(10)),
    "kmeans-100": (64, kmeans(100)),
    "sklearn-kmeans-100": (64, sklearn_kmeans(100)),
    "ward-centroids": (64, ward),
    "choose-k": (64, choose),
    "hdbscan-map": (2, hdbscan),
    "dbscan-map": (2, dbscan(0.5)),
}


def one_method(name: str, rows: int) -> None:
    """In a process of its own: print one line of JSON."""
    d, fit = METHODS[name]
    data = mixture(rows, d)
    fit(mixture(2_000, d)) if not name.startswith("hdbscan") else None  # imports are no part of it, compiling is
    times = []
    for _ in range(2 if name.startswith("hdbscan") else 1):
        began = time.perf_counter()
        found = fit(data)
        times.append(time.perf_counter() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    labels = getattr(found, "labels_", np.empty(0, int))
    line = {"seconds": times, "peak_mib": peak / 1024, "clusters": int(labels.max(initial=-1)) + 1}
    line["noise"] = float((labels < 0).mean()) if len(labels) else 0.0
    line["inertia"] = float(getattr(found, "inertia_", 0.0))
    print("RESULT " + json.dumps(line))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--only", default=",".join(METHODS))
    parser.add_argument("--minutes", type=float, default=10, help="of one method, at most")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one_method(options.one, options.rows)
        return
    print(f"{hardware()}; {options.rows:,} rows")
    for name in options.only.split(","):
        # Threads that wait sleep, as imagescape has it: for every method alike.
        environment = {"OMP_WAIT_POLICY": "PASSIVE"} | os.environ
        command = [sys.executable, __file__, "--rows", str(options.rows), "--one", name]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=60 * options.minutes, env=environment
            )
        except subprocess.TimeoutExpired:
            print(f"  {name:20} not done in {options.minutes:g} minutes", flush=True)
            continue
        found = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
        if not found:
            print(f"  {name:20} failed: {done.stderr.strip().splitlines()[-1:]}", flush=True)
            continue
        one = json.loads(found[0].removeprefix("RESULT "))
        times = ", then ".join(f"{seconds:.1f} s" for seconds in one["seconds"])
        rest = f"  inertia {one['inertia']:.5g}" if one["inertia"] else ""
        found_text = f"{one['clusters']} clusters, {one['noise']:.1%} noise{rest}"
        print(f"  {name:20} {times:18} {one['peak_mib']:6.0f} MiB  {found_text}", flush=True)


if __name__ == "__main__":
    main()
