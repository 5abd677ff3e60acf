"""`evaluate --finetuning`: what a run of `finetune` did to retrieval, to thresholds, and to how groups spread."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from imagescape.cluster.geometry import FIGURES, Geometry, cluster_geometry
from imagescape.collection.cache import Rows, cached_pixels
from imagescape.collection.clusterings import cluster_labels
from imagescape.collection.results import classes, ids_of
from imagescape.collection.store import Collection
from imagescape.errors import CheckpointError, InputError
from imagescape.evaluate.looks import Look, table, worst_family
from imagescape.evaluate.splits import encode_labels
from imagescape.features.encoders import open_encoder
from imagescape.learn.encoder import Encoder, load_weights, read_config
from imagescape.learn.watch import features_path, read_looks, weights_path
from imagescape.pipeline.finetuning import GUARD_FILE
from imagescape.runtime import seed_for, track

_MOST_ENCODED = 1000  # images; each network of the run has to encode them all


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuningFigures:
    """What a run of `finetune` did.

    Attributes:
        name, encoder, recipe: Of the new encoder, of what it began with, and how it was trained.
        looks: Every look of the guard, "before" first.
        kept: The look at `models/NAME`.
        geometries: Of the same groups of images, by what the network is called: before, and after some epochs.
            Features are brought to unit length first, so that networks compare.
        groups: What the groups are.
    """

    name: str
    encoder: str
    recipe: str
    looks: tuple[Look, ...]
    kept: Look
    geometries: dict[str, Geometry]
    groups: str

    @property
    def regressed(self) -> bool:
        return self.kept.score < self.looks[0].score

    def as_dict(self) -> dict[str, Any]:
        plain = {one: getattr(self, one) for one in ("name", "encoder", "recipe", "groups", "regressed")}
        return {
            **plain,
            "looks": [look.as_dict() for look in self.looks],
            "kept": self.kept.name,
            "geometry": {name: one.summary() for name, one in self.geometries.items()},
        }

    def __str__(self) -> str:
        lines = [table(self.looks), f"kept: {self.kept.name}"]
        family, change = worst_family(self.looks[0], self.kept)
        lines.append(f"worst change of recall@1 of a kind of alteration: {family} {100 * change:+.1f} points")
        lines.append(f"\nmedians of the geometry of {self.groups}, features of unit length")
        width = max(len(name) for name in self.geometries)
        lines.append(f"{'network':<{width}}  " + "  ".join(f"{name:>20}" for name in FIGURES))
        for name, one in self.geometries.items():
            summary = one.summary()
            cells = (f"{summary[figure]['median']:.4g}" if figure in summary else "" for figure in FIGURES)
            lines.append(f"{name:<{width}}  " + "  ".join(f"{cell:>20}" for cell in cells))
        return "\n".join(lines)


def finetuning_figures(
    scape: Collection,
    name: str,
    *,
    label: str | None = None,
    clusters: str | None = None,
    seed: int = 0,
    device: str = "auto",
) -> FinetuningFigures:
    """Read what a run of `finetune` left, and measure how groups of images spread as it went on.

    Args:
        scape: The collection.
        name: Of the run.
        label: A column of classes: the groups. 1,000 images at most are encoded by each network.
        clusters: Or a clustering. None of both: a picture that stood guard and its altered copies are a group.
        seed: Chooses images among more.
        device: Where networks run.

    Raises:
        InputError: no such run, column or clustering; or both are given.
        CheckpointError: what the run left is not there any more.
    """
    if label is not None and clusters is not None:
        raise InputError("groups are classes or clusters: give --label or --clusters, not both")
    folder, model = scape.path / "runs" / name, scape.path / "models" / name
    looks = read_looks(folder)
    if not looks or not model.is_dir():
        raise InputError(f"'{name}' is no run of `imagescape finetune` in '{scape.path}' that is finished")
    recipe = read_config(model)["recipe"]
    kept = Look.from_dict(recipe["kept"])
    if label is None and clusters is None:
        geometries, groups = _of_copies(folder, looks, device), "pictures and their altered copies"
    else:
        rows, labels = _grouped(scape, label, clusters, seed)
        geometries = _of_images(scape, name, recipe["began_with"], looks, rows, labels, device)
        groups = f"classes '{label}'" if label is not None else f"clusters '{clusters}'"
    return FinetuningFigures(
        name=name,
        encoder=recipe["began_with"],
        recipe=recipe["recipe"],
        looks=tuple(looks),
        kept=kept,
        geometries=geometries,
        groups=groups,
    )


def _on_the_way(looks: list[Look]) -> list[Look]:
    """Before, and each epoch that was looked at; not the ways back."""
    return [one for one in looks if one.name in ("before", "whitened", f"epoch {one.epoch}")]


def _of_copies(folder: Path, looks: list[Look], device: str) -> dict[str, Geometry]:
    """The geometry of each original with its copies, from the features that were kept at every look."""
    try:
        with np.load(folder / GUARD_FILE) as guard:
            truth, originals = guard["truth"], guard["originals"]
        geometries = {}
        for look in _on_the_way(looks):
            with np.load(features_path(folder, look.name)) as kept:
                database, queries = kept["database"], kept["queries"]
            there = truth >= 0
            rows = np.concatenate([database[np.unique(truth[there])], queries])
            first = originals[there][np.unique(truth[there], return_index=True)[1]]
            labels = np.concatenate([first, originals])
            geometries[look.name] = cluster_geometry(_unit(rows), labels, device=device)
    except (OSError, KeyError, ValueError) as error:
        raise CheckpointError(f"the features of the guard are not in {folder} any more ({error})") from error
    return geometries


def _grouped(scape: Collection, label: str | None, clusters: str | None, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids of the images that are in a group, and which; a random part of them where they are many."""
    if label is not None:
        labels = encode_labels(classes(scape, label)).codes
    else:
        assert clusters is not None
        labels, _ = cluster_labels(scape, clusters)
    rows = np.flatnonzero(labels >= 0)
    order = np.random.default_rng(seed_for(seed, "finetuning")).permutation(rows)[:_MOST_ENCODED]
    rows = np.sort(order)
    if len(np.unique(labels[rows])) < 2:
        raise InputError(f"geometry needs images of at least 2 groups, there are {len(np.unique(labels[rows]))}")
    return ids_of(scape)[rows], labels[rows]


def _of_images(
    scape: Collection, name: str, began_with: str, looks: list[Look], ids: np.ndarray, labels: np.ndarray, device: str
) -> dict[str, Geometry]:
    """The geometry of groups of the collection's images, by every network of the run."""
    folder = scape.path / "runs" / name
    on_the_way = _on_the_way(looks)
    geometries: dict[str, Geometry] = {}
    with track("networks of the run", len(on_the_way), unit="networks") as progress:
        for look, encoder in _networks(scape, name, began_with, folder, on_the_way, device):
            way = encoder.preprocessing
            cached = cached_pixels(scape, way.cache_px, way.fit, way.resample)
            place = {one: row for row, one in enumerate(cached.ids.tolist())}
            here = np.array([one in place for one in ids.tolist()])
            rows = np.array([place[one] for one in ids[here].tolist()])
            features = encoder.encode_pixels(Rows(cached.pixels, rows), quiet=True)[0]
            geometries[look.name] = cluster_geometry(_unit(features), labels[here], device=device)
            progress.advance()
    return geometries


def _networks(
    scape: Collection, name: str, began_with: str, folder: Path, looks: list[Look], device: str
) -> Iterator[tuple[Look, Encoder]]:
    for look in looks:
        if look.name == "before":
            yield look, open_encoder(began_with, models=scape.path / "models", device=device)
            continue
        path = weights_path(folder, look.epoch)
        if not path.exists():
            raise CheckpointError(f"the weights of {look.name} are not in {path.parent} any more")
        encoder = Encoder.load(scape.path / "models" / name, device=device)
        load_weights(encoder.network, path)
        yield look, encoder


def _unit(rows: np.ndarray) -> np.ndarray:
    rows = rows.astype(np.float32)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
