"""Clusterings beside each other: found again or not, and the spread over several."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from imagescape.errors import InputError
from imagescape.evaluate.comparison import Spread, compare_clusterings, mutual_agreement, spread_over
from imagescape.evaluate.contingency import agreement

#             4 rows of 1       3 of 2     2 of 6  noise
A = np.array([1, 1, 1, 1, 2, 2, 2, 6, 6, -1, -1])
B = np.array([0, 0, 0, 5, 5, 5, 5, -1, -1, 7, -1])


class TestTwo:
    def test_by_hand(self):
        found = compare_clusterings(A, B)
        assert found.table.groups_a == (1, 2, 6)
        assert found.table.groups_b == (0, 5, 7)
        assert_allclose(found.table.iou, [[3 / 4, 1 / 7, 0], [0, 3 / 4, 0], [0, 0, 0]])
        assert found.best_a.tolist() == [0, 1, -1]
        assert found.best_b.tolist() == [0, 1, -1]
        assert found.mean_iou_a == pytest.approx((4 * 0.75 + 3 * 0.75) / 9)
        assert found.mean_iou_b == pytest.approx((3 * 0.75 + 4 * 0.75) / 8)
        assert found.matching.tolist() == [0, 1, -1]
        assert found.agreement == agreement(A, B)
        assert found.agreement_covered == agreement(A[:7], B[:7])

    def test_a_cluster_is_matched_once_and_may_be_best_twice(self):
        a, b = np.array([0, 0, 1, 1]), np.zeros(4, int)
        found = compare_clusterings(a, b)
        assert found.best_a.tolist() == [0, 0]
        assert sorted(found.matching.tolist()) == [-1, 0]

    def test_exchanged(self):
        here, there = compare_clusterings(A, B), compare_clusterings(B, A)
        assert here.best_a.tolist() == there.best_b.tolist()
        assert here.mean_iou_a == there.mean_iou_b
        assert here.agreement.ari == pytest.approx(there.agreement.ari)
        assert here.agreement.homogeneity == pytest.approx(there.agreement.completeness)

    def test_the_same_under_other_names(self):
        found = compare_clusterings(A, np.array([0, 40, 30, 0, 0, 0, 20, -1])[A])
        assert (found.mean_iou_a, found.mean_iou_b, found.agreement.ari) == (1, 1, 1)

    def test_nothing_covered_by_both(self):
        found = compare_clusterings(np.array([0, -1]), np.array([-1, 0]))
        assert found.agreement_covered is None
        assert found.best_a.tolist() == [-1]
        assert found.mean_iou_a == 0

    def test_what_cannot_be_compared(self):
        with pytest.raises(InputError, match="got 11 and 2 rows"):
            compare_clusterings(A, np.array([0, 1]))
        with pytest.raises(InputError, match="every row is noise"):
            compare_clusterings(A, np.full(11, -1))


class TestSeveral:
    def test_mean_and_sd_of_a_sample(self):
        spreads = spread_over([{"acc": 0.5, "top": None, "far": 1.0}, {"acc": 0.7, "top": 1.0, "far": np.inf}])
        assert spreads["acc"].mean == pytest.approx(0.6)
        assert spreads["acc"].sd == pytest.approx(0.02**0.5)
        assert (spreads["top"], spreads["far"]) == (None, None)
        assert Spread.of([0.25]) == Spread(0.25, None)

    def test_agreement_over_all_pairs(self):
        rng = np.random.default_rng(0)
        three = [rng.integers(-1, 4, 50) for _ in range(3)]
        pairs = [agreement(three[i], three[j]).ari for i, j in ((0, 1), (0, 2), (1, 2))]
        found = mutual_agreement(three)["ari"]
        assert found.mean == pytest.approx(np.mean(pairs))
        assert found.sd == pytest.approx(np.std(pairs, ddof=1))

    def test_needs_two_of_the_same_rows(self):
        for several in ([A], [A, A[:3]]):
            with pytest.raises(InputError, match="two clusterings or more of the same rows"):
                mutual_agreement(several)
