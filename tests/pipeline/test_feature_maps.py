"""Maps of features in a collection: columns, models, new images, and what is refused."""

import json

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from imagescape.collection.ingest import ingest
from imagescape.collection.results import features, ids_of, map_coords, map_names
from imagescape.collection.store import Collection
from imagescape.errors import CheckpointError, InputError
from imagescape.learn import train
from imagescape.learn.neighbormap import NeighborMap
from imagescape.pipeline.embedding import embed
from imagescape.pipeline.feature_maps import map_features, place_new_features
from imagescape.pipeline.maps import evaluate_map, map_new_images

QUICK = {"epochs": 3, "seed": 0, "device": "cpu"}
COLOURS = [(220, 40, 40), (40, 220, 40), (40, 40, 220)]


def write_images(folder, count, seed):
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(seed)
    for number in range(count):
        pixels = np.clip(np.array(COLOURS[number % 3]) + rng.normal(0, 40, (16, 16, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{seed}-{number:03}.png")


@pytest.fixture
def scape(tmp_path):
    """30 good images and a broken one, with hashes."""
    write_images(tmp_path / "images", 30, seed=0)
    (tmp_path / "images" / "broken.png").write_bytes(b"no picture")
    ingest([tmp_path / "images"], tmp_path / "c.scape")
    scape = Collection.open(tmp_path / "c.scape")
    embed(scape, "phash64")
    return scape


def add_images(scape):
    write_images(scape.path.parent / "images", 6, seed=1)
    ingest([scape.path.parent / "images"], scape.path)
    return Collection.open(scape.path)


def test_columns_and_model(scape):
    model = map_features(scape, "M", features_name="phash64", **QUICK)
    coords = map_coords(scape, "M")
    flagged = np.array(scape.read(["status"])["status"].to_pylist()) != "ok"
    assert map_names(scape) == ["M"]
    assert_array_equal(np.isnan(coords).all(1), flagged)
    assert_array_equal(coords[~flagged], model.coords_)
    config = json.loads((scape.path / "models" / "M" / "config.json").read_text())
    assert config["features"] == "phash64"
    assert config["recipe"]["seed"] == 0
    assert {line.name for line in (scape.path / "runs" / "M").iterdir()} >= {"config.json", "metrics.jsonl"}


def test_hashes_are_mapped_by_their_bits(scape):
    model = map_features(scape, "M", features_name="phash64", **QUICK)
    stored = features(scape, "phash64")
    present = np.isfinite(stored[:, 0])
    bits = np.unpackbits(stored[present].astype(np.uint8), axis=1)
    assert bits.shape == (30, 64)
    assert_array_equal(model.coords_, NeighborMap(epochs=3, random_state=0, device="cpu").fit(bits).coords_)


def test_new_images_are_placed_and_the_others_stay(scape):
    model = map_features(scape, "M", features_name="phash64", **QUICK)
    before = dict(zip(ids_of(scape), map_coords(scape, "M"), strict=True))
    scape = add_images(scape)
    assert map_new_images(scape, "M") == 0  # they have no features yet
    embed(scape, "phash64")
    assert map_new_images(scape, "M", device="cpu") == 6
    assert place_new_features(scape, "M") == 0
    ids, after = ids_of(scape), map_coords(scape, "M")
    is_new = np.isfinite(after[:, 0]) & ~np.isin(ids, [one for one, place in before.items() if np.isfinite(place[0])])
    for image_id, place in zip(ids[~is_new], after[~is_new], strict=True):
        assert_array_equal(place, before[image_id])
    bits = np.unpackbits(features(scape, "phash64")[is_new].astype(np.uint8), axis=1)
    assert_allclose(after[is_new], model.transform(bits), rtol=1e-4, atol=1e-4)


def test_new_images_need_the_features_that_made_the_map(scape):
    map_features(scape, "M", features_name="phash64", **QUICK)
    embed(scape, "dhash64", "phash64", overwrite=True)
    scape = add_images(scape)
    config = scape.path / "models" / "M" / "config.json"
    known = json.loads(config.read_text())
    assert known["features_identity"]["encoder"] == "phash64"
    with pytest.raises(CheckpointError, match="are not those that the map 'M' was made from"):
        place_new_features(scape, "M")


def test_taken_up_again_only_where_it_is_the_same_map(scape, monkeypatch):
    whole = map_features(scape, "M", features_name="phash64", **QUICK).coords_
    monkeypatch.setattr(NeighborMap, "save", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        map_features(scape, "N", features_name="phash64", **QUICK)
    monkeypatch.undo()
    with monkeypatch.context() as patch:
        patch.setattr(train, "_update", None)  # it is all done: no step may be made again
        again = map_features(scape, "N", features_name="phash64", **QUICK)
    assert_array_equal(again.coords_, whole)
    other = map_features(scape, "N", features_name="phash64", overwrite=True, **(QUICK | {"seed": 1}))
    assert other.history_


def test_evaluate_finds_the_features_of_the_map(scape):
    map_features(scape, "M", features_name="phash64", **QUICK)
    card, _ = evaluate_map(scape, "M")
    assert 0 <= card.value("15-NN recall", "features in map") <= 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "isomap"}, "method must be one of neighbors, tsne, umap, pacmap, got 'isomap'"),
        ({"features_name": "clip"}, "no features are called 'clip'"),
        ({"perplexity": 3}, "no setting 'perplexity' of neighbour maps"),
        ({"name": "a b"}, "a name is made of letters"),
        ({"name": "phash64"}, "already"),
        ({"name": "phash64", "overwrite": True}, "is the name of features"),
    ],
)
def test_refused(scape, arguments, message):
    with pytest.raises(InputError, match=message):
        map_features(scape, **({"name": "M"} | arguments))


def test_a_name_that_is_taken_and_too_few_images(scape):
    map_features(scape, "M", features_name="phash64", **QUICK)
    with pytest.raises(InputError, match="has 'M' already"):
        map_features(scape, "M", features_name="phash64", **QUICK)
    map_features(scape, "M", features_name="phash64", overwrite=True, **QUICK)


def test_a_librarys_map(scape):
    pytest.importorskip("openTSNE")
    model = map_features(scape, "T", method="tsne", features_name="phash64", seed=0)
    assert_array_equal(map_coords(scape, "T")[np.isfinite(map_coords(scape, "T")[:, 0])], model.coords_)
    scape = add_images(scape)
    embed(scape, "phash64")
    with pytest.raises(CheckpointError, match="'T' is a map by TSNE, which is not kept"):
        map_new_images(scape, "T")
