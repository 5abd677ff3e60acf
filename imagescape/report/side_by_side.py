"""Maps of the same images side by side: after each stage of a training, or of several methods."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from imagescape.errors import InputError
from imagescape.report.columns import Categories, Kind, Quantity, read_column
from imagescape.report.map_plot import COLORMAP, legend_entries, point_colors, shown_classes
from imagescape.report.page import INK, SOFT, short

_PANEL_INCHES = 4.2
_LEGEND_INCHES = 2.2
_PANELS_A_ROW = 4


def draw_side_by_side(
    maps: Sequence[np.ndarray],
    *,
    names: Sequence[str],
    values: Sequence[object] | np.ndarray | None = None,
    column: str = "",
    kind: Kind = "auto",
    title: str = "",
    panels_a_row: int = _PANELS_A_ROW,
    seed: int = 0,
) -> Figure:
    """Draw maps of the same images, a panel each, coloured alike.

    Args:
        maps: Coordinates, (n, 2) each, of the same images in the same order.
        names: What to write above each panel, of one line or several.
        values: A column to colour by, (n,), as for `draw_map`.
        column: What that column is called.
        kind: Whether it holds classes or a quantity, see `read_column`.
        title: Shown above.
        panels_a_row: At most; more go into another row.
        seed: Decides which points lie on top.

    Raises:
        InputError: no maps, or arrays that do not fit each other.
    """
    if not maps or len({np.shape(coords) for coords in maps}) > 1 or np.shape(maps[0])[1:] != (2,):
        raise InputError(f"maps must be (n, 2) arrays of the same images, got {[np.shape(one) for one in maps]}")
    count = len(maps[0])
    if len(names) != len(maps) or (values is not None and len(values) != count):
        given = f"{len(names)} names" + ("" if values is None else f" and {len(values)} values")
        raise InputError(f"{len(maps)} maps of {count} images need a name a map and a value an image, got {given}")
    data = None if values is None else read_column(values, kind)
    shown = shown_classes(data, "legend")
    colors, missing = point_colors(data, shown, count)
    across = min(len(maps), panels_a_row)
    down = math.ceil(len(maps) / across)
    width = _PANEL_INCHES * across + (_LEGEND_INCHES if data is not None else 0)
    figure = Figure(figsize=(width, (_PANEL_INCHES + 0.4) * down + 0.6), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    order = np.random.default_rng(seed).permutation(count)
    order = np.concatenate([order[missing[order]], order[~missing[order]]])  # without a value: below
    size = float(np.clip(0.22 * (72 * _PANEL_INCHES) ** 2 / count, 0.8, 30))
    panels = figure.subplots(down, across, squeeze=False).ravel().tolist()
    for axes in panels[len(maps) :]:
        axes.remove()
    panels = panels[: len(maps)]
    for axes, coords, name in zip(panels, maps, names, strict=True):
        axes.scatter(*coords[order].T, s=size, c=colors[order], alpha=0.7, linewidths=0, rasterized=True)
        axes.set_aspect("equal", adjustable="datalim")
        axes.set(xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set_color("#d9dbe0")
        axes.set_title(name, fontsize=9.5, color=INK, loc="left", parse_math=False)
    if isinstance(data, Categories):
        handles = [
            Line2D([], [], marker="o", ls="", ms=7, color=color, label=text)
            for text, color in legend_entries(data, shown)
        ]
        legend = figure.legend(
            handles=handles, title=column, loc="outside right center", frameon=False, fontsize=8.5, labelcolor=INK
        )
        for text in (legend.get_title(), *legend.get_texts()):
            text.set_parse_math(False)
    if isinstance(data, Quantity):
        scale = ScalarMappable(Normalize(data.low, data.high), COLORMAP)
        bar = figure.colorbar(scale, ax=panels, shrink=0.7)
        bar.set_label(short(column), parse_math=False)
    below = f"{count:,} images; every panel has a scale of its own"
    figure.supxlabel(below, x=0.01, ha="left", fontsize=8.5, color=SOFT)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=13, weight="bold", color=INK, parse_math=False)
    return figure
