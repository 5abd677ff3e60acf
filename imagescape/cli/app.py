"""The command line: parse, call the pipeline, print. Results to stdout, progress and errors to stderr.

Nothing heavy is imported before a verb runs, so that `--help` answers at once.
"""

import errno
import io
import json
import os
import sys
import warnings
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from imagescape import __version__
from imagescape.errors import ImagescapeError, InputError, Interrupted
from imagescape.runtime import is_main_process

app = typer.Typer(
    name="imagescape",
    help="Point it at images nobody labelled: it learns an encoder, lays them out on a map, and lets you look.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


_UsageError: Any = typer.BadParameter.__base__  # typer has its own copy of click, and names only some of it


class Preset(StrEnum):
    paper = "paper"
    fast = "fast"
    tiny = "tiny"


class Fit(StrEnum):
    crop = "crop"
    pad = "pad"
    squash = "squash"


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
BatchSize = Annotated[int | None, typer.Option("--batch-size", help="Images a step. [default: by the collection]")]
ClipGradient = Annotated[float | None, typer.Option("--clip-gradient", help="Largest entry of a gradient, such as 4.")]
Minutes = Annotated[
    float | None, typer.Option("--minutes", help="Time for the training: measures a step and fits the epochs to it.")
]
CheckpointMinutes = Annotated[float, typer.Option("--checkpoint-minutes", help="How often the state is saved.")]
Glob = Annotated[str | None, typer.Option("--glob", help="Of a folder, only these files: '**/*.tif'.")]
Embed = Annotated[bool, typer.Option("--embed", help="Store the images themselves, not only where they are.")]
Salvage = Annotated[bool, typer.Option("--salvage-truncated", help="Use what is there of a truncated image.")]
MaxPixels = Annotated[int | None, typer.Option("--max-pixels", help="Larger images are flagged, not decoded.")]
LayoutOption = Annotated[
    Layout, typer.Option("--layout", help="Whether folder names are labels (classes) or not (flat).")
]


def _print_version(asked: bool) -> None:
    if asked:
        print(__version__)
        raise typer.Exit


@app.callback()
def main_options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    if debug:
        os.environ["IMAGESCAPE_DEBUG"] = "1"


@app.command()
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
    from imagescape import pipeline

    summary = pipeline.ingest(sources, output, **_ingest_options(embed, salvage_truncated, max_pixels, glob, layout))
    if summary.flagged == summary.rows:
        raise InputError(f"none of the {summary.rows} images can be read; see: imagescape info {output} --flagged")
    _print(_as_dict(summary), as_json, str(summary))


@app.command()
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
    from imagescape.collection.results import map_names
    from imagescape.collection.store import Collection

    collection = Collection.open(scape)
    summary = collection.summary() | {"maps": map_names(collection)}
    if flagged:
        summary["flagged_rows"] = collection.flagged_rows()
    lines = [f"{summary['rows']} images, {summary['ok']} usable, {summary['flagged']} flagged"]
    lines += [f"  {status}: {count}" for status, count in summary["by_status"].items()]
    lines += ["columns: " + ", ".join(column["name"] for column in summary["columns"])]
    lines += ["maps: " + (", ".join(summary["maps"]) or "none yet")]
    lines += [f"{row['status']}\t{row['uri']!r}\t{row['reason']}" for row in summary.get("flagged_rows", ())]
    _print(summary, as_json, "\n".join(lines))


@app.command()
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
    """
    from imagescape import pipeline
    from imagescape.collection.store import Collection

    settings = _settings(config, locals(), ("epochs", "temperature", "preset"))
    settings.setdefault("preset", _preset(settings, "paper"))
    pipeline.train_encoder(
        Collection.open(scape),
        name,
        method=method,
        overwrite=overwrite,
        checkpoint_minutes=checkpoint_minutes,
        **settings,
    )
    print(f"model and column features_{name} written")


@app.command()
def embed(
    scape: Scape,
    encoder: Annotated[
        str, typer.Option("--encoder", help="A model of the collection, a saved model's folder, or efficientnet_lite0.")
    ] = "efficientnet_lite0",
    name: Annotated[str | None, typer.Option("--name", "-n", help="Of the column. [default: the encoder's]")] = None,
    device: Device = None,
    overwrite: Overwrite = False,
) -> None:
    """Write an encoder's features of every image as a column.

    Example: `imagescape embed photos.scape --encoder efficientnet_lite0`
    """
    from imagescape import pipeline
    from imagescape.collection.store import Collection

    count = pipeline.embed(Collection.open(scape), encoder, name, overwrite=overwrite, device=device or "auto")
    print(f"features of {count} images written")


@app.command(name="map")
def map_command(
    scape: Scape,
    name: Name = "tsimcne",
    method: Annotated[str, typer.Option("--method", help="tsimcne.")] = "tsimcne",
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
    batch_size: BatchSize = None,
    clip_gradient: ClipGradient = None,
    minutes: Minutes = None,
    seed: Seed = None,
    device: Device = None,
    checkpoint_minutes: CheckpointMinutes = 5,
    overwrite: Overwrite = False,
) -> None:
    """Learn a map of the images (t-SimCNE): a model, coordinates, and features.

    Stopped or killed, the same command goes on where it was.

    Example: `imagescape map photos.scape --minutes 20 --name M`
    """
    from imagescape import pipeline
    from imagescape.collection.store import Collection

    collection = Collection.open(scape)
    settings = _settings(config, locals(), ("epochs", "preset", "out_dim"))
    if new:
        if said := sorted(settings.keys() - {"device", "seed"}):
            raise InputError(f"--new uses the map's own network; it takes no {', '.join(said)}")
        placed = pipeline.map_new_images(collection, name, device=device or "auto")
        print(f"{placed} images placed on the map '{name}'")
        return
    settings.setdefault("preset", _preset(settings, "fast"))
    model = pipeline.map_images(
        collection, name, method=method, overwrite=overwrite, checkpoint_minutes=checkpoint_minutes, **settings
    )
    epochs_run = ",".join(str(stage.epochs) for stage in model.recipe_.stages)
    print(f"map '{name}' of {len(model.coords_)} images written ({epochs_run} epochs)")


@app.command()
def evaluate(
    scape: Scape,
    map_name: Annotated[str | None, typer.Option("--map", help="Which map. [default: the last]")] = None,
    label: Annotated[str | None, typer.Option("--label", help="A column of classes.")] = None,
    splits: Annotated[int, typer.Option("--splits", min=1, help="Random splits to average over.")] = 3,
    seed: Seed = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Score a map and its features: nearest-neighbour accuracy, silhouette, recall, linear probe.

    Example: `imagescape evaluate photos.scape --map M --label label --json`
    """
    from imagescape import pipeline
    from imagescape.collection.store import Collection

    collection = Collection.open(scape)
    card, result = pipeline.evaluate_map(
        collection,
        map_name or _last_map(collection),
        label=label,
        splits=splits,
        seed=seed or 0,
        device=device or "auto",
    )
    _print(result, as_json, str(card))


@app.command()
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
    seed: Seed = None,
) -> None:
    """Draw a map, coloured by any column, as a picture or as one self-contained page.

    Example: `imagescape plot photos.scape --map M --color label -o map.png`
    """
    from imagescape import show
    from imagescape.collection.store import Collection

    collection = Collection.open(scape)
    name = map_name or _last_map(collection)
    if training:
        show.plot_training(collection, name, output)
    elif output.suffix.lower() in (".html", ".htm"):
        show.write_page(collection, name, output, color=color, title=title)
    else:
        show.plot_map(
            collection, name, output, color=color, thumbnails=thumbnails, notes=notes, title=title, seed=seed or 0
        )
    print(output)


@app.command()
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
    from imagescape import pipeline, show
    from imagescape.collection.results import can_be_drawn, is_class_column, map_names
    from imagescape.collection.store import Collection

    output = output or Path(Path(source).absolute().name.partition(".")[0] + ".scape")
    summary = pipeline.ingest([source], output, **_ingest_options(embed, salvage_truncated, max_pixels, glob, layout))
    print(summary)
    collection = Collection.open(output)
    settings = _settings(config, {"preset": preset, "minutes": minutes, "seed": seed, "device": device}, ("preset",))
    settings.setdefault("preset", _preset(settings, "fast"))
    if "tsimcne" in map_names(collection):
        placed = pipeline.map_new_images(collection, "tsimcne", device=device or "auto")
        print(
            f"the map is there already; {placed} new images placed on it "
            f"(to learn another: imagescape map {output} --name tsimcne --overwrite)"
        )
    else:
        pipeline.map_images(collection, "tsimcne", **settings)
    if not can_be_drawn(collection, "tsimcne"):
        print("the map has more than 2 dimensions, so there is no picture of it")
    else:
        for file, draw in (("map.png", show.plot_map), ("map.html", show.write_page)):
            draw(collection, "tsimcne", collection.path / file)
            print(collection.path / file)
    if "label" in collection.columns and is_class_column(collection, "label"):
        print(pipeline.evaluate_map(collection, "tsimcne", label="label", seed=seed or 0)[0])


@app.command()
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


# -- what the verbs share ----------------------------------------------------------------------------

_CLI_NAMES = {"size": "size_px"}
_RECIPE_OPTIONS = (
    "backbone", "stem", "width", "size", "fit", "augment", "batch_size", "clip_gradient", "minutes", "seed", "device",
)  # fmt: skip


def _settings(config: Path | None, options: dict[str, Any], own: tuple[str, ...]) -> dict[str, Any]:
    """Settings of a recipe: those of the YAML file, then those said on the command line."""
    settings = _read_config(config) if config else {}
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


def _read_config(path: Path) -> dict[str, Any]:
    import yaml

    from imagescape.learn.recipe import Stage, known_settings

    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise InputError(f"cannot read --config {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"--config {path} is not YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(settings, dict):
        raise InputError(f"--config {path} must be a list of `name: value` lines")
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


def _preset(settings: dict[str, Any], with_gpu: str) -> str:
    """What suits the device: without a GPU, the small network."""
    from imagescape.runtime import resolve_device

    return "tiny" if resolve_device(str(settings.get("device", "auto"))).type == "cpu" else with_gpu


def _ingest_options(
    embed: bool, salvage_truncated: bool, max_pixels: int | None, glob: str | None, layout: Layout
) -> dict[str, Any]:
    options: dict[str, Any] = {
        "embed": embed,
        "salvage_truncated": salvage_truncated,
        "glob": glob,
        "layout": layout.value,
    }
    return options | ({} if max_pixels is None else {"max_pixels": max_pixels})


def _last_map(collection: Any) -> str:
    from imagescape.collection.results import map_names

    names = map_names(collection)
    if not names:
        raise InputError(f"'{collection.path}' has no map yet; make one: imagescape map {collection.path.name}")
    return names[-1]


def _as_dict(value: Any) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(value)


def _print(result: dict[str, Any], as_json: bool, text: str) -> None:
    print(json.dumps(result) if as_json else text)


def main() -> None:
    """The program `imagescape`: 0 when all went well, 2 for a mistake in what was asked, 1 for one of ours."""
    warnings.filterwarnings("ignore", module="PIL")  # what is wrong with an image is said in its row
    if not is_main_process():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - several processes print as one
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files may be beyond the terminal's alphabet
    try:
        # Not in typer's own mode, which draws a box around what is one line, and says nothing on Ctrl-C.
        if app(sys.argv[1:] or ["--help"], standalone_mode=False) == 130:
            raise KeyboardInterrupt
        sys.stdout.flush()  # here, where it can be told that its reader has gone
    except _UsageError as error:
        command = error.ctx.command_path if error.ctx else "imagescape"
        _fail(error, 2, f"{error.format_message()} See: {command} --help")
    except Interrupted as stop:
        _fail(stop, 130)
    except ImagescapeError as error:
        _fail(error, 2)
    except KeyboardInterrupt as stop:
        _fail(stop, 130, "stopped; the same command goes on with what is done")
    except BrokenPipeError:
        # The reader of our output (head, say) has gone; not worth a word.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            _fail(error, 1, f"{error} (see --debug)")
        _fail(error, 2, f"the disk is full: {error.filename or 'free some space'}; then run the same command again")
    except Exception as error:
        _fail(error, 1, f"{type(error).__name__}: {error} (this is a bug; `imagescape --debug …` shows where)")


def _fail(error: BaseException, code: int, message: str = "") -> None:
    if os.environ.get("IMAGESCAPE_DEBUG"):
        raise error
    print("imagescape: " + " ".join((message or str(error)).split()), file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
