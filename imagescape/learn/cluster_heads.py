"""Cluster heads: many at once, from features to logits of k clusters, and the networks that train them.

All heads of a network are one tensor and one product. Each can start from centroids of its own.
"""

import copy
from collections.abc import Callable
from typing import Any, Protocol, Self, TypeVar, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

LINEAR_SCALE = 10.0  # logits of a cosine of 1, in linear heads that start from centroids


class Heads(Protocol):
    """Unit rows (n, d) -> logits (n, heads, k)."""

    heads: int
    k: int

    def __call__(self, rows: Float[Tensor, "n d"]) -> Float[Tensor, "n heads k"]: ...

    def start_from(self, head: int, centroids: Float[Tensor, "k d"]) -> None:
        """Make one head part the rows as these unit centroids do: each to the one of the largest cosine."""

    def only(self, head: int) -> Self:
        """One of the heads, alone, as a copy."""

    def arrange(self, order: Int[Tensor, " k"]) -> None:
        """Number the clusters anew: what was `order[i]` is i."""


class LinearHeads(nn.Module):
    """One linear layer a head: SCAN's on frozen features (Van Gansbeke et al. 2020, arXiv:2005.12320).

    Args:
        in_features: Width of the rows.
        k: Clusters.
        heads: How many.
        generator: Of the first weights, normal of deviation 1 / sqrt(in_features).
    """

    def __init__(self, in_features: int, k: int, heads: int, generator: Generator | None = None) -> None:
        super().__init__()
        self.heads, self.k = heads, k
        self.weight = nn.Parameter(_normal(heads, k, in_features, generator=generator, deviation=in_features**-0.5))
        self.bias = nn.Parameter(torch.zeros(heads, k))

    def forward(self, rows: Float[Tensor, "n d"]) -> Float[Tensor, "n heads k"]:
        with torch.autocast(rows.device.type, enabled=False):  # small beside all else, and worth the digits
            return F.linear(rows.float(), self.weight.flatten(0, 1), self.bias.flatten()).unflatten(1, self.bias.shape)

    @torch.no_grad()
    def start_from(self, head: int, centroids: Float[Tensor, "k d"]) -> None:
        self.weight[head] = LINEAR_SCALE * centroids
        self.bias[head] = 0

    def only(self, head: int) -> "LinearHeads":
        return _only(self, LinearHeads(self.weight.shape[2], self.k, 1), head)

    @torch.no_grad()
    def arrange(self, order: Int[Tensor, " k"]) -> None:
        self.weight.copy_(self.weight[:, order])
        self.bias.copy_(self.bias[:, order])


class ResidualHeads(nn.Module):
    """Similarities with k prototypes over a temperature, and a small network that corrects them, a head.

    The last layer of the network starts at zero, so an untrained head parts the rows as its prototypes do.

    Args:
        in_features: Width of the rows.
        k: Clusters.
        heads: How many.
        hidden: Width of the network's middle; 0: prototypes alone.
        temperature: Of the similarities.
        generator: Of the first weights; prototypes have a length of about 1.
    """

    def __init__(
        self,
        in_features: int,
        k: int,
        heads: int,
        *,
        hidden: int = 128,
        temperature: float = 0.1,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        self.heads, self.k, self.hidden, self.temperature = heads, k, hidden, temperature
        self.prototypes = nn.Parameter(_normal(heads, k, in_features, generator=generator, deviation=in_features**-0.5))
        self.inner = nn.Parameter(_normal(heads, hidden, in_features, generator=generator, deviation=1.0))
        self.inner_bias = nn.Parameter(torch.zeros(heads, hidden))
        self.outer = nn.Parameter(torch.zeros(heads, hidden, k))

    def forward(self, rows: Float[Tensor, "n d"]) -> Float[Tensor, "n heads k"]:
        with torch.autocast(rows.device.type, enabled=False):
            plain = rows.float() @ self.prototypes.flatten(0, 1).T / self.temperature
        logits = plain.unflatten(1, (self.heads, self.k))
        if not self.hidden:
            return logits
        # One product for the first layers of all heads, one batched product for the second.
        wide = F.linear(rows, self.inner.flatten(0, 1), self.inner_bias.flatten())
        middle = F.relu(wide.unflatten(1, (self.heads, self.hidden))).transpose(0, 1)
        return logits + torch.bmm(middle, self.outer).transpose(0, 1).float()

    @torch.no_grad()
    def start_from(self, head: int, centroids: Float[Tensor, "k d"]) -> None:
        self.prototypes[head] = centroids
        self.outer[head] = 0

    def only(self, head: int) -> "ResidualHeads":
        width = self.prototypes.shape[2]
        return _only(self, ResidualHeads(width, self.k, 1, hidden=self.hidden, temperature=self.temperature), head)

    @torch.no_grad()
    def arrange(self, order: Int[Tensor, " k"]) -> None:
        self.prototypes.copy_(self.prototypes[:, order])
        self.outer.copy_(self.outer[:, :, order])


def _normal(*shape: int, generator: Generator | None, deviation: float) -> Tensor:
    return deviation * torch.randn(*shape, generator=generator or Generator().manual_seed(0))


_Kind = TypeVar("_Kind", bound=nn.Module)


def _only(many: nn.Module, alone: _Kind, head: int) -> _Kind:
    alone.load_state_dict({name: weights[head : head + 1] for name, weights in many.state_dict().items()})
    return alone.to(next(many.parameters()).device)


class Taught(nn.Module):
    """A student and its teacher, which is the running mean of the student over the steps.

    The teacher takes up what the student has learned when the loop says where it is, before each step, so that a run
    taken up again finds it as it was. It is always in eval mode.

    Args:
        student: What learns.
        momentum: How much of the teacher stays at each step.
    """

    def __init__(self, student: nn.Module, momentum: float) -> None:
        super().__init__()
        self.student, self.momentum = student, momentum
        self.teacher = copy.deepcopy(student).requires_grad_(False).eval()

    @torch.no_grad()
    def at(self, progress: float) -> None:
        """Told by the loop before each step; the teacher is brought up to date."""
        mine, theirs = self.teacher.state_dict(), self.student.state_dict()
        for name, value in mine.items():
            if value.is_floating_point():
                value.lerp_(theirs[name].to(value), 1 - self.momentum)
            else:
                value.copy_(theirs[name])  # counters of batch norm

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.teacher.eval()
        return self


class Distilled(Taught):
    """Both students and teachers on both views: (n, d) -> (n, 2, heads, k), for `TemiLoss`."""

    def forward(self, rows: Tensor) -> Float[Tensor, "n 2 heads k"]:
        with torch.no_grad():
            teacher = self.teacher(rows)
        return torch.stack([self.student(rows), teacher], 1)


class SelfLabelled(Taught):
    """The teacher on the weak views, the student on the strong ones, for `SelfLabelLoss`.

    The loop gives both in one batch, the weak ones first.
    """

    def forward(self, views: Tensor) -> Float[Tensor, "n 1 k"]:
        weak, strong = views.chunk(2)
        with torch.no_grad():
            labels = self.teacher(weak)
        return torch.cat([labels, self.student(strong)])


def readout(live: nn.Module) -> Any:
    """What of a network says which cluster: the teacher, where there is one."""
    return live.teacher if isinstance(live, Taught) else live


Judge = Callable[[nn.Module], tuple[Tensor, Tensor]]


class Watched(nn.Module):
    """A network, and beside it itself as it was when it was best.

    All of it is in the state, so a run taken up again remembers as much.

    Args:
        live: What is trained.
        heads: Of it.
        looks: How often `look` will be called at most.
        judge: Says of `live` the loss of each head on pairs that stay the same, and how many clusters of each are in
            use; both (heads,). It is compared first by clusters in use, then by the loss.

    Attributes:
        losses: (looks, heads), nan where nobody has looked yet.
        alive: (looks, heads), -1 there.
        best: The network as it was at the best look.
    """

    losses: Tensor
    alive: Tensor
    best_look: Tensor
    best_head: Tensor

    def __init__(self, live: nn.Module, heads: int, looks: int, judge: Judge) -> None:
        super().__init__()
        self.live, self.judge = live, judge
        self.best = copy.deepcopy(live).requires_grad_(False)
        self.register_buffer("losses", torch.full((looks, heads), torch.nan))
        self.register_buffer("alive", torch.full((looks, heads), -1, dtype=torch.int64))
        self.register_buffer("best_look", torch.tensor(-1))
        self.register_buffer("best_head", torch.tensor(0))

    def forward(self, rows: Tensor) -> Tensor:
        return cast(Tensor, self.live(rows))

    def at(self, progress: float) -> None:
        """Passed on to the network, where it asks for it."""
        if (tell := getattr(self.live, "at", None)) is not None:
            tell(progress)

    @torch.no_grad()
    def look(self, number: int) -> None:
        """Judge the network as it is, and keep it when it is the best so far."""
        was_training = self.live.training
        self.live.eval()
        losses, alive = self.judge(self.live)
        self.live.train(was_training)
        self.losses[number], self.alive[number] = losses, alive
        head = min(range(len(losses)), key=lambda h: (-int(alive[h]), float(losses[h])))
        before = (-int(self.alive[self.best_look, self.best_head]), float(self.losses[self.best_look, self.best_head]))
        if self.best_look < 0 or (-int(alive[head]), float(losses[head])) < before:
            self.best_look.fill_(number)
            self.best_head.fill_(head)
            self.best.load_state_dict(self.live.state_dict())
