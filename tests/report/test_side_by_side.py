"""Maps side by side: the same images in the same colours, and what cannot be drawn."""

import numpy as np
import pytest
from matplotlib.colors import to_hex
from numpy.testing import assert_allclose

from imagescape.errors import InputError
from imagescape.report.map_plot import save_figure
from imagescape.report.side_by_side import draw_side_by_side


def test_every_map_has_a_panel_with_the_same_images_in_the_same_colours(small_map, tmp_path):
    coords, names, _ = small_map
    figure = draw_side_by_side([coords, -coords], names=["first", "second"], values=names, column="kind", title="all")
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["first", "second"]
    first, second = (axes.collections[0] for axes in figure.axes)
    assert_allclose(first.get_offsets(), -second.get_offsets())
    assert_allclose(first.get_facecolors(), second.get_facecolors())
    (legend,) = figure.legends
    assert legend.get_title().get_text() == "kind"
    row = np.flatnonzero(np.all(np.isclose(first.get_offsets(), coords[3]), axis=1))[0]
    label = next(text for text in legend.get_texts() if text.get_text().startswith(f"{names[3]}  ("))
    handle = legend.legend_handles[legend.get_texts().index(label)]
    assert to_hex(handle.get_color()) == to_hex(first.get_facecolors()[row])
    assert save_figure(figure, tmp_path / "stages.png").stat().st_size > 10_000


def test_a_quantity_has_a_bar_and_no_column_neither(small_map):
    coords, _, _ = small_map
    figure = draw_side_by_side([coords], names=["one"], values=np.linspace(0, 9, 300), column="width")
    assert figure.axes[1].get_ylabel() == "width"
    assert len(draw_side_by_side([coords], names=["one"]).axes) == 1


def test_many_maps_go_into_several_rows(small_map):
    coords, _, _ = small_map
    figure = draw_side_by_side([coords] * 5, names=list("abcde"), panels_a_row=3)
    figure.canvas.draw()
    corners = [axes.get_position().bounds[:2] for axes in figure.axes]
    assert len(corners) == 5
    assert len({round(x, 2) for x, _ in corners}) == 3
    assert len({round(y, 2) for _, y in corners}) == 2


def test_what_cannot_be_drawn(small_map):
    coords, names, _ = small_map
    with pytest.raises(InputError, match=r"maps must be \(n, 2\) arrays of the same images, got \[\]"):
        draw_side_by_side([], names=[])
    with pytest.raises(InputError, match=r"of the same images, got \[\(300, 2\), \(7, 2\)\]"):
        draw_side_by_side([coords, coords[:7]], names=["a", "b"])
    with pytest.raises(
        InputError, match="1 maps of 300 images need a name a map and a value an image, got 2 names and 300"
    ):
        draw_side_by_side([coords], names=["a", "b"], values=names)
