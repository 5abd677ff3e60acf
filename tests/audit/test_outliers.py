"""Outliers against scikit-learn, at values worked by hand, among copies, and planted ones found."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import LocalOutlierFactor

from imagescape.audit.outliers import (
    cluster_distance,
    disagreement,
    local_outlier_factor,
    neighbor_distance,
    outliers,
)
from imagescape.errors import InputError
from imagescape.evaluate.neighbors import Neighbors
from tests.audit.graphs import clouds, graph_of, without

LINE = np.array([[0.0], [1], [2], [10]])


class TestNeighborDistance:
    def test_by_hand(self):
        assert neighbor_distance(graph_of(LINE, 2)).tolist() == [1.5, 1, 1.5, 8.5]
        assert neighbor_distance(graph_of(LINE, 2), 1).tolist() == [1, 1, 1, 8]

    def test_rows_with_fewer_neighbours_or_none(self):
        graph = Neighbors(np.array([[1, -1], [0, 2], [-1, -1]]), np.array([[3.0, np.inf], [3, 5], [np.inf, np.inf]]))
        assert neighbor_distance(graph)[:2].tolist() == [3, 4]
        assert np.isnan(neighbor_distance(graph)[2])


class TestLocalOutlierFactor:
    @pytest.mark.parametrize("k", [1, 5, 20])
    def test_is_scikit_learns(self, k):
        rows, _ = clouds([150, 80])
        rows = rows.astype(np.float32)
        expected = -LocalOutlierFactor(k).fit(rows).negative_outlier_factor_
        assert local_outlier_factor(graph_of(rows, 20), k) == pytest.approx(expected, rel=1e-4)

    def test_by_hand(self):
        """k = 2. Distances to the second: 2, 1, 2, 9. Mean reach: (1+2)/2, (2+2)/2, (1+2)/2, (8+9)/2."""
        reach = np.array([1.5, 2, 1.5, 8.5])
        expected = [(1 / 2 + 1 / 1.5) / 2 * 1.5, 1 / 1.5 * 2, (1 / 2 + 1 / 1.5) / 2 * 1.5, (1 / 1.5 + 1 / 2) / 2 * 8.5]
        assert local_outlier_factor(graph_of(LINE, 2)) == pytest.approx(expected)
        assert reach[3] * (1 / 1.5 + 1 / 2) / 2 == pytest.approx(expected[3])

    def test_copies_do_not_make_what_lies_beside_them_odd(self):
        rows, _ = clouds([200], d=3)
        with_copies = np.concatenate([rows, np.repeat(rows[:1], 30, axis=0)])
        before, after = local_outlier_factor(graph_of(rows, 10)), local_outlier_factor(graph_of(with_copies, 10))
        assert np.isfinite(after).all()
        assert (after[[0, *range(200, 230)]] == 1).all()
        assert after.max() < before.max() + 0.5
        assert -LocalOutlierFactor(10).fit(with_copies.astype(np.float32)).negative_outlier_factor_.min() > 0
        assert (-LocalOutlierFactor(10).fit(with_copies).negative_outlier_factor_).max() > 1e6  # what is avoided

    def test_all_copies(self):
        assert (local_outlier_factor(graph_of(np.zeros((20, 3)), 5)) == 1).all()

    def test_nobody_s_neighbour(self):
        rows, _ = clouds([60])
        graph = graph_of(rows, 10)
        found = local_outlier_factor(without(graph, [3]))
        assert np.isnan(found[3])
        assert np.isfinite(np.delete(found, 3)).all()

    @settings(max_examples=20)
    @given(st.integers(0, 2**32 - 1), st.floats(0.01, 100))
    def test_neither_order_nor_scale_matters(self, seed, scale):
        rows, _ = clouds([40, 30], seed=1)
        order = np.random.default_rng(seed).permutation(70)
        before = local_outlier_factor(graph_of(rows, 8))
        assert local_outlier_factor(graph_of(scale * rows[order], 8)) == pytest.approx(before[order], rel=1e-3)


class TestClusterDistance:
    def test_by_hand(self):
        """Centre of the first at 3, radii 3, 2, 1, 6, of median 2.5; of the second at 21, both 1."""
        rows = np.array([[0.0], [1], [2], [9], [20], [22], [5]])
        found = cluster_distance(rows, np.array([0, 0, 0, 0, 7, 7, -1]))
        assert found[:6] == pytest.approx([3 / 2.5, 2 / 2.5, 1 / 2.5, 6 / 2.5, 1, 1])
        assert np.isnan(found[6])

    def test_one_image_and_copies(self):
        found = cluster_distance(np.array([[3.0], [1], [1], [1]]), np.array([0, 1, 1, 1]))
        assert found.tolist() == [1, 1, 1, 1]

    def test_no_cluster(self):
        assert np.isnan(cluster_distance(np.eye(3), np.full(3, -1))).all()


class TestDisagreement:
    def test_by_hand(self):
        a = Neighbors(np.array([[1, 2], [0, 2], [0, 1], [0, 1]]), np.ones((4, 2)))
        b = Neighbors(np.array([[2, 1], [3, 2], [3, -1], [-1, -1]]), np.array([[1, 1], [1, 1], [1, 9], [9, 9.0]]))
        found = disagreement(a, b)
        assert found[:3].tolist() == [0, 0.5, 1]
        assert np.isnan(found[3])
        assert disagreement(a, b, 1)[:3].tolist() == [1, 1, 1]

    def test_is_that_of_sets(self):
        rng = np.random.default_rng(0)
        a, b = graph_of(rng.normal(size=(50, 4)), 9), graph_of(rng.normal(size=(50, 4)), 6)
        expected = [
            1 - len(set(i[:6]) & set(j)) / 6 for i, j in zip(a.indices.tolist(), b.indices.tolist(), strict=True)
        ]
        assert disagreement(a, b).tolist() == expected


class TestOutliers:
    @pytest.fixture
    def planted(self):
        """Three clouds, six images far from all, and one at the rim of a cloud."""
        rows, clusters = clouds([200, 150, 100])
        rng = np.random.default_rng(5)
        far = 30 * rng.normal(size=(6, 5))
        rim = rows[clusters == 1].mean(axis=0) + 4.5 * np.eye(5)[0]
        rows = np.concatenate([rows, far, rim[None]])
        return rows, np.concatenate([clusters, np.full(6, -1), [1]])

    def test_planted_ones_come_first(self, planted):
        rows, clusters = planted
        found = outliers(graph_of(rows), features=rows, clusters=clusters)
        assert set(found.rows.tolist()) == set(range(450, 456))
        assert 456 in found.at(0.03).rows
        assert np.median(found.score) < 0.75
        assert list(found.measures) == ["neighbor_distance", "local_outlier_factor", "cluster_distance"]

    def test_reasons(self, planted):
        rows, clusters = planted
        found = outliers(graph_of(rows), features=rows, clusters=clusters)
        times = found.measures["neighbor_distance"][450] / np.median(found.measures["neighbor_distance"])
        assert f"far from everything: its 15 nearest images are {times:.1f} times as far as usual" in found.reasons(450)
        assert not any("rim" in reason for reason in found.reasons(450))  # in no group
        assert any(reason.startswith("at the rim of its group: 2") for reason in found.reasons(456))
        usual = int(np.nanargmin(found.score))
        assert found.reasons(usual) == ()
        assert str(found).startswith(f"{len(found)} outliers of 457 images, by neighbor_distance, local_outlier_factor")

    def test_neighbours_that_disagree(self, planted):
        rows, _ = planted
        moved = rows.copy()
        moved[7] = rows[300]  # on a map, it lies in another cloud
        found = outliers(graph_of(rows, 10), others=[graph_of(moved, 10), graph_of(rows + 0.01, 10)])
        assert found.measures["disagreement"][7] == pytest.approx(2 / 3)
        assert any("0% are shared" in r or "33% are shared" in r for r in found.reasons(7))

    def test_cuts(self, planted):
        found = outliers(graph_of(planted[0])).at(0.1)
        assert len(found) == 46
        assert np.array_equal(found.at(0.02).rows, found.rows[:9])
        score = found.score[found.rows[4]]
        assert np.array_equal(found.at(threshold=score).rows, found.rows[:5])
        assert (len(found.at(0.0)), len(found.at(1.0))) == (0, 457)
        assert np.array_equal(found.at(1.0).rows, found.ranked)
        assert found.as_dict()["outliers"][0]["row"] == found.rows[0]

    def test_images_without_features_are_not_ranked(self, planted):
        graph = without(graph_of(planted[0]), [0, 9])
        found = outliers(graph).at(1.0)
        assert len(found) == 455
        assert np.isnan(found.score[[0, 9]]).all()

    def test_deviations_by_hand(self):
        """Mean distances 1, 2, … 64 in shuffled order: logarithms 0 to 6, of median 3."""
        distances = 2.0 ** np.array([3, 0, 6, 1, 5, 2, 4])
        graph = Neighbors(np.roll(np.arange(7), 1)[:, None], distances[:, None])
        found = outliers(graph)
        unit = np.percentile(np.arange(7), 84.134) - 3
        expected = np.maximum((np.log2(distances) - 3) / unit, 0)
        assert found.deviations["neighbor_distance"] == pytest.approx(expected)
        both = (1 + found.deviations["neighbor_distance"]) * (1 + found.deviations["local_outlier_factor"])
        assert found.score == pytest.approx(np.sqrt(both) - 1)

    def test_nothing_is_odd_where_all_are_alike(self):
        ring = np.arange(40)
        graph = Neighbors(np.stack([np.roll(ring, 1), np.roll(ring, -1)], axis=1), np.ones((40, 2)))
        assert (outliers(graph).score == 0).all()
        assert len(outliers(graph)) == 0
        assert len(outliers(graph_of(np.zeros((20, 3)), 5))) == 0  # all copies


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda g, x: outliers(g, k=16), "k must lie between 1 and the 15 neighbours a row in graph, got 16"),
        (lambda g, x: outliers(g, features=x), "needs features and clusters, got one"),
        (lambda g, x: outliers(g, features=x, clusters=np.zeros(3, int)), "one entry a row, got 3 for 40 rows"),
        (
            lambda g, x: outliers(g, features=np.where(np.eye(40, 5), np.nan, x), clusters=np.zeros(40, int)),
            "row 0 is not",
        ),
        (lambda g, x: outliers(g).at(1.5), r"a fraction must lie in \[0, 1\], got 1.5"),
        (lambda g, x: outliers(g, threshold=-1), "a threshold must be 0 or more, got -1"),
        (lambda g, x: outliers(g).at(), "got neither"),
        (lambda g, x: outliers(g).at(0.0, threshold=0.5), "got both"),
        (lambda g, x: outliers(g, others=[graph_of(x[:30])]), "graph 2 must have 40 rows as the others, got 30"),
        (lambda g, x: disagreement(g, graph_of(x[:30])), "same rows, got 40 and 30"),
        (lambda g, x: neighbor_distance(Neighbors(g.indices + 30, g.distances)), "must name rows 0 to 39"),
        (lambda g, x: neighbor_distance(Neighbors(g.indices[::-1], g.distances)), "is its own neighbour"),
        (
            lambda g, x: neighbor_distance(Neighbors(g.indices, g.distances * np.nan)),
            "must be 0 or more, those of row 0",
        ),
        (lambda g, x: neighbor_distance(Neighbors(g.indices, g.distances[:, ::-1])), "nearest first, those of row 0"),
        (lambda g, x: neighbor_distance(Neighbors(g.indices, g.distances[:5])), "of one shape"),
    ],
)
def test_refused(call, message):
    rows, _ = clouds([40])
    with pytest.raises(InputError, match=message):
        call(graph_of(rows), rows)
