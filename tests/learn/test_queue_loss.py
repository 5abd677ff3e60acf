"""Nearest neighbours as positives: by hand, against torch, and what the queue holds."""

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from imagescape.errors import InputError
from imagescape.learn.queue_loss import Predicting, QueueLoss


def both(z, p):
    return torch.cat([z, p], dim=1)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_before_anything_is_queued_a_view_is_its_own_neighbour():
    z_a, z_b, p_a, p_b = (random(4, 3, seed=seed) for seed in range(4))
    loss = QueueLoss(3, temperature=0.5)(both(z_a, p_a), both(z_b, p_b))
    n_a, n_b, q_a, q_b = (F.normalize(one, dim=1) for one in (z_a, z_b, p_a, p_b))
    here = torch.arange(4)
    expected = (F.cross_entropy(n_a @ q_b.T / 0.5, here) + F.cross_entropy(n_b @ q_a.T / 0.5, here)) / 2
    assert_close(loss, expected)


def test_the_nearest_of_the_queue_takes_the_place_of_the_view():
    loss = QueueLoss(2, length=8, temperature=1.0)
    old = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    loss(both(old, old), both(old, old))
    assert loss.filled == 2
    # Projections near an axis are replaced by it.
    z = torch.tensor([[0.9, 0.2], [0.1, 0.7]])
    p = F.normalize(random(2, 2), dim=1)
    here = torch.arange(2)
    assert_close(loss(both(z, p), both(z, p)), F.cross_entropy(old @ p.T, here))


def test_the_queue_forgets_the_oldest_first():
    loss = QueueLoss(2, length=3)
    for value in (1.0, 2.0):
        z = torch.tensor([[1.0, value], [1.0, -value]])
        loss(both(z, z), both(z, z))
    first, second = (F.normalize(torch.tensor([[1.0, v], [1.0, -v]]), dim=1) for v in (1.0, 2.0))
    assert_close(loss.queue, torch.stack([second[1], first[1], second[0]]))
    assert (int(loss.filled), int(loss.place)) == (3, 1)


def test_neighbours_have_no_gradient_and_predictions_do():
    loss = QueueLoss(3)
    z, p = random(4, 3).requires_grad_(), random(4, 3, seed=1).requires_grad_()
    loss(both(z, p), both(z, p)).backward()
    assert z.grad is None or z.grad.abs().max() == 0
    assert p.grad.abs().max() > 0


def test_nothing_is_queued_in_eval_mode_or_without_gradients():
    loss, z = QueueLoss(3), random(4, 3)
    with torch.no_grad():
        loss(both(z, z), both(z, z))
    loss.eval()
    loss(both(z, z), both(z, z))
    assert loss.filled == 0


def test_breaking_the_pairing_hurts():
    loss, z = QueueLoss(8, temperature=0.1), random(16, 8)
    assert loss(both(z, z), both(z.roll(1, 0), z.roll(1, 0))) > loss(both(z, z), both(z, z)) + 1


def test_shares_of_a_batch_are_the_whole():
    a, b = (both(random(6, 4, seed=seed), random(6, 4, seed=seed + 9)).requires_grad_() for seed in (0, 1))
    whole = QueueLoss(4)(a, b)
    losses = [QueueLoss(4) for _ in range(2)]
    shares = [
        loss(a[r * 3 : r * 3 + 3], b[r * 3 : r * 3 + 3], candidates=(a, b), first_row=r * 3)
        for r, loss in enumerate(losses)
    ]
    mean = torch.stack(shares).mean()
    assert_close(mean, whole)
    assert_close(torch.autograd.grad(mean, (a, b)), torch.autograd.grad(whole, (a, b)))
    assert_close(losses[0].queue, losses[1].queue)  # every device queues all


def test_what_predicts_stands_on_what_projects():
    head = Predicting(5, hidden=7, out_features=3)
    z, p = head(random(2, 5)).chunk(2, dim=1)
    assert_close(p, head.predictor(z))


def test_settings_are_checked():
    with pytest.raises(InputError, match="temperature must be above 0"):
        QueueLoss(2, temperature=0)
    with pytest.raises(InputError, match="at least 1 projection"):
        QueueLoss(2, length=0)
    with pytest.raises(InputError, match="at least 2 images"):
        QueueLoss(2)(random(1, 4), random(1, 4))
