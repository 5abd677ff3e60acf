"""What people do to pictures before they show them again, to whole batches on the device.

Crop, mirror, rotate, put into a collage or a frame, paste over, write on, blur, add noise, compress, change colours.
Cropping, placing and resizing are one matrix an axis, as in `augment`; what only some images of a batch go through is
done to those alone. Nothing loops over images, and each draws its own.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Generator, Tensor

from imagescape.errors import InputError
from imagescape.learn.augment import Contrastive, Draw, blur_matrix, crop_boxes, planes, resample, resample_dtype
from imagescape.learn.jpeg import jpeg
from imagescape.learn.marks import lettering, stickers

Images = Float[Tensor, "n 3 h w"]  # colours 0 … 255

# Of each edit, the families of attacks (`search.attacks`) that it is like: a network trained on it knows those.
LIKE: dict[str, tuple[str, ...]] = {
    "crop": ("crop", "scale"),
    "flip": ("flip",),
    "rotate": ("rotate",),
    "collage": ("collage",),
    "border": ("border",),
    "overlay": ("overlay",),
    "text": ("text", "caption"),
    "colour": ("contrast", "colour", "brightness", "colour_cast"),
    "blur": ("gaussian_filter", "median_filter", "sharpness"),
    "noise": ("gaussian_noise", "speckle_noise", "salt_and_pepper"),
    "jpeg": ("jpeg", "webp"),
}
EDITS = tuple(LIKE)

# How often each edit is made; several meet in one view.
_CHANCE = {
    "crop": 0.6, "flip": 0.2, "rotate": 0.25, "collage": 0.3, "border": 0.15, "overlay": 0.3, "text": 0.3,
    "colour": 0.5, "blur": 0.25, "noise": 0.2, "jpeg": 0.3,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Edits:
    """Random edits of each image.

    Attributes:
        size_px: Side of a view.
        mean, std: Of the channels, in [0, 1]; a view is (colour - mean) / std.
        edits: Which of `EDITS` there are.
        jitter: Strength of the colour changes; 1 is SimCLR's for photographs.
        chance: Share of what each edit is made with as it comes; 0 leaves images as they are.
        crop_scale: Least and largest area of a crop, as a fraction of the image.
        rotation_degrees: Largest rotation either way.
    """

    size_px: int
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    edits: tuple[str, ...] = EDITS
    jitter: float = 0.5
    chance: float = 1.0
    crop_scale: tuple[float, float] = (0.15, 1.0)
    rotation_degrees: float = 60.0

    def __post_init__(self) -> None:
        if unknown := [one for one in self.edits if one not in EDITS]:
            raise InputError(f"edits are {', '.join(EDITS)}, got {', '.join(unknown)}")
        if self.size_px < 16:
            raise InputError(f"edits are made of views of 16 px or more, got {self.size_px}")
        if not 0 < self.crop_scale[0] <= self.crop_scale[1] <= 1:
            raise InputError(f"crop_scale must satisfy 0 < least <= most <= 1, got {self.crop_scale}")
        for name in ("jitter", "chance"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name} must be at least 0 and finite, got {getattr(self, name)}")

    @torch.no_grad()
    def __call__(
        self,
        pixels: UInt8[Tensor, "n s s 3"],
        generator: Generator,
        others: UInt8[Tensor, "m s s 3"] | None = None,
    ) -> Float[Tensor, "n 3 t t"]:
        """One edited view of each image, normalised.

        Args:
            pixels: The images.
            generator: Where all randomness comes from.
            others: Other pictures that collages are filled with and that are pasted in; None: the images themselves.
        """
        draw, images = Draw(len(pixels), generator), planes(pixels, resample_dtype(pixels.device))
        others = pixels if others is None else others
        if len(rows := self._drawn("rotate", draw)):
            images[rows] = _turned(images[rows], self.rotation_degrees, draw.of(len(rows))).to(images)
        views = self._placed(images, others, draw)
        for edit, change in (("overlay", self._overlay), ("text", self._write)):
            if len(rows := self._drawn(edit, draw)):
                views[rows] = change(views[rows], others, draw.of(len(rows)))
        for name, spoil in (("blur", _blurred), ("noise", _noisy), ("jpeg", _compressed)):
            if len(rows := self._drawn(name, draw)):
                views[rows] = spoil(views[rows].clamp_(0, 255), draw.of(len(rows)))
        return self._colours().recolour(views.clamp_(0, 255), draw).contiguous(memory_format=torch.channels_last)

    def _drawn(self, edit: str, draw: Draw) -> Tensor:
        """Rows of the images that this edit falls to."""
        chance = _CHANCE[edit] * self.chance if edit in self.edits else 0.0
        return draw.chance(chance).nonzero()[:, 0]

    def _colours(self) -> Contrastive:
        strength = self.jitter * (self.chance > 0) * ("colour" in self.edits)
        return Contrastive(
            size_px=self.size_px,
            mean=self.mean,
            std=self.std,
            jitter=(0.8 * strength, 0.8 * strength, 0.8 * strength, 0.1 * strength),
            jitter_probability=min(1.0, _CHANCE["colour"] * self.chance),
            grayscale_probability=0.08 * (strength > 0),
        )

    def _placed(self, images: Images, others: Tensor, draw: Draw) -> Images:
        """Cropped, mirrored, and put into a box on something else."""
        side, size = images.shape[2], self.size_px
        collaged, framed = self._drawn("collage", draw), self._drawn("border", draw)
        source = _whole(draw, side)
        cut = crop_boxes(side, side, self.crop_scale, (1 / 2, 2.0), draw)
        cropped = torch.zeros_like(source[0], dtype=torch.bool)
        cropped[self._drawn("crop", draw)] = True
        source = [torch.where(cropped, new, old) for new, old in zip(cut, source, strict=True)]
        box = _whole(draw, size)
        canvas = images.new_zeros(len(images), 3, size, size, dtype=torch.float32)
        if len(framed):
            for part, value in zip(box, _frames(size, draw.of(len(framed))), strict=True):
                part[framed] = value
            canvas[framed] = _plain(draw.of(len(framed)))
        if len(collaged):
            cells, canvas[collaged] = _collages(others, size, draw.of(len(collaged)))
            for part, value in zip(box, cells, strict=True):
                part[collaged] = value
        upside, mirrored = torch.zeros_like(source[0]), torch.zeros_like(source[0])
        flipped = self._drawn("flip", draw)
        down = draw.of(len(flipped)).chance(0.3)
        upside[flipped], mirrored[flipped] = down, 1 - down
        rows = _axis(side, size, source[0], source[2], box[0], box[2], upside)
        columns = _axis(side, size, source[1], source[3], box[1], box[3], mirrored)
        covered = (rows.sum(-1) > 0.5)[:, None, :, None] & (columns.sum(-1) > 0.5)[:, None, None, :]
        return torch.where(covered, resample(images, rows, columns), canvas)

    def _overlay(self, views: Images, others: Tensor, draw: Draw) -> Images:
        """A sticker or another picture, opaque or translucent, over a part of each view."""
        bank = stickers(views.device)
        marks = bank[draw.index(len(bank))]
        pasted = draw.chance(0.35).nonzero()[:, 0]
        if len(pasted):
            picked = others[draw.of(len(pasted)).index(len(others))].permute(0, 3, 1, 2).float() / 255
            small = F.interpolate(picked, bank.shape[2:], mode="bilinear", antialias=True)
            marks[pasted] = torch.cat([small, torch.ones_like(small[:, :1])], dim=1)
        side = draw.uniform(0.15, 0.65) * views.shape[2]
        return _over(views, marks, side, side * draw.uniform(0.7, 1.4), draw.uniform(0.3, 1.6).clamp_max(1), draw)

    def _write(self, views: Images, others: Tensor, draw: Draw) -> Images:
        bank = lettering(views.device)
        side = draw.uniform(0.4, 1.1) * views.shape[2]
        opaque = torch.ones_like(side)
        return _over(views, bank[draw.index(len(bank))], side * draw.uniform(0.6, 1.0), side, opaque, draw)


def _whole(draw: Draw, side: float) -> list[Tensor]:
    """Top, left, height and width of the whole of a square."""
    zero = draw.uniform(0, 0)
    return [zero, zero.clone(), zero + side, zero + side]


def _turned(images: Images, degrees: float, draw: Draw) -> Images:
    """Rotated in a frame that grows with it, which is then the square; what comes in is black."""
    angle = draw.uniform(-degrees, degrees) * (math.pi / 180)
    grown = angle.cos().abs() + angle.sin().abs()
    cos, sin, zero = angle.cos() * grown, angle.sin() * grown, torch.zeros_like(angle)
    theta = torch.stack([cos, -sin, zero, sin, cos, zero], 1).view(-1, 2, 3)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _plain(draw: Draw) -> Images:
    """Black, white or any colour, (n, 3, 1, 1)."""
    kind = draw.index(3)[:, None]
    colour = torch.where(kind == 0, 0.0, torch.where(kind == 1, 255.0, draw.uniform(0, 255, 3)))
    return colour[:, :, None, None]


def _frames(size: int, draw: Draw) -> list[Tensor]:
    """Boxes that leave an even margin all around, or a bar on one side only."""
    margin = draw.uniform(0.03, 0.25) * size
    bar = draw.index(4)  # 0, 1: all around; 2: above; 3: below
    around = bar < 2
    top = torch.where(around | (bar == 2), margin, 0.0)
    height = size - margin * torch.where(around, 2.0, 1.0)
    left = torch.where(around, margin, 0.0)
    return [top, left, height, size - 2 * left]


def _collages(others: Tensor, size: int, draw: Draw) -> tuple[list[Tensor], Images]:
    """A cell for each image, and what is around it: a grid of other pictures, one of them, or a plain page."""
    kind = draw.index(6)  # 0: two beside, 1: two above each other, 2: four, 3: nine, 4, 5: anywhere
    rows = torch.tensor([1, 2, 2, 3, 1, 1], device=kind.device)[kind]
    columns = torch.tensor([2, 1, 2, 3, 1, 1], device=kind.device)[kind]
    height, width = size / rows, size / columns
    top = (draw.uniform(0, 1) * rows).floor().clamp_max(rows - 1) * height
    left = (draw.uniform(0, 1) * columns).floor().clamp_max(columns - 1) * width
    free = kind >= 4
    side = draw.uniform(0.35, 0.9) * size
    free_height, free_width = side, (side * draw.uniform(0.6, 1.6)).clamp_max(size)
    height, width = torch.where(free, free_height, height), torch.where(free, free_width, width)
    top = torch.where(free, draw.uniform(0, 1) * (size - height), top)
    left = torch.where(free, draw.uniform(0, 1) * (size - width), left)
    gap = draw.chance(0.5) * size / 60
    canvas = _plain(draw).expand(-1, -1, size, size).clone()
    for number, cells in ((0, (1, 2)), (1, (2, 1)), (2, (2, 2)), (3, (3, 3)), (4, (1, 1))):
        chosen = (kind == number).nonzero()[:, 0]
        if len(chosen):
            canvas[chosen] = _mosaic(others, size, cells, draw.of(len(chosen)))
    return [top + gap, left + gap, (height - 2 * gap).clamp_min(4), (width - 2 * gap).clamp_min(4)], canvas


def _mosaic(others: Tensor, size: int, cells: tuple[int, int], draw: Draw) -> Images:
    """A grid of pictures for each."""
    rows, columns = cells
    picked = others[draw.index(len(others), rows * columns).flatten()].permute(0, 3, 1, 2).float()
    tile = (math.ceil(size / rows), math.ceil(size / columns))
    tiles = F.interpolate(picked, tile, mode="bilinear", antialias=True).unflatten(0, (-1, rows, columns))
    grid = tiles.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)
    return grid[:, :, :size, :size]


def _axis(
    source: int, target: int, start: Tensor, length: Tensor, box_start: Tensor, box_length: Tensor, reverse: Tensor
) -> Float[Tensor, "n target source"]:
    """Antialiased interpolation of [start, start + length) into [box_start, box_start + box_length) of `target` px.

    Rows outside the box are all zeros.
    """
    place = (torch.arange(target, device=start.device) + 0.5 - box_start[:, None]) / box_length[:, None]
    inside = (place > 0) & (place < 1)
    place = torch.where(reverse[:, None] > 0, 1 - place, place)
    centres = start[:, None] + place * length[:, None]
    inputs = torch.arange(source, device=start.device) + 0.5
    reach = (length / box_length).clamp_min(1)[:, None, None]
    weights = (1 - (inputs - centres[..., None]).abs() / reach).clamp_min(0)
    return weights / weights.sum(-1, keepdim=True).clamp_min(1e-6) * inside[..., None]


def _over(
    views: Images,
    marks: Float[Tensor, "n 4 b b"],
    height: Float[Tensor, " n"],
    width: Float[Tensor, " n"],
    opacity: Float[Tensor, " n"],
    draw: Draw,
) -> Images:
    """A mark on each view, of this size in px, at a random place."""
    size, side = views.shape[2], marks.shape[2]
    zero = torch.zeros_like(height)
    axes = [
        _axis(side, size, zero, zero + side, draw.uniform(0, 1) * (size - length), length, zero)
        for length in (height, width)
    ]
    pasted = resample(marks, *axes) * opacity[:, None, None, None]
    return views * (1 - pasted[:, 3:]) + 255 * pasted[:, :3]


def _blurred(views: Images, draw: Draw) -> Images:
    """Blurred, or sharpened by what a blur takes away."""
    blur = blur_matrix(views.shape[2], draw.uniform(0.3, 0.02 * views.shape[2]))
    soft = resample(views, blur, blur)
    amount = torch.where(draw.chance(0.25) > 0, -draw.uniform(0, 1.5), 1.0)[:, None, None, None]
    return torch.lerp(views, soft, amount)


def _noisy(views: Images, draw: Draw) -> Images:
    """Normal noise, added or as a factor, or values set to black and white."""
    kind = draw.index(3)[:, None, None, None]
    strength = draw.uniform(0.02, 0.2)[:, None, None, None]
    noise = strength * draw.normal(*views.shape[1:])
    chance = draw.uniform(0, 1, *views.shape[1:])
    spots = torch.where(chance < strength / 4, 0.0, torch.where(chance > 1 - strength / 4, 255.0, views))
    return torch.where(kind == 0, views + 255 * noise, torch.where(kind == 1, views * (1 + noise), spots))


def _compressed(views: Images, draw: Draw) -> Images:
    return jpeg(views, draw.uniform(8, 90))


def mixed(views: Float[Tensor, "n 3 t t"], draw: Draw) -> Float[Tensor, "n 3 t t"]:
    """Each view together with the next one, the last with the first: faded into it, or a rectangle of it pasted in.

    Mixed images as of SSCD (arXiv:2202.10261), by mixup (Zhang et al. 2018, arXiv:1710.09412) and CutMix (Yun et al.
    2019, arXiv:1905.04899). Either picture has 30 to 70 % of the view.
    """
    size, partner = views.shape[2], views.roll(-1, 0)
    share = draw.uniform(0.3, 0.7)
    aspect = draw.uniform(-0.35, 0.35).exp()
    height, width = ((share.sqrt() * one).clamp_max(1) * size for one in (aspect, 1 / aspect))
    place = torch.arange(size, device=views.device)
    spans = []
    for length in (height, width):
        start = draw.uniform(0, 1) * (size - length)
        spans.append((place >= start[:, None]) & (place < (start + length)[:, None]))
    pasted = (spans[0][:, :, None] & spans[1][:, None, :])[:, None].to(views)
    faded = share[:, None, None, None].to(views)
    weight = torch.where(draw.chance(0.5)[:, None, None, None] > 0, pasted, faded)
    return torch.lerp(views, partner, weight)
