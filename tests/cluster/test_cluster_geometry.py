"""Geometry against values worked by hand, all pairs in a loop, and what it must not depend on."""

import tracemalloc
from math import sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.spatial.distance import cdist, pdist
from sklearn.cluster import AgglomerativeClustering

from imagescape.cluster import geometry as geometry_module
from imagescape.cluster.geometry import FIGURES, cluster_geometry
from imagescape.errors import InputError

DIAMOND = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
BLOBS = np.concatenate([np.array(center) + DIAMOND for center in ((0, 0), (0, 10), (100, 0), (100, 10), (50, 100))])


def by_loops(features, labels, quantile=1.0):
    """The definitions, one cluster after the other."""
    features = np.asarray(features, np.float64)
    clusters = sorted(set(labels.tolist()) - {-1})
    centroids = np.array([features[labels == one].mean(axis=0) for one in clusters])
    for one, centroid in zip(clusters, centroids, strict=True):
        own, others = features[labels == one], features[(labels != one) & (labels != -1)]
        apart = pdist(own)
        between = cdist([centroid], centroids)[0]
        yield {
            "diameter": np.quantile(apart, quantile) if len(apart) else 0,
            "dispersion": np.mean([np.linalg.norm(row - centroid) for row in own]),
            "separation": min((np.linalg.norm(row - centroid) for row in others), default=np.nan),
            "centroid_to_centroid": between.sum() / (len(between) - 1) if len(between) > 1 else np.nan,
        }


def check_against_loops(features, labels, quantile=1.0, rtol=1e-6):
    measured = cluster_geometry(features, labels, quantile=quantile, device="cpu")
    for row, expected in enumerate(by_loops(features, labels, quantile)):
        for name, value in expected.items():
            assert_allclose(getattr(measured, name)[row], value, rtol=rtol, atol=1e-6, err_msg=name)
        assert_allclose(measured.sn1[row], expected["diameter"] / expected["separation"], rtol=rtol)
        assert_allclose(measured.sn2[row], expected["dispersion"] / expected["centroid_to_centroid"], rtol=rtol)
    return measured


class TestByHand:
    # Three in a row, two above each other, one alone; and noise next to the first centroid, where it must not count.
    FEATURES = np.array([[0, 0], [10, 0], [2, 0.5], [2, 0], [2, 4], [10, 6], [4, 0]], np.float32)
    LABELS = np.array([1, 5, -1, 1, 7, 5, 1])

    def test_labels_from_one_with_a_gap_noise_and_a_singleton(self):
        measured = cluster_geometry(self.FEATURES, self.LABELS, device="cpu")
        assert measured.clusters.tolist() == [1, 5, 7]
        assert measured.size.tolist() == [3, 2, 1]
        assert measured.noise == 1
        assert_allclose(measured.centroids, [[2, 0], [10, 3], [2, 4]])
        assert_allclose(measured.diameter, [4, 6, 0])
        assert_allclose(measured.dispersion, [4 / 3, 3, 0])
        assert_allclose(measured.separation, [4, sqrt(45), 4])
        between = [(sqrt(73) + 4) / 2, (sqrt(73) + sqrt(65)) / 2, (sqrt(65) + 4) / 2]
        assert_allclose(measured.centroid_to_centroid, between)
        assert_allclose(measured.sn1, [1, 6 / sqrt(45), 0])
        assert_allclose(measured.sn2, [4 / 3 / between[0], 3 / between[1], 0])

    @pytest.mark.parametrize(("quantile", "expected"), [(0, 2), (0.5, 2), (0.75, 3), (1, 4)])
    def test_a_diameter_that_is_a_quantile(self, quantile, expected):
        measured = cluster_geometry(self.FEATURES, self.LABELS, quantile=quantile, device="cpu")
        assert_allclose(measured.diameter, [expected, 6, 0])  # of distances 2, 2 and 4
        assert measured.quantile == quantile

    def test_five_blobs_cut_into_three(self):
        labels = AgglomerativeClustering(3).fit_predict(BLOBS)
        measured = cluster_geometry(BLOBS, labels, device="cpu")
        left, right, top = (labels[at] == measured.clusters for at in (0, 8, 16))
        assert (measured.size[left | right] == 8).all()
        assert_allclose(measured.diameter[left | right], 12)  # from (0, -1) to (0, 11)
        assert_allclose(measured.diameter[top], 2)
        assert_allclose(measured.dispersion[left | right], (2 * sqrt(26) + 4 + 6) / 4)
        assert_allclose(measured.separation[left | right], sqrt(99**2 + 5**2))
        assert_allclose(measured.separation[top], sqrt(50**2 + 89**2))  # (50, 100) to (0, 11)
        assert_allclose(measured.centroid_to_centroid[left | right], (100 + sqrt(50**2 + 95**2)) / 2)
        assert_allclose(measured.centroid_to_centroid[top], sqrt(50**2 + 95**2))

    def test_five_blobs_cut_into_seven(self):
        measured = cluster_geometry(BLOBS, AgglomerativeClustering(7).fit_predict(BLOBS), device="cpu")
        halves = measured.size == 2
        assert (halves.sum(), (measured.size == 4).sum()) == (4, 3)
        assert_allclose(measured.diameter[halves], sqrt(2))
        assert_allclose(measured.dispersion[halves], sqrt(2) / 2)
        assert_allclose(measured.separation[halves], sqrt(2.5))  # (.5, .5) to (-1, 0)
        assert_allclose(measured.diameter[~halves], 2)
        assert_allclose(measured.dispersion[~halves], 1)

    def test_one_cluster_has_nothing_to_be_apart_from(self):
        measured = cluster_geometry(DIAMOND, np.full(4, 3), device="cpu")
        assert (measured.diameter.tolist(), measured.dispersion.tolist()) == ([2], [1])
        for name in ("separation", "centroid_to_centroid", "sn1", "sn2"):
            assert np.isnan(getattr(measured, name)).all()
        assert set(measured.summary()) == {"diameter", "dispersion"}

    def test_a_foreign_row_on_the_centroid(self):
        features = np.array([[0.0, 0.1], [0.2, 0.1], [0.1, 0.1], [5.0, 5.0]])
        measured = cluster_geometry(features, np.array([0, 0, 1, 1]), device="cpu")
        assert measured.separation[0] == pytest.approx(0, abs=1e-15)
        assert measured.sn1[0] > 1e12


class TestAgainstLoops:
    @pytest.mark.parametrize("quantile", [1.0, 0.9, 0.3])
    @pytest.mark.parametrize("side", [4, 2048], ids=["blocks", "whole"])
    def test_random_clusters(self, quantile, side, monkeypatch):
        monkeypatch.setattr(geometry_module, "_SIDE", side)
        rng = np.random.default_rng(0)
        labels = rng.integers(-1, 5, 120) * 3
        labels[labels < 0] = -1
        features = rng.normal(size=(16, 7))[labels] * 2 + rng.normal(size=(120, 7)) + 100
        check_against_loops(features.astype(np.float32), labels, quantile)

    def test_more_clusters_than_a_block(self, monkeypatch):
        monkeypatch.setattr(geometry_module, "_SIDE", 5)
        rng = np.random.default_rng(1)
        check_against_loops(rng.normal(size=(90, 3)), np.arange(90) % 40)

    def test_distances_that_are_equal_or_zero(self, monkeypatch):
        """As of hashes, whose bits give few distances; the quantile cannot narrow them down by their size."""
        monkeypatch.setattr(geometry_module, "_SIDE", 8)
        bits = np.random.default_rng(0).integers(0, 2, (60, 4)).astype(np.float32)
        for quantile in (0, 0.1, 0.5, 0.99, 1):
            check_against_loops(bits, np.arange(60) % 2, quantile)

    def test_the_farthest_pair_need_not_be_of_the_farthest_row(self, monkeypatch):
        """Two rows out east, near each other; the farthest pair is north and south, not quite as far out."""
        monkeypatch.setattr(geometry_module, "_SIDE", 2)
        features = np.array([[10, 0.1], [10, -0.1], [0, 9.9], [0, -9.9], *[[-1, 0]] * 20])
        assert check_against_loops(features, np.zeros(24, int)).diameter == pytest.approx(19.8)

    def test_far_from_the_origin_digits_are_kept(self):
        rng = np.random.default_rng(0)
        features = rng.normal(size=(50, 5)) + 1e6
        check_against_loops(features, np.arange(50) % 3, rtol=1e-7)

    @given(st.integers(0, 2**32 - 1), st.integers(2, 40), st.integers(1, 4), st.floats(0, 1))
    @settings(max_examples=40)
    def test_any(self, seed, rows, width, quantile):
        rng = np.random.default_rng(seed)
        labels = rng.integers(-1, 4, rows)
        labels[0] = 9
        check_against_loops(rng.normal(size=(rows, width)), labels, quantile)


def test_order_statistics_of_numbers_that_share_their_upper_half():
    values = np.float32(1) + np.arange(200, dtype=np.float32)[::-1] * np.float32(2**-23)
    found = geometry_module._order_statistics(lambda: iter(np.array_split(values, 7)), (0, 3, 150, 199))
    assert found == np.sort(values)[[0, 3, 150, 199]].tolist()


@pytest.mark.parametrize("quantile", [1.0, 0.5])
def test_names_order_and_place_of_rows_mean_nothing(quantile):
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(80, 4)), rng.integers(-1, 6, 80)
    here = cluster_geometry(features, labels, quantile=quantile, device="cpu")
    renamed = np.array([50, 10, 70, 20, 90, 30, -1])[labels]
    order = rng.permutation(80)
    turn, _ = np.linalg.qr(rng.normal(size=(4, 4)))
    there = cluster_geometry((features @ turn + 3)[order], renamed[order], quantile=quantile, device="cpu")
    sorting = np.argsort([50, 10, 70, 20, 90, 30])
    for name in ("size", *FIGURES):
        assert_allclose(getattr(there, name), getattr(here, name)[sorting], rtol=1e-6)


def test_lengths_grow_with_the_features_and_ratios_do_not():
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(60, 3)), np.arange(60) % 4
    one, ten = (cluster_geometry(scale * features, labels, device="cpu") for scale in (1, 10))
    for name in FIGURES:
        assert_allclose(getattr(ten, name), getattr(one, name) * (1 if name.startswith("sn") else 10))


def test_memory_does_not_grow_with_the_square_of_a_cluster(monkeypatch):
    monkeypatch.setattr(geometry_module, "_SIDE", 128)
    features = np.random.default_rng(0).normal(size=(8_000, 2))
    tracemalloc.start()
    cluster_geometry(features, np.zeros(8_000, np.int64), quantile=0.5, device="cpu")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16e6  # all distances would be 128 MB of float32


def test_progress_adds_up_to_the_clustered_rows():
    told = []
    cluster_geometry(BLOBS, np.arange(20) % 3 - 1, device="cpu", advance=told.append)
    assert sum(told) == 13


def test_the_table_has_a_row_a_cluster():
    measured = cluster_geometry(TestByHand.FEATURES, TestByHand.LABELS, device="cpu")
    table = measured.as_table()
    assert list(table) == ["cluster", "size", *FIGURES]
    assert {len(column) for column in table.values()} == {3}
    assert table["diameter"].tolist() == [4, 6, 0]
    assert measured.summary()["diameter"] == {"mean": pytest.approx(10 / 3), "median": 4, "min": 0, "max": 6}
    assert [line.split()[0] for line in str(measured).splitlines()] == ["geometry", *FIGURES]


def test_what_cannot_be_measured():
    with pytest.raises(InputError, match=r"quantile must lie between 0 and 1, got 1\.5"):
        cluster_geometry(DIAMOND, np.zeros(4, int), quantile=1.5)
    with pytest.raises(InputError, match="got shape"):
        cluster_geometry(DIAMOND, np.zeros(5, int))
    with pytest.raises(InputError, match="all of its 4 rows are noise"):
        cluster_geometry(DIAMOND, np.full(4, -1))
