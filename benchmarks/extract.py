"""Images a second of `embed` against decoding alone and the network alone, in one run.

The aim is 85 % of the slower of the two. Where they share the processor, what can be had at all is less: the rate at
which one after the other would go, given beside it.

    python benchmarks/extract.py [--encoder efficientnet_lite0] [--images 512] [--device auto]
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from measure import hardware, pictures
from PIL import Image

from imagescape.collection.decoding import decoded, wanted_rows
from imagescape.collection.ingest import ingest
from imagescape.collection.store import Collection
from imagescape.features.extract import open_image_encoder
from imagescape.pipeline.embedding import embed


def rates(count: int, times: list[float]) -> str:
    sorted_rates = sorted(count / one for one in times)
    return f"{statistics.median(sorted_rates):7.0f}/s  ({sorted_rates[0]:.0f} … {sorted_rates[-1]:.0f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="efficientnet_lite0")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    encoder = open_image_encoder(options.encoder, device=options.device)
    times: dict[str, list[float]] = {"decoding alone": [], "network alone": [], "embed": []}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "images").mkdir()
        for number, pixels in enumerate(pictures(options.images, 48)):
            side = (options.width, options.height)
            image = Image.fromarray(pixels).resize(side, Image.Resampling.BICUBIC)
            image.save(folder / "images" / f"{number:06}.jpg", quality=90)
        ingest(folder / "images", folder / "c.scape")
        scape = Collection.open(folder / "c.scape")
        for _ in range(options.repeats):
            began = time.perf_counter()
            rows = decoded(scape, wanted_rows(scape), encoder.prepare, at_least_px=encoder.at_least_px)
            prepared = np.stack([array for _, array in rows])
            times["decoding alone"].append(time.perf_counter() - began)
            encoder.encode(prepared[: encoder.batch_size]).cpu()
            began = time.perf_counter()
            done = [
                encoder.encode(prepared[start : start + encoder.batch_size])
                for start in range(0, len(prepared), encoder.batch_size)
            ]
            done[-1].cpu()
            times["network alone"].append(time.perf_counter() - began)
            began = time.perf_counter()
            embed(scape, encoder, overwrite=True)
            times["embed"].append(time.perf_counter() - began)
    print(hardware())
    print(f"{options.encoder}, {options.images} JPEGs of {options.width}x{options.height}; median (least … most)")
    median = {name: statistics.median(one) for name, one in times.items()}
    for name, one in times.items():
        print(f"  {name:16}{rates(options.images, one)}")
    slower = max(median["decoding alone"], median["network alone"])
    both = median["decoding alone"] + median["network alone"]
    share, serial = slower / median["embed"], both / median["embed"]
    print(f"  embed is at {share:.0%} of the slower, {serial:.0%} of one after the other")


if __name__ == "__main__":
    main()
