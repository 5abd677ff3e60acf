"""What was worked out once and is likely to be asked for again, as far as a bounded memory holds it."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Any


class Kept:
    """Values by key, the ones used longest ago given up first. One thread works a value out, others wait for it.

    Args:
        limit_bytes: Of all values together; one that is larger alone is not kept.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._lock = threading.Lock()
        self._values: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._under_way: dict[Hashable, Future[Any]] = {}
        self._held = 0

    @property
    def held_bytes(self) -> int:
        return self._held

    def get(self, key: Hashable, make: Callable[[], Any], size: Callable[[Any], int]) -> Any:
        """The value of `key`, by `make()` where it is not here; `size(value)` is its bytes."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key][0]
            waiting = self._under_way.get(key)
            if waiting is None:
                mine: Future[Any] = Future()
                self._under_way[key] = mine
        if waiting is not None:
            return waiting.result()
        try:
            value = make()
        except BaseException as error:
            with self._lock:
                del self._under_way[key]
            mine.set_exception(error)
            raise
        with self._lock:
            self._keep(key, value, size(value))
            del self._under_way[key]
        mine.set_result(value)
        return value

    def _keep(self, key: Hashable, value: Any, size_bytes: int) -> None:
        if size_bytes > self._limit:
            return
        self._values[key] = value, size_bytes
        self._held += size_bytes
        while self._held > self._limit:
            _, (_, gone) = self._values.popitem(last=False)
            self._held -= gone
