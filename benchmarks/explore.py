"""The explorer's server with a million images: its memory, and how long a page waits for what it asks first.

python benchmarks/explore.py [--rows 1000000] [--keep FOLDER]

The collection is made up: points in clusters, a thumbnail of WebP each (some thousands of different ones), columns of
classes, clusters and amounts. The server runs in a process of its own, as `imagescape explore` starts it. Times are of
a client on this machine: to the first byte, and to the last.
"""

import argparse
import io
import json
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import numpy as np
import pyarrow as pa
from measure import hardware
from PIL import Image

from imagescape.collection.store import Collection

_APPENDED = 100_000
_PICTURES = 4096
_GROUPS = 40


def pictures(count: int, rng: np.random.Generator) -> list[bytes]:
    """WebP thumbnails of 64 px, coarse colours enlarged: about as large as those of photographs."""
    made = []
    for _ in range(count):
        coarse = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        out = io.BytesIO()
        Image.fromarray(coarse).resize((64, 64), Image.Resampling.BICUBIC).save(out, "WEBP", quality=80, method=0)
        made.append(out.getvalue())
    return made


def make_collection(path: Path, rows: int) -> Collection:
    """A collection of `rows` images that are nowhere but in the table, with a map "M" and a clustering "C"."""
    rng = np.random.default_rng(0)
    scape = Collection.create(path)
    thumbnails = pictures(_PICTURES, rng)
    middles = rng.normal(size=(_GROUPS, 2)) * 10
    for start in range(0, rows, _APPENDED):
        count = min(_APPENDED, rows - start)
        group = rng.integers(0, _GROUPS, count)
        coords = (middles[group] + rng.normal(size=(count, 2))).astype(np.float32)
        letters = rng.bytes(8 * count).hex()
        ids = [letters[at : at + 16] for at in range(0, 16 * count, 16)]
        chosen = rng.integers(0, _PICTURES, count)
        scape.append(
            pa.table(
                {
                    "image_id": ids,
                    "uri": [f"/photos/{number // 1000:04}/{number}.jpg" for number in range(start, start + count)],
                    "sha256": [""] * count,
                    "bytes": pa.array(rng.integers(1_000, 9_000_000, count), pa.int64()),
                    "width": pa.array(np.full(count, 640), pa.int32()),
                    "height": pa.array(np.full(count, 480), pa.int32()),
                    "format": ["JPEG"] * count,
                    "thumbnail": [thumbnails[one] for one in chosen],
                    "status": ["ok"] * count,
                    "reason": [""] * count,
                    "label": [f"kind {one % 10}" for one in group],
                    "cluster_C": pa.array(group, pa.int64()),
                    "quality": rng.random(count),
                    "x_M": coords[:, 0],
                    "y_M": coords[:, 1],
                }
            )
        )
    folder = path / "models" / "M"  # a map is one by its model; this one has no features and places nothing
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"format_version": 1, "recipe": {"method": "made up"}}))
    scape.compact()
    return scape


def fetch(url: str, body: bytes | None = None) -> tuple[float, float, bytes]:
    """Seconds to the first byte, seconds to the last, and the content."""
    headers = {"Content-Type": "application/json"} if body else {}
    began = time.perf_counter()
    with urllib.request.urlopen(urllib.request.Request(url, body, headers)) as answer:
        first = answer.read(1)
        at_first = time.perf_counter() - began
        content = first + answer.read()
    return at_first, time.perf_counter() - began, content


def memory_mb(process: int, kind: str) -> float:
    """Of the process in use now ("VmRSS") or at most ("VmHWM"), in MB."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(kind)) / 1000


def report(name: str, seconds: tuple[float, float, bytes]) -> None:
    print(f"{name:<34} {seconds[0] * 1000:9.0f} ms  {seconds[1] * 1000:9.0f} ms  {len(seconds[2]) / 1e6:9.2f} MB")


def measure(url: str, process: int, rng: np.random.Generator) -> None:
    print(f"{'':<34} {'first byte':>12}  {'last byte':>12}  {'size':>12}")
    told = fetch(url + "api/about")
    report("about, the first time", told)
    about = json.loads(told[2])
    order = f"order={about['order']}"
    report("about, again", fetch(url + "api/about"))
    ids = fetch(url + f"api/ids?{order}")
    report("ids", ids)
    numbers = pa.ipc.open_stream(ids[2]).read_all()["id"].to_numpy()
    report("map", fetch(url + f"api/map/M?{order}"))
    for name in ("label", "cluster_C", "quality"):
        report(f"column {name}", fetch(url + f"api/column/{name}?{order}"))
    report("labels of the clusters", fetch(url + f"api/labels/M/cluster_C?{order}"))
    print(f"server: {memory_mb(process, 'VmRSS'):.0f} MB after the first draw")
    batches = []
    for _ in range(20):
        some = ",".join(f"{one:016x}" for one in rng.choice(numbers, 200).tolist())
        batches.append(fetch(url + f"api/thumbnails?ids={some}"))
        assert all(struct.unpack_from("<200I", batches[-1][2], 4))
    report("200 thumbnails, median of 20", statistics.median_low(batches))
    one = f"{int(rng.choice(numbers)):016x}"
    report("one row", fetch(url + f"api/row/{one}?{order}"))
    report("neighbours on the map", fetch(url + f"api/neighbors/{one}?{order}&map=M&k=12"))
    report("find by name", fetch(url + f"api/find/name?{order}&q=7777"))
    report("find by condition", fetch(url + f"api/find/where?{order}&q=quality%20%3E%200.999"))
    report("tiles, the first time", fetch(url + f"api/tiles/M?{order}"))
    report("one tile with a column", fetch(url + f"api/tiles/M/0/0/0?{order}&columns=label"))
    report("density", fetch(url + f"api/density/M?{order}"))
    for count in (1, 10_000):
        some = [f"{one:016x}" for one in rng.choice(numbers, count, replace=False).tolist()]
        content = json.dumps({"kind": "tag", "tag": "seen", "ids": some}).encode()
        report(f"tag {count:,} images", fetch(url + "api/acts", content))
        report("undo", fetch(url + "api/undo", b"{}"))
    print(f"server: {memory_mb(process, 'VmRSS'):.0f} MB in the end, {memory_mb(process, 'VmHWM'):.0f} MB at most")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="images of the collection (default: 1,000,000)")
    parser.add_argument("--keep", type=Path, help="make the collection in this folder, or take the one there")
    options = parser.parse_args()
    print(hardware())
    with tempfile.TemporaryDirectory() as temporary:
        path = (options.keep or Path(temporary)) / f"explore-{options.rows}.scape"
        began = time.perf_counter()
        if not path.exists():
            make_collection(path, options.rows)
            print(f"made {options.rows:,} images in {time.perf_counter() - began:.1f} s")
        command = [sys.executable, "-m", "imagescape", "explore", str(path), "--no-browser"]
        began = time.perf_counter()
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None
            url = server.stdout.readline().strip()
            print(f"the address is printed after {time.perf_counter() - began:.1f} s")
            measure(url, server.pid, np.random.default_rng(1))
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
