"""From pictures to vectors, whatever makes them: networks and perceptual hashes behind one protocol.

The work is split where it can overlap: `prepare` makes a small array of one picture, on threads, while `encode` turns
batches of those into vectors on the device.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image

from imagescape.features.encoders import open_encoder
from imagescape.features.hashing import HASHES, hash_input, hash_pixels, parse_hash
from imagescape.images.decode import square
from imagescape.learn.encoder import Encoder

HASH_VERSION = "1"  # a higher one when the bits of a hash change


class ImageEncoder(Protocol):
    """Anything that gives every picture a vector.

    Attributes:
        name: What it is called; of the column too, unless the user says otherwise.
        identity: What tells it from any other: encoder, version, weights_sha256, preprocessing. Kept beside the
            vectors, so that queries are never encoded by another.
        out_features: Entries of a vector.
        dtype: Of the entries: float32, or uint8 for packed bits.
        at_least_px: Short side that `prepare` needs of a picture; None: the whole of it.
        batch_size: Pictures that `encode` takes at a time.
    """

    name: str
    identity: dict[str, str]
    out_features: int
    dtype: np.dtype
    at_least_px: int | None
    batch_size: int

    def prepare(self, image: Image.Image) -> np.ndarray:
        """A small array of an upright RGB picture; of the same shape for every picture."""
        ...

    def encode(self, prepared: np.ndarray) -> torch.Tensor:
        """Vectors (b, out_features) of b prepared pictures; on a GPU the work may still be under way."""
        ...

    def save(self, folder: Path) -> None:
        """Keep what it takes to encode queries later."""
        ...


class NetworkEncoder:
    """A network as an `ImageEncoder`."""

    dtype = np.dtype(np.float32)

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self.name = encoder.name
        self.identity = identity_of(encoder)
        self.out_features = encoder.out_features
        self.at_least_px: int | None = encoder.preprocessing.cache_px
        self.batch_size = encoder.batch_size

    def prepare(self, image: Image.Image) -> np.ndarray:
        way = self.encoder.preprocessing
        return square(image, way.cache_px, way.fit, resample=way.resample)

    def encode(self, prepared: np.ndarray) -> torch.Tensor:
        pixels = torch.from_numpy(prepared)
        if self.encoder.device.type == "cuda":
            pixels = pixels.pin_memory()
        return self.encoder.features_of(pixels.to(self.encoder.device, non_blocking=True))

    def save(self, folder: Path) -> None:
        self.encoder.save(folder)


class HashEncoder:
    """A perceptual hash as an `ImageEncoder`: packed bits, to be compared by Hamming distance."""

    dtype = np.dtype(np.uint8)
    at_least_px: int | None = None  # a hash is of the picture as it is; of one decoded smaller, some bits differ
    batch_size = 1024

    def __init__(self, name: str) -> None:
        self.kind, self.bits = parse_hash(name)
        self.name = name
        self.identity = {"encoder": name, "version": HASH_VERSION, "weights_sha256": "", "preprocessing": ""}
        self.out_features = self.bits // 8

    def prepare(self, image: Image.Image) -> np.ndarray:
        # Whole, and here: what whash resizes to depends on the picture, so there is no batch of equal shapes.
        return hash_pixels(hash_input(image, self.kind, self.bits)[None], self.kind, self.bits)[0]

    def encode(self, prepared: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(prepared)

    def save(self, folder: Path) -> None:
        """Nothing to keep: a hash is its name."""


def identity_of(encoder: Encoder) -> dict[str, str]:
    """What tells a network from any other."""
    way = json.dumps(asdict(encoder.preprocessing), sort_keys=True)
    return {
        "encoder": encoder.name,
        "version": encoder.version,
        "weights_sha256": encoder.weights_sha256,
        "preprocessing": hashlib.sha256(way.encode()).hexdigest(),
    }


def same_encoder(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Whether two identities give the same vectors: weights and preprocessing count, or for a hash its name."""
    parts = ("weights_sha256", "preprocessing") if one.get("weights_sha256") else ("encoder", "version")
    return all(part in one and one[part] == other.get(part) for part in parts)


def open_image_encoder(name: str, *, models: Path | None = None, device: str = "auto") -> ImageEncoder:
    """The network or the hash called `name`.

    Args:
        name: As for `open_encoder`; or a hash and its bits: "phash64".
        models: Where a collection keeps its models.
        device: Where a network runs.

    Raises:
        InputError: there is none; the message lists what there is.
    """
    if name in HASHES:
        return HashEncoder(name)
    return NetworkEncoder(open_encoder(name, models=models, device=device))
