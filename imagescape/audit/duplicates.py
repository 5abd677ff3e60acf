"""Near-duplicates as groups, cut again at another threshold without another search.

Being near is not passed on: of A, B, C and D, each near the next, A may be nothing like D. So the components of the
graph of near pairs are not the groups. A group has a centre, and *every member is within the threshold of it*: no two
members are more than twice the threshold apart (for bits and lengths; for cosines the same holds of angles).

The rule: the row with the most near ones, the lowest of several, is a centre, and takes all of them that no group has
yet; of those that are left, counting those only, again. Twins count as the rows they are, and stay together. This is
the greedy cover known as the clustering of Taylor (1995) and Butina (1999, "Unsupervised data base clustering based on
Daylight's fingerprint and Tanimoto similarity"), with counts that are kept up to date. A clump is one group, and a
chain falls into pieces of three or so; a row whose near ones have all gone to centres it is not near to is left alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from imagescape.audit.groups import Groups
from imagescape.audit.pairs import Pairs
from imagescape.errors import InputError


@dataclass(frozen=True, slots=True, eq=False)
class Duplicates:
    """The near pairs among some rows.

    Attributes:
        rows: How many rows there are, n.
        pairs: Their near pairs.
    """

    rows: int
    pairs: Pairs

    def __post_init__(self) -> None:
        last = int(self.pairs.second.max(initial=-1))
        if last >= self.rows:
            raise InputError(f"pairs of {self.rows} rows cannot name row {last}")

    def at(self, threshold: float) -> Groups:
        """Groups whose members are all within the threshold of their centre.

        Args:
            threshold: Bits, a Euclidean distance, or the least cosine similarity, as the pairs were searched by.

        Raises:
            InputError: it is looser than what was searched.
        """
        pairs = self.pairs.at(threshold)
        twins = pairs.distance == 0
        firsts = np.unique(np.concatenate([pairs.first, pairs.second[~twins]]))
        copies = np.ones(len(firsts), np.int64)
        np.add.at(copies, np.searchsorted(firsts, pairs.first[twins]), 1)
        low, high = (np.searchsorted(firsts, side[~twins]) for side in (pairs.first, pairs.second))
        center, distance = _cover(low, high, pairs.distance[~twins], copies)
        of_twin = np.searchsorted(firsts, pairs.first[twins])
        center, distance = np.append(center, center[of_twin]), np.append(distance, distance[of_twin])
        return Groups.of(np.append(firsts, pairs.second[twins]), firsts[center], distance, self.rows)

    def components(self, threshold: float) -> np.ndarray:
        """Label of every row (n,) int64 by the connected components of the pairs within the threshold, chains and all.

        Rows that are near none are -1; the others are numbered by their lowest row.

        Raises:
            InputError: as `at`.
        """
        pairs = self.pairs.at(threshold)
        graph = coo_array((np.ones(len(pairs), np.int8), (pairs.first, pairs.second)), (self.rows, self.rows))
        label = connected_components(graph, directed=False)[1]
        alone = np.bincount(label)[label] == 1
        first, inverse = np.unique(label[~alone], return_index=True, return_inverse=True)[1:]
        labels = np.full(self.rows, -1, np.int64)
        labels[~alone] = np.argsort(np.argsort(first))[inverse]
        return labels

    def profile(self, thresholds: Sequence[float]) -> list[tuple[float, int, int, int]]:
        """For each threshold: itself, groups, rows in groups, and the size of the largest."""
        cuts = [self.at(threshold) for threshold in thresholds]
        return [
            (threshold, len(cut), len(cut.rows), int(cut.sizes.max(initial=0)))
            for threshold, cut in zip(thresholds, cuts, strict=True)
        ]

    def __str__(self) -> str:
        return f"{self.pairs} among {self.rows:,} rows"


def _cover(
    low: np.ndarray, high: np.ndarray, distance: np.ndarray, copies: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The centre of each item (m,), and the distance to it, by the rule above."""
    from imagescape.audit import kernels

    m = len(copies)
    ends = np.concatenate([low, high])
    order = np.argsort(ends, kind="stable")
    starts = np.searchsorted(ends[order], np.arange(m + 1))
    return kernels.cover(starts, np.concatenate([high, low])[order], np.tile(distance, 2)[order], copies)
