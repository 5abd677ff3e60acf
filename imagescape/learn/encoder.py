"""A trained network with the preprocessing it was trained on: encode, save, load, and tell it from any other."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

import imagescape
from imagescape.errors import CheckpointError, InputError
from imagescape.images.pixels import as_pixels
from imagescape.learn.backbones import Stem, backbone, published
from imagescape.learn.backbones.torchscript import TorchScript
from imagescape.learn.descriptor import Described, Pooled
from imagescape.learn.heads import Network, Projector
from imagescape.learn.preprocessing import Preprocessing
from imagescape.model_folder import FORMAT_VERSION, read_config, replace_folder
from imagescape.runtime import Precision, autocast_dtype, resolve_device, track

__all__ = [
    "FORMAT_VERSION",
    "Architecture",
    "Encoder",
    "Preprocessing",
    "load_weights",
    "pretrained_encoder",
    "read_config",
    "replace_folder",
    "save_weights",
    "weights_sha256",
]

_BATCH = 512  # images of up to 64 px
_LIST_SLICE = 4096


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What it takes to build the network again, before its weights are loaded.

    Attributes:
        backbone: A name that `backbones.backbone` knows; "torchscript" for a script that is kept with the weights;
            "custom" for a module that the user made.
        stem, width: Of a ResNet.
        hidden: Width of the projector's middle.
        out_features: Dimensions of the projections; 0: a backbone alone, without a projector.
        descriptor: Dimensions of a descriptor that is made of the features (see `Described`); 0: none, they are it.
        pooling: With a descriptor: the power of the mean over the maps of the network (see `Pooled`); 0: the network's
            own pooling.
        options: What else a backbone needs, plain values: the configuration of a network of transformers, the
            `out_features` of a user's module that does not tell them itself.
    """

    backbone: str
    stem: Stem = "small"
    width: int = 64
    hidden: int = 1024
    out_features: int = 0
    descriptor: int = 0
    pooling: float = 0.0
    options: dict[str, Any] = field(default_factory=dict, hash=False)

    def build(self, body: nn.Module | None = None) -> Network:
        """The network with fresh weights; on `body` where that is given, with the weights that it has.

        Raises:
            CheckpointError: it stands on a module that cannot be built from its name, and none is given.
            InputError: an unknown backbone, or `body` does not say how wide its features are.
        """
        if body is None:
            if self.backbone in ("custom", "torchscript"):
                raise CheckpointError("this model stands on a backbone of the user's own: pass the module as backbone=")
            body = backbone(self.backbone, stem=self.stem, width=self.width, options=self.options)
        if not hasattr(body, "out_features") and "out_features" in self.options:
            body.out_features = self.options["out_features"]
        width = getattr(body, "out_features", None)
        if not isinstance(width, int):
            raise InputError(
                "a backbone must say how wide its features are in an int `out_features`; "
                f"{type(body).__name__} does not"
            )
        if self.descriptor and not isinstance(body, Described):
            body = Described(Pooled(body, self.pooling) if self.pooling else body, self.descriptor)
        if not self.out_features:
            return Network(body, None)
        return Network(body, Projector(int(body.out_features), self.hidden, self.out_features))  # type: ignore[arg-type]


class Encoder:
    """Images in, features H and projections Z out; always in eval mode, never augmented.

    Args:
        network: Backbone and projector.
        architecture: How `network` was built.
        preprocessing: How images become its input.
        name: What it was opened by; "" for one trained here, which will be called by the folder it is saved to.
        version: Of the package or the hub that it came from; of imagescape where nobody says.
        device, precision: Where and how it runs.
    """

    def __init__(
        self,
        network: Network,
        architecture: Architecture,
        preprocessing: Preprocessing,
        *,
        name: str = "",
        version: str = "",
        device: str = "auto",
        precision: Precision = "auto",
    ) -> None:
        self.network = network
        self.architecture = architecture
        self.preprocessing = preprocessing
        self.name = name
        self.version = version or f"imagescape {imagescape.__version__}"
        self.device = resolve_device(device)
        self.precision: Precision = precision
        self._placed = False
        self._weights_sha256: str | None = None

    @property
    def projector(self) -> Projector:
        """The projector.

        Raises:
            CheckpointError: this is a backbone alone.
        """
        if self.network.projector is None:
            raise CheckpointError("this encoder is a backbone alone: it gives features and no projections")
        return self.network.projector

    @property
    def out_features(self) -> int:
        """Entries of a vector of features."""
        return int(self.network.backbone.out_features)  # type: ignore[arg-type]

    @property
    def weights_sha256(self) -> str:
        """See `weights_sha256`; computed when it is first asked for, and again by `save`."""
        if self._weights_sha256 is None:
            self._weights_sha256 = weights_sha256(self.network)
        return self._weights_sha256

    def describe(self) -> dict[str, Any]:
        """Who it is and what it does with an image, in plain values."""
        return {
            "name": self.name,
            "version": self.version,
            "weights_sha256": self.weights_sha256,
            "backbone": self.architecture.backbone,
            "parameters": sum(weight.numel() for weight in self.network.parameters()),
            "out_features": self.out_features,
            "projections": self.architecture.out_features,
            "preprocessing": asdict(self.preprocessing),
        }

    def encode(self, images: object) -> tuple[Float[np.ndarray, "n h"], Float[np.ndarray, "n d"]]:
        """Features of the backbone and projections of the head, float32, in the order given.

        Args:
            images: A collection, paths, PIL images, a (n, h, w, 3) uint8 array, or a torch Dataset.
        """
        way = self.preprocessing
        if not isinstance(images, (list, tuple)) or len(images) <= _LIST_SLICE:
            return self.encode_pixels(as_pixels(images, way.cache_px, fit=way.fit, resample=way.resample))
        # A long list is decoded a slice at a time: pixels take far more room than features.
        starts = range(0, len(images), _LIST_SLICE)
        parts = [self.encode(images[start : start + _LIST_SLICE]) for start in starts]
        features, projections = (np.concatenate(column) for column in zip(*parts, strict=True))
        return features, projections

    @property
    def batch_size(self) -> int:
        """Images at a time without gradients: fewer where they are large, so that memory stays the same."""
        return max(8, _BATCH * 64**2 // max(64, self.preprocessing.size_px) ** 2)

    def encode_pixels(
        self, pixels: Any, *, quiet: bool = False
    ) -> tuple[Float[np.ndarray, "n h"], Float[np.ndarray, "n d"]]:
        """The same for images that are already square and of the cache's size.

        Args:
            pixels: uint8 (n, s, s, 3): an array, or rows of one that are read when they are indexed.
            quiet: Show no progress.
        """
        n, projector = len(pixels), self.network.projector
        features = np.empty((n, self.out_features), np.float32)
        projections = np.empty((n, self.architecture.out_features), np.float32)
        with torch.inference_mode(), track("encode", n, quiet=quiet) as tracker:
            for start in range(0, n, self.batch_size):
                rows = slice(start, min(start + self.batch_size, n))
                h = self.features_of(torch.from_numpy(np.array(pixels[rows])))
                features[rows] = h.cpu().numpy()
                if projector is not None:
                    projections[rows] = projector(h).cpu().numpy()
                tracker.advance(rows.stop - rows.start)
        return features, projections

    @torch.inference_mode()
    def features_of(self, pixels: UInt8[torch.Tensor, "n s s 3"]) -> Float[torch.Tensor, "n h"]:
        """Float32 features, on the encoder's device, of one batch of squares of the cache's size, wherever they are.

        Raises:
            InputError: the squares are of another size.
        """
        side = self.preprocessing.cache_px
        if pixels.shape[1:] != (side, side, 3):
            raise InputError(f"this encoder takes images (n, {side}, {side}, 3), got {tuple(pixels.shape)}")
        self._make_ready()
        return self.body_features(self.preprocessing.view(pixels.to(self.device)))

    @torch.inference_mode()
    def project_views(self, views: Float[torch.Tensor, "n 3 t t"]) -> Float[torch.Tensor, "n d"]:
        """Float32 projections, on the encoder's device, of one batch of views there: the network's input, augmented.

        Raises:
            CheckpointError: this is a backbone alone.
        """
        self._make_ready()
        return self.projector(self.body_features(views)).float()

    def _make_ready(self) -> None:
        if not self._placed:
            with torch.inference_mode(False):  # weights that were moved in that mode could never be trained
                self.network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            self._placed = True
        if self.network.training:
            self.network.eval()

    def body_features(self, views: Float[torch.Tensor, "n 3 t t"]) -> Float[torch.Tensor, "n h"]:
        """Float32 features of a batch of views; the backbone runs in bf16 where that is the faster."""
        dtype = autocast_dtype(self.device, self.precision)
        with torch.autocast(self.device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None):
            features: torch.Tensor = self.network.backbone(views)
        return features.float()

    def save(self, folder: str | Path, *, recipe: dict[str, Any] | None = None) -> None:
        """Write `config.json` and `weights.safetensors`; an existing model there is replaced whole."""
        folder = Path(folder)
        self._weights_sha256 = None  # they may have been trained since it was last asked for
        config = {
            "format_version": FORMAT_VERSION,
            "imagescape": imagescape.__version__,
            "name": self.name or folder.name,
            "version": self.version,
            "weights_sha256": self.weights_sha256,
            "architecture": asdict(self.architecture),
            "preprocessing": asdict(self.preprocessing),
            "recipe": recipe or {},
        }

        def write(part: Path) -> None:
            (part / "config.json").write_text(json.dumps(config, indent=2))
            save_weights(self.network, part / "weights.safetensors")
            if isinstance(self.network.backbone, TorchScript):
                self.network.backbone.save(part)

        replace_folder(folder, write)

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        backbone: nn.Module | None = None,
        device: str = "auto",
        precision: Precision = "auto",
    ) -> "Encoder":
        """Read what `save` wrote; nothing else is needed, and nothing downloaded.

        Args:
            folder: The model's folder.
            backbone: The module, when the model was built on one of the user's own.

        Raises:
            CheckpointError: not a model, of a newer imagescape, of another shape, or with other weights than it was
                saved with.
        """
        folder, config = Path(folder), read_config(folder)
        try:
            architecture = Architecture(**config["architecture"])
            preprocessing = Preprocessing.from_dict(config["preprocessing"])
        except (KeyError, TypeError, InputError) as error:
            raise CheckpointError(f"{folder / 'config.json'} is damaged: {error}") from error
        if architecture.backbone == "torchscript":
            backbone = TorchScript.load(folder, size_px=preprocessing.size_px, **architecture.options)
        network = architecture.build(backbone)
        load_weights(network, folder / "weights.safetensors")
        encoder = cls(
            network,
            architecture,
            preprocessing,
            name=config.get("name", folder.name),
            version=config.get("version", f"imagescape {config.get('imagescape')}"),
            device=device,
            precision=precision,
        )
        # Models of format 1 do not know theirs.
        if config.get("weights_sha256", encoder.weights_sha256) != encoder.weights_sha256:
            raise CheckpointError(
                f"the weights in {folder} are not those that it was saved with (their sha256 is "
                f"{encoder.weights_sha256[:16]}..., config.json has {config['weights_sha256'][:16]}...); "
                "copy both files again from where they came"
            )
        return encoder


def pretrained_encoder(name: str, *, device: str = "auto", precision: Precision = "auto") -> Encoder:
    """A network that others have trained, with the preprocessing it is published with; its features alone.

    Args:
        name: See `backbones.published`, whose errors it raises.
    """
    found = published(name)
    architecture = Architecture(backbone=name, options=found.options)
    network = architecture.build(found.network)
    return Encoder(
        network,
        architecture,
        found.preprocessing,
        name=name,
        version=found.version,
        device=device,
        precision=precision,
    )


def weights_sha256(network: nn.Module) -> str:
    """What tells a network's weights from any others: SHA-256 of the name, type, shape and bytes of each, by name.

    It does not depend on the device, the memory layout or the file; 64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        if tensor.numel():  # a view of nothing cannot change its type
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def save_weights(network: nn.Module | Mapping[str, torch.Tensor], path: Path) -> None:
    """All weights and buffers as safetensors; a kill at any instant leaves the old file or the new one."""
    weights = network.state_dict() if isinstance(network, nn.Module) else network
    part = path.with_name(path.name + ".part")
    # Written by us, so that a full disk is the operating system's error and not one of safetensors' own.
    part.write_bytes(save({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}))
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
