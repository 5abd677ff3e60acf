"""Clusters that anyone would see, to be found."""

import numpy as np


def blobs(sizes, *, d=5, apart=20.0, seed=0):
    """Rows (n, d) float32 of round clusters of deviation 1 whose centres are `apart` or more, shuffled; and which."""
    rng = np.random.default_rng(seed)
    centres = np.zeros((len(sizes), d))
    for number in range(len(sizes)):
        centres[number, number % d] = apart * (1 + number // d)
    labels = np.repeat(np.arange(len(sizes)), sizes)
    rows = centres[labels] + rng.normal(0, 1, (len(labels), d))
    order = rng.permutation(len(labels))
    return rows[order].astype(np.float32), labels[order]


def same_partition(a, b):
    """Whether two labellings part the rows alike, whatever their numbers; -1 must be the same rows."""
    a, b = np.asarray(a), np.asarray(b)
    pairs = set(zip(a.tolist(), b.tolist(), strict=True))
    return len(pairs) == len(set(a.tolist())) == len(set(b.tolist())) and np.array_equal(a < 0, b < 0)
