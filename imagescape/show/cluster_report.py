"""`report`: everything that is known of a clustering as one page, and its figures and tables as files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from matplotlib.figure import Figure
from pyarrow import csv, parquet

from imagescape.cluster.geometry import cluster_geometry
from imagescape.cluster.hierarchy import Hierarchy
from imagescape.collection.clusterings import cluster_labels, made_clusterings, part_column, scales
from imagescape.collection.results import (
    can_be_drawn,
    classes,
    ids_of,
    map_coords,
    map_names,
)
from imagescape.collection.store import Collection
from imagescape.errors import InputError
from imagescape.evaluate.clusterings import Partition, partition_of, score_clustering
from imagescape.pipeline.cluster_scores import evaluate_clusterings
from imagescape.report.cluster_page import Card, write_cluster_page
from imagescape.report.cluster_plots import Cut, draw_cuts, draw_diameters, draw_matrix, draw_sizes
from imagescape.report.gallery import Fact, Panel, Picture, Row
from imagescape.report.map_plot import draw_map, figure_png, save_figure
from imagescape.report.markup import check_page_path
from imagescape.runtime import track
from imagescape.show.clusters import dendrogram
from imagescape.show.shown_clustering import Examples, ShownClustering, find_examples

_MANY_CLUSTERS = 100  # beyond, fewer pictures of each, so that the page stays a page
Table = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Report:
    """What was written: the page, and the figures and tables beside it."""

    page: Path
    files: tuple[Path, ...]


def write_cluster_report(
    scape: Collection,
    name: str,
    path: Path,
    *,
    label: str | None = None,
    map_name: str | None = None,
    files: Path | None = None,
    pictures: int | None = None,
    diameter_quantile: float = 1.0,
    title: str | None = None,
    seed: int = 0,
    device: str = "auto",
) -> Report:
    """Write the page of a clustering.

    What cannot be shown, such as the geometry where the features are gone, is named on the page instead.

    Args:
        scape: The collection.
        name: Of the clustering, or of a cut of one.
        path: Of the page.
        label: A column of classes to hold the clusters against.
        map_name: The map to show them on; None: the last that has two dimensions.
        files: A folder for every figure as PNG and SVG and every table as CSV and Parquet; made if it is not there.
        pictures: Random images of each cluster; None: 10, or 4 of more than 100 clusters.
        diameter_quantile: Of the distances within a cluster that is called its diameter.
        title: Above the page.
        seed: Chooses the random images.
        device: Where distances are computed.

    Raises:
        InputError: no such clustering, column or map, or the folder of `path` is missing.
    """
    check_page_path(path)
    if map_name is not None and map_coords(scape, map_name).shape[1] != 2:
        raise InputError(f"a picture needs a map of 2 dimensions, '{map_name}' has not")
    measured = evaluate_clusterings(
        scape, [name], label=label, diameter_quantile=diameter_quantile, seed=seed, device=device
    ).clusterings[0]
    shown = ShownClustering(scape, name, measured)
    cuts, cut_tables = _cuts(shown, label, diameter_quantile, device)
    figures, notes = _figures(shown, cuts, map_name, seed)
    examples = find_examples(shown, pictures or (4 if len(shown.clusters) > _MANY_CLUSTERS else 10), seed)
    cards = _cards(shown, examples)
    if not any(one.data for card in cards for row in card.rows for one in row.pictures):
        notes.append("no pictures: the images have no thumbnails")
    page = write_cluster_page(
        path,
        title=title if title is not None else f"{scape.path.stem}: the clusters '{name}'",
        about=f"{len(shown.clusters)} clusters of {shown.partition.n:,} images; {_origin(shown)}",
        facts=_facts(shown),
        notes=[*measured.notes(), *notes],
        panels=[Panel(key, *_PANELS[key], figure_png(figure)) for key, figure in figures.items()],
        cards=cards,
    )
    if files is None:
        return Report(page, ())
    tables = {**_tables(shown, examples), **cut_tables}
    return Report(page, tuple(_write_files(files, figures, tables)))


_PANELS = {
    "map": ("On the map", "Each point is an image in the colour of its cluster; grey: noise, or not clustered."),
    "sizes": (
        "Sizes and balance",
        "Effective k is how many clusters of equal size would be as various: far below the number of clusters, a few "
        "hold most images. Right: each point is a cluster, the red bar is the median.",
    ),
    "diameters": (
        "Diameters",
        "How far apart the images of a cluster lie, in units of what was clustered. Wide ones hold unlike images.",
    ),
    "confusion": (
        "Clusters and classes",
        "Which share of a cluster's images (a row) is of which class. Classes stand in the order of the clusters that "
        "they are matched to: a dark diagonal is good.",
    ),
    "iou": (
        "Overlap of clusters and classes",
        "Intersection over union: 1 where a cluster is exactly a class, low where either is the larger by far.",
    ),
    "tree": (
        "The hierarchy",
        "Which clusters are next to each other: the farther to the left two lines meet, the less alike are the images. "
        "Sizes and the most typical images are on the right. Of more than 30 clusters it shows 30 coarser ones, with "
        "numbers of their own.",
    ),
    "cuts": (
        "Across the cuts",
        "The same images in coarser and finer clusters. "
        "Homogeneity: every cluster holds one class. Completeness: every "
        "class is in one cluster. V is their harmonic mean.",
    ),
}


def _origin(shown: ShownClustering) -> str:
    recipe = shown.config.get("recipe") or shown.config.get("clustering") or {}
    of = shown.config.get("map") and f"the map '{shown.config['map']}'"
    of = of or (shown.config.get("features") and f"features '{shown.config['features']}'")
    clustering = shown.config.get("clustering") or {}
    method = clustering.get("method") or recipe.get("method")
    if clustering.get("whole_network"):
        return f"{method} of the images, by the network of {of}"
    return " of ".join(filter(None, (method, of))) or "it has no model that says how they were made"


_FACTS = {
    "acc": ("accuracy", "of the images are in the cluster that stands for their class, one cluster a class"),
    "majority_acc": ("majority accuracy", "of the images are of the commonest class of their cluster"),
    "nmi": ("NMI, also called V", "what clusters and classes tell of each other; 1 at best"),
    "ari": ("adjusted Rand index", "pairs of images rightly together or apart; 0 by chance, 1 at best"),
    "homogeneity": ("homogeneity", "1 where every cluster holds one class"),
    "completeness": ("completeness", "1 where every class is in one cluster"),
    "cluster_purity_at_5": ("neighbours together", "of an image's 5 nearest are in its cluster, on average"),
    "diameter_mean": ("mean diameter", "of the clusters, in units of what was clustered"),
    "sn1_mean": (
        "mean SN1",
        "diameter over the way from the centre to the nearest image of another cluster; lower is better",
    ),
}


def _facts(shown: ShownClustering) -> list[Fact]:
    partition, sizes, scalars = shown.partition, shown.partition.sizes, shown.measured.scalars()
    facts = [
        Fact("clusters", f"{len(sizes):,}"),
        Fact("images", f"{partition.n:,}", "in the clustering, noise too"),
        Fact("noise", f"{partition.noise:,}", f"in no cluster; {partition.noise / partition.n:.1%} of the images"),
    ]
    if len(sizes):
        largest = f"{sizes.max() / partition.n:.1%} of the images; the smallest has {sizes.min():,}"
        facts.append(Fact("largest cluster", f"{sizes.max():,}", largest))
        facts.append(
            Fact("effective k", f"{partition.effective_k:.1f}", "so many clusters of one size would be as various")
        )
    for name, (called, about) in _FACTS.items():
        value = scalars.get(name)
        if value is not None and np.isfinite(value):
            is_share = name in ("acc", "majority_acc", "cluster_purity_at_5")
            facts.append(Fact(called, f"{value:.1%}" if is_share else f"{value:.3g}", about))
    return facts


def _figures(
    shown: ShownClustering, cuts: list[Cut], map_name: str | None, seed: int
) -> tuple[dict[str, Figure], list[str]]:
    """The figures by name, and what is not among them and why."""
    figures: dict[str, Figure] = {}
    if not len(shown.clusters):
        return figures, ["there is no cluster to draw"]
    on_map, notes = _map_figure(shown, map_name, seed)
    if not shown.given_names:
        notes.append("the clusters have numbers only; the command 'imagescape name' gives them names")
    if on_map is not None:
        figures["map"] = on_map
    figures["sizes"] = draw_sizes(shown.partition.sizes, shown.words_of(shown.clusters))
    geometry, scores = shown.measured.geometry, shown.measured.scores
    if geometry is not None:
        measure = "diameter" if geometry.quantile == 1 else f"diameter ({geometry.quantile:g} quantile)"
        names = shown.words_of(geometry.clusters)
        figures["diameters"] = draw_diameters(geometry.diameter, geometry.size, names, measure=measure)
    if scores is not None and scores.table is not None:
        table, order = scores.table, _class_order(scores.matches, len(scores.table.groups_b))
        rows = shown.words_of(np.array(table.groups_a, np.int64))
        columns, label = [str(table.groups_b[one]) for one in order], str(shown.measured.label)
        share = table.counts / table.sizes_a[:, None]
        figures["confusion"] = draw_matrix(share[:, order], rows, columns, measure="share of the cluster", label=label)
        figures["iou"] = draw_matrix(table.iou[:, order], rows, columns, measure="IoU", label=label)
    if (tree := _tree_figure(shown)) is not None:
        figures["tree"] = tree
    if len(cuts) > 1:
        figures["cuts"] = draw_cuts(cuts)
    return figures, notes


def _tree_figure(shown: ShownClustering) -> Figure | None:
    """Of a hierarchy at its own cut; None for anything else."""
    is_hierarchy = (shown.config.get("recipe") or {}).get("method") == Hierarchy.__name__
    if not is_hierarchy or shown.name not in made_clusterings(shown.scape):
        return None
    return dendrogram(shown.scape, shown.name, names=shown.words)


def _class_order(matches: np.ndarray, count: int) -> list[int]:
    """Classes in the order of the clusters that stand for them, then the others."""
    return list(dict.fromkeys([*(one for one in matches.tolist() if one >= 0), *range(count)]))


def _map_figure(shown: ShownClustering, map_name: str | None, seed: int) -> tuple[Figure | None, list[str]]:
    scape = shown.scape
    flat = [one for one in map_names(scape) if can_be_drawn(scape, one)]
    if map_name is None and not flat:
        return None, ["no map: the collection has none of two dimensions; make one with the command 'imagescape map'"]
    used = map_name or flat[-1]
    coords = map_coords(scape, used)
    rows = np.flatnonzero(np.isfinite(coords).all(axis=1))
    if not (shown.labels[rows] >= 0).any():
        return None, [f"no map: none of the clustered images is on '{used}'"]
    # Numbers are sorted as numbers in the legend, names as text.
    called = shown.words if shown.given_names else {one: one for one in shown.clusters.tolist()}
    values = [called.get(one) for one in shown.labels[rows].tolist()]
    column, title = part_column(shown.name), f"the map '{used}'"
    # Very many bare numbers around the map would hide it, and say nothing.
    is_crowded = not shown.given_names and len(shown.clusters) > _MANY_CLUSTERS
    figure = draw_map(
        coords[rows],
        values=values,
        column=column,
        kind="categorical",
        naming="none" if is_crowded else "auto",
        title=title,
        seed=seed,
    )
    return figure, []


_TITLES = {
    "prototype": "prototype",
    "nearest": "nearest to the centre",
    "farthest": "farthest from the centre",
    "representative": "at random",
}


def _cards(shown: ShownClustering, examples: Examples) -> list[Card]:
    rows = examples.every
    columns = [one for one in ("uri", "thumbnail") if one in shown.scape.columns]
    taken = shown.scape.take(rows, columns)
    uris = taken["uri"].to_pylist() if "uri" in columns else [""] * len(rows)
    thumbnails = taken["thumbnail"].to_pylist() if "thumbnail" in columns else [None] * len(rows)
    pictures = {row: Picture(str(uri), data) for row, uri, data in zip(rows.tolist(), uris, thumbnails, strict=True)}
    sizes = dict(zip(shown.clusters.tolist(), shown.partition.sizes.tolist(), strict=True))
    sizes[-1] = shown.partition.noise
    about = _about_clusters(shown)
    cards = []
    for one, kinds in examples.rows.items():
        lines = [
            Row(_TITLES[kind], [pictures[row] for row in kinds[kind].tolist()], is_large=kind == "prototype")
            for kind in _TITLES
            if kind in kinds
        ]
        cards.append(Card(one, shown.given_names.get(one, ""), sizes[one], about.get(one, ""), lines))
    return cards


def _about_clusters(shown: ShownClustering) -> dict[int, str]:
    """The figures of each cluster in a sentence."""
    words = {
        one: [f"{size / shown.partition.n:.1%} of the images"]
        for one, size in zip(shown.clusters.tolist(), shown.partition.sizes.tolist(), strict=True)
    }
    geometry, scores = shown.measured.geometry, shown.measured.scores
    if geometry is not None:
        for position, one in enumerate(geometry.clusters.tolist()):
            for name in ("diameter", "dispersion", "separation"):
                value = getattr(geometry, name)[position]
                words[one] += [f"{name} {value:.3g}"] if np.isfinite(value) else []
    if scores is not None and scores.table is not None:
        for position, one in enumerate(scores.table.groups_a):
            counts, of = scores.table.counts[position], scores.table.sizes_a[position]
            first = [at for at in np.argsort(-counts, kind="stable")[:3] if counts[at]]
            said = ", ".join(f"{scores.classes[at]} {counts[at] / of:.0%}" for at in first)
            words[int(str(one))].append(f"{shown.measured.label}: {said}")
    return {one: "; ".join(parts) for one, parts in words.items()}


def _cuts(
    shown: ShownClustering, label: str | None, quantile: float, device: str
) -> tuple[list[Cut], dict[str, Table]]:
    """The parts of a clustering that have clusters, such as cuts, and the same as tables."""
    parts = scales(shown.scape, shown.name)
    truth = None if label is None else classes(shown.scape, label)
    cuts, summaries, clusters = [], [], []
    if len(parts) < 2:  # nothing to hold beside each other
        return [], {}
    with track("cuts", len(parts)) as progress:
        for part in parts:
            labels, is_in = cluster_labels(shown.scape, f"{shown.name}_{part}")
            progress.advance(1)
            if not (labels >= 0).any():
                continue
            partition = partition_of(labels[is_in])
            scores = None if truth is None else score_clustering(labels[is_in], truth[is_in])
            diameters: np.ndarray | None = None
            if shown.source is not None and (labels[shown.rows] >= 0).any():
                vectors = shown.source.vectors("euclidean")[shown.rows]
                measured = cluster_geometry(vectors, labels[shown.rows], quantile=quantile, device=device)
                # Only where every cluster has a diameter do both belong beside each other.
                diameters = measured.diameter if len(measured.clusters) == len(partition.clusters) else None
            cuts.append(Cut(part, partition.sizes, None if scores is None else scores.agreement, diameters))
            summaries.append(_cut_summary(part, partition, None if scores is None else scores.figures(), diameters))
            widths = [None] * len(partition.sizes) if diameters is None else diameters.tolist()
            rows = zip(partition.clusters.tolist(), partition.sizes.tolist(), widths, strict=True)
            clusters += [{"cut": part, "cluster": one, "size": size, "diameter": width} for one, size, width in rows]
    if len(cuts) < 2:
        return cuts, {}
    return cuts, {"cuts": _columns(summaries), "cut_clusters": _columns(clusters)}


def _cut_summary(
    part: str, partition: Partition, figures: dict[str, float | None] | None, diameters: np.ndarray | None
) -> dict[str, Any]:
    sizes, figures = partition.sizes, figures or {}
    names = ("acc", "homogeneity", "completeness", "v_measure", "ari")
    return {
        "cut": part,
        "clusters": len(sizes),
        "noise": partition.noise,
        "effective_k": partition.effective_k,
        "smallest": int(sizes.min()),
        "median_size": float(np.median(sizes)),
        "largest": int(sizes.max()),
        "median_diameter": None if diameters is None else float(np.median(diameters)),
        **{name: figures.get(name) for name in names},
    }


def _columns(lines: list[dict[str, Any]]) -> Table:
    return {name: [line[name] for line in lines] for name in lines[0]}


def _tables(shown: ShownClustering, examples: Examples) -> dict[str, Table]:
    scape, scores = shown.scape, shown.measured.scores
    ids = ids_of(scape)
    uris = scape.read(["uri"])["uri"].to_pylist()
    sure = shown.probability
    names = [shown.given_names.get(one) for one in shown.labels.tolist()]
    assigned: Table = {
        "image_id": ids,
        "uri": pa.array(uris, pa.string()),
        "cluster": pa.array(shown.labels, mask=~shown.is_in),
        "probability": pa.nulls(len(ids), pa.float32()) if sure is None else pa.array(sure, mask=np.isnan(sure)),
        "name": pa.array(names, pa.string()),
    }
    some = [
        (one, kind, place, row)
        for one, kinds in examples.rows.items()
        for kind, rows in kinds.items()
        for place, row in enumerate(rows.tolist(), 1)
    ]
    tables: dict[str, Table] = {
        "figures": {
            "figure": list(shown.measured.scalars()),
            "value": pa.array(list(shown.measured.scalars().values()), pa.float64()),
        },
        "clusters": _cluster_table(shown),
        "assignment": assigned,
        "examples": {
            "cluster": pa.array([one for one, *_ in some], pa.int64()),
            "kind": pa.array([kind for _, kind, *_ in some], pa.string()),
            "place": pa.array([place for *_, place, _ in some], pa.int64()),
            "image_id": pa.array([str(ids[row]) for *_, row in some], pa.string()),
            "uri": pa.array([uris[row] for *_, row in some], pa.string()),
        },
    }
    if scores is not None and scores.table is not None:
        rows, columns = np.nonzero(scores.table.counts)
        tables["confusion"] = {
            "cluster": [scores.table.groups_a[row] for row in rows],
            "class": [str(scores.table.groups_b[column]) for column in columns],
            "images": scores.table.counts[rows, columns],
            "iou": scores.table.iou[rows, columns],
        }
    return tables


def _cluster_table(shown: ShownClustering) -> Table:
    """A line a cluster: name, size, share, the geometry, and the class that it stands for."""
    k, geometry, scores = len(shown.clusters), shown.measured.geometry, shown.measured.scores
    table: Table = {
        "cluster": shown.clusters,
        "name": pa.array([shown.given_names.get(one) for one in shown.clusters.tolist()], pa.string()),
        "size": shown.partition.sizes,
        "share": shown.partition.sizes / shown.partition.n,
    }
    if geometry is not None:
        at = np.searchsorted(shown.clusters, geometry.clusters)
        for name, values in geometry.as_table().items():
            if name not in table:
                table[name] = np.full(k, np.nan)
                table[name][at] = values
    if scores is not None and scores.table is not None:
        stands_for: list[str | None] = [None] * k
        images = np.zeros(k, np.int64)
        for position, (one, match) in enumerate(zip(scores.table.groups_a, scores.matches.tolist(), strict=True)):
            if match >= 0:
                place = int(np.searchsorted(shown.clusters, int(str(one))))
                stands_for[place] = str(scores.classes[match])
                images[place] = scores.table.counts[position, match]
        table |= {"class": pa.array(stands_for, pa.string()), "images_of_class": images}
    return table


def _write_files(folder: Path, figures: dict[str, Figure], tables: dict[str, Table]) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    written = [save_figure(figure, folder / f"{name}.{kind}") for name, figure in figures.items() for kind in _KINDS]
    for name, columns in tables.items():
        table = pa.table(columns)
        csv.write_csv(table, folder / f"{name}.csv")
        parquet.write_table(table, folder / f"{name}.parquet")
        written += [folder / f"{name}.csv", folder / f"{name}.parquet"]
    return written


_KINDS = ("png", "svg")
