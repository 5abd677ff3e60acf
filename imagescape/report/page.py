"""The sheet that a map is drawn on: one pair of axes over the whole figure, in map units.

So names, leader lines and boxes around the map are placed in the same units as the points.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle
from matplotlib.textpath import text_to_path
from PIL import Image

from imagescape.errors import InputError
from imagescape.report.geometry import Box

INK = "#1c1e22"
SOFT = "#5f646d"
LINE_HEIGHT = 1.22  # over type size

_LONGEST_NAME = 26


@dataclass(frozen=True, slots=True)
class Margins:
    """What the map leaves free at the sides of a figure, in inches."""

    left: float = 0.35
    right: float = 0.35
    top: float = 0.85
    bottom: float = 0.45


@dataclass(frozen=True, slots=True)
class Page:
    """The axes of a figure, and where the map lies on it.

    Attributes:
        axes: Covers the figure; its units are map units.
        unit: Map units an inch.
        map: The part that is left to points, in map units.
        sheet: The whole figure, in map units.
    """

    axes: Axes
    unit: float
    map: Box
    sheet: Box

    @classmethod
    def around(cls, figure: Figure, coords: np.ndarray, margins: Margins, *, is_disc: bool = False) -> "Page":
        """Fit the map into a figure, at one scale for both axes.

        Args:
            figure: An empty figure.
            coords: The map, (n, 2).
            margins: What to leave free.
            is_disc: Make `map` a square around a circle that holds all points, not the whole room there is.

        Raises:
            InputError: the margins leave less than 1.5 inches.
        """
        width, height = figure.get_size_inches()
        left, right, top, bottom = margins.left, margins.right, margins.top, margins.bottom
        room = np.array([width - left - right, height - top - bottom])
        if (room < 1.5).any():
            left_over = f"{max(room[0], 0):.1f} x {max(room[1], 0):.1f}"
            raise InputError(f"a figure of {width:g} x {height:g} inches leaves the map {left_over}; make it larger")
        low, high = coords.min(axis=0), coords.max(axis=0)
        middle = (low + high) / 2
        span = np.where(high > low, high - low, max(float((high - low).max()), 1.0)) * 1.06
        if is_disc:
            left, bottom = left + (room[0] - room.min()) / 2, bottom + (room[1] - room.min()) / 2
            room[:] = room.min()
            right, top = width - left - room[0], height - bottom - room[1]
            span[:] = 2.16 * float(np.hypot(*(coords - middle).T).max()) or 1.0
        unit = float((span / room).max())
        inner = Box(*(middle - room / 2 * unit), *(middle + room / 2 * unit))
        sheet = Box(inner.x0 - left * unit, inner.y0 - bottom * unit, inner.x1 + right * unit, inner.y1 + top * unit)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.set(xlim=(sheet.x0, sheet.x1), ylim=(sheet.y0, sheet.y1))
        return cls(axes, unit, inner, sheet)

    def write(self, x: float, y: float, text: str, points: float, style: Mapping[str, object]) -> None:
        """Text as it is: a name that holds dollars is no formula."""
        self.axes.text(x, y, text, fontsize=points, parse_math=False, **{"color": INK, **style})  # type: ignore[arg-type]

    def draw_picture(self, data: bytes, room: Box, *, edge: object = "none", zorder: float = 5.0) -> None:
        """One encoded picture in the middle of `room`, its shape kept, framed in the colour `edge`."""
        image = decoded(data)
        height, width = image.shape[:2]
        scale = min((room.x1 - room.x0) / width, (room.y1 - room.y0) / height)
        at = Box.around(room.center, width * scale, height * scale)
        extent = (at.x0, at.x1, at.y0, at.y1)
        self.axes.imshow(image, extent=extent, aspect="auto", interpolation="antialiased", zorder=zorder)
        frame = Rectangle(
            (at.x0, at.y0), at.x1 - at.x0, at.y1 - at.y0, fill=False, ec=edge, lw=1.1, zorder=zorder + 0.1
        )
        self.axes.add_patch(frame)


def decoded(data: bytes) -> np.ndarray:
    """An encoded picture as uint8 (height, width, 3)."""
    with Image.open(io.BytesIO(data)) as opened:
        return np.asarray(opened.convert("RGB"))


def text_inches(text: str, points: float) -> tuple[float, float]:
    """Width and height of a line of type."""
    width, height, _ = text_to_path.get_text_width_height_descent(text, FontProperties(size=points), ismath=False)
    return width / 72, height / 72


def wrapped(text: str, points: float, room_inches: float) -> list[str]:
    """Lines that fit, broken between words and, in a word too long for a line, within it."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if text_inches(longer, points)[0] <= room_inches:
            lines[-1] = longer
            continue
        lines.append("")
        for letter in word:
            if text_inches(lines[-1] + letter, points)[0] > room_inches:
                lines.append("")
            lines[-1] += letter
    return [line for line in lines if line]


def short(name: str) -> str:
    """A name, cut after 26 characters."""
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1].rstrip() + "…"


def darkened(color: str) -> tuple[float, float, float]:
    """A colour made dark enough to read as type on white (relative luminance at most 0.22)."""
    rgb = np.array(to_rgb(color))
    luminance = float(rgb**2.2 @ (0.2126, 0.7152, 0.0722))
    dark = rgb * min(1.0, (0.22 / max(luminance, 1e-6)) ** (1 / 2.2))
    return float(dark[0]), float(dark[1]), float(dark[2])
