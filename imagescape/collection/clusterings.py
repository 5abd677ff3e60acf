"""Clusterings of a collection: which there are, who is in which cluster, and what was clustered.

A clustering called NAME is in the column `cluster_NAME`, whole numbers: -1 for noise, null where an image was not
clustered. Any such column is one, whoever wrote it. Parts of it are `cluster_NAME_400` and the like (a cut of a
hierarchy, a layer), `cluster_NAME_eps0_5` (another eps) and `cluster_NAME_nearest` (noise given away), which can be
looked at as clusterings too; `cluster_NAME_probability`, which all have that `imagescape cluster` made; and
`cluster_NAME_name`, what its clusters are called, text a row. `models/NAME/config.json` says which features or map were
clustered, and how; of a part that of NAME does.
"""

import re
from typing import Any

import numpy as np
import pyarrow as pa

from imagescape.collection.store import Collection
from imagescape.errors import CheckpointError, InputError
from imagescape.model_folder import read_config

_PREFIX = "cluster_"
_BESIDE = ("probability", "nearest", "name")
_SCALE = r"\d+|eps[\w-]+"  # what a part is called that has clusters of its own: a cut, a layer, an eps


def part_column(name: str, part: str = "") -> str:
    """The column of a clustering, or of a part of it.

    >>> part_column("C"), part_column("C", "name")
    ('cluster_C', 'cluster_C_name')
    """
    return f"{_PREFIX}{name}_{part}" if part else f"{_PREFIX}{name}"


def clustering_names(scape: Collection) -> list[str]:
    """Names of all clusterings, parts that are some too included, in the order they were made."""
    return [
        field.name.removeprefix(_PREFIX)
        for field in scape.schema
        if field.name.startswith(_PREFIX) and field.name != _PREFIX and pa.types.is_integer(field.type)
    ]


def made_clusterings(scape: Collection) -> list[str]:
    """Names of those that `imagescape cluster` made, without their parts."""
    return [name for name in clustering_names(scape) if part_column(name, "probability") in scape.columns]


def clustering_columns(scape: Collection, name: str) -> list[str]:
    """Columns that the clustering `name` is in, parts of it among them; none where there is no such clustering."""
    others = [one for one in made_clusterings(scape) if one != name]
    theirs = {part_column(one, part) for one in others for part in ("", *_BESIDE)}
    return [column for column in scape.columns if column not in theirs and _is_of(name, column)]


def scales(scape: Collection, name: str) -> list[str]:
    """Parts of a clustering that have clusters of their own: cuts, layers, several eps; "400" of `cluster_NAME_400`."""
    prefix = part_column(name) + "_"
    parts = [column.removeprefix(prefix) for column in clustering_columns(scape, name)]
    return [part for part in parts if re.fullmatch(_SCALE, part)]


def could_be_part(name: str, other: str) -> bool:
    """Whether a clustering `other` would be in the column of a part of `name`."""
    return name != other and _is_of(name, part_column(other))


def _is_of(name: str, column: str) -> bool:
    own = rf"{re.escape(part_column(name))}(_({'|'.join(_BESIDE)}|{_SCALE}))?"
    return re.fullmatch(own, column) is not None


def cluster_labels(scape: Collection, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Clusters (rows,) int64 in table order, -1 for noise, and which rows (rows,) bool are in the clustering at all.

    Args:
        scape: The collection.
        name: Of a clustering, or of a part such as `NAME_400`.

    Raises:
        InputError: no clustering of that name; the message lists those there are.
    """
    if name not in clustering_names(scape):
        here = ", ".join(clustering_names(scape)) or "none yet: make one with `imagescape cluster`"
        raise InputError(f"no clustering is called '{name}' in '{scape.path}'; there are: {here}")
    column = scape.read([part_column(name)])[part_column(name)]
    return column.cast(pa.int64()).fill_null(-1).to_numpy(), column.is_valid().to_numpy()


def clustering_config(scape: Collection, name: str) -> dict[str, Any]:
    """What the model of a clustering, or of the one that it is a part of, says of how it was made.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    parts = name.split("_")
    for length in range(len(parts), 0, -1):
        folder = scape.path / "models" / "_".join(parts[:length])
        if folder.is_dir():
            return read_config(folder)
    raise CheckpointError(f"it has no model in {scape.path / 'models'} that says what was clustered")
