"""The verbs that show what was learned: `evaluate`, `plot`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from imagescape.cli.options import Device, Json, Scape, Seed, last_map, print_result


def evaluate(
    scape: Scape,
    map_name: Annotated[str | None, typer.Option("--map", help="Which map. [default: the last]")] = None,
    label: Annotated[str | None, typer.Option("--label", help="A column of classes.")] = None,
    splits: Annotated[int, typer.Option("--splits", min=1, help="Random splits to average over.")] = 3,
    quality: Annotated[
        bool, typer.Option("--quality", help="Also neighbours kept by k, views of an image, norms.")
    ] = False,
    against: Annotated[
        str | None, typer.Option("--against", help="Other maps to compare with, as of other seeds: M2,M3.")
    ] = None,
    superclass: Annotated[str | None, typer.Option("--superclass", help="A column of coarse classes.")] = None,
    picture: Annotated[
        Path | None, typer.Option("--plot", help="Draw the quality in a .png, .svg or .pdf file.")
    ] = None,
    seed: Seed = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Score a map and its features: nearest-neighbour accuracy, silhouette, recall, linear probe.

    `--against`, `--superclass` and `--plot` measure the quality too.

    Example: `imagescape evaluate photos.scape --map M --label label --json`
    """

    from imagescape.collection.store import Collection
    from imagescape.pipeline.maps import evaluate_map

    collection = Collection.open(scape)
    name = map_name or last_map(collection)
    common: dict[str, Any] = {"label": label, "seed": seed or 0, "device": device or "auto"}
    if picture:
        from imagescape.report.map_plot import check_figure_path

        check_figure_path(picture)
    card, result = evaluate_map(collection, name, splits=splits, **common)
    text = str(card)
    if quality or against or superclass or picture:
        from imagescape.pipeline.quality import map_quality

        others = [one.strip() for one in (against or "").split(",") if one.strip()]
        measured = map_quality(collection, name, against=others, superclass=superclass, **common)
        result["quality"] = measured.as_dict()
        text += f"\n\n{measured}"
    if picture:
        from imagescape.show.maps import plot_quality

        plot_quality(measured, picture)
    print_result(result, as_json, text)


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
