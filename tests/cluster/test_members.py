"""Rows by cluster, whatever the labels are called."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from imagescape.cluster import members as members_module
from imagescape.cluster.members import Members
from imagescape.errors import InputError


def test_labels_from_one_with_gaps_and_noise():
    members = Members.of(np.array([7, -1, 3, 7, 1, -1, 7]))
    assert members.clusters.tolist() == [1, 3, 7]
    assert members.sizes.tolist() == [1, 1, 3]
    assert [members[i].tolist() for i in range(3)] == [[4], [2], [0, 3, 6]]
    assert members.positions.tolist() == [0, 1, 2, 2, 2]
    assert members.noise == 2


@pytest.mark.parametrize("numbers", [6, 2**22], ids=["blocks", "whole"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_centroids_and_radii_against_loops(numbers, dtype, monkeypatch):
    monkeypatch.setattr(members_module, "_BLOCK_NUMBERS", numbers)
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(40, 3)).astype(dtype) + 50, rng.integers(-1, 6, 40)
    labels[labels == 2] = 3
    members = Members.of(labels)
    centroids = members.centroids(features)
    radii = members.radii(features, centroids)
    for row, cluster in enumerate(members.clusters):
        own = features[labels == cluster].astype(np.float64)
        assert_allclose(centroids[row], own.mean(axis=0))
        expected = np.sqrt(((own - own.mean(axis=0)) ** 2).sum(axis=1))
        assert_allclose(radii[members.positions == row], expected)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([-1, -1], "at least one cluster, and all of its 2 rows are noise"),
        ([], "at least one cluster, and all of its 0 rows"),
        ([0, -2], "0 or more, or -1 for noise, got -2"),
        ([0.0, 1.0], "one whole number a row, got float64"),
        ([[0, 1]], r"one whole number a row, got int64 of shape \(1, 2\)"),
    ],
    ids=str,
)
def test_labels_that_are_none(labels, message):
    with pytest.raises(InputError, match=message):
        Members.of(np.array(labels, dtype=None if labels else np.int64))


def test_features_that_do_not_fit():
    members = Members.of(np.array([0, -1, 1]))
    with pytest.raises(InputError, match=r"a row a label, got shape \(2, 2\) for 3 labels"):
        members.centroids(np.zeros((2, 2)))
    with pytest.raises(InputError, match="must be finite, row 2 is not"):
        members.centroids(np.array([[0.0], [0.0], [np.inf]]))
    assert members.centroids(np.array([[0.0], [np.nan], [4.0]])).tolist() == [[0], [4]]  # noise may be anything
