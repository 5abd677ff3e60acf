"""Two ways of dividing the same rows into groups: how many rows are in common, and how alike they are.

One may be a clustering and the other the truth, or both may be clusterings. Rows that are in no group (noise, or
without a label) are counted apart.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn import metrics

from imagescape.errors import InputError
from imagescape.evaluate.splits import Labels, encode_labels

Groups = Sequence[object] | np.ndarray | Labels

NOISE = -1

_MOST_CELLS = 10**8  # of a table: 800 MB


def as_clusters(labels: np.ndarray) -> np.ndarray:
    """The labels of a clustering, (n,) integers: any numbers from 0, with or without gaps, and -1 for noise.

    Raises:
        InputError: they are no whole numbers, not one a row, or below -1.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise InputError(f"labels must be one whole number a row, got {labels.dtype} of shape {labels.shape}")
    if len(labels) and labels.min() < NOISE:
        raise InputError(f"labels must be 0 or more, or -1 for noise, got {labels.min()}")
    return labels.astype(np.int64, copy=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contingency:
    """How many rows each group of one division has in common with each group of the other.

    Attributes:
        counts: (a, b) int64.
        groups_a: Names of the rows of `counts`, ascending.
        groups_b: Names of its columns.
        ungrouped_b: Rows of each group of the first that are in no group of the second, (a,) int64.
        ungrouped_a: Rows of each group of the second that are in no group of the first, (b,) int64.
        ungrouped: Rows that are in no group of either.
    """

    counts: np.ndarray
    groups_a: tuple[object, ...]
    groups_b: tuple[object, ...]
    ungrouped_b: np.ndarray
    ungrouped_a: np.ndarray
    ungrouped: int

    @property
    def rows(self) -> int:
        return int(self.counts.sum() + self.ungrouped_a.sum() + self.ungrouped_b.sum()) + self.ungrouped

    @property
    def sizes_a(self) -> np.ndarray:
        """Rows of each group of the first, (a,) int64."""
        return self.counts.sum(axis=1) + self.ungrouped_b

    @property
    def sizes_b(self) -> np.ndarray:
        """Rows of each group of the second, (b,) int64."""
        return self.counts.sum(axis=0) + self.ungrouped_a

    @property
    def iou(self) -> np.ndarray:
        """Intersection over union of every two groups, (a, b) in [0, 1]; 1 where they are the same rows."""
        return self.counts / (self.sizes_a[:, None] + self.sizes_b - self.counts)

    def assignment(self) -> np.ndarray:
        """Each group of the first with at most one of the second, and the other way, most rows in common in all.

        The numbers of groups may differ; see `one_to_one`.

        Returns:
            Position in `groups_b` for each of `groups_a`, (a,) int64; -1 for those left over, and those that have no
            row in common with what is left for them.
        """
        return one_to_one(self.counts)


def contingency(a: Groups, b: Groups) -> Contingency:
    """Count the rows that two divisions have in common.

    Args:
        a: (n,), as `encode_labels` takes them: None, NaN and -1 are in no group.
        b: (n,), the same rows.

    Raises:
        InputError: different lengths, one of them without a group, or a table of more than 10^8 cells.
    """
    a, b = encode_labels(a), encode_labels(b)
    if len(a.codes) != len(b.codes):
        raise InputError(f"two divisions of the same rows are needed, got {len(a.codes)} and {len(b.codes)} rows")
    if not a.classes or not b.classes:
        raise InputError(
            f"both divisions need a group at least, got {len(a.classes)} and {len(b.classes)}: "
            "every row is noise or without a label"
        )
    many_a, many_b = len(a.classes), len(b.classes)
    if many_a * many_b > _MOST_CELLS:
        raise InputError(
            f"a table of {many_a} by {many_b} groups does not fit in memory (at most {_MOST_CELLS} cells); use fewer"
        )
    cells = np.where(a.codes < 0, many_a, a.codes) * (many_b + 1) + np.where(b.codes < 0, many_b, b.codes)
    table = np.bincount(cells, minlength=(many_a + 1) * (many_b + 1)).reshape(many_a + 1, many_b + 1)
    return Contingency(
        counts=table[:-1, :-1],
        groups_a=a.classes,
        groups_b=b.classes,
        ungrouped_b=table[:-1, -1],
        ungrouped_a=table[-1, :-1],
        ungrouped=int(table[-1, -1]),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How much two divisions of the same rows agree, whatever their groups are called and however many there are.

    All but `ari` and `ami` are in [0, 1]. Those two are corrected for chance: 1 for the same division, about 0 for
    unrelated ones, and below 0 for less than chance.

    Attributes:
        nmi: Normalised mutual information, over the mean of both entropies (Vinh et al. 2010).
        ami: The same, less what chance would give (Vinh et al. 2010, JMLR 11:2837).
        ari: Adjusted Rand index (Hubert and Arabie 1985, doi:10.1007/BF01908075).
        homogeneity: 1 where every group of the first lies within one of the second (Rosenberg and Hirschberg 2007).
        completeness: 1 where every group of the second lies within one of the first.
        v_measure: Their harmonic mean, which is the same number as `nmi`.
    """

    nmi: float
    ami: float
    ari: float
    homogeneity: float
    completeness: float
    v_measure: float

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


def agreement(a: np.ndarray, b: np.ndarray) -> Agreement:
    """Compare clusters `a` with a division `b`, (n,) integers each; rows labelled -1 count as one more group.

    Raises:
        InputError: different lengths, or a label below -1.
    """
    a, b = as_clusters(a), as_clusters(b)
    if len(a) != len(b):
        raise InputError(f"two divisions of the same rows are needed, got {len(a)} and {len(b)} rows")
    homogeneity, completeness, v_measure = metrics.homogeneity_completeness_v_measure(b, a)
    return Agreement(
        nmi=float(metrics.normalized_mutual_info_score(b, a)),
        ami=float(metrics.adjusted_mutual_info_score(b, a)),
        ari=float(metrics.adjusted_rand_score(b, a)),
        homogeneity=float(homogeneity),
        completeness=float(completeness),
        v_measure=float(v_measure),
    )


def agreement_of_covered(overall: Agreement, a: np.ndarray, b: np.ndarray) -> Agreement | None:
    """`agreement` over the rows that are noise in neither; None where there are none, `overall` where those are all."""
    covered = (as_clusters(a) >= 0) & (as_clusters(b) >= 0)
    if covered.all():
        return overall
    return agreement(a[covered], b[covered]) if covered.any() else None


def one_to_one(worth: np.ndarray) -> np.ndarray:
    """Pairs of a row and a column of `worth` (a, b), each in one pair at most, that are worth most in all.

    Source: Kuhn 1955, doi:10.1002/nav.3800020109, by scipy.

    Returns:
        The column of each row, (a,) int64; -1 for rows left over, and where the pair is worth nothing.
    """
    rows, columns = linear_sum_assignment(worth, maximize=True)
    matches = np.full(len(worth), -1, np.int64)
    matches[rows] = np.where(worth[rows, columns] > 0, columns, -1)
    return matches
