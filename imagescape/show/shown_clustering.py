"""A clustering of a collection as pages show it: what its clusters are called, and images that stand for each."""

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from imagescape.cluster.exemplars import extremes, prototypes, representatives
from imagescape.collection.clusterings import cluster_labels, clustering_config, part_column
from imagescape.collection.store import Collection
from imagescape.errors import CheckpointError
from imagescape.evaluate.clusterings import Partition, partition_of
from imagescape.pipeline.cluster_figures import EvaluatedClustering
from imagescape.pipeline.cluster_source import Source, clustered_source

_EXTREMES = 5


class ShownClustering:
    """A clustering with all that is known of it, in table order."""

    def __init__(self, scape: Collection, name: str, measured: EvaluatedClustering) -> None:
        self.scape, self.name, self.measured = scape, name, measured
        self.labels, self.is_in = cluster_labels(scape, name)
        self.partition: Partition = partition_of(self.labels[self.is_in])
        self.clusters = self.partition.clusters
        self.config: dict[str, Any] = {}
        with suppress(CheckpointError):  # `measured.missing` says so
            self.config = clustering_config(scape, name)

    @cached_property
    def source(self) -> Source | None:
        """What was clustered, where geometry could be measured in it."""
        return None if self.measured.geometry is None else clustered_source(self.scape, self.config)

    @cached_property
    def rows(self) -> np.ndarray:
        """Rows that have what was clustered."""
        assert self.source is not None
        return np.flatnonzero(self.is_in & self.source.usable("euclidean"))

    @cached_property
    def probability(self) -> np.ndarray | None:
        """Of each row's own cluster, (rows,) float32, NaN where it is not known; None where none is."""
        column = part_column(self.name, "probability")
        if column not in self.scape.columns:
            return None
        return self.scape.read([column])[column].to_numpy().astype(np.float32)

    @cached_property
    def given_names(self) -> dict[int, str]:
        """Names by cluster; clusters without one are not in it."""
        column = part_column(self.name, "name")
        if column not in self.scape.columns:
            return {}
        every = np.array(self.scape.read([column])[column].to_pylist(), dtype=object)
        names = {}
        for cluster in self.clusters.tolist():
            said = Counter(" ".join(one.split()) for one in every[self.labels == cluster] if one)
            if said:
                names[cluster] = said.most_common(1)[0][0]
        return names

    @cached_property
    def words(self) -> dict[int, str]:
        """What figures call each cluster: its name, or its number; no two are alike."""
        numbers = {one: f"cluster {one}" if self.given_names else str(one) for one in self.clusters.tolist()}
        words = numbers | self.given_names
        often = Counter(words.values())
        return {one: word if often[word] == 1 else f"{word} ({one})" for one, word in words.items()}

    def words_of(self, clusters: np.ndarray) -> list[str]:
        return [self.words[one] for one in clusters.tolist()]


@dataclass(frozen=True, slots=True)
class Examples:
    """Images of each cluster, as rows of the table, by kind; of noise only random ones, under -1."""

    rows: dict[int, dict[str, np.ndarray]]

    @property
    def every(self) -> np.ndarray:
        every = [rows for kinds in self.rows.values() for rows in kinds.values()]
        return np.unique(np.concatenate(every)) if every else np.empty(0, np.int64)


def find_examples(shown: ShownClustering, count: int, seed: int) -> Examples:
    """Prototype, nearest, farthest and random images of each cluster; the first three where their features are known.

    Args:
        shown: The clustering.
        count: Random images of each, at least 1; of the nearest and farthest five, but no more than this.
        seed: Chooses the random ones.
    """
    found: dict[int, dict[str, np.ndarray]] = {one: {} for one in shown.clusters.tolist()}
    if shown.source is not None and (shown.labels[shown.rows] >= 0).any():
        rows, far = shown.rows, min(_EXTREMES, count)
        vectors, labels, sure = shown.source.vectors("euclidean")[rows], shown.labels[rows], shown.probability
        sure = None if sure is None else sure[rows]
        known = sure is not None and bool(np.isfinite(sure[labels >= 0]).all())
        most = prototypes(vectors, labels, sure if known else None)
        edge = extremes(vectors, labels, far)
        for position, one in enumerate(edge.clusters.tolist()):
            found[one]["prototype"] = rows[most[position : position + 1]]
            for kind, ends in (("nearest", edge.nearest[position]), ("farthest", edge.farthest[position])):
                found[one][kind] = rows[ends[ends >= 0]]
    if len(shown.clusters):
        for one, some in zip(shown.clusters.tolist(), representatives(shown.labels, count, seed=seed), strict=True):
            found[one]["representative"] = some[some >= 0]
    noise = np.flatnonzero(shown.is_in & (shown.labels < 0))
    if len(noise):
        alone = np.where(shown.is_in & (shown.labels < 0), 0, -1)
        found[-1] = {"representative": representatives(alone, count, seed=seed)[0]}
        found[-1]["representative"] = found[-1]["representative"][found[-1]["representative"] >= 0]
    return Examples(found)
