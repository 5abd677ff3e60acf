"""Clusters beside classes: worked by hand, with k too small and too large, and against trying every assignment."""

from itertools import permutations
from math import exp, log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics
from sklearn.cluster import AgglomerativeClustering

from imagescape.errors import InputError
from imagescape.evaluate.clusterings import effective_k, partition_of, score_clustering

# Five blobs of four points, well apart, in two pairs and one alone.
DIAMOND = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
BLOBS = np.concatenate([np.array(center) + DIAMOND for center in ((0, 0), (0, 10), (100, 0), (100, 10), (50, 100))])
CLASSES = np.repeat(["ash", "beech", "cedar", "date", "elm"], 4)


def accuracy_by_trying(labels, classes):
    """The best share of rows over all ways to give each cluster a class of its own."""
    clusters, names = sorted(set(labels.tolist()) - {-1}), sorted(set(classes.tolist()))
    names += [None] * max(0, len(clusters) - len(names))
    best = 0
    for chosen in permutations(names, len(clusters)):
        stands_for = dict(zip(clusters, chosen, strict=True))
        best = max(
            best, sum(stands_for.get(a, "noise") == b for a, b in zip(labels.tolist(), classes.tolist(), strict=True))
        )
    return best / len(labels)


class TestBlobs:
    def test_k_right(self):
        scores = score_clustering(AgglomerativeClustering(5).fit_predict(BLOBS), CLASSES)
        figures = scores.figures()
        for name in (
            "acc",
            "majority_acc",
            "nmi",
            "ami",
            "ari",
            "homogeneity",
            "completeness",
            "v_measure",
            "coverage",
        ):
            assert figures[name] == pytest.approx(1), name
        assert figures["effective_k"] == pytest.approx(5)

    def test_two_clusters_too_few(self):
        """Both pairs are one cluster each: 8, 8 and 4."""
        scores = score_clustering(AgglomerativeClustering(3).fit_predict(BLOBS), CLASSES)
        assert scores.acc == scores.majority_acc == 12 / 20
        assert scores.agreement.homogeneity == pytest.approx(1 - 0.8 * log(2) / log(5))
        assert scores.agreement.completeness == pytest.approx(1)
        # Pairs of rows: 30 in a class, 62 in a cluster, 30 in both, 190 in all.
        chance = 30 * 62 / 190
        assert scores.agreement.ari == pytest.approx((30 - chance) / ((30 + 62) / 2 - chance))
        assert scores.partition.effective_k == pytest.approx(exp(0.8 * log(2.5) + 0.2 * log(5)))
        assert (scores.matches >= 0).all()

    def test_two_clusters_too_many(self):
        """Two blobs are halved: 4, 4, 4, 2, 2, 2 and 2."""
        scores = score_clustering(AgglomerativeClustering(7).fit_predict(BLOBS), CLASSES)
        assert scores.acc == 16 / 20
        assert scores.majority_acc == 1
        assert scores.agreement.homogeneity == pytest.approx(1)
        entropy = 4 * 0.1 * log(10) + 3 * 0.2 * log(5)
        completeness = 1 - 0.4 * log(2) / entropy
        assert scores.agreement.completeness == pytest.approx(completeness)
        assert scores.agreement.nmi == pytest.approx(2 * completeness / (1 + completeness))
        chance = 22 * 30 / 190
        assert scores.agreement.ari == pytest.approx((22 - chance) / ((22 + 30) / 2 - chance))
        assert scores.partition.effective_k == pytest.approx(exp(entropy))
        assert (scores.matches < 0).sum() == 2


class TestNoiseAndGaps:
    # Cluster 2: a a b; cluster 9: b b; noise: a b; without a class: one in cluster 2, one noise.
    LABELS = np.array([2, 2, 2, 9, 9, -1, -1, 2, -1])
    CLASSES = ("a", "a", "b", "b", "b", "a", "b", None, None)

    def test_noise_is_wrong_and_rows_without_a_class_do_not_count(self):
        scores = score_clustering(self.LABELS, self.CLASSES)
        assert (scores.partition.n, scores.unlabelled, scores.partition.noise) == (7, 2, 2)
        assert (scores.acc, scores.acc_covered) == (4 / 7, 4 / 5)
        assert (scores.majority_acc, scores.majority_acc_covered) == (4 / 7, 4 / 5)
        assert scores.partition.coverage == pytest.approx(5 / 7)
        assert scores.acc == pytest.approx(scores.acc_covered * scores.partition.coverage)
        assert scores.partition.effective_k == pytest.approx(exp(-0.6 * log(0.6) - 0.4 * log(0.4)))

    def test_the_table(self):
        scores = score_clustering(self.LABELS, self.CLASSES)
        assert (scores.table.groups_a, scores.table.groups_b) == ((2, 9), ("a", "b"))
        assert scores.table.counts.tolist() == [[2, 1], [0, 2]]
        assert scores.table.ungrouped_a.tolist() == [1, 1]
        assert scores.matches.tolist() == [0, 1]

    def test_as_divisions_noise_is_a_group_of_its_own(self):
        scores = score_clustering(self.LABELS, self.CLASSES)
        truth = [0, 0, 1, 1, 1, 0, 1]
        assert scores.agreement.nmi == pytest.approx(metrics.normalized_mutual_info_score(truth, [0, 0, 0, 1, 1, 2, 2]))
        assert scores.agreement_covered.ari == pytest.approx(metrics.adjusted_rand_score(truth[:5], [0, 0, 0, 1, 1]))
        assert scores.figures()["ari_covered"] == scores.agreement_covered.ari

    def test_all_noise(self):
        scores = score_clustering(np.full(4, -1), ["a", "b", "a", "b"])
        assert (scores.acc, scores.majority_acc, scores.partition.coverage, scores.partition.effective_k) == (
            0,
            0,
            0,
            0,
        )
        assert (scores.acc_covered, scores.majority_acc_covered, scores.agreement_covered) == (None, None, None)
        assert scores.agreement.nmi == 0
        assert scores.figures()["nmi_covered"] is None
        assert scores.table is None

    def test_one_cluster(self):
        scores = score_clustering(np.full(5, 3), ["a", "b", "a", "c", "a"])
        assert (scores.acc, scores.majority_acc, scores.partition.effective_k) == (0.6, 0.6, 1)
        assert (scores.agreement.nmi, scores.agreement.ari) == (0, 0)


class TestAssignment:
    def test_the_best_in_all_and_not_the_largest_first(self):
        # Taking the largest overlap (5) first leaves 0 for the other: 5 of 13. The assignment gives 4 + 4.
        labels = np.repeat([0, 0, 1], [5, 4, 4])
        classes = np.repeat(["a", "b", "a"], [5, 4, 4])
        scores = score_clustering(labels, classes)
        assert scores.acc == 8 / 13
        assert scores.majority_acc == 9 / 13
        assert scores.matches.tolist() == [1, 0]

    @given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 5))
    @settings(max_examples=60)
    def test_against_trying_every_assignment(self, seed, clusters, classes):
        rng = np.random.default_rng(seed)
        labels, truth = rng.integers(-1, clusters, 25), rng.integers(0, classes, 25)
        scores = score_clustering(labels, truth)
        assert scores.acc == pytest.approx(accuracy_by_trying(labels, truth))
        right = sum(max(np.bincount(truth[labels == one])) for one in set(labels.tolist()) - {-1})
        assert scores.majority_acc == pytest.approx(right / 25)
        assert scores.majority_acc >= scores.acc

    @given(st.integers(0, 2**32 - 1))
    @settings(max_examples=30)
    def test_names_and_order_mean_nothing(self, seed):
        rng = np.random.default_rng(seed)
        labels, truth = rng.integers(-1, 5, 60), rng.integers(-1, 3, 60)
        truth[0] = 1
        order, names = rng.permutation(60), np.append(rng.permutation(100)[:5], -1)
        here = score_clustering(labels, truth).figures()
        there = score_clustering(names[labels][order], np.array(["x", "z", "y", None], object)[truth][order]).figures()
        for name, value in here.items():
            assert there[name] == (value if value is None else pytest.approx(value, abs=1e-9)), name


class TestTop5:
    def test_by_hand(self):
        # Seven clusters of one row, each of a class of its own.
        labels, classes = np.arange(7), list("abcdefg")
        probabilities = np.eye(7)
        probabilities[0] = [0, 9, 8, 7, 6, 5, 4]  # its class is last of seven
        probabilities[1] = [9, 5, 8, 7, 6, 1, 1]  # fifth
        probabilities[2] = [9, 8, 4, 7, 6, 5, 1]  # sixth
        scores = score_clustering(labels, classes, probabilities=probabilities)
        assert scores.acc == 1
        assert scores.top5_acc == 5 / 7

    def test_of_clusters_that_stand_for_no_class(self):
        """Three clusters, two classes: the third cluster is left over, and is right for nobody."""
        labels, classes = np.array([0, 0, 1, 1, 2]), ["a", "a", "b", "b", "b"]
        certain = np.eye(3)[labels]
        assert score_clustering(labels, classes, probabilities=certain).top5_acc == 1  # of three, all are among the 5
        columns = np.array([2, 50, 51, 52, 53, 0, 1])
        table = np.full((5, 7), 0.1)
        table[:, 5:] = 0
        assert score_clustering(labels, classes, probabilities=table, columns=columns).top5_acc == 0
        table[4, 6] = 1
        assert score_clustering(labels, classes, probabilities=table, columns=columns).top5_acc == 1 / 5

    def test_noise_counts_as_wrong_and_rows_without_a_class_do_not_count(self):
        labels, classes = np.array([0, 1, -1, 0]), ["a", "b", "b", None]
        scores = score_clustering(labels, classes, probabilities=np.full((4, 2), 0.5))
        assert scores.top5_acc == 2 / 3

    def test_with_one_cluster_a_class_in_all_it_is_never_below_acc(self):
        rng = np.random.default_rng(0)
        table = rng.random((200, 9))
        scores = score_clustering(table.argmax(axis=1), rng.integers(0, 9, 200), probabilities=table)
        assert scores.acc < scores.top5_acc < 1

    def test_a_table_that_does_not_fit(self):
        with pytest.raises(InputError, match=r"got \(2, 3\) for 2 labels and 2 clusters"):
            score_clustering(np.array([0, 1]), ["a", "b"], probabilities=np.ones((2, 3)), columns=np.arange(2))


def test_effective_k():
    assert effective_k(np.array([7, 7, 7])) == pytest.approx(3)
    assert effective_k(np.array([5])) == 1
    assert effective_k(np.array([1, 2, 1])) == pytest.approx(2 * 2**0.5)
    assert 1 < effective_k(np.array([999, 1])) < 1.01
    assert effective_k(np.array([], int)) == 0


def test_a_partition_by_itself():
    partition = partition_of(np.array([8, -1, 2, 8, -1, 8]))
    assert (partition.n, partition.noise, partition.coverage) == (6, 2, pytest.approx(2 / 3))
    assert (partition.clusters.tolist(), partition.sizes.tolist()) == ([2, 8], [1, 3])
    with pytest.raises(InputError, match="at least one row"):
        partition_of(np.array([], int))


def test_what_cannot_be_scored():
    with pytest.raises(InputError, match="a class a row are needed, got 3 and 2"):
        score_clustering(np.arange(3), ["a", "b"])
    with pytest.raises(InputError, match="none of the 2 rows has one"):
        score_clustering(np.arange(2), [None, None])
