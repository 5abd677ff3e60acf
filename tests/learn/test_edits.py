"""Edits: what each does, that each image draws its own, and JPEG against Pillow."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from imagescape.errors import InputError
from imagescape.learn.augment import Contrastive, Draw
from imagescape.learn.edits import EDITS, LIKE, Edits, mixed
from imagescape.learn.jpeg import jpeg
from imagescape.learn.marks import lettering, stickers
from imagescape.learn.pairs import Copies


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def pictures(n, side=40, seed=0):
    coarse = torch.rand(n, 3, 6, 6, generator=generator(seed)) * 255
    fine = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic").clamp(0, 255)
    return fine.permute(0, 2, 3, 1).round().to(torch.uint8)


def test_no_edits_are_the_image():
    pixels = pictures(5)
    views = Edits(size_px=32, edits=(), mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))(pixels, generator())
    plain = Contrastive(size_px=32, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3)).plain(pixels)
    assert_close(views, plain, atol=0.06, rtol=0)  # resampled in bf16 where that is fast


@pytest.mark.parametrize("edit", EDITS)
def test_every_edit_changes_some_images_and_each_in_its_own_way(edit):
    pixels = (pictures(1) * (torch.rand(1, 40, 40, 3, generator=generator(5)) > 0.1)).expand(64, -1, -1, -1)
    others = pictures(8, seed=9)
    plain = Edits(size_px=32, edits=())(pixels, generator(), others)
    views = Edits(size_px=32, edits=(edit,), jitter=1.0, crop_scale=(0.15, 0.8))(pixels, generator(), others)
    change = (views - plain).abs().amax((1, 2, 3))
    assert 4 < (change > 0.02).sum() < 64
    changed = views[change > 0.02].flatten(1)
    different = len(torch.unique(changed.round(decimals=3), dim=0))
    if edit == "flip":  # to the left or upside down
        assert different == 2
    else:  # a few are made grey and nothing else, and are alike
        assert different >= len(changed) - 3
    assert views.min() >= 0
    assert views.max() <= 1


def test_the_same_seed_gives_the_same_views_and_another_gives_others():
    pixels, edits = pictures(12), Edits(size_px=32)
    assert_close(edits(pixels, generator(1)), edits(pixels, generator(1)), atol=0, rtol=0)
    assert (edits(pixels, generator(1)) - edits(pixels, generator(2))).abs().mean() > 0.01


def test_a_collage_shows_others_and_a_part_of_the_image():
    """A red image among blue ones: every collage has some red, and most have blue."""
    red, blue = torch.zeros(200, 24, 24, 3, dtype=torch.uint8), torch.zeros(4, 24, 24, 3, dtype=torch.uint8)
    red[..., 0], blue[..., 2] = 255, 255
    views = Edits(size_px=30, edits=("collage",))(red, generator(), blue)
    has_red = (views[:, 0] > 0.9).flatten(1).float().mean(1)
    has_blue = (views[:, 2] > 0.9).flatten(1).float().mean(1)
    assert has_red.min() > 0.05
    collaged = has_red < 0.98
    assert 30 < collaged.sum() < 90
    assert (has_blue[collaged] > 0.05).float().mean() > 0.6
    # Of a grid of nine, a ninth is left.
    assert has_red.min() < 0.13


def test_a_frame_goes_around_or_along_one_side():
    white = torch.full((400, 24, 24, 3), 128, dtype=torch.uint8)
    views = Edits(size_px=30, edits=("border",))(white, generator())
    framed = ((views - 128 / 255).abs() > 0.1).any(1)
    share = framed.flatten(1).float().mean(1)
    assert 0.05 < (share > 0).float().mean() < 0.3
    some = framed[share > 0]
    assert not some[:, 15, 15].any()  # the middle is the picture
    edges = torch.stack([some[:, 0, 15], some[:, -1, 15], some[:, 15, 0], some[:, 15, -1]], 1).sum(1)
    assert set(edges.tolist()) <= {1, 4}


def test_half_of_a_rotation_is_black_corners():
    white = torch.full((100, 40, 40, 3), 255, dtype=torch.uint8)
    views = Edits(size_px=40, edits=("rotate",), rotation_degrees=45)(white, generator())
    dark = (views.mean(1) < 0.5).flatten(1).float().mean(1)
    turned = dark > 0.02
    assert 10 < turned.sum() < 45
    assert dark.max() < 0.56  # at 45 degrees half of the square is the picture


@pytest.mark.parametrize("quality", [10, 50, 90])
def test_jpeg_is_pillow_s(quality):
    pixels = pictures(6, side=50, seed=3).float()
    pixels += 20 * torch.randn(pixels.shape, generator=generator(1))
    pixels = pixels.clamp(0, 255).round().to(torch.uint8)
    ours = jpeg(pixels.permute(0, 3, 1, 2).float(), torch.full((6,), float(quality)))
    for one, got in zip(pixels, ours, strict=True):
        file = io.BytesIO()
        Image.fromarray(one.numpy()).save(file, "JPEG", quality=quality)
        theirs = torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1).float()
        lost = (one.permute(2, 0, 1).float() - theirs).abs().mean()
        assert (got - theirs).abs().mean() < 0.2 * lost


def test_every_image_has_its_own_quality():
    pixels = pictures(1, side=32).permute(0, 3, 1, 2).float().expand(3, -1, -1, -1)
    spoiled = (jpeg(pixels, torch.tensor([5.0, 50.0, 95.0])) - pixels).abs().mean((1, 2, 3))
    assert spoiled[0] > 2 * spoiled[1] > 2 * spoiled[2]


def test_mixed_views_hold_the_next_image():
    views = torch.eye(3)[:, :, None, None].expand(3, 3, 40, 40).contiguous()  # red, green, blue
    many = torch.cat([mixed(views, Draw(3, generator(seed))) for seed in range(40)])
    shares = many.mean((2, 3)).view(40, 3, 3)
    for row in range(3):
        own, partner = shares[:, row, row], shares[:, row, (row + 1) % 3]
        assert_close(own + partner, torch.ones(40), atol=1e-5, rtol=0)
        assert partner.min() > 0.2
        assert own.min() > 0.2
    faded = (many.amax((1, 2, 3)) < 0.99).float().mean()
    assert 0.3 < faded < 0.7


def test_marks_are_premultiplied_and_cover_something():
    for bank in (lettering(torch.device("cpu")), stickers(torch.device("cpu"))):
        assert (bank[:, :3] <= bank[:, 3:] + 1e-6).all()
        assert (bank[:, 3].flatten(1).mean(1) > 0.02).all()
        assert (bank[0] != bank[1]).any()


class TestCopies:
    def test_some_images_are_shown_as_they_are(self):
        pixels = pictures(40)
        pairs = Copies(pixels.numpy(), Edits(size_px=32), torch.device("cpu"), plain_fraction=0.5)
        shown, copies = pairs.batch(np.arange(40), generator())
        plain = Contrastive(size_px=32).plain(pixels)
        same = ((shown - plain).abs().amax((1, 2, 3)) < 1e-5).sum()
        assert 10 < same < 30
        assert ((copies - plain).abs().amax((1, 2, 3)) < 1e-5).sum() < 5

    def test_the_first_copies_are_mixed(self):
        pixels = pictures(16)
        edits = Edits(size_px=32, edits=())
        pairs = Copies(pixels.numpy(), edits, torch.device("cpu"), mixed_fraction=0.25, plain_fraction=1.0)
        index = np.random.default_rng(0).permutation(16)
        shown, copies = pairs.batch(index, generator())
        apart = (shown - copies).abs().mean((1, 2, 3))
        assert (apart[:4] > 0.03).all()
        assert (apart[4:] < 0.03).all()

    def test_collages_are_filled_with_images_outside_the_batch(self):
        red, blue = (np.zeros((30, 24, 24, 3), np.uint8) for _ in range(2))
        red[..., 0], blue[..., 2] = 255, 255
        pairs = Copies(np.concatenate([red, blue]), Edits(size_px=24, edits=("collage",)), torch.device("cpu"))
        _, copies = pairs.batch(np.arange(30), generator(2))
        assert (copies[:, 2] > 0.9).flatten(1).any(1).sum() > 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"edits": ("crop", "fold")}, "got fold"),
        ({"size_px": 8}, "16 px or more"),
        ({"jitter": -1.0}, "jitter must be at least 0"),
        ({"crop_scale": (0.5, 0.2)}, "crop_scale"),
    ],
)
def test_settings_out_of_range_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        Edits(**{"size_px": 32, **change})


def test_edits_are_like_attacks_that_there_are():
    from imagescape.search.attacks import FAMILIES

    assert {family for families in LIKE.values() for family in families} <= set(FAMILIES)
