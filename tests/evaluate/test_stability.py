"""Views of an image and maps of other seeds: values worked by hand, oracles, what must not matter and what must."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from imagescape.errors import InputError
from imagescape.evaluate.stability import procrustes, seed_stability, view_consistency


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def turned(coords, degrees=40.0, scale=1.0, shift=(0.0, 0.0), mirror=False):
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return scale * (coords * [-1 if mirror else 1, 1]) @ turn.T + shift


class TestViews:
    def test_by_hand(self):
        coords = np.array([[0.0, 0], [10, 0], [20, 0]])
        view_a = np.array([[0.0, 1], [10, 0], [20, 0]])
        view_b = np.array([[0.0, 0], [10, 2], [4, 0]])
        found = view_consistency(view_a, view_b, coords, k=1)
        assert found.distances.tolist() == [1, 2, 16]
        # Of a_0 to b_1, b_2; of a_1 to b_0, b_2; of a_2 to b_0, b_1. Sorted: 4.12, 6, 10, 10.05, 10.20, 20.
        assert_allclose(found.chance_distances, [101**0.5, 17**0.5, 10, 6, 20, 104**0.5])
        assert_allclose(found.relative_distance, 2 / ((10 + 101**0.5) / 2))
        assert found.is_found.tolist() == [True, True, False]  # (4, 0) is nearest to the first image
        assert found.found_share == pytest.approx(2 / 3)
        assert view_consistency(view_a, view_b, coords, k=9).found_share == 1  # all that there are

    def test_views_of_some_rows(self, rng):
        coords = rng.normal(size=(50, 2))
        rows = rng.permutation(50)[:9]
        found = view_consistency(coords[rows], coords[rows], coords, rows=rows, k=1)
        assert (found.relative_distance, found.found_share, found.map_rows) == (0, 1, 50)
        assert view_consistency(coords[rows], coords[rows], coords, rows=rows[::-1], k=1).found_share <= 1 / 9

    def test_against_loops(self, rng):
        coords = rng.normal(size=(40, 3))
        a, b = (coords + rng.normal(size=coords.shape) for _ in range(2))
        found = view_consistency(a, b, coords, k=5)
        others = [np.sqrt(((a[i] - b[j]) ** 2).sum()) for i in range(40) for j in range(40) if i != j]
        own = [np.sqrt(((a[i] - b[i]) ** 2).sum()) for i in range(40)]
        assert_allclose(found.relative_distance, np.median(own) / np.median(others))
        nearer = [sum(np.linalg.norm(b[i] - c) < np.linalg.norm(b[i] - coords[i]) for c in coords) for i in range(40)]
        assert_array_equal(found.is_found, np.array(nearer) < 5)

    def test_moving_turning_and_scaling_the_map_change_nothing(self, rng):
        coords = rng.normal(size=(60, 2))
        views = [coords + 0.2 * rng.normal(size=coords.shape) for _ in range(2)]
        plain = view_consistency(*views, coords)
        moved = view_consistency(*(turned(x, 70, 3.0, (5, -9), mirror=True) for x in (*views, coords)))
        assert_allclose(moved.relative_distances, plain.relative_distances)
        assert moved.found_share == plain.found_share

    def test_breaking_the_pairs_is_chance(self, rng):
        coords = rng.normal(size=(400, 2))
        a, b = (coords + 0.05 * rng.normal(size=coords.shape) for _ in range(2))
        paired, broken = view_consistency(a, b, coords), view_consistency(a, rng.permutation(b), coords)
        assert paired.relative_distance < 0.06
        assert paired.found_share > 0.9
        assert broken.relative_distance == pytest.approx(1, abs=0.1)
        assert broken.found_share == pytest.approx(15 / 400, abs=0.05)

    def test_what_cannot_be_measured(self):
        two = np.array([[0.0, 0], [1, 0]])
        with pytest.raises(InputError, match=r"same rows and dimensions, got \(2, 2\) and \(1, 2\)"):
            view_consistency(two, two[:1], two)
        with pytest.raises(InputError, match="at least 2 images, got 1"):
            view_consistency(two[:1], two[:1], two, rows=np.array([1]))
        with pytest.raises(InputError, match="at one point"):
            view_consistency(0 * two, 0 * two, two)


class TestProcrustes:
    def test_by_hand(self):
        # Both centred with unit spread: points at +-1/2 on two axes, against two on one axis. The product of the two
        # has singular values sqrt(1/2) and 0, so that 1 - 1/2 of the spread is left.
        cross = np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
        line = np.array([[1.0, 0], [-1, 0], [0, 0], [0, 0]])
        fit = procrustes(cross, line)
        assert fit.disparity == pytest.approx(0.5)
        assert_allclose(fit.aligned, line, atol=1e-12)

    @pytest.mark.parametrize("mirror", [False, True])
    def test_the_same_shape_is_brought_back(self, rng, mirror):
        coords = rng.normal(size=(30, 2))
        fit = procrustes(coords, turned(coords, 130, 0.2, (40, -3), mirror))
        assert fit.disparity == pytest.approx(0, abs=1e-12)
        assert_allclose(fit.aligned, coords, atol=1e-9)

    def test_disparity_is_what_is_left_after_the_best_of_many_turns(self, rng):
        """Against a search over angles, mirrors and the best scale of each, which needs no decomposition."""
        x = rng.normal(size=(25, 2))
        y = x + rng.normal(size=x.shape)
        x0, y0 = x - x.mean(axis=0), y - y.mean(axis=0)
        left = []
        for mirror in (False, True):
            for degrees in np.arange(0, 360, 0.1):
                moved = turned(y0, degrees, mirror=mirror)
                scale = max((x0 * moved).sum() / (moved**2).sum(), 0)
                left.append(((x0 - scale * moved) ** 2).sum() / (x0**2).sum())
        fit = procrustes(x, y)
        assert fit.disparity == pytest.approx(min(left), abs=1e-4)
        assert_allclose(((x - fit.aligned) ** 2).sum() / (x0**2).sum(), fit.disparity)

    def test_what_is_shared_is_symmetric_and_chance_is_near_one(self, rng):
        x, y = rng.normal(size=(2, 500, 2))
        assert procrustes(x, y).disparity == pytest.approx(procrustes(y, x).disparity)
        assert procrustes(x, y).disparity > 0.95
        assert procrustes(x, x + y).disparity < procrustes(x, rng.permutation(x + y)).disparity

    def test_what_cannot_be_laid_over(self):
        two = np.array([[0.0, 0], [1, 0]])
        for other in (np.zeros((3, 2)), np.zeros((2, 3))):
            with pytest.raises(InputError, match="same rows and dimensions"):
                procrustes(two, other)
        for other in (np.zeros((2, 2)), two * np.nan):
            with pytest.raises(InputError, match="finite coordinates at more than one point"):
                procrustes(two, other)


class TestSeeds:
    def test_turned_copies_are_one_map(self, rng):
        coords = rng.normal(size=(40, 2))
        same = seed_stability([coords, turned(coords, 90, 2), turned(coords, 10, mirror=True)])
        assert_allclose(same.disparities, 0, atol=1e-12)
        assert same.shared_neighbors.tolist() == [1, 1, 1]
        for aligned in same.aligned:
            assert_allclose(aligned, coords, atol=1e-9)
        assert same.as_dict()["shared_neighbors"] == {"mean": 1, "sd": 0}

    def test_pairs_come_in_order(self, rng):
        a, b, c = (rng.normal(size=(40, 2)) for _ in range(3))
        found = seed_stability([a, b, c], k=4)
        pairs = [(a, b), (a, c), (b, c)]
        assert_allclose(found.disparities, [procrustes(*pair).disparity for pair in pairs])
        near = [
            np.argsort(((x[:, None] - x[None]) ** 2).sum(axis=2) + 1e9 * np.eye(40), axis=1)[:, :4] for x in (a, b, c)
        ]
        for value, (i, j) in zip(found.shared_neighbors, [(0, 1), (0, 2), (1, 2)], strict=True):
            assert value == pytest.approx(
                np.mean([len({*p} & {*q}) / 4 for p, q in zip(near[i], near[j], strict=True)])
            )

    def test_exchanged_islands_keep_neighbours_and_lose_shape(self, rng):
        code = np.repeat(np.arange(4), 30)
        centers = np.array([[0.0, 0], [100, 0], [0, 50], [160, 90]])
        inside = rng.normal(size=(120, 2))
        found = seed_stability([centers[code] + inside, centers[[2, 3, 1, 0]][code] + inside])
        assert found.shared_neighbors[0] == 1
        assert found.disparities[0] > 0.3
        assert found.as_dict()["disparity"]["sd"] is None

    def test_few_images_and_few_maps(self, rng):
        three = rng.normal(size=(3, 2))
        assert seed_stability([three, three]).k == 2
        with pytest.raises(InputError, match="two maps of at least 3 images, got 1 of 3"):
            seed_stability([three])
        with pytest.raises(InputError, match="got 2 of 2"):
            seed_stability([three[:2], three[:2]])
