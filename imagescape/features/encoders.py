"""Every encoder by one name: trained here, brought by a package, or from a hub, a file, a folder or a Python module."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from imagescape.errors import CheckpointError, InputError
from imagescape.features.torch_files import torch_file_encoder
from imagescape.learn.backbones import is_published, published_names
from imagescape.learn.encoder import Architecture, Encoder, Preprocessing, pretrained_encoder, read_config
from imagescape.runtime import Precision, resolve_device

_EXAMPLES = (
    "efficientnet_lite0 (its weights come with a package), hf:facebook/dinov2-small (of the hub; hf:FOLDER "
    "for one on this disk), timm:resnet50.a1_in1k, torch:moco_v2.pth.tar (weights or a TorchScript in a file), "
    "simclr:FOLDER (that 'imagescape convert' wrote), FOLDER (of a saved model), or a hash such as phash64"
)
_FEWEST_PIXELS, _MOST_PIXELS = 4, 64
_TENSORFLOW = ("*.index", "saved_model.pb", "*.data-?????-of-?????", "checkpoint")


class UnknownEncoder(InputError):
    """No encoder has this name."""


def known_encoders(models: Path | None = None) -> list[str]:
    """The names that `open_encoder` takes: the models in `models`, then the kinds of others."""
    own = [] if models is None else sorted(path.parent.name for path in models.glob("*/config.json"))
    return [*own, *published_names(), "torch:<file>", "simclr:<folder>", "pixels<side>", "<folder of a saved model>"]


def open_encoder(
    name: str, *, models: Path | None = None, device: str = "auto", precision: Precision = "auto"
) -> Encoder:
    """The encoder called `name`, with its own preprocessing, ready to encode.

    Args:
        name: A model in `models`; "efficientnet_lite0"; "hf:<name of the hub, or folder>" (see
            `backbones.transformers_hub` for what each family gives); "timm:<name>"; "torch:<file>" (see `torch_files`);
            "simclr:<folder>" that `imagescape convert` wrote; "pixels32", the pixels of a square of 32; or the folder
            of any saved model.
        models: Where a collection keeps its models; what is there comes first.
        device, precision: Where and how it runs.

    Raises:
        UnknownEncoder: none is called so; the message lists what there is.
        InputError: it cannot be had, or nobody says how images are prepared for it.
        CheckpointError: its weights are damaged, or do not fit.
        MissingExtraError: the package that brings it is not installed.
    """
    kind, _, rest = name.partition(":")
    if models is not None and name and (models / name / "config.json").is_file():
        return _saved_encoder(models / name, device, precision)
    if kind == "torch" and rest:
        return torch_file_encoder(rest, device=device, precision=precision)
    if kind == "simclr" and rest:
        return _simclr_encoder(Path(rest), device, precision)
    if pixels := re.fullmatch(r"pixels(\d+)", name):
        return _pixels_encoder(name, int(pixels[1]), device)
    if name == "efficientnet_lite0" or (is_published(name) and rest):
        return pretrained_encoder(name, device=device, precision=precision)
    if name and Path(name).is_dir():
        _check_is_ours(Path(name))
        return Encoder.load(name, device=device, precision=precision)
    own = known_encoders(models)[: -len(known_encoders())]
    here = f"in {models} there are {', '.join(own)}; " if own else ""
    raise UnknownEncoder(f"no encoder is called '{name}'; {here}others are named like {_EXAMPLES}")


def encoder_from_module(
    module: nn.Module,
    preprocessing: Preprocessing,
    *,
    name: str,
    version: str = "",
    device: str = "auto",
    precision: Precision = "auto",
) -> Encoder:
    """Any module as an encoder. It is not copied: it is put in eval mode and on the device.

    Its folder, once saved, needs the module again: `Encoder.load(folder, backbone=module)`.

    Args:
        module: Gives features (n, h) of views (n, 3, size_px, size_px). Unless it has an int `out_features`, it gets
            one, as wide as what it gives.
        preprocessing: How images become its views.
        name, version: Saved with it and its features.
        device, precision: Where and how it runs.

    Raises:
        InputError: the module does not give one row of features an image.
    """
    on, size_px = resolve_device(device), preprocessing.size_px
    module.to(on).eval()
    with torch.inference_mode():
        features = module(torch.zeros(2, 3, size_px, size_px, device=on))
    if not isinstance(features, torch.Tensor) or features.ndim != 2 or len(features) != 2:
        got = tuple(features.shape) if isinstance(features, torch.Tensor) else type(features).__name__
        raise InputError(
            f"an encoder's module must give (2, features) of 2 images, {type(module).__name__} gives {got}"
        )
    architecture = Architecture(backbone="custom", options={"out_features": features.shape[1]})
    network = architecture.build(module)
    return Encoder(network, architecture, preprocessing, name=name, version=version, device=device, precision=precision)


def pixels_side(config: Mapping[str, Any]) -> int | None:
    """The side of the squares whose pixels a saved encoder gives, by its `config.json`; None for any other."""
    is_module = config.get("architecture", {}).get("backbone") == "custom"
    pixels = re.fullmatch(r"pixels(\d+)", str(config.get("name", "")))
    return int(pixels[1]) if is_module and pixels else None


def _saved_encoder(folder: Path, device: str, precision: Precision) -> Encoder:
    """The encoder in a folder; one of pixels has no weights to load, and is what its name says."""
    config = read_config(folder)
    side = pixels_side(config)
    if side is not None:
        return _pixels_encoder(str(config["name"]), side, device)
    return Encoder.load(folder, device=device, precision=precision)


def _pixels_encoder(name: str, side: int, device: str) -> Encoder:
    """The pixels themselves, 0 to 1, of the image as a square of `side`: what every other encoder has to beat."""
    if not _FEWEST_PIXELS <= side <= _MOST_PIXELS:
        raise InputError(f"pixels are of squares of {_FEWEST_PIXELS} to {_MOST_PIXELS} px, got {name}")
    whole = nn.Flatten()
    whole.out_features = 3 * side**2  # type: ignore[assignment]  # nn.Module's stub
    plain = Preprocessing(size_px=side, cache_px=side, fit="crop", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    return encoder_from_module(whole, plain, name=name, device=device, precision="fp32")


def _simclr_encoder(folder: Path, device: str, precision: Precision) -> Encoder:
    if not folder.is_dir():
        raise InputError(f"there is no folder '{folder}'")
    if not (folder / "config.json").is_file() and any(next(folder.glob(kind), None) for kind in _TENSORFLOW):
        raise InputError(
            f"'{folder}' holds a checkpoint of TensorFlow; run: imagescape convert {folder} -o OUTPUT, "
            "and give simclr:OUTPUT"
        )
    encoder = Encoder.load(folder, device=device, precision=precision)
    if not encoder.architecture.backbone.startswith("simclr:"):
        raise InputError(
            f"'{folder}' is a saved {encoder.architecture.backbone} and no converted SimCLR; give its folder alone"
        )
    return encoder


def _check_is_ours(folder: Path) -> None:
    """Tell a folder that others wrote by what is in it."""
    try:
        read_config(folder)
    except CheckpointError as error:
        if any((folder / file).is_file() for file in ("preprocessor_config.json", "model.safetensors")):
            raise InputError(f"'{folder}' is a model of transformers; give hf:{folder}") from error
        if any(next(folder.glob(kind), None) for kind in _TENSORFLOW):
            raise InputError(
                f"'{folder}' holds a checkpoint of TensorFlow; run: imagescape convert {folder}"
            ) from error
        raise
