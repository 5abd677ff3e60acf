"""Six distances, each in two forms: coarse for a block of rows at once, and exact for the few rows that matter.

The coarse form is a *closeness*: any number that rises as the distance falls, so that the nearest rows are those with
the largest. For four of the metrics it is a matrix product, whose rounding is of the size of 2^-24 |a||b|. Candidates
that it finds are then measured again by `distances`, which subtracts before it squares and so loses nothing.
"""

from collections.abc import Callable
from typing import Literal, Protocol

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

Metric = Literal["euclidean", "cosine", "inner_product", "manhattan", "jensen_shannon", "hamming"]

_TINY = 1e-30  # keeps 0 log 0 at 0
_SLACK = 1e-5  # of a coarse value, well above its rounding
_PAIRS_AT_ONCE = 2**20  # numbers of a working set that stays near the processor: 4 MiB of float32
_PAIRS_AT_ONCE_GPU = 2**27


class Comparison(Protocol):
    """One metric, on rows as they are kept: float32, or uint8 for hashes, all on one device."""

    def row_terms(self, rows: Tensor) -> Tensor:
        """What `closeness` needs of each of the rows (n, d) beside the row itself: (n,), to be computed once."""

    def prepare(self, queries: Tensor) -> Tensor:
        """Queries (m, d) in the form that the methods below take."""

    def closeness(self, queries: Tensor, rows: Tensor, terms: Tensor, out: Tensor) -> None:
        """Fill `out` (m, n), rows by rows contiguous; it rises as the distance falls."""

    def distances(self, queries: Tensor, rows: Tensor) -> Tensor:
        """From queries (…, d) to rows (…, d), shapes that broadcast: (…)."""

    def at_least(self, queries: Tensor, terms: Tensor, radius: float) -> Tensor:
        """The closeness (m,) that every row within `radius` of a query has, whatever the rounding."""

    def sides(self, rows: Tensor, terms: Tensor) -> tuple[Tensor, Tensor] | None:
        """Left and right forms (n, p): left[i]·right[j] is a closeness, the same with i and j exchanged.

        None where no product gives one.
        """


def comparison(metric: Metric, center: Float[Tensor, " d"]) -> Comparison:
    """The `metric`; `center` is the mean of the rows, or any point near them."""
    if metric == "euclidean":
        return Euclidean(center)
    others: dict[str, Callable[[], Comparison]] = {
        "cosine": Cosine,
        "inner_product": InnerProduct,
        "manhattan": Manhattan,
        "jensen_shannon": JensenShannon,
        "hamming": Hamming,
    }
    return others[metric]()


class Euclidean:
    """L2. Queries are taken from a centre of the rows: that changes no order, and large numbers do not cancel."""

    def __init__(self, center: Float[Tensor, " d"]) -> None:
        self._center = center

    def row_terms(self, rows: Tensor) -> Tensor:
        return (rows - self._center).square_().sum(dim=1).div_(-2)

    def prepare(self, queries: Tensor) -> Tensor:
        return queries

    def closeness(self, queries: Tensor, rows: Tensor, terms: Tensor, out: Tensor) -> None:
        # (|q - c|² - |q - x|²) / 2 = (q - c)(x - c) - |x - c|² / 2, and (q - c)c is the same for all rows.
        torch.addmm(terms, queries - self._center, rows.T, out=out)

    def distances(self, queries: Tensor, rows: Tensor) -> Tensor:
        return torch.linalg.vector_norm(queries - rows, dim=-1)

    def at_least(self, queries: Tensor, terms: Tensor, radius: float) -> Tensor:
        moved = queries - self._center
        squares = moved.square().sum(dim=1)
        size = squares - 2 * terms.min() + self._center.square().sum()
        return (squares - radius**2) / 2 + moved @ self._center - _SLACK * size

    def sides(self, rows: Tensor, terms: Tensor) -> tuple[Tensor, Tensor]:
        moved, one = rows - self._center, torch.ones_like(terms)  # -|x - y|² / 2 as one product
        return torch.column_stack([moved, terms, one]), torch.column_stack([moved, one, terms])


class Cosine:
    """1 - cosine, in [0, 2]; a row of zeros has cosine 0 with everything."""

    def row_terms(self, rows: Tensor) -> Tensor:
        return torch.linalg.vector_norm(rows, dim=1).clamp_min_(1e-12).reciprocal_()

    def prepare(self, queries: Tensor) -> Tensor:
        return torch.nn.functional.normalize(queries, dim=-1)

    def closeness(self, queries: Tensor, rows: Tensor, terms: Tensor, out: Tensor) -> None:
        torch.mm(queries, rows.T, out=out)
        out.mul_(terms)

    def distances(self, queries: Tensor, rows: Tensor) -> Tensor:
        # |a - b|² / 2 of unit vectors is 1 - ab and keeps the digits of near-twins; with a row of zeros it is 1/2.
        unit = torch.nn.functional.normalize(rows, dim=-1)
        no_direction = (queries == 0).all(dim=-1) | (unit == 0).all(dim=-1)
        return (queries - unit).square_().sum(dim=-1).div_(2).clamp_max_(2).masked_fill_(no_direction, 1)

    def at_least(self, queries: Tensor, terms: Tensor, radius: float) -> Tensor:
        return queries.new_full((len(queries),), 1 - radius - _SLACK)

    def sides(self, rows: Tensor, terms: Tensor) -> tuple[Tensor, Tensor]:
        unit = rows * terms[:, None]
        return unit, unit


class InnerProduct:
    """The negative inner product: smaller is closer, and it may be below 0."""

    def row_terms(self, rows: Tensor) -> Tensor:
        return torch.linalg.vector_norm(rows, dim=1)

    def prepare(self, queries: Tensor) -> Tensor:
        return queries

    def closeness(self, queries: Tensor, rows: Tensor, terms: Tensor, out: Tensor) -> None:
        torch.mm(queries, rows.T, out=out)

    def distances(self, queries: Tensor, rows: Tensor) -> Tensor:
        return (queries * rows).sum(dim=-1).neg_()

    def at_least(self, queries: Tensor, terms: Tensor, radius: float) -> Tensor:
        return -radius - _SLACK * torch.linalg.vector_norm(queries, dim=1) * terms.max()

    def sides(self, rows: Tensor, terms: Tensor) -> tuple[Tensor, Tensor]:
        return rows, rows


class Manhattan:
    """L1, the sum of absolute differences."""

    def row_terms(self, rows: Tensor) -> Tensor:
        return rows.new_zeros(len(rows))

    def prepare(self, queries: Tensor) -> Tensor:
        return queries

    def closeness(self, queries: Tensor, rows: Tensor, terms: Tensor, out: Tensor) -> None:
        _by_pairs(lambda q, x: (x - q).abs_().sum(dim=-1).neg_(), queries, rows, out)

    def distances(self, queries: Tensor, rows: Tensor) -> Tensor:
        return (queries - rows).abs_().sum(dim=-1)

    def at_least(self, queries: Tensor, terms: Tensor, radius: float) -> Tensor:
        return queries.new_full((len(queries),), -radius * (1 + _SLACK))

    def sides(self, rows: Tensor, terms: Tensor) -> None:
        return None


class JensenShannon:
    """The square root of the Jensen-Shannon divergence to base 2, in [0, 1], of rows scaled to sum 1.

    J. Lin, Divergence measures based on the Shannon entropy, 1991; that its root is a metric: D. Endres and
    J. Schindelin, 2003.
    """

    def row_terms(self, rows: Tensor) -> Tensor:
        return _x_log2(self.prepare(rows)).sum(dim=-1)

    def prepare(self, queries: Tensor) -> Tensor:
        return queries / queries.sum(dim=-1, keepdim=True)

    def closeness(self, queries: Tensor, rows: Tensor, terms: Tensor, out: Tensor) -> None:
        # With h = sum of x log x, JSD = (h(p) + h(q) - h(p + q)) / 2 + 1. What all rows of a query share is left out.
        _by_pairs(lambda q, x: _x_log2(x + q).sum(dim=-1), queries, self.prepare(rows), out)
        out.sub_(terms)

    def distances(self, queries: Tensor, rows: Tensor) -> Tensor:
        wide = torch.float32 if rows.device.type == "mps" else torch.float64  # which Metal does not have
        p, q = queries.to(wide), self.prepare(rows.to(wide))
        total = (p + q).clamp_min_(_TINY)
        lean = (p - q) / total  # p = total (1 + lean) / 2: written so, near-twins keep their digits
        bits = total * (_x_log2(1 + lean) + _x_log2(1 - lean))
        return bits.sum(dim=-1).div_(4).clamp_(0, 1).sqrt_().float()

    def at_least(self, queries: Tensor, terms: Tensor, radius: float) -> Tensor:
        return _x_log2(queries).sum(dim=-1) + 2 - 2 * radius**2 - 16 * _SLACK

    def sides(self, rows: Tensor, terms: Tensor) -> None:
        return None


class Hamming:
    """The number of bits that differ between rows packed 8 bits a byte."""

    def row_terms(self, rows: Tensor) -> Tensor:
        return torch.zeros(len(rows), device=rows.device)

    def prepare(self, queries: Tensor) -> Tensor:
        return queries

    def closeness(self, queries: Tensor, rows: Tensor, terms: Tensor, out: Tensor) -> None:
        if rows.device.type == "cpu":
            _count_bits(queries.numpy(), rows.numpy(), out.numpy())
        else:  # two rows of ±1 have the product bits - 2 x the bits that differ
            torch.mm(_signs(queries), _signs(rows).T, out=out)
            out.sub_(rows.shape[1] * 8).div_(2)

    def distances(self, queries: Tensor, rows: Tensor) -> Tensor:
        bits = torch.tensor([byte.bit_count() for byte in range(256)], dtype=torch.float32, device=rows.device)
        return bits[(queries ^ rows).long()].sum(dim=-1)

    def at_least(self, queries: Tensor, terms: Tensor, radius: float) -> Tensor:
        return torch.full((len(queries),), -radius, device=queries.device)

    def sides(self, rows: Tensor, terms: Tensor) -> None:
        return None


def _by_pairs(measure: Callable[[Tensor, Tensor], Tensor], queries: Tensor, rows: Tensor, out: Tensor) -> None:
    """`out[i, j] = measure(queries[i], rows[j])`, where no matrix product does it, so many pairs at a time as fit."""
    at_once = _PAIRS_AT_ONCE if rows.device.type == "cpu" else _PAIRS_AT_ONCE_GPU
    row_step = max(1, min(len(rows), at_once // rows.shape[1]))
    query_step = max(1, at_once // (row_step * rows.shape[1]))
    for j in range(0, len(rows), row_step):
        some = rows[None, j : j + row_step]
        for i in range(0, len(queries), query_step):
            here = slice(i, i + query_step)
            out[here, j : j + row_step] = measure(queries[here, None], some)


def _x_log2(x: Tensor) -> Tensor:
    return x.clamp_min(_TINY).log2_().mul_(x)


def _signs(packed: Tensor) -> Tensor:
    """±1 for each bit, first bit first: (n, d) uint8 to (n, 8 d) float32."""
    bits = torch.tensor([128, 64, 32, 16, 8, 4, 2, 1], dtype=torch.uint8, device=packed.device)
    return ((packed[:, :, None] & bits) != 0).flatten(1).float().mul_(2).sub_(1)


def _count_bits(queries: np.ndarray, rows: np.ndarray, out: np.ndarray) -> None:
    """Minus the bits that differ, by the processor's own count of bits, over the widest words that divide a row."""
    width = rows.shape[1]
    word = np.dtype(next(f"u{size}" for size in (8, 4, 2, 1) if width % size == 0))
    asked, step = queries.view(word), max(1, _PAIRS_AT_ONCE // width)
    for j in range(0, len(rows), step):
        columns = rows[j : j + step].view(word).T
        for line, words in zip(out[:, j : j + step], asked, strict=True):
            line[:] = 0
            for column, one in zip(columns, words, strict=True):
                line -= np.bitwise_count(column ^ one)
