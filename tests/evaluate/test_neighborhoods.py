"""What neighbours say: by hand, in loops, and against purity measured elsewhere."""

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from imagescape.errors import InputError
from imagescape.evaluate import neighborhoods as neighborhoods_module
from imagescape.evaluate.metrics import purity_at
from imagescape.evaluate.neighborhoods import neighborhoods, weighted_vote


@pytest.fixture
def blobs():
    """Four overlapping clouds in six dimensions."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 300)
    return rng.normal(size=(4, 6))[labels] * 1.2 + rng.normal(size=(300, 6)), labels


def angles(*degrees):
    return np.column_stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))])


class TestPurity:
    def test_by_hand(self):
        # On a circle. The two nearest of 0 are 10 and 30, of 10 are 0 and 30, of 30 are 10 and 55, of 55 are 30 and 10.
        found = neighborhoods(
            angles(0, 10, 30, 55), classes=list("aabb"), clusters=np.array([0, 0, 0, -1]), ks=(1, 2, 5), device="cpu"
        )
        assert found.class_purity == {1: 3 / 4, 2: 1 / 2}
        assert found.cluster_purity == {1: 1, 2: pytest.approx(5 / 6)}
        assert (found.asked, found.rows, found.voters) == (4, 4, 3)

    def test_is_that_of_one_k_at_a_time(self, blobs):
        features, labels = blobs
        found = neighborhoods(features, classes=labels, clusters=labels, device="cpu")
        for k in (1, 5, 20):
            expected = purity_at(features, labels, k, device="cpu").value
            assert found.class_purity[k] == found.cluster_purity[k] == pytest.approx(expected)

    def test_rows_without_a_class_are_neither_asked_nor_found(self, blobs):
        features, labels = blobs
        some = [None if row % 3 == 0 else label for row, label in enumerate(labels.tolist())]
        keep = np.arange(300) % 3 != 0
        here = neighborhoods(features, classes=some, clusters=labels, device="cpu")
        there = neighborhoods(features[keep], classes=labels[keep], clusters=labels[keep], device="cpu")
        assert here == there
        assert here.rows == 200

    def test_noise_is_found_but_not_asked(self, blobs):
        features, labels = blobs
        clusters = np.where(np.arange(300) % 4 == 0, -1, labels)
        found = neighborhoods(features, clusters=clusters, ks=(5,), device="cpu")
        unit = features / np.linalg.norm(features, axis=1, keepdims=True)
        cosine = unit @ unit.T
        np.fill_diagonal(cosine, -2)
        nearest = np.argsort(-cosine, axis=1)[:, :5]
        shares = [(clusters[nearest[row]] == clusters[row]).mean() for row in range(300) if clusters[row] >= 0]
        assert found.cluster_purity[5] == pytest.approx(np.mean(shares))
        assert (found.class_purity, found.weighted_knn_accuracy) == ({}, None)

    def test_all_noise_has_no_purity(self, blobs):
        assert neighborhoods(blobs[0], clusters=np.full(300, -1), device="cpu").cluster_purity == {}

    def test_a_sample_is_asked_among_all(self, blobs):
        features, labels = blobs
        found = [neighborhoods(features, classes=labels, max_rows=50, seed=seed, device="cpu") for seed in (0, 0, 1)]
        assert (found[0].asked, found[0].rows) == (50, 300)
        assert found[0] == found[1]
        assert found[0] != found[2]
        assert found[0].class_purity[20] == pytest.approx(purity_at(features, labels, 20).value, abs=0.1)
        apart = np.eye(6)[labels] + features / 100
        sure = neighborhoods(apart, classes=labels, voters=20, max_rows=50, device="cpu")
        assert (sure.weighted_knn_accuracy, sure.class_purity[20]) == (1, 1)

    def test_what_cannot_be_asked(self, blobs):
        with pytest.raises(InputError, match="classes or clusters, got neither"):
            neighborhoods(blobs[0])
        with pytest.raises(InputError, match="classes must have one entry a row, got 2 for 300"):
            neighborhoods(blobs[0], classes=["a", "b"])
        with pytest.raises(InputError, match="at least 2 rows, got 1 with a class"):
            neighborhoods(blobs[0], classes=["a"] + [None] * 299)


class TestWeightedVote:
    def test_one_near_voter_outweighs_two_far_ones(self):
        codes, distances = np.array([[0, 1, 1]]), np.array([[0.0, 0.04, 0.06]])
        # 1 against exp(-.04 / T) + exp(-.06 / T), which is .59 at T = .04 and 1.77 at .4
        assert weighted_vote(codes, distances, 2, temperature=0.04).tolist() == [0]
        assert weighted_vote(codes, distances, 2, temperature=0.4).tolist() == [1]

    @pytest.mark.parametrize("entries", [8, 2**22], ids=["blocks", "whole"])
    def test_is_scikit_learns_with_these_weights(self, blobs, entries, monkeypatch):
        monkeypatch.setattr(neighborhoods_module, "_VOTE_ENTRIES", entries)
        features, labels = blobs
        found = neighborhoods(features, classes=labels, voters=30, device="cpu")
        right = 0
        for row in range(300):
            others = np.arange(300) != row
            judge = KNeighborsClassifier(
                30, weights=lambda d: np.exp((1 - d) / 0.07), metric="cosine", algorithm="brute"
            )
            right += judge.fit(features[others], labels[others]).predict(features[[row]])[0] == labels[row]
        assert found.weighted_knn_accuracy == pytest.approx(right / 300)
        assert 0.5 < right / 300 < 1

    def test_does_not_overflow(self):
        assert weighted_vote(np.array([[1, 0]]), np.array([[0.0, 0.1]]), 2, temperature=1e-4).tolist() == [1]

    def test_temperature(self):
        with pytest.raises(InputError, match="temperature must be above 0, got 0"):
            weighted_vote(np.zeros((1, 1), int), np.zeros((1, 1)), 1, temperature=0)
