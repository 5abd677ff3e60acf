"""From an image to a network's input, in plain values: the same in training, in every table and for every query."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self, get_args

from jaxtyping import Float, UInt8
from torch import Tensor

from imagescape.errors import InputError
from imagescape.images.decode import Fit, Resample
from imagescape.learn.augment import Contrastive

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How an image becomes the network's input.

    It is made a square of `cache_px` by Pillow (`square`), which is where it may be kept as uint8. Of that the network
    sees the whole, resized to `size_px`; or, with `center_crop`, the middle `size_px` as they are.

    Attributes:
        size_px: Side of the network's input.
        cache_px: Side at which images are first made square; in training, crops are taken from it.
        fit: How a non-square image is made square: "crop", "pad" or "squash".
        mean, std: Of the channels, in [0, 1].
        resample: Pillow's filter on the way to `cache_px`.
        center_crop: Whether the network sees only the middle of it.

    Raises:
        InputError: a word or a size that cannot be.
    """

    size_px: int
    cache_px: int
    fit: Fit
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resample: Resample = "bicubic"
    center_crop: bool = False

    def __post_init__(self) -> None:
        for name, known in (("fit", get_args(Fit)), ("resample", get_args(Resample))):
            if getattr(self, name) not in known:
                raise InputError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")
        for name in ("size_px", "cache_px"):
            side = getattr(self, name)
            if not isinstance(side, int) or side < 4:
                raise InputError(f"{name} must be a whole number of at least 4 pixels, got {side!r}")
        for name in ("mean", "std"):
            values = getattr(self, name)
            numbers = isinstance(values, (tuple, list)) and all(isinstance(value, (int, float)) for value in values)
            if not numbers or len(values) != 3 or (name == "std" and not all(value > 0 for value in values)):
                least = " above 0" if name == "std" else ""
                raise InputError(f"{name} must be three numbers{least}, one a channel, got {values!r}")
            object.__setattr__(self, name, tuple(map(float, values)))
        if self.center_crop and self.cache_px < self.size_px:
            raise InputError(f"the middle {self.size_px} px cannot be cut out of {self.cache_px} px")

    def view(self, pixels: UInt8[Tensor, "n s s 3"]) -> Float[Tensor, "n 3 t t"]:
        """What the network sees of images that are squares of `cache_px` already; nothing of it is random."""
        if self.center_crop:
            top, left = ((side - self.size_px) // 2 for side in pixels.shape[1:3])
            pixels = pixels[:, top : top + self.size_px, left : left + self.size_px]
        return Contrastive(size_px=self.size_px, mean=self.mean, std=self.std).plain(pixels)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Of what `asdict` gave, read back from JSON.

        Raises:
            InputError: a value is missing, unknown, or cannot be.
        """
        known = {field.name for field in fields(cls)}
        if unknown := sorted(values.keys() - known):
            raise InputError(f"a preprocessing has no {', '.join(unknown)}; it has {', '.join(sorted(known))}")
        if missing := sorted({"size_px", "cache_px", "fit", "mean", "std"} - values.keys()):
            raise InputError(f"a preprocessing needs {', '.join(missing)} too")
        return cls(**values)
