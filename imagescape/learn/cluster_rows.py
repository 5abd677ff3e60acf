"""What cluster heads are given: unit rows of features, their neighbours, and centroids to start from."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from imagescape.errors import InputError, require
from imagescape.evaluate.neighbors import Corpus
from imagescape.learn.cluster_heads import Heads
from imagescape.learn.pairs import GraphPairs
from imagescape.learn.placing import Components
from imagescape.runtime import seed_for, track

_ROWS_AT_ONCE = 2**14
_COMPONENTS = 128
_KMEANS_ROWS = 256  # for each centroid: enough to find it, as FAISS itself has it
_VALIDATION_ROWS = 2**14
_HELD_OUT_FRACTION = 0.1
_FEWEST_HELD_OUT = 10  # for each cluster; of fewer rows nothing is set aside
_USED_FRACTION = 0.02  # of an even share: a cluster with fewer rows counts as dead


@dataclass(frozen=True)
class UnitRows:
    """How features become rows of length 1: from their mean, so that cosines tell them apart, in principal components.

    Attributes:
        components: Of the features that the clusters were learned from; 128 at most, as the rest is mostly noise.
    """

    components: Components

    @classmethod
    def of(cls, features: Float[np.ndarray, "n d"], k: int) -> "UnitRows":
        """Learn the components of these features, and refuse such that no k clusters can be made of.

        Raises:
            InputError: no matrix, values that are not finite, fewer rows than clusters, or fewer different ones.
        """
        if features.ndim != 2 or not features.shape[1]:
            raise InputError(f"clusters need a matrix of features (rows, dimensions), got shape {features.shape}")
        if len(features) < k:
            raise InputError(f"{k} clusters need at least {k} rows, got {len(features)}; ask for fewer clusters")
        _check_finite(features)
        different: set[bytes] = set()
        for row in features:  # ends after the first few rows, but for those that are all the same
            different.add(row.tobytes())
            if len(different) >= k:
                break
        else:
            raise InputError(
                f"{k} clusters need at least {k} different rows, got {len(features)} rows of which {len(different)} "
                f"{'is' if len(different) == 1 else 'are'} different; ask for fewer clusters or look at the features"
            )
        return cls(Components.of(features, _COMPONENTS))

    @property
    def width(self) -> int:
        """Entries of a row."""
        return int(self.components.axes.shape[1])

    def project(self, features: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n width"]:
        """Rows of length 1, float32; a row that is the mean stays at 0.

        Raises:
            InputError: another width than that of the features before, or values that are not finite.
        """
        wanted = len(self.components.mean)
        if features.ndim != 2 or features.shape[1] != wanted:
            raise InputError(f"the clusters are of {wanted} features a row, got shape {features.shape}")
        _check_finite(features)
        rows = self.components.project(features)
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
        return rows


def _check_finite(features: np.ndarray) -> None:
    for start in range(0, len(features), _ROWS_AT_ONCE):
        finite = np.isfinite(features[start : start + _ROWS_AT_ONCE]).all(axis=1)
        if not finite.all():
            raise InputError(f"features must be finite, row {start + int(finite.argmin())} is not; leave such rows out")


def graph_of(
    rows: np.ndarray, graph: Int[np.ndarray, "n neighbors"] | None, neighbors: int, device: str
) -> Int[np.ndarray, "n neighbors"]:
    """The `neighbors` nearest of each row by cosine: the first of the graph that is given, or found here, exactly.

    Raises:
        InputError: the graph is not of these rows.
    """
    if graph is None:
        with track("neighbours", len(rows)) as progress:
            return Corpus(rows, "cosine", device=device).graph(min(neighbors, len(rows) - 1), progress.advance).indices
    graph = np.asarray(graph)
    fits = graph.ndim == 2 and len(graph) == len(rows) and graph.shape[1] and graph.dtype.kind in "iu"
    if not fits or graph.min() < 0 or graph.max() >= len(rows):
        raise InputError(
            f"a graph must name neighbours among these {len(rows)} rows, one line a row; got shape {graph.shape}"
        )
    return graph[:, :neighbors]


class NeighborRows:
    """Rows and their neighbours: the pairs of clustering on frozen features.

    Args:
        rows: (n, d) float32.
        graph: (n, neighbors) neighbours of each row.
        device: Where batches are made.
        anchors: Which rows are drawn as the first of a pair, (m,); all when None. Any row may be the second.
    """

    def __init__(
        self, rows: Tensor, graph: np.ndarray, device: torch.device, anchors: np.ndarray | None = None
    ) -> None:
        self.device = device
        self._rows = rows.to(device)
        self._pairs = GraphPairs(graph, device)
        self._anchors = np.arange(len(rows)) if anchors is None else anchors

    def __len__(self) -> int:
        return len(self._anchors)

    def batch(self, index: np.ndarray, generator: Generator) -> tuple[Tensor, Tensor]:
        a, b = self._pairs.batch(self._anchors[index], generator)
        return self._rows[a], self._rows[b]


def start_from_kmeans(heads: Heads, rows: Float[np.ndarray, "n d"], runs: int, seed: int) -> None:
    """Have the first `runs` heads start from spherical k-means, each from a run of its own; see `kmeans_centroids`."""
    for head, centroids in enumerate(kmeans_centroids(rows, heads.k, runs, seed)):
        heads.start_from(head, torch.from_numpy(centroids))


def kmeans_centroids(
    rows: Float[np.ndarray, "n d"], k: int, runs: int, seed: int, *, steps: int = 20
) -> Float[np.ndarray, "runs k d"]:
    """Unit centroids of several runs of spherical k-means, each from a start of its own (FAISS).

    Args:
        rows: Of length 1.
        k: Clusters, at most as many as rows.
        runs: How many.
        seed: Settles them.
        steps: Of each.

    Source: Dhillon and Modha 2001, "Concept decompositions for large sparse text data using clustering".

    Raises:
        MissingExtraError: FAISS is not installed.
    """
    faiss = require("faiss", extra="faiss")
    centroids = np.empty((runs, k, rows.shape[1]), np.float32)
    for run in range(runs):
        here = seed_for(seed, "k-means", run)
        sample = rows
        if len(rows) > _KMEANS_ROWS * k:
            sample = rows[np.random.default_rng(here).permutation(len(rows))[: _KMEANS_ROWS * k]]
        settings = {"niter": steps, "spherical": True, "min_points_per_centroid": 1, "seed": here % 2**31}
        clustering = faiss.Kmeans(rows.shape[1], k, **settings, max_points_per_centroid=len(sample))
        clustering.train(np.ascontiguousarray(sample))
        centroids[run] = clustering.centroids
    return centroids


def in_use(labels: Int[Tensor, "n heads"], k: int) -> Int[Tensor, " heads"]:
    """How many clusters of each head have rows enough not to count as dead: a fiftieth of an even share."""
    counts = torch.stack([column.bincount(minlength=k) for column in labels.T])
    return (counts >= max(1, _USED_FRACTION * len(labels) / k)).sum(1)


def sample_of(rows: int, seed: int) -> Int[np.ndarray, " m"]:
    """A sample of at most 16,384 rows, in a random order."""
    return np.random.default_rng(seed_for(seed, "validation rows")).permutation(rows)[:_VALIDATION_ROWS]


def set_aside(rows: int, k: int, seed: int) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " m"]]:
    """Rows to learn from, and a tenth, 16,384 at most, to judge by; all rows for both where that would be few."""
    sample = sample_of(rows, seed)
    held_out = sample[: round(_HELD_OUT_FRACTION * rows)]
    if len(held_out) < _FEWEST_HELD_OUT * k:
        return np.arange(rows), sample
    return np.setdiff1d(np.arange(rows), held_out), held_out


def batch_for(rows: int, most: int) -> int:
    """All of a few rows; else a power of two that leaves several steps an epoch, `most` at most."""
    return min(rows, most) if rows < 64 else max(32, min(most, 2 ** ((rows // 4).bit_length() - 1)))
