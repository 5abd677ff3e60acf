"""The verb that makes an encoder better at telling a collection's images apart: `finetune`."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from imagescape.cli.options import (
    BatchSize,
    CheckpointMinutes,
    Device,
    Json,
    Minutes,
    Overwrite,
    Scape,
    Seed,
    print_result,
)
from imagescape.errors import InputError

# Options that are settings of `FinetuneRecipe`, by the names that it has for them.
_SETTINGS = {
    "size": "size_px", "lr": "learning_rate", "schedule": "schedule", "jitter": "jitter", "optimizer": "optimizer",
    "epochs": "epochs", "batch_size": "batch_size", "temperature": "temperature", "weight_decay": "weight_decay",
    "momentum": "momentum", "nesterov": "nesterov", "warmup": "warmup_epochs", "freeze_parts": "freeze_parts",
    "freeze_depthwise": "freeze_depthwise", "layer_decay": "layer_decay", "batch_norm": "batch_norm",
    "adapter_rank": "adapter_rank", "cached_views": "cached_views", "dimensions": "dimensions",
    "entropy_weight": "entropy_weight", "mixed_fraction": "mixed_fraction", "queue": "queue", "looks": "looks",
    "minutes": "minutes", "seed": "seed", "device": "device",
}  # fmt: skip


def finetune(
    scape: Scape,
    encoder: Annotated[
        str, typer.Option("--encoder", help="What to begin with, as for `embed`: any network that can be trained.")
    ] = "efficientnet_lite0",
    recipe: Annotated[
        str,
        typer.Option(
            "--recipe",
            help="copies (edited copies of an image), simclr (two augmentations), neighbors (and nearest others).",
        ),
    ] = "copies",
    name: Annotated[str | None, typer.Option("--name", "-n", help="What to call it. [default: the recipe]")] = None,
    val: Annotated[
        Path | None,
        typer.Option("--val", metavar="V.scape", help="Images that stand guard. [default: a part of the collection]"),
    ] = None,
    held_out: Annotated[float, typer.Option("--held-out", help="That part, as a fraction; 100 images at most.")] = 0.1,
    unseen: Annotated[
        str | None,
        typer.Option("--unseen", help="Families of attacks for the guard that training must not show, with commas."),
    ] = None,
    edits: Annotated[
        str | None,
        typer.Option(
            "--edits",
            help="Of copies, with commas: crop, flip, rotate, collage, border, overlay, text, colour, blur, noise, "
            "jpeg. [default: all]",
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", help="Passes over the images. [default: 10]")] = None,
    minutes: Minutes = None,
    size: Annotated[int | None, typer.Option("--size", help="Side of the views, px. [default: the encoder's]")] = None,
    batch_size: BatchSize = None,
    jitter: Annotated[float | None, typer.Option("--jitter", help="Strength of colour changes. [default: .5]")] = None,
    temperature: Annotated[
        float | None, typer.Option("--temperature", help="Of the loss. [default: .05 of copies, else .1]")
    ] = None,
    entropy_weight: Annotated[
        float | None, typer.Option("--entropy-weight", help="Of copies: how much an even spread counts. [default: 5]")
    ] = None,
    mixed_fraction: Annotated[
        float | None,
        typer.Option("--mixed-fraction", help="Of copies: that hold two images. [default: .25 or 0]"),
    ] = None,
    dimensions: Annotated[
        int | None, typer.Option("--dimensions", help="Of copies: of a descriptor. [default: 512]")
    ] = None,
    queue: Annotated[
        int | None, typer.Option("--queue", help="Of neighbors: earlier projections. [default: 4096]")
    ] = None,
    optimizer: Annotated[
        str | None, typer.Option("--optimizer", help="adamw, adam, sgd or lars. [default: adamw]")
    ] = None,
    lr: Annotated[
        float | None, typer.Option("--lr", help="Learning rate. [default: by the optimizer and the root of the batch]")
    ] = None,
    schedule: Annotated[
        str | None, typer.Option("--schedule", help="cosine, linear or constant, by step. [default: cosine]")
    ] = None,
    warmup: Annotated[float | None, typer.Option("--warmup", help="Epochs of warm-up. [default: .5]")] = None,
    weight_decay: Annotated[float | None, typer.Option("--weight-decay", help="On weights. [default: 1e-4]")] = None,
    momentum: Annotated[float | None, typer.Option("--momentum", help="Of sgd and lars. [default: .9]")] = None,
    nesterov: Annotated[
        bool | None, typer.Option("--nesterov/--no-nesterov", help="Of their momentum. [default: no]")
    ] = None,
    freeze_parts: Annotated[
        int | None,
        typer.Option("--freeze-parts", help="Parts from the input that stay. [default: all but the last third]"),
    ] = None,
    freeze_depthwise: Annotated[
        bool | None,
        typer.Option("--freeze-depthwise/--train-depthwise", help="Filters of one channel each. [default: freeze]"),
    ] = None,
    layer_decay: Annotated[
        float | None, typer.Option("--layer-decay", help="Of the rate, from each part to the one before. [default: 1]")
    ] = None,
    batch_norm: Annotated[
        str | None, typer.Option("--batch-norm", help="frozen, or learned from each batch. [default: frozen]")
    ] = None,
    adapter_rank: Annotated[
        int | None, typer.Option("--adapter-rank", help="Train low-rank adapters beside the layers of hf: networks.")
    ] = None,
    cached_views: Annotated[
        int | None,
        typer.Option(
            "--cached-views",
            help="Of each image, gone through the frozen parts once. [default: 6 or 0]",
        ),
    ] = None,
    looks: Annotated[
        int | None,
        typer.Option("--looks", help="Times that the guard looks, and weights are kept. [default: 5]"),
    ] = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write events for TensorBoard, too.")] = False,
    devices: Annotated[int | None, typer.Option("--devices", min=1, help="Processes, one a device.")] = None,
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="Threads that decode. [default: all]")] = None,
    checkpoint_minutes: CheckpointMinutes = 5,
    overwrite: Overwrite = False,
    seed: Seed = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Fine-tune an encoder on the images, under guard: it is used from then on if it finds altered copies better.

    A guard of images that are not trained on, altered in ways that training shows and in others, is searched before,
    during and after. The weights at 5 even distances (--looks) are kept, and the best of them becomes models/NAME. If
    it is worse than what it began with, that is said in red, and nothing is embedded with it.

    Stopped or killed, the same command goes on where it was.

    Example: `imagescape finetune photos.scape --encoder efficientnet_lite0 --recipe copies --name better --minutes 30`
    """
    options = locals()
    if devices is not None and devices > 1 and "WORLD_SIZE" not in os.environ:
        _start_processes(devices)
    from imagescape.collection.store import Collection
    from imagescape.pipeline.finetuning import finetune as finetune_encoder
    from imagescape.runtime import is_main_process, limit_workers

    limit_workers(workers)
    settings: dict[str, Any] = {
        theirs: options[ours] for ours, theirs in _SETTINGS.items() if options[ours] is not None
    }
    if edits is not None:
        settings["edits"] = _listed(edits, "--edits")
    done = finetune_encoder(
        Collection.open(scape),
        name or recipe,
        encoder=encoder,
        recipe=recipe,
        val=None if val is None else Collection.open(val),
        held_out=held_out,
        unseen=None if unseen is None else _listed(unseen, "--unseen"),
        overwrite=overwrite,
        checkpoint_minutes=checkpoint_minutes,
        tensorboard=tensorboard,
        **settings,
    )
    if not is_main_process():
        return
    print_result(done.as_dict(), as_json, str(done))
    if done.warning:
        typer.secho(f"imagescape: {done.warning}", fg="red", bold=True, err=True)


def _start_processes(count: int) -> None:
    """Become `count` processes that run this same command together."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    os.execv(sys.executable, [*launcher, "-m", "imagescape", *sys.argv[1:]])


def _listed(text: str, option: str) -> tuple[str, ...]:
    names = tuple(one.strip() for one in text.split(",") if one.strip())
    if not names:
        raise InputError(f"{option} takes names with commas between, got '{text}'")
    return names
