"""What a clustering left in a collection, as arrays: clusters, and the probabilities of all of them.

A clustering called NAME is in the columns `cluster_NAME` (-1 for noise, null for images that are not in it) and
`cluster_NAME_probability`. Where its method knows the probability of every cluster for every image, that table is in
`runs/NAME/probabilities.parquet`.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import parquet, types

from imagescape.collection.columns import as_arrow
from imagescape.collection.results import ids_of
from imagescape.collection.store import Collection
from imagescape.errors import CheckpointError, InputError

_PREFIX = "cluster_"


def clustering_names(scape: Collection) -> list[str]:
    """Names of the clusterings, in the order they were made; every cut of a hierarchy is one."""
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


def write_probabilities(scape: Collection, name: str, ids: np.ndarray, probabilities: np.ndarray) -> None:
    """Keep the probability of every cluster, for the figures that need it; replaces an earlier table.

    Args:
        scape: The collection.
        name: Of the clustering.
        ids: Of the images, (m,).
        probabilities: (m, k); column j is of cluster j.
    """
    table = pa.table({"image_id": ids, "probabilities": as_arrow("probabilities", probabilities, len(ids))})
    path = _probabilities_path(scape, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    parquet.write_table(table, part)
    part.replace(path)


def read_probabilities(scape: Collection, name: str) -> np.ndarray | None:
    """What `write_probabilities` kept, (rows, k) float32 in table order; NaN for images it has none of.

    None where nothing was kept.

    Raises:
        CheckpointError: the file is damaged.
    """
    path = _probabilities_path(scape, name)
    if not path.exists():
        return None
    try:
        table = parquet.read_table(path)
        column = table["probabilities"].combine_chunks()
        values = column.flatten().to_numpy().reshape(len(column), column.type.list_size)
        ids = table["image_id"].to_numpy().astype("U16")
    except (pa.ArrowException, OSError, KeyError, AttributeError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read; delete it, or cluster again with --overwrite") from error
    wanted = ids_of(scape)
    out = np.full((len(wanted), values.shape[1]), np.nan, np.float32)
    order = np.argsort(ids)
    place = np.searchsorted(ids, wanted, sorter=order).clip(max=len(ids) - 1)
    found = ids[order[place]] == wanted if len(ids) else np.zeros(len(wanted), bool)
    out[found] = values[order[place[found]]]
    return out


def _probabilities_path(scape: Collection, name: str) -> Path:
    return scape.path / "runs" / name / "probabilities.parquet"
