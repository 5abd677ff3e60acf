"""The loss of copies against loops in NumPy, by hand, and by what breaking the pairing does."""

import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from imagescape.errors import InputError
from imagescape.learn.copy_loss import CopyLoss, copy_loss, mixed_rows
from imagescape.learn.losses import cosine, info_nce


def rows(n, d=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator), torch.randn(n, d, generator=generator)


def numpy_loss(a, b, temperature, weight, mixed):
    """Every pair by itself; what a row holds is a set of images."""
    n = len(a)
    z = np.concatenate([a, b]).astype(np.float64)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    held = [{i} for i in range(n)] + [{i, (i + 1) % mixed} if i < mixed else {i} for i in range(n)]
    losses, nearest = [], []
    for i in range(2 * n):
        negatives = [k for k in range(2 * n) if not held[i] & held[k]]
        for j in range(2 * n):
            if i != j and held[i] & held[j]:
                terms = [math.exp(z[i] @ z[k] / temperature) for k in [j, *negatives]]
                losses.append(-math.log(terms[0] / sum(terms)))
        if negatives:
            nearest.append(-math.log(min(np.linalg.norm(z[i] - z[k]) for k in negatives)))
    return np.mean(losses) + weight * np.sum(nearest) / (2 * n)


@pytest.mark.parametrize("mixed", [0, 2, 4, 7])
@pytest.mark.parametrize("weight", [0.0, 5.0])
def test_against_numpy(mixed, weight):
    a, b = rows(7)
    ours = copy_loss(a, b, temperature=0.3, entropy_weight=weight, mixed=mixed)
    assert ours.item() == pytest.approx(numpy_loss(a.numpy(), b.numpy(), 0.3, weight, mixed), rel=1e-5)


def test_of_two_views_each_it_is_info_nce():
    a, b = rows(5)
    kernel = lambda x, y: cosine(x, y, temperature=0.2)  # noqa: E731
    assert_close(copy_loss(a, b, temperature=0.2, entropy_weight=0), info_nce(a, b, log_similarity=kernel))


def test_by_hand_two_images_at_right_angles():
    a = torch.eye(2)
    loss = copy_loss(a, a, temperature=1.0, entropy_weight=0)
    assert loss.item() == pytest.approx(math.log(1 + 2 / math.e))
    # The nearest that does not match is at a distance of root 2.
    spread = copy_loss(a, a, temperature=1.0, entropy_weight=1.0) - loss
    assert spread.item() == pytest.approx(-0.5 * math.log(2), rel=1e-5)


def test_small_temperatures_and_equal_rows_stay_finite():
    a = torch.ones(4, 3, requires_grad=True)
    b = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    loss = copy_loss(a, b, temperature=0.01)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(a.grad).all()


def test_breaking_the_pairing_hurts():
    a, _ = rows(16)
    near = a + 0.05 * torch.randn(a.shape, generator=torch.Generator().manual_seed(1))
    assert copy_loss(a, near.roll(1, 0)) > copy_loss(a, near) + 1


def test_the_entropy_term_pushes_the_nearest_apart():
    a = torch.tensor([[1.0, 0.0], [0.99, 0.1], [-1.0, 0.0]], requires_grad=True)
    copy_loss(a, a.detach().clone(), temperature=1.0, entropy_weight=100.0).backward()
    # Down the slope the two that are near go apart: the first down, the second up.
    assert a.grad[0, 1] > 0 > a.grad[1, 1]


@pytest.mark.parametrize("mixed", [0, 2])
def test_shares_of_a_batch_are_the_whole(mixed):
    """Two devices of four images: the mean of their losses has the loss and the gradient of all eight at once."""
    n = 4
    a, b = (one.requires_grad_() for one in rows(2 * n))
    shares = [
        copy_loss(a[r * n : r * n + n], b[r * n : r * n + n], mixed=mixed, candidates=(a, b), first_row=r * n)
        for r in (0, 1)
    ]
    whole = torch.stack(shares).mean()
    gradients = torch.autograd.grad(whole, (a, b))
    expected = _by_sets(a, b, n, mixed) if mixed else copy_loss(a, b)
    assert_close(whole, expected)
    assert_close(gradients, torch.autograd.grad(expected, (a, b)))


def _by_sets(a, b, n, mixed):
    """As the definition has it, with sets, in torch so that there is a gradient."""
    z = torch.nn.functional.normalize(torch.cat([a, b]), dim=1)
    count = len(a)
    second = [{g, g - g % n + (g % n + 1) % mixed} if g % n < mixed else {g} for g in range(count)]
    held = [{g} for g in range(count)] + second
    losses, spread = [], []
    for i in range(2 * count):
        negatives = [k for k in range(2 * count) if not held[i] & held[k]]
        against = torch.stack([z[i] @ z[k] for k in negatives])
        for j in range(2 * count):
            if i != j and held[i] & held[j]:
                own = z[i] @ z[j]
                losses.append(torch.logsumexp(torch.cat([own[None], against]) / 0.05, 0) - own / 0.05)
        spread.append(-0.5 * (2 - 2 * against.max()).log())
    return torch.stack(losses).mean() + 30 * torch.stack(spread).mean()


@pytest.mark.parametrize(
    ("change", "message"),
    [({"mixed": 1}, "none or 2 to 4 can be mixed, got 1"), ({"mixed": 5}, "got 5")],
)
def test_what_cannot_be_mixed_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        copy_loss(*rows(4), **change)


def test_one_image_is_refused():
    with pytest.raises(InputError, match="at least 2 images"):
        copy_loss(*rows(1))


def test_settings_are_checked():
    with pytest.raises(InputError, match="temperature must be above 0"):
        CopyLoss(temperature=0)
    with pytest.raises(InputError, match="entropy_weight must be at least 0"):
        CopyLoss(entropy_weight=-1)


def test_how_many_are_mixed():
    assert [mixed_rows(n, 0.25) for n in (4, 7, 8, 128)] == [0, 0, 2, 32]
