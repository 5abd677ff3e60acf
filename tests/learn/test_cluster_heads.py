"""Heads against a loop over them, teachers against their definition, and what is kept as the best."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from imagescape.learn.cluster_heads import Distilled, LinearHeads, ResidualHeads, SelfLabelled, Taught, Watched

KINDS = {"linear": LinearHeads, "residual": ResidualHeads}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def rows(n=7, d=6, seed=1):
    return nn.functional.normalize(torch.randn(n, d, generator=generator(seed)), dim=1)


@pytest.fixture(params=KINDS)
def heads(request):
    made = KINDS[request.param](6, 4, 3, generator=generator())
    with torch.no_grad():  # as after some training: no part is at its start
        for weights in made.parameters():
            weights.add_(0.3 * torch.randn(weights.shape, generator=generator(2)))
    return made


class TestHeads:
    def test_linear_is_a_layer_a_head(self):
        heads = LinearHeads(6, 4, 3, generator())
        for head in range(3):
            expected = nn.functional.linear(rows(), heads.weight[head], heads.bias[head])
            assert_close(heads(rows())[:, head], expected)

    def test_residual_equals_a_loop(self):
        heads = ResidualHeads(6, 4, 3, hidden=5, temperature=0.2, generator=generator())
        with torch.no_grad():
            heads.outer.normal_(generator=generator(3))
            heads.inner_bias.normal_(generator=generator(4))
        found = heads(rows()).detach().numpy()
        for h in range(3):
            inner, bias, outer, prototypes = (
                weights[h].detach().numpy()
                for weights in (heads.inner, heads.inner_bias, heads.outer, heads.prototypes)
            )
            for i, row in enumerate(rows().numpy()):
                expected = prototypes @ row / 0.2 + np.maximum(inner @ row + bias, 0) @ outer
                np.testing.assert_allclose(found[i, h], expected, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("kind", KINDS)
    def test_start_from_centroids_parts_rows_by_cosine(self, kind):
        heads = KINDS[kind](6, 4, 2, generator=generator())
        centroids = rows(4, seed=5)
        heads.start_from(1, centroids)
        assert_close(heads(rows(50))[:, 1].argmax(1), (rows(50) @ centroids.T).argmax(1))

    def test_heads_learn_apart(self, heads):
        heads(rows())[:, 1].square().sum().backward()
        for weights in heads.parameters():
            assert weights.grad[1].abs().max() > 0
            assert weights.grad[[0, 2]].abs().max() == 0

    def test_one_alone_says_the_same(self, heads):
        alone = heads.only(2)
        assert alone.heads == 1
        assert_close(alone(rows())[:, 0], heads(rows())[:, 2])
        with torch.no_grad():
            next(alone.parameters()).zero_()
        assert next(heads.parameters()).abs().max() > 0  # a copy

    def test_clusters_in_another_order(self, heads):
        before = heads(rows())
        heads.arrange(torch.tensor([2, 0, 3, 1]))
        assert_close(heads(rows()), before[:, :, [2, 0, 3, 1]])

    def test_without_a_middle(self):
        heads = ResidualHeads(6, 4, 2, hidden=0, temperature=0.5, generator=generator())
        expected = rows() @ heads.prototypes[1].T / 0.5
        assert_close(heads(rows())[:, 1], expected)

    def test_autocast_leaves_logits_fine(self):
        heads = ResidualHeads(6, 4, 2, hidden=8, generator=generator())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            coarse = heads(rows())
        assert coarse.dtype == torch.float32
        assert_close(coarse, heads(rows()))  # the middle is rounded, and at the start adds nothing


class TestTeachers:
    def test_running_mean_by_hand(self):
        student = nn.Linear(1, 1, bias=False)
        nn.init.constant_(student.weight, 2.0)
        taught = Taught(student, 0.75)
        nn.init.constant_(student.weight, 6.0)
        assert taught.teacher.weight.item() == 2
        taught.at(0.5)
        assert taught.teacher.weight.item() == pytest.approx(0.75 * 2 + 0.25 * 6)
        assert not taught.teacher.weight.requires_grad

    def test_teachers_stay_in_eval_mode_and_follow_batch_norm(self):
        student = nn.Sequential(nn.BatchNorm1d(6), nn.Dropout(0.5))
        taught = Taught(student, 0.5)
        for mode in (True, False, True):
            nn.Sequential(taught).train(mode)
            assert (student.training, taught.teacher.training) == (mode, False)
        before = taught.teacher[0].running_mean.clone()
        student(10 + rows())
        assert_close(taught.teacher[0].running_mean, before)
        taught.at(0)
        assert (taught.teacher[0].running_mean > before).all()
        assert int(taught.teacher[0].num_batches_tracked) == 1

    def test_distilled_gives_both_of_both(self, heads):
        distilled = Distilled(heads, 0.9)
        with torch.no_grad():
            next(heads.parameters()).mul_(-1)
        out = distilled(rows())
        assert out.shape == (7, 2, 3, 4)
        assert_close(out[:, 0], heads(rows()))
        assert_close(out[:, 1], distilled.teacher(rows()))
        assert (out[:, 0] - out[:, 1]).abs().max() > 0.1

    def test_self_labelled_teacher_sees_the_first_half(self, heads):
        network = SelfLabelled(heads.only(0), 0.9)
        with torch.no_grad():
            next(network.student.parameters()).mul_(-1)
        views = rows(8)
        out = network(views)
        assert_close(out[:4], network.teacher(views[:4]))
        assert_close(out[4:], network.student(views[4:]))
        assert not out[:4].detach().equal(network.student(views[:4]))


class Scripted:
    """Judges by a script, and counts."""

    def __init__(self, *looks):
        self.looks = iter(looks)

    def __call__(self, live):
        losses, alive = next(self.looks)
        return torch.tensor(losses), torch.tensor(alive)


class TestWatched:
    def watch(self, *looks):
        watched = Watched(LinearHeads(2, 2, 2, generator()), 2, len(looks), Scripted(*looks))
        for number in range(len(looks)):
            with torch.no_grad():
                watched.live.bias.fill_(number)
            watched.look(number)
        return watched

    def test_keeps_head_and_look_of_the_lowest_loss(self):
        watched = self.watch(([3.0, 2.0], [2, 2]), ([1.0, 2.5], [2, 2]), ([1.5, 1.2], [2, 2]))
        assert (int(watched.best_look), int(watched.best_head)) == (1, 0)
        assert watched.best.bias.unique().tolist() == [1]
        assert watched.live.bias.unique().tolist() == [2]
        assert_close(watched.losses, torch.tensor([[3.0, 2.0], [1.0, 2.5], [1.5, 1.2]]))

    def test_a_dead_cluster_is_worse_than_any_loss(self):
        watched = self.watch(([3.0, 2.0], [1, 2]), ([-9.0, -8.0], [1, 1]))
        assert (int(watched.best_look), int(watched.best_head)) == (0, 1)

    def test_a_cluster_come_to_life_is_better(self):
        assert int(self.watch(([1.0, 1.0], [1, 1]), ([2.0, 3.0], [2, 1])).best_look) == 1

    def test_the_first_of_equals_stays(self):
        assert int(self.watch(([1.0, 1.0], [2, 2]), ([1.0, 1.0], [2, 2])).best_look) == 0

    def test_all_of_it_is_in_the_state(self):
        watched = self.watch(([3.0, 2.0], [2, 2]), ([1.0, 2.5], [2, 2]))
        again = Watched(LinearHeads(2, 2, 2, generator(9)), 2, 2, Scripted())
        again.load_state_dict(watched.state_dict())
        assert (int(again.best_look), int(again.best_head)) == (1, 0)
        assert again.best.bias.unique().tolist() == [1]

    def test_a_look_leaves_the_mode_alone(self):
        live = nn.Dropout(0.5)

        def judge(network):
            assert not network.training
            return torch.zeros(1), torch.ones(1, dtype=torch.int64)

        watched = Watched(live, 1, 1, judge).train()
        watched.look(0)
        assert live.training
