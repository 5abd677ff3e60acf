"""Training as a still picture: loss, learning rate and speed over the stages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from imagescape.errors import InputError

_INK, _SOFT, _RULE = "#1c1e22", "#5f646d", "#d9dbe0"
_LINE = "#045bda"
_NEEDED = ("stage", "step", "loss")
_SMOOTHED = 60  # points of the smooth line a stage, at most
_SMALLEST_GROUP = 12  # records behind each of them, at least


@dataclass(frozen=True, slots=True)
class _Stage:
    """One stage on the common axis of steps; every array has one entry a record."""

    name: str
    start: float
    end: float
    epochs: float
    steps: np.ndarray
    values: Mapping[str, np.ndarray]


def draw_training(
    records: Sequence[Mapping[str, object]],
    *,
    stage_names: Sequence[str] = (),
    title: str = "",
    size_inches: tuple[float, float] = (11.0, 6.5),
) -> Figure:
    """Draw the loss over the stages of a run, with learning rate and speed below where they were recorded.

    Args:
        records: Lines of metrics, a dict each, in the order they were written; `step` counts within its stage. Where
            a resumed run repeats a step, the later record holds.
        stage_names: What to call the stages, in their order; by default as recorded, a number n as "stage n + 1".
        title: Shown above.
        size_inches: Width and height of the figure.

    Raises:
        InputError: no records, or one lacks stage, step or loss.
    """
    stages = _stages(records, stage_names)
    panels = [("loss", "loss")] + [
        (key, name)
        for key, name in (("learning_rate", "learning rate"), ("images_per_second", "images / s"))
        if any(np.isfinite(stage.values[key]).any() for stage in stages)
    ]
    figure = Figure(figsize=size_inches, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    rows = figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=[3.4, *[1] * (len(panels) - 1)])
    for axes, (key, name) in zip(rows[:, 0], panels, strict=True):
        _prepare(axes, name, stages)
        for stage in stages:
            _draw_series(axes, stage.steps, stage.values[key], is_smoothed=key != "learning_rate")
        if key == "learning_rate":
            _scale_rates(axes, stages)
        if key == "images_per_second":
            _scale_speeds(axes, stages)
    _name_stages(rows[0, 0], stages)
    rows[-1, 0].set_xlabel("step", fontsize=9, color=_INK)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=13, weight="bold", color=_INK, parse_math=False)
    return figure


def _stages(records: Sequence[Mapping[str, object]], names: Sequence[str]) -> list[_Stage]:
    if not records:
        raise InputError("there are no metrics to draw: the run has not recorded a step yet")
    for number, record in enumerate(records, 1):
        missing = [key for key in _NEEDED if record.get(key) is None]
        if missing:
            raise InputError(f"record {number} of the metrics lacks {' and '.join(missing)}")
    order = list(dict.fromkeys(record["stage"] for record in records))
    if names and len(names) < len(order):
        raise InputError(f"stage_names must name the {len(order)} stages of the run, got {len(names)}")
    by_stage = sorted(records, key=lambda record: order.index(record["stage"]))
    stages: list[_Stage] = []
    end = 0.0
    for stage, group in groupby(by_stage, key=lambda record: record["stage"]):
        usual = f"stage {stage + 1}" if isinstance(stage, int) else str(stage)
        name = names[len(stages)] if names else usual
        latest = {_number(record, "step"): record for record in group}
        steps = np.array(sorted(latest))
        kept = [latest[step] for step in steps]
        values = {
            key: np.array([_number(record, key) for record in kept])
            for key in ("loss", "learning_rate", "images_per_second", "epoch")
        }
        start, end = end, end + float(steps[-1])
        epochs = values["epoch"][np.isfinite(values["epoch"])]
        stages.append(_Stage(name, start, end, float(epochs.max()) if len(epochs) else np.nan, steps + start, values))
    return stages


def _number(record: Mapping[str, object], key: str) -> float:
    value = record.get(key)
    return float(value) if isinstance(value, (int, float)) else np.nan


def _prepare(axes: Axes, name: str, stages: Sequence[_Stage]) -> None:
    axes.set_ylabel(name, fontsize=9, color=_INK)
    axes.tick_params(labelsize=8, color=_RULE, labelcolor=_SOFT)
    axes.grid(axis="y", color=_RULE, lw=0.6)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(_RULE)
    for number, stage in enumerate(stages):
        if number % 2:
            axes.axvspan(stage.start, stage.end, color="#f3f4f7", lw=0, zorder=0)
    axes.set_xlim(0, max(stages[-1].end, 1))


def _draw_series(axes: Axes, steps: np.ndarray, values: np.ndarray, *, is_smoothed: bool) -> None:
    """What was recorded, faint, under its running median where it is dense enough to need one."""
    known = np.isfinite(values)
    steps, values = steps[known], values[known]
    if not len(steps):
        return
    groups = min(_SMOOTHED, len(values) // _SMALLEST_GROUP)
    if not is_smoothed or groups < 4:
        axes.plot(steps, values, color=_LINE, lw=1.4, marker="o" if len(values) == 1 else None, ms=3)
        return
    axes.plot(steps, values, color=_LINE, lw=0.5, alpha=0.35)
    runs = np.array_split(np.arange(len(values)), groups)
    middles = np.array([[np.median(steps[run]), np.median(values[run])] for run in runs])
    axes.plot(*middles.T, color=_LINE, lw=1.8)


def _scale_rates(axes: Axes, stages: Sequence[_Stage]) -> None:
    """Logarithmic, as stages may learn a thousand times slower than others; the ends of cosines at 0 are cut off."""
    peaks = [float(np.nanmax(stage.values["learning_rate"], initial=0.0)) for stage in stages]
    peaks = [peak for peak in peaks if peak > 0]
    if peaks:
        axes.set_yscale("log", nonpositive="mask")
        axes.set_ylim(min(peaks) / 20, max(peaks) * 2)


def _scale_speeds(axes: Axes, stages: Sequence[_Stage]) -> None:
    """Logarithmic, as a stage of the head alone is tens of times faster; in plain numbers, at least one of them."""
    speeds = np.concatenate([stage.values["images_per_second"] for stage in stages])
    speeds = speeds[np.isfinite(speeds) & (speeds > 0)]
    if not len(speeds):
        return
    axes.set_yscale("log")
    axes.set_ylim(speeds.min() / 1.7, speeds.max() * 1.7)  # wider than from 2 to 5, the widest step between ticks
    is_wide = speeds.max() > 5 * speeds.min()
    axes.yaxis.set_major_locator(LogLocator(subs=(1,) if is_wide else (1, 2, 5)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _name_stages(axes: Axes, stages: Sequence[_Stage]) -> None:
    """Names above the loss; a stage too narrow for its name on one line gets it higher up."""
    total = max(stages[-1].end, 1)
    reached = [-np.inf, -np.inf, -np.inf]
    for stage in stages:
        epochs = "" if np.isnan(stage.epochs) else f"{stage.epochs:g} epoch{'s' * (stage.epochs != 1)}, "
        last = stage.values["loss"][np.isfinite(stage.values["loss"])]
        text = f"{stage.name}  ({epochs}loss {last[-1]:.4g})" if len(last) else stage.name
        left, width = stage.start / total, 0.0085 * len(text)
        left = max(0.0, min(left, 1 - width))
        level = next((level for level, end in enumerate(reached) if left >= end), len(reached) - 1)
        reached[level] = left + width
        style = {"transform": axes.transAxes, "fontsize": 8.5, "color": _INK, "va": "bottom", "parse_math": False}
        axes.text(left, 1.02 + 0.055 * level, text, **style)  # type: ignore[arg-type]
