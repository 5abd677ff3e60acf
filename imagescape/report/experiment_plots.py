"""An experiment with searches as still pictures: what is found, how fast, and what fails.

Everything is drawn from an `Experiment` alone, so from its `results.json`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from imagescape.errors import InputError
from imagescape.evaluate.retrieval import Recall
from imagescape.evaluate.trials import Experiment, Trial
from imagescape.report.columns import category_colors

_INK, _SOFT, _RULE = "#1c1e22", "#5f646d", "#d9dbe0"
_MARKERS = "osD^vPX<>p*h"  # with the colours, so that no line is told by its colour alone
_CELLS = colormaps["cividis"]  # the same to every kind of colour vision
_MOST_ROWS = 150
_FORMATS = ("png", "svg", "pdf")


def draw_experiment(experiment: Experiment, folder: str | Path, *, formats: Sequence[str] = ("png",)) -> list[Path]:
    """Draw every plot that the trials have something for.

    Always `k-recall` and `time-recall`; `k-time` where a method was tried with two k or more; `families` and `kinds`
    (the heat maps) where the queries have them.

    Args:
        experiment: As run, or read back by `Experiment.load`.
        folder: Where to write, made where it is missing.
        formats: Of "png", "svg" and "pdf".

    Returns:
        The files written.

    Raises:
        InputError: a format is unknown.
    """
    odd = [one for one in formats if one not in _FORMATS]
    if odd or not formats:
        raise InputError(f"formats must be of {', '.join(_FORMATS)}, got {', '.join(odd) or 'none'}")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {"k-recall": draw_k_recall(experiment), "time-recall": draw_time_recall(experiment)}
    if _k_sweeps(experiment):
        drawn["k-time"] = draw_k_time(experiment)
    figures = experiment.trials[0].retrieval
    if figures.by_family:
        drawn["families"] = draw_heat_map(experiment, by="family")
    if len(figures.by_kind) > len(figures.by_family):
        drawn["kinds"] = draw_heat_map(experiment, by="kind")
    paths = []
    for name, figure in drawn.items():
        for suffix in formats:
            paths.append(folder / f"{name}.{suffix}")
            figure.savefig(paths[-1], dpi=160, metadata={"Date": None} if suffix == "svg" else None)
    return paths


def draw_k_recall(experiment: Experiment) -> Figure:
    """Recall@k against k, one line a method, with 95 % intervals as bands."""
    figure, axes = _sheet(experiment, "How many results must one look through?")
    style = _styles(experiment)
    for method, trial in _best_trials(experiment).items():
        at = trial.retrieval.overall.at
        ks = sorted(at)
        axes.plot(ks, [100 * at[k].value for k in ks], **style[method])
        known = [k for k in ks if at[k].low is not None]
        low, high = ([100 * (getattr(at[k], end) or 0.0) for k in known] for end in ("low", "high"))
        if known:
            axes.fill_between(known, low, high, color=style[method]["color"], alpha=0.13, lw=0)
    tried = sorted({k for trial in experiment.trials for k in trial.retrieval.overall.at})
    _log_ticks(axes, tried)
    axes.set_xlabel("k: results looked through")
    axes.set_ylabel("recall@k: originals among the first k (%)")
    _legend(figure, axes, note="shaded: 95 % interval" if axes.collections else "")
    return figure


def draw_time_recall(experiment: Experiment) -> Figure:
    """Recall@1 against time, one point a trial; a sweep of the search width is a line with its widths written."""
    figure, axes = _sheet(experiment, "What does a better answer cost?")
    style = _styles(experiment)
    k = _first_k(experiment)
    for method, trials in _by_method(experiment).items():
        points = sorted(_one_a_width(trials, experiment.trials[0].k), key=lambda trial: trial.search_width or 0)
        x = [_milliseconds(trial) for trial in points]
        y = [100 * trial.retrieval.overall.at[k].value for trial in points]
        axes.plot(x, y, **style[method])
        if len(points) > 1:
            for trial, at in zip(points, zip(x, y, strict=True), strict=True):
                offset = {"textcoords": "offset points", "xytext": (0, -12), "ha": "center"}
                axes.annotate(f"{trial.search_width}", at, fontsize=7.5, color=_SOFT, **offset)  # type: ignore[arg-type]
    axes.set_xscale("log")
    axes.margins(x=0.12, y=0.12)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    _open_ticks(axes)
    axes.set_xlabel(f"milliseconds a query, searched in one batch ({_threads(experiment)}); logarithmic")
    axes.set_ylabel(f"recall@{k}: originals found{' as the first result' * (k == 1)} (%)")
    has_widths = any(len(_one_a_width(trials, 0)) > 1 for trials in _by_method(experiment).values())
    _legend(figure, axes, note="numbers: search width\n(nprobe, efSearch)" if has_widths else "")
    return figure


def draw_k_time(experiment: Experiment) -> Figure:
    """Time against k, one line a method that was tried with two k or more; bars from the fastest to the slowest run.

    Raises:
        InputError: no method was tried with two k.
    """
    sweeps = _k_sweeps(experiment)
    if not sweeps:
        raise InputError("time against k needs a method tried with two or more k at one search width, got none")
    figure, axes = _sheet(experiment, "What do more results cost?")
    style = _styles(experiment)
    for method, trials in sweeps.items():
        x = [trial.k for trial in trials]
        y = np.array([_milliseconds(trial) for trial in trials])
        ends = np.array([[1e3 / trial.batch.fastest, 1e3 / trial.batch.slowest] for trial in trials]).T
        axes.errorbar(x, y, yerr=np.abs(ends - y), elinewidth=0.9, capsize=2.5, **style[method])
    _log_ticks(axes, sorted({trial.k for trials in sweeps.values() for trial in trials}))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("k: results asked for")
    axes.set_ylabel(f"milliseconds a query, in one batch ({_threads(experiment)})")
    _legend(figure, axes, note="median of repeated searches;\nbars: fastest and slowest")
    return figure


def draw_heat_map(experiment: Experiment, *, by: str = "family") -> Figure:
    """Recall@1 of every method on every family or kind of query, what the best of them fails on at the top.

    Args:
        experiment: Its queries must have families (or kinds).
        by: "family" or "kind".

    Raises:
        InputError: there are none, more than 150, or `by` is another word.
    """
    if by not in ("family", "kind"):
        raise InputError(f"by must be 'family' or 'kind', got '{by}'")
    best = _best_trials(experiment)
    groups = {method: _groups(trial, by) for method, trial in best.items()}
    names = list(groups[experiment.trials[0].method])
    if not 1 <= len(names) <= _MOST_ROWS:
        raise InputError(f"a heat map by {by} needs 1 to {_MOST_ROWS} of them, got {len(names)}")
    k = _first_k(experiment)
    methods = sorted(best, key=lambda method: -best[method].retrieval.overall.at[k].value)
    cells = np.array([[groups[method][name].at[k].value for method in methods] for name in names])
    order = np.lexsort((np.array(names), cells.mean(axis=1), cells[:, 0]))
    cells, names = cells[order], [names[row] for row in order]
    overall = np.array([[best[method].retrieval.overall.at[k].value for method in methods]])
    counts = {name: group.queries for name, group in groups[methods[0]].items()}
    labels = [f"{name}  ({counts[name]:,})" for name in names]
    every = f"all queries  ({best[methods[0]].retrieval.overall.queries:,})"
    return _heat_sheet(experiment, by, k, [_label(experiment, one) for one in methods], labels, cells, every, overall)


def _heat_sheet(
    experiment: Experiment,
    by: str,
    k: int,
    columns: Sequence[str],
    rows: Sequence[str],
    cells: np.ndarray,
    every: str,
    overall: np.ndarray,
) -> Figure:
    widest = max(len(row) for row in [*rows, every])
    lines = [_broken(column, 16) for column in columns]
    head = 0.16 * max(line.count("\n") + 1 for line in lines)
    width = max(7.2, 0.085 * widest + 1.25 * len(columns) + 0.9)
    height = 1.2 + head + 0.29 * (len(rows) + 2)
    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    left = (0.085 * widest + 0.35) / width
    across = min(1.25 * len(columns), width - left * width - 0.3) / width
    top = 1 - (0.95 + head) / height
    unit = 0.29 / height
    upper = figure.add_axes((left, top - unit, across, unit))
    lower = figure.add_axes((left, top - unit * (1.4 + len(rows)), across, unit * len(rows)))
    for axes, values, names in ((upper, overall, [every]), (lower, cells, rows)):
        axes.imshow(values, cmap=_CELLS, vmin=0, vmax=1, aspect="auto")
        axes.set_yticks(range(len(names)), names, fontsize=8.5, color=_INK, parse_math=False)
        axes.set_xticks([])
        axes.tick_params(length=0)
        axes.set_xticks(np.arange(1, len(columns)) - 0.5, minor=True)
        axes.set_yticks(np.arange(1, len(names)) - 0.5, minor=True)
        axes.grid(which="minor", color="white", lw=1)
        axes.tick_params(which="minor", length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
        for (row, column), value in np.ndenumerate(values):
            ink = "white" if value < 0.51 else _INK
            axes.text(column, row, _percent(value), ha="center", va="center", fontsize=8.5, color=ink)
    upper.xaxis.tick_top()
    upper.set_xticks(range(len(columns)), lines, fontsize=8.5, color=_INK, linespacing=1.15, parse_math=False)
    upper.get_yticklabels()[0].set_fontweight("bold")
    words = (
        f"Recall@{k} in %, by {by} of query (number of queries); the best method on the left, its failures at the top"
    )
    _headline(figure, "What fails?", f"{words}.\n{_about(experiment)}", height)
    return figure


def _sheet(experiment: Experiment, title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(10.0, 5.6), facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.075, 0.115, 0.62, 0.75))
    axes.grid(color=_RULE, lw=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8.5, color=_RULE, labelcolor=_SOFT)
    axes.xaxis.label.set(color=_INK, fontsize=9.5)
    axes.yaxis.label.set(color=_INK, fontsize=9.5)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("bottom", "left"))
        spine.set_color(_RULE)
    _headline(figure, title, _about(experiment), 5.6)
    return figure, axes


def _headline(figure: Figure, title: str, about: str, height_inches: float) -> None:
    style = {"ha": "left", "va": "top", "parse_math": False}
    x = 0.15 / figure.get_figwidth()
    figure.text(x, 1 - 0.14 / height_inches, title, fontsize=13, weight="bold", color=_INK, **style)  # type: ignore[arg-type]
    figure.text(x, 1 - 0.42 / height_inches, about, fontsize=8.5, color=_SOFT, linespacing=1.4, **style)  # type: ignore[arg-type]


def _about(experiment: Experiment) -> str:
    figures = experiment.trials[0].retrieval
    others = figures.queries - figures.matching
    without = f", and {others:,} that match nothing," if others else ""
    return (
        f"{figures.matching:,} queries made from known originals{without} among {experiment.database_rows:,} pictures."
    )


def _threads(experiment: Experiment) -> str:
    return f"{experiment.threads} processor core{'s' * (experiment.threads != 1)}"


def _legend(figure: Figure, axes: Axes, *, note: str = "") -> None:
    handles, names = axes.get_legend_handles_labels()
    names = [_broken(name, 34) for name in names]
    legend = figure.legend(handles, names, loc="upper left", bbox_to_anchor=(0.71, 0.88), fontsize=8.5, frameon=False)
    for text in legend.get_texts():
        text.set(parse_math=False, color=_INK)
    if note:
        figure.text(0.72, 0.03, note, fontsize=8, color=_SOFT, va="bottom", linespacing=1.3)


def _styles(experiment: Experiment) -> Mapping[tuple[str, str, str], dict]:
    methods = list(_by_method(experiment))
    return {
        method: {
            "label": _label(experiment, method),
            "color": color,
            "marker": _MARKERS[place % len(_MARKERS)],
            "ms": 5.5,
            "lw": 1.6,
        }
        for place, (method, color) in enumerate(zip(methods, category_colors(len(methods)), strict=True))
    }


def _label(experiment: Experiment, method: tuple[str, str, str]) -> str:
    """A method by what sets it apart: engine and metric are left out where all methods have the same."""
    if method[1] == "combined":
        return f"combined: {method[0]}"
    plain = [one for one in _by_method(experiment) if one[1] != "combined"]
    parts = [method[0]] + [method[part] for part in (1, 2) if len({one[part] for one in plain}) > 1]
    return ", ".join(part.replace("_", " ") if place else part for place, part in enumerate(parts))


def _broken(text: str, width: int) -> str:
    """Lines of about `width` letters, broken after commas, plus signs and spaces, and within longer words."""
    lines = [""]
    for word in text.replace("_", "_\u200b").replace(" ", " \u200b").split("\u200b"):
        if lines[-1] and len(lines[-1]) + len(word.rstrip()) > width:
            lines.append("")
        lines[-1] += word
    return "\n".join(line.rstrip() for line in lines)


def _by_method(experiment: Experiment) -> dict[tuple[str, str, str], list[Trial]]:
    methods: dict[tuple[str, str, str], list[Trial]] = {}
    for trial in experiment.trials:
        methods.setdefault(trial.method, []).append(trial)
    return methods


def _best_trials(experiment: Experiment) -> dict[tuple[str, str, str], Trial]:
    """Of each method the trial that knows the most k, and of those the one with the best recall."""
    k = _first_k(experiment)

    def worth(trial: Trial) -> tuple[float, float]:
        return len(trial.retrieval.overall.at), trial.retrieval.overall.at[k].value

    return {method: max(trials, key=worth) for method, trials in _by_method(experiment).items()}


def _one_a_width(trials: Sequence[Trial], k: int) -> list[Trial]:
    """One trial for every search width, that with `k` where there is one."""
    chosen: dict[int | None, Trial] = {}
    for trial in trials:
        if trial.search_width not in chosen or trial.k == k:
            chosen[trial.search_width] = trial
    return list(chosen.values())


def _k_sweeps(experiment: Experiment) -> dict[tuple[str, str, str], list[Trial]]:
    """Of each method the trials at the width that was tried with the most k, if two or more, by k."""
    sweeps = {}
    for method, trials in _by_method(experiment).items():
        widths: dict[int | None, dict[int, Trial]] = {}
        for trial in trials:
            widths.setdefault(trial.search_width, {})[trial.k] = trial
        most = max(widths.values(), key=len)
        if len(most) > 1:
            sweeps[method] = [most[k] for k in sorted(most)]
    return sweeps


def _first_k(experiment: Experiment) -> int:
    return min(experiment.trials[0].retrieval.overall.at)


def _groups(trial: Trial, by: str) -> Mapping[str, Recall]:
    return trial.retrieval.by_family if by == "family" else trial.retrieval.by_kind


def _milliseconds(trial: Trial) -> float:
    return 1e3 / trial.batch.median


def _percent(value: float) -> str:
    """With tenths; only a perfect 1 is written 100."""
    return "100" if value == 1 else f"{min(100 * value, 99.9):.1f}"


def _log_ticks(axes: Axes, ticks: Sequence[int]) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _open_ticks(axes: Axes) -> None:
    """More than the powers of ten where the times span less than three of them."""
    low, high = axes.get_xlim()
    if high / low < 1000:
        steps = [step * 10.0**power for power in range(-6, 6) for step in (1, 2, 5)]
        axes.xaxis.set_major_locator(FixedLocator([step for step in steps if low <= step <= high]))
        axes.xaxis.set_minor_locator(NullLocator())
