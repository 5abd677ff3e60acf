"""The quality of a map as one picture: neighbours kept, views, other seeds, norms."""

import math
from collections.abc import Callable
from functools import partial

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter, StrMethodFormatter

from imagescape.evaluate.map_quality import MapQuality
from imagescape.evaluate.stability import SeedStability, ViewConsistency
from imagescape.report.columns import Categories, read_column
from imagescape.report.page import INK, SOFT, short

_RULE, _LINE, _OTHER = "#d9dbe0", "#045bda", "#b9bcc2"
_PANEL_INCHES = 3.6
_MOST_MAPS = 4
_MOST_BOXES = 20
_MOST_POINTS = 10_000
_FARTHEST = 2.5  # of the relative distances shown; what is beyond counts in the last bar


def draw_quality(quality: MapQuality, *, title: str = "") -> Figure:
    """Draw what was measured of a map, a panel each; panels with nothing to show are left out.

    Args:
        quality: Of the map.
        title: Shown above.
    """
    measured: list[Callable[[Axes], None]] = []
    if quality.recalls:
        measured.append(partial(_draw_recalls, quality=quality))
    if quality.views is not None:
        measured.append(partial(_draw_views, views=quality.views))
    classes = None if quality.labels is None else read_column(quality.labels, "categorical")
    for norms, name in (
        (quality.feature_norms, "Norm of the features H"),
        (quality.coord_norms, "Distance from the map's origin, |Z|"),
    ):
        if norms is not None:
            measured.append(partial(_draw_norms, norms=norms, name=name, classes=classes))
    maps: list[Callable[[Axes], None]] = []
    if quality.stability is not None and quality.stability.aligned[0].shape[1] == 2:
        names = (quality.name, *quality.others)[:_MOST_MAPS]
        maps = [partial(_draw_aligned, stability=quality.stability, names=names, number=i) for i in range(len(names))]
    columns = max(len(measured), len(maps))
    lines = 2 if maps else 1
    figure = Figure(figsize=(_PANEL_INCHES * columns, _PANEL_INCHES * lines), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=13, weight="bold", color=INK, parse_math=False)
    for place, draw in [*enumerate(measured, 1), *enumerate(maps, columns + 1)]:
        axes = figure.add_subplot(lines, columns, place)
        axes.tick_params(labelsize=8, color=_RULE, labelcolor=SOFT)
        for side, spine in axes.spines.items():
            spine.set_visible(side in ("bottom", "left"))
            spine.set_color(_RULE)
        draw(axes)
        axes.xaxis.label.set(color=INK, fontsize=8.5)
        axes.yaxis.label.set(color=INK, fontsize=8.5)
    return figure


def _head(axes: Axes, title: str, about: str) -> None:
    axes.set_title(f"{title}\n", loc="left", fontsize=9.5, weight="bold", color=INK, parse_math=False)
    axes.text(0, 1.03, about, transform=axes.transAxes, fontsize=8, color=SOFT, parse_math=False)


def _draw_recalls(axes: Axes, quality: MapQuality) -> None:
    ks = np.array(list(quality.recalls))
    axes.plot(ks, [score.value for score in quality.recalls.values()], color=_LINE, lw=1.6, marker="o", ms=3.5)
    axes.plot(ks, ks / (quality.rows - 1), color=SOFT, lw=1, ls="--")
    axes.annotate(
        "by chance", (ks[-1], ks[-1] / (quality.rows - 1)), (0, 4), textcoords="offset points", ha="right",
        fontsize=8, color=SOFT,
    )  # fmt: skip
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(ks.tolist()))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
    axes.set_ylim(0, 1)
    axes.grid(axis="y", color=_RULE, lw=0.6)
    axes.set(xlabel="k", ylabel="kept")
    _head(axes, "Neighbours kept on the map", "k nearest in H that are k nearest on the map")


def _draw_views(axes: Axes, views: ViewConsistency) -> None:
    chance = views.chance_distances / np.median(views.chance_distances)
    bins = np.linspace(0, _FARTHEST, 41).tolist()
    for values, color, name in ((chance, _OTHER, "different images"), (views.relative_distances, _LINE, "one image")):
        weights = np.full(len(values), 1 / len(values))
        axes.hist(values.clip(max=_FARTHEST), bins, weights=weights, color=color, alpha=0.75, label=name)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
    axes.set(xlabel="distance on the map / median of different images", ylabel="of all pairs of views")
    axes.legend(fontsize=8, frameon=False, labelcolor=INK, title="two views of", title_fontsize=8)
    axes.set_xticks([0, 0.5, 1, 1.5, 2, _FARTHEST], ["0", "0.5", "1", "1.5", "2", f"{_FARTHEST} +"])
    about = f"median {views.relative_distance:.2f}; image among {views.k} nearest to {views.found_share:.0%} of views"
    _head(axes, "Do views of an image land together?", about)


def _draw_norms(axes: Axes, norms: np.ndarray, name: str, classes: object) -> None:
    if not isinstance(classes, Categories) or not 2 <= len(classes.names) <= _MOST_BOXES:
        axes.hist(norms, 40, color=_LINE, alpha=0.75)
        axes.set(xlabel="norm", ylabel="images")
        _head(axes, name, f"median {np.median(norms):.3g}")
        return
    codes = range(len(classes.names))
    boxes = axes.boxplot(
        [norms[classes.codes == code] for code in codes],
        orientation="horizontal", widths=0.65, whis=(5, 95), showfliers=False, patch_artist=True,
        tick_labels=[short(one) for one in classes.names],
    )  # fmt: skip
    for box, color in zip(boxes["boxes"], classes.colors, strict=True):
        box.set(facecolor=color, alpha=0.75, edgecolor=INK, lw=0.6)
    for part in ("medians", "whiskers", "caps"):
        for line in boxes[part]:
            line.set(color=INK, lw=0.8)
    for label in axes.get_yticklabels():
        label.set_parse_math(False)
    axes.invert_yaxis()
    axes.grid(axis="x", color=_RULE, lw=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel("norm")
    _head(axes, name, "boxes hold half of a class, whiskers 90%")


def _draw_aligned(axes: Axes, stability: SeedStability, names: tuple[str, ...], number: int) -> None:
    """One map; the colour of an image is its direction and distance from the middle of the first map.

    So that where the maps agree, they are coloured alike. All have the same scale.
    """
    first, coords = stability.aligned[0], stability.aligned[number]
    shown = np.linspace(0, len(first) - 1, min(len(first), _MOST_POINTS)).astype(int)
    offset = first[shown] - first.mean(axis=0)
    reach = np.linalg.norm(offset, axis=1)
    turn = np.arctan2(offset[:, 1], offset[:, 0]) / (2 * math.pi) % 1
    fade = np.clip(reach / max(np.percentile(reach, 90), 1e-12), 0, 1)[:, None]
    colors = fade * colormaps["hsv"](turn)[:, :3] * 0.9 + (1 - fade) * 0.75
    size = float(np.clip(6_000 / len(shown), 1.5, 14))
    axes.scatter(coords[shown, 0], coords[shown, 1], c=colors, s=size, lw=0, rasterized=True)
    reached = np.concatenate(stability.aligned[: len(names)])
    middle, half = (reached.max(axis=0) + reached.min(axis=0)) / 2, np.ptp(reached, axis=0).max() / 2 * 1.03
    axes.set_aspect("equal")
    axes.set(xticks=[], yticks=[], xlim=middle[0] + [-half, half], ylim=middle[1] + [-half, half])
    axes.spines[:].set_visible(False)
    if number == 0:
        _head(axes, f"Map '{short(names[0])}'", "every place has its colour")
    else:
        # Pairs are (0, 1), (0, 2) …, so those with the first map come first.
        apart, shared = stability.disparities[number - 1], stability.shared_neighbors[number - 1]
        _head(
            axes,
            f"Map '{short(names[number])}' in the colours of '{short(names[0])}'",
            f"disparity {apart:.2f}, {shared:.0%} of {stability.k} nearest shared",
        )
