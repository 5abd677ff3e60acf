"""Names around a map: apart, in angular order, with leaders that never cross."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagescape.report.geometry import Box, segments_cross
from imagescape.report.labels import density_mode, place_names, place_on_periphery


class TestDensityMode:
    def test_is_the_dense_part_not_the_mean(self):
        rng = np.random.default_rng(0)
        points = np.concatenate([rng.normal((5, 5), 0.3, (600, 2)), rng.normal((-5, -5), 3.0, (600, 2))])
        assert np.linalg.norm(density_mode(points) - (5, 5)) < 0.5
        assert np.linalg.norm(points.mean(axis=0) - (5, 5)) > 3

    @pytest.mark.parametrize("count", [1, 2, 5])
    def test_is_one_of_the_points(self, count):
        points = np.random.default_rng(count).normal(size=(count, 2))
        assert (density_mode(points) == points).all(axis=1).any()

    def test_identical_points(self):
        assert density_mode(np.ones((4, 2))).tolist() == [1, 1]


def crossings(placements):
    segments = [list(itertools.pairwise(map(tuple, place.leader))) for place in placements]
    return [
        (i, j)
        for (i, one), (j, other) in itertools.combinations(enumerate(segments), 2)
        if any(segments_cross(*a, *b) for a in one for b in other)
    ]


def assert_well_placed(modes, center, radius, gap):
    placements = place_on_periphery(modes, center, radius, gap)
    assert not crossings(placements)
    anchors = np.array([place.anchor for place in placements])
    np.testing.assert_allclose(np.linalg.norm(anchors - center, axis=1), radius)
    for place, mode in zip(placements, modes, strict=True):
        np.testing.assert_allclose(place.leader[0], mode)
        np.testing.assert_allclose(place.leader[-1], place.anchor)
    apart = np.linalg.norm(anchors[:, None] - anchors[None], axis=2)[np.triu_indices(len(modes), 1)]
    assert (apart >= gap * (1 - 1e-9)).all()
    around = np.argsort([place.angle % (2 * np.pi) for place in placements])
    angles = np.arctan2(*(modes - center).T[::-1])[around] % (2 * np.pi)
    falls = np.roll(angles, -1) < angles - 1e-9
    assert falls.sum() <= 1  # once around, past zero


class TestPeriphery:
    def test_alone_names_stand_at_their_angle(self):
        modes = np.array([[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0]])
        placements = place_on_periphery(modes, (0.0, 0.0), 10.0, 0.1)
        np.testing.assert_allclose([p.anchor for p in placements], [(10, 0), (0, 10), (-10, 0)], atol=1e-9)

    def test_crowded_names_share_out_around_their_middle(self):
        placements = place_on_periphery(np.array([[1.0, 0.0], [2.0, 0.0]]), (0.0, 0.0), 10.0, 2.0)
        np.testing.assert_allclose([p.anchor[1] for p in placements], [-1, 1], atol=1e-9)

    @settings(max_examples=60)
    @given(st.integers(2, 40), st.floats(0.05, 0.97), st.integers(0, 10**6))
    def test_no_overlap_no_crossing_and_in_order(self, count, fill, seed):
        rng = np.random.default_rng(seed)
        modes = rng.normal((3, -2), (2, 1), (count, 2))
        radius = 1.2 * float(np.linalg.norm(modes - (3, -2), axis=1).max())
        assert_well_placed(modes, np.array([3.0, -2.0]), radius, fill * 2 * radius * np.sin(np.pi / count))

    def test_turning_the_map_turns_the_names(self):
        modes = np.random.default_rng(5).normal(size=(30, 2))
        turn = np.array([[0.6, -0.8], [0.8, 0.6]])
        straight = place_on_periphery(modes, (0.0, 0.0), 5.0, 0.6)
        turned = place_on_periphery(modes @ turn.T, (0.0, 0.0), 5.0, 0.6)
        np.testing.assert_allclose(
            [place.anchor for place in turned], [turn @ place.anchor for place in straight], atol=1e-6
        )

    def test_no_room(self):
        modes = np.random.default_rng(0).normal(size=(20, 2))
        with pytest.raises(ValueError, match="do not fit around a circle"):
            place_on_periphery(modes, (0.0, 0.0), 10.0, 4.0)
        with pytest.raises(ValueError, match="modes reach"):
            place_on_periphery(modes * 100, (0.0, 0.0), 10.0, 0.1)

    def test_no_names(self):
        assert place_on_periphery(np.empty((0, 2)), (0.0, 0.0), 1.0, 0.1) == []


def test_names_on_the_map_keep_apart_and_inside():
    modes = np.array([[5.0, 5.0], [5.0, 5.0], [5.0, 5.0], [0.1, 9.0], [5.0, 5.0], [5.0, 5.0], [5.0, 5.0]])
    boxes = place_names(modes, [(3.0, 1.0)] * 7, Box(0, 0, 10, 10))
    assert boxes[0] == Box(3.5, 4.5, 6.5, 5.5)
    there = [box for box in boxes if box is not None]
    assert len(there) == 6  # five at most around one place
    assert not any(one.overlaps(other) for one, other in itertools.combinations(there, 2))
    assert all(Box(0, 0, 10, 10).holds(box) for box in there)
