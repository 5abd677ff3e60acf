"""What is measured of pixels: against NumPy and Pillow, at values worked by hand, on images of every kind."""

import io
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter, ImageStat

from imagescape.audit.measuring import NOT_MEASURED, Measurement, Measurements, measure, measure_all
from imagescape.errors import InputError

PHOTOGRAPHS = Path(__file__).parents[3] / "shared" / "data" / "bsds500-train.parquet"


def picture(seed, size=(97, 61)):
    """Something like a photograph: smooth at several scales, a little noise, in colour, of any size."""
    rng = np.random.default_rng(seed)
    layers = [
        np.asarray(
            Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)).resize(
                size, Image.Resampling.BICUBIC
            )
        )
        for side in (3, 7, 24)
    ]
    mixed = np.average(layers, axis=0, weights=[3, 2, 4]) + rng.normal(0, 3, layers[0].shape)
    return Image.fromarray(np.clip(mixed, 0, 255).astype(np.uint8))


def jpeg(image, quality):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


def by_numpy(image):
    """The definitions, with an array for every step."""
    pixels = np.asarray(image).astype(float)
    bright = np.sqrt(pixels**2 @ [0.241, 0.691, 0.068]) / 255
    size = image.size
    if max(size) > 64:
        size = tuple(max(1, int(side * 64 // max(image.size))) for side in image.size)
    grey = image.resize(size).convert("L")
    return Measurement(
        *image.size,
        np.percentile(bright, 5),
        np.percentile(bright, 99),
        image.entropy(),
        np.ptp(pixels, axis=2).max() / 255,
        ImageStat.Stat(grey.filter(ImageFilter.FIND_EDGES)).stddev[0],
        np.std(grey.histogram()),
        0.0,
        blockiness_by_numpy(np.asarray(image.convert("L")).astype(int)),
    )


def blockiness_by_numpy(grey):
    on_grid, elsewhere = [], []
    for plane in (grey, grey.T):
        steps = np.minimum(np.abs(np.diff(plane, axis=1)), 16)
        stand_out = np.maximum(2 * steps[:, 1:-1] - steps[:, :-2] - steps[:, 2:], 0)
        is_grid = np.arange(2, plane.shape[1] - 1) % 8 == 0
        on_grid.append(stand_out[:, is_grid].ravel())
        elsewhere.append(stand_out[:, ~is_grid].ravel())
    return (np.concatenate(on_grid).mean() + 0.5) / (np.concatenate(elsewhere).mean() + 0.5)


@pytest.mark.parametrize("size", [(97, 61), (64, 64), (32, 32), (33, 200), (300, 41), (481, 321)])
def test_is_what_numpy_and_pillow_say(size):
    image = picture(0, size)
    found, expected = measure(image), by_numpy(image)
    assert found[:2] == expected[:2]
    assert found[2:4] == pytest.approx(expected[2:4], abs=1 / 4096)
    assert found[4:] == pytest.approx(expected[4:], rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("size", [(32, 32), (64, 48), (5, 7)])
def test_many_at_once_are_as_one_by_one(size):
    images = [picture(seed, size) for seed in range(9)]
    found = measure_all(np.stack([np.asarray(image) for image in images]))
    assert np.array_equal(found.values, Measurements.of(measure(image) for image in images).values)


def test_large_ones_at_once_are_nearly_as_one_by_one(monkeypatch):
    monkeypatch.setattr("imagescape.audit.measuring._CHUNK_BYTES", 200_000)
    images = [picture(seed, (150, 130)) for seed in range(7)]
    found = measure_all(np.stack([np.asarray(image) for image in images]))
    expected = Measurements.of(measure(image) for image in images)
    for name in Measurement._fields:
        loose = 0.02 if name.endswith("deviation") else 1e-12
        assert found[name] == pytest.approx(expected[name], rel=loose), name


class TestByHand:
    @pytest.mark.parametrize(
        ("color", "brightness"),
        [((0, 0, 0), 0), ((255, 255, 255), 1), ((255, 0, 0), math.sqrt(0.241)), ((0, 0, 51), math.sqrt(0.068) / 5)],
    )
    def test_one_colour(self, color, brightness):
        found = measure(Image.new("RGB", (20, 10), color))
        assert found[:2] == (20, 10)
        assert found[2:4] == pytest.approx((brightness, brightness), abs=1 / 8192)
        assert found.color_spread == (max(color) - min(color)) / 255
        assert found.entropy_bits == pytest.approx(math.log2(3) * 0 if len(set(color)) == 1 else entropy_of(color))
        assert (found.edge_deviation > 0) == (max(color) != 0)
        assert (found.border_fraction, found.blockiness) == (1, 1)

    def test_percentiles_lie_between_pixels(self):
        """Greys 0, 10, … 100: the 5th percentile is halfway to the second, the 99th nine tenths to the last."""
        grey = np.arange(0, 101, 10, dtype=np.uint8)[None, :, None].repeat(3, axis=2)
        found = measure(grey)
        assert found.brightness_5th == pytest.approx(5 / 255, abs=1 / 4096)
        assert found.brightness_99th == pytest.approx(99 / 255, abs=1 / 4096)

    def test_entropy_of_two_greys_is_one_bit_in_one_band_and_in_three(self):
        grey = np.zeros((4, 4), np.uint8)
        grey[:2] = 9
        assert measure(grey).entropy_bits == pytest.approx(1)
        assert measure(np.repeat(grey[:, :, None], 3, axis=2)).entropy_bits == pytest.approx(1)

    def test_frame(self):
        """A frame of 2, 3, 4, 5 px around 10 x 20 px of something else, and a spot that is no frame."""
        pixels = np.full((3 + 10 + 2, 4 + 20 + 5, 3), 40, np.uint8)
        pixels[3:13, 4:24] = np.asarray(picture(1, (20, 10)))
        pixels[3, 4] = pixels[12, 23] = 255
        assert measure(pixels).border_fraction == pytest.approx(1 - 200 / (15 * 29))
        pixels[:, :2] += 8  # what JPEG does to it
        pixels[0, 0] = 40
        assert measure(pixels).border_fraction == pytest.approx(1 - 200 / (15 * 29))
        pixels[14, 28] = 255  # a date in a corner ends the frame on two sides
        assert measure(pixels).border_fraction == pytest.approx(1 - 12 * 25 / (15 * 29))

    def test_bars_above_and_below(self):
        pixels = np.asarray(picture(2, (40, 30))).copy()
        pixels[:5] = pixels[27:] = 0
        assert measure(pixels).border_fraction == pytest.approx(8 / 30)

    def test_blocks(self):
        """Flat blocks of 8 px, one level apart: on the grid a step of 1 stands out by 2, elsewhere nothing does."""
        blocks = np.indices((4, 4)).sum(axis=0) % 2
        grey = (100 + np.kron(blocks, np.ones((8, 8)))).astype(np.uint8)
        assert measure(grey).blockiness == pytest.approx((2 + 0.5) / 0.5)
        assert measure(np.roll(grey, 3, axis=(0, 1))[:29, :29]).blockiness < 1


class TestJPEG:
    @pytest.mark.parametrize("seed", range(5))
    def test_blocks_grow_as_quality_falls(self, seed):
        image = picture(seed, (320, 240))
        found = [measure(image).blockiness, *(measure(jpeg(image, q)).blockiness for q in (90, 50, 10))]
        assert found[0] == pytest.approx(1, abs=0.05)
        assert found == sorted(found)
        assert found[-1] > 2

    def test_also_when_stored_without_loss_since(self):
        image = jpeg(picture(0, (320, 240)), 10)
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        assert measure(Image.open(buffer)) == measure(image)

    def test_of_photographs(self):
        if not PHOTOGRAPHS.exists():
            pytest.skip(f"{PHOTOGRAPHS} is not there")
        import pyarrow.parquet as pq

        rows = pq.read_table(PHOTOGRAPHS, columns=["image"])["image"].slice(0, 40).to_pylist()
        images = [Image.open(io.BytesIO(row["bytes"])).convert("RGB").crop((3, 5, 480, 320)) for row in rows]
        found = np.array(
            [[measure(one).blockiness for one in (i, *(jpeg(i, q) for q in (90, 50, 10)))] for i in images]
        )
        assert np.median(found[:, 0]) == pytest.approx(1, abs=0.02)
        assert (np.diff(found, axis=1) > 0).mean(axis=0).min() > 0.9
        assert (np.diff(found, axis=1)[:, 1:] > 0).all()


class TestAnyImage:
    @pytest.mark.parametrize(
        "mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "I", "I;16", "F", "YCbCr", "HSV"]
    )
    def test_every_mode(self, mode):
        source = picture(0).convert("L") if mode.startswith(("I", "F")) else picture(0)
        found = measure(source.convert(mode))
        assert np.isfinite(found).all()
        assert found[:2] == (97, 61)

    @pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 1), (1, 500), (500, 1), (3, 2), (8, 9), (9, 8), (1, 4000)])
    def test_every_size(self, size):
        found = measure(picture(0, size))
        assert np.isfinite(found).all()
        assert found[:2] == size
        assert found.edge_deviation >= 0
        assert measure_all(np.asarray(picture(0, size))[None]).measured.all()

    def test_transparency_is_seen_over_white(self):
        image = Image.new("RGBA", (9, 9), (0, 0, 0, 0))
        assert measure(image).brightness_5th == 1

    def test_sixteen_bits_are_scaled(self):
        deep = np.full((9, 9), 65535, np.uint16)
        assert measure(Image.fromarray(deep)).brightness_5th == measure(deep).brightness_5th == 1

    def test_a_memory_map(self, tmp_path):
        pixels = np.stack([np.asarray(picture(seed, (80, 70))) for seed in range(3)])
        np.save(tmp_path / "pixels.npy", pixels)
        mapped = np.load(tmp_path / "pixels.npy", mmap_mode="r")
        assert np.array_equal(measure_all(mapped).values, measure_all(pixels).values)

    @settings(max_examples=25)
    @given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
    def test_figures_stay_in_their_range(self, width, height, seed):
        found = measure(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))
        assert 0 <= found.brightness_5th <= found.brightness_99th <= 1
        assert 0 <= found.entropy_bits <= math.log2(768)
        assert 0 <= found.color_spread <= 1
        assert 0 <= found.border_fraction <= 1
        assert found.blockiness > 0

    def test_turned_over_it_is_as_bright(self):
        image = picture(3)
        there, back = measure(image), measure(image.transpose(Image.Transpose.ROTATE_180))
        for name in ("brightness_5th", "brightness_99th", "entropy_bits", "color_spread", "border_fraction"):
            assert getattr(there, name) == getattr(back, name)

    @pytest.mark.parametrize(
        ("pixels", "message"),
        [
            (np.zeros((3, 4, 5, 4), np.uint8), r"uint8 \(n, h, w, 3\), got uint8 \(3, 4, 5, 4\)"),
            (np.zeros((3, 4, 5, 3)), "got float64"),
            (np.zeros((3, 0, 5, 3), np.uint8), "must have pixels, got 5x0"),
        ],
    )
    def test_refused(self, pixels, message):
        with pytest.raises(InputError, match=message):
            measure_all(pixels)

    def test_no_images(self):
        assert len(measure_all(np.zeros((0, 9, 9, 3), np.uint8))) == 0


class TestMeasurements:
    def test_columns_there_and_back(self):
        found = Measurements.of([measure(picture(0)), NOT_MEASURED])
        back = Measurements.from_columns({"other": np.zeros(2), **found.columns})
        assert np.array_equal(back.values, found.values, equal_nan=True)
        assert found.measured.tolist() == [True, False]
        both = Measurements.joined([found, Measurements.of([]), back])
        assert both["width_px"][[0, 2]].tolist() == [97, 97]

    def test_refused(self):
        with pytest.raises(InputError, match="need the columns width_px, height_px"):
            Measurements.from_columns({})
        columns = Measurements.of([NOT_MEASURED]).columns
        with pytest.raises(InputError, match=r"equally long, got \[1, 3\]"):
            Measurements.from_columns({**columns, "blockiness": np.zeros(3)})
        with pytest.raises(InputError, match=r"a row of 10 numbers an image, got shape \(3,\)"):
            Measurements(np.zeros(3))


def entropy_of(color):
    """Of the bands of one colour: each has one value, and values of different bands are different."""
    return math.log2(3)
