"""Networks that turn images into features, by name.

Every backbone is a module that maps (n, 3, h, w) normalised images to (n, out_features)
features and says how wide they are in `out_features`; any `nn.Module` with that attribute will do.
`backbone` builds one without its weights; `published` brings one with the weights that others have
trained, and with the preprocessing that they were evaluated with.
"""

from collections.abc import Mapping
from typing import Any

from torch import nn

from imagescape.errors import InputError
from imagescape.learn.backbones import timm_hub, transformers_hub
from imagescape.learn.backbones.efficientnet import EfficientNetLite, efficientnet_lite0
from imagescape.learn.backbones.published import Published
from imagescape.learn.backbones.resnet import STEMS, ResNet, Stem

__all__ = [
    "RESNETS",
    "STEMS",
    "EfficientNetLite",
    "Published",
    "ResNet",
    "Stem",
    "backbone",
    "backbone_names",
    "is_published",
    "published",
    "published_names",
]

# Blocks a stage, and whether they are bottlenecks (He et al. 2016, arXiv:1512.03385, table 1).
RESNETS = {
    "resnet10": ((1, 1, 1, 1), False),
    "resnet18": ((2, 2, 2, 2), False),
    "resnet34": ((3, 4, 6, 3), False),
    "resnet50": ((3, 4, 6, 3), True),
    "resnet101": ((3, 4, 23, 3), True),
    "resnet152": ((3, 8, 36, 3), True),
}


def backbone_names() -> list[str]:
    """What training can begin with."""
    return [*RESNETS, *published_names()]


def published_names() -> list[str]:
    return ["efficientnet_lite0", "hf:<name or folder>", "timm:<name>"]


def is_published(name: str) -> bool:
    """Whether `published` is to be asked for it."""
    return name == "efficientnet_lite0" or name.startswith(("hf:", "timm:"))


def published(name: str) -> Published:
    """The network called `name` with its weights, from a package, a folder or a hub.

    Raises:
        InputError: there is none of that name, it cannot be had, or nobody says how images are prepared for it.
        CheckpointError: its weights do not fill it.
        MissingExtraError: the package that brings it is not installed.
    """
    kind, _, rest = name.partition(":")
    if name == "efficientnet_lite0":
        return efficientnet_lite0()
    if kind == "hf" and rest:
        return transformers_hub.published(rest)
    if kind == "timm" and rest:
        return timm_hub.published(rest)
    raise InputError(f"published are {', '.join(published_names())}, got '{name}'")


def backbone(
    name: str, *, stem: Stem = "small", width: int = 64, options: Mapping[str, Any] | None = None
) -> nn.Module:
    """Build the backbone called `name` with fresh weights; nothing is downloaded.

    Args:
        name: One of `backbone_names()`, or "simclr:" and an architecture, "r50_2x_sk1".
        stem, width: Of a ResNet.
        options: Of a network that others publish; see `Published`.

    Raises:
        InputError: no backbone of that name; the message lists those there are.
        MissingExtraError: the package that brings it is not installed.
    """
    kind, _, rest = name.partition(":")
    if name in RESNETS:
        blocks, bottleneck = RESNETS[name]
        return ResNet(blocks, bottleneck=bottleneck, stem=stem, width=width)
    if name == "efficientnet_lite0":
        return EfficientNetLite()
    if kind == "hf" and rest:
        return transformers_hub.build(options or {})
    if kind == "timm" and rest:
        return timm_hub.build(rest)
    if kind == "simclr" and rest:
        from imagescape.learn.backbones.simclr_resnet import simclr_resnet

        return simclr_resnet(rest)
    raise InputError(f"backbone must be one of {', '.join(backbone_names())}, got '{name}'")
