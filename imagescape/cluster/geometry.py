"""How wide clusters are and how far apart: six figures a cluster, Euclidean, from blocks of distances.

Distances are made a block at a time, so that memory never grows with the square of the rows. They are matrix products
in double precision about a cluster's own centroid, which keeps their digits.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from imagescape.cluster.members import Members
from imagescape.errors import InputError
from imagescape.runtime import resolve_device

_SIDE = 2048  # rows and columns of a block of distances: 32 MiB of float64
_HALF_BITS = 16

FIGURES = ("diameter", "dispersion", "separation", "centroid_to_centroid", "sn1", "sn2")


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """The geometry of one clustering: an entry a cluster, in the order of `clusters`; lengths in units of the features.

    Noise takes no part: it is neither a cluster nor the points of another. Where there is one cluster only,
    `separation`, `centroid_to_centroid`, `sn1` and `sn2` are NaN.

    Attributes:
        clusters: The labels, (k,) int64, ascending; -1 is none of them.
        size: Rows, (k,) int64, at least 1.
        diameter: The `quantile` of the distances between two of a cluster's rows, (k,); 0 where there is one row.
        dispersion: Mean distance of a cluster's rows to its centroid, (k,).
        separation: Distance of a cluster's centroid to the nearest row of any other cluster, (k,).
        centroid_to_centroid: Mean distance of a cluster's centroid to those of the others, (k,).
        centroids: (k, d) float64.
        quantile: Of `diameter`; 1 for the largest distance.
        noise: Rows in no cluster.
    """

    clusters: np.ndarray
    size: np.ndarray
    diameter: np.ndarray
    dispersion: np.ndarray
    separation: np.ndarray
    centroid_to_centroid: np.ndarray
    centroids: np.ndarray
    quantile: float
    noise: int

    @property
    def sn1(self) -> np.ndarray:
        """diameter / separation, (k,), lower is better; over a separation of 0 inf, or NaN if both are 0."""
        return _ratio(self.diameter, self.separation)

    @property
    def sn2(self) -> np.ndarray:
        """dispersion / centroid_to_centroid, (k,), lower is better; over a distance of 0 inf, or NaN if both are 0."""
        return _ratio(self.dispersion, self.centroid_to_centroid)

    def as_table(self) -> dict[str, np.ndarray]:
        """Columns with a row a cluster: `cluster`, `size` and the six figures."""
        return {"cluster": self.clusters, "size": self.size} | {name: getattr(self, name) for name in FIGURES}

    def summary(self) -> dict[str, dict[str, float]]:
        """Mean, median, least and largest of each of the six figures over the clusters for which it is finite.

        A figure that is finite for none is left out.
        """
        ways = ("mean", "median", "min", "max")
        finite = {name: getattr(self, name)[np.isfinite(getattr(self, name))] for name in FIGURES}
        return {
            name: {way: float(getattr(np, way)(values)) for way in ways}
            for name, values in finite.items()
            if len(values)
        }

    def __str__(self) -> str:
        lines = [f"{'geometry':<20} {'mean':>10} {'median':>10} {'min':>10} {'max':>10}"]
        for name, row in self.summary().items():
            lines.append(f"{name:<20} " + " ".join(f"{value:>10.4g}" for value in row.values()))
        return "\n".join(lines)


def cluster_geometry(
    features: np.ndarray,
    labels: np.ndarray,
    *,
    quantile: float = 1.0,
    device: str = "auto",
    advance: Callable[[int], None] = lambda rows: None,
) -> Geometry:
    """Measure diameter, dispersion, separation, distance to other centroids, and their ratios SN1 and SN2.

    Time grows with the sum of squared cluster sizes, by which the diameters are found; the largest distance looks only
    at pairs whose distances to the centroid leave room for more than was found.

    Args:
        features: (n, d), any real dtype.
        labels: (n,) integers; any numbers from 0, with or without gaps, and -1 for noise.
        quantile: Of the pairwise distances that is called diameter, in [0, 1], interpolated linearly between
            neighbouring ones; below 1, far-out rows count less.
        device: Where distances are computed.
        advance: Told how many more rows are done; in all those that are in a cluster.

    Raises:
        InputError: shapes do not fit, a row is not finite, `quantile` is out of range, or there is no cluster.
    """
    if not 0 <= quantile <= 1:
        raise InputError(f"quantile must lie between 0 and 1, got {quantile}")
    members, on = Members.of(labels), resolve_device(device)
    centroids = members.centroids(features)
    radii = members.radii(features, centroids)
    diameter = np.zeros(len(members))
    for position in range(len(members)):
        here = slice(members.starts[position], members.starts[position + 1])
        # By distance to the centroid, the farthest first: there the largest distances are.
        order = np.argsort(-radii[here], kind="stable")
        cluster = _Cluster(features, members.rows[here][order], radii[here][order], centroids[position], on)
        diameter[position] = cluster.largest_distance() if quantile == 1 else cluster.quantile_of_distances(quantile)
        advance(len(order))
    return Geometry(
        clusters=members.clusters,
        size=members.sizes,
        diameter=diameter,
        dispersion=np.add.reduceat(radii, members.starts[:-1]) / members.sizes,
        separation=_separations(features, members, centroids, on),
        centroid_to_centroid=_centroid_distances(centroids, on),
        centroids=centroids,
        quantile=quantile,
        noise=members.noise,
    )


class _Cluster:
    """One cluster's rows, and the distances between them, a block at a time."""

    def __init__(
        self, features: np.ndarray, rows: np.ndarray, radii: np.ndarray, centroid: np.ndarray, device: torch.device
    ) -> None:
        self._features, self._rows, self._radii, self._centroid, self._device = features, rows, radii, centroid, device
        self._starts = range(0, len(rows), _SIDE)

    def _block(self, start: int) -> Tensor:
        return _moved(self._features[self._rows[start : start + _SIDE]], self._centroid, self._device)

    def largest_distance(self) -> float:
        """Over all pairs; no pair is farther apart than their distances to the centroid together."""
        largest = 0.0
        for i in self._starts:
            if 2 * self._radii[i] <= largest:
                break
            left = self._block(i)
            for j in self._starts[i // _SIDE :]:
                if self._radii[i] + self._radii[j] <= largest:
                    break
                right = left if i == j else self._block(j)
                apart = _distances(left, right)
                row, column = divmod(int(apart.argmax()), apart.shape[1])
                largest = max(largest, float(torch.linalg.vector_norm(left[row] - right[column])))
        return largest

    def quantile_of_distances(self, quantile: float) -> float:
        """As `np.quantile` of all distances, to the precision of float32; 0 where there is no pair."""
        pairs = len(self._rows) * (len(self._rows) - 1) // 2
        if len(self._rows) <= _SIDE:
            return float(np.quantile(np.concatenate([*self._distances()]), quantile)) if pairs else 0.0
        place = quantile * (pairs - 1)
        low, high = _order_statistics(self._distances, (math.floor(place), math.ceil(place)))
        return low + (place - math.floor(place)) * (high - low)

    def _distances(self) -> Iterator[np.ndarray]:
        """Every pair once."""
        for i in self._starts:
            left = self._block(i)
            upper = torch.ones(len(left), len(left), dtype=torch.bool, device=self._device).triu_(1)
            yield _distances(left, left)[upper].cpu().numpy()
            for j in self._starts[i // _SIDE + 1 :]:
                yield _distances(left, self._block(j)).flatten().cpu().numpy()


def _order_statistics(values: Callable[[], Iterator[np.ndarray]], ranks: tuple[int, ...]) -> list[float]:
    """The numbers of these ranks (0 the least) among very many numbers >= 0 that can be gone through twice.

    Floats that are not negative are ordered as their bits are. The first pass counts numbers by the upper half of
    their bits, the second those of the wanted halves by the lower one.
    """
    size, low_half = 1 << _HALF_BITS, (1 << _HALF_BITS) - 1
    counts = np.zeros(size, np.int64)
    for block in values():
        counts += np.bincount(_bits(block) >> _HALF_BITS, minlength=size)
    ends = counts.cumsum()
    uppers = np.searchsorted(ends, ranks, side="right")
    lowers = {int(upper): np.zeros(size, np.int64) for upper in uppers}
    for block in values():
        bits = _bits(block)
        for upper, lower_counts in lowers.items():
            lower_counts += np.bincount(bits[bits >> _HALF_BITS == upper] & low_half, minlength=size)
    found = []
    for rank, upper in zip(ranks, uppers.tolist(), strict=True):
        within = rank - (ends[upper] - counts[upper])
        lower = int(np.searchsorted(lowers[upper].cumsum(), within, side="right"))
        found.append(float(np.array(upper << _HALF_BITS | lower, np.uint32).view(np.float32)))
    return found


def _bits(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float32).view(np.uint32)


def _separations(features: np.ndarray, members: Members, centroids: np.ndarray, device: torch.device) -> np.ndarray:
    """Distance of each centroid to the nearest row of another cluster, (k,)."""
    k, positions, center = len(members), members.positions, centroids.mean(axis=0)
    if k == 1:
        return np.full(1, np.nan)
    nearest, found = np.full(k, np.inf), np.full(k, -1)
    moved, step = _moved(centroids, center, device), max(1, min(_SIDE, _SIDE**2 // k))
    for start in range(0, len(members.rows), step):
        here = slice(start, start + step)
        apart = _distances(_moved(features[members.rows[here]], center, device), moved)
        own = torch.from_numpy(positions[here]).to(device)
        least, which = apart.scatter_(1, own[:, None], torch.inf).min(dim=0)
        closer = least.cpu().numpy() < nearest
        nearest[closer] = least.cpu().numpy()[closer]
        found[closer] = members.rows[here][which.cpu().numpy()[closer]]
    # Measured again by subtraction: a row on the centroid is at 0, and not at the rounding of a product.
    return np.linalg.norm(np.asarray(features[found], np.float64) - centroids, axis=1)


def _centroid_distances(centroids: np.ndarray, device: torch.device) -> np.ndarray:
    """Mean distance of each centroid to the others, (k,)."""
    k = len(centroids)
    if k == 1:
        return np.full(1, np.nan)
    moved, step = _moved(centroids, centroids.mean(axis=0), device), max(1, _SIDE**2 // k)
    means = np.empty(k)
    for start in range(0, k, step):
        apart = _distances(moved[start : start + step], moved)
        apart[torch.arange(len(apart)), torch.arange(start, start + len(apart))] = 0
        means[start : start + step] = apart.sum(dim=1).cpu().numpy() / (k - 1)
    return means


def _moved(rows: np.ndarray, origin: np.ndarray, device: torch.device) -> Tensor:
    """Rows (m, d) as seen from `origin` (d,); double precision but on Metal, which does not have it."""
    wide = torch.float32 if device.type == "mps" else torch.float64
    return torch.from_numpy(np.asarray(rows, np.float64) - origin).to(device=device, dtype=wide)


def _distances(left: Tensor, right: Tensor) -> Tensor:
    return torch.cdist(left, right, compute_mode="use_mm_for_euclid_dist")


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return above / below
