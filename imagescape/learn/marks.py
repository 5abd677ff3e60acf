"""Things that people put over pictures, drawn once: lines of type, and stickers. (m, 4, side, side) RGBA in 0 … 1.

Colours are premultiplied by how much they cover, so that they can be resized with it.
"""

import colorsys
import math
import string
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

SIDE_PX = 96
_COUNT = 96
_DRAWN = 2  # times as large, for smooth edges


@lru_cache(maxsize=8)
def lettering(device: torch.device) -> Float[Tensor, "m 4 s s"]:
    """Lines of random type, as tall as a third of their width or less: white with black edges, some in colour."""
    return _all(_letters, 1, device)


@lru_cache(maxsize=8)
def stickers(device: torch.device) -> Float[Tensor, "m 4 s s"]:
    """Discs, faces, stars, hearts, bars, triangles and speech balloons in bright colours."""
    return _all(_sticker, 2, device)


def _all(draw_one: object, seed: int, device: torch.device) -> Tensor:
    rng = np.random.default_rng(seed)
    sheets = []
    for _ in range(_COUNT):
        side = SIDE_PX * _DRAWN
        sheet = Image.new("RGBA", (side, side))
        draw_one(ImageDraw.Draw(sheet), side, rng)  # type: ignore[operator]
        sheets.append(np.asarray(sheet.resize((SIDE_PX, SIDE_PX), Image.Resampling.BOX), np.float32) / 255)
    pixels = np.stack(sheets).transpose(0, 3, 1, 2).copy()
    pixels[:, :3] *= pixels[:, 3:]
    with torch.inference_mode(False):  # it outlives the mode it is first asked for in
        return torch.from_numpy(pixels).to(device)


def _letters(draw: ImageDraw.ImageDraw, side: int, rng: np.random.Generator) -> None:
    lines = int(rng.integers(1, 5))
    letters = string.ascii_uppercase if rng.random() < 0.4 else string.ascii_letters + string.digits
    across = int(rng.integers(6, 22))
    alphabet = list(letters + " " * (len(letters) // 6))
    written = "\n".join("".join(rng.choice(alphabet, across)) for _ in range(lines))
    white = rng.random() < 0.7
    size = min(1.7 * side / across, 0.75 * side / lines)
    font = ImageFont.load_default(max(6.0, size))
    edge = max(1, round(size / 16))
    draw.multiline_text(
        (side / 2, side / 2), written, "white" if white else (*_bright(rng), 255), font=font, anchor="mm",
        align="center", stroke_width=edge, stroke_fill="black",
    )  # fmt: skip


def _sticker(draw: ImageDraw.ImageDraw, side: int, rng: np.random.Generator) -> None:
    def at(*shares: float) -> tuple[float, ...]:
        return tuple(share * side for share in shares)

    colour, kind = (*_bright(rng), 255), int(rng.integers(6))
    if kind == 0:
        draw.ellipse(at(0.02, 0.02, 0.98, 0.98), colour)
        if rng.random() < 0.6:  # a face
            for x in (0.34, 0.66):
                draw.ellipse(at(x - 0.07, 0.28, x + 0.07, 0.46), (40, 30, 20, 255))
            draw.chord(at(0.25, 0.4, 0.75, 0.84), 10, 170, (40, 30, 20, 255))
    elif kind == 1:
        turns = rng.uniform(0, 2 * math.pi) + np.arange(3) * 2 * math.pi / 3
        draw.polygon([at(0.5 + 0.49 * math.cos(t), 0.5 + 0.49 * math.sin(t)) for t in turns], colour)
    elif kind == 2:
        points = int(rng.integers(5, 9))
        turns = -math.pi / 2 + np.arange(2 * points) * math.pi / points
        reach = np.where(np.arange(2 * points) % 2, 0.22, 0.49)
        draw.polygon(
            [at(0.5 + r * math.cos(t), 0.5 + r * math.sin(t)) for r, t in zip(reach, turns, strict=True)], colour
        )
    elif kind == 3:
        draw.rectangle(at(0, 0.3, 1, 0.3 + rng.uniform(0.15, 0.45)), colour)
    elif kind == 4:
        draw.rounded_rectangle(
            at(0.04, 0.1, 0.96, 0.7), 0.2 * side, (255, 255, 255, 255), (30, 30, 30, 255), side // 40
        )
        draw.polygon([at(0.25, 0.68), at(0.5, 0.68), at(0.22, 0.95)], (255, 255, 255, 255))
        for x in (0.3, 0.5, 0.7):
            draw.ellipse(at(x - 0.05, 0.35, x + 0.05, 0.45), (30, 30, 30, 255))
    else:
        draw.ellipse(at(0.03, 0.05, 0.53, 0.55), colour)
        draw.ellipse(at(0.47, 0.05, 0.97, 0.55), colour)
        draw.polygon([at(0.06, 0.4), at(0.94, 0.4), at(0.5, 0.98)], colour)


def _bright(rng: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.6, 1), rng.uniform(0.75, 1))
    return round(255 * red), round(255 * green), round(255 * blue)
