"""Dendrograms: the order of leaves, what is drawn where, and what is refused."""

import io

import numpy as np
import pytest
from PIL import Image
from scipy.cluster.hierarchy import dendrogram, linkage

from imagescape.cluster.choose import Candidate, Choice
from imagescape.cluster.tree import Tree
from imagescape.errors import InputError
from imagescape.report.choice_plot import draw_choice
from imagescape.report.dendrogram import draw_dendrogram, leaf_order
from imagescape.report.map_plot import save_figure


def picture(color):
    out = io.BytesIO()
    Image.new("RGB", (40, 20), color).save(out, "PNG")
    return out.getvalue()


def tree_of(n, seed=0, way="ward"):
    return Tree.of_linkage(linkage(np.random.default_rng(seed).normal(0, 1, (n, 3)), way))


def test_larger_branches_come_first():
    # 0 and 1 are 3 rows together, 2 alone has 4.
    tree = Tree(np.array([[0, 1], [2, 3]]), np.array([1.0, 2.0]), np.array([1, 2, 4]))
    assert leaf_order(tree) == [2, 1, 0]


@pytest.mark.parametrize("seed", range(5))
def test_no_branches_cross(seed):
    tree = tree_of(20, seed)
    order = leaf_order(tree)
    assert sorted(order) == list(range(20))
    place = np.argsort(order)
    members = [{leaf} for leaf in range(20)]
    for first, second in tree.merges:
        members.append(members[first] | members[second])
        places = sorted(place[list(members[-1])])
        assert places == list(range(places[0], places[-1] + 1))
    assert len(dendrogram(tree.as_linkage(), no_plot=True)["leaves"]) == 20


def test_every_leaf_has_its_number_size_and_pictures():
    tree = tree_of(30).top(4)
    figure = draw_dendrogram(tree, pictures=[[picture("red")] * count for count in (3, 0, 1, 2)], title="T", about="a")
    axes = figure.axes[0]
    texts = [text.get_text() for text in axes.texts]
    assert {"0", "1", "2", "3"} <= set(texts)
    assert {f"{size:,}" for size in tree.sizes} <= set(texts)
    assert len(axes.artists) == 6
    assert axes.get_xlim()[0] > axes.get_xlim()[1] == 0  # the root is on the left


def test_heights_are_where_the_axis_says():
    tree = tree_of(9)
    lines = draw_dendrogram(tree).axes[0].lines
    upright = [line.get_xdata()[0] for line in lines if line.get_xdata()[0] == line.get_xdata()[1]]
    assert upright == pytest.approx(tree.heights.tolist())


def test_is_written_and_wide_enough_for_its_names(tmp_path):
    tree = tree_of(12).top(3)
    names = ["a very long name that goes on and on", "$x$", "b"]
    figure = draw_dendrogram(tree, names=names, pictures=[[picture("blue")] * 10] * 3)
    assert save_figure(figure, tmp_path / "t.png").stat().st_size > 1000
    figure.canvas.draw()
    width = figure.get_window_extent().width
    for text in figure.axes[0].texts:
        box = text.get_window_extent()
        assert 0 <= box.x0 < box.x1 <= width


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(InputError, match="2 to 60 clusters, got 61"):
        draw_dendrogram(tree_of(61))
    with pytest.raises(InputError, match="names must have one entry a leaf, got 2 for 3"):
        draw_dendrogram(tree_of(3), names=["a", "b"])


def test_a_choice_marks_the_best_and_shades_the_plausible(tmp_path):
    figures = {"stability": 0.9, "stability_sd": 0.05, "groupless_silhouette": 0.1, "groupless_stability": 0.4}
    candidates = tuple(
        Candidate(k=k, silhouette=0.1 * k, effective_k=k - 0.5, score=score, **figures)
        for k, score in ((4, 1.0), (3, 0.95), (2, 0.5))
    )
    figure = draw_choice(Choice(candidates, rows=50, total=50, resamples=4), title="How many?")
    assert len(figure.axes) == 4
    for axes in figure.axes:
        marked = [line.get_xdata()[0] for line in axes.lines if line.get_markersize() == 7]
        assert marked == [4]
    shaded = [patch.get_x() for patch in figure.axes[0].patches]
    assert sorted(shaded) == [2.5, 3.5]
    assert save_figure(figure, tmp_path / "c.svg").exists()
