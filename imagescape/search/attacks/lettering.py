"""Attacks that write on an image: random characters, and captions as memes have. RGB images in and out.

The font is the one that comes with Pillow, so nothing needs to be installed.
"""

import string
import textwrap
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Caption = Literal["bottom", "both", "bar"]

_CHARACTERS = list(string.ascii_letters + string.digits)
_LINE_CHARACTERS = 20
_FONT_SHARE = 40 / 512  # height of the letters in widths of the image, as in the benchmark compared with
_WORDS = """
    when you finally find the one picture everybody forgot about and nobody knows why my cat is always right monday
    morning coffee before meeting somebody said it would be easy then this happened look at me I am captain now wait
    until they see what comes next one does not simply walk into work
""".split()  # noqa: SIM905 - a hundred quotes would not read better


@lru_cache(maxsize=64)
def font(size_px: float) -> ImageFont.FreeTypeFont:
    """Pillow's own font at this height."""
    loaded = ImageFont.load_default(max(1.0, size_px))
    assert isinstance(loaded, ImageFont.FreeTypeFont)  # what Pillow gives for any asked size
    return loaded


def words(count: int, rng: np.random.Generator) -> str:
    """So many random words of English."""
    return " ".join(rng.choice(_WORDS, count))


def text(image: Image.Image, characters: float, rng: np.random.Generator) -> Image.Image:
    """Random letters and digits, white with black edges, at a random place where they fit.

    Twenty a line and 40 px high on an image 512 px wide; smaller if they would not fit, fewer a line in a tall image.
    """
    letters = "".join(rng.choice(_CHARACTERS, int(characters)))
    width, height = image.size
    a_line = _LINE_CHARACTERS if height < 2 * width else max(1, _LINE_CHARACTERS * width // height)
    lines = "\n".join(letters[start : start + a_line] for start in range(0, len(letters), a_line))
    size_px = _FONT_SHARE * (width if height < 2 * width and width < 2 * height else (width + height) / 2)
    return _written(image, lines, size_px, (width, height), rng.random(2))


def caption(image: Image.Image, place: Caption, rng: np.random.Generator) -> Image.Image:
    """A meme's words, in capitals: at the "bottom", at top and bottom ("both"), or black on a white "bar" above."""
    if place == "bar":
        return _with_bar(image, words(int(rng.integers(6, 14)), rng))
    width, height = image.size
    for at_bottom in (1.0,) if place == "bottom" else (0.0, 1.0):
        lines = "\n".join(textwrap.wrap(words(int(rng.integers(3, 8)), rng).upper(), 18))
        image = _written(image, lines, width / 9, (width, height * 0.4), np.array([0.5, at_bottom]))
    return image


def _written(
    image: Image.Image, lines: str, size_px: float, fit_px: tuple[float, float], place: np.ndarray
) -> Image.Image:
    """White lines with black edges on a copy.

    Args:
        image: What to write on.
        lines: What to write.
        size_px: Height of the font, if the block then fits.
        fit_px: Width and height that the block must keep within.
        place: Of the block: (0, 0) is the upper left corner of the image, (1, 1) the lower right.
    """
    out = image.copy()
    draw = ImageDraw.Draw(out)
    while True:
        edge_px = max(1, round(size_px / 20))
        look: dict[str, Any] = {
            "font": font(size_px),
            "align": "center",
            "spacing": size_px / 8,
            "stroke_width": edge_px,
        }
        box = draw.multiline_textbbox((0, 0), lines, **look)
        room = [side - 2 for side in fit_px]
        if (box[2] - box[0] <= room[0] and box[3] - box[1] <= room[1]) or size_px <= 1:
            break
        size_px = max(1.0, size_px * 0.9)
    x, y = (
        1 + share * max(0, side - 2 - (high - low)) - low
        for share, side, low, high in zip(place, image.size, box[:2], box[2:], strict=True)
    )
    draw.multiline_text((round(x), round(y)), lines, "white", stroke_fill="black", **look)
    return out


def _with_bar(image: Image.Image, sentence: str) -> Image.Image:
    """A white bar above the image with the sentence in black: the image itself stays as it is."""
    width, height = image.size
    size_px = width / 16
    lines = "\n".join(textwrap.wrap(sentence.capitalize(), 28))
    look: dict[str, Any] = {"font": font(size_px), "spacing": size_px / 8}
    box = ImageDraw.Draw(image).multiline_textbbox((0, 0), lines, **look)
    margin_px = max(1, round(size_px * 0.6))
    bar_px = round(box[3]) + 2 * margin_px
    out = Image.new("RGB", (width, height + bar_px), "white")
    out.paste(image, (0, bar_px))
    ImageDraw.Draw(out).multiline_text((margin_px, margin_px), lines, "black", **look)
    return out
