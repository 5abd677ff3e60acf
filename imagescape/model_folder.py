"""A saved model on disk: a folder with `config.json`, which says what it is, and `weights.safetensors`."""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from imagescape.errors import CheckpointError

# 1 had neither resample nor center_crop, and no hash of the weights; 2 had no descriptors.
FORMAT_VERSION = 3


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


def read_recipe(folder: str | Path, method: str) -> dict[str, Any]:
    """The settings of a saved model of a method, by name.

    Raises:
        CheckpointError: it is of another method, or as `read_config`.
    """
    recipe = dict(read_config(folder).get("recipe") or {})
    if (found := recipe.pop("method", "bare encoder")) != method:
        raise CheckpointError(f"{folder} is a {found}, not a {method}")
    return recipe


@contextmanager
def reading_weights(folder: str | Path) -> Iterator[Path]:
    """Where the weights of a saved model are; within the block whatever is wrong with them is a `CheckpointError`.

    That is also a weight that is missing, or one of another shape.
    """
    from safetensors import SafetensorError

    path = Path(folder) / "weights.safetensors"
    try:
        yield path
    except (OSError, SafetensorError, KeyError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error


def write_model(
    folder: str | Path, method: str, settings: Mapping[str, Any], weights: bytes, about: Mapping[str, Any]
) -> None:
    """Write a model of a method; an existing one there is replaced whole.

    Args:
        folder: Of the model.
        method: What `read_recipe` asks for.
        settings: Of the method, in plain values.
        weights: A safetensors file.
        about: What else `config.json` is to say.
    """
    config = {"format_version": FORMAT_VERSION, "recipe": {"method": method, **settings}, **about}

    def write(part: Path) -> None:
        (part / "config.json").write_text(json.dumps(config, indent=2))
        (part / "weights.safetensors").write_bytes(weights)

    replace_folder(Path(folder), write)


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
