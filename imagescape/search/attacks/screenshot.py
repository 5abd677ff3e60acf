"""Attacks that show an image on a screen, as a screenshot sent on has it: a phone's feed, a browser's page.

Everything around the image is drawn here, in sizes relative to the screen. RGB images in and out.
"""

import colorsys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from imagescape.search.attacks.lettering import font, words

_PHONE_WIDTHS_PX = (360, 1080)
_PHONE_RATIO = 19.5 / 9
_BROWSER_WIDTHS_PX = (640, 1600)
_BROWSER_RATIO = 10 / 16

Colour = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class _Theme:
    ground: Colour
    ink: Colour
    faint: Colour
    line: Colour


_LIGHT = _Theme((255, 255, 255), (24, 24, 27), (125, 125, 133), (222, 222, 227))
_DARK = _Theme((16, 16, 18), (240, 240, 243), (150, 150, 158), (52, 52, 58))


class _Screen:
    """A drawing surface measured in units: 1/360 of a phone's width, 1/1000 of a browser's."""

    def __init__(self, width_px: int, height_px: int, units: int, theme: _Theme) -> None:
        self.image = Image.new("RGB", (width_px, height_px), theme.ground)
        self.theme = theme
        self.unit_px = width_px / units
        self.width, self.height = float(units), height_px / self.unit_px
        self._draw = ImageDraw.Draw(self.image)

    def px(self, values: Sequence[float]) -> list[float]:
        return [value * self.unit_px for value in values]

    def box(self, x: float, y: float, right: float, bottom: float, fill: Colour, radius: float = 0) -> None:
        self._draw.rounded_rectangle(self.px((x, y, right, bottom)), radius * self.unit_px, fill)

    def disc(self, x: float, y: float, radius: float, fill: Colour) -> None:
        self._draw.ellipse(self.px((x - radius, y - radius, x + radius, y + radius)), fill)

    def stroke(self, points: Sequence[float], colour: Colour, thickness: float = 2) -> None:
        self._draw.line(self.px(points), colour, max(1, round(thickness * self.unit_px)), joint="curve")

    def arc(
        self, x: float, y: float, radius: float, start: float, end: float, colour: Colour, thick: float = 2
    ) -> None:
        box = self.px((x - radius, y - radius, x + radius, y + radius))
        self._draw.arc(box, start, end, colour, max(1, round(thick * self.unit_px)))

    def write(self, x: float, y: float, text: str, size: float, colour: Colour, *, bold: bool = False) -> None:
        """Text whose middle is at height y; lines run on below."""
        edge = 0.03 * size * self.unit_px if bold else 0
        letters = font(size * self.unit_px)
        left, top = self.px((x, y - 0.6 * size))
        self._draw.multiline_text((left, top), text, colour, letters, stroke_width=edge)

    def show(self, image: Image.Image, x: float, y: float, width: float, height: float) -> float:
        """The image, as large as it can be in this place and in its upper middle; the height it took."""
        room = self.px((width, height))
        factor = min(room[0] / image.width, room[1] / image.height)
        size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
        left, top = self.px((x, y))
        shown = image.resize(size, Image.Resampling.BICUBIC)
        self.image.paste(shown, (round(left + (room[0] - size[0]) / 2), round(top)))
        return size[1] / self.unit_px


def phone(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The image in a social feed on a phone: status bar, sender, image over the full width, buttons, comments.

    The screen is as wide as the image, within 360 to 1080 px, and 19.5 : 9 high; a tall image is shown 62 % high.
    """
    low, high = _PHONE_WIDTHS_PX
    width_px = min(high, max(low, image.width))
    theme = (_LIGHT, _DARK)[rng.integers(2)]
    screen = _Screen(width_px, round(width_px * _PHONE_RATIO), 360, theme)
    _status_bar(screen, rng)
    _sender(screen, 64, rng)
    top, room = 92.0, screen.height * 0.62
    screen.box(0, top, 360, top + min(room, image.height * 360 / image.width), theme.line)
    y = top + screen.show(image, 0, top, 360, room)
    _buttons(screen, y + 24)
    screen.write(14, y + 54, f"{rng.integers(2, 9999):,} likes", 13, theme.ink, bold=True)
    y += 76
    while y < screen.height - 120:
        y = _comment(screen, y, rng)
    _navigation(screen)
    return screen.image


def _status_bar(screen: _Screen, rng: np.random.Generator) -> None:
    ink = screen.theme.ink
    screen.write(22, 18, f"{rng.integers(1, 13)}:{rng.integers(60):02}", 14, ink, bold=True)
    for bar in range(4):
        screen.box(272 + 5 * bar, 22 - 3 * bar, 275 + 5 * bar, 25, ink)
    for radius in (3, 7, 11):
        screen.arc(305, 25, radius, 225, 315, ink)
    screen.box(320, 13, 344, 25, ink, 3)
    screen.box(321.5, 14.5, 342.5, 23.5, screen.theme.ground, 2)
    screen.box(323, 16, 323 + 18 * rng.uniform(0.2, 1), 22, ink, 1)
    screen.box(345.5, 17, 347, 21, ink)


def _sender(screen: _Screen, y: float, rng: np.random.Generator) -> None:
    theme = screen.theme
    screen.stroke((22, y - 8, 14, y, 22, y + 8), theme.ink)
    screen.disc(50, y, 17, _pastel(rng))
    screen.disc(50, y - 4, 6, theme.ground)
    screen.box(40, y + 4, 60, y + 12, theme.ground, 6)
    screen.write(76, y - 8, words(2, rng).replace(" ", "_"), 13, theme.ink, bold=True)
    screen.write(76, y + 9, f"{rng.integers(2, 59)} minutes ago", 11, theme.faint)
    for dot in range(3):
        screen.disc(330 + 6 * dot, y, 1.7, theme.ink)


def _buttons(screen: _Screen, y: float) -> None:
    ink = screen.theme.ink
    heart = (
        24,
        y + 9,
        14,
        y - 1,
        14,
        y - 6,
        18,
        y - 9,
        22,
        y - 8,
        24,
        y - 5,
        26,
        y - 8,
        30,
        y - 9,
        34,
        y - 6,
        34,
        y - 1,
    )
    screen.stroke((*heart, 24, y + 9), ink)
    screen.arc(60, y, 10, 80, 400, ink)
    screen.stroke((61, y + 10, 69, y + 10, 67.5, y + 6), ink)
    screen.stroke((86, y - 8, 106, y - 8, 95, y + 10, 92, y, 86, y - 8, 92, y, 106, y - 8), ink)
    screen.stroke((328, y - 10, 344, y - 10, 344, y + 10, 336, y + 3, 328, y + 10, 328, y - 10), ink)


def _comment(screen: _Screen, y: float, rng: np.random.Generator) -> float:
    """One comment from height y; where the next begins."""
    theme = screen.theme
    screen.disc(27, y + 12, 12, _pastel(rng))
    screen.write(48, y + 5, words(1, rng) + str(rng.integers(10, 99)), 12, theme.ink, bold=True)
    lines = textwrap.wrap(words(int(rng.integers(3, 14)), rng), 44)
    for line, written in enumerate(lines):
        screen.write(48, y + 21 + 15 * line, written, 12, theme.ink)
    screen.write(48, y + 22 + 15 * len(lines), f"{rng.integers(1, 24)} h     Reply", 10, theme.faint)
    return y + 42 + 15 * len(lines)


def _navigation(screen: _Screen) -> None:
    theme, y = screen.theme, screen.height - 46
    screen.box(0, screen.height - 72, 360, screen.height, theme.ground)
    screen.stroke((0, screen.height - 72, 360, screen.height - 72), theme.line, 1)
    screen.stroke((26, y + 9, 26, y - 1, 36, y - 10, 46, y - 1, 46, y + 9, 26, y + 9), theme.ink)  # home
    screen.arc(106, y - 1, 8, 0, 360, theme.ink)  # search
    screen.stroke((112, y + 5, 118, y + 11), theme.ink)
    screen.stroke((180, y - 9, 180, y + 9), theme.ink)  # new
    screen.stroke((171, y, 189, y), theme.ink)
    screen.stroke((244, y - 9, 260, y, 244, y + 9, 244, y - 9), theme.ink)  # play
    screen.disc(324, y, 10, theme.faint)  # oneself
    screen.box(120, screen.height - 10, 240, screen.height - 6, theme.ink, 2)


def browser(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The image on a web page in a browser's window: tabs, address, headline, image, text beside and below it.

    The window is 1.6 times as wide as the image, within 640 to 1600 px, and 16 : 10; the image takes at most 62 % of
    its width and 58 % of its height.
    """
    low, high = _BROWSER_WIDTHS_PX
    width_px = min(high, max(low, round(1.6 * image.width)))
    screen = _Screen(width_px, round(width_px * _BROWSER_RATIO), 1000, _LIGHT)
    _window(screen, rng)
    accent = _pastel(rng)
    screen.box(0, 76, 1000, 112, accent)
    screen.write(40, 94, words(2, rng).upper(), 17, (255, 255, 255), bold=True)
    for entry in range(5):
        screen.write(560 + 80 * entry, 94, words(1, rng).capitalize(), 13, (255, 255, 255))
    screen.write(40, 138, words(6, rng).capitalize(), 24, _LIGHT.ink, bold=True)
    screen.write(40, 162, f"By {words(2, rng).title()}, {rng.integers(2, 24)} hours ago", 11, _LIGHT.faint)
    y = 190 + screen.show(image, 40, 178, 620, screen.height * 0.58)
    for line in textwrap.wrap(words(int(screen.height), rng).capitalize() + ".", 92):
        screen.write(40, y + 8, line, 13, _LIGHT.ink)
        y += 19
    _side_column(screen, rng)
    return screen.image


def _window(screen: _Screen, rng: np.random.Generator) -> None:
    screen.box(0, 0, 1000, 38, (214, 217, 223))
    for dot, colour in enumerate(((237, 106, 94), (244, 191, 79), (98, 197, 84))):
        screen.disc(20 + 20 * dot, 19, 6, colour)
    screen.box(84, 8, 270, 46, (246, 247, 249), 8)
    screen.disc(100, 23, 6, _pastel(rng))
    screen.write(114, 23, words(3, rng).capitalize()[:22], 12, _LIGHT.ink)
    screen.write(250, 22, "x", 12, _LIGHT.faint)
    screen.write(284, 21, "+", 17, _LIGHT.faint)
    screen.box(0, 38, 1000, 76, (246, 247, 249))
    screen.stroke((26, 50, 19, 57, 26, 64), _LIGHT.ink)
    screen.stroke((48, 50, 55, 57, 48, 64), _LIGHT.faint)
    screen.arc(82, 57, 7, 30, 330, _LIGHT.ink)
    screen.box(110, 45, 900, 69, (228, 231, 236), 12)
    screen.arc(126, 55, 3, 180, 360, _LIGHT.faint, 1.5)
    screen.box(122, 56, 130, 62, _LIGHT.faint, 1)
    address = words(2, rng).replace(" ", "-") + ".example/" + words(4, rng).replace(" ", "-")
    screen.write(140, 57, address, 12, _LIGHT.ink)
    for dot in range(3):
        screen.disc(975, 51 + 6 * dot, 1.7, _LIGHT.ink)


def _side_column(screen: _Screen, rng: np.random.Generator) -> None:
    y = 138.0
    screen.write(700, y, "More", 15, _LIGHT.ink, bold=True)
    while y < screen.height:
        y += 28
        screen.box(700, y, 780, y + 56, _pastel(rng), 4)
        for line, written in enumerate(textwrap.wrap(words(8, rng).capitalize(), 24)[:3]):
            screen.write(792, y + 10 + 17 * line, written, 12, _LIGHT.ink)
        y += 50


def _pastel(rng: np.random.Generator) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.35, 0.6), rng.uniform(0.6, 0.85))
    return round(255 * red), round(255 * green), round(255 * blue)
