"""The loss of neighbour maps against plain loops, its gradients against autograd's, and what it must do."""

import math

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from imagescape.errors import InputError
from imagescape.learn import neighbor_kernel, neighbor_loss
from imagescape.learn.neighbor_loss import NeighborNCE


def points(n, d=2, seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return [scale * torch.randn(n, d, dtype=torch.float64, generator=generator) for _ in range(2)]


def by_loops(a, b, negatives, width=1.0):
    """The same by its definition, a point at a time."""
    total = 0.0
    for side in (a, b):
        for i in range(len(a)):
            positive = 1 / (1 + float((a[i] - b[i]).square().sum()) / width**2)
            others = [
                1 / (1 + float((side[i] - a[k]).square().sum()) / width**2)
                for k in range(min(negatives, len(a)))
                if k != i
            ]
            total += math.log((positive + sum(others)) / positive)
    return total / (2 * len(a))


def test_hand_value():
    # Two pairs of neighbours, each at one place, 1 apart: every point has q+ = 1 and one negative with q = 1/2.
    a = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    assert NeighborNCE(2)(a, a).item() == pytest.approx(math.log(1.5), abs=1e-6)


@pytest.mark.parametrize("dimensions", [1, 2, 3, 5])
@pytest.mark.parametrize("negatives", [1, 4, 7, 100])
def test_equals_loops(dimensions, negatives):
    a, b = points(7, dimensions)
    assert NeighborNCE(negatives)(a, b).item() == pytest.approx(by_loops(a, b, negatives), rel=1e-10)


@pytest.mark.parametrize("entries", [1, 8, 13, 2**18])
def test_blocks_change_nothing(monkeypatch, entries):
    a, b = points(9, seed=3)
    monkeypatch.setattr(neighbor_loss, "_BLOCK_ENTRIES", {"cpu": entries})
    assert NeighborNCE(4)(a, b).item() == pytest.approx(by_loops(a, b, 4), rel=1e-10)


@pytest.mark.parametrize("negatives", [3, 100])
def test_gradients(monkeypatch, negatives):
    monkeypatch.setattr(neighbor_loss, "_BLOCK_ENTRIES", {"cpu": 8})
    a, b = (side.requires_grad_() for side in points(6, seed=1))
    assert gradcheck(lambda a, b: 3 * NeighborNCE(negatives, start_width=2.0)(a, b), (a, b))


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize(("n", "negatives"), [(2, 1), (7, 4), (300, 256), (40, 100), (2500, 1500)])
def test_the_compiled_loop_is_the_products(dimensions, n, negatives):
    sides = [side.requires_grad_() for side in points(n, dimensions, seed=5, scale=3.0)]
    exact = NeighborNCE(negatives, start_width=2.0)(*sides)
    expected = torch.autograd.grad(exact, sides)
    narrow = [side.detach().float().requires_grad_() for side in sides]
    loss = NeighborNCE(negatives, start_width=2.0)(*narrow)
    assert loss.item() == pytest.approx(exact.item(), rel=1e-5)
    for ours, theirs in zip(torch.autograd.grad(3 * loss, narrow), expected, strict=True):
        torch.testing.assert_close(ours.double(), 3 * theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("cores", [1, 2, 5])
def test_how_many_cores_there_are_changes_nothing(monkeypatch, cores):
    sides = [side.float().numpy() for side in points(3000, seed=7, scale=20.0)]
    monkeypatch.setattr(neighbor_kernel, "worker_count", lambda: 1)
    alone = neighbor_kernel.shared_negatives(*sides, 64)
    monkeypatch.setattr(neighbor_kernel, "worker_count", lambda: cores)
    total, on_a, on_b = neighbor_kernel.shared_negatives(*sides, 64)
    assert total == alone[0]
    assert np.array_equal(on_a, alone[1])
    assert np.array_equal(on_b, alone[2])


def test_the_compiled_loop_takes_views_of_other_strides():
    a, b = (side.float() for side in points(50, 4, seed=6))
    whole = NeighborNCE(16)(a[:, ::2].contiguous(), b[:, ::2].contiguous())
    assert NeighborNCE(16)(a[:, ::2], b[:, ::2]).item() == pytest.approx(whole.item(), rel=1e-6)


def test_width_narrows_over_the_first_third_and_is_then_one():
    loss = NeighborNCE(8, start_width=9.0)
    widths = []
    for progress in (0.0, 1 / 6, 1 / 3, 0.5, 1.0):
        loss.at(progress)
        widths.append(loss.width)
    assert widths == pytest.approx([9, 3, 1, 1, 1])
    a, b = points(6)
    loss.at(1 / 6)
    assert loss(a, b).item() == pytest.approx(by_loops(a, b, 8, width=3.0), rel=1e-10)


def test_float32_is_exact_enough_far_from_the_origin():
    a, b = points(200, scale=50.0)
    a, b = a + 400, b + 400
    exact = NeighborNCE(64)(a, b)
    assert NeighborNCE(64)(a.float(), b.float()).item() == pytest.approx(exact.item(), rel=1e-3)


def test_half_precision_and_autocast_do_not_reach_the_distances():
    a, b = points(50, scale=30.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = NeighborNCE(16)(a.float(), b.float())
    assert loss.item() == pytest.approx(NeighborNCE(16)(a, b).item(), rel=1e-4)


def test_breaking_the_pairs_hurts():
    a, _ = points(64, scale=10.0)
    near = a + 0.1
    assert NeighborNCE(32)(a, near.roll(1, 0)).item() > NeighborNCE(32)(a, near).item() + 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NeighborNCE(0), "at least 1 negative"),
        (lambda: NeighborNCE(4, start_width=0.0), "start_width must be above 0"),
        (lambda: NeighborNCE(4)(torch.zeros(1, 2), torch.zeros(1, 2)), "at least 2 pairs"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(InputError, match=message):
        make()
