"""SimCLR's networks: published sizes, the three paddings written out as loops, heads."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from imagescape.errors import CheckpointError, InputError
from imagescape.learn.backbones import backbone, simclr_resnet
from imagescape.learn.backbones.simclr_resnet import ProjectionHead, SimCLRArchitecture, SimCLRHeads, SimCLRResNet


def tiny(**options):
    options = {"blocks": (2, 1), "channels": 4, "selective_kernels": True} | options
    return SimCLRResNet(SimCLRArchitecture(**options)).eval()


def on_meta(name):
    with torch.device("meta"):
        return simclr_resnet.simclr_resnet(name)


class TestPublishedSizes:
    @pytest.mark.parametrize(
        ("name", "millions", "convolutions", "norms", "features"),
        [
            ("r50_1x_sk0", 23.51, 53, 53, 2048),
            ("r50_2x_sk0", 93.91, 53, 53, 4096),
            ("r50_4x_sk0", 375.4, 53, 53, 8192),
            ("r50_1x_sk1", 35.22, 87, 71, 2048),
            ("r50_2x_sk1", 140.3, 87, 71, 4096),
            ("r101_1x_sk0", 42.50, 104, 104, 2048),
            ("r101_2x_sk1", 257, 172, 139, 4096),
            ("r152_1x_sk0", 58.14, 155, 155, 2048),
            ("r152_3x_sk1", 795, 257, 207, 6144),
        ],
    )
    def test_parameters_and_layers(self, name, millions, convolutions, norms, features):
        """Counts of METHODS and of SimCLR v2's table 1; the two of plain ResNet-101 and -152 are He et al.'s."""
        network = on_meta(name)
        count = sum(parameter.numel() for parameter in network.parameters()) / 1e6
        assert count == pytest.approx(millions, rel=2e-4 if millions < 200 else 1e-3)
        assert sum(isinstance(module, nn.Conv2d) for module in network.modules()) == convolutions
        assert sum(isinstance(module, nn.BatchNorm2d) for module in network.modules()) == norms
        assert network.out_features == features

    def test_batch_norms_have_tensorflow_s_constants(self):
        assert {module.eps for module in on_meta("r50_1x_sk1").modules() if isinstance(module, nn.BatchNorm2d)} == {
            1e-5
        }

    def test_no_convolution_has_an_offset(self):
        assert all(module.bias is None for module in on_meta("r50_1x_sk1").modules() if isinstance(module, nn.Conv2d))


class TestNames:
    @pytest.mark.parametrize("name", ["r50_1x_sk0", "r101_2x_sk1", "r152_3x_sk1", "r50_4x_sk0", "r50_2x_sk1@nl_0"])
    def test_a_name_is_its_architecture(self, name):
        assert SimCLRArchitecture.parse(name).name == name

    @pytest.mark.parametrize(
        "name", ["", "r18_1x_sk0", "r50_5x_sk0", "r50_0x_sk0", "r50_1x_sk2", "r50_1x", "r50_1x_sk0@nl_3"]
    )
    def test_others_are_refused(self, name):
        with pytest.raises(InputError, match=f"r50_2x_sk1@nl_0; got '{name}'"):
            SimCLRArchitecture.parse(name)

    @pytest.mark.parametrize("part", [{"blocks": (3, 4, 6)}, {"channels": 96}, {"channels": 320}])
    def test_sizes_that_were_never_published_have_no_name(self, part):
        with pytest.raises(InputError, match=r"1 to 4 times 64 channels, got \("):
            _ = SimCLRArchitecture(**({"blocks": (3, 4, 6, 3)} | part)).name

    def test_is_a_backbone_by_name(self):
        with torch.device("meta"):
            network = backbone("simclr:r50_1x_sk1@nl_2")
        assert isinstance(network, SimCLRResNet)
        assert network.out_features == 128


class TestPaddings:
    """By hand and by loops over what the definitions say; the checkpoint tests have TensorFlow itself."""

    def test_max_pool_of_an_even_side_pads_behind(self):
        x = torch.arange(16.0).reshape(1, 1, 4, 4)
        assert simclr_resnet._SameMaxPool()(x).tolist() == [[[[10, 11], [14, 15]]]]

    def test_max_pool_of_an_odd_side_pads_both(self):
        x = torch.arange(25.0).reshape(1, 1, 5, 5)
        assert simclr_resnet._SameMaxPool()(x).tolist() == [[[[6, 8, 9], [16, 18, 19], [21, 23, 24]]]]

    def test_padding_never_wins(self):
        assert simclr_resnet._SameMaxPool()(torch.full((1, 1, 5, 4), -3.0)).unique().tolist() == [-3]

    @settings(max_examples=30)
    @given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 9))
    def test_max_pool_is_that_of_the_definition(self, height, width, seed):
        x = np.random.default_rng(seed).normal(size=(height, width)).astype(np.float32)
        out = -(-height // 2), -(-width // 2)
        before = [max((o - 1) * 2 + 3 - side, 0) // 2 for o, side in zip(out, x.shape, strict=True)]
        expected = np.full(out, -np.inf, np.float32)
        for i in range(out[0]):
            for j in range(out[1]):
                top, left = 2 * i - before[0], 2 * j - before[1]
                expected[i, j] = x[max(top, 0) : top + 3, max(left, 0) : left + 3].max()
        got = simclr_resnet._SameMaxPool()(torch.from_numpy(x)[None, None])
        assert_close(got[0, 0], torch.from_numpy(expected))

    def test_mean_at_stride_1_leaves_the_padding_out(self):
        x = torch.tensor([[1.0, 3.0], [5.0, 7.0]])[None, None]
        assert simclr_resnet._EdgeMean()(x).tolist() == [[[[4, 5], [6, 7]]]]

    def test_mean_at_stride_2_counts_zeros(self):
        x = torch.tensor([[1.0, 3.0, 5.0], [5.0, 7.0, 9.0], [2.0, 4.0, 8.0]])[None, None]
        assert simclr_resnet._PaddedMean()(x).tolist() == [[[[4, 3.5], [1.5, 2]]]]
        assert simclr_resnet._PaddedMean()(x[..., :2, :2]).tolist() == [[[[4]]]]

    @pytest.mark.parametrize("selective_kernels", [False, True])
    @pytest.mark.parametrize("side", [32, 33, 35, 37, 1])
    def test_shortcuts_and_residuals_meet_at_any_side(self, selective_kernels, side):
        network = tiny(blocks=(1, 1, 1, 1), selective_kernels=selective_kernels)
        assert network(torch.rand(1, 3, side, 40)).shape == (1, network.out_features)


class TestSelectiveKernels:
    def test_is_a_mixture_that_the_mean_of_both_streams_decides(self):
        """Written out with NumPy, one image and channel at a time."""
        torch.manual_seed(0)
        unit = simclr_resnet._SelectiveKernels(4, 1).eval()
        x = torch.randn(2, 4, 5, 6)
        with torch.no_grad():
            got, streams = unit(x).numpy(), unit.streams(x).numpy()
        squeeze, expand = unit.select[0].weight.detach().numpy(), unit.select[3].weight.detach().numpy()
        for n in range(2):
            pooled = np.array([streams[n, c].mean() + streams[n, 4 + c].mean() for c in range(4)])
            hidden = np.maximum(squeeze[:, :, 0, 0] @ pooled / np.sqrt(1 + 1e-5), 0)
            logits = expand[:, :, 0, 0] @ hidden
            for c in range(4):
                first = 1 / (1 + np.exp(logits[4 + c] - logits[c]))
                expected = first * streams[n, c] + (1 - first) * streams[n, 4 + c]
                np.testing.assert_allclose(got[n, c], expected, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize(("channels", "middle"), [(64, 32), (512, 32), (1024, 64)])
    def test_the_middle_is_a_sixteenth_but_32_at_least(self, channels, middle):
        with torch.device("meta"):
            assert simclr_resnet._SelectiveKernels(channels, 1).select[0].out_channels == middle


class TestHeads:
    def test_features_may_go_through_layers_of_the_head(self):
        torch.manual_seed(0)
        plain, through = tiny(blocks=(1,)), tiny(blocks=(1,), head_layers=1)
        missing = through.load_state_dict(plain.state_dict(), strict=False).missing_keys
        assert missing
        assert all(name.startswith("head.0.") for name in missing)
        images = torch.rand(2, 3, 32, 32)
        with torch.no_grad():
            linear, norm, _ = through.head[0]
            assert_close(through(images), norm(linear(plain(images))).relu())
        assert tiny(blocks=(1,), head_layers=2).out_features == plain.out_features
        assert tiny(blocks=(1,), head_layers=3).out_features == 128

    def test_projections_have_neither_relu_nor_offset_at_the_end(self):
        torch.manual_seed(0)
        head = ProjectionHead(6, 4).eval()
        z = head(torch.randn(50, 6))
        assert z.shape == (50, 4)
        assert z.min() < 0
        trained = [name for name, parameter in head.named_parameters() if parameter.requires_grad]
        assert "layers.1.1.bias" in trained
        assert "layers.2.1.bias" not in trained

    @pytest.mark.parametrize(("classifier_after", "features_after"), [(0, 0), (1, 0), (1, 1), (2, 1)])
    def test_the_classifier_stands_where_it_was_trained(self, classifier_after, features_after):
        torch.manual_seed(0)
        places = {"classifier_after": classifier_after, "features_after": features_after}
        heads = SimCLRHeads(ProjectionHead(6, 4), nn.Linear(6, 3), **places).eval()
        pooled = torch.randn(5, 6)
        below = pooled
        for layer in heads.projection.layers[:classifier_after]:
            below = layer(below)
        given = heads.projection(pooled, 0, features_after)
        assert_close(heads.classify(given), heads.classifier(below))
        assert_close(heads.project(given), heads.projection(pooled))

    def test_what_is_not_there_is_said(self):
        none = SimCLRHeads(None, None)
        with pytest.raises(CheckpointError, match="no projection head"):
            none.project(torch.zeros(1, 2))
        with pytest.raises(CheckpointError, match="no classifier"):
            none.classify(torch.zeros(1, 2))
        past = SimCLRHeads(ProjectionHead(6, 4), nn.Linear(6, 3), classifier_after=0, features_after=1)
        with pytest.raises(CheckpointError, match="convert again with features_after=0"):
            past.classify(torch.zeros(1, 6))


@pytest.mark.parametrize("selective_kernels", [False, True])
def test_one_image_does_not_change_another_and_layout_does_not_matter(selective_kernels):
    network, images = tiny(selective_kernels=selective_kernels), torch.rand(3, 3, 37, 44)
    with torch.no_grad():
        together = network(images)
        assert_close(together[:1], network(images[:1]), atol=1e-5, rtol=1e-4)
        network.to(memory_format=torch.channels_last)
        assert_close(together, network(images.to(memory_format=torch.channels_last)), atol=1e-5, rtol=1e-4)
