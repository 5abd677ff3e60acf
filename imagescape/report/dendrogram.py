"""A hierarchy as a still picture: the tree above a cut, and what is in each of its leaves."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage

from imagescape.cluster.tree import Tree
from imagescape.errors import InputError
from imagescape.report.columns import category_colors
from imagescape.report.page import INK, SOFT, darkened, decoded, short, text_inches

MOST_LEAVES = 60
_RULE, _LINE = "#d9dbe0", "#8a8f98"
_LEAF_INCHES, _PICTURE_INCHES, _GAP_INCHES = 0.56, 0.46, 0.07
_TREE_INCHES, _SIDE_INCHES = 5.2, 0.35


def draw_dendrogram(
    tree: Tree,
    *,
    names: Sequence[str] | None = None,
    pictures: Sequence[Sequence[bytes]] | None = None,
    title: str = "",
    about: str = "",
    measure: str = "distance at which clusters merge",
) -> Figure:
    """Draw a tree with its root on the left and a line a leaf on the right: number or name, size, pictures.

    The branches of each leaf have a colour up to where leaves of two colours meet; neighbours in the picture are
    neighbours in the tree.

    Args:
        tree: Of 2 to 60 leaves: `Tree.top(k)` of a larger one.
        names: Of the leaves, (leaves,); their numbers when None.
        pictures: Encoded pictures of each leaf, the most typical first.
        title, about: Shown above; the second smaller.
        measure: What the axis of heights is.

    Raises:
        InputError: too many leaves, or lists of another length.
    """
    leaves = len(tree)
    if not 2 <= leaves <= MOST_LEAVES:
        raise InputError(
            f"a dendrogram is drawn of 2 to {MOST_LEAVES} clusters, got {leaves}; draw the top of the tree"
        )
    for what, rows in {"names": names, "pictures": pictures}.items():
        if rows is not None and len(rows) != leaves:
            raise InputError(f"{what} must have one entry a leaf, got {len(rows)} for {leaves}")
    texts = [str(leaf) if names is None else short(names[leaf]) for leaf in range(leaves)]
    columns = _Columns.of(texts, [f"{size:,}" for size in tree.sizes], pictures or [()] * leaves)
    width, top, bottom = _SIDE_INCHES + _TREE_INCHES + columns.width + _SIDE_INCHES, 1.05 if title else 0.5, 0.6
    height = top + leaves * _LEAF_INCHES + bottom
    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((_SIDE_INCHES / width, bottom / height, _TREE_INCHES / width, 1 - (top + bottom) / height))
    place = np.empty(leaves)
    place[leaf_order(tree)] = np.arange(leaves)
    colors = np.array(category_colors(leaves), object)[place.astype(int)]
    _draw_branches(axes, tree, place, colors)
    high = float(tree.heights.max()) or 1.0
    axes.set(xlim=(high * 1.04, 0), ylim=(leaves - 0.5, -0.5), yticks=[])
    axes.set_xlabel(measure, fontsize=9, color=INK)
    axes.tick_params(labelsize=8, color=_RULE, labelcolor=SOFT)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(_RULE)
    columns.write(axes, place, colors)
    if title:
        left = _SIDE_INCHES / width
        figure.text(left, 1 - 0.42 / height, title, fontsize=13, weight="bold", color=INK, parse_math=False)
        figure.text(left, 1 - 0.68 / height, about, fontsize=9, color=SOFT, parse_math=False)
    return figure


@dataclass(frozen=True, slots=True)
class _Columns:
    """What stands to the right of the tree, a line a leaf; places in inches from the end of the tree.

    Attributes:
        names, sizes, pictures: Of the leaves.
        name_at, size_at, picture_at: Left of the names, right of the sizes, left of the first picture.
        width: Of all.
    """

    names: Sequence[str]
    sizes: Sequence[str]
    pictures: Sequence[Sequence[bytes]]
    name_at: float
    size_at: float
    picture_at: float
    width: float

    @classmethod
    def of(cls, names: Sequence[str], sizes: Sequence[str], pictures: Sequence[Sequence[bytes]]) -> "_Columns":
        name = 0.15 + max(text_inches(text, 9.5)[0] for text in (*names, "cluster"))
        size = name + 0.2 + max(text_inches(text, 8.5)[0] for text in (*sizes, "images"))
        most = max(len(row) for row in pictures)
        return cls(names, sizes, pictures, 0.15, size, size + 0.2, size + 0.2 + most * (_PICTURE_INCHES + _GAP_INCHES))

    def write(self, axes: Axes, place: np.ndarray, colors: np.ndarray) -> None:
        words: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "parse_math": False}
        name_at, size_at, picture_at = (1 + at / _TREE_INCHES for at in (self.name_at, self.size_at, self.picture_at))
        head = {**words, "fontsize": 8, "color": SOFT, "va": "bottom"}
        axes.text(name_at, -0.6, "cluster", **head)
        axes.text(size_at, -0.6, "images", ha="right", **head)
        if any(self.pictures):
            axes.text(picture_at, -0.6, "the most typical images", **head)
        line = {**words, "va": "center_baseline"}
        for leaf, y in enumerate(place):
            color = darkened(colors[leaf])
            axes.text(name_at, y, self.names[leaf], fontsize=9, weight="bold", color=color, **line)
            axes.text(size_at, y, self.sizes[leaf], fontsize=8.5, color=SOFT, ha="right", **line)
            for number, data in enumerate(self.pictures[leaf]):
                middle = number * (_PICTURE_INCHES + _GAP_INCHES) + _PICTURE_INCHES / 2
                _draw_picture(axes, data, picture_at + middle / _TREE_INCHES, y)


def leaf_order(tree: Tree) -> list[int]:
    """Leaves from top to bottom so that no branches cross; of two branches the one with more rows first."""
    rows = np.concatenate([tree.sizes, tree.as_linkage()[:, 3].astype(np.int64)])
    order: list[int] = []
    waiting = [len(rows) - 1]
    while waiting:
        node = waiting.pop()
        if node < len(tree):
            order.append(node)
            continue
        pair = sorted(tree.merges[node - len(tree)].tolist(), key=lambda one: (rows[one], -one))
        waiting += pair  # the larger is taken first
    return order


def _draw_branches(axes: Axes, tree: Tree, place: np.ndarray, colors: np.ndarray) -> None:
    y, x = list(place), [0.0] * len(tree)
    color = list(colors)
    for (first, second), height in zip(tree.merges.tolist(), tree.heights.tolist(), strict=True):
        for child in (first, second):
            axes.plot([x[child], height], [y[child]] * 2, color=color[child], lw=1.6, solid_capstyle="round")
        axes.plot([height] * 2, [y[first], y[second]], color=_LINE, lw=1.6, solid_capstyle="round")
        x.append(height)
        y.append((y[first] + y[second]) / 2)
        color.append(_LINE)
    axes.plot([x[-1], x[-1] * 1.04], [y[-1]] * 2, color=_LINE, lw=1.6)


def _draw_picture(axes: Axes, data: bytes, x: float, y: float) -> None:
    """One picture, its longer side 0.46 inches, its middle at x (of the axes' width) and y (in leaves)."""
    image = decoded(data)
    zoom = _PICTURE_INCHES * 72 / max(image.shape[:2])
    box = OffsetImage(image, zoom=zoom, interpolation="antialiased", resample=True)
    axes.add_artist(AnnotationBbox(box, (x, y), xycoords=axes.get_yaxis_transform(), frameon=False, pad=0))
