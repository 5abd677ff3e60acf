"""What is clustered: features, the places on a map, or the images themselves; all in the order of the table."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from imagescape.collection.cache import Rows, cached_pixels, contains
from imagescape.collection.results import features, features_identity, ids_of, map_coords
from imagescape.collection.store import Collection
from imagescape.errors import CheckpointError, InputError
from imagescape.features.extract import NetworkEncoder, same_encoder
from imagescape.learn.encoder import Encoder
from imagescape.learn.preprocessing import Preprocessing
from imagescape.pipeline.embedding import encoder_of


class Source:
    """What is clustered: features or a map, as vectors in table order, and whose they are."""

    def __init__(self, scape: Collection, features_name: str | None, map_name: str | None) -> None:
        self._scape, self._features, self._map = scape, features_name, map_name
        self._values = map_coords(scape, map_name) if map_name else features(scape, str(features_name))
        self._present = np.isfinite(self._values).all(axis=1)

    @property
    def is_map(self) -> bool:
        return self._map is not None

    def __str__(self) -> str:
        return f"a place on the map '{self._map}'" if self._map else f"features '{self._features}'"

    @cached_property
    def is_hash(self) -> bool:
        if self._map:
            return False
        return bool(self._scape.schema.field(f"features_{self._features}").type.value_type == pa.uint8())

    @property
    def about(self) -> dict[str, Any]:
        """What `config.json` says of it."""
        if self._map:
            return {"map": self._map, "map_identity": self._map_identity()}
        identity = features_identity(self._scape, str(self._features))
        return {"features": self._features, "features_identity": identity}

    def check_same(self, config: dict[str, Any]) -> None:
        """CheckpointError where it is not what `about` told of when the model was made."""
        if self._map:
            same = config["map_identity"] == self._map_identity()
        else:
            own, made_from = features_identity(self._scape, str(self._features)), config["features_identity"]
            same = own == made_from or same_encoder(own, made_from)  # columns of the user's own say nothing
        if not same:
            made = f"map '{self._map}' is" if self._map else f"features '{self._features}' are"
            raise CheckpointError(f"the {made} not what the clusters were made from; cluster again with --overwrite")

    def _map_identity(self) -> str:
        """SHA-256 of the map's weights; "" where its library keeps none, and then it places no new images."""
        path = self._scape.path / "models" / str(self._map) / "weights.safetensors"
        if not path.exists():
            return ""
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def metric(self, known: Sequence[str], asked: str | None) -> str:
        """What near means, of what a method knows: what was asked for, or what suits the vectors.

        "" for a method with a way of its own.
        """
        if not known:
            return ""
        # Bits without packing are numbers, and places on a map have no direction from its origin.
        unfit = ("cosine", "hamming") if self._map else () if self.is_hash else ("hamming",)
        fitting = [one for one in known if one not in unfit]
        if not fitting:
            raise InputError("this method compares directions, and places on a map have none; cluster features")
        if asked is not None and asked not in fitting:
            raise InputError(f"metric must be one of {', '.join(fitting)} for {self}, got '{asked}'")
        usual = "hamming" if self.is_hash else "cosine"
        return asked or (usual if usual in fitting else fitting[0])

    def usable(self, metric: str) -> np.ndarray:
        """Rows that are there, and have a direction where that is what is compared; (rows,) bool."""
        return self._present & (self._values.any(axis=1) if metric == "cosine" else True)

    def vectors(self, metric: str) -> np.ndarray:
        """(rows, d) as the method takes them, of hashes bytes for "hamming" and else bits; of no use where none are."""
        if not self.is_hash:
            return self._values
        packed = np.where(self._present[:, None], self._values, 0).astype(np.uint8)
        return packed if metric == "hamming" else np.unpackbits(packed, axis=1).astype(np.float32)


def clustered_source(scape: Collection, config: dict[str, Any]) -> Source:
    """The features or the map that were clustered, by what the model says.

    Raises:
        CheckpointError: it does not say, or they are not what they were.
        InputError: they are not in the collection any more.
    """
    if not config.get("features") and not config.get("map"):
        raise CheckpointError("its model does not say what was clustered")
    source = Source(scape, config.get("features"), config.get("map"))
    if "features_identity" in config or "map_identity" in config:
        source.check_same(config)
    return source


@dataclass(frozen=True, slots=True)
class Given:
    """What a method is given of the images.

    Attributes:
        what: What an image must have for it, in words.
        usable: Which rows of the table have it, (rows,) bool.
        of_rows: It, of some of those, (rows,) bool: vectors, or images as `as_pixels` takes them.
    """

    what: str
    usable: np.ndarray
    of_rows: Callable[[np.ndarray], Any]


def given_vectors(source: Source, metric: str) -> Given:
    """The vectors of a source, to be compared by a metric."""

    def of_rows(rows: np.ndarray) -> np.ndarray:
        vectors = source.vectors(metric)
        return vectors if rows.all() else vectors[rows]  # which are large

    return Given(str(source), source.usable(metric), of_rows)


def given_pictures(scape: Collection, way: Preprocessing) -> Given:
    """The images that can be read, as a network takes them."""
    cached, ids = cached_pixels(scape, way.cache_px, way.fit, way.resample), ids_of(scape)

    def squares(rows: np.ndarray) -> _Squares:
        return _Squares(Rows(cached.pixels, np.flatnonzero(contains(ids[rows], cached.ids))), way)

    return Given("a picture that can be read", contains(cached.ids, ids), squares)


class _Squares:
    """Images as `as_pixels` takes them."""

    def __init__(self, squares: Rows, way: Preprocessing) -> None:
        self._squares, self._way = squares, way

    def __len__(self) -> int:
        return len(self._squares)

    def pixels(self, size_px: int, fit: str = "crop", resample: str = "bicubic") -> Rows:
        way = self._way
        assert (size_px, fit, resample) == (way.cache_px, way.fit, way.resample)
        return self._squares


def network_of(scape: Collection, features_name: str, device: str) -> Encoder:
    """The network that made some features, to be trained further.

    Raises:
        InputError: they are hashes, or the network could not be saved.
        CheckpointError: the collection does not have it any more.
    """
    encoder = encoder_of(scape, features_name, device)
    if not isinstance(encoder, NetworkEncoder):
        raise InputError(f"features '{features_name}' are hashes: no network made them that could learn; name others")
    if encoder.encoder.architecture.backbone in ("custom", "torchscript"):
        raise InputError(
            f"features '{features_name}' are by a network of your own, which could not be built again from what is "
            "kept; use imagescape.ScanImages in Python, or leave --whole-network out"
        )
    return encoder.encoder
