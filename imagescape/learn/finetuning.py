"""Fine-tuning an encoder on images nobody labelled, under guard: the best network is kept, and a worse one is said so.

The recipes of `finetuning_recipe` go through the one training loop, and a `Watch` looks at the network on the way.
"""

import copy
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import torch
from jaxtyping import Float
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from imagescape.errors import InputError, NotFitted
from imagescape.images.pixels import as_pixels
from imagescape.learn.adapters import add_adapters
from imagescape.learn.augment import Contrastive
from imagescape.learn.backbones.depth import can_be_split, frozen_parts, parts_of, rate_fractions
from imagescape.learn.backbones.torchscript import TorchScript
from imagescape.learn.descriptor import Described, Pooled, begin, can_be_pooled, whiten_again
from imagescape.learn.encoder import Encoder
from imagescape.learn.events import Events
from imagescape.learn.finetuning_recipe import FinetuneRecipe
from imagescape.learn.guard import Guard
from imagescape.learn.heads import Network
from imagescape.learn.pairs import Pairs
from imagescape.learn.parameters import Parameters
from imagescape.learn.train import Record, fit, make_fabric, read_metrics, seconds_per_step
from imagescape.learn.view_cache import cache_views
from imagescape.learn.watch import WAYS_BACK, Watch, alike
from imagescape.runtime import autocast_dtype, seed_for

_CACHE_MARGIN = 1.25  # crops are taken from squares a quarter larger than a view, so that they keep their detail
_WHITENING_IMAGES = 4096


class Trained(nn.Module):
    """What the loop trains: a body and a head on it, some parts of which stay as they are.

    Args:
        body: Views, or what its frozen parts made of them, to features.
        head: Features to what is contrasted.
        still: Modules that stay in eval mode, each for itself.
        rates: Shares of the learning rate.
    """

    def __init__(
        self, body: nn.Module, head: nn.Module, still: list[nn.Module], rates: Mapping[nn.Parameter, float]
    ) -> None:
        super().__init__()
        self.body, self.head = body, head
        self._still, self._rates = still, dict(rates)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for module in self._still:
            module.training = False
        return self

    def rate_fractions(self) -> dict[nn.Parameter, float]:
        """See `Schedule.build`."""
        return self._rates

    def forward(self, views: Float[Tensor, "n ..."]) -> Float[Tensor, "n d"]:
        if views.ndim == 4:
            views = views.contiguous(memory_format=torch.channels_last)
        features = self.body(views)
        with torch.autocast(features.device.type, enabled=False):
            projections: Tensor = self.head(features.float())
        return projections


class Finetune(Parameters):
    """Fine-tune an encoder: `fit`, then `encoder_`, or `transform` for the features of any images.

    Args:
        encoder: To begin with, or the folder of a saved one. It is copied.
        recipe: "simclr", "copies" or "neighbors".
        projector: Of simclr: a trained head to go on from, features -> projections; None: the encoder's own, or a
            fresh one.
        random_state: The seed.
        settings: Any other field of `FinetuneRecipe`.

    Attributes after `fit`:
        encoder_: The best network by the guard; without a guard the last.
        looks_: What the guard saw: before, after some epochs, and on the way back.
        kept_: The look at `encoder_`; None without a guard.
        regressed_: Whether that is worse than before.
        history_: Metrics of the training.
        recipe_: As it was run, with the epochs that were made.

    Raises:
        InputError: an unknown recipe or setting, or one out of range.
    """

    recipe: FinetuneRecipe

    def __init__(
        self,
        encoder: Encoder | str | Path,
        *,
        recipe: str = "copies",
        projector: nn.Module | None = None,
        random_state: int | None = None,
        **settings: Any,
    ) -> None:
        own = {"encoder": encoder, "recipe": recipe, "projector": projector, "random_state": random_state}
        self._arguments = own | settings
        if random_state is not None:
            settings["seed"] = random_state
        self.recipe = FinetuneRecipe.of(recipe=recipe, **settings)
        if projector is not None and recipe != "simclr":
            raise InputError(f"a trained projector is for the recipe simclr, got one for {recipe}")
        self.encoder, self.projector = encoder, projector
        self.encoder_: Encoder | None = None

    def fit(
        self,
        images: object,
        y: object = None,
        *,
        guard: Guard | None = None,
        run_folder: str | Path | None = None,
        checkpoint_minutes: float = 5,
        tensorboard: bool = False,
    ) -> Self:
        """Train on `images`; labels are never used.

        Args:
            images: A collection, paths, PIL images, a (n, h, w, 3) uint8 array, or a torch Dataset.
            y: Ignored; there for scikit-learn.
            guard: Chooses what is kept.
            run_folder: Where metrics, looks, the weights at each look and the checkpoint go. A run of the same settings
                and images that was stopped there is taken up again.
            checkpoint_minutes: How often the state is saved there.
            tensorboard: Write events there too.

        Raises:
            InputError: fewer images than a batch, a network that cannot be trained, or more frozen than it has.
            CheckpointError: `run_folder` holds a run of another network.
            Interrupted: Ctrl-C.
        """
        began, folder = time.monotonic(), None if run_folder is None else Path(run_folder)
        fabric = make_fabric(self.recipe.device, self.recipe.precision)
        first = fabric.is_global_zero
        fabric.barrier()  # what was in the folder is gone by now, if it had to go
        events = Events(folder / "tensorboard") if folder is not None and tensorboard and first else None
        record = None if folder is None else Record(folder, checkpoint_minutes, events)
        given = self.encoder if isinstance(self.encoder, Encoder) else Encoder.load(self.encoder)
        old = _copied(given, str(fabric.device))
        way, size = old.preprocessing, self._size(old)
        pixels = as_pixels(images, round(_CACHE_MARGIN * size), fit=way.fit, resample=way.resample)
        # The first of several processes looks for all.
        watch = Watch(old, guard if first else None, folder if first else None, events)
        watch.before()
        new = self._started(old, pixels)
        network, pairs = self._training(given, new, pixels, size, fabric, folder)
        watch.at_start(new)
        # The looks on the way are a part of the training, those after it are not.
        spent = time.monotonic() - began + watch.seconds_a_look * (len(WAYS_BACK) + 1)
        looking = watch.seconds_a_look * self.recipe.looks
        self.recipe_, seconds = self._settled(network, pairs, fabric, folder, spent, looking)

        def after_epoch(epoch: int, epochs: int) -> None:
            if self.recipe.looks_after(epoch, epochs):
                watch.at_epoch(new, epoch)

        history = fit(
            network,
            pairs,
            self.recipe_.row.loss(self.recipe_, len(pairs)),
            self.recipe_.plan(len(pairs)),
            fabric=fabric,
            seconds=seconds,
            seed=self.recipe.seed,
            record=record,
            after_epoch=after_epoch,
        )
        self.history_ = history if record is None else read_metrics(record.metrics_path)
        self.recipe_ = replace(self.recipe_, epochs=round(self.history_[-1]["epoch"]))
        self.encoder_ = watch.choose(new, lambda encoder: _whiten_again(encoder, pixels))
        self.looks_, self.kept_ = watch.looks, watch.kept
        self.regressed_ = watch.kept is not None and watch.kept.score < watch.looks[0].score
        fabric.barrier()
        return self

    def transform(self, images: object) -> Float[np.ndarray, "n d"]:
        """Features of any images, in the order given."""
        return self._fitted().encode(images)[0]

    def save(self, folder: str | Path, **about: Any) -> None:
        """Write the encoder with what is known of its training, and what is said `about` it in plain values."""
        kept = None if self.kept_ is None else self.kept_.as_dict()
        recipe = {"method": type(self).__name__, **asdict(self.recipe_), "kept": kept, **about}
        self._fitted().save(folder, recipe=recipe)

    def _fitted(self) -> Encoder:
        if self.encoder_ is None:
            raise NotFitted("nothing was fine-tuned yet: call fit")
        return self.encoder_

    def _size(self, old: Encoder) -> int:
        """Side of the views."""
        return self.recipe.size_px or old.preprocessing.size_px

    def _started(self, old: Encoder, pixels: np.ndarray) -> Encoder:
        """The encoder that is trained: a copy of the old one, with descriptors where the recipe makes them."""
        backbone = copy.deepcopy(old.network.backbone)
        if self.recipe.row.describes and not isinstance(backbone, Described):
            body = Pooled(backbone) if can_be_pooled(backbone) else backbone
            described = Described(body, self.recipe.dimensions).to(old.device)
            begin(described, features_of_some(_body(old, described), pixels))
            return alike(old, Network(described, None))
        return alike(old, Network(backbone, None))

    def _training(
        self, given: Encoder, new: Encoder, pixels: np.ndarray, size: int, fabric: Fabric, folder: Path | None
    ) -> tuple[Trained, Pairs]:
        """The network that the loop trains, which shares its weights with the encoder, and its pairs."""
        backbone = new.network.backbone
        body: nn.Module = backbone.body if isinstance(backbone, Described) else backbone
        still, count = self._left_as_they_are(body)
        can_be_kept = fabric.device.type == "cpu" and count > 0 and can_be_split(body)
        self.recipe_ = recipe = self.recipe.with_views(can_be_kept=can_be_kept)
        rates = rate_fractions(body, recipe.layer_decay) if recipe.layer_decay < 1 else {}
        pairs = recipe.row.pairs(recipe, new.preprocessing, size, pixels, fabric.device)
        if recipe.cached_views:
            if not can_be_split(body) or not count:
                raise InputError("cached_views keep what the frozen parts of one of our own networks make: freeze some")
            parts = cast(Any, body).parts()
            pairs = cache_views(
                pairs,
                _Frozen(nn.Sequential(*parts[:count]), fabric.device, new),
                views=recipe.cached_views,
                batch_size=new.batch_size,
                seed=(recipe.seed,),
                folder=folder,
            )
            body = nn.Sequential(*parts[count:])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_for(recipe.seed, "head"))
            head = self._head(given, backbone)
        return Trained(body, head, still, rates), pairs

    def _left_as_they_are(self, body: nn.Module) -> tuple[list[nn.Module], int]:
        """Freeze what the recipe says; the modules that stay in eval mode, and how many whole parts are frozen."""
        recipe, count = self.recipe, 0
        still: list[nn.Module] = []
        if recipe.adapter_rank:
            if recipe.freeze_parts:
                raise InputError("adapters leave every layer as it is: give either adapters or frozen parts")
            add_adapters(body, recipe.adapter_rank)
        else:
            body.requires_grad_(True)
            parts = len(parts_of(body))
            count = parts - -(-parts // 3) if recipe.freeze_parts is None else recipe.freeze_parts
            still = frozen_parts(body, count)
            for module in still:
                for parameter in module.parameters(recurse=False):
                    parameter.requires_grad_(False)
        for module in body.modules():
            if recipe.freeze_depthwise and _is_depthwise(module):
                module.requires_grad_(False)
            if recipe.batch_norm == "frozen" and isinstance(module, _BatchNorm):
                still.append(module)
        return still, count

    def _head(self, given: Encoder, backbone: nn.Module) -> nn.Module:
        if self.recipe.row.describes:
            return cast(Described, backbone).head().requires_grad_(True)
        own = given.network.projector if self.recipe.recipe == "simclr" else None
        if (projector := self.projector or own) is not None:
            return copy.deepcopy(projector).requires_grad_(True)
        return self.recipe.row.head(self.recipe, cast(int, backbone.out_features))

    def _settled(
        self, network: nn.Module, pairs: Pairs, fabric: Fabric, folder: Path | None, spent: float, looking: float
    ) -> tuple[FinetuneRecipe, float | None]:
        """The recipe with a first guess of the epochs that fit into the time there is, and the seconds of the training.

        An earlier process of the same run has settled both.
        """
        recipe = replace(self.recipe_, batch_size=self.recipe_.batch_for(len(pairs)))
        if recipe.minutes is None:
            return recipe, None
        path = None if folder is None else folder / "plan.json"
        known = json.loads(path.read_text()) if path is not None and path.exists() else None
        settled: dict[str, Any] | None = fabric.broadcast(known)
        if settled is None:
            plan, budget = recipe.plan(len(pairs)), max(0.0, 60 * recipe.minutes - spent)
            loss, measure = recipe.row.loss(recipe, len(pairs)), min(10.0, budget / 50)
            step = seconds_per_step(network, pairs, loss, plan, fabric=fabric, measure_seconds=measure)
            epoch, seconds = step * (len(pairs) // plan.batch_size), budget - measure
            fit_in = max(1, round((seconds - looking) / epoch))
            settled = cast(dict[str, Any], fabric.broadcast({"epochs": fit_in, "seconds": seconds}))
            if path is not None and fabric.is_global_zero:
                path.write_text(json.dumps(settled))
        return replace(recipe, epochs=settled["epochs"]), settled["seconds"]


class _Frozen:
    """The first parts of a network, in the encoder's precision."""

    def __init__(self, parts: nn.Sequential, device: torch.device, encoder: Encoder) -> None:
        self._parts = parts.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        self._dtype = autocast_dtype(device, encoder.precision)

    def __call__(self, views: Tensor) -> Tensor:
        dtype = self._dtype
        with torch.autocast(views.device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None):
            made: Tensor = self._parts(views.contiguous(memory_format=torch.channels_last))
        return made


def _copied(given: Encoder, device: str) -> Encoder:
    """The encoder without its projector, on the device of the run."""
    if isinstance(given.network.backbone, TorchScript):
        raise InputError(f"{given.name} is a TorchScript, which encodes and cannot be trained; begin with another")
    architecture = replace(given.architecture, out_features=0)
    network = Network(copy.deepcopy(given.network.backbone), None)
    return Encoder(network, architecture, given.preprocessing, device=device, precision=given.precision)


def _is_depthwise(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and 1 < module.groups == module.in_channels


def features_of_some(encoder: Encoder, pixels: np.ndarray) -> Float[np.ndarray, "n h"]:
    """Features of at most 4,096 of the images, spread over all, from squares of any size."""
    some = pixels[:: -(-len(pixels) // _WHITENING_IMAGES)]
    enlarge = Contrastive(size_px=encoder.preprocessing.cache_px).plain
    features = []
    for start in range(0, len(some), encoder.batch_size):
        squares = enlarge(torch.from_numpy(np.array(some[start : start + encoder.batch_size]))) * 255
        batch = squares.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
        features.append(encoder.features_of(batch).cpu().numpy())
    return np.concatenate(features)


def _whiten_again(encoder: Encoder, pixels: np.ndarray) -> None:
    """Whiten the descriptors of an encoder by these images."""
    described = cast(Described, encoder.network.backbone)
    whiten_again(described, features_of_some(_body(encoder, described), pixels))


def _body(encoder: Encoder, described: Described) -> Encoder:
    """What descriptors are made of, as an encoder that prepares images as this one does."""
    return alike(encoder, Network(described.body, None))
