"""Copies across splits: what a model is tested on should not be what it was taught."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from imagescape.audit.groups import Groups
from imagescape.audit.pairs import Pairs
from imagescape.errors import InputError
from imagescape.evaluate.splits import Labels, encode_labels


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Leaks:
    """Rows that have a copy in another split: an entry for each row and each other split that has one.

    Attributes:
        splits: The splits, sorted.
        sizes: Rows of each, (s,) int64.
        rows: (t,) int64, ascending.
        splits_of_rows: The split of each of `rows`, (t,) int64, a position in `splits`.
        splits_of_copies: The other split, (t,) int64.
        copies: The nearest row of that split, the lowest of several, (t,) int64.
        distances: To it, (t,) float32; where groups were given, the larger of their two distances to the centre.
    """

    splits: tuple[object, ...]
    sizes: np.ndarray
    rows: np.ndarray
    splits_of_rows: np.ndarray
    splits_of_copies: np.ndarray
    copies: np.ndarray
    distances: np.ndarray

    def counts(self) -> np.ndarray:
        """(s, s) int64: in line a, column b the rows of split a that have a copy in split b; 0 on the diagonal."""
        s = len(self.splits)
        return np.bincount(self.splits_of_rows * s + self.splits_of_copies, minlength=s * s).reshape(s, s)

    def shares(self) -> np.ndarray:
        """(s, s) float64: `counts`, as a share of the rows of split a."""
        return self.counts() / np.maximum(self.sizes, 1)[:, None]

    def rows_of(self, split: object, other: object | None = None) -> np.ndarray:
        """Rows of a split that have a copy in another, or in any, ascending int64.

        Raises:
            InputError: there is no such split.
        """
        chosen = self.splits_of_rows == self._position(split)
        if other is not None:
            chosen &= self.splits_of_copies == self._position(other)
        return np.unique(self.rows[chosen])

    def _position(self, split: object) -> int:
        if split not in self.splits:
            raise InputError(f"the splits are {', '.join(map(str, self.splits))}; there is no '{split}'")
        return self.splits.index(split)

    def __str__(self) -> str:
        counts, shares = self.counts(), self.shares()
        lines = [
            f"{counts[a, b]:,} of {self.sizes[a]:,} rows of '{split}' ({shares[a, b]:.2%}) have a copy in '{other}'"
            for a, split in enumerate(self.splits)
            for b, other in enumerate(self.splits)
            if a != b
        ]
        return "\n".join(lines)


def leaks(found: Pairs | Groups, splits: Sequence[object] | np.ndarray | Labels) -> Leaks:
    """Find the rows that have a copy in another split.

    Args:
        found: Pairs, each of which is a copy of the other, and all twins of each other (`Pairs.at` cuts them at a
            threshold); or groups, all members of which are copies of each other.
        splits: The split of every row, (n,), as `encode_labels` takes them. Rows without one take no part.

    Raises:
        InputError: fewer than two splits, or not one entry a row.
    """
    labels = encode_labels(splits)
    n, s = len(labels.codes), len(labels.classes)
    if s < 2:
        raise InputError(f"leaks are between splits, and there are {s} of them; say of each row which it belongs to")
    links = _links_of_groups(found) if isinstance(found, Groups) else _links_of_pairs(found)
    last = max((int(side.max(initial=-1)) for side in links[:2]), default=-1)
    if last >= n:
        raise InputError(f"splits must have one entry a row, got {n} and a row {last}")
    rows, others, copies, distances = _nearest_across(*links, labels.codes, s)
    return Leaks(
        splits=labels.classes,
        sizes=np.bincount(labels.codes[labels.labelled], minlength=s),
        rows=rows,
        splits_of_rows=labels.codes[rows],
        splits_of_copies=others,
        copies=copies,
        distances=distances,
    )


Links = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def _links_of_pairs(pairs: Pairs) -> Links:
    """Rows and the item each is of, its own distance within it; and which items are near, and how near."""
    twins = pairs.distance == 0
    firsts = np.unique(np.concatenate([pairs.first, pairs.second[~twins]]))
    rows = np.append(firsts, pairs.second[twins])
    items = np.append(firsts, pairs.first[twins])
    near = ~twins
    return rows, items, np.zeros(len(rows), np.float32), pairs.first[near], pairs.second[near], pairs.distance[near]


def _links_of_groups(groups: Groups) -> Links:
    none = np.empty(0, np.int64)
    items = groups.centers[groups.positions]
    return groups.rows, items, groups.distances, none, none, np.empty(0, np.float32)


def _nearest_across(
    rows: np.ndarray,
    items: np.ndarray,
    inside: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    apart: np.ndarray,
    codes: np.ndarray,
    s: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """For each row and other split with a copy: row, split, copy and distance."""
    has_split = codes[rows] >= 0
    rows, items, inside = rows[has_split], items[has_split], inside[has_split]
    # What each item has of each split: its nearest row, and how far that is from the item's centre.
    order = np.lexsort((rows, inside, codes[rows], items))
    held_item, held_split = items[order], codes[rows][order]
    lead = np.append(True, (held_item[1:] != held_item[:-1]) | (held_split[1:] != held_split[:-1]))[: len(order)]
    held_item, held_split = held_item[lead], held_split[lead]
    held_row, held_distance = rows[order][lead], inside[order][lead]
    # What each item can reach: its own, and what those near it have.
    source, target = np.concatenate([low, high]), np.concatenate([high, low])
    starts, ends = (np.searchsorted(held_item, target, side) for side in ("left", "right"))
    which, place = _ranges(starts, ends)
    reach_item = np.concatenate([held_item, source[which]])
    reach_split = np.concatenate([held_split, held_split[place]])
    reach_row = np.concatenate([held_row, held_row[place]])
    reach_distance = np.concatenate([held_distance, np.tile(apart, 2)[which]])
    order = np.lexsort((reach_row, reach_distance, reach_split, reach_item))
    item, split = reach_item[order], reach_split[order]
    order = order[np.append(True, (item[1:] != item[:-1]) | (split[1:] != split[:-1]))[: len(order)]]
    reach_item = reach_item[order]
    # Every row of an item reaches all that; what is of its own split is no leak.
    starts, ends = (np.searchsorted(reach_item, items, side) for side in ("left", "right"))
    which, place = _ranges(starts, ends)
    place = order[place]
    row, other = rows[which], reach_split[place]
    distance = np.maximum(inside[which], reach_distance[place])
    across = codes[row] != other
    row, other, copy, distance = row[across], other[across], reach_row[place][across], distance[across]
    order = np.lexsort((other, row))
    return row[order], other[order], copy[order], distance[order]


def _ranges(starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All numbers of several ranges, and which range each is of."""
    lengths = ends - starts
    which = np.repeat(np.arange(len(starts)), lengths)
    return which, np.arange(len(which)) - np.repeat(np.cumsum(lengths) - lengths, lengths) + starts[which]
