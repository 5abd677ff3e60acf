"""Augmentation of whole batches on the device: uint8 images in, normalised float views out.

One view of one image is three matrix products. Cropping, resizing, mirroring and blurring are
linear along each axis, so each axis is one small matrix; brightness, contrast, saturation, hue
and grayscale are affine in the colours of an image, so all of them together, and the
normalisation with them, are one 3x3 matrix and an offset. Nothing loops over images, and every
image of every view draws its own parameters.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Generator, Tensor

from imagescape.errors import InputError
from imagescape.runtime import has_fast_bf16

# ITU-R 601 luma, the grey of Pillow and of every SimCLR implementation.
LUMA = (0.299, 0.587, 0.114)
_RGB_TO_YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))
_YIQ_TO_RGB = tuple(map(tuple, np.linalg.inv(_RGB_TO_YIQ).tolist()))
_CROP_TRIES = 10


class Augment(Protocol):
    """Anything that turns a batch of images into one view of each."""

    def __call__(self, pixels: UInt8[Tensor, "n s s 3"], generator: Generator) -> Float[Tensor, "n 3 t t"]: ...


@dataclass(frozen=True, kw_only=True)
class Contrastive:
    """The augmentations of contrastive learning, as t-SimCNE uses them (Boehm et al. 2023, arXiv:2210.09879).

    Random resized crop, mirror, colour jitter and grayscale, drawn per image and per view. Two
    things differ from a chain of Pillow calls: values are clipped once, at the end of the
    colour changes, so that their order does not matter, and hue turns the colour around the
    grey axis (YIQ) instead of in HSV.

    Attributes:
        size_px: Side of a view.
        mean, std: Of the collection's channels, in [0, 1]; a view is (colour - mean) / std.
        crop_scale: Area of a crop as a fraction of the image, (least, most).
        crop_ratio: Width / height of a crop, (least, most), drawn uniformly in its logarithm.
        mirror_probability: Of a left-right flip.
        flip_probability: Of an upside-down flip.
        jitter: Strengths of brightness, contrast, saturation (factors of 1 +- s) and hue (turns, +- s).
        jitter_probability, grayscale_probability, blur_probability: Of each.
        blur_sigma_px: Range of the Gaussian's standard deviation.
        rotation_degrees: Largest turn either way, 180 for any angle; corners are filled by reflection.
    """

    size_px: int
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    crop_scale: tuple[float, float] = (0.2, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    mirror_probability: float = 0.5
    flip_probability: float = 0.0
    jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.4, 0.1)
    jitter_probability: float = 0.8
    grayscale_probability: float = 0.2
    blur_probability: float = 0.0
    blur_sigma_px: tuple[float, float] = (0.1, 2.0)
    rotation_degrees: float = 0.0

    def __post_init__(self) -> None:
        for name in ("mirror", "flip", "jitter", "grayscale", "blur"):
            probability = getattr(self, f"{name}_probability")
            if not 0 <= probability <= 1:
                raise InputError(f"{name}_probability must be in [0, 1], got {probability}")
        if not 0 < self.crop_scale[0] <= self.crop_scale[1] <= 1:
            raise InputError(f"crop_scale must satisfy 0 < least <= most <= 1, got {self.crop_scale}")
        if self.size_px < 4:
            raise InputError(f"size_px must be at least 4, got {self.size_px}")

    @torch.no_grad()
    def __call__(self, pixels: UInt8[Tensor, "n s s 3"], generator: Generator) -> Float[Tensor, "n 3 t t"]:
        """One random view of each image, normalised."""
        draw = Draw(len(pixels), generator)
        images = planes(pixels, resample_dtype(pixels.device))
        if self.rotation_degrees:
            images = _rotate(images, draw.uniform(-self.rotation_degrees, self.rotation_degrees))
        height_px, width_px = images.shape[2:]
        top, left, height, width = crop_boxes(height_px, width_px, self.crop_scale, self.crop_ratio, draw)
        rows = _resize_matrix(height_px, self.size_px, top, height, draw.chance(self.flip_probability))
        columns = _resize_matrix(width_px, self.size_px, left, width, draw.chance(self.mirror_probability))
        if self.blur_probability:
            sigma = draw.uniform(*self.blur_sigma_px) * draw.chance(self.blur_probability)
            blur = blur_matrix(self.size_px, sigma)
            rows, columns = blur @ rows, blur @ columns
        return self.recolour(resample(images, rows, columns), draw)

    @torch.no_grad()
    def plain(self, pixels: UInt8[Tensor, "n s s 3"]) -> Float[Tensor, "n 3 t t"]:
        """The whole image, resized and normalised: the view for `transform` and evaluation."""
        images = planes(pixels, torch.float32)
        if images.shape[2:] != (self.size_px, self.size_px):
            zero = torch.zeros(1, device=images.device)
            rows, columns = (
                _resize_matrix(side, self.size_px, zero, zero + side, zero).expand(len(images), -1, -1)
                for side in images.shape[2:]
            )
            images = resample(images, rows, columns)
        mean, std = (_constant(values, images.device)[:, None, None] for values in (self.mean, self.std))
        return ((images / 255 - mean) / std).contiguous(memory_format=torch.channels_last)

    def recolour(self, views: Float[Tensor, "n 3 t t"], draw: "Draw") -> Float[Tensor, "n 3 t t"]:
        """Views of colours 0 … 255 with their colours changed, and normalised."""
        matrix, offset = self._colour_change(views.mean(dim=(2, 3)) / 255, draw)
        mean, std = (_constant(values, views.device)[:, None] for values in (self.mean, self.std))
        matrix, offset = matrix / (255 * std), (offset[..., None] - mean) / std
        coloured = torch.baddbmm(offset, matrix, views.flatten(2))  # the copy puts whole planes together
        for channel, (middle, deviation) in enumerate(zip(self.mean, self.std, strict=True)):
            # By numbers: a clamp by a tensor of three is ten times as slow on a processor.
            coloured[:, channel].clamp_(-middle / deviation, (1 - middle) / deviation)
        return coloured.view_as(views)

    def _colour_change(
        self, mean_colour: Float[Tensor, "n 3"], draw: "Draw"
    ) -> tuple[Float[Tensor, "n 3 3"], Float[Tensor, "n 3"]]:
        """All colour changes of each image as colour -> matrix @ colour + offset, colours in [0, 1].

        In YIQ, brightness scales everything, contrast pulls everything towards the mean grey, saturation
        scales chroma and hue turns it. None of them minds the order, so none is drawn.
        """
        luma = _constant(LUMA, mean_colour.device)
        jittered = draw.chance(self.jitter_probability)
        brightness, contrast, saturation = (1 + draw.uniform(-min(s, 1.0), s) * jittered for s in self.jitter[:3])
        turn = draw.uniform(-self.jitter[3], self.jitter[3]) * jittered
        saturation = saturation * (1 - draw.chance(self.grayscale_probability))
        matrix = (brightness * contrast)[:, None, None] * _chroma_matrix(saturation, turn)
        offset = brightness * (1 - contrast) * (mean_colour @ luma)
        return matrix, offset[:, None].expand(-1, 3)


def medical(size_px: int, **changes: object) -> Contrastive:
    """For micrographs, skin and aerial images: no way is up and colour means something.

    Any rotation, both flips, no colour jitter, grayscale at .05 (arXiv:2402.14566).
    """
    return replace(
        Contrastive(
            size_px=size_px,
            rotation_degrees=180,
            flip_probability=0.5,
            jitter_probability=0,
            grayscale_probability=0.05,
        ),
        **changes,  # type: ignore[arg-type]
    )


def photographs(size_px: int, **changes: object) -> Contrastive:
    """For large photographs: SimCLR's ImageNet set, stronger colours, smaller crops, blur (arXiv:2002.05709)."""
    return replace(
        Contrastive(size_px=size_px, crop_scale=(0.08, 1.0), jitter=(0.8, 0.8, 0.8, 0.2), blur_probability=0.5),
        **changes,  # type: ignore[arg-type]
    )


AUGMENTS: dict[str, Callable[..., Contrastive]] = {
    "contrastive": Contrastive,
    "medical": medical,
    "photographs": photographs,
}


@lru_cache(maxsize=64)
def _constant(values: tuple[Any, ...], device: torch.device) -> Tensor:
    """A tensor that is copied to the device once, and not at every batch."""
    with torch.inference_mode(False):  # it outlives the mode it is first asked for in
        return torch.tensor(values, device=device)


class Draw:
    """Random numbers for n images, on the generator's device."""

    def __init__(self, n: int, generator: Generator) -> None:
        self.n, self._generator = n, generator

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        unit = torch.rand(self.n, *shape, generator=self._generator, device=self._generator.device)
        return low + (high - low) * unit

    def chance(self, probability: float) -> Tensor:
        """1.0 with `probability`, else 0.0."""
        return (self.uniform(0, 1) < probability).float()

    def normal(self, *shape: int) -> Tensor:
        """Standard normal."""
        return torch.randn(self.n, *shape, generator=self._generator, device=self._generator.device)

    def index(self, count: int, *shape: int) -> Tensor:
        """Whole numbers from 0 to `count` - 1."""
        size = (self.n, *shape)
        return torch.randint(count, size, generator=self._generator, device=self._generator.device)

    def of(self, n: int) -> "Draw":
        """The same for some of the images, `n` of them."""
        return Draw(n, self._generator)


@lru_cache
def resample_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where it is fast: five times so on a processor, and the 8 bits that Pillow keeps between its passes."""
    return torch.bfloat16 if has_fast_bf16(device) else torch.float32


def planes(pixels: UInt8[Tensor, "n h w 3"], dtype: torch.dtype) -> Float[Tensor, "n 3 h w"]:
    """Colour planes, in the memory order (n, h, 3, w) that `resample` works in."""
    return pixels.transpose(2, 3).contiguous().to(dtype).transpose(1, 2)


def crop_boxes(
    full_height: int, full_width: int, scale: tuple[float, float], ratio: tuple[float, float], draw: Draw
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Top, left, height and width of a crop of each image, in pixels, as fractions allow.

    The first of ten draws that fits is taken, and the largest crop of an allowed shape when none does, so
    that large crops are as likely as in the usual one-image-at-a-time code.
    """
    area = draw.uniform(*scale, _CROP_TRIES) * (full_height * full_width)
    aspect = draw.uniform(math.log(ratio[0]), math.log(ratio[1]), _CROP_TRIES).exp()
    width, height = (area * aspect).sqrt(), (area / aspect).sqrt()
    fits = (width <= full_width) & (height <= full_height)
    first = fits.float().argmax(1, keepdim=True)
    fits_at_all = fits.any(1)
    width = torch.where(fits_at_all, width.gather(1, first)[:, 0], min(full_width, full_height * ratio[1]))
    height = torch.where(fits_at_all, height.gather(1, first)[:, 0], min(full_height, full_width / ratio[0]))
    top = draw.uniform(0, 1) * (full_height - height)
    left = draw.uniform(0, 1) * (full_width - width)
    return top, left, height, width


def _resize_matrix(
    source: int, target: int, start: Float[Tensor, " n"], length: Float[Tensor, " n"], reverse: Tensor
) -> Float[Tensor, "n target source"]:
    """Antialiased linear interpolation of [start, start + length) to `target` samples, one matrix an image."""
    step = length / target
    out = torch.arange(target, device=start.device) + 0.5
    out = torch.where(reverse[:, None] > 0, target - out, out)
    centres = start[:, None] + out * step[:, None]
    inputs = torch.arange(source, device=start.device) + 0.5
    # A triangle as wide as one output sample, and never narrower than one input sample.
    reach = step.clamp_min(1)[:, None, None]
    weights = (1 - (inputs - centres[..., None]).abs() / reach).clamp_min(0)
    return weights / weights.sum(-1, keepdim=True)


def blur_matrix(size: int, sigma: Float[Tensor, " n"]) -> Float[Tensor, "n size size"]:
    """Gaussian blur along an axis, cut off at SimCLR's kernel of a tenth of the image; sigma 0 changes nothing."""
    reach = max(1, int(0.1 * size) // 2)
    position = torch.arange(size, device=sigma.device, dtype=torch.float32)
    apart = (position[:, None] - position).abs()
    weights = torch.exp(-apart.square() / (2 * sigma.clamp_min(1e-3).square())[:, None, None]) * (apart <= reach)
    return weights / weights.sum(-1, keepdim=True)


def resample(
    images: Float[Tensor, "n c h w"], rows: Float[Tensor, "n t h"], columns: Float[Tensor, "n t w"]
) -> Float[Tensor, "n c t t"]:
    """`rows` times each plane times `columns` transposed, float32."""
    n, channels, h, w = images.shape
    t = rows.shape[1]
    # Channels between rows and columns: then both products are one matrix an image, whatever the channels.
    lines = images.transpose(1, 2).reshape(n, h * channels, w)
    narrow = torch.bmm(lines, columns.to(lines).transpose(1, 2)).view(n, h, channels * t)
    return torch.bmm(rows.to(lines), narrow).view(n, t, channels, t).transpose(1, 2).float()


def _rotate(images: Float[Tensor, "n 3 h w"], degrees: Float[Tensor, " n"]) -> Float[Tensor, "n 3 h w"]:
    angle = degrees * (math.pi / 180)
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    aspect = images.shape[2] / images.shape[3]
    theta = torch.stack([cos, -sin * aspect, zero, sin / aspect, cos, zero], 1).view(-1, 2, 3)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    turned = F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    return turned.to(images)


def _chroma_matrix(scale: Float[Tensor, " n"], turns: Float[Tensor, " n"]) -> Float[Tensor, "n 3 3"]:
    """Scales the chroma of colours and turns it around the grey axis; greys and luma stay."""
    angle = turns * (2 * math.pi)
    cos, sin, zero, one = scale * angle.cos(), scale * angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
    change = torch.stack([one, zero, zero, zero, cos, sin, zero, -sin, cos], 1).view(-1, 3, 3)
    to_yiq, from_yiq = (_constant(matrix, turns.device) for matrix in (_RGB_TO_YIQ, _YIQ_TO_RGB))
    return from_yiq @ change @ to_yiq
