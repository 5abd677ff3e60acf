"""Pictures of a collection's clusters: columns in, files out."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from imagescape.cluster.choose import Choice
from imagescape.cluster.hierarchy import Hierarchy
from imagescape.collection.clusterings import cluster_labels, part_column
from imagescape.collection.store import Collection
from imagescape.errors import InputError
from imagescape.model_folder import read_config
from imagescape.report.choice_plot import draw_choice
from imagescape.report.dendrogram import draw_dendrogram
from imagescape.report.map_plot import save_figure

MOST_LEAVES = 30
_PICTURES = 10


def plot_choice(choice: Choice, path: Path, *, title: str = "") -> None:
    """Draw what speaks for each number of clusters; InputError for another ending than .png, .svg or .pdf."""
    save_figure(draw_choice(choice, title=title), path)


def plot_dendrogram(
    scape: Collection, name: str, path: Path, *, leaves: int = MOST_LEAVES, title: str | None = None
) -> None:
    """Draw `dendrogram` into a file.

    Args:
        scape, name, leaves: As there.
        path: Where to; its ending settles the kind.
        title: Above the picture; None: what it is.

    Raises:
        InputError: as `dendrogram`; another ending than .png, .svg or .pdf.
    """
    if title is None:
        title = f"{scape.path.stem}: the hierarchy '{name}'"
    save_figure(dendrogram(scape, name, leaves=leaves, title=title), path)


def dendrogram(
    scape: Collection,
    name: str,
    *,
    leaves: int = MOST_LEAVES,
    title: str = "",
    names: Mapping[int, str] | None = None,
) -> Figure:
    """The top of a hierarchy with the most typical images of each cluster.

    Args:
        scape: The collection.
        name: Of a clustering by "ward".
        leaves: Clusters at most: its own cut, or one above it, whose clusters have numbers of their own.
        title: Above the picture.
        names: What its clusters are called, where they are the leaves; numbers when None.

    Raises:
        InputError: no such clustering, or one that is no hierarchy.
        CheckpointError: its model is damaged.
    """
    labels, known = cluster_labels(scape, name)
    folder = scape.path / "models" / name
    if read_config(folder)["recipe"].get("method") != Hierarchy.__name__:
        raise InputError(f"'{name}' is no hierarchy, and has no dendrogram; cluster with --method ward")
    model = Hierarchy.load(folder)
    top = min(leaves, model.k)
    # The labels of the table are those of a finer cut, whose clusters lie whole in those above.
    above = np.empty(model.k, np.int64)
    above[model.tree_.cut(model.k)] = model.tree_.cut(top)
    shown = np.where(known, above[labels.clip(0)], -1)
    column = part_column(name, "probability")
    sure = scape.read([column])[column].fill_null(0).to_numpy()
    order = np.lexsort((-sure, shown))
    rows = [order[shown[order] == label][:_PICTURES] for label in range(top)]
    found = scape.take(np.concatenate(rows), ["thumbnail"])["thumbnail"].to_pylist()
    ends = np.cumsum([len(one) for one in rows])
    pictures = [[one for one in found[end - len(row) : end] if one] for row, end in zip(rows, ends, strict=True)]
    whole = f"{known.sum():,} images"
    return draw_dendrogram(
        model.tree_.top(top),
        names=[names.get(leaf, str(leaf)) for leaf in range(top)] if names and top == model.k else None,
        pictures=pictures,
        title=title,
        about=f"{whole}; the top {top} clusters by {model.linkage} linkage, their sizes and most typical images",
        measure=f"distance at which two clusters merge ({model.linkage} linkage, {model.metric})",
    )
