"""Images that show a cluster: by hand, against loops, and wherever the origin lies."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from imagescape.cluster.prototypes import Shown, show_clusters
from imagescape.errors import InputError


def check_against_loops(vectors, labels, count, shown):
    """Where two rows are equally near, rounding decides: what must be right is how near they are."""
    means = {k: vectors[labels == k].mean(0) for k in sorted(set(labels.tolist()) - {-1})}
    assert [one.cluster for one in shown] == list(means)
    for one in shown:
        rows = np.flatnonzero(labels == one.cluster)
        own = {i: np.linalg.norm(vectors[i] - means[one.cluster]) for i in rows.tolist()}
        others = [mean for k, mean in means.items() if k != one.cluster]
        gap = {i: min(np.linalg.norm(vectors[i] - mean) for mean in others) - own[i] for i in own} if others else {}
        for chosen, measure in ((one.prototypes, own), (one.boundary, gap)):
            assert len(set(chosen)) == len(chosen) == min(count, len(measure))
            assert_allclose([measure[i] for i in chosen], sorted(measure.values())[:count], atol=1e-4)


def test_by_hand():
    """Two clusters on a line: 0 1 5 with centroid 2, and 8 10 with centroid 9; 100 is noise."""
    vectors = np.array([[0.0], [1.0], [5.0], [10.0], [8.0], [100.0]])
    first, second = show_clusters(vectors, np.array([3, 3, 3, 7, 7, -1]), count=2)
    assert first == Shown(3, (1, 0), (2, 0))  # 1 and 2 from the centroid; 5 is 3 from its own and 4 from the other
    assert second == Shown(7, (3, 4), (4, 3))  # equally near ones by row; 8 is nearer to the other


@settings(max_examples=30)
@given(st.integers(2, 40), st.integers(1, 5), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_against_loops(n, clusters, count, seed):
    rng = np.random.default_rng(seed)
    vectors, labels = rng.normal(size=(n, 3)), rng.integers(-1, clusters, n)
    check_against_loops(vectors, labels, count, show_clusters(vectors, labels, count))


def test_far_from_the_origin_and_block_by_block(monkeypatch):
    rng = np.random.default_rng(0)
    vectors, labels = rng.normal(size=(200, 4)), rng.integers(0, 5, 200)
    expected = show_clusters(vectors, labels)
    assert show_clusters(vectors + 5000, labels) == expected
    monkeypatch.setattr("imagescape.cluster.prototypes._BLOCK_ENTRIES", 15)
    assert show_clusters(vectors, labels) == expected


def test_nothing_but_noise_shows_nothing():
    assert show_clusters(np.eye(3), np.full(3, -1)) == ()


def test_one_cluster_has_no_border():
    (shown,) = show_clusters(np.eye(3), np.zeros(3, int))
    assert shown.boundary == ()
    assert len(shown.prototypes) == 3


@pytest.mark.parametrize(
    ("vectors", "labels", "message"),
    [
        (np.eye(3), np.zeros(2, int), r"vectors \(n, d\) and labels \(n,\) must fit, got \(3, 3\) and \(2,\)"),
        (np.array([[1.0], [np.nan]]), np.zeros(2, int), "row 1 is not"),
    ],
)
def test_refused(vectors, labels, message):
    with pytest.raises(InputError, match=message):
        show_clusters(vectors, labels)
