"""The nearest rows of every row, from half of the matrix of all pairs: what i is to j, j is to i.

On a processor the matrix product is most of the time, so this takes little more than half of that of asking for each
row in turn. The square blocks on the diagonal come first; they give each row a few neighbours, and so a bar that
further candidates must pass. Few do, and only those are looked at: those of a block's rows to its left, and those of
its columns above it.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

_BLOCK = 4096  # rows and columns of a block: 64 MiB of float32
_ROW_GROUP = 32  # neighbours in a line whose largest is looked at first
_COLUMN_GROUP = 8  # smaller, as its members lie far apart in memory

Sides = Callable[[slice], tuple[Tensor, Tensor]]


def nearest_of_all(
    sides: Sides, n: int, count: int, advance: Callable[[int], None] = lambda rows: None
) -> Int[Tensor, "n c"]:
    """The `count` closest other rows of each row, in no order.

    Args:
        sides: Left and right forms (b, p) of a slice of the rows; closeness is left[i]·right[j] = left[j]·right[i].
        n: Rows.
        count: At least 1 and at most n - 1.
        advance: Told how many more rows' worth of the pairs is done; in all n.
    """
    starts = range(0, n, _BLOCK)
    buffer = torch.empty(min(n, _BLOCK) ** 2)

    def block(i: int, j: int) -> Tensor:
        left, right = sides(slice(i, min(i + _BLOCK, n)))[0], sides(slice(j, min(j + _BLOCK, n)))[1]
        return torch.mm(left, right.T, out=buffer[: len(left) * len(right)].view(len(left), len(right)))

    best = _Best(n, count)
    for i in starts:
        square = block(i, i).fill_diagonal_(-torch.inf)
        values, columns = square.topk(min(count, len(square)), dim=1, sorted=False)
        best.merge(torch.arange(i, i + len(square)), columns + i, values)
    reported = 0
    for i in starts:
        for j in starts[i // _BLOCK + 1 :]:
            closeness = block(i, j)
            row, column = _above_by_row(closeness, best.bar[i : i + closeness.shape[0]])
            best.offer(row + i, column + j, closeness[row, column])
            row, column = _above_by_column(closeness, best.bar[j : j + closeness.shape[1]])
            best.offer(column + j, row + i, closeness[row, column])
        after = n - min(i + _BLOCK, n)  # rows of which some pairs are still to come
        done = n - round(after * after / n)
        advance(done - reported)
        reported = done
    return best.found


class _Best:
    """The closest rows to each that were seen so far, and the bar (n,) that another must pass."""

    def __init__(self, n: int, count: int) -> None:
        self.found = torch.full((n, count), -1)
        self.bar = torch.full((n,), -torch.inf)
        self._values = torch.full((n, count), -torch.inf)

    def offer(self, rows: Tensor, found: Tensor, values: Tensor) -> None:
        """Single candidates (t,): `found` to `rows`."""
        if not len(rows):
            return
        order = rows.argsort()
        at, line, counts = rows[order].unique_consecutive(return_inverse=True, return_counts=True)
        place = torch.arange(len(rows)) - (counts.cumsum(0) - counts)[line]
        shape = (len(at), int(counts.max()))
        table, table_values = torch.full(shape, -1), torch.full(shape, -torch.inf)
        table[line, place], table_values[line, place] = found[order], values[order]
        self.merge(at, table, table_values)

    def merge(self, rows: Tensor, found: Float[Tensor, "r c"], values: Float[Tensor, "r c"]) -> None:
        """A table of candidates to different rows."""
        values = torch.cat([self._values[rows], values], dim=1)
        values, order = values.topk(self.found.shape[1], dim=1)
        self.found[rows] = torch.cat([self.found[rows], found], dim=1).gather(1, order)
        self._values[rows], self.bar[rows] = values, values[:, -1]


def _above_by_row(values: Tensor, bar: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and columns of the values above the bar (m,) of their row."""
    groups = values.shape[1] // _ROW_GROUP
    body, rest = values[:, : groups * _ROW_GROUP].unflatten(1, (groups, _ROW_GROUP)), values[:, groups * _ROW_GROUP :]
    row, group = (body.amax(dim=2) > bar[:, None]).nonzero(as_tuple=True) if groups else 2 * (torch.empty(0).long(),)
    which, member = (body[row, group] > bar[row, None]).nonzero(as_tuple=True)
    rest_row, rest_column = (rest > bar[:, None]).nonzero(as_tuple=True)
    column = torch.cat([group[which] * _ROW_GROUP + member, rest_column + groups * _ROW_GROUP])
    return torch.cat([row[which], rest_row]), column


def _above_by_column(values: Tensor, bar: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and columns of the values above the bar (w,) of their column; the rows are a multiple of the group."""
    groups = len(values) // _COLUMN_GROUP
    body = values.unflatten(0, (_COLUMN_GROUP, groups))  # members of a group stand a stride apart: a faster maximum
    group, column = (body.amax(dim=0) > bar).nonzero(as_tuple=True)
    member, which = (body[:, group, column] > bar[column]).nonzero(as_tuple=True)
    return member * groups + group[which], column[which]
