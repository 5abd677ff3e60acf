"""The verbs that show what was learned: `evaluate`, `plot`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from imagescape.cli.options import Device, Json, Scape, Seed, last_map, print_result
from imagescape.errors import InputError

# Options of `evaluate` that have no meaning for clusterings.
_OF_MAPS = {"map_name": "map", "splits": "splits", "quality": "quality", "superclass": "superclass", "picture": "plot"}


def evaluate(
    scape: Scape,
    map_name: Annotated[str | None, typer.Option("--map", help="Which map. [default: the last]")] = None,
    clusters: Annotated[
        str | None,
        typer.Option("--clusters", help="A clustering instead; several, as of other seeds, for mean and sd: C1,C2,C3."),
    ] = None,
    label: Annotated[str | None, typer.Option("--label", help="A column of classes.")] = None,
    splits: Annotated[
        int | None, typer.Option("--splits", min=1, help="Random splits to average over. [default: 3]")
    ] = None,
    quality: Annotated[
        bool, typer.Option("--quality", help="Also neighbours kept by k, views of an image, norms.")
    ] = False,
    against: Annotated[
        str | None, typer.Option("--against", help="Other maps, or clusterings, to compare with: M2,M3.")
    ] = None,
    diameter_quantile: Annotated[
        float | None,
        typer.Option(
            "--diameter-quantile", min=0, max=1, help="Of distances within a cluster, as its diameter. [default: 1]"
        ),
    ] = None,
    superclass: Annotated[str | None, typer.Option("--superclass", help="A column of coarse classes.")] = None,
    picture: Annotated[
        Path | None, typer.Option("--plot", help="Draw the quality in a .png, .svg or .pdf file.")
    ] = None,
    seed: Seed = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Score a map and its features: nearest-neighbour accuracy, silhouette, recall, linear probe. Or a clustering.

    Of a map, `--against`, `--superclass` and `--plot` measure the quality too.

    Example: `imagescape evaluate photos.scape --map M --label label --json`

    Example: `imagescape evaluate photos.scape --clusters C --label label --json`
    """

    from imagescape.collection.store import Collection
    from imagescape.pipeline.maps import evaluate_map

    options, collection = locals(), Collection.open(scape)
    common: dict[str, Any] = {"label": label, "seed": seed or 0, "device": device or "auto"}
    if clusters is not None:
        _evaluate_clusterings(collection, options, common)
        return
    if diameter_quantile is not None:
        raise InputError("--diameter-quantile is for --clusters")
    name = map_name or last_map(collection)
    if picture:
        from imagescape.report.map_plot import check_figure_path

        check_figure_path(picture)
    card, result = evaluate_map(collection, name, splits=splits or 3, **common)
    text = str(card)
    if quality or against or superclass or picture:
        from imagescape.pipeline.quality import map_quality

        measured = map_quality(collection, name, against=names_of(against), superclass=superclass, **common)
        result["quality"] = measured.as_dict()
        text += f"\n\n{measured}"
    if picture:
        from imagescape.show.maps import plot_quality

        plot_quality(measured, picture)
    print_result(result, as_json, text)


def _evaluate_clusterings(collection: Any, options: dict[str, Any], common: dict[str, Any]) -> None:
    from imagescape.pipeline.cluster_scores import evaluate_clusterings

    for option, name in _OF_MAPS.items():
        if options[option]:
            raise InputError(f"--clusters takes no --{name}, which is for maps")
    names, quantile = names_of(options["clusters"]), options["diameter_quantile"]
    if not names:
        raise InputError("--clusters needs the name of a clustering, got none")
    figures = evaluate_clusterings(
        collection,
        names,
        against=names_of(options["against"]),
        diameter_quantile=1.0 if quantile is None else quantile,
        **common,
    )
    print_result(figures.as_dict(), options["as_json"], str(figures))


def names_of(given: str | None) -> list[str]:
    """The names in `M1,M2,M3`."""
    return [one.strip() for one in (given or "").split(",") if one.strip()]


def plot(
    scape: Scape,
    output: Annotated[Path, typer.Option("--output", "-o", help="A .png, .svg or .pdf file, or .html for a page.")],
    map_name: Annotated[str | None, typer.Option("--map", help="Which map. [default: the last]")] = None,
    color: Annotated[
        str | None, typer.Option("--color", help="Column to colour by. [default: label, if there is one]")
    ] = None,
    thumbnails: Annotated[bool, typer.Option("--thumbnails/--no-thumbnails", help="Pictures on the map.")] = True,
    notes: Annotated[Path | None, typer.Option("--notes", help="YAML file of callouts: text and tip.")] = None,
    title: Annotated[str | None, typer.Option("--title", help="Above the picture.")] = None,
    training: Annotated[bool, typer.Option("--training", help="Draw the loss over the stages instead.")] = False,
    stages: Annotated[
        bool, typer.Option("--stages", help="Draw the map after each stage, side by side (of map --keep-stages).")
    ] = False,
    seed: Seed = None,
) -> None:
    """Draw a map, coloured by any column, as a picture or as one self-contained page.

    Example: `imagescape plot photos.scape --map M --color label -o map.png`
    """
    from imagescape.collection.store import Collection
    from imagescape.show.maps import plot_map, plot_stages, plot_training, write_page

    collection = Collection.open(scape)
    name = map_name or last_map(collection)
    if training:
        plot_training(collection, name, output)
    elif stages:
        plot_stages(collection, name, output, color=color, title=title, seed=seed or 0)
    elif output.suffix.lower() in (".html", ".htm"):
        write_page(collection, name, output, color=color, title=title)
    else:
        plot_map(collection, name, output, color=color, thumbnails=thumbnails, notes=notes, title=title, seed=seed or 0)
    print(output)
