"""as_pixels: every kind of input gives the same squares, in the same order."""

import threading

import numpy as np
import pytest
import torch
from PIL import Image

from imagescape.errors import InputError
from imagescape.images.decode import square
from imagescape.images.pixels import as_pixels, native_px
from tests.collection.broken_files import encoded, noise, png


@pytest.fixture
def pictures():
    """Pictures of mixed sizes, each told by its own colour and structure."""
    return [noise((20 + i, 30 - i)) for i in range(8)]


class Samples(torch.utils.data.Dataset):
    def __init__(self, images, labelled):
        self.images, self.labelled, self.threads = images, labelled, set()

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        self.threads.add(threading.get_ident())
        return (self.images[i], i % 3) if self.labelled else self.images[i]


def test_every_kind_of_input_gives_the_same_squares(pictures, tmp_path):
    expected = np.stack([square(picture, 16) for picture in pictures])
    paths = [tmp_path / f"{i}.png" for i in range(len(pictures))]
    for path, picture in zip(paths, pictures, strict=True):
        picture.save(path)
    arrays = [np.asarray(picture) for picture in pictures]
    tensors = [torch.from_numpy(array.copy()).permute(2, 0, 1) for array in arrays]
    encoded = [png(picture) for picture in pictures]
    mixed = [paths[0], str(paths[1]), encoded[2], pictures[3], arrays[4], tensors[5], *paths[6:]]
    for images in (pictures, paths, encoded, arrays, tensors, mixed, Samples(pictures, True), Samples(tensors, False)):
        assert np.array_equal(as_pixels(images, 16), expected)


def test_order_is_kept_over_many_chunks():
    values = np.arange(1000) % 251
    images = [np.full((3, 3), value, np.uint8) for value in values]
    assert np.array_equal(as_pixels(images, 2)[:, 0, 0, 0], values)


def test_arrays_are_resized_or_passed_through():
    images = np.random.default_rng(0).integers(0, 256, (5, 12, 12, 3), dtype=np.uint8)
    assert as_pixels(images, 12) is images
    assert as_pixels(images, 6).shape == (5, 6, 6, 3)
    grey = images[..., 0]
    assert np.array_equal(as_pixels(grey, 12), np.repeat(grey[..., None], 3, axis=3))
    assert np.array_equal(as_pixels(grey / np.float32(255), 12), as_pixels(grey, 12))
    assert as_pixels(images[:0], 6).shape == (0, 6, 6, 3)


def test_fit_is_passed_on():
    wide = Image.new("RGB", (40, 20), "black")
    assert as_pixels([wide], 8, fit="pad")[0, 0].min() == 255
    assert as_pixels([wide], 8)[0, 0].max() == 0


def test_a_large_jpeg_is_reduced_only_as_far_as_it_may(tmp_path):
    photo = noise((64, 48)).resize((640, 480), Image.Resampling.BICUBIC)
    pixels = as_pixels([encoded(photo, "JPEG", quality=95)], 100)[0].astype(int)
    assert np.abs(pixels - square(photo, 100)).mean() < 4


def test_a_dataset_is_indexed_from_one_thread_only(pictures):
    dataset = Samples(pictures, True)
    as_pixels(dataset, 8)
    assert dataset.threads == {threading.get_ident()}


def test_a_collection_is_asked_for_its_pixels():
    class Collection:
        def pixels(self, size_px, fit="crop"):
            return f"{size_px} {fit}"

    assert as_pixels(Collection(), 32, fit="pad") == "32 pad"


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("missing.png", r"image 2 \(missing.png\) cannot be used: the file is gone \(vanished\)"),
        (b"", r"image 2 cannot be used: the file is empty \(empty\)"),
        (b"letter", r"image 2 cannot be used: .*\(not_an_image\)"),
        (np.zeros((2, 2), np.int32), "image 2 cannot be used: pixels must be uint8.*got int32"),
    ],
)
def test_a_bad_image_is_named_by_position(pictures, bad, message):
    with pytest.raises(InputError, match=message):
        as_pixels([*pictures[:2], bad, b""], 8)


@pytest.mark.parametrize("images", ["folder", b"bytes", 7, (x for x in "generator")])
def test_what_is_no_set_of_images_is_refused(images):
    with pytest.raises(InputError, match="images must be an array, a list"):
        as_pixels(images, 8)


def test_the_native_size_is_the_largest_short_side_of_the_first_images(pictures):
    sides = [min(picture.size) for picture in pictures]
    assert native_px(pictures) == max(sides[:16])
    assert native_px([(picture, 0) for picture in pictures]) == max(sides[:16])
    assert native_px(np.zeros((2, 30, 20, 3), np.uint8)) == 20
    with pytest.raises(InputError, match="no images"):
        native_px([])
