"""Hashes against the `imagehash` library, against their definitions as loops, and at values worked by hand."""

import io
import math
import statistics
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from imagescape.errors import InputError
from imagescape.features import hashing
from imagescape.features.hashing import (
    HASHES,
    KINDS,
    hash_images,
    hash_input,
    hash_input_px,
    hash_pixels,
    parse_hash,
)
from imagescape.images.decode import decode

PHOTOGRAPHS = Path(__file__).parents[3] / "shared" / "data" / "bsds500-train.parquet"


def picture(seed, size=(97, 61)):
    """Something like a photograph: smooth, with edges, in colour, of any size."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8))
    image = coarse.resize(size, Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for _ in range(3):
        x, y = sorted(rng.integers(0, size[0], 2).tolist()), sorted(rng.integers(0, size[1], 2).tolist())
        draw.rectangle((x[0], y[0], x[1], y[1]), tuple(rng.integers(0, 256, 3).tolist()))
    return image


def photographs(count):
    if not PHOTOGRAPHS.exists():
        pytest.skip(f"{PHOTOGRAPHS} is not there")
    import pyarrow.parquet as pq

    rows = pq.read_table(PHOTOGRAPHS, columns=["image"])["image"].slice(0, count).to_pylist()
    return [row["bytes"] for row in rows]


def bits_of(hashes, bits):
    side = math.isqrt(bits)
    return np.unpackbits(hashes, axis=1).reshape(-1, side, side).astype(bool)


def library(kind):
    imagehash = pytest.importorskip("imagehash", reason="the library compared with is not installed")
    if kind == "whash":
        pytest.importorskip("pywt", reason="the library compared with needs PyWavelets")
    return getattr(imagehash, {"ahash": "average_hash"}.get(kind, kind))


def ties(images, bits):
    """Where a block of whash equals the median of its image, (n, side, side): there the library's bit is noise."""
    side, out = math.isqrt(bits), []
    for image in images:
        scale = max(side, 2 ** int(math.log2(min(image.size))))
        grey = np.asarray(image.convert("L").resize((scale, scale), Image.Resampling.LANCZOS)).astype(int)
        rows = np.array_split(np.arange(scale), side)
        sums = np.array([[grey[np.ix_(down, across)].sum() for across in rows] for down in rows])
        out.append(sums == statistics.median(sums.ravel().tolist()))
    return np.array(out)


class TestAgainstTheLibrary:
    @pytest.mark.parametrize("bits", [64, 256])
    @pytest.mark.parametrize("kind", KINDS)
    def test_on_drawn_pictures(self, kind, bits):
        images = [
            picture(seed, size) for seed, size in enumerate([(97, 61), (64, 64), (33, 200), (300, 41), (260, 270)])
        ]
        theirs = np.array([library(kind)(image, math.isqrt(bits)).hash for image in images])
        ours = bits_of(hash_images(images, kind, bits), bits)
        excused = ties(images, bits) if kind == "whash" else np.zeros_like(ours)
        assert ((ours == theirs) | excused).all()
        assert excused.mean() < 0.05

    @pytest.mark.parametrize("bits", [64, 256])
    @pytest.mark.parametrize("kind", KINDS)
    def test_on_photographs(self, kind, bits):
        images = [decode(data).image for data in photographs(25)]
        theirs = np.array([library(kind)(image, math.isqrt(bits)).hash for image in images])
        np.testing.assert_array_equal(bits_of(hash_images(images, kind, bits), bits), theirs)

    @pytest.mark.parametrize("bits", [144, 576, 1024])
    @pytest.mark.parametrize("kind", ["ahash", "phash", "dhash"])
    def test_in_other_sizes(self, kind, bits):
        images = [picture(seed) for seed in range(4)]
        theirs = np.array([library(kind)(image, math.isqrt(bits)).hash for image in images])
        np.testing.assert_array_equal(bits_of(hash_images(images, kind, bits), bits), theirs)

    @pytest.mark.parametrize("kind", KINDS)
    def test_prints_alike(self, kind):
        noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8))
        assert hash_images([noise], kind, 64)[0].tobytes().hex() == str(library(kind)(noise))

    def test_whash_differs_at_exact_ties_alone(self):
        """Of tiny and of flat pictures there are many ties, where rounding decides in the library and 0 stands here."""
        rng = np.random.default_rng(0)
        images = [picture(seed, (32, 32)) for seed in range(20)]
        images += [Image.fromarray(rng.choice([0, 255], (40, 40), p=[0.2, 0.8]).astype(np.uint8)) for _ in range(5)]
        theirs = np.array([library("whash")(image, 16).hash for image in images])
        ours = bits_of(hash_images(images, "whash", 256), 256)
        tied = ties(images, 256)
        assert (ours != theirs).any()
        assert not ((ours != theirs) & ~tied).any()
        assert not ours[tied].any()


class TestByHand:
    def test_dhash_is_whether_the_right_is_brighter(self):
        rising = np.arange(9, dtype=np.uint8)[None, None].repeat(8, axis=1)
        np.testing.assert_array_equal(hash_pixels(rising, "dhash"), np.full((1, 8), 255))
        np.testing.assert_array_equal(hash_pixels(rising[:, :, ::-1], "dhash"), np.zeros((1, 8)))

    def test_ahash_is_whether_it_is_brighter_than_the_mean(self):
        grey = np.full((1, 8, 8), 10, np.uint8)
        grey[0, 0, 0] = 11  # the mean is 10 + 1/64
        assert hash_pixels(grey, "ahash").tolist() == [[0b10000000, 0, 0, 0, 0, 0, 0, 0]]
        grey[0, 7, 7] = grey[0, 1, 2] = 200
        assert hash_pixels(grey, "ahash").tolist() == [[0, 0b00100000, 0, 0, 0, 0, 0, 1]]

    def test_phash_is_the_cosine_transform_written_as_loops(self):
        grey = np.asarray(picture(3, (32, 32)).convert("L"))

        def coefficient(v, u):
            return sum(
                int(grey[y, x]) * math.cos(math.pi * v * (2 * y + 1) / 64) * math.cos(math.pi * u * (2 * x + 1) / 64)
                for y in range(32)
                for x in range(32)
            )

        low = [coefficient(v, u) for v in range(8) for u in range(8)]
        median = statistics.median(low)
        expected = np.packbits([value > median for value in low])
        np.testing.assert_array_equal(hash_pixels(grey[None], "phash")[0], expected)

    def test_phash_of_a_wave_has_its_one_bit(self):
        wave = np.cos(math.pi / 32 * 3 * (np.arange(32) + 0.5))  # frequency 3 across, exactly
        grey = np.rint(128 + 100 * wave).astype(np.uint8)[None, None].repeat(32, axis=1)
        bits = bits_of(hash_pixels(grey, "phash"), 64)[0]
        assert bits[0, 0]  # the mean
        assert bits[0, 3]
        assert not bits[1:].any()  # nothing changes from row to row

    @pytest.mark.parametrize("height", [8, 32])
    def test_whash_is_whether_a_block_is_above_the_median(self, height):
        blocks = np.random.default_rng(0).permutation(64).reshape(8, 8)
        grey = blocks.repeat(height // 8, 0).repeat(height // 8, 1).astype(np.uint8)
        np.testing.assert_array_equal(bits_of(hash_pixels(grey[None], "whash"), 64)[0], blocks >= 32)

    @pytest.mark.parametrize("value", [0, 1, 100, 255])
    def test_a_flat_picture_is_above_nothing(self, value):
        flat = Image.new("RGB", (50, 40), (value, value, value))
        for kind in ("ahash", "dhash", "whash"):
            assert not hash_images([flat], kind, 256).any()
        assert np.unpackbits(hash_images([flat], "phash", 256)).sum() == (value > 0)  # the mean is above all others

    @pytest.mark.parametrize("batch", [1, 2, 64])
    def test_what_symmetry_makes_equal_is_equal_in_a_batch_of_any_size(self, batch):
        half = np.random.default_rng(1).integers(0, 256, (32, 16), dtype=np.uint8)
        mirrored = np.concatenate([half, half[:, ::-1]], axis=1)
        hashes = hash_pixels(mirrored[None].repeat(batch, axis=0), "phash")
        odd = bits_of(hashes, 64)[:, :, 1::2]  # frequencies that a mirrored picture has none of: all exactly 0
        assert (odd == odd[0, 0, 0]).all()


class TestInvariance:
    @pytest.mark.parametrize("kind", KINDS)
    @settings(max_examples=15)
    @given(seed=st.integers(0, 10**6), gain=st.sampled_from([1, 2, 3]), offset=st.integers(0, 60))
    def test_brightness_and_contrast_do_not_matter(self, kind, seed, gain, offset):
        height, width = {"dhash": (8, 9), "phash": (32, 32), "whash": (16, 16)}.get(kind, (8, 8))
        grey = np.random.default_rng(seed).integers(0, 60, (2, height, width), dtype=np.uint8)
        before, after = (
            bits_of(hash_pixels(grey, kind), 64),
            bits_of(hash_pixels(grey * gain + np.uint8(offset), kind), 64),
        )
        if kind == "phash":  # an offset moves the mean, which is one of the 64 values and always the largest here
            assert before[:, 0, 0].all()
        np.testing.assert_array_equal(before, after)

    @settings(max_examples=15)
    @given(sizes=st.lists(st.tuples(st.integers(1, 70), st.integers(1, 70)), min_size=1, max_size=9), data=st.data())
    def test_an_image_hashes_alike_alone_and_among_others(self, sizes, data):
        kind = data.draw(st.sampled_from(KINDS))
        images = [picture(seed, size) for seed, size in enumerate(sizes)]
        together = hash_images(images, kind, 64)
        for row, image in enumerate(images):
            np.testing.assert_array_equal(hash_images([image], kind, 64)[0], together[row])
            np.testing.assert_array_equal(hash_pixels(hash_input(image, kind)[None], kind)[0], together[row])

    def test_a_retouched_photograph_is_nearer_than_another_one(self):
        images = [decode(data).image for data in photographs(20)]
        smaller = [image.resize((240, 160), Image.Resampling.BICUBIC) for image in images]
        for kind in KINDS:
            a, b = (np.unpackbits(hash_images(some, kind, 64), axis=1) for some in (images, smaller))
            distances = (a[:, None] != b[None]).sum(2)
            assert (distances.argmin(1) == np.arange(20)).all(), kind

    def test_decoding_at_reduced_size_changes_bits(self):
        """Why a hash wants the image whole: the module's documentation says so."""
        data = photographs(20)
        whole = [decode(one).image for one in data]
        reduced = [decode(one, at_least_px=64).image for one in data]
        changed = np.unpackbits(hash_images(whole, "phash") ^ hash_images(reduced, "phash"), axis=1).sum(1)
        assert 0.5 < changed.mean() < 5


class TestInput:
    def test_many_images_in_chunks(self, monkeypatch):
        images = [picture(seed, (20 + seed, 30)) for seed in range(7)]
        at_once = hash_images(images, "whash", 64)
        monkeypatch.setattr(hashing, "_CHUNK", 3)
        np.testing.assert_array_equal(hash_images(images, "whash", 64), at_once)

    def test_no_images(self):
        assert hash_images([], "phash", 256).shape == (0, 32)
        assert hash_pixels(np.empty((0, 8, 9), np.uint8), "dhash").shape == (0, 8)

    def test_modes(self):
        image = picture(1)
        grey = image.convert("L")
        np.testing.assert_array_equal(*(hash_images([one], "phash") for one in (image, image.convert("RGBA"))))
        np.testing.assert_array_equal(*(hash_images([one], "phash") for one in (grey, grey.convert("RGB"))))
        deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
        np.testing.assert_array_equal(*(hash_images([one], "dhash") for one in (grey, deep)))

    def test_transparency_is_white(self):
        clear = Image.new("RGBA", (40, 40), (0, 0, 0, 0))
        clear.paste((0, 0, 0, 255), (0, 0, 20, 40))
        right_is_white = Image.new("RGB", (40, 40), "white")
        right_is_white.paste((0, 0, 0), (0, 0, 20, 40))
        np.testing.assert_array_equal(hash_images([clear], "ahash"), hash_images([right_is_white], "ahash"))

    def test_decoding_is_not_needed_before(self):
        """Pillow decodes lazily: an image just opened will do, from several threads."""
        buffer = io.BytesIO()
        picture(2).save(buffer, "PNG")
        lazy = [Image.open(io.BytesIO(buffer.getvalue())) for _ in range(8)]
        assert (hash_images(lazy, "dhash") == hash_images([picture(2)], "dhash")).all()


class TestNames:
    def test_all_names_are_hashes(self):
        assert len(HASHES) == len(set(HASHES)) == 7 + 7 + 7 + 3
        for name in HASHES:
            kind, bits = parse_hash(name)
            assert f"{kind}{bits}" == name
            assert hash_images([picture(0)], kind, bits).shape == (1, bits // 8)

    @pytest.mark.parametrize(
        "name", ["", "phash", "phash63", "phash100", "whash144", "phash4096", "xhash64", "phash064", "64"]
    )
    def test_no_others(self, name):
        with pytest.raises(InputError, match=rf"one of ahash64.*whash1024, got '{name}'"):
            parse_hash(name)

    def test_wrong_kind_or_bits(self):
        with pytest.raises(InputError, match="got 'phash65'"):
            hash_images([], "phash", 65)
        with pytest.raises(InputError, match="got 'md5128'"):
            hash_images([], "md5", 128)

    def test_input_sizes(self):
        assert hash_input_px("ahash", 64, (481, 321)) == (8, 8)
        assert hash_input_px("dhash", 256, (481, 321)) == (17, 16)
        assert hash_input_px("phash", 64, (481, 321)) == (32, 32)
        assert hash_input_px("whash", 64, (481, 321)) == (256, 256)
        assert hash_input_px("whash", 64, (512, 600)) == (512, 512)
        assert hash_input_px("whash", 256, (5, 900)) == (16, 16)

    @pytest.mark.parametrize(
        ("grey", "message"),
        [
            (np.zeros((2, 9, 8), np.uint8), "dhash64 takes images of 9x8 px .*, got 8x9"),
            (np.zeros((9, 8), np.uint8), r"\(n, height, width\), got uint8 \(9, 8\)"),
            (np.zeros((2, 8, 9)), "got float64"),
        ],
    )
    def test_wrong_pixels(self, grey, message):
        with pytest.raises(InputError, match=message):
            hash_pixels(grey, "dhash")

    @pytest.mark.parametrize("shape", [(24, 24), (4, 4), (16, 32)])
    def test_whash_wants_a_power_of_two(self, shape):
        with pytest.raises(InputError, match="square of a power of two px"):
            hash_pixels(np.zeros((1, *shape), np.uint8), "whash")
