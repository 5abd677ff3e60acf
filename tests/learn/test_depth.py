"""Parts of a network from input to output: run in turn they are it, and every parameter is in one of them."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from imagescape.errors import InputError
from imagescape.learn.backbones import backbone
from imagescape.learn.backbones.depth import can_be_split, frozen_parts, parts_of, rate_fractions
from imagescape.learn.backbones.simclr_resnet import SimCLRArchitecture, SimCLRResNet

OURS = {
    "resnet10": lambda: backbone("resnet10", width=4),
    "resnet50": lambda: backbone("resnet50", width=2, stem="imagenet"),
    "efficientnet_lite0": lambda: backbone("efficientnet_lite0"),
    "simclr": lambda: SimCLRResNet(SimCLRArchitecture(blocks=(1, 2, 1, 1), channels=4, selective_kernels=True)),
    "simclr with a head": lambda: SimCLRResNet(SimCLRArchitecture(blocks=(1, 1, 1, 1), channels=4, head_layers=1)),
}
COUNTS = {"efficientnet_lite0": 9}


class Layered(nn.Module):
    """As transformers are: something before a list of layers, something after, and a parameter of its own."""

    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 4))
        self.embed = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.1))
        self.encoder = nn.Module()
        self.encoder.layers = nn.ModuleList(nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)) for _ in range(3))
        self.norm = nn.LayerNorm(4)


@pytest.mark.parametrize("name", OURS)
def test_our_parts_in_turn_are_the_network(name):
    network = OURS[name]().eval()
    assert can_be_split(network)
    images = torch.randn(2, 3, 33, 33, generator=torch.Generator().manual_seed(0))
    made = images
    with torch.no_grad():
        for part in network.parts():
            made = part(made)
        assert_close(made, network(images), atol=0, rtol=0)
    assert len(network.parts()) == COUNTS.get(name, 5)


@pytest.mark.parametrize("make", [*OURS.values(), Layered, lambda: nn.Linear(2, 2)])
def test_every_parameter_is_in_one_part(make):
    network = make()
    held = [id(p) for part in parts_of(network) for module in part for p in module.parameters(recurse=False)]
    assert sorted(held) == sorted(id(p) for p in network.parameters())


def test_layers_of_another_network_are_its_parts():
    network = Layered()
    parts = parts_of(network)
    assert len(parts) == 5
    assert network in parts[0]  # whose own parameter comes before the layers
    assert network.embed[1] in parts[0]
    assert parts[2] == list(network.encoder.layers[1].modules())
    assert parts[4] == [network.norm]
    assert not can_be_split(network)


def test_what_is_frozen_comes_first():
    network = Layered()
    frozen = {id(p) for module in frozen_parts(network, 2) for p in module.parameters(recurse=False)}
    assert frozen == {id(network.token), *map(id, network.embed.parameters()),
                      *map(id, network.encoder.layers[0].parameters())}  # fmt: skip
    assert frozen_parts(network, 0) == []
    with pytest.raises(InputError, match="which has 5 parts, the first 0 to 4 can be frozen, got 5"):
        frozen_parts(network, 5)


def test_rates_fall_towards_the_input():
    network = Layered()
    rates = rate_fractions(network, 0.5)
    assert rates[network.norm.weight] == 1
    assert rates[network.encoder.layers[2][0].weight] == 0.5
    assert rates[network.encoder.layers[0][1].bias] == 0.125
    assert rates[network.token] == rates[network.embed[0].weight] == 0.0625
