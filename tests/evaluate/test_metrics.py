"""Figures against scikit-learn, loops, and values worked by hand."""

from collections import Counter

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import silhouette_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from imagescape.errors import InputError
from imagescape.evaluate import metrics
from imagescape.evaluate.metrics import (
    family_recall,
    knn_accuracies,
    knn_accuracy,
    knn_recall,
    linear_probe,
    majority,
    purity_at,
    silhouette,
)
from imagescape.evaluate.splits import Split, stratified_split


@pytest.fixture
def blobs():
    """Four overlapping clouds in six dimensions."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 300)
    return rng.normal(size=(4, 6))[labels] * 1.2 + rng.normal(size=(300, 6)), labels


class TestKnnAccuracy:
    def test_odd_k_two_classes_is_scikit_learns(self, blobs):
        x, labels = blobs
        labels = labels % 2
        split = stratified_split(labels)
        judge = KNeighborsClassifier(7).fit(x[split.train_index], labels[split.train_index])
        expected = judge.score(x[split.test_index], labels[split.test_index])
        assert float(knn_accuracy(x, labels, k=7, split=split)) == pytest.approx(expected)
        assert 0.5 < expected < 1

    def test_several_ks_from_one_search_are_the_single_ones(self, blobs):
        x, labels = blobs
        split = stratified_split(labels)
        both = knn_accuracies(x, labels, ks=(15, 5), split=split)
        assert both == {k: knn_accuracy(x, labels, k=k, split=split) for k in (15, 5)}

    def test_a_tie_goes_to_the_nearer_voters(self):
        x = np.array([[0.0], [1.0], [5.0], [-2.0], [-3.0]])
        split = Split(np.arange(1, 5), np.array([0]))
        assert knn_accuracy(x, [1, 0, 0, 1, 1], k=4, split=split).value == 1.0  # 2:2, mean distance 3 against 2.5
        assert knn_accuracy(x, [0, 0, 0, 1, 1], k=4, split=split).value == 0.0

    def test_unlabelled_rows_neither_vote_nor_count(self):
        x = np.array([[0.0], [0.1], [1.0], [2.0], [0.05]])
        score = knn_accuracy(x, ["a", None, "a", "b", None], k=1, split=Split(np.array([1, 2, 3]), np.array([0, 4])))
        assert (score.value, score.rows, score.unlabelled) == (1.0, 1, 2)

    def test_needs_a_label_a_row(self):
        with pytest.raises(InputError, match="got 2 for 3 rows"):
            knn_accuracy(np.zeros((3, 2)), [0, 1], split=Split(np.array([0]), np.array([1])))


@pytest.mark.parametrize("entries", [8, 2**22], ids=["blocks", "whole"])
def test_majority_against_counting(entries, monkeypatch):
    monkeypatch.setattr(metrics, "_VOTE_ENTRIES", entries)
    rng = np.random.default_rng(1)
    codes, distances = rng.integers(0, 4, (50, 6)), rng.random((50, 6))
    for row, elected in enumerate(majority(codes, distances, 4)):
        votes = Counter(codes[row].tolist())
        most = max(votes.values())
        mean = {c: distances[row][codes[row] == c].mean() for c, count in votes.items() if count == most}
        assert elected == min(mean, key=mean.get)


class TestLinearProbe:
    def test_is_scikit_learns_logistic_regression(self, blobs):
        x, labels = blobs
        x = x * [1e-3, 1e-3, 1e-3, 1, 1e-3, 1e-3]  # standardising undoes what the penalty would punish
        split = stratified_split(labels, test_rows=120)
        scale = StandardScaler().fit(x[split.train_index])
        judge = LogisticRegression(max_iter=1000).fit(scale.transform(x[split.train_index]), labels[split.train_index])
        expected = judge.score(scale.transform(x[split.test_index]), labels[split.test_index])
        assert linear_probe(x, labels, split).value == pytest.approx(expected, abs=1.01 / 120)
        assert 0.4 < expected < 1

    def test_a_constant_feature_does_no_harm(self, blobs):
        x, labels = blobs
        split = stratified_split(labels)
        with_constant = np.concatenate([x, np.full((300, 1), 7.0)], axis=1)
        assert linear_probe(with_constant, labels, split).value == pytest.approx(linear_probe(x, labels, split).value)

    def test_shuffled_labels_are_chance(self, blobs):
        x, labels = blobs
        shuffled = np.random.default_rng(0).permutation(labels)
        assert linear_probe(x, shuffled, stratified_split(shuffled)).value < 0.45


class TestSilhouette:
    def test_is_scikit_learns_over_labelled_rows(self, blobs):
        x, labels = blobs
        with_gaps = [None if row % 7 == 0 else int(label) for row, label in enumerate(labels)]
        keep = np.arange(300) % 7 != 0
        score = silhouette(x, with_gaps)
        assert score.value == pytest.approx(silhouette_score(x[keep], labels[keep]), abs=1e-6)
        assert (score.rows, score.unlabelled) == (keep.sum(), 300 - keep.sum())

    def test_a_sample_is_near_the_whole_and_repeatable(self, blobs):
        x, labels = blobs
        assert silhouette(x, labels, max_rows=200).rows == 200
        assert silhouette(x, labels, max_rows=200) == silhouette(x, labels, max_rows=200)
        assert silhouette(x, labels, max_rows=200).value == pytest.approx(silhouette(x, labels).value, abs=0.05)

    def test_one_class_is_refused(self):
        with pytest.raises(InputError, match=r"2 classes or more.*got 1 in 5 rows"):
            silhouette(np.zeros((5, 2)), [0] * 5)


class TestKnnRecall:
    def test_a_faithful_map_keeps_all(self):
        coords = np.random.default_rng(0).normal(size=(80, 2))
        turned = coords @ [[0.6, -0.8], [0.8, 0.6]] * 3 + 5
        features = np.concatenate([turned, np.zeros((80, 9))], axis=1)
        assert knn_recall(features, coords, 10).value == 1.0

    def test_against_loops(self, blobs):
        x, _ = blobs
        coords = x[:, :2]

        def near(points, row):
            return set(
                sorted((o for o in range(300) if o != row), key=lambda o: np.linalg.norm(points[o] - points[row]))[:8]
            )

        expected = np.mean([len(near(x, row) & near(coords, row)) / 8 for row in range(300)])
        assert knn_recall(x, coords, 8).value == pytest.approx(expected)

    def test_shuffled_rows_are_chance(self, blobs):
        x, _ = blobs
        assert knn_recall(x, np.random.default_rng(0).permutation(x)[:, :2], 15).value < 0.1

    def test_needs_the_same_rows(self):
        with pytest.raises(InputError, match="got 3 and 4"):
            knn_recall(np.zeros((3, 2)), np.zeros((4, 2)), 1)


class TestGroups:
    X = np.array([[0.0], [1.0], [2.1], [10.0], [11.0], [12.1], [2.0]])
    GROUPS = ("a", "a", "b", "b", "b", "b", None)

    def test_purity_by_hand(self):
        # rows 0..5 without the last; two nearest: 0:{1,2} 1:{0,2} 2:{1,0} 3:{4,5} 4:{3,5} 5:{4,3}
        score = purity_at(self.X, self.GROUPS, 2, metric="euclidean")
        assert score.per_group == {"a": 0.5, "b": 0.75}
        assert score.value == pytest.approx((0.5 * 2 + 0.75 * 4) / 6)
        assert (score.rows, score.unlabelled) == (6, 1)

    def test_family_recall_by_hand(self):
        # the row without a family lies in the way: 1 finds it never (0 is nearer or equal), 2 finds it first
        families = [1, 1, 2, 2, 3, None, None]
        score = family_recall(self.X, families, 1, metric="euclidean")
        # nearest: 0 -> 1 yes; 1 -> 0 or 6, both 1 apart: the lower row; 2 -> 6 no; 3 -> 4 no; 4 has no sibling
        assert (score.value, score.rows, score.unlabelled) == (0.5, 4, 2)

    def test_family_recall_counts_at_most_k_siblings(self):
        families = ["f"] * 4 + [None] * 3
        x = np.array([[0.0], [1.0], [2.0], [3.0], [50.0], [51.0], [52.0]])
        assert family_recall(x, families, 2, metric="euclidean").value == 1.0
        assert family_recall(x, families, 6, metric="euclidean").value == 1.0

    def test_direction_is_what_counts_by_default(self):
        x = np.array([[1.0, 0], [9.0, 0], [0, 1.0], [0, 9.0]])
        assert family_recall(x, [0, 0, 1, 1], 1).value == 1.0
        assert purity_at(x, [0, 0, 1, 1], 1).value == 1.0

    def test_no_siblings_at_all(self):
        with pytest.raises(InputError, match="at least two rows of one family"):
            family_recall(np.zeros((3, 2)), ["a", "b", None])
