"""`map --method neighbors` and its like: from a column of features to a map of them, and new images onto it."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from imagescape.collection.results import (
    check_name,
    columns_of,
    coord_columns,
    features_identity,
    ids_of,
    last_features,
    map_coords,
    replace_columns,
)
from imagescape.collection.store import Collection
from imagescape.errors import CheckpointError, InputError
from imagescape.features.extract import same_encoder
from imagescape.learn.encoder import FORMAT_VERSION, read_config, replace_folder
from imagescape.learn.neighbormap import COMPONENTS, FeatureMap, NeighborMap
from imagescape.learn.other_maps import TSNE, UMAP, LibraryMap, PaCMAP
from imagescape.learn.placing import Components
from imagescape.pipeline.graphs import EXACT_ROWS, approximate_graph, vectors_of
from imagescape.pipeline.runs import run_in

METHODS: dict[str, type[NeighborMap] | type[LibraryMap]] = {
    "neighbors": NeighborMap,
    "tsne": TSNE,
    "umap": UMAP,
    "pacmap": PaCMAP,
}


def map_features(
    scape: Collection,
    name: str,
    *,
    method: str = "neighbors",
    features_name: str | None = None,
    overwrite: bool = False,
    **settings: Any,
) -> FeatureMap:
    """Learn a map of the features `features_name` and write its columns, `x_<name>, y_<name>`.

    The model is kept in `models/<name>`; its `config.json` says whose features they are. Images without features are
    not on the map.

    Args:
        scape: The collection.
        name: Of the map; letters, digits, `_` and `-`.
        method: "neighbors", or "tsne", "umap", "pacmap" by their own libraries, to compare with.
        features_name: Which features; None: those made last.
        overwrite: Replace a map of that name.
        settings: Of the method, as its class takes them; `seed` for all.

    Raises:
        InputError: an unknown method or setting, no such features, or a name that is taken.
        Interrupted: Ctrl-C.
    """
    if method not in METHODS:
        raise InputError(f"method must be one of {', '.join(METHODS)}, got '{method}'")
    check_name(name)
    features_name = features_name or last_features(scape)
    if columns_of(scape, name) and not overwrite:
        raise InputError(f"'{scape.path.name}' has '{name}' already; choose another --name or --overwrite it")
    if f"features_{name}" in scape.columns:
        raise InputError(f"'{name}' is the name of features, which a map of that name would replace; choose another")
    seed = settings.pop("seed", None)
    if seed is not None:
        settings["random_state"] = seed
    vectors = vectors_of(scape, features_name)
    here = np.isfinite(vectors).all(axis=1)
    if here.sum() < 4:
        raise InputError(f"a map needs at least 4 images with features '{features_name}', there are {here.sum()}")
    ids, vectors = ids_of(scape)[here], vectors[here]
    about = {"features": features_name, "features_identity": features_identity(scape, features_name)}
    model: FeatureMap
    if method == "neighbors":
        model = _fit_neighbors(scape, name, vectors, settings, about)
    else:
        model = METHODS[method](**settings).fit(vectors)
        config = {"format_version": FORMAT_VERSION, "recipe": {"method": type(model).__name__}, **about}
        _write_config(scape.path / "models" / name, config)
    replace_columns(scape, name, ids, coord_columns(name, model.coords_))
    return model


def _fit_neighbors(
    scape: Collection, name: str, vectors: np.ndarray, settings: Mapping[str, Any], about: Mapping[str, Any]
) -> NeighborMap:
    model, run_folder = NeighborMap(**settings), scape.path / "runs" / name
    with run_in(run_folder, {**about, "rows": len(vectors), "settings": asdict(model.recipe)}):
        graph = None
        if len(vectors) > EXACT_ROWS:
            inputs, recipe = Components.of(vectors, COMPONENTS).project(vectors), model.recipe
            graph = approximate_graph(inputs, recipe.neighbors, metric=recipe.metric, seed=recipe.seed)
        model.fit(vectors, graph=graph, run_folder=run_folder)
        model.save(scape.path / "models" / name, **about)
    return model


def is_feature_map(scape: Collection, name: str) -> bool:
    """Whether the map `name` is one of features, and not of pixels."""
    return "features" in _config_of(scape, name)


def features_of_map(scape: Collection, name: str) -> str | None:
    """The name of the features that the map `name` was made from; None when they are not in the collection."""
    source = str(_config_of(scape, name).get("features", name))
    return source if f"features_{source}" in scape.columns else None


def place_new_features(scape: Collection, name: str, *, device: str = "auto") -> int:
    """Put images on a map of features that have them and are not on it yet; how many there were.

    Raises:
        CheckpointError: the map is a library's and cannot be taken up again, or the features are not those it was
            made from.
    """
    config = _config_of(scape, name)
    source = config["features"]
    if not same_encoder(features_identity(scape, source), config["features_identity"]):
        raise CheckpointError(
            f"features '{source}' are not those that the map '{name}' was made from; map again with --overwrite"
        )
    vectors = vectors_of(scape, source)
    missing = np.isnan(map_coords(scape, name)[:, 0]) & np.isfinite(vectors).all(axis=1)
    if not missing.any():
        return 0
    if config["recipe"]["method"] != "NeighborMap":
        raise CheckpointError(
            f"'{name}' is a map by {config['recipe']['method']}, which is not kept: its library saves no model that is "
            "safe to load. Map again with --overwrite, or with --method neighbors"
        )
    model = NeighborMap.load(scape.path / "models" / name, device=device)
    scape.update(ids_of(scape)[missing], coord_columns(name, model.transform(vectors[missing])))
    return int(missing.sum())


def _config_of(scape: Collection, name: str) -> dict[str, Any]:
    return read_config(scape.path / "models" / name)


def _write_config(folder: Path, config: Mapping[str, Any]) -> None:
    def write(part: Path) -> None:
        (part / "config.json").write_text(json.dumps(config, indent=2))

    replace_folder(folder, write)
