"""Batched augmentation against Pillow and NumPy, one image at a time, and by invariance."""

import colorsys
import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from imagescape.errors import InputError
from imagescape.learn.augment import (
    Contrastive,
    Draw,
    _chroma_matrix,
    _resize_matrix,
    blur_matrix,
    crop_boxes,
    medical,
    photographs,
)

STILL = {
    "mirror_probability": 0,
    "jitter_probability": 0,
    "grayscale_probability": 0,
    "crop_scale": (1, 1),
    "crop_ratio": (1, 1),
}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def images():
    """Smooth pictures with noise on top, (6, 40, 40, 3)."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (6, 5, 5, 3), dtype=np.uint8)
    big = np.stack([np.asarray(Image.fromarray(one).resize((40, 40), Image.Resampling.BICUBIC)) for one in coarse])
    return torch.from_numpy(np.clip(big + rng.normal(0, 8, big.shape), 0, 255).astype(np.uint8))


class TestPlainView:
    @pytest.mark.parametrize("size", [32, 20, 13])
    def test_resizes_as_pillow_does(self, images, size):
        view = Contrastive(size_px=size).plain(images)
        for got, image in zip(view, images.numpy(), strict=True):
            expected = np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR), np.float32)
            # Pillow rounds to whole levels after each axis.
            assert np.abs(got.permute(1, 2, 0).numpy() * 255 - expected).max() <= 1.1

    def test_normalises_by_mean_and_deviation(self, images):
        view = Contrastive(size_px=40, mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 2.0)).plain(images)
        expected = (images.numpy() / 255 - [0.1, 0.2, 0.3]) / [0.5, 0.25, 2.0]
        np.testing.assert_allclose(view.permute(0, 2, 3, 1).numpy(), expected, rtol=1e-4, atol=1e-5)

    def test_is_channels_last(self, images):
        assert Contrastive(size_px=32).plain(images).is_contiguous(memory_format=torch.channels_last)


# Random views are resampled in bfloat16 where that is fast: within two of 255 levels, as between Pillow's passes.
TWO_LEVELS = 2 / 255


def test_with_everything_off_a_view_is_the_plain_one(images):
    still = Contrastive(size_px=32, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4), **STILL)
    assert_close(still(images, generator()), still.plain(images), atol=TWO_LEVELS / 0.2, rtol=0)


def test_mirroring_reverses_columns_and_flipping_rows(images):
    plain = Contrastive(size_px=32, **STILL).plain(images)
    options = STILL | {"mirror_probability": 1.0}
    assert_close(Contrastive(size_px=32, **options)(images, generator()), plain.flip(3), atol=TWO_LEVELS, rtol=0)
    options = STILL | {"flip_probability": 1.0}
    assert_close(Contrastive(size_px=32, **options)(images, generator()), plain.flip(2), atol=TWO_LEVELS, rtol=0)


def test_a_crop_holds_what_pillow_cuts_out(images):
    """Height and width must not change places: the crop is taller than wide."""
    top, left, height, width = 3.0, 10.0, 32.0, 24.0
    rows, columns = (
        _resize_matrix(40, 16, torch.tensor([start]), torch.tensor([length]), torch.zeros(1))
        for start, length in ((top, height), (left, width))
    )
    image = images[0]
    got = torch.einsum("th,hwc,uw->tuc", rows[0], image.float(), columns[0]).numpy()
    box = (left, top, left + width, top + height)
    expected = np.asarray(
        Image.fromarray(image.numpy()).resize((16, 16), Image.Resampling.BILINEAR, box=box), np.float32
    )
    inner = (slice(2, -2), slice(2, -2))  # at its border Pillow looks no further than the box
    assert np.abs(got[inner] - expected[inner]).max() <= 1.5


def test_resizing_keeps_a_constant_image_constant():
    rows = _resize_matrix(40, 32, torch.tensor([1.5, 0.0]), torch.tensor([20.25, 40.0]), torch.tensor([0.0, 1.0]))
    assert_close(rows.sum(-1), torch.ones(2, 32))


@pytest.fixture(scope="module")
def boxes():
    return crop_boxes(40, 60, (0.2, 1.0), (3 / 4, 4 / 3), Draw(20_000, generator()))


class TestCropBoxes:
    def test_stay_inside(self, boxes):
        top, left, height, width = boxes
        assert top.min() >= 0
        assert left.min() >= 0
        assert (top + height).max() <= 40 + 1e-3
        assert (left + width).max() <= 60 + 1e-3

    def test_have_area_and_shape_in_range(self, boxes):
        _, _, height, width = boxes
        area, ratio = height * width / 2400, width / height
        assert area.min() >= 0.2 - 1e-3
        assert 3 / 4 - 1e-3 <= ratio.min() < ratio.max() <= 4 / 3 + 1e-3

    def test_match_one_image_at_a_time_sampling(self, boxes):
        """Mean area against the usual ten tries in a loop."""
        rng, areas = np.random.default_rng(1), []
        for _ in range(20_000):
            for _ in range(10):
                area, aspect = 2400 * rng.uniform(0.2, 1), math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
                w, h = math.sqrt(area * aspect), math.sqrt(area / aspect)
                if w <= 60 and h <= 40:
                    areas.append(w * h / 2400)
                    break
            else:
                areas.append(40 * 40 * 4 / 3 / 2400)
        assert float((boxes[2] * boxes[3]).mean() / 2400) == pytest.approx(np.mean(areas), abs=0.01)

    def test_largest_crop_of_an_allowed_shape_when_nothing_fits(self):
        top, left, height, width = crop_boxes(10, 100, (1.0, 1.0), (1.0, 2.0), Draw(5, generator()))
        assert_close(torch.stack([top, height, width], 1), torch.tensor([[0.0, 10.0, 20.0]]).expand(5, 3))
        assert left.min() >= 0
        assert left.max() <= 80


class TestColour:
    """`colour -> matrix @ colour + offset` against the definitions, one image at a time."""

    def change(self, mean_colour, **settings):
        augment = Contrastive(size_px=8, **({"grayscale_probability": 0} | settings))
        return augment._colour_change(mean_colour, Draw(len(mean_colour), generator()))

    def test_brightness_alone_scales(self):
        matrix, offset = self.change(torch.rand(50, 3), jitter=(0.4, 0, 0, 0), jitter_probability=1)
        factor = matrix[:, 0, 0]
        assert_close(matrix, factor[:, None, None] * torch.eye(3).expand(50, 3, 3), atol=1e-5, rtol=0)
        assert_close(offset, torch.zeros(50, 3))
        assert 0.6 <= factor.min() < 0.65
        assert 1.35 < factor.max() <= 1.4

    def test_contrast_alone_keeps_the_mean_grey_and_scales_around_it(self):
        mean = torch.rand(50, 3)
        matrix, offset = self.change(mean, jitter=(0, 0.4, 0, 0), jitter_probability=1)
        grey = mean @ torch.tensor([0.299, 0.587, 0.114])
        assert_close(
            matrix @ grey[:, None, None].expand(50, 3, 1) + offset[..., None], grey[:, None, None].expand(50, 3, 1)
        )
        assert matrix[:, 0, 0].std() > 0.1

    def test_saturation_and_hue_leave_greys_alone(self):
        matrix, offset = self.change(torch.rand(50, 3), jitter=(0, 0, 0.4, 0.1), jitter_probability=1)
        assert_close(matrix.sum(2) + offset, torch.ones(50, 3), atol=1e-3, rtol=0)

    def test_grayscale_is_luma_in_all_channels(self):
        matrix, _ = self.change(torch.rand(4, 3), jitter_probability=0, grayscale_probability=1)
        assert_close(matrix, torch.tensor([0.299, 0.587, 0.114]).expand(4, 3, 3), atol=1e-3, rtol=0)

    def test_hue_turns_towards_the_same_colours_as_hsv(self):
        for turn in (1 / 12, -1 / 12, 1 / 6):
            red = _chroma_matrix(torch.ones(1), torch.tensor([turn]))[0] @ torch.tensor([0.8, 0.3, 0.3])
            expected = colorsys.hsv_to_rgb(turn % 1, 0.625, 0.8)
            got_hue = colorsys.rgb_to_hsv(*red.clamp(0, 1).tolist())[0]
            assert abs((got_hue - colorsys.rgb_to_hsv(*expected)[0] + 0.5) % 1 - 0.5) < 0.05

    def test_all_four_together_are_the_four_one_after_the_other(self):
        """In an order of their own, by their definitions, on the colours of one small image."""
        rng, luma = np.random.default_rng(0), np.array([0.299, 0.587, 0.114])
        b, c, s, turn = 1.3, 0.7, 1.4, 0.08

        def hue(x):
            return x @ _chroma_matrix(torch.ones(1), torch.tensor([turn]))[0].numpy().T

        steps = [
            lambda x: b * x,
            lambda x: c * x + (1 - c) * (x @ luma).mean(),
            lambda x: s * x + (1 - s) * (x @ luma)[:, None],
            hue,
        ]
        colours = rng.uniform(0, 1, (50, 3))
        matrix = b * c * _chroma_matrix(torch.tensor([s]), torch.tensor([turn]))[0].numpy()
        expected = colours @ matrix.T + b * (1 - c) * (colours.mean(0) @ luma)
        for order in ((0, 1, 2, 3), (3, 1, 0, 2), (2, 0, 3, 1)):
            changed = colours
            for step in order:
                changed = steps[step](changed)
            np.testing.assert_allclose(changed, expected, atol=2e-3)

    def test_values_are_clipped_to_what_an_image_can_hold(self, images):
        mean, std = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
        view = Contrastive(size_px=32, mean=mean, std=std, jitter=(0.9, 0.9, 0.9, 0.1), jitter_probability=1)(
            images, generator()
        )
        colours = view.permute(0, 2, 3, 1) * torch.tensor(std) + torch.tensor(mean)
        assert colours.min() >= -1e-5
        assert colours.max() <= 1 + 1e-5


class TestBlur:
    def test_keeps_the_sum_and_leaves_sigma_0_alone(self):
        matrix = blur_matrix(30, torch.tensor([0.0, 1.5]))
        assert_close(matrix[0], torch.eye(30))
        assert_close(matrix.sum(-1), torch.ones(2, 30))
        assert matrix[1, 15, 15] < 0.9

    def test_lowers_the_detail_of_a_view(self, images):
        def detail(**options):
            view = Contrastive(size_px=40, **STILL, **options)(images, generator())
            return float((view[..., 1:] - view[..., :-1]).abs().mean())

        assert detail(blur_probability=1, blur_sigma_px=(2, 2)) < 0.8 * detail()


class TestRotation:
    def test_by_180_degrees_is_two_flips(self, images, monkeypatch):
        from imagescape.learn import augment

        planes = images.permute(0, 3, 1, 2).float()
        assert_close(augment._rotate(planes, torch.full((6,), 180.0)), planes.flip(2, 3), atol=0.1, rtol=1e-3)

    def test_by_90_degrees_of_a_square(self, images):
        from imagescape.learn.augment import _rotate

        planes = images.permute(0, 3, 1, 2).float()
        turned = _rotate(planes, torch.full((6,), 90.0))
        assert_close(turned, torch.rot90(planes, 1, (2, 3)), atol=0.1, rtol=1e-3)


def test_every_image_and_every_view_draws_its_own(images):
    same = images[:1].expand(6, -1, -1, -1)
    rng = generator()
    augment = Contrastive(size_px=32)
    a, b = augment(same, rng), augment(same, rng)
    views = torch.cat([a, b]).flatten(1)
    assert (torch.cdist(views, views) + 1e9 * torch.eye(12)).min() > 0.1


def test_the_same_seed_gives_the_same_views(images):
    augment = photographs(24)
    assert_close(augment(images, generator(3)), augment(images, generator(3)), atol=0, rtol=0)


def test_medical_turns_and_keeps_colour():
    augment = medical(32, mean=(0.1, 0.2, 0.3))
    assert (augment.rotation_degrees, augment.jitter_probability, augment.grayscale_probability) == (180, 0, 0.05)
    assert augment.mean == (0.1, 0.2, 0.3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"jitter_probability": 1.2}, r"jitter_probability must be in \[0, 1\], got 1.2"),
        ({"crop_scale": (0, 1)}, "crop_scale"),
        ({"size_px": 2}, "size_px must be at least 4, got 2"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        Contrastive(**({"size_px": 32} | settings))
