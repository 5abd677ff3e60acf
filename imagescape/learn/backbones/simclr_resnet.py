"""The residual networks of SimCLR v1 and v2, as TensorFlow computes them.

They differ from torchvision's in what no converted weight makes up for:

* The max-pool of the stem pads as TensorFlow's "SAME": what is odd of it goes to the right and the bottom.
* With selective kernels the stem has three convolutions, the 3x3 convolution of a block is a selective-kernel unit,
  and a projection averages 2x2 pixels first (ResNet-D): where it keeps the resolution, the mean at the right and the
  bottom edge is over the pixels that are there; where it halves it, zeros stand in for those that are not.

Sources: Chen et al. 2020, arXiv:2002.05709 and arXiv:2006.10029; Li et al. 2019, arXiv:1903.06586 (selective
kernels); He et al. 2019, arXiv:1812.01187 (ResNet-D).
"""

import re
from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from imagescape.errors import CheckpointError, InputError
from imagescape.learn.backbones.resnet import MeanOverImage, convolution, grouped

_BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
_WIDTHS = (1, 2, 3, 4)
_NAME = re.compile(r"r(\d+)_(\d+)x_sk([01])(?:@nl_([012]))?")
_SELECTION_MIN_CHANNELS = 32
PROJECTION_LAYERS, PROJECTIONS = 3, 128


@dataclass(frozen=True, kw_only=True)
class SimCLRArchitecture:
    """What a SimCLR network is built from.

    Attributes:
        blocks: Residual blocks in each stage.
        channels: Of the first stage's convolutions; 64 times the published "width".
        selective_kernels: Whether it has them ("sk1").
        head_layers: Layers of the projection head that its features have gone through; 0: none, the pooled maps of
            the last block. SimCLR v2 fine-tunes on few labels from layer 1 on.
    """

    blocks: tuple[int, ...]
    channels: int = 64
    selective_kernels: bool = False
    head_layers: int = 0

    @classmethod
    def parse(cls, name: str) -> "SimCLRArchitecture":
        """The architecture called `name`: `r50_2x_sk1`, or `r50_2x_sk1@nl_0` for features after head layer `nl_0`.

        Raises:
            InputError: there is none of that name.
        """
        match = _NAME.fullmatch(name)
        depth, width, selective, layer = match.groups() if match else ("0", "0", "0", None)
        if int(depth) not in _BLOCKS or int(width) not in _WIDTHS:
            raise InputError(
                f"a SimCLR network is called r50, r101 or r152, _1x to _4x, _sk0 or _sk1, and @nl_0 to @nl_2 behind it"
                f" for features of its projection head: r50_2x_sk1@nl_0; got '{name}'"
            )
        return cls(
            blocks=_BLOCKS[int(depth)],
            channels=64 * int(width),
            selective_kernels=selective == "1",
            head_layers=0 if layer is None else int(layer) + 1,
        )

    @property
    def name(self) -> str:
        """
        Raises:
            InputError: it has no name, being none of the published sizes.
        """
        depth = next((depth for depth, blocks in _BLOCKS.items() if blocks == self.blocks), None)
        width, rest = divmod(self.channels, 64)
        if depth is None or rest or width not in _WIDTHS:
            raise InputError(
                f"SimCLR networks have 50, 101 or 152 layers and 1 to 4 times 64 channels, got {self.blocks} blocks of"
                f" {self.channels} channels"
            )
        after = f"@nl_{self.head_layers - 1}" if self.head_layers else ""
        return f"r{depth}_{width}x_sk{int(self.selective_kernels)}{after}"

    @property
    def pooled_features(self) -> int:
        """Channels of the last block, which are averaged over the image."""
        return 4 * self.channels * 2 ** (len(self.blocks) - 1)


def simclr_resnet(name: str) -> "SimCLRResNet":
    """The SimCLR network called `name`, with random weights: see `SimCLRArchitecture.parse`.

    Raises:
        InputError: there is none of that name.
    """
    return SimCLRResNet(SimCLRArchitecture.parse(name))


class SimCLRResNet(nn.Module):
    """SimCLR's network without a classifier. Takes images in [0, 1], not normalised.

    Its convolutions and its batch norms are in the order in which TensorFlow counts them.
    """

    mean = (0.0, 0.0, 0.0)
    std = (1.0, 1.0, 1.0)

    def __init__(self, architecture: SimCLRArchitecture) -> None:
        super().__init__()
        width, selective = architecture.channels, architecture.selective_kernels
        if selective:
            self.stem = nn.Sequential(
                *_unit(3, width // 2, 3, stride=2), *_unit(width // 2, width // 2, 3), *_unit(width // 2, width, 3)
            )
        else:
            self.stem = nn.Sequential(*_unit(3, width, 7, stride=2))
        self.stem.append(_SameMaxPool())
        channels, stages = width, []
        for stage, count in enumerate(architecture.blocks):
            for i in range(count):
                stride = 2 if stage and i == 0 else 1
                stages.append(_Block(channels, width * 2**stage, stride, is_first=i == 0, selective_kernels=selective))
                channels = 4 * width * 2**stage
        self.stages = nn.Sequential(*stages)
        self._blocks = architecture.blocks
        self.head = nn.Sequential(*ProjectionHead(channels).layers[: architecture.head_layers])
        self.out_features = PROJECTIONS if architecture.head_layers == PROJECTION_LAYERS else channels

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n out_features"]:
        features: Tensor = self.head(self.stages(self.stem(images)).mean(dim=(2, 3)))
        return features

    def parts(self) -> list[nn.Module]:
        """The stem and four stages, the last with what there is of the head: run in turn they are the network."""
        return [self.stem, *grouped(self.stages, self._blocks, MeanOverImage(), self.head)]


class ProjectionHead(nn.Module):
    """The projection head of SimCLR v2: layers `nl_0`, `nl_1`, … of linear, batch norm and ReLU.

    The last has no ReLU, and its batch norm no offset.

    Args:
        in_features: Width of the backbone's features, and of all layers but the last.
        out_features: Dimensions of the projections.
        layers: How many; at least one.

    Attributes:
        widths: Of the features, and of the outputs of each layer.
    """

    def __init__(self, in_features: int, out_features: int = PROJECTIONS, layers: int = PROJECTION_LAYERS) -> None:
        super().__init__()
        self.widths = widths = (in_features,) * layers + (out_features,)
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.Linear(widths[i], widths[i + 1], bias=False),
                nn.BatchNorm1d(widths[i + 1]),
                nn.ReLU() if i < layers - 1 else nn.Identity(),
            )
            for i in range(layers)
        )
        self.layers[-1][1].bias.requires_grad_(False)  # type: ignore[index]  # stays at zero

    def forward(self, features: Float[Tensor, "n d"], begin: int = 0, end: int | None = None) -> Float[Tensor, "n z"]:
        """What layers `begin` to `end` make of features that have gone through those before them."""
        for layer in self.layers[begin:end]:
            features = layer(features)
        return features


class SimCLRHeads(nn.Module):
    """What stands on a SimCLR backbone: the projection head of contrastive learning, and a classifier.

    Args:
        projection: Of v2; the published checkpoints of v1 have none.
        classifier: A linear layer, or None where nobody trained one.
        classifier_after: Layers of the projection head below the classifier; None: nobody knows.
        features_after: Layers of the projection head that the features given have already gone through.
    """

    def __init__(
        self,
        projection: ProjectionHead | None,
        classifier: nn.Linear | None,
        *,
        classifier_after: int | None = 0,
        features_after: int = 0,
    ) -> None:
        super().__init__()
        self.projection = projection
        self.classifier = classifier
        self.classifier_after = classifier_after
        self.features_after = features_after

    def project(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n z"]:
        """The projections that were contrasted, not normalised.

        Raises:
            CheckpointError: there is no projection head.
        """
        if self.projection is None:
            raise CheckpointError("this model has no projection head; SimCLR v1 was published without")
        projections: Tensor = self.projection(features, self.features_after)
        return projections

    def classify(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n classes"]:
        """Logits of the classes.

        Raises:
            CheckpointError: there is no classifier, nobody knows where it stands, or the features have gone past that.
        """
        if self.classifier is None:
            raise CheckpointError("this model has no classifier")
        if self.classifier_after is None:
            raise CheckpointError(
                "nothing tells where this model's classifier stands: it is of none of the published checkpoints; set "
                "classifier_after to 0 for the backbone, to 1 for layer nl_0 of the projection head"
            )
        if self.features_after > self.classifier_after:
            raise CheckpointError(
                f"the classifier needs features after {self.classifier_after} layers of the projection head, these have"
                f" gone through {self.features_after}; convert again with features_after={self.classifier_after}"
            )
        if self.projection is not None:
            features = self.projection(features, self.features_after, self.classifier_after)
        logits: Tensor = self.classifier(features)
        return logits


class _Block(nn.Module):
    """1x1, 3x3 or selective kernels, 1x1 to four times the channels; the first of a stage projects its input."""

    def __init__(self, channels: int, inner: int, stride: int, *, is_first: bool, selective_kernels: bool) -> None:
        super().__init__()
        self.shortcut = nn.Sequential()
        if is_first:
            if selective_kernels:
                self.shortcut.append(_EdgeMean() if stride == 1 else _PaddedMean())
            self.shortcut.append(convolution(channels, 4 * inner, 1, 1 if selective_kernels else stride))
            self.shortcut.append(nn.BatchNorm2d(4 * inner))
        self.residual = nn.Sequential(
            *_unit(channels, inner, 1),
            *([_SelectiveKernels(inner, stride)] if selective_kernels else _unit(inner, inner, 3, stride=stride)),
            convolution(inner, 4 * inner, 1),
            nn.BatchNorm2d(4 * inner),
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.residual(x) + self.shortcut(x), inplace=True)


class _SelectiveKernels(nn.Module):
    """Two 3x3 convolutions of the same input, mixed by weights that the mean over the image decides."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        middle = max(channels // 16, _SELECTION_MIN_CHANNELS)
        self.streams = nn.Sequential(*_unit(channels, 2 * channels, 3, stride=stride))
        self.select = nn.Sequential(*_unit(channels, middle, 1), convolution(middle, 2 * channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        streams = self.streams(x).unflatten(1, (2, -1))
        pooled = streams.sum(1).mean((2, 3), keepdim=True)
        weights = self.select(pooled).unflatten(1, (2, -1)).softmax(1)
        mixed: Tensor = (streams * weights).sum(1)
        return mixed


class _SameMaxPool(nn.Module):
    """3x3, stride 2, padded with -inf as TensorFlow's "SAME": on an even side with none before and one behind."""

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        before, behind = (0, 1), (1, 1)
        rows, columns = (behind if side % 2 else before for side in (height, width))
        return F.max_pool2d(F.pad(x, (*columns, *rows), value=float("-inf")), 3, 2)


class _EdgeMean(nn.Module):
    """2x2 mean at stride 1, at the right and the bottom edge over the pixels that are there."""

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(F.pad(x, (0, 1, 0, 1), mode="replicate"), 2, 1)


class _PaddedMean(nn.Module):
    """2x2 mean at stride 2; on an odd side the last is over one pixel and a zero."""

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(F.pad(x, (0, 1, 0, 1)), 2, 2)


def _unit(channels: int, out: int, kernel: int, *, stride: int = 1) -> tuple[nn.Module, ...]:
    return convolution(channels, out, kernel, stride), nn.BatchNorm2d(out), nn.ReLU(inplace=True)
