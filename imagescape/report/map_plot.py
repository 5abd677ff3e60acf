"""A map as a still picture: points coloured by a column, thumbnails, names, notes.

No pyplot: a figure belongs to its caller alone.
"""

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from imagescape.errors import InputError
from imagescape.report.callouts import NOTE_INCHES, Note, draw_notes
from imagescape.report.columns import NULL_COLOR, Categories, Kind, Quantity, read_column
from imagescape.report.geometry import Box, scattered
from imagescape.report.labels import density_mode, place_names, place_on_periphery
from imagescape.report.page import INK, LINE_HEIGHT, SOFT, Margins, Page, darkened, short, text_inches

Naming = Literal["auto", "legend", "periphery", "none"]

FORMATS = (".png", ".svg", ".pdf")
LEGEND_CLASSES = 20  # more classes than this are named around the map
PERIPHERY_CLASSES = 250  # and of these only the largest

COLORMAP = "viridis"
_LABEL_POINTS = (4.4, 9.0)  # smallest and largest type around the map
_FILL = 0.68  # a full circle would push names far from their angles
_THUMBNAIL_LIMIT = 400


def draw_map(
    coords: np.ndarray,
    *,
    values: Sequence[object] | np.ndarray | None = None,
    column: str = "",
    kind: Kind = "auto",
    thumbnails: Sequence[bytes | None] | None = None,
    thumbnail_inches: float = 0.0,
    notes: Sequence[Note] = (),
    naming: Naming = "auto",
    title: str = "",
    size_inches: tuple[float, float] | None = None,
    seed: int = 0,
) -> Figure:
    """Draw a map.

    Args:
        coords: (n, 2), n >= 1.
        values: A column to colour by, (n,): text, numbers, booleans; None for "no value". All alike when None.
        column: What that column is called.
        kind: Whether it holds classes or a quantity, see `read_column`.
        thumbnails: Encoded pictures, (n,), None where a row has none. Needed for notes and for pictures on the map.
        thumbnail_inches: Longest side of pictures on the map; 0 draws none.
        notes: Remarks to place around the map.
        naming: How classes are named. "auto" gives a legend and names on the map up to 20 classes, and beyond
            that names around the map in the order of their angle; where notes stand there, the legend has the largest.
        title: Shown above.
        size_inches: Width and height of the figure; by default 11 x 8.5, 11 x 11 with names around the map,
            14.5 x 8.5 with notes.
        seed: Decides which points lie on top and which pictures are shown.

    Raises:
        InputError: arrays do not fit each other, a coordinate is not finite, or notes cannot be placed.
    """
    coords = _checked(coords, values, thumbnails)
    data = None if values is None else read_column(values, kind)
    if naming not in ("auto", "legend", "periphery", "none"):
        raise InputError(f"naming must be 'auto', 'legend', 'periphery' or 'none', got '{naming}'")
    if naming == "periphery" and notes:
        raise InputError("names and notes cannot both stand around the map; leave out one of them")
    many = isinstance(data, Categories) and len(data.names) > LEGEND_CLASSES
    if naming == "auto":
        naming = "periphery" if many and not notes else "legend"
    shown = shown_classes(data, naming)
    usual = (14.5, 8.5) if notes else (11.0, 11.0) if naming == "periphery" and len(shown) else (11.0, 8.5)
    figure = Figure(figsize=size_inches or usual, facecolor="white")
    FigureCanvasAgg(figure)
    margins = _margins(usual if size_inches is None else size_inches, data, shown, naming, bool(notes))
    page = Page.around(figure, coords, margins, is_disc=naming == "periphery")
    colors, missing = point_colors(data, shown, len(coords))
    _draw_points(page, coords, colors, missing, seed)
    obstacles: list[Box] = []
    if isinstance(data, Categories) and naming == "periphery":
        _draw_periphery(page, coords, data, shown)
    if isinstance(data, Categories) and naming == "legend":
        obstacles = _draw_names(page, coords, data, shown)
        _draw_legend(page, data, shown, column)
    if isinstance(data, Quantity):
        _draw_color_bar(page, data, column)
    if thumbnails is not None and thumbnail_inches > 0:
        _draw_thumbnails(page, coords, thumbnails, thumbnail_inches, colors, obstacles, seed)
    if notes:
        draw_notes(page, coords, thumbnails, notes, seed)
    _draw_frame(page, coords, data, shown, title, column)
    return figure


def save_figure(figure: Figure, path: str | Path, *, dpi: int = 200) -> Path:
    """Write a figure as PNG, SVG or PDF, by the suffix of `path`; the same figure gives the same bytes.

    Raises:
        InputError: another suffix, or the folder is missing.
    """
    path = check_figure_path(path)
    undated = {".png": {"Software": "imagescape"}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}[
        path.suffix.lower()
    ]
    with rc_context({"svg.hashsalt": "imagescape"}):  # the names of an SVG's parts are random without
        figure.savefig(path, dpi=dpi, metadata=undated)
    return path


def figure_png(figure: Figure, *, dpi: int = 130) -> bytes:
    """A figure as it stands in a page."""
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=dpi, metadata={"Software": "imagescape"})
    return out.getvalue()


def check_figure_path(path: str | Path) -> Path:
    """`path`, where `save_figure` can write to; errors as there. For those who compute long before they draw."""
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise InputError(f"a figure is written as .png, .svg or .pdf, got '{path.name}'")
    if not path.parent.is_dir():
        raise InputError(f"cannot write {path}: the folder {path.parent} does not exist")
    return path


def _margins(
    size_inches: tuple[float, float],
    data: Categories | Quantity | None,
    shown: np.ndarray,
    naming: Naming,
    has_notes: bool,
) -> Margins:
    """What names, notes, legend and colour bar take from the sides of the figure."""
    left, right = (NOTE_INCHES + 0.55, NOTE_INCHES + 0.55) if has_notes else (0.35, 0.35)
    if isinstance(data, Quantity):
        return Margins(left, right + 1.2)
    if data is None or naming == "none":
        return Margins(left, right)
    if naming == "legend":
        entries = [text for text, _ in legend_entries(data, shown)]
        return Margins(left, right + 0.45 + max((text_inches(text, 8.5)[0] for text in entries), default=0.0))
    points = _label_points(len(shown), 0.35 * min(size_inches))
    names = 0.1 + max((text_inches(short(data.names[code]), points)[0] for code in shown), default=0.0)
    return Margins(left + names, right + names, 0.65 + names, 0.45 + names)


def _checked(
    coords: np.ndarray, values: Sequence[object] | np.ndarray | None, thumbnails: Sequence[bytes | None] | None
) -> np.ndarray:
    coords = np.asarray(coords, dtype=np.float64)
    if coords.ndim != 2 or coords.shape[1] != 2 or not len(coords):
        raise InputError(f"a map has the shape (images, 2) and at least one image, got {coords.shape}")
    if not np.isfinite(coords).all():
        raise InputError("map coordinates must be finite; leave rows without a place out")
    for name, rows in {"values": values, "thumbnails": thumbnails}.items():
        if rows is not None and len(rows) != len(coords):
            raise InputError(f"{name} must have one entry an image, got {len(rows)} for {len(coords)} images")
    return coords


def _groups(column: str) -> str:
    """What the values of a column are: clusters have columns of their own name, see `collection.clusterings`."""
    return "clusters" if column.startswith("cluster_") else "classes"


def shown_classes(data: Categories | Quantity | None, naming: Naming) -> np.ndarray:
    """Codes of the classes that get a name: all, or the largest when there is no room for all."""
    if not isinstance(data, Categories):
        return np.empty(0, np.int64)
    limits = {"legend": LEGEND_CLASSES, "periphery": PERIPHERY_CLASSES, "none": len(data.names)}
    return data.largest(limits[naming])


def point_colors(data: Categories | Quantity | None, shown: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Colour of each point, (n, 3), and which of them have none of their own, (n,) bool."""
    if data is None:
        return np.tile(to_rgb("#3c6e9f"), (count, 1)), np.zeros(count, bool)
    if isinstance(data, Quantity):
        missing = np.isnan(data.values)
        scale = Normalize(data.low, data.high, clip=True)
        colors = colormaps[COLORMAP](scale(np.where(missing, data.low, data.values)))[:, :3]
    else:
        palette = np.array([to_rgb(color) for color in _class_colors(data, shown)] + [to_rgb(NULL_COLOR)])
        missing = ~np.isin(data.codes, shown)
        colors = palette[data.codes]
    return np.where(missing[:, None], to_rgb(NULL_COLOR), colors), missing


def _class_colors(data: Categories, shown: np.ndarray) -> list[str]:
    """One colour a class; where only some are shown, those share out the palette."""
    colors = [NULL_COLOR] * len(data.names)
    few = Categories(data.codes, tuple(data.names[code] for code in shown))
    for code, color in zip(shown, few.colors, strict=True):
        colors[code] = color
    return colors


def _draw_points(page: Page, coords: np.ndarray, colors: np.ndarray, missing: np.ndarray, seed: int) -> None:
    """Small and see-through where there are many; in random order, so that no class hides the others."""
    inches = (page.map.x1 - page.map.x0) * (page.map.y1 - page.map.y0) / page.unit**2
    share = 0.22 * inches * 72**2 / len(coords)  # square points of paper for each dot
    size = float(np.clip(share, 1.2, 36))
    alpha = float(np.clip(0.25 + share / 8, 0.35, 0.9))
    order = np.random.default_rng(seed).permutation(len(coords))
    order = np.concatenate([order[missing[order]], order[~missing[order]]])  # without a value: below
    x, y = coords[order].T
    style = {"alpha": alpha, "linewidths": 0, "rasterized": True, "zorder": 2}
    page.axes.scatter(x, y, s=size, c=colors[order], **style)  # type: ignore[arg-type]


def _draw_periphery(page: Page, coords: np.ndarray, data: Categories, shown: np.ndarray) -> None:
    """Names around the map, running outwards; those on the left are turned to read from left to right."""
    modes = np.array([density_mode(coords[data.codes == code]) for code in shown])
    radius = (page.map.x1 - page.map.x0) / 2
    points = _label_points(len(shown), radius / page.unit)
    try:
        placements = place_on_periphery(modes, page.map.center, radius, points * LINE_HEIGHT / 72 * page.unit)
    except ValueError as error:
        raise InputError(f"no room for the names around the map ({error}); make the figure larger") from error
    colors = _class_colors(data, shown)
    for code, place, mode in zip(shown, placements, modes, strict=True):
        ink = darkened(colors[code])
        page.axes.plot(*place.leader.T, lw=1.5, color="white", alpha=0.5, zorder=3)
        page.axes.plot(*place.leader.T, lw=0.55, alpha=0.9, color=ink, zorder=3.1)
        page.axes.plot(*mode, "o", ms=2.8, color=ink, mec="white", mew=0.5, zorder=4)
        out = np.array([math.cos(place.angle), math.sin(place.angle)])
        turn = math.degrees(place.angle)
        side, turn = ("left", turn) if out[0] >= 0 else ("right", turn - 180)
        style = {"ha": side, "va": "center_baseline", "rotation": turn, "rotation_mode": "anchor", "color": ink}
        x, y = place.anchor + out * 0.05 * page.unit
        page.write(x, y, short(data.names[code]), points, style)


def _label_points(count: int, radius_inches: float) -> float:
    """Type size at which `count` names fill two thirds of the circle; never so small that nobody can read it."""
    room = 2 * radius_inches * math.sin(math.pi / max(count, 2)) * 72  # points from one name to the next
    return float(np.clip(_FILL * room / LINE_HEIGHT, *_LABEL_POINTS))


def _draw_names(page: Page, coords: np.ndarray, data: Categories, shown: np.ndarray) -> list[Box]:
    """Write class names at their densest place; what finds no room is named by the legend alone."""
    by_size = [code for code in shown[np.argsort(-data.counts[shown], kind="stable")] if data.counts[code]]
    if not by_size:
        return []
    points = 9.5
    modes = np.array([density_mode(coords[data.codes == code]) for code in by_size])
    sizes = [np.array(text_inches(short(data.names[code]), points)) * page.unit * (1.08, 1.25) for code in by_size]
    boxes = place_names(modes, [(float(width), float(height)) for width, height in sizes], page.map)
    colors = _class_colors(data, shown)
    for code, box in zip(by_size, boxes, strict=True):
        if box is not None:
            halo = [withStroke(linewidth=3, foreground="white", alpha=0.9)]
            style = {"ha": "center", "va": "center", "weight": "bold", "path_effects": halo, "zorder": 6.8}
            page.write(*box.center, short(data.names[code]), points, {**style, "color": darkened(colors[code])})
    return [box for box in boxes if box is not None]


def _draw_legend(page: Page, data: Categories, shown: np.ndarray, column: str) -> None:
    handles = [
        Line2D([], [], marker="o", ls="", ms=7, color=color, label=text) for text, color in legend_entries(data, shown)
    ]
    legend = page.axes.legend(
        handles=handles,
        title=column,
        loc="center right",
        bbox_to_anchor=(0.995, 0.5),
        frameon=False,
        fontsize=8.5,
        title_fontsize=9.5,
        alignment="left",
        labelcolor=INK,
        handletextpad=0.3,
        labelspacing=0.55,
    )
    for text in (legend.get_title(), *legend.get_texts()):
        text.set_parse_math(False)


def legend_entries(data: Categories, shown: np.ndarray) -> list[tuple[str, str]]:
    """(text, colour) of each line of the legend."""
    colors, counts = _class_colors(data, shown), data.counts
    entries = [(f"{short(data.names[code])}  ({counts[code]:,})", colors[code]) for code in shown]
    others = int(counts.sum() - counts[shown].sum())
    if others:
        entries.append((f"{len(data.names) - len(shown)} other classes  ({others:,})", NULL_COLOR))
    if data.null_count:
        entries.append((f"no value  ({data.null_count:,})", NULL_COLOR))
    return entries


def _draw_color_bar(page: Page, data: Quantity, column: str) -> None:
    figure = page.axes.figure
    width = figure.get_size_inches()[0]  # type: ignore[union-attr]
    axes = figure.add_axes((1 - 1.05 / width, 0.28, 0.16 / width, 0.44))
    top = data.high if data.high > data.low else data.low + 1
    ramp = np.linspace(0, 1, 256)[:, None]
    axes.imshow(ramp, origin="lower", aspect="auto", cmap=COLORMAP, extent=(0, 1, data.low, top))
    axes.set_xticks([])
    axes.yaxis.tick_right()
    axes.tick_params(labelsize=8, color=SOFT, labelcolor=INK, length=3)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_title(short(column), fontsize=9.5, color=INK, loc="left", pad=8, parse_math=False)
    lines = [f"grey: no value\n({data.null_count:,})"] if data.null_count else []
    if np.nanmin(data.values, initial=data.low) < data.low or np.nanmax(data.values, initial=data.high) > data.high:
        lines.append("ends: 1st and\n99th percentile")
    if lines:
        note = "\n\n".join(lines)
        page.axes.text(1 - 1.05 / width, 0.25, note, transform=page.axes.transAxes, fontsize=8, color=SOFT, va="top")


def _draw_thumbnails(
    page: Page,
    coords: np.ndarray,
    thumbnails: Sequence[bytes | None],
    inches: float,
    colors: np.ndarray,
    obstacles: Sequence[Box],
    seed: int,
) -> None:
    """Pictures at their own places, none over another or over a name, each framed in its colour."""
    rows = np.array([row for row, one in enumerate(thumbnails) if one is not None], dtype=int)
    order = np.random.default_rng(seed).permutation(rows)
    size = inches * page.unit
    for row in scattered(coords, size * 1.12, order, obstacles)[:_THUMBNAIL_LIMIT]:
        picture = thumbnails[row]
        assert picture is not None
        room = Box.around((coords[row, 0], coords[row, 1]), size, size)
        page.draw_picture(picture, room, edge=tuple(colors[row]))


def _draw_frame(
    page: Page, coords: np.ndarray, data: Categories | Quantity | None, shown: np.ndarray, title: str, column: str
) -> None:
    """Title, what is shown, and a bar for scale: a map has distances but no axes."""
    unit, x = page.unit, page.sheet.x0 + 0.35 * page.unit
    if title:
        page.write(x, page.sheet.y1 - 0.30 * unit, title, 14, {"weight": "bold", "va": "top"})
    parts = [f"{len(coords):,} images"] + ([f"coloured by {column}"] if column else [])
    if isinstance(data, Categories):
        parts.append(f"{len(data.names):,} {_groups(column)}")
        if len(shown) < len(data.names):
            parts.append(f"the {len(shown)} largest named")
        elif data.null_count and len(data.names) > LEGEND_CLASSES:
            parts.append(f"{data.null_count:,} without one in grey")
    page.write(x, page.sheet.y1 - (0.58 if title else 0.30) * unit, ", ".join(parts), 9, {"color": SOFT, "va": "top"})
    length = _round_below((coords.max(axis=0) - coords.min(axis=0)).max() / 6 or 1.0)
    y = page.sheet.y0 + 0.22 * unit
    page.axes.plot([x, x + length], [y, y], color=SOFT, lw=1.6, solid_capstyle="butt")
    page.write(x + length + 0.08 * unit, y, f"{length:g} map units", 8, {"color": SOFT, "va": "center"})


def _round_below(length: float) -> float:
    """The largest of 1, 2, 5, 10, … not above `length`."""
    power = 10.0 ** math.floor(math.log10(length))
    return max(step * power for step in (1, 2, 5) if step * power <= length * (1 + 1e-9))
