"""Oddities: images that lie far from all others, thinly, at the rim of their cluster, or whose neighbours disagree.

Each measure is a function of its own. `outliers` asks all of them, ranks images by them together, and says in words
what is odd about one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal, Self, get_args

import numpy as np
from jaxtyping import Float, Int

from imagescape.audit.graph import checked
from imagescape.cluster.members import Members
from imagescape.errors import InputError
from imagescape.evaluate.neighbors import Neighbors

Measure = Literal["neighbor_distance", "local_outlier_factor", "cluster_distance", "disagreement"]
MEASURES: tuple[Measure, ...] = get_args(Measure)

_COPY = 1e-3  # of the usual distance: what is nearer is the same picture
_ODD = 3.0  # score of an outlier
_NOTABLE = 2.0  # deviations that are a reason
_UPPER = 84.134  # percentile that lies a standard deviation above the middle of a normal distribution
_LEAST_DEVIATION = 0.01  # of the measures as they are compared: a hundredth of what is usual
_SHARED_ENTRIES = 2**24  # comparisons of neighbours held at once


def neighbor_distance(graph: Neighbors, k: int | None = None) -> Float[np.ndarray, " n"]:
    """Mean distance to the k nearest; NaN for rows without neighbours.

    Source: Angiulli and Pizzuti 2002, doi:10.1007/3-540-45681-3_2.

    Args:
        graph: See `audit.graph.checked`.
        k: Neighbours; all in the graph when None.

    Raises:
        InputError: as `checked`.
    """
    graph = checked(graph, k)
    there = graph.indices >= 0
    total, many = np.where(there, graph.distances, 0).sum(axis=1), there.sum(axis=1)
    return np.divide(total, many, out=np.full(len(many), np.nan), where=many > 0)


def local_outlier_factor(graph: Neighbors, k: int | None = None) -> Float[np.ndarray, " n"]:
    """How many times as dense it is around the neighbours of a row as around the row: about 1 inside of a cloud.

    Source: Breunig et al. 2000, doi:10.1145/342009.335388. A row whose k nearest are all copies of it (nearer than a
    thousandth of the usual distance) has no density: it gets 1, and takes no part in the factor of others. Without
    that, whatever lies beside a family of copies would come out as odd.

    Args:
        graph: See `audit.graph.checked`.
        k: Neighbours; all in the graph when None.

    Returns:
        (n,), above 0; NaN for rows without neighbours.

    Raises:
        InputError: as `checked`.
    """
    graph = checked(graph, k)
    there, known = graph.indices >= 0, (graph.indices >= 0).any(axis=1)
    reach = np.where(there, graph.distances, 0).max(axis=1, initial=0)  # to the k-th, or the last there is
    usual = np.median(reach[known]) if known.any() else 0.0
    reachability = np.where(there, np.maximum(reach[graph.indices], graph.distances), 0).sum(axis=1)
    mean = np.divide(reachability, there.sum(axis=1), out=np.full(len(reach), np.nan), where=known)
    has_density = known & (mean > _COPY * usual) & (mean > 0)
    density = np.divide(1, mean, out=np.zeros(len(mean)), where=has_density)
    counts = there & has_density[graph.indices]
    around = np.where(counts, density[graph.indices], 0).sum(axis=1)
    around = np.divide(around, counts.sum(axis=1), out=np.zeros(len(around)), where=counts.any(axis=1))
    factor = np.where(known, 1.0, np.nan)
    compared = has_density & (around > 0)
    factor[compared] = around[compared] / density[compared]
    return factor


def cluster_distance(features: Float[np.ndarray, "n d"], clusters: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Distance to the centre of a row's own cluster, over the median of its members; NaN for rows in none.

    Args:
        features: Compared by Euclidean distance.
        clusters: -1 for none.

    Returns:
        (n,), 0 or more; inf where most members lie on the centre and this one does not.

    Raises:
        InputError: not one row of features a label, or a row of a cluster is not finite.
    """
    members = Members.of(clusters, allow_none=True)
    radii = members.radii(features, members.centroids(features)) if len(members) else np.empty(0)
    out = np.full(len(clusters), np.nan)
    for position, rows in enumerate(members):
        mine = radii[members.starts[position] : members.starts[position + 1]]
        usual = float(np.median(mine))
        if usual > 0:
            out[rows] = mine / usual
        else:
            out[rows] = np.where(mine > 0, np.inf, 1.0)
    return out


def disagreement(a: Neighbors, b: Neighbors, k: int | None = None) -> Float[np.ndarray, " n"]:
    """Share of a row's k nearest in one graph that are not among its k nearest in the other.

    Args:
        a: See `audit.graph.checked`.
        b: Of the same rows, in another space.
        k: Neighbours; as many as both graphs have when None.

    Returns:
        (n,) in [0, 1]; NaN for rows that have no neighbours in one of the two.

    Raises:
        InputError: as `checked`.
    """
    a, b = checked(a, k), checked(b, k)
    width = min(a.indices.shape[1], b.indices.shape[1])
    left, right = a.indices[:, :width], b.indices[:, :width]
    if len(left) != len(right):
        raise InputError(f"graphs must be of the same rows, got {len(left)} and {len(right)}")
    shared, step = np.empty(len(left)), max(1, _SHARED_ENTRIES // width**2)
    for start in range(0, len(left), step):
        here = slice(start, start + step)
        same = (left[here, :, None] == right[here, None, :]) & (left[here, :, None] >= 0)
        shared[here] = same.sum(axis=(1, 2))
    most = np.minimum((left >= 0).sum(axis=1), (right >= 0).sum(axis=1))
    return 1 - np.divide(shared, most, out=np.full(len(most), np.nan), where=most > 0)


@dataclass(frozen=True, slots=True, eq=False)
class Outliers:
    """Images by how odd they are.

    Attributes:
        measures: What was measured of each image, (n,) float64 each, larger is odder; NaN where it cannot be.
        deviations: Of each measure, how many standard deviations an image is odder than usual, (n,), 0 for those that
            are not; NaN as above. Usual is the median, and a deviation reaches from there to the 84th percentile, so
            that the odd ones themselves have no say. Distances and factors are compared by their logarithms.
        score: What an image's deviations are together, (n,), 0 or more, larger is odder: the geometric mean of 1 +
            each, less 1, so that what several measures find odd comes before what one alone finds very odd. NaN where
            nothing could be measured.
        rows: Those that count as outliers, the oddest first, (m,) int64.
        k: Neighbours that were asked.
    """

    measures: Mapping[Measure, np.ndarray]
    deviations: Mapping[Measure, np.ndarray]
    score: np.ndarray
    rows: np.ndarray
    k: int

    def at(self, fraction: float | None = None, *, threshold: float | None = None) -> Self:
        """The same scores, cut elsewhere.

        Args:
            fraction: Of the measured images, the oddest so many.
            threshold: Or those with at least this score, 0 or more.

        Raises:
            InputError: neither or both, or one out of range.
        """
        if (fraction is None) == (threshold is None):
            got = "neither" if fraction is None else "both"
            raise InputError(f"outliers are cut at a fraction or at a threshold, got {got}")
        ranked = self.ranked
        if fraction is not None:
            if not 0 <= fraction <= 1:
                raise InputError(f"a fraction must lie in [0, 1], got {fraction}")
            return replace(self, rows=ranked[: round(fraction * len(ranked))])
        assert threshold is not None
        if not threshold >= 0:
            raise InputError(f"a threshold must be 0 or more, got {threshold}")
        return replace(self, rows=ranked[self.score[ranked] >= threshold])

    @property
    def ranked(self) -> np.ndarray:
        """All measured images, the oddest first, equally odd ones by row; int64."""
        known = np.flatnonzero(np.isfinite(self.score))
        return known[np.argsort(-self.score[known], kind="stable")]

    def reasons(self, row: int) -> tuple[str, ...]:
        """What is odd about an image, in words, the oddest first; empty where nothing is notable by itself."""
        notable = [name for name, by in self.deviations.items() if by[row] >= _NOTABLE]
        notable.sort(key=lambda name: -self.deviations[name][row])
        return tuple(self._reason(name, row) for name in notable)

    def _reason(self, name: Measure, row: int) -> str:
        value, usual = float(self.measures[name][row]), float(np.nanmedian(self.measures[name]))
        times = f"{value / usual:.1f} times" if usual > 0 and np.isfinite(value) else "many times"
        if name == "neighbor_distance":
            nearest = "its nearest image is" if self.k == 1 else f"its {self.k} nearest images are"
            return f"far from everything: {nearest} {times} as far as usual"
        if name == "local_outlier_factor":
            return f"lonelier than those around it: they lie {value:.1f} times as close together"
        if name == "cluster_distance":
            return f"at the rim of its group: {times} as far from its centre as is usual"
        return (
            f"its neighbours differ by how one looks: {1 - value:.0%} are shared between the spaces, "
            f"usually {1 - usual:.0%} are"
        )

    def __len__(self) -> int:
        return len(self.rows)

    def as_dict(self) -> dict[str, object]:
        found = [{"row": int(row), "score": float(self.score[row]), "reasons": self.reasons(row)} for row in self.rows]
        return {"k": self.k, "measures": list(self.measures), "outliers": found}

    def __str__(self) -> str:
        measured = int(np.isfinite(self.score).sum())
        lines = [f"{len(self):,} outliers of {measured:,} images, by {', '.join(self.measures)}"]
        for row in self.rows[:10]:
            lines.append(f"{row:>8} {self.score[row]:6.2f}  {'; '.join(self.reasons(row)) or 'a little of everything'}")
        if len(self) > 10:
            lines.append(f"… and {len(self) - 10:,} more")
        return "\n".join(lines)


def outliers(
    graph: Neighbors,
    *,
    others: Sequence[Neighbors] = (),
    features: Float[np.ndarray, "n d"] | None = None,
    clusters: Int[np.ndarray, " n"] | None = None,
    k: int | None = None,
    threshold: float = _ODD,
) -> Outliers:
    """Rank images by how odd they are.

    Args:
        graph: Neighbours by the features, see `audit.graph.checked`; by it distances and densities are measured.
        others: Graphs of the same rows in other spaces, such as pixels and a map; the mean disagreement of all pairs
            of graphs is one measure.
        features: Of the clusters; both or neither.
        clusters: (n,), -1 for none.
        k: Neighbours; as many as the graph has when None.
        threshold: Score from which images count as outliers; `at` cuts elsewhere.

    Raises:
        InputError: clusters without features, or as the measures.
    """
    graph = checked(graph, k)
    n, k = graph.indices.shape
    measures: dict[Measure, np.ndarray] = {
        "neighbor_distance": neighbor_distance(graph),
        "local_outlier_factor": local_outlier_factor(graph),
    }
    if (features is None) != (clusters is None):
        raise InputError("the distance to a cluster's centre needs features and clusters, got one of them")
    if features is not None and clusters is not None:
        if len(clusters) != n:
            raise InputError(f"clusters must have one entry a row, got {len(clusters)} for {n} rows")
        measures["cluster_distance"] = cluster_distance(features, clusters)
    if others:
        spaces = [graph, *(checked(one, k, rows=n, name=f"graph {place}") for place, one in enumerate(others, 2))]
        measures["disagreement"] = np.mean([disagreement(a, b) for a, b in combinations(spaces, 2)], axis=0)
    deviations = {name: _deviations(name, values) for name, values in measures.items()}
    stacked = np.stack(list(deviations.values()))
    known = ~np.isnan(stacked)
    many = known.sum(axis=0)
    logs = np.where(known, np.log1p(stacked), 0).sum(axis=0)
    score = np.expm1(np.divide(logs, many, out=np.full(n, np.nan), where=many > 0))
    return Outliers(measures, deviations, score, np.empty(0, np.int64), k).at(threshold=threshold)


def _deviations(name: Measure, values: np.ndarray) -> np.ndarray:
    """How many standard deviations above the median, at least 0; NaN stays."""
    known = values[~np.isnan(values)]
    if not len(known):
        return values
    if name != "disagreement":  # that is a share; all others are a number of times something
        least = np.median(known) * 1e-6 or 1.0
        largest = known[np.isfinite(known)].max(initial=least)
        values = np.log(np.clip(values, least, 10 * largest))
    middle, upper = np.nanpercentile(values, [50, _UPPER])
    return np.maximum((values - middle) / max(upper - middle, _LEAST_DEVIATION), 0)
