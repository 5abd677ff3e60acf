"""Schedules at points worked by hand; optimizers are torch's."""

import math

import pytest
import torch
from torch import nn

from imagescape.errors import InputError
from imagescape.learn.optim import Schedule


def schedule(**changes):
    return Schedule(**({"epochs": 10, "batch_size": 4, "learning_rate": 0.8} | changes))


def test_warm_up_never_starts_at_zero_and_cosine_follows():
    plan = schedule(warmup_epochs=1)
    rates = [plan.rate_at(step, 4) for step in range(40)]
    assert rates[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert rates[4] == pytest.approx(0.8)
    assert rates[22] == pytest.approx(0.4)  # 18 of 36 steps after the warm-up: half-way down
    assert rates[39] == pytest.approx(0.8 * (1 + math.cos(math.pi * 35 / 36)) / 2)
    assert min(rates) > 0


def test_linear_and_constant_and_a_floor():
    assert schedule(decay="linear").rate_at(10, 4) == pytest.approx(0.8 * 0.75)
    assert schedule(decay="constant").rate_at(39, 4) == 0.8
    assert schedule(decay="linear", final_fraction=0.5).rate_at(20, 4) == pytest.approx(0.8 * 0.75)


def test_builds_over_what_is_to_be_trained_only():
    module = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    module[0].requires_grad_(False)
    optimizer = schedule(optimizer="adamw", weight_decay=0.1).build(module)
    assert isinstance(optimizer, torch.optim.AdamW)
    assert [p.shape for group in optimizer.param_groups for p in group["params"]] == [(1, 3), (1,)]
    assert optimizer.param_groups[0]["weight_decay"] == 0.1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"learning_rate": 0}, "learning_rate must be above 0"),
        ({"learning_rate": math.nan}, "learning_rate"),
        ({"decay": "steps"}, "decay must be one of cosine, linear, constant"),
        ({"optimizer": "lamb"}, "optimizer must be one of"),
        ({"clip_gradient": -1}, "clip_gradient"),
        ({"warmup_epochs": -1}, "warmup_epochs"),
    ],
)
def test_settings_out_of_range_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        schedule(**changes)
