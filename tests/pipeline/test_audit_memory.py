"""What is remembered of an earlier audit gives what comparing all with all gives, whatever came and went since."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from imagescape.audit.feature_pairs import feature_pairs
from imagescape.collection.store import Collection
from imagescape.evaluate.neighbors import nearest_others
from imagescape.pipeline.audit_memory import places_among, remembered_nearest, remembered_pairs

IDS = np.random.default_rng(0).permutation(10_000)[:300] - 5_000  # ids are any numbers, in any order


@pytest.fixture
def scape(tmp_path):
    return Collection.create(tmp_path / "c.scape")


def vectors(seed=0):
    rng = np.random.default_rng(seed)
    return np.repeat(rng.normal(size=(100, 8)), 3, axis=0) + 0.05 * rng.normal(size=(300, 8))


VALUES = vectors()
HISTORIES = [
    ([np.arange(300)], "at once"),
    ([np.arange(200), np.arange(300)], "grown"),
    ([np.arange(300), np.arange(0, 300, 2)], "shrunk"),
    ([np.arange(150), np.arange(50, 300)], "grown and shrunk"),
    ([np.arange(200), np.random.default_rng(1).permutation(300)], "another order"),
    ([np.arange(100), np.arange(100, 200)], "all exchanged"),
]


@pytest.mark.parametrize("history", [one for one, _ in HISTORIES], ids=[name for _, name in HISTORIES])
class TestAfterAnyHistory:
    def test_nearest_are_those_of_a_fresh_search(self, scape, history):
        for rows in history:
            asked = {"of": "a", "seed": 0, "device": "cpu"}
            found = remembered_nearest(scape, "f", IDS[rows], VALUES[rows], 5, **asked)
        fresh = nearest_others(VALUES[rows], 5, metric="cosine")
        assert_allclose(found.distances, fresh.distances, atol=1e-6)
        assert_array_equal(found.indices, fresh.indices)

    def test_pairs_are_those_of_a_fresh_search(self, scape, history):
        for rows in history:
            search = lambda new, threshold, rows=rows: feature_pairs(VALUES[rows], threshold, new=new)  # noqa: E731
            found, compared = remembered_pairs(scape, "f", IDS[rows], search, threshold=0.95, metric="cosine", of="a")
        fresh = feature_pairs(VALUES[rows], 0.95)
        before = history[-2] if len(history) > 1 else []
        assert compared == len(np.setdiff1d(rows, before))
        assert len(fresh) >= 20
        assert_array_equal(np.stack([found.first, found.second]), np.stack([fresh.first, fresh.second]))
        assert_allclose(found.distance, fresh.distance, atol=1e-6)


class TestWhatIsCompared:
    @pytest.fixture
    def asked(self, scape):
        """Ask for pairs at a threshold, and tell which rows the search was asked for."""

        def call(threshold, of="a"):
            calls = []

            def search(new, at):
                calls.append((None if new is None else int(new.sum()), at))
                return feature_pairs(VALUES, at, new=new)

            pairs, _ = remembered_pairs(scape, "f", IDS, search, threshold=threshold, metric="cosine", of=of)
            assert_array_equal(pairs.first, feature_pairs(VALUES, threshold).first)
            return calls

        return call

    def test_nothing_where_a_stricter_cut_is_wanted(self, asked):
        assert asked(0.9) == [(None, 0.9)]
        assert asked(0.95) == []
        assert asked(0.9) == []

    def test_everything_where_a_looser_one_is(self, asked):
        asked(0.95)
        assert asked(0.9) == [(None, 0.9)]

    def test_everything_of_other_values(self, asked):
        asked(0.9)
        assert asked(0.9, of="b") == [(None, 0.9)]

    def test_everything_where_the_memory_is_damaged(self, asked, scape):
        asked(0.9)
        path = scape.path / "audit" / "pairs-f.npz"
        for damaged in (path.read_bytes()[:-50], b"", b"no archive"):
            path.write_bytes(damaged)
            assert asked(0.9) == [(None, 0.9)]
        assert [one.name for one in path.parent.iterdir()] == ["pairs-f.npz"]


def test_another_k_is_searched_anew(scape):
    for k in (3, 5, 4):
        found = remembered_nearest(scape, "f", IDS, VALUES, k, of="a", seed=0, device="cpu")
        assert_array_equal(found.indices, nearest_others(VALUES, k, metric="cosine").indices)


def test_only_the_new_are_sought_among_all(scape, monkeypatch):
    asked = []
    from imagescape.search.exact import ExactIndex

    real = ExactIndex.search
    monkeypatch.setattr(
        ExactIndex, "search", lambda self, queries, k: asked.append((len(self), len(queries))) or real(self, queries, k)
    )
    for rows in (np.arange(290), np.arange(300), np.arange(300)):
        remembered_nearest(scape, "f", IDS[rows], VALUES[rows], 4, of="a", seed=0, device="cpu")
    assert asked == [(300, 10), (10, 290)]


def test_places():
    assert places_among(np.array([5, -2, 9]), np.array([9, 5, 7])).tolist() == [1, -1, 0]
