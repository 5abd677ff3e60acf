"""Clusters as still pictures: how large, how wide, beside classes, and across the cuts of a hierarchy."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from imagescape.errors import InputError
from imagescape.evaluate.clusterings import effective_k
from imagescape.evaluate.contingency import Agreement
from imagescape.report.columns import category_colors
from imagescape.report.page import INK, SOFT, short

_RULE, _BAR, _MARK = "#d9dbe0", "#045bda", "#c23c51"
_MOST_NAMED = 40  # bars and rows that still have a name that can be read
_MOST_WRITTEN = 20  # rows and columns of a matrix whose numbers are written into it


@dataclass(frozen=True, slots=True)
class Cut:
    """One of several clusterings of the same rows, such as a cut of a hierarchy.

    Attributes:
        name: What tells it from the others.
        sizes: Rows of each cluster, (k,), k >= 1.
        agreement: With classes; None where they are not known.
        diameters: Of each cluster, (k,); None where they were not measured.
    """

    name: str
    sizes: np.ndarray
    agreement: Agreement | None = None
    diameters: np.ndarray | None = None


def draw_sizes(sizes: np.ndarray, names: Sequence[str], *, title: str = "") -> Figure:
    """Draw the images of each cluster as bars, and how the sizes are spread as a violin.

    Args:
        sizes: Rows of each cluster, (k,), k >= 1.
        names: (k,); written beside up to 40 bars.
        title: Shown above.

    Raises:
        InputError: no cluster, or lengths differ.
    """
    sizes = _checked(sizes, names)
    figure, (bars, spread) = _two_panels(len(sizes), title)
    _draw_bars(bars, sizes, names, "images")
    even = sizes.mean()
    _reference(bars, even, len(sizes))
    of = f"effective k {effective_k(sizes):.1f} of {len(sizes)}"
    head(bars, "images in each cluster", f"{of}; dashed: all equally large")
    draw_violin(spread, [sizes], [""])
    spread.axhline(even, color=SOFT, lw=1, ls="--")
    spread.set_ylim(bottom=0)
    spread.set_ylabel("images", fontsize=9, color=INK)
    head(spread, "how the sizes are spread", "")
    return figure


def draw_diameters(
    diameters: np.ndarray, sizes: np.ndarray, names: Sequence[str], *, measure: str = "diameter", title: str = ""
) -> Figure:
    """Draw the diameter of each cluster as bars, and beside its size.

    Args:
        diameters: (k,), finite, at least 0.
        sizes: Rows of each cluster, (k,), k >= 1.
        names: (k,); written beside up to 40 bars.
        measure: What the diameter is, for the axes.
        title: Shown above.

    Raises:
        InputError: no cluster, or lengths differ.
    """
    diameters, sizes = _checked(diameters, names), _checked(sizes, names)
    figure, (bars, beside) = _two_panels(len(sizes), title)
    _draw_bars(bars, diameters, names, measure)
    _reference(bars, float(np.median(diameters)), len(sizes))
    head(bars, "diameter of each cluster", "dashed: the median")
    beside.scatter(sizes, diameters, s=22, color=_BAR, alpha=0.65, lw=0)
    for position in dict.fromkeys((int(sizes.argmax()), int(diameters.argmax()), int(diameters.argmin()))):
        is_right = sizes[position] > (sizes.min() + sizes.max()) / 2
        beside.annotate(
            short(names[position]), (sizes[position], diameters[position]), xytext=(-4 if is_right else 4, 4),
            textcoords="offset points", fontsize=8, color=INK, parse_math=False, ha="right" if is_right else "left",
        )  # fmt: skip
    # Room above for the name of the widest.
    beside.set(xlabel="images", ylabel=measure, ylim=(0, 1.12 * float(diameters.max()) or 1.0))
    beside.margins(x=0.12)
    head(beside, "size and diameter", "")
    return figure


def draw_matrix(
    values: np.ndarray, rows: Sequence[str], columns: Sequence[str], *, measure: str, title: str = "", label: str = ""
) -> Figure:
    """Draw how much clusters and classes share, from white (0) to dark blue (the largest value).

    Args:
        values: (k, c) in [0, 1].
        rows: What the clusters are called, (k,); written up to 40.
        columns: What the classes are called, (c,); written up to 40.
        measure: What a value is.
        title: Shown above.
        label: What the columns are.

    Raises:
        InputError: lengths differ, or there is nothing to draw.
    """
    values = np.asarray(values, np.float64)
    if values.shape != (len(rows), len(columns)) or not values.size:
        raise InputError(f"a matrix of {len(rows)} clusters and {len(columns)} classes is needed, got {values.shape}")
    size = [min(8.5, max(3.0, 0.36 * count)) for count in (len(columns), len(rows))]
    figure = Figure(figsize=(size[0] + 3.2, size[1] + 2.0), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    top = float(values.max()) or 1.0
    image = axes.imshow(values, cmap="Blues", vmin=0, vmax=top, aspect="auto", interpolation="nearest")
    bar = figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02)
    bar.set_label(measure, fontsize=9, color=INK)
    bar.ax.tick_params(labelsize=8, labelcolor=SOFT)
    if len(rows) <= _MOST_NAMED:
        axes.set_yticks(range(len(rows)), [short(name) for name in rows], parse_math=False)
    else:  # a place is not a name
        axes.set_yticks([])
    if len(columns) <= _MOST_NAMED:
        axes.set_xticks(
            range(len(columns)), [short(name) for name in columns], rotation=45, ha="right", rotation_mode="anchor",
            parse_math=False,
        )  # fmt: skip
    else:
        axes.set_xticks([])
    if max(values.shape) <= _MOST_WRITTEN:
        for (row, column), value in np.ndenumerate(values):
            if value >= 0.005:
                color = "white" if value > 0.6 * top else INK
                axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7, color=color)
    counted = f"{len(columns)} classes of '{label}'" if len(columns) > _MOST_NAMED else label or "class"
    axes.set_xlabel(counted, fontsize=9, color=INK, parse_math=False)
    axes.set_ylabel(f"{len(rows)} clusters" if len(rows) > _MOST_NAMED else "cluster", fontsize=9, color=INK)
    axes.tick_params(labelsize=8, color=_RULE, labelcolor=INK)
    for spine in axes.spines.values():
        spine.set_color(_RULE)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=12, weight="bold", color=INK, parse_math=False)
    return figure


def draw_cuts(cuts: Sequence[Cut], *, title: str = "") -> Figure:
    """Draw clusterings of the same rows beside each other: sizes, how they meet classes, size and diameter.

    Args:
        cuts: At least one, in any order; what is not known of every one of them has no panel.
        title: Shown above.

    Raises:
        InputError: no cut.
    """
    if not cuts:
        raise InputError("a picture of cuts needs at least one, got none")
    cuts = sorted(cuts, key=lambda cut: (len(cut.sizes), cut.name))
    agreements = [cut.agreement for cut in cuts if cut.agreement is not None]
    has_diameters = all(cut.diameters is not None for cut in cuts)
    count = 1 + (len(agreements) == len(cuts)) + has_diameters
    figure = Figure(figsize=(4.6 * count + 0.4, 4.4), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    panels = list(figure.subplots(1, count, squeeze=False)[0])
    sizes = panels.pop(0)
    # Of logarithms: a violin of the sizes themselves would be bent by a logarithmic axis.
    draw_violin(sizes, [np.log10(cut.sizes) for cut in cuts], [cut.name for cut in cuts])
    low, high = sizes.get_ylim()
    ticks = [tick for tick in _round_numbers(10**high) if low <= np.log10(tick) <= high]
    sizes.set_yticks(np.log10(ticks), [f"{tick:,}" for tick in ticks])
    sizes.set(xlabel="cut", ylabel="images in a cluster")
    head(sizes, "sizes", "bar: median")
    if len(agreements) == len(cuts):
        _draw_agreement(panels.pop(0), cuts, agreements)
    if has_diameters:
        _draw_widths(panels.pop(0), cuts)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=12, weight="bold", color=INK, parse_math=False)
    return figure


def _draw_agreement(axes: Axes, cuts: Sequence[Cut], agreements: Sequence[Agreement]) -> None:
    lines = {"homogeneity": _BAR, "completeness": "#f58e2c", "v_measure": INK}
    ks = [len(cut.sizes) for cut in cuts]
    for name, color in lines.items():
        values = [getattr(one, name) for one in agreements]
        axes.plot(ks, values, color=color, lw=1.6, marker="o", ms=4, label="V" if name == "v_measure" else name)
    axes.set(xlabel="clusters", ylim=(0, 1.02))
    if min(ks) < max(ks):
        axes.set_xscale("log")
    axes.set_xticks(sorted(set(ks)), [str(k) for k in sorted(set(ks))])
    axes.minorticks_off()
    axes.legend(frameon=False, fontsize=8, labelcolor=INK)
    head(axes, "clusters and classes", "1 is best")


def _draw_widths(axes: Axes, cuts: Sequence[Cut]) -> None:
    for cut, color in zip(cuts, category_colors(len(cuts)), strict=True):
        assert cut.diameters is not None
        axes.scatter(cut.sizes, cut.diameters, s=14, color=color, alpha=0.6, lw=0, label=cut.name)
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    ticks = [tick for tick in _round_numbers(high) if low <= tick <= high]
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.minorticks_off()
    axes.set(xlabel="images in a cluster", ylabel="its diameter")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=8, labelcolor=INK, title="cut", title_fontsize=8)
    head(axes, "size and diameter", "")


def _round_numbers(high: float) -> list[int]:
    """1, 2, 5, 10, 20, … up to `high`, or only 1, 10, 100, … where they would be many."""
    digits = range(int(np.log10(max(high, 1))) + 1)
    steps = (1, 2, 5) if len(digits) <= 3 else (1,)
    return [step * 10**digit for digit in digits for step in steps]


def _checked(values: np.ndarray, names: Sequence[str]) -> np.ndarray:
    values = np.asarray(values)
    if values.shape != (len(names),) or not len(names):
        raise InputError(f"one value a cluster and at least one cluster are needed, got {len(names)} names and "
                         f"values of shape {values.shape}")  # fmt: skip
    return values


def _two_panels(count: int, title: str) -> tuple[Figure, tuple[Axes, Axes]]:
    height = 4.2 if count > _MOST_NAMED else max(3.4, 1.4 + 0.24 * count)
    figure = Figure(figsize=(11.0, height), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(2.2, 1))
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=12, weight="bold", color=INK, parse_math=False)
    return figure, (left, right)


def _draw_bars(axes: Axes, values: np.ndarray, names: Sequence[str], measure: str) -> None:
    """Lying bars with names in the order given; too many to be named stand, the largest first."""
    if len(values) > _MOST_NAMED:
        axes.bar(np.arange(1, len(values) + 1), np.sort(values)[::-1], width=1.0, color=_BAR, lw=0)
        axes.set(xlabel=f"the {len(values)} clusters, largest value first", ylabel=measure)
        axes.margins(x=0.01)
        return
    places = np.arange(len(values))
    drawn = axes.barh(places, values, height=0.72, color=_BAR)
    written = [f"{value:,}" if isinstance(value, int) else f"{value:.3g}" for value in values.tolist()]
    halo = [withStroke(linewidth=2.5, foreground="white")]  # where the line of reference passes
    axes.bar_label(drawn, written, padding=3, fontsize=8, color=SOFT, path_effects=halo, zorder=3)
    axes.set_yticks(places, [short(name) for name in names], parse_math=False)
    axes.set(xlabel=measure, ylim=(len(values) - 0.4, -0.6))
    axes.margins(x=0.08)


def _reference(axes: Axes, value: float, count: int) -> None:
    (axes.axhline if count > _MOST_NAMED else axes.axvline)(value, color=SOFT, lw=1, ls="--")


def draw_violin(axes: Axes, groups: Sequence[np.ndarray], names: Sequence[str]) -> None:
    """Every value as a point; a violin where there are enough of them, and not all alike."""
    for place, values in enumerate(groups, 1):
        if len(values) > 2 and np.ptp(values) > 0:
            drawn = axes.violinplot([values], [place], widths=0.8, showextrema=False)
            for body in drawn["bodies"]:  # type: ignore[attr-defined]
                body.set(facecolor=_BAR, edgecolor="none", alpha=0.22)
        spread = np.random.default_rng(0).uniform(-0.12, 0.12, len(values))
        axes.plot(place + spread, values, "o", ms=2.6, color=_BAR, alpha=0.5, mew=0)
        axes.hlines(np.median(values), place - 0.25, place + 0.25, color=_MARK, lw=1.6)
    axes.set_xlim(0.4, len(groups) + 0.6)
    axes.set_xticks(range(1, len(groups) + 1), list(names), parse_math=False)


def head(axes: Axes, name: str, about: str) -> None:
    """What axes are called, and the look of them."""
    axes.set_title(name, loc="left", fontsize=10, weight="bold", color=INK)
    axes.set_title(about, loc="right", fontsize=8, color=SOFT)
    axes.tick_params(labelsize=8, color=_RULE, labelcolor=INK)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set(fontsize=9, color=INK, parse_math=False)
    axes.grid(color=_RULE, lw=0.6, alpha=0.7)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("bottom", "left"))
        spine.set_color(_RULE)
