"""Labels as numbers, and which labelled rows teach and which are tested."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from imagescape.errors import InputError

UNLABELLED = -1


@dataclass(frozen=True, slots=True)
class Labels:
    """A column of classes as codes.

    Attributes:
        codes: (n,) int64: a position in `classes`, or -1 where the row has no label.
        classes: The distinct labels, sorted: numbers by value, anything else by its text.
    """

    codes: np.ndarray
    classes: tuple[object, ...]

    @property
    def labelled(self) -> np.ndarray:
        """Rows that have a label, ascending int64."""
        return np.flatnonzero(self.codes >= 0)

    @property
    def unlabelled_count(self) -> int:
        return int((self.codes < 0).sum())


def encode_labels(labels: Sequence[object] | np.ndarray | Labels) -> Labels:
    """Number the classes of a column of integers, strings or booleans.

    None, NaN, an empty text and the integer -1 (the mark of noise in clusterings) mean "no label".

    >>> encode_labels(["dog", None, "cat"]).codes.tolist()
    [1, -1, 0]
    """
    if isinstance(labels, Labels):
        return labels
    if isinstance(labels, np.ndarray) and np.issubdtype(labels.dtype, np.integer):  # without a step of Python a row
        whole, inverse = np.unique(labels[labels != UNLABELLED], return_inverse=True)
        numbered = np.full(len(labels), UNLABELLED, np.int64)
        numbered[labels != UNLABELLED] = inverse
        return Labels(numbered, tuple(whole.tolist()))
    values = np.asarray(labels).tolist() if isinstance(labels, np.ndarray) else list(labels)
    present = {value for value in values if not _is_missing(value)}
    numeric = all(isinstance(value, (int, float)) for value in present)
    classes = sorted(present) if numeric else sorted(present, key=lambda value: (str(value), repr(value)))  # type: ignore[type-var]
    position = {value: code for code, value in enumerate(classes)}
    codes = [UNLABELLED if _is_missing(value) else position[value] for value in values]
    return Labels(np.array(codes, dtype=np.int64), tuple(classes))


def _is_missing(value: object) -> bool:
    if isinstance(value, float) and math.isnan(value):
        return True
    return value is None or value == "" or (value == UNLABELLED and not isinstance(value, bool))


@dataclass(frozen=True, slots=True)
class Split:
    """Rows to learn from and rows to be tested on: two int64 arrays without a common row."""

    train_index: np.ndarray
    test_index: np.ndarray

    def __post_init__(self) -> None:
        if not len(self.train_index) or not len(self.test_index):
            raise InputError(
                f"a split needs rows on both sides, got {len(self.train_index)} to learn from "
                f"and {len(self.test_index)} to test"
            )

    def keeping(self, keep: np.ndarray) -> "Split":
        """The same split without the rows where the mask `keep` (n,) is False."""
        return Split(self.train_index[keep[self.train_index]], self.test_index[keep[self.test_index]])


def stratified_split(
    labels: Sequence[object] | np.ndarray | Labels, *, test_rows: int | None = None, seed: int = 0
) -> Split:
    """A random split with the same class shares on both sides; unlabelled rows are on neither.

    Args:
        labels: (n,), as `encode_labels` takes them.
        test_rows: Rows to test on; by default 10,000, or a fifth of the labelled rows if that is fewer
            (the protocol of Boehm et al. 2023, arXiv:2210.09879: 10,000 of CIFAR's 60,000).
        seed: Names the split.

    Returns:
        Both sides ascending. Each class gives its share rounded down or up; a class of one row teaches only.

    Raises:
        InputError: nothing to split, or `test_rows` leaves no row on one side.
    """
    labels = encode_labels(labels)
    counts = np.bincount(labels.codes[labels.labelled], minlength=len(labels.classes))
    total = int(counts.sum())
    test_rows = min(10_000, round(total / 5)) if test_rows is None else test_rows
    if not 0 < test_rows < total:
        raise InputError(
            f"test_rows must lie between 1 and {total - 1} (one less than the labelled rows), got {test_rows}"
        )
    share = counts * (test_rows / total)
    quota = np.floor(share).astype(np.int64)
    # Largest remainder, so that the quotas add up; the larger class first among equals.
    for code in np.lexsort((-counts, quota - share))[: test_rows - int(quota.sum())]:
        quota[code] += 1
    quota = np.minimum(quota, np.maximum(counts - 1, 0))
    generator = np.random.default_rng(seed)
    test = [
        generator.permutation(np.flatnonzero(labels.codes == code))[: quota[code]]
        for code in range(len(labels.classes))
    ]
    test_index = np.sort(np.concatenate(test)).astype(np.int64)
    return Split(np.setdiff1d(labels.labelled, test_index), test_index)


def official_split(split_names: Sequence[str | None] | np.ndarray) -> Split:
    """The split a data set came with: rows called "test" against all others.

    Raises:
        InputError: no row, or every row, is called "test".
    """
    is_test = np.array([name == "test" for name in split_names], dtype=bool)
    if not is_test.any() or is_test.all():
        seen = sorted({str(name) for name in split_names})[:8]
        raise InputError(f"an official split needs rows called 'test' and others, got {', '.join(seen) or 'no rows'}")
    return Split(np.flatnonzero(~is_test), np.flatnonzero(is_test))
