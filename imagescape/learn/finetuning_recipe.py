"""What fine-tuning can be told, and its recipes: each a row of pairs, head and loss for the one loop."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from imagescape.errors import InputError
from imagescape.learn.augment import photographs
from imagescape.learn.copy_loss import CopyLoss
from imagescape.learn.edits import EDITS, LIKE, Edits
from imagescape.learn.heads import Projector
from imagescape.learn.losses import InfoNCE, kernel
from imagescape.learn.optim import OptimizerName, Schedule
from imagescape.learn.pairs import Augmented, Copies, Pairs
from imagescape.learn.preprocessing import Preprocessing
from imagescape.learn.queue_loss import Predicting, QueueLoss
from imagescape.learn.recipe import settle_numbers
from imagescape.runtime import Precision

RecipeName = Literal["simclr", "copies", "neighbors"]
_PROJECTIONS = 128
_KEPT_VIEWS, _MIXED = 6, 0.25


@dataclass(frozen=True, kw_only=True)
class FinetuneRecipe:
    """Settings of fine-tuning.

    Attributes:
        recipe: "simclr" (two augmentations of an image), "copies" (an image and a copy that people edited) or
            "neighbors" (augmentations, and the nearest of earlier projections as positives).
        epochs: Passes over the images.
        batch_size: Images a step over all devices; None: a power of two that leaves 8 steps an epoch, 128 at most.
        size_px: Side of the views; None: the encoder's own. Of smaller ones it learns a scale that it never sees again.
        optimizer: "adamw", "adam", "sgd" or "lars".
        learning_rate: At its highest; None: by `RATES`, in proportion to the root of the batch.
        momentum, nesterov: Of SGD and LARS.
        weight_decay: See `Schedule`.
        schedule: "cosine", "linear" or "constant", by step.
        warmup_epochs: Linear, by step; a quarter of the training at most.
        temperature: Of the cosine; None: .05 for copies, .1 for the others.
        jitter: Strength of the colour changes.
        freeze_parts: Parts of the network, from the input, that stay; None: all but the last third.
        freeze_depthwise: Whether filters of one channel each stay too. They are a few of a hundred weights, and their
            gradient takes a processor longer than all others together.
        layer_decay: What the learning rate is multiplied by from each part to the one before it.
        batch_norm: "frozen": with the statistics that the network has; "learned": of each batch.
        adapter_rank: Of adapters beside the layers of a network of transformers, which then stay; 0: none.
        cached_views: Views of each image whose way through the frozen parts is gone once and kept; 0: always new ones;
            None: 6 of copies without a GPU, where the network can be split and nothing is mixed, else 0.
        dimensions: Of copies: of a descriptor.
        entropy_weight: Of copies: see `copy_loss`.
        mixed_fraction: Of copies: of the views that hold a part of another image; None: a quarter, or none of views
            that are kept.
        edits: Of copies: which there are; see `edits.EDITS`.
        queue: Of neighbors: earlier projections that are kept, half as many as there are images at most.
        looks: How often the guard looks, at even distances; the weights of each look are kept.
        minutes: For everything; `epochs` are then as many, at least one, as fit.
        seed: Settles every random choice.
        device, precision: Where and how; "auto" takes the best there is.
    """

    recipe: RecipeName = "copies"
    epochs: int = 10
    batch_size: int | None = None
    size_px: int | None = None
    optimizer: OptimizerName = "adamw"
    learning_rate: float | None = None
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 1e-4
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_epochs: float = 0.5
    temperature: float | None = None
    jitter: float = 0.5
    freeze_parts: int | None = None
    freeze_depthwise: bool = True
    layer_decay: float = 1.0
    batch_norm: Literal["frozen", "learned"] = "frozen"
    adapter_rank: int = 0
    cached_views: int | None = None
    dimensions: int = 512
    entropy_weight: float = 5.0
    mixed_fraction: float | None = None
    edits: tuple[str, ...] = EDITS
    queue: int = 4096
    looks: int = 5
    minutes: float | None = None
    seed: int = 0
    device: str = "auto"
    precision: Precision = "auto"

    @classmethod
    def of(cls, **settings: Any) -> "FinetuneRecipe":
        """The recipe of these settings; InputError when one is unknown."""
        known = [field.name for field in fields(cls)]
        for name in settings:
            if name not in known:
                raise InputError(f"there is no setting '{name}'; there are {', '.join(known)}")
        return cls(**settings)

    def __post_init__(self) -> None:
        settle_numbers(self)
        if self.recipe not in RECIPES:
            raise InputError(f"recipe must be one of {', '.join(RECIPES)}, got '{self.recipe}'")
        if self.batch_norm not in ("frozen", "learned"):
            raise InputError(f"batch_norm must be 'frozen' or 'learned', got '{self.batch_norm}'")
        object.__setattr__(self, "edits", tuple(self.edits))
        Edits(size_px=32, edits=self.edits, jitter=self.jitter)  # says what is wrong with them
        for name, least in (("dimensions", 2), ("queue", 1), ("looks", 1), ("adapter_rank", 0), ("cached_views", 0)):
            if getattr(self, name) is not None and getattr(self, name) < least:
                raise InputError(f"{name} must be at least {least}, got {getattr(self, name)}")
        for name in ("layer_decay", "mixed_fraction"):
            if getattr(self, name) is not None and not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} must be 0 to 1, got {getattr(self, name)}")
        if self.minutes is not None and not self.minutes > 0:
            raise InputError(f"minutes must be above 0, got {self.minutes}")
        if self.cached_views == 1:
            raise InputError("cached_views must be 0 or at least 2: two views of an image are compared")
        if self.cached_views and self.recipe == "copies" and self.mixed_fraction:
            raise InputError("mixed images are made anew in each batch: with cached_views, set mixed_fraction to 0")
        self.plan(2)  # says what is wrong with epochs, rates and optimizer
        self.row.loss(self, 2)  # and with the temperature

    @property
    def row(self) -> "Row":
        return RECIPES[self.recipe]

    def with_views(self, *, can_be_kept: bool) -> "FinetuneRecipe":
        """The recipe with nothing left open of its views.

        Args:
            can_be_kept: Whether what frozen parts make of them could be, and is worth it.
        """
        cached = self.cached_views
        if cached is None:
            cached = _KEPT_VIEWS if can_be_kept and self.row.describes and not self.mixed_fraction else 0
        mixed = self.mixed_fraction
        if mixed is None:
            mixed = _MIXED if self.row.describes and not cached else 0.0
        return replace(self, cached_views=cached, mixed_fraction=mixed)

    @property
    def families(self) -> tuple[str, ...]:
        """Families of attacks that training shows something like."""
        if self.recipe != "copies":
            return tuple(family for edit in _OF_AUGMENTATION for family in LIKE[edit])
        return tuple(family for edit in self.edits for family in LIKE[edit])

    def batch_for(self, images: int) -> int:
        if self.batch_size is not None:
            return self.batch_size
        return images if images < 32 else max(16, min(128, 2 ** ((images // 8).bit_length() - 1)))

    def plan(self, images: int) -> Schedule:
        """How long and how fast, for so many images."""
        batch = self.batch_for(images)
        base = RATES.get(self.optimizer, 1.0)
        return Schedule(
            epochs=self.epochs,
            batch_size=batch,
            learning_rate=base * (batch / 64) ** 0.5 if self.learning_rate is None else self.learning_rate,
            warmup_epochs=min(self.warmup_epochs, self.epochs / 4),
            decay=self.schedule,
            optimizer=self.optimizer,
            momentum=self.momentum,
            nesterov=self.nesterov,
            weight_decay=self.weight_decay,
        )

    def looks_after(self, epoch: int, epochs: int) -> bool:
        """Whether the guard looks after this of so many epochs: evenly spread, after the last too."""
        return epoch in {max(1, round(number * epochs / self.looks)) for number in range(1, self.looks + 1)}


# Of a batch of 64; LARS is told a share of each layer, so its numbers are of another kind (.075 root B is SimCLR's for
# a network that knows nothing yet).
RATES: dict[str, float] = {"adamw": 1e-4, "adam": 1e-4, "sgd": 5e-3, "lars": 0.04}
# What augmentation for contrastive learning does, by the names that edits have for it.
_OF_AUGMENTATION = ("crop", "flip", "colour", "blur")


@dataclass(frozen=True)
class Row:
    """A recipe.

    Attributes:
        pairs: Of (recipe, preprocessing, size of the views, pixels, device).
        head: Of (recipe, width of the features): what is trained on the features.
        loss: Of (recipe, images).
        describes: Whether the head is a linear layer that stays, as a part of the encoder.
    """

    pairs: Callable[["FinetuneRecipe", Preprocessing, int, np.ndarray, torch.device], Pairs]
    head: Callable[["FinetuneRecipe", int], nn.Module]
    loss: Callable[["FinetuneRecipe", int], nn.Module]
    describes: bool = False


def _augmented(
    recipe: FinetuneRecipe, way: Preprocessing, size_px: int, pixels: np.ndarray, device: torch.device
) -> Pairs:
    strength = recipe.jitter
    jitter = (0.8 * strength, 0.8 * strength, 0.8 * strength, 0.2 * strength)
    return Augmented(pixels, photographs(size_px, mean=way.mean, std=way.std, jitter=jitter), device)


def _copies(
    recipe: FinetuneRecipe, way: Preprocessing, size_px: int, pixels: np.ndarray, device: torch.device
) -> Pairs:
    edits = Edits(size_px=size_px, mean=way.mean, std=way.std, edits=recipe.edits, jitter=recipe.jitter)
    return Copies(pixels, edits, device, mixed_fraction=recipe.mixed_fraction or 0.0)


def _temperature(recipe: FinetuneRecipe, usual: float) -> float:
    return usual if recipe.temperature is None else recipe.temperature


RECIPES: dict[str, Row] = {
    "simclr": Row(
        pairs=_augmented,
        head=lambda recipe, width: Projector(width, width, _PROJECTIONS),
        loss=lambda recipe, images: InfoNCE(kernel("cosine", temperature=_temperature(recipe, 0.1))),
    ),
    "copies": Row(
        pairs=_copies,
        head=lambda recipe, width: nn.Linear(width, recipe.dimensions),
        loss=lambda recipe, images: CopyLoss(
            temperature=_temperature(recipe, 0.05),
            entropy_weight=recipe.entropy_weight,
            mixed_fraction=recipe.mixed_fraction or 0.0,
        ),
        describes=True,
    ),
    "neighbors": Row(
        pairs=_augmented,
        head=lambda recipe, width: Predicting(width, width, _PROJECTIONS),
        loss=lambda recipe, images: QueueLoss(
            _PROJECTIONS, length=max(1, min(recipe.queue, images // 2)), temperature=_temperature(recipe, 0.1)
        ),
    ),
}
