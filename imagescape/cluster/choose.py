"""How many clusters are there? A sweep of Ward's hierarchy, scored by how apart its cuts are and how stable."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.cluster import hierarchy as scipy_hierarchy
from sklearn.metrics import adjusted_rand_score, silhouette_score

from imagescape.cluster.centroids import Centroids
from imagescape.cluster.estimator import Metric, check_count, check_metric, prepared
from imagescape.cluster.hierarchy import condensed_distances
from imagescape.cluster.tree import Tree, check_cuts
from imagescape.errors import InputError
from imagescape.evaluate.metrics import sample_rows
from imagescape.runtime import seed_for

MAX_ROWS = 2_000
_MOST = 50  # clusters that are tried when nothing is said


@dataclass(frozen=True, slots=True)
class Candidate:
    """One number of clusters and what speaks for it.

    Attributes:
        k: Clusters.
        silhouette: Mean silhouette of the sampled rows, in [-1, 1].
        stability: Mean adjusted Rand index of pairs of clusterings that were made of two resamples, in [-1, 1].
        stability_sd: Its standard deviation over the pairs.
        effective_k: exp of the entropy of the sizes, in [1, k]: how many equally large clusters would be as various.
        score: `stability` times `silhouette`, each as a share of the largest of the sweep; 0 where either is not above
            0. By it candidates are ranked.
    """

    k: int
    silhouette: float
    stability: float
    stability_sd: float
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
        """Every k whose score is within one standard error of the best one's stability, ascending."""
        best = self.candidates[0]
        error = best.stability_sd / np.sqrt(self.resamples)
        slack = best.score * error / best.stability if best.stability > 0 else 0.0
        return tuple(sorted(one.k for one in self.candidates if one.score >= best.score - slack))

    def as_dict(self) -> dict[str, Any]:
        ranked = [
            {name: getattr(one, name) for name in ("k", "score", "silhouette", "stability", "stability_sd")}
            | {"effective_k": one.effective_k}
            for one in self.candidates
        ]
        return {"k": self.k, "plausible": list(self.plausible), "rows": self.rows, "ranked": ranked}

    def __str__(self) -> str:
        lines = [f"{'k':>5} {'score':>7} {'silhouette':>11} {'stability':>16} {'effective k':>12}"]
        for one in self.candidates[:10]:
            stability = f"{one.stability:.3f} (sd {one.stability_sd:.3f})"
            lines.append(
                f"{one.k:>5} {one.score:>7.3f} {one.silhouette:>11.3f} {stability:>16} {one.effective_k:>12.1f}"
            )
        if len(self.candidates) > 10:
            lines.append(f"… and {len(self.candidates) - 10} more")
        several = ", ".join(map(str, self.plausible))
        return "\n".join(lines) + f"\nplausible: {several}  (Ward on {self.rows:,} of {self.total:,} images)"


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
    """Rank numbers of clusters by one Ward hierarchy of a sample and those of its resamples.

    Stability asks whether other data of the same kind would be parted alike (Fang and Wang 2012,
    doi:10.1016/j.csda.2011.09.003; compared by the adjusted Rand index, Hubert and Arabie 1985): two bootstrap samples
    are clustered each, both give all sampled rows to their nearest centroids, and the two are compared. Silhouette:
    Rousseeuw 1987. A small k may be stable by merging what is apart, and a fine one may cut what belongs together:
    read the ranks as a range.

    Args:
        features: (n, d), any real dtype; packed uint8 for "hamming".
        ks: Numbers to try, each at least 2 and below the sampled rows; None: 2 to 50, and a tenth of the sample at
            most.
        metric: "euclidean", "cosine" or "hamming"; Ward's on prepared rows, as `Hierarchy`.
        resamples: Pairs of resamples, at least 2.
        max_rows: Rows that are looked at, sampled at random.
        seed: Names samples and resamples.
        advance: Told how many more hierarchies are done, in all 2 `resamples` + 1.

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
    condensed = condensed_distances(rows, "euclidean")
    tree = Tree.of_linkage(scipy_hierarchy.linkage(condensed, method="ward"))
    advance(1)
    cuts = {k: tree.cut(k) for k in tried}
    silhouettes = _silhouettes(condensed, cuts)
    del condensed
    agreement = _agreements(rows, tried, resamples, seed, advance)
    return Choice(_ranked(cuts, silhouettes, agreement), len(rows), total, resamples)


def effective_k(sizes: np.ndarray) -> float:
    """exp of the entropy of the cluster sizes, in [1, clusters]: 2 for two equal halves, near 1 for 99 to 1."""
    shares = sizes[sizes > 0] / sizes.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def _silhouettes(condensed: np.ndarray, cuts: dict[int, np.ndarray]) -> dict[int, float]:
    from scipy.spatial.distance import squareform

    square = squareform(condensed)
    return {k: float(silhouette_score(square, labels, metric="precomputed")) for k, labels in cuts.items()}


def _agreements(
    rows: np.ndarray, ks: Sequence[int], resamples: int, seed: int, advance: Callable[[int], None]
) -> dict[int, np.ndarray]:
    """Adjusted Rand indices (resamples,) by k."""
    found: dict[int, list[float]] = {k: [] for k in ks}
    for number in range(resamples):
        sides = []
        for side in range(2):
            generator = np.random.default_rng(seed_for(seed, "resample", number, side))
            sides.append(_extended(rows, np.sort(generator.integers(0, len(rows), len(rows))), ks))
            advance(1)
        for k in ks:
            found[k].append(float(adjusted_rand_score(sides[0][k], sides[1][k])))
    return {k: np.array(values) for k, values in found.items()}


def _extended(rows: np.ndarray, drawn: np.ndarray, ks: Sequence[int]) -> dict[int, np.ndarray]:
    """All rows by the nearest centroids of the clusters of some, at each k."""
    some = rows[drawn]
    tree = Tree.of_linkage(scipy_hierarchy.linkage(condensed_distances(some, "euclidean"), method="ward"))
    return {k: Centroids.of(some, tree.cut(k), k).nearest(rows)[0] for k in ks}


def _ranked(
    cuts: dict[int, np.ndarray], silhouettes: dict[int, float], agreement: dict[int, np.ndarray]
) -> tuple[Candidate, ...]:
    apart, stable = max(silhouettes.values()), max(float(values.mean()) for values in agreement.values())
    candidates = []
    for k, labels in cuts.items():
        silhouette, stability = silhouettes[k], float(agreement[k].mean())
        score = silhouette / apart * stability / stable if min(silhouette, stability) > 0 else 0.0
        spread = float(agreement[k].std(ddof=1))
        candidates.append(Candidate(k, silhouette, stability, spread, effective_k(np.bincount(labels)), score))
    return tuple(sorted(candidates, key=lambda one: (-one.score, one.k)))
