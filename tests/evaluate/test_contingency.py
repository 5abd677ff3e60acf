"""Rows in common, one-to-one pairs and agreement: by hand, by counting all pairs, by trying all permutations."""

from itertools import combinations, permutations
from math import log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from imagescape.errors import InputError
from imagescape.evaluate import contingency as contingency_module
from imagescape.evaluate.contingency import agreement, as_clusters, contingency, one_to_one

A = np.array([1, 1, 1, 5, 5, -1, 5, -1])
B = np.array([0, 0, 3, 3, -1, 0, 3, -1])


def entropy(counts):
    return -sum(count / sum(counts) * log(count / sum(counts)) for count in counts if count)


def mutual_information(a, b):
    n = len(a)
    total = 0.0
    for x in set(a):
        for y in set(b):
            both = sum(1 for i in range(n) if a[i] == x and b[i] == y)
            if both:
                total += both / n * log(n * both / (a.count(x) * b.count(y)))
    return total


def agreement_by_loops(a, b):
    """Every figure from its definition; what chance gives, by trying every permutation."""
    h_a, h_b = (entropy([side.count(one) for one in set(side)]) for side in (a, b))
    shared = mutual_information(a, b)
    chance = np.mean([mutual_information(list(one), b) for one in permutations(a)])
    pairs = [(a[i] == a[j], b[i] == b[j]) for i, j in combinations(range(len(a)), 2)]
    both, in_a, in_b = (sum(f(*pair) for pair in pairs) for f in (lambda x, y: x and y, lambda x, _: x, lambda _, y: y))
    by_chance = in_a * in_b / len(pairs)
    return {
        "nmi": 2 * shared / (h_a + h_b),
        "ami": (shared - chance) / ((h_a + h_b) / 2 - chance),
        "ari": (both - by_chance) / ((in_a + in_b) / 2 - by_chance),
        "homogeneity": shared / h_b,
        "completeness": shared / h_a,
        "v_measure": 2 * shared / (h_a + h_b),
    }


class TestContingency:
    def test_by_hand(self):
        table = contingency(A, B)
        assert (table.groups_a, table.groups_b) == ((1, 5), (0, 3))
        assert table.counts.tolist() == [[2, 1], [0, 2]]
        assert table.ungrouped_b.tolist() == [0, 1]
        assert table.ungrouped_a.tolist() == [1, 0]
        assert table.ungrouped == 1
        assert table.rows == 8
        assert (table.sizes_a.tolist(), table.sizes_b.tolist()) == ([3, 3], [3, 3])
        assert_allclose(table.iou, [[2 / 4, 1 / 5], [0, 2 / 4]])
        assert table.assignment().tolist() == [0, 1]

    def test_groups_may_have_any_names(self):
        table = contingency(A, ["cat", "cat", "dog", "dog", None, "cat", "dog", None])
        assert table.groups_b == ("cat", "dog")
        assert table.counts.tolist() == contingency(A, B).counts.tolist()

    @given(st.integers(0, 2**32 - 1))
    @settings(max_examples=30)
    def test_against_counting(self, seed):
        rng = np.random.default_rng(seed)
        a, b = rng.integers(-1, 4, 30), rng.integers(-1, 3, 30)
        a[:2], b[:2] = 0, 2
        table = contingency(a, b)
        sets_a = [set(np.flatnonzero(a == one)) for one in table.groups_a]
        sets_b = [set(np.flatnonzero(b == one)) for one in table.groups_b]
        for i, x in enumerate(sets_a):
            assert table.sizes_a[i] == len(x)
            for j, y in enumerate(sets_b):
                assert table.counts[i, j] == len(x & y)
                assert table.iou[i, j] == len(x & y) / len(x | y)
        assert table.rows == 30

    def test_what_has_no_table(self, monkeypatch):
        with pytest.raises(InputError, match="same rows are needed, got 8 and 7"):
            contingency(A, B[:7])
        with pytest.raises(InputError, match="a group at least, got 0 and 2"):
            contingency(np.full(8, -1), B)
        monkeypatch.setattr(contingency_module, "_MOST_CELLS", 5)
        with pytest.raises(InputError, match="a table of 2 by 3 groups does not fit"):
            contingency([0, 1, 1], [0, 1, 2])


class TestOneToOne:
    @pytest.mark.parametrize("shape", [(3, 3), (2, 4), (5, 2), (1, 3)])
    def test_no_pairing_is_worth_more(self, shape):
        rng = np.random.default_rng(0)
        for _ in range(20):
            worth = rng.integers(0, 9, shape)
            found = one_to_one(worth)
            paired = np.flatnonzero(found >= 0)
            assert len(set(found[paired])) == len(paired)
            tall = worth if shape[0] >= shape[1] else worth.T
            best = max(
                sum(tall[row, column] for column, row in enumerate(rows))
                for rows in permutations(range(len(tall)), tall.shape[1])
            )
            assert worth[paired, found[paired]].sum() == best

    def test_what_is_worth_nothing_is_no_pair(self):
        assert one_to_one(np.array([[3, 0], [2, 0]])).tolist() == [0, -1]


class TestAgreement:
    @pytest.mark.parametrize(
        ("a", "b"),
        [
            ([0, 0, 1, 1, 2, 2], [0, 0, 0, 1, 1, 1]),
            ([0, 1, 1, 1, 2, 0], [5, 5, 1, 1, 1, 5]),
            ([0, 0, 1, -1, -1, 1], [0, 0, 1, 1, 0, 1]),
        ],
        ids=str,
    )
    def test_against_the_definitions(self, a, b):
        measured = agreement(np.array(a), np.array(b)).as_dict()
        for name, expected in agreement_by_loops(a, b).items():
            assert measured[name] == pytest.approx(expected, abs=1e-9), name

    def test_the_same_under_other_names_is_1(self):
        measured = agreement(np.array([3, 3, 0, 7, 7]), np.array([0, 0, 1, 2, 2]))
        assert_allclose(list(measured.as_dict().values()), 1)

    def test_one_cluster_knows_nothing_of_two_classes(self):
        measured = agreement(np.zeros(6, int), np.array([0, 0, 0, 1, 1, 1]))
        assert (measured.nmi, measured.ami, measured.ari, measured.homogeneity) == (0, 0, 0, 0)
        assert measured.completeness == 1

    def test_one_label_a_row_is_no_agreement(self):
        """Homogeneous by chance alone: the corrected figures see it."""
        measured = agreement(np.arange(12), np.arange(12) % 3)
        assert measured.homogeneity == pytest.approx(1)
        assert (measured.ami, measured.ari) == (pytest.approx(0, abs=1e-9), 0)

    def test_other_rows(self):
        with pytest.raises(InputError, match="same rows are needed, got 3 and 2"):
            agreement(np.arange(3), np.arange(2))


def test_labels_of_clusters():
    assert as_clusters([0, -1, 5]).dtype == np.int64
    assert as_clusters(np.array([3, 0], np.uint8)).tolist() == [3, 0]
    for labels, message in (([0, -3], "0 or more, or -1 for noise, got -3"), ([0.5], "one whole number a row")):
        with pytest.raises(InputError, match=message):
            as_clusters(labels)
