"""LARS against a loop in NumPy, over steps whose learning rate changes."""

import numpy as np
import pytest
import torch
from torch import nn

from imagescape.learn.lars import LARS
from imagescape.learn.optim import Schedule

RATES = [0.3, 0.8, 0.8, 0.1, 0.02]


def numpy_lars(weights, gradients, rates, *, momentum, decay, trust, nesterov):
    """One array at a time, in float64: the buffer holds updates that the learning rate has scaled already."""
    out = []
    for weight, steps in zip(weights, gradients, strict=True):
        weight, buffer = weight.astype(np.float64), np.zeros(weight.shape)
        for gradient, rate in zip(steps, rates, strict=True):
            direction, local = gradient.astype(np.float64), 1.0
            if weight.ndim > 1:
                direction = direction + decay * weight
                size, slope = np.sqrt((weight**2).sum()), np.sqrt((direction**2).sum())
                local = trust * size / slope if size > 0 and slope > 0 else 1.0
            scaled = rate * local * direction
            buffer = momentum * buffer + scaled
            weight = weight - (momentum * buffer + scaled if nesterov else buffer)
        out.append(weight)
    return out


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("decay", [0.0, 0.01])
def test_against_numpy(nesterov, decay):
    rng = np.random.default_rng(0)
    shapes = [(4, 3), (2, 3, 3, 3), (5,), ()]
    weights = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
    gradients = [[rng.normal(size=shape).astype(np.float32) for _ in RATES] for shape in shapes]
    parameters = [nn.Parameter(torch.from_numpy(np.array(one))) for one in weights]
    optimizer = LARS(parameters, lr=1.0, momentum=0.9, weight_decay=decay, trust=0.001, nesterov=nesterov)
    for step, rate in enumerate(RATES):
        optimizer.param_groups[0]["lr"] = rate
        for parameter, steps in zip(parameters, gradients, strict=True):
            parameter.grad = torch.from_numpy(np.array(steps[step]))
        optimizer.step()
    expected = numpy_lars(weights, gradients, RATES, momentum=0.9, decay=decay, trust=0.001, nesterov=nesterov)
    for parameter, wanted in zip(parameters, expected, strict=True):
        np.testing.assert_allclose(parameter.detach().numpy(), wanted, rtol=2e-5, atol=1e-6)


def test_a_rate_that_falls_does_not_shrink_what_is_under_way():
    """Worked by hand, on a bias: 1 at a rate of .5, then nothing at a rate of 0; torch's SGD would stand still."""
    bias = nn.Parameter(torch.zeros(1))
    optimizer = LARS([bias], lr=0.5, momentum=0.5)
    for gradient, rate in ((1.0, 0.5), (0.0, 0.0)):
        optimizer.param_groups[0]["lr"] = rate
        bias.grad = torch.tensor([gradient])
        optimizer.step()
    assert bias.item() == pytest.approx(-0.75)


def test_biases_and_normalisations_are_neither_decayed_nor_adapted():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    optimizer = LARS(network.parameters(), lr=1.0, momentum=0.0, weight_decay=0.5)
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    for parameter in network.parameters():
        parameter.grad = torch.full_like(parameter, 0.25)
    optimizer.step()
    for name, value in network.named_parameters():
        moved = before[name] - value.detach()
        if name == "0.weight":
            direction = 0.25 + 0.5 * before[name]
            torch.testing.assert_close(moved, 0.001 * before[name].norm() / direction.norm() * direction)
        else:
            torch.testing.assert_close(moved, torch.full_like(moved, 0.25))


@pytest.mark.parametrize("zeros", ["weight", "gradient"])
def test_zeros_do_not_divide(zeros):
    weight = nn.Parameter(torch.zeros(2, 2) if zeros == "weight" else torch.ones(2, 2))
    weight.grad = torch.ones(2, 2) if zeros == "weight" else torch.zeros(2, 2)
    LARS([weight], lr=0.1, momentum=0.0).step()
    assert torch.isfinite(weight).all()
    torch.testing.assert_close(weight.detach(), torch.full((2, 2), -0.1 if zeros == "weight" else 1.0))


def test_a_schedule_builds_it():
    plan = Schedule(epochs=1, batch_size=2, learning_rate=0.3, optimizer="lars", momentum=0.8, nesterov=True)
    group = plan.build(nn.Linear(2, 2)).param_groups[0]
    assert (group["lr"], group["momentum"], group["nesterov"], group["trust"]) == (0.3, 0.8, True, 0.001)


def test_parts_have_rates_of_their_own():
    class Sharing(nn.Sequential):
        def rate_fractions(self):
            return {self[0].weight: 0.25, self[0].bias: 0.25}

    groups = (
        Schedule(epochs=1, batch_size=2, learning_rate=1.0)
        .build(Sharing(nn.Linear(2, 3), nn.Linear(3, 1)))
        .param_groups
    )
    assert [(group["rate_fraction"], [p.numel() for p in group["params"]]) for group in groups] == [
        (0.25, [6, 3]),
        (1.0, [3, 1]),
    ]
