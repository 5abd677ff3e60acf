"""Losses against the paper written out as loops, against closed forms, and by invariance."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from imagescape.errors import InputError
from imagescape.learn.losses import (
    BLOCK_LOGITS,
    KERNELS,
    InfoNCE,
    Tempered,
    cauchy,
    cosine,
    gaussian,
    info_nce,
    kernel,
    squared_distances,
    student_t,
)

ALL = {
    "cosine": partial(cosine, temperature=0.2),
    "cauchy": cauchy,
    "student_t": partial(student_t, dof=3.0),
    "gaussian": partial(gaussian, bandwidth=1.5),
}


def info_nce_by_loops(a, b, log_similarity, decoupled=False):
    """Algorithm 1 of arXiv:2002.05709, one anchor at a time; decoupled, equation 6 of arXiv:2110.06848."""
    rows, n = torch.cat([a, b]), len(a)
    s = log_similarity(rows, rows).exp().numpy()
    total = 0.0
    for i in range(2 * n):
        partner = (i + n) % (2 * n)
        left_out = (i, partner) if decoupled else (i,)
        total -= np.log(s[i, partner] / sum(s[i, k] for k in range(2 * n) if k not in left_out))
    return torch.tensor(total / (2 * n), dtype=a.dtype)


@pytest.fixture
def views():
    rng = torch.Generator().manual_seed(0)
    return torch.randn(2, 6, 5, generator=rng, dtype=torch.float64)


@pytest.mark.parametrize("log_similarity", ALL.values(), ids=ALL.keys())
class TestInfoNCE:
    def test_matches_the_paper_written_as_loops(self, views, log_similarity):
        assert_close(info_nce(*views, log_similarity=log_similarity), info_nce_by_loops(*views, log_similarity))

    def test_decoupled_matches_the_paper_written_as_loops(self, views, log_similarity):
        expected = info_nce_by_loops(*views, log_similarity, decoupled=True)
        assert_close(info_nce(*views, log_similarity=log_similarity, decoupled=True), expected)

    def test_is_log_2n_minus_1_when_all_rows_are_equal(self, log_similarity):
        z = torch.ones(4, 3)
        assert_close(info_nce(z, z, log_similarity=log_similarity), torch.tensor(math.log(7)))

    def test_does_not_care_which_view_comes_first(self, views, log_similarity):
        a, b = views
        assert_close(info_nce(a, b, log_similarity=log_similarity), info_nce(b, a, log_similarity=log_similarity))

    def test_breaks_when_the_pairing_is_broken(self, views, log_similarity):
        a, _ = views
        whole = info_nce(a, a, log_similarity=log_similarity)
        assert whole < info_nce(a, a.roll(1, 0), log_similarity=log_similarity)

    @pytest.mark.parametrize("decoupled", [False, True])
    def test_gradient_is_the_numerical_one(self, views, log_similarity, decoupled):
        a, b = (v.requires_grad_() for v in views)
        assert torch.autograd.gradcheck(partial(info_nce, log_similarity=log_similarity, decoupled=decoupled), (a, b))

    @pytest.mark.parametrize("decoupled", [False, True])
    @pytest.mark.parametrize("block_rows", [1, 5, 12, 100])
    def test_blocks_of_rows_change_neither_value_nor_gradient(self, views, log_similarity, block_rows, decoupled):
        gradients, values = [], []
        for block in (None, block_rows):
            a, b = (v.clone().requires_grad_() for v in views)
            value = info_nce(a, b, log_similarity=log_similarity, block_rows=block, decoupled=decoupled)
            gradients.append(torch.autograd.grad(value, (a, b)))
            values.append(value)
        assert_close(values[0], values[1])
        assert_close(gradients[0], gradients[1])

    @pytest.mark.parametrize("decoupled", [False, True])
    def test_shares_of_a_batch_add_up_to_the_whole(self, views, log_similarity, decoupled):
        a, b = views
        loss = partial(info_nce, log_similarity=log_similarity, decoupled=decoupled)
        shares = [
            loss(a[rows], b[rows], candidates=(a, b), first_row=rows.start)
            for rows in (slice(0, 2), slice(2, 4), slice(4, 6))
        ]
        assert_close(torch.stack(shares).mean(), loss(a, b))


def plain_info_nce(a, b, log_similarity):
    """The whole matrix through autograd and torch's own cross-entropy."""
    rows = torch.cat([a, b])
    logits = log_similarity(rows, rows).clone().fill_diagonal_(-torch.inf)
    return torch.nn.functional.cross_entropy(logits, torch.arange(len(rows)).roll(len(a)))


SCALE = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
# Kernels written otherwise than ours: through autograd alone, with results that their gradient needs, with tensors of
# their own that learn: a leaf, and one made outside of the kernel.
FOREIGN = {
    "cauchy by cdist": lambda a, b: -torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").square().log1p(),
    "sigmoid": lambda a, b: (a @ b.T).sigmoid(),
    "a leaf": lambda a, b: SCALE * (a @ b.T),
    "made outside": partial(lambda scale, a, b: scale * (a @ b.T), SCALE.exp()),
}


@pytest.mark.parametrize("log_similarity", FOREIGN.values(), ids=FOREIGN.keys())
@pytest.mark.parametrize("block_rows", [None, 5])
def test_any_kernel_gets_the_gradients_of_autograd(views, log_similarity, block_rows):
    results = []
    for loss in (partial(info_nce, block_rows=block_rows), plain_info_nce):
        a, b = (v.clone().requires_grad_() for v in views)
        # Three times the loss, so that the slope that comes from outside counts.
        value = 3 * loss(a, b, log_similarity=log_similarity)
        results.append((value, *torch.autograd.grad(value, (a, b, SCALE), retain_graph=True, allow_unused=True)))
    assert_close(*results, rtol=1e-6, atol=1e-9)
    assert (results[0][-1] is None) == (log_similarity in (FOREIGN["cauchy by cdist"], FOREIGN["sigmoid"]))


def test_one_view_alone_may_want_a_gradient_or_none(views):
    a, b = views
    expected = info_nce(a, b, log_similarity=cauchy)
    assert not expected.requires_grad
    whole = a.clone().requires_grad_()
    with torch.no_grad():
        assert not info_nce(whole, b, log_similarity=cauchy).requires_grad
    value = info_nce(whole, b, log_similarity=cauchy)
    value.backward()
    other = a.clone().requires_grad_()
    plain_info_nce(other, b, cauchy).backward()
    assert_close(value, expected)
    assert_close(whole.grad, other.grad)


@pytest.mark.parametrize("dimensions", [1, 2, 3, 4, 16])
def test_gradient_of_squared_distances_is_the_numerical_one(dimensions):
    a, b = (torch.randn(n, dimensions, dtype=torch.float64, requires_grad=True) for n in (4, 3))
    assert torch.autograd.gradcheck(squared_distances, (a, b))


@pytest.mark.parametrize("dimensions", [2, 16])
def test_pulls_far_from_the_origin_are_exact_enough(dimensions):
    a, b, slopes = 300 + torch.randn(6, dimensions), 300 + torch.randn(5, dimensions), torch.rand(6, 5)
    found, exact = (
        torch.autograd.grad((squared_distances(x, y) * slopes.to(x)).sum(), (x, y))
        for x, y in ([one.to(kind).requires_grad_() for one in (a, b)] for kind in (torch.float32, torch.float64))
    )
    for one, other in zip(found, exact, strict=True):
        assert_close(one.double(), other, rtol=1e-4, atol=1e-3)


def test_decoupled_at_points_worked_by_hand():
    """Two images, both views of each in one place, a distance of 2 apart: two negatives of similarity 1/5 each."""
    z = torch.tensor([[0.0, 0.0], [2.0, 0.0]])
    assert_close(info_nce(z, z, log_similarity=cauchy, decoupled=True), torch.tensor(math.log(2 / 5)))
    assert_close(info_nce(z, z, log_similarity=cauchy), torch.tensor(math.log(1 + 2 / 5)))


def test_decoupled_pulls_a_close_pair_where_the_coupled_loss_has_all_but_let_go():
    """The coupled loss multiplies the whole gradient by 1 - p(positive)."""
    a, b = torch.tensor([[1.0, 0.1], [-1.0, 0.0]]), torch.tensor([[1.0, -0.1], [-1.0, 0.2]])
    pulls = []
    for decoupled in (True, False):
        one = a.clone().requires_grad_()
        kernel_of_one = partial(cosine, temperature=0.05)
        info_nce(one, b, log_similarity=kernel_of_one, decoupled=decoupled).backward()
        pulls.append(one.grad.norm())
    assert pulls[0] > 1e3 * pulls[1]


def largest_tensor_saved(n, block_rows):
    """Elements of the largest tensor that the forward pass keeps or makes, by watching every operation."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Watch(TorchDispatchMode):
        largest = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor):
                Watch.largest = max(Watch.largest, out.numel())
            return out

    Watch.largest = 0
    a, b = (torch.randn(n, 2, requires_grad=True) for _ in range(2))
    with Watch():
        info_nce(a, b, log_similarity=cauchy, block_rows=block_rows).backward()
    return Watch.largest


def test_memory_is_linear_in_the_batch_when_blocked_and_quadratic_when_dense():
    blocked = [largest_tensor_saved(n, 64) for n in (256, 512, 1024)]
    assert blocked == [64 * 2 * n for n in (256, 512, 1024)]
    assert largest_tensor_saved(512, 2048) == (2 * 512) ** 2


def test_large_batches_are_blocked_without_being_asked(monkeypatch):
    monkeypatch.setitem(BLOCK_LOGITS, "cpu", (2**12, 2**14))
    assert largest_tensor_saved(512, None) <= 2**14


def test_kernels_at_points_worked_by_hand():
    a, b = torch.tensor([[3.0, 0.0]]), torch.tensor([[3.0, 4.0]])
    assert_close(cosine(a, b, temperature=0.2), torch.tensor([[0.6 / 0.2]]))
    assert_close(cauchy(a, b), torch.tensor([[-math.log(1 + 4.0**2)]]))
    assert_close(student_t(a, b, dof=3.0), torch.tensor([[-2 * math.log(1 + 16 / 3)]]))
    assert_close(gaussian(a, b, bandwidth=2.0), torch.tensor([[-16 / 8.0]]))


def test_student_t_of_one_degree_of_freedom_is_cauchy():
    a, b = torch.randn(2, 4, 3)
    assert_close(student_t(a, b, dof=1.0), cauchy(a, b))


@pytest.mark.parametrize("dimensions", [2, 3, 16])
def test_squared_distances_equal_numpy_in_double(dimensions):
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 100, (7, dimensions)) + 300, rng.normal(0, 100, (5, dimensions)) + 300
    expected = ((a[:, None] - b[None]) ** 2).sum(-1)
    got = squared_distances(torch.from_numpy(a).float(), torch.from_numpy(b).float())
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-5, atol=1e-2)


def test_neighbours_far_from_the_origin_keep_their_distance():
    """A trained map spans hundreds of units: two points 0.01 apart must not be rounded together."""
    a = torch.tensor([[500.0, -300.0]])
    assert_close(squared_distances(a, a + 0.0625), torch.tensor([[2 * 0.0625**2]]))


def test_half_precision_projections_do_not_overflow():
    a, b = (torch.randn(8, 2) * 400 for _ in range(2))
    half = info_nce(a.half(), b.half(), log_similarity=cauchy)
    assert half.dtype == torch.float32
    assert_close(half, info_nce(a.half().float(), b.half().float(), log_similarity=cauchy))


def test_cosine_stays_finite_at_a_small_temperature():
    z = torch.randn(2, 16, 8, requires_grad=True)
    loss = info_nce(z[0], z[1], log_similarity=partial(cosine, temperature=0.01))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(z.grad).all()
    rows = torch.nn.functional.normalize(z.detach().double().flatten(0, 1), dim=1).numpy()
    logits = rows @ rows.T / 0.01
    np.fill_diagonal(logits, -np.inf)
    partner = logits[np.arange(32), np.arange(32).reshape(2, 16)[::-1].ravel()]
    highest = logits.max(1)
    expected = (highest + np.log(np.exp(logits - highest[:, None]).sum(1)) - partner).mean()
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_a_learned_temperature_gets_a_gradient_also_through_blocks():
    a, b = torch.randn(2, 8, 4)
    gradients = []
    for block in (None, 3):
        tempered = Tempered(partial(cosine, temperature=1.0), 0.5, learnable=True)
        info_nce(a, b, log_similarity=tempered, block_rows=block).backward()
        gradients.append(tempered.temperature.logarithm.grad)
    assert gradients[0].abs() > 0
    assert_close(*gradients)


def test_temperature_divides_the_log_similarity():
    a, b = torch.randn(2, 4, 3)
    assert_close(kernel("cauchy", temperature=200.0)(a, b), cauchy(a, b) / 200)
    assert_close(kernel("cosine", temperature=0.1)(a, b), cosine(a, b, temperature=0.1))


def test_degrees_of_freedom_reach_the_kernel_and_no_other():
    a, b = torch.randn(2, 4, 3)
    assert_close(kernel("student_t", dof=0.5)(a, b), student_t(a, b, dof=0.5))
    assert_close(kernel("student_t", dof=5.0, temperature=2.0)(a, b), student_t(a, b, dof=5.0) / 2)
    for settings in ({"dof": 2.0}, {"final_dof": 2.0}, {"learn_dof": True}):
        with pytest.raises(InputError, match="are for the kernel student_t, got one for 'cauchy'"):
            kernel("cauchy", **settings)
    with pytest.raises(InputError, match="above 0"):
        kernel("student_t", dof=0.0)


def test_learned_degrees_of_freedom_get_the_numerical_gradient_also_through_blocks():
    a, b = torch.randn(2, 8, 2, dtype=torch.float64)

    def loss(logarithm):
        return float(info_nce(a, b, log_similarity=partial(student_t, dof=math.exp(logarithm))))

    expected = (loss(math.log(3) + 1e-6) - loss(math.log(3) - 1e-6)) / 2e-6
    for block in (None, 3):
        learned = kernel("student_t", dof=3.0, learn_dof=True).double()
        info_nce(a, b, log_similarity=learned, block_rows=block).backward()
        assert learned.dof.logarithm.grad.item() == pytest.approx(expected, rel=1e-6)


def test_led_settings_go_in_equal_ratios_from_start_to_end():
    a, b = torch.randn(2, 4, 3)
    loss = InfoNCE(kernel("student_t", dof=16.0, final_dof=1.0, temperature=0.25, final_temperature=1.0))
    for progress, dof, temperature in ((0, 16.0, 0.25), (0.5, 4.0, 0.5), (1, 1.0, 1.0)):
        loss.at(progress)
        assert_close(loss.log_similarity(a, b), student_t(a, b, dof=dof) / temperature)
    assert not [parameter for parameter in loss.parameters() if parameter.requires_grad]


@pytest.mark.parametrize("name", KERNELS)
def test_every_kernel_can_have_its_temperature_led(name):
    a, b = torch.randn(2, 4, 3)
    loss = InfoNCE(kernel(name, final_temperature=0.1))
    loss.at(0.0)
    assert_close(loss.log_similarity(a, b), kernel(name)(a, b))
    loss.at(1.0)
    assert_close(loss.log_similarity(a, b), kernel(name, temperature=0.1)(a, b))


def test_what_stays_or_is_learned_is_not_led():
    loss = InfoNCE(kernel("student_t", dof=3.0, learn_dof=True, temperature=2.0))
    loss.at(0.7)
    assert loss.log_similarity.log_similarity.dof().item() == pytest.approx(3)
    assert loss.log_similarity.temperature().item() == pytest.approx(2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"final_dof": 0.0}, "dof must be above 0 and finite, got 0.0"),
        ({"final_temperature": -1.0}, "temperature must be above 0 and finite, got -1.0"),
        ({"final_dof": 2.0, "learn_dof": True}, "dof is either learned or led to a final value, got both"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(InputError, match=message):
        kernel("student_t", **settings)


def test_unknown_kernel_lists_those_there_are():
    with pytest.raises(InputError, match=", ".join(KERNELS)):
        kernel("laplace")


def test_one_image_is_refused():
    with pytest.raises(ValueError, match=r"at least 2 images.*got a batch of 1"):
        info_nce(torch.ones(1, 3), torch.ones(1, 3))
