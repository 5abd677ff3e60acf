"""Options that several verbs take, and what is made of them."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from imagescape.errors import InputError


class Preset(StrEnum):
    paper = "paper"
    fast = "fast"
    tiny = "tiny"


class Fit(StrEnum):
    crop = "crop"
    pad = "pad"
    squash = "squash"


class Network(StrEnum):
    table = "table"
    mlp = "mlp"


class Layout(StrEnum):
    auto = "auto"
    flat = "flat"
    classes = "classes"


Scape = Annotated[Path, typer.Argument(metavar="NAME.scape", help="The collection.", show_default=False)]
Name = Annotated[str, typer.Option("--name", "-n", help="What to call the result.")]
Seed = Annotated[int | None, typer.Option("--seed", help="Settles every random choice. [default: 0]")]
Device = Annotated[str | None, typer.Option("--device", help="auto, cuda, mps or cpu. [default: auto]")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what has that name.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object, for scripts.")]
Config = Annotated[
    Path | None, typer.Option("--config", help="YAML file of settings; options on the command line go before it.")
]
PresetOption = Annotated[
    Preset | None, typer.Option("--preset", help="Defaults for everything. [default: tiny without a GPU]")
]
Backbone = Annotated[
    str | None,
    typer.Option(
        "--backbone",
        help="resnet10, 18, 34 or 50, efficientnet_lite0, timm:<name>, or the folder of a saved model to start from.",
    ),
]
Stem = Annotated[str | None, typer.Option("--stem", help="Of a ResNet: auto, small, strided or imagenet.")]
Width = Annotated[int | None, typer.Option("--width", help="Channels of a ResNet's first stage. [default: 64]")]
Size = Annotated[
    int | None, typer.Option("--size", help="Side of the network's input, px. [default: the images', <= 64]")
]
FitOption = Annotated[Fit | None, typer.Option("--fit", help="How images are made square. [default: crop]")]
AugmentOption = Annotated[
    str | None, typer.Option("--augment", help="contrastive, medical or photographs. [default: contrastive]")
]
NeighborFraction = Annotated[
    float | None,
    typer.Option(
        "--neighbor-fraction", help="Of the pairs that are of an image and a neighbour of it, 0 to 1. [default: 0]"
    ),
]
Features = Annotated[
    str | None, typer.Option("--features", help="Whose neighbours are drawn together. [default: the last features]")
]
Neighbors = Annotated[int | None, typer.Option("--neighbors", help="How many of each image. [default: 10]")]
BatchSize = Annotated[int | None, typer.Option("--batch-size", help="Images a step. [default: by the collection]")]
ClipGradient = Annotated[float | None, typer.Option("--clip-gradient", help="Largest entry of a gradient, such as 4.")]
Minutes = Annotated[float | None, typer.Option("--minutes", help="Time for the training: as many epochs as fit.")]
CheckpointMinutes = Annotated[float, typer.Option("--checkpoint-minutes", help="How often the state is saved.")]
Glob = Annotated[str | None, typer.Option("--glob", help="Of a folder, only these files: '**/*.tif'.")]
Embed = Annotated[bool, typer.Option("--embed", help="Store the images themselves, not only where they are.")]
Salvage = Annotated[bool, typer.Option("--salvage-truncated", help="Use what is there of a truncated image.")]
MaxPixels = Annotated[int | None, typer.Option("--max-pixels", help="Larger images are flagged, not decoded.")]
LayoutOption = Annotated[
    Layout, typer.Option("--layout", help="Whether folder names are labels (classes) or not (flat).")
]


_CLI_NAMES = {"size": "size_px"}
_RECIPE_OPTIONS = (
    "backbone", "stem", "width", "size", "fit", "augment", "neighbor_fraction", "batch_size", "clip_gradient",
    "minutes", "seed", "device",
)  # fmt: skip

FEATURE_METHODS = ("neighbors", "tsne", "umap", "pacmap")


def feature_map_settings(config: Path | None, options: dict[str, Any]) -> dict[str, Any]:
    """Settings of a map of features: those of the YAML file, then those said on the command line.

    Raises:
        InputError: an option that is for learning from images, or for another method.
    """
    own = ("neighbors", "network", "device") if options["method"] == "neighbors" else ()
    learning = {*_RECIPE_OPTIONS, "epochs", "preset", "keep_stages", "snapshot_epochs"}
    wrong = {*learning, "neighbors", "network"} - {*own, "seed"}
    if said := sorted(name for name in wrong if options.get(name) is not None):
        raise InputError(f"--method {options['method']} takes no --{said[0].replace('_', '-')}")
    settings = _yaml(config) if config else {}
    for name in (*own, "out_dim", "seed"):
        if (value := options.get(name)) is not None:
            settings[name] = str(value) if isinstance(value, StrEnum) else value
    return settings


def recipe_settings(config: Path | None, options: dict[str, Any], own: tuple[str, ...]) -> dict[str, Any]:
    """Settings of a recipe: those of the YAML file, then those said on the command line."""
    settings = read_config(config) if config else {}
    for name in (*own, *_RECIPE_OPTIONS):
        value = options.get(name)
        if value is not None:
            settings[_CLI_NAMES.get(name, name)] = str(value) if isinstance(value, StrEnum) else value
    if isinstance(settings.get("epochs"), str):
        try:
            settings["epochs"] = tuple(int(part) for part in settings["epochs"].split(","))
        except ValueError as error:
            raise InputError(f"--epochs takes whole numbers with commas between, got '{settings['epochs']}'") from error
    return settings


def _yaml(path: Path) -> dict[str, Any]:
    import yaml

    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise InputError(f"cannot read --config {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"--config {path} is not YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(settings, dict):
        raise InputError(f"--config {path} must be a list of `name: value` lines")
    return settings


def read_config(path: Path) -> dict[str, Any]:
    from imagescape.learn.recipe import Stage, known_settings

    settings = _yaml(path)
    known = known_settings()
    for name in settings:
        if name not in known:
            raise InputError(f"--config {path} has an unknown setting '{name}'; there are {', '.join(known)}")
    if "stages" in settings:
        try:
            settings["stages"] = tuple(Stage(**stage) for stage in settings["stages"])
        except TypeError as error:
            raise InputError(f"--config {path}: a stage cannot be read: {error}") from error
    return settings


def default_preset(settings: dict[str, Any], with_gpu: str) -> str:
    """What suits the device: without a GPU, the small network."""
    from imagescape.runtime import resolve_device

    return "tiny" if resolve_device(str(settings.get("device", "auto"))).type == "cpu" else with_gpu


def ingest_options(
    embed: bool, salvage_truncated: bool, max_pixels: int | None, glob: str | None, layout: Layout
) -> dict[str, Any]:
    options: dict[str, Any] = {
        "embed": embed,
        "salvage_truncated": salvage_truncated,
        "glob": glob,
        "layout": layout.value,
    }
    return options | ({} if max_pixels is None else {"max_pixels": max_pixels})


def last_map(collection: Any) -> str:
    from imagescape.collection.results import map_names

    names = map_names(collection)
    if not names:
        raise InputError(f"'{collection.path}' has no map yet; make one: imagescape map {collection.path.name}")
    return names[-1]


def print_result(result: Any, as_json: bool, text: str) -> None:
    print(json.dumps(result) if as_json else text)
