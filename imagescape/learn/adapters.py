"""Low-rank adapters: a large network learns a little beside its weights, which stay (LoRA, arXiv:2106.09685)."""

import copy
from typing import Any

from torch import nn

from imagescape.errors import InputError, require
from imagescape.learn.backbones.transformers_hub import PooledTransformer


def add_adapters(backbone: nn.Module, rank: int) -> None:
    """Put adapters of this rank beside every linear layer of a network of transformers; they alone are trained.

    Raises:
        InputError: another network, whose layers nobody has said which to adapt.
        MissingExtraError: peft is not installed.
    """
    if not isinstance(backbone, PooledTransformer):
        raise InputError(
            f"adapters are for networks of transformers (hf:…), got {type(backbone).__name__}; "
            "freeze some of its parts instead"
        )
    peft = require("peft", extra="peft")
    settings = peft.LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules="all-linear")
    backbone.network = peft.get_peft_model(backbone.network, settings)


def without_adapters(backbone: nn.Module) -> nn.Module:
    """A copy in which what the adapters learned is in the weights."""
    plain: Any = copy.deepcopy(backbone)
    plain.network = plain.network.merge_and_unload()
    return plain


def has_adapters(backbone: nn.Module) -> bool:
    """Whether `add_adapters` changed it."""
    return isinstance(backbone, PooledTransformer) and hasattr(backbone.network, "merge_and_unload")
