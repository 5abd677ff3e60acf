"""k-means against scikit-learn, by invariance, and on what is hard: few rows, twins, one point."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.cluster import KMeans as Oracle

from imagescape.cluster.partition import KMeans, quantize
from imagescape.errors import CheckpointError, InputError, NotFitted
from tests.cluster.blobs import blobs, same_partition

pytest.importorskip("faiss")


def inertia(rows, labels):
    """Sum of squared distances to the means, one cluster at a time."""
    return sum(float(np.square(rows[labels == one] - rows[labels == one].mean(0)).sum()) for one in np.unique(labels))


class TestKMeans:
    def test_finds_what_is_there_numbered_by_size(self):
        rows, truth = blobs([40, 10, 25])
        found = KMeans(k=3, random_state=0).fit(rows)
        assert same_partition(found.labels_, truth)
        assert np.bincount(found.labels_).tolist() == [40, 25, 10]
        for label in range(3):
            assert_allclose(found.centroids_[label], rows[found.labels_ == label].mean(0), atol=1e-4)

    def test_inertia_is_that_of_scikit_learn(self):
        rows = np.random.default_rng(0).normal(0, 1, (400, 4)).astype(np.float32)
        ours = KMeans(k=8, restarts=20, random_state=0).fit(rows)
        theirs = Oracle(8, n_init=20, random_state=0).fit(rows)
        assert ours.inertia_ == pytest.approx(inertia(rows.astype(float), ours.labels_), rel=1e-3)
        assert ours.inertia_ <= theirs.inertia_ * 1.01

    def test_more_restarts_are_better(self):
        rows = np.random.default_rng(1).normal(0, 1, (300, 2)).astype(np.float32)
        few, many = (
            [KMeans(k=12, restarts=count, random_state=seed).fit(rows).inertia_ for seed in range(8)]
            for count in (1, 10)
        )
        assert np.mean(many) < np.mean(few) * 0.99
        assert np.std(many) < np.std(few)

    def test_spherical_looks_at_directions_alone(self):
        rng = np.random.default_rng(0)
        rows, truth = blobs([30, 20, 20], apart=10)
        longer = rows * rng.uniform(0.2, 30, (70, 1)).astype(np.float32)
        found = KMeans(k=3, metric="cosine", random_state=0).fit(longer)
        away = truth > -1
        assert same_partition(found.labels_[away], KMeans(k=3, metric="cosine", random_state=0).fit(rows).labels_)
        assert_allclose(np.linalg.norm(found.centroids_, axis=1), 1, rtol=1e-5)
        unit = longer / np.linalg.norm(longer, axis=1, keepdims=True)
        cosines = (unit * found.centroids_[found.labels_]).sum(1)
        assert found.inertia_ == pytest.approx((1 - cosines).sum(), rel=1e-3)

    def test_hashes_are_parted_by_their_bits(self):
        rng = np.random.default_rng(0)
        kinds = np.array([[255, 0, 0, 0], [0, 0, 255, 255]], np.uint8)
        truth = rng.integers(0, 2, 60)
        flips = np.packbits(rng.random((60, 32)) < 0.03, axis=1)
        assert same_partition(KMeans(k=2, metric="hamming").fit(kinds[truth] ^ flips).labels_, truth)

    def test_where_rows_lie_and_in_which_order_changes_nothing(self):
        rows, _ = blobs([30, 20, 10], apart=8)
        labels = KMeans(k=3, random_state=0).fit(rows).labels_
        order = np.random.default_rng(1).permutation(len(rows))
        assert_array_equal(KMeans(k=3, random_state=0).fit(rows + 1000).labels_, labels)
        assert_array_equal(KMeans(k=3, random_state=5).fit(rows[order]).labels_, labels[order])

    def test_the_seed_settles_it(self):
        rows = np.random.default_rng(0).normal(0, 1, (200, 3))
        a, b, c = (KMeans(k=9, restarts=1, random_state=seed).fit(rows).labels_ for seed in (0, 0, 1))
        assert_array_equal(a, b)
        assert not same_partition(a, c)

    def test_new_rows_go_to_the_nearest_centroid(self):
        rows, _ = blobs([30, 20])
        found = KMeans(k=2, random_state=0).fit(rows)
        new = np.random.default_rng(3).normal(0, 15, (40, 5))
        apart = np.linalg.norm(new[:, None] - found.centroids_[None], axis=2)
        assert_array_equal(found.predict(new), apart.argmin(1))
        assert_array_equal(found.predict_proba(new).argmax(1), apart.argmin(1))
        assert_array_equal(found.predict(rows), found.labels_)
        assert_allclose(found.assign(rows).probabilities, found.probabilities_, rtol=1e-5)

    def test_rows_between_two_clusters_are_less_sure(self):
        rows, _ = blobs([30, 30], apart=8)
        found = KMeans(k=2, random_state=0).fit(rows)
        middle = found.centroids_.mean(0, keepdims=True)
        assert found.assign(middle).probabilities[0] == pytest.approx(0.5, abs=0.01)
        assert found.probabilities_.min() > 0.5
        assert found.assign(found.centroids_).probabilities.min() > 0.9

    def test_no_cluster_is_empty_though_most_rows_are_twins(self):
        rows = np.zeros((500, 3), np.float32)
        rows[:3] = np.eye(3)
        found = KMeans(k=4, restarts=1, random_state=0).fit(rows)
        assert sorted(np.bincount(found.labels_).tolist()) == [1, 1, 1, 497]

    def test_a_centroid_without_rows_takes_the_farthest(self):
        rows = np.array([[0.0], [1.0], [9.0]], np.float32)
        labels, squares, vectors = KMeans(k=2)._filled(rows, np.array([[1.0], [500.0]], np.float32))
        assert labels.tolist() == [0, 0, 1]
        assert_allclose(vectors[:, 0], [1, 9])
        assert_allclose(squares, [1, 0, 0], atol=1e-5)

    def test_as_many_clusters_as_rows(self):
        assert KMeans(k=4).fit(np.arange(8.0).reshape(4, 2)).labels_.tolist() == [0, 1, 2, 3]

    @pytest.mark.parametrize(
        ("rows", "k", "message"),
        [
            (np.ones((3, 2)), 5, "k must be at most the 3 rows there are, got 5"),
            (np.ones((9, 2)), 2, "all 9 rows are equal: there is nothing to part into 2 clusters"),
            (np.repeat(np.eye(3), 5, 0), 4, "rows that can be told apart, got 4 for 3"),
            (np.full((9, 2), np.nan), 2, "features must be finite, row 0"),
        ],
    )
    def test_what_cannot_be_parted_is_refused(self, rows, k, message):
        with pytest.raises(InputError, match=message):
            KMeans(k=k).fit(rows)

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"k": 1}, "k must be a whole number of at least 2, got 1"),
            ({"k": 2.5}, "got 2.5"),
            ({"k": True}, "got True"),
            ({"k": 2, "metric": "manhattan"}, "metric must be one of euclidean, cosine, hamming"),
            ({"k": 2, "restarts": 0}, "restarts must be a whole number of at least 1"),
        ],
    )
    def test_bad_settings_are_refused(self, settings, message):
        with pytest.raises(InputError, match=message):
            KMeans(**settings)

    def test_saved_and_loaded_it_says_the_same(self, tmp_path):
        rows, _ = blobs([30, 20])
        found = KMeans(k=2, metric="cosine", random_state=4).fit(rows)
        found.save(tmp_path / "m", features="F")
        again = KMeans.load(tmp_path / "m")
        assert again.get_params() == found.get_params()
        assert_array_equal(again.predict_proba(rows), found.predict_proba(rows))

    def test_a_model_of_another_kind_is_refused(self, tmp_path):
        rows, _ = blobs([30, 20])
        KMeans(k=2).fit(rows).save(tmp_path / "m")
        text = (tmp_path / "m" / "config.json").read_text()
        (tmp_path / "m" / "config.json").write_text(text.replace("KMeans", "Other"))
        with pytest.raises(CheckpointError, match="is a Other, not a KMeans"):
            KMeans.load(tmp_path / "m")

    def test_nothing_is_predicted_before_fit(self):
        with pytest.raises(NotFitted, match="call fit, or load"):
            KMeans(k=2).predict(np.ones((2, 2)))

    def test_arguments_as_scikit_learn_asks_for_them(self):
        model = KMeans(k=3, random_state=7)
        assert model.get_params()["random_state"] == 7
        assert model.set_params(k=5).k == 5


def test_quantize_gives_small_clusters_of_which_none_is_empty():
    rows = np.random.default_rng(0).normal(5, 1, (3000, 3)).astype(np.float32)
    labels, centroids = quantize(rows, 100, seed=0)
    assert len(centroids) == len(np.unique(labels)) <= 100
    apart = np.linalg.norm(rows[:, None] - centroids[None], axis=2)
    assert (apart.argmin(1) == labels).mean() > 0.999
    assert apart.min(1).mean() < 0.5 * np.linalg.norm(rows - rows.mean(0), axis=1).mean()


def test_quantize_of_twins_has_one_centroid_each():
    rows = np.repeat(np.eye(3, dtype=np.float32), 50, 0)
    labels, centroids = quantize(rows, 10, seed=0)
    assert len(centroids) == 3
    assert_allclose(centroids[labels], rows, atol=1e-6)
