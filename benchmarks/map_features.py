"""Maps of the same features by us and by other libraries: seconds, accuracy, neighbours kept, memory, new rows.

    python benchmarks/map_features.py features.npz [--methods neighbors,table,tsne,umap,pacmap,torchdr] [--seeds 1]

The file holds `x` (n, d) features and `y` (n,) classes, and may hold `new` (m, d) rows to place. Every method runs in a
process of its own and is given x as it is; compiling and importing are counted where the library does it in `fit`.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

import numpy as np
from measure import hardware

METHODS = ("neighbors", "table", "tsne", "umap", "pacmap", "torchdr")


def library_map(method: str, seed: int) -> Any:
    if method in ("neighbors", "table"):
        from imagescape.learn.neighbormap import NeighborMap

        return NeighborMap(random_state=seed, network="table" if method == "table" else "mlp")
    if method == "tsne":
        from openTSNE import TSNE

        return TSNE(random_state=seed, n_jobs=-1)
    if method == "umap":
        from umap import UMAP

        return UMAP(n_jobs=-1)  # a seed would cost it its threads
    if method == "pacmap":
        from pacmap import PaCMAP

        return PaCMAP(random_state=seed)
    from torchdr import InfoTSNE

    return InfoTSNE(random_state=seed, device="cpu", backend="faiss")


def one_method(path: str, method: str, seed: int) -> None:
    """In a process of its own: print one line of JSON."""
    data = np.load(path)
    x = np.ascontiguousarray(data["x"], np.float32)
    import torch  # noqa: F401 - loading it is no part of a method

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    reducer = library_map(method, seed)
    if method == "tsne":
        fitted = reducer.fit(x)
        coords = np.asarray(fitted)
    elif method in ("neighbors", "table"):
        fitted = reducer.fit(x)
        coords = fitted.coords_
    else:
        fitted, coords = reducer, np.asarray(reducer.fit_transform(x))
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    line: dict[str, Any] = {"seconds": seconds, "peak_mib": (peak - before) / 1024}
    if "new" in data and method != "torchdr":  # it places no new rows
        new = np.ascontiguousarray(data["new"], np.float32)
        began = time.perf_counter()
        _ = fitted.transform(new, basis=x) if method == "pacmap" else fitted.transform(new)
        line["new_seconds"] = time.perf_counter() - began

    from imagescape.evaluate.metrics import knn_accuracy, knn_recall
    from imagescape.evaluate.splits import encode_labels, stratified_split

    labels = encode_labels(data["y"])
    scores = [knn_accuracy(coords, labels, split=stratified_split(labels, seed=s)).value for s in range(3)]
    line["accuracy"] = statistics.mean(scores)
    line["kept"] = knn_recall(x, coords, 15, max_rows=5000).value
    print("RESULT " + json.dumps(line))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=15, help="of one method, at most")
    parser.add_argument("--one", nargs=2, metavar=("METHOD", "SEED"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one_method(options.file, options.one[0], int(options.one[1]))
        return
    print(hardware())
    print(f"features {np.load(options.file)['x'].shape}; 15-NN accuracy on the map (3 stratified splits of 20 %),")
    print("share of the 15 nearest in feature space among the 15 nearest on the map, memory beyond the features")
    for method in options.methods.split(","):
        for seed in range(options.seeds):
            # Threads that wait sleep, as imagescape has it: for every method alike.
            environment = {"OMP_WAIT_POLICY": "PASSIVE"} | os.environ
            command = [sys.executable, __file__, options.file, "--one", method, str(seed)]
            try:
                done = subprocess.run(
                    command, capture_output=True, text=True, timeout=60 * options.minutes, env=environment
                )
            except subprocess.TimeoutExpired:
                print(f"  {method:10} seed {seed}: not done in {options.minutes:g} minutes", flush=True)
                continue
            found = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
            if not found:
                print(f"  {method:10} seed {seed}: failed: {done.stderr.strip().splitlines()[-1:]}", flush=True)
                continue
            one = json.loads(found[0].removeprefix("RESULT "))
            new = f"{one['new_seconds']:7.1f}" if "new_seconds" in one else "      -"
            print(
                f"  {method:10} seed {seed}: {one['seconds']:7.1f} s  accuracy {one['accuracy']:.4f}  "
                f"kept {one['kept']:.4f}  {one['peak_mib']:6.0f} MiB  new rows {new} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
