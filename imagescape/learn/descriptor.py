"""A linear layer on a network's features that makes descriptors of them: whitened, of unit length, of fewer numbers."""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from imagescape.errors import InputError
from imagescape.learn.placing import Components


class Described(nn.Module):
    """A backbone whose features are descriptors: unit rows, so that Euclidean distance and cosine agree.

    Args:
        body: Gives features (n, h).
        dimensions: Of a descriptor.
    """

    def __init__(self, body: nn.Module, dimensions: int) -> None:
        super().__init__()
        self.body = body
        self.describe = nn.Linear(int(body.out_features), dimensions)  # type: ignore[arg-type]
        self.out_features = dimensions

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        features = self.body(images)
        with torch.autocast(features.device.type, enabled=False):
            return F.normalize(self.describe(features.float()), dim=1)


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
def begin(layer: nn.Linear, features: Float[np.ndarray, "n h"], *, strength: float = 0.5) -> None:
    """Set a fresh `layer` to the whitening of these features; with too few images for its width, zeros behind."""
    weight, bias = whitening(features, layer.out_features, strength=strength)
    layer.weight.zero_()
    layer.bias.zero_()
    layer.weight[: len(weight)] = torch.from_numpy(weight).to(layer.weight)
    layer.bias[: len(bias)] = torch.from_numpy(bias).to(layer.bias)
