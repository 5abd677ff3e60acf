"""Losses of cluster heads against values worked by hand and plain NumPy, and what they must prefer."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from imagescape.errors import InputError
from imagescape.learn.cluster_losses import (
    ScanLoss,
    SelfLabelLoss,
    TemiLoss,
    confident_cross_entropy,
    entropy_of_mean,
    log_agreement,
    scan_loss,
    shared_information,
    teacher_agreement,
    temi_loss,
)

LOG2 = math.log(2)


def logits(*shape, seed=0, scale=2.0):
    return scale * torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def probabilities(values):
    values = np.exp(values - values.max(-1, keepdims=True))
    return values / values.sum(-1, keepdims=True)


def sure(*clusters, k=2, by=30.0):
    """Logits (n, 1, k) of rows that are surely in these clusters."""
    rows = torch.zeros(len(clusters), 1, k, dtype=torch.float64)
    rows[torch.arange(len(clusters)), 0, torch.tensor(clusters)] = by
    return rows


class TestScan:
    def test_hand_values(self):
        even = torch.zeros(4, 1, 2, dtype=torch.float64)
        # Undecided everywhere: agreement 1/2, and the mean is even.
        assert scan_loss(even, even, entropy_weight=5).item() == pytest.approx(LOG2 - 5 * LOG2)
        # Sure, right and even; sure, right and all in one cluster.
        parted, collapsed = sure(0, 1, 0, 1), sure(0, 0, 0, 0)
        assert scan_loss(parted, parted, entropy_weight=5).item() == pytest.approx(-5 * LOG2)
        assert scan_loss(collapsed, collapsed, entropy_weight=5).item() == pytest.approx(0, abs=1e-9)
        # p = (3/4, 1/4), q = (1/4, 3/4): <p, q> = 6/16.
        a = torch.tensor([[[math.log(3), 0.0]]], dtype=torch.float64)
        b = torch.tensor([[[0.0, math.log(3)]]], dtype=torch.float64)
        entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
        assert scan_loss(a, b, entropy_weight=2).item() == pytest.approx(-math.log(6 / 16) - 2 * entropy)

    def test_equals_numpy_head_by_head(self):
        a, b = logits(7, 3, 5, seed=1), logits(7, 3, 5, seed=2)
        p, q = probabilities(a.numpy()), probabilities(b.numpy())
        for head in range(3):
            agreement = [-math.log(sum(p[i, head, c] * q[i, head, c] for c in range(5))) for i in range(7)]
            mean = [sum(p[i, head, c] for i in range(7)) / 7 for c in range(5)]
            entropy = -sum(m * math.log(m) for m in mean)
            expected = np.mean(agreement) - 1.5 * entropy
            assert scan_loss(a, b, entropy_weight=1.5)[head].item() == pytest.approx(expected, rel=1e-12)
        assert ScanLoss(1.5)(a, b).item() == pytest.approx(scan_loss(a, b, entropy_weight=1.5).sum().item())

    def test_rows_that_are_sure_and_disagree_cost_what_they_should_and_still_learn(self):
        a, b = sure(0, by=200.0).float().requires_grad_(), sure(1, by=200.0).float()
        loss = scan_loss(a, b, entropy_weight=0.0)
        assert loss.item() == pytest.approx(200 - LOG2, rel=1e-5)  # as probabilities: log 0
        loss.sum().backward()
        assert torch.isfinite(a.grad).all()
        assert a.grad.abs().max() > 0.1

    @settings(max_examples=30)
    @given(st.integers(2, 6), st.integers(0, 1000))
    def test_orders_of_rows_and_clusters_do_not_matter(self, k, seed):
        a, b = logits(5, 2, k, seed=seed), logits(5, 2, k, seed=seed + 1)
        rows, clusters = np.random.default_rng(seed).permutation(5), np.random.default_rng(seed).permutation(k)
        expected = scan_loss(a, b)
        torch.testing.assert_close(scan_loss(a[rows], b[rows]), expected)
        torch.testing.assert_close(scan_loss(a[..., clusters], b[..., clusters]), expected)

    def test_breaking_the_pairs_hurts(self):
        rows = sure(0, 1, 0, 1, by=4.0)
        assert scan_loss(rows, rows.roll(1, 0)).item() > scan_loss(rows, rows).item() + 2

    def test_entropy_counts_the_anchors_alone(self):
        a, b = sure(0, 1), sure(0, 0)
        spread = -scan_loss(a, a, entropy_weight=1).item()
        assert entropy_of_mean(a).item() == pytest.approx(spread)
        weights = [scan_loss(a, b, entropy_weight=w).item() for w in (1.0, 2.0)]
        assert weights[0] - weights[1] == pytest.approx(LOG2)

    def test_several_devices_take_the_loss_of_the_whole_batch(self):
        a, b = logits(6, 2, 3, seed=1), logits(6, 2, 3, seed=2)
        whole = ScanLoss(2.0)(a, b)
        assert ScanLoss(2.0)(a[:3], b[:3], candidates=(a, b), first_row=0).item() == pytest.approx(whole.item())


class TestSharedInformation:
    def test_hand_values(self):
        parted = torch.tensor([[0], [0], [1], [1]])
        assert shared_information(parted, parted, 2).item() == pytest.approx(LOG2)
        assert shared_information(parted, 1 - parted, 2).item() == pytest.approx(LOG2)  # as good as the same
        assert shared_information(parted, torch.tensor([[0], [1], [0], [1]]), 2).item() == pytest.approx(0, abs=1e-7)
        assert shared_information(torch.zeros_like(parted), torch.zeros_like(parted), 2).item() == 0
        # Three pairs in cluster 0, one split: joint of both ways (6, 1, 1, 0) / 8, marginals 7/8 and 1/8.
        a, b = torch.tensor([[0], [0], [0], [0]]), torch.tensor([[0], [0], [0], [1]])
        expected = 6 / 8 * math.log(6 / 8 / (7 / 8) ** 2) + 2 / 8 * math.log(1 / 8 / (7 / 8 * 1 / 8))
        assert shared_information(a, b, 2).item() == pytest.approx(expected, rel=1e-5)

    def test_equals_scikit_learn_of_both_ways_head_by_head(self):
        from sklearn.metrics import mutual_info_score

        a, b = (torch.randint(6, (50, 3), generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
        b[:25] = a[:25]
        for head, found in enumerate(shared_information(a, b, 6)):
            ways = torch.cat([a, b])[:, head], torch.cat([b, a])[:, head]
            assert found.item() == pytest.approx(mutual_info_score(*(way.numpy() for way in ways)), rel=1e-5)

    def test_many_clusters_take_no_room(self):
        a = torch.arange(20)[:, None] * 50_000
        assert shared_information(a, a, 1_000_000).item() == pytest.approx(math.log(20), rel=1e-5)


class TestTemi:
    def test_hand_values(self):
        even, parted = torch.full((1, 2), 0.5, dtype=torch.float64), sure(0, 1, 0, 1)
        ones = torch.ones(4, dtype=torch.float64)
        # Sure and right: (1 * 1)^beta / (1/2) = 2, whatever beta.
        for beta in (0.6, 1.0):
            assert temi_loss(parted, parted, even, ones, beta=beta).item() == pytest.approx(-LOG2, abs=1e-6)
        # Undecided: 2 * (1/4)^beta / (1/2); with beta 1 that is log 1 = 0.
        blank = torch.zeros(4, 1, 2, dtype=torch.float64)
        assert temi_loss(blank, blank, even, ones, beta=1.0).item() == pytest.approx(0)
        assert temi_loss(blank, blank, even, ones, beta=0.5).item() == pytest.approx(-LOG2)
        # All in one cluster, as pi knows: nothing gained.
        collapsed = sure(0, 0)
        one = torch.tensor([[1.0, 1e-6]], dtype=torch.float64)
        assert temi_loss(collapsed, collapsed, one, ones[:2], beta=1.0).item() == pytest.approx(0, abs=1e-5)

    @pytest.mark.parametrize("beta", [0.3, 0.6, 1.0])
    def test_equals_numpy(self, beta):
        student, teacher = logits(6, 2, 4, seed=3), logits(6, 2, 4, seed=4)
        marginal = torch.from_numpy(probabilities(logits(2, 4, seed=5).numpy()))
        weight = torch.rand(6, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
        s, t = probabilities(student.numpy()), probabilities(teacher.numpy())
        for head in range(2):
            total = 0.0
            for i in range(6):
                inner = sum((s[i, head, c] * t[i, head, c]) ** beta / float(marginal[head, c]) for c in range(4))
                total -= float(weight[i]) * math.log(inner) / 6
            found = temi_loss(student, teacher, marginal, weight, beta=beta)[head].item()
            assert found == pytest.approx(total, rel=1e-12)

    def test_weight_is_the_agreement_averaged_over_heads(self):
        a, b = logits(5, 3, 4, seed=7), logits(5, 3, 4, seed=8)
        p, q = probabilities(a.numpy()), probabilities(b.numpy())
        expected = [np.mean([p[i, h] @ q[i, h] for h in range(3)]) for i in range(5)]
        np.testing.assert_allclose(teacher_agreement(a, b).numpy(), expected)
        torch.testing.assert_close(log_agreement(a, b).exp().mean(1), teacher_agreement(a, b))

    def test_both_ways_and_running_marginals(self):
        loss = TemiLoss(2, 3, beta=0.6, momentum=0.9).double()
        a, b = logits(4, 2, 2, 3, seed=9), logits(4, 2, 2, 3, seed=10)
        value = loss(a, b)
        teachers = probabilities(torch.cat([a[:, 1], b[:, 1]]).numpy())
        np.testing.assert_allclose(loss.marginal.numpy(), 0.9 / 3 + 0.1 * teachers.mean(0), rtol=1e-5)
        weight = teacher_agreement(a[:, 1].float(), b[:, 1].float())
        there = temi_loss(a[:, 0].float(), b[:, 1].float(), loss.marginal.float(), weight)
        back = temi_loss(b[:, 0].float(), a[:, 1].float(), loss.marginal.float(), weight)
        assert value.item() == pytest.approx((there + back).mean().item() / 2, rel=1e-5)

    def test_teachers_are_not_taught(self):
        a, b = logits(4, 2, 2, 3, seed=1).requires_grad_(), logits(4, 2, 2, 3, seed=2).requires_grad_()
        TemiLoss(2, 3)(a, b).backward()
        for side in (a, b):
            assert side.grad[:, 1].abs().max() == 0
            assert side.grad[:, 0].abs().max() > 0

    def test_a_cluster_that_starves_is_worth_more(self):
        fair = torch.full((1, 2), 0.5, dtype=torch.float64)
        starving = torch.tensor([[0.9, 0.1]], dtype=torch.float64)
        rows, ones = sure(1, 1), torch.ones(2, dtype=torch.float64)
        assert temi_loss(rows, rows, starving, ones).item() < temi_loss(rows, rows, fair, ones).item()


class TestSelfLabel:
    def test_hand_value(self):
        # Teacher: cluster 0 at .9, cluster 1 at .6, cluster 1 at .99.
        teacher = torch.tensor([[0.9, 0.1], [0.4, 0.6], [0.01, 0.99]], dtype=torch.float64).log()
        student = torch.tensor([[0.5, 0.5], [0.2, 0.8], [0.75, 0.25]], dtype=torch.float64).log()
        first, second, third = -math.log(0.5), -math.log(0.8), -math.log(0.25)
        plain = {"balance": False}
        assert confident_cross_entropy(student, teacher, confidence=0.95, **plain).item() == pytest.approx(third)
        both = confident_cross_entropy(student, teacher, confidence=0.8, **plain).item()
        assert both == pytest.approx((first + third) / 2)
        everyone = confident_cross_entropy(student, teacher, confidence=0.5, **plain).item()
        assert everyone == pytest.approx((first + second + third) / 3)
        # Balanced: cluster 0 has one row, cluster 1 has two, and both weigh the same.
        balanced = confident_cross_entropy(student, teacher, confidence=0.5).item()
        assert balanced == pytest.approx((first + (second + third) / 2) / 2)

    def test_nobody_sure_enough(self):
        teacher, student = logits(8, 4, scale=0.1), logits(8, 4, seed=1).requires_grad_()
        assert confident_cross_entropy(student, teacher, confidence=0.99).item() == 0
        value = confident_cross_entropy(student, teacher, confidence=0.99, least_share=0.25, balance=False)
        value.backward()
        taught = (student.grad.abs().sum(1) > 0).numpy()
        surest = np.argsort(-probabilities(teacher.numpy()).max(1))[:2]
        assert sorted(np.flatnonzero(taught)) == sorted(surest)

    def test_the_share_rises_along_the_way(self):
        loss = SelfLabelLoss(0.99, shares=(0.2, 0.6))
        shares = []
        for progress in (0.0, 0.5, 1.0):
            loss.at(progress)
            shares.append(loss.least_share)
        assert shares == pytest.approx([0.2, 0.4, 0.6])

    def test_weak_views_teach_strong_ones(self):
        weak, strong = sure(0, 1, by=5.0).requires_grad_(), sure(1, 0, by=5.0).requires_grad_()
        SelfLabelLoss(0.9)(weak, strong).backward()
        assert weak.grad is None or weak.grad.abs().max() == 0
        assert (strong.grad[0, 0, 0] < 0) & (strong.grad[1, 0, 1] < 0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: scan_loss(torch.zeros(2, 1, 3), torch.zeros(3, 1, 3)), r"of one shape .* got \(2, 1, 3\) and \(3"),
        (lambda: scan_loss(torch.zeros(2, 3), torch.zeros(2, 3)), "two sets of logits"),
        (lambda: scan_loss(torch.zeros(0, 1, 3), torch.zeros(0, 1, 3)), "n at least 1"),
        (lambda: ScanLoss(-1.0), "entropy_weight must be at least 0"),
        (lambda: ScanLoss(math.nan), "entropy_weight must be at least 0"),
        (lambda: temi_loss(sure(0), sure(0), torch.ones(1, 2), torch.ones(1), beta=0.0), "beta must be above 0"),
        (lambda: TemiLoss(1, 2, momentum=1.0), "momentum of the marginals"),
        (lambda: SelfLabelLoss(0.0), "confidence must be above 0"),
        (lambda: SelfLabelLoss(0.9, shares=(0.8, 0.2)), "shares must rise"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(InputError, match=message):
        call()
