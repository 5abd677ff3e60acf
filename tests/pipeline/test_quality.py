"""Quality of a map in a collection: views by its model, other maps, and what has no meaning for it."""

import json
import shutil

import numpy as np
import pytest
from numpy.testing import assert_allclose
from PIL import Image

from imagescape.collection.ingest import ingest
from imagescape.collection.results import coord_columns, features, ids_of, map_coords
from imagescape.collection.store import Collection
from imagescape.errors import InputError
from imagescape.evaluate.metrics import knn_recall
from imagescape.evaluate.stability import procrustes
from imagescape.learn.encoder import Encoder
from imagescape.pipeline import quality as quality_module
from imagescape.pipeline.maps import map_images
from imagescape.pipeline.quality import map_quality

SMALL = {"backbone": "resnet10", "stem": "strided", "width": 4, "hidden": 16, "batch_size": 16, "device": "cpu"}


@pytest.fixture(scope="module")
def mapped(tmp_path_factory):
    """A collection of 40 images of two colours and a broken one with the map "M"; tests must leave it as it is."""
    folder = tmp_path_factory.mktemp("quality")
    rng = np.random.default_rng(0)
    for number in range(40):
        name = ("dark", "bright")[number % 2]
        (folder / "images" / name).mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 90, (20, 20, 3), dtype=np.uint8) + np.uint8(150 * (number % 2))
        Image.fromarray(pixels).save(folder / "images" / name / f"{number:02}.png")
    (folder / "images" / "dark" / "empty.jpg").write_bytes(b"")
    ingest([folder / "images"], folder / "c.scape")
    map_images(Collection.open(folder / "c.scape"), "M", epochs=(1, 1, 1), seed=0, **SMALL)
    return folder / "c.scape"


@pytest.fixture
def scape(mapped, tmp_path):
    """A copy to change."""
    shutil.copytree(mapped, tmp_path / "c.scape")
    return Collection.open(tmp_path / "c.scape")


def add_map(scape, name, coords, without=()):
    """Another map of the same images, whose model is that of "M"."""
    shutil.copytree(scape.path / "models" / "M", scape.path / "models" / name)
    keep = np.setdiff1d(np.flatnonzero(~np.isnan(coords[:, 0])), without)
    scape.add_columns(ids_of(scape)[keep], coord_columns(name, coords[keep]))


def change_config(scape, change):
    path = scape.path / "models" / "M" / "config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


def test_a_map_by_itself(mapped):
    scape = Collection.open(mapped)
    quality = map_quality(scape, "M", label="label", superclass="label", device="cpu")
    coords, vectors = map_coords(scape, "M"), features(scape, "M")
    here = ~np.isnan(coords[:, 0])
    assert quality.rows == 40
    assert quality.recalls[15] == knn_recall(vectors[here], coords[here], 15)
    assert len(quality.views.distances) == quality.views.map_rows == 40
    assert 0 < quality.views.relative_distance < 2
    assert quality.views_missing == ""
    assert quality.coord_norms == pytest.approx(np.hypot(*coords[here].T))
    assert quality.feature_norms == pytest.approx(np.sqrt((vectors[here] ** 2).sum(axis=1)), rel=1e-5)
    assert quality.labels.tolist() == np.array(scape.read(["label"])["label"].to_pylist())[here].tolist()
    assert quality.stability is None
    json.dumps(quality.as_dict(), allow_nan=False)


def test_the_seed_decides_sample_and_views(mapped):
    scape = Collection.open(mapped)
    first, again, other = (map_quality(scape, "M", max_images=12, seed=seed, device="cpu").views for seed in (0, 0, 1))
    assert (len(first.distances), first.map_rows) == (12, 40)
    assert first.distances.tolist() == again.distances.tolist()
    assert first.distances.tolist() != other.distances.tolist()


def test_views_are_held_against_their_own_images(scape, monkeypatch):
    """Where a view is the image as it is, it lands where the map has it: rows, pixels and network belong together."""
    plain = Encoder.load(scape.path / "models" / "M", device="cpu").preprocessing
    monkeypatch.setitem(quality_module.AUGMENTS, "contrastive", lambda **_: lambda pixels, _: plain.view(pixels))
    seen = []
    monkeypatch.setattr(quality_module, "view_consistency", lambda *arrays, rows: seen.append((*arrays, rows)))
    missing = np.full((2, 2), np.nan, np.float32)
    scape.update(ids_of(scape)[[3, 8]], coord_columns("M", missing))
    scape.update(ids_of(scape)[[1]], {"status": np.array(["vanished"])})  # on the map, and there to see no more
    map_quality(scape, "M", max_images=25, device="cpu")
    ((view_a, view_b, coords, rows),) = seen
    assert (len(coords), len(rows)) == (38, 25)
    for view in (view_a, view_b):
        assert_allclose(view, coords[rows], rtol=0.02, atol=1e-4)  # a batch of other images is rounded otherwise


def test_against_other_maps_on_the_rows_that_all_have(scape):
    coords = map_coords(scape, "M")
    add_map(scape, "turned", 3 * coords[:, ::-1] + 1, without=[0, 5])
    add_map(scape, "noise", np.random.default_rng(0).normal(size=coords.shape).astype(np.float32), without=[7])
    quality = map_quality(scape, "M", against=["turned", "noise"], device="cpu")
    shared = np.setdiff1d(np.flatnonzero(~np.isnan(coords[:, 0])), [0, 5, 7])
    assert quality.compared_rows == len(shared) == len(quality.stability.aligned[0])
    expected = procrustes(coords[shared], map_coords(scape, "noise")[shared]).disparity
    assert quality.stability.disparities[:2] == pytest.approx([0, expected], abs=1e-6)
    assert quality.stability.shared_neighbors[0] == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda config: config.pop("preprocessing"), "not trained on views of images"),
        (lambda config: config["recipe"].pop("augment"), "not trained on views of images"),
        (lambda config: config["recipe"].update(augment="<lab.Rotate>"), "made in Python: <lab.Rotate>"),
        (lambda config: config["architecture"].update(backbone="custom"), "a backbone of the user's own"),
        (lambda config: config["architecture"].update(out_features=128), "does not give its coordinates"),
    ],
)
def test_where_views_have_no_meaning_the_rest_is_measured(scape, change, reason):
    change_config(scape, change)
    quality = map_quality(scape, "M", device="cpu")
    assert quality.views is None
    assert reason in quality.views_missing
    assert quality.recalls
    assert quality.as_dict()["views"] is None


def test_what_cannot_be_asked(scape):
    with pytest.raises(InputError, match="no map is called 'N'"):
        map_quality(scape, "M", against=["N"])
    for against in (["M"], ["N", "N"]):
        with pytest.raises(InputError, match="compared with others, each once"):
            map_quality(scape, "M", against=against)
    with pytest.raises(InputError, match="no column is called 'family'"):
        map_quality(scape, "M", superclass="family")
    add_map(scape, "deep", np.column_stack([map_coords(scape, "M"), np.arange(len(scape), dtype=np.float32)]))
    with pytest.raises(InputError, match=r"same rows and dimensions.*\(40, 2\) and \(40, 3\)"):
        map_quality(scape, "M", against=["deep"])
