"""The picture of a map's quality: a panel for each thing that was measured, and what each shows."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from imagescape.evaluate.map_quality import MapQuality, feature_recalls
from imagescape.evaluate.stability import seed_stability, view_consistency
from imagescape.report.map_plot import save_figure
from imagescape.report.quality_plot import draw_quality


@pytest.fixture
def quality():
    rng = np.random.default_rng(0)
    coords = rng.normal(size=(80, 2))
    views = [coords + 0.1 * rng.normal(size=coords.shape) for _ in range(2)]
    return MapQuality(
        name="M",
        rows=80,
        recalls=feature_recalls(np.column_stack([coords, rng.normal(size=80)]), coords),
        views=view_consistency(*views, coords),
        others=("$N$", "O"),
        compared_rows=80,
        stability=seed_stability([coords, 3 * views[0][:, ::-1], views[1]]),
        feature_norms=rng.random(80),
        coord_norms=np.linalg.norm(coords, axis=1),
        labels=np.array(["$cat$", "dog", None, "fish"] * 20, dtype=object),
    )


def titles(figure):
    return [axes.get_title(loc="left").strip() for axes in figure.axes]


def test_a_panel_for_each(quality, tmp_path):
    figure = draw_quality(quality, title="quality of $M$")
    assert titles(figure) == [
        "Neighbours kept on the map",
        "Do views of an image land together?",
        "Norm of the features H",
        "Distance from the map's origin, |Z|",
        "Map 'M'",
        "Map '$N$' in the colours of 'M'",
        "Map 'O' in the colours of 'M'",
    ]
    save_figure(figure, tmp_path / "q.png", dpi=40)


def test_panels_with_nothing_to_show_are_left_out(quality):
    bare = replace(quality, recalls={}, views=None, views_missing="no", stability=None, feature_norms=None)
    assert titles(draw_quality(bare)) == ["Distance from the map's origin, |Z|"]
    deep = seed_stability([np.random.default_rng(0).normal(size=(80, 3))] * 2)
    assert not [one for one in titles(draw_quality(replace(quality, stability=deep))) if one.startswith("Map")]


def test_recall_by_k_beside_chance(quality):
    axes = draw_quality(quality).axes[0]
    kept, chance = axes.lines
    assert kept.get_xdata().tolist() == [1, 2, 5, 10, 15, 30, 50]
    assert kept.get_ydata() == pytest.approx([score.value for score in quality.recalls.values()])
    assert_allclose(chance.get_ydata()[-1], 50 / 79)


def test_every_pair_of_views_is_in_the_bars(quality):
    far = replace(quality.views, distances=quality.views.distances * 1e6)
    for views in (quality.views, far):
        axes = draw_quality(replace(quality, views=views)).axes[1]
        heights = [patch.get_height() for patch in axes.patches]
        assert len(heights) == 80
        assert_allclose([sum(heights[:40]), sum(heights[40:])], 1)
    assert heights[-1] == pytest.approx(1)  # all beyond the end are in the last bar


def test_norms_by_class_or_as_a_histogram(quality):
    by_class = draw_quality(quality).axes[2]
    assert [label.get_text() for label in by_class.get_yticklabels()] == ["$cat$", "dog", "fish"]
    medians = [line.get_xdata()[0] for line in by_class.lines[4::5]]  # after two whiskers and two caps each
    expected = [np.median(quality.feature_norms[quality.labels == name]) for name in ("$cat$", "dog", "fish")]
    assert medians == pytest.approx(expected)
    for labels in (None, np.arange(80), np.array(["one"] * 80, dtype=object)):
        axes = draw_quality(replace(quality, labels=labels)).axes[2]
        assert sum(patch.get_height() for patch in axes.patches) == 80


def test_maps_lie_over_the_first_in_its_colours(quality):
    first, second = draw_quality(quality).axes[4:6]
    assert_allclose(first.collections[0].get_facecolor(), second.collections[0].get_facecolor())
    assert_allclose(second.collections[0].get_offsets(), quality.stability.aligned[1])
