"""The quadtree: every point in one tile, samples that stay, and counts that add up."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from imagescape.explore.tiles import DEEPEST, Tiles, along_curve


def points(count, seed):
    rng = np.random.default_rng(seed)
    coords = (rng.normal(size=(count, 2)) * rng.gamma(1, size=(count, 1))).astype(np.float32)
    return coords, rng.integers(-(2**63), 2**63 - 1, count, dtype=np.int64)


def square_of(tiles, z, x, y):
    side = tiles.size / 2**z
    return tiles.x0 + x * side, tiles.y0 + y * side, side


@given(st.integers(0, 300), st.integers(1, 40), st.integers(0, 10_000))
@settings(max_examples=40)
def test_every_point_is_in_one_tile_and_in_its_square(count, capacity, seed):
    coords, numbers = points(count, seed)
    coords[::7] = np.nan
    tiles = Tiles.of(coords, numbers, capacity)
    seen = []
    for z, x, y, held in tiles.index.tolist():
        rows = tiles.tile(z, x, y)
        assert len(rows) == held
        assert 0 < held <= (capacity if z < DEEPEST else count)
        left, below, side = square_of(tiles, z, x, y)
        slack = tiles.size * 1e-4 / 2**z + tiles.size * 1e-6
        assert (coords[rows, 0] >= left - slack).all()
        assert (coords[rows, 0] <= left + side + slack).all()
        assert (coords[rows, 1] >= below - slack).all()
        assert (coords[rows, 1] <= below + side + slack).all()
        seen += rows.tolist()
    assert sorted(seen) == np.flatnonzero(np.isfinite(coords[:, 0])).tolist()


def test_a_tile_is_full_before_its_children_have_any():
    coords, numbers = points(3000, 1)
    tiles = Tiles.of(coords, numbers, 50)
    held = {(z, x, y): count for z, x, y, count in tiles.index.tolist()}
    for z, x, y in held:
        if z:
            assert held[z - 1, x // 2, y // 2] == 50
    assert tiles.depth == 1 + max(z for z, _, _ in held)


def test_the_sample_is_of_the_ids_and_not_of_the_rows():
    coords, numbers = points(2000, 2)
    order = np.random.default_rng(0).permutation(2000)
    one, other = Tiles.of(coords, numbers, 64), Tiles.of(coords[order], numbers[order], 64)
    assert_array_equal(one.index, other.index)
    for z, x, y, _ in one.index.tolist():
        assert set(numbers[one.tile(z, x, y)]) == set(numbers[order][other.tile(z, x, y)])


def test_the_coarsest_sample_is_spread_as_the_points_are():
    """Chance chooses, whatever the ids look like: numbers that count up along the map as well."""
    coords = np.column_stack([np.linspace(0, 1, 20_000), np.zeros(20_000)]).astype(np.float32)
    rows = Tiles.of(coords, np.arange(20_000), 1000).tile(0, 0, 0)
    counts = np.histogram(coords[rows, 0], bins=10, range=(0, 1))[0]
    assert counts.min() > 60


def test_points_in_one_place_end_at_the_deepest_level():
    coords = np.zeros((500, 2), np.float32)
    tiles = Tiles.of(coords, np.arange(500), 10)
    assert tiles.depth == DEEPEST + 1
    assert tiles.index[-1, 3] == 500 - 10 * DEEPEST


def test_outside_the_tree_there_is_none():
    coords, numbers = points(100, 3)
    tiles = Tiles.of(coords, numbers, 10)
    assert tiles.tile(0, 1, 0) is None
    assert tiles.tile(-1, 0, 0) is None
    assert tiles.tile(tiles.depth, 0, 0) is None
    empty = Tiles.of(np.full((5, 2), np.nan, np.float32), np.arange(5))
    assert empty.tile(0, 0, 0).tolist() == []
    assert (empty.depth, empty.index.tolist()) == (1, [])


def test_density_by_hand():
    coords = np.array([[0, 0], [0.1, 0.1], [1, 1], [1, 0], [np.nan, np.nan]], np.float32)
    tiles = Tiles.of(coords, np.arange(5))
    assert tiles.density(coords, 2).tolist() == [2, 1, 0, 1]
    assert tiles.density(coords, 16).sum() == 4


def test_along_the_curve_neighbours_are_near():
    coords, _ = points(4000, 4)
    coords[5] = np.nan
    rows = along_curve(coords)
    assert sorted(rows.tolist()) == [row for row in range(4000) if row != 5]
    step = np.linalg.norm(np.diff(coords[rows], axis=0), axis=1)
    by_chance = np.linalg.norm(np.diff(coords[np.sort(rows)], axis=0), axis=1)
    assert np.median(step) < np.median(by_chance) / 10
    assert len(along_curve(np.full((3, 2), np.nan, np.float32))) == 0


class TestRoutes:
    def test_all_tiles_are_all_points_with_their_columns(self, client, scape):
        told = client.json("/api/tiles/M", order=client.order)
        ids, xs = client.rows("/api/ids")["id"].to_numpy(), client.rows("/api/map/M")["x"].to_numpy()
        codes = client.rows("/api/column/label")["code"].to_numpy()
        rows = []
        for z, x, y, count in told["tiles"]:
            tile = client.rows(f"/api/tiles/M/{z}/{x}/{y}", columns="label,weight")
            assert tile.num_rows == count
            at = tile["row"].to_numpy()
            assert_array_equal(tile["id"].to_numpy(), ids[at])
            assert_array_equal(tile["x"].to_numpy(), xs[at])
            assert_array_equal(tile["label"].to_numpy(), codes[at])
            rows += at.tolist()
        assert sorted(rows) == np.flatnonzero(np.isfinite(xs)).tolist()
        assert client.rows("/api/density/M", bins=16)["count"].to_numpy().sum() == len(rows)

    @pytest.mark.parametrize("tile", ["9/0/0", "0/1/0", "0/-1/0", "a/0/0", "0/0/../0", "1e9/0/0"])
    def test_no_such_tile(self, client, refused, tile):
        refused(client.get(f"/api/tiles/M/{tile}", order=client.order), 404, "not_found")

    def test_what_tiles_cannot_hold(self, client, refused):
        assert "texts" in refused(client.get("/api/tiles/M/0/0/0", order=client.order, columns="uri"), 400, "input")
        refused(client.get("/api/tiles/M/0/0/0", order=client.order, columns="nothing"), 404, "not_found")
        refused(client.get("/api/tiles/N", order=client.order), 404, "not_found")
        refused(client.get("/api/density/M", order=client.order, bins=100_000), 400, "input")
