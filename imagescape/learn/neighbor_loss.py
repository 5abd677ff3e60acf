"""InfoNCE of points on a map against a few shared negatives: what a map of given features is learned by.

`info_nce` compares every point of a batch with every other. A table of coordinates has no network to pay for, so there
the comparison is all the work. Each point is compared with its neighbour and with the same few hundred others, and its
gradient is written down by hand: in a compiled loop on a processor, as products of matrices elsewhere, and for maps of
other than two or three dimensions.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from imagescape.errors import InputError
from imagescape.learn.neighbor_kernel import AXES, shared_negatives

# Entries of a block of points x negatives, where they are products of matrices: 2 MiB on a processor, near it; as many
# as fit a launch elsewhere.
_BLOCK_ENTRIES = {"cpu": 2**19}
_BLOCK_ENTRIES_ELSEWHERE = 2**25


class NeighborNCE(nn.Module):
    """Mean cross-entropy, in nats, of picking a point's neighbour out of some other points, by the Cauchy kernel.

    Row i of both sides is a pair of neighbours. Each of the 2n points is compared with the other one of its pair and
    with the first sides of the first `negatives` pairs of the batch (but for its own pair), which are as good as any:
    the loop shuffles.

    Args:
        negatives: Points that each point is compared with beside its neighbour; a batch has at least as many pairs,
            or all of them are taken.
        start_width: Width of the kernel 1 / (1 + |a - b|^2 / width^2) when training starts; it falls to 1, in equal
            ratios, over the first third.

    Source: Damrich et al. 2023, arXiv:2206.01816 (InfoNC-t-SNE).
    """

    def __init__(self, negatives: int = 256, start_width: float = 1.0) -> None:
        super().__init__()
        if negatives < 1:
            raise InputError(f"a point needs at least 1 negative to be compared with, got {negatives}")
        if not start_width > 0:
            raise InputError(f"start_width must be above 0, got {start_width}")
        self.negatives, self.start_width, self.width = negatives, start_width, start_width

    def at(self, progress: float) -> None:
        """Told by the loop how far it is, from 0 to 1."""
        self.width = self.start_width ** max(0.0, 1 - 3 * progress)

    def forward(self, a: Float[Tensor, "n d"], b: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
        if len(a) < 2:
            raise InputError(f"a neighbour needs at least 2 pairs to be told from others, got {len(a)}")
        with torch.autocast(a.device.type, enabled=False):
            a, b = (side if side.dtype == torch.float64 else side.float() for side in (a, b))
            if self.width != 1:
                a, b = a / self.width, b / self.width
            loss: Tensor = _SharedNegatives.apply(a, b, self.negatives)
        return loss


class _SharedNegatives(torch.autograd.Function):
    """The loss and its gradients by a and b in one pass; nothing of the size points x negatives is kept."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, negatives: int) -> Tensor:
        compiled = a.device.type == "cpu" and a.dtype == torch.float32 and a.shape[1] in AXES
        total, on_a, on_b = (_by_loop if compiled else _by_products)(a, b, min(negatives, len(a)))
        ctx.save_for_backward(on_a, on_b)
        ctx.points = 2 * len(a)
        return total / ctx.points

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor | None, ...]:
        scale = outer / ctx.points
        on_a, on_b = ctx.saved_tensors
        return on_a * scale, on_b * scale, None


def _by_loop(a: Tensor, b: Tensor, m: int) -> tuple[Tensor, Tensor, Tensor]:
    total, on_a, on_b = shared_negatives(a.numpy(), b.numpy(), m)
    return a.new_tensor(total), torch.from_numpy(on_a), torch.from_numpy(on_b)


def _by_products(a: Tensor, b: Tensor, m: int) -> tuple[Tensor, Tensor, Tensor]:
    """The summed loss and its gradients as products of matrices, a block of points at a time.

    With q_k = 1 / (1 + |z - n_k|^2), q+ that of the neighbour and S = q+ + sum_k q_k, a point adds log S - log q+.
    As dq/dz = -2 q^2 (z - n), all sums over negatives are products of the matrix q^2 with narrow ones.
    """
    n, negatives = len(a), a[:m]
    # |z - n|^2 as one product. The origin goes to the middle, as this form loses digits with the distance from it.
    middle = negatives.mean(0)
    # Points and negatives lie in columns: products of a wide matrix with three or four columns are slow the other way
    # round.
    shifted = (negatives - middle).T
    ones = shifted.new_ones(1, m)
    others = torch.cat([shifted, ones])
    right = torch.cat([-2 * shifted, shifted.square().sum(0, keepdim=True), ones])
    apart = a - b
    near = 1 / (1 + apart.square().sum(1))
    on_a, on_b = torch.zeros_like(a), torch.zeros_like(b)
    on_negatives = torch.zeros_like(others)
    total = a.new_zeros(())
    step = max(1, _BLOCK_ENTRIES.get(a.device.type, _BLOCK_ENTRIES_ELSEWHERE) // m)
    buffer = a.new_empty(min(step, n), m)
    for side, gradient in ((a, on_a), (b, on_b)):
        for start in range(0, n, step):
            here = slice(start, min(start + step, n))
            positive = near[here]
            point = (side[here] - middle).T
            points = torch.cat([point, point.new_ones(1, point.shape[1])])
            left = torch.cat([points, 1 + point.square().sum(0, keepdim=True)])
            q = buffer[: point.shape[1]]
            # Rounding must not take the kernel beyond 1.
            torch.mm(left.T, right, out=q).clamp_min_(1).reciprocal_()
            if start < m:
                q.diagonal(start).zero_()  # nobody is told from itself, or its pair
            normaliser = q.sum(1) + positive
            total += (normaliser / positive).log().sum()
            squared = q.square_()
            sums = others @ squared.T
            gradient[here] -= (2 * (point * sums[-1:] - sums[:-1]) / normaliser).T
            on_negatives += (points / normaliser) @ squared
            pull = apart[here] * (2 * positive * (1 - positive / normaliser))[:, None]
            on_a[here] += pull
            on_b[here] -= pull
    on_a[:m] -= 2 * (shifted * on_negatives[-1:] - on_negatives[:-1]).T
    return total, on_a, on_b
