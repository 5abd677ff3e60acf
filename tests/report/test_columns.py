"""What a column is, and that its colours can be told apart."""

import itertools

import numpy as np
import pytest

from imagescape.errors import InputError
from imagescape.report.columns import NULL_COLOR, PALETTE, Categories, Quantity, category_colors, read_column


class TestReadColumn:
    def test_text_is_classes_with_gaps(self):
        column = read_column(["b", None, "a", "b"])
        assert isinstance(column, Categories)
        assert column.names == ("a", "b")
        assert column.codes.tolist() == [1, -1, 0, 1]
        assert column.counts.tolist() == [1, 2]
        assert column.null_count == 1

    def test_few_integers_are_classes_and_many_a_quantity(self):
        assert isinstance(read_column([3, 1, -1, 2]), Categories)
        assert read_column([3, 1, -1, 2]).null_count == 1
        assert isinstance(read_column(np.arange(65)), Quantity)
        assert isinstance(read_column(np.arange(65), kind="categorical"), Categories)

    def test_quantity_has_robust_ends(self):
        column = read_column([*np.linspace(0, 1, 1001), 1e9, np.nan, np.inf])
        assert column.low == pytest.approx(0.01, abs=1e-3)
        assert column.high == pytest.approx(0.99, abs=0.02)
        assert column.null_count == 2

    def test_nothing_but_gaps(self):
        assert read_column([None, None]).names == ()
        assert read_column([float("nan")], kind="numeric").null_count == 1

    def test_what_cannot_be_a_color(self):
        with pytest.raises(InputError, match="got list"):
            read_column([[1], [2]])
        with pytest.raises(InputError, match="got text"):
            read_column(["a"], kind="numeric")

    def test_largest_keeps_the_order_of_names(self):
        assert read_column(["c", "a", "c", "b", "a", "c"]).largest(2).tolist() == [0, 2]


# Machado, Oliveira and Fernandes 2009, doi:10.1109/TVCG.2009.113, severity 1
DEFICIENCIES = {
    "none": np.eye(3),
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
}


def oklab(rgb, deficiency):
    """Ottosson 2020, bottosson.github.io/posts/oklab, after the loss of a kind of cone."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.transpose(deficiency), 0, 1)
    cones = seen @ np.transpose(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    )
    return np.cbrt(cones) @ np.transpose(
        [
            [0.2104542553, 0.793617785, -0.0040720468],
            [1.9779984951, -2.428592205, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.808675766],
        ]
    )


@pytest.mark.parametrize("deficiency", DEFICIENCIES.values(), ids=DEFICIENCIES.keys())
def test_the_first_twelve_colors_stay_apart(deficiency):
    rgb = np.array([[int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)] for color in (*PALETTE[:12], NULL_COLOR)])
    colors = oklab(rgb, deficiency)
    for (i, one), (j, other) in itertools.combinations(enumerate(colors[:12]), 2):
        assert np.linalg.norm(one - other) > 0.07, (PALETTE[i], PALETTE[j])


def test_many_colors_are_distinct_hex():
    colors = category_colors(200)
    assert len(set(colors)) == 200
    assert all(len(color) == 7 and color[0] == "#" and int(color[1:], 16) >= 0 for color in colors)
