"""What a map is worth beyond its scores: all that `imagescape evaluate --quality` measures, to print and to draw."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from imagescape.evaluate.metrics import Classes, GroupScore, Score, knn_accuracy, knn_recalls, purity_at
from imagescape.evaluate.splits import encode_labels, stratified_split
from imagescape.evaluate.stability import SeedStability, ViewConsistency

_KS = (1, 2, 5, 10, 15, 30, 50)
_K = 15


@dataclass(frozen=True, slots=True)
class GroupAgreement:
    """How well coarse classes, such as CIFAR-100's superclasses, hold together on a map.

    Attributes:
        column: Where the classes are from.
        accuracy: Share of held-out images whose superclass is that of the majority of their k nearest.
        purity: Mean share of an image's k nearest that are of its superclass.
        k: Neighbours.
    """

    column: str
    accuracy: Score
    purity: GroupScore
    k: int

    def as_dict(self) -> dict[str, object]:
        return {
            "column": self.column,
            "knn_accuracy": self.accuracy.value,
            "purity": self.purity.value,
            "k": self.k,
            "rows": self.purity.rows,
        }

    def __str__(self) -> str:
        return (
            f"superclass '{self.column}': {self.k}-NN accuracy {self.accuracy.value:.4f}; "
            f"{self.purity.value:.4f} of the {self.k} nearest are of the same"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MapQuality:
    """The quality of one map.

    Attributes:
        name: Of the map.
        rows: Images on it.
        recalls: Share of an image's k nearest in the features that are among its k nearest on the map, by k; empty
            where there are no features.
        views: Of random views of a sample; None where it cannot be measured.
        views_missing: Why not; "" where it was.
        others: Names of the maps it was compared with.
        compared_rows: Images that are on all of them.
        stability: How much they agree; None where there are none.
        superclass: None where no column was named.
        feature_norms: Euclidean norms of the features H, (rows,), or None.
        coord_norms: Distance from the origin of the map's coordinates Z, (rows,), in map units.
        labels: Classes of the rows, to tell norms by, or None.
    """

    name: str
    rows: int
    recalls: Mapping[int, Score]
    views: ViewConsistency | None
    views_missing: str = ""
    others: tuple[str, ...] = ()
    compared_rows: int = 0
    stability: SeedStability | None = None
    superclass: GroupAgreement | None = None
    feature_norms: np.ndarray | None
    coord_norms: np.ndarray
    labels: np.ndarray | None = None

    def as_dict(self) -> dict[str, object]:
        """The figures in plain values; null for what was not measured."""
        recalls = {str(k): score.value for k, score in self.recalls.items()}
        stability = None
        if self.stability is not None:
            compared = {"maps": [self.name, *self.others], "rows": self.compared_rows}
            stability = compared | self.stability.as_dict()
        return {
            "knn_recall": recalls or None,
            "views": None if self.views is None else self.views.as_dict(),
            "views_missing": self.views_missing or None,
            "stability": stability,
            "superclass": None if self.superclass is None else self.superclass.as_dict(),
            "norms": {space: None if norms is None else _range(norms) for space, norms in self._norms()},
        }

    def _norms(self) -> tuple[tuple[str, np.ndarray | None], ...]:
        return ("features", self.feature_norms), ("map", self.coord_norms)

    def __str__(self) -> str:
        lines = []
        if self.recalls:
            kept = ", ".join(f"{score.value:.3f} of {k}" for k, score in self.recalls.items())
            lines.append(f"neighbours in the features kept on the map: {kept}")
        lines.append(f"views of an image: {self.views or f'not measured, {self.views_missing}'}")
        if self.stability is not None:
            lines.append(f"against {', '.join(self.others)}: {self.stability} ({self.compared_rows} images)")
        if self.superclass is not None:
            lines.append(str(self.superclass))
        for space, norms in self._norms():
            if norms is not None:
                low, middle, high = _range(norms).values()
                lines.append(f"norms of the {space}: median {middle:.4g}, from {low:.4g} (5 %) to {high:.4g} (95 %)")
        return "\n".join(lines)


def feature_recalls(
    features: np.ndarray, coords: np.ndarray, *, seed: int = 0, device: str = "auto"
) -> dict[int, Score]:
    """`knn_recalls` at every k of a plot that there are enough rows for; features (n, d), coords (n, 2)."""
    ks = [k for k in _KS if k < len(coords)]
    return knn_recalls(features, coords, ks, seed=seed, device=device) if ks else {}


def group_agreement(
    coords: np.ndarray, groups: Classes, column: str, *, seed: int = 0, device: str = "auto"
) -> GroupAgreement:
    """How well `groups` (n,) hold together on the map `coords` (n, d), by 15 neighbours where there are as many.

    Raises:
        InputError: too few rows with a group to hold some out.
    """
    labels = encode_labels(groups)
    split = stratified_split(labels, seed=seed)
    k = min(_K, len(split.train_index))
    return GroupAgreement(
        column,
        knn_accuracy(coords, labels, k=k, split=split, device=device),
        purity_at(coords, labels, k, metric="euclidean", device=device),
        k,
    )


def _range(values: np.ndarray) -> dict[str, float]:
    low, middle, high = np.percentile(values, [5, 50, 95])
    return {"p5": float(low), "median": float(middle), "p95": float(high)}
