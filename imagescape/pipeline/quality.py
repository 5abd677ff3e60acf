"""`evaluate --quality`: the columns of a map, its model and other maps, to what they say of its quality."""

from collections.abc import Sequence

import numpy as np
import torch

from imagescape.collection.cache import Rows, cached_pixels
from imagescape.collection.results import classes, features, ids_of, map_coords
from imagescape.collection.store import Collection
from imagescape.errors import InputError
from imagescape.evaluate.map_quality import MapQuality, feature_recalls, group_agreement
from imagescape.evaluate.metrics import sample_rows
from imagescape.evaluate.stability import ViewConsistency, seed_stability, view_consistency
from imagescape.learn.augment import AUGMENTS
from imagescape.learn.encoder import Encoder, read_config
from imagescape.learn.pairs import Augmented
from imagescape.pipeline.feature_maps import features_of_map
from imagescape.runtime import seed_for, track

_VIEWED_IMAGES = 2_000


class _NotApplicable(Exception):
    """A figure has no meaning for this map; the message says why."""


def map_quality(
    scape: Collection,
    name: str,
    *,
    against: Sequence[str] = (),
    label: str | None = None,
    superclass: str | None = None,
    max_images: int = _VIEWED_IMAGES,
    seed: int = 0,
    device: str = "auto",
) -> MapQuality:
    """Measure what needs no labels: neighbours kept, views of an image, other maps; and superclasses where there are.

    The views are made as in the training of the map's model, of a random sample of the images, and are placed by the
    model in eval mode. Rows that are missing on any of the maps take no part in the comparison.

    Args:
        scape: The collection.
        name: Of the map.
        against: Other maps of the collection, with as many dimensions: of other seeds, to see what the seed decides.
        label: A column of classes to tell the norms by.
        superclass: A column of coarse classes.
        max_images: Images of which views are made, at most.
        seed: Names the samples, views and splits.
        device: Where to compute.

    Raises:
        InputError: no such map or column, maps that cannot be compared, or a map that is one point.
        CheckpointError: the map's model is damaged.
    """
    if name in against or len(set(against)) < len(against):
        raise InputError(f"a map is compared with others, each once; got '{name}' against {', '.join(against)}")
    maps = [map_coords(scape, one) for one in (name, *against)]
    here, everywhere = ~np.isnan(maps[0][:, 0]), np.all([~np.isnan(one[:, 0]) for one in maps], axis=0)
    coords = maps[0][here]
    groups = None if superclass is None else classes(scape, superclass)[here]
    labels = None if label is None else classes(scape, label)[here]
    source = features_of_map(scape, name)
    vectors = None if source is None else features(scape, source)[here]
    stability = seed_stability([one[everywhere] for one in maps], seed=seed) if against else None
    views, reason = None, ""
    try:
        views = _views(scape, name, coords, ids_of(scape)[here], max_images, seed, device)
    except _NotApplicable as why:
        reason = str(why)
    return MapQuality(
        name=name,
        rows=len(coords),
        recalls={} if vectors is None else feature_recalls(vectors, coords, seed=seed, device=device),
        views=views,
        views_missing=reason,
        others=tuple(against),
        compared_rows=int(everywhere.sum()) if against else 0,
        stability=stability,
        superclass=None
        if groups is None or superclass is None
        else group_agreement(coords, groups, superclass, seed=seed, device=device),
        feature_norms=None if vectors is None else np.linalg.norm(vectors, axis=1),
        coord_norms=np.linalg.norm(coords, axis=1),
        labels=labels,
    )


def _views(
    scape: Collection, name: str, coords: np.ndarray, ids: np.ndarray, max_images: int, seed: int, device: str
) -> ViewConsistency:
    folder = scape.path / "models" / name
    augment = _augmentation_of(read_config(folder), coords.shape[1])
    encoder = Encoder.load(folder, device=device)
    way = encoder.preprocessing
    cached = cached_pixels(scape, way.cache_px, way.fit, way.resample)
    # Both are in the order of the table, so what they have in common is too.
    rows, positions = np.flatnonzero(np.isin(ids, cached.ids)), np.flatnonzero(np.isin(cached.ids, ids))
    chosen = sample_rows(np.arange(len(rows)), max_images, seed)
    if len(chosen) < 2:
        raise _NotApplicable(f"views are compared with those of other images, and {len(chosen)} can be read")
    view = AUGMENTS[augment](size_px=way.size_px, mean=way.mean, std=way.std)
    pairs = Augmented(Rows(cached.pixels, positions[chosen]), view, encoder.device)  # type: ignore[arg-type]
    view_a, view_b = _placed_views(encoder, pairs, seed)
    return view_consistency(view_a, view_b, coords, rows=rows[chosen])


def _augmentation_of(config: dict, dimensions: int) -> str:
    """The name of the augmentation that a model of images was trained with."""
    augment = config.get("recipe", {}).get("augment")
    if augment is None or "preprocessing" not in config:
        raise _NotApplicable("the map's model was not trained on views of images")
    if augment not in AUGMENTS:
        raise _NotApplicable(f"the map's model was trained with an augmentation made in Python: {augment}")
    if config["architecture"]["backbone"] == "custom":
        raise _NotApplicable("the map's model stands on a backbone of the user's own")
    if config["architecture"]["out_features"] != dimensions:
        raise _NotApplicable("the map's model does not give its coordinates")
    return str(augment)


def _placed_views(encoder: Encoder, pairs: Augmented, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the model places two views of each image: (n, d) each."""
    placed: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    generator = torch.Generator(pairs.device)
    with track("views", len(pairs)) as tracker:
        for start in range(0, len(pairs), encoder.batch_size):
            index = np.arange(start, min(start + encoder.batch_size, len(pairs)))
            generator.manual_seed(seed_for(seed, "quality", start))
            for side, views in zip(placed, pairs.batch(index, generator), strict=True):
                side.append(encoder.project_views(views).cpu().numpy())
            tracker.advance(len(index))
    return np.concatenate(placed[0]), np.concatenate(placed[1])
