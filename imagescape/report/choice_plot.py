"""A choice of the number of clusters as a still picture: what speaks for each."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from imagescape.cluster.choose import Choice
from imagescape.report.page import INK, SOFT

_RULE, _LINE, _BAND, _BEST = "#d9dbe0", "#045bda", "#e9eef7", "#c23c51"


def draw_choice(choice: Choice, *, title: str = "") -> Figure:
    """Draw score, silhouette, stability and effective k over k; the best k is marked, plausible ones are shaded.

    Args:
        choice: Of `choose_k`.
        title: Shown above.
    """
    by_k = sorted(choice.candidates, key=lambda one: one.k)
    ks = np.array([one.k for one in by_k])
    figure = Figure(figsize=(9.0, 8.2), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=13, weight="bold", color=INK, parse_math=False)
    panels = figure.subplots(4, 1, sharex=True)
    texts = (
        ("score", f"how far the two below are above the dashed lines; best {choice.k}, shaded: hardly less"),
        ("silhouette", "how much nearer one's own cluster is than the next; dashed: in a cloud without groups"),
        (
            "stability",
            f"do two resamples lead to the same clusters? mean and sd of {choice.resamples} pairs; dashed: as above",
        ),
        ("effective k", "how many equally large clusters would be as various; dashed: k itself"),
    )
    values = [
        np.array([getattr(one, name) for one in by_k]) for name in ("score", "silhouette", "stability", "effective_k")
    ]
    spread = np.array([one.stability_sd for one in by_k])
    without = [np.array([getattr(one, f"groupless_{name}") for one in by_k]) for name in ("silhouette", "stability")]
    for axes, (name, about), line, dashed in zip(panels, texts, values, (None, *without, ks), strict=True):
        for k in choice.plausible:
            axes.axvspan(k - 0.5, k + 0.5, color=_BAND, lw=0, zorder=0)
        if name == "stability":
            axes.fill_between(ks, line - spread, line + spread, color=_LINE, alpha=0.18, lw=0)
        if dashed is not None:
            axes.plot(ks, dashed, color=SOFT, lw=1, ls="--")
        axes.plot(ks, line, color=_LINE, lw=1.6, marker="o", ms=3)
        best = int(np.flatnonzero(ks == choice.k)[0])
        axes.plot(ks[best], line[best], "o", ms=7, color=_BEST, zorder=4)
        _dress(axes, name, about)
    panels[-1].set_xlabel(
        f"k, clusters  (Ward's hierarchy of {choice.rows:,} of {choice.total:,} images)", fontsize=9, color=INK
    )
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True, nbins=14))
    panels[-1].set_xlim(ks[0] - 0.7, ks[-1] + 0.7)
    return figure


def _dress(axes: Axes, name: str, about: str) -> None:
    axes.set_title(name, loc="left", fontsize=10, weight="bold", color=INK)
    axes.set_title(about, loc="right", fontsize=8, color=SOFT)
    axes.tick_params(labelsize=8, color=_RULE, labelcolor=SOFT)
    axes.grid(axis="y", color=_RULE, lw=0.6)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("bottom", "left"))
        spine.set_color(_RULE)
