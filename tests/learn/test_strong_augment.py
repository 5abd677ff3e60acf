"""Strong augmentation against Pillow, one image at a time, and by what it must leave alone."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch.testing import assert_close

from imagescape.errors import InputError
from imagescape.learn import strong_augment
from imagescape.learn.augment import Contrastive, Draw
from imagescape.learn.strong_augment import OPERATIONS, Strong

STILL = {"mirror_probability": 0.0, "shift_fraction": 0.0, "operations": 0, "blank_fraction": 0.0}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def images():
    """Smooth pictures with noise, of little contrast and of much, (6, 32, 32, 3)."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (6, 5, 5, 3), dtype=np.uint8)
    big = np.stack([np.asarray(Image.fromarray(one).resize((32, 32), Image.Resampling.BICUBIC)) for one in coarse])
    big = np.clip(big + rng.normal(0, 8, big.shape), 0, 255)
    big[3:] = 60 + big[3:] / 4
    return torch.from_numpy(big.astype(np.uint8))


def planes(images):
    return images.permute(0, 3, 1, 2).float()


def pillow(images, change):
    return np.stack([np.asarray(change(Image.fromarray(one))) for one in images.numpy()]).astype(np.float32)


def apply(name, images, monkeypatch, value=None):
    """An operation with every draw at `value`, as (n, h, w, 3)."""
    draw = Draw(len(images), generator())
    if value is not None:
        monkeypatch.setattr(Draw, "uniform", lambda self, low, high, *shape: torch.full((self.n, *shape), value))
    return getattr(strong_augment, name)(planes(images), draw).permute(0, 2, 3, 1).numpy()


class TestAgainstPillow:
    def test_autocontrast(self, images, monkeypatch):
        found = apply("autocontrast", images, monkeypatch)
        assert np.abs(found - pillow(images, ImageOps.autocontrast)).max() <= 1

    def test_equalize(self, images, monkeypatch):
        np.testing.assert_array_equal(apply("equalize", images, monkeypatch), pillow(images, ImageOps.equalize))

    def test_equalize_and_autocontrast_of_one_level(self, monkeypatch):
        flat = torch.full((2, 8, 8, 3), 77, dtype=torch.uint8)
        for name in ("equalize", "autocontrast"):
            np.testing.assert_array_equal(apply(name, flat, monkeypatch), flat.numpy())

    @pytest.mark.parametrize("threshold", [0.0, 100.0, 256.0])
    def test_solarize(self, images, monkeypatch, threshold):
        found = apply("solarize", images, monkeypatch, threshold)
        np.testing.assert_array_equal(found, pillow(images, lambda one: ImageOps.solarize(one, int(threshold))))

    @pytest.mark.parametrize("bits", [4, 6, 8])
    def test_posterize(self, images, monkeypatch, bits):
        found = apply("posterize", images, monkeypatch, bits + 0.5)
        np.testing.assert_array_equal(found, pillow(images, lambda one: ImageOps.posterize(one, bits)))

    @pytest.mark.parametrize(
        ("name", "enhancer"),
        [
            ("color", ImageEnhance.Color),
            ("contrast", ImageEnhance.Contrast),
            ("brightness", ImageEnhance.Brightness),
            ("sharpness", ImageEnhance.Sharpness),
        ],
    )
    @pytest.mark.parametrize("share", [0.05, 0.7])
    def test_enhancers(self, images, monkeypatch, name, enhancer, share):
        found = apply(name, images, monkeypatch, share)
        assert np.abs(found - pillow(images, lambda one: enhancer(one).enhance(share))).max() <= 1.5

    def test_rotate(self, images, monkeypatch):
        found = apply("rotate", images, monkeypatch, 20.0)
        expected = {
            sign: pillow(images, lambda one, sign=sign: one.rotate(sign * 20, Image.Resampling.BILINEAR))
            for sign in (1, -1)
        }
        inner = (slice(None), slice(8, -8), slice(8, -8))
        # Either way round; not both.
        apart = sorted(np.abs(found[inner] - one[inner]).max() for one in expected.values())
        assert apart[0] <= 2 < apart[1]

    @pytest.mark.parametrize("name", ["shear", "translate"])
    def test_moves_by_what_it_says(self, monkeypatch, name):
        """A bright column in the middle: where it is afterwards."""
        bar = torch.zeros(1, 40, 40, 3, dtype=torch.uint8)
        bar[:, :, 19:21] = 200
        monkeypatch.setattr(Draw, "chance", lambda self, probability: torch.zeros(self.n))  # along the rows
        found = apply(name, bar, monkeypatch, 0.1)[0, :, :, 0]
        centre = (found * np.arange(40)).sum(1) / found.sum(1) - 19.5
        if name == "translate":
            np.testing.assert_allclose(centre, -0.1 * 20, atol=0.05)
        else:
            np.testing.assert_allclose(centre, -0.1 * (np.arange(40) - 19.5), atol=0.1)


class TestStrong:
    def test_with_everything_off_a_view_is_the_plain_one(self, images):
        options = {"size_px": 24, "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4)}
        view = Strong(**options, **STILL)(images, generator())
        assert_close(view, Contrastive(**options).plain(images), atol=1e-5, rtol=1e-4)
        assert view.is_contiguous(memory_format=torch.channels_last)

    def test_mirroring_reverses_columns(self, images):
        plain = Strong(size_px=32, **STILL)(images, generator())
        mirrored = Strong(size_px=32, **STILL | {"mirror_probability": 1.0})(images, generator())
        assert_close(mirrored, plain.flip(3))

    def test_shifts_are_whole_pixels_and_black_comes_in(self, images):
        plain = Strong(size_px=32, **STILL)(images, generator())
        shifted = Strong(size_px=32, **STILL | {"shift_fraction": 1 / 8})(images.repeat(20, 1, 1, 1), generator())
        padded = torch.nn.functional.pad(plain, (4, 4, 4, 4))
        seen = set()
        for number, view in enumerate(shifted):
            cuts = {
                (down, right)
                for down in range(9)
                for right in range(9)
                if padded[number % 6, :, down : down + 32, right : right + 32].equal(view)
            }
            assert len(cuts) == 1
            seen |= cuts
        assert {down for down, _ in seen} == {right for _, right in seen} == set(range(9))

    def test_blank_squares(self, images):
        white = torch.full((400, 32, 32, 3), 255, dtype=torch.uint8)
        options = {"mean": (0.5, 0.5, 0.5), **STILL, "blank_fraction": 0.5}
        blank = Strong(size_px=32, **options)(white, generator())[:, 0] == 0
        heights, widths = blank.any(2).sum(1), blank.any(1).sum(1)
        assert (blank.sum((1, 2)) == heights * widths).all()  # a rectangle, whole
        assert heights.max() == widths.max() == 16
        inside = (heights == widths).float().mean()
        assert inside > 0.4  # but where the border cuts it

    def test_every_image_draws_its_own_and_every_operation_happens(self, images, monkeypatch):
        seen = {}
        counted = [
            (
                lambda batch, draw, number=number, one=one: (
                    seen.update({number: seen.get(number, 0) + len(batch)}),
                    one(batch, draw),
                )[1]
            )
            for number, one in enumerate(OPERATIONS)
        ]
        monkeypatch.setattr(strong_augment, "OPERATIONS", tuple(counted))
        same = images[:1].expand(600, -1, -1, -1)
        views = Strong(size_px=32)(same, generator())
        assert len(torch.unique(views.flatten(1), dim=0)) > 590
        assert sorted(seen) == list(range(12))
        assert sum(seen.values()) == 4 * 600
        assert min(seen.values()) > 140

    def test_seeds_settle_it_and_values_stay_in_range(self, images):
        strong = Strong(size_px=32)
        assert strong(images, generator(1)).equal(strong(images, generator(1)))
        assert not strong(images, generator(1)).equal(strong(images, generator(2)))
        views = strong(images.repeat(30, 1, 1, 1), generator())
        assert 0 <= views.min() <= views.max() <= 1 + 1e-6

    def test_an_image_s_own_neighbours_in_the_batch_do_not_matter(self, images, monkeypatch):
        """Operations go by groups of images: nothing of one may reach another."""
        for operation in OPERATIONS:
            draw = Draw(6, generator())
            monkeypatch.setattr(Draw, "uniform", lambda self, low, high, *shape: torch.full((self.n, *shape), 0.3))
            together = operation(planes(images), draw)
            alone = operation(planes(images)[2:3], Draw(1, generator()))
            assert_close(together[2:3], alone, atol=1e-3, rtol=1e-5)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"size_px": 2}, "size_px must be at least 4"),
            ({"operations": -1}, "operations must be at least 0"),
            ({"blank_fraction": 1.5}, r"blank_fraction must be in \[0, 1\]"),
        ],
    )
    def test_bad_settings(self, changes, message):
        with pytest.raises(InputError, match=message):
            Strong(**{"size_px": 32} | changes)
