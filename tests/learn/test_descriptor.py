"""Descriptors: whitening against NumPy, folding, and models that have them."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from imagescape.errors import InputError
from imagescape.learn.descriptor import Described, Pooled, PowerMean, begin, fold, unit, whiten_again, whitening
from imagescape.learn.encoder import Architecture


def features(n=200, d=12, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, d)) * np.linspace(3, 0.1, d) @ rng.normal(size=(d, d)) + 5).astype(np.float32)


def body(width):
    module = nn.Flatten()
    module.out_features = width
    return module


def test_whole_whitening_leaves_no_correlation():
    rows = features()
    weight, bias = whitening(rows, 8, strength=1.0)
    made = rows @ weight.T + bias
    np.testing.assert_allclose(made.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(np.cov(made.T, bias=True), np.eye(8) / 8, atol=1e-4)


def test_without_strength_it_only_turns():
    rows = features()
    weight, bias = whitening(rows, 12, strength=0.0)
    made, moved = rows @ weight.T + bias, rows - rows.mean(0)
    ratio = np.linalg.norm(made, axis=1) / np.linalg.norm(moved, axis=1)
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-3)
    assert np.square(made).sum(1).mean() == pytest.approx(1, rel=1e-4)


def test_half_way_deviations_are_roots():
    rows = features()
    turned, half = (rows @ w.T + b for w, b in (whitening(rows, 6, strength=s) for s in (0.0, 0.5)))
    a, b = turned.std(0), half.std(0)
    np.testing.assert_allclose(b / b[0], np.sqrt(a / a[0]), rtol=1e-3)


def test_a_feature_that_never_varies_is_not_blown_up():
    rows = np.concatenate([features(), np.full((200, 3), 7.0, np.float32)], axis=1)
    weight, bias = whitening(rows, 15, strength=1.0)
    assert np.abs(rows @ weight.T + bias).max() < 10


def test_few_images_give_few_components():
    weight, _ = whitening(features(5), 8)
    assert weight.shape == (4, 12)
    described = Described(body(12), 8)
    begin(described, features(5))
    assert (described.describe.weight[4:] == 0).all()
    assert (described.describe.weight[:4] != 0).any(1).all()


@pytest.mark.parametrize("rows", [features(1), np.ones((5, 3), np.float32)])
def test_what_cannot_be_whitened_is_said(rows):
    with pytest.raises(InputError):
        whitening(rows, 3)


def test_folding_is_one_layer_after_the_other():
    layer = nn.Linear(12, 8)
    rows = torch.from_numpy(features())
    before = layer(rows).detach()
    weight, bias = whitening(before.numpy(), 8, strength=1.0)
    fold(layer, weight, bias)
    assert_close(
        layer(rows).detach(), before @ torch.from_numpy(weight).T + torch.from_numpy(bias), atol=1e-3, rtol=1e-3
    )


def test_descriptors_are_unit_rows_and_a_model_builds_them_again():
    network = Architecture(backbone="resnet10", width=4, descriptor=6).build().eval()
    assert isinstance(network.backbone, Described)
    rows = network(torch.randn(3, 3, 16, 16))
    assert rows.shape == (3, 6)
    assert_close(rows.norm(dim=1), torch.ones(3))
    again = Architecture(backbone="resnet10", width=4, descriptor=6).build()
    again.load_state_dict(network.state_dict())
    with_projector = Architecture(backbone="resnet10", width=4, descriptor=6, hidden=5, out_features=2).build()
    assert with_projector.projector.hidden[0].in_features == 6


def test_descriptors_begin_as_whitened_features_and_can_be_whitened_again():
    rows = features()
    described = Described(body(12), 6)
    begin(described, rows, strength=1.0)
    made = described.head()(torch.from_numpy(rows)).detach().numpy()
    weight, bias = whitening(unit(rows), 6, strength=1.0)
    np.testing.assert_allclose(made, unit(rows) @ weight.T + bias, atol=1e-4)
    with torch.no_grad():
        described.describe.weight.mul_(torch.linspace(0.5, 3, 6)[:, None])
        described.describe.bias.add_(1)
    whiten_again(described, rows, strength=1.0)
    made = described.head()(torch.from_numpy(rows)).detach().numpy()
    np.testing.assert_allclose(made.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(np.cov(made.T, bias=True), np.eye(6) / 6, atol=2e-3)


def test_power_mean_by_hand():
    maps = torch.tensor([1.0, 2.0, 3.0, 0.0]).view(1, 1, 2, 2)
    assert PowerMean(1.0)(maps).item() == pytest.approx(1.5)
    assert PowerMean(3.0)(maps).item() == pytest.approx(9 ** (1 / 3))


@pytest.mark.parametrize("name", ["resnet10", "efficientnet_lite0"])
def test_another_pooling_of_the_same_maps(name):
    network = Architecture(backbone=name, width=4).build().backbone.eval()
    images = torch.randn(2, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert_close(Pooled(network, 1.0)(images), network(images), atol=1e-5, rtol=1e-4)
        pooled, made = Pooled(network, 3.0), images
        for part in pooled.parts():
            made = part(made)
        assert_close(made, pooled(images), atol=0, rtol=0)
        assert (pooled(images) >= network(images) - 1e-4).all()  # a power mean is no less than the mean
    again = Architecture(backbone=name, width=4, descriptor=6, pooling=3.0).build()
    assert again.backbone.body.pool.power == 3.0
