"""Neighbour maps: they keep neighbours, place new rows, and come back from disk as they were."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.decomposition import PCA

from imagescape.errors import CheckpointError, InputError, NotFitted
from imagescape.evaluate.metrics import knn_recall
from imagescape.evaluate.neighbors import nearest, nearest_others
from imagescape.learn import neighbormap, train
from imagescape.learn.neighbormap import NeighborMap, NeighborRecipe
from imagescape.learn.pairs import GraphPairs
from imagescape.learn.placing import Components, Lessons, geometric_median, mean_distance

QUICK = {"device": "cpu", "random_state": 0}


def blobs(n, seed=0, classes=8, dimensions=20, centres_seed=7):
    """Rows around a few far centres, and the number of each row's centre."""
    centres = np.random.default_rng(centres_seed).normal(0, 4, (classes, dimensions))
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=n)
    return (centres[labels] + rng.normal(0, 1, (n, dimensions))).astype(np.float32), labels


def vote(map_coords, map_labels, coords, k=15):
    found = nearest(map_coords, coords, k).indices
    return np.array([np.bincount(row).argmax() for row in map_labels[found]])


@pytest.fixture(scope="module")
def data():
    return blobs(600)


@pytest.fixture(scope="module", params=["table", "mlp"])
def fitted(request, data):
    return NeighborMap(network=request.param, epochs=150, network_epochs=40, **QUICK).fit(data[0])


class TestQuality:
    def test_keeps_more_neighbours_than_the_first_two_components(self, fitted, data):
        linear = PCA(2).fit_transform(data[0])
        kept = [knn_recall(data[0], coords, 15, device="cpu").value for coords in (linear, fitted.coords_)]
        assert kept[1] > kept[0] + 0.1

    def test_classes_lie_apart_and_new_rows_among_their_own(self, fitted, data):
        labels = data[1]
        new, new_labels = blobs(200, seed=1)
        assert (vote(fitted.coords_, labels, fitted.coords_) == labels).mean() > 0.97
        assert (vote(fitted.coords_, labels, fitted.transform(new)) == new_labels).mean() > 0.95

    def test_loss_falls(self, fitted):
        for stage in {line["stage"] for line in fitted.history_}:
            losses = [line["loss"] for line in fitted.history_ if line["stage"] == stage]
            assert np.mean(losses[-5:]) < np.mean(losses[:5])

    @pytest.mark.parametrize("metric", ["euclidean", "cosine"])
    def test_neighbours_are_those_in_the_features_not_in_their_components(self, monkeypatch, metric):
        x = np.random.default_rng(0).normal(1, 1, (300, 40))
        monkeypatch.setattr(neighbormap, "COMPONENTS", 25)
        graphs = []

        def remember(graph, device):
            graphs.append(graph)
            return GraphPairs(graph, device)

        monkeypatch.setattr(neighbormap, "GraphPairs", remember)
        NeighborMap(epochs=1, neighbors=5, metric=metric, **QUICK).fit(x)
        graphs.append(nearest_others(Components.of(x, 25).project(x), 5, metric=metric).indices)
        exact = nearest_others(x, 5, metric=metric).indices
        ours, of_components = (
            np.mean([np.isin(*lines).mean() for lines in zip(exact, g, strict=True)]) for g in graphs
        )
        assert ours > of_components + 0.1

    def test_shuffled_graph_makes_no_map(self, data):
        features, labels = data
        graph = np.random.default_rng(0).integers(len(features), size=(len(features), 10))
        broken = NeighborMap(epochs=150, **QUICK).fit(features, graph=graph)
        assert (vote(broken.coords_, labels, broken.coords_) == labels).mean() < 0.8


class TestEstimator:
    @pytest.mark.parametrize("dimensions", [1, 2, 3])
    def test_dimensions_and_principal_axes(self, data, dimensions):
        coords = NeighborMap(out_dim=dimensions, epochs=5, **QUICK).fit_transform(data[0])
        assert coords.shape == (600, dimensions)
        assert coords.dtype == np.float32
        assert_allclose(coords.mean(0), 0, atol=1e-3 * np.abs(coords).max())
        covariance = np.cov(coords.T).reshape(dimensions, dimensions)
        assert (np.diff(np.diag(covariance)) <= 1e-6).all()
        assert_allclose(covariance - np.diag(np.diag(covariance)), 0, atol=1e-3 * covariance.max())

    def test_same_seed_same_map_and_another_seed_another(self, data):
        maps = [NeighborMap(epochs=3, device="cpu", random_state=seed).fit(data[0]).coords_ for seed in (0, 0, 1)]
        assert_array_equal(maps[0], maps[1])
        assert np.abs(maps[0] - maps[2]).max() > 0.1

    def test_the_table_takes_one_thread_and_gives_the_others_back(self, data, monkeypatch):
        seen, update = [], train._update
        monkeypatch.setattr(train, "_update", lambda *a: (seen.append(torch.get_num_threads()), update(*a))[1])
        before = torch.get_num_threads()
        torch.set_num_threads(2)
        try:
            NeighborMap(network="mlp", epochs=1, network_epochs=1, **QUICK).fit(data[0])
            assert torch.get_num_threads() == 2
        finally:
            torch.set_num_threads(before)
        assert (seen[0], seen[-1]) == (1, 2)

    def test_transform_of_a_network_says_the_same_of_the_rows_it_was_fitted_on(self, data):
        model = NeighborMap(network="mlp", epochs=5, network_epochs=1, **QUICK).fit(data[0])
        assert_allclose(model.transform(data[0]), model.coords_, rtol=1e-4, atol=1e-4)

    def test_transform_of_a_table_puts_a_row_it_knows_on_its_own_place(self, data):
        model = NeighborMap(epochs=5, **QUICK).fit(data[0])
        assert_allclose(model.transform(data[0]), model.coords_, atol=1e-3)

    def test_transform_goes_row_by_row(self, fitted):
        new, _ = blobs(20, seed=2)
        assert_allclose(fitted.transform(new)[3:5], fitted.transform(new[3:5]), rtol=1e-4, atol=1e-3)
        assert fitted.transform(new[:0]).shape == (0, 2)

    def test_a_known_graph_gives_the_map_of_the_one_it_would_make(self, data):
        from imagescape.evaluate.neighbors import nearest_others

        inputs = Components.of(data[0], 128).project(data[0])
        graph = nearest_others(inputs, 10, device="cpu").indices
        own, given = (NeighborMap(epochs=3, **QUICK).fit(data[0], graph=g).coords_ for g in (None, graph))
        assert_array_equal(own, given)

    def test_few_rows_the_same_rows_and_float16(self):
        for features in (np.eye(4), np.zeros((50, 3)), blobs(40)[0].astype(np.float16), np.ones((30, 1))):
            coords = NeighborMap(epochs=2, **QUICK).fit_transform(features)
            assert np.isfinite(coords).all()

    def test_scikit_learn_parameters(self):
        model = NeighborMap(out_dim=3, random_state=4)
        assert model.get_params() == {"out_dim": 3, "random_state": 4}
        assert model.set_params(neighbors=5).recipe == NeighborRecipe(out_dim=3, seed=4, neighbors=5)

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (lambda: NeighborMap(perplexity=30), "no setting 'perplexity' of neighbour maps"),
            (lambda: NeighborMap(out_dim=0), "out_dim must be a whole number of at least 1, got 0"),
            (lambda: NeighborMap(network="cnn"), "network must be one of mlp, table, got 'cnn'"),
            (lambda: NeighborMap(metric="hamming"), "metric must be one of"),
            (lambda: NeighborMap(start_width=-1.0), "start_width must be above 0"),
            (lambda: NeighborMap(**QUICK).fit(np.zeros((3, 2))), "at least 4 rows"),
            (lambda: NeighborMap(**QUICK).fit(np.zeros(8)), r"at least 4 rows of features, got shape \(8,\)"),
            (lambda: NeighborMap(**QUICK).fit(np.full((8, 2), np.nan)), "must be finite"),
            (lambda: NeighborMap(**QUICK).fit(np.eye(8), graph=np.full((8, 2), 8)), "must name rows of these 8"),
        ],
    )
    def test_bad_input(self, call, message):
        with pytest.raises(InputError, match=message):
            call()

    def test_other_width_or_nothing_learned(self, fitted):
        with pytest.raises(InputError, match="the map is of 20 features a row"):
            fitted.transform(np.zeros((2, 3)))
        with pytest.raises(NotFitted):
            NeighborMap().transform(np.zeros((2, 3)))


class TestDisk:
    def test_saved_and_loaded(self, fitted, tmp_path):
        new, _ = blobs(30, seed=5)
        fitted.save(tmp_path / "model", features="F")
        again = NeighborMap.load(tmp_path / "model", device="cpu")
        assert_array_equal(again.transform(new), fitted.transform(new))
        assert again.recipe == fitted.recipe

    def test_of_another_method_or_damaged(self, fitted, tmp_path):
        fitted.save(tmp_path / "model")
        (tmp_path / "model" / "weights.safetensors").write_bytes(b"no")
        with pytest.raises(CheckpointError, match="cannot be read"):
            NeighborMap.load(tmp_path / "model")
        config = (tmp_path / "model" / "config.json").read_text()
        (tmp_path / "model" / "config.json").write_text(config.replace("NeighborMap", "TSimCNE"))
        with pytest.raises(CheckpointError, match="is a TSimCNE, not a NeighborMap"):
            NeighborMap.load(tmp_path / "model")

    def test_stopped_and_taken_up_again_is_the_same_map(self, data, tmp_path, stopped_after):
        settings = {"network": "mlp", "epochs": 4, "network_epochs": 3, **QUICK}
        whole = NeighborMap(**settings).fit(data[0]).coords_
        for steps in (3, 20, 4):  # in the table, in the network, in the network again
            with stopped_after(steps):
                NeighborMap(**settings).fit(data[0], run_folder=tmp_path / "run", checkpoint_minutes=0)
                pytest.fail("it was not stopped")
        assert (tmp_path / "run" / "stage-1.safetensors").exists()
        lines = train.read_metrics(tmp_path / "run" / "metrics.jsonl")
        assert {line["stage"] for line in lines} == {1, 2}  # the table is not learned again
        resumed = NeighborMap(**settings).fit(data[0], run_folder=tmp_path / "run", checkpoint_minutes=0)
        assert_array_equal(resumed.coords_, whole)


class TestParts:
    def test_pairs_are_neighbours_and_repeatable(self):
        graph = np.array([[1, 2], [2, 3], [3, 0], [0, 1]])
        pairs = GraphPairs(graph, torch.device("cpu"))
        rows, others = pairs.batch(np.array([2, 0, 3] * 50), torch.Generator().manual_seed(0))
        drawn = {(int(a), int(b)) for a, b in zip(rows, others, strict=True)}
        assert drawn == {(2, 3), (2, 0), (0, 1), (0, 2), (3, 0), (3, 1)}
        again = pairs.batch(np.array([2, 0, 3] * 50), torch.Generator().manual_seed(0))
        assert torch.equal(again[1], others)

    def test_lessons_carry_inputs_and_targets_of_the_same_row(self):
        inputs, targets = np.arange(8, dtype=np.float32).reshape(4, 2), np.arange(4, dtype=np.float32)[:, None] * 10
        lessons = Lessons(inputs, targets, np.array([[1], [2], [3], [0]]), torch.device("cpu"))
        a, b = lessons.batch(np.array([1, 3]), torch.Generator())
        assert a.tolist() == [[2, 3, 10], [6, 7, 30]]
        assert b.tolist() == [[4, 5, 20], [0, 1, 0]]

    def test_mean_distance(self):
        a, b = torch.tensor([[3.0, 4.0, 0.0, 0.0]]), torch.tensor([[1.0, 1.0, 1.0, 2.0]])
        assert mean_distance(a, b).item() == pytest.approx((5 + 1) / 2, abs=1e-3)

    def test_components_are_scikit_learns(self, data):
        ours = Components.of(data[0], 5).project(data[0])
        theirs = PCA(5, svd_solver="full").fit_transform(data[0])
        assert_allclose(np.abs(ours), np.abs(theirs), atol=1e-3)

    def test_geometric_median(self):
        points = np.array([[[0.0, 0.0], [0.0, 0.0], [9.0, 0.0]], [[0.0, 0.0], [2.0, 0.0], [1.0, 3.0]]])
        found = geometric_median(points, np.ones((2, 3)), steps=200)
        assert_allclose(found[0], [0, 0], atol=1e-2)  # the two outvote the one; the mean would lie at 3
        # Fermat's point of the triangle: it sees every two corners at 120 degrees.
        arms = points[1] - found[1]
        arms /= np.linalg.norm(arms, axis=1, keepdims=True)
        assert_allclose([arms[i] @ arms[j] for i, j in ((0, 1), (1, 2), (0, 2))], -0.5, atol=1e-3)
