"""The still picture: what stands on it, what it refuses, and that it is the same every time."""

import io
import itertools

import numpy as np
import pytest
from matplotlib.patches import Rectangle
from PIL import Image

from imagescape.errors import InputError
from imagescape.report.callouts import Note
from imagescape.report.map_plot import draw_map, save_figure
from imagescape.report.page import darkened, short, text_inches, wrapped


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def pixels(figure):
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=40)
    return np.asarray(Image.open(out).convert("RGB"))


def test_classes_are_named_and_counted(small_map):
    coords, names, _ = small_map
    figure = draw_map(coords, values=names, column="animal", title="Pets & $money$")
    entries = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert f"fish1  ({names.count('fish1')})" in entries
    assert entries[-1] == "no value  (1)"
    assert {"$cats_dogs$0", "fish1", "Pets & $money$"} <= set(texts(figure))
    assert "300 images, coloured by animal, 5 classes" in texts(figure)
    pixels(figure)  # dollars are no formula: this would raise
    figure = draw_map(coords, values=names, column="cluster_C")
    assert "300 images, coloured by cluster_C, 5 clusters" in texts(figure)


def test_one_scale_for_both_axes_and_all_points_inside(small_map):
    coords = small_map[0] * [3, 1]
    axes = draw_map(coords).axes[0]
    size = axes.figure.get_size_inches()
    spans = np.array([np.ptp(axes.get_xlim()), np.ptp(axes.get_ylim())])
    assert spans[0] / size[0] == pytest.approx(spans[1] / size[1])
    shown = axes.transData.transform(coords) / axes.figure.dpi
    assert (shown > 0).all()
    assert (shown < size).all()
    np.testing.assert_allclose(np.sort(axes.collections[0].get_offsets(), axis=0), np.sort(coords, axis=0))


def test_each_point_has_the_color_of_its_class(small_map):
    coords, names, _ = small_map
    axes = draw_map(coords, values=names).axes[0]
    points, legend = axes.collections[0], axes.get_legend()
    np.testing.assert_allclose(points.get_offsets()[0], coords[9])  # without a class: drawn first, below all others
    by_place = {tuple(xy): tuple(c[:3]) for xy, c in zip(points.get_offsets(), points.get_facecolors(), strict=True)}
    entries = zip(legend.get_texts(), legend.get_lines(), strict=True)
    color_of = {text.get_text().split("  (")[0]: line.get_color() for text, line in entries}
    for xy, name in zip(coords, names, strict=True):
        expected = tuple(int(color_of[name or "no value"][i : i + 2], 16) / 255 for i in (1, 3, 5))
        assert by_place[tuple(xy)] == pytest.approx(expected)


def test_thumbnails_stand_at_their_places_apart_from_each_other_and_from_names(small_map):
    coords, names, thumbnails = small_map
    axes = draw_map(coords, values=names, thumbnails=thumbnails, thumbnail_inches=0.35).axes[0]
    frames = [patch.get_bbox() for patch in axes.patches if isinstance(patch, Rectangle)]
    assert len(frames) == len(axes.images) > 20
    for one, other in itertools.combinations(frames, 2):
        assert one.x1 <= other.x0 or other.x1 <= one.x0 or one.y1 <= other.y0 or other.y1 <= one.y0
    for image, frame in zip(axes.images, frames, strict=True):
        middle = [(frame.x0 + frame.x1) / 2, (frame.y0 + frame.y1) / 2]
        row = int(np.linalg.norm(coords - middle, axis=1).argmin())
        np.testing.assert_allclose(coords[row], middle, atol=1e-6)
        expected = np.asarray(Image.open(io.BytesIO(thumbnails[row])).convert("RGB"))
        np.testing.assert_array_equal(image.get_array(), expected)
        assert (frame.x1 - frame.x0) / (frame.y1 - frame.y0) == pytest.approx(24 / 16)


def test_many_classes_are_named_around_the_map():
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 60, 2000)
    coords = rng.normal(0, 10, (60, 2))[codes] + rng.normal(0, 0.5, (2000, 2))
    figure = draw_map(coords, values=[f"class {code}" for code in codes])
    assert {f"class {code}" for code in range(60)} <= set(texts(figure))
    assert figure.axes[0].get_legend() is None
    boxes = [text for text in figure.axes[0].texts if text.get_text().startswith("class ")]
    radii = [np.hypot(*(np.array(text.get_position()) - (coords.min(0) + coords.max(0)) / 2)) for text in boxes]
    assert np.ptp(radii) < 1e-6
    assert min(radii) > np.linalg.norm(coords - (coords.min(0) + coords.max(0)) / 2, axis=1).max()


def test_a_quantity_has_a_bar_and_its_gaps_are_told(small_map):
    coords, _, _ = small_map
    values = np.where(np.arange(300) < 5, np.nan, coords[:, 0])
    figure = draw_map(coords, values=values, column="sharpness")
    assert len(figure.axes) == 2
    assert figure.axes[1].get_title(loc="left") == "sharpness"
    assert any("no value\n(5)" in text for text in texts(figure))
    pixels(draw_map(coords, values=np.ones(300)))  # all alike


def test_notes_show_their_text_and_three_pictures(small_map):
    coords, names, thumbnails = small_map
    notes = [
        Note("Blue and green", (0.0, 40.0)),
        Note("Another one, with a text of more than a single line", (40.0, 0.0)),
    ]
    axes = draw_map(coords, values=names, thumbnails=thumbnails, notes=notes).axes[0]
    assert len(axes.images) == 6
    said = " ".join(text.get_text() for text in axes.texts)
    assert "Blue and green" in said
    assert "with a text of more" in said
    assert len(draw_map(coords, notes=notes).axes[0].images) == 0


def test_the_same_map_gives_the_same_bytes(small_map, tmp_path):
    coords, names, thumbnails = small_map
    for suffix, magic in ((".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")):
        written = []
        for number in range(2):
            figure = draw_map(coords, values=names, thumbnails=thumbnails, thumbnail_inches=0.5)
            written.append(save_figure(figure, tmp_path / f"{number}{suffix}", dpi=50).read_bytes())
        assert written[0].startswith(magic)
        assert written[0] == written[1]


@pytest.mark.parametrize("coords", [[[0.0, 0.0]], [[1.0, 2.0], [1.0, 2.0]], [[0.0, 0.0], [5.0, 0.0]]])
def test_tiny_and_flat_maps(coords):
    pixels(draw_map(np.array(coords), values=["a"] * len(coords)))
    pixels(draw_map(np.array(coords), values=["a"] * len(coords), naming="periphery"))


def test_what_cannot_be_drawn(small_map, tmp_path):
    coords, names, _ = small_map
    with pytest.raises(InputError, match="got 2 for 300 images"):
        draw_map(coords, values=["a", "b"])
    with pytest.raises(InputError, match="finite"):
        draw_map(np.array([[0.0, np.nan]]))
    with pytest.raises(InputError, match=r"shape \(images, 2\)"):
        draw_map(np.zeros((0, 2)))
    with pytest.raises(InputError, match="cannot both stand around"):
        draw_map(coords, values=names, naming="periphery", notes=[Note("a", (0.0, 0.0))])
    with pytest.raises(InputError, match="make it larger"):
        draw_map(coords, size_inches=(2, 2))
    with pytest.raises(InputError, match="tip of note 1 lies outside the map"):
        draw_map(coords, notes=[Note("a", (9e3, 0.0))])
    with pytest.raises(InputError, match=r"\.png, \.svg or \.pdf, got 'map.jpg'"):
        save_figure(draw_map(coords), tmp_path / "map.jpg")
    with pytest.raises(InputError, match="does not exist"):
        save_figure(draw_map(coords), tmp_path / "none" / "map.png")


def test_text_helpers():
    lines = wrapped("several words and one_word_that_is_far_too_long_for_any_line", 9, 1.2)
    assert "".join(lines).replace(" ", "") == "severalwordsandone_word_that_is_far_too_long_for_any_line"
    assert all(text_inches(line, 9)[0] <= 1.2 for line in lines)
    assert short("x" * 26) == "x" * 26
    assert short("x" * 40) == "x" * 25 + "…"
    assert darkened("#ffffff")[0] == pytest.approx(0.22 ** (1 / 2.2))
    assert darkened("#102030") == pytest.approx((16 / 255, 32 / 255, 48 / 255))
