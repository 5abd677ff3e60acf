"""Names to write on a map: where each class is, and how far the map must be enlarged for its name to have room."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from imagescape.explore.columns import Column

ROOM_X, ROOM_Y = 1 / 8, 1 / 25
"""What a name takes of the larger side of the map where all of it is seen."""

_DEEPEST = 16.0


@dataclass(frozen=True, slots=True)
class Label:
    """A name on a map.

    Attributes:
        code, value, name: The class: its code, what the table holds for it, how it is shown.
        named: False for a cluster that has only a number.
        x, y: Of the member that is nearest to the median of the members.
        count: Members on the map.
        level: The name has room where the map is enlarged 2^level times or more.
    """

    code: int
    value: Any
    name: str
    named: bool
    x: float
    y: float
    count: int
    level: float


def labels_of(column: Column, coords: np.ndarray) -> list[Label]:
    """The names of the classes that are on a map, the largest first.

    Args:
        column: Classes, (n,) codes.
        coords: (n, 2), NaN for rows that are not on the map.
    """
    codes = np.where(np.isfinite(coords[:, 0]), column.values, -1)
    order = np.argsort(codes, kind="stable")
    bounds = np.searchsorted(codes[order], np.arange(len(column.about["values"]) + 1))
    members = [order[start:end] for start, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)]
    here = [code for code, rows in enumerate(members) if len(rows)]
    here.sort(key=lambda code: (-len(members[code]), code))
    if not here:
        return []
    places = np.array([_middle(coords[members[code]]) for code in here])
    levels = _levels(places, float(np.nanmax(np.nanmax(coords, axis=0) - np.nanmin(coords, axis=0))))
    about = column.about
    named = about.get("named", [True] * len(about["values"]))
    return [
        Label(code, about["values"][code], about["names"][code], named[code], x, y, len(members[code]), level)
        for code, (x, y), level in zip(here, places.tolist(), levels.tolist(), strict=True)
    ]


def as_dicts(labels: list[Label]) -> list[dict[str, Any]]:
    """Plain values, for JSON."""
    return [asdict(label) for label in labels]


def _middle(points: np.ndarray) -> np.ndarray:
    away = points - np.median(points, axis=0)
    return points[int(np.einsum("nd,nd->n", away, away).argmin())]


def _levels(places: np.ndarray, side: float) -> np.ndarray:
    """For each of the places (k, 2), how far to enlarge until it is clear of all before it; (k,) float64."""
    levels = np.zeros(len(places))
    with np.errstate(divide="ignore"):
        for row in range(1, len(places)):
            away = np.abs(places[:row] - places[row])
            clear = np.log2(np.minimum(ROOM_X * side / away[:, 0], ROOM_Y * side / away[:, 1]))
            levels[row] = np.clip(clear.max(), 0, _DEEPEST)
    return np.ceil(levels * 4) / 4  # in quarters, so that rounding on the way hides nothing
