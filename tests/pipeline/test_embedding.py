"""Features of every image: what is written, what is encoded again, and that a kill changes nothing."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from torch import nn

from imagescape.collection.ingest import ingest
from imagescape.collection.results import columns_of, features, features_identity, map_names
from imagescape.collection.store import Collection
from imagescape.collection.vectors import Vectors, ids_of_numbers, numbers_of
from imagescape.errors import CheckpointError, InputError, Interrupted
from imagescape.features.encoders import encoder_from_module
from imagescape.features.extract import HashEncoder, NetworkEncoder, open_image_encoder, same_encoder
from imagescape.features.hashing import hash_images
from imagescape.images.decode import square
from imagescape.learn.encoder import Preprocessing
from imagescape.pipeline import embedding
from imagescape.pipeline.embedding import embed, encoder_of
from imagescape.pipeline.maps import map_images
from imagescape.pipeline.similarity import Searcher

WAY = Preprocessing(size_px=8, cache_px=8, fit="crop", mean=(0, 0, 0), std=(1, 1, 1))
SMALL = {"backbone": "resnet10", "stem": "strided", "width": 4, "hidden": 16, "batch_size": 8, "device": "cpu"}


def picture(seed, side=24):
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


def write(folder, *seeds):
    folder.mkdir(exist_ok=True)
    for seed in seeds:
        picture(seed).save(folder / f"{seed:03}.png")
    return folder


class Colours(nn.Module):
    """Mean colour and one corner, times a weight."""

    def __init__(self, weight=1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))
        self.seen = []

    def forward(self, views):
        self.seen.append(len(views))
        return torch.cat([views.mean(dim=(2, 3)), views[:, :, 0, 0]], dim=1) * self.weight


def encoder(weight=1.0, batch_size=4):
    made = NetworkEncoder(encoder_from_module(Colours(weight), WAY, name="colours", device="cpu", precision="fp32"))
    made.batch_size = batch_size
    made.encoder.network.backbone.seen.clear()
    return made


def expected(*seeds, weight=1.0):
    pixels = np.stack([square(picture(seed), 8) for seed in seeds]).astype(np.float32) / 255
    return np.concatenate([pixels.mean(axis=(1, 2)), pixels[:, 0, 0]], axis=1) * weight


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "images", *range(10))


@pytest.fixture
def scape(folder, tmp_path):
    ingest(folder, tmp_path / "c.scape")
    return Collection.open(tmp_path / "c.scape")


class TestColumn:
    def test_every_row_has_the_features_of_its_own_picture(self, scape):
        done = embed(scape, encoder(), dtype="float32")
        assert (done.name, done.encoded, done.covered) == ("colours", 10, 10)
        assert_allclose(features(scape, "colours"), expected(*range(10)), atol=1e-6)
        assert str(done) == "features_colours: 10 images encoded, 10 in all"

    @pytest.mark.parametrize(("dtype", "kind"), [("float16", "halffloat"), ("float32", "float")])
    def test_type(self, scape, dtype, kind):
        embed(scape, encoder(), dtype=dtype)
        assert str(scape.schema.field("features_colours").type.value_type) == kind
        with pytest.raises(InputError, match="float16 or float32, got 'int8'"):
            embed(scape, encoder(), "other", dtype="int8")

    def test_bad_images_are_null_and_cost_nothing_else(self, scape, folder):
        (folder / "003.png").write_bytes(b"now something else")
        embed(scape, encoder(), dtype="float32")
        found = features(scape, "colours")
        assert np.isnan(found[3]).all()
        assert_allclose(np.delete(found, 3, 0), expected(0, 1, 2, *range(4, 10)), atol=1e-6)
        (row,) = scape.flagged_rows()
        assert row["uri"].endswith("003.png")
        assert row["status"] == "vanished"

    def test_a_collection_without_a_readable_image(self, scape, folder):
        shutil.rmtree(folder)
        with pytest.raises(InputError, match=r"none of the images .* can be read any more"):
            embed(scape, encoder())
        with pytest.raises(InputError, match="has no readable image"):
            embed(scape, encoder())

    def test_values_that_are_not_finite_are_refused(self, scape):
        with pytest.raises(InputError, match="encoder 'colours' gives values that are not finite"):
            embed(scape, encoder(float("nan")))
        assert "features_colours" not in scape.columns

    def test_hashes_are_bytes_of_the_whole_picture(self, scape):
        embed(scape, "phash256")
        assert_array_equal(
            Vectors(scape, "phash256").values(), hash_images([picture(i) for i in range(10)], "phash", 256)
        )

    def test_a_whash_whose_pictures_need_grids_of_their_own(self, scape, folder, tmp_path):
        picture(99, side=150).save(folder / "large.png")
        ingest(folder, scape.path)
        embed(scape, "whash64")
        wanted = hash_images([*(picture(i) for i in range(10)), picture(99, side=150)], "whash", 64)
        assert_array_equal(Vectors(scape, "whash64").values(), wanted)


class TestAgain:
    def test_only_new_images_are_encoded(self, scape, folder):
        embed(scape, encoder(), dtype="float32")
        ingest(write(folder, 10, 11), scape.path)
        again = encoder()
        assert embed(scape, again).encoded == 2
        assert sum(again.encoder.network.backbone.seen) == 2
        assert_allclose(features(scape, "colours"), expected(*range(12)), atol=1e-6)
        assert embed(scape, encoder()).encoded == 0

    def test_new_images_that_cannot_be_read_any_more_are_flagged_and_no_error(self, scape, folder):
        embed(scape, encoder())
        ingest(write(folder, 10), scape.path)
        (folder / "010.png").unlink()
        assert embed(scape, encoder()).encoded == 0
        assert [row["status"] for row in scape.flagged_rows()] == ["vanished"]

    def test_the_token_stays_when_rows_are_added_and_goes_when_all_is_made_anew(self, scape, folder):
        embed(scape, encoder())
        token = features_identity(scape, "colours")["written"]
        ingest(write(folder, 10), scape.path)
        embed(scape, encoder())
        assert features_identity(scape, "colours")["written"] == token
        embed(scape, encoder(), overwrite=True)
        assert features_identity(scape, "colours")["written"] != token

    def test_another_encoder_needs_permission(self, scape):
        embed(scape, encoder())
        with pytest.raises(InputError, match=r"has 'colours' already .* another encoder made it"):
            embed(scape, encoder(2.0))
        embed(scape, encoder(2.0), overwrite=True, dtype="float32")
        assert_allclose(features(scape, "colours"), expected(*range(10), weight=2.0), atol=1e-6)

    def test_overwriting_a_map_with_another_network_takes_the_map(self, scape):
        map_images(scape, "M", epochs=(1, 1, 1), seed=0, **SMALL)
        assert embed(scape, "M", device="cpu").encoded == 0  # its features are those of its network
        embed(scape, "M", overwrite=True, device="cpu")
        assert map_names(scape) == ["M"]
        embed(scape, encoder(), "M", overwrite=True)
        assert map_names(scape) == []
        assert columns_of(scape, "M") == ["features_M"]

    def test_a_saved_model_from_elsewhere_gives_its_folder_s_name(self, scape, tmp_path):
        map_images(scape, "M", epochs=(1, 1, 1), seed=0, **SMALL)
        shutil.copytree(scape.path / "models" / "M", tmp_path / "else where")
        assert embed(scape, str(tmp_path / "else where"), device="cpu").name == "else_where"
        assert_allclose(features(scape, "else_where"), features(scape, "M"), atol=1e-2)


class TestModule:
    def test_a_module_of_the_user_s_own(self, scape, folder):
        made = encoder().encoder
        embed(scape, made, dtype="float32")
        assert_allclose(features(scape, "colours"), expected(*range(10)), atol=1e-6)
        searcher = Searcher(scape, "colours", encoder=made)
        hits = searcher.hits(searcher.search(searcher.encode([picture(4)]), 1))
        assert hits[0][0].uri.endswith("004.png")
        with pytest.raises(CheckpointError, match="the encoder given is not the one that made"):
            Searcher(scape, "colours", encoder=encoder(2.0).encoder).encode([picture(4)])

    def test_values_beyond_float16_are_told_before_they_are_stored(self, scape):
        with pytest.raises(InputError, match=r"not finite as float16 .* store them as float32"):
            embed(scape, encoder(1e6))
        embed(scape, encoder(1e6), dtype="float32")
        assert np.isfinite(features(scape, "colours")).all()


class TestIdentity:
    def test_the_encoder_comes_back_as_it_was(self, scape):
        map_images(scape, "M", epochs=(1, 1, 1), seed=0, **SMALL)
        back = encoder_of(scape, "M", "cpu")
        assert same_encoder(back.identity, features_identity(scape, "M"))
        vectors = back.encode(np.stack([back.prepare(picture(i)) for i in range(10)])).numpy()
        assert_allclose(vectors, features(scape, "M"), rtol=0.02, atol=0.02 * vectors.max())

    def test_another_model_under_the_name_is_noticed(self, scape):
        map_images(scape, "M", epochs=(1, 1, 1), seed=0, **SMALL)
        map_images(scape, "N", epochs=(1, 1, 1), seed=1, **SMALL)
        shutil.rmtree(scape.path / "models" / "M")
        with pytest.raises(CheckpointError, match="the model of 'M' is not in"):
            encoder_of(scape, "M", "cpu")
        shutil.copytree(scape.path / "models" / "N", scape.path / "models" / "M")
        with pytest.raises(CheckpointError, match="is not the one that made the features 'M'"):
            encoder_of(scape, "M", "cpu")

    def test_features_that_nothing_is_known_of(self, scape):
        embed(scape, "dhash64")
        scape.annotate("features_dhash64", {})
        with pytest.raises(CheckpointError, match="nothing tells what made features 'dhash64'"):
            encoder_of(scape, "dhash64")

    def test_weights_and_preprocessing_both_count(self):
        one = encoder().identity
        assert same_encoder(one, encoder().identity)
        assert not same_encoder(one, encoder(2.0).identity)
        assert not same_encoder(one, one | {"preprocessing": "other"})
        assert same_encoder(one, one | {"encoder": "renamed", "version": "2"})
        assert not same_encoder({}, one)
        assert same_encoder(HashEncoder("phash64").identity, HashEncoder("phash64").identity)
        assert not same_encoder(HashEncoder("phash64").identity, HashEncoder("phash256").identity)
        assert not same_encoder(HashEncoder("phash64").identity, one)

    def test_a_name_is_a_hash_or_a_network(self, tmp_path):
        assert isinstance(open_image_encoder("ahash64"), HashEncoder)
        with pytest.raises(InputError, match="no encoder is called 'ahash65'"):
            open_image_encoder("ahash65", models=tmp_path)


class TestStopped:
    def test_batches_are_cut_at_the_same_places_whatever_is_done(self, scape, monkeypatch):
        monkeypatch.setattr(embedding, "_WRITE_BATCHES", 1)
        first = encoder()
        real = first.encode

        def fails(prepared):
            if len(first.encoder.network.backbone.seen) == 2:
                raise MemoryError("of the device")
            return real(prepared)

        first.encode = fails
        with pytest.raises(MemoryError):
            embed(scape, first)
        second = encoder()
        assert embed(scape, second, dtype="float16").encoded == 10
        assert first.encoder.network.backbone.seen + second.encoder.network.backbone.seen in ([4, 4, 2], [4, 4, 4, 2])
        assert not (scape.path / "cache" / "embed-colours").exists()

    def test_what_another_encoder_left_unfinished_is_not_taken(self, scape, monkeypatch):
        monkeypatch.setattr(embedding, "_write_column", lambda *_, **__: (_ for _ in ()).throw(MemoryError))
        with pytest.raises(MemoryError):
            embed(scape, encoder(), dtype="float32")
        monkeypatch.undo()
        other = encoder(3.0)
        embed(scape, other, dtype="float32")
        assert sum(other.encoder.network.backbone.seen) == 10
        assert_allclose(features(scape, "colours"), expected(*range(10), weight=3.0), atol=1e-6)

    @pytest.mark.parametrize("again", [False, True])
    def test_killed_between_the_column_and_its_signature(self, scape, monkeypatch, again):
        if again:
            embed(scape, encoder(2.0), dtype="float32")
        monkeypatch.setattr(embedding, "sign_features", lambda *_: (_ for _ in ()).throw(MemoryError))
        with pytest.raises(MemoryError):
            embed(scape, encoder(), dtype="float32", overwrite=again)
        monkeypatch.undo()
        assert features_identity(scape, "colours") == {}
        with pytest.raises(InputError, match="another encoder made it"):
            embed(scape, encoder(5.0), dtype="float32")
        resumed = encoder()
        embed(scape, resumed, dtype="float32")
        assert sum(resumed.encoder.network.backbone.seen) == 0
        assert_allclose(features(scape, "colours"), expected(*range(10)), atol=1e-6)
        assert same_encoder(features_identity(scape, "colours"), resumed.identity)

    def test_ctrl_c_keeps_what_is_done(self, scape, monkeypatch):
        monkeypatch.setattr(embedding, "_WRITE_BATCHES", 1)
        first = encoder()
        real = first.encode

        def interrupted(prepared):
            os.kill(os.getpid(), signal.SIGINT)
            return real(prepared)

        first.encode = interrupted
        with pytest.raises(Interrupted, match="4 images are encoded; run the same command again"):
            embed(scape, first, dtype="float32")
        second = encoder()
        embed(scape, second, dtype="float32")
        assert sum(second.encoder.network.backbone.seen) == 6
        assert_allclose(features(scape, "colours"), expected(*range(10)), atol=1e-6)

    def test_killed_at_any_moment_the_column_is_that_of_one_run(self, tmp_path):
        ingest(write(tmp_path / "images", *range(300)), tmp_path / "one.scape")
        shutil.copytree(tmp_path / "one.scape", tmp_path / "killed.scape")
        code = (
            "import sys, torch; sys.path.insert(0, sys.argv[1])\n"
            "import test_embedding as t\n"
            "t.embed(t.Collection.open(sys.argv[2]), t.encoder(batch_size=16))\n"
        )
        arguments = [sys.executable, "-c", code, os.path.dirname(__file__)]
        subprocess.run([*arguments, tmp_path / "one.scape"], check=True, stderr=subprocess.DEVNULL)
        progress = tmp_path / "killed.scape" / "cache" / "embed-colours" / "progress.json"
        chance, kills = random.Random(time.time_ns()), 0
        while kills < 2:
            process = subprocess.Popen([*arguments, tmp_path / "killed.scape"], stderr=subprocess.DEVNULL)
            before = progress.read_text() if progress.exists() else None
            while process.poll() is None and (progress.read_text() if progress.exists() else None) == before:
                time.sleep(0.001)
            time.sleep(chance.random() * 0.01)
            process.kill()
            process.wait()
            kills += 1
        subprocess.run([*arguments, tmp_path / "killed.scape"], check=True, stderr=subprocess.DEVNULL)
        one, killed = (Vectors(Collection.open(tmp_path / f"{name}.scape"), "colours") for name in ("one", "killed"))
        assert len(one) == 300
        assert_array_equal(killed.values(), one.values())


class TestVectors:
    def test_ids_are_the_same_64_bits(self):
        ids = np.array(["0000000000000000", "00000000000000ff", "8000000000000000", "fffffffffffffffe"])
        assert numbers_of(ids).tolist() == [0, 255, -(2**63), -2]
        assert_array_equal(ids_of_numbers(numbers_of(ids)), ids)
        assert len(numbers_of(ids[:0])) == len(ids_of_numbers(np.empty(0, np.int64))) == 0

    def test_only_usable_images_with_features(self, scape):
        embed(scape, encoder(), dtype="float32")
        ids = scape.ok_ids()
        scape.update([ids[2]], {"status": ["vanished"]})
        scape.update([ids[5]], {"features_colours": [None]})
        found = Vectors(scape, "colours")
        assert_array_equal(ids_of_numbers(found.ids), np.delete(ids, [2, 5]))
        assert_allclose(found.values(), expected(0, 1, 3, 4, 6, 7, 8, 9), atol=1e-6)
        assert [len(part) for part in found.batches()] == [8]
        assert found.uris()[2].endswith("003.png")
        assert_array_equal(ids_of_numbers(found.ids_where("uri LIKE '%007.png'")), ids[[7]])

    def test_a_value_that_is_not_finite_is_told(self, scape):
        embed(scape, encoder())
        ids = scape.ok_ids()
        scape.update([ids[4]], {"features_colours": np.full((1, 6), np.nan, np.float16)})
        with pytest.raises(InputError, match=f"not finite, first of image {ids[4]}; encode again"):
            Vectors(scape, "colours").values()

    def test_no_such_features(self, scape):
        with pytest.raises(InputError, match=r"no features are called 'clip' in .*; there are: none yet"):
            Vectors(scape, "clip")
