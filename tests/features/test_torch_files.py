"""Weights in files: the published layouts against torchvision's ResNet written out by hand, and refusals by name."""

import argparse
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from imagescape.errors import CheckpointError, InputError
from imagescape.features.torch_files import torch_file_encoder
from imagescape.learn.encoder import Encoder
from imagescape.learn.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from imagescape.learn.simclr import SimCLR

BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3), "resnet50": (3, 4, 6, 3)}
SMALL = {"size_px": 32, "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]}


def torchvision_state(depth, *, width=8, stem=7, seed=0):
    """Random weights by torchvision's names; batch norms with statistics of their own."""
    draw = torch.Generator().manual_seed(seed)
    state = {}

    def convolution(name, out, inside, kernel):
        state[f"{name}.weight"] = (
            torch.randn(out, inside, kernel, kernel, generator=draw) * (2 / inside / kernel**2) ** 0.5
        )

    def norm(name, channels):
        for leaf, low in (("weight", 0.5), ("bias", -0.5), ("running_mean", -0.5), ("running_var", 0.5)):
            state[f"{name}.{leaf}"] = low + torch.rand(channels, generator=draw)
        state[f"{name}.num_batches_tracked"] = torch.tensor(7)

    convolution("conv1", width, 3, stem)
    norm("bn1", width)
    expansion = 4 if depth == "resnet50" else 1
    inside = width
    for layer, count in enumerate(BLOCKS[depth], 1):
        inner = width * 2 ** (layer - 1)
        for i in range(count):
            name, out = f"layer{layer}.{i}", inner * expansion
            shapes = (
                [(inner, inside, 1), (inner, inner, 3), (out, inner, 1)]
                if expansion == 4
                else [(inner, inside, 3), (inner, inner, 3)]
            )
            for k, shape in enumerate(shapes, 1):
                convolution(f"{name}.conv{k}", *shape)
                norm(f"{name}.bn{k}", shape[0])
            if i == 0 and (layer > 1 or inside != out):
                convolution(f"{name}.downsample.0", out, inside, 1)
                norm(f"{name}.downsample.1", out)
            inside = out
    return state


def torchvision_features(state, images):
    """torchvision's ResNet from its description: v1.5, the stride of a bottleneck in its 3x3 convolution."""

    def convolution(x, name, stride=1):
        weight = state[f"{name}.weight"]
        return F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)

    def norm(x, name):
        parts = [state[f"{name}.{leaf}"] for leaf in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(x, *parts, training=False, eps=1e-5)

    large = state["conv1.weight"].shape[-1] == 7
    x = F.relu(norm(convolution(images, "conv1", 2 if large else 1), "bn1"))
    if large:
        x = F.max_pool2d(x, 3, 2, 1)
    for layer in (1, 2, 3, 4):
        i = 0
        while f"layer{layer}.{i}.conv1.weight" in state:
            name, stride = f"layer{layer}.{i}", 2 if layer > 1 and i == 0 else 1
            bottleneck = f"{name}.conv3.weight" in state
            y = F.relu(norm(convolution(x, f"{name}.conv1", 1 if bottleneck else stride), f"{name}.bn1"))
            y = norm(convolution(y, f"{name}.conv2", stride if bottleneck else 1), f"{name}.bn2")
            if bottleneck:
                y = norm(convolution(F.relu(y), f"{name}.conv3"), f"{name}.bn3")
            if f"{name}.downsample.0.weight" in state:
                x = norm(convolution(x, f"{name}.downsample.0", stride), f"{name}.downsample.1")
            x = F.relu(x + y)
            i += 1
    return x.mean((2, 3))


def within(prefix, state):
    return {prefix + name: tensor for name, tensor in state.items()}


def numbered(state, children):
    """As `nn.Sequential` of a ResNet's children names them."""
    return {f"{children[name.partition('.')[0]]}.{name.partition('.')[2]}": tensor for name, tensor in state.items()}


def shortcuts(state):
    return {name.replace("downsample", "shortcut"): tensor for name, tensor in state.items()}


HEAD = {"weight": torch.zeros(4, 4), "bias": torch.zeros(4)}
WITH_MAXPOOL = {"conv1": 0, "bn1": 1, "layer1": 4, "layer2": 5, "layer3": 6, "layer4": 7}
WITHOUT = {"conv1": 0, "bn1": 1, "layer1": 3, "layer2": 4, "layer3": 5, "layer4": 6}

# Checkpoints as they are published, around the given weights of a ResNet.
LAYOUTS = {
    "torchvision": lambda s: s | within("fc.", HEAD),
    "MoCo v2": lambda s: {
        "epoch": 800,
        "arch": "resnet50",
        "state_dict": within("module.encoder_q.", s | within("fc.0.", HEAD) | within("fc.2.", HEAD))
        | within("module.encoder_k.", within("conv1.", HEAD) | within("fc.0.", HEAD))
        | {"module.queue": torch.zeros(4, 8), "module.queue_ptr": torch.zeros(1)},
        "optimizer": {"state": {}, "param_groups": [{"lr": 0.03}]},
    },
    "MoCo v3": lambda s: {
        "state_dict": within("module.base_encoder.", s | within("fc.0.", HEAD))
        | within("module.momentum_encoder.", s)
        | within("module.predictor.0.", HEAD)
    },
    "DINO teacher": lambda s: {
        "student": within("module.backbone.", {name: tensor + 1 for name, tensor in s.items()}),
        "teacher": within("backbone.", s)
        | {"head.mlp.0.weight": torch.zeros(4), "head.last_layer.weight_g": torch.zeros(4)},
        "args": argparse.Namespace(arch="resnet50", lr=0.3),
        "epoch": 800,
    },
    "SwAV": lambda s: within(
        "module.",
        s | within("projection_head.0.", HEAD) | within("projection_head.1.", HEAD) | within("prototypes.", HEAD),
    ),
    "SimCLR, backbone and fc": lambda s: {"state_dict": within("backbone.", s | within("fc.0.", HEAD))},
    "SimCLR, encoder and projector": lambda s: within("encoder.", s) | within("projector.0.", HEAD),
    "SimCLR, convnet": lambda s: {"state_dict": within("convnet.", s) | within("projection.layers.0.", HEAD)},
    "lightly": lambda s: {
        "state_dict": within("backbone.", numbered(s, WITH_MAXPOOL)) | within("projection_head.layers.0.", HEAD)
    },
    "compiled": lambda s: {"model": within("_orig_mod.module.", s)},
}
SMALL_LAYOUTS = {
    "SimCLR, f and g": lambda s: within("f.", numbered(s, WITHOUT)) | within("g.0.", HEAD),
    "SupCon": lambda s: {
        "opt": argparse.Namespace(temp=0.1),
        "model": within("encoder.module.", shortcuts(s)) | within("head.0.", HEAD),
    },
    "SCAN": lambda s: within("backbone.", shortcuts(s)) | within("contrastive_head.0.", HEAD),
    "SCAN, clustered": lambda s: {
        "model": within("module.backbone.", shortcuts(s)) | within("module.cluster_head.0.", HEAD),
        "head": 0,
    },
}


@pytest.fixture
def images():
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def opened(path, **options):
    return torch_file_encoder(path, device="cpu", precision="fp32", **options)


class TestLayouts:
    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_published_resnet50s_give_torchvision_s_features(self, layout, images, tmp_path):
        state = torchvision_state("resnet50")
        torch.save(LAYOUTS[layout](state), tmp_path / "weights.pth")
        ours = opened(tmp_path / "weights.pth")
        with torch.inference_mode():
            features = ours.network.eval()(images)
        expected = torchvision_features(state, images)
        assert expected.std() > 0.05
        assert_allclose(features.numpy(), expected.numpy(), rtol=1e-3, atol=1e-4)
        assert (ours.architecture.backbone, ours.architecture.stem, ours.architecture.width) == (
            "resnet50",
            "imagenet",
            8,
        )

    @pytest.mark.parametrize("layout", SMALL_LAYOUTS)
    @pytest.mark.parametrize("depth", ["resnet18", "resnet50"])
    def test_small_stems_too(self, layout, depth, images, tmp_path):
        state = torchvision_state(depth, stem=3, width=4)
        torch.save(SMALL_LAYOUTS[layout](state), tmp_path / "weights.pth")
        (tmp_path / "weights.pth.json").write_text(json.dumps(SMALL))
        ours = opened(tmp_path / "weights.pth")
        with torch.inference_mode():
            features = ours.network.eval()(images)
        assert_allclose(features.numpy(), torchvision_features(state, images).numpy(), rtol=1e-3, atol=1e-4)
        assert (ours.preprocessing.size_px, ours.preprocessing.cache_px, ours.preprocessing.center_crop) == (
            32,
            32,
            False,
        )

    @pytest.mark.parametrize("depth", ["resnet18", "resnet34"])
    def test_other_depths_and_safetensors_in_half_precision(self, depth, images, tmp_path):
        state = torchvision_state(depth)
        del state["bn1.num_batches_tracked"]  # as files of before torch 0.4.1
        save_file(
            {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()},
            tmp_path / "w.safetensors",
        )
        ours = opened(tmp_path / "w.safetensors")
        with torch.inference_mode():
            features = ours.network.eval()(images)
        assert features.dtype == torch.float32
        assert_allclose(features.numpy(), torchvision_features(state, images).numpy(), rtol=0.02, atol=0.01)

    def test_transformers_resnet_is_another_oracle(self, images, tmp_path):
        transformers = pytest.importorskip("transformers", reason="transformers is not installed")
        config = transformers.ResNetConfig(
            embedding_size=8, hidden_sizes=[32, 64, 128, 256], depths=[3, 4, 6, 3], layer_type="bottleneck"
        )
        state = torchvision_state("resnet50")
        theirs = transformers.ResNetModel(config).eval()
        renamed = {}
        for name, tensor in state.items():
            module, _, leaf = name.rpartition(".")
            parts = module.split(".")
            if len(parts) == 1:
                place = "embedder.embedder." + {"conv1": "convolution", "bn1": "normalization"}[module]
            else:
                layer, i = int(parts[0][-1]) - 1, parts[1]
                if parts[2] == "downsample":
                    inner = "shortcut." + ("convolution", "normalization")[int(parts[3])]
                else:
                    kind = "convolution" if parts[2].startswith("conv") else "normalization"
                    inner = f"layer.{int(parts[2][-1]) - 1}.{kind}"
                place = f"encoder.stages.{layer}.layers.{i}.{inner}"
            renamed[f"{place}.{leaf}"] = tensor
        theirs.load_state_dict(renamed)
        torch.save(state, tmp_path / "weights.pth")
        with torch.inference_mode():
            expected = theirs(images).pooler_output.flatten(1)
            features = opened(tmp_path / "weights.pth").network.eval()(images)
        assert_allclose(features.numpy(), expected.numpy(), rtol=1e-3, atol=1e-4)

    def test_it_is_saved_as_a_resnet_of_ours_and_needs_the_file_no_more(self, tmp_path):
        torch.save(LAYOUTS["MoCo v2"](torchvision_state("resnet18")), tmp_path / "moco.pth.tar")
        ours = opened(tmp_path / "moco.pth.tar")
        ours.save(tmp_path / "model")
        (tmp_path / "moco.pth.tar").unlink()
        loaded = Encoder.load(tmp_path / "model", device="cpu", precision="fp32")
        picture = [Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 260, 3), dtype=np.uint8))]
        assert_array_equal(loaded.encode(picture)[0], ours.encode(picture)[0])
        assert (loaded.name, loaded.weights_sha256) == ("torch:moco.pth.tar", ours.weights_sha256)


class TestPreprocessing:
    @pytest.fixture
    def weights(self, tmp_path):
        torch.save(torchvision_state("resnet18"), tmp_path / "weights.pth")
        return tmp_path / "weights.pth"

    def test_imagenet_s_where_nothing_is_stated(self, weights):
        way = opened(weights).preprocessing
        assert (way.size_px, way.cache_px, way.center_crop, way.resample, way.fit) == (
            224,
            256,
            True,
            "bicubic",
            "crop",
        )
        assert (way.mean, way.std) == (IMAGENET_MEAN, IMAGENET_STD)

    def test_what_is_stated_goes_first(self, weights):
        stated = {"size_px": 96, "resize_px": 96, "resample": "bilinear", "fit": "squash", "mean": [0, 0, 0]}
        weights.with_name("weights.pth.json").write_text(json.dumps(stated))
        way = opened(weights).preprocessing
        assert (way.size_px, way.cache_px, way.resample, way.fit) == (96, 96, "bilinear", "squash")
        assert (way.mean, way.std) == ((0, 0, 0), IMAGENET_STD)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("{", "cannot be read as JSON"),
            ('{"size": 3}', "must be an object of .*size_px"),
            ("[]", "must be an object"),
        ],
    )
    def test_a_statement_that_cannot_be_read(self, weights, content, message):
        weights.with_name("weights.pth.json").write_text(content)
        with pytest.raises(InputError, match=message):
            opened(weights)

    def test_a_small_stem_needs_a_statement(self, tmp_path):
        torch.save(torchvision_state("resnet18", stem=3), tmp_path / "cifar.pth")
        with pytest.raises(InputError, match=r"3x3 stem.*write cifar.pth.json beside it with size_px, mean, std"):
            opened(tmp_path / "cifar.pth")


def _without(*names):
    return lambda s: {name: tensor for name, tensor in s.items() if name not in names}


class TestRefusals:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (_without("layer2.0.bn1.running_var"), r"lacks weights of a resnet18: layer2.0.bn1.running_var$"),
            (lambda s: s | {"layer1.0.se.weight": torch.zeros(2)}, "no place in a ResNet: layer1.0.se.weight"),
            (lambda s: s | {"layer1.0.conv2.bias": torch.zeros(8)}, "no place in a ResNet: layer1.0.conv2.bias"),
            (
                lambda s: s | {"layer1.0.downsample.0.weight": torch.zeros(8, 8, 1, 1)},
                "no place in a resnet18: layer1.0.downsample.0.weight",
            ),
            (
                lambda s: s | {"layer4.1.conv2.weight": torch.zeros(64, 32, 3, 3)},
                r"'layer4.1.conv2.weight' should be \[64, 64, 3, 3\], the file has \[64, 32, 3, 3\]",
            ),
            (lambda s: s | {"conv1.weight": torch.zeros(8, 4, 7, 7)}, r"'conv1.weight' should be \[8, 3, 7, 7\]"),
            (lambda s: s | {"conv1.weight": torch.zeros(8, 3, 5, 5)}, r"first convolution of \[5, 5\]"),
            (
                lambda s: {name: tensor for name, tensor in s.items() if not name.startswith("layer3.1")},
                r"is a ResNet of \(2, 2, 1, 2\) basic blocks",
            ),
            (lambda s: {"blocks.0.attn.qkv.weight": torch.zeros(3)}, "no ResNet whose names are known.*blocks.0.attn"),
            (lambda s: {"epoch": 3, "best": 0.4}, "holds a dict of epoch, best, and a state dict"),
            (lambda s: [1, 2], "holds a list, and a state dict"),
        ],
    )
    def test_weights_that_do_not_fit_are_named(self, change, message, tmp_path):
        torch.save(change(torchvision_state("resnet18")), tmp_path / "weights.pth")
        with pytest.raises(CheckpointError, match=message):
            opened(tmp_path / "weights.pth")

    def test_a_pickle_that_could_run_anything_is_not_read(self, tmp_path):
        torch.save({"state_dict": nn.Linear(2, 2)}, tmp_path / "module.pth")
        with pytest.raises(CheckpointError, match=r"can run any program.*save the state dict alone"):
            opened(tmp_path / "module.pth")

    @pytest.mark.parametrize("content", [b"", b"no weights", b"PK\x03\x04 not whole", b"\x08\0\0\0\0\0\0\0{broken}"])
    def test_what_is_no_checkpoint(self, content, tmp_path):
        (tmp_path / "weights.pth").write_bytes(content)
        with pytest.raises(CheckpointError, match=r"no checkpoint|cannot be read"):
            opened(tmp_path / "weights.pth")

    def test_no_file(self, tmp_path):
        with pytest.raises(InputError, match="there is no file"):
            opened(tmp_path / "weights.pth")


class Channels(nn.Module):
    """Features that can be worked out by hand: each channel's mean, and twice it."""

    def __init__(self, pooled=True):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor([1.0, 2.0]))
        self.pooled = pooled

    def forward(self, images):
        means = images.mean((2, 3), keepdim=True) if not self.pooled else images.mean((2, 3))
        return torch.cat([means * self.factor[0], means * self.factor[1]], 1)


class TestTorchScript:
    @pytest.fixture
    def script(self, tmp_path):
        path = tmp_path / "net.pt"
        torch.jit.script(Channels()).save(path)
        path.with_name("net.pt.json").write_text(json.dumps(SMALL | {"size_px": 8}))
        return path

    @pytest.fixture
    def pixels(self):
        return np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)

    def test_its_features_are_the_script_s(self, script, pixels):
        ours = opened(script)
        means = (pixels.mean((1, 2)) / 255 - SMALL["mean"]) / SMALL["std"]
        assert_allclose(ours.encode(pixels)[0], np.hstack([means, 2 * means]), rtol=1e-4, atol=1e-5)
        assert ours.out_features == 6

    @pytest.mark.parametrize("frozen", [False, True])
    def test_saved_it_needs_the_file_no_more(self, script, pixels, frozen, tmp_path):
        if frozen:
            torch.jit.freeze(torch.jit.script(Channels(pooled=False).eval())).save(script)
        ours = opened(script)
        expected = ours.encode(pixels)[0]
        ours.save(tmp_path / "model")
        script.unlink()
        loaded = Encoder.load(tmp_path / "model", device="cpu", precision="fp32")
        assert_array_equal(loaded.encode(pixels)[0], expected)
        assert loaded.weights_sha256 == ours.weights_sha256
        loaded.save(tmp_path / "model")  # onto itself
        assert_array_equal(Encoder.load(tmp_path / "model", device="cpu").encode(pixels)[0], expected)

    def test_constants_frozen_into_it_are_part_of_its_identity(self, script):
        hashes = set()
        for factor in (1.0, 3.0):
            module = Channels().eval()
            with torch.no_grad():
                module.factor.fill_(factor)
            torch.jit.freeze(torch.jit.script(module)).save(script)
            hashes.add(opened(script).weights_sha256)
        assert len(hashes) == 2

    def test_another_script_in_the_folder_is_refused(self, script, tmp_path):
        opened(script).save(tmp_path / "model")
        torch.jit.script(Channels(pooled=False)).save(tmp_path / "model" / "backbone.torchscript")
        with pytest.raises(CheckpointError, match="is not the script that this model was saved with"):
            Encoder.load(tmp_path / "model")
        (tmp_path / "model" / "backbone.torchscript").unlink()
        with pytest.raises(CheckpointError, match="cannot be read"):
            Encoder.load(tmp_path / "model")

    def test_it_cannot_be_trained_and_half_precision_works(self, script, pixels, tmp_path):
        exact, fast = opened(script), torch_file_encoder(script, device="cpu", precision="bf16")
        assert_allclose(fast.encode(pixels)[0], exact.encode(pixels)[0], rtol=0.05, atol=0.05)
        exact.save(tmp_path / "model")
        with pytest.raises(InputError, match="a TorchScript, which encodes and cannot be trained"):
            SimCLR(backbone=str(tmp_path / "model"), epochs=1, device="cpu").fit(pixels)

    def test_its_images_must_be_stated(self, script):
        script.with_name("net.pt.json").unlink()
        with pytest.raises(InputError, match=r"a TorchScript, and nothing says.*net.pt.json.*size_px, mean, std"):
            opened(script)

    @pytest.mark.parametrize(
        ("module", "message"),
        [(nn.Identity(), r"\(n, features\), this one gives \(2, 3, 8, 8\)"), (nn.Flatten(0), "this one gives")],
    )
    def test_it_must_give_features(self, script, module, message):
        torch.jit.script(module).save(script)
        with pytest.raises(InputError, match=message):
            opened(script)
