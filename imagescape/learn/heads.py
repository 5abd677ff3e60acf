"""What stands on a backbone: the projector of contrastive learning and its last layer, the readout."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Projector(nn.Module):
    """Linear, ReLU, linear; no batch norm (Boehm et al. 2023, arXiv:2210.09879).

    Args:
        in_features: Width of the backbone's features.
        hidden: Width of the middle.
        out_features: Dimensions of the projections: 128 to learn features, 2 for a map.
    """

    def __init__(self, in_features: int, hidden: int = 1024, out_features: int = 128) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(in_features, hidden), nn.ReLU())
        self.readout = nn.Linear(hidden, out_features)

    def forward(self, features: Float[Tensor, "n in_features"]) -> Float[Tensor, "n out_features"]:
        # Always in float32: a map spans hundreds of units, and there bfloat16 knows whole numbers only.
        with torch.autocast(features.device.type, enabled=False):
            projections: Tensor = self.readout(self.hidden(features.float()))
        return projections

    def replace_readout(self, out_features: int, generator: torch.Generator, *, deviation: float = 1.0) -> None:
        """A new last layer with normal weights of the given standard deviation, and no bias."""
        # Without torch's own start, which would draw from the global randomness.
        readout = nn.utils.skip_init(nn.Linear, self.readout.in_features, out_features)
        with torch.no_grad():
            readout.weight.normal_(0, deviation, generator=generator)
            readout.bias.zero_()
        self.readout = readout.to(self.readout.weight.device)


class Network(nn.Module):
    """A backbone and its projector, if it has one: images -> features H -> projections Z."""

    def __init__(self, backbone: nn.Module, projector: Projector | None) -> None:
        super().__init__()
        self.backbone = backbone
        self.projector = projector

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        features: Tensor = self.backbone(images)
        return features if self.projector is None else self.projector(features)


def principal_axes(coords: Float[Tensor, "n d"]) -> tuple[Float[Tensor, " d"], Float[Tensor, "d d"]]:
    """The mean, and the axes as columns, those of the largest variance first.

    Signs are fixed by making the third moment along each axis positive, so that the same map is not mirrored
    from run to run.
    """
    mean = coords.mean(0)
    centred = coords - mean
    _, axes = torch.linalg.eigh(centred.T @ centred)
    axes = axes.flip(1)
    skew = (centred @ axes).pow(3).sum(0)
    return mean, axes * torch.where(skew < 0, -1.0, 1.0)


@torch.no_grad()
def straighten(projector: Projector, coords: Float[Tensor, "n d"]) -> None:
    """Fold centring and rotation to principal axes into the last layer, so every later projection has them.

    Args:
        projector: Changed in place: its outputs on the images of `coords` become centred, with
            variances falling from axis to axis and the axes uncorrelated.
        coords: Its present outputs on the collection.
    """
    mean, axes = principal_axes(coords.cpu().double())  # not on the device: Metal has no float64
    readout = projector.readout
    weight, bias = readout.weight.cpu().double(), readout.bias.cpu().double()
    readout.weight.copy_(axes.T @ weight)
    readout.bias.copy_(axes.T @ (bias - mean))
