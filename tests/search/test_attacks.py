"""Attacks at values worked by hand, against NumPy loops, and by what must hold for all of them."""

import io
import itertools
import math
import pickle
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from imagescape.errors import InputError
from imagescape.search.attacks import ANCESTOR, ATTACKS, FAMILIES, Attack, choose, compose
from imagescape.search.attacks.geometry import homography

# The benchmark "Unsupervised improvement of image similarity", as it describes itself.
ANCESTRAL = {
    "gaussian_noise": (0.01, 0.02, 0.05),
    "speckle_noise": (0.01, 0.02, 0.05),
    "salt_and_pepper": (0.05, 0.1, 0.15),
    "gaussian_filter": (3, 5, 7),
    "median_filter": (3, 5, 7),
    "jpeg": (10, 50, 90),
    "scale": (0.4, 0.8, 1.2, 1.6),
    "crop": (5, 10, 20, 40, 60),
    "rotate": (5, 10, 20, 40, 60),
    "shear": (1, 2, 5, 10, 20),
    "contrast": (0.5, 0.66, 1.5, 2),
    "colour": (0.5, 0.66, 1.5, 2),
    "brightness": (0.5, 0.66, 1.5, 2),
    "sharpness": (0.5, 0.66, 1.5, 2),
    "text": (10, 20, 30, 40, 50),
}
DRAWS = {"gaussian_noise", "speckle_noise", "salt_and_pepper", "text", "perspective", "motion_blur", "colour_cast"} | {
    "border", "overlay", "caption", "collage", "screenshot", "chain"
}  # fmt: skip
RESIZES = {"scale", "border", "collage", "screenshot", "chain"}

all_attacks = pytest.mark.parametrize("attack", ATTACKS.values(), ids=list(ATTACKS))


def photograph(size=(120, 80), seed=0):
    """Something like one: smooth and textured, in colour, without symmetry."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    pixels = np.asarray(coarse) + rng.normal(0, 6, (size[1], size[0], 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def flat(colour, size=(200, 150)):
    return Image.new("RGB", size, colour)


def run(name, image, seed=0, image_id=1, **options):
    return ATTACKS[name](image, seed=seed, image_id=image_id, **options)


def values(image):
    return np.asarray(image).astype(float)


class TestCatalogue:
    def test_the_58_are_those(self):
        assert len(ANCESTOR) == 58
        assert {family: tuple(one.strength for one in FAMILIES[family]) for family in ANCESTRAL} == ANCESTRAL
        assert [ATTACKS[name].family for name in ANCESTOR] == [f for f, s in ANCESTRAL.items() for _ in s]

    def test_names_and_families(self):
        assert len(ATTACKS) == 90
        for name, attack in ATTACKS.items():
            assert attack.name == name
            assert name.startswith(attack.family + "_")
            assert attack in FAMILIES[attack.family]
            assert (attack.strength is None) == (not attack.unit)
            if attack.strength is not None:
                assert name.endswith(f"_{attack.strength:g}")
        assert sum(map(len, FAMILIES.values())) == len(ATTACKS)

    def test_the_tables_cannot_be_changed(self):
        with pytest.raises(TypeError):
            ATTACKS["none"] = ATTACKS["jpeg_10"]

    def test_the_documents_tell_of_every_family_and_strength(self):
        text = (Path(__file__).parents[2] / "docs" / "attacks.md").read_text(encoding="utf-8")
        section = text.split("## Attacks")[1].split("\n## ")[0]
        rows = dict(re.findall(r"^\| `(\w+)` \|(.*)\|$", section, re.MULTILINE))
        assert set(rows) == set(FAMILIES)
        for family, attacks in FAMILIES.items():
            for attack in attacks:
                assert f"`{attack.name.removeprefix(family)}`" in rows[family], attack.name


class TestChoose:
    def test_all_of_them(self):
        assert choose() == choose(["all"]) == list(ATTACKS.values())

    def test_the_ancestor(self):
        assert [attack.name for attack in choose(["ancestor"])] == list(ANCESTOR)

    def test_names_and_families_once_each_in_the_order_of_the_catalogue(self):
        chosen = choose(["webp_50", "flip", "jpeg_90", "webp_50", "flip_vertical"])
        assert [attack.name for attack in chosen] == ["jpeg_90", "flip_horizontal", "flip_vertical", "webp_50"]

    def test_other_spellings(self):
        assert choose([" color-cast ", "color-0.5", "jpeg-10"]) == choose(["colour_cast", "colour_0.5", "jpeg_10"])

    @pytest.mark.parametrize(
        ("kinds", "message"),
        [
            (["jpeg", "blur"], r"'all', 'ancestor', a family \(gaussian_noise, .*chain\).*got 'blur'"),
            (["flips"], "of 'flip' there are flip_horizontal, flip_vertical; got 'flips'"),
            (["jpeg_20"], "of 'jpeg' there are jpeg_10, jpeg_50, jpeg_90; got 'jpeg_20'"),
            (["colour_cast_3"], "of 'colour_cast' there are colour_cast_0.15, colour_cast_0.3; got"),
            (["rotat"], "did you mean 'rotate'"),
            ([], "leave the kinds out for all"),
            ("jpeg", "a list of names, got the text 'jpeg'"),
        ],
    )
    def test_wrong_kinds(self, kinds, message):
        with pytest.raises(InputError, match=message):
            choose(kinds)


class TestAll:
    @all_attacks
    def test_changes_the_image_and_keeps_it_rgb(self, attack):
        image = photograph()
        before = image.tobytes()
        after = attack(image, seed=0, image_id=7)
        assert type(after) is Image.Image or isinstance(after, Image.Image)
        assert after.mode == "RGB"
        assert image.tobytes() == before, "the original was written on"
        assert after.size != image.size or after.tobytes() != before
        if attack.family not in RESIZES and attack.name != "caption_bar":
            assert after.size == image.size

    @all_attacks
    def test_seed_and_image_settle_everything(self, attack):
        image = photograph()
        once = attack(image, seed=3, image_id="00ff00ff00ff00ff")
        again = attack(image.copy(), seed=3, image_id="00ff00ff00ff00ff")
        assert (once.size, once.tobytes()) == (again.size, again.tobytes())
        others = [
            attack(image, seed=s, image_id=i) for s, i in [(4, "00ff00ff00ff00ff"), (3, "01"), (5, 2), (6, 3), (7, 4)]
        ]
        differs = any((once.size, once.tobytes()) != (other.size, other.tobytes()) for other in others)
        assert differs == (attack.family in DRAWS)

    @pytest.mark.parametrize("size", [(16, 16), (16, 240), (240, 16), (33, 57), (1, 1), (2, 90)], ids=str)
    def test_any_size(self, size):
        image = photograph(size)
        for attack in ATTACKS.values():
            after = attack(image, seed=0, image_id=1)
            assert after.mode == "RGB", attack.name
            assert min(after.size) >= 1
            if attack.family not in RESIZES and attack.name != "caption_bar":
                assert after.size == size, attack.name

    @settings(max_examples=8)
    @given(
        width=st.integers(16, 130),
        height=st.integers(16, 130),
        seed=st.integers(0, 2**62),
        image_id=st.integers(-(2**63), 2**63 - 1),
    )
    def test_any_seed_and_id(self, width, height, seed, image_id):
        image = photograph((width, height))
        for name in ("text_50", "caption_both", "overlay_sticker_30", "collage_9", "perspective_20", "chain_4"):
            assert run(name, image, seed, image_id).mode == "RGB"

    def test_the_order_does_not_matter(self):
        images = {image_id: photograph(seed=image_id) for image_id in range(3)}
        pairs = list(itertools.product(choose(["gaussian_noise", "text", "overlay", "chain"]), images))

        def made(order):
            return {(a.name, i): a(images[i], seed=0, image_id=i).tobytes() for a, i in order}

        assert made(pairs) == made(pairs[::-1]) == made(pairs[1::2] + pairs[::2])
        with ThreadPoolExecutor(8) as threads:
            jobs = threads.map(lambda pair: pair[0](images[pair[1]], seed=0, image_id=pair[1]).tobytes(), pairs)
            assert made(pairs) == {(a.name, i): data for (a, i), data in zip(pairs, jobs, strict=True)}

    def test_images_and_strengths_get_noise_of_their_own(self):
        image = flat((128, 128, 128))
        noise = {
            (name, i): run(name, image, 0, i) for name in ("gaussian_noise_0.01", "gaussian_noise_0.05") for i in (1, 2)
        }
        centred = [(values(one) - 128).ravel() for one in noise.values()]
        correlations = np.corrcoef(centred) - np.eye(4)
        assert abs(correlations).max() < 0.02

    def test_ids_are_compared_as_text(self):
        image = photograph()
        assert run("text_10", image, 0, 17) == run("text_10", image, 0, "17") == run("text_10", image, 0, np.int64(17))

    @pytest.mark.parametrize("mode", ["L", "RGBA", "P", "I;16", "CMYK", "1"])
    def test_any_mode(self, mode):
        image = photograph().convert("L").convert(mode) if mode in ("I;16", "1") else photograph().convert(mode)
        for attack in ATTACKS.values():
            assert attack(image, seed=0, image_id=0).mode == "RGB", attack.name

    def test_transparency_is_white(self):
        clear = Image.new("RGBA", (40, 30), (0, 0, 0, 0))
        assert run("flip_vertical", clear) == flat((255, 255, 255), (40, 30))

    @all_attacks
    def test_can_be_sent_to_another_process(self, attack):
        sent = pickle.loads(pickle.dumps(attack))
        assert sent == attack
        image = photograph((40, 30))
        assert sent(image, seed=0, image_id=0) == attack(image, seed=0, image_id=0)

    def test_a_stronger_attack_changes_more(self):
        image = photograph()
        noise = ("gaussian_noise", "speckle_noise", "salt_and_pepper")
        blur = ("gaussian_filter", "median_filter", "motion_blur")
        for family in (*noise, *blur, "text", "colour_cast", "overlay_sticker", "overlay_shape"):
            names = [name for name in ATTACKS if name.startswith(family)]
            changes = [
                np.mean([abs(values(run(name, image, seed)) - values(image)).mean() for seed in range(12)])
                for name in names
            ]
            assert changes == sorted(changes), family


class TestDegrade:
    @pytest.mark.parametrize("variance", [0.01, 0.02, 0.05])
    def test_gaussian_noise_has_its_variance(self, variance):
        noise = (values(run(f"gaussian_noise_{variance}", flat((128, 128, 128)))) - 128) / 255
        assert abs(noise.mean()) < 0.002
        clipped = math.erfc(0.5 / math.sqrt(2 * variance))  # mass beyond black and white: 2.5 % at the strongest
        assert noise.var() == pytest.approx(variance, rel=0.02 + 3 * clipped)
        channels = noise.reshape(-1, 3).T
        assert abs(np.corrcoef(channels) - np.eye(3)).max() < 0.02  # every channel has its own

    @pytest.mark.parametrize("level", [60, 120])
    def test_speckle_grows_with_brightness(self, level):
        noisy = values(run("speckle_noise_0.01", flat((level, level, level))))
        assert noisy.mean() == pytest.approx(level, rel=0.005)
        assert noisy.std() == pytest.approx(level * 0.1, rel=0.02)
        assert not values(run("speckle_noise_0.05", flat((0, 0, 0)))).any()

    @pytest.mark.parametrize("fraction", [0.05, 0.1, 0.15])
    def test_salt_and_pepper_in_equal_parts(self, fraction):
        pixels = values(run(f"salt_and_pepper_{fraction}", flat((100, 100, 100), (300, 300))))
        assert (pixels == 255).mean() == pytest.approx(fraction / 2, rel=0.03)
        assert (pixels == 0).mean() == pytest.approx(fraction / 2, rel=0.03)
        assert set(np.unique(pixels)) == {0, 100, 255}

    @pytest.mark.parametrize(("size", "sigma"), [(3, 1.0), (5, 1.6), (7, 2.2)])
    def test_gaussian_filter_of_a_point_is_its_kernel(self, size, sigma):
        image = flat((0, 0, 0), (21, 21))
        image.putpixel((10, 10), (255, 0, 51))
        taps = [math.exp(-((i - size // 2) ** 2) / (2 * sigma**2)) for i in range(size)]
        kernel = np.array([[a * b for a in taps] for b in taps]) / sum(taps) ** 2
        expected = np.zeros((21, 21))
        half = size // 2
        expected[10 - half : 11 + half, 10 - half : 11 + half] = kernel
        blurred = values(run(f"gaussian_filter_{size}", image))
        np.testing.assert_allclose(blurred, expected[..., None] * (255, 0, 51), atol=0.51)

    def test_gaussian_filter_mirrors_at_the_edge(self):
        ramp = Image.fromarray(np.repeat(np.arange(0, 200, 10, dtype=np.uint8)[None, :, None], 9, 0).repeat(3, 2))
        a = math.exp(-0.5)
        assert values(run("gaussian_filter_3", ramp))[4, 0, 0] == round((0 + 2 * a * 10) / (1 + 2 * a))

    @pytest.mark.parametrize("size", [3, 5, 7])
    def test_median_filter_by_loops(self, size):
        image = photograph((14, 11))
        pixels, half = np.asarray(image), size // 2
        expected = np.empty_like(pixels)
        for y, x, c in np.ndindex(*pixels.shape):
            around = [
                pixels[min(max(y + dy, 0), 10), min(max(x + dx, 0), 13), c]
                for dy in range(-half, half + 1)
                for dx in range(-half, half + 1)
            ]
            expected[y, x, c] = sorted(around)[len(around) // 2]
        np.testing.assert_array_equal(np.asarray(run(f"median_filter_{size}", image)), expected)

    @pytest.mark.parametrize("length", [5, 10, 20])
    def test_motion_blur_of_a_point_is_a_line_of_that_length(self, length):
        image = flat((0, 0, 0), (81, 81))
        image.paste((255, 255, 255), (39, 39, 42, 42))  # 3 px, so that a thin smear survives rounding
        angles = set()
        for seed in range(6):
            blurred = values(run(f"motion_blur_{length}", image, seed))[..., 0]
            assert blurred.sum() == pytest.approx(9 * 255, rel=0.08)
            y, x = np.indices(blurred.shape)
            weights = blurred / blurred.sum()
            dx, dy = x - (weights * x).sum(), y - (weights * y).sum()
            assert abs((weights * x).sum() - 40) < 0.1
            spread = [[(weights * a * b).sum() for a in (dx, dy)] for b in (dx, dy)]
            narrow, wide = np.linalg.eigvalsh(spread)
            assert wide == pytest.approx(length**2 / 12 + 8 / 12 + 0.15, rel=0.12)  # uniform line, square, sampling
            assert narrow < 1.3
            angles.add(round(math.atan2(spread[1][1] - narrow, spread[0][1]), 2))
        assert len(angles) > 3

    @pytest.mark.parametrize("format", ["JPEG", "WEBP"])
    @pytest.mark.parametrize("quality", [10, 50, 90])
    def test_compression_is_what_an_encoder_gives(self, format, quality):
        image = photograph()
        buffer = io.BytesIO()
        image.save(buffer, format, quality=quality)
        assert run(f"{format.lower()}_{quality}", image) == Image.open(buffer).convert("RGB")

    @pytest.mark.parametrize("family", ["jpeg", "webp"])
    def test_lower_quality_is_further_from_the_image(self, family):
        image = photograph()
        errors = [abs(values(attack(image, seed=0, image_id=0)) - values(image)).mean() for attack in FAMILIES[family]]
        assert errors[0] > 1.5 * errors[2] > 0
        assert errors == sorted(errors, reverse=True)

    def test_a_picture_too_long_for_webp_is_reduced(self):
        assert run("webp_10", flat((9, 99, 199), (16800, 4))).size == (16383, 4)


def centroid(image):
    """Where the bright pixels are, from the image's centre: (right, down) in px."""
    bright = values(image).sum(2)
    y, x = np.indices(bright.shape)
    return np.array([
        (bright * (x + 0.5)).sum() / bright.sum() - image.width / 2,
        (bright * (y + 0.5)).sum() / bright.sum() - image.height / 2,
    ])  # fmt: skip


def dot(right, down, size=(200, 160)):
    image = flat((0, 0, 0), size)
    x, y = size[0] // 2 + right, size[1] // 2 + down
    image.paste((255, 255, 255), (x - 3, y - 3, x + 3, y + 3))
    return image


class TestGeometry:
    @pytest.mark.parametrize(
        ("factor", "size"), [(0.4, (192, 128)), (0.8, (385, 257)), (1.2, (577, 385)), (1.6, (770, 514))]
    )
    def test_scale(self, factor, size):
        assert run(f"scale_{factor}", photograph((481, 321))).size == size

    @pytest.mark.parametrize("percent", [5, 10, 20, 40, 60])
    def test_crop_takes_half_of_it_from_each_side(self, percent):
        across = np.repeat(np.arange(200, dtype=np.uint8)[None], 100, axis=0)
        down = np.repeat(np.arange(0, 200, 2, dtype=np.uint8)[:, None], 200, axis=1)
        image = Image.fromarray(np.stack([across, down, across], axis=2))
        cropped = values(run(f"crop_{percent}", image))
        assert cropped.shape == (100, 200, 3)
        kept = 1 - percent / 100
        # the middle of column i comes from (1 - kept) * 100 + (i + 0.5) * kept px, where the ramp's value is 0.5 less
        expected = (1 - kept) * 100 + (np.arange(5, 195) + 0.5) * kept - 0.5
        np.testing.assert_allclose(cropped[50, 5:195, 0], expected, atol=0.6)
        np.testing.assert_allclose(
            cropped[5:95, 100, 1], 2 * ((1 - kept) * 50 + (np.arange(5, 95) + 0.5) * kept - 0.5), atol=0.6
        )

    @pytest.mark.parametrize("degrees", [5, 10, 20, 40, 60])
    def test_rotate_counter_clockwise_in_a_frame_that_holds_all(self, degrees):
        turned = run(f"rotate_{degrees}", dot(60, 0))
        assert turned.size == (200, 160)
        a = math.radians(degrees)
        frame = 200 * math.cos(a) + 160 * math.sin(a), 200 * math.sin(a) + 160 * math.cos(a)
        expected = 60 * math.cos(a) * 200 / frame[0], -60 * math.sin(a) * 160 / frame[1]
        np.testing.assert_allclose(centroid(turned), expected, atol=0.5)

    @pytest.mark.parametrize("degrees", [1, 2, 5, 10, 20])
    def test_shear_both_axes(self, degrees):
        t = math.tan(math.radians(degrees))
        for right, down in ((40, 0), (0, 30), (-20, 10)):
            sheared = run(f"shear_{degrees}", dot(right, down))
            assert sheared.size == (200, 160)
            np.testing.assert_allclose(centroid(sheared), (right + t * down, t * right + (1 + t * t) * down), atol=0.3)
            assert values(sheared).sum() == pytest.approx(36 * 3 * 255, rel=0.05)  # areas stay

    @pytest.mark.parametrize("name", ["rotate_20", "shear_20", "perspective_20"])
    def test_outside_is_black(self, name):
        pixels = values(run(name, flat((255, 255, 255))))
        black = (pixels == 0).all(2)
        assert 0.02 < black.mean() < 0.5
        assert black[0, 0] or black[0, -1]

    def test_flips_are_exact_and_undo_themselves(self):
        image = photograph((17, 12))
        pixels = np.asarray(image)
        np.testing.assert_array_equal(np.asarray(run("flip_horizontal", image)), pixels[:, ::-1])
        np.testing.assert_array_equal(np.asarray(run("flip_vertical", image)), pixels[::-1])
        assert run("flip_vertical", run("flip_vertical", image)) == image

    @settings(max_examples=30)
    @given(shifts=st.lists(st.floats(-0.2, 0.2), min_size=16, max_size=16))
    def test_homography_takes_the_points_where_they_go(self, shifts):
        square = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], float)
        start, end = (square + np.reshape(part, (4, 2)) for part in (shifts[:8], shifts[8:]))
        a, b, c, d, e, f, g, h = homography(start, end)
        for (x, y), to in zip(start, end, strict=True):
            w = g * x + h * y + 1
            np.testing.assert_allclose(((a * x + b * y + c) / w, (d * x + e * y + f) / w), to, atol=1e-6)

    @pytest.mark.parametrize("percent", [5, 10, 20])
    def test_perspective_keeps_the_whole_image_in_sight(self, percent):
        for seed in range(5):
            white = values(run(f"perspective_{percent}", flat((255, 255, 255), (200, 160)), seed))[..., 0]
            share = (white > 128).mean()
            assert (1 - 2 * percent / 100) ** 2 - 0.02 < share < 1 - 0.2 * percent / 100
            corners = flat((0, 0, 0), (200, 160))
            for x, y, colour in (
                (0, 0, (255, 0, 0)),
                (180, 0, (0, 255, 0)),
                (0, 140, (0, 0, 255)),
                (180, 140, (255, 255, 0)),
            ):
                corners.paste(colour, (x, y, x + 20, y + 20))
            seen = values(run(f"perspective_{percent}", corners, seed))
            for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)):
                assert (abs(seen - colour).max(2) < 60).sum() > 80


class TestTone:
    def test_brightness(self):
        assert run("brightness_0.5", flat((200, 100, 50), (4, 4))).getpixel((0, 0)) == (100, 50, 25)
        assert run("brightness_2", flat((200, 100, 50), (4, 4))).getpixel((0, 0)) == (255, 200, 100)

    def test_contrast_is_about_the_mean(self):
        image = flat((50, 50, 50), (4, 4))
        image.paste((150, 150, 150), (0, 0, 4, 2))
        halved = run("contrast_0.5", image)
        assert (halved.getpixel((0, 0)), halved.getpixel((0, 3))) == ((125,) * 3, (75,) * 3)
        doubled = run("contrast_2", image)
        assert (doubled.getpixel((0, 0)), doubled.getpixel((0, 3))) == ((200,) * 3, (0,) * 3)

    def test_colour_is_about_the_brightness(self):
        grey = 0.299 * 200 + 0.587 * 100 + 0.114 * 50
        expected = [(grey + channel) / 2 for channel in (200, 100, 50)]
        np.testing.assert_allclose(run("colour_0.5", flat((200, 100, 50), (4, 4))).getpixel((0, 0)), expected, atol=1)
        grey_one = flat((77, 77, 77))
        assert run("colour_2", grey_one) == grey_one

    def test_sharpness_is_about_a_smoothed_copy(self):
        image = flat((0, 0, 0), (9, 9))
        image.putpixel((4, 4), (130, 130, 130))
        softer = values(run("sharpness_0.5", image))[..., 0]
        smooth = 130 * 5 / 13  # Pillow's kernel: 5 in the middle of eight 1s
        assert softer[4, 4] == pytest.approx((130 + smooth) / 2, abs=1)
        assert softer[4, 5] == pytest.approx(130 / 13 / 2, abs=1)
        assert values(run("sharpness_1.5", image))[4, 4, 0] == pytest.approx(130 + (130 - smooth) / 2, abs=1)

    @pytest.mark.parametrize("gain", [0.15, 0.3])
    def test_colour_cast_is_light_of_one_hue(self, gain):
        casts = np.array(
            [run(f"colour_cast_{gain}", flat((100, 100, 100), (4, 4)), seed).getpixel((0, 0)) for seed in range(40)]
        )
        assert abs(casts.sum(1) - 300).max() <= 2  # cosines a third of a turn apart sum to nothing
        np.testing.assert_allclose(((casts / 100 - 1) ** 2).sum(1), 1.5 * gain**2, rtol=0.1)
        assert (casts.max(0) > 100 * (1 + 0.9 * gain)).all()  # every hue is met


class TestLettering:
    @pytest.mark.parametrize("name", ["text_10", "text_50", "caption_bottom", "caption_both"])
    def test_white_with_black_edges(self, name):
        changed = values(run(name, flat((120, 60, 60), (400, 300))))
        different = changed[(changed != (120, 60, 60)).any(2)]
        assert (different == 255).all(1).mean() > 0.1
        assert (different == 0).all(1).mean() > 0.1

    def test_fits_with_room_to_spare(self):
        for seed, size in enumerate([(481, 321), (321, 481), (100, 100), (64, 300), (300, 64), (64, 64)]):
            for name in ("text_50", "caption_both"):
                marked = (values(run(name, flat((120, 60, 60), size), seed)) != (120, 60, 60)).any(2)
                assert not marked[[0, -1]].any(), (name, size)
                assert not marked[:, [0, -1]].any(), (name, size)

    def test_letters_are_of_the_size_promised(self):
        image = flat((120, 60, 60), (512, 512))
        rows = np.flatnonzero((values(run("text_20", image)) != (120, 60, 60)).any((1, 2)))
        assert 28 < rows[-1] - rows[0] < 44  # one line of 40 px
        rows = np.flatnonzero((values(run("text_50", image)) != (120, 60, 60)).any((1, 2)))
        assert 110 < rows[-1] - rows[0] < 150  # three lines

    def test_place_and_letters_are_random(self):
        image = flat((120, 60, 60), (300, 300))
        first_rows = {
            int(np.flatnonzero((values(run("text_10", image, seed)) != (120, 60, 60)).any((1, 2)))[0])
            for seed in range(8)
        }
        assert len(first_rows) > 5

    def test_captions_stand_where_they_say(self):
        image = flat((120, 60, 60), (400, 300))
        bottom = (values(run("caption_bottom", image)) != (120, 60, 60)).any((1, 2))
        assert bottom[180:].any()
        assert not bottom[:175].any()
        both = (values(run("caption_both", image)) != (120, 60, 60)).any((1, 2))
        assert both[:120].any()
        assert both[180:].any()
        assert not both[125:175].any()

    def test_a_bar_leaves_the_image_as_it_is(self):
        image = photograph((300, 200))
        barred = run("caption_bar", image)
        bar_px = barred.height - 200
        assert barred.width == 300
        assert 15 < bar_px < 120
        assert barred.crop((0, bar_px, 300, 200 + bar_px)) == image
        bar = values(barred)[:bar_px]
        assert 0.7 < (bar == 255).all(2).mean() < 0.98
        assert (bar < 40).all(2).any()


class TestCompose:
    @pytest.mark.parametrize(("percent", "width"), [(5, 4), (10, 8), (20, 16)])
    def test_border(self, percent, width):
        image = photograph((120, 80))
        colours = set()
        for seed in range(9):
            framed = run(f"border_{percent}", image, seed)
            assert framed.size == (120 + 2 * width, 80 + 2 * width)
            assert framed.crop((width, width, width + 120, width + 80)) == image
            pixels = np.asarray(framed).copy()
            edge = tuple(pixels[0, 0])
            pixels[width : width + 80, width : width + 120] = edge
            assert (pixels == edge).all()
            colours.add(edge)
        assert {(0, 0, 0), (255, 255, 255)} < colours

    @pytest.mark.parametrize("percent", [5, 15, 30])
    def test_a_sticker_covers_a_square_of_its_area(self, percent):
        places = set()
        for seed in range(8):
            covered = (
                values(run(f"overlay_sticker_{percent}", flat((10, 140, 30), (300, 200)), seed)) != (10, 140, 30)
            ).any(2)
            share = covered.mean() * 100
            assert 0.3 * percent < share < percent
            rows, columns = np.flatnonzero(covered.any(1)), np.flatnonzero(covered.any(0))
            side = math.sqrt(300 * 200 * percent / 100)
            assert 0.6 * side < rows[-1] - rows[0] < side + 2
            assert 0.6 * side < columns[-1] - columns[0] < side + 2
            places.add((int(rows[0]), int(columns[0])))
        assert len(places) > 5

    def test_every_sticker_is_met(self, monkeypatch):
        met = []

        def noting(draw):
            return lambda *drawn: (met.append(draw), draw(*drawn))

        stickers = compose._STICKERS
        monkeypatch.setattr(compose, "_STICKERS", tuple(noting(draw) for draw in stickers))
        for seed in range(30):
            run("overlay_sticker_30", flat((10, 140, 30), (40, 40)), seed)
        assert set(met) == set(stickers)
        for draw in stickers:
            sheet = Image.new("RGBA", (64, 64))
            draw(compose.ImageDraw.Draw(sheet), 64, np.random.default_rng(0))
            assert 0.3 < (values(sheet)[..., 3] > 0).mean() < 0.95, draw

    @pytest.mark.parametrize("opacity", [0.3, 0.6])
    def test_a_shape_shines_through(self, opacity):
        shares = []
        for seed in range(20):
            image = flat((100, 100, 100), (150, 100))
            pixels = values(run(f"overlay_shape_{opacity}", image, seed))
            changed = (pixels != 100).any(2)
            shares.append(changed.mean())
            full = pixels[changed]
            colour = (np.median(full, axis=0) - 100 * (1 - opacity)) / opacity  # what was mixed in
            assert (colour > -3).all()
            assert (colour < 258).all()
            assert colour.max() > 185  # a bright one
        assert 0.2 < min(shares) < np.mean(shares) < 0.4
        assert max(shares) < 0.45

    @pytest.mark.parametrize("cells", [2, 4, 9])
    def test_a_collage_holds_the_image_and_others(self, cells):
        image, colours = photograph((240, 160)), iter(itertools.cycle([(250, 0, 0), (0, 250, 0), (0, 0, 250)]))
        asked = []

        def others(rng):
            asked.append(rng.integers(1000))
            return flat(next(colours), (50, 300))

        places = set()
        for seed in range(12):
            asked.clear()
            made = run(f"collage_{cells}", image, seed, others=others)
            assert len(asked) == cells - 1
            shrink = {2: 2, 4: 2, 9: 3}[cells]
            width, height = 240 // shrink, round(160 / shrink)
            gap = max(1, round(height / 40))
            columns, rows = (made.width + gap) // (width + gap), (made.height + gap) // (height + gap)
            assert columns * rows == cells
            assert made.size == (columns * (width + gap) - gap, rows * (height + gap) - gap)
            small, found = image.resize((width, height), Image.Resampling.BICUBIC), []
            for row, column in itertools.product(range(rows), range(columns)):
                x, y = column * (width + gap), row * (height + gap)
                cell = made.crop((x, y, x + width, y + height))
                if cell == small:
                    found.append((columns, row, column))
                else:
                    assert len(cell.getcolors()) == 1  # another picture, filling its cell
            assert len(found) == 1
            places.update(found)
        assert len(places) > 2

    def test_cells_stay_large_enough_to_see(self):
        made = run("collage_9", photograph((48, 40)))
        assert made.size == (3 * 38 + 2, 3 * 32 + 2)
        assert run("collage_9", photograph((20, 16))).size == (3 * 20 + 2, 3 * 16 + 2)  # never larger than the image

    def test_drawn_pictures_differ(self):
        drawn = {compose.drawn_picture(np.random.default_rng(seed)).tobytes() for seed in range(5)}
        assert len(drawn) == 5


class TestScreenshot:
    @pytest.mark.parametrize(("size", "screen"), [((40, 30), 360), ((500, 300), 500), ((1500, 900), 1080)])
    def test_phone(self, size, screen):
        shot = run("screenshot_phone", flat((255, 0, 255), size))
        assert shot.size == (screen, round(screen * 19.5 / 9))
        rows, columns = np.nonzero((np.asarray(shot) == (255, 0, 255)).all(2))
        assert (columns.min(), columns.max()) == (0, screen - 1)  # over the full width
        assert rows.max() - rows.min() + 1 == pytest.approx(screen * size[1] / size[0], abs=1)
        assert len(rows) == (rows.max() - rows.min() + 1) * screen  # nothing lies over it
        for low, high in ((4, 30), (44, 84)):  # the clock, the sender
            assert values(shot)[round(low * screen / 360) : round(high * screen / 360)].std() > 10

    def test_a_tall_image_on_a_phone(self):
        shot = run("screenshot_phone", flat((255, 0, 255), (100, 900)))
        rows, columns = np.nonzero((np.asarray(shot) == (255, 0, 255)).all(2))
        assert (rows.max() - rows.min() + 1) / shot.height == pytest.approx(0.62, abs=0.01)
        assert columns.min() + columns.max() == pytest.approx(shot.width, abs=3)

    def test_an_image_of_the_screens_width_is_shown_pixel_for_pixel(self):
        image = photograph((400, 300))
        shot = run("screenshot_phone", image)
        top = round(92 * 400 / 360)
        assert shot.crop((0, top, 400, top + 300)) == image

    @pytest.mark.parametrize("size", [(40, 30), (500, 300), (300, 900), (1500, 400)])
    def test_browser(self, size):
        shot = run("screenshot_browser", flat((255, 0, 255), size))
        width = min(1600, max(640, round(1.6 * size[0])))
        assert shot.size == (width, round(width * 10 / 16))
        rows, columns = np.nonzero((np.asarray(shot) == (255, 0, 255)).all(2))
        wide, high = columns.max() - columns.min() + 1, rows.max() - rows.min() + 1
        assert len(rows) == wide * high
        assert wide / high == pytest.approx(size[0] / size[1], rel=0.02)
        assert max(wide / (0.62 * width), high / (0.58 * shot.height)) == pytest.approx(1, abs=0.01)

    @pytest.mark.parametrize("name", ["screenshot_phone", "screenshot_browser"])
    def test_has_something_written_around_the_image(self, name):
        shot = values(run(name, flat((255, 0, 255), (400, 300))))
        around = shot[~(shot == (255, 0, 255)).all(2)]
        assert len(np.unique(around, axis=0)) > 50  # letters with smooth edges, icons in colours
        for part in np.array_split(shot, 8):
            assert part.std() > 3  # at every height


class TestChain:
    @pytest.mark.parametrize("edits", [2, 3, 4])
    def test_is_so_many_others_of_different_families(self, edits, monkeypatch):
        applied = []
        plain = Attack.apply

        def noted(self, image, rng, others):
            applied.append(self)
            return plain(self, image, rng, others)

        monkeypatch.setattr(Attack, "apply", noted)
        seen = set()
        for seed in range(25):
            applied.clear()
            run(f"chain_{edits}", photograph((40, 30)), seed)
            chain, *parts = applied
            assert chain.name == f"chain_{edits}"
            assert len(parts) == len({part.family for part in parts}) == edits
            assert "chain" not in {part.family for part in parts}
            seen |= {part.family for part in parts}
        assert len(seen) > 18

    def test_each_edit_is_of_what_the_last_one_left(self, monkeypatch):
        monkeypatch.setattr(
            "imagescape.search.attacks.catalogue.FAMILIES", {f: FAMILIES[f] for f in ("border", "scale")}
        )
        image = photograph((100, 100))
        sizes = {run("chain_2", image, seed).size[0] for seed in range(30)}
        borders, scales = (5, 10, 20), (0.4, 0.8, 1.2, 1.6)
        first_border = {round((100 + 2 * b) * s) for b in borders for s in scales}
        first_scale = {100 * s + 2 * round(s * b) for b in borders for s in scales}
        assert sizes <= first_border | first_scale
        assert len(sizes) > 6
