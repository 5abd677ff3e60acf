"""What was clustered, and the model that knows how sure it is, of a clustering that `imagescape cluster` made."""

from typing import Any

import numpy as np

from imagescape.collection.store import Collection
from imagescape.errors import CheckpointError
from imagescape.pipeline.clustering import METHODS, Source


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
