"""Networks that turn images into features, by name: ResNets of any depth, stem and width, EfficientNet-Lite0, timm's.

Every backbone is a module that maps (n, 3, h, w) normalised images to (n, out_features)
features and says how wide they are in `out_features`; any `nn.Module` with that attribute will do.
"""

from typing import cast

from torch import nn

from imagescape.errors import InputError, require
from imagescape.learn.backbones.efficientnet import EfficientNetLite
from imagescape.learn.backbones.resnet import STEMS, ResNet, Stem

__all__ = ["STEMS", "EfficientNetLite", "ResNet", "Stem", "backbone", "backbone_names"]

# Blocks a stage, and whether they are bottlenecks (He et al. 2016, arXiv:1512.03385, table 1).
_RESNETS = {
    "resnet10": ((1, 1, 1, 1), False),
    "resnet18": ((2, 2, 2, 2), False),
    "resnet34": ((3, 4, 6, 3), False),
    "resnet50": ((3, 4, 6, 3), True),
}


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
