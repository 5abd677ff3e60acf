"""`evaluate --clusters`: the columns of clusterings, the classes and the features, to what the clusters are worth."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from imagescape.cluster.geometry import Geometry, cluster_geometry
from imagescape.collection.clusterings import cluster_labels, clustering_config
from imagescape.collection.results import classes
from imagescape.collection.store import Collection
from imagescape.errors import CheckpointError, InputError
from imagescape.evaluate.clusterings import ClusteringScores, partition_of, score_clustering
from imagescape.evaluate.comparison import compare_clusterings, mutual_agreement
from imagescape.evaluate.neighborhoods import Neighborhoods, neighborhoods
from imagescape.evaluate.splits import encode_labels
from imagescape.pipeline.cluster_figures import ClusteringFigures, EvaluatedClustering, NamedComparison
from imagescape.pipeline.cluster_source import Source, clustered_source
from imagescape.pipeline.clustering import cluster_probabilities
from imagescape.runtime import track


def evaluate_clusterings(
    scape: Collection,
    names: Sequence[str],
    *,
    label: str | None = None,
    against: Sequence[str] = (),
    diameter_quantile: float = 1.0,
    seed: int = 0,
    device: str = "auto",
) -> ClusteringFigures:
    """Score clusterings by classes, by the geometry of their features, and beside each other.

    Args:
        scape: The collection.
        names: Of the clusterings. Several, such as those of several seeds, also get mean and sd over them.
        label: A column of classes; None: only what needs none. Images without a class take no part in what does.
        against: Other clusterings to compare the only one of `names` with.
        diameter_quantile: Of the distances within a cluster that is called its diameter.
        seed: Names the sample of images whose neighbours are asked.
        device: Where distances are computed.

    Raises:
        InputError: no such clustering or column, one named twice, nothing to score, or several clusterings to be
            compared with others.
    """
    everyone = [*names, *against]
    if len(set(everyone)) < len(everyone):
        raise InputError(f"every clustering is named once, got {', '.join(everyone)}")
    if against and len(names) > 1:
        raise InputError(f"one clustering is compared with others, got {', '.join(names)} against {', '.join(against)}")
    columns = {name: cluster_labels(scape, name) for name in everyone}
    truth = None if label is None else classes(scape, label)
    asked = _Asked(scape, label, truth, diameter_quantile, seed, device)
    evaluated = tuple(_evaluate(asked, name, *columns[name]) for name in names)
    comparisons = []
    for name in against:
        (first, other), shared = _in_common([columns[names[0]], columns[name]])
        if not shared:
            raise InputError(f"'{names[0]}' and '{name}' have no image in common, and so cannot be compared")
        for one, labels in ((names[0], first), (name, other)):
            if not (labels >= 0).any():
                raise InputError(f"'{one}' cannot be compared: all of the images in question are noise in it")
        comparisons.append(NamedComparison(names[0], name, compare_clusterings(first, other)))
    several, shared = _in_common([columns[name] for name in names])
    agreement = mutual_agreement(several) if len(several) > 1 and shared else None
    return ClusteringFigures(evaluated, tuple(comparisons), agreement, shared)


def _in_common(columns: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[list[np.ndarray], int]:
    """Clusters of the images that are in all of some clusterings, and how many those are."""
    shared = np.all([is_in for _, is_in in columns], axis=0)
    return [labels[shared] for labels, _ in columns], int(shared.sum())


@dataclass(frozen=True, slots=True)
class _Asked:
    """What every clustering is asked."""

    scape: Collection
    label: str | None
    truth: np.ndarray | None
    diameter_quantile: float
    seed: int
    device: str


def _evaluate(asked: _Asked, name: str, labels: np.ndarray, is_in: np.ndarray) -> EvaluatedClustering:
    if not is_in.any():
        raise InputError(f"no image is in the clustering '{name}': its column is empty")
    source, geometry, near, probabilities, missing = None, None, None, None, []
    config: dict[str, Any] = {}
    try:
        config = clustering_config(asked.scape, name)
        source = clustered_source(asked.scape, config)
    except (CheckpointError, InputError) as why:  # the clusters can be scored without what they were made from
        missing.append(f"neither geometry nor neighbours: {why}")
    if source is not None:
        rows = np.flatnonzero(is_in & source.usable("euclidean"))
        if len(rows):
            geometry, near = _in_features(asked, source, labels, rows)
        else:
            missing.append(f"neither geometry nor neighbours: none of its images has {source}")
        try:
            if asked.truth is not None:
                probabilities = cluster_probabilities(asked.scape, name, config, device=asked.device)
        except CheckpointError as why:
            missing.append(f"no top-5 accuracy: {why}")
    scores = None if asked.truth is None else _scores(asked.truth, labels, probabilities, is_in)
    return EvaluatedClustering(
        name=name,
        outside=int((~is_in).sum()),
        label=asked.label,
        partition=partition_of(labels[is_in]) if scores is None else scores.partition,
        scores=scores,
        features=None if source is None else config.get("features"),
        map=None if source is None else config.get("map"),
        geometry=geometry,
        neighborhoods=near,
        missing=tuple(missing),
    )


def _scores(
    truth: np.ndarray, labels: np.ndarray, probabilities: np.ndarray | None, is_in: np.ndarray
) -> ClusteringScores:
    """Top-5 accuracy only where the probabilities of all images that are in a cluster are known."""
    if probabilities is not None:
        is_known = bool(np.isfinite(probabilities[labels >= 0]).all())
        probabilities = probabilities[is_in] if is_known else None
    return score_clustering(labels[is_in], truth[is_in], probabilities=probabilities)


def _in_features(
    asked: _Asked, source: Source, labels: np.ndarray, rows: np.ndarray
) -> tuple[Geometry | None, Neighborhoods | None]:
    """Geometry, and what neighbours say, of some rows that have what was clustered; None for what they are too few."""
    vectors = source.vectors("euclidean")
    if len(rows) < len(vectors):  # else they are used as they are: they are large
        vectors, labels = vectors[rows], labels[rows]
    geometry, near, clustered = None, None, int((labels >= 0).sum())
    if clustered:
        with track("geometry", clustered) as progress:
            geometry = cluster_geometry(
                vectors, labels, quantile=asked.diameter_quantile, device=asked.device, advance=progress.advance
            )
    truth = None if asked.truth is None else encode_labels(asked.truth[rows])
    if (len(rows) if truth is None else len(truth.labelled)) > 1:
        near = neighborhoods(
            vectors,
            classes=truth,
            clusters=labels,
            metric="euclidean" if source.is_map else "cosine",
            seed=asked.seed,
            device=asked.device,
        )
    return geometry, near
