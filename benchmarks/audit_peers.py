"""Quality of images by us and by cleanvision, near-duplicates by us and by imagededup: time and agreement, in one run.

    python benchmarks/audit_peers.py tiny-imagenet-val.parquet bsds500-train.parquet --package-path FOLDER

The packages (cleanvision is AGPL) are never installed beside imagescape nor imported here; FOLDER is where
`pip install --no-deps --target FOLDER cleanvision imagededup pandas imagehash PyWavelets tabulate tqdm fsspec
torchvision` has put them. The images of the parquet files are written as files into a temporary folder, as many of
each source as its share of --images; a tenth of them is made dark, bright, blurry, grey, narrow, large, or of one
colour but for a spot, so that there is something to agree on. Every run is in a process of its own and reads the
files; seconds are from the list of files to issues or pairs, without loading libraries, both sides on all cores. Of a
machine that is busy with other work, the time of processors is the better measure.

1. The seven issues that both know: images that both find, only we, only they.
2. Pairs of images with pHashes of 64 bits at most 10 bits apart, each by its own hashes and its own search.
"""

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from measure import hardware
from PIL import Image, ImageFilter

SHARED = {"dark": "dark", "bright": "light", "blurry": "blurry", "low_information": "low_information",
          "odd_size": "odd_size", "odd_aspect_ratio": "odd_aspect_ratio", "grayscale": "grayscale"}  # fmt: skip
RADIUS = 10

CLEANVISION = """
import json, os, sys, time
import cleanvision
from cleanvision import Imagelab
folder, names, out = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
began, processor = time.perf_counter(), sum(os.times()[:4])
lab = Imagelab(data_path=folder)
lab.find_issues({name: {} for name in names}, verbose=False)
seconds, processor = time.perf_counter() - began, sum(os.times()[:4]) - processor
found = lab.issues.sort_index()
issues = {name: [path.rsplit("/", 1)[-1] for path in found.index[found[f"is_{name}_issue"]]] for name in names}
json.dump(issues, open(out, "w"))
print("RESULT", seconds, processor, flush=True)
"""

# Its package imports torchvision, whose operators are declared first where it is beside another build of torch.
IMAGEDEDUP = """
import json, os, re, sys, time
import torch
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
from imagededup.methods import PHash
if __name__ == "__main__":
    folder, radius, out = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    began, processor = time.perf_counter(), sum(os.times()[:4])
    hasher = PHash(verbose=False)
    hashes = hasher.encode_images(image_dir=folder)
    found = hasher.find_duplicates(encoding_map=hashes, max_distance_threshold=radius)
    seconds, processor = time.perf_counter() - began, sum(os.times()[:4]) - processor
    pairs = sorted({tuple(sorted((one, other))) for one, others in found.items() for other in others})
    json.dump(pairs, open(out, "w"))
    print("RESULT", seconds, processor, flush=True)
"""


def our_quality(folder: str, out: str) -> None:
    from imagescape.audit.measuring import NOT_MEASURED, Measurements, measure
    from imagescape.audit.quality import judge
    from imagescape.images.decode import Decoded, decode, read_file
    from imagescape.runtime import worker_count

    measure(np.zeros((8, 8, 3), np.uint8))  # loads the compiled loop, as a library is loaded
    began, processor = time.perf_counter(), sum(os.times()[:4])
    paths = sorted(Path(folder).iterdir())

    def one(path):
        read = read_file(path)
        image = None if isinstance(read, Decoded) else decode(read).image
        return NOT_MEASURED if image is None else measure(image)

    with ThreadPoolExecutor(worker_count()) as threads:
        quality = judge(Measurements.of(threads.map(one, paths)))
    seconds, processor = time.perf_counter() - began, sum(os.times()[:4]) - processor
    issues = {issue: [paths[row].name for row in quality.rows(issue)] for issue in quality.scores}
    Path(out).write_text(json.dumps(issues))
    print("RESULT", seconds, processor, flush=True)


def our_pairs(folder: str, out: str) -> None:
    from imagescape.evaluate.neighbors import Corpus
    from imagescape.features.hashing import hash_input, hash_pixels
    from imagescape.images.decode import Decoded, decode, read_file
    from imagescape.runtime import worker_count

    began, processor = time.perf_counter(), sum(os.times()[:4])
    paths = sorted(Path(folder).iterdir())

    def one(path):
        read = read_file(path)
        image = None if isinstance(read, Decoded) else decode(read).image
        if image is None:
            raise SystemExit(f"{path} cannot be read")
        return hash_input(image, "phash")

    with ThreadPoolExecutor(worker_count()) as threads:
        hashes = hash_pixels(np.stack(list(threads.map(one, paths))), "phash")
    # All pairs by comparing all: of so few images that is quick. Of very many, `imagescape.audit.hash_pairs`.
    first, second, _ = Corpus(hashes, "hamming", device="cpu").within(hashes, RADIUS)
    pairs = [(paths[a].name, paths[b].name) for a, b in zip(first, second, strict=True) if a < b]
    seconds, processor = time.perf_counter() - began, sum(os.times()[:4]) - processor
    Path(out).write_text(json.dumps(pairs))
    print("RESULT", seconds, processor, flush=True)


def spoiled(image: Image.Image, way: int) -> Image.Image:
    """The image, made bad in one of seven ways."""
    width, height = image.size
    if way == 0:
        return image.point(lambda value: value // 6)
    if way == 1:
        return image.point(lambda value: 244 + value // 24)
    if way == 2:
        return image.filter(ImageFilter.GaussianBlur(max(width, height) / 12))
    if way == 3:
        return image.convert("L")
    if way == 4:
        return image.resize((width, max(height // 4, 1)))
    if way == 5:
        return image.resize((width * 8, height * 8)) if width < 100 else image.resize((width // 8, height // 8))
    spot = Image.new("RGB", image.size, (20, 90, 160))
    spot.paste(image.resize((max(width // 8, 1), max(height // 8, 1))), (width // 4, height // 4))
    return spot


def write_images(sources: list[str], count: int, folder: Path, spoil: bool) -> int:
    """Files of all sources, JPEGs as they are; where asked, a tenth of them made bad and stored as PNG."""
    tables = [pq.read_table(source, columns=["image"])["image"] for source in sources]
    sizes = np.array([len(table) for table in tables])
    # The small sources whole, of the large ones what is left.
    left, written = count, 0
    for rank, number in enumerate(np.argsort(sizes)):
        wanted = min(int(sizes[number]), left // (len(tables) - rank))
        left -= wanted
        for row in range(wanted):
            data = tables[number][row]["bytes"].as_py()
            if spoil and written % 10 == 9:
                image = Image.open(io.BytesIO(data)).convert("RGB")
                spoiled(image, written // 10 % 7).save(folder / f"{written:06}.png")
            else:
                (folder / f"{written:06}.jpg").write_bytes(data)
            written += 1
    return written


def run(command: list[str], path: list[str], cwd: Path) -> list[float] | None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*path, os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=cwd)
    found = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if not found:
        print(f"  failed: {(done.stderr.strip().splitlines() or ['(no message)'])[-1]}", flush=True)
        return None
    return [float(part) for part in found[0].split()[1:]]


def told(name: str, runs: list[list[float]], images: int) -> tuple[float, float]:
    """Print and return the medians of seconds, and of seconds of a processor."""
    seconds, processor = (statistics.median(column) for column in zip(*runs, strict=True))
    spread = f"({min(runs)[0]:.2f} … {max(runs)[0]:.2f})"
    print(f"  {name:12} {seconds:7.2f} s {spread}, {processor:7.2f} s of a processor, {images / seconds:6.0f} images/s")
    return seconds, processor


def compare(title: str, sides: dict[str, list[str]], images: int, options: argparse.Namespace, folder: Path) -> list:
    """Run both sides in turn; print times and their ratio; return what each has found."""
    print(title)
    times: dict[str, list[list[float]]] = {name: [] for name in sides}
    for _ in range(options.repeats):
        for name, command in sides.items():
            ours = name == "ours"
            out = str(folder / f"{name}.json")
            seconds = run([*command, out], [] if ours else options.package_path, folder)
            if seconds is not None:
                times[name].append(seconds)
    if not all(times.values()):
        return []
    theirs, ours = (told(name, runs, images) for name, runs in times.items())
    print(
        f"  ours is {theirs[0] / ours[0]:.1f} times as fast, by time of processors {theirs[1] / ours[1]:.1f}",
        flush=True,
    )
    return [json.loads((folder / f"{name}.json").read_text()) for name in sides]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="*")
    parser.add_argument("--package-python", default=sys.executable)
    parser.add_argument("--package-path", action="append", default=[])
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--as-they-are", action="store_true", help="make no image bad")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", choices=("quality", "pairs"))
    parser.add_argument("--our", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.our:
        {"quality": our_quality, "pairs": our_pairs}[options.our[0]](*options.our[1:])
        return
    here, us = options.package_python, [sys.executable, str(Path(__file__).resolve()), "--our"]
    with tempfile.TemporaryDirectory() as name:
        images = Path(name) / "images"
        images.mkdir()
        count = write_images(options.sources, options.images, images, not options.as_they_are)
        sizes = sorted(Image.open(path).size for path in images.iterdir())
        print(hardware())
        print(f"{count} files, {sizes[0]} to {sizes[-1]} px, median {sizes[len(sizes) // 2]}")
        if options.only != "pairs":
            theirs = [here, "-c", CLEANVISION, str(images), json.dumps(list(SHARED.values()))]
            sides = {"cleanvision": theirs, "ours": [*us, "quality", str(images)]}
            found = compare("quality, seven issues (ours: nine)", sides, count, options, Path(name))
            for issue, other in SHARED.items() if found else ():
                them, we = set(found[0][other]), set(found[1][issue])
                both, us_only, they_only = len(them & we), len(we - them), len(them - we)
                print(f"  {issue:17} both {both:5}  only ours {us_only:4}  only theirs {they_only:4}")
        if options.only != "quality":
            script = Path(name) / "imagededup_run.py"  # a file, as it starts processes that import it
            script.write_text(IMAGEDEDUP)
            sides = {"imagededup": [here, str(script), str(images), str(RADIUS)], "ours": [*us, "pairs", str(images)]}
            found = compare(f"pairs of pHashes at most {RADIUS} of 64 bits apart", sides, count, options, Path(name))
            if found:
                them, we = (set(map(tuple, pairs)) for pairs in found)
                print(f"  pairs: both {len(them & we)}, only ours {len(we - them)}, only theirs {len(them - we)}")


if __name__ == "__main__":
    main()
