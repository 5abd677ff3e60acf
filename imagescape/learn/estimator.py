"""The estimator that SimCLR and t-SimCNE share: run a recipe's stages, then transform new images."""

import copy
import hashlib
import json
import platform
import time
from collections.abc import Callable, Sized
from dataclasses import fields, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import torch
from jaxtyping import Float, Int
from lightning_fabric import Fabric
from torch import nn

from imagescape.errors import CheckpointError, InputError, NotFitted
from imagescape.images.pixels import as_pixels, native_px
from imagescape.learn.augment import AUGMENTS, Augment
from imagescape.learn.backbones import RESNETS, is_published
from imagescape.learn.backbones.torchscript import TorchScript
from imagescape.learn.encoder import (
    Architecture,
    Encoder,
    Preprocessing,
    load_weights,
    pretrained_encoder,
    read_config,
    save_weights,
)
from imagescape.learn.heads import Network, straighten
from imagescape.learn.pairs import Augmented, CachedFeatures, Mixed, Pairs, ReadyPairs
from imagescape.learn.parameters import Parameters
from imagescape.learn.recipe import Recipe, Stage
from imagescape.learn.snapshots import Callback, Snapshots
from imagescape.learn.train import Record, fit, make_fabric, read_metrics, seconds_per_step
from imagescape.learn.view_cache import cache_views
from imagescape.runtime import autocast_dtype, seed_for

# Augmentations of each image that a stage of the head alone learns from.
CACHED_VIEWS = 8
# Crops are taken from images a quarter larger than a view, so that they keep their detail.
CACHE_MARGIN = 1.25
# How long a step is timed before the epochs are fitted to a budget, and never more than a fiftieth of it.
_MEASURE_SECONDS = 10.0
# In a run's folder: what was asked, what is run, and by which versions.
_CONFIG = "config.json"

# (n, k) rows of each image's neighbours.
Graph = Int[np.ndarray, "n k"]


class OtherRun(CheckpointError):
    """The run folder belongs to a run of other settings or other images."""


class ContrastiveEstimator(Parameters):
    """Learns from images nobody labelled; scikit-learn's `fit`, `transform`, `fit_transform`.

    Attributes after `fit`:
        coords_: Projections of the images it was fitted on, (n, d) float32, in the order given.
        features_: Backbone features of the same, (n, h) float32.
        stage_coords_: With `keep_stages`, else empty: the map after each stage on its principal axes, (n, d)
            float32, of more than 3 dimensions the first 2.
        history_: Metrics of the training: stage, epoch, step, loss, learning_rate, images_per_second.
        recipe_: The recipe as it was run, with nothing left on "auto" that changes the result.
        encoder_: The network with its preprocessing.
    """

    _straighten = False

    def __init__(self, recipe: Recipe, arguments: dict[str, Any] | None = None) -> None:
        """`arguments` are those of a subclass's constructor, for scikit-learn's `get_params` and `clone`."""
        self.recipe = recipe
        self._arguments = {"recipe": recipe} if arguments is None else arguments
        self.encoder_: Encoder | None = None

    def fit(
        self,
        images: object,
        y: object = None,
        *,
        graph: Graph | Callable[[], Graph] | None = None,
        run_folder: str | Path | None = None,
        checkpoint_minutes: float = 5,
        keep_stages: bool = False,
        snapshot_epochs: int | None = None,
        callback: Callback | None = None,
    ) -> Self:
        """Train on `images`; labels are never used.

        Args:
            images: A collection, paths, PIL images, a (n, h, w, 3) uint8 array, or a torch Dataset.
            y: Ignored; there for scikit-learn.
            graph: With `neighbor_fraction`: (n, k) rows of each image's neighbours, or what gives them when called,
                once the images have been read.
            run_folder: Where metrics and checkpoints go. A run of the same recipe that was stopped
                there is taken up again and ends with the same weights as if it had not been; one with `minutes` has
                those left that it had not spent.
            checkpoint_minutes: How often the state is saved there.
            keep_stages: Keep the map after each stage, as `stage_coords_`.
            snapshot_epochs: In stages of up to 3 dimensions, place all images every so many epochs: saved in
                `run_folder` as `snapshots/stage-2-epoch-10.npy`, and given to `callback`. What is learned stays
                the same; the maps are as the network gives them, not yet turned to their principal axes.
            callback: `callback(stage, epoch, coords)` with the stage (from 1), the epochs done in it, and (n, d).

        Raises:
            InputError: fewer images than a batch, an unreadable image, an unknown backbone; a graph without
                `neighbor_fraction` or the other way round, or not of these images.
            CheckpointError: `run_folder` holds a run of another recipe or other images.
            Interrupted: Ctrl-C.
        """
        folder = None if run_folder is None else Path(run_folder)
        snapshots = Snapshots(
            keep_stages=keep_stages,
            epochs=snapshot_epochs,
            callback=callback,
            folder=folder and folder / "snapshots",
        )
        if (graph is not None) != (self.recipe.neighbor_fraction > 0):
            raise InputError(
                "neighbours as positives need both, a graph and a neighbor_fraction above 0; got one of them"
            )
        fabric = make_fabric(self.recipe.device, self.recipe.precision)
        encoder, pixels = self._prepare(images, fabric)
        graph = graph() if callable(graph) else graph
        recipe = replace(
            self.recipe,
            size_px=encoder.preprocessing.size_px,
            stem=encoder.architecture.stem,
            width=encoder.architecture.width,
            batch_size=self.recipe.batch_for(len(pixels)),
            precision="fp32" if autocast_dtype(encoder.device, self.recipe.precision) is None else "bf16",
        )
        pairs = self._pairs(pixels, graph, encoder.preprocessing, fabric.device)
        record = None if folder is None else Record(folder, checkpoint_minutes)
        recipe = self._settle(
            recipe, record, _fingerprint(pixels, graph), fabric, lambda: _fit_to_time(recipe, encoder, pairs, fabric)
        )
        self.history_ = self._run_stages(recipe, encoder, pairs, pixels, fabric, record, snapshots)
        self.recipe_ = replace(recipe, stages=_as_run(recipe.stages, self.history_))
        if record is not None and fabric.is_global_zero and self.recipe_ != recipe:
            path = record.folder / _CONFIG
            _write_config(path, json.loads(path.read_text()) | {"run": self.recipe_.as_json()})
        self.stage_coords_ = snapshots.stages
        features, coords = encoder.encode_pixels(pixels)
        if self._straighten:
            straighten(encoder.projector, torch.from_numpy(coords))
            with torch.no_grad():
                rows = torch.from_numpy(features).to(encoder.device).split(2**16)
                coords = torch.cat([encoder.projector(part).cpu() for part in rows]).numpy()
        self.encoder_, self.features_, self.coords_ = encoder, features, coords
        return self

    def transform(
        self, images: object, *, return_features: bool = False
    ) -> Float[np.ndarray, "n d"] | tuple[Float[np.ndarray, "n d"], Float[np.ndarray, "n h"]]:
        """Projections of any images, in the order given: one pass, eval mode, no augmentation.

        Args:
            images: As for `fit`.
            return_features: Give the backbone's features (n, h) too.
        """
        features, projections = self._fitted().encode(images)
        return (projections, features) if return_features else projections

    def fit_transform(self, images: object, y: object = None, **options: Any) -> Float[np.ndarray, "n d"]:
        """`fit`, then the projections of the same images."""
        return self.fit(images, y, **options).coords_

    def save(self, folder: str | Path, **about: Any) -> None:
        """Write the model: `config.json`, with what is said `about` it in plain values, and `weights.safetensors`."""
        self._fitted().save(folder, recipe={"method": type(self).__name__, **self.recipe_.as_json(), **about})

    @classmethod
    def load(
        cls, folder: str | Path, *, backbone: nn.Module | None = None, device: str = "auto", precision: Any = "auto"
    ) -> Self:
        """Read a saved model, ready to `transform`.

        Raises:
            CheckpointError: not a model of this method, of a newer imagescape, or of another shape.
        """
        saved = read_config(folder)["recipe"]
        if saved.get("method") != cls.__name__:
            raise CheckpointError(f"{folder} is a {saved.get('method', 'bare encoder')}, not a {cls.__name__}")
        known = {field.name for field in fields(Recipe)}
        values = {name: value for name, value in saved.items() if name in known}
        values["stages"] = tuple(Stage(**stage) for stage in values["stages"])
        values |= {"device": device} | ({} if precision == "auto" else {"precision": precision})
        encoder = Encoder.load(folder, backbone=backbone, device=device, precision=precision)
        if backbone is not None:
            values["backbone"] = backbone
        if values["augment"].startswith("<"):  # made in Python: only its type is known
            values.pop("augment")
        model = cls(**values)
        model.recipe_, model.encoder_ = model.recipe, encoder
        return model

    def _fitted(self) -> Encoder:
        if self.encoder_ is None:
            raise NotFitted(f"this {type(self).__name__} has learned nothing yet: call fit, or load a saved one")
        return self.encoder_

    def _prepare(self, images: object, fabric: Fabric) -> tuple[Encoder, np.ndarray]:
        """The untrained network on its device, and the images as it takes them."""
        recipe = self.recipe
        native = native_px(images)
        size = recipe.size_px or min(64, native)
        # Never larger than the images are: enlarging adds bytes and no detail.
        cache = max(size, min(round(CACHE_MARGIN * size), native))
        # The network first: a wrong name is said before a million images are decoded.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_for(recipe.seed, "network"))
            network, architecture, statistics = _build(recipe, size, recipe.stages[0].dimension)
        if isinstance(images, Sized):
            recipe.check_count(len(images))
        pixels = as_pixels(images, cache, fit=recipe.fit)
        recipe.check_count(len(pixels))
        mean, std = statistics or _channel_statistics(pixels)
        preprocessing = Preprocessing(size_px=size, cache_px=cache, fit=recipe.fit, mean=mean, std=std)
        encoder = Encoder(network, architecture, preprocessing, device=str(fabric.device), precision=recipe.precision)
        # In the loop's memory layout from the start: a resumed run must compute its features in the same one.
        network.to(fabric.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return encoder, pixels

    def _pairs(
        self, pixels: np.ndarray, graph: Graph | None, preprocessing: Preprocessing, device: torch.device
    ) -> Pairs:
        augment = self.recipe.augment
        if isinstance(augment, str):
            augment = AUGMENTS[augment](size_px=preprocessing.size_px, mean=preprocessing.mean, std=preprocessing.std)
        elif hasattr(augment, "__getitem__"):
            if graph is not None:
                raise InputError("a dataset of ready pairs says itself what is paired; it takes no neighbor_fraction")
            pairs = ReadyPairs(cast(Any, augment), device)
            if len(pairs) != len(pixels):
                raise InputError(f"the dataset of pairs has {len(pairs)} items for {len(pixels)} images")
            return pairs
        views = Augmented(pixels, cast(Augment, augment), device)
        return views if graph is None else Mixed(views, graph, self.recipe.neighbor_fraction)

    def _settle(
        self, recipe: Recipe, record: Record | None, fingerprint: str, fabric: Fabric, fit_to_time: Callable[[], Recipe]
    ) -> Recipe:
        """The recipe with its epochs settled; an earlier run in the same folder has settled them already."""
        path = None if record is None else record.folder / _CONFIG
        asked = json.loads(json.dumps({"method": type(self).__name__, "images": fingerprint, **self.recipe.as_json()}))
        asked.pop("device")  # a run may go on elsewhere
        # The first of several processes reads, measures and writes for all.
        before = json.loads(path.read_text()) if path and path.exists() and fabric.is_global_zero else None
        before = fabric.broadcast(before)
        if before is not None:
            if before["asked"] != asked:
                raise OtherRun(
                    f"{path.parent} holds a run with other settings or other images; "  # type: ignore[union-attr]
                    "overwrite it to start again, or give this run another name"
                )
            return replace(recipe, stages=tuple(Stage(**stage) for stage in before["run"]["stages"]))
        recipe = replace(recipe, stages=fabric.broadcast(fit_to_time().stages))
        if path is not None and fabric.is_global_zero:
            _write_config(path, {"asked": asked, "run": recipe.as_json(), "versions": _versions()})
        return recipe

    def _run_stages(
        self,
        recipe: Recipe,
        encoder: Encoder,
        pairs: Pairs,
        pixels: np.ndarray,
        fabric: Fabric,
        record: Record | None,
        snapshots: Snapshots,
    ) -> list[dict[str, Any]]:
        network, projector = encoder.network, encoder.projector
        history: list[dict[str, Any]] = []
        for number, stage in enumerate(recipe.stages, 1):
            if stage.dimension != projector.readout.out_features:
                generator = torch.Generator().manual_seed(seed_for(recipe.seed, "readout", number))
                deviation = 1.0 if stage.trains == "readout" else recipe.hidden**-0.5
                projector.replace_readout(stage.dimension, generator, deviation=deviation)
                encoder.architecture = replace(encoder.architecture, out_features=stage.dimension)
            finished = None if record is None else record.folder / f"stage-{number}.safetensors"
            if finished is not None and finished.exists():
                load_weights(network, finished)
            else:
                after_epoch = partial(snapshots.after_epoch, number, encoder, pixels)
                history += _train_stage(recipe, stage, number, encoder, pairs, after_epoch, fabric, record)
                if finished is not None and fabric.is_global_zero:
                    save_weights(network, finished)
            snapshots.after_stage(encoder, pixels)
        return history if record is None else read_metrics(record.metrics_path)


def _train_stage(
    recipe: Recipe,
    stage: Stage,
    number: int,
    encoder: Encoder,
    pairs: Pairs,
    after_epoch: Callable[[int, int], object],
    fabric: Fabric,
    record: Record | None,
) -> list[dict[str, Any]]:
    network: nn.Module = encoder.network
    loss = stage.loss()
    schedule = recipe.schedule(stage, len(pairs))
    frozen: list[nn.Parameter] = []
    if stage.trains != "all":
        views = pairs.views if isinstance(pairs, Mixed) else pairs
        encoder.network.backbone.eval()
        cached = cache_views(
            views,
            encoder.body_features,
            views=min(CACHED_VIEWS, 2 * stage.epochs),
            batch_size=encoder.batch_size,
            seed=(recipe.seed, number),
            folder=None if record is None else record.folder,
        )
        pairs = pairs.over(cached) if isinstance(pairs, Mixed) else cached
        network = encoder.projector
        frozen = list(encoder.projector.hidden.parameters()) if stage.trains == "readout" else []
    for parameter in frozen:
        parameter.requires_grad_(False)
    try:
        return fit(
            network,
            pairs,
            loss,
            schedule,
            fabric=fabric,
            seconds=None if stage.minutes is None else 60 * stage.minutes,
            seed=recipe.seed,
            stage=number,
            record=record,
            after_epoch=after_epoch,
        )
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)


def _write_config(path: Path, config: dict[str, Any]) -> None:
    part = path.with_suffix(".part")
    part.write_text(json.dumps(config, indent=2))
    part.replace(path)


def _fit_to_time(recipe: Recipe, encoder: Encoder, pairs: Pairs, fabric: Fabric) -> Recipe:
    """Part `recipe.minutes` among the stages: a step is measured, stages of everything keep their shares.

    A stage of the head alone is cheap, so it keeps its epochs unless they would take more than a tenth of the time.
    """
    if recipe.minutes is None:
        return recipe
    began, budget, n = time.monotonic(), 60 * recipe.minutes, len(pairs)
    measure_seconds = min(_MEASURE_SECONDS, budget / 50)
    whole = [stage for stage in recipe.stages if stage.trains == "all"]
    heads = [stage for stage in recipe.stages if stage.trains != "all"]

    def epoch_seconds(network: nn.Module, pairs: Pairs, stage: Stage) -> float:
        schedule = recipe.schedule(stage, n)
        loss = stage.loss()
        step = seconds_per_step(network, pairs, loss, schedule, fabric=fabric, measure_seconds=measure_seconds)
        return step * (n // (schedule.batch_size * schedule.accumulate))

    settled: dict[Stage, Stage] = {}
    if whole:
        epoch = epoch_seconds(encoder.network, pairs, whole[0])
        # Its views are made once, forward only: a third of the work of as many training steps.
        budget -= len(heads) * CACHED_VIEWS / 2 * epoch / 3
    for stage in heads:
        width, items = int(encoder.network.backbone.out_features), min(n, 4 * recipe.batch_for(n) * recipe.accumulate)  # type: ignore[arg-type]
        views = torch.rand(2, items, width, device=pairs.device)
        head = epoch_seconds(encoder.projector, CachedFeatures(views, pairs.device), stage)
        settled[stage] = replace(stage, epochs=max(1, min(stage.epochs, int(0.1 * budget / len(heads) / head))))
        budget -= settled[stage].epochs * head
    # However little there is, each stage gets an epoch.
    budget = max(budget - (time.monotonic() - began), 1e-3)
    for stage in whole:
        seconds = budget * stage.epochs / sum(other.epochs for other in whole)
        settled[stage] = replace(stage, epochs=max(1, round(seconds / epoch)), minutes=seconds / 60)
    return replace(recipe, stages=tuple(settled[stage] for stage in recipe.stages))


def _as_run(stages: tuple[Stage, ...], history: list[dict[str, Any]]) -> tuple[Stage, ...]:
    """The stages with the epochs that they have really had."""
    epochs = {line["stage"]: round(line["epoch"]) for line in history}
    return tuple(replace(stage, epochs=epochs.get(number, stage.epochs)) for number, stage in enumerate(stages, 1))


def _build(recipe: Recipe, size_px: int, dimension: int) -> tuple[Network, Architecture, tuple[Any, Any] | None]:
    """The network, how to build it again, and the normalisation it was trained with, if it was."""
    stem = recipe.stem if recipe.stem != "auto" else _stem_for(size_px)
    architecture = Architecture(
        backbone=recipe.backbone if isinstance(recipe.backbone, str) else "custom",
        stem=stem,
        width=recipe.width,
        hidden=recipe.hidden,
        out_features=dimension,
    )
    if isinstance(recipe.backbone, nn.Module):
        # A copy, so that what the user gave stays as it was and a second fit begins where the first did.
        return architecture.build(copy.deepcopy(recipe.backbone)), architecture, None
    trained = None
    if is_published(recipe.backbone):
        trained = pretrained_encoder(recipe.backbone)
    elif recipe.backbone not in RESNETS and Path(recipe.backbone).is_dir():
        trained = Encoder.load(recipe.backbone)
    if trained is None:
        return architecture.build(), architecture, None
    if isinstance(trained.network.backbone, TorchScript):
        raise InputError(f"{recipe.backbone} is a TorchScript, which encodes and cannot be trained; begin with another")
    architecture = replace(trained.architecture, hidden=recipe.hidden, out_features=dimension)
    statistics = (trained.preprocessing.mean, trained.preprocessing.std)
    return architecture.build(trained.network.backbone), architecture, statistics


def _stem_for(size_px: int) -> Any:
    return "small" if size_px <= 48 else "strided" if size_px <= 128 else "imagenet"


def _fingerprint(pixels: np.ndarray, graph: Graph | None) -> str:
    """Tells one collection from another: how many images, what a thousand of them look like, and their neighbours."""
    sample = np.asarray(pixels[:: max(1, len(pixels) // 1000)])
    images = f"{len(pixels)} images, {_digest(sample)}"
    return images if graph is None else f"{images}, neighbours {_digest(graph)}"


def _digest(array: np.ndarray) -> str:
    return hashlib.blake2b(np.ascontiguousarray(array).tobytes(), digest_size=8).hexdigest()


def _channel_statistics(pixels: np.ndarray) -> tuple[Any, Any]:
    """Mean and standard deviation of each channel in [0, 1], from at most 10,000 images spread over the collection."""
    sample = pixels[:: max(1, len(pixels) // 10_000)]
    total, squares, count = np.zeros(3), np.zeros(3), 0
    for start in range(0, len(sample), 512):
        values = sample[start : start + 512].reshape(-1, 3) / 255.0
        total, squares, count = (total + values.sum(0), squares + (values**2).sum(0), count + len(values))
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0))
    # A channel without any variation (a blank collection) is left as it is.
    return tuple(map(float, mean)), tuple(float(s) if s > 1e-4 else 1.0 for s in std)


def _versions() -> dict[str, str]:
    names = ("imagescape", "torch", "lightning-fabric", "numpy", "pillow", "pylance")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}
