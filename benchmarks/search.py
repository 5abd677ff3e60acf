"""Search engines on vectors in clusters: time, recall and size of each against exact search, in one run.

1. Approximate engines at a sweep of their search width: recall@10 of exact, milliseconds a query in a batch, how many
   times faster than exact, seconds to build, bytes a vector.
2. One query at a time, warm: milliseconds.
3. The exact graph of the k nearest of all rows, against FAISS Flat, which gives the same.

    python benchmarks/search.py [--rows 200000 --dimensions 384 --queries 500] [--only approximate|single|graph]

On a machine that is busy with other work, set OMP_WAIT_POLICY=passive: threads that wait for each other would else
take the processor from those they wait for, and the engine with more steps suffers more.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import faiss
import numpy as np
import torch
from measure import hardware, seconds

from imagescape.evaluate.neighbors import nearest_others
from imagescape.search.index import build_index

K = 10
ENGINES: dict[str, tuple[int | None, ...]] = {
    "Flat": (None,),
    "IVF1024,Flat": (1, 2, 4, 8, 16, 64),
    "IVF1024,SQ8": (4, 8, 16, 64),
    "IVF1024,PQ96": (8, 16, 64),
    "HNSW32": (16, 64, 256),
    "SQ8": (None,),
    "PQ96": (None,),
    "lance": (4, 16, 64),
}


def clustered(rows: int, dimensions: int, queries: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Vectors around a thousand centres that lie around thirty others, float32; queries are drawn likewise."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(0, 1, (30, dimensions))
    fine = coarse[rng.integers(0, 30, 1000)] + rng.normal(0, 0.7, (1000, dimensions))
    count = rows + queries
    vectors = np.empty((count, dimensions), np.float32)
    for start in range(0, count, 65_536):
        here = slice(start, min(start + 65_536, count))
        size = here.stop - here.start
        vectors[here] = fine[rng.integers(0, 1000, size)] + rng.normal(0, 0.5, (size, dimensions))
    return vectors[:rows], vectors[rows:]


def median_seconds(work: Callable[[], object]) -> float:
    return statistics.median(seconds(work, repeats=3))


def approximate(vectors: np.ndarray, queries: np.ndarray, engines: list[str]) -> None:
    ids = np.arange(len(vectors))
    header = f"{'engine':16}  width recall@10  ms/query  x exact  build s bytes/vector"
    print(f"\n{len(vectors)} x {vectors.shape[1]}, {len(queries)} queries in one batch, k = {K}\n{header}")
    truth = np.empty(0)
    reference = 0.0
    for engine in ["exact", *engines]:
        began = time.perf_counter()
        index = build_index(vectors, ids, engine=engine)
        build_seconds = time.perf_counter() - began
        for width in ENGINES.get(engine, (None,)):
            if width is not None:
                index.search_width = width
            taken = median_seconds(lambda index=index: index.search(queries, K))
            found = index.search(queries, K).ids
            if engine == "exact":
                truth, reference = found, taken
            recall = np.mean([len(set(a) & set(b)) / K for a, b in zip(found, truth, strict=True)])
            print(
                f"{engine:16} {width or '':>6} {recall:9.3f} {1e3 * taken / len(queries):9.3f} "
                f"{reference / taken:8.1f} {build_seconds:8.1f} {index.vector_bytes:12.0f}",
                flush=True,
            )


def single(vectors: np.ndarray, queries: np.ndarray) -> None:
    print(f"\none query at a time, warm, exact, {len(vectors)} x {vectors.shape[1]}, k = {K}")
    for metric in ("euclidean", "cosine", "inner_product"):
        for dtype in (np.float32, np.float16):
            index = build_index(vectors.astype(dtype), np.arange(len(vectors)), metric=metric)
            times = []
            for query in queries[:30]:
                began = time.perf_counter()
                index.search(query[None], K)
                times.append(time.perf_counter() - began)
            middle, most = 1e3 * statistics.median(times[5:]), 1e3 * max(times[5:])
            print(f"{metric:16} {np.dtype(dtype).name:8} {middle:8.1f} ms, at most {most:.1f}", flush=True)


def graph(rows: int, dimensions: int, k: int) -> None:
    vectors, _ = clustered(rows, dimensions, 0, seed=1)
    print(f"\nexact graph of {rows} x {dimensions}, k = {k}, {torch.get_num_threads()} threads")
    flat = faiss.IndexFlatL2(dimensions)
    flat.add(vectors)
    index = build_index(vectors, np.arange(rows))
    ways = {
        "FAISS Flat": lambda: flat.search(vectors, k + 1),
        "nearest_others": lambda: nearest_others(vectors, k),
        "index.search": lambda: index.search(vectors, k + 1),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(3):  # in turn, so that a busy moment of the machine hits all
        for name, work in ways.items():
            began = time.perf_counter()
            work()
            times[name].append(time.perf_counter() - began)
    for name, measured in times.items():
        ratio = min(times["FAISS Flat"]) / min(measured)
        every = ", ".join(f"{one:.2f}" for one in measured)
        print(f"{name:16} {min(measured):7.2f} s (all: {every}), {ratio:.2f} x FAISS Flat")
    same = (nearest_others(vectors, k).indices == flat.search(vectors, k + 1)[1][:, 1:]).mean()
    print(f"the same neighbours in the same order: {same:.4%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--dimensions", type=int, default=384)
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--engines", nargs="*", default=list(ENGINES))
    parser.add_argument("--graph-rows", type=int, default=50_000)
    parser.add_argument("--graph-dimensions", type=int, default=128)
    parser.add_argument("--graph-k", type=int, default=15)
    parser.add_argument("--only", choices=("approximate", "single", "graph"))
    arguments = parser.parse_args()
    print(hardware(), f"FAISS {faiss.__version__}", sep="; ")
    vectors, queries = clustered(arguments.rows, arguments.dimensions, arguments.queries)
    if arguments.only in (None, "graph"):
        graph(arguments.graph_rows, arguments.graph_dimensions, arguments.graph_k)
    if arguments.only in (None, "single"):
        single(vectors, queries)
    if arguments.only in (None, "approximate"):
        approximate(vectors, queries, arguments.engines)


if __name__ == "__main__":
    main()
