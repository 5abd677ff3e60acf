"""Scores and issues of images: by hand, against cleanvision where it is installed, and on images made bad."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from imagescape.audit.measuring import NOT_MEASURED, Measurement, Measurements, measure
from imagescape.audit.quality import ISSUES, Thresholds, judge
from imagescape.errors import InputError
from tests.audit.test_measuring import jpeg, picture

PLAIN = Measurement(100, 100, 0.2, 0.9, 7, 0.5, 60, 10, 0, 1)


def judged(**changes):
    return judge(Measurements.of([PLAIN._replace(**changes)]))


@pytest.mark.parametrize(
    ("issue", "changes", "score", "is_issue"),
    [
        ("dark", {"brightness_99th": 0.31}, 0.31, True),
        ("dark", {"brightness_99th": 0.33}, 0.33, False),
        ("bright", {"brightness_5th": 0.96}, 0.04, True),
        ("bright", {"brightness_5th": 0.94}, 0.06, False),
        ("blurry", {"edge_deviation": 34}, 1 - np.exp(-0.34), True),
        ("blurry", {"edge_deviation": 35}, 1 - np.exp(-0.35), False),
        ("blurry", {"edge_deviation": 20, "histogram_deviation": 20}, 2 - 2 * np.exp(-0.2), False),
        ("blurry", {"edge_deviation": 20, "histogram_deviation": 19}, 1 - np.exp(-0.2), True),
        ("blurry", {"edge_deviation": 120, "histogram_deviation": 200}, 1, False),
        ("low_information", {"entropy_bits": 2.9}, 0.29, True),
        ("low_information", {"entropy_bits": 3.1}, 0.31, False),
        ("odd_aspect_ratio", {"width_px": 34}, 0.34, True),
        ("odd_aspect_ratio", {"height_px": 34}, 0.34, True),
        ("odd_aspect_ratio", {"height_px": 36}, 0.36, False),
        ("grayscale", {"color_spread": 0}, 0, True),
        ("grayscale", {"color_spread": 6 / 255}, 6 / 255, False),
        ("uniform_border", {"border_fraction": 0.25}, 0.75, True),
        ("uniform_border", {"border_fraction": 0.15}, 0.85, False),
        ("blocky", {"blockiness": 4}, 0.25, True),
        ("blocky", {"blockiness": 2}, 0.5, False),
        ("blocky", {"blockiness": 0.8}, 1, False),
    ],
)
def test_scores_by_hand(issue, changes, score, is_issue):
    found = judged(**changes)
    assert found.scores[issue] == pytest.approx([score])
    assert {name for name, issues in found.issues.items() if issues[0]} == ({issue} if is_issue else set())


class TestOddSize:
    def sizes(self, *sides):
        return judge(Measurements.of(PLAIN._replace(width_px=side, height_px=side) for side in sides))

    def test_by_hand(self):
        """Quartiles 110 and 130: usual from 50 to 190, of middle 120 and length 140."""
        found = self.sizes(100, 110, 120, 130, 140)
        assert found.scores["odd_size"] == pytest.approx(
            [1 - abs(side - 120) / 140 for side in (100, 110, 120, 130, 140)]
        )
        assert found.counts["odd_size"] == 0
        # With 191 instead of 140 the quartiles are the same.
        assert self.sizes(100, 110, 120, 130, 191).rows("odd_size").tolist() == [4]
        assert self.sizes(100, 110, 120, 130, 189).counts["odd_size"] == 0
        assert self.sizes(49, 110, 120, 130, 140).rows("odd_size").tolist() == [0]
        assert self.sizes(100, 110, 120, 130, 900).scores["odd_size"][4] == 0

    def test_where_all_but_one_are_the_same(self):
        found = self.sizes(*[100] * 12, 101, 150, 300)
        assert found.scores["odd_size"][11:] == pytest.approx([1, 0.495, 0.25, 0])
        assert found.rows("odd_size").tolist() == [14, 13, 12]

    def test_is_asked_of_the_area(self):
        rows = [PLAIN._replace(width_px=50, height_px=200), *[PLAIN] * 9]
        assert judge(Measurements.of(rows)).scores["odd_size"].tolist() == [1] * 10


class TestQuality:
    @pytest.fixture
    def quality(self):
        dark = [PLAIN._replace(brightness_99th=value) for value in (0.3, 0.1, 0.5, 0.2)]
        return judge(Measurements.of([*dark, NOT_MEASURED, PLAIN._replace(color_spread=0)]))

    def test_rows_and_counts(self, quality):
        assert quality.rows("dark").tolist() == [1, 3, 0]
        assert (quality.counts["dark"], quality.counts["grayscale"]) == (3, 1)
        assert quality.has_issue.tolist() == [True, True, False, True, False, True]
        assert np.isnan([quality.scores[issue][4] for issue in ISSUES]).all()

    def test_cut_elsewhere(self, quality):
        lower = quality.at(dark=0.15)
        assert lower.rows("dark").tolist() == [1]
        assert lower.counts["grayscale"] == 1
        assert quality.rows("dark").tolist() == [1, 3, 0]
        assert quality.at(dark=0).counts["dark"] == 0
        assert judge_again(quality, dark=0.15) == lower.counts

    def test_columns(self, quality):
        columns = quality.columns
        assert list(columns)[:4] == ["dark_score", "is_dark_issue", "bright_score", "is_bright_issue"]
        assert len(columns) == 2 * len(ISSUES)
        assert columns["is_dark_issue"].dtype == bool

    def test_printed(self, quality):
        text = str(quality)
        assert "dark                     3   60.00%         0.32" in text
        assert text.endswith("4 of 5 images have an issue\n1 were not measured")
        assert quality.as_dict()["counts"]["dark"] == 3

    def test_refused(self, quality):
        with pytest.raises(InputError, match=r"must be of one of dark, .*, got 'darkness'"):
            quality.at(darkness=0.1)
        with pytest.raises(InputError, match=r"the threshold dark must lie in \[0, 1\], got 32"):
            quality.at(dark=32)
        with pytest.raises(InputError, match="threshold blurry"):
            Thresholds(blurry=float("nan"))

    def test_nothing_measured(self):
        found = judge(Measurements.of([NOT_MEASURED] * 2))
        assert not any(found.counts.values())
        assert judge(Measurements.of([])).counts["dark"] == 0


def judge_again(quality, **thresholds):
    dark = [PLAIN._replace(brightness_99th=value) for value in (0.3, 0.1, 0.5, 0.2)]
    rows = Measurements.of([*dark, NOT_MEASURED, PLAIN._replace(color_spread=0)])
    return judge(rows, Thresholds(**thresholds)).counts


def made_bad():
    """Pictures, each made bad in one way, by issue."""
    good = [picture(seed, (160, 120)) for seed in range(12)]
    slope = Image.linear_gradient("L").resize((120, 120))  # many tones, and no edge
    framed = Image.new("RGB", (160, 120), "black")
    framed.paste(good[0].crop((0, 0, 160, 90)), (0, 15))
    return good, {
        "dark": good[1].point(lambda value: value // 5),
        "bright": good[2].point(lambda value: 243 + value // 21),
        "blurry": Image.merge("RGB", [slope, slope.rotate(90), slope.rotate(180)]),
        "low_information": Image.fromarray(
            np.where(np.indices((120, 160)).sum(0)[..., None] % 9 < 2, 200, [20, 90, 160]).astype(np.uint8)
        ),
        "odd_size": picture(4, (800, 600)),
        "odd_aspect_ratio": picture(5, (300, 64)),
        "grayscale": good[6].convert("L"),
        "uniform_border": framed,
        "blocky": jpeg(good[7], 5),
    }


def test_images_made_bad_are_found_and_good_ones_are_not():
    good, bad = made_bad()
    quality = judge(Measurements.of(measure(image) for image in [*good, *bad.values()]))
    assert not quality.has_issue[: len(good)].any()
    for number, issue in enumerate(bad, len(good)):
        assert quality.issues[issue][number], issue


@settings(max_examples=20)
@given(st.permutations(range(6)))
def test_order_does_not_matter(order):
    rows = Measurements.of(measure(picture(seed, (20 + 9 * seed, 30))) for seed in range(6)).values
    before, after = judge(Measurements(rows)), judge(Measurements(rows[list(order)]))
    for issue in ISSUES:
        assert np.array_equal(after.scores[issue], before.scores[issue][list(order)])


def test_agrees_with_cleanvision(tmp_path):
    cleanvision = pytest.importorskip("cleanvision", reason="cleanvision is not installed; it is compared with only")
    good, bad = made_bad()
    images = [*good, *(bad[issue] for issue in ISSUES[:7])]
    images += [picture(seed, (480, 320)).filter(ImageFilter.GaussianBlur(seed)) for seed in range(8)]
    images += [good[seed].point(lambda value, seed=seed: value * (seed + 3) // 12) for seed in range(8)]
    for number, image in enumerate(images):
        image.save(tmp_path / f"{number:03}.png")
    lab = cleanvision.Imagelab(data_path=str(tmp_path))
    names = {issue: "light" if issue == "bright" else issue for issue in ISSUES[:7]}
    lab.find_issues({name: {} for name in names.values()}, n_jobs=1, verbose=False)
    theirs = lab.issues.sort_index()
    ours = judge(Measurements.of(measure(Image.open(path)) for path in theirs.index))
    for issue, name in names.items():
        assert np.array_equal(ours.issues[issue], theirs[f"is_{name}_issue"].to_numpy()), issue
        if issue != "grayscale":  # theirs is 0 or 1
            scores = ours.scores[issue] * (2 if issue == "odd_size" and ours.scores[issue].max() == 1 else 1)
            loose = 0.003 if issue == "blurry" else 2e-4
            assert np.clip(scores, 0, 1) == pytest.approx(theirs[f"{name}_score"].to_numpy(), abs=loose), issue
    assert min(ours.counts[issue] for issue in names) > 0
