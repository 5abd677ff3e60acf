"""Neighbours as positives: whose they are, and that learning from them is told, kept and taken up again."""

import json

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image

from imagescape.collection.ingest import ingest
from imagescape.collection.results import features, ids_of
from imagescape.collection.store import Collection
from imagescape.errors import InputError
from imagescape.evaluate.neighbors import nearest_others
from imagescape.learn.tsimcne import TSimCNE
from imagescape.pipeline import graphs
from imagescape.pipeline.embedding import embed
from imagescape.pipeline.graphs import approximate_graph, graph_of_images
from imagescape.pipeline.maps import map_images, train_encoder

SMALL = {"backbone": "resnet10", "stem": "strided", "width": 4, "hidden": 16, "batch_size": 16, "device": "cpu"}


@pytest.fixture
def scape(tmp_path):
    """40 images of noise with hashes, of which 4 came after the hashes."""
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for number in range(40):
        if number == 36:
            ingest([tmp_path / "images"], tmp_path / "c.scape")
            embed(Collection.open(tmp_path / "c.scape"), "phash64")
        pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{number:02}.png")
    ingest([tmp_path / "images"], tmp_path / "c.scape")
    return Collection.open(tmp_path / "c.scape")


def bits_apart(scape, ids):
    """(n, n) Hamming distances of the hashes of `ids`; NaN without."""
    row = {one: i for i, one in enumerate(ids_of(scape))}
    hashes = features(scape, "phash64")[[row[one] for one in ids]]
    missing = np.isnan(hashes[:, 0])
    bits = np.unpackbits(np.nan_to_num(hashes).astype(np.uint8), axis=1).astype(float)
    bits[missing] = np.nan
    return np.abs(bits[:, None] - bits[None]).sum(2)


def test_neighbours_are_those_of_the_hashes_in_the_order_of_the_ids(scape):
    ids = np.random.default_rng(1).permutation(ids_of(scape))
    graph = graph_of_images(scape, "phash64", ids, 3, seed=0, device="cpu")
    apart = bits_apart(scape, ids)
    missing = np.isnan(np.diagonal(apart))
    assert missing.sum() == 4
    assert_array_equal(graph[missing], np.repeat(np.flatnonzero(missing)[:, None], 3, axis=1))
    np.fill_diagonal(apart, np.inf)
    for row in np.flatnonzero(~missing):
        nearest = np.sort(apart[row][~missing])[:3]
        assert_array_equal(np.sort(apart[row][graph[row]]), nearest)


def test_fewer_others_than_asked_are_all_of_them_and_oneself(scape):
    ids = ids_of(scape)[:3]
    graph = graph_of_images(scape, "phash64", ids, 5, seed=0, device="cpu")
    assert [set(row) for row in graph] == [{0, 1, 2}] * 3


def test_very_many_images_take_the_index(scape, monkeypatch):
    pytest.importorskip("faiss")
    ids = ids_of(scape)
    monkeypatch.setattr(graphs, "EXACT_ROWS", 10)
    monkeypatch.setattr(graphs, "approximate_graph", lambda inputs, k, **_: np.tile(np.arange(k), (len(inputs), 1)))
    graph = graph_of_images(scape, "phash64", ids, 2, seed=0, device="cpu")
    present = np.flatnonzero(~np.isnan(np.diagonal(bits_apart(scape, ids))))
    assert_array_equal(graph[present], np.tile(present[:2], (36, 1)))


def test_graph_of_very_many_rows(scape, monkeypatch):
    pytest.importorskip("faiss")
    rng = np.random.default_rng(0)
    rows = (rng.normal(0, 9, (30, 12)).repeat(100, axis=0) + rng.normal(0, 1, (3000, 12))).astype(np.float32)
    rows[:20] = rows[0]  # twins: some will not find themselves
    graph = approximate_graph(rows, 10, metric="euclidean", seed=0)
    exact = nearest_others(rows, 10, device="cpu").indices
    assert graph.shape == (3000, 10)
    assert not (graph[20:] == np.arange(20, 3000)[:, None]).any()
    assert (graph[:, :, None] == exact[:, None]).any(2)[20:].mean() > 0.9


class TestLearning:
    def test_a_map_of_mixed_positives_says_whose_they_were(self, scape):
        settings = {"epochs": (2, 1, 1), "seed": 0, "neighbor_fraction": 0.5, **SMALL}
        model = map_images(scape, "M", features_name="phash64", neighbors=4, **settings)
        config = json.loads((scape.path / "models" / "M" / "config.json").read_text())["recipe"]
        assert config["neighbor_fraction"] == 0.5
        assert config["positives"]["features"] == "phash64"
        assert config["positives"]["neighbors"] == 4
        assert config["positives"]["features_identity"]["encoder"] == "phash64"
        loaded = TSimCNE.load(scape.path / "models" / "M", device="cpu")
        assert loaded.recipe.neighbor_fraction == 0.5
        alone = map_images(scape, "N", **(settings | {"neighbor_fraction": 0}))
        assert np.abs(alone.coords_ - model.coords_).max() > 1e-3

    def test_simclr_takes_them_too_and_by_default_of_the_last_features(self, scape):
        settings = {"epochs": 2, "seed": 0, "neighbor_fraction": 0.5, **SMALL}
        told = train_encoder(scape, "S", features_name="phash64", neighbors=10, **settings)
        plain = train_encoder(scape, "S", overwrite=True, features_name="phash64", **settings)
        assert_array_equal(plain.features_, told.features_)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"features_name": "phash64"}, "set neighbor_fraction too"),
            ({"neighbors": 3}, "set neighbor_fraction too"),
            ({"neighbor_fraction": 0.5, "features_name": "clip"}, "no features are called 'clip'.*there are: phash64"),
            ({"neighbor_fraction": 0.5, "neighbors": 0}, "neighbors must be at least 1, got 0"),
            ({"neighbor_fraction": 2}, "neighbor_fraction must be 0 to 1"),
        ],
    )
    def test_what_cannot_be(self, scape, options, message):
        with pytest.raises(InputError, match=message):
            map_images(scape, "M", **(SMALL | options))
