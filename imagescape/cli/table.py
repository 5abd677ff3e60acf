"""The verbs of the table itself: `ingest`, `info`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from imagescape.cli.options import (
    Embed,
    Glob,
    Json,
    Layout,
    LayoutOption,
    MaxPixels,
    Salvage,
    Scape,
    ingest_options,
    print_result,
)
from imagescape.errors import InputError


def ingest(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE…",
            help="Folders, lists, CSV, Parquet, IDX, CIFAR, STL-10, MedMNIST, .npy; or a data set's name.",
            show_default=False,
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="NAME.scape", help="The collection.")],
    embed: Embed = False,
    salvage_truncated: Salvage = False,
    max_pixels: MaxPixels = None,
    glob: Glob = None,
    layout: LayoutOption = Layout.auto,
    as_json: Json = False,
) -> None:
    """Read images into a collection, or add what is new to one.

    Example: `imagescape ingest photos/ more.csv -o photos.scape`
    """

    from imagescape.collection.ingest import ingest as ingest_sources

    summary = ingest_sources(sources, output, **ingest_options(embed, salvage_truncated, max_pixels, glob, layout))
    if summary.flagged == summary.rows:
        raise InputError(f"none of the {summary.rows} images can be read; see: imagescape info {output} --flagged")
    print_result(asdict(summary), as_json, str(summary))


def info(
    scape: Scape,
    flagged: Annotated[
        bool, typer.Option("--flagged", help="List the images that could not be used, and why.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Say what is in a collection.

    Example: `imagescape info photos.scape --flagged`
    """
    from imagescape.collection.results import describe_features, map_names
    from imagescape.collection.store import Collection

    collection = Collection.open(scape)
    summary = collection.summary() | {"maps": map_names(collection), "features": describe_features(collection)}
    if flagged:
        summary["flagged_rows"] = collection.flagged_rows()
    lines = [f"{summary['rows']} images, {summary['ok']} usable, {summary['flagged']} flagged"]
    lines += [f"  {status}: {count}" for status, count in summary["by_status"].items()]
    lines += ["columns: " + ", ".join(column["name"] for column in summary["columns"])]
    lines += ["maps: " + (", ".join(summary["maps"]) or "none yet")]
    made = [f"{one['name']} ({one['dimensions']}, by {one['encoder'] or '?'})" for one in summary["features"]]
    lines += ["features: " + (", ".join(made) or "none yet")]
    lines += [f"{row['status']}\t{row['uri']!r}\t{row['reason']}" for row in summary.get("flagged_rows", ())]
    print_result(summary, as_json, "\n".join(lines))


def export(
    scape: Scape,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE.npy", help="Where the values go.")],
    features: Annotated[
        str | None, typer.Option("--features", help="Name of the features. [default: the last that were made]")
    ] = None,
) -> None:
    """Write features as `.npy`, with the images they belong to in `.csv` beside it, row by row.

    Example: `imagescape export photos.scape --features efficientnet_lite0 -o features.npy`
    """
    from imagescape.collection.store import Collection
    from imagescape.pipeline.exporting import export_features

    for path in export_features(Collection.open(scape), features, output):
        print(path)
