"""Which images are neighbours in a column of features: the positives of maps, and of learning from neighbours."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from imagescape.collection.results import check_features, features, features_identity, ids_of, last_features
from imagescape.collection.store import Collection
from imagescape.errors import InputError
from imagescape.evaluate.neighbors import Metric, nearest_others
from imagescape.learn.neighbormap import COMPONENTS
from imagescape.learn.placing import Components
from imagescape.learn.recipe import Recipe
from imagescape.pipeline.similarity import without_own
from imagescape.runtime import track
from imagescape.search.index import Index, build_index

# Comparing every row with every other is fine up to here; beyond, an index that looks at some of them.
EXACT_ROWS = 200_000
# Of an image, that are its positives.
NEIGHBORS = 10


def vectors_of(scape: Collection, name: str) -> np.ndarray:
    """Features (rows, d) whose Euclidean distance means something: of hashes, their bits. NaN for rows without."""
    vectors = features(scape, name)
    if scape.schema.field(f"features_{name}").type.value_type != pa.uint8():
        return vectors
    present = np.isfinite(vectors[:, 0])
    bits = np.full((len(vectors), 8 * vectors.shape[1]), np.nan, np.float32)
    bits[present] = np.unpackbits(vectors[present].astype(np.uint8), axis=1)
    return bits


def graph_of_images(
    scape: Collection, name: str, ids: np.ndarray, k: int, *, metric: Metric = "euclidean", seed: int, device: str
) -> np.ndarray:
    """Neighbours of the images `ids` among themselves, by their features `name`: (len(ids), k), positions in `ids`.

    An image without such features is its own neighbour; the collection may hold some that were added since.

    Raises:
        InputError: fewer than 2 of the images have such features.
    """
    order = {one: row for row, one in enumerate(ids_of(scape))}
    vectors = vectors_of(scape, name)[[order[one] for one in ids]]
    here = np.flatnonzero(np.isfinite(vectors).all(axis=1))
    if len(here) < 2:
        raise InputError(f"neighbours need at least 2 images with features '{name}', there are {len(here)}")
    inputs = Components.of(vectors[here], COMPONENTS).project(vectors[here])
    graph = np.repeat(np.arange(len(ids))[:, None], k, axis=1)
    if len(here) > EXACT_ROWS:
        graph[here] = here[approximate_graph(inputs, k, metric=metric, seed=seed)]
    else:
        found = nearest_others(inputs, min(k, len(here) - 1), metric=metric, device=device).indices
        graph[here, : found.shape[1]] = here[found]
    return graph


def approximate_graph(inputs: np.ndarray, k: int, *, metric: Metric, seed: int) -> np.ndarray:
    """Neighbours of very many rows, (n, k), by an index that looks at some of them."""
    rows = np.arange(len(inputs))
    index = index_of_many(inputs, metric=metric, seed=seed)
    graph = np.empty((len(inputs), k), np.int64)
    with track("neighbours", len(inputs)) as progress:
        for here in np.array_split(rows, math.ceil(len(rows) / 4096)):
            others = without_own(index.search(inputs[here], k + 1), here, k).ids
            graph[here] = np.where(others < 0, here[:, None], others)  # too few in the lists it saw: its own, no pull
            progress.advance(len(here))
    return graph


def index_of_many(inputs: np.ndarray, *, metric: Metric, seed: int) -> Index:
    """An index over very many rows, under their positions, that looks at some of them for each query."""
    lists = 2 ** round(math.log2(4 * math.sqrt(len(inputs))))
    engine = f"IVF{lists},Flat"
    return build_index(inputs, np.arange(len(inputs)), engine=engine, metric=metric, seed=seed, search_width=8)


@dataclass(frozen=True)
class Positives:
    """Whose neighbours an image is paired with."""

    features: str
    neighbors: int

    @classmethod
    def of(
        cls, scape: Collection, settings: Mapping[str, Any], features_name: str | None, neighbors: int | None
    ) -> "Positives | None":
        """What is asked for; None where pairs are of one image twice.

        Raises:
            InputError: no such features, or features and no share of the pairs for their neighbours.
        """
        if not settings.get("neighbor_fraction"):
            if features_name is not None or neighbors is not None:
                raise InputError(
                    "features and neighbors say who else is a positive, and no pair is of neighbours: "
                    "set neighbor_fraction too, such as .5"
                )
            return None
        if neighbors is not None and neighbors < 1:
            raise InputError(f"neighbors must be at least 1, got {neighbors}")
        positives = cls(features_name or last_features(scape), neighbors or NEIGHBORS)
        check_features(scape, positives.features)
        return positives

    def graph(self, scape: Collection, ids: np.ndarray, recipe: Recipe) -> np.ndarray:
        return graph_of_images(scape, self.features, ids, self.neighbors, seed=recipe.seed, device=recipe.device)

    def about(self, scape: Collection) -> dict[str, Any]:
        identity = features_identity(scape, self.features)
        return {"features": self.features, "features_identity": identity, "neighbors": self.neighbors}
