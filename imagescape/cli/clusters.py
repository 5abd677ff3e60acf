"""The verb that finds groups: `cluster`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from imagescape.cli.options import Device, Json, Overwrite, Scape, Seed, print_result
from imagescape.errors import InputError

# Options that belong to some methods alone, by the names that the methods have for them.
_SETTINGS = (
    "k", "cuts", "linkage", "metric", "eps", "min_samples", "min_cluster_size", "heads", "neighbors", "entropy_weight",
    "selflabel", "confidence", "whole_network", "epochs", "selflabel_epochs", "device", "seed",
)  # fmt: skip


def cluster(
    scape: Scape,
    name: Annotated[str | None, typer.Option("--name", "-n", help="What to call it. [default: the method]")] = None,
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            help="multihead, scan, kmeans, ward (a hierarchy), dbscan, hdbscan, plscan or evoc. [default: multihead]",
        ),
    ] = None,
    features: Annotated[
        str | None, typer.Option("--features", help="Name of the features. [default: the last that were made]")
    ] = None,
    map_name: Annotated[
        str | None, typer.Option("--map", help="Cluster the places on this map, and no features.")
    ] = None,
    k: Annotated[
        str | None,
        typer.Option("-k", "--k", help="Clusters; auto: try 2 to 50 and take the one that is most apart and stable."),
    ] = None,
    cuts: Annotated[
        str | None, typer.Option("--cuts", help="Of ward: numbers of clusters, a column each: 400,350,300.")
    ] = None,
    linkage: Annotated[
        str | None, typer.Option("--linkage", help="Of ward: single, complete, average, centroid or ward.")
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            "--metric", help="euclidean, cosine or hamming. [default: cosine; hamming for hashes, euclidean for maps]"
        ),
    ] = None,
    eps: Annotated[
        str | None, typer.Option("--eps", help="Of dbscan: radius, or several, a column each: 0.1,0.2.")
    ] = None,
    min_samples: Annotated[
        int | None,
        typer.Option("--min-samples", help="Of dbscan, hdbscan, plscan, evoc: images that make a place dense."),
    ] = None,
    min_cluster_size: Annotated[
        int | None, typer.Option("--min-cluster-size", help="Of hdbscan, plscan, evoc: images of the smallest cluster.")
    ] = None,
    heads: Annotated[int | None, typer.Option("--heads", help="Of multihead, scan: trained side by side.")] = None,
    neighbors: Annotated[
        int | None, typer.Option("--neighbors", help="Of multihead, scan, evoc: that share an image's cluster.")
    ] = None,
    entropy_weight: Annotated[
        float | None, typer.Option("--entropy-weight", help="Of scan: how much clusters of equal size count.")
    ] = None,
    selflabel: Annotated[
        bool | None,
        typer.Option(
            "--selflabel/--no-selflabel",
            help="Of scan: then learn from its own confident labels. [default: with --whole-network]",
        ),
    ] = None,
    confidence: Annotated[
        float | None, typer.Option("--confidence", help="Of scan: how sure a label must be to be learned from.")
    ] = None,
    whole_network: Annotated[
        bool | None,
        typer.Option(
            "--whole-network",
            help="Of scan: the network that made the features learns too, from the images. For a GPU.",
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", help="With --whole-network: passes over the images. [default: 50]")
    ] = None,
    selflabel_epochs: Annotated[
        int | None,
        typer.Option("--selflabel-epochs", help="With --whole-network: of them in self-labelling. [default: 200]"),
    ] = None,
    where: Annotated[str | None, typer.Option("--where", help="Only images that meet this: \"label = 'cat'\".")] = None,
    nearest: Annotated[
        bool, typer.Option("--nearest", help="Also a column in which noise belongs to the nearest cluster.")
    ] = False,
    new: Annotated[bool, typer.Option("--new", help="Only give images added since to the clusters there are.")] = False,
    picture: Annotated[
        Path | None,
        typer.Option(
            "--plot", help="Draw the dendrogram of ward, or with --k auto what speaks for each k: a .png, .svg or .pdf."
        ),
    ] = None,
    seed: Seed = None,
    device: Device = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Find groups of images that are alike: a column of clusters, and how surely each image belongs to its own.

    Options of another method are refused. k unknown: `--k auto`, or hdbscan on a map.

    Example: `imagescape cluster photos.scape --method kmeans --features efficientnet_lite0 --k 10 --name C`

    Example: `imagescape cluster photos.scape --method ward --k 20 --cuts 400,100,20 --plot tree.png --name W`

    Example: `imagescape cluster photos.scape --method hdbscan --map M --name H`

    Example: `imagescape cluster photos.scape --method scan --whole-network --features simclr --k 10 --name S`
    """
    from imagescape.collection.store import Collection

    options, collection = locals(), Collection.open(scape)
    said: dict[str, Any] = {one: options[one] for one in _SETTINGS if options[one] is not None}
    if new:
        own: dict[str, Any] = {"method": method, "features": features, "map": map_name, "where": where, "plot": picture}
        own |= {"nearest": nearest or None, "overwrite": overwrite or None}
        given = [one for one, value in (said | own).items() if value is not None and one not in ("device", "seed")]
        if given:
            raise InputError(f"--new uses the clusters that are there; it takes no --{given[0].replace('_', '-')}")
        _cluster_new(collection, name, device, as_json)
        return
    _cluster(
        collection,
        name,
        method or "multihead",
        _read(said),
        picture,
        as_json,
        features_name=features,
        map_name=map_name,
        where=where,
        nearest=nearest,
        overwrite=overwrite,
    )


def _cluster(
    collection: Any,
    name: str | None,
    method: str,
    settings: dict[str, Any],
    picture: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    from imagescape.pipeline.clustering import check_settings
    from imagescape.pipeline.clustering import cluster as find_clusters

    check_settings(method, settings)
    if picture is not None:
        from imagescape.report.map_plot import check_figure_path

        if method != "ward" and settings.get("k") != "auto":
            raise InputError("--plot draws the dendrogram of --method ward, or with --k auto what speaks for each k")
        check_figure_path(picture)
    done = find_clusters(collection, name or method, method=method, **options, **settings)
    if picture is not None:
        from imagescape.show.clusters import plot_choice, plot_dendrogram

        if done.choice is not None:
            plot_choice(done.choice, picture, title=f"{collection.path.stem}: how many clusters?")
        else:
            plot_dendrogram(collection, done.name, picture)
    print_result(done.as_dict(), as_json, str(done))


def _cluster_new(collection: Any, name: str | None, device: str | None, as_json: bool) -> None:
    from imagescape.collection.clusterings import made_clusterings
    from imagescape.pipeline.clustering import cluster_new

    names = made_clusterings(collection)
    if name is None and not names:
        raise InputError(
            f"'{collection.path}' has no clusters yet; find some: imagescape cluster {collection.path.name}"
        )
    name = name or names[-1]
    count = cluster_new(collection, name, device=device or "auto")
    print_result({"name": name, "assigned": count}, as_json, f"{count} images given to the clusters of '{name}'")


def _read(said: dict[str, Any]) -> dict[str, Any]:
    """Options as the methods take them: numbers and lists of numbers."""
    settings = dict(said)
    if said.get("k") not in (None, "auto"):
        settings["k"] = _numbers(said["k"], "--k", int, "a whole number, or auto")
        if len(settings["k"]) != 1:
            raise InputError(f"--k takes one number of clusters, got '{said['k']}'; several: --method ward --cuts")
        settings["k"] = settings["k"][0]
    if "cuts" in said:
        settings["cuts"] = _numbers(said["cuts"], "--cuts", int, "whole numbers with commas between")
    if "eps" in said:
        settings["eps"] = _numbers(said["eps"], "--eps", float, "numbers with commas between")
    return settings


def _numbers(text: str, option: str, kind: Any, form: str) -> list[Any]:
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError as error:
        raise InputError(f"{option} takes {form}, got '{text}'") from error
