"""Boxes, segments and stacks against brute force."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from imagescape.report.geometry import Box, scattered, segments_cross, stack

number = st.floats(-10, 10, allow_nan=False)
point = st.tuples(number, number)


def test_boxes_by_hand():
    box = Box.around((0, 0), 4, 2)
    assert box == Box(-2, -1, 2, 1)
    assert box.overlaps(Box(1, 0, 3, 3))
    assert not box.overlaps(Box(2, -1, 3, 1))  # edges only touch
    assert box.holds(Box(-2, -1, 0, 0))
    assert not box.holds(Box(-3, -1, 0, 0))
    assert box.hit_by((-3, 0), (3, 0.5))
    assert box.hit_by((0, 0), (9, 9))
    assert not box.hit_by((-3, 1), (3, 1))  # along an edge
    assert not box.hit_by((2, 0), (5, 0))  # away from an edge
    assert not box.hit_by((-3, 0), (-2.5, 0))


@given(point, point)
def test_a_segment_hits_a_box_where_points_along_it_are_inside(start, end):
    box = Box(-3, -2, 4, 5)
    along = np.linspace(start, end, 400)
    inside = ((along > (-3 + 1e-6, -2 + 1e-6)) & (along < (4 - 1e-6, 5 - 1e-6))).all(axis=1)
    if inside.sum() > 1:
        assert box.hit_by(start, end)
    if not box.hit_by(start, end):
        assert inside.sum() <= 1


def test_crossing_by_hand():
    assert segments_cross((0, 0), (2, 2), (0, 2), (2, 0))
    assert not segments_cross((0, 0), (2, 2), (0, 0), (2, 0))  # a shared end
    assert not segments_cross((0, 0), (1, 1), (3, 0), (0, 3))  # the lines meet, the segments do not


class TestStack:
    def test_by_hand(self):
        np.testing.assert_allclose(stack([5.0, 5.0], [2, 2], 0, 100), [4, 6])
        np.testing.assert_allclose(stack([1.0, 50.0], [2, 2], 0, 100), [1, 50])
        np.testing.assert_allclose(stack([-5.0, 0.0], [2, 4], 0, 100), [1, 4])
        np.testing.assert_allclose(stack([], [], 0, 1), [])

    @given(st.lists(st.tuples(number, st.floats(0.1, 2)), min_size=1, max_size=9))
    def test_keeps_order_and_room(self, items):
        wanted, sizes = sorted(value for value, _ in items), [size for _, size in items]
        placed = stack(wanted, sizes, -9, 9.1)
        starts, ends = placed - np.array(sizes) / 2, placed + np.array(sizes) / 2
        assert (starts[1:] >= ends[:-1] - 1e-9).all()
        assert starts[0] >= -9 - 1e-9
        assert ends[-1] <= 9.1 + 1e-9

    def test_is_the_least_squares_solution(self):
        wanted, sizes = np.array([0.0, 0.2, 0.3, 4.0, 4.1, 9.9]), np.array([1.0, 0.5, 1.0, 2.0, 1.0, 1.0])
        apart = (sizes[1:] + sizes[:-1]) / 2
        best = minimize(
            lambda places: ((places - wanted) ** 2).sum(),
            np.cumsum(sizes),
            constraints=[
                {"type": "ineq", "fun": lambda places: np.diff(places) - apart},
                {"type": "ineq", "fun": lambda places: [places[0] - 0.5, 9.5 - places[-1]]},
            ],
        )
        np.testing.assert_allclose(stack(wanted, sizes, 0, 10), best.x, atol=1e-4)

    def test_no_room(self):
        with pytest.raises(ValueError, match="4 does not fit into 3"):
            stack([0, 0], [2, 2], 0, 3)


def test_scattered_squares_keep_apart_and_leave_no_free_place():
    coords = np.random.default_rng(0).uniform(0, 10, (400, 2))
    obstacle = Box(4, 4, 6, 6)
    chosen = scattered(coords, 0.9, range(400), [obstacle])
    assert chosen[0] == next(r for r in range(400) if not Box.around(tuple(coords[r]), 0.9, 0.9).overlaps(obstacle))
    boxes = [Box.around(tuple(coords[row]), 0.9, 0.9) for row in chosen]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    assert not any(box.overlaps(obstacle) for box in boxes)
    for row in set(range(400)) - set(chosen):
        box = Box.around(tuple(coords[row]), 0.9, 0.9)
        assert any(box.overlaps(other) for other in [*boxes, obstacle])
