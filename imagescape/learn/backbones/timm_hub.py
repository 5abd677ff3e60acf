"""Networks of timm with the data configuration that their weights were evaluated with: `timm:<name>`.

Features are what timm gives without a classifier: pooled, and for the few networks that have a layer between pooling
and classifier, behind it. Pixels are timm's to a grey level, except that where an odd number of them is cut away the
picture may sit one pixel off. Needs torchvision, which timm imports.
"""

import math
from types import ModuleType
from typing import Any

from torch import nn

from imagescape.errors import InputError, require
from imagescape.learn.backbones.published import Published
from imagescape.learn.preprocessing import Preprocessing

_FITS = {"center": "crop", "squash": "squash"}


def published(name: str) -> Published:
    """A network of timm and its weights, from its hub or the cache of earlier downloads.

    Raises:
        InputError: timm has none of that name, its weights cannot be had, or its images are no squares.
        MissingExtraError: timm is not installed.
    """
    timm = _timm()
    network = _create(timm, name, pretrained=True)
    config = timm.data.resolve_model_data_config(network)
    return Published(network=network, preprocessing=preprocessing_of(config), version=f"timm {timm.__version__}")


def build(name: str) -> nn.Module:
    """The same without weights; nothing is downloaded."""
    return _create(_timm(), name, pretrained=False)


def preprocessing_of(config: dict[str, Any]) -> Preprocessing:
    """What timm's data configuration says, as our preprocessing.

    Raises:
        InputError: it cannot be said so.
    """
    channels, height, width = config["input_size"]
    fit = _FITS.get(config["crop_mode"])
    if channels != 3 or height != width or fit is None:
        raise InputError(
            f"this model takes {channels} channels of {height} x {width} px, crop mode '{config['crop_mode']}'; "
            "here images are RGB squares, by crop mode center or squash"
        )
    return Preprocessing(
        size_px=height,
        cache_px=math.floor(height / config["crop_pct"]),
        fit=fit,  # type: ignore[arg-type]
        mean=config["mean"],
        std=config["std"],
        resample=config["interpolation"],
        center_crop=True,
    )


def _timm() -> ModuleType:
    try:
        return require("timm", extra="timm")
    except RuntimeError as error:  # of torchvision's compiled part
        raise InputError(
            f"timm needs a torchvision that fits this torch, and the one here does not: {error}"
        ) from error


def _create(timm: ModuleType, name: str, *, pretrained: bool) -> nn.Module:
    if name.startswith(("hf_hub:", "hf-hub:", "local-dir:")):
        raise InputError(f"'{name}' cannot be built again without a network; give the plain name of a model of timm")
    try:
        network: Any = timm.create_model(name, pretrained=pretrained, num_classes=0)
    except (RuntimeError, ValueError, OSError) as error:
        raise InputError(f"timm cannot give '{name}': {error}") from error
    # Some have another layer between the pooled features and the classifier, and give what comes out of that.
    network.out_features = getattr(network, "head_hidden_size", network.num_features)
    return network
