"""Labels that do not fit: images whose neighbours, and whose cluster, have another label.

Confident learning (Northcutt et al. 2021, arXiv:1911.00068) asks a classifier how sure it is of each label, and
compares with how sure it is of that label on average over the images that have it, so that rare and difficult classes
are measured by their own standard. Here the classifier is the image's neighbours, out of sample as no image is its own
neighbour. The doubt about a label is a product of three figures in [0, 1]:

* the support of the label that most neighbours have: the mean of itself and of its share of the usual support where it
  is the label (1 at most), so that what is much in a difficult class counts, and what is much in any class more;
* what is lacking in the support of the own label, as a share of its usual support;
* the share of images with the own label that have more support for it. In a class that is scattered, most have none,
  and that one has none is no reason to doubt it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from jaxtyping import Float, Int

from imagescape.audit.graph import checked
from imagescape.errors import InputError
from imagescape.evaluate.contingency import as_clusters
from imagescape.evaluate.neighbors import Neighbors
from imagescape.evaluate.splits import Labels, encode_labels

_TALLY_ENTRIES = 2**22  # entries of the (rows, classes) tally held at once


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LabelDoubts:
    """What neighbours and clusters say of labels.

    Attributes:
        labels: As given.
        suggested: The label, other than its own, that most of an image's neighbours have, by weight: a position in
            `labels.classes`, (n,) int64; for images without label the one that most have; -1 where no neighbour has a
            label, or all have its own.
        own_share: Share of the neighbours, by weight, that have the image's own label, (n,) in [0, 1]; NaN where it
            has none, or no neighbour has one.
        suggested_share: Share that have the suggested label, (n,) in [0, 1]; NaN where no neighbour has a label.
        usual_share: Of each class, mean `own_share` of its images, (c,); NaN where it is unknown.
        cluster_own_share: Share of the labelled in an image's cluster, itself left out, that have its label; NaN where
            there is no cluster. None without clusters.
        cluster_suggested_share: Share that have the suggested label, likewise.
        confidence: Of a doubt, or of a suggestion where there is no label, (n,) in [0, 1]: the head of this module says
            how. With clusters, the mean of what neighbours and clusters say of the same suggestion. NaN where no
            neighbour has a label.
        threshold: From which confidence a label is doubted.
        k: Neighbours that were asked.
    """

    labels: Labels
    suggested: np.ndarray
    own_share: np.ndarray
    suggested_share: np.ndarray
    usual_share: np.ndarray
    cluster_own_share: np.ndarray | None
    cluster_suggested_share: np.ndarray | None
    confidence: np.ndarray
    threshold: float
    k: int

    def at(self, threshold: float) -> Self:
        """The same, cut elsewhere.

        Raises:
            InputError: a threshold outside of (0, 1].
        """
        if not 0 < threshold <= 1:
            raise InputError(f"a threshold of doubt must lie in (0, 1], got {threshold}")
        return replace(self, threshold=threshold)

    @property
    def rows(self) -> np.ndarray:
        """Images whose label is doubted, the most certain doubt first, int64."""
        return self._above(self.labels.codes >= 0)

    @property
    def suggestions(self) -> np.ndarray:
        """Images without a label that may be given the suggested one, the most certain first, int64."""
        return self._above(self.labels.codes < 0)

    def _above(self, asked: np.ndarray) -> np.ndarray:
        found = np.flatnonzero(asked & (self.suggested >= 0) & (self.confidence >= self.threshold))
        return found[np.argsort(-self.confidence[found], kind="stable")]

    def label_of(self, row: int) -> object:
        """The label an image has, None if none."""
        code = int(self.labels.codes[row])
        return None if code < 0 else self.labels.classes[code]

    def suggestion_for(self, row: int) -> object:
        """The label an image may have instead, None if nothing speaks for another."""
        code = int(self.suggested[row])
        return None if code < 0 else self.labels.classes[code]

    def reason(self, row: int) -> str:
        """What speaks for another label, in words."""
        if self.suggested[row] < 0:
            return "nothing speaks for another label"
        usual = self.usual_share[self.suggested[row]]
        text = f"{self.suggested_share[row]:.0%} of its {self.k} nearest, by weight, are '{self.suggestion_for(row)}'"
        text += f" (usual of '{self.suggestion_for(row)}': {usual:.0%})" if np.isfinite(usual) else ""
        if (label := self.label_of(row)) is not None:
            own = self.usual_share[self.labels.codes[row]]
            text = f"labelled '{label}', but {text}, {self.own_share[row]:.0%} '{label}' (usual: {own:.0%})"
        if self.cluster_suggested_share is not None and np.isfinite(self.cluster_suggested_share[row]):
            text += f"; of its cluster, {self.cluster_suggested_share[row]:.0%} are '{self.suggestion_for(row)}'"
        return text

    def __len__(self) -> int:
        return len(self.rows)

    def as_dict(self) -> dict[str, object]:
        def told(rows: np.ndarray) -> list[dict[str, object]]:
            return [
                {
                    "row": int(row),
                    "label": self.label_of(row),
                    "suggested": self.suggestion_for(row),
                    "confidence": float(self.confidence[row]),
                    "reason": self.reason(row),
                }
                for row in rows
            ]

        doubts, suggestions = told(self.rows), told(self.suggestions)
        return {"k": self.k, "threshold": self.threshold, "doubts": doubts, "suggestions": suggestions}

    def __str__(self) -> str:
        rows, suggestions = self.rows, self.suggestions
        lines = [
            f"{len(rows):,} doubtful labels of {len(self.labels.labelled):,}, confidence {self.threshold:g} or more"
        ]
        lines += [f"{row:>8} {self.confidence[row]:.3f}  {self.reason(row)}" for row in rows[:10]]
        if len(rows) > 10:
            lines.append(f"… and {len(rows) - 10:,} more")
        if self.labels.unlabelled_count:
            lines.append(f"{len(suggestions):,} suggestions for {self.labels.unlabelled_count:,} images without label")
        return "\n".join(lines)


def label_doubts(
    graph: Neighbors,
    labels: Sequence[object] | np.ndarray | Labels,
    *,
    clusters: Int[np.ndarray, " n"] | None = None,
    k: int | None = None,
    threshold: float = 0.7,
) -> LabelDoubts:
    """Ask the neighbours, and the cluster, of each image for its label.

    A neighbour's vote weighs exp(-distance / mean distance of the image's k nearest), which depends on no unit.

    Args:
        graph: Neighbours by the features, see `audit.graph.checked`.
        labels: (n,), as `encode_labels` takes them; None, NaN and -1 for none.
        clusters: (n,), -1 for none. Made without the labels, and not few: a cluster of several classes says little.
        k: Neighbours; as many as the graph has when None.
        threshold: From which confidence a label is doubted; `at` cuts elsewhere.

    Raises:
        InputError: fewer than 2 classes, other lengths, or as `checked`.
    """
    encoded = encode_labels(labels)
    graph = checked(graph, k)
    n, codes, count = len(graph.indices), encoded.codes, len(encoded.classes)
    if len(codes) != n:
        raise InputError(f"labels must have one entry a row, got {len(codes)} for {n} rows")
    if count < 2:
        raise InputError(f"doubts about labels need at least 2 classes, got {count or 'no labels'}")
    weights = vote_weights(graph, codes)
    own, best, best_share = np.full(n, np.nan), np.full(n, -1), np.full(n, np.nan)
    step = max(1, _TALLY_ENTRIES // count)
    for start in range(0, n, step):
        here = slice(start, min(start + step, n))
        _ask(
            _tally(graph.indices[here], weights[here], codes, count),
            codes[here],
            own[here],
            best[here],
            best_share[here],
        )
    usual = _mean_by_class(own, codes, count)
    cluster_own = cluster_best = None
    confidence = _confidence(own, best, best_share, codes, usual)
    if clusters is not None:
        cluster_own, cluster_best, of_clusters = _ask_clusters(as_clusters(clusters), codes, best, count)
        both = np.isfinite(of_clusters) & np.isfinite(confidence)
        confidence = np.where(both, (confidence + of_clusters) / 2, confidence)
    return LabelDoubts(
        labels=encoded,
        suggested=best,
        own_share=own,
        suggested_share=best_share,
        usual_share=usual,
        cluster_own_share=cluster_own,
        cluster_suggested_share=cluster_best,
        confidence=confidence,
        threshold=threshold,
        k=graph.indices.shape[1],
    ).at(threshold)


def vote_weights(graph: Neighbors, codes: np.ndarray) -> Float[np.ndarray, "n k"]:
    """Weights of neighbours that have a label, summing to 1 along a row, or to 0 where none has."""
    there = graph.indices >= 0
    mean = np.where(there, graph.distances, 0).sum(axis=1) / np.maximum(there.sum(axis=1), 1)
    scale = np.where(mean > 0, mean, 1)[:, None]
    weights = np.exp(-np.where(there, graph.distances, 0) / scale) * (there & (codes[graph.indices] >= 0))
    total = weights.sum(axis=1, keepdims=True)
    return np.divide(weights, total, out=weights, where=total > 0)


def _tally(indices: np.ndarray, weights: np.ndarray, codes: np.ndarray, count: int) -> np.ndarray:
    """Weight of each class among the neighbours, (m, count)."""
    flat = np.arange(len(indices))[:, None] * count + np.maximum(codes[indices], 0)
    return np.bincount(flat.ravel(), weights.ravel(), len(indices) * count).reshape(len(indices), count)


def _ask(tally: np.ndarray, codes: np.ndarray, own: np.ndarray, best: np.ndarray, best_share: np.ndarray) -> None:
    """Write the share of the own label, and of all others the first of the largest."""
    rows, labelled, answered = np.arange(len(codes)), codes >= 0, tally.sum(axis=1) > 0
    own[:] = np.where(labelled & answered, tally[rows, codes], np.nan)
    tally[rows[labelled], codes[labelled]] = 0
    best[:] = np.where(tally.max(axis=1) > 0, tally.argmax(axis=1), -1)
    best_share[:] = np.where(answered, tally.max(axis=1), np.nan)


def _mean_by_class(own: np.ndarray, codes: np.ndarray, count: int) -> np.ndarray:
    known = np.isfinite(own)
    sums = np.bincount(codes[known], own[known], count)
    many = np.bincount(codes[known], minlength=count)
    return np.divide(sums, many, out=np.full(count, np.nan), where=many > 0)


def _confidence(
    own: np.ndarray, best: np.ndarray, best_share: np.ndarray, codes: np.ndarray, usual: np.ndarray
) -> np.ndarray:
    """See the head of this module; for images without label the first figure alone. `usual` is by class."""
    standard = np.where(best >= 0, usual[best], np.nan)
    standard = np.where(standard > 0, standard, 1.0)  # a class that is never near its own kind: by its plain share
    other = np.where(best >= 0, (best_share + np.minimum(best_share / standard, 1)) / 2, 0.0)
    other[np.isnan(best_share)] = np.nan
    labelled = codes >= 0
    expected = np.where(labelled, usual[codes], np.nan)
    lacking = np.where(expected > 0, np.clip(1 - own / np.where(expected > 0, expected, 1), 0, 1), 0.0)
    return np.where(labelled, other * lacking * _share_above(own, codes), other)


def _share_above(own: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Of the images with the same label, the share whose `own` is larger."""
    out = np.full(len(own), np.nan)
    known = np.flatnonzero(np.isfinite(own))
    order = known[np.lexsort((own[known], codes[known]))]
    for rows in np.split(order, np.flatnonzero(np.diff(codes[order])) + 1):
        out[rows] = 1 - np.searchsorted(own[rows], own[rows], side="right") / len(rows)
    return out


def _ask_clusters(
    clusters: np.ndarray, codes: np.ndarray, best: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shares of the own and of the suggested label among the others of a cluster, and the confidence by these."""
    if len(clusters) != len(codes):
        raise InputError(f"clusters must have one entry a row, got {len(clusters)} for {len(codes)} rows")
    names, inside = np.unique(clusters, return_inverse=True)
    asked, labelled = clusters >= 0, codes >= 0
    table = np.zeros((len(names), count))
    np.add.at(table, (inside[asked & labelled], codes[asked & labelled]), 1)
    others = table.sum(axis=1)[inside] - labelled
    heard = asked & (others > 0)

    def share(of: np.ndarray, less: np.ndarray) -> np.ndarray:
        votes = table[inside, of] - less
        return np.where(heard & (of >= 0), votes / np.maximum(others, 1), np.nan)

    own, suggested = share(codes, labelled.astype(float)), share(best, np.zeros(len(codes)))
    usual = _mean_by_class(own, codes, count)
    return own, suggested, _confidence(own, best, suggested, codes, usual)
