"""Plots of an experiment: every figure at its place, and nothing over anything else."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image

from imagescape.errors import InputError
from imagescape.evaluate.retrieval import measure
from imagescape.evaluate.trials import Experiment, Rate, Trial
from imagescape.report.experiment_plots import (
    draw_experiment,
    draw_heat_map,
    draw_k_recall,
    draw_k_time,
    draw_time_recall,
)

FAMILIES = ["crop", "noise", "a much longer $name_of$ a family"]


def trial(features, skill, *, engine="exact", metric="cosine", width=None, k=10, rate=100.0, kinds=2):
    """50 queries of each family, of which a method finds skill[family] first and the rest at place 2."""
    found, families, names = [], [], []
    for family, share in zip(FAMILIES, skill, strict=True):
        found += [1 if place < share * 50 else 2 for place in range(50)]
        families += [family] * 50
        names += [f"{family} {place % kinds}" for place in range(50)]
    count = len(found)
    ids = np.tile(np.arange(10**6, 10**6 + k), (count, 1))
    truth = np.arange(count)
    places = np.minimum(np.array(found), k) - 1
    ids[truth, places] = np.where(np.array(found) <= k, truth, -2)
    figures = measure(
        ids,
        np.tile(np.arange(float(k)), (count, 1)),
        truth,
        ks=[one for one in (1, 2, 5, 10) if one <= k],
        families=families,
        kinds=names,
        resamples=30,
    )
    return Trial(
        features=features,
        engine=engine,
        metric=metric,
        search_width=width,
        k=k,
        build_seconds=1.0,
        batch=Rate(rate, rate / 2, rate * 2, 5),
        single=Rate(rate / 10, 1.0, 99.0, 100),
        vector_bytes=8.0,
        retrieval=figures,
    )


def experiment(*trials):
    return Experiment(trials=trials, database_rows=1234, seed=0, machine="m", threads=2)


@pytest.fixture
def sweeps():
    """A combination, a hash with a sweep of k, and an index with a sweep of its width."""
    return experiment(
        trial("dhash64 + efficientnet_lite0", (1.0, 1.0, 0.5), engine="combined", metric="probability", rate=50.0),
        *(trial("dhash64", (0.2, 0.9, 0.1), metric="hamming", k=k, rate=8000 / (7 + k)) for k in (10, 1, 5)),
        *(
            trial("efficientnet_lite0", (skill, skill, 0.3), engine="IVF64,Flat", width=width, rate=2000 / width)
            for width, skill in ((16, 0.9), (1, 0.5), (4, 0.7))
        ),
    )


def label_boxes(figure):
    figure.canvas.draw()
    texts = {id(text): text for text in figure.findobj(Text) if text.get_text().strip() and text.get_visible()}
    return [(text.get_text(), text.get_window_extent()) for text in texts.values()]


class TestTimeRecall:
    def test_points_are_where_the_trials_are(self, sweeps):
        (axes,) = draw_time_recall(sweeps).axes
        lines = {line.get_label(): np.array(line.get_data()).T.tolist() for line in axes.lines}
        assert list(lines) == [
            "combined: dhash64 + efficientnet_lite0",
            "dhash64, exact, hamming",
            "efficientnet_lite0, IVF64,Flat, cosine",
        ]
        hits = [round(50 * one) for one in (0.5, 0.7, 0.9)]
        expected = [
            [1000 * width / 2000, 100 * (2 * hit + 15) / 150] for width, hit in zip((1, 4, 16), hits, strict=True)
        ]
        assert lines["efficientnet_lite0, IVF64,Flat, cosine"] == [pytest.approx(one) for one in expected]
        assert lines["dhash64, exact, hamming"] == [pytest.approx([1000 * 17 / 8000, 40])]  # that with the main k
        assert [text.get_text() for text in axes.texts] == ["1", "4", "16"]

    def test_engine_and_metric_are_not_said_where_all_have_the_same(self):
        (axes,) = draw_time_recall(experiment(trial("a", (1, 1, 1)), trial("b", (1, 0, 1)))).axes
        assert [line.get_label() for line in axes.lines] == ["a", "b"]


class TestKRecall:
    def test_lines_and_bands(self, sweeps):
        (axes,) = draw_k_recall(sweeps).axes
        lines = {line.get_label(): line for line in axes.lines}
        line = lines["dhash64, exact, hamming"]
        assert line.get_xdata().tolist() == [1, 2, 5, 10]
        assert line.get_ydata().tolist() == pytest.approx([40, 100, 100, 100])
        assert len(axes.collections) == 3
        at = sweeps.trials[1].retrieval.overall.at
        band = axes.collections[1].get_paths()[0].vertices
        assert band[band[:, 0] == 1][:, 1].min() == pytest.approx(100 * at[1].low)
        assert band[band[:, 0] == 1][:, 1].max() == pytest.approx(100 * at[1].high)
        best = lines["efficientnet_lite0, IVF64,Flat, cosine"].get_ydata()[0]
        assert best == pytest.approx(70)  # the widest search

    def test_without_intervals_there_are_no_bands(self):
        one = trial("a", (1, 0.5, 0))
        at = {k: replace(estimate, low=None, high=None) for k, estimate in one.retrieval.overall.at.items()}
        bare = replace(one, retrieval=replace(one.retrieval, overall=replace(one.retrieval.overall, at=at)))
        (axes,) = draw_k_recall(experiment(bare)).axes
        assert len(axes.lines) == 1
        assert not axes.collections


class TestKTime:
    def test_milliseconds_by_k(self, sweeps):
        (axes,) = draw_k_time(sweeps).axes
        (container,) = axes.containers
        line, _, (bars,) = container.lines
        assert line.get_xdata().tolist() == [1, 5, 10]
        assert line.get_ydata().tolist() == pytest.approx([1, 1.5, 17 / 8])
        assert bars.get_segments()[0][:, 1].tolist() == pytest.approx([0.5, 2.0])
        assert axes.get_ylim()[0] == 0

    def test_the_width_that_was_tried_with_the_most_k(self):
        tried = [(1, 1), (4, 1), (4, 5), (4, 10), (16, 5)]
        (axes,) = draw_k_time(experiment(*(trial("a", (1, 1, 1), width=width, k=k) for width, k in tried))).axes
        (container,) = axes.containers
        assert container.lines[0].get_xdata().tolist() == [1, 5, 10]

    def test_it_needs_two_k(self):
        with pytest.raises(InputError, match="two or more k"):
            draw_k_time(experiment(trial("a", (1, 1, 1)), trial("b", (1, 1, 1), k=5)))


class TestHeatMap:
    def test_the_best_on_the_left_its_failures_at_the_top(self, sweeps):
        upper, lower = draw_heat_map(sweeps).axes
        assert [label.get_text().replace("\n", " ") for label in upper.get_xticklabels()] == [
            "combined: dhash64 + efficientnet_ lite0",
            "efficientnet_ lite0, IVF64,Flat, cosine",
            "dhash64, exact, hamming",
        ]
        assert [label.get_text() for label in lower.get_yticklabels()] == [
            f"{FAMILIES[2]}  (50)",
            "crop  (50)",
            "noise  (50)",
        ]
        assert lower.images[0].get_array().tolist() == [[0.5, 0.3, 0.1], [1, 0.9, 0.2], [1, 0.9, 0.9]]
        assert upper.images[0].get_array()[0].tolist() == pytest.approx([2.5 / 3, 2.1 / 3, 1.2 / 3])
        assert [text.get_text() for text in lower.texts][:4] == ["50.0", "30.0", "10.0", "100"]
        assert upper.texts[0].get_text() == "83.3"
        assert upper.get_yticklabels()[0].get_text() == "all queries  (150)"
        assert all(axes.images[0].get_clim() == (0, 1) for axes in (upper, lower))

    def test_numbers_can_be_read_on_their_cells(self):
        skills = np.linspace(0, 1, 51)
        trials = [trial(f"m{place}", (skill, skill, 1 - skill)) for place, skill in enumerate(skills)]
        _, lower = draw_heat_map(experiment(*trials)).axes
        image = lower.images[0]
        for text in lower.texts:
            column, row = text.get_position()
            ground = luminance(image.cmap(image.norm(image.get_array()[row, column]))[:3])
            ink = luminance(
                tuple(int(text.get_color()[at : at + 2], 16) / 255 for at in (1, 3, 5))
                if text.get_color() != "white"
                else (1, 1, 1)
            )
            contrast = (max(ground, ink) + 0.05) / (min(ground, ink) + 0.05)
            assert contrast > 3.9, text.get_text()

    def test_almost_all_is_not_all(self):
        one = trial("a", (1, 1, 1))
        at = {k: replace(estimate, value=0.9999) for k, estimate in one.retrieval.overall.at.items()}
        near = replace(one, retrieval=replace(one.retrieval, overall=replace(one.retrieval.overall, at=at)))
        upper, _ = draw_heat_map(experiment(near)).axes
        assert upper.texts[0].get_text() == "99.9"

    def test_by_kind(self, sweeps):
        _, lower = draw_heat_map(sweeps, by="kind").axes
        assert len(lower.get_yticklabels()) == 6
        assert lower.get_yticklabels()[0].get_text() == f"{FAMILIES[2]} 1  (25)"

    def test_bad_input(self, sweeps):
        with pytest.raises(InputError, match="'family' or 'kind'"):
            draw_heat_map(sweeps, by="colour")
        bare = replace(sweeps.trials[0], retrieval=replace(sweeps.trials[0].retrieval, by_family={}))
        with pytest.raises(InputError, match="needs 1 to 150 of them, got 0"):
            draw_heat_map(experiment(bare))


def luminance(rgb):
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in rgb]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


class TestFiles:
    def test_redrawn_from_the_file_alone(self, sweeps, tmp_path):
        sweeps.save(tmp_path)
        paths = draw_experiment(Experiment.load(tmp_path), tmp_path / "plots", formats=("png", "svg"))
        names = ["k-recall", "time-recall", "k-time", "families", "kinds"]
        assert [path.name for path in paths] == [f"{name}.{suffix}" for name in names for suffix in ("png", "svg")]
        for path in paths[::2]:
            with Image.open(path) as image:
                assert len(image.convert("RGB").getcolors(2**20)) > 20
        assert draw_experiment(sweeps, tmp_path / "again", formats=("svg",))
        first, again = ((tmp_path / folder / "families.svg").read_text() for folder in ("plots", "again"))
        assert first.count("<text") == again.count("<text")

    def test_only_what_there_is_something_for(self, tmp_path):
        one = trial("a", (1, 1, 0), kinds=1)
        assert [path.name for path in draw_experiment(experiment(one), tmp_path)] == [
            "k-recall.png",
            "time-recall.png",
            "families.png",
        ]

    def test_unknown_format(self, sweeps, tmp_path):
        for formats in (("gif",), ()):
            with pytest.raises(InputError, match="png, svg, pdf"):
                draw_experiment(sweeps, tmp_path, formats=formats)


@pytest.mark.parametrize("draw", [draw_k_recall, draw_time_recall, draw_k_time, draw_heat_map])
def test_no_words_lie_over_others_or_off_the_sheet(draw, sweeps):
    figure = draw(sweeps)
    boxes = label_boxes(figure)
    sheet = figure.bbox
    assert len(boxes) > 10
    for words, box in boxes:
        assert box.x0 >= sheet.x0, words
        assert box.x1 <= sheet.x1, words
        assert box.y0 >= sheet.y0, words
        assert box.y1 <= sheet.y1, words
    for (one, here), (other, there) in combinations(boxes, 2):
        covered = min(here.x1, there.x1) - max(here.x0, there.x0), min(here.y1, there.y1) - max(here.y0, there.y0)
        assert min(covered) < 2, (one, other)
