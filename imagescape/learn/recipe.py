"""What a contrastive recipe can be told: its stages and the few settings they share."""

import operator
import os
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from torch import nn

from imagescape.errors import InputError
from imagescape.learn.augment import AUGMENTS, Augment
from imagescape.learn.backbones import STEMS
from imagescape.learn.losses import InfoNCE, kernel
from imagescape.learn.optim import Schedule
from imagescape.learn.parameters import Settings
from imagescape.runtime import Precision

# A network and optimizer for a processor and minutes instead of hours.
TINY: dict[str, Any] = {
    "backbone": "resnet10",
    "stem": "strided",
    "width": 32,
    "size_px": 32,
    "optimizer": "adamw",
    "batch_limit": 256,
}


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One part of a recipe, trained from where the one before it ended, with an optimizer of its own.

    Attributes:
        epochs: Passes over the images.
        dimension: Of the projections. A stage whose dimension differs from the one before it gets a new last
            layer: with standard normal weights when that layer learns alone, so that the map starts spread
            out; else with small ones, so that it unfolds from the middle.
        kernel: "cauchy", "cosine", "student_t" or "gaussian".
        temperature: Of the kernel; None: the kernel's own (.5 for cosine, 1 for the others).
        final_temperature: Where it is at the end of the stage, led there in equal ratios a step; None: it stays.
        learn_temperature: Whether training changes it.
        dof, final_dof, learn_dof: The same of the degrees of freedom of "student_t"; None: 1, which is "cauchy".
        decoupled: Whether the loss leaves the positive out of what an anchor is compared with.
        learning_rate: For a batch of 256; it grows in proportion with the batch.
        warmup_epochs: Linear, counted in steps; at most a quarter of the stage.
        decay: "cosine", "linear" or "constant".
        minutes: Time for the stage: `epochs` are then a first guess, and as many are made, at least one, as fit.
        trains: "all"; or "projector" (the head), or "readout" (its last layer) alone, on features of the
            frozen backbone that are made once, from several augmentations of each image, and then reused.
    """

    epochs: int
    dimension: int
    kernel: str = "cauchy"
    temperature: float | None = None
    final_temperature: float | None = None
    learn_temperature: bool = False
    dof: float | None = None
    final_dof: float | None = None
    learn_dof: bool = False
    decoupled: bool = False
    learning_rate: float = 0.03
    warmup_epochs: float = 0
    decay: Literal["cosine", "linear", "constant"] = "cosine"
    minutes: float | None = None
    trains: Literal["all", "projector", "readout"] = "all"

    def __post_init__(self) -> None:
        settle_numbers(self)
        if self.epochs < 1:
            raise InputError(f"a stage needs at least 1 epoch, got {self.epochs}")
        if self.dimension < 1:
            raise InputError(f"a stage needs at least 1 dimension, got {self.dimension}")
        if self.minutes is not None and not self.minutes > 0:
            raise InputError(f"minutes of a stage must be above 0, got {self.minutes}")
        self.loss()  # says what is wrong with kernel, temperature or dof
        if self.trains not in ("all", "projector", "readout"):
            raise InputError(f"a stage trains 'all', 'projector' or 'readout', got '{self.trains}'")

    def loss(self) -> InfoNCE:
        log_similarity = kernel(
            self.kernel,
            temperature=self.temperature,
            final_temperature=self.final_temperature,
            learn_temperature=self.learn_temperature,
            dof=self.dof,
            final_dof=self.final_dof,
            learn_dof=self.learn_dof,
        )
        return InfoNCE(log_similarity, decoupled=self.decoupled)


@dataclass(frozen=True, kw_only=True)
class Recipe(Settings):
    """Settings of SimCLR and t-SimCNE.

    Attributes:
        stages: What is trained, in order.
        backbone: A name (`backbones.backbone_names()`), the folder of a saved model to start from, or any
            module that maps (n, 3, s, s) to (n, out_features) and has `out_features`.
        stem, width: Of a ResNet; stem "auto" follows the size of the images.
        hidden: Width of the projector's middle.
        size_px: Side of the views; None: the images' own, 64 at most.
        fit: How a non-square image is made square: "crop" its middle, "pad" or "squash".
        augment: "contrastive", "medical" or "photographs"; any callable (pixels uint8 (n, s, s, 3),
            generator) -> (n, 3, t, t); or a dataset of ready pairs of views.
        neighbor_fraction: Of the pairs that are of an image and one of its neighbours in a graph that `fit` is given;
            the others are of one image twice.
        batch_size: Images a step; None: a power of two that leaves 8 steps an epoch, `batch_limit` at most.
        batch_limit: See `batch_size`.
        accumulate: Batches whose gradients are averaged before one update; negatives stay within a batch.
        optimizer, weight_decay, clip_gradient: Of every stage.
        minutes: Time for the training: a step is measured, each stage gets its share, and a stage of everything as many
            epochs as it really has time for.
        seed: Settles every random choice.
        device, precision: Where and how; "auto" takes the best there is.
    """

    stages: tuple[Stage, ...]
    backbone: str | nn.Module = "resnet18"
    stem: Literal["auto", "small", "strided", "imagenet"] = "auto"
    width: int = 64
    hidden: int = 1024
    size_px: int | None = None
    fit: Literal["crop", "pad", "squash"] = "crop"
    augment: str | Augment | Any = "contrastive"
    neighbor_fraction: float = 0.0
    batch_size: int | None = None
    batch_limit: int = 1024
    accumulate: int = 1
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    weight_decay: float = 5e-4
    clip_gradient: float | None = None
    minutes: float | None = None
    seed: int = 0
    device: str = "auto"
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        settle_numbers(self)
        for name in ("width", "hidden", "size_px", "batch_limit", "accumulate"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise InputError(f"{name} must be at least 1, got {value}")
        if not self.stages:
            raise InputError("a recipe needs at least one stage")
        first = self.stages[0].trains
        if first != "all" and isinstance(self.backbone, str) and self.backbone.startswith("resnet"):
            raise InputError(f"the first stage cannot train only the {first} of a network that has learned nothing yet")
        if isinstance(self.backbone, os.PathLike):
            object.__setattr__(self, "backbone", os.fspath(self.backbone))
        if not isinstance(self.backbone, str | nn.Module):
            raise InputError(f"backbone must be a name, the folder of a model or a module, got {self.backbone!r}")
        if not isinstance(self.device, str):
            raise InputError(f"device must be the name of one, such as 'cpu', got {self.device!r}")
        if self.stem not in ("auto", *STEMS):
            raise InputError(f"stem must be one of auto, {', '.join(STEMS)}, got '{self.stem}'")
        if self.fit not in ("crop", "pad", "squash"):
            raise InputError(f"fit must be 'crop', 'pad' or 'squash', got '{self.fit}'")
        made = callable(self.augment) or hasattr(self.augment, "__getitem__")
        if self.augment not in AUGMENTS if isinstance(self.augment, str) else not made:
            raise InputError(
                f"augment must be one of {', '.join(AUGMENTS)}, a callable or a dataset, got '{self.augment}'"
            )
        if not 0 <= self.neighbor_fraction <= 1:
            raise InputError(f"neighbor_fraction must be 0 to 1, got {self.neighbor_fraction}")
        if self.batch_size is not None and self.batch_size < 2:
            raise InputError(f"batch_size must be at least 2 images to contrast, got {self.batch_size}")
        if self.minutes is not None and not self.minutes > 0:
            raise InputError(f"minutes must be above 0, got {self.minutes}")

    def batch_for(self, images: int) -> int:
        """Images a step for a collection of `images`."""
        if self.batch_size is not None:
            return self.batch_size
        if images < 64:
            return images
        return max(32, min(self.batch_limit, 2 ** ((images // 8).bit_length() - 1)))

    def check_count(self, images: int) -> None:
        """Refuse a collection that is smaller than a batch, or that leaves nothing to contrast."""
        if images < 2:
            raise InputError(f"learning needs at least 2 images to contrast, got {images}")
        needed = (self.batch_size or 2) * self.accumulate
        if images < needed:
            raise InputError(
                f"a batch of {needed} images needs at least as many images, got {images}; use a smaller batch_size"
            )

    def schedule(self, stage: Stage, images: int) -> Schedule:
        batch = self.batch_for(images)
        return Schedule(
            epochs=stage.epochs,
            batch_size=batch,
            learning_rate=stage.learning_rate * batch / 256,
            warmup_epochs=min(stage.warmup_epochs, stage.epochs / 4),
            decay=stage.decay,
            optimizer=self.optimizer,
            weight_decay=self.weight_decay,
            clip_gradient=self.clip_gradient,
            accumulate=self.accumulate,
        )

    def as_json(self) -> dict[str, Any]:
        """Plain values; what the user made in Python is named by its type."""
        values = asdict(replace(self, backbone="", augment="contrastive"))
        for name in ("backbone", "augment"):
            value = getattr(self, name)
            values[name] = value if isinstance(value, str) else f"<{type(value).__module__}.{type(value).__qualname__}>"
        values["stages"] = list(values["stages"])
        return values


def settle_numbers(settings: Any) -> None:
    """Make numbers plain ones (NumPy's, and `1e-3`, which is a string in YAML); InputError for what is none."""
    kinds: dict[Any, tuple[Any, str]] = {int: (operator.index, "a whole number"), float: (float, "a number")}
    for field in fields(settings):
        value = getattr(settings, field.name)
        for kind, (convert, what) in kinds.items():
            if field.type == kind or (field.type == kind | None and value is not None):
                try:
                    object.__setattr__(settings, field.name, convert(value))
                except (TypeError, ValueError) as error:
                    raise InputError(f"{field.name} must be {what}, got {value!r}") from error


def known_settings() -> list[str]:
    """Every setting that a recipe, or the learning of a map, can be given, by name."""
    own = ["epochs", "preset", "out_dim", "temperature", "keep_stages", "snapshot_epochs"]
    return [*own, *(field.name for field in fields(Recipe))]
