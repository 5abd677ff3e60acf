"""Pictures of clusters: what is drawn is what was given, and what cannot be drawn is refused."""

import io

import numpy as np
import pytest

from imagescape.errors import InputError
from imagescape.evaluate.contingency import agreement
from imagescape.report.cluster_plots import Cut, draw_cuts, draw_diameters, draw_matrix, draw_sizes


def drawn(figure):
    """The figure's SVG, so that everything in it has been laid out once."""
    out = io.BytesIO()
    figure.savefig(out, format="svg")
    return out.getvalue().decode()


def bars(axes):
    return [patch.get_width() for patch in axes.patches]


class TestSizes:
    def test_a_bar_a_cluster_with_its_name_the_even_share_and_effective_k(self):
        figure = draw_sizes(np.array([30, 20, 10]), ["cat", "$dog_", "<b>"])
        left, right = figure.axes
        assert bars(left) == [30, 20, 10]
        assert [label.get_text() for label in left.get_yticklabels()] == ["cat", "$dog_", "<b>"]
        assert [line.get_xdata()[0] for line in left.lines] == [20]
        # exp(-(1/2 ln 1/2 + 1/3 ln 1/3 + 1/6 ln 1/6))
        assert "effective k 2.7 of 3" in left.get_title(loc="right")
        assert sorted(right.lines[0].get_ydata()) == [10, 20, 30]
        drawn(figure)

    def test_many_are_not_named_and_stand_in_the_order_of_their_size(self):
        figure = draw_sizes(np.arange(1, 401), [str(one) for one in range(400)])
        assert [patch.get_height() for patch in figure.axes[0].patches] == list(range(400, 0, -1))
        drawn(figure)

    @pytest.mark.parametrize("sizes", [[7], [5, 5, 5], [1, 2]])
    def test_what_has_no_spread_has_no_violin(self, sizes):
        figure = draw_sizes(np.array(sizes), [str(one) for one in range(len(sizes))])
        assert not [one for one in figure.axes[1].collections if type(one).__name__ == "FillBetweenPolyCollection"]
        drawn(figure)

    def test_refused(self):
        with pytest.raises(InputError, match="at least one cluster"):
            draw_sizes(np.empty(0, np.int64), [])
        with pytest.raises(InputError, match="one value a cluster"):
            draw_sizes(np.array([1, 2]), ["a"])


def test_diameters_and_sizes():
    figure = draw_diameters(np.array([2.0, 0.0, 5.0]), np.array([9, 1, 4]), ["a", "b", "c"], measure="90 %")
    left, right = figure.axes
    assert bars(left) == [2, 0, 5]
    assert left.lines[0].get_xdata()[0] == 2
    assert right.collections[0].get_offsets().tolist() == [[9, 2], [1, 0], [4, 5]]
    assert {text.get_text() for text in right.texts} == {"a", "b", "c"}
    assert left.get_xlabel() == "90 %"
    drawn(figure)


class TestMatrix:
    def test_its_numbers_and_names(self):
        values = np.array([[1.0, 0.0], [0.25, 0.75], [0.004, 0.5]])
        figure = draw_matrix(values, ["a", "b", "$c"], ["x", "y"], measure="IoU", label="kind")
        axes = figure.axes[0]
        assert np.array_equal(axes.images[0].get_array(), values)
        assert [text.get_text() for text in axes.texts] == ["1.00", "0.25", "0.75", "0.50"]
        assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "$c"]
        assert axes.get_xlabel() == "kind"
        drawn(figure)

    def test_a_large_one_has_no_names_and_says_how_many(self):
        figure = draw_matrix(np.zeros((400, 3)), [str(one) for one in range(400)], ["x", "y", "z"], measure="IoU")
        assert figure.axes[0].get_ylabel() == "400 clusters"
        assert not figure.axes[0].get_yticklabels()
        assert not figure.axes[0].texts

    def test_refused(self):
        with pytest.raises(InputError, match="matrix of 1 clusters and 2 classes"):
            draw_matrix(np.zeros((2, 2)), ["a"], ["x", "y"], measure="IoU")


class TestCuts:
    def test_everything_in_the_order_of_k(self):
        truth = np.array([0, 0, 1, 1])
        fine = Cut("4", np.ones(4, np.int64), agreement(np.arange(4), truth), np.zeros(4))
        coarse = Cut("2", np.array([2, 2]), agreement(truth, truth), np.array([1.0, 3.0]))
        figure = draw_cuts([fine, coarse])
        sizes, classes, widths = figure.axes
        assert [label.get_text() for label in sizes.get_xticklabels()] == ["2", "4"]
        lines = {line.get_label(): line.get_ydata() for line in classes.lines}
        # Four clusters of two classes: each holds one class, and half of what they tell is of no class.
        assert np.allclose(lines["homogeneity"], [1, 1])
        assert np.allclose(lines["completeness"], [1, 0.5])
        assert np.allclose(lines["V"], [1, 2 / 3])
        assert widths.collections[0].get_offsets().tolist() == [[2, 1], [2, 3]]
        drawn(figure)

    def test_what_is_not_known_has_no_panel(self):
        cuts = [Cut("2", np.array([20, 12_000])), Cut("1", np.array([12_020]))]
        figure = draw_cuts(cuts)
        assert len(figure.axes) == 1
        drawn(figure)
        with pytest.raises(InputError, match="at least one"):
            draw_cuts([])
