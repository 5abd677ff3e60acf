"""`cluster`: from a column of features, or a map, to a column of clusters; and new images into them."""

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Any

import numpy as np
import pyarrow as pa

from imagescape.cluster.choose import Choice, choose_k
from imagescape.cluster.density import DensityClusterer
from imagescape.cluster.estimator import Clusterer
from imagescape.collection.clusterings import cluster_labels
from imagescape.collection.results import (
    check_name,
    cluster_columns,
    cluster_names,
    columns_of,
    features,
    features_identity,
    ids_of,
    last_features,
    map_coords,
    replace_columns,
)
from imagescape.collection.store import Collection
from imagescape.errors import CheckpointError, InputError
from imagescape.features.extract import same_encoder
from imagescape.model_folder import read_config
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
    """

    home: str
    settings: tuple[str, ...]
    needs: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    learns: bool = False

    @property
    def estimator(self) -> Any:
        module, _, name = self.home.partition(":")
        return getattr(import_module(module), name)


_ANY = ("euclidean", "cosine", "hamming")
METHODS: dict[str, Method] = {
    "multihead": Method(
        "imagescape.learn.multihead:MultiHead", ("k", "heads", "neighbors", "device"), ("k",), learns=True
    ),
    "scan": Method(
        "imagescape.learn.scan:SCAN",
        ("k", "heads", "neighbors", "entropy_weight", "selflabel", "confidence", "device"),
        ("k",),
        learns=True,
    ),
    "kmeans": Method("imagescape.cluster.partition:KMeans", ("k", "metric"), ("k",), _ANY),
    "ward": Method("imagescape.cluster.hierarchy:Hierarchy", ("k", "cuts", "linkage", "metric"), (), _ANY),
    "dbscan": Method("imagescape.cluster.density:DBSCAN", ("eps", "min_samples", "metric"), ("eps",), _ANY),
    "hdbscan": Method("imagescape.cluster.density:HDBSCAN", ("min_cluster_size", "min_samples", "metric"), (), _ANY),
    "plscan": Method("imagescape.cluster.layers:PLSCAN", ("min_cluster_size", "min_samples", "metric"), (), _ANY[:2]),
    "evoc": Method("imagescape.cluster.layers:EVoC", ("min_cluster_size", "min_samples", "neighbors"), (), ("cosine",)),
}


@dataclass(frozen=True, slots=True)
class Clustered:
    """What `cluster` wrote.

    Attributes:
        name, method: Of the clustering.
        source: What was clustered: "features 'F'" or "a place on the map 'M'".
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
        settings: Of the method, see `Method.settings`; `seed` for all. k may be "auto": the best of `choose_k`.

    Raises:
        InputError: an unknown method or setting, no such features or map, a name that is taken, or as the method.
    """
    check_name(name)
    _check_free(scape, name, overwrite)
    if features_name is not None and map_name is not None:
        raise InputError("features and a map cannot both be clustered; name one of them")
    check_settings(method, settings)
    way = METHODS[method]
    if nearest and not hasattr(way.estimator, "predict_nearest"):
        raise InputError(f"--method {method} leaves no noise that could go to the nearest cluster; leave --nearest out")
    source = Source(scape, None if map_name is not None else features_name or last_features(scape), map_name)
    metric = source.metric(way, settings.pop("metric", None))
    rows = _meeting(scape, where) & source.usable(metric)
    if not rows.any():
        raise InputError(f"no image has {source}" + (f' and meets the condition "{where}"' if where else ""))
    vectors = source.vectors(metric)[rows]
    seed = int(settings.pop("seed", None) or 0)
    choice = _choice(vectors, metric, seed) if settings.get("k") == "auto" else None
    if choice is not None:
        settings["k"] = choice.k
    if metric:
        settings["metric"] = metric
    model = way.estimator(**settings, random_state=seed)
    about = {"clustering": {"method": method, "metric": metric, "where": where}, **source.about}
    _fit(scape, name, method, model, vectors, {**about, "rows": len(vectors), "settings": settings, "seed": seed})
    labellings = {"": model.labels_, **getattr(model, "labellings_", {})}
    columns = {_column(name, part): np.asarray(labels, np.int64) for part, labels in labellings.items()}
    found = {column: (int(labels.max(initial=-1)) + 1, int((labels < 0).sum())) for column, labels in columns.items()}
    columns[_column(name, "probability")] = _of_own(model.probabilities_, model.labels_)
    if nearest:
        columns[_column(name, "nearest")] = model.nearest_
    model.save(scape.path / "models" / name, **about)
    replace_columns(scape, name, ids_of(scape)[rows], columns)
    left_out = int((_meeting(scape, where, "status = 'ok'") & ~rows).sum())
    hint = _hint(model, found[_column(name, "")])
    return Clustered(name, method, str(source), found, int(rows.sum()), left_out, choice, hint)


def _fit(scape: Collection, name: str, method: str, model: Any, vectors: np.ndarray, asked: dict[str, Any]) -> None:
    if METHODS[method].learns:
        run_folder = scape.path / "runs" / name
        with run_in(run_folder, asked):
            model.fit(vectors, run_folder=run_folder)
        return
    model.fit(vectors)


def _column(name: str, part: str) -> str:
    return f"cluster_{name}_{part}" if part else f"cluster_{name}"


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
    if name not in cluster_names(scape):
        here = ", ".join(cluster_names(scape)) or "none yet"
        raise InputError(f"no clustering is called '{name}' in '{scape.path}'; there are: {here}")
    known = cluster_labels(scape, name)[1]
    config = read_config(scape.path / "models" / name)
    about = config.get("clustering")
    if about is None:
        raise CheckpointError(f"the model in {scape.path / 'models' / name} is none of a clustering; cluster again")
    source = Source(scape, config.get("features"), config.get("map"))
    source.check_same(config)
    metric, way, there = about["metric"], METHODS[about["method"]], cluster_columns(scape, name)
    rows = _meeting(scape, about["where"]) & source.usable(metric) & ~known
    if not rows.any():
        return 0
    model = way.estimator.load(scape.path / "models" / name, **({"device": device} if way.learns else {}))
    vectors = source.vectors(metric)[rows]
    columns: dict[str, np.ndarray] = {}
    if isinstance(model, Clusterer):
        labels, columns[_column(name, "probability")] = model.assign(vectors)
        columns |= {_column(name, part): own for part, own in model.predict_labellings(vectors).items()}
    else:
        labels = np.asarray(model.predict(vectors), np.int64)
        columns[_column(name, "probability")] = _of_own(model.predict_proba(vectors), labels)
    if isinstance(model, DensityClusterer):
        columns[_column(name, "nearest")] = model.predict_nearest(vectors)
    columns[_column(name, "")] = labels
    scape.update(ids_of(scape)[rows], {column: values for column, values in columns.items() if column in there})
    for named in (column.removeprefix("cluster_") for column in there):
        if (scape.path / "runs" / named / "naming.json").exists():
            name_clusters(scape, named, device=device)  # nothing new is asked; the new images get their names
    return int(rows.sum())


def check_settings(method: str, settings: dict[str, Any]) -> None:
    """Refuse an unknown method, a setting that is another's, and the lack of one that it needs.

    Raises:
        InputError: says which, in the words of the command line.
    """
    if method not in METHODS:
        raise InputError(f"method must be one of {', '.join(METHODS)}, got '{method}'")
    way = METHODS[method]
    if wrong := sorted(settings.keys() - {*way.settings, "seed"}):
        takes = ", ".join(f"--{one.replace('_', '-')}" for one in way.settings)
        raise InputError(f"--method {method} takes no --{wrong[0].replace('_', '-')}; it takes {takes}")
    if missing := [one for one in way.needs if settings.get(one) is None]:
        how = "a number of clusters, or auto" if missing[0] == "k" else "one or several, with commas between"
        raise InputError(f"--method {method} needs --{missing[0].replace('_', '-')}: {how}")
    if method == "ward" and settings.get("k") is None and not settings.get("cuts"):
        raise InputError("--method ward needs --k (a number of clusters, or auto) or --cuts")


class Source:
    """What is clustered: features or a map, as vectors in table order, and whose they are."""

    def __init__(self, scape: Collection, features_name: str | None, map_name: str | None) -> None:
        self._scape, self._features, self._map = scape, features_name, map_name
        self._values = map_coords(scape, map_name) if map_name else features(scape, str(features_name))
        self._present = np.isfinite(self._values).all(axis=1)

    @property
    def is_map(self) -> bool:
        return self._map is not None

    def __str__(self) -> str:
        return f"a place on the map '{self._map}'" if self._map else f"features '{self._features}'"

    @cached_property
    def is_hash(self) -> bool:
        if self._map:
            return False
        return bool(self._scape.schema.field(f"features_{self._features}").type.value_type == pa.uint8())

    @property
    def about(self) -> dict[str, Any]:
        """What `config.json` says of it."""
        if self._map:
            return {"map": self._map, "map_identity": self._map_identity()}
        identity = features_identity(self._scape, str(self._features))
        return {"features": self._features, "features_identity": identity}

    def check_same(self, config: dict[str, Any]) -> None:
        """CheckpointError where it is not what `about` told of when the model was made."""
        if self._map:
            same = config["map_identity"] == self._map_identity()
        else:
            own, made_from = features_identity(self._scape, str(self._features)), config["features_identity"]
            same = own == made_from or same_encoder(own, made_from)  # columns of the user's own say nothing
        if not same:
            made = f"map '{self._map}' is" if self._map else f"features '{self._features}' are"
            raise CheckpointError(f"the {made} not what the clusters were made from; cluster again with --overwrite")

    def _map_identity(self) -> str:
        """SHA-256 of the map's weights; "" where its library keeps none, and then it places no new images."""
        path = self._scape.path / "models" / str(self._map) / "weights.safetensors"
        if not path.exists():
            return ""
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def metric(self, way: Method, asked: str | None) -> str:
        """What near means: what was asked for, or what suits the vectors; "" for a method with a way of its own."""
        if not way.metrics:
            return ""
        # Bits without packing are numbers, and places on a map have no direction from its origin.
        unfit = ("cosine", "hamming") if self._map else () if self.is_hash else ("hamming",)
        fitting = [one for one in way.metrics if one not in unfit]
        if not fitting:
            raise InputError("this method compares directions, and places on a map have none; cluster features")
        if asked is not None and asked not in fitting:
            raise InputError(f"metric must be one of {', '.join(fitting)} for {self}, got '{asked}'")
        usual = "hamming" if self.is_hash else "cosine"
        return asked or (usual if usual in fitting else fitting[0])

    def usable(self, metric: str) -> np.ndarray:
        """Rows that are there, and have a direction where that is what is compared; (rows,) bool."""
        return self._present & (self._values.any(axis=1) if metric == "cosine" else True)

    def vectors(self, metric: str) -> np.ndarray:
        """(rows, d) as the method takes them, of hashes bytes for "hamming" and else bits; of no use where none are."""
        if not self.is_hash:
            return self._values
        packed = np.where(self._present[:, None], self._values, 0).astype(np.uint8)
        return packed if metric == "hamming" else np.unpackbits(packed, axis=1).astype(np.float32)


def _check_free(scape: Collection, name: str, overwrite: bool) -> None:
    if name in cluster_names(scape):
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
    part = re.compile(rf"{re.escape(name)}_(probability|nearest|name|\d+|eps[\w-]+)")
    if others := [one for one in cluster_names(scape) if part.fullmatch(one)]:
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
    if found[0] > 1 or not hasattr(model, "core_distances_"):
        return ""
    low, middle, high = np.quantile(model.core_distances_, (0.1, 0.5, 0.9))
    return (
        f"a tenth, half and nine tenths of the images are dense at eps {low:.3g}, {middle:.3g} and {high:.3g}: "
        "try --eps between"
    )
