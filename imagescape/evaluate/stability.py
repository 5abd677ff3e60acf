"""Does a map hold still: under another view of the same image, and under another seed?

Neither needs a label. Everything takes arrays whose rows are images in one order.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy import spatial

from imagescape.errors import InputError
from imagescape.evaluate.metrics import knn_recall
from imagescape.evaluate.neighbors import nearest


@dataclass(frozen=True, slots=True)
class ViewConsistency:
    """Where two random views of each image land on its map.

    Attributes:
        distances: Between the two views of an image, (m,), in map units.
        chance_distances: Between a first view and the second view of another image, for all m (m - 1) such pairs.
        is_found: (m,) bool: the image itself is among the k images of the map nearest to its second view.
        k: Of `is_found`.
        map_rows: Images on the map, so that chance of `found_share` is k / map_rows.
    """

    distances: np.ndarray
    chance_distances: np.ndarray
    is_found: np.ndarray
    k: int
    map_rows: int

    @property
    def relative_distances(self) -> np.ndarray:
        """`distances` over the median distance of views of different images, (m,), >= 0."""
        return self.distances / np.median(self.chance_distances)

    @property
    def relative_distance(self) -> float:
        """Their median: 0 where views of an image land on one spot, 1 where they land no nearer than any others."""
        return float(np.median(self.relative_distances))

    @property
    def found_share(self) -> float:
        """Share of images that are found again from a view of theirs, in [0, 1]."""
        return float(self.is_found.mean())

    def as_dict(self) -> dict[str, object]:
        return {
            "relative_distance": self.relative_distance,
            "found_share": self.found_share,
            "k": self.k,
            "images": len(self.distances),
        }

    def __str__(self) -> str:
        return (
            f"{self.relative_distance:.3f} of the distance of views of different images; the image is among the "
            f"{self.k} nearest to {self.found_share:.1%} of them ({len(self.distances)} images)"
        )


def view_consistency(
    view_a: np.ndarray, view_b: np.ndarray, coords: np.ndarray, *, rows: np.ndarray | None = None, k: int = 15
) -> ViewConsistency:
    """Do two views of an image land together, as a contrastive map is trained to make them?

    Two figures, both of the map's own scale: the distance of the two views over that of views of different images,
    which a map of a few tight islands makes small too; and whether the image itself, as it lies on the map without any
    augmentation, is among the k nearest of all images on the map to its second view. The second asks for more the more
    images there are.

    Args:
        view_a: Positions of a random view of some images, (m, d), m >= 2.
        view_b: Of another view of the same images, (m, d).
        coords: The map, (n, d): positions of all images, not augmented.
        rows: Which row of the map each view is of, (m,) int; when None the views are of all rows, in order.
        k: Images of the map to look among, at most n (there may be fewer; then all).

    Returns:
        All distances, whose number grows with the square of m: meant for samples of a few thousand.

    Raises:
        InputError: shapes do not fit, or all views lie at one point.
    """
    rows = np.arange(len(coords)) if rows is None else np.asarray(rows, np.int64)
    if not view_a.shape == view_b.shape == (len(rows), coords.shape[1]):
        raise InputError(
            f"views and map need the same rows and dimensions, got {view_a.shape} and {view_b.shape} "
            f"for {len(rows)} rows of a map {coords.shape}"
        )
    if len(rows) < 2:
        raise InputError(f"views are compared with those of other images and need at least 2 images, got {len(rows)}")
    apart = spatial.distance.cdist(view_a, view_b)
    chance = apart[~np.eye(len(rows), dtype=bool)]
    if not np.median(chance) > 0:
        raise InputError("most views lie at one point of the map, so that no distance can be compared with another")
    k = min(k, len(coords))
    found = (nearest(coords, view_b, k).indices == rows[:, None]).any(axis=1)
    return ViewConsistency(apart.diagonal().copy(), chance, found, k, len(coords))


@dataclass(frozen=True, slots=True)
class Alignment:
    """A map laid over another as well as moving, turning, mirroring and scaling can.

    Attributes:
        disparity: Share of the reference's squared spread that is left between the two, in [0, 1]: 0 for the same
            shape, near 1 for maps that have nothing in common.
        aligned: The other map in the units of the reference, (n, d).
    """

    disparity: float
    aligned: np.ndarray


def procrustes(reference: np.ndarray, other: np.ndarray) -> Alignment:
    """Lay `other` over `reference`: the translation, rotation or reflection, and one scale with least squared distance.

    Islands that changed places between two maps make it large, even where all neighbours are the same: read it beside
    the share of neighbours (`seed_stability`).

    Source: Gower 1975, doi:10.1007/BF02291478, computed by scipy.spatial.procrustes.

    Args:
        reference: (n, d).
        other: (n, d), the same images in the same order.

    Raises:
        InputError: shapes differ, a value is not finite, or a map is one point.
    """
    reference, other = np.asarray(reference, np.float64), np.asarray(other, np.float64)
    if reference.ndim != 2 or reference.shape != other.shape:
        raise InputError(
            f"maps to compare need the same rows and dimensions, (n, d), got {reference.shape} and {other.shape}"
        )
    center = reference.mean(axis=0)
    try:
        _, fitted, disparity = spatial.procrustes(reference, other)
    except ValueError as error:
        raise InputError(f"maps to compare need finite coordinates at more than one point: {error}") from error
    return Alignment(float(disparity), center + fitted * np.linalg.norm(reference - center))


@dataclass(frozen=True, slots=True)
class SeedStability:
    """How much maps of the same images agree; one value for each pair of maps, (0, 1), (0, 2) … (1, 2) ….

    Attributes:
        disparities: See `Alignment`, (pairs,).
        shared_neighbors: Mean share of an image's k nearest on one map that are among its k nearest on the other.
        k: Neighbours.
        aligned: All maps laid over the first, which comes first as it is; (n, d) each.
    """

    disparities: np.ndarray
    shared_neighbors: np.ndarray
    k: int
    aligned: tuple[np.ndarray, ...]

    def as_dict(self) -> dict[str, object]:
        figures = {"disparity": self.disparities, "shared_neighbors": self.shared_neighbors}
        return {name: dict(zip(("mean", "sd"), _summary(values), strict=True)) for name, values in figures.items()} | {
            "k": self.k
        }

    def __str__(self) -> str:
        apart, shared = (
            f"{mean:.3f}" + ("" if spread is None else f" (sd {spread:.3f})")
            for mean, spread in (_summary(self.disparities), _summary(self.shared_neighbors))
        )
        return f"Procrustes disparity {apart}; share of the {self.k} nearest in common {shared}"


def seed_stability(maps: Sequence[np.ndarray], *, k: int = 15, max_rows: int = 10_000, seed: int = 0) -> SeedStability:
    """Compare maps of the same images that differ in their seed, or in anything else.

    Args:
        maps: At least two, (n, d) each, the same images in the same order.
        k: Neighbours, at most n - 1 (there may be fewer; then all others).
        max_rows: Images whose neighbours are compared, at most.
        seed: Names that sample.

    Raises:
        InputError: fewer than two maps, or as for `procrustes`.
    """
    if len(maps) < 2 or len(maps[0]) < 3:
        raise InputError(
            f"stability needs two maps of at least 3 images, got {len(maps)} of {len(maps[0]) if maps else 0}"
        )
    k = min(k, len(maps[0]) - 1)
    fits = {(i, j): procrustes(maps[i], maps[j]) for i, j in combinations(range(len(maps)), 2)}
    return SeedStability(
        disparities=np.array([fit.disparity for fit in fits.values()]),
        shared_neighbors=np.array(
            [knn_recall(maps[i], maps[j], k, max_rows=max_rows, seed=seed).value for i, j in fits]
        ),
        k=k,
        aligned=(np.asarray(maps[0]), *(fits[0, j].aligned for j in range(1, len(maps)))),
    )


def _summary(values: np.ndarray) -> tuple[float, float | None]:
    """Mean, and standard deviation where there is more than one."""
    return float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else None
