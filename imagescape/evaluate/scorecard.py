"""Every figure of one map in one table: what `imagescape evaluate` prints and writes."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from imagescape.errors import InputError
from imagescape.evaluate.metrics import Classes, Score, knn_accuracies, knn_recall, linear_probe, silhouette
from imagescape.evaluate.splits import Labels, Split, encode_labels, official_split, stratified_split

_KS = (15, 5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of the table.

    Attributes:
        metric: "15-NN accuracy", "linear probe", "silhouette", "15-NN recall".
        space: "features", "map", or "features in map" for recall.
        split: "stratified", "official", or "" where nothing is held out.
        value: The figure; the mean where there were several splits.
        spread: Standard deviation over splits, or None for one measurement.
        rows: Rows scored (in each split).
        unlabelled: Rows that have no label and took no part.
    """

    metric: str
    space: str
    split: str
    value: float
    spread: float | None
    rows: int
    unlabelled: int


@dataclass(frozen=True, slots=True)
class Scorecard:
    """All figures of one map; `str()` gives a table to read, `as_dicts()` one to write."""

    figures: tuple[Figure, ...]

    def value(self, metric: str, space: str, split: str = "") -> float:
        """The figure of that name.

        Raises:
            KeyError: it was not measured.
        """
        for figure in self.figures:
            if (figure.metric, figure.space, figure.split) == (metric, space, split):
                return figure.value
        raise KeyError((metric, space, split))

    def as_dicts(self) -> list[dict[str, object]]:
        return [asdict(figure) for figure in self.figures]

    def __str__(self) -> str:
        lines = [f"{'metric':<16} {'of':<16} {'split':<11} {'value':>7}  {'sd':>6}  {'rows':>7}"]
        for one in self.figures:
            spread = "" if one.spread is None else f"{one.spread:.4f}"
            lines.append(
                f"{one.metric:<16} {one.space:<16} {one.split:<11} {one.value:>7.4f}  {spread:>6}  {one.rows:>7}"
            )
        unlabelled = max((one.unlabelled for one in self.figures), default=0)
        if unlabelled:
            lines.append(f"{unlabelled} rows have no label and took part in the recall only.")
        return "\n".join(lines)


def score_map(
    coords: np.ndarray,
    *,
    features: np.ndarray | None = None,
    labels: Classes | None = None,
    split_names: Sequence[str | None] | np.ndarray | None = None,
    splits: int = 3,
    seed: int = 0,
    device: str = "auto",
) -> Scorecard:
    """Score a map, and the features it came from, by what is known about the images.

    What cannot be measured is left out: nothing of the labels when fewer than two classes have two rows.

    With labels: 15-NN and 5-NN accuracy on stratified random splits (mean and sd over `splits` of them)
    and on the official one, the silhouette, and the linear probe of the features. With features: the
    recall of their 15 nearest neighbours among the 15 nearest on the map.

    Args:
        coords: The map, (n, 2).
        features: What the map was made from, (n, d), same rows.
        labels: (n,), as `encode_labels` takes them.
        split_names: The collection's own split, (n,); used when it has rows called "test" and others.
        splits: Stratified splits to average over.
        seed: Names the splits and samples.
        device: Where distances are computed.

    Raises:
        InputError: neither labels nor features are given, or their lengths differ.
    """
    if labels is None and features is None:
        raise InputError("scoring a map needs labels, features or both, got neither")
    encoded = None if labels is None else encode_labels(labels)
    figures: list[Figure] = []
    spaces = {"features": features, "map": coords}
    for space, x in spaces.items():
        if x is None or encoded is None or not _can_be_held_out(encoded):
            continue
        random = [stratified_split(encoded, seed=seed + number) for number in range(splits)]
        figures += _accuracies(x, encoded, random, "stratified", space, device)
        if split_names is not None and _is_official(split_names, encoded):
            figures += _accuracies(x, encoded, [official_split(split_names)], "official", space, device)
        figures.append(_figure("silhouette", space, "", [silhouette(x, encoded, seed=seed)]))
    if features is not None and encoded is not None and _can_be_held_out(encoded):
        first = stratified_split(encoded, seed=seed)
        probe = linear_probe(features, encoded, first, device=device)
        figures.append(_figure("linear probe", "features", "stratified", [probe]))
        if split_names is not None and _is_official(split_names, encoded):
            probe = linear_probe(features, encoded, official_split(split_names), device=device)
            figures.append(_figure("linear probe", "features", "official", [probe]))
    if features is not None:
        k = min(15, len(coords) - 1)
        recall = knn_recall(features, coords, k, seed=seed, device=device)
        figures.append(_figure(f"{k}-NN recall", "features in map", "", [recall]))
    return Scorecard(tuple(figures))


def _can_be_held_out(labels: Labels) -> bool:
    """Whether there are two classes and enough rows to test some: five, of which one is a fifth."""
    counts = np.bincount(labels.codes[labels.labelled], minlength=len(labels.classes))
    return len(labels.labelled) >= 5 and int((counts >= 2).sum()) >= 2


def _is_official(split_names: Sequence[str | None] | np.ndarray, labels: Labels) -> bool:
    """Whether there are labelled rows on both sides of the collection's own split."""
    tested = np.array([name == "test" for name in split_names])[labels.labelled]
    return bool(0 < tested.sum() < len(tested))


def _accuracies(
    x: np.ndarray, labels: Labels, splits: Sequence[Split], name: str, space: str, device: str
) -> list[Figure]:
    voters = min(len(split.keeping(labels.codes >= 0).train_index) for split in splits)
    ks = sorted({min(k, voters) for k in _KS}, reverse=True)
    scored = [knn_accuracies(x, labels, ks=ks, split=split, device=device) for split in splits]
    return [_figure(f"{k}-NN accuracy", space, name, [one[k] for one in scored]) for k in ks]


def _figure(metric: str, space: str, split: str, scores: Sequence[Score]) -> Figure:
    values = np.array([score.value for score in scores])
    return Figure(
        metric=metric,
        space=space,
        split=split,
        value=float(values.mean()),
        spread=float(values.std(ddof=1)) if len(values) > 1 else None,
        rows=scores[0].rows,
        unlabelled=scores[0].unlabelled,
    )
