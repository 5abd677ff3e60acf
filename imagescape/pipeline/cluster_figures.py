"""The figures of clusterings, to print and to write: what `imagescape evaluate --clusters` gives."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from imagescape.cluster.geometry import Geometry
from imagescape.evaluate.clusterings import ClusteringScores, Partition
from imagescape.evaluate.comparison import Comparison, Spread, spread_over
from imagescape.evaluate.neighborhoods import Neighborhoods

_MOST_LINES = 30  # clusters that are listed for people; scripts get all

# What a script finds at the top, whether there is one clustering or several.
_MAIN = ("acc", "majority_acc", "nmi", "ami", "ari", "effective_k", "coverage", "n")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluatedClustering:
    """Everything that was measured of one clustering.

    Attributes:
        name: Of the clustering.
        outside: Images of the collection that are not in it.
        label: The column of classes, or None.
        partition: Over the images that have a class, or over all that are in it where no column was named.
        scores: By the classes; None where no column was named.
        features: Name of the features that were clustered; None where it was a map, or is not known.
        map: Name of the map that was clustered; None likewise.
        geometry: Of all its images in what was clustered; None where there is nothing to measure.
        neighborhoods: Of its images there, those that have a class where one is needed; None likewise.
        missing: What could not be measured, and why.
    """

    name: str
    outside: int
    label: str | None
    partition: Partition
    scores: ClusteringScores | None
    features: str | None
    map: str | None
    geometry: Geometry | None
    neighborhoods: Neighborhoods | None
    missing: tuple[str, ...] = ()

    def notes(self) -> list[str]:
        """What a reader must know beside the figures."""
        notes, k = [], len(self.partition.clusters)
        if self.outside:
            notes.append(f"{self.outside} images are not in the clustering and take no part")
        if self.scores is not None and self.scores.unlabelled:
            notes.append(f"{self.scores.unlabelled} images have no '{self.label}' and take no part")
        if k < 2:
            notes.append("every image is noise" if k == 0 else "there is one cluster only: it tells nothing apart")
        if self.scores is not None and len(self.scores.classes) < 2:
            notes.append(f"'{self.label}' has one class only: there is nothing to tell apart")
        return [*notes, *self.missing]

    def scalars(self) -> dict[str, float | None]:
        """Every figure that is one number, by name; None for what was not measured."""
        partition, near = self.partition, self.neighborhoods
        figures: dict[str, float | None] = dict.fromkeys(_MAIN) | {
            "n": partition.n,
            "k": len(partition.clusters),
            "coverage": partition.coverage,
            "effective_k": partition.effective_k,
        }
        if self.scores is not None:
            figures |= self.scores.figures()
        if near is not None:
            figures |= {f"purity_at_{k}": value for k, value in near.class_purity.items()}
            figures |= {f"cluster_purity_at_{k}": value for k, value in near.cluster_purity.items()}
            if near.weighted_knn_accuracy is not None:
                figures["weighted_knn_accuracy"] = near.weighted_knn_accuracy
        if self.geometry is not None:
            figures |= {f"{name}_mean": row["mean"] for name, row in self.geometry.summary().items()}
        return figures

    def as_dict(self) -> dict[str, Any]:
        """The figures in plain values: the main ones at the top, all others under `figures`."""
        scalars, scores = self.scalars(), self.scores
        partition = self.partition
        others: dict[str, Any] = {name: value for name, value in scalars.items() if name not in _MAIN}
        others["sizes"] = [
            {"cluster": cluster, "size": size}
            for cluster, size in zip(partition.clusters.tolist(), partition.sizes.tolist(), strict=True)
        ]
        others["noise"] = partition.noise
        if scores is not None:
            others["matches"] = self._matches()
            others["confusion"] = _confusion(scores)
        if self.neighborhoods is not None:
            others["neighbors"] = {
                "metric": self.neighborhoods.metric,
                "voters": self.neighborhoods.voters,
                "asked": self.neighborhoods.asked,
                "rows": self.neighborhoods.rows,
            }
        if self.geometry is not None:
            others["geometry"] = _geometry(self.geometry)
        head = {"clusters": self.name, "label": self.label, "features": self.features, "map": self.map}
        unlabelled = 0 if scores is None else scores.unlabelled
        counts = {"unlabelled": unlabelled, "outside": self.outside, "notes": self.notes()}
        return plain(head | {name: scalars[name] for name in _MAIN} | counts | {"figures": others})

    def _matches(self) -> list[dict[str, object]]:
        """Clusters, the class each stands for, and how many of its images are of it."""
        scores = self.scores
        if scores is None or scores.table is None:
            return []
        return [
            {
                "cluster": cluster,
                "size": int(scores.table.sizes_a[row]),
                "class": scores.classes[match] if match >= 0 else None,
                "images_of_class": int(scores.table.counts[row, match]) if match >= 0 else 0,
            }
            for row, (cluster, match) in enumerate(zip(scores.table.groups_a, scores.matches.tolist(), strict=True))
        ]

    def __str__(self) -> str:
        partition, scores, near = self.partition, self.scores, self.neighborhoods
        lines = [
            f"clustering '{self.name}': {len(partition.clusters)} clusters of {partition.n} images, "
            f"coverage {partition.coverage:.4f}, effective k {partition.effective_k:.2f}"
        ]
        if scores is not None:
            lines += ["", *_score_lines(scores, str(self.label))]
        if near is not None:
            lines += ["", *_neighbor_lines(near, f"map '{self.map}'" if self.map else f"features '{self.features}'")]
        if self.geometry is not None:
            lines += ["", str(self.geometry)]
        if scores is not None and len(partition.clusters) <= _MOST_LINES:
            lines += ["", f"{'cluster':>8} {'images':>8} {'of class':>9}  class"]
            for one in self._matches():
                name = "(left over)" if one["class"] is None else one["class"]
                lines.append(f"{one['cluster']:>8} {one['size']:>8} {one['images_of_class']:>9}  {name}")
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes())])


@dataclass(frozen=True, slots=True)
class NamedComparison:
    """Two clusterings of the same images, `a` and `b`."""

    a: str
    b: str
    comparison: Comparison

    def as_dict(self) -> dict[str, Any]:
        table, iou, comparison = self.comparison.table, self.comparison.table.iou, self.comparison
        covered = comparison.agreement_covered
        return plain(
            {
                "clusters": self.b,
                "n": table.rows,
                **comparison.agreement.as_dict(),
                "covered": None if covered is None else covered.as_dict(),
                "mean_iou": {self.a: comparison.mean_iou_a, self.b: comparison.mean_iou_b},
                "best": {
                    self.a: _best(table.groups_a, table.groups_b, table.sizes_a, iou, comparison.best_a),
                    self.b: _best(table.groups_b, table.groups_a, table.sizes_b, iou.T, comparison.best_b),
                },
                "matching": [
                    {self.a: table.groups_a[row], self.b: table.groups_b[column], "iou": iou[row, column]}
                    for row, column in enumerate(comparison.matching)
                    if column >= 0
                ],
                "iou": {"rows": table.groups_a, "columns": table.groups_b, "values": iou},
            }
        )

    def __str__(self) -> str:
        table, iou, comparison = self.comparison.table, self.comparison.table.iou, self.comparison
        figures = ", ".join(f"{name} {value:.4f}" for name, value in comparison.agreement.as_dict().items())
        lines = [
            f"'{self.a}' against '{self.b}' ({table.rows} images): {figures}",
            f"mean IoU of the best matches: {comparison.mean_iou_a:.4f} of '{self.a}' in '{self.b}', "
            f"{comparison.mean_iou_b:.4f} of '{self.b}' in '{self.a}'",
        ]
        if len(table.groups_a) <= _MOST_LINES:
            lines.append(f"{'cluster':>8} {'images':>8} {'best':>8} {'IoU':>7}")
            for match in _best(table.groups_a, table.groups_b, table.sizes_a, iou, comparison.best_a):
                best = "none" if match["match"] is None else match["match"]
                lines.append(f"{match['cluster']:>8} {match['size']:>8} {best:>8} {match['iou']:>7.4f}")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class ClusteringFigures:
    """One clustering or several, such as those of several seeds, with what they have in common.

    Attributes:
        clusterings: At least one.
        comparisons: Of the only one with others.
        agreement: Of several with each other, mean and sd over all pairs; empty for one.
        shared: Images that are in all of several.
    """

    clusterings: tuple[EvaluatedClustering, ...]
    comparisons: tuple[NamedComparison, ...] = ()
    agreement: Mapping[str, Spread] | None = None
    shared: int = 0

    def spread(self) -> dict[str, Spread | None]:
        """Mean and sd of every figure over the clusterings; None where one of them lacks it."""
        scalars = [one.scalars() for one in self.clusterings]
        names = dict.fromkeys(name for one in scalars for name in one)
        return spread_over([{name: one.get(name) for name in names} for one in scalars])

    def as_dict(self) -> dict[str, Any]:
        """Of one clustering its figures; of several their means by the same names, their `sd`, and `each`."""
        if len(self.clusterings) == 1:
            result = self.clusterings[0].as_dict()
            return result | ({"against": [one.as_dict() for one in self.comparisons]} if self.comparisons else {})
        spread = self.spread()
        means = {name: None if one is None else one.mean for name, one in spread.items()}
        sds = {name: None if one is None else one.sd for name, one in spread.items()}
        head = {"clusters": [one.name for one in self.clusterings], "label": self.clusterings[0].label}
        others = {name: mean for name, mean in means.items() if name not in _MAIN}
        agreement = None
        if self.agreement:
            agreement = {name: asdict(one) for name, one in self.agreement.items()} | {"n": self.shared}
        return plain(
            head
            | {name: means[name] for name in _MAIN}
            | {"figures": others, "sd": sds, "agreement": agreement}
            | {"each": [one.as_dict() for one in self.clusterings]}
        )

    def __str__(self) -> str:
        if len(self.clusterings) == 1:
            return "\n\n".join(str(one) for one in (*self.clusterings, *self.comparisons))
        lines = [f"{'mean and sd over ' + str(len(self.clusterings)) + ' clusterings':<32} {'mean':>12} {'sd':>12}"]
        is_covered = all(not clustering.partition.noise for clustering in self.clusterings)
        for name, one in self.spread().items():
            if one is not None and not (is_covered and name.endswith("_covered")):  # which say the same there
                lines.append(f"{name:<32} {one.mean:>12.4f} {one.sd:>12.4f}")
        if self.agreement:
            lines += ["", f"agreement of pairs of them, over the {self.shared} images that are in all"]
            for name, one in self.agreement.items():
                lines.append(f"{name:<32} {one.mean:>12.4f} " + (f"{one.sd:>12.4f}" if one.sd is not None else ""))
        notes = [f"note: '{one.name}': {note}" for one in self.clusterings for note in one.notes()]
        return "\n".join([*lines, *notes])


def plain(value: Any) -> Any:
    """Values that JSON has: lists for arrays and tuples, null for what is not finite."""
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _confusion(scores: ClusteringScores) -> dict[str, object]:
    """Classes by clusters, and how many images of each class are noise."""
    table = scores.table
    if table is None:
        return {"classes": scores.classes, "clusters": (), "counts": [[] for _ in scores.classes], "noise": None}
    return {
        "classes": table.groups_b,
        "clusters": table.groups_a,
        "counts": table.counts.T,
        "noise": table.ungrouped_a,
    }


def _geometry(geometry: Geometry) -> dict[str, object]:
    table = geometry.as_table()
    rows = [dict(zip(table, values, strict=True)) for values in zip(*table.values(), strict=True)]
    about = {"quantile": geometry.quantile, "noise": geometry.noise}
    return about | {"summary": geometry.summary(), "clusters": rows}


def _best(
    groups: Sequence[object], others: Sequence[object], sizes: np.ndarray, iou: np.ndarray, best: np.ndarray
) -> list[dict[str, Any]]:
    return [
        {
            "cluster": group,
            "size": int(sizes[row]),
            "match": others[match] if match >= 0 else None,
            "iou": float(iou[row, match]) if match >= 0 else 0.0,
        }
        for row, (group, match) in enumerate(zip(groups, best.tolist(), strict=True))
    ]


def _score_lines(scores: ClusteringScores, label: str) -> list[str]:
    figures = scores.figures()
    lines = [f"{f'against the {len(scores.classes)} classes of {label!r}':<36} {'all':>8} {'covered':>8}"]
    for name, title in _TITLES.items():
        if (value := figures[name]) is not None:
            covered = figures.get(f"{name}_covered")
            lines.append(f"{title:<36} {value:>8.4f}" + (f" {covered:>8.4f}" if covered is not None else ""))
    return lines


_TITLES = {
    "acc": "ACC, one cluster a class",
    "majority_acc": "ACC, majority of each cluster",
    "top5_acc": "ACC among the 5 most probable",
    "nmi": "NMI",
    "ami": "AMI",
    "ari": "ARI",
    "homogeneity": "homogeneity",
    "completeness": "completeness",
    "v_measure": "V",
}


def _neighbor_lines(near: Neighborhoods, source: str) -> list[str]:
    lines = [f"nearest of {near.asked} images among {near.rows}, {near.metric}, by {source}"]
    for of, purity in (("class", near.class_purity), ("cluster", near.cluster_purity)):
        if purity:
            shares = ", ".join(f"{value:.4f} of {k}" for k, value in purity.items())
            lines.append(f"  of the same {of}: {shares}")
    if near.weighted_knn_accuracy is not None:
        lines.append(f"  weighted {near.voters}-NN accuracy: {near.weighted_knn_accuracy:.4f}")
    return lines
