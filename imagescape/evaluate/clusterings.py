"""How well clusters fit known classes.

Two rules settle how rows are counted, here and wherever these figures are shown:

- A row without a class takes no part. How many those are is said.
- A row that is noise is a row that was got wrong: it counts in the denominator of every accuracy. Where clusterings
  and classes are compared as divisions (NMI and its like), the noise is one more group. Figures called `covered` are
  over the rows that are not noise, and are to be read with their share, the coverage.
"""

from dataclasses import dataclass, replace

import numpy as np

from imagescape.errors import InputError
from imagescape.evaluate.contingency import (
    Agreement,
    Contingency,
    Groups,
    agreement,
    agreement_of_covered,
    as_clusters,
    contingency,
)
from imagescape.evaluate.splits import Labels, encode_labels

_TOP = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """What can be said of a clustering by itself.

    Attributes:
        n: Rows.
        noise: Rows in no cluster.
        sizes: Rows of each cluster, (k,) int64, clusters ascending.
        clusters: Their labels, (k,) int64.
    """

    n: int
    noise: int
    sizes: np.ndarray
    clusters: np.ndarray

    @property
    def coverage(self) -> float:
        """Share of rows that are in a cluster, in [0, 1]."""
        return 1 - self.noise / self.n

    @property
    def effective_k(self) -> float:
        """See `effective_k`; 0 for no cluster."""
        return effective_k(self.sizes)


def effective_k(sizes: np.ndarray) -> float:
    """exp of the entropy of the sizes of clusters, each above 0: how many equal ones would be as various, in [1, k].

    Source: Hill 1973, doi:10.2307/1934352, of order 1.

    >>> effective_k(np.array([20, 20, 20]))
    3.0
    """
    if not len(sizes):
        return 0.0
    shares = sizes / sizes.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def partition_of(labels: np.ndarray) -> Partition:
    """Count clusters, (n,) integers with -1 for noise.

    Raises:
        InputError: no rows, or a label below -1.
    """
    labels = as_clusters(labels)
    if not len(labels):
        raise InputError("a clustering needs at least one row, got none")
    clusters, sizes = np.unique(labels[labels >= 0], return_counts=True)
    return Partition(n=len(labels), noise=int((labels < 0).sum()), sizes=sizes, clusters=clusters)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusteringScores:
    """A clustering beside the classes. All is over the `n` rows that have a class.

    Attributes:
        partition: The clustering by itself.
        unlabelled: Rows that have no class and took no part.
        classes: The classes, ascending.
        table: Rows that clusters (first) and classes (second) have in common; None where every row is noise.
        matches: For each cluster the position of the class it stands for, by the assignment that gives most rows
            their class; -1 for clusters left over. (k,) int64.
        agreement: As divisions, noise one more group.
        agreement_covered: Over the rows that are not noise; None where there are none.
        top5_acc: Share of rows whose class is that of one of their 5 most probable clusters; None where the
            probabilities are not known.
    """

    partition: Partition
    unlabelled: int
    classes: tuple[object, ...]
    table: Contingency | None
    matches: np.ndarray
    agreement: Agreement
    agreement_covered: Agreement | None
    top5_acc: float | None = None

    @property
    def acc(self) -> float:
        """Share of all rows whose cluster stands for their class, one cluster a class; noise counts as wrong."""
        return self._matched / self.partition.n

    @property
    def acc_covered(self) -> float | None:
        """The same share of the rows that are not noise; None where there are none."""
        return self._of_covered(self._matched)

    @property
    def majority_acc(self) -> float:
        """Share of all rows that are of the most common class of their cluster; noise counts as wrong.

        Several clusters may stand for one class, so it rises with the number of clusters, to 1 for one a row.
        """
        return self._in_majority / self.partition.n

    @property
    def majority_acc_covered(self) -> float | None:
        """The same share of the rows that are not noise; None where there are none."""
        return self._of_covered(self._in_majority)

    @property
    def _matched(self) -> int:
        if self.table is None:
            return 0
        matched = np.flatnonzero(self.matches >= 0)
        return int(self.table.counts[matched, self.matches[matched]].sum())

    @property
    def _in_majority(self) -> int:
        return 0 if self.table is None else int(self.table.counts.max(axis=1).sum())

    def _of_covered(self, right: int) -> float | None:
        covered = self.partition.n - self.partition.noise
        return right / covered if covered else None

    def figures(self) -> dict[str, float | None]:
        """Every figure by name; None for what has no value."""
        divided = self.agreement.as_dict()
        covered = dict.fromkeys(divided) if self.agreement_covered is None else self.agreement_covered.as_dict()
        return {
            "acc": self.acc,
            "majority_acc": self.majority_acc,
            **divided,
            "top5_acc": self.top5_acc,
            "coverage": self.partition.coverage,
            "effective_k": self.partition.effective_k,
            "acc_covered": self.acc_covered,
            "majority_acc_covered": self.majority_acc_covered,
            **{f"{name}_covered": value for name, value in covered.items()},
        }


def score_clustering(
    labels: np.ndarray,
    classes: Groups,
    *,
    probabilities: np.ndarray | None = None,
    columns: np.ndarray | None = None,
) -> ClusteringScores:
    """Score clusters by classes that the clustering was not shown.

    Args:
        labels: Cluster of each row, (n,) integers, -1 for noise; gaps and order mean nothing.
        classes: Class of each row, (n,), as `encode_labels` takes them; None and -1 for no class.
        probabilities: Of every cluster for every row, (n, k); for the top-5 accuracy.
        columns: Which cluster each column of `probabilities` is of, (k,); 0 to k - 1 when None.

    Raises:
        InputError: different lengths, or no row has a class.
    """
    labels, truth = as_clusters(labels), encode_labels(classes)
    if len(labels) != len(truth.codes):
        raise InputError(f"a cluster and a class a row are needed, got {len(labels)} and {len(truth.codes)}")
    rows = truth.labelled
    if not len(rows):
        raise InputError(f"classes are needed to score clusters by, and none of the {len(labels)} rows has one")
    labels, codes = labels[rows], truth.codes[rows]
    partition, covered, overall = partition_of(labels), labels >= 0, agreement(labels, codes)
    scores = ClusteringScores(
        partition=partition,
        unlabelled=truth.unlabelled_count,
        classes=truth.classes,
        table=None,
        matches=np.empty(0, np.int64),
        agreement=overall,
        agreement_covered=agreement_of_covered(overall, labels, codes),
    )
    if covered.any():
        table = contingency(labels, Labels(codes, truth.classes))
        scores = replace(scores, table=table, matches=table.assignment())
    if probabilities is None:
        return scores
    columns = np.arange(np.shape(probabilities)[-1]) if columns is None else np.asarray(columns)
    if np.shape(probabilities) != (len(truth.codes), len(columns)):
        raise InputError(
            f"probabilities must have a row a label and a column a cluster, got {np.shape(probabilities)} "
            f"for {len(truth.codes)} labels and {len(columns)} clusters"
        )
    top = _top_classes(np.asarray(probabilities)[rows], columns, scores)
    return replace(scores, top5_acc=float(((top == codes[:, None]).any(axis=1) & covered).mean()))


def _top_classes(probabilities: np.ndarray, columns: np.ndarray, scores: ClusteringScores) -> np.ndarray:
    """The classes that each row's 5 most probable clusters stand for, (n, 5) or all; -1 for none."""
    stands_for = dict(zip(scores.partition.clusters.tolist(), scores.matches.tolist(), strict=True))
    class_of = np.array([stands_for.get(cluster, -1) for cluster in columns.tolist()], np.int64)
    top = min(_TOP, len(columns))
    return class_of[np.argpartition(-probabilities, top - 1, axis=1)[:, :top]]
