"""Deep residual networks of any depth, stem and width."""

from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from imagescape.errors import InputError

Stem = Literal["small", "strided", "imagenet"]
STEMS = ("small", "strided", "imagenet")


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
        self.stem = nn.Sequential(convolution(3, width, kernel, stride), nn.BatchNorm2d(width), nn.ReLU(inplace=True))
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
        self._blocks = blocks
        self.out_features = channels
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n out_features"]:
        return self.maps(images).mean(dim=(2, 3))

    def maps(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n out_features y x"]:
        """What the features are the mean of; none of it is below 0."""
        maps: Tensor = self.stages(self.stem(images))
        return maps

    def parts(self) -> list[nn.Module]:
        """The stem and four stages: run in turn they are the network."""
        return [self.stem, *grouped(self.stages, self._blocks, MeanOverImage())]


class MeanOverImage(nn.Module):
    """(n, c, h, w) -> (n, c)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3))


def grouped(blocks: nn.Sequential, counts: Sequence[int], *behind: nn.Module) -> list[nn.Module]:
    """So many blocks each, those of the last stage with what comes behind them."""
    starts = [sum(counts[:stage]) for stage in range(len(counts))]
    stages = [list(blocks)[start : start + count] for start, count in zip(starts, counts, strict=True)]
    stages[-1] += behind
    return [nn.Sequential(*stage) for stage in stages]


class _Basic(nn.Module):
    expansion = 1

    def __init__(self, channels: int, inner: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            convolution(channels, inner, 3, stride),
            nn.BatchNorm2d(inner),
            nn.ReLU(inplace=True),
            convolution(inner, inner, 3),
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
            convolution(channels, inner, 1),
            nn.BatchNorm2d(inner),
            nn.ReLU(inplace=True),
            convolution(inner, inner, 3, stride),
            nn.BatchNorm2d(inner),
            nn.ReLU(inplace=True),
            convolution(inner, inner * 4, 1),
            nn.BatchNorm2d(inner * 4),
        )
        self.shortcut = _shortcut(channels, inner * 4, stride)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.residual(x) + self.shortcut(x), inplace=True)


def convolution(channels: int, out: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, out, kernel, stride, padding=kernel // 2, bias=False)


def _shortcut(channels: int, out: int, stride: int) -> nn.Module:
    if stride == 1 and channels == out:
        return nn.Identity()
    return nn.Sequential(convolution(channels, out, 1, stride), nn.BatchNorm2d(out))
