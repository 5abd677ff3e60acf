"""Rows that show a cluster: worked by hand, against sorting, and what must not change them."""

import numpy as np
import pytest

from imagescape.cluster.exemplars import extremes, prototypes, representatives
from imagescape.errors import InputError

# Cluster 2 on a line about 0 (rows 0 to 4), cluster 4 alone (row 5), noise (row 6).
LINE = np.array([[-3.0], [0.5], [1.0], [-1.5], [3.0], [40.0], [0.0]])
LABELS = np.array([2, 2, 2, 2, 2, 4, -1])


class TestRepresentatives:
    def test_are_rows_of_their_cluster_without_repeats(self):
        labels = np.random.default_rng(0).integers(-1, 5, 400)
        chosen = representatives(labels, 10, seed=3)
        assert chosen.shape == (5, 10)
        for cluster, rows in enumerate(chosen):
            assert (labels[rows] == cluster).all()
            assert (np.diff(rows) > 0).all()

    def test_small_clusters_are_filled_with_none(self):
        assert representatives(LABELS, 6).tolist() == [[0, 1, 2, 3, 4, -1], [5, -1, -1, -1, -1, -1]]

    def test_the_seed_decides_and_other_clusters_do_not(self):
        labels = np.arange(200) % 2
        first, other = representatives(labels, 5, seed=0), representatives(labels, 5, seed=1)
        assert first.tolist() != other.tolist()
        alone = np.where(labels == 1, 1, -1)
        assert representatives(alone, 5, seed=0)[0].tolist() == first[1].tolist()
        assert (first[1] - first[0] != 1).any()  # the clusters draw each for itself

    def test_all_rows_come_up(self):
        seen = {row for seed in range(60) for row in representatives(np.zeros(12, int), 2, seed=seed)[0].tolist()}
        assert seen == set(range(12))


class TestExtremes:
    def test_by_hand(self):
        found = extremes(LINE, LABELS, 3)
        assert found.clusters.tolist() == [2, 4]
        assert found.nearest.tolist() == [[1, 2, 3], [5, -1, -1]]
        assert found.farthest.tolist() == [[0, 4, 3], [5, -1, -1]]  # rows 0 and 4 are equally far: by row

    def test_against_sorting(self):
        rng = np.random.default_rng(0)
        features, labels = rng.normal(size=(200, 4)).astype(np.float16), rng.integers(-1, 6, 200)
        found = extremes(features, labels, 5)
        for cluster in range(6):
            rows = np.flatnonzero(labels == cluster)
            own = features[rows].astype(np.float64)
            order = rows[np.argsort(np.linalg.norm(own - own.mean(axis=0), axis=1))]
            assert found.nearest[cluster].tolist() == order[:5].tolist()
            assert found.farthest[cluster].tolist() == order[::-1][:5].tolist()

    def test_count(self):
        with pytest.raises(InputError, match="count must be at least 1, got 0"):
            extremes(LINE, LABELS, 0)
        with pytest.raises(InputError, match="count must be at least 1, got 0"):
            representatives(LABELS, 0)


class TestPrototypes:
    def test_the_one_nearest_the_mean_of_the_most_confident(self):
        probability = np.array([0.1, 0.7, 0.9, 0.2, 0.8, 0.3, 1.0])
        assert prototypes(LINE, LABELS, probability, confident_fraction=0.2).tolist() == [2, 5]
        assert prototypes(LINE, LABELS, probability, confident_fraction=0.41).tolist() == [2, 5]  # 1, 3, .5: 1.5
        probability[[1, 0]] = [0.1, 0.85]  # now 2, 0 and 4, at 1, -3 and 3: the mean is 1/3
        assert prototypes(LINE, LABELS, probability, confident_fraction=0.6).tolist() == [2, 5]
        probability[2] = 0  # 0, 4 and 3, at -3, 3 and -1.5: the mean is -.5
        assert prototypes(LINE, LABELS, probability, confident_fraction=0.6).tolist() == [3, 5]

    def test_without_probability_the_nearest_of_all(self):
        assert prototypes(LINE, LABELS).tolist() == [1, 5]
        assert prototypes(LINE, LABELS, np.full(7, 0.5)).tolist() == [1, 5]  # all equally sure: all are looked at

    def test_against_a_loop(self):
        rng = np.random.default_rng(0)
        features, labels, sure = rng.normal(size=(300, 3)), rng.integers(-1, 4, 300), rng.random(300).round(2)
        found = prototypes(features, labels, sure, confident_fraction=0.15)
        for cluster in range(4):
            rows = np.flatnonzero(labels == cluster)
            wanted = int(np.ceil(0.15 * len(rows)))
            bar = sorted(sure[rows])[-wanted]
            rows = [row for row in rows if sure[row] >= bar]
            mean = features[rows].mean(axis=0)
            assert found[cluster] == min(rows, key=lambda row: np.linalg.norm(features[row] - mean))

    def test_what_cannot_be_used(self):
        with pytest.raises(InputError, match="confident_fraction must lie above 0"):
            prototypes(LINE, LABELS, confident_fraction=0)
        with pytest.raises(InputError, match=r"one value a label, got \(3,\) for \(7,\)"):
            prototypes(LINE, LABELS, np.ones(3))
        with pytest.raises(InputError, match="must be finite for every row of a cluster"):
            prototypes(LINE, LABELS, np.array([1, np.nan, 1, 1, 1, 1, 1]))
        assert prototypes(LINE, LABELS, np.array([1, 1, 1, 1, 1, 1, np.nan])).tolist() == [1, 5]  # noise has none
