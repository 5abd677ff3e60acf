"""How many clusters are there? A sweep of Ward's hierarchy, scored by how apart its cuts are and how stable."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.cluster import hierarchy as scipy_hierarchy
from scipy.spatial.distance import squareform
from sklearn.metrics import adjusted_rand_score, silhouette_score

from imagescape.cluster.centroids import Centroids
from imagescape.cluster.estimator import Metric, check_count, check_metric, prepared
from imagescape.cluster.hierarchy import condensed_distances
from imagescape.cluster.tree import Tree, check_cuts
from imagescape.errors import InputError
from imagescape.evaluate.clusterings import effective_k
from imagescape.evaluate.metrics import sample_rows
from imagescape.runtime import seed_for

MAX_ROWS = 2_000
COMPONENTS = 50  # principal ones, of the sampled rows: beyond them is mostly noise, which hides what is apart
_MOST = 50  # clusters that are tried when nothing is said
_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Candidate:
    """One number of clusters and what speaks for it.

    Attributes:
        k: Clusters.
        silhouette: Mean silhouette of the sampled rows, in [-1, 1].
        stability: Mean adjusted Rand index of pairs of clusterings that were made of two resamples, in [-1, 1].
        stability_sd: Its standard deviation over the pairs.
        groupless_silhouette, groupless_stability: The same of one round cloud of rows with the same spread.
        effective_k: exp of the entropy of the sizes, in [1, k]: how many equally large clusters would be as various.
        score: What silhouette and stability are above those of the cloud, each as a share of the most in the sweep,
            multiplied; 0 where either is not above it. By it candidates are ranked.
    """

    k: int
    silhouette: float
    stability: float
    stability_sd: float
    groupless_silhouette: float
    groupless_stability: float
    effective_k: float
    score: float


@dataclass(frozen=True, slots=True)
class Choice:
    """Numbers of clusters, ranked.

    Attributes:
        candidates: Best first; of equal scores the smaller k.
        rows: Rows that were looked at, of all.
        total: Rows in all.
        resamples: Pairs of resamples behind each stability.
    """

    candidates: tuple[Candidate, ...]
    rows: int
    total: int
    resamples: int

    @property
    def k(self) -> int:
        """The one ranked first."""
        return self.candidates[0].k

    @property
    def plausible(self) -> tuple[int, ...]:
        """Every k whose score is that of the best one, but for a standard deviation of its stability; ascending."""
        best = self.candidates[0]
        gain = best.stability - best.groupless_stability
        least = best.score * (1 - best.stability_sd / gain) if gain > 0 else best.score
        return tuple(sorted(one.k for one in self.candidates if one.score >= least))

    @property
    def finds_groups(self) -> bool:
        """Whether any k parts the rows better than a cloud without groups is parted."""
        return self.candidates[0].score > 0

    def as_dict(self) -> dict[str, Any]:
        ranked = [asdict(one) for one in self.candidates]
        return {"k": self.k, "plausible": list(self.plausible), "rows": self.rows, "ranked": ranked}

    def __str__(self) -> str:
        heads = ("k", "score", "silhouette", "(no groups)", "stability", "(no groups)", "effective k")
        lines = ["{:>5} {:>6} {:>11} {:>12} {:>16} {:>12} {:>12}".format(*heads)]
        for one in self.candidates[:_SHOWN]:
            stability = f"{one.stability:.3f} (sd {one.stability_sd:.3f})"
            lines.append(
                f"{one.k:>5} {one.score:>6.3f} {one.silhouette:>11.3f} {one.groupless_silhouette:>12.3f} "
                f"{stability:>16} {one.groupless_stability:>12.3f} {one.effective_k:>12.1f}"
            )
        if len(self.candidates) > _SHOWN:
            lines.append(f"… and {len(self.candidates) - _SHOWN} more")
        several = ", ".join(map(str, self.plausible))
        lines.append(f"plausible: {several}  (Ward on {self.rows:,} of {self.total:,} images)")
        if not self.finds_groups:
            lines.append("no number of clusters parts the images better than a cloud without groups is parted")
        return "\n".join(lines)


def choose_k(
    features: Float[np.ndarray, "n d"],
    *,
    ks: Sequence[int] | None = None,
    metric: Metric = "euclidean",
    resamples: int = 10,
    max_rows: int = MAX_ROWS,
    seed: int = 0,
    advance: Callable[[int], None] = lambda trees: None,
) -> Choice:
    """Rank numbers of clusters by Ward's hierarchies of a sample, of its resamples, and of rows without groups.

    Stability asks whether other data of the same kind would be parted alike (Fang and Wang 2012,
    doi:10.1016/j.csda.2011.09.003; compared by the adjusted Rand index, Hubert and Arabie 1985): two bootstrap samples
    are clustered each, both give all sampled rows to their nearest centroids, and the two are compared. Silhouette:
    Rousseeuw 1987. Both are large for few clusters even where there are no groups, as one long cloud is always halved
    alike; so, as in the gap statistic (Tibshirani et al. 2001, doi:10.1111/1467-9868.00293), they are compared with
    those of normal rows of the same principal components. Read the ranks as a range.

    Args:
        features: (n, d), any real dtype; packed uint8 for "hamming".
        ks: Numbers to try, each at least 2 and below the sampled rows; None: 2 to 50, and a tenth of the sample at
            most.
        metric: "euclidean", "cosine" or "hamming"; Ward's on prepared rows, as `Hierarchy`.
        resamples: Pairs of resamples, at least 2.
        max_rows: Rows that are looked at, sampled at random.
        seed: Names samples and resamples.
        advance: Told how many more hierarchies are done, in all 4 `resamples` + 2.

    Raises:
        InputError: fewer than 4 rows, all rows equal, a k out of range, or as `prepared`.
    """
    check_metric(metric)
    check_count("resamples", resamples, 2)
    check_count("max_rows", max_rows, 4)
    total = len(features)
    chosen = sample_rows(np.arange(total), max_rows, seed_for(seed, "choose k"))
    rows = prepared(np.asarray(features)[chosen], metric)
    if len(rows) < 4 or (rows == rows[0]).all():
        raise InputError(f"a choice of k needs at least 4 rows that are not all equal, got {len(rows)}")
    tried = tuple(range(2, max(3, min(_MOST, len(rows) // 10)) + 1)) if ks is None else tuple(ks)
    check_cuts(tried, len(rows) - 1)
    if not tried:
        raise InputError("a choice of k needs numbers of clusters to choose from, got none")
    rows, cloud = _components(rows, seed)
    found = _sweep(rows, tried, resamples, seed, advance)
    without = _sweep(cloud, tried, resamples, seed, advance)
    return Choice(_ranked(found, without), len(rows), total, resamples)


@dataclass(frozen=True, slots=True)
class _Sweep:
    """Figures of each k in `ks`: silhouettes (k,), agreement of pairs of resamples (k, pairs), effective k (k,)."""

    ks: tuple[int, ...]
    silhouettes: np.ndarray
    agreement: np.ndarray
    effective: np.ndarray


def _components(rows: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows in their principal components, and as many normal rows of the same deviations; (n, c) float32 each."""
    left, sizes, _ = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    kept = min(COMPONENTS, len(sizes))
    generator = np.random.default_rng(seed_for(seed, "no groups"))
    cloud = generator.normal(0, 1, (len(rows), kept)) * sizes[:kept] / np.sqrt(len(rows))
    return (left * sizes)[:, :kept].astype(np.float32), cloud.astype(np.float32)


def _sweep(rows: np.ndarray, ks: tuple[int, ...], resamples: int, seed: int, advance: Callable[[int], None]) -> _Sweep:
    condensed = condensed_distances(rows, "euclidean")
    tree = Tree.of_linkage(scipy_hierarchy.linkage(condensed, method="ward"))
    advance(1)
    square = squareform(condensed)
    cuts = [tree.cut(k) for k in ks]
    silhouettes = np.array([silhouette_score(square, labels, metric="precomputed") for labels in cuts])
    agreement = np.empty((len(ks), resamples))
    for number in range(resamples):
        sides = []
        for side in range(2):
            generator = np.random.default_rng(seed_for(seed, "resample", number, side))
            sides.append(_extended(rows, np.sort(generator.integers(0, len(rows), len(rows))), ks))
            advance(1)
        agreement[:, number] = [adjusted_rand_score(one, other) for one, other in zip(*sides, strict=True)]
    return _Sweep(ks, silhouettes, agreement, np.array([effective_k(np.bincount(labels)) for labels in cuts]))


def _extended(rows: np.ndarray, drawn: np.ndarray, ks: Sequence[int]) -> list[np.ndarray]:
    """All rows by the nearest centroids of the clusters of some, at each k."""
    some = rows[drawn]
    tree = Tree.of_linkage(scipy_hierarchy.linkage(condensed_distances(some, "euclidean"), method="ward"))
    labels = []
    for k in ks:
        is_in = (tree.cut(k) == np.arange(k)[:, None]).astype(np.float32)
        labels.append(Centroids(is_in @ some / is_in.sum(axis=1, keepdims=True), 0.0).nearest(rows)[0])
    return labels


def _ranked(found: _Sweep, without: _Sweep) -> tuple[Candidate, ...]:
    stability, groupless = found.agreement.mean(axis=1), without.agreement.mean(axis=1)
    apart, stable = (np.maximum(found.silhouettes - without.silhouettes, 0), np.maximum(stability - groupless, 0))
    scores = apart / (apart.max() or 1) * (stable / (stable.max() or 1))
    spread = found.agreement.std(axis=1, ddof=1)
    columns = (
        found.silhouettes, stability, spread, without.silhouettes, groupless, found.effective, scores,
    )  # fmt: skip
    candidates = [Candidate(k, *map(float, row)) for k, row in zip(found.ks, np.column_stack(columns), strict=True)]
    return tuple(sorted(candidates, key=lambda one: (-one.score, one.k)))
