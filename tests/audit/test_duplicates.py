"""Groups about centres: chains fall apart, clumps do not, and nobody is farther from the centre than was asked."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagescape.audit.duplicates import Duplicates
from imagescape.audit.pairs import Pairs
from imagescape.errors import InputError


def duplicates(rows, pairs, radius=9, metric="hamming"):
    first, second, distance = (np.array(side) for side in zip(*pairs, strict=True)) if pairs else 3 * (np.empty(0),)
    return Duplicates(rows, Pairs.of(first, second, distance, metric=metric, radius=radius, limit=99))


def lists(groups):
    return [group.tolist() for group in groups]


def by_the_rule(full, threshold):
    """Centres and members from the full matrix, as the rule is written: count again after every group."""
    left, groups = set(range(len(full))), []
    while left:
        near = {row: [other for other in left if full[row, other] <= threshold] for row in left}
        center = min(left, key=lambda row: (-len(near[row]), row))
        members = near[center]
        if full[center, members].tolist().count(0) == len(members) and len(members) == 1:
            left -= {center}
            continue
        groups.append([center, *sorted(set(members) - {center}, key=lambda row: (full[center, row], row))])
        left -= set(members)
    return sorted((group for group in groups), key=lambda group: (-len(group), group[0]))


class TestChains:
    def test_a_chain_of_four_is_cut(self):
        found = duplicates(5, [(0, 1, 2), (1, 2, 2), (2, 3, 2)])
        assert lists(found.at(2)) == [[1, 0, 2]]  # 3 is near none but 2, which belongs to 1
        assert found.components(2).tolist() == [0, 0, 0, 0, -1]

    def test_a_long_chain_falls_into_threes(self):
        found = duplicates(9, [(row, row + 1, 1) for row in range(8)])
        assert lists(found.at(1)) == [[1, 0, 2], [4, 3, 5], [7, 6, 8]]

    def test_the_middle_of_a_star_is_its_centre(self):
        found = duplicates(6, [(0, 4, 3), (1, 4, 1), (4, 5, 2)])
        groups = found.at(3)
        assert lists(groups) == [[4, 1, 5, 0]]
        assert groups.distances.tolist() == [0, 1, 2, 3]

    def test_twins_weigh_as_the_rows_they_are(self):
        # 3 is near 2; 2 is near 0, which has two twins: 0 and its twins are the larger part.
        found = duplicates(6, [(0, 1, 0), (0, 5, 0), (0, 2, 1), (2, 3, 1), (3, 4, 1)])
        assert lists(found.at(1)) == [[2, 0, 1, 3, 5]]
        assert lists(found.at(0)) == [[0, 1, 5]]

    def test_a_long_chain_in_order_is_fast(self):
        n = 300_000
        rows = np.arange(n - 1)
        chain = Pairs.of(rows, rows + 1, np.ones(n - 1), metric="hamming", radius=1, limit=9)
        assert len(Duplicates(n, chain).at(1)) == n // 3


class TestCuts:
    def test_again_at_other_thresholds(self):
        found = duplicates(5, [(0, 1, 0), (1, 2, 3), (3, 4, 5)])
        assert lists(found.at(0)) == [[0, 1]]
        assert lists(found.at(3)) == [[0, 1, 2]]
        assert lists(found.at(5)) == [[0, 1, 2], [3, 4]]
        assert found.profile([0, 3, 5]) == [(0, 1, 2, 2), (3, 1, 3, 3), (5, 2, 5, 3)]

    def test_cosine_by_similarity(self):
        found = duplicates(4, [(0, 1, 0.02), (2, 3, 0.08)], radius=0.1, metric="cosine")
        assert lists(found.at(0.95)) == [[0, 1]]
        assert lists(found.at(0.9)) == [[0, 1], [2, 3]]
        with pytest.raises(InputError, match=r"cannot tell of 0\.85"):
            found.at(0.85)

    def test_looser_than_searched_is_refused(self):
        with pytest.raises(InputError, match=r"up to 9 .* cannot tell of 10"):
            duplicates(3, [(0, 1, 2)]).at(10)

    def test_nothing_near(self):
        found = duplicates(3, [])
        assert len(found.at(9)) == 0
        assert found.components(9).tolist() == [-1, -1, -1]
        assert str(found) == "0 pairs of rows up to 9 (bits) among 3 rows"

    def test_a_row_there_is_not(self):
        with pytest.raises(InputError, match="pairs of 3 rows cannot name row 3"):
            duplicates(3, [(0, 3, 2)])


@given(st.integers(0, 10**6), st.integers(2, 14), st.sampled_from([2, 4]))
@settings(max_examples=100)
def test_the_rule_by_loops(seed, n, bits):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 2, (n, bits * 2))
    full = np.abs(codes[:, None] - codes).sum(axis=2)
    pairs = [(a, b, full[a, b]) for a in range(n) for b in range(a) if full[a, b] <= 3]
    found = duplicates(n, pairs, radius=3)
    for threshold in (0, 1, 2, 3):
        groups = found.at(threshold)
        expected = by_the_rule(full, threshold)
        assert sorted(map(sorted, lists(groups))) == sorted(map(sorted, expected))
        for position, group in enumerate(groups):
            here = slice(groups.starts[position], groups.starts[position + 1])
            assert full[group[0], group].tolist() == groups.distances[here].tolist()
            assert (groups.distances[here] <= threshold).all()
