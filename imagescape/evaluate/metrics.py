"""Figures for features and maps: does near mean alike?

Everything takes arrays whose rows are images in one order, ignores rows without a label, says how
many those were, and is deterministic given its seed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from sklearn.metrics import silhouette_score

from imagescape.errors import InputError
from imagescape.evaluate.neighbors import Metric, nearest, nearest_others
from imagescape.evaluate.splits import Labels, Split, encode_labels
from imagescape.runtime import resolve_device

Classes = Sequence[object] | np.ndarray | Labels

_VOTE_ENTRIES = 2**22  # entries of the (tested rows, classes) tally held at once


@dataclass(frozen=True, slots=True)
class Score:
    """One figure, and what it was taken over.

    Attributes:
        value: The figure.
        rows: Rows that were scored.
        unlabelled: Rows of the whole array that have no label and so took no part.
    """

    value: float
    rows: int
    unlabelled: int = 0

    def __float__(self) -> float:
        return self.value


@dataclass(frozen=True, slots=True)
class GroupScore(Score):
    """A figure over all rows, and over the rows of each group.

    Attributes:
        per_group: The mean over the rows of each group, by group.
    """

    per_group: Mapping[object, float] = field(default_factory=dict)


def knn_accuracy(
    x: np.ndarray,
    labels: Classes,
    *,
    k: int = 15,
    split: Split,
    metric: Metric = "euclidean",
    device: str = "auto",
) -> Score:
    """Share of test rows whose label is the majority label of their k nearest training rows.

    A tie goes to the tied class whose voters are nearer on average; if that ties too, to the class
    that sorts first.

    Args:
        x: Features or map coordinates, (n, d).
        labels: (n,), as `encode_labels` takes them.
        k: Voters, at most the labelled training rows.
        split: Which rows vote and which are tested; those without a label are left out.
        metric: What near means.
        device: Where distances are computed.

    Returns:
        Accuracy in [0, 1]; `rows` counts the tested rows.

    Raises:
        InputError: arrays of different lengths, or no labelled rows on one side.
    """
    return knn_accuracies(x, labels, ks=(k,), split=split, metric=metric, device=device)[k]


def knn_accuracies(
    x: np.ndarray,
    labels: Classes,
    *,
    ks: Sequence[int],
    split: Split,
    metric: Metric = "euclidean",
    device: str = "auto",
) -> dict[int, Score]:
    """`knn_accuracy` for several k from one search; see there."""
    labels, split = _labelled_split(x, labels, split)
    found = nearest(x[split.train_index], x[split.test_index], max(ks), metric=metric, device=device)
    voters = labels.codes[split.train_index][found.indices]
    truth = labels.codes[split.test_index]
    scores = {}
    for k in ks:
        elected = majority(voters[:, :k], found.distances[:, :k], len(labels.classes))
        scores[k] = Score(float((elected == truth).mean()), len(truth), labels.unlabelled_count)
    return scores


def majority(codes: np.ndarray, distances: np.ndarray, classes: int) -> np.ndarray:
    """The elected class of each row of votes, with the tie rule of `knn_accuracy`.

    Args:
        codes: Class of each voter, (m, k), in [0, classes).
        distances: Distance of each voter, (m, k).
        classes: Number of classes.

    Returns:
        (m,) int64.
    """
    elected = np.empty(len(codes), np.int64)
    block = max(1, _VOTE_ENTRIES // classes)
    for start in range(0, len(codes), block):
        here = slice(start, start + block)
        rows = np.arange(len(codes[here]))[:, None]
        votes = np.zeros((len(rows), classes))
        apart = np.zeros((len(rows), classes))
        np.add.at(votes, (rows, codes[here]), 1)
        np.add.at(apart, (rows, codes[here]), distances[here])
        leads = votes == votes.max(axis=1, keepdims=True)
        elected[here] = np.where(leads, apart, np.inf).argmin(axis=1)  # equal votes: the sum orders as the mean
    return elected


def linear_probe(
    features: np.ndarray,
    labels: Classes,
    split: Split,
    *,
    penalty: float = 1.0,
    max_iterations: int = 200,
    device: str = "auto",
) -> Score:
    """Test accuracy of multinomial logistic regression on standardised features.

    Minimises the summed cross-entropy plus penalty / 2 * |W|^2 (no penalty on the offsets), which is
    scikit-learn's objective with C = 1 / penalty, by L-BFGS over all training rows at once.

    Args:
        features: (n, d).
        labels: (n,), as `encode_labels` takes them.
        split: Rows to fit and rows to test; those without a label are left out.
        penalty: Weight of the squared norm, >= 0.
        max_iterations: L-BFGS steps at most.
        device: Where to fit.

    Returns:
        Accuracy in [0, 1]; `rows` counts the tested rows.
    """
    labels, split = _labelled_split(features, labels, split)
    on = resolve_device(device)
    train = np.asarray(features[split.train_index], np.float32)
    mean, spread = train.mean(axis=0), train.std(axis=0)
    spread[spread == 0] = 1  # a constant feature says nothing and must not divide by zero

    def standardised(rows: np.ndarray) -> torch.Tensor:
        return torch.from_numpy((np.asarray(rows, np.float32) - mean) / spread).to(on)

    x, y = standardised(train), torch.from_numpy(labels.codes[split.train_index]).to(on)
    weight = torch.zeros(x.shape[1], len(labels.classes), device=on, requires_grad=True)
    offset = torch.zeros(len(labels.classes), device=on, requires_grad=True)
    solver = torch.optim.LBFGS(
        [weight, offset], max_iter=max_iterations, tolerance_grad=1e-6, line_search_fn="strong_wolfe"
    )

    def objective() -> torch.Tensor:
        solver.zero_grad()
        loss = torch.nn.functional.cross_entropy(torch.addmm(offset, x, weight), y)
        loss = loss + penalty / (2 * len(x)) * weight.square().sum()
        loss.backward()
        return loss

    solver.step(objective)
    with torch.no_grad():
        answers = torch.addmm(offset, standardised(features[split.test_index]), weight).argmax(dim=1)
    right = answers.cpu().numpy() == labels.codes[split.test_index]
    return Score(float(right.mean()), len(right), labels.unlabelled_count)


def silhouette(
    x: np.ndarray, labels: Classes, *, max_rows: int = 10_000, seed: int = 0, metric: Metric = "euclidean"
) -> Score:
    """Mean silhouette of the labelled rows, in [-1, 1]: how much nearer one's own class is than the next.

    Above `max_rows` labelled rows it is taken over a random sample of that many (its cost is quadratic).

    Source: Rousseeuw 1987, doi:10.1016/0377-0427(87)90125-7.

    Raises:
        InputError: fewer than two classes, or as many as rows.
    """
    labels = _labels_for(x, labels)
    rows = sample_rows(labels.labelled, max_rows, seed)
    classes = len(np.unique(labels.codes[rows]))
    if not 2 <= classes < len(rows):
        raise InputError(f"silhouette needs 2 classes or more and fewer than rows, got {classes} in {len(rows)} rows")
    value = silhouette_score(np.asarray(x[rows], np.float32), labels.codes[rows], metric=metric)
    return Score(float(value), len(rows), labels.unlabelled_count)


def knn_recall(
    features: np.ndarray,
    coords: np.ndarray,
    k: int = 15,
    *,
    metric: Metric = "euclidean",
    max_rows: int = 10_000,
    seed: int = 0,
    device: str = "auto",
) -> Score:
    """Mean share of a row's k nearest in feature space that are among its k nearest on the map.

    Neighbours are sought among all rows; above `max_rows` rows only a random sample of that many is asked.

    Args:
        features: (n, d).
        coords: (n, 2), the same rows in the same order; distances on the map are Euclidean.
        k: Neighbours, at most n - 1.
        metric: What near means in feature space.
        max_rows: Rows asked, at most.
        seed: Names the sample.
        device: Where distances are computed.

    Returns:
        Recall in [0, 1]; chance is k / (n - 1).
    """
    return knn_recalls(features, coords, (k,), metric=metric, max_rows=max_rows, seed=seed, device=device)[k]


def knn_recalls(
    features: np.ndarray,
    coords: np.ndarray,
    ks: Sequence[int],
    *,
    metric: Metric = "euclidean",
    max_rows: int = 10_000,
    seed: int = 0,
    device: str = "auto",
) -> dict[int, Score]:
    """`knn_recall` for several k from one search; see there. Memory grows with max_rows * max(ks)^2 bytes."""
    if len(features) != len(coords):
        raise InputError(f"features and coords need the same rows, got {len(features)} and {len(coords)}")
    rows = sample_rows(np.arange(len(coords)), max_rows, seed)
    near = nearest_others(features, max(ks), rows=rows, metric=metric, device=device)
    on_map = nearest_others(coords, max(ks), rows=rows, device=device)
    same = near.indices[:, :, None] == on_map.indices[:, None, :]
    return {k: Score(float(same[:, :k, :k].any(axis=2).mean()), len(rows)) for k in ks}


def purity_at(
    features: np.ndarray, groups: Classes, k: int = 10, *, metric: Metric = "cosine", device: str = "auto"
) -> GroupScore:
    """Mean share of a row's k nearest neighbours that belong to its own group.

    Rows without a group are neither asked nor found. A group of fewer than k + 1 rows cannot reach 1.

    Args:
        features: (n, d).
        groups: (n,), as `encode_labels` takes them.
        k: Neighbours, fewer than the rows with a group.
        metric: What near means.
        device: Where distances are computed.

    Returns:
        Purity in [0, 1], over all rows with a group and by group.
    """
    labels = _labels_for(features, groups)
    codes = labels.codes[labels.labelled]
    found = nearest_others(features[labels.labelled], k, metric=metric, device=device)
    share = (codes[found.indices] == codes[:, None]).mean(axis=1)
    per_group = {name: float(share[codes == code].mean()) for code, name in enumerate(labels.classes)}
    return GroupScore(float(share.mean()), len(codes), labels.unlabelled_count, per_group)


def family_recall(
    features: np.ndarray, families: Classes, k: int = 10, *, metric: Metric = "cosine", device: str = "auto"
) -> Score:
    """For each row with siblings (rows of the same family), the share of them among its k nearest.

    The denominator is min(k, siblings), so 1 can always be reached. Rows without a family are not asked
    but can be found in the way; `unlabelled` counts them.

    Raises:
        InputError: no row has a sibling.
    """
    labels = _labels_for(features, families)
    sizes = np.bincount(labels.codes[labels.labelled], minlength=len(labels.classes))
    rows = labels.labelled[sizes[labels.codes[labels.labelled]] > 1]
    if not len(rows):
        raise InputError("family_recall needs at least two rows of one family, got none")
    found = nearest_others(features, k, rows=rows, metric=metric, device=device)
    hits = (labels.codes[found.indices] == labels.codes[rows][:, None]).sum(axis=1)
    share = hits / np.minimum(k, sizes[labels.codes[rows]] - 1)
    return Score(float(share.mean()), len(rows), labels.unlabelled_count)


def sample_rows(rows: np.ndarray, max_rows: int, seed: int) -> np.ndarray:
    """`rows`, or a random `max_rows` of them in ascending order when there are more."""
    if len(rows) <= max_rows:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, max_rows, replace=False))


def _labels_for(x: np.ndarray, labels: Classes) -> Labels:
    labels = encode_labels(labels)
    if len(labels.codes) != len(x):
        raise InputError(f"labels must have one entry a row, got {len(labels.codes)} for {len(x)} rows")
    return labels


def _labelled_split(x: np.ndarray, labels: Classes, split: Split) -> tuple[Labels, Split]:
    labels = _labels_for(x, labels)
    return labels, split.keeping(labels.codes >= 0)
