"""What a clustering left in a collection: labels, what was clustered, and the model that knows how sure it is.

A clustering called NAME is in the column `cluster_NAME` of whole numbers, whoever wrote it. What `imagescape cluster`
made also has a model in `models/NAME`, which is that of its parts too (`cluster_NAME_400` and the like).
"""

from typing import Any

import numpy as np
from pyarrow import types

from imagescape.collection.store import Collection
from imagescape.errors import CheckpointError, InputError
from imagescape.model_folder import read_config
from imagescape.pipeline.clustering import METHODS, Source

_PREFIX = "cluster_"


def clustering_names(scape: Collection) -> list[str]:
    """Names of the clusterings, in the order they were made; each part of one, such as a cut, has its own."""
    columns = [column for column in scape.columns if column.startswith(_PREFIX)]
    return [one.removeprefix(_PREFIX) for one in columns if types.is_integer(scape.schema.field(one).type)]


def clustering_labels(scape: Collection, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Clusters (rows,) int64 in table order, -1 for noise, and which rows (rows,) bool are in the clustering at all.

    Raises:
        InputError: no clustering of that name; the message lists those there are.
    """
    if name not in clustering_names(scape):
        here = ", ".join(clustering_names(scape)) or "none yet: make one with `imagescape cluster`"
        raise InputError(f"no clustering is called '{name}' in '{scape.path}'; there are: {here}")
    column = scape.read([_PREFIX + name])[_PREFIX + name]
    return column.fill_null(-1).to_numpy().astype(np.int64), column.is_valid().to_numpy()


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


def cluster_probabilities(
    scape: Collection, name: str, source: Source, config: dict[str, Any], *, device: str = "auto"
) -> np.ndarray | None:
    """Of every cluster for every image, by the model: (rows, k) float32 in table order; NaN for images it cannot place.

    Column j is of cluster j. None where the method knows no such probabilities, or `name` is only a part of a
    clustering.

    Args:
        scape: The collection.
        name: Of the clustering.
        source: As `clustered_source` gives it.
        config: As `clustering_config` gives it.
        device: Where a network runs.

    Raises:
        CheckpointError: the model is damaged.
    """
    about, folder = config.get("clustering"), scape.path / "models" / name
    if about is None or not folder.is_dir() or about["method"] not in METHODS:
        return None
    way = METHODS[about["method"]]
    if not hasattr(way.estimator, "predict_proba"):
        return None
    model = way.estimator.load(folder, **({"device": device} if way.learns else {}))
    rows = source.usable(about["metric"])
    found = model.predict_proba(source.vectors(about["metric"])[rows])
    probabilities = np.full((len(rows), found.shape[1]), np.nan, np.float32)
    probabilities[rows] = found
    return probabilities
