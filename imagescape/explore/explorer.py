"""One collection being explored: its order, and what was read or worked out of it, kept as far as memory allows."""

import os
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from imagescape.collection.results import can_be_drawn, features_identity, map_names
from imagescape.collection.store import Collection
from imagescape.collection.vectors import numbers_of
from imagescape.errors import CollectionError, InputError
from imagescape.explore.columns import Column, column_of, sources_of
from imagescape.explore.kept import Kept
from imagescape.explore.order import Order, Orders
from imagescape.explore.tiles import Tiles
from imagescape.pipeline.annotations import TAGS, Annotations

KEPT_BYTES = 512 << 20
TILED_ABOVE = 3_000_000  # rows; a page cannot hold more points at once

_ID = re.compile("[0-9a-f]{16}")
_TRIES = 3  # to read rows of a table that others change

T = TypeVar("T")


class Missing(InputError):
    """No image, map, column, queue of that name."""


def number_of(image_id: str) -> np.ndarray:
    """An id as a number, (1,) int64; Missing where the text cannot be one."""
    return numbers_checked([image_id])


def numbers_checked(image_ids: Sequence[object]) -> np.ndarray:
    """Ids as numbers, (m,) int64.

    Raises:
        Missing: one is not of 16 hex digits.
    """
    for one in image_ids:
        if not isinstance(one, str) or not _ID.fullmatch(one):
            raise Missing(f"an image_id is 16 hex digits, got {str(one)[:40]!r}")
    return numbers_of(np.array(image_ids, "U16"))


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
        """Coordinates (n, 2) float32 of a map in an order, NaN for images that are not on it; Missing if none is."""

        def read() -> np.ndarray:
            table = order.read(self.scape, [f"x_{name}", f"y_{name}"])
            coords = np.column_stack([table[axis].to_numpy().astype(np.float32) for axis in (f"x_{name}", f"y_{name}")])
            coords[~np.isfinite(coords).all(axis=1)] = np.nan
            return np.asfortranarray(coords)  # so that x and y are sent from where they are, to however many

        key = ("map", name, order.token, self.map_written(name))
        return self.keep(key, read, lambda coords: coords.nbytes)

    def tiles(self, order: Order, name: str) -> Tiles:
        """The quadtree of a map; Missing without the map."""
        key = ("tiles", name, order.token, self.map_written(name))
        return self.keep(key, lambda: Tiles.of(self.coords(order, name), order.numbers), lambda tiles: tiles.nbytes)

    # -- images -------------------------------------------------------------------------------------------------------

    def take(self, numbers: np.ndarray, columns: list[str]) -> pa.Table:
        """Rows of images by their numbers, in their order, with image_id and `position` in the table.

        Images that are not in the table have none.
        """
        for _ in range(_TRIES):
            places = self.orders.now()[0].rows_of(numbers)
            known = places >= 0
            try:
                rows = self.scape.take(places[known], list(dict.fromkeys(["image_id", *columns])))
            except (OSError, ValueError):  # rows went between the two looks
                continue
            if np.array_equal(numbers_of(rows["image_id"]), numbers[known]):
                return rows.append_column("position", pa.array(places[known]))
        raise CollectionError(f"'{self.scape.path}' is being changed all the time; try again")

    def row(self, image_id: str, columns: list[str]) -> pa.Table:
        """The row of an image; Missing where there is none."""
        found = self.take(number_of(image_id), columns)
        if not len(found):
            raise Missing(f"no image has the id {image_id}")
        return found

    def features_written(self, name: str) -> str:
        """A token of features and of which images can be used."""
        signed = features_identity(self.scape, name).get("written", "")
        return self.scape.written([f"features_{name}", "status"]) + signed
