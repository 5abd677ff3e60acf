"""A trained network with the preprocessing it was trained on: encode, save, load."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

import imagescape
from imagescape.errors import CheckpointError, InputError
from imagescape.images.decode import Fit
from imagescape.images.pixels import as_pixels
from imagescape.learn.augment import Contrastive
from imagescape.learn.backbones import Stem, backbone
from imagescape.learn.heads import Network, Projector
from imagescape.runtime import Precision, autocast_dtype, resolve_device, track

FORMAT_VERSION = 1
_BATCH = 512  # images of up to 64 px
_LIST_SLICE = 4096


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What it takes to build the network again, before its weights are loaded.

    Attributes:
        backbone: A name that `backbones.backbone` knows, or "custom" for a module that the user made.
        stem, width: Of a ResNet.
        hidden: Width of the projector's middle.
        out_features: Dimensions of the projections; 0: a backbone alone, without a projector.
    """

    backbone: str
    stem: Stem = "small"
    width: int = 64
    hidden: int = 1024
    out_features: int = 0

    def build(self, custom: nn.Module | None = None, *, pretrained: bool = False) -> Network:
        body = custom
        if body is None:
            if self.backbone == "custom":
                raise CheckpointError("this model stands on a backbone of the user's own: pass the module as backbone=")
            body = backbone(self.backbone, stem=self.stem, width=self.width, pretrained=pretrained)
        width = getattr(body, "out_features", None)
        if not isinstance(width, int):
            raise InputError(
                "a backbone must say how wide its features are in an int `out_features`; "
                f"{type(body).__name__} does not"
            )
        if not self.out_features:
            return Network(body, None)
        return Network(body, Projector(width, self.hidden, self.out_features))


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How an image becomes the network's input, the same in training and ever after.

    Attributes:
        size_px: Side of the network's input.
        cache_px: Side at which images are first made square; crops are taken from it.
        fit: How a non-square image is made square: "crop", "pad" or "squash".
        mean, std: Of the channels, in [0, 1].
    """

    size_px: int
    cache_px: int
    fit: Fit
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def view(self) -> Contrastive:
        return Contrastive(size_px=self.size_px, mean=self.mean, std=self.std)


class Encoder:
    """Images in, features H and projections Z out; always in eval mode, never augmented.

    Args:
        network: Backbone and projector.
        architecture: How `network` was built.
        preprocessing: How images become its input.
        device, precision: Where and how it runs.
    """

    def __init__(
        self,
        network: Network,
        architecture: Architecture,
        preprocessing: Preprocessing,
        *,
        device: str = "auto",
        precision: Precision = "auto",
    ) -> None:
        self.network = network
        self.architecture = architecture
        self.preprocessing = preprocessing
        self.device = resolve_device(device)
        self.precision: Precision = precision

    @property
    def projector(self) -> Projector:
        """The projector.

        Raises:
            CheckpointError: this is a backbone alone.
        """
        if self.network.projector is None:
            raise CheckpointError("this encoder is a backbone alone: it gives features and no projections")
        return self.network.projector

    def encode(self, images: object) -> tuple[Float[np.ndarray, "n h"], Float[np.ndarray, "n d"]]:
        """Features of the backbone and projections of the head, float32, in the order given.

        Args:
            images: A collection, paths, PIL images, a (n, h, w, 3) uint8 array, or a torch Dataset.
        """
        size_px, fit = self.preprocessing.cache_px, self.preprocessing.fit
        if not isinstance(images, (list, tuple)) or len(images) <= _LIST_SLICE:
            return self.encode_pixels(as_pixels(images, size_px, fit=fit))
        # A long list is decoded a slice at a time: pixels take far more room than features.
        starts = range(0, len(images), _LIST_SLICE)
        parts = [self.encode(images[start : start + _LIST_SLICE]) for start in starts]
        features, projections = (np.concatenate(column) for column in zip(*parts, strict=True))
        return features, projections

    @property
    def batch_size(self) -> int:
        """Images at a time without gradients: fewer where they are large, so that memory stays the same."""
        return max(8, _BATCH * 64**2 // max(64, self.preprocessing.size_px) ** 2)

    def encode_pixels(self, pixels: Any) -> tuple[Float[np.ndarray, "n h"], Float[np.ndarray, "n d"]]:
        """The same for images that are already square and of the cache's size.

        Args:
            pixels: uint8 (n, s, s, 3): an array, or rows of one that are read when they are indexed.
        """
        network = self.network.to(self.device).eval()
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in torch's stubs
        n, view = len(pixels), self.preprocessing.view
        features = np.empty((n, int(network.backbone.out_features)), np.float32)  # type: ignore[arg-type]
        projections = np.empty((n, self.architecture.out_features), np.float32)
        with torch.inference_mode(), track("encode", n) as tracker:
            for start in range(0, n, self.batch_size):
                rows = slice(start, min(start + self.batch_size, n))
                batch = torch.from_numpy(np.array(pixels[rows])).to(self.device)
                h = self.body_features(view.plain(batch))
                features[rows] = h.cpu().numpy()
                if network.projector is not None:
                    projections[rows] = network.projector(h).cpu().numpy()
                tracker.advance(rows.stop - rows.start)
        return features, projections

    def body_features(self, views: Float[torch.Tensor, "n 3 t t"]) -> Float[torch.Tensor, "n h"]:
        """Float32 features of a batch of views; the backbone runs in bf16 where that is the faster."""
        dtype = autocast_dtype(self.device, self.precision)
        with torch.autocast(self.device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None):
            features: torch.Tensor = self.network.backbone(views)
        return features.float()

    def save(self, folder: str | Path, *, recipe: dict[str, Any] | None = None) -> None:
        """Write `config.json` and `weights.safetensors`; an existing model there is replaced whole."""
        config = {
            "format_version": FORMAT_VERSION,
            "imagescape": imagescape.__version__,
            "architecture": asdict(self.architecture),
            "preprocessing": asdict(self.preprocessing),
            "recipe": recipe or {},
        }

        def write(part: Path) -> None:
            (part / "config.json").write_text(json.dumps(config, indent=2))
            save_weights(self.network, part / "weights.safetensors")

        replace_folder(Path(folder), write)

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        backbone: nn.Module | None = None,
        device: str = "auto",
        precision: Precision = "auto",
    ) -> "Encoder":
        """Read what `save` wrote.

        Args:
            folder: The model's folder.
            backbone: The module, when the model was built on one of the user's own.

        Raises:
            CheckpointError: not a model, of a newer imagescape, or of another shape.
        """
        config = read_config(folder)
        architecture = Architecture(**config["architecture"])
        parts: dict[str, Any] = config["preprocessing"]
        parts |= {name: tuple(parts[name]) for name in ("mean", "std")}
        network = architecture.build(backbone)
        load_weights(network, Path(folder) / "weights.safetensors")
        return cls(network, architecture, Preprocessing(**parts), device=device, precision=precision)


def pretrained_encoder(name: str, *, device: str = "auto", size_px: int = 224) -> Encoder:
    """A backbone with the weights and the normalisation that it is published with, its features alone."""
    architecture = Architecture(backbone=name)
    network = architecture.build(pretrained=True)
    mean, std = (getattr(network.backbone, part) for part in ("mean", "std"))
    preprocessing = Preprocessing(size_px=size_px, cache_px=size_px, fit="crop", mean=mean, std=std)
    return Encoder(network, architecture, preprocessing, device=device)


def read_config(folder: str | Path) -> dict[str, Any]:
    """The `config.json` of a saved model.

    Raises:
        CheckpointError: there is none, or a newer imagescape wrote it.
    """
    path = Path(folder) / "config.json"
    try:
        config: dict[str, Any] = json.loads(path.read_text())
        version = config["format_version"]
    except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder} is not a saved model: it needs config.json and weights.safetensors") from error
    if version > FORMAT_VERSION:
        raise CheckpointError(
            f"{folder} has model format {version}, this imagescape reads up to {FORMAT_VERSION}; upgrade imagescape"
        )
    return config


def save_weights(network: nn.Module, path: Path) -> None:
    """All weights and buffers as safetensors; a kill at any instant leaves the old file or the new one."""
    part = path.with_name(path.name + ".part")
    # Written by us, so that a full disk is the operating system's error and not one of safetensors' own.
    part.write_bytes(save({name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}))
    part.replace(path)


def load_weights(network: nn.Module, path: Path) -> None:
    """Fill `network` from `path`.

    Raises:
        CheckpointError: the file is missing, damaged, or of another network; names the first weight that differs.
    """
    try:
        found = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    wanted = network.state_dict()
    for name in sorted(wanted.keys() | found.keys()):
        sides = tuple(list(side[name].shape) if name in side else "nothing" for side in (wanted, found))
        if sides[0] != sides[1]:
            raise CheckpointError(
                f"{path} is of another network: '{name}' should be {sides[0]}, the file has {sides[1]}"
            )
    network.load_state_dict(found)


def replace_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Have `write` fill a folder beside `folder`, then put it in its place."""
    part, old = (folder.with_name(f"{folder.name}.{kind}-{os.getpid()}") for kind in ("part", "old"))
    part.mkdir(parents=True)
    try:
        write(part)
        if folder.exists():
            folder.rename(old)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
