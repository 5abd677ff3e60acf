"""`train`, `map` and `evaluate`: from the images of a collection to an encoder, a map, and what they are worth."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from imagescape.collection.cache import Rows, cached_pixels
from imagescape.collection.results import (
    check_name,
    classes,
    columns_of,
    coord_columns,
    features,
    ids_of,
    map_coords,
    map_names,
    replace_columns,
    sign_features,
)
from imagescape.collection.store import Collection
from imagescape.errors import CheckpointError, InputError, Interrupted
from imagescape.evaluate.scorecard import Scorecard, score_map
from imagescape.features.extract import identity_of
from imagescape.learn.encoder import Encoder, replace_folder
from imagescape.learn.estimator import ContrastiveEstimator, OtherRun
from imagescape.learn.simclr import SimCLR
from imagescape.learn.train import read_metrics
from imagescape.learn.tsimcne import TSimCNE
from imagescape.pipeline.feature_maps import METHODS as FEATURE_METHODS
from imagescape.pipeline.feature_maps import features_of_map, is_feature_map, place_new_features
from imagescape.pipeline.graphs import Positives
from imagescape.runtime import is_main_process

METHODS: dict[str, type[ContrastiveEstimator]] = {"tsimcne": TSimCNE}
TRAINERS: dict[str, type[ContrastiveEstimator]] = {"simclr": SimCLR}
_FINISHED = "finished"


class _Images:
    """The usable images of a collection for an estimator, and whose they were."""

    def __init__(self, scape: Collection) -> None:
        self._scape = scape
        self.ids = np.empty(0, "U16")

    def __len__(self) -> int:
        count = self._scape.count("status = 'ok'")
        self._check(count)
        return count

    def _check(self, count: int) -> None:
        if not count:
            raise InputError(f"'{self._scape.path}' has no readable image; see: imagescape info --flagged")

    def native_px(self) -> int | None:
        return self._scape.native_px()

    def pixels(self, size_px: int, fit: Any = "crop", resample: Any = "bicubic") -> Any:
        cached = cached_pixels(self._scape, size_px, fit, resample)
        self._check(len(cached.ids))
        self.ids = cached.ids
        return cached.pixels


def map_images(
    scape: Collection,
    name: str,
    *,
    method: str = "tsimcne",
    overwrite: bool = False,
    checkpoint_minutes: float = 5,
    keep_stages: bool = False,
    snapshot_epochs: int | None = None,
    features_name: str | None = None,
    neighbors: int | None = None,
    **settings: Any,
) -> ContrastiveEstimator:
    """Learn a map of the collection and write its columns: `x_<name>, y_<name>, features_<name>`.

    The model is kept in `models/<name>`, settings, versions and metrics in `runs/<name>`. A run
    that was stopped goes on where it was when called again with the same settings.

    Args:
        scape: The collection.
        name: Of the map; letters, digits, `_` and `-`.
        method: "tsimcne".
        overwrite: Replace a map of that name, or an unfinished run of other settings.
        checkpoint_minutes: How often the state of the training is saved.
        keep_stages: Write the map after each stage too: `x_<name>_stage1, y_<name>_stage1`, …; of more than 3
            dimensions the first 2 principal components.
        snapshot_epochs: Save the map every so many epochs, in `runs/<name>/snapshots`.
        features_name, neighbors: With `neighbor_fraction` among the settings: in which features an image's neighbours
            are found, and how many; None: the features made last, and 10.
        settings: Of the method, as its class takes them.

    Raises:
        InputError: an unknown method, a bad setting, or a name that is taken.
        Interrupted: Ctrl-C.
    """
    if method not in METHODS:
        known = (*METHODS, *FEATURE_METHODS)
        raise InputError(f"method must be one of {', '.join(known)}, got '{method}'")
    _check_free(scape, name, overwrite)
    if keep_stages and (
        others := [one for one in map_names(scape) if re.fullmatch(rf"{re.escape(name)}_stage\d+", one)]
    ):
        raise InputError(f"the map {others[0]} has the columns of a stage of '{name}'; choose another --name")
    options = {"checkpoint_minutes": checkpoint_minutes, "keep_stages": keep_stages, "snapshot_epochs": snapshot_epochs}
    positives = Positives.of(scape, settings, features_name, neighbors)
    model, ids = _fit(scape, name, METHODS[method], overwrite, positives, options, settings)
    columns = coord_columns(name, model.coords_) | {f"features_{name}": model.features_.astype(np.float16)}
    for number, coords in enumerate(model.stage_coords_, 1):
        columns |= coord_columns(f"{name}_stage{number}", coords)
    _finish(scape, name, ids, columns, model)
    return model


def train_encoder(
    scape: Collection,
    name: str,
    *,
    method: str = "simclr",
    overwrite: bool = False,
    checkpoint_minutes: float = 5,
    features_name: str | None = None,
    neighbors: int | None = None,
    **settings: Any,
) -> ContrastiveEstimator:
    """Learn features of the collection: the model in `models/<name>`, and the column `features_<name>`.

    Arguments and errors as for `map_images`.
    """
    if method not in TRAINERS:
        raise InputError(f"method must be one of {', '.join(TRAINERS)}, got '{method}'")
    _check_free(scape, name, overwrite)
    positives, options = (
        Positives.of(scape, settings, features_name, neighbors),
        {"checkpoint_minutes": checkpoint_minutes},
    )
    model, ids = _fit(scape, name, TRAINERS[method], overwrite, positives, options, settings)
    _finish(scape, name, ids, {f"features_{name}": model.features_.astype(np.float16)}, model)
    return model


def _fit(
    scape: Collection,
    name: str,
    method: type[ContrastiveEstimator],
    overwrite: bool,
    positives: Positives | None,
    options: dict[str, Any],
    settings: dict[str, Any],
) -> tuple[ContrastiveEstimator, np.ndarray]:
    estimator = method(**settings)
    run_folder, images = scape.path / "runs" / name, _Images(scape)
    if positives is not None:
        options = {**options, "graph": lambda: positives.graph(scape, images.ids, estimator.recipe)}
    if overwrite and (run_folder / _FINISHED).exists() and is_main_process():
        replace_folder(run_folder, lambda _: None)

    def train() -> ContrastiveEstimator:
        return estimator.fit(images, run_folder=run_folder, **options)

    try:
        try:
            model = train()
        except OtherRun:
            # An unfinished run of the same settings is taken up again, also when asked to overwrite.
            if not overwrite:
                raise
            if is_main_process():
                replace_folder(run_folder, lambda _: None)
            model = train()
    except Interrupted as stop:
        raise Interrupted(f"{stop}; run the same command again to go on from there") from stop
    if is_main_process():
        model.save(scape.path / "models" / name, **({} if positives is None else {"positives": positives.about(scape)}))
    return model, images.ids


def _finish(
    scape: Collection, name: str, ids: np.ndarray, columns: Mapping[str, np.ndarray], model: ContrastiveEstimator
) -> None:
    """Write the columns of a run, and mark it as finished; one of several processes does."""
    if not is_main_process():
        return
    replace_columns(scape, name, ids, columns)
    assert model.encoder_ is not None, "it was fitted"
    sign_features(scape, name, {**identity_of(model.encoder_), "encoder": name})
    (scape.path / "runs" / name / _FINISHED).touch()


def map_new_images(scape: Collection, name: str, *, device: str = "auto") -> int:
    """Place images that were added since on the map `name`, by the network that made it; how many there were."""
    coords = map_coords(scape, name)
    missing = np.isnan(coords[:, 0])
    if not missing.any():
        return 0
    if is_feature_map(scape, name):
        return place_new_features(scape, name, device=device)
    model = _load_model(scape, name, device)
    way = model.preprocessing
    cached = cached_pixels(scape, way.cache_px, way.fit, way.resample)
    wanted = np.flatnonzero(np.isin(cached.ids, ids_of(scape)[missing]))
    if not len(wanted):
        return 0
    features, coords = model.encode_pixels(Rows(cached.pixels, wanted))
    columns = coord_columns(name, coords) | {f"features_{name}": features.astype(np.float16)}
    scape.update(cached.ids[wanted], columns)
    return len(wanted)


def evaluate_map(
    scape: Collection, name: str, *, label: str | None = None, splits: int = 3, seed: int = 0, device: str = "auto"
) -> tuple[Scorecard, dict[str, Any]]:
    """Score a map and its features; the whole table, and the figures that scripts rely on.

    Args:
        scape: The collection.
        name: Of the map.
        label: A column of classes; None: only what needs no labels.
        splits: Stratified splits to average over.
        seed: Names the splits.

    Returns:
        The scorecard, and a dict with `knn15_accuracy, knn5_accuracy, silhouette,
        knn15_accuracy_features, knn15_recall, n, split` and every figure under `figures`.
    """
    coords = map_coords(scape, name)
    here = ~np.isnan(coords[:, 0])
    labels = None if label is None else classes(scape, label)[here]
    split_names = (
        np.array(scape.read(["split"])["split"].to_pylist(), object)[here] if "split" in scape.columns else None
    )
    source = features_of_map(scape, name)
    vectors = None if source is None else features(scape, source)[here]
    card = score_map(
        coords[here],
        features=vectors,
        labels=labels,
        split_names=split_names,
        splits=splits,
        seed=seed,
        device=device,
    )

    def figure(metric: str, space: str, split: str = "") -> float | None:
        try:
            return card.value(metric, space, split)
        except KeyError:
            return None

    tested = next((one.rows for one in card.figures if one.split == "stratified"), None)
    result = {
        "map": name,
        "label": label,
        "n": int(here.sum()),
        "split": {"kind": "stratified", "test_rows": tested, "repeats": splits, "seed": seed},
        "knn15_accuracy": figure("15-NN accuracy", "map", "stratified"),
        "knn5_accuracy": figure("5-NN accuracy", "map", "stratified"),
        "silhouette": figure("silhouette", "map"),
        "knn15_accuracy_features": figure("15-NN accuracy", "features", "stratified"),
        "knn15_recall": figure("15-NN recall", "features in map"),
        "figures": card.as_dicts(),
    }
    return card, result


def _check_free(scape: Collection, name: str, overwrite: bool) -> None:
    check_name(name)
    if not overwrite and (taken := columns_of(scape, name)):
        raise InputError(
            f"'{scape.path.name}' has '{name}' already ({', '.join(taken)}); choose another --name or --overwrite it"
        )


def _load_model(scape: Collection, name: str, device: str) -> Encoder:
    folder = scape.path / "models" / name
    if not folder.is_dir():
        raise CheckpointError(f"the model of '{name}' is not in {folder.parent}; map again with --overwrite")
    return Encoder.load(folder, device=device)


def training_history(scape: Collection, name: str) -> list[dict[str, Any]]:
    """Metrics of the run that made `name`.

    Raises:
        InputError: no such run.
    """
    path = scape.path / "runs" / name / "metrics.jsonl"
    if not path.exists():
        raise InputError(f"no run is called '{name}' in '{scape.path / 'runs'}'")
    return read_metrics(path)
