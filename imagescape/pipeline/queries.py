"""What is not in the table: texts and pictures as vectors of its features, and pictures as places on its maps.

What can be done is told without loading a network, so that a page can offer it or not; the networks are loaded when
they are used first.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from imagescape.collection.results import can_be_drawn, features_identity, map_names
from imagescape.collection.store import Collection
from imagescape.errors import CheckpointError, InputError
from imagescape.features.encoders import pixels_side
from imagescape.features.extract import ImageEncoder, open_image_encoder, same_encoder
from imagescape.features.text import MODELS, TextEncoder, open_text_encoder
from imagescape.images.decode import square
from imagescape.learn.encoder import Encoder, read_config
from imagescape.learn.neighbormap import NeighborMap
from imagescape.pipeline.embedding import encoder_of


def image_problem(scape: Collection, features: str) -> str:
    """Why no new picture can be encoded as the features `features` were; "" where one can."""
    identity = features_identity(scape, features)
    if not identity:
        return f"nothing tells what made features '{features}'"
    if not identity.get("weights_sha256"):
        return ""
    try:
        config = read_config(scape.path / "models" / features)
    except CheckpointError as error:
        return str(error)
    if config.get("architecture", {}).get("backbone") == "custom" and pixels_side(config) is None:
        return f"features '{features}' are of a module that no folder can bring back"
    return ""


def text_problem(scape: Collection, features: str) -> str:
    """Why no text can be encoded into the space of the features `features`; "" where one can, as far as can be told."""
    source = features_identity(scape, features).get("encoder", "")
    if not source.startswith("hf:"):
        return f"features '{features}' are of an encoder without a text side; a CLIP or a SigLIP has one"
    kind = _model_type(source.removeprefix("hf:"))
    if kind is None:
        return f"the text side of '{source}' is not on this machine"
    return "" if kind in MODELS else f"'{source}' is a '{kind}', which has no text side"


def text_encoder_of(scape: Collection, features: str, device: str = "auto") -> TextEncoder:
    """What encodes texts into the space of the features `features`.

    Raises:
        InputError: they are of an encoder without a text side, or it cannot be had.
        CheckpointError: its image side is no longer the one that made the features.
    """
    if problem := text_problem(scape, features):
        raise InputError(problem)
    identity = features_identity(scape, features)
    text = open_text_encoder(identity["encoder"], device=device)
    if not same_encoder(identity, open_image_encoder(identity["encoder"], device=device).identity):
        raise CheckpointError(
            f"'{identity['encoder']}' is no longer the model that made features '{features}': texts would lie in "
            "another space; put that one back, or embed again with --overwrite"
        )
    return text


def place_problem(scape: Collection, map_name: str) -> str:
    """Why no new picture can be put on the map `map_name`; "" where one can."""
    if not can_be_drawn(scape, map_name):
        return f"'{map_name}' has not two dimensions"
    try:
        config = read_config(scape.path / "models" / map_name)
    except CheckpointError as error:
        return str(error)
    if "features" not in config:
        return "" if (scape.path / "models" / map_name / "weights.safetensors").is_file() else "its model is not there"
    if config["recipe"]["method"] != "NeighborMap":
        return f"'{map_name}' is a map by {config['recipe']['method']}, whose library keeps no model of it"
    source = str(config["features"])
    if f"features_{source}" not in scape.columns:
        return f"the features '{source}' that it was made from are gone"
    if not same_encoder(features_identity(scape, source), config["features_identity"]):
        return f"features '{source}' are not those that it was made from"
    return image_problem(scape, source)


class Placer:
    """The network that made a map, ready to put new pictures on it.

    Args:
        scape: The collection.
        map_name: Of the map.
        device: Where networks run.

    Attributes:
        features: The features that pictures get on the way; those of the map itself where it was learned from images.
        at_least_px: Short side that it needs of a picture; None: the whole of it.

    Raises:
        InputError: there is no such map, or it cannot place what is new; the message says why.
        CheckpointError: a model is damaged.
    """

    def __init__(self, scape: Collection, map_name: str, device: str = "auto") -> None:
        if map_name not in map_names(scape):
            raise InputError(f"no map is called '{map_name}'; there are: {', '.join(map_names(scape)) or 'none yet'}")
        if problem := place_problem(scape, map_name):
            raise InputError(f"nothing new can be put on '{map_name}': {problem}")
        folder = scape.path / "models" / map_name
        config = read_config(folder)
        self.features = str(config.get("features", map_name))
        self._model: Encoder | NeighborMap
        self._encoder: ImageEncoder | None = None
        if "features" in config:
            self._encoder = encoder_of(scape, self.features, device)
            self._model = NeighborMap.load(folder, device=device)
            self.at_least_px = self._encoder.at_least_px
            self._stored = scape.schema.field(f"features_{self.features}").type.value_type.to_pandas_dtype()
        else:
            self._model = Encoder.load(folder, device=device)
            self.at_least_px = self._model.preprocessing.cache_px

    def place(self, image: Image.Image) -> np.ndarray:
        """Where an upright RGB picture is on the map, (2,) float32."""
        if isinstance(self._model, Encoder):
            way = self._model.preprocessing
            pixels = square(image, way.cache_px, way.fit, resample=way.resample)[None]
            return self._model.encode_pixels(pixels, quiet=True)[1][0]
        assert self._encoder is not None, "a map of features has their encoder"
        vectors = self._encoder.encode(self._encoder.prepare(image)[None]).cpu().numpy()
        # In the table's own precision, as the images that the map was learned from.
        stored = np.unpackbits(vectors, axis=1) if vectors.dtype == np.uint8 else vectors.astype(self._stored)
        return np.asarray(self._model.transform(stored.astype(np.float32))[0], np.float32)


def _model_type(source: str) -> str | None:
    """The kind of a model of transformers, by its config in a folder or in the hub's cache; None without one."""
    path: Any = Path(source) / "config.json"
    if not path.is_file():
        try:
            from huggingface_hub import try_to_load_from_cache

            path = try_to_load_from_cache(source, "config.json")
        except (ImportError, ValueError):  # without the library, or no name of the hub
            return None
    try:
        return str(json.loads(Path(path).read_text(encoding="utf-8"))["model_type"]) if path else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
