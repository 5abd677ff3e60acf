"""Which image a row is: an order of ids that a page was given, and its token.

The page numbers images by row. Rows may be added, deleted and moved while it is open, so everything is answered in the
order that the page has: new images are left out of it, and those that are gone stay as rows without values.
"""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import pyarrow as pa

from imagescape.collection.store import Collection
from imagescape.collection.vectors import ids_of_numbers, numbers_of
from imagescape.errors import ImagescapeError

_REMEMBERED = 8  # orders that pages may still have


class OrderUnknown(ImagescapeError):
    """A page asks in an order that this server never gave, or has forgotten."""


class Order:
    """A sequence of image ids.

    Args:
        numbers: The ids, (n,) int64, see `collection.vectors`.

    Attributes:
        numbers: As given.
        token: 16 hex digits made of the ids: the same for the same sequence, in every process.
    """

    def __init__(self, numbers: np.ndarray) -> None:
        self.numbers = numbers
        self.token = hashlib.sha256(numbers.astype("<i8").tobytes()).hexdigest()[:16]

    def __len__(self) -> int:
        return len(self.numbers)

    @cached_property
    def _sorted(self) -> tuple[np.ndarray, np.ndarray]:
        by_id = np.argsort(self.numbers, kind="stable")
        return by_id.astype(np.uint32), self.numbers[by_id]

    def rows_of(self, numbers: np.ndarray) -> np.ndarray:
        """Rows (m,) int64 of images by their numbers (m,) int64; -1 for those that are not in the order."""
        by_id, ids = self._sorted
        if not len(ids):
            return np.full(len(numbers), -1, np.int64)
        at = np.minimum(np.searchsorted(ids, numbers), len(ids) - 1)
        return np.where(ids[at] == numbers, by_id[at].astype(np.int64), -1)

    def ids(self, rows: np.ndarray) -> list[str]:
        """Ids of rows (m,), as text."""
        return ids_of_numbers(self.numbers[rows]).tolist()

    def align(self, table: pa.Table) -> pa.Table:
        """The rows of `table` (with image_id) in this order, nulls where an image is not among them."""
        numbers, count = numbers_of(table["image_id"]), len(self)
        if len(numbers) >= count and np.array_equal(numbers[:count], self.numbers):
            return table.slice(0, count)
        places = Order(numbers).rows_of(self.numbers)
        return table.take(pa.array(np.maximum(places, 0), mask=places < 0))

    def read(self, scape: Collection, columns: Sequence[str]) -> pa.Table:
        """`image_id` and columns of the collection in this order, from one version of the table."""
        return self.align(scape.read(["image_id", *columns]))


class Orders:
    """The order of the table now, and those that it had while the server runs. Safe to use from many threads."""

    def __init__(self, scape: Collection) -> None:
        self._scape = scape
        self._lock = threading.Lock()
        self._known: OrderedDict[str, Order] = OrderedDict()
        self._version = -1
        self._now = Order(np.empty(0, np.int64))

    def now(self) -> tuple[Order, int]:
        """The order of the table as it is, and the version of the table that was looked at."""
        with self._lock:
            version = self._scape.version
            if version != self._version:
                numbers = numbers_of(self._scape.read(["image_id"])["image_id"])
                if not np.array_equal(numbers, self._now.numbers) or not self._known:
                    self._now = Order(numbers)
                    self._known[self._now.token] = self._now
                    while len(self._known) > _REMEMBERED:
                        self._known.popitem(last=False)
                self._known.move_to_end(self._now.token)
                self._version = version
            return self._now, version

    def get(self, token: str) -> Order:
        """The order that a page was given.

        Raises:
            OrderUnknown: it was given by another server, or long ago.
        """
        self.now()
        with self._lock:
            if token not in self._known:
                raise OrderUnknown(f"the table's rows are not those of order '{token}' any more; load all of it anew")
            return self._known[token]
