"""Pairs stay aligned: row i of both views is item i."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from imagescape.errors import InputError
from imagescape.learn.augment import Contrastive
from imagescape.learn.pairs import Augmented, CachedFeatures, Mixed, ReadyPairs

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


class Numbers:
    """Items are their own number, and so are their views."""

    device = CPU

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def batch(self, index, generator):
        return self.of(index, index, generator)

    def of(self, first, second, generator):
        return torch.from_numpy(first), torch.from_numpy(second)


class TestMixed:
    graph = (np.arange(50)[:, None] + [1, 2, 3]) % 50

    @pytest.mark.parametrize("fraction", [0, 0.3, 1])
    def test_a_share_of_the_pairs_is_of_neighbours_each_as_often_as_another(self, fraction):
        index = np.tile(np.arange(50), 400)
        first, second = Mixed(Numbers(50), self.graph, fraction).batch(index, generator())
        assert_close(first, torch.from_numpy(index))
        steps = ((second - first) % 50).bincount(minlength=50) / len(index)
        assert_close(steps[:4], torch.tensor([1 - fraction, *3 * [fraction / 3]]), atol=0.01, rtol=0)
        assert steps[4:].sum() == 0

    def test_the_generator_settles_the_draw(self):
        pairs = Mixed(Numbers(50), self.graph, 0.5)
        index = np.arange(50)
        assert_close(pairs.batch(index, generator(1))[1], pairs.batch(index, generator(1))[1])
        assert (pairs.batch(index, generator(1))[1] != pairs.batch(index, generator(2))[1]).any()

    def test_views_of_pixels_and_of_features_are_of_the_neighbour(self):
        pixels = np.repeat(np.arange(0, 250, 5, dtype=np.uint8), 16 * 16 * 3).reshape(50, 16, 16, 3)
        still = Contrastive(size_px=8, jitter_probability=0, grayscale_probability=0)
        pairs = Mixed(Augmented(pixels, still, CPU), self.graph[:, :1], 1)
        index = np.array([7, 0, 49])
        a, b = pairs.batch(index, generator())
        assert_close(a.mean((1, 2, 3)) * 51, torch.tensor(index).float(), atol=0.1, rtol=0)
        assert_close(b.mean((1, 2, 3)) * 51, torch.tensor([8.0, 1, 0]), atol=0.1, rtol=0)
        features = torch.arange(4)[:, None, None] * 1000 + torch.arange(50)[None, :, None].float()
        a, b = pairs.over(CachedFeatures(features, CPU)).batch(index, generator())
        assert (a[:, 0] % 1000).tolist() == [7, 0, 49]
        assert (b[:, 0] % 1000).tolist() == [8, 1, 0]

    @pytest.mark.parametrize(
        ("graph", "fraction", "message"),
        [
            (
                graph[:49],
                0.5,
                r"a graph of 50 images has 50 lists of their neighbours' rows.*got int64 of shape \(49, 3\)",
            ),
            (graph[:, 0], 0.5, r"of shape \(50,\)"),
            (graph[:, :0], 0.5, r"of shape \(50, 0\)"),
            (graph / 1.0, 0.5, "got float64"),
            (graph + 1, 0.5, "rows of neighbours must be 0 to 49, got 1 to 50"),
            (graph - 1, 0.5, "got -1 to 48"),
            (graph, 1.5, "the fraction of neighbours must be 0 to 1, got 1.5"),
        ],
    )
    def test_what_is_no_graph_of_the_items(self, graph, fraction, message):
        with pytest.raises(InputError, match=message):
            Mixed(Numbers(50), graph, fraction)


def test_ready_pairs_come_as_the_dataset_makes_them():
    dataset = [(torch.full((3, 4, 4), float(i)), torch.full((3, 4, 4), -float(i))) for i in range(5)]
    a, b = ReadyPairs(dataset, CPU).batch(np.array([3, 1]), generator())
    assert a[:, 0, 0, 0].tolist() == [3, 1]
    assert b[:, 0, 0, 0].tolist() == [-3, -1]
