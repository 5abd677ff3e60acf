"""InfoNCE over two views of a batch, with the similarity passed in.

A loss here is a function of tensors: no device, no labels, no state. The kernels return *log*
similarities so that the loss can stay in log space, and always compute in at least float32:
a trained map spans hundreds of units, and under half precision squared distances overflow.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from imagescape.errors import InputError

LogSimilarity = Callable[[Tensor, Tensor], Tensor]

# Logits of a block, least and most: 8 MiB of them on a processor, enough that sharing them among threads pays; a GPU
# wants many at once. A block also costs a few passes over all candidates, however few its rows are, which more rows
# make up for.
BLOCK_LOGITS = {"cpu": (2**21, 2**23), "cuda": (2**24, 2**24)}
_ROWS_PER_DIMENSION = 8


def cosine(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"], *, temperature: float = 0.5) -> Float[Tensor, "n m"]:
    """Cosine similarity over temperature: SimCLR's kernel (Chen et al. 2020, arXiv:2002.05709)."""
    return F.normalize(a, dim=1) @ F.normalize(b, dim=1).T / temperature


def cauchy(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    """Log of the Cauchy kernel 1 / (1 + |a - b|^2): t-SimCNE's (Boehm et al. 2023, arXiv:2210.09879)."""
    return -squared_distances(a, b).log1p()


def student_t(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"], *, dof: float | Tensor = 1.0) -> Float[Tensor, "n m"]:
    """Log of Student's t kernel (1 + |a - b|^2 / dof)^(-(dof + 1) / 2); `dof` = 1 is Cauchy.

    Source: van der Maaten 2009, "Learning a parametric embedding by preserving local structure".
    """
    return (squared_distances(a, b) / dof).log1p() * (-(dof + 1) / 2)


def gaussian(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"], *, bandwidth: float = 1.0) -> Float[Tensor, "n m"]:
    """Log of the Gaussian kernel exp(-|a - b|^2 / (2 bandwidth^2))."""
    return -squared_distances(a, b) / (2 * bandwidth**2)


def squared_distances(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    """|a_i - b_j|^2, exact by differences up to 3 dimensions, else by one matrix product of centred rows."""
    squares: Tensor = _SquaredDistances.apply(a, b)
    return squares


class _SquaredDistances(torch.autograd.Function):
    """In few passes through memory, which is what these cost on a processor; nothing of (n, m) is kept."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        if a.shape[1] <= 3:
            ctx.save_for_backward(a, b)
            first, *others = _axes(a, b)
            total = torch.sub(*first).square_()
            for x, y in others:
                difference = x - y
                total.addcmul_(difference, difference)
            return total
        # The product form loses digits with the distance from the origin, so the origin goes to the middle.
        centre = b.mean(0)
        a, b = a - centre, b - centre
        ctx.save_for_backward(a, b)
        return torch.addmm(a.square().sum(1, keepdim=True) + b.square().sum(1), a, b.T, alpha=-2).clamp_min_(0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slopes: Tensor) -> tuple[Tensor, Tensor]:
        a, b = ctx.saved_tensors
        if a.shape[1] > 3:
            by_a = slopes.sum(1, keepdim=True) * a - slopes @ b
            by_b = slopes.sum(0)[:, None] * b - slopes.T @ a
            return 2 * by_a, 2 * by_b
        by_a, by_b = torch.empty_like(a), torch.empty_like(b)
        for i, (x, y) in enumerate(_axes(a, b)):
            pull = (x - y).mul_(slopes)
            by_a[:, i], by_b[:, i] = pull.sum(1), -pull.sum(0)
        return 2 * by_a, 2 * by_b


def _axes(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> list[tuple[Float[Tensor, "n 1"], Float[Tensor, " m"]]]:
    """Axis by axis, the values of each packed together: else they are read one by one."""
    return list(zip(a.T.contiguous()[:, :, None], b.T.contiguous(), strict=True))


class Setting(nn.Module):
    """A number above 0 of a kernel: it stays, is learned with the network, or is led from one value to another.

    Its logarithm is what is learned or led, so it stays positive (Radford et al. 2021, arXiv:2103.00020).

    Args:
        name: What messages call it.
        start: Where it starts, > 0.
        final: Where it ends when `at` is told how far training is; None: where it started.
        learnable: Whether training changes it.
    """

    def __init__(self, name: str, start: float, *, final: float | None = None, learnable: bool = False) -> None:
        super().__init__()
        for value in (start, start if final is None else final):
            if not 0 < value < math.inf:
                raise InputError(f"{name} must be above 0 and finite, got {value}")
        if learnable and final is not None:
            raise InputError(f"{name} is either learned or led to a final value, got both: leave one out")
        self._ends = None if final is None else (math.log(start), math.log(final))
        self.logarithm = nn.Parameter(torch.tensor(math.log(start)), requires_grad=learnable)

    @torch.no_grad()
    def at(self, progress: float) -> None:
        """Take the value of this part of the way, 0 … 1."""
        if self._ends is not None:
            self.logarithm.fill_(self._ends[0] + progress * (self._ends[1] - self._ends[0]))

    def forward(self) -> Float[Tensor, ""]:
        return self.logarithm.exp()


class Tempered(nn.Module):
    """A kernel whose log similarity is divided by a temperature; its `options` are those of `Setting`."""

    def __init__(self, log_similarity: LogSimilarity, temperature: float = 0.5, **options: Any) -> None:
        super().__init__()
        self.log_similarity = log_similarity
        self.temperature = Setting("temperature", temperature, **options)

    def forward(self, a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
        return self.log_similarity(a, b) / self.temperature()


class StudentT(nn.Module):
    """`student_t` whose degrees of freedom may be learned or led; its `options` are those of `Setting`."""

    def __init__(self, dof: float = 1.0, **options: Any) -> None:
        super().__init__()
        self.dof = Setting("dof", dof, **options)

    def forward(self, a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
        return student_t(a, b, dof=self.dof())


KERNELS: dict[str, LogSimilarity] = {"cosine": cosine, "cauchy": cauchy, "student_t": student_t, "gaussian": gaussian}


def kernel(
    name: str,
    *,
    temperature: float | None = None,
    final_temperature: float | None = None,
    learn_temperature: bool = False,
    dof: float | None = None,
    final_dof: float | None = None,
    learn_dof: bool = False,
) -> LogSimilarity:
    """The kernel called `name`, its temperature and, for "student_t", its degrees of freedom as `Setting` has them.

    Args:
        name: One of `KERNELS`.
        temperature: Where it starts; None: the kernel's own, .5 for cosine and 1 for the others.
        final_temperature: Where it ends, or None.
        learn_temperature: Whether training changes it.
        dof: Where Student's degrees of freedom start; None: 1.
        final_dof: Where they end, or None.
        learn_dof: Whether training changes them.

    Raises:
        InputError: no kernel of that name, a number that is not above 0, one that is both learned and led, or
            degrees of freedom for another kernel than "student_t".
    """
    if name not in KERNELS:
        raise InputError(f"kernel must be one of {', '.join(KERNELS)}, got '{name}'")
    log_similarity = KERNELS[name]
    if name == "student_t":
        log_similarity = StudentT(1.0 if dof is None else dof, final=final_dof, learnable=learn_dof)
    elif dof is not None or final_dof is not None or learn_dof:
        raise InputError(f"dof, final_dof and learn_dof are for the kernel student_t, got one for '{name}'")
    if name == "cosine":
        log_similarity, temperature = partial(cosine, temperature=1.0), 0.5 if temperature is None else temperature
    if temperature is None and final_temperature is None and not learn_temperature:
        return log_similarity
    start = 1.0 if temperature is None else temperature
    return Tempered(log_similarity, start, final=final_temperature, learnable=learn_temperature)


def info_nce(
    view_a: Float[Tensor, "n d"],
    view_b: Float[Tensor, "n d"],
    *,
    log_similarity: LogSimilarity = cosine,
    candidates: tuple[Float[Tensor, "m d"], Float[Tensor, "m d"]] | None = None,
    first_row: int = 0,
    block_rows: int | None = None,
    decoupled: bool = False,
) -> Float[Tensor, ""]:
    """Mean cross-entropy, in nats, of picking each sample's other view out of the batch.

    Row i of `view_a` and row i of `view_b` are two views of image i. Every one of the 2n rows
    is an anchor; it is compared with the two views of all m images but itself, the positive
    staying among them. The (2n, 2m) similarities are made a block of rows at a time, and their
    gradients with them, so that memory grows with the batch and not with its square. What the
    kernel learns itself gets its gradient too; second derivatives there are none.

    Args:
        view_a: Projections of the first views, (n, d).
        view_b: Projections of the second views, (n, d), same row order.
        log_similarity: Maps (n, d) and (m, d) to an (n, m) matrix of log similarities.
        candidates: Both views of the whole batch when these n images are one device's share of
            it, (m, d) each; None: the n images are the batch.
        first_row: Which candidate row is row 0 of this share.
        block_rows: Anchors at a time; None: as the device likes them, see `BLOCK_LOGITS`.
        decoupled: Whether the positive is left out of what the anchor is compared with, so that a pair that
            lies close already is pulled as much as any other (Yeh et al. 2022, arXiv:2110.06848).

    Returns:
        A scalar >= 0; it is log(2m - 1) when all rows are equal. Decoupled it is log(2m - 2) then, and may
        fall below 0.

    Raises:
        ValueError: m is below 2, so there is nothing to contrast.

    Source: Chen et al. 2020, arXiv:2002.05709, algorithm 1; the Cauchy form Boehm et al. 2023.

    >>> z = torch.ones(4, 3)
    >>> round(float(info_nce(z, z)), 4)  # log(7)
    1.9459
    """
    n = len(view_a)
    all_a, all_b = (view_a, view_b) if candidates is None else candidates
    m = len(all_a)
    if m < 2:
        raise InputError(f"info_nce needs at least 2 images to contrast, got a batch of {m}")
    with torch.autocast(view_a.device.type, enabled=False):
        anchors, others = (_at_least_float32(torch.cat(pair)) for pair in ((view_a, view_b), (all_a, all_b)))
        itself = torch.arange(first_row, first_row + n, device=anchors.device)
        itself = torch.cat([itself, itself + m])
        positive = itself.roll(n)

        if block_rows is None:
            least, most = BLOCK_LOGITS.get(anchors.device.type, BLOCK_LOGITS["cuda"])
            worthwhile = max(least, _ROWS_PER_DIMENSION * others.numel())
            block_rows = max(1, min(worthwhile, most) // len(others))
        learned = _learned_by(log_similarity, anchors, others)
        total: Tensor = _SummedCrossEntropy.apply(
            log_similarity, itself, positive, decoupled, block_rows, anchors, others, *learned
        )
        return total / (2 * n)


class InfoNCE(nn.Module):
    """`info_nce` with its kernel, as a module: what the kernel learns is then among its parameters."""

    def __init__(self, log_similarity: LogSimilarity, *, decoupled: bool = False) -> None:
        super().__init__()
        self.log_similarity, self.decoupled = log_similarity, decoupled

    def at(self, progress: float) -> None:
        """Lead what the kernel changes along its way to this part of it, 0 … 1."""
        for module in self.modules():
            if isinstance(module, Setting):
                module.at(progress)

    def forward(self, view_a: Tensor, view_b: Tensor, **shares: Any) -> Float[Tensor, ""]:
        return info_nce(view_a, view_b, log_similarity=self.log_similarity, decoupled=self.decoupled, **shares)


class _SummedCrossEntropy(torch.autograd.Function):
    """The sum over all anchors, a block of rows at a time, each block's gradients made while it is at hand.

    The gradient of the loss by the logits is known with the loss itself, so it goes through the kernel at once and
    backward only scales what came out: nothing of a block is kept, or made twice.
    """

    @staticmethod
    def forward(
        ctx: Any,
        log_similarity: LogSimilarity,
        itself: Int[Tensor, " b"],
        positive: Int[Tensor, " b"],
        decoupled: bool,
        block_rows: int,
        anchors: Float[Tensor, "b d"],
        others: Float[Tensor, "c d"],
        *learned: Tensor,
    ) -> Float[Tensor, ""]:
        wanted = any(ctx.needs_input_grad)
        total = anchors.new_zeros(())
        gradients = [torch.zeros_like(tensor) for tensor in (anchors, others, *learned)] if wanted else []

        def add(rows: slice) -> None:
            """What these anchors add; a function, so that a block is gone before the next is made."""
            inputs = [tensor.detach().requires_grad_(wanted) for tensor in (anchors[rows], others)]
            with torch.set_grad_enabled(wanted):
                logits = log_similarity(*inputs)
            loss, slopes = _cross_entropy(logits.detach(), itself[rows], positive[rows], decoupled)
            total.add_(loss)
            if wanted:
                parts = torch.autograd.grad(logits, [*inputs, *learned], slopes, retain_graph=bool(learned))
                for gradient, part in zip([gradients[0][rows], *gradients[1:]], parts, strict=True):
                    gradient.add_(part)

        for first in range(0, len(anchors), block_rows):
            add(slice(first, first + block_rows))
        ctx.save_for_backward(*gradients)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Float[Tensor, ""]) -> tuple[Tensor | None, ...]:
        return (None,) * 5 + tuple(slope * gradient for gradient in ctx.saved_tensors)


def _cross_entropy(
    logits: Float[Tensor, "b c"], itself: Int[Tensor, " b"], positive: Int[Tensor, " b"], decoupled: bool
) -> tuple[Float[Tensor, ""], Float[Tensor, "b c"]]:
    """The sum over the rows, and its gradient by the logits: softmax less one at the positive."""
    itself, positive = itself[:, None], positive[:, None]
    chosen = logits.gather(1, positive)
    # A copy, which is then worked on in place: the kernel may need its own result to find its gradient.
    logits = logits.scatter(1, itself, -torch.inf)
    if decoupled:
        logits.scatter_(1, positive, -torch.inf)
    highest = logits.amax(1, keepdim=True)
    weights = logits.sub_(highest).exp_()
    sums = weights.sum(1, keepdim=True)
    loss = (highest + sums.log() - chosen).sum()
    return loss, weights.div_(sums).scatter_add_(1, positive, -torch.ones_like(sums))


def _learned_by(log_similarity: LogSimilarity, a: Tensor, b: Tensor) -> list[Tensor]:
    """What a kernel learns itself: the leaves of its graph where the rows need no gradient."""
    waiting: list[Any] = [log_similarity(a[:1].detach(), b[:1].detach()).grad_fn]
    seen: set[Any] = set()
    while waiting:
        if (node := waiting.pop()) is not None and node not in seen:
            seen.add(node)
            waiting += [before for before, _ in node.next_functions]
    return [node.variable for node in seen if hasattr(node, "variable")]


def _at_least_float32(rows: Tensor) -> Tensor:
    return rows.float() if rows.dtype in (torch.float16, torch.bfloat16) else rows
