"""Learned clusterings of features: they find what is there, keep every cluster, and are on disk what they were."""

import logging

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import linear_sum_assignment

from imagescape.errors import CheckpointError, InputError
from imagescape.evaluate.neighbors import nearest_others
from imagescape.learn.cluster_estimator import Validation
from imagescape.learn.cluster_heads import LinearHeads
from imagescape.learn.cluster_losses import scan_loss
from imagescape.learn.cluster_rows import (
    NeighborRows,
    UnitRows,
    batch_for,
    graph_of,
    in_use,
    kmeans_centroids,
    set_aside,
)
from imagescape.learn.estimator import NotFitted
from imagescape.learn.multihead import MultiHead, MultiHeadRecipe
from imagescape.learn.scan import SCAN, PerturbedRows, evenly_weighed

pytest.importorskip("faiss")

QUICK = {"device": "cpu", "random_state": 0, "steps": 40, "heads": 4}
SELFLABEL = {"selflabel": True, "selflabel_steps": 20}
METHODS = {"multihead": (MultiHead, {}), "scan": (SCAN, {}), "selflabel": (SCAN, SELFLABEL)}


def blobs(n, seed=0, classes=8, dimensions=32, centres_seed=7, sizes=None):
    """Rows around a few centres away from the origin, and the number of each row's centre."""
    centres = 3 + np.random.default_rng(centres_seed).normal(0, 2, (classes, dimensions))
    rng = np.random.default_rng(seed)
    labels = rng.choice(classes, size=n, p=sizes)
    return (centres[labels] + rng.normal(0, 1, (n, dimensions))).astype(np.float32), labels


def accuracy(labels, clusters):
    counts = np.zeros((clusters.max() + 1, labels.max() + 1), np.int64)
    np.add.at(counts, (clusters, labels), 1)
    return counts[linear_sum_assignment(-counts)].sum() / len(labels)


@pytest.fixture(scope="module")
def data():
    return blobs(600)


@pytest.fixture(params=METHODS)
def method(request):
    kind, settings = METHODS[request.param]
    return lambda k=8, **changes: kind(k, **{**QUICK, **settings, **changes})


@pytest.fixture(scope="module", params=METHODS)
def fitted(request, data):
    kind, settings = METHODS[request.param]
    return kind(8, **QUICK, **settings).fit(data[0])


class TestQuality:
    def test_finds_clear_classes_and_those_of_new_rows(self, fitted, data):
        new, labels = blobs(200, seed=1)
        assert accuracy(data[1], fitted.labels_) > 0.98
        assert accuracy(labels, fitted.predict(new)) > 0.98
        assert fitted.alive_ == 8

    def test_finds_them_from_random_starts_too(self, data):
        model = MultiHead(8, kmeans_heads=0, **QUICK | {"heads": 8, "steps": 150})
        assert accuracy(data[1], model.fit_predict(data[0])) > 0.9

    @pytest.mark.parametrize("k", [6, 10])
    def test_k_off_by_two_fills_every_cluster(self, method, data, k):
        model = method(k).fit(data[0])
        assert model.alive_ == k
        assert model.probabilities_.shape == (600, k)

    def test_a_long_tail_keeps_its_clusters(self, method):
        sizes = 20.0 ** -(np.arange(8) / 7)
        features, labels = blobs(1000, sizes=sizes / sizes.sum())
        model = method().fit(features)
        assert model.alive_ == 8
        assert np.bincount(model.labels_, minlength=8).min() > 4
        # Even clusters are worth something to every method here, so the largest classes may be parted: see the guide.
        assert accuracy(labels, model.labels_) > 0.6

    def test_random_neighbours_do_not_teach(self, data):
        graph = np.random.default_rng(0).integers(600, size=(600, 20))
        right = SCAN(8, kmeans_heads=0, **QUICK).fit(data[0])
        wrong = SCAN(8, kmeans_heads=0, **QUICK).fit(data[0], graph=graph)
        assert right.loss_.min() < wrong.loss_.min() - 0.5
        assert accuracy(data[1], wrong.labels_) < 0.7


class TestEstimator:
    def test_what_it_says(self, fitted, data):
        probabilities = fitted.probabilities_
        assert (fitted.labels_.dtype, probabilities.dtype) == (np.int64, np.float32)
        assert probabilities.shape == (600, 8)
        assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
        assert_array_equal(probabilities.argmax(1), fitted.labels_)
        assert_allclose(fitted.predict_proba(data[0]), probabilities, atol=1e-6)
        assert fitted.loss_[fitted.head_] == np.nanmin(fitted.loss_)
        assert fitted.history_

    def test_the_kept_head_is_the_best_of_all_looks(self, fitted):
        assert fitted.validation_.shape[1] == len(fitted.loss_)
        assert fitted.loss_.min() == np.nanmin(fitted.validation_)

    def test_clusters_are_numbered_by_size(self, method):
        sizes = np.array([0.04, 0.4, 0.1, 0.3, 0.16])
        features, _ = blobs(500, classes=5, sizes=sizes)
        model = method(5).fit(features)
        counts = np.bincount(model.labels_, minlength=5)
        assert counts.tolist() == sorted(counts.tolist(), reverse=True)
        assert counts[0] > 2 * counts[4]
        assert_array_equal(model.predict(features), model.labels_)

    def test_a_batch_is_never_larger_than_the_rows(self, method, data):
        recipe = method(2, batch_size=1000).recipe
        assert recipe.schedule(90).batch_size == 90
        assert recipe.schedule(5000).batch_size == 1000
        assert len(method(2, batch_size=1000).fit(data[0][:90]).labels_) == 90

    def test_predict_goes_row_by_row(self, fitted):
        new, _ = blobs(20, seed=2)
        assert_allclose(fitted.predict_proba(new)[3:5], fitted.predict_proba(new[3:5]), atol=1e-6)
        assert fitted.predict(new[:0]).shape == (0,)

    def test_same_seed_same_clusters_and_another_seed_others(self, method, data):
        found = [method(random_state=seed).fit(data[0]).probabilities_ for seed in (0, 0, 1)]
        assert_array_equal(found[0], found[1])
        assert np.abs(found[0] - found[2]).max() > 1e-4

    def test_a_known_graph_gives_the_clusters_of_the_one_it_would_make(self, data):
        rows = UnitRows.of(data[0], 8).project(data[0])
        graph = nearest_others(rows, 40, metric="cosine", device="cpu").indices
        own, given = (SCAN(8, **QUICK).fit(data[0], graph=g).probabilities_ for g in (None, graph))
        assert_array_equal(own, given)

    def test_scale_and_origin_of_features_do_not_matter(self, data):
        moved = MultiHead(8, **QUICK).fit(0.5 * data[0] - 4)
        assert_array_equal(moved.labels_, MultiHead(8, **QUICK).fit(data[0]).labels_)

    @pytest.mark.parametrize("features", [np.eye(4), blobs(40)[0].astype(np.float16), np.arange(9.0)[:, None]])
    def test_few_rows_and_other_types(self, method, features):
        model = method(2, steps=3).fit(features)
        assert set(model.labels_) <= {0, 1}
        assert np.isfinite(model.probabilities_).all()

    def test_as_many_clusters_as_rows(self, method):
        assert len(method(12, steps=2).fit(blobs(12)[0]).labels_) == 12

    def test_scikit_learn_parameters(self):
        model = MultiHead(8, heads=3, random_state=4)
        assert model.get_params() == {"k": 8, "heads": 3, "random_state": 4}
        assert model.set_params(k=5).recipe == MultiHeadRecipe(k=5, heads=3, seed=4)

    def test_dead_clusters_are_told(self, caplog):
        # Three places hold all rows but one: a fourth cluster cannot have its share.
        features = np.repeat(np.eye(4, dtype=np.float32), [200, 200, 200, 1], axis=0)
        with caplog.at_level(logging.WARNING):
            model = MultiHead(4, **QUICK).fit(features)
        assert model.alive_ < 4
        assert "of the 4 clusters asked for, 1 have hardly any rows" in caplog.text

    @pytest.mark.parametrize("rate", [1e-3, 1e4])
    def test_learning_that_ruins_the_clusters_is_rolled_back(self, data, rate):
        """A rate far too high: what comes of it is never worse than what it began with."""
        model = MultiHead(8, learning_rate=rate, **QUICK).fit(data[0])
        assert model.loss_.min() <= model.validation_[0].min()
        assert accuracy(data[1], model.labels_) > 0.9

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (lambda: MultiHead(1), "k must be a whole number of at least 2, got 1"),
            (lambda: SCAN(2.5), "k must be a whole number of at least 2, got 2.5"),
            (lambda: MultiHead(8, heads=0), "heads must be a whole number of at least 1"),
            (lambda: MultiHead(8, entropy_weight=1), "no setting 'entropy_weight' of multi-head clusterings"),
            (lambda: MultiHead(8, beta=0), "beta must be above 0"),
            (lambda: MultiHead(8, temperature=0), "temperature must be above 0"),
            (lambda: MultiHead(8, teacher_momentum=1.0), "teacher_momentum must be at least 0 and below 1"),
            (lambda: MultiHead(8, learning_rate=0), "learning_rate must be above 0 and finite, got 0"),
            (lambda: SCAN(8, learning_rate=float("nan")), "learning_rate must be above 0 and finite, got nan"),
            (lambda: SCAN(8, kmeans_heads=-1), "kmeans_heads must be a whole number of at least 0, got -1"),
            (lambda: SCAN(8, beta=0.6), "no setting 'beta' of SCAN"),
            (lambda: SCAN(8, entropy_weight=-1), "entropy_weight must be at least 0"),
            (lambda: SCAN(8, confidence=2.0), "confidence must be above 0 and at most 1"),
        ],
    )
    def test_bad_settings(self, call, message):
        with pytest.raises(InputError, match=message):
            call()

    @pytest.mark.parametrize(
        ("features", "message"),
        [
            (np.eye(7), "8 clusters need at least 8 rows, got 7"),
            (np.ones((50, 4)), "8 clusters need at least 8 different rows, got 50 rows of which 1 is different"),
            (np.repeat(np.eye(4), 20, axis=0), "80 rows of which 4 are different"),
            (np.full((50, 4), np.nan), "must be finite, row 0 is not"),
            (np.where(np.arange(50)[:, None] == 7, np.inf, np.eye(50)), "must be finite, row 7 is not"),
            (np.zeros(50), r"a matrix of features \(rows, dimensions\), got shape \(50,\)"),
        ],
    )
    def test_bad_features(self, method, features, message):
        with pytest.raises(InputError, match=message):
            method().fit(features)

    def test_bad_graph_width_and_order(self, method, fitted, data):
        with pytest.raises(InputError, match="must name neighbours among these 600 rows"):
            method().fit(data[0], graph=np.full((600, 3), 600))
        with pytest.raises(InputError, match="must name neighbours among these 600 rows"):
            method().fit(data[0], graph=np.zeros((5, 3), np.int64))
        with pytest.raises(InputError, match="the clusters are of 32 features a row"):
            fitted.predict(np.zeros((2, 3)))
        with pytest.raises(NotFitted):
            method().predict(data[0])


class TestDisk:
    def test_saved_and_loaded(self, fitted, tmp_path):
        new, _ = blobs(30, seed=5)
        fitted.save(tmp_path / "model", features="F")
        again = type(fitted).load(tmp_path / "model", device="cpu")
        assert_array_equal(again.predict_proba(new), fitted.predict_proba(new))
        assert again.recipe == fitted.recipe

    def test_of_another_method_or_damaged(self, data, tmp_path):
        MultiHead(8, **QUICK).fit(data[0]).save(tmp_path / "model")
        with pytest.raises(CheckpointError, match="is a MultiHead, not a SCAN"):
            SCAN.load(tmp_path / "model")
        (tmp_path / "model" / "weights.safetensors").write_bytes(b"no")
        with pytest.raises(CheckpointError, match="cannot be read"):
            MultiHead.load(tmp_path / "model")

    def test_stopped_and_taken_up_again_is_the_same(self, method, data, tmp_path, stopped_after):
        whole = method().fit(data[0])
        for steps in (3, 30, 20):
            with stopped_after(steps):
                method().fit(data[0], run_folder=tmp_path / "run", checkpoint_minutes=0)
        resumed = method().fit(data[0], run_folder=tmp_path / "run", checkpoint_minutes=0)
        assert_array_equal(resumed.probabilities_, whole.probabilities_)
        assert_array_equal(resumed.validation_, whole.validation_)
        assert [line["step"] for line in resumed.history_] == [line["step"] for line in whole.history_]


class TestParts:
    def test_pairs_are_neighbours_and_anchors_are_those_allowed(self):
        rows = torch.arange(4.0)[:, None]
        graph = np.array([[1, 2], [2, 3], [3, 0], [0, 1]])
        pairs = NeighborRows(rows, graph, torch.device("cpu"), anchors=np.array([1, 3]))
        assert len(pairs) == 2
        a, b = pairs.batch(np.array([0, 1] * 50), torch.Generator().manual_seed(0))
        assert {(int(x), int(y)) for x, y in zip(a, b, strict=True)} == {(1, 2), (1, 3), (3, 0), (3, 1)}

    def test_unit_rows(self):
        features = np.array([[2.0, 0.0], [4.0, 0.0], [3.0, 5.0], [3.0, -5.0], [3.0, 0.0]])
        found = UnitRows.of(features, 2).project(features)
        expected = np.array([[-1, 0], [1, 0], [0, 1], [0, -1], [0, 0]])
        assert_allclose(found @ found.T, expected @ expected.T, atol=1e-6)  # but for a turn
        many = np.random.default_rng(0).normal(size=(300, 200)) * np.r_[np.full(100, 9), np.full(100, 1e-3)]
        unit = UnitRows.of(many, 2)
        assert unit.width == 128
        rows, centred = unit.project(many), many - many.mean(0)
        assert_allclose(
            rows @ rows[0],
            (centred @ centred[0]) / np.linalg.norm(centred, axis=1) / np.linalg.norm(centred[0]),
            atol=1e-4,
        )

    def test_centroids_are_of_unit_length_and_lie_in_the_clusters(self, data):
        rows = UnitRows.of(data[0], 8).project(data[0])
        centroids = kmeans_centroids(rows, 8, 3, seed=0)
        assert centroids.shape == (3, 8, 32)
        assert_allclose(np.linalg.norm(centroids, axis=2), 1, rtol=1e-5)
        clusters = [(rows @ one.T).argmax(1) for one in centroids]
        assert min(len(np.unique(one)) for one in clusters) == 8
        assert max(accuracy(data[1], one) for one in clusters) > 0.9
        assert np.abs(centroids[0] - centroids[1]).max() > 0.1
        assert_array_equal(centroids, kmeans_centroids(rows, 8, 3, seed=0))

    def test_in_use(self):
        # A fiftieth of an even share: .67 of 100 rows in three clusters, 6.7 of 1,000.
        labels = torch.tensor([[0, 0]] * 60 + [[1, 0]] * 39 + [[2, 1]])
        assert in_use(labels, 3).tolist() == [3, 2]
        assert in_use(torch.tensor([[0]] * 600 + [[1]] * 393 + [[2]] * 7), 3).tolist() == [3]
        assert in_use(torch.tensor([[0]] * 600 + [[1]] * 394 + [[2]] * 6), 3).tolist() == [2]

    def test_validation_compares_heads_on_pairs_that_stay_the_same(self):
        rows = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
        graph = np.stack([np.arange(9)[::-1], np.roll(np.arange(9), 1)], axis=1)
        heads = LinearHeads(4, 3, 2)
        losses, alive = Validation.of(rows, graph, np.array([2, 5]), 0, evenly_weighed)(heads)
        expected = scan_loss(heads(rows[[2, 2, 5, 5]]), heads(rows[[6, 1, 3, 4]]), entropy_weight=1.0)
        torch.testing.assert_close(losses, expected)
        assert alive.tolist() == [len(set(column)) for column in heads(rows[[2, 5]]).argmax(-1).T.tolist()]

    def test_rows_set_aside(self):
        learn, judge = set_aside(2000, 10, seed=0)
        assert (len(learn), len(judge)) == (1800, 200)
        assert set(learn) | set(judge) == set(range(2000))
        few = set_aside(500, 10, seed=0)
        assert (len(few[0]), len(few[1])) == (500, 500)
        assert len(set_aside(300_000, 10, seed=0)[1]) == 2**14

    def test_batches_leave_several_steps_an_epoch(self):
        assert [batch_for(n, 1024) for n in (2, 63, 64, 700, 5000, 50_000)] == [2, 63, 32, 128, 1024, 1024]

    def test_few_neighbours_of_small_clusters(self):
        assert [MultiHeadRecipe(k=10).neighbors_for(n) for n in (10, 700, 50_000)] == [1, 35, 50]

    def test_the_graph_given_is_cut_to_the_nearest(self):
        graph = np.array([[1, 2, 3], [0, 2, 3], [3, 0, 1], [2, 0, 1]])
        assert_array_equal(graph_of(np.eye(4, dtype=np.float32), graph, 2, "cpu"), graph[:, :2])

    def test_perturbed_rows(self):
        rows = torch.eye(4).repeat(1, 50)
        graph = np.array([[1], [0], [3], [2]])
        pairs = PerturbedRows(rows, graph, torch.device("cpu"), np.arange(4))
        weak, strong = pairs.batch(np.array([0, 2] * 40), torch.Generator().manual_seed(0))
        assert_array_equal(weak, rows[[0, 2] * 40])
        assert (strong == 0).float().mean().item() == pytest.approx(0.75, abs=0.03)  # half of the entries of two rows
        assert strong[::2].reshape(40, 50, 4)[:, :, 2:].abs().max() == 0  # only of the row and its neighbour
        assert strong.mean().item() == pytest.approx(weak.mean().item(), abs=0.03)
