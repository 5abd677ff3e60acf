"""A parallel map that streams: results in order, a bounded number of inputs in flight."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def ordered_map(pool: Executor, function: Callable[[T], R], inputs: Iterable[T], *, in_flight: int) -> Iterator[R]:
    """`map(function, inputs)` on the workers of `pool`.

    At most `in_flight` inputs are drawn and not yet yielded, so memory does not depend on how many there are. If
    `inputs` raises, what was drawn before is still yielded first.
    """
    pending: deque[Future[R]] = deque()
    drawn = iter(inputs)
    failure: Exception | None = None
    try:
        while True:
            try:
                pending.append(pool.submit(function, next(drawn)))
            except StopIteration:
                break
            except Exception as error:
                failure = error
                break
            if len(pending) >= in_flight:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
        if failure is not None:
            raise failure
    finally:
        for future in pending:
            future.cancel()
