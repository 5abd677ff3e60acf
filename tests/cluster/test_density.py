"""DBSCAN and HDBSCAN against scikit-learn, by invariance, on new rows, and on what is no cluster."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.cluster import DBSCAN as Oracle
from sklearn.metrics import adjusted_rand_score

from imagescape.cluster import density
from imagescape.cluster.density import DBSCAN, HDBSCAN, eps_name, usual_sizes
from imagescape.errors import InputError, MissingExtraError, NotFitted
from tests.cluster.blobs import blobs, same_partition


def check_dbscan(found, rows, eps, min_samples, metric="euclidean", **options):
    """Core rows are parted as by scikit-learn, noise is the same; others are with their nearest core row."""
    theirs = Oracle(eps=eps, min_samples=min_samples, metric=metric, **options).fit(rows)
    core = np.zeros(len(rows), bool)
    core[theirs.core_sample_indices_] = True
    labels = found.by_eps_[eps]
    assert_array_equal(labels < 0, theirs.labels_ < 0)
    assert same_partition(labels[core], theirs.labels_[core])
    return core, labels


class TestDBSCAN:
    @pytest.mark.parametrize("d", [2, 6])
    @pytest.mark.parametrize("min_samples", [1, 2, 4, 9])
    def test_is_that_of_scikit_learn_for_every_eps(self, d, min_samples):
        rows = np.random.default_rng(d).normal(0, 1, (300, d)).astype(np.float32)
        radii = [0.15, 0.4, 0.9, 1.6]
        found = DBSCAN(eps=radii, min_samples=min_samples).fit(rows)
        for eps in radii:
            core, labels = check_dbscan(found, rows, eps, min_samples)
            assert_array_equal(core, found.core_distances_ <= eps)
            apart = np.linalg.norm(rows[:, None] - rows[None, core], axis=2) if core.any() else np.empty((300, 0))
            for row in np.flatnonzero(~core & (labels >= 0)):
                assert labels[row] == labels[core][apart[row].argmin()]
        assert_array_equal(found.labels_, found.by_eps_[0.15])

    def test_by_cosine_and_by_bits(self):
        rng = np.random.default_rng(0)
        rows = rng.normal(0.3, 1, (200, 4)).astype(np.float32)
        check_dbscan(DBSCAN(eps=0.05, min_samples=4, metric="cosine").fit(rows), rows, 0.05, 4, "cosine")
        packed = rng.integers(0, 4, (200, 3), dtype=np.uint8)
        found = DBSCAN(eps=1, min_samples=8, metric="hamming").fit(packed)
        bits = np.unpackbits(packed, axis=1).astype(float)
        theirs = Oracle(eps=1.0, min_samples=8, metric="manhattan").fit(bits)
        assert_array_equal(found.labels_ < 0, theirs.labels_ < 0)
        assert set(np.unique(found.core_distances_)) <= set(range(25))

    @settings(max_examples=40)
    @given(
        places=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=30),
        min_samples=st.integers(1, 5),
        eps=st.sampled_from([0.5, 1.0, 1.5, 3.0, 50.0]),
    )
    def test_twins_ties_and_huge_eps(self, places, min_samples, eps):
        rows = np.array(places, np.float32)
        found = DBSCAN(eps=eps, min_samples=min_samples).fit(rows)
        check_dbscan(found, rows, eps, min_samples)
        order = np.arange(len(rows))[::-1]
        assert_array_equal(
            DBSCAN(eps=eps, min_samples=min_samples).fit(rows[order]).labels_ < 0, found.labels_[order] < 0
        )

    def test_small_blocks_change_nothing(self, monkeypatch):
        rows = np.random.default_rng(0).normal(0, 1, (200, 5)).astype(np.float32)
        whole = DBSCAN(eps=[1.0, 1.5], min_samples=4).fit(rows)
        monkeypatch.setattr(density, "_SMALLEST_BLOCK", 3)
        monkeypatch.setattr(density, "_LARGEST_BLOCK", 7)
        parts = DBSCAN(eps=[1.0, 1.5], min_samples=4).fit(rows)
        for eps in (1.0, 1.5):
            assert_array_equal(parts.by_eps_[eps], whole.by_eps_[eps])
        assert_array_equal(parts.probabilities_, whole.probabilities_)

    def test_probabilities_worked_by_hand(self):
        rows = np.array([[0.0], [1.0], [2.0], [3.2], [9.0]])
        # Within 1.3: 2, 3, 3, 2 and 1 rows. By 3 samples the middle two are core rows.
        found = DBSCAN(eps=1.3, min_samples=3).fit(rows)
        assert found.labels_.tolist() == [0, 0, 0, 0, -1]
        assert_allclose(found.probabilities_, [2 / 3, 1, 1, 2 / 3, 0], rtol=1e-6)
        assert found.nearest_.tolist() == [0, 0, 0, 0, 0]
        assert_allclose(found.core_distances_, [2, 1, 1.2, 2.2, 7], rtol=1e-6)

    def test_new_rows_join_core_rows_within_eps(self, tmp_path):
        rows, _ = blobs([40, 30], d=2)
        found = DBSCAN(eps=[2.0, 60.0], min_samples=4).fit(rows)
        assert found.by_eps_[2.0].max() == 1
        assert found.by_eps_[60.0].max() == 0
        core = found.core_distances_ <= 2.0
        assert_array_equal(found.predict(rows[core]), found.labels_[core])
        new = np.array([[20.0, 0.0], [500.0, 500.0]])
        assert found.predict(new)[1] == -1
        assert found.predict_nearest(new)[1] >= 0
        assert found.assign(new).probabilities.tolist() == [1, 0]
        assert found.predict_labellings(new)["eps60"].tolist() == [0, -1]
        found.save(tmp_path / "m")
        again = DBSCAN.load(tmp_path / "m")
        assert_array_equal(again.predict(rows), found.predict(rows))
        assert_array_equal(again.predict_labellings(rows)["eps2"], found.predict_labellings(rows)["eps2"])

    def test_all_noise(self, tmp_path):
        found = DBSCAN(eps=0.001, min_samples=5).fit(np.random.default_rng(0).normal(0, 1, (20, 3)))
        assert set(found.labels_) == set(found.nearest_) == {-1}
        assert not found.probabilities_.any()
        assert found.predict(np.ones((2, 3))).tolist() == [-1, -1]
        assert found.predict_nearest(np.ones((2, 3))).tolist() == [-1, -1]
        found.save(tmp_path / "m")
        assert DBSCAN.load(tmp_path / "m").predict(np.ones((1, 3))).tolist() == [-1]

    def test_more_samples_than_rows_are_never_dense(self):
        found = DBSCAN(eps=9, min_samples=8).fit(np.ones((3, 2)))
        assert found.labels_.tolist() == [-1] * 3
        assert np.isinf(found.core_distances_).all()

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"eps": 0}, "eps must be above 0"),
            ({"eps": []}, "eps must be above 0"),
            ({"eps": [1, 1]}, "each named once"),
            ({"eps": [1, 1 + 1e-9]}, "differ in their first six digits"),
            ({"eps": np.nan}, "eps must be above 0"),
            ({"eps": 1, "min_samples": 0}, "min_samples must be a whole number of at least 1"),
        ],
    )
    def test_bad_settings_are_refused(self, settings, message):
        with pytest.raises(InputError, match=message):
            DBSCAN(**settings)

    def test_names_of_eps(self):
        assert [eps_name(eps) for eps in (0.25, 3.0, 1e-7, 1e20)] == ["eps0_25", "eps3", "eps1e-07", "eps1e20"]


def rings(count=250, seed=0):
    """Two rings, one in the other, and a few rows elsewhere."""
    rng = np.random.default_rng(seed)
    turn = rng.uniform(0, 2 * np.pi, 2 * count)
    radius = np.repeat([3.0, 9.0], [count, count]) + rng.normal(0, 0.2, 2 * count)
    rows = np.column_stack([radius * np.cos(turn), radius * np.sin(turn)])
    return np.vstack([rows, [[30.0, 30.0], [-30.0, 25.0], [40.0, -40.0]]]).astype(np.float32), np.repeat([0, 1], count)


class TestHDBSCAN:
    def test_finds_what_k_means_cannot(self):
        rows, truth = rings()
        found = HDBSCAN(min_cluster_size=20, min_samples=5).fit(rows)
        assert adjusted_rand_score(found.labels_[:-3], truth) > 0.95
        assert found.labels_[-3:].tolist() == [-1] * 3
        assert (found.nearest_ >= 0).all()
        assert (found.probabilities_[found.labels_ < 0] == 0).all()
        assert ((found.probabilities_ >= 0) & (found.probabilities_ <= 1)).all()

    def test_scale_and_place_change_nothing(self):
        rows, _ = rings()
        labels = HDBSCAN(min_cluster_size=20).fit(rows).labels_
        assert_array_equal(HDBSCAN(min_cluster_size=20).fit(rows * 8 + 64).labels_, labels)

    def test_cosine_looks_at_directions_alone(self):
        rng = np.random.default_rng(0)
        rows, truth = blobs([80, 60], apart=15)
        rows = (rows + 1) * rng.uniform(0.5, 20, (140, 1)).astype(np.float32)
        found = HDBSCAN(min_cluster_size=20, metric="cosine").fit(rows)
        own = found.labels_ >= 0
        assert same_partition(found.labels_[own], truth[own])

    def test_new_rows(self, tmp_path):
        rows, _truth = blobs([80, 60], d=2)
        found = HDBSCAN(min_cluster_size=20, min_samples=5).fit(rows)
        own = found.labels_ >= 0
        assert_array_equal(found.predict(rows[own]), found.labels_[own])
        far = np.array([[300.0, 300.0]])
        assert found.assign(far).labels.tolist() == [-1]
        assert found.assign(far).probabilities.tolist() == [0]
        assert found.predict_nearest(far)[0] >= 0
        found.save(tmp_path / "m")
        assert_array_equal(HDBSCAN.load(tmp_path / "m").predict(rows), found.predict(rows))

    def test_many_dimensions_are_parted_as_few_are(self):
        rows, _ = rings()
        wide = np.zeros((len(rows), 40), np.float32)
        wide[:, [3, 30]] = rows
        assert_array_equal(
            HDBSCAN(min_cluster_size=20).fit(wide).labels_, HDBSCAN(min_cluster_size=20).fit(rows).labels_
        )

    def test_usual_sizes(self):
        assert usual_sizes(40, None, None) == (5, 5)
        assert usual_sizes(10_000, None, None) == (50, 15)
        assert usual_sizes(10_000, 8, None) == (8, 8)
        assert usual_sizes(10_000, 8, 3) == (8, 3)

    def test_too_few_rows(self):
        with pytest.raises(
            InputError, match="clusters of at least 5 rows, by 5 samples, need as many rows; there are 3"
        ):
            HDBSCAN().fit(np.eye(3))
        with pytest.raises(NotFitted):
            HDBSCAN().predict(np.eye(3))

    def test_beyond_the_limit_it_says_what_to_install(self, monkeypatch):
        monkeypatch.setattr(density, "SKLEARN_ROWS", 10)
        monkeypatch.setitem(__import__("sys").modules, "fast_hdbscan", None)
        with pytest.raises(MissingExtraError, match=r"pip install 'imagescape\[hdbscan\]'"):
            HDBSCAN().fit(np.random.default_rng(0).normal(0, 1, (50, 2)))


class TestFastHDBSCAN:
    """What runs beyond 20,000 rows says the same as what runs up to there."""

    @pytest.fixture(autouse=True)
    def installed(self):
        pytest.importorskip("fast_hdbscan")

    @pytest.mark.parametrize("samples", [1, 2, 5, 12])
    def test_is_that_of_scikit_learn(self, samples):
        rows, _ = rings()
        ours = density._by_fast_hdbscan(rows, 20, samples)
        theirs = density._by_sklearn(rows, 20, samples)
        assert adjusted_rand_score(ours[0], theirs[0]) > 0.97

    @pytest.mark.parametrize("samples", [3, 5, 12])
    def test_samples_are_counted_alike(self, samples):
        rows = np.random.default_rng(0).normal(0, 1, (400, 2)).astype(np.float32)  # where one more makes other clusters
        ours, theirs = density._by_fast_hdbscan(rows, 6, samples), density._by_sklearn(rows, 6, samples)
        assert adjusted_rand_score(ours[0], theirs[0]) > 0.98

    def test_many_dimensions_by_a_graph(self):
        rows, truth = blobs([200, 150, 100], d=40, apart=30)
        labels, _ = density._by_fast_hdbscan(rows, 30, 5)
        own = np.asarray(labels) >= 0
        assert own.mean() > 0.5
        assert same_partition(np.asarray(labels)[own], truth[own])
