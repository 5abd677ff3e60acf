"""Decoding: every kind of file comes to its status, and every picture to its colours."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile, ImageOps

from imagescape.errors import InputError
from imagescape.images import decode as decoding
from imagescape.images.decode import Decoded, decode, encode_png, from_array, read_file, square, thumbnail, to_rgb
from tests.collection.broken_files import (
    RED,
    encoded,
    grey16,
    noise,
    one_bit,
    picture,
    png,
    png_bomb,
    png_chunk,
    tiff,
    with_orientation,
    write_broken_files,
)

WHITE, BLACK = (255, 255, 255), (0, 0, 0)
RAMP = [(0, 0), (1, 1), (100, 100), (128, 128), (255, 255)]  # column of a 256-wide ramp -> grey


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("broken")
    return root, write_broken_files(root)


def decode_file(path, **options):
    read = read_file(path)
    return read if isinstance(read, Decoded) else decode(read, **options)


def pixels_of(decoded):
    assert decoded.status == "ok", decoded
    return np.asarray(decoded.image).astype(int)


class TestBrokenFolder:
    def test_has_many_kinds_and_every_status(self, folder):
        _, expected = folder
        assert len(expected) >= 60
        statuses = {"ok", "empty", "truncated", "not_an_image", "too_large", "unreadable", "vanished"}
        assert set(expected.values()) == statuses

    def test_every_file_gets_its_status_and_a_reason(self, folder):
        root, expected = folder
        decoded = {name: decode_file(root / name) for name in expected}
        assert {name: one.status for name, one in decoded.items()} == expected
        for name, one in decoded.items():
            if one.status == "ok":
                assert one.reason == "", name
                assert one.image.mode == "RGB"
                assert one.image.size == (one.width, one.height)
                assert one.format
            else:
                assert one.image is None
                assert len(one.reason) > 10, name
                assert "\n" not in one.reason

    def test_from_many_threads_is_as_from_one(self, folder):
        root, expected = folder
        names = [name for name in expected for _ in range(3)]

        def outcome(name):
            one = decode_file(root / name, salvage_truncated=True)
            return one.status, one.reason, one.image and one.image.tobytes()

        with ThreadPoolExecutor(8) as threads:
            at_once = list(threads.map(outcome, names))
        assert at_once == [outcome(name) for name in names]

    @pytest.mark.parametrize(
        ("name", "size", "spots"),
        [
            ("cmyk.jpg", (40, 40), {(20, 20): (255, 0, 0)}),
            ("cmyk.tif", (40, 40), {(20, 20): (255, 0, 0)}),
            ("lab.tif", (20, 10), {(5, 5): RED}),
            ("one_bit.png", (20, 10), {(0, 0): BLACK, (19, 9): WHITE}),
            ("one_bit.tif", (20, 10), {(0, 0): BLACK, (19, 9): WHITE}),
            ("palette_transparent.png", (20, 10), {(0, 0): WHITE, (19, 9): RED}),
            ("palette_alpha.png", (20, 10), {(0, 0): WHITE, (19, 9): RED}),
            ("palette_transparent.gif", (20, 10), {(0, 0): WHITE, (19, 9): RED}),
            ("alpha.png", (30, 10), {(0, 0): WHITE, (15, 5): (204, 204, 204), (29, 9): BLACK}),
            ("alpha.webp", (30, 10), {(0, 0): WHITE, (15, 5): (204, 204, 204), (29, 9): BLACK}),
            ("grey_alpha.png", (30, 10), {(0, 0): WHITE, (15, 5): (204, 204, 204), (29, 9): BLACK}),
            ("rgb_transparent_colour.png", (9, 9), {(4, 4): WHITE}),
            ("animated.gif", (20, 10), {(5, 5): RED}),
            ("animated.png", (20, 10), {(5, 5): RED}),
            ("animated.webp", (20, 10), {(5, 5): RED}),
            ("grey16.png", (256, 4), {(x, 0): (grey,) * 3 for x, grey in RAMP}),
            ("grey16.tif", (256, 4), {(x, 0): (grey,) * 3 for x, grey in RAMP}),
            ("grey16.pgm", (256, 4), {(x, 0): (grey,) * 3 for x, grey in RAMP}),
            ("float.tif", (256, 1), {(x, 0): (grey,) * 3 for x, grey in RAMP}),
            ("int32.tif", (256, 1), {(x, 0): (grey,) * 3 for x, grey in RAMP}),
            ("very_wide.png", (5000, 1), {(4999, 0): RED}),
        ],
    )
    def test_colours_are_right(self, folder, name, size, spots):
        decoded = decode_file(folder[0] / name)
        assert (decoded.width, decoded.height) == size
        for (x, y), color in spots.items():
            assert np.abs(np.subtract(decoded.image.getpixel((x, y)), color)).max() <= 1, (x, y)

    @pytest.mark.parametrize("name", ["plain.png", "plain.bmp", "plain.tif", "plain.ppm", "plain.tga", "plain.qoi"])
    def test_lossless_formats_keep_every_pixel(self, folder, name):
        assert np.array_equal(pixels_of(decode_file(folder[0] / name)), np.asarray(picture()))


class TestOrientation:
    @pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP"])
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_each_is_undone(self, format, orientation):
        """The oracle is Pillow's own exif_transpose."""
        options = {"lossless": True} if format == "WEBP" else {}
        exif = Image.Exif()
        exif[0x0112] = orientation
        data = encoded(picture(), format, exif=exif, **options)
        upright = ImageOps.exif_transpose(Image.open(BytesIO(data))).convert("RGB")
        decoded = decode(data)
        assert (decoded.width, decoded.height) == upright.size == ((48, 32) if orientation < 5 else (32, 48))
        assert np.array_equal(pixels_of(decoded), np.asarray(upright))

    def test_six_turns_the_left_half_to_the_top(self):
        top, bottom = np.split(pixels_of(decode(with_orientation(6))), 2)
        assert np.abs(top[:20] - RED).max() < 40
        assert np.abs(bottom - RED).mean() > 40

    def test_counts_behind_the_pixels_of_a_png_and_in_a_refused_image(self):
        early = with_orientation(6, "PNG")
        start = early.index(b"eXIf") - 4
        end = start + 12 + int.from_bytes(early[start : start + 4], "big")
        late = early[:start] + early[end:-12] + early[start:end] + early[-12:]
        assert (decode(late).width, decode(late).height) == (32, 48)
        for format in ("JPEG", "PNG", "TIFF"):
            refused = decode(with_orientation(6, format), max_pixels=10)
            assert (refused.status, refused.width, refused.height) == ("too_large", 32, 48)


class TestDeepGrey:
    def test_16_bits_are_divided_by_257(self):
        values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
        expected = np.rint(values / 257).astype(np.uint8)
        assert np.array_equal(pixels_of(decode(png(Image.fromarray(values))))[:, :, 0], expected)
        assert np.array_equal(np.asarray(from_array(values))[:, :, 1], expected)

    def test_16_bits_with_a_transparent_grey(self):
        data = png(grey16())
        chunk = png_chunk(b"tRNS", (257 * 3).to_bytes(2, "big"))
        at = data.index(b"IDAT") - 4
        row = pixels_of(decode(data[:at] + chunk + data[at:]))[0, :5, 0]
        assert row.tolist() == [0, 1, 2, 255, 4]

    def test_floats_are_stretched_and_what_is_no_number_is_black(self):
        image = Image.fromarray(np.array([[np.nan, -2.0, 0.0, 2.0, np.inf]], np.float32))
        assert np.asarray(to_rgb(image))[0, :, 0].tolist() == [0, 0, 128, 255, 0]

    def test_12_bits_end_at_4095(self):
        packed = bytes.fromhex("000 800 fff 010".replace(" ", ""))
        assert pixels_of(decode(tiff(packed, (4, 1), 12)))[0, :, 0].tolist() == [0, 128, 255, 1]

    def test_white_may_be_zero(self):
        values = np.array([0, 257, 65535], "<u2").tobytes()
        assert pixels_of(decode(tiff(values, (3, 1), 16, white_is_zero=True)))[0, :, 0].tolist() == [255, 254, 0]
        assert pixels_of(decode(tiff(bytes([0, 1, 255]), (3, 1), 8, white_is_zero=True)))[0, :, 0].tolist() == [
            255,
            254,
            0,
        ]

    def test_a_dark_pgm_stays_dark(self):
        """Its range is declared, unlike that of other images of 32-bit integers."""
        assert pixels_of(decode(encoded(grey16(257 * 100).convert("I"), "PPM"))).max() == 100

    @pytest.mark.parametrize("value", [0.0, 7.5, np.nan])
    def test_a_flat_float_image_is_black(self, value):
        assert np.asarray(to_rgb(Image.fromarray(np.full((2, 2), value, np.float32)))).max() == 0


class TestTruncated:
    @pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "PPM", "progressive"])
    def test_salvages_the_beginning_and_says_so(self, format):
        options = {"format": "JPEG", "progressive": True} if format == "progressive" else {"format": format}
        # rows one to the next differ, so that row order and position count; smooth enough for JPEG
        whole = encoded(noise().resize((320, 240), Image.Resampling.BICUBIC), **options)
        cut = whole[: len(whole) * 3 // 4]
        assert decode(cut).status == "truncated"
        salvaged = decode(cut, salvage_truncated=True)
        assert "truncated" in salvaged.reason
        assert (salvaged.width, salvaged.height) == (320, 240)
        upper = slice(None) if format == "BMP" else slice(0, 100)  # BMP begins at the bottom
        upper = slice(140, None) if format == "BMP" else upper
        difference = np.abs(pixels_of(salvaged)[upper] - pixels_of(decode(whole))[upper]).mean()
        assert difference < (25 if format == "progressive" else 0.01)  # early scans of a progressive file are coarse

    def test_salvages_with_a_reduced_size_too(self):
        whole = encoded(noise((640, 480)), "JPEG")
        salvaged = decode(whole[: len(whole) // 2], salvage_truncated=True, at_least_px=100)
        assert (salvaged.status, salvaged.image.size) == ("ok", (160, 120))
        assert (salvaged.width, salvaged.height) == (640, 480)

    def test_nothing_but_blank_is_no_salvage(self):
        data = png(noise())
        salvaged = decode(data[: data.index(b"IDAT") + 6], salvage_truncated=True)
        assert (salvaged.status, salvaged.image) == ("truncated", None)

    def test_sound_images_do_not_change(self):
        data = encoded(noise(), "JPEG")
        assert decode(data, salvage_truncated=True) == decode(data)

    def test_pillows_global_switch_is_not_touched(self):
        seen, stop = set(), threading.Event()

        def watch():
            while not stop.is_set():
                seen.add(ImageFile.LOAD_TRUNCATED_IMAGES)

        watcher = threading.Thread(target=watch)
        watcher.start()
        data = encoded(noise(), "PNG")
        for _ in range(20):
            decode(data[: len(data) // 2], salvage_truncated=True)
        stop.set()
        watcher.join()
        assert seen == {False}

    @settings(max_examples=100)
    @given(st.sampled_from(["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "JPEG2000"]), st.data())
    def test_any_cut_is_an_answer(self, format, data):
        whole = ENCODED.setdefault(format, encoded(noise((24, 16)), format))
        cut = decode(whole[: data.draw(st.integers(0, len(whole) - 1))], salvage_truncated=data.draw(st.booleans()))
        assert cut.status in ("ok", "truncated", "empty", "not_an_image")

    @settings(max_examples=100)
    @given(st.sampled_from(["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "ICO"]), st.data())
    def test_any_damage_is_an_answer(self, format, data):
        damaged = bytearray(ENCODED.setdefault(format, encoded(noise((24, 16)), format)))
        for _ in range(data.draw(st.integers(1, 6))):
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
        decoded = decode(bytes(damaged), max_pixels=10**6)
        assert (decoded.image is None) == (decoded.status != "ok")


ENCODED: dict[str, bytes] = {}


class TestPixelLimit:
    def test_is_checked_before_memory_is_taken(self, monkeypatch):
        def load(self):
            raise AssertionError("pixels were decoded")

        monkeypatch.setattr(ImageFile.ImageFile, "load", load)
        decoded = decode(png_bomb(60_000, 50_000))
        assert (decoded.status, decoded.width, decoded.height) == ("too_large", 60_000, 50_000)
        assert "60000 x 50000" in decoded.reason

    def test_is_the_callers_and_inclusive(self):
        assert decode(png(), max_pixels=48 * 32).status == "ok"
        assert decode(png(), max_pixels=48 * 32 - 1).status == "too_large"

    def test_may_be_raised_above_pillows_own(self, monkeypatch):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
        assert decode(png()).status == "ok"


class TestSmallerJpeg:
    @pytest.mark.parametrize(("at_least_px", "size"), [(None, (640, 480)), (300, (640, 480)), (240, (320, 240)),
                                                       (100, (160, 120)), (1, (80, 60))])  # fmt: skip
    def test_never_goes_below_the_short_side_asked_for(self, at_least_px, size):
        decoded = decode(encoded(noise((640, 480)), "JPEG"), at_least_px=at_least_px)
        assert decoded.image.size == size
        assert (decoded.width, decoded.height) == (640, 480)

    def test_keeps_orientation_and_leaves_other_formats_alone(self):
        exif = Image.Exif()
        exif[0x0112] = 6
        turned = decode(encoded(noise((640, 480)), "JPEG", exif=exif), at_least_px=100)
        assert (turned.image.size, turned.width, turned.height) == ((120, 160), 480, 640)
        assert decode(png(noise((640, 480))), at_least_px=10).image.size == (640, 480)


class TestReadFile:
    def test_gives_bytes_or_says_why_not(self, tmp_path):
        (tmp_path / "a.png").write_bytes(b"abc")
        assert read_file(tmp_path / "a.png") == b"abc"
        assert read_file(tmp_path / "gone.png").status == "vanished"
        assert read_file(tmp_path / "a.png" / "below_a_file.png").status == "vanished"
        assert (read_file(tmp_path).status, read_file(tmp_path).reason) == ("unreadable", "this is a folder")
        assert read_file("nul\0character.png").status == "unreadable"
        assert read_file(str(tmp_path / ("x" * 300))).status == "unreadable"  # the name is too long for the system

    def test_permission_denied_is_unreadable(self, tmp_path, monkeypatch):
        (tmp_path / "secret.png").write_bytes(png())

        def refuse(*_):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("builtins.open", refuse)
        denied = read_file(tmp_path / "secret.png")
        assert (denied.status, denied.reason) == ("unreadable", "the file cannot be read: Permission denied")


class TestFromArray:
    @pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1), (5, 7, 3)])
    def test_uint8_keeps_its_values(self, shape):
        values = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        expected = np.broadcast_to(values.reshape(5, 7, -1), (5, 7, 3))
        assert np.array_equal(np.asarray(from_array(values)), expected)

    def test_types_share_their_white(self):
        for white in (np.uint8(255), np.uint16(65535), np.bool_(True), np.float32(1), np.float64(1), np.float16(1)):
            image = from_array(np.array([[white, white * 0]]).astype(white.dtype))
            assert np.asarray(image)[0].tolist() == [[255] * 3, [0] * 3], white.dtype

    def test_alpha_is_over_white(self):
        assert from_array(np.array([[[0, 0, 0, 51]]], np.uint8)).getpixel((0, 0)) == (204, 204, 204)

    def test_tensors_have_channels_first(self):
        values = torch.arange(3 * 5 * 7, dtype=torch.uint8).reshape(3, 5, 7)
        assert np.array_equal(np.asarray(from_array(values)), values.permute(1, 2, 0).numpy())
        assert from_array(torch.rand(1, 5, 7, requires_grad=True)).size == (7, 5)
        assert from_array(torch.rand(3, 5, 7).bfloat16()).size == (7, 5)
        assert from_array(np.zeros((3, 9, 3), np.uint8)).size == (9, 3)  # both ends could be colours: the last is

    @pytest.mark.parametrize(
        ("array", "message"),
        [
            (np.zeros((2, 3, 4, 5)), r"\(h, w\).*got shape \(2, 3, 4, 5\)"),
            (np.zeros((5, 7, 2), np.uint8), "got shape"),
            (np.zeros((0, 7), np.uint8), "got shape"),
            (np.full((2, 2), 1.5), "in \\[0, 1\\], got 1.5 to 1.5"),
            (np.array([[np.nan, 0.5]]), "in \\[0, 1\\]"),
            (np.zeros((2, 2), np.int64), "got int64"),
        ],
    )
    def test_refuses_what_it_cannot_know(self, array, message):
        with pytest.raises(InputError, match=message):
            from_array(array)


class TestSquare:
    def test_crop_takes_the_middle(self):
        image = Image.new("RGB", (90, 30), BLACK)
        image.paste(WHITE, (30, 0, 60, 30))
        assert square(image, 30).tolist() == np.full((30, 30, 3), 255).tolist()
        assert square(image.transpose(Image.Transpose.ROTATE_90), 30).min() == 255

    def test_pad_keeps_everything_on_white(self):
        padded = square(Image.new("RGB", (40, 20), RED), 20, "pad")
        assert padded[5:15].tolist() == np.broadcast_to(RED, (10, 20, 3)).tolist()
        assert padded[:5].min() == padded[15:].min() == 255

    def test_squash_keeps_everything(self):
        image = Image.new("RGB", (40, 20), BLACK)
        image.paste(WHITE, (20, 0, 40, 20))
        squashed = square(image, 10, "squash")
        assert squashed[:, :4].max() == 0
        assert squashed[:, 6:].min() == 255

    def test_shrinking_averages(self):
        checkers = np.indices((64, 64)).sum(0) % 2 * 255
        assert np.abs(square(from_array(checkers.astype(np.uint8)), 8).astype(int) - 127.5).max() < 2

    @given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 20), st.sampled_from(["crop", "pad", "squash"]))
    def test_any_size_comes_to_the_square(self, width, height, size_px, fit):
        out = square(Image.new("RGB", (width, height), RED), size_px, fit)
        assert (out.shape, out.dtype) == ((size_px, size_px, 3), np.uint8)
        assert (out == RED).all(axis=2).any()

    def test_another_fit_is_refused(self):
        with pytest.raises(InputError, match="'crop', 'pad' or 'squash', got 'stretch'"):
            square(picture(), 8, "stretch")


def test_thumbnail_bounds_the_longer_side_and_never_enlarges():
    for size, expected in [((480, 320), (96, 64)), ((10, 1000), (1, 96)), ((30, 20), (30, 20))]:
        image = Image.open(BytesIO(thumbnail(Image.new("RGB", size, RED))))
        assert (image.format, image.size) == ("WEBP", expected)
        assert np.abs(np.subtract(image.convert("RGB").getpixel((0, 0)), RED)).max() <= 4


def test_png_is_lossless():
    assert np.array_equal(pixels_of(decode(encode_png(noise()))), np.asarray(noise()))


def test_to_rgb_of_an_rgb_image_is_no_copy():
    image = picture()
    assert to_rgb(image) is image
    assert to_rgb(one_bit()).getpixel((19, 0)) == WHITE


@pytest.mark.parametrize("mode", ["LA", "La", "RGBA", "RGBa"])
def test_to_rgb_of_alpha_premultiplied_or_not(mode):
    image = Image.new("RGBA", (1, 1), (0, 0, 0, 51)).convert("LA" if mode[0] == "L" else "RGBA").convert(mode)
    assert to_rgb(image).getpixel((0, 0)) == (204, 204, 204)


def test_eps_never_starts_ghostscript(monkeypatch):
    monkeypatch.setattr(os, "system", None)
    monkeypatch.setattr("subprocess.check_call", None)
    data = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"
    assert decode(data).status == "unreadable"
    assert "EPS" not in decoding._PLUGINS
