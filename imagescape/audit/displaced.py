"""Displaced subgroups: a coherent clump of images of one label that lies inside of another label's region.

The flatfish of CIFAR-100 are an example: many of them are held by fishermen, and lie among the people. No single label
is wrong there. What is wrong is what a network will learn, and that shows only in the group.

Groups are found as DBSCAN finds clusters (Ester et al. 1996), in the graph of neighbours restricted to one label: an
image with enough neighbours of its label is a core, and cores that are neighbours make a group with all that is beside
them. Single wrong labels, however many, make none. So that a group is not joined to its label's main body by a chain of
images between, what is at home takes no part, and other images are neighbours only if the same other label is around
them; what is around an image is asked of what lies several steps away. Then each group is asked what it touches: whom
it counts among its neighbours, and who counts it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

from imagescape.audit.graph import checked
from imagescape.audit.label_doubts import vote_weights
from imagescape.cluster.members import Members
from imagescape.errors import InputError
from imagescape.evaluate.neighbors import Neighbors
from imagescape.evaluate.splits import Labels, encode_labels

_STEPS = 3  # along the graph, to what says in whose region an image lies


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class DisplacedSubgroup:
    """A clump of one label inside of another's region.

    Attributes:
        rows: Its images, those most surrounded by their own first, (m,) int64.
        label: That they have.
        host: The label in whose region they lie.
        host_share: Of the labelled images outside that touch the group (its images' neighbours, and those whose
            neighbours they are), the share with the host's label, in [0, 1].
        own_share: Of the labelled neighbours of its images, the share with their label, in (0, 1].
        label_share: Share of the label's images that are in the group, in (0, 1].
        center: The image with the most neighbours in the group.
    """

    rows: np.ndarray
    label: object
    host: object
    host_share: float
    own_share: float
    label_share: float
    center: int

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def score(self) -> float:
        """How coherent it is times how foreign, in [0, 1]: by it groups are ranked."""
        return self.host_share * self.own_share

    def __str__(self) -> str:
        return (
            f"{len(self):,} '{self.label}' among '{self.host}': {self.host_share:.0%} of the images they touch are "
            f"'{self.host}', and {self.own_share:.0%} of their nearest '{self.label}' "
            f"({self.label_share:.1%} of all '{self.label}')"
        )


@dataclass(frozen=True, slots=True, eq=False)
class DisplacedSubgroups:
    """All that were found, by score.

    Attributes:
        groups: The clearest first.
        labels: As given.
        min_size: Images a group has at least.
        host_share: Of what touches a group, the share that its host has at least.
    """

    groups: tuple[DisplacedSubgroup, ...]
    labels: Labels
    min_size: int
    host_share: float

    def at(self, *, min_size: int | None = None, host_share: float | None = None) -> Self:
        """Only the larger, or only those deeper inside of their host's region.

        Raises:
            InputError: less than was asked for when they were sought.
        """
        size = self.min_size if min_size is None else min_size
        share = self.host_share if host_share is None else host_share
        if size < self.min_size or share < self.host_share:
            raise InputError(
                f"groups were sought from {self.min_size} images and a share of {self.host_share:g}, and cannot be "
                f"cut at {size} and {share:g}; look for them again"
            )
        kept = tuple(one for one in self.groups if len(one) >= size and one.host_share >= share)
        return replace(self, groups=kept, min_size=size, host_share=share)

    def __len__(self) -> int:
        return len(self.groups)

    def as_dict(self) -> dict[str, object]:
        names = ("label", "host", "host_share", "own_share", "label_share", "center", "score")
        groups = [{"rows": one.rows.tolist(), **{name: getattr(one, name) for name in names}} for one in self.groups]
        return {"min_size": self.min_size, "host_share": self.host_share, "groups": groups}

    def __str__(self) -> str:
        images = sum(map(len, self.groups))
        lines = [f"{len(self):,} displaced subgroups of {self.min_size} images or more, {images:,} images"]
        lines += [f"  {one.score:.2f}  {one}" for one in self.groups[:10]]
        if len(self) > 10:
            lines.append(f"… and {len(self) - 10:,} more")
        return "\n".join(lines)


def displaced_subgroups(
    graph: Neighbors,
    labels: Sequence[object] | np.ndarray | Labels,
    *,
    min_size: int = 8,
    min_neighbors: int = 3,
    host_share: float = 0.5,
    k: int | None = None,
) -> DisplacedSubgroups:
    """Look for clumps of one label inside of another's region.

    Args:
        graph: Neighbours by the features, see `audit.graph.checked`; 15 are a good number.
        labels: (n,), as `encode_labels` takes them; None, NaN and -1 for none. Images without a label are passed over.
        min_size: Images of a group, at least.
        min_neighbors: Of an image's k nearest, those that must be of its label and in its region for it to be a core
            of a group.
        host_share: Of the labelled images that touch a group, the share that its host must have at least.
        k: Neighbours; as many as the graph has when None.

    Returns:
        Groups of at most half of their label's images: a label that lies among another as a whole is not displaced,
        that is where it lives. Of the host, at least half as many images as the group has (or k, if that is less)
        touch it: an island that one or two stray images touch lies in nobody's region.

    Raises:
        InputError: fewer than 2 classes, other lengths, a number out of range, or as `checked`.
    """
    encoded = encode_labels(labels)
    graph = checked(graph, k)
    n, k = graph.indices.shape
    _check(len(encoded.codes), n, len(encoded.classes), min_size, min_neighbors, host_share, k)
    codes, around = encoded.codes, _around(graph, encoded)
    rows, labelled = np.arange(n), codes >= 0
    at_home = labelled & (around.argmax(axis=1) == codes)
    around[rows[labelled], codes[labelled]] = -1
    asked = _Asked(graph, encoded, min_size, min_neighbors, host_share)
    # A dense clump answers for itself, and seems to be at home. What such clumps touch says better.
    for clump, _, _ in asked.groups(np.where(at_home, codes, -1)):
        at_home[clump] = False
    kind = np.where(labelled & ~at_home, codes * len(encoded.classes) + around.argmax(axis=1), -1)
    sizes = np.bincount(codes[labelled], minlength=len(encoded.classes))
    found = [
        DisplacedSubgroup(
            rows=group,
            label=encoded.classes[codes[group[0]]],
            host=encoded.classes[host],
            host_share=share,
            own_share=_own_share(graph, codes, group),
            label_share=len(group) / int(sizes[codes[group[0]]]),
            center=int(group[0]),
        )
        for group, host, share in asked.groups(kind)
    ]
    ranked = sorted(found, key=lambda one: (-one.score, -len(one), one.center))
    return DisplacedSubgroups(tuple(ranked), encoded, min_size, host_share)


def _check(labels: int, n: int, classes: int, min_size: int, min_neighbors: int, host_share: float, k: int) -> None:
    if labels != n:
        raise InputError(f"labels must have one entry a row, got {labels} for {n} rows")
    if classes < 2:
        raise InputError(f"a label lies in another's region only where there are 2, got {classes or 'no labels'}")
    if min_size < 2:
        raise InputError(f"min_size must be at least 2, got {min_size}")
    if not 1 <= min_neighbors <= k:
        raise InputError(f"min_neighbors must lie between 1 and the {k} neighbours there are, got {min_neighbors}")
    if not 0 < host_share <= 1:
        raise InputError(f"host_share must lie in (0, 1], got {host_share}")


def _around(graph: Neighbors, labels: Labels) -> np.ndarray:
    """The share of each label a few steps away from each image, (n, classes)."""
    n, k = graph.indices.shape
    weights = vote_weights(graph, labels.codes)
    walk = csr_array((weights.ravel(), np.maximum(graph.indices, 0).ravel(), np.arange(0, n * k + 1, k)), (n, n))
    around = np.zeros((n, len(labels.classes)), np.float32)
    around[labels.labelled, labels.codes[labels.labelled]] = 1
    for _ in range(_STEPS):
        around = walk @ around
    return around


@dataclass(frozen=True, slots=True)
class _Asked:
    """What groups must be."""

    graph: Neighbors
    labels: Labels
    min_size: int
    min_neighbors: int
    host_share: float

    def groups(self, kind: np.ndarray) -> Iterator[tuple[np.ndarray, int, float]]:
        """Groups of one kind each, -1 being none, that another label's images touch: images, host, its share."""
        group, inside = self._connected(kind)
        for rows, touched in zip(Members.of(group, allow_none=True), self._touching(group), strict=True):
            own = self.labels.codes[rows[0]]
            host = int(np.argmax(np.where(np.arange(len(touched)) == own, -1, touched)))
            share = touched[host] / max(touched.sum(), 1)
            if share >= self.host_share and touched[host] >= min(len(rows), self.graph.indices.shape[1]) / 2:
                yield rows[np.argsort(-inside[rows], kind="stable")], host, float(share)

    def _connected(self, kind: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The group of each image, numbered from 0, -1 for none; and its neighbours that are its kind, (n,) each."""
        indices, n = self.graph.indices, len(kind)
        alike = (indices >= 0) & (kind[indices] == kind[:, None]) & (kind >= 0)[:, None]
        inside = alike.sum(axis=1)
        core = inside >= self.min_neighbors
        of, column = np.nonzero(alike & core[:, None])
        to = indices[of, column]
        linked = core[to]  # an image that is no core joins a core beside it, and joins no two of them
        links = coo_array((np.ones(int(linked.sum()), np.int8), (of[linked], to[linked])), (n, n))
        group = np.where(core, connected_components(links, directed=False)[1], -1)
        group[to[~linked]] = group[of[~linked]]
        _, firsts, members, sizes = np.unique(group, return_index=True, return_inverse=True, return_counts=True)
        codes = self.labels.codes
        most = np.bincount(codes[codes >= 0], minlength=len(self.labels.classes)) / 2
        fits = (group[firsts] >= 0) & (sizes >= self.min_size) & (sizes <= most[codes[firsts]])
        return np.where(fits, np.cumsum(fits) - 1, -1)[members], inside

    def _touching(self, group: np.ndarray) -> np.ndarray:
        """Images of each label that are a group's neighbours, or have a neighbour in it: (groups, classes)."""
        n, classes, count = len(group), len(self.labels.classes), int(group.max(initial=-1)) + 1
        there = self.graph.indices >= 0
        of, to = np.broadcast_to(np.arange(n)[:, None], there.shape)[there], self.graph.indices[there]
        apart = group[of] != group[to]
        of, to = of[apart], to[apart]
        sides = [(group[of], to), (group[to], of)]
        touched, row = np.divmod(
            np.unique(np.concatenate([mine[mine >= 0] * n + row[mine >= 0] for mine, row in sides])), n
        )
        told = self.labels.codes[row] >= 0
        flat = touched[told] * classes + self.labels.codes[row[told]]
        return np.bincount(flat, minlength=count * classes).reshape(count, classes)


def _own_share(graph: Neighbors, codes: np.ndarray, rows: np.ndarray) -> float:
    """Of the labelled neighbours of rows of one label, the share that has it."""
    told = codes[graph.indices[rows]][graph.indices[rows] >= 0]
    return float((told == codes[rows[0]]).sum() / max((told >= 0).sum(), 1))
