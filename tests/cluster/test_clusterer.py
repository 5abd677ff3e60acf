"""Rows as clusterings take them, and how clusters are numbered."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal

from imagescape.cluster.centroids import Centroids
from imagescape.cluster.estimator import by_size, compact, numbered_by_size, prepared
from imagescape.errors import InputError
from tests.cluster.blobs import same_partition


def test_clusters_are_numbered_by_size_then_by_first_row():
    labels = np.array([5, 9, 9, -1, 2, 2, 9, 5])
    assert by_size(labels).tolist() == [9, 5, 2]
    assert numbered_by_size(labels).tolist() == [1, 0, 0, -1, 2, 2, 0, 1]


def test_weights_count_as_rows():
    assert numbered_by_size(np.array([0, 1, 1]), np.array([10, 4, 5])).tolist() == [0, 1, 1]
    assert numbered_by_size(np.array([0, 1, 1]), np.array([8, 4, 5])).tolist() == [1, 0, 0]


def test_noise_alone_stays_noise():
    assert numbered_by_size(np.array([-1, -1])).tolist() == [-1, -1]


@given(arrays(np.int64, st.integers(1, 40), elements=st.integers(-1, 6)))
def test_numbering_keeps_the_partition_and_sorts_sizes(labels):
    numbered = numbered_by_size(labels)
    assert same_partition(labels, numbered)
    sizes = np.bincount(numbered[numbered >= 0])
    assert (sizes > 0).all()
    assert (np.diff(sizes) <= 0).all()
    assert_array_equal(numbered_by_size(numbered), numbered)


def test_squared_distances_of_prepared_rows_are_those_of_the_metric():
    rng = np.random.default_rng(0)
    rows = rng.normal(2, 1, (6, 4))
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def squares(x):
        return np.square(x[:, None] - x[None]).sum(2)

    assert_allclose(squares(prepared(rows, "euclidean")), squares(rows), rtol=1e-4, atol=1e-5)
    assert_allclose(squares(prepared(rows, "cosine")) / 2, 1 - unit @ unit.T, atol=1e-6)
    packed = rng.integers(0, 256, (6, 3), dtype=np.uint8)
    bits = [[sum((int(x) ^ int(y)).bit_count() for x, y in zip(a, b, strict=True)) for b in packed] for a in packed]
    assert_array_equal(squares(prepared(packed, "hamming")), bits)


@pytest.mark.parametrize(
    ("rows", "metric", "message"),
    [
        ([[1.0, np.nan]], "euclidean", "features must be finite, row 0 is not; leave such rows out"),
        ([[1.0, 2.0], [1.0, np.inf]], "cosine", "row 1 is not"),
        ([[1.0, 2.0], [0.0, 0.0]], "cosine", "row 1 is all zeros and has no direction"),
        ([1.0, 2.0], "euclidean", "matrix of features"),
        ([[1.0, 2.0]], "hamming", "packed in bytes"),
    ],
)
def test_bad_rows_are_refused(rows, metric, message):
    with pytest.raises(InputError, match=message):
        prepared(np.array(rows), metric)


def test_another_width_is_refused():
    with pytest.raises(InputError, match="of 3 features a row, got 2"):
        prepared(np.ones((4, 2)), "euclidean", width=3)


def test_halves_are_kept_as_halves_only_where_nothing_is_lost():
    assert compact(np.array([[0.5, 1.0]], np.float32)).dtype == np.float16
    assert compact(np.array([[0.1, 1.0]], np.float32)).dtype == np.float32


class TestCentroids:
    def test_memberships_worked_by_hand(self):
        # Rows at 0, 2 (mean 1, squares 1 + 1) and 10: spread (1 + 1 + 0) / 3.
        rows = np.array([[0.0], [2.0], [10.0]], np.float32)
        centroids = Centroids.of(rows, np.array([0, 0, 1]))
        assert_allclose(centroids.vectors, [[1.0], [10.0]])
        assert centroids.spread == pytest.approx(2 / 3)
        logits = -np.square(np.array([[0.0]]) - [[1.0, 10.0]]) / (2 * 2 / 3)
        assert_allclose(centroids.memberships(rows[:1])[0], np.exp(logits[0]) / np.exp(logits).sum(), rtol=1e-5)

    def test_memberships_sum_to_one_and_name_the_nearest(self):
        rng = np.random.default_rng(0)
        rows, vectors = rng.normal(1000, 1, (50, 3)).astype(np.float32), rng.normal(1000, 1, (4, 3)).astype(np.float32)
        centroids = Centroids(vectors, 0.5)
        shares = centroids.memberships(rows)
        apart = np.square(rows[:, None].astype(float) - vectors[None]).sum(2)
        labels, squares = centroids.nearest(rows)
        assert_allclose(shares.sum(1), 1, rtol=1e-5)
        assert_array_equal(shares.argmax(1), apart.argmin(1))
        assert_array_equal(labels, apart.argmin(1))
        assert_allclose(squares, apart.min(1), rtol=1e-3, atol=1e-4)
        assert_allclose(centroids.membership_of(rows, labels), shares.max(1))

    def test_noise_belongs_to_no_cluster(self):
        rows = np.array([[0.0], [2.0], [90.0]], np.float32)
        centroids = Centroids.of(rows, np.array([0, 1, -1]))
        assert_allclose(centroids.vectors, [[0.0], [2.0]])
        assert centroids.membership_of(rows, np.array([0, 1, -1]))[2] == 0
