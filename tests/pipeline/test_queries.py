"""What is not in the table: which features take pictures and texts, which maps take new images, and where they land."""

import json
import shutil

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from test_embedding import SMALL, encoder, picture, write

from imagescape.collection.ingest import ingest
from imagescape.collection.results import features, map_coords
from imagescape.collection.store import Collection
from imagescape.errors import CheckpointError, InputError
from imagescape.learn.encoder import Architecture, Encoder, Preprocessing
from imagescape.pipeline.embedding import embed
from imagescape.pipeline.feature_maps import map_features
from imagescape.pipeline.maps import map_images
from imagescape.pipeline.queries import Placer, image_problem, place_problem, text_encoder_of, text_problem
from imagescape.pipeline.similarity import Searcher
from tests.features import small_clip

COUNT = 24


def network():
    torch.manual_seed(0)
    architecture = Architecture(backbone="resnet10", stem="strided", width=4, hidden=8, out_features=2)
    way = Preprocessing(size_px=16, cache_px=16, fit="crop", mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    return Encoder(architecture.build(), architecture, way, name="net", device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("queries")
    ingest(write(folder / "images", *range(COUNT)), folder / "c.scape")
    scape = Collection.open(folder / "c.scape")
    embed(scape, "dhash64")
    embed(scape, network(), "net")
    embed(scape, encoder(), "colours")
    scape.add_columns(scape.ok_ids(), {"features_mine": np.ones((COUNT, 3), np.float32)})
    for name, source in (("A", "net"), ("H", "dhash64")):
        map_features(scape, name, features_name=source, epochs=3, seed=0, device="cpu")
    map_images(scape, "T", epochs=(1, 1, 1), **{**SMALL, "batch_size": 12}, seed=0)
    return folder


@pytest.fixture
def scape(made, tmp_path):
    shutil.copytree(made / "c.scape", tmp_path / "c.scape")
    return Collection.open(tmp_path / "c.scape")


class TestAbilities:
    def test_pictures(self, scape):
        assert image_problem(scape, "net") == image_problem(scape, "dhash64") == image_problem(scape, "T") == ""
        assert "nothing tells" in image_problem(scape, "mine")
        assert "no folder can bring back" in image_problem(scape, "colours")
        shutil.rmtree(scape.path / "models" / "net")
        assert "net is not a saved model" in image_problem(scape, "net")

    def test_texts(self, scape):
        for name in ("net", "dhash64", "mine"):
            assert "text side" in text_problem(scape, name)
            with pytest.raises(InputError, match="text side"):
                text_encoder_of(scape, name)

    def test_maps(self, scape):
        assert place_problem(scape, "A") == place_problem(scape, "H") == place_problem(scape, "T") == ""
        scape.annotate("features_net", {"encoder": "other", "weights_sha256": "1", "preprocessing": "2"})
        assert "not those" in place_problem(scape, "A")
        scape.drop_columns(["features_dhash64"])
        assert "are gone" in place_problem(scape, "H")
        (scape.path / "models" / "T" / "weights.safetensors").unlink()
        assert "not there" in place_problem(scape, "T")
        for name in "AHT":
            with pytest.raises(InputError, match=f"nothing new can be put on '{name}'"):
                Placer(scape, name)
        with pytest.raises(InputError, match="no map is called 'N'; there are: A, H, T"):
            Placer(scape, "N")

    def test_maps_that_no_library_keeps_and_of_three_dimensions(self, scape):
        path = scape.path / "models" / "A" / "config.json"
        config = json.loads(path.read_text())
        config["recipe"]["method"] = "UMAP"
        path.write_text(json.dumps(config))
        assert "UMAP" in place_problem(scape, "A")
        scape.add_columns(scape.ok_ids(), {"z_H": np.zeros(COUNT)})
        assert "two dimensions" in place_problem(scape, "H")


class TestPlacer:
    def test_a_map_of_images_places_as_it_did(self, scape):
        coords = map_coords(scape, "T")
        placer = Placer(scape, "T", "cpu")
        assert placer.features == "T"
        for number in (0, 9):
            assert_allclose(placer.place(picture(number)), coords[number], rtol=1e-3, atol=1e-3)

    @pytest.mark.parametrize("name", ["A", "H"])
    def test_a_map_of_features_places_as_transform_does(self, scape, name):
        """By the very vectors that are in the table for the same picture."""
        from imagescape.learn.neighbormap import NeighborMap
        from imagescape.pipeline.graphs import vectors_of

        placer = Placer(scape, name, "cpu")
        expected = NeighborMap.load(scape.path / "models" / name, device="cpu").transform(
            vectors_of(scape, placer.features)
        )
        for number in (2, 15):
            assert_allclose(placer.place(picture(number)), expected[number], rtol=2e-2, atol=2e-2)

    def test_new_pictures_land_apart_from_others(self, scape):
        placer = Placer(scape, "T", "cpu")
        assert not np.allclose(placer.place(picture(500)), placer.place(picture(501)))


class TestTexts:
    @pytest.fixture
    def clip(self, tmp_path):
        transformers = pytest.importorskip("transformers", reason="the extra 'transformers' is not installed")
        parts = small_clip.small_clip(transformers)
        return small_clip.save(tmp_path / "clip", *parts)

    def test_a_text_lies_in_the_space_of_the_features(self, scape, clip):
        embed(scape, f"hf:{clip}", "clip", device="cpu")
        assert text_problem(scape, "clip") == ""
        vectors = text_encoder_of(scape, "clip", "cpu").encode(["a cat"])
        assert vectors.shape == (1, features(scape, "clip").shape[1])

    def test_another_model_of_that_name_is_refused(self, scape, clip, tmp_path):
        transformers = pytest.importorskip("transformers")
        embed(scape, f"hf:{clip}", "clip", device="cpu")
        shutil.rmtree(clip)
        small_clip.save(clip, *small_clip.small_clip(transformers, seed=1))
        with pytest.raises(CheckpointError, match="no longer the model"):
            text_encoder_of(scape, "clip", "cpu")
        shutil.rmtree(clip)
        assert "not on this machine" in text_problem(scape, "clip")


def test_pixels_are_what_their_name_says_also_when_they_are_asked_for_again(made, scape, tmp_path):
    """They have no weights to load; new images and queries get them all the same, under whatever name."""
    for name in (None, "small"):
        done = embed(scape, "pixels8", name, device="cpu")
        assert image_problem(scape, done.name) == ""
        values = features(scape, done.name)
        searcher = Searcher(scape, done.name, device="cpu")
        assert_allclose(searcher.encode([picture(3)])[0], values[3], atol=1e-3)
    picture(99).save(tmp_path / "new.png")
    ingest([tmp_path / "new.png"], scape.path)
    assert embed(scape, "pixels8", device="cpu").encoded == 1
