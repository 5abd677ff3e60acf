"""Clusterings of a collection: which there are, who is in which cluster, and what was clustered.

A clustering called NAME is in the column `cluster_NAME`, whole numbers: -1 for noise, null where an image was not
clustered. What its clusters are called is in `cluster_NAME_name`, text a row. `models/NAME/config.json` says which
features or map were clustered, and how; of a part such as the cut `cluster_NAME_400` that of NAME does.
"""

import json
from typing import Any

import numpy as np
import pyarrow as pa

from imagescape.collection.store import Collection
from imagescape.errors import InputError

_PREFIX = "cluster_"


def clustering_names(scape: Collection) -> list[str]:
    """Names of the clusterings, cuts of a hierarchy included, in the order they were made."""
    return [
        field.name.removeprefix(_PREFIX)
        for field in scape.schema
        if field.name.startswith(_PREFIX) and field.name != _PREFIX and pa.types.is_integer(field.type)
    ]


def cluster_labels(scape: Collection, name: str) -> np.ndarray:
    """Cluster of each row (rows,) int64 in table order; -1 for noise, and for images that were not clustered.

    Raises:
        InputError: no clustering of that name, or it has no cluster.
    """
    if name not in clustering_names(scape):
        here = ", ".join(clustering_names(scape)) or "none yet"
        raise InputError(f"no clustering is called '{name}' in '{scape.path}'; there are: {here}")
    column = scape.read([_PREFIX + name])[_PREFIX + name]
    labels = column.cast(pa.int64()).fill_null(-1).to_numpy()
    if not (labels >= 0).any():
        raise InputError(f"the clustering '{name}' of '{scape.path}' has no cluster: all of its images are noise")
    return labels


def names_column(name: str) -> str:
    """The column of the names of a clustering's clusters."""
    return f"{_PREFIX}{name}_name"


def clustering_config(scape: Collection, name: str) -> dict[str, Any]:
    """What `models/NAME/config.json` says of a clustering, or of the one that it is a part of; {} if nothing."""
    parts = name.split("_")
    for called in ("_".join(parts[:length]) for length in range(len(parts), 0, -1)):
        path = scape.path / "models" / called / "config.json"
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(config, dict):
            return config
    return {}


def clustering_metric(config: dict[str, Any]) -> str | None:
    """What near meant to a clustering; None where its config does not say."""
    about = config.get("clustering")
    return (about.get("metric") if isinstance(about, dict) else None) or None
