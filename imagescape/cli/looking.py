"""The verbs that show what was learned: `evaluate`, `plot`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from imagescape.cli.options import Device, Json, Scape, Seed, last_map, print_result
from imagescape.errors import InputError

MapNames = Annotated[
    str | None, typer.Option("--map", help="Which map, or several to compare: M1,M2,M3. [default: the last]")
]
# Options of `evaluate` that have no meaning for clusterings.
_OF_MAPS = {"map_name": "map", "splits": "splits", "quality": "quality", "superclass": "superclass", "picture": "plot"}


def evaluate(
    scape: Scape,
    map_name: MapNames = None,
    clusters: Annotated[
        str | None,
        typer.Option("--clusters", help="A clustering instead; several, as of other seeds, for mean and sd: C1,C2,C3."),
    ] = None,
    finetuning: Annotated[
        str | None,
        typer.Option(
            "--finetuning", metavar="NAME", help="A run of `finetune` instead; groups by --label or --clusters."
        ),
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", help="Of --finetuning: the page. [default: runs/NAME/finetuning.html]")
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

    Of one map, `--against`, `--superclass` and `--plot` measure the quality too.

    Example: `imagescape evaluate photos.scape --map M --label label --json`

    Example: `imagescape evaluate photos.scape --map tsne,umap,M --label label`

    Example: `imagescape evaluate photos.scape --clusters C --label label --json`

    Example: `imagescape evaluate photos.scape --finetuning better --html better.html`
    """

    from imagescape.collection.store import Collection
    from imagescape.pipeline.maps import evaluate_map

    options, collection = locals(), Collection.open(scape)
    common: dict[str, Any] = {"label": label, "seed": seed or 0, "device": device or "auto"}
    if finetuning is not None:
        _evaluate_finetuning(collection, options, common)
        return
    if html is not None:
        raise InputError("--html is for --finetuning")
    if clusters is not None:
        _evaluate_clusterings(collection, options, common)
        return
    if diameter_quantile is not None:
        raise InputError("--diameter-quantile is for --clusters")
    names = names_of(map_name) or [last_map(collection)]
    if len(names) > 1:
        if quality or against or superclass or picture:
            raise InputError("--quality, --against, --superclass and --plot are of one map; --map names several")
        results = [evaluate_map(collection, name, splits=splits or 3, **common)[1] for name in names]
        print_result({"maps": results}, as_json, comparison(results))
        return
    name = names[0]
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


def _evaluate_finetuning(collection: Any, options: dict[str, Any], common: dict[str, Any]) -> None:
    from imagescape.pipeline.finetuning_figures import finetuning_figures
    from imagescape.report.markup import check_page_path
    from imagescape.show.finetuning import write_finetuning

    for option, name in {**_OF_MAPS, "against": "against", "diameter_quantile": "diameter-quantile"}.items():
        if options[option]:
            raise InputError(f"--finetuning takes no --{name}")
    run = options["finetuning"]
    page = options["html"] or collection.path / "runs" / run / "finetuning.html"
    if options["html"]:
        check_page_path(page)
    figures = finetuning_figures(collection, run, clusters=options["clusters"], **common)
    write_finetuning(figures, page)
    print_result({**figures.as_dict(), "page": str(page)}, options["as_json"], f"{figures}\n{page}")


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


def comparison(results: Sequence[dict[str, Any]]) -> str:
    """A line a map of what `evaluate_map` found."""
    columns = ("knn15_accuracy", "knn5_accuracy", "silhouette", "knn15_accuracy_features", "knn15_recall")
    heads = ("15-NN map", "5-NN map", "silhouette", "15-NN features", "15-NN recall")
    width = max(len("map"), *(len(result["map"]) for result in results))
    lines = [f"{'map':<{width}}" + "".join(f"  {head:>14}" for head in heads) + f"  {'images':>8}"]
    for result in results:
        figures = ("" if result[column] is None else f"{result[column]:.4f}" for column in columns)
        lines.append(f"{result['map']:<{width}}" + "".join(f"  {one:>14}" for one in figures) + f"  {result['n']:>8,}")
    return "\n".join(lines)


def plot(
    scape: Scape,
    output: Annotated[Path, typer.Option("--output", "-o", help="A .png, .svg or .pdf file, or .html for a page.")],
    map_name: MapNames = None,
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

    Example: `imagescape plot photos.scape --map tsne,umap,M -o side-by-side.png`
    """
    from imagescape.collection.store import Collection
    from imagescape.show.maps import plot_map, plot_maps, plot_stages, plot_training, write_page

    collection = Collection.open(scape)
    names = names_of(map_name) or [last_map(collection)]
    name = names[0]
    if len(names) > 1:
        if training or stages or notes or output.suffix.lower() in (".html", ".htm"):
            raise InputError("--training, --stages, --notes and pages are of one map; --map names several")
        plot_maps(collection, names, output, color=color, title=title, seed=seed or 0)
    elif training:
        plot_training(collection, name, output)
    elif stages:
        plot_stages(collection, name, output, color=color, title=title, seed=seed or 0)
    elif output.suffix.lower() in (".html", ".htm"):
        write_page(collection, name, output, color=color, title=title)
    else:
        plot_map(collection, name, output, color=color, thumbnails=thumbnails, notes=notes, title=title, seed=seed or 0)
    print(output)
