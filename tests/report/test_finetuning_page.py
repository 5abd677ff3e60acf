"""Pictures and page of a fine-tuning: what is drawn are the figures, and a name can be no markup."""

import numpy as np
import pytest

from imagescape.cluster.geometry import FIGURES, cluster_geometry
from imagescape.errors import InputError
from imagescape.evaluate.looks import Figures, Look
from imagescape.report.finetuning_page import write_finetuning_page
from imagescape.report.finetuning_plots import (
    draw_families,
    draw_geometry_by_epoch,
    draw_retrieval_by_epoch,
    draw_threshold_by_epoch,
)
from imagescape.report.gallery import Fact, Panel


def look(name, epoch, value, family=None):
    figures = Figures(
        recall_at_1=value,
        average_precision=value - 0.1,
        recall_at_precision=value - 0.2,
        distance_at_precision=value / 2,
    )
    return Look(
        name=name,
        epoch=epoch,
        figures=figures,
        unseen=figures,
        seen=figures,
        carried_precision=None if name == "before" else value,
        carried_recall=value,
        by_family={"crop": value, "flip": 0.9 if family is None else family},
    )


LOOKS = [look("before", 0, 0.8), look("whitened", 0, 0.82), look("epoch 2", 2, 0.85), look("epoch 4", 4, 0.84),
         look("epoch 2, 50% of the way", 2, 0.9)]  # fmt: skip


def test_retrieval_is_drawn_for_the_way_and_not_for_the_ways_back():
    figure = draw_retrieval_by_epoch(LOOKS)
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "recall@1",
        "micro average precision",
        "recall at 90 % precision",
    ]
    seen = figure.axes[0].get_lines()[0]
    np.testing.assert_allclose(seen.get_xdata(), [0, 2, 4])
    np.testing.assert_allclose(seen.get_ydata(), [82, 85, 84])


def test_thresholds_that_are_not_there_leave_a_gap():
    figure = draw_threshold_by_epoch([LOOKS[0], *LOOKS[2:]])
    precision = figure.axes[1].get_lines()[0].get_ydata()
    assert np.isnan(precision[0])
    np.testing.assert_allclose(precision[1:], [85, 84])


def test_geometry_has_a_violin_a_network_in_each_of_six_panels():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(8), 5)
    geometries = {
        name: cluster_geometry(rng.normal(size=(40, 3)) + 5 * np.eye(8)[labels][:, :3], labels)
        for name in ("before", "epoch 1")
    }
    figure = draw_geometry_by_epoch(geometries)
    assert len(figure.axes) == len(FIGURES)
    for axes, name in zip(figure.axes, FIGURES, strict=True):
        points = [line for line in axes.get_lines() if line.get_marker() == "o"]
        drawn = [np.sort(line.get_ydata()) for line in points]
        np.testing.assert_allclose(drawn, [np.sort(getattr(one, name)) for one in geometries.values()])
    with pytest.raises(InputError):
        draw_geometry_by_epoch({})


def test_families_that_became_worse_are_red():
    axes = draw_families(LOOKS[0], look("after", 2, 0.9, family=0.7)).axes[0]
    lines = [line for line in axes.get_lines() if len(line.get_xdata()) == 2]
    # The largest gain comes first.
    np.testing.assert_allclose([line.get_xdata() for line in lines], [[80, 90], [90, 70]])
    assert lines[0].get_color() != lines[1].get_color() == "#c23c51"


def test_the_page_shows_every_look_and_no_markup_of_names(tmp_path):
    path = write_finetuning_page(
        tmp_path / "page.html",
        title="<b>mine</b>",
        about="about",
        facts=[Fact("recall@1", "0.9", "before 0.8")],
        notes=["a & b"],
        panels=[Panel("retrieval", "Retrieval", "how", b"png")],
        looks=LOOKS,
        kept=LOOKS[2],
    )
    page = path.read_text()
    assert "<b>mine</b>" not in page
    assert "a &amp; b" in page
    assert page.count("<tr>") == 1 + len(LOOKS)
    assert "<b>epoch 2</b> (kept)" in page
    with pytest.raises(InputError, match="does not exist"):
        write_finetuning_page(
            tmp_path / "no" / "page.html", title="", about="", facts=[], notes=[], panels=[], looks=LOOKS, kept=LOOKS[2]
        )
