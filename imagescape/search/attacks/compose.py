"""Attacks that put an image among other things: collage, sticker, translucent shape, border. RGB images in and out."""

import colorsys
import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageOps

Others = Callable[[np.random.Generator], Image.Image]
"""Gives some other picture, chosen by the generator it is handed and by nothing else."""

_SMALLEST_CELL_PX = 32
_STICKER_SHEET_PX = 1024  # stickers are drawn up to four times as large as needed, for smooth edges, and not above this
_BICUBIC = Image.Resampling.BICUBIC


def collage(image: Image.Image, cells: int, rng: np.random.Generator, others: Others) -> Image.Image:
    """The image as a random cell of a grid of 2 (beside or above another picture), 4 or 9.

    Cells have the image's proportions, the other pictures are cut to them, thin white lines lie between. The grid fits
    into the image's own size, unless that would make cells of less than 32 px.
    """
    columns = rows = math.isqrt(cells)
    if cells == 2:
        columns, rows = ((1, 2), (2, 1))[rng.integers(2)]
    shrink = 1 / max(columns, rows)
    enlarge = min(1, max(1, _SMALLEST_CELL_PX / (min(image.size) * shrink)) * shrink)
    width, height = cell = (max(1, round(image.width * enlarge)), max(1, round(image.height * enlarge)))
    gap = max(1, round(min(cell) / 40))
    out = Image.new("RGB", (columns * (width + gap) - gap, rows * (height + gap) - gap), "white")
    place = rng.integers(columns * rows)
    for position in range(columns * rows):
        if position == place:
            tile = image.resize(cell, _BICUBIC)
        else:
            tile = ImageOps.fit(others(rng).convert("RGB"), cell, _BICUBIC)
        row, column = divmod(position, columns)
        out.paste(tile, (column * (width + gap), row * (height + gap)))
    return out


def drawn_picture(rng: np.random.Generator) -> Image.Image:
    """A landscape of random colours, for collages where no other images are at hand; 256 x 256 px."""
    size = 256
    sky, sun, ground = (np.array(_bright(rng)) for _ in range(3))
    height = np.linspace(0, 1, size)[:, None, None]
    pale = 0.6 * sky + 0.4 * 200  # a photograph's colours are rarely pure
    pixels = np.broadcast_to(pale * (1 - height) + 240 * height, (size, size, 3))
    out = Image.fromarray(pixels.astype(np.uint8))
    draw = ImageDraw.Draw(out)
    x, y, radius = rng.uniform(40, 216), rng.uniform(30, 110), rng.uniform(12, 36)
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), _rgb(0.5 * sun + 0.5 * 230))
    for depth in range(1, 4):
        peaks = [(step * size / 6, size * (0.35 + 0.17 * depth) + rng.uniform(-35, 35)) for step in range(7)]
        draw.polygon([(0, size), *peaks, (size, size)], _rgb((0.5 * ground + 0.5 * 120) * (1.2 - 0.25 * depth)))
    return out


def border(image: Image.Image, percent: float, rng: np.random.Generator) -> Image.Image:
    """A frame in black, white or a random colour around the image, `percent` of its shorter side wide."""
    width_px = max(1, round(min(image.size) * percent / 100))
    colour = ((0, 0, 0), (255, 255, 255), _bright(rng))[rng.integers(3)]
    return ImageOps.expand(image, width_px, colour)


def translucent_shape(image: Image.Image, opacity: float, rng: np.random.Generator) -> Image.Image:
    """An ellipse, bar or triangle of a random bright colour laid over about a third of the image."""
    width, height = image.size
    mask = Image.new("L", (width * 2, height * 2))  # twice as large, for smooth edges
    draw = ImageDraw.Draw(mask)
    x, y = rng.uniform(0.35, 0.65, 2) * mask.size
    kind = rng.integers(3)
    if kind == 0:
        a, b = np.array(mask.size) * rng.uniform(0.3, 0.36, 2)
        draw.ellipse((x - a, y - b, x + a, y + b), 255)
    elif kind == 1:  # a bar across, slightly slanted
        half, slant = mask.height * 0.17, mask.height * rng.uniform(-0.15, 0.15)
        corners = [(0, -half - slant), (1, -half + slant), (1, half + slant), (0, half - slant)]
        draw.polygon([(side * mask.width, y + down) for side, down in corners], 255)
    else:
        turns = rng.uniform(0, 2 * math.pi) + np.arange(3) * 2 * math.pi / 3
        draw.polygon([(x + 0.52 * mask.width * math.cos(t), y + 0.52 * mask.height * math.sin(t)) for t in turns], 255)
    mask = mask.resize(image.size, Image.Resampling.BOX).point([round(value * opacity) for value in range(256)])
    out = image.copy()
    out.paste(_bright(rng), (0, 0, width, height), mask)
    return out


def sticker(image: Image.Image, percent: float, rng: np.random.Generator) -> Image.Image:
    """An opaque emoji (face, heart, star or speech bubble) of `percent` of the image's area, somewhere inside it.

    Of an image so long that a round thing of that area does not fit, the sticker is as high as the shorter side.
    """
    side = min(math.sqrt(image.width * image.height * percent / 100), min(image.size) * 0.98)
    size_px = max(2, round(side))
    sheet_px = min(4 * size_px, _STICKER_SHEET_PX)
    sheet = Image.new("RGBA", (sheet_px, sheet_px))
    _STICKERS[rng.integers(len(_STICKERS))](ImageDraw.Draw(sheet), sheet.width, rng)
    drawn = sheet.rotate(rng.uniform(-20, 20), _BICUBIC).resize((size_px, size_px), Image.Resampling.LANCZOS)
    free = np.maximum(0, np.array(image.size) - size_px)
    x, y = (int(rng.integers(room + 1)) for room in free)
    out = image.copy()
    out.paste(drawn, (x, y), drawn)
    return out


def _face(draw: ImageDraw.ImageDraw, size: int, rng: np.random.Generator) -> None:
    def at(*shares: float) -> tuple[float, ...]:
        return tuple(share * size for share in shares)

    dark = (84, 52, 12, 255)
    draw.ellipse(at(0.02, 0.02, 0.98, 0.98), (232, 160, 24, 255))
    draw.ellipse(at(0.05, 0.05, 0.95, 0.95), (255, 210, 60, 255))
    if rng.random() < 0.5:
        for x in (0.32, 0.68):
            draw.ellipse(at(x - 0.06, 0.3, x + 0.06, 0.47), dark)
    else:  # sunglasses
        draw.line(at(0.1, 0.36, 0.9, 0.36), (20, 20, 24, 255), max(1, size // 25))
        for x in (0.31, 0.69):
            draw.pieslice(at(x - 0.17, 0.2, x + 0.17, 0.52), 0, 180, (20, 20, 24, 255))
    draw.chord(at(0.24, 0.4, 0.76, 0.84), 15, 165, dark)
    draw.chord(at(0.36, 0.66, 0.64, 0.86), 190, 350, (226, 72, 72, 255))


def _heart(draw: ImageDraw.ImageDraw, size: int, rng: np.random.Generator) -> None:
    turns = np.linspace(0, 2 * math.pi, 90)
    x = 16 * np.sin(turns) ** 3
    y = -(13 * np.cos(turns) - 5 * np.cos(2 * turns) - 2 * np.cos(3 * turns) - np.cos(4 * turns))
    for reach, colour in ((0.029, (255, 255, 255, 255)), (0.025, (224, 36, 70, 255))):
        draw.polygon([(size * (0.5 + reach * a), size * (0.47 + reach * b)) for a, b in zip(x, y, strict=True)], colour)


def _star(draw: ImageDraw.ImageDraw, size: int, rng: np.random.Generator) -> None:
    for reach, colour in ((0.49, (255, 255, 255, 255)), (0.42, (*_bright(rng), 255))):
        turns = -math.pi / 2 + np.arange(10) * math.pi / 5
        radii = np.where(np.arange(10) % 2, 0.48, 1.0) * reach * size
        points = [(size / 2 + r * math.cos(t), size / 2 + r * math.sin(t)) for r, t in zip(radii, turns, strict=True)]
        draw.polygon(points, colour)


def _bubble(draw: ImageDraw.ImageDraw, size: int, rng: np.random.Generator) -> None:
    outline, inside = (30, 30, 30, 255), (255, 255, 255, 255)
    for grow, colour in ((0.02, outline), (0.0, inside)):
        tail = [(0.22 - grow, 0.6), (0.5 + grow, 0.6), (0.18 - grow, 0.92 + 2 * grow)]
        draw.polygon([(x * size, y * size) for x, y in tail], colour)
        box = tuple(share * size for share in (0.06 - grow, 0.14 - grow, 0.94 + grow, 0.7 + grow))
        draw.rounded_rectangle(box, size * 0.2, colour)
    for x in (0.3, 0.5, 0.7):
        draw.ellipse(tuple(share * size for share in (x - 0.06, 0.36, x + 0.06, 0.48)), outline)


_STICKERS = (_face, _heart, _star, _bubble)


def _bright(rng: np.random.Generator) -> tuple[int, int, int]:
    """A saturated colour of any hue."""
    hue, saturation, value = rng.random(), rng.uniform(0.6, 1), rng.uniform(0.75, 1)
    return _rgb(255 * np.array(colorsys.hsv_to_rgb(hue, saturation, value)))


def _rgb(colour: np.ndarray) -> tuple[int, int, int]:
    red, green, blue = (min(255, round(float(value))) for value in colour)
    return red, green, blue
