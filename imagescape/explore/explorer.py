"""One collection being explored: its order, and what was read or worked out of it, kept as far as memory allows."""

import os
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from imagescape.collection.results import can_be_drawn, features_identity, map_names
from imagescape.collection.store import Collection
from imagescape.collection.vectors import Places
from imagescape.errors import InputError
from imagescape.explore.columns import Column, column_of, sources_of
from imagescape.explore.kept import Kept
from imagescape.explore.order import Order, Orders
from imagescape.explore.tiles import Tiles
from imagescape.pipeline.annotations import TAGS, Annotations

KEPT_BYTES = 512 << 20
TILED_ABOVE = 3_000_000  # rows; a page cannot hold more points at once

T = TypeVar("T")


class Missing(InputError):
    """No image, map, column, queue of that name."""


class Explorer:
    """What a server, a static page and a notebook read and change. Safe to use from many threads.

    Args:
        scape: The collection.
        read_only: Refuse every change; also where the folder cannot be written to.
        engine: Of searches, see `pipeline.similarity.Searcher`.
        device: Where networks and exact search run.

    Attributes:
        scape: The collection.
        orders: Which images rows are.
        annotations: Acts of persons.
        is_read_only: Whether changes are refused.
    """

    def __init__(
        self, scape: Collection, *, read_only: bool = False, engine: str = "exact", device: str = "auto"
    ) -> None:
        self.scape, self.engine, self.device = scape, engine, device
        self.is_read_only = read_only or not os.access(scape.path, os.W_OK)
        self.orders = Orders(scape)
        self.annotations = Annotations(scape)
        self._kept = Kept(KEPT_BYTES)
        self._places: Places | None = None
        self._places_lock = threading.Lock()

    def keep(self, key: tuple[Any, ...], make: Callable[[], T], size: Callable[[T], int]) -> T:
        """What `make()` gives, worked out once for a key; `size` says how many bytes it takes."""
        value: T = self._kept.get(key, make, size)
        return value

    # -- columns ------------------------------------------------------------------------------------------------------

    def column(self, order: Order, name: str) -> Column:
        """A column to colour by, filter by or read; Missing where there is none."""
        key = ("column", name, order.token, self.written(name))
        return self.keep(key, lambda: column_of(self.scape, order, name), lambda one: one.nbytes)

    def written(self, name: str) -> str:
        """A token of the values of a shown column; Missing where there is none."""
        try:
            return self.scape.written(sources_of(self.scape, name))
        except InputError as error:
            raise Missing(str(error)) from error

    def tags(self) -> pa.Array:
        """The tags of every row of the table, null where there are none."""
        if TAGS not in self.scape.columns:
            return pa.nulls(0, pa.list_(pa.string()))
        return self.scape.read([TAGS])[TAGS].combine_chunks()

    # -- maps ---------------------------------------------------------------------------------------------------------

    def maps(self) -> list[str]:
        """Maps of two dimensions, in the order they were made."""
        return [name for name in map_names(self.scape) if can_be_drawn(self.scape, name)]

    def map_written(self, name: str) -> str:
        """A token of the coordinates of a map; Missing where there is none."""
        if name not in self.maps():
            raise Missing(f"no map is called '{name}'; there are: {', '.join(self.maps()) or 'none yet'}")
        return self.scape.written([f"x_{name}", f"y_{name}"])

    def coords(self, order: Order, name: str) -> np.ndarray:
        """Coordinates (n, 2) float32 of a map in an order, NaN for images that are not on it; Missing without the map."""

        def read() -> np.ndarray:
            table = order.read(self.scape, [f"x_{name}", f"y_{name}"])
            coords = np.column_stack([table[axis].to_numpy().astype(np.float32) for axis in (f"x_{name}", f"y_{name}")])
            coords[~np.isfinite(coords).all(axis=1)] = np.nan
            return coords

        key = ("map", name, order.token, self.map_written(name))
        return self.keep(key, read, lambda coords: coords.nbytes)

    def tiles(self, order: Order, name: str) -> Tiles:
        """The quadtree of a map; Missing without the map."""
        key = ("tiles", name, order.token, self.map_written(name))
        return self.keep(key, lambda: Tiles.of(self.coords(order, name), order.numbers), lambda tiles: tiles.nbytes)

    # -- images -------------------------------------------------------------------------------------------------------

    def take(self, numbers: np.ndarray, columns: list[str]) -> pa.Table:
        """Rows of images by their numbers, in their order and with image_id; none of those that are not in the table."""
        with self._places_lock:
            if self._places is None:
                self._places = Places(self.scape)
            return self._places.take(numbers, columns)

    def features_written(self, name: str) -> str:
        """A token of features and of which images can be used."""
        signed = features_identity(self.scape, name).get("written", "")
        return self.scape.written([f"features_{name}", "status"]) + signed
