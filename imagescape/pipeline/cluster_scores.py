"""`evaluate --clusters`: the columns of clusterings, the classes and the features, to what the clusters are worth."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from imagescape.cluster.geometry import Geometry, cluster_geometry
from imagescape.collection.results import classes, feature_names, features_identity
from imagescape.collection.store import Collection
from imagescape.errors import CheckpointError, InputError
from imagescape.evaluate.clusterings import partition_of, score_clustering
from imagescape.evaluate.comparison import compare_clusterings, mutual_agreement
from imagescape.evaluate.neighborhoods import Neighborhoods, neighborhoods
from imagescape.evaluate.splits import encode_labels
from imagescape.features.extract import same_encoder
from imagescape.learn.encoder import read_config
from imagescape.pipeline.cluster_columns import clustering_labels, read_probabilities
from imagescape.pipeline.cluster_figures import ClusteringFigures, EvaluatedClustering, NamedComparison
from imagescape.pipeline.feature_maps import vectors_of
from imagescape.runtime import track

# Of a probability, that a table kept in half precision may lack.
_ROUNDING = 1e-3


class _Unknown(Exception):
    """Something about a clustering cannot be had; the message says why."""


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
    columns = {name: clustering_labels(scape, name) for name in everyone}
    truth = None if label is None else classes(scape, label)
    asked = _Asked(scape, _Vectors(scape), label, truth, diameter_quantile, seed, device)
    evaluated = tuple(_evaluate(asked, name, *columns[name]) for name in names)
    comparisons = []
    for name in against:
        (first, other), shared = _in_common([columns[names[0]], columns[name]])
        if not shared:
            raise InputError(f"'{names[0]}' and '{name}' have no image in common, and so cannot be compared")
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
    vectors: "_Vectors"
    label: str | None
    truth: np.ndarray | None
    diameter_quantile: float
    seed: int
    device: str


def _evaluate(asked: _Asked, name: str, labels: np.ndarray, is_in: np.ndarray) -> EvaluatedClustering:
    if not is_in.any():
        raise InputError(f"no image is in the clustering '{name}': its column is empty")
    scores, geometry, near, features = None, None, None, None
    features_missing = probabilities_missing = ""
    if asked.truth is not None:
        probabilities = None
        try:
            probabilities = _probabilities(asked.scape, name, labels, is_in)
        except _Unknown as why:
            probabilities_missing = str(why)
        scores = score_clustering(labels[is_in], asked.truth[is_in], probabilities=probabilities)
    try:
        features = asked.vectors.name_of(name)
        geometry, near = _in_features(asked, asked.vectors.of(features), labels, is_in)
    except _Unknown as why:
        features_missing = str(why)
    return EvaluatedClustering(
        name=name,
        outside=int((~is_in).sum()),
        label=asked.label,
        partition=partition_of(labels[is_in]) if scores is None else scores.partition,
        scores=scores,
        features=features,
        geometry=geometry,
        neighborhoods=near,
        features_missing=features_missing,
        probabilities_missing=probabilities_missing,
    )


def _probabilities(scape: Collection, name: str, labels: np.ndarray, is_in: np.ndarray) -> np.ndarray | None:
    """Of every cluster for every image of the clustering; None where its method keeps none."""
    table = read_probabilities(scape, name)
    if table is None:
        return None
    table, labels = table[is_in], labels[is_in]
    clustered = labels >= 0
    own, of_clustered = labels[clustered], table[clustered]
    if lacking := int(np.isnan(of_clustered).any(axis=1).sum()):
        raise _Unknown(f"the probabilities of {lacking} images were not kept")
    is_other = own.max(initial=-1) >= table.shape[1]
    if is_other or (of_clustered[np.arange(len(own)), own] < of_clustered.max(axis=1, initial=0) - _ROUNDING).any():
        raise _Unknown("the probabilities that were kept are of another clustering")
    return table


def _in_features(
    asked: _Asked, vectors: np.ndarray, labels: np.ndarray, is_in: np.ndarray
) -> tuple[Geometry | None, Neighborhoods | None]:
    """Geometry, and what neighbours say, of the images that have features; None for what has no images."""
    rows = np.flatnonzero(is_in & np.isfinite(vectors).all(axis=1))
    if not len(rows):
        raise _Unknown("none of its images has the features it was made from")
    vectors, labels = vectors[rows], labels[rows]
    geometry, near, clustered = None, None, int((labels >= 0).sum())
    if clustered:
        with track("geometry", clustered) as progress:
            geometry = cluster_geometry(
                vectors, labels, quantile=asked.diameter_quantile, device=asked.device, advance=progress.advance
            )
    truth = None if asked.truth is None else encode_labels(asked.truth[rows])
    if (len(rows) if truth is None else len(truth.labelled)) > 1:
        near = neighborhoods(vectors, classes=truth, clusters=labels, seed=asked.seed, device=asked.device)
    return geometry, near


class _Vectors:
    """The features that clusterings were made from, each read once."""

    def __init__(self, scape: Collection) -> None:
        self._scape = scape
        self._read: dict[str, np.ndarray] = {}

    def name_of(self, clustering: str) -> str:
        """Which features a clustering, or the one that it is a cut of, was made from, if they are still the same."""
        config = self._config_of(clustering)
        source = config.get("features")
        if not source:
            raise _Unknown("its model does not say which features it was made from")
        if source not in feature_names(self._scape):
            raise _Unknown(f"the features '{source}' it was made from are not in the collection")
        identity = config.get("features_identity")
        if identity and not same_encoder(features_identity(self._scape, source), identity):
            raise _Unknown(f"the features '{source}' are by another encoder than those it was made from")
        return str(source)

    def of(self, source: str) -> np.ndarray:
        """(rows, d) float32 in table order; NaN for rows that have none."""
        if source not in self._read:
            self._read = {source: vectors_of(self._scape, source)}  # one at a time: they are large
        return self._read[source]

    def _config_of(self, clustering: str) -> Mapping[str, Any]:
        cut = re.fullmatch(r"(.+)_\d+", clustering)
        for name in (clustering, *(cut.groups() if cut else ())):
            folder = self._scape.path / "models" / name
            if folder.is_dir():
                try:
                    return read_config(folder)
                except CheckpointError as error:
                    raise _Unknown(str(error)) from error
        raise _Unknown(f"it has no model in {self._scape.path / 'models'} to say which features it was made from")
