"""An index on disk: a folder with `index.json`, which names the folder inside it that holds the data.

The data are written to a new folder first; then one rename puts the new `index.json` in the place of the old. So a
process killed at any instant leaves the old index or the new one, and whoever still reads the old one keeps its files
open.
"""

import json
import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagescape
from imagescape.errors import CheckpointError

FORMAT_VERSION = 1

_PREFIX = "data-"


def write_index(folder: Path, description: dict[str, Any], write: Callable[[Path], None]) -> Path:
    """Have `write` fill a new data folder, then make it the index of `folder`; returns the data folder."""
    data = folder / f"{_PREFIX}{uuid.uuid4().hex[:12]}"
    data.mkdir(parents=True)
    try:
        write(data)
        point_to(folder, description, data)
    except BaseException:
        shutil.rmtree(data, ignore_errors=True)
        raise
    for other in folder.glob(f"{_PREFIX}*"):
        if other != data:
            shutil.rmtree(other, ignore_errors=True)
    return data


def point_to(folder: Path, description: dict[str, Any], data: Path) -> None:
    """Make `description` and the data folder `data` the index of `folder`, at one stroke."""
    sizes = {path.name: path.stat().st_size for path in sorted(data.iterdir()) if path.is_file()}
    header = {"format_version": FORMAT_VERSION, "imagescape": imagescape.__version__, "data": data.name}
    part = folder / f"index.json.part-{os.getpid()}"
    part.write_text(json.dumps({**header, **description, "bytes": sizes}, indent=2) + "\n", encoding="utf-8")
    part.replace(folder / "index.json")


def read_description(folder: Path) -> tuple[dict[str, Any], Path]:
    """What `index.json` of `folder` says, and the data folder, whose files are all there and of their full length.

    Raises:
        CheckpointError: it is no index, damaged, or written by a newer imagescape.
    """
    try:
        description: dict[str, Any] = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        version, data, sizes = description["format_version"], folder / description["data"], description["bytes"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder} is not a saved index: it needs a readable index.json ({error})") from error
    if version > FORMAT_VERSION:
        raise CheckpointError(
            f"{folder} has index format {version}, this imagescape reads up to {FORMAT_VERSION}; upgrade imagescape"
        )
    for name, size in sizes.items():
        found = (data / name).stat().st_size if (data / name).exists() else None
        if found != size:
            got = "it is missing" if found is None else f"it has {found}"
            raise CheckpointError(f"{folder} is damaged: {name} should have {size} bytes, {got}; build the index again")
    return description, data
