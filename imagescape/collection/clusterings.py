"""Clusterings of a collection: which there are, who is in which cluster, and what was clustered.

A clustering called NAME is in the column `cluster_NAME`, whole numbers: -1 for noise, null where an image was not
clustered. What its clusters are called is in `cluster_NAME_name`, text a row. `models/NAME/config.json` says which
features or map were clustered, and how; of a part such as the cut `cluster_NAME_400` that of NAME does.
"""

from typing import Any

import numpy as np
import pyarrow as pa

from imagescape.collection.store import Collection
from imagescape.errors import CheckpointError, InputError
from imagescape.model_folder import read_config

_PREFIX = "cluster_"


def clustering_names(scape: Collection) -> list[str]:
    """Names of the clusterings, cuts of a hierarchy included, in the order they were made."""
    return [
        field.name.removeprefix(_PREFIX)
        for field in scape.schema
        if field.name.startswith(_PREFIX) and field.name != _PREFIX and pa.types.is_integer(field.type)
    ]


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
    column = scape.read([_PREFIX + name])[_PREFIX + name]
    return column.cast(pa.int64()).fill_null(-1).to_numpy(), column.is_valid().to_numpy()


def names_column(name: str) -> str:
    """The column of the names of a clustering's clusters."""
    return f"{_PREFIX}{name}_name"


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
