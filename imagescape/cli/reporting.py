"""The verb that writes all that is known of a clustering: `report`."""

from pathlib import Path
from typing import Annotated

import typer

from imagescape.cli.options import Device, Json, Scape, Seed, print_result


def report(
    scape: Scape,
    clusters: Annotated[str, typer.Option("--clusters", help="Which clustering, or cut of one.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The page: FILE.html.")],
    label: Annotated[
        str | None, typer.Option("--label", help="A column of classes to hold the clusters against.")
    ] = None,
    map_name: Annotated[str | None, typer.Option("--map", help="The map to show them on. [default: the last]")] = None,
    files: Annotated[
        Path | None,
        typer.Option(
            "--files", metavar="DIR", help="Also every figure as PNG and SVG, every table as CSV and Parquet."
        ),
    ] = None,
    pictures: Annotated[
        int | None,
        typer.Option("--pictures", min=1, help="Random images of each cluster. [default: 10, of very many clusters 4]"),
    ] = None,
    diameter_quantile: Annotated[
        float, typer.Option("--diameter-quantile", min=0, max=1, help="Of distances within a cluster, as its diameter.")
    ] = 1.0,
    title: Annotated[str | None, typer.Option("--title", help="Above the page.")] = None,
    seed: Seed = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Write all that is known of a clustering as one self-contained page: sizes, widths, pictures, map, classes, cuts.

    Example: `imagescape report photos.scape --clusters C -o report.html`

    Example: `imagescape report photos.scape --clusters C --label label --files report/ -o report.html`
    """
    from imagescape.collection.store import Collection
    from imagescape.errors import InputError
    from imagescape.show.cluster_report import write_cluster_report

    if output.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"a report is an HTML page, FILE.html, got '{output}'; figures and tables: --files DIR")
    written = write_cluster_report(
        Collection.open(scape),
        clusters,
        output,
        label=label,
        map_name=map_name,
        files=files,
        pictures=pictures,
        diameter_quantile=diameter_quantile,
        title=title,
        seed=seed or 0,
        device=device or "auto",
    )
    every = [str(one) for one in (written.page, *written.files)]
    print_result({"page": every[0], "files": every[1:]}, as_json, "\n".join(every))
