"""Pairs stay aligned: row i of both views is item i."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from imagescape.errors import InputError
from imagescape.learn.augment import Contrastive
from imagescape.learn.pairs import Augmented, CachedFeatures, ReadyPairs

CPU = torch.device("cpu")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_augmented_views_are_of_the_same_image_and_differ():
    """Images of one flat colour each: a crop cannot hide which image a view is of."""
    pixels = np.repeat(np.arange(0, 250, 25, dtype=np.uint8), 16 * 16 * 3).reshape(10, 16, 16, 3)
    still = Contrastive(size_px=8, jitter_probability=0, grayscale_probability=0)
    index = np.array([7, 2, 2, 9])
    a, b = Augmented(pixels, still, CPU).batch(index, generator())
    assert_close(a.mean((1, 2, 3)), torch.tensor(pixels[index, 0, 0, 0] / 255.0).float(), atol=2 / 255, rtol=0)
    assert_close(a, b, atol=2 / 255, rtol=0)
    a, b = Augmented(pixels, Contrastive(size_px=8, jitter_probability=1), CPU).batch(index, generator())
    assert (a - b).abs().max() > 0.01


def test_the_same_generator_state_gives_the_same_batch():
    pixels = np.random.default_rng(0).integers(0, 255, (6, 16, 16, 3), dtype=np.uint8)
    pairs = Augmented(pixels, Contrastive(size_px=8), CPU)
    assert_close(pairs.batch(np.arange(6), generator(1)), pairs.batch(np.arange(6), generator(1)))


def test_cached_views_are_of_the_same_item_and_never_the_same_view():
    views, items = 5, 40
    features = torch.arange(views)[:, None, None] * 1000 + torch.arange(items)[None, :, None].float()
    index = np.tile(np.arange(items), 20)
    a, b = CachedFeatures(features, CPU).batch(index, generator())
    assert_close(a[:, 0] % 1000, torch.from_numpy(index).float())
    assert_close(b[:, 0] % 1000, torch.from_numpy(index).float())
    assert (a != b).all()
    assert set((a[:, 0] // 1000).tolist()) == set((b[:, 0] // 1000).tolist()) == set(range(views))


def test_one_view_is_not_enough():
    with pytest.raises(InputError, match="at least 2 views of each item, got 1"):
        CachedFeatures(torch.zeros(1, 3, 4), CPU)


def test_ready_pairs_come_as_the_dataset_makes_them():
    dataset = [(torch.full((3, 4, 4), float(i)), torch.full((3, 4, 4), -float(i))) for i in range(5)]
    a, b = ReadyPairs(dataset, CPU).batch(np.array([3, 1]), generator())
    assert a[:, 0, 0, 0].tolist() == [3, 1]
    assert b[:, 0, 0, 0].tolist() == [-3, -1]
