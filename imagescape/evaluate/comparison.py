"""One clustering beside others of the same rows: which clusters are found again, and what several have in common."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from imagescape.errors import InputError
from imagescape.evaluate.contingency import (
    Agreement,
    Contingency,
    agreement,
    agreement_of_covered,
    as_clusters,
    contingency,
    one_to_one,
)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two clusterings of the same rows.

    Attributes:
        table: Rows that clusters of the first (a) and of the second (b) have in common.
        agreement: Over all rows, where the noise of each counts as one more group.
        agreement_covered: Over the rows that are noise in neither; None where there are none.
    """

    table: Contingency
    agreement: Agreement
    agreement_covered: Agreement | None

    @property
    def best_a(self) -> np.ndarray:
        """For each cluster of the first the one of the second with the largest IoU, (a,) int64; -1 where all are 0."""
        return _best(self.table.iou)

    @property
    def best_b(self) -> np.ndarray:
        """The same for each cluster of the second, (b,) int64."""
        return _best(self.table.iou.T)

    @property
    def mean_iou_a(self) -> float:
        """Mean of the best IoU over the clusters of the first, weighted by size: how much of it is in the second."""
        return float(np.average(self.table.iou.max(axis=1), weights=self.table.sizes_a))

    @property
    def mean_iou_b(self) -> float:
        """The same over the clusters of the second."""
        return float(np.average(self.table.iou.max(axis=0), weights=self.table.sizes_b))

    @property
    def matching(self) -> np.ndarray:
        """Pairs of clusters, each in one pair at most, with the largest IoU in all: (a,) int64, -1 for those alone."""
        return one_to_one(self.table.iou)


def compare_clusterings(a: np.ndarray, b: np.ndarray) -> Comparison:
    """Compare two clusterings, (n,) integers each, -1 for noise.

    Raises:
        InputError: different lengths, a label below -1, or one of them is all noise.
    """
    a, b = as_clusters(a), as_clusters(b)
    table, overall = contingency(a, b), agreement(a, b)
    return Comparison(table, overall, agreement_of_covered(overall, a, b))


def _best(iou: np.ndarray) -> np.ndarray:
    return np.where(iou.max(axis=1) > 0, iou.argmax(axis=1), -1)


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over several clusterings.

    Attributes:
        mean: Their mean.
        sd: Their standard deviation, of a sample (n - 1); None for a single one.
    """

    mean: float
    sd: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        return cls(float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None)


def spread_over(figures: Sequence[Mapping[str, float | None]]) -> dict[str, Spread | None]:
    """Mean and sd of each figure over several clusterings, such as those of several seeds.

    Args:
        figures: The figures of each clustering, by the same names; at least one.

    Returns:
        By name, in the order of the first; None where a clustering lacks the figure, or it is not finite.
    """
    spreads: dict[str, Spread | None] = {}
    for name in figures[0]:
        values = [one[name] for one in figures]
        known = [value for value in values if value is not None and math.isfinite(value)]
        spreads[name] = Spread.of(known) if len(known) == len(values) else None
    return spreads


def mutual_agreement(clusterings: Sequence[np.ndarray]) -> dict[str, Spread]:
    """How much clusterings of the same rows agree among themselves: mean and sd over all pairs.

    Args:
        clusterings: At least two, (n,) integers each, -1 for noise, which counts as one more group.

    Returns:
        A `Spread` for each figure of `Agreement`.

    Raises:
        InputError: fewer than two, or different lengths.
    """
    if len(clusterings) < 2 or len({len(one) for one in clusterings}) > 1:
        raise InputError(
            "agreement needs two clusterings or more of the same rows, got "
            + (", ".join(str(len(one)) for one in clusterings) or "none")
        )
    pairs = [agreement(a, b).as_dict() for a, b in combinations(clusterings, 2)]
    return {name: Spread.of([pair[name] for pair in pairs]) for name in pairs[0]}
