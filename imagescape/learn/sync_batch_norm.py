"""Batch norm over the batch of all devices, on any of them.

Torch's own `SyncBatchNorm` is for GPUs alone, so that nobody without two of them could see it work.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def batch_norm_over_devices(network: nn.Module) -> Iterator[None]:
    """For a while, have every batch norm of `network` see the batches of all devices, which are of one size.

    A batch norm that stays in eval mode has its running statistics, as ever.
    """
    changed = [(module, type(module)) for module in network.modules() if isinstance(module, _BatchNorm)]
    try:
        for module, _ in changed:
            # Another class for the same object: its weights, its place in the network and its name in a file stay.
            module.__class__ = _OverDevices
        yield
    finally:
        for module, kind in changed:
            module.__class__ = kind


class _Gathered(torch.autograd.Function):
    """A tensor of each device, stacked; what happens to it on any of them comes back to where it is from."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        parts = [torch.empty_like(own) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, own.contiguous())
        return torch.stack(parts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slopes: Tensor) -> Tensor:
        slopes = slopes.contiguous()
        distributed.all_reduce(slopes)
        return slopes[distributed.get_rank()]


class _OverDevices(_BatchNorm):
    """Statistics are gathered with their gradients: what an image does to the mean of another device comes back."""

    def _check_input_dim(self, input: Tensor) -> None:
        """Any that has channels second."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        axes = [0, *range(2, input.ndim)]
        with torch.autocast(input.device.type, enabled=False):
            values = input.float()
            var, mean = torch.var_mean(values, axes, correction=0)
            everyone: Tensor = _Gathered.apply(torch.stack([mean, var]))
            means, variances = everyone.unbind(1)
            mean = means.mean(0)
            # The variance of all is that within the devices and that between them.
            var = variances.mean(0) + (means - mean).square().mean(0)
            self._follow(mean.detach(), var.detach(), len(means) * values.numel() // values.shape[1])
            shape = (1, -1, *[1] * (input.ndim - 2))
            scale = torch.rsqrt(var + self.eps)
            if self.weight is not None:
                scale = scale * self.weight
            offset = -mean * scale
            if self.bias is not None:
                offset = offset + self.bias
            return (values * scale.view(shape) + offset.view(shape)).to(input.dtype)

    @torch.no_grad()
    def _follow(self, mean: Tensor, var: Tensor, count: int) -> None:
        """Move the running statistics, where there are any, as torch does: towards the unbiased variance."""
        if not self.track_running_stats:
            return
        self.num_batches_tracked: Any
        self.num_batches_tracked += 1
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean: Any
        self.running_var: Any
        self.running_mean.lerp_(mean.to(self.running_mean), share)
        self.running_var.lerp_((var * (count / max(1, count - 1))).to(self.running_var), share)
