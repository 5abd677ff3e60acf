"""A saved model on disk: a folder with `config.json`, which says what it is, and `weights.safetensors`."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from imagescape.errors import CheckpointError

FORMAT_VERSION = 2  # 1 had neither resample nor center_crop, and no hash of the weights


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
