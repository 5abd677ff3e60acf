"""The same images by every kind of map: t-SNE, UMAP and ours of pixels, SimCLR's and pretrained features, and t-SimCNE.

    python benchmarks/comparison.py cifar10-test.parquet -o comparison.png [--minutes 10] [--work work.scape]

One table (Markdown, on stdout) and one picture, a panel a map, all in the same colours. SimCLR and t-SimCNE learn from
these images alone, for `--minutes` each; labels are only used to score. With `--work`, what is there already is kept.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from measure import hardware

from imagescape.collection.ingest import ingest
from imagescape.collection.results import classes, feature_names, map_coords, map_names
from imagescape.collection.store import Collection
from imagescape.pipeline.embedding import embed
from imagescape.pipeline.feature_maps import map_features
from imagescape.pipeline.maps import evaluate_map, map_images, train_encoder
from imagescape.report.map_plot import save_figure
from imagescape.report.side_by_side import draw_side_by_side

SPACES = {"pixels32": "pixels", "simclr": "SimCLR features", "efficientnet_lite0": "pretrained features"}
METHODS = {"tsne": "t-SNE", "umap": "UMAP", "neighbors": "neighbour map"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+")
    parser.add_argument("-o", "--output", type=Path, required=True, help="a .png, .svg or .pdf file")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--label", default="label_name")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, help="a collection to work in, and to go on in")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = options.work or Path(folder) / "work.scape"
        ingest(options.sources, path)
        compare(Collection.open(path), options)


def compare(scape: Collection, options: argparse.Namespace) -> None:
    learned = {"preset": options.preset, "minutes": options.minutes, "seed": options.seed}
    seconds: dict[str, float] = {}

    def timed(name: str, there: bool, make: Callable[[], object]) -> None:
        began = time.perf_counter()
        if not there:
            make()
            seconds[name] = time.perf_counter() - began

    for space in SPACES:
        there = space in feature_names(scape)
        if space == "simclr":
            timed(space, there, lambda: train_encoder(scape, "simclr", **learned))
        else:
            timed(space, there, lambda space=space: embed(scape, space))
    methods = options.methods.split(",")
    maps = {f"{method}-{space}": (method, space) for method in methods for space in SPACES}
    for name, (method, space) in maps.items():
        settings = {"method": method, "features_name": space, "seed": options.seed}
        timed(
            name,
            name in map_names(scape),
            lambda name=name, settings=settings: map_features(scape, name, **settings),
        )
    timed("tsimcne", "tsimcne" in map_names(scape), lambda: map_images(scape, "tsimcne", **learned))
    table(scape, maps, seconds, options)


def table(
    scape: Collection, maps: dict[str, tuple[str, str]], seconds: dict[str, float], options: argparse.Namespace
) -> None:
    labels = classes(scape, options.label)
    figures = {name: evaluate_map(scape, name, label=options.label)[1] for name in (*maps, "tsimcne")}
    print(f"{hardware()}; {len(scape):,} images, seed {options.seed}\n")
    print("| map | of | 15-NN | 5-NN | silhouette | 15 nearest kept | of the features: 15-NN | seconds |")
    print("|---|---|---|---|---|---|---|---|")
    described = {name: (METHODS[method], SPACES[space]) for name, (method, space) in maps.items()}
    described["tsimcne"] = ("t-SimCNE", "the images themselves")
    for name, (method, source) in described.items():
        one = figures[name]
        took = f"{seconds[name]:.0f}" if name in seconds else "-"
        scores = [one["knn15_accuracy"], one["knn5_accuracy"], one["silhouette"], one["knn15_recall"]]
        row = " | ".join(f"{score:.3f}" for score in [*scores, one["knn15_accuracy_features"]])
        print(f"| {method} | {source} | {row} | {took} |")
    for space in SPACES:
        if space in seconds:
            print(f"\n{SPACES[space]}: {seconds[space]:.0f} seconds", end="")
    figure = draw_side_by_side(
        [map_coords(scape, name) for name in described],
        names=[f"{m} of {s}\n15-NN {figures[name]['knn15_accuracy']:.3f}" for name, (m, s) in described.items()],
        values=list(labels),
        column=options.label,
        title=f"{len(scape):,} images, {len(described)} maps",
        panels_a_row=len(SPACES),
    )
    print(save_figure(figure, options.output, dpi=110))


if __name__ == "__main__":
    main()
