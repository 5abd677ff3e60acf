"""Groups of equal keys, and what a group says of itself."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from imagescape.audit.groups import Groups, exact_groups, pixel_key
from imagescape.errors import InputError


def lists(groups):
    return [group.tolist() for group in groups]


def test_groups_in_order_worked_by_hand():
    # Centres 3 (of 1, 3, 8), 0 (of 0, 2) and 5, which is alone.
    groups = Groups.of(
        np.array([8, 2, 3, 5, 0, 1]), np.array([3, 0, 3, 5, 0, 3]), np.array([0.5, 0.1, 0, 0, 0, 0.5]), 10
    )
    assert lists(groups) == [[3, 1, 8], [0, 2]]
    assert groups.distances.tolist() == pytest.approx([0, 0.5, 0.5, 0, 0.1])
    assert groups.sizes.tolist() == [3, 2]
    assert groups.centers.tolist() == [3, 0]
    assert groups.labels().tolist() == [1, 0, 1, 0, -1, -1, -1, -1, 0, -1]
    assert groups[-1].tolist() == [0, 2]
    with pytest.raises(IndexError, match="there are 2 groups, got position 2"):
        groups[2]
    assert str(groups) == "2 groups of 5 of 10 rows; the largest has 3; 3 rows are more than one of each"


class TestExact:
    def test_worked_by_hand(self):
        groups = exact_groups([b"a", b"b", None, b"a", b"", b"c", b"b", b"a", None, b""])
        assert lists(groups) == [[0, 3, 7], [1, 6]]
        assert not groups.distances.any()

    def test_arrays_of_bytes_and_of_numbers(self):
        digests = np.array([[1, 2, 0], [1, 2, 0], [1, 2, 1], [0, 2, 1], [1, 2, 1]], np.uint8)
        assert lists(exact_groups(digests)) == [[0, 1], [2, 4]]
        assert lists(exact_groups(np.array([7, 3, 7]))) == [[0, 2]]
        assert lists(exact_groups(np.array(["x", "", "x", ""]))) == [[0, 2]]

    def test_zeros_at_the_end_of_a_digest_count(self):
        assert not len(exact_groups([b"a\0", b"a", b"a\0\0"]))

    def test_no_keys_and_no_equal_ones(self):
        for keys in ([], [None, None], ["a", "b"]):
            groups = exact_groups(keys)
            assert len(groups) == 0
            assert str(groups) == f"no groups among {len(keys)} rows"
            assert groups.labels().tolist() == [-1] * len(keys)

    def test_lists_are_no_keys(self):
        with pytest.raises(InputError, match="bytes, text or numbers"):
            exact_groups([[1], [1]])


class TestPixelKey:
    def test_the_same_picture_in_two_formats(self, tmp_path):
        pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
        keys = set()
        for name in ("a.png", "a.bmp", "a.tiff"):
            Image.fromarray(pixels).save(tmp_path / name)
            keys.add(pixel_key(Image.open(tmp_path / name)))
        assert keys == {pixel_key(pixels)}

    def test_shape_and_mode_count(self):
        line = np.arange(24, dtype=np.uint8)
        shapes = [(4, 6), (6, 4), (24, 1), (2, 4, 3), (4, 2, 3), (2, 3, 4)]
        assert len({pixel_key(line.reshape(shape)) for shape in shapes}) == len(shapes)
        grey = Image.new("L", (3, 3), 255)
        assert len({pixel_key(grey.convert(mode)) for mode in ("L", "1", "RGB", "RGBA", "LA", "I", "F", "YCbCr")}) == 8
        assert pixel_key(line.view(np.int8)) != pixel_key(line)

    def test_a_palette_counts_by_its_colours(self):
        image = Image.new("P", (2, 1))
        image.putpalette([9, 9, 9, 200, 0, 0])
        image.putdata([0, 1])
        swapped = Image.new("P", (2, 1))
        swapped.putpalette([200, 0, 0, 9, 9, 9])
        swapped.putdata([1, 0])
        other = swapped.copy()
        other.putdata([0, 1])
        assert pixel_key(image) == pixel_key(swapped) != pixel_key(other)

    def test_a_transparent_colour_counts(self):
        plain = Image.new("RGB", (2, 2), (1, 2, 3))
        clear = plain.copy()
        clear.info["transparency"] = (1, 2, 3)
        assert pixel_key(plain) != pixel_key(clear)

    def test_it_is_a_sha256_and_every_pixel_counts(self):
        pixels = np.zeros((8, 8, 3), np.uint8)
        assert len(pixel_key(pixels)) == hashlib.sha256().digest_size
        keys = {pixel_key(pixels)}
        for place in range(pixels.size):
            other = pixels.copy()
            other.flat[place] = 1
            keys.add(pixel_key(other))
        assert len(keys) == pixels.size + 1

    def test_an_array_that_lies_otherwise_in_memory(self):
        pixels = np.random.default_rng(0).integers(0, 256, (6, 4, 3), dtype=np.uint8)
        assert pixel_key(np.asfortranarray(pixels)) == pixel_key(pixels)
        assert pixel_key(pixels[::-1]) == pixel_key(pixels[::-1].copy())
