"""Optimizers and learning-rate schedules, counted in steps."""

import math
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import nn

from imagescape.errors import InputError
from imagescape.learn.lars import LARS

OptimizerName = Literal["sgd", "adam", "adamw", "lars"]
OPTIMIZERS = ("sgd", "adam", "adamw", "lars")


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long and how fast to train.

    Attributes:
        epochs: Passes over the items.
        batch_size: Items a step, over all devices; every step has as many.
        learning_rate: At its highest.
        warmup_epochs: The rate rises linearly over these, from its first step's share, never from 0.
        decay: How it falls after that: "cosine", "linear" or not ("constant").
        final_fraction: What is left of it at the end, for cosine and linear.
        optimizer: "sgd" (with momentum), "adam", "adamw" or "lars".
        momentum: Of SGD and LARS.
        nesterov: Whether the momentum of SGD or LARS looks ahead.
        weight_decay: On every weight; LARS leaves out biases and normalisations.
        clip_gradient: Largest absolute value of a gradient's entry, or None.
        accumulate: Steps whose gradients are averaged before one update; negatives stay within a step.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    warmup_epochs: float = 0
    decay: Literal["cosine", "linear", "constant"] = "cosine"
    final_fraction: float = 0.0
    optimizer: OptimizerName = "sgd"
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 5e-4
    clip_gradient: float | None = None
    accumulate: int = 1

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulate"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name, known in (("decay", ("cosine", "linear", "constant")), ("optimizer", OPTIMIZERS)):
            if getattr(self, name) not in known:
                raise InputError(f"{name} must be one of {', '.join(known)}, got '{getattr(self, name)}'")
        if not self.learning_rate > 0 or not math.isfinite(self.learning_rate):
            raise InputError(f"learning_rate must be above 0 and finite, got {self.learning_rate}")
        if self.clip_gradient is not None and not self.clip_gradient > 0:
            raise InputError(f"clip_gradient must be above 0 or None, got {self.clip_gradient}")
        if not 0 <= self.momentum < 1:
            raise InputError(f"momentum must be at least 0 and below 1, got {self.momentum}")
        if self.nesterov and (self.optimizer not in ("sgd", "lars") or not self.momentum):
            raise InputError(f"nesterov is a way of the momentum of sgd and lars, got it for {self.optimizer}")
        if self.warmup_epochs < 0:
            raise InputError(f"warmup_epochs must be at least 0, got {self.warmup_epochs}")

    def rate_at(self, step: float, steps_per_epoch: int) -> float:
        """Learning rate of step 0, 1, …, or between them, of a run of `epochs` times `steps_per_epoch`."""
        total = self.epochs * steps_per_epoch
        warmup = min(round(self.warmup_epochs * steps_per_epoch), total)
        if step < warmup:
            return self.learning_rate * (step + 1) / warmup
        done = (step - warmup) / max(1, total - warmup)
        remaining = {"cosine": (1 + math.cos(math.pi * done)) / 2, "linear": 1 - done, "constant": 1.0}[self.decay]
        return self.learning_rate * (
            remaining if self.decay == "constant" else self.final_fraction + (1 - self.final_fraction) * remaining
        )

    def build(self, module: nn.Module) -> torch.optim.Optimizer:
        """The optimizer over what of `module` is to be trained.

        Where a part of it has a method `rate_fractions`, which maps parameters to shares of the learning rate, those
        of one share are a group of their own, which tells it as "rate_fraction".
        """
        parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        groups = _by_rate(module, parameters)
        common: dict[str, Any] = {"lr": self.learning_rate, "weight_decay": self.weight_decay}
        if self.optimizer == "lars":
            return LARS(groups, momentum=self.momentum, nesterov=self.nesterov, **common)
        # One pass over the weights instead of one for each operation, where there is such a form.
        common["fused"] = all(parameter.device.type in ("cpu", "cuda") for parameter in parameters)
        if self.optimizer == "sgd":
            return torch.optim.SGD(groups, momentum=self.momentum, nesterov=self.nesterov, **common)
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[self.optimizer]
        return kind(groups, **common)


def _by_rate(module: nn.Module, parameters: list[nn.Parameter]) -> list[Any]:
    """The parameters, in groups where some of them have rates of their own."""
    fractions: dict[nn.Parameter, float] = {}
    for part in module.modules():
        if hasattr(part, "rate_fractions"):
            fractions |= cast(Any, part).rate_fractions()
    if not fractions:
        return parameters
    groups: dict[float, list[nn.Parameter]] = {}
    for parameter in parameters:
        groups.setdefault(fractions.get(parameter, 1.0), []).append(parameter)
    return [{"params": members, "rate_fraction": fraction} for fraction, members in groups.items()]


def epochs_for(steps: int, items: int, batch: int) -> int:
    """Epochs that have at least so many steps, of batches of at most as many as there are items."""
    return math.ceil(steps / (items // batch))
