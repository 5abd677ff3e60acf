"""`cluster`: from a column of features, or a map, to a column of clusters; and new images into them."""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from imagescape.cluster.choose import Choice, choose_k
from imagescape.cluster.density import DensityClusterer
from imagescape.cluster.estimator import Clusterer
from imagescape.collection.clusterings import (
    cluster_labels,
    clustering_columns,
    could_be_part,
    made_clusterings,
    part_column,
)
from imagescape.collection.results import check_name, columns_of, ids_of, last_features, replace_columns
from imagescape.collection.store import Collection
from imagescape.errors import CheckpointError, InputError
from imagescape.model_folder import read_config
from imagescape.pipeline.cluster_source import (
    Given,
    Source,
    clustered_source,
    given_pictures,
    given_vectors,
    network_of,
)
from imagescape.pipeline.naming import name_clusters
from imagescape.pipeline.runs import run_in
from imagescape.runtime import track


@dataclass(frozen=True, slots=True)
class Method:
    """A way to cluster.

    Attributes:
        home: Module and class, "imagescape.cluster.partition:KMeans"; imported when it is asked for.
        settings: What it takes, by the names that its class and the command line have for them, beside `seed`.
        needs: Those of them that it cannot do without.
        metrics: What near may mean for it; empty where it has a way of its own.
        learns: Whether it learns for a while, and keeps a run that can be taken up again.
        whole: The same way with the network that made the features learning too, from the images; None where it has
            none.
    """

    home: str
    settings: tuple[str, ...]
    needs: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    learns: bool = False
    whole: "Method | None" = None

    @property
    def estimator(self) -> Any:
        module, _, name = self.home.partition(":")
        return getattr(import_module(module), name)


_ANY = ("euclidean", "cosine", "hamming")
_SCAN = ("k", "heads", "neighbors", "entropy_weight", "selflabel", "confidence", "device")
_WHOLE = "whole_network"
METHODS: dict[str, Method] = {
    "multihead": Method(
        "imagescape.learn.multihead:MultiHead", ("k", "heads", "neighbors", "device"), ("k",), learns=True
    ),
    "scan": Method(
        "imagescape.learn.scan:SCAN",
        (*_SCAN, _WHOLE),
        ("k",),
        learns=True,
        whole=Method(
            "imagescape.learn.scan_images:ScanImages",
            (*_SCAN, _WHOLE, "epochs", "selflabel_epochs"),
            ("k",),
            learns=True,
        ),
    ),
    "kmeans": Method("imagescape.cluster.partition:KMeans", ("k", "metric"), ("k",), _ANY),
    "ward": Method("imagescape.cluster.hierarchy:Hierarchy", ("k", "cuts", "linkage", "metric"), (), _ANY),
    "dbscan": Method("imagescape.cluster.density:DBSCAN", ("eps", "min_samples", "metric"), ("eps",), _ANY),
    "hdbscan": Method("imagescape.cluster.density:HDBSCAN", ("min_cluster_size", "min_samples", "metric"), (), _ANY),
    "plscan": Method("imagescape.cluster.layers:PLSCAN", ("min_cluster_size", "min_samples", "metric"), (), _ANY[:2]),
    "evoc": Method("imagescape.cluster.layers:EVoC", ("min_cluster_size", "min_samples", "neighbors"), (), ("cosine",)),
}


def way_of(method: str, whole_network: object = False) -> Method:
    """The way of a method, on features, or with the network that made them learning too."""
    way = METHODS[method]
    return way.whole if way.whole is not None and whole_network else way


@dataclass(frozen=True, slots=True)
class Clustered:
    """What `cluster` wrote.

    Attributes:
        name, method: Of the clustering.
        source: What was clustered: "features 'F'", "a place on the map 'M'" or "a picture that can be read".
        columns: Each column of labels, with its number of clusters and of images that are noise.
        images: That were clustered.
        left_out: Images that meet the condition and could not be: without features, or with unusable ones.
        choice: The ranked numbers of clusters, where k was "auto".
        hint: What to try, where the result is of little use.
    """

    name: str
    method: str
    source: str
    columns: dict[str, tuple[int, int]]
    images: int
    left_out: int
    choice: Choice | None = None
    hint: str = ""

    def as_dict(self) -> dict[str, Any]:
        about = {name: getattr(self, name) for name in ("name", "method", "source", "images", "left_out")}
        columns = {column: {"clusters": k, "noise": noise} for column, (k, noise) in self.columns.items()}
        return about | {"columns": columns, "choice": None if self.choice is None else self.choice.as_dict()}

    def __str__(self) -> str:
        lines = [] if self.choice is None else [str(self.choice)]
        for column, (k, noise) in self.columns.items():
            rest = f", {noise:,} images in none" if noise else ""
            lines.append(f"{column}: {k} cluster{'s' * (k != 1)} of {self.images:,} images{rest}")
        if self.left_out:
            lines.append(f"left out: {self.left_out:,} without {self.source} that can be compared")
        return "\n".join([*lines, *([self.hint] if self.hint else [])])


def cluster(
    scape: Collection,
    name: str,
    *,
    method: str = "multihead",
    features_name: str | None = None,
    map_name: str | None = None,
    where: str | None = None,
    nearest: bool = False,
    overwrite: bool = False,
    **settings: Any,
) -> Clustered:
    """Find clusters among features, or on a map, and write `cluster_<name>` and `cluster_<name>_probability`.

    The model is kept in `models/<name>`; its `config.json` says whose features they are. Beside the column there is one
    for each of several cuts (`cluster_<name>_400`), layers, or eps (`cluster_<name>_eps0_5`).

    Args:
        scape: The collection.
        name: Of the clustering; letters, digits, `_` and `-`.
        method: One of `METHODS`.
        features_name: Which features; None: those made last, if `map_name` is None.
        map_name: Cluster the places on this map instead.
        where: Only images that meet this SQL condition.
        nearest: Also write `cluster_<name>_nearest`, in which noise belongs to the nearest cluster; for methods that
            leave noise.
        overwrite: Replace a clustering of that name.
        settings: Of the method, see `Method.settings`; `seed` for all. k may be "auto": the best of `choose_k`. With
            `whole_network` the images themselves are clustered, by the network that made `features_name`, which learns.

    Raises:
        InputError: an unknown method or setting, no such features or map, a name that is taken, or as the method.
    """
    check_name(name)
    _check_free(scape, name, overwrite)
    if features_name is not None and map_name is not None:
        raise InputError("features and a map cannot both be clustered; name one of them")
    check_settings(method, settings)
    way, is_whole = way_of(method, settings.get(_WHOLE)), bool(settings.pop(_WHOLE, False))
    if is_whole and map_name is not None:
        raise InputError("--whole-network learns from the images with the network of --features; leave --map out")
    if nearest and not hasattr(way.estimator, "predict_nearest"):
        raise InputError(f"--method {method} leaves no noise that could go to the nearest cluster; leave --nearest out")
    if map_name is None:
        features_name = features_name or last_features(scape)
    source = Source(scape, features_name, map_name)
    metric = source.metric(way.metrics, settings.pop("metric", None))
    network = network_of(scape, str(features_name), settings.get("device", "auto")) if is_whole else None
    given = given_vectors(source, metric) if network is None else given_pictures(scape, network.preprocessing)
    rows = _meeting(scape, where)
    if not (rows & given.usable).any():
        if (rows & source.usable("euclidean")).any() and not is_whole:
            raise InputError(f"{source} are all zeros and have no direction for cosine; try --metric euclidean")
        raise InputError(f"no image has {given.what}" + (f' and meets the condition "{where}"' if where else ""))
    rows &= given.usable
    seed = int(settings.pop("seed", None) or 0)
    choice = None
    if settings.get("k") == "auto":
        choice = _choice(source.vectors(metric)[rows & source.usable(metric)], metric, seed)
        settings["k"] = choice.k
    if metric:
        settings["metric"] = metric
    model = way.estimator(**settings, **({} if network is None else {"encoder": network}), random_state=seed)
    clustering = {"method": method, "metric": metric, "where": where} | ({_WHOLE: True} if is_whole else {})
    about = {"clustering": clustering, **source.about}
    count = int(rows.sum())
    asked = {**about, "rows": count, "settings": settings, "seed": seed}
    _fit(model, given.of_rows(rows), scape.path / "runs" / name if way.learns else None, asked)
    columns = _labels_of(name, model)
    found = {column: _counted(labels) for column, labels in columns.items()}
    columns[part_column(name, "probability")] = _of_own(model.probabilities_, model.labels_)
    if nearest:
        columns[part_column(name, "nearest")] = model.nearest_
    model.save(scape.path / "models" / name, **about)
    replace_columns(scape, name, ids_of(scape)[rows], columns)
    left_out = int((_meeting(scape, where, "status = 'ok'") & ~rows).sum())
    hint = _hint(model, found[part_column(name)])
    return Clustered(name, method, given.what, found, count, left_out, choice, hint)


def _fit(model: Any, given: Any, run_folder: Path | None, asked: dict[str, Any]) -> None:
    if run_folder is None:
        model.fit(given)
        return
    with run_in(run_folder, asked):
        model.fit(given, run_folder=run_folder)


def _labels_of(name: str, model: Any) -> dict[str, np.ndarray]:
    """Columns of labels, (n,) int64: the clustering's, and those of its cuts, layers or several eps."""
    labellings = {"": model.labels_, **getattr(model, "labellings_", {})}
    return {part_column(name, part): np.asarray(labels, np.int64) for part, labels in labellings.items()}


def _counted(labels: np.ndarray) -> tuple[int, int]:
    """Clusters that have a row, and rows that are noise."""
    return len(np.unique(labels[labels >= 0])), int((labels < 0).sum())


def _of_own(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Of probabilities (n,), or of every cluster (n, k), those of each row's own; float32."""
    if probabilities.ndim == 2:
        probabilities = probabilities[np.arange(len(labels)), labels]
    return np.asarray(probabilities, np.float32)


def cluster_new(scape: Collection, name: str, *, device: str = "auto") -> int:
    """Give images that were added since, and have features now, to the clusters of `name`; how many there were.

    Clusters and the labels of all other images stay as they are. The condition that the clustering was made with holds
    for them too.

    Raises:
        InputError: no such clustering.
        CheckpointError: its model is missing, or the features or the map are not those it was made from.
    """
    if name not in made_clusterings(scape):
        here = ", ".join(made_clusterings(scape)) or "none yet"
        raise InputError(f"no clustering is called '{name}' in '{scape.path}'; there are: {here}")
    known = cluster_labels(scape, name)[1]
    config = read_config(scape.path / "models" / name)
    about = config.get("clustering")
    if about is None:
        raise CheckpointError(f"the model in {scape.path / 'models' / name} is none of a clustering; cluster again")
    model, given = load_clustering(scape, name, config, device)
    there = clustering_columns(scape, name)
    rows = _meeting(scape, about["where"]) & given.usable & ~known
    if not rows.any():
        return 0
    items = given.of_rows(rows)
    columns: dict[str, np.ndarray] = {}
    if isinstance(model, Clusterer):
        labels, columns[part_column(name, "probability")] = model.assign(items)
        columns |= {part_column(name, part): own for part, own in model.predict_labellings(items).items()}
    else:
        probabilities = model.predict_proba(items)
        labels = probabilities.argmax(1)
        columns[part_column(name, "probability")] = _of_own(probabilities, labels)
    if isinstance(model, DensityClusterer):
        columns[part_column(name, "nearest")] = model.predict_nearest(items)
    columns[part_column(name)] = labels
    scape.update(ids_of(scape)[rows], {column: values for column, values in columns.items() if column in there})
    for named in (column.removeprefix("cluster_") for column in there):
        if (scape.path / "runs" / named / "naming.json").exists():
            name_clusters(scape, named, device=device)  # nothing new is asked; the new images get their names
    return int(rows.sum())


def load_clustering(scape: Collection, name: str, config: dict[str, Any], device: str = "auto") -> tuple[Any, Given]:
    """The model of a clustering that `cluster` made, and what it is given of a collection's images.

    Raises:
        CheckpointError: the model is damaged, or the features or the map are not those it was made from.
        InputError: they are not in the collection any more.
    """
    about = config["clustering"]
    way = way_of(about["method"], about.get(_WHOLE))
    # The network of images needs nothing but them.
    source = None if about.get(_WHOLE) else clustered_source(scape, config)
    model = way.estimator.load(scape.path / "models" / name, **({"device": device} if way.learns else {}))
    if source is None:
        return model, given_pictures(scape, model.preprocessing)
    return model, given_vectors(source, about["metric"])


def cluster_probabilities(
    scape: Collection, name: str, config: dict[str, Any], *, device: str = "auto"
) -> np.ndarray | None:
    """Of every cluster for every image, by the model: (rows, k) float32 in table order; NaN for images it cannot place.

    Column j is of cluster j. None where the method knows no such probabilities, or `name` is only a part of a
    clustering.

    Args:
        scape: The collection.
        name: Of the clustering.
        config: As `clustering_config` gives it.
        device: Where a network runs.

    Raises:
        CheckpointError, InputError: as `load_clustering`.
    """
    about = config.get("clustering")
    if about is None or not (scape.path / "models" / name).is_dir() or about["method"] not in METHODS:
        return None
    if not hasattr(way_of(about["method"], about.get(_WHOLE)).estimator, "predict_proba"):
        return None
    model, given = load_clustering(scape, name, config, device)
    found = model.predict_proba(given.of_rows(given.usable))
    probabilities = np.full((len(scape), found.shape[1]), np.nan, np.float32)
    probabilities[given.usable] = found
    return probabilities


def check_settings(method: str, settings: dict[str, Any]) -> None:
    """Refuse an unknown method, a setting that is another's, and the lack of one that it needs.

    Raises:
        InputError: says which, in the words of the command line.
    """
    if method not in METHODS:
        raise InputError(f"method must be one of {', '.join(METHODS)}, got '{method}'")
    way = way_of(method, settings.get(_WHOLE))
    if wrong := sorted(settings.keys() - {*way.settings, "seed"}):
        takes = ", ".join(f"--{one.replace('_', '-')}" for one in way.settings)
        raise InputError(f"--method {method} takes no --{wrong[0].replace('_', '-')}; it takes {takes}")
    if missing := [one for one in way.needs if settings.get(one) is None]:
        how = "a number of clusters, or auto" if missing[0] == "k" else "one or several, with commas between"
        raise InputError(f"--method {method} needs --{missing[0].replace('_', '-')}: {how}")
    if method == "ward" and settings.get("k") is None and not settings.get("cuts"):
        raise InputError("--method ward needs --k (a number of clusters, or auto) or --cuts")


def _check_free(scape: Collection, name: str, overwrite: bool) -> None:
    if name in made_clusterings(scape):
        if not overwrite:
            raise InputError(
                f"'{scape.path.name}' has a clustering '{name}' already; choose another --name or --overwrite it"
            )
    elif taken := columns_of(scape, name):
        raise InputError(f"'{name}' is taken by other results ({', '.join(taken)}); choose another --name")
    folder = scape.path / "models" / name
    if folder.is_dir() and "clustering" not in read_config(folder):
        raise InputError(
            f"'{name}' is the name of a model, which a clustering of that name would replace; choose another"
        )
    if others := [one for one in made_clusterings(scape) if could_be_part(name, one)]:
        raise InputError(f"the clustering '{others[0]}' has the column of a part of '{name}'; choose another --name")


def _meeting(scape: Collection, where: str | None, also: str | None = None) -> np.ndarray:
    """Rows that meet the conditions, (rows,) bool."""
    conditions = [f"({one})" for one in (where, also) if one is not None]
    if not conditions:
        return np.ones(len(scape), bool)
    ids = scape.read(["image_id"], where=" AND ".join(conditions))["image_id"].to_numpy().astype("U16")
    return np.isin(ids_of(scape), ids)


def _choice(vectors: np.ndarray, metric: str, seed: int) -> Choice:
    resamples = 10
    with track("choose k", 4 * resamples + 2, unit="hierarchies") as progress:
        measure: Any = metric or "cosine"
        return choose_k(vectors, metric=measure, resamples=resamples, seed=seed, advance=progress.advance)


def _hint(model: Any, found: tuple[int, int]) -> str:
    """What to try where density found nothing, or one cluster."""
    if found[0] > 1 or not isinstance(model, DensityClusterer):
        return ""
    if not hasattr(model, "core_distances_"):
        return (
            "no place is denser than the rest: try a smaller --min-cluster-size, or cluster a map, as density says "
            "little in many dimensions"
        )
    low, middle, high = np.quantile(model.core_distances_, (0.1, 0.5, 0.9))
    if not high > 0:
        return "nearly all images lie at one place, and nothing tells them apart"
    return (
        f"a tenth, half and nine tenths of the images are dense at eps {low:.3g}, {middle:.3g} and {high:.3g}: "
        "try --eps between"
    )
