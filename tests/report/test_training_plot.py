"""The picture of a training run: every record at its step, stages one after another."""

import itertools

import numpy as np
import pytest

from imagescape.errors import InputError
from imagescape.report.training_plot import draw_training


def record(stage, step, loss, **more):
    return {"stage": stage, "epoch": step / 10, "step": step, "loss": loss, **more}


class TestDraw:
    RECORDS = (record(0, 10, 5.0), record(0, 20, 4.0), record(1, 5, 3.0), record(1, 10, 2.5))

    def test_stages_follow_each_other(self):
        (axes,) = draw_training(self.RECORDS).axes
        assert [line.get_xdata().tolist() for line in axes.lines] == [[10, 20], [25, 30]]
        assert [line.get_ydata().tolist() for line in axes.lines] == [[5, 4], [3, 2.5]]
        assert [text.get_text() for text in axes.texts] == [
            "stage 1  (2 epochs, loss 4)",
            "stage 2  (1 epoch, loss 2.5)",
        ]

    def test_stages_can_be_named(self):
        (axes,) = draw_training(self.RECORDS, stage_names=("pretrain", "finetune")).axes
        assert [text.get_text().split()[0] for text in axes.texts] == ["pretrain", "finetune"]
        with pytest.raises(InputError, match="name the 2 stages of the run, got 1"):
            draw_training(self.RECORDS, stage_names=("pretrain",))

    def test_a_repeated_step_counts_once_as_last_written(self):
        (axes,) = draw_training([*self.RECORDS[:2], record(0, 20, 9.0)]).axes
        assert axes.lines[0].get_ydata().tolist() == [5, 9]

    def test_panels_only_for_what_was_recorded(self):
        assert len(draw_training(self.RECORDS).axes) == 1
        more = [{**one, "learning_rate": 0.1, "images_per_second": 50.0} for one in self.RECORDS]
        assert [axes.get_ylabel() for axes in draw_training(more).axes] == ["loss", "learning rate", "images / s"]

    def test_long_runs_get_a_running_median_through_their_middle(self):
        rng = np.random.default_rng(0)
        (axes,) = draw_training([record("a", step, 3 + rng.normal() / 10) for step in range(1, 1001)]).axes
        raw, smooth = axes.lines
        assert len(raw.get_xdata()) == 1000
        assert len(smooth.get_xdata()) == 60
        assert np.std(smooth.get_ydata()) < np.std(raw.get_ydata()) / 2

    def test_a_rate_of_zero_and_a_single_record_are_drawable(self):
        draw_training([record(0, 1, 2.0, learning_rate=0.0)]).canvas.draw()
        draw_training([record(0, 1, float("nan"))]).canvas.draw()

    def test_what_cannot_be_drawn(self):
        with pytest.raises(InputError, match="no metrics"):
            draw_training([])
        with pytest.raises(InputError, match="record 2 of the metrics lacks loss"):
            draw_training([record(0, 1, 2.0), {"stage": 0, "step": 2}])


@pytest.mark.parametrize("speeds", [(1300, 1310), (1300, 33_000), (400, 1900), (55, 56)])
def test_speeds_have_plain_numbers_that_do_not_overlap(speeds):
    records = [
        {"stage": stage, "step": step, "epoch": 1.0, "loss": 1.0, "learning_rate": 0.1, "images_per_second": speed}
        for stage, speed in enumerate(speeds, 1)
        for step in (1, 2)
    ]
    figure = draw_training(records, stage_names=["a", "b"])
    figure.canvas.draw()
    axes = figure.axes[-1]
    low, high = axes.get_ylim()
    ticks = [tick for tick in axes.yaxis.get_majorticklocs() if low <= tick <= high]
    assert ticks
    assert all(label.get_text() == "" for label in axes.get_yticklabels(minor=True))
    labels = [label.get_window_extent() for label in axes.get_yticklabels() if low <= label.get_position()[1] <= high]
    inside = sorted((box.y0, box.y1) for box in labels)
    assert len(inside) == len(ticks)
    assert all(below[1] <= above[0] for below, above in itertools.pairwise(inside))
