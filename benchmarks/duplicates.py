"""Near-duplicates among very many rows: seconds, memory, and whether those that were planted are found.

1. Hashes: 1,000,000 of 64 bits with planted groups, all pairs within 4 bits and their groups. Random ones; skewed ones,
   of which a third have half of their bits in common and a tenth are equal; and crowded ones, of which a third have two
   thirds of their bits in common, so that chance makes a hundred million pairs. Beside FAISS's multi-index hashing.
2. Features: 200,000 x 384, float16, all pairs of cosine .95 and their groups; recall against every distance of a
   sample of rows. Beside FAISS's inverted lists.

    python benchmarks/duplicates.py [--only hashes,features] [--hashes 1000000] [--rows 200000 --dimensions 384]

Of a collection (read only): pairs, groups and leaks across splits at several thresholds. A row is of the split "test"
where its column `uri` has that word in it, else of "train"; `--split` names a column of splits in its place.

    python benchmarks/duplicates.py --collection cifar.scape --features efficientnet_lite0 --thresholds .99,.97,.95

Every way runs in a process of its own. Memory is the most that the process held, libraries and data among it; that of
the data alone is in brackets. Compiling is counted: once an installation, a few seconds.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from measure import hardware

RADIUS = 4
COMMON = {"skewed": 0x5555555555555555, "crowded": 0x2492492492492492}  # bits in which a third of the hashes differ
SIMILARITY = 0.95
SAMPLE = 1000


def planted_hashes(rows: int, kind: str, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Hashes (n, 8), and the base of each: a tenth are copies of the others with 0 to 4 bits turned."""
    rng = np.random.default_rng(seed)
    words = rng.integers(0, 2**64, rows, dtype=np.uint64)
    if kind in COMMON:
        free = np.uint64(COMMON[kind])
        words[: rows // 3] = words[: rows // 3] & free | words[0] & ~free
        words[: rows // 10] = words[0]
    copies, bases = np.arange(rows - rows // 10, rows), np.arange(rows)
    bases[copies] = rng.integers(rows // 10, rows // 2, len(copies))
    turned = np.zeros(len(copies), np.uint64)
    for _ in range(RADIUS):
        turned |= np.where(
            rng.random(len(copies)) < 0.7, np.uint64(1) << rng.integers(0, 64, len(copies), np.uint64), 0
        )
    words[copies] = words[bases[copies]] ^ turned
    order = rng.permutation(rows)
    place = np.argsort(order)
    return words[order].view(np.uint8).reshape(rows, 8), place[bases[order]]


def planted_features(rows: int, dimensions: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Vectors around a thousand centres that lie around thirty others, float16, and the base of each: a tenth are
    copies of the others, their cosines from 1 to .93."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(0, 1, (30, dimensions))
    fine = coarse[rng.integers(0, 30, 1000)] + rng.normal(0, 0.7, (1000, dimensions))
    features, bases = np.empty((rows, dimensions), np.float16), np.arange(rows)
    first_copy = rows - rows // 10
    bases[first_copy:] = rng.integers(0, first_copy, rows // 10)
    for start in range(0, rows, 8192):
        here = slice(start, min(start + 8192, rows))
        count = here.stop - start
        values = fine[rng.integers(0, 1000, count)] + rng.normal(0, 0.5, (count, dimensions))
        copies = np.flatnonzero(bases[here] != np.arange(start, here.stop))
        spread = rng.uniform(0, 0.38, (len(copies), 1)) * 1.3
        values[copies] = features[bases[here][copies]] + spread * rng.normal(0, 1, (len(copies), dimensions))
        features[here] = values
    order = rng.permutation(rows)
    return features[order], np.argsort(order)[bases[order]]


# -- one way in a process of its own ----------------------------------------------------------------------------------


def one_way(name: str, options: argparse.Namespace) -> dict[str, Any]:
    kind, _, way = name.partition(":")
    is_hash = kind != "features"
    if is_hash:
        data, bases = planted_hashes(options.hashes, kind)
    else:
        data, bases = planted_features(options.rows, options.dimensions)
    before = peak_mib()
    began, used = time.perf_counter(), time.process_time()
    found = {"ours": ours, "faiss": faiss_hashes if is_hash else faiss_features}[way.partition(" ")[0]](
        data, is_hash, way
    )
    seconds = time.perf_counter() - began
    used = time.process_time() - used
    line = {
        "seconds": seconds,
        "processor_seconds": used,
        "peak_mib": peak_mib(),
        "data_mib": before,
        **found.pop("told"),
    }
    line["recall"] = (recall_of_planted if is_hash else recall_of_sample)(data, bases, found["near"])
    return line


def ours(data: np.ndarray, is_hash: bool, way: str) -> dict[str, Any]:
    from imagescape.audit.duplicates import Duplicates
    from imagescape.audit.feature_pairs import feature_pairs
    from imagescape.audit.hash_pairs import hash_pairs

    pairs = hash_pairs(data, RADIUS) if is_hash else feature_pairs(data, SIMILARITY)
    searched = time.perf_counter()
    groups = Duplicates(len(data), pairs).at(RADIUS if is_hash else SIMILARITY)
    told = {"pairs": len(pairs), "groups": len(groups), "grouping": time.perf_counter() - searched}
    head = np.arange(len(data))
    twins = pairs.distance == 0
    head[pairs.second[twins]] = pairs.first[twins]
    keys = np.sort(pairs.first * len(data) + pairs.second)

    def near(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        low, high = np.minimum(head[a], head[b]), np.maximum(head[a], head[b])
        return (low == high) | np.isin(low * len(data) + high, keys)

    return {"near": near, "told": told | {"crowded": len(pairs.crowded)}}


def faiss_hashes(data: np.ndarray, is_hash: bool, way: str) -> dict[str, Any]:
    """Four tables of 16 bits, of which one may differ: exact for 4 bits, as one of four parts has at most one."""
    import faiss

    index = faiss.IndexBinaryMultiHash(64, 4, 16)
    index.nflip = 1
    unique, head = np.unique(data.view(np.uint64).ravel(), return_inverse=True)
    codes = unique.view(np.uint8).reshape(-1, 8)
    index.add(codes)
    limits, _, labels = index.range_search(codes, RADIUS + 1)
    first = np.repeat(np.arange(len(codes)), np.diff(limits.astype(np.int64)))
    return told_by_faiss(first, labels, head)


def faiss_features(data: np.ndarray, is_hash: bool, way: str) -> dict[str, Any]:
    from imagescape.search.index import build_index

    index = build_index(data, np.arange(len(data)), engine="IVF1024,Flat", metric="cosine")
    index.search_width = int(way.partition(" ")[2])
    found = index.within(data, 1 - SIMILARITY)
    first = np.repeat(np.arange(len(data)), np.diff(found.offsets))
    return told_by_faiss(first, found.ids, np.arange(len(data)))


def told_by_faiss(first: np.ndarray, second: np.ndarray, head: np.ndarray) -> dict[str, Any]:
    keys = np.unique(np.minimum(first, second) * len(head) + np.maximum(first, second))

    def near(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        low, high = np.minimum(head[a], head[b]), np.maximum(head[a], head[b])
        return (low == high) | np.isin(low * len(head) + high, keys)

    return {"near": near, "told": {"pairs": int((first < second).sum())}}


def recall_of_planted(data: np.ndarray, bases: np.ndarray, near: Callable[..., np.ndarray]) -> float:
    """Share of all pairs within a planted group that are within the radius and were found."""
    order = np.argsort(bases, kind="stable")
    a, b = [], []
    for shift in range(1, 12):
        same = bases[order[shift:]] == bases[order[:-shift]]
        a.append(order[shift:][same])
        b.append(order[:-shift][same])
    first, second = np.concatenate(a), np.concatenate(b)
    words = data.view(np.uint64).ravel()
    inside = np.bitwise_count(words[first] ^ words[second]) <= RADIUS
    return float(near(first[inside], second[inside]).mean())


def recall_of_sample(data: np.ndarray, bases: np.ndarray, near: Callable[..., np.ndarray]) -> float:
    """Share of the pairs that some rows, half of them copies, have by every distance in double precision."""
    rng = np.random.default_rng(1)
    copies = np.flatnonzero(bases != np.arange(len(bases)))
    some = np.unique(np.concatenate([rng.choice(copies, SAMPLE // 2), rng.choice(len(data), SAMPLE // 2)]))
    unit = data[some].astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    hits = total = 0
    for start in range(0, len(data), 16_384):
        block = data[start : start + 16_384].astype(np.float64)
        block /= np.linalg.norm(block, axis=1, keepdims=True)
        row, column = np.nonzero(unit @ block.T >= SIMILARITY + 1e-6)
        a, b = some[row], column + start
        a, b = a[a != b], b[a != b]
        hits, total = hits + int(near(a, b).sum()), total + len(a)
    return hits / max(total, 1)


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


# -- a collection -----------------------------------------------------------------------------------------------------


def of_collection(options: argparse.Namespace) -> None:
    from imagescape.audit.duplicates import Duplicates
    from imagescape.audit.feature_pairs import feature_pairs
    from imagescape.audit.hash_pairs import hash_pairs
    from imagescape.audit.leaks import leaks
    from imagescape.collection.store import Collection

    scape = Collection.open(options.collection)
    column = f"features_{options.features}"
    table = scape.read([column, options.split or "uri"])
    splits = table[options.split or "uri"].to_pylist()
    if not options.split:
        splits = ["test" if "test" in uri else "train" for uri in splits]
    values = table[column].combine_chunks()
    width = scape.schema.field(column).type.list_size
    rows = values.flatten().to_numpy().reshape(-1, width)
    thresholds = [float(one) for one in options.thresholds.split(",")]
    began = time.perf_counter()
    is_hash = rows.dtype == np.uint8
    pairs = hash_pairs(rows, int(max(thresholds))) if is_hash else feature_pairs(rows, min(thresholds))
    print(f"{rows.shape[0]:,} x {width} {rows.dtype}: {time.perf_counter() - began:.1f} s, peak {peak_mib():.0f} MiB")
    found = Duplicates(len(rows), pairs)
    print(found)
    for threshold in thresholds:
        began = time.perf_counter()
        groups, across = found.at(threshold), leaks(pairs.at(threshold), splits)
        components = np.bincount(found.components(threshold) + 1)[1:].max(initial=0)
        print(f"\n{threshold:g}: {groups}; largest component {components:,}; {time.perf_counter() - began:.2f} s")
        print(across)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hashes", type=int, default=1_000_000)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--dimensions", type=int, default=384)
    parser.add_argument(
        "--only", default="hashes:ours,hashes:faiss,skewed:ours,crowded:ours,features:ours,features:faiss 4"
    )
    parser.add_argument("--minutes", type=float, default=10, help="of one way, at most")
    parser.add_argument("--collection", type=Path)
    parser.add_argument("--features", default="efficientnet_lite0")
    parser.add_argument("--split", help="a column with the split of each row")
    parser.add_argument("--thresholds", default="0.99,0.98,0.97,0.96,0.95")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print("RESULT " + json.dumps(one_way(options.one, options)))
        return
    print(hardware())
    if options.collection:
        of_collection(options)
        return
    for name in options.only.split(","):
        environment = {"OMP_WAIT_POLICY": "PASSIVE"} | os.environ
        sizes = ["--hashes", options.hashes, "--rows", options.rows, "--dimensions", options.dimensions]
        command = [sys.executable, __file__, *map(str, sizes), "--one", name]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=60 * options.minutes, env=environment
            )
        except subprocess.TimeoutExpired:
            print(f"  {name:18} not done in {options.minutes:g} minutes", flush=True)
            continue
        found = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
        if not found:
            print(f"  {name:18} failed: {done.stderr.strip().splitlines()[-1:]}", flush=True)
            continue
        one = json.loads(found[0].removeprefix("RESULT "))
        rest = "  ".join(f"{one[key]:,} {key}" for key in ("groups", "crowded") if key in one)
        times = f"{one['seconds']:7.1f} s ({one['processor_seconds']:.1f} of a core)"
        memory = f"{one['peak_mib']:6.0f} MiB ({one['data_mib']:.0f})"
        print(f"  {name:18} {times} {memory}  recall {one['recall']:.4f}  {one['pairs']:,} pairs  {rest}", flush=True)


if __name__ == "__main__":
    main()
