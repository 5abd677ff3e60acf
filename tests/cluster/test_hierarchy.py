"""Hierarchies: exact ones against scipy, those of centroids against exact ones, new rows, and what is refused."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import pdist, squareform

from imagescape.cluster import hierarchy
from imagescape.cluster.hierarchy import Hierarchy, condensed_distances, square_distances
from imagescape.cluster.tree import Tree
from imagescape.errors import CheckpointError, InputError, NotFitted
from tests.cluster.blobs import blobs, same_partition

LINKAGES = ("single", "complete", "average", "centroid", "ward")


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(hierarchy, "_BLOCK_ROWS", 7)


class TestDistances:
    @pytest.mark.parametrize("metric", ["euclidean", "cosine", "hamming"])
    def test_are_those_of_scipy(self, small_blocks, metric):
        rng = np.random.default_rng(0)
        rows = rng.normal(0, 1, (23, 4)).astype(np.float32)
        scale = 1.0
        if metric == "cosine":
            rows = unit(rows)
        if metric == "hamming":
            rows, scale = rng.integers(0, 2, (23, 16)).astype(np.float32), 16.0
        expected = pdist(rows.astype(float), metric) * scale
        assert_allclose(condensed_distances(rows, metric), expected, atol=1e-7)
        assert_allclose(square_distances(rows, metric), squareform(expected), atol=1e-7)

    def test_do_not_cancel_far_from_the_origin(self):
        rows = np.random.default_rng(0).normal(0, 1, (9, 3)).astype(np.float32)
        assert_allclose(condensed_distances(rows + 4096, "euclidean"), pdist((rows + 4096).astype(float)), rtol=1e-9)


class TestExact:
    @pytest.mark.parametrize("way", LINKAGES)
    def test_cuts_are_those_of_scipy(self, way):
        rows = np.random.default_rng(0).normal(0, 1, (80, 4)).astype(np.float32)
        found = Hierarchy(k=6, cuts=[20, 3], linkage=way).fit(rows)
        expected = Tree.of_linkage(linkage(rows.astype(float), way))
        assert found.is_exact_
        for k in (3, 6, 20):
            assert_array_equal(found.cut(k), expected.cut(k))
        assert_array_equal(found.labels_, found.cut(6))
        assert {name: labels.max() + 1 for name, labels in found.labellings_.items()} == {"20": 20, "3": 3}

    @pytest.mark.parametrize("way", ["single", "complete", "average"])
    def test_by_cosine(self, way):
        rows = np.random.default_rng(1).normal(0.5, 1, (60, 4)).astype(np.float32)
        found = Hierarchy(k=5, linkage=way, metric="cosine").fit(rows)
        expected = linkage(pdist(rows.astype(float), "cosine"), way)
        assert_allclose(found.tree_.heights, expected[:, 2], atol=1e-6)
        assert same_partition(found.labels_, Tree.of_linkage(expected).cut(5))

    @pytest.mark.parametrize("way", ["centroid", "ward"])
    def test_ward_and_centroid_by_cosine_link_rows_of_length_1(self, way):
        rows = np.random.default_rng(1).normal(0.5, 1, (60, 4)).astype(np.float32)
        found = Hierarchy(k=5, linkage=way, metric="cosine").fit(rows * 3)
        assert_allclose(found.tree_.heights, linkage(unit(rows.astype(float)), way)[:, 2], atol=1e-6)

    def test_by_bits_that_differ(self):
        packed = np.random.default_rng(0).integers(0, 256, (40, 4), dtype=np.uint8)
        found = Hierarchy(k=5, linkage="average", metric="hamming").fit(packed)
        expected = linkage(pdist(np.unpackbits(packed, axis=1), "hamming") * 32, "average")
        assert_allclose(found.tree_.heights, expected[:, 2], atol=1e-9)

    def test_the_order_of_rows_changes_nothing(self):
        rows, _ = blobs([30, 20, 10], apart=9)
        order = np.random.default_rng(0).permutation(60)
        labels = Hierarchy(k=3).fit(rows).labels_
        assert_array_equal(Hierarchy(k=3).fit(rows[order]).labels_, labels[order])


class TestOfCentroids:
    @pytest.mark.parametrize("way", LINKAGES)
    @pytest.mark.parametrize("metric", ["euclidean", "cosine"])
    def test_finds_what_is_apart(self, way, metric):
        pytest.importorskip("faiss")
        rows, truth = blobs([300, 150, 60, 30, 15])
        if metric == "cosine":
            rows = rows + 0.5
        found = Hierarchy(k=5, linkage=way, metric=metric, exact_rows=100, leaves=60, random_state=0).fit(rows)
        assert not found.is_exact_
        assert len(found.tree_) <= 60
        assert same_partition(found.labels_, truth)

    def test_hashes(self):
        pytest.importorskip("faiss")
        rng = np.random.default_rng(0)
        kinds = rng.integers(0, 256, (4, 8), dtype=np.uint8)
        truth = rng.integers(0, 4, 400)
        rows = kinds[truth] ^ np.packbits(rng.random((400, 64)) < 0.03, axis=1)
        found = Hierarchy(k=4, linkage="average", metric="hamming", exact_rows=50, leaves=40).fit(rows)
        assert same_partition(found.labels_, truth)

    def test_ward_is_near_the_exact_one_where_leaves_are_many(self):
        pytest.importorskip("faiss")
        rng = np.random.default_rng(0)
        rows = rng.normal(0, 1, (1500, 2)).astype(np.float32)
        exact, many, few = (
            Hierarchy(k=8, **settings, random_state=0).fit(rows)
            for settings in ({}, {"exact_rows": 0, "leaves": 400}, {"exact_rows": 0, "leaves": 20})
        )

        def within(labels):
            return sum(np.square(rows[labels == one] - rows[labels == one].mean(0)).sum() for one in range(8))

        assert within(many.labels_) < 1.1 * within(exact.labels_)
        assert len(few.tree_) == 20
        # The height of a merge is what it adds to the sum of squares, so both tell the same of the top of the tree.
        assert_allclose(many.tree_.heights[-3:], exact.tree_.heights[-3:], rtol=0.15)

    def test_a_cut_has_leaves_enough(self):
        pytest.importorskip("faiss")
        rows = np.random.default_rng(0).normal(0, 1, (900, 3)).astype(np.float32)
        with pytest.raises(InputError, match="a cut must be at most the 40 leaves of the hierarchy, got 50"):
            Hierarchy(k=50, exact_rows=10, leaves=40).fit(rows)

    def test_the_default_has_leaves_for_the_largest_cut(self, monkeypatch):
        pytest.importorskip("faiss")
        monkeypatch.setattr(hierarchy, "LEAVES", 10)
        rows = np.random.default_rng(0).normal(0, 1, (900, 3)).astype(np.float32)
        found = Hierarchy(k=20, cuts=[50], exact_rows=10).fit(rows)
        assert 150 < len(found.tree_) <= 200
        assert found.cut(50).max() == 49


class TestNewRows:
    @pytest.mark.parametrize("exact_rows", [1000, 20])
    def test_join_the_nearest_leaf_and_stay_nested(self, exact_rows):
        pytest.importorskip("faiss")
        rows, truth = blobs([60, 40, 20])
        found = Hierarchy(k=3, cuts=[12, 6, 2], exact_rows=exact_rows, leaves=30, random_state=0).fit(rows)
        again, own = blobs([9, 9, 9], seed=5)
        labels = found.predict(again)
        names = {int(kind): int(label) for kind, label in zip(truth, found.labels_, strict=True)}
        assert labels.tolist() == [names[kind] for kind in own.tolist()]
        cuts = found.predict_labellings(again)
        for fine, coarse in (("12", "6"), ("6", "2")):
            pairs = set(zip(cuts[fine].tolist(), cuts[coarse].tolist(), strict=True))
            assert len(pairs) == len(set(cuts[fine].tolist()))

    def test_rows_it_was_fitted_on_keep_their_labels(self):
        rows, _ = blobs([30, 20], apart=3)
        found = Hierarchy(k=4, linkage="single").fit(rows)
        assert_array_equal(found.predict(rows), found.labels_)
        assert_allclose(found.assign(rows).probabilities, found.probabilities_, rtol=1e-5)
        assert_allclose(found.predict_proba(rows).sum(1), 1, rtol=1e-5)

    def test_saved_and_loaded_it_says_the_same(self, tmp_path):
        rows = np.random.default_rng(0).integers(0, 256, (50, 4), dtype=np.uint8)
        found = Hierarchy(k=4, cuts=(9, 2), metric="hamming", linkage="average").fit(rows)
        found.save(tmp_path / "m")
        again = Hierarchy.load(tmp_path / "m")
        assert again.get_params() == found.get_params()
        new = np.random.default_rng(1).integers(0, 256, (9, 4), dtype=np.uint8)
        assert_array_equal(again.predict(new), found.predict(new))
        assert_array_equal(again.assign(new).probabilities, found.assign(new).probabilities)
        assert again.predict_labellings(new).keys() == {"9", "2"}

    def test_damaged_weights_are_told(self, tmp_path):
        Hierarchy(k=2).fit(np.arange(6.0).reshape(3, 2)).save(tmp_path / "m")
        (tmp_path / "m" / "weights.safetensors").write_bytes(b"no")
        with pytest.raises(CheckpointError, match="cannot be read"):
            Hierarchy.load(tmp_path / "m")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "needs k, the number of clusters to cut it at, or cuts"),
        ({"k": 1}, "at least 2, got 1"),
        ({"cuts": [3, 3]}, "each cut must be named once"),
        ({"k": 3, "linkage": "median"}, "linkage must be one of single, complete, average, centroid, ward"),
        ({"k": 3, "metric": "l1"}, "metric must be one of"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        Hierarchy(**settings)


@pytest.mark.parametrize(
    ("rows", "k", "message"),
    [
        (np.ones((5, 2)), 2, "all 5 rows are equal"),
        (np.eye(3), 4, "at most the 3 leaves"),
        (np.array([[0.0, np.nan], [1, 2]]), 2, "row 0 is not"),
    ],
)
def test_rows_that_cannot_be_parted_are_refused(rows, k, message):
    with pytest.raises(InputError, match=message):
        Hierarchy(k=k).fit(rows)


def test_the_first_of_the_cuts_where_no_k_is_named():
    assert Hierarchy(cuts=[7, 3]).k == 7
    with pytest.raises(NotFitted, match="has found no clusters yet"):
        Hierarchy(k=2).cut(2)
