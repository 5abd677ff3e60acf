"""LARS: a learning rate for each layer, in proportion to the size of its weights."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class LARS(torch.optim.Optimizer):
    """Layer-wise adaptive rates (You et al. 2017, arXiv:1708.03888) with the momentum that SimCLR uses.

    For a weight w with gradient g, u = g + weight_decay w, the step of this layer is lr trust |w| / |u| times u; where
    w or u is all zeros, lr times u. The momentum buffer holds what was so scaled, its learning rate included: when the
    rate falls, what is still under way keeps the rate that it began with (Chen et al. 2020, arXiv:2002.05709).

    Parameters of one dimension or none, which are biases and the scales and offsets of normalisations, are neither
    decayed nor adapted; that is for the optimizer to know, not for who calls it.

    Args:
        params: As of any optimizer.
        lr: Learning rate.
        momentum: Share of the last step that is taken again.
        weight_decay: Of parameters of two dimensions or more.
        trust: Share of a layer's size that a step at a rate of 1 changes.
        nesterov: Whether a step looks ahead along the momentum.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        *,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust: float = 0.001,
        nesterov: bool = False,
    ) -> None:
        super().__init__(
            params,
            {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust, "nesterov": nesterov},
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(weight, weight.grad, group)
        return loss

    def _update(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        if weight.ndim > 1:
            gradient = gradient.add(weight, alpha=group["weight_decay"])
            size, slope = torch.linalg.vector_norm(weight), torch.linalg.vector_norm(gradient)
            # No branch on the values, which a GPU would have to be waited for.
            adapted = torch.where((size > 0) & (slope > 0), group["trust"] * size / slope, 1.0)
            gradient = gradient * adapted
        moved = gradient * group["lr"]
        state = self.state[weight]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(weight)
        buffer = state["momentum_buffer"].mul_(group["momentum"]).add_(moved)
        weight.sub_(moved.add_(buffer, alpha=group["momentum"]) if group["nesterov"] else buffer)
