"""Strong augmentation of whole batches: what self-labelling and whole-network SCAN learn to see through.

Mirror, shifted crop, a few random operations out of twelve, and a blank square (RandAugment: Cubuk et al. 2019,
arXiv:1909.13719; cutout: DeVries and Taylor 2017, arXiv:1708.04552; as SCAN has them: arXiv:2005.12320). Each image
draws its own operations and strengths. Nothing loops over images: those that drew the same operation go through it
together.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Generator, Tensor

from imagescape.errors import InputError
from imagescape.learn.augment import LUMA, Contrastive, Draw

Images = Float[Tensor, "n 3 h w"]  # colours 0 … 255
Operation = Callable[[Images, Draw], Images]


def autocontrast(images: Images, draw: Draw) -> Images:
    """Stretch each channel of each image to 0 … 255; a channel of one level stays."""
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    scale = torch.where(high > low, 255 / (high - low).clamp_min(1e-6), 1.0)
    return torch.where(high > low, (images - low) * scale, images)


def equalize(images: Images, draw: Draw) -> Images:
    """Spread the levels of each channel of each image so that each occurs about as often, by Pillow's rule."""
    levels = images.clamp(0, 255).round().long().flatten(2).flatten(0, 1)
    counts = torch.zeros(len(levels), 256, dtype=torch.int64, device=images.device)
    counts.scatter_add_(1, levels, torch.ones_like(levels))
    highest = levels.amax(1, keepdim=True)
    step = (levels.shape[1] - counts.gather(1, highest)) // 255
    below = counts.cumsum(1) - counts
    table = ((below + step // 2) // step.clamp_min(1)).clamp_max(255)
    spread = table.gather(1, levels).to(images)
    return torch.where(step > 0, spread, levels.to(images)).view_as(images)


def rotate(images: Images, draw: Draw) -> Images:
    """Up to 30 degrees either way; corners are black."""
    angle = draw.uniform(-30, 30).deg2rad()
    return _affine(images, angle.cos(), -angle.sin(), angle.sin(), angle.cos())


def shear(images: Images, draw: Draw) -> Images:
    """Along one of the axes, up to a tenth either way."""
    by, zero, one = _along_one_axis(draw, 0.1)
    return _affine(images, one, by[0], by[1], one, zero, zero)


def translate(images: Images, draw: Draw) -> Images:
    """Along one of the axes, up to a tenth of the side either way."""
    by, zero, one = _along_one_axis(draw, 0.2)  # of half a side, which is what the grid counts in
    return _affine(images, one, zero, zero, one, *by)


def solarize(images: Images, draw: Draw) -> Images:
    """Turn levels from a threshold of 0 … 256 upwards into their negative."""
    return torch.where(images >= draw.uniform(0, 256)[:, None, None, None], 255 - images, images)


def posterize(images: Images, draw: Draw) -> Images:
    """Keep the first 4 to 8 bits of each level."""
    step = 2.0 ** (8 - draw.uniform(4, 9).floor().clamp_max(8))[:, None, None, None]
    return (images / step).floor() * step


def color(images: Images, draw: Draw) -> Images:
    """Towards the image's greys."""
    return _blend(_grey(images).expand_as(images), images, draw)


def contrast(images: Images, draw: Draw) -> Images:
    """Towards the mean grey of the image."""
    return _blend(_grey(images).mean((2, 3), keepdim=True).expand_as(images), images, draw)


def brightness(images: Images, draw: Draw) -> Images:
    """Towards black."""
    return _blend(torch.zeros_like(images), images, draw)


def sharpness(images: Images, draw: Draw) -> Images:
    """Towards a smoothed image, by Pillow's kernel; the border stays."""
    kernel = torch.ones(3, 3, device=images.device)
    kernel[1, 1] = 5
    inner = F.conv2d(images.flatten(0, 1)[:, None], (kernel / 13)[None, None])[:, 0].unflatten(0, images.shape[:2])
    smooth = images.clone()
    smooth[:, :, 1:-1, 1:-1] = inner
    return _blend(smooth, images, draw)


def identity(images: Images, draw: Draw) -> Images:
    """Nothing."""
    return images


OPERATIONS: tuple[Operation, ...] = (
    identity,
    autocontrast,
    equalize,
    rotate,
    solarize,
    color,
    contrast,
    brightness,
    sharpness,
    shear,
    translate,
    posterize,
)


@dataclass(frozen=True, kw_only=True)
class Strong:
    """Mirror, shifted crop, random operations, blank square.

    Attributes:
        size_px: Side of a view.
        mean, std: Of the collection's channels, in [0, 1]; a view is (colour - mean) / std.
        mirror_probability: Of a left-right flip.
        shift_fraction: Largest shift either way, of the side; what comes in is black.
        operations: How many of `OPERATIONS` each image goes through, one after the other, drawn with replacement.
        blank_fraction: Largest side of the blank square, of the view's; it has the collection's mean colour.
    """

    size_px: int
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    mirror_probability: float = 0.5
    shift_fraction: float = 1 / 8
    operations: int = 4
    blank_fraction: float = 1 / 2

    def __post_init__(self) -> None:
        for name in ("mirror_probability", "shift_fraction", "blank_fraction"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        if self.size_px < 4:
            raise InputError(f"size_px must be at least 4, got {self.size_px}")
        if self.operations < 0:
            raise InputError(f"operations must be at least 0, got {self.operations}")

    @torch.no_grad()
    def __call__(self, pixels: UInt8[Tensor, "n s s 3"], generator: Generator) -> Float[Tensor, "n 3 t t"]:
        """One random view of each image, normalised."""
        draw = Draw(len(pixels), generator)
        images = 255 * Contrastive(size_px=self.size_px).plain(pixels).contiguous()
        images = _shifted(images, self.shift_fraction, self.mirror_probability, draw)
        for _ in range(self.operations):
            chosen = draw.uniform(0, len(OPERATIONS)).long().clamp_max(len(OPERATIONS) - 1)
            changed = torch.empty_like(images)
            for number, operation in enumerate(OPERATIONS):
                rows = (chosen == number).nonzero()[:, 0]
                if len(rows):
                    changed[rows] = operation(images[rows], Draw(len(rows), generator))
            images = changed.clamp_(0, 255)
        mean, std = (images.new_tensor(values)[:, None, None] for values in (self.mean, self.std))
        views = (images / 255 - mean) / std
        views = views * ~_square(self.size_px, self.blank_fraction, draw)[:, None]
        return views.contiguous(memory_format=torch.channels_last)


def _along_one_axis(draw: Draw, most: float) -> tuple[list[Tensor], Tensor, Tensor]:
    """An amount for each axis, of which one is 0; and zeros, and ones."""
    amount, vertical = draw.uniform(-most, most), draw.chance(0.5)
    return [amount * (1 - vertical), amount * vertical], torch.zeros_like(amount), torch.ones_like(amount)


def _affine(
    images: Images, a: Tensor, b: Tensor, c: Tensor, d: Tensor, x: Tensor | None = None, y: Tensor | None = None
) -> Images:
    """What lies at (a b; c d) place + (x, y), places counted from the middle in half sides; black beyond the border."""
    zero = torch.zeros_like(a)
    theta = torch.stack([a, b, zero if x is None else x, c, d, zero if y is None else y], 1).view(-1, 2, 3)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _blend(plain: Images, images: Images, draw: Draw) -> Images:
    """A share of .05 to .95 of the image stays."""
    return torch.lerp(plain, images, draw.uniform(0.05, 0.95)[:, None, None, None])


def _grey(images: Images) -> Float[Tensor, "n 1 h w"]:
    return (images * images.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True)


def _shifted(images: Images, fraction: float, mirror_probability: float, draw: Draw) -> Images:
    """Each image moved by whole pixels, and mirrored or not."""
    side, most = images.shape[2], round(fraction * images.shape[2])
    place = torch.arange(side, device=images.device)
    down, right = (draw.uniform(-most, most + 1).floor().long().clamp_max(most)[:, None] for _ in range(2))
    mirrored = draw.chance(mirror_probability)[:, None] > 0
    rows, columns = place + down, torch.where(mirrored, side - 1 - place, place) + right
    inside = ((rows >= 0) & (rows < side))[:, :, None] & ((columns >= 0) & (columns < side))[:, None, :]
    rows, columns = rows.clamp(0, side - 1), columns.clamp(0, side - 1)
    number = torch.arange(len(images), device=images.device)[:, None, None]
    moved = images.permute(0, 2, 3, 1)[number, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    return moved * inside[:, None]


def _square(side: int, fraction: float, draw: Draw) -> Tensor:
    """Where each image is blank, (n, side, side) bool: a square of 1 px to `fraction` of the side, cut at borders."""
    place = torch.arange(side, device=draw.uniform(0, 1).device)
    width = draw.uniform(1, max(1, round(fraction * side)) + 1).floor()[:, None] * (fraction > 0)
    spans = []
    for _ in range(2):
        start = (draw.uniform(0, side)[:, None] - width / 2).round()
        spans.append((place >= start) & (place < start + width))
    return spans[0][:, :, None] & spans[1][:, None, :]
