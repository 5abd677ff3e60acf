"""Groups of rows that belong together, each about a centre; and those that are equal, by any key."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from PIL import Image

from imagescape.errors import InputError

_FORM = "{shape} {mode} {dtype}\n"
_MODES = {(): "L", (3,): "RGB", (4,): "RGBA"}


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Groups:
    """Groups of at least two rows; a row is in one at most. The largest group comes first, equal ones by centre.

    Attributes:
        rows: (m,) int64: group by group, its centre first, the others by distance, equally far ones by row.
        starts: Where each group begins in `rows`, and the end of the last, (g + 1,) int64.
        distances: Of each of `rows` to the centre of its group, (m,) float32, 0 for the centre itself.
        count: Rows that were looked at, n.
    """

    rows: np.ndarray
    starts: np.ndarray
    distances: np.ndarray
    count: int

    @classmethod
    def of(cls, rows: np.ndarray, centers: np.ndarray, distances: np.ndarray, count: int) -> Self:
        """Sort members into groups by the row that is their centre; groups of one are left out.

        Args:
            rows: Members, (m,) integers, each once; a centre is among them.
            centers: The centre of each, (m,).
            distances: Of each to its centre, (m,), 0 for a centre.
            count: Rows there are.
        """
        rows, centers = np.asarray(rows, np.int64), np.asarray(centers, np.int64)
        sizes = np.bincount(centers, minlength=count)[centers] if len(rows) else np.empty(0, np.int64)
        many = sizes > 1
        rows, centers, sizes, distances = (one[many] for one in (rows, centers, sizes, np.asarray(distances)))
        order = np.lexsort((rows, distances, rows != centers, centers, -sizes))
        centers = centers[order]
        starts = np.flatnonzero(np.append(True, centers[1:] != centers[:-1])[: len(centers)])
        return cls(
            rows=rows[order],
            starts=np.append(starts, len(order)).astype(np.int64),
            distances=distances[order].astype(np.float32),
            count=int(count),
        )

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, position: int) -> np.ndarray:
        """Rows of a group, its centre first."""
        if not -len(self) <= position < len(self):
            raise IndexError(f"there are {len(self)} groups, got position {position}")
        position %= len(self)
        return self.rows[self.starts[position] : self.starts[position + 1]]

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[position] for position in range(len(self)))

    @property
    def sizes(self) -> np.ndarray:
        """Rows of each group, (g,) int64, falling."""
        return np.diff(self.starts)

    @property
    def centers(self) -> np.ndarray:
        """The centre of each group, (g,) int64."""
        return self.rows[self.starts[:-1]]

    @property
    def positions(self) -> np.ndarray:
        """The group of each of `rows`, (m,) int64."""
        return np.repeat(np.arange(len(self)), self.sizes)

    def labels(self) -> np.ndarray:
        """The group of every row, (n,) int64, -1 where it is in none."""
        labels = np.full(self.count, -1, np.int64)
        labels[self.rows] = self.positions
        return labels

    def __str__(self) -> str:
        if not len(self):
            return f"no groups among {self.count:,} rows"
        return (
            f"{len(self):,} groups of {len(self.rows):,} of {self.count:,} rows; the largest has {self.sizes[0]:,}; "
            f"{len(self.rows) - len(self):,} rows are more than one of each"
        )


def exact_groups(keys: Sequence[Any] | np.ndarray) -> Groups:
    """Rows with equal keys, such as the SHA-256 of their files or what `pixel_key` says of their pixels.

    Args:
        keys: One for each row: bytes, text or numbers, None or an empty one where there is none; or (n, d) of any
            dtype, a row a key.

    Returns:
        The centre of a group is its lowest row; distances are 0.

    Raises:
        InputError: keys that cannot be told apart, such as lists.
    """
    if isinstance(keys, np.ndarray) and keys.ndim > 1:
        keys = [row.tobytes() for row in keys]
    elif isinstance(keys, np.ndarray):
        keys = keys.tolist()
    firsts: dict[Any, int] = {}
    try:
        centers = np.array([firsts.setdefault(key, row) for row, key in enumerate(keys)], np.int64)
    except TypeError as error:
        raise InputError(f"keys must be bytes, text or numbers, one a row: {error}") from error
    there = np.array([key is not None and key not in (b"", "") for key in keys], bool)
    rows = np.flatnonzero(there)
    return Groups.of(rows, centers[there], np.zeros(len(rows)), len(keys))


def pixel_key(image: Image.Image | np.ndarray) -> bytes:
    """SHA-256 of an image's pixels, its size and mode: equal for the same picture in files that differ.

    Args:
        image: A Pillow image as it was decoded, of which a palette counts by its colours; or an array of pixels
            (h, w), (h, w, 3) or (h, w, 4), which if uint8 is the same as a Pillow image of mode L, RGB or RGBA.

    Returns:
        32 bytes.
    """
    if not isinstance(image, Image.Image):
        mode = _MODES.get(image.shape[2:], "") if image.dtype == np.uint8 else ""
    else:
        mode = image.mode
        if mode in ("P", "PA"):
            image = image.convert("RGBA")
        elif "transparency" in image.info:
            mode += f" {image.info['transparency']}"
        image = np.asarray(image)
    digest = hashlib.sha256(_FORM.format(shape=image.shape, mode=mode, dtype=image.dtype.str).encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.digest()
