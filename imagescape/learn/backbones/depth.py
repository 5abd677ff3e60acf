"""A network from its input to its output: which of its layers to leave as they are, and how fast the others learn."""

from typing import Any, cast

from torch import nn

from imagescape.errors import InputError

_LISTS = (nn.ModuleList, nn.Sequential)


def parts_of(backbone: nn.Module) -> list[list[nn.Module]]:
    """The modules of a backbone in groups, from the input to the output; each stands for itself, not what is in it.

    A backbone of ours says its parts itself: a stem and its stages. Of any other the longest list of layers is taken:
    what is registered before it, each of the layers, and what comes after.
    """
    if can_be_split(backbone):
        return [list(part.modules()) for part in cast(Any, backbone).parts()]
    named = list(backbone.named_modules())
    lists = [(name, module) for name, module in named if isinstance(module, _LISTS) and len(module)]
    if not lists:
        return [list(backbone.modules())]
    longest, layers = max(lists, key=lambda one: len(one[1]))
    before: list[nn.Module] = []
    after: list[nn.Module] = []
    held = before
    for name, module in named:
        around = not name or longest.startswith(f"{name}.")
        if name == longest:
            held = after
        elif not name.startswith(f"{longest}.") and not (around and next(module.parameters(False), None) is None):
            held.append(module)
    return [group for group in (before, *[list(layer.modules()) for layer in layers], after) if group]


def can_be_split(backbone: nn.Module) -> bool:
    """Whether the parts run in turn are the network, so that what the first of them give can be kept."""
    return hasattr(backbone, "parts")


def frozen_parts(backbone: nn.Module, count: int) -> list[nn.Module]:
    """The modules of the first `count` parts, each for itself.

    Raises:
        InputError: nothing would be left to train.
    """
    parts = parts_of(backbone)
    if not 0 <= count < len(parts):
        raise InputError(
            f"of this network, which has {len(parts)} parts, the first 0 to {len(parts) - 1} can be frozen, got {count}"
        )
    return [module for part in parts[:count] for module in part]


def rate_fractions(backbone: nn.Module, decay: float) -> dict[nn.Parameter, float]:
    """Shares of the learning rate that fall by `decay` with each part from the output to the input.

    As of BEiT (Bao et al. 2021, arXiv:2106.08254); the last part learns at the whole rate.
    """
    fractions: dict[nn.Parameter, float] = {}
    for height, part in enumerate(reversed(parts_of(backbone))):
        for module in part:
            fractions |= dict.fromkeys(module.parameters(False), decay**height)
    return fractions
