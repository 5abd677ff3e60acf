"""A network while it is fine-tuned, as still pictures: what it finds, where its threshold lies, how groups spread."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from imagescape.cluster.geometry import FIGURES, Geometry
from imagescape.errors import InputError
from imagescape.evaluate.looks import Look
from imagescape.report.cluster_plots import draw_violin, head
from imagescape.report.page import INK, SOFT, short

_SEEN, _UNSEEN, _WORSE = "#045bda", "#b8860b", "#c23c51"
_MEASURES = (
    ("recall_at_1", "recall@1"),
    ("average_precision", "micro average precision"),
    ("recall_at_precision", "recall at 90 % precision"),
)
_LOWER_IS_BETTER = ("dispersion", "diameter", "sn1", "sn2")
_MOST_SHOWN = 400  # clusters in a violin


def draw_geometry_by_epoch(geometries: Mapping[str, Geometry], *, title: str = "") -> Figure:
    """Draw the six figures of the geometry of the same groups, a violin for each network.

    Args:
        geometries: By what the network is called, in the order to show.
        title: Shown above.

    Raises:
        InputError: there are none.
    """
    if not geometries:
        raise InputError("there is no geometry to draw")
    figure = _sheet((12.5, 6.8), title)
    grid = figure.subplots(2, 3)
    for axes, name in zip(grid.flat, FIGURES, strict=True):
        groups = [_shown(getattr(one, name)) for one in geometries.values()]
        draw_violin(axes, groups, [short(one) for one in geometries])
        axes.tick_params(axis="x", rotation=30)
        about = "lower is better" if name in _LOWER_IS_BETTER else "higher is better"
        head(axes, name.replace("_", " ") if not name.startswith("sn") else name.upper(), about)
    return figure


def _shown(values: np.ndarray) -> np.ndarray:
    """What is finite of them, evenly thinned where there are very many."""
    values = np.sort(values[np.isfinite(values)])
    return values[:: max(1, len(values) // _MOST_SHOWN)]


def draw_retrieval_by_epoch(looks: Sequence[Look], *, title: str = "") -> Figure:
    """Draw the three figures of retrieval against the epoch, for seen and unseen kinds; dashed: before.

    Args:
        looks: "before" first; of what came after the training, such as ways back, nothing is drawn.
        title: Shown above.

    Raises:
        InputError: there are none.
    """
    trained = _on_the_way(looks)
    figure = _sheet((12.5, 3.9), title)
    for axes, (field, name) in zip(figure.subplots(1, 3), _MEASURES, strict=True):
        for kind, color, marker in (("seen", _SEEN, "o"), ("unseen", _UNSEEN, "s")):
            values = [100 * getattr(getattr(one, kind), field) for one in trained]
            axes.plot([one.epoch for one in trained], values, marker=marker, color=color, lw=1.8, ms=4.5, label=kind)
            before = 100 * getattr(getattr(looks[0], kind), field)
            axes.axhline(before, color=color, lw=1, ls="--")
        axes.set(xlabel="epoch", ylabel="%")
        head(axes, name, "dashed: before")
    axes.legend(frameon=False, fontsize=8, labelcolor=INK, title="kinds of alteration", title_fontsize=8)
    return figure


def draw_threshold_by_epoch(looks: Sequence[Look], *, title: str = "") -> Figure:
    """Draw the distance of 90 % precision against the epoch, and what it is worth for kinds that it was not set on.

    Args:
        looks: As for `draw_retrieval_by_epoch`.
        title: Shown above.

    Raises:
        InputError: there are none.
    """
    trained = _on_the_way(looks)
    figure = _sheet((12.5, 3.9), title)
    left, right = figure.subplots(1, 2)
    epochs = [one.epoch for one in trained]
    for kind, color, marker in (("seen", _SEEN, "o"), ("unseen", _UNSEEN, "s")):
        values = [_number(getattr(one, kind).distance_at_precision) for one in trained]
        left.plot(epochs, values, marker=marker, color=color, lw=1.8, ms=4.5, label=f"{kind} kinds")
    left.set(xlabel="epoch", ylabel="1 - cosine")
    left.legend(frameon=False, fontsize=8, labelcolor=INK)
    head(left, "where 90 % of what is accepted is right", "one place for both: one threshold works")
    for field, color, marker in (("carried_precision", _SEEN, "o"), ("carried_recall", _UNSEEN, "s")):
        values = [100 * _number(getattr(one, field)) for one in trained]
        right.plot(epochs, values, marker=marker, color=color, lw=1.8, ms=4.5, label=field.split("_")[1])
        right.axhline(100 * _number(getattr(looks[0], field)), color=color, lw=1, ls="--")
    right.axhline(90, color=SOFT, lw=1, ls=":")
    right.set(xlabel="epoch", ylabel="%")
    right.legend(frameon=False, fontsize=8, labelcolor=INK)
    head(right, "unseen kinds, at the distance set on seen ones", "dashed: before; dotted: 90 %")
    return figure


def draw_families(before: Look, after: Look, *, title: str = "") -> Figure:
    """Draw recall@1 of every family of alterations, before and after, the largest gain first."""
    names = sorted(before.by_family, key=lambda one: before.by_family[one] - after.by_family[one])
    figure = _sheet((8.5, 1.2 + 0.24 * len(names)), title)
    axes: Axes = figure.subplots()
    for place, name in enumerate(names):
        ends = 100 * before.by_family[name], 100 * after.by_family[name]
        color = _WORSE if ends[1] < ends[0] else _SEEN
        axes.plot(ends, [place, place], color=color, lw=2)
        axes.plot(ends[0], place, "o", ms=5, mfc="white", mec=color)
        axes.plot(ends[1], place, "o", ms=5, color=color)
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.set(xlabel="recall@1, %", ylim=(len(names) - 0.4, -0.6))
    head(axes, "by family of alterations", "open: before; filled: after; red: worse")
    return figure


def _on_the_way(looks: Sequence[Look]) -> list[Look]:
    """Before, and after each epoch that was looked at."""
    if not looks:
        raise InputError("there are no looks to draw: fine-tune first")
    start = next((one for one in looks if one.name == "whitened"), looks[0])
    return [start, *(one for one in looks if one.name == f"epoch {one.epoch}")]


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _sheet(size_inches: tuple[float, float], title: str) -> Figure:
    figure = Figure(figsize=size_inches, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=12, weight="bold", color=INK, parse_math=False)
    return figure
