"""Merges against scipy's, weighted leaves against as many rows at one place, and cuts that are always nested."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist, squareform

from imagescape.cluster.tree import Tree, check_cuts, link_weighted
from imagescape.errors import InputError
from tests.cluster.blobs import same_partition

LINKAGES = ("single", "complete", "average", "centroid", "ward")


def points(n, d=3, seed=0):
    return np.random.default_rng(seed).normal(0, 1, (n, d))


@pytest.mark.parametrize("way", LINKAGES)
class TestLinkWeighted:
    def test_leaves_of_one_row_are_linked_as_by_scipy(self, way):
        rows = points(40)
        tree = link_weighted(squareform(pdist(rows)), np.ones(40, int), way)
        expected = linkage(rows, way)
        assert_allclose(tree.heights, expected[:, 2], rtol=1e-9)
        assert_array_equal(tree.merges, expected[:, :2])

    def test_a_leaf_counts_as_all_its_rows_at_one_place(self, way):
        rows, sizes = points(12, seed=1), np.random.default_rng(2).integers(1, 6, 12)
        tree = link_weighted(squareform(pdist(rows)), sizes, way)
        expected = linkage(np.repeat(rows, sizes, axis=0), way)
        above = expected[:, 2] > 1e-9  # the merges of twins come first, at nothing
        assert_allclose(tree.heights, expected[above, 2], rtol=1e-9)
        for k in range(2, 12):
            whole = np.repeat(tree.cut(k), sizes)
            assert same_partition(whole, Tree.of_linkage(expected).cut(k))

    def test_sizes_matter_where_they_should(self, way):
        rows = np.array([[0.0], [1.0], [2.2]])
        even, uneven = (
            link_weighted(squareform(pdist(rows)), np.array(s), way).heights for s in ([1, 1, 1], [9, 1, 1])
        )
        assert (way in ("single", "complete")) == np.allclose(even, uneven)


def test_ward_of_weighted_leaves_worked_by_hand():
    # Two leaves of 3 and 1 rows, 2 apart: the sum of squares grows by 3 * 1 / 4 * 2² = 3; scipy's height is √(2 · 3).
    tree = link_weighted(np.array([[0.0, 2.0], [2.0, 0.0]]), np.array([3, 1]), "ward")
    assert tree.heights.tolist() == [pytest.approx(np.sqrt(6))]


class TestCuts:
    def test_worked_by_hand(self):
        # 0 and 1 merge (node 4), 2 joins (5), then 3.
        tree = Tree(np.array([[0, 1], [2, 4], [3, 5]]), np.array([1.0, 2.0, 3.0]), np.array([1, 1, 1, 7]))
        assert tree.cut(4).tolist() == [1, 2, 3, 0]  # the leaf of 7 rows is the largest
        assert tree.cut(3).tolist() == [1, 1, 2, 0]
        assert tree.cut(2).tolist() == [1, 1, 1, 0]
        assert tree.cut(1).tolist() == [0, 0, 0, 0]

    @pytest.mark.parametrize("way", ["single", "complete", "average", "ward"])
    def test_are_those_of_scipy(self, way):
        expected = linkage(points(60), way)
        tree = Tree.of_linkage(expected)
        for k in (1, 2, 3, 7, 20, 60):
            assert same_partition(tree.cut(k), fcluster(expected, k, "maxclust"))

    @settings(max_examples=60)
    @given(
        way=st.sampled_from(LINKAGES),
        places=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=25),
        data=st.data(),
    )
    def test_any_two_are_nested_and_have_as_many_clusters_as_asked(self, way, places, data):
        """Also with twins, equal heights, and heights that fall."""
        rows = np.array(places, float)
        sizes = np.array(data.draw(st.lists(st.integers(1, 4), min_size=len(rows), max_size=len(rows))))
        tree = link_weighted(squareform(pdist(rows)), sizes, way)
        k = data.draw(st.integers(1, len(rows)))
        fine = data.draw(st.integers(k, len(rows)))
        coarse_labels, fine_labels = tree.cut(k), tree.cut(fine)
        assert len(np.unique(coarse_labels)) == k
        assert len(np.unique(fine_labels)) == fine
        assert len(set(zip(fine_labels.tolist(), coarse_labels.tolist(), strict=True))) == fine
        counts = np.bincount(coarse_labels, weights=sizes)
        assert (np.diff(counts) <= 0).all()

    @pytest.mark.parametrize(
        ("k", "message"), [(0, "at least 1, got 0"), (61, "at most the 60 leaves"), (2.0, "whole")]
    )
    def test_impossible_ones_are_refused(self, k, message):
        with pytest.raises(InputError, match=message):
            Tree.of_linkage(linkage(points(60), "ward")).cut(k)

    def test_lists_of_cuts(self):
        check_cuts([4, 2], 4)
        with pytest.raises(InputError, match="at most the 4 leaves of the hierarchy, got 5"):
            check_cuts([5], 4)
        with pytest.raises(InputError, match="each cut must be named once, got 3, 3"):
            check_cuts([3, 3], 4)
        with pytest.raises(InputError, match="at least 2, got 1"):
            check_cuts([1], 4)


@pytest.mark.parametrize("way", LINKAGES)
def test_the_top_of_a_tree_is_cut_as_the_tree(way):
    tree = Tree.of_linkage(linkage(points(50, seed=3), way))
    top = tree.top(9)
    assert len(top) == 9
    assert_array_equal(top.sizes, np.bincount(tree.cut(9)))
    assert_allclose(top.heights, tree.heights[-8:])
    for k in range(1, 10):
        assert same_partition(top.cut(k)[tree.cut(9)], tree.cut(k))
        assert_array_equal(np.bincount(top.cut(k)[tree.cut(9)]), np.bincount(tree.cut(k)))


def test_as_scipy_takes_it():
    expected = linkage(points(30), "average")
    assert_allclose(Tree.of_linkage(expected).as_linkage(), expected)
