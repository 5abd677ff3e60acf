"""Descriptors of images: a network's features pooled, brought to unit length and whitened by layers behind it."""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from imagescape.errors import InputError
from imagescape.learn.backbones.resnet import MeanOverImage
from imagescape.learn.placing import Components

POWER = 3.0
_LEAST = 1e-6  # of a map's values, whose roots would have no slope at 0


class PowerMean(nn.Module):
    """Maps (n, c, h, w) to (n, c): the root of the mean of powers, by which what stands out counts for more.

    Generalised-mean pooling (Radenović et al. 2018, arXiv:1711.02512), as SSCD has it. A power of 1 is the mean.
    """

    def __init__(self, power: float = POWER) -> None:
        super().__init__()
        self.power = power

    def forward(self, maps: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c"]:
        with torch.autocast(maps.device.type, enabled=False):
            return maps.float().clamp_min(_LEAST).pow(self.power).mean(dim=(2, 3)).pow(1 / self.power)


class Pooled(nn.Module):
    """A backbone whose maps are pooled in another way.

    Args:
        body: With a method `maps` (n, h, y, x) of images, of which its features are the mean.
        power: Of `PowerMean`.
    """

    def __init__(self, body: nn.Module, power: float = POWER) -> None:
        super().__init__()
        self.body, self.pool = body, PowerMean(power)
        self.out_features = int(body.out_features)  # type: ignore[arg-type]

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n h"]:
        features: Tensor = self.pool(self.body.maps(images))  # type: ignore[operator]
        return features

    def parts(self) -> list[nn.Module]:
        """As of the body."""
        *first, last = self.body.parts()  # type: ignore[operator]
        return [*first, nn.Sequential(*(self.pool if isinstance(one, MeanOverImage) else one for one in last))]


def can_be_pooled(body: nn.Module) -> bool:
    """Whether `Pooled` takes it."""
    return hasattr(body, "maps") and hasattr(body, "parts")


class UnitLength(nn.Module):
    """Rows brought to unit length, in float32."""

    def forward(self, rows: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        return F.normalize(rows.float(), dim=1)


class Described(nn.Module):
    """A backbone whose features are descriptors: unit rows, so that Euclidean distance and cosine agree.

    Its features, brought to unit length, go through a linear layer, and what comes out is brought to unit length.

    Args:
        body: Gives features (n, h).
        dimensions: Of a descriptor.
    """

    def __init__(self, body: nn.Module, dimensions: int) -> None:
        super().__init__()
        self.body = body
        self.describe = nn.Linear(int(body.out_features), dimensions)  # type: ignore[arg-type]
        self.out_features = dimensions

    def head(self) -> nn.Sequential:
        """What stands on the body, but for the last step: it shares its weights."""
        return nn.Sequential(UnitLength(), self.describe)

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        features = self.body(images)
        with torch.autocast(features.device.type, enabled=False):
            return F.normalize(self.head()(features), dim=1)


def whitening(
    features: Float[np.ndarray, "n h"], dimensions: int, *, strength: float = 0.5
) -> tuple[Float[np.ndarray, "d h"], Float[np.ndarray, " d"]]:
    """Weight and bias of a linear layer that centres features and brings their principal components nearer in size.

    Args:
        features: Of at least 2 images, finite.
        dimensions: Components that are kept, as many as there are at most.
        strength: Each component is divided by its standard deviation to this power: 0 turns only, 1 whitens (Jégou
            and Chum 2012). Half way there few images say enough, and noise in the small components stays small.

    Returns:
        (d, h) and (d,) float32; rows of what the layer gives have a mean square of 1 together.

    Raises:
        InputError: fewer than 2 images, or all the same.
    """
    if len(features) < 2:
        raise InputError(f"whitening needs features of at least 2 images, got {len(features)}")
    components = Components.of(features, min(dimensions, features.shape[1], len(features) - 1))
    projected = components.project(features)
    deviations = projected.std(0, dtype=np.float64)
    if not deviations.max() > 0:
        raise InputError("all images have the same features: there is nothing to tell them apart by")
    # A component in which nothing varies says nothing, and is not blown up.
    scale = np.maximum(deviations, 1e-4 * deviations.max()) ** -strength
    scale /= np.sqrt(np.square(projected * scale).sum(1).mean())
    weight = components.axes.T * scale[:, None]
    return weight.astype(np.float32), (-weight @ components.mean).astype(np.float32)


@torch.no_grad()
def fold(layer: nn.Linear, weight: Float[np.ndarray, "d h"], bias: Float[np.ndarray, " d"]) -> None:
    """Have `layer` give what this linear layer makes of its present output; where d is smaller, zeros behind it.

    Args:
        layer: Changed in place.
        weight, bias: Of the layer behind it, which takes its outputs.
    """
    rows = len(weight)
    w, b = (torch.from_numpy(one).to(layer.weight) for one in (weight, bias))
    new_weight, new_bias = torch.zeros_like(layer.weight), torch.zeros_like(layer.bias)
    new_weight[:rows], new_bias[:rows] = w @ layer.weight, w @ layer.bias + b
    layer.weight.copy_(new_weight)
    layer.bias.copy_(new_bias)


@torch.no_grad()
def begin(described: Described, features: Float[np.ndarray, "n h"], *, strength: float = 0.5) -> None:
    """Have descriptors be whitened features, by those of some images; of too few for all components, with zeros.

    Args:
        described: Changed in place.
        features: Of its body.
        strength: See `whitening`.
    """
    layer = described.describe
    weight, bias = whitening(unit(features), layer.out_features, strength=strength)
    layer.weight.zero_()
    layer.bias.zero_()
    layer.weight[: len(weight)] = torch.from_numpy(weight).to(layer.weight)
    layer.bias[: len(bias)] = torch.from_numpy(bias).to(layer.bias)


def whiten_again(described: Described, features: Float[np.ndarray, "n h"], *, strength: float = 0.5) -> None:
    """Whiten descriptors as they are now, by the features of some images.

    Args:
        described: Changed in place.
        features: Of its body.
        strength: See `whitening`.
    """
    layer = described.describe
    weight, bias = (tensor.detach().cpu().double().numpy() for tensor in (layer.weight, layer.bias))
    made = (unit(features) @ weight.T + bias).astype(np.float32)
    fold(layer, *whitening(made, layer.out_features, strength=strength))


def unit(rows: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """Rows brought to unit length; zeros stay."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
