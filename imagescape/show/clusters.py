"""Pictures of a collection's clusters: columns in, files out."""

from pathlib import Path

import numpy as np

from imagescape.cluster.choose import Choice
from imagescape.cluster.hierarchy import Hierarchy
from imagescape.collection.clusterings import cluster_labels
from imagescape.collection.store import Collection
from imagescape.errors import InputError
from imagescape.model_folder import read_config
from imagescape.report.choice_plot import draw_choice
from imagescape.report.dendrogram import draw_dendrogram
from imagescape.report.map_plot import save_figure

_LEAVES = 30
_PICTURES = 10


def plot_choice(choice: Choice, path: Path, *, title: str = "") -> None:
    """Draw what speaks for each number of clusters; InputError for another ending than .png, .svg or .pdf."""
    save_figure(draw_choice(choice, title=title), path)


def plot_dendrogram(
    scape: Collection, name: str, path: Path, *, leaves: int = _LEAVES, title: str | None = None
) -> None:
    """Draw the top of a hierarchy with the most typical images of each cluster.

    Args:
        scape: The collection.
        name: Of a clustering by "ward".
        path: Where to; its ending settles the kind.
        leaves: Clusters at most: its own cut, or one above it.
        title: Above the picture.

    Raises:
        InputError: no such clustering, or one that is no hierarchy; another ending than .png, .svg or .pdf.
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
    sure = scape.read([f"cluster_{name}_probability"])[f"cluster_{name}_probability"].fill_null(0).to_numpy()
    order = np.lexsort((-sure, shown))
    rows = [order[shown[order] == label][:_PICTURES] for label in range(top)]
    found = scape.take(np.concatenate(rows), ["thumbnail"])["thumbnail"].to_pylist()
    ends = np.cumsum([len(one) for one in rows])
    pictures = [[one for one in found[end - len(row) : end] if one] for row, end in zip(rows, ends, strict=True)]
    whole = f"{known.sum():,} images"
    figure = draw_dendrogram(
        model.tree_.top(top),
        pictures=pictures,
        title=title if title is not None else f"{scape.path.stem}: the hierarchy '{name}'",
        about=f"{whole}; the top {top} clusters by {model.linkage} linkage, their sizes and most typical images",
        measure=f"distance at which two clusters merge ({model.linkage} linkage, {model.metric})",
    )
    save_figure(figure, path)
