"""Where the names of classes go: at the peak of each class, or around the map with leader lines.

Around the map the names keep the angular order of the classes' density modes, as in the CIFAR-100
figure of Boehm et al. 2023 (arXiv:2210.09879), and leaders cannot cross, by construction: a leader runs
outwards from its mode to a circle around all modes, and from there to its place on the outer circle as
a straight line in (angle, radius). Two straight lines that keep their order at both ends never meet.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from imagescape.report.geometry import Box, Point, stack

_GRID = 64
_BEND = np.linspace(0, 1, 10)
_WINDOWS = 73


@dataclass(frozen=True, slots=True)
class Placement:
    """One name on the circle around a map.

    Attributes:
        angle: Direction from the centre, in radians, counter-clockwise from the right.
        anchor: Where the leader ends and the name begins.
        leader: From the mode to the anchor, (p, 2).
    """

    angle: float
    anchor: Point
    leader: np.ndarray


def density_mode(points: np.ndarray) -> np.ndarray:
    """The point of a class where the class is densest.

    The peak of a Gaussian kernel estimate (Scott's bandwidth) on a 64 x 64 grid over the middle 96 % of
    the points, moved to the nearest point so that a label always points at an image.

    Args:
        points: (m, 2), m >= 1.

    Returns:
        (2,), one of `points`.
    """
    points = np.asarray(points, dtype=np.float64)
    low, high = np.quantile(points, [0.02, 0.98], axis=0)
    span = np.where(high > low, high - low, 1.0)
    edges = [np.linspace(low[axis] - 0.1 * span[axis], high[axis] + 0.1 * span[axis], _GRID + 1) for axis in (0, 1)]
    density = np.histogram2d(points[:, 0], points[:, 1], bins=edges)[0]
    cells = np.array([edge[1] - edge[0] for edge in edges])
    bandwidth = np.maximum(points.std(axis=0) * len(points) ** (-1 / 6) / cells, 1.0)
    peak = np.unravel_index(gaussian_filter(density, bandwidth, mode="constant").argmax(), density.shape)
    target = np.array([edges[axis][peak[axis]] + cells[axis] / 2 for axis in (0, 1)])
    return points[((points - target) ** 2).sum(axis=1).argmin()]


def place_on_periphery(modes: np.ndarray, center: Point, radius: float, gap: float) -> list[Placement]:
    """Places on a circle for the names of classes, in the order of their angle and as near to it as room allows.

    Args:
        modes: Density modes, (c, 2).
        center: Middle of the map; angles are taken about it.
        radius: Of the circle; all modes lie inside.
        gap: Least distance between two anchors: the height of a line of type.

    Returns:
        One placement a mode, in the order of `modes`.

    Raises:
        ValueError: the names do not fit, or a mode lies outside the circle.
    """
    if not len(modes):
        return []
    offsets = np.asarray(modes, dtype=np.float64) - center
    radii = np.hypot(offsets[:, 0], offsets[:, 1])
    inner = 1.02 * float(radii.max())
    if inner >= radius:
        raise ValueError(f"modes reach {inner:.4g} from the centre, the circle of names only {radius:.4g}")
    if len(modes) > 1 and gap > 2 * radius * np.sin(np.pi / len(modes)):
        raise ValueError(f"{len(modes)} names, {gap:.4g} high, do not fit around a circle of radius {radius:.4g}")
    angles = np.arctan2(offsets[:, 1], offsets[:, 0])
    order = np.lexsort((radii, angles))
    # Cut the circle open at its widest empty arc; as names may be pushed across the cut, the full turn that
    # they share may begin anywhere about it.
    arcs = np.diff(angles[order], append=angles[order[0]] + 2 * np.pi)
    widest = int(arcs.argmax())
    order = np.roll(order, -widest - 1)
    cut = angles[order[-1]] + arcs[widest] / 2 - 2 * np.pi
    starts = cut + (angles[order] - cut) % (2 * np.pi)
    turn = 2 * np.arcsin(min(gap / (2 * radius), 1.0))
    turns = [turn] * len(order)
    windows = (stack(starts, turns, low, low + 2 * np.pi) for low in cut + np.linspace(-np.pi, np.pi, _WINDOWS))
    ends = min(windows, key=lambda places: float(np.square(places - starts).sum()))
    placements: dict[int, Placement] = {}
    for row, start, end in zip(order, starts, ends, strict=True):
        bent = _polar(start + (end - start) * _BEND, inner + (radius - inner) * _BEND)
        leader = np.concatenate([offsets[row : row + 1], bent]) + center
        placements[int(row)] = Placement(float(end), (float(leader[-1, 0]), float(leader[-1, 1])), leader)
    return [placements[row] for row in range(len(modes))]


def _polar(angles: np.ndarray, radii: np.ndarray) -> np.ndarray:
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)


def place_names(modes: np.ndarray, sizes: Sequence[tuple[float, float]], bounds: Box) -> list[Box | None]:
    """A box for each name at its mode, or a little above or below; None where there is no room.

    Args:
        modes: (c, 2), the most important class first.
        sizes: Width and height of each name.
        bounds: Names stay inside.
    """
    placed: list[Box | None] = []
    for (x, y), (width, height) in zip(modes, sizes, strict=True):
        half = width / 2
        x = min(max(float(x), bounds.x0 + half), bounds.x1 - half)
        boxes = (Box.around((x, float(y) + step * height), width, height) for step in (0, 1, -1, 2, -2))
        taken = [other for other in placed if other is not None]
        free = (box for box in boxes if bounds.holds(box) and not any(box.overlaps(other) for other in taken))
        placed.append(next(free, None))
    return placed
