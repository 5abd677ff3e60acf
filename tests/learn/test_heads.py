"""The projector, its readout, and the rotation folded into it."""

import torch
from torch.testing import assert_close

from imagescape.learn.heads import Projector, straighten


def test_a_new_readout_is_standard_normal_and_keeps_the_rest():
    projector = Projector(8, 2000, 16)
    hidden = [p.clone() for p in projector.hidden.parameters()]
    projector.replace_readout(2, torch.Generator().manual_seed(0))
    assert projector.readout.weight.shape == (2, 2000)
    assert abs(projector.readout.weight.std() - 1) < 0.05
    assert_close(projector.readout.bias, torch.zeros(2))
    assert_close(list(projector.hidden.parameters()), hidden)


class TestStraighten:
    def outputs(self):
        torch.manual_seed(0)
        projector = Projector(5, 32, 2)
        features = torch.randn(500, 5) ** 2
        with torch.no_grad():
            return projector, features, projector(features)

    def test_later_outputs_are_centred_uncorrelated_and_widest_first(self):
        projector, features, before = self.outputs()
        straighten(projector, before)
        after = projector(features).detach()
        assert_close(after.mean(0), torch.zeros(2), atol=1e-5, rtol=0)
        covariance = after.T @ after / len(after)
        assert abs(covariance[0, 1]) < 1e-4 * covariance[0, 0]
        assert covariance[0, 0] > covariance[1, 1]

    def test_distances_stay(self):
        projector, features, before = self.outputs()
        straighten(projector, before)
        assert_close(torch.pdist(projector(features)), torch.pdist(before), atol=1e-4, rtol=1e-3)

    def test_a_mirrored_map_comes_out_the_same(self):
        maps = []
        for sign in (1.0, -1.0):
            projector, features, before = self.outputs()
            with torch.no_grad():
                projector.readout.weight.mul_(torch.tensor([[sign], [1.0]]))
                projector.readout.bias.mul_(torch.tensor([sign, 1.0]))
            straighten(projector, before * torch.tensor([sign, 1.0]))
            maps.append(projector(features).detach())
        assert_close(*maps, atol=1e-4, rtol=1e-3)


def test_projections_are_float32_also_where_the_rest_is_not():
    """bfloat16 knows no 300.5, and the Cauchy kernel is 1 wide."""
    projector = Projector(1, 1, 2)
    with torch.no_grad():
        projector.hidden[0].weight.fill_(1.0)
        projector.hidden[0].bias.zero_()
        projector.readout.weight.fill_(1.0)
        projector.readout.bias.zero_()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert_close(projector(torch.tensor([[300.5]])), torch.tensor([[300.5, 300.5]]))
