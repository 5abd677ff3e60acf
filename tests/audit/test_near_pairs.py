"""The form of pairs: twins as stars, each pair once, and no pair lost when pairs are joined or rows move."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagescape.audit.nearest_pairs import NearestPairs
from imagescape.audit.pairs import Pairs, distance_of
from imagescape.errors import InputError


def hamming(first, second, distance, radius=5, **rest):
    return Pairs.of(
        np.array(first), np.array(second), np.array(distance), metric="hamming", radius=radius, limit=9, **rest
    )


def listed(pairs):
    return list(zip(pairs.first.tolist(), pairs.second.tolist(), pairs.distance.tolist(), strict=True))


def all_near(pairs, n):
    """The full symmetric matrix that pairs stand for, inf where they say nothing; twins share what is near them."""
    full = np.full((n, n), np.inf)
    np.fill_diagonal(full, 0)
    for a, b, d in listed(pairs):
        full[a, b] = full[b, a] = min(full[a, b], d)
    for _ in range(n):
        for i in range(n):
            for j in range(n):
                if full[i, j] == 0:
                    full[i] = full[j] = np.minimum(full[i], full[j])
                    full[:, i] = full[:, j] = np.minimum(full[:, i], full[:, j])
    return full


class TestForm:
    def test_worked_by_hand(self):
        # 7, 2 and 4 are twins; 4 is near 9 and 7 is near 5; the last names a pair again, farther.
        pairs = hamming([7, 4, 9, 5, 5], [2, 7, 4, 7, 2], [0, 0, 3, 1, 2])
        assert listed(pairs) == [(2, 4, 0), (2, 7, 0), (2, 5, 1), (2, 9, 3)]
        assert (pairs.first.dtype, pairs.second.dtype, pairs.distance.dtype) == (np.int64, np.int64, np.float32)

    def test_a_row_is_no_pair_with_itself_or_its_twin(self):
        assert listed(hamming([1, 3, 3], [1, 4, 4], [0, 0, 2])) == [(3, 4, 0)]

    def test_nothing(self):
        pairs = hamming([], [], [])
        assert len(pairs) == 0
        assert len(pairs.at(3)) == 0
        assert len(pairs.moved(np.empty(0, int))) == 0

    @pytest.mark.parametrize(
        ("first", "second", "distance", "message"),
        [
            ([0], [1, 2], [1], "equally many"),
            ([-1], [1], [1], "count from 0, got -1"),
            ([0], [1], [6], "between 0 and the radius 5"),
            ([0], [1], [np.nan], "between 0 and the radius 5"),
        ],
    )
    def test_refused(self, first, second, distance, message):
        with pytest.raises(InputError, match=message):
            hamming(first, second, distance)

    @given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7), st.integers(0, 4)), max_size=14), st.randoms())
    @settings(max_examples=80)
    def test_order_and_sides_do_not_matter_and_nothing_is_lost(self, given_pairs, random):
        shuffled = [(b, a, d) if random.random() < 0.5 else (a, b, d) for a, b, d in given_pairs]
        random.shuffle(shuffled)
        sides = [list(side) for side in zip(*given_pairs, strict=True)] or [[], [], []]
        others = [list(side) for side in zip(*shuffled, strict=True)] or [[], [], []]
        pairs = hamming(*sides)
        assert listed(pairs) == listed(hamming(*others))
        raw = np.full((8, 8), np.inf)
        np.fill_diagonal(raw, 0)
        for a, b, d in given_pairs:
            raw[a, b] = raw[b, a] = min(raw[a, b], d)
        full = all_near(pairs, 8)
        assert (full <= raw).all()
        assert (full[raw == 0] == 0).all()


class TestCut:
    def test_thresholds_are_in_the_units_of_the_metric(self):
        pairs = hamming([0, 1, 2], [1, 2, 3], [1, 2, 5])
        assert listed(pairs.at(2)) == [(0, 1, 1), (1, 2, 2)]
        cosine = Pairs.of(
            np.array([0, 1]), np.array([1, 2]), np.array([0.02, 0.08]), metric="cosine", radius=0.1, limit=9
        )
        assert listed(cosine.at(0.95))[0][:2] == (0, 1)
        assert len(cosine.at(0.95)) == 1
        assert len(cosine.at(0.9)) == 2

    def test_a_threshold_on_a_distance_is_within(self):
        radius = distance_of(0.95, "cosine")
        cosine = Pairs.of(np.array([0]), np.array([1]), np.array([radius]), metric="cosine", radius=0.1, limit=9)
        assert len(cosine.at(0.95)) == 1
        assert len(cosine.at(0.951)) == 0

    def test_looser_is_refused(self):
        with pytest.raises(InputError, match=r"up to 5 \(bits\) and cannot tell of 6"):
            hamming([0], [1], [2]).at(6)
        with pytest.raises(InputError, match=r"up to 2 \(bits\)"):
            hamming([0], [1], [2]).at(2).at(3)
        cosine = Pairs.of(np.array([0]), np.array([1]), np.array([0.01]), metric="cosine", radius=0.1, limit=9)
        with pytest.raises(InputError, match=r"up to 0.9 \(cosine similarity\) and cannot tell of 0.08"):
            cosine.at(0.08)
        with pytest.raises(InputError, match="between -1 and 1, got 2"):
            cosine.at(2)


class TestJoined:
    def test_twins_of_both_parts_are_twins(self):
        joined = Pairs.concatenate([hamming([1, 1], [3, 5], [0, 2]), hamming([0, 4], [3, 5], [0, 1])])
        assert listed(joined) == [(0, 1, 0), (0, 3, 0), (4, 5, 1), (0, 5, 2)]

    def test_unlike_parts_are_refused(self):
        with pytest.raises(InputError, match="got hamming within 4; hamming within 5"):
            Pairs.concatenate([hamming([], [], []), hamming([], [], [], radius=4)])
        with pytest.raises(InputError, match="got none"):
            Pairs.concatenate([])

    def test_crowded_rows_of_both(self):
        joined = Pairs.concatenate([hamming([], [], [], crowded=[3, 1]), hamming([], [], [], crowded=[3, 8])])
        assert joined.crowded.tolist() == [1, 3, 8]
        assert "3 rows have more than 9 near ones" in str(joined)


class TestMoved:
    def test_an_heir_takes_over(self):
        pairs = hamming([0, 0, 0, 3], [1, 2, 3, 4], [0, 0, 2, 1], crowded=[0])
        moved = pairs.moved(np.array([-1, 6, 5, 0, 9]))  # 0 is gone, 1 and 2 were its twins
        assert listed(moved) == [(5, 6, 0), (0, 9, 1), (0, 5, 2)]
        assert moved.crowded.tolist() == [6]

    @given(
        st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7), st.integers(0, 3)), max_size=10),
        st.permutations(range(8)),
        st.sets(st.integers(0, 7)),
    )
    @settings(max_examples=60)
    def test_what_stays_stays_near(self, given_pairs, order, gone):
        sides = [list(side) for side in zip(*given_pairs, strict=True)] or [[], [], []]
        pairs, places = hamming(*sides), np.array(order)
        places[list(gone)] = -1
        stay = np.array([row for row in range(8) if row not in gone], int)
        before = all_near(pairs, 8)[np.ix_(stay, stay)]
        after = all_near(pairs.moved(places), 8)[np.ix_(places[stay], places[stay])]
        np.testing.assert_array_equal(before, after)

    def test_every_row_needs_a_place(self):
        with pytest.raises(InputError, match="got 3 places and a row 3"):
            hamming([0], [3], [1]).moved(np.arange(3))


class TestNearestPairs:
    @pytest.mark.parametrize("held", [1, 40, 10**6])
    def test_the_nearest_of_either_in_any_order(self, held, monkeypatch):
        monkeypatch.setattr("imagescape.audit.nearest_pairs._HELD", held)
        rng = np.random.default_rng(0)
        n, limit = 30, 4
        first, second = np.triu_indices(n, 1)
        distance = rng.integers(1, 6, len(first)).astype(np.float32)  # with many ties
        some = rng.random(len(first)) < 0.6
        first, second, distance = first[some], second[some], distance[some]
        expected, counts = set(), np.bincount(np.concatenate([first, second]), minlength=n)
        for row in range(n):
            mine = sorted(
                (d, b if a == row else a, (a, b))
                for a, b, d in zip(first.tolist(), second.tolist(), distance.tolist(), strict=True)
                if row in (a, b)
            )
            expected |= {pair for _, _, pair in mine[:limit]}
        for seed in range(3):
            nearest = NearestPairs(n, limit)
            for part in np.array_split(np.random.default_rng(seed).permutation(len(first)), 9):
                nearest.add(first[part], second[part], distance[part])
            kept = nearest.kept()
            assert set(zip(kept[0].tolist(), kept[1].tolist(), strict=True)) == expected
            assert len(kept[0]) == len(expected)
            np.testing.assert_array_equal(nearest.counts, counts)
            assert nearest.crowded.tolist() == np.flatnonzero(counts > limit).tolist()
