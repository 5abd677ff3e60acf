"""Figures of a search against scikit-learn, loops, and values worked by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, precision_recall_curve

from imagescape.errors import InputError
from imagescape.evaluate.retrieval import Estimate, measure, ranks_of_truth

# Four queries, three results each; the last matches nothing, the third is not found.
IDS = np.array([[1, 2, 3], [7, 2, -1], [4, 5, 6], [8, 9, 1]])
DISTANCES = np.array([[0.1, 0.5, 0.9], [0.3, 0.4, np.inf], [0.2, 0.6, 0.7], [0.35, 0.8, 0.95]])
TRUTH = np.array([1, 2, 9, -1])


@pytest.fixture
def search():
    """300 queries with 8 results each, half of them with distances that tie: (ids, distances, truth)."""
    rng = np.random.default_rng(3)
    ids = np.stack([rng.permutation(40)[:8] for _ in range(300)])
    distances = np.sort(rng.normal(size=(300, 8)).round(1), axis=1)
    truth = np.where(rng.random(300) < 0.2, -1, ids[np.arange(300), rng.integers(0, 8, 300)])
    easy = slice(0, 120)
    truth[easy] = ids[easy, 0]
    distances[easy, 0] -= 1.5
    return ids, distances, truth


def loops(ids, distances, truth):
    """Micro average precision, and recall and distance at 90 % precision, by counting at every threshold."""
    pairs = [
        (distances[i, j], ids[i, j] == truth[i]) for i in range(len(ids)) for j in range(ids.shape[1]) if ids[i, j] >= 0
    ]
    total = sum(one != -1 for one in truth)
    average, last, best = 0.0, 0.0, (0.0, None)
    for threshold in sorted({distance for distance, _ in pairs}):
        accepted = [match for distance, match in pairs if distance <= threshold]
        precision, recall = sum(accepted) / len(accepted), sum(accepted) / total
        average += precision * (recall - last)
        last = recall
        if precision >= 0.9 and recall > best[0]:
            best = recall, threshold
    return average, *best


class TestByHand:
    def test_ranks(self):
        assert ranks_of_truth(IDS, TRUTH).tolist() == [1, 2, 0, 0]

    def test_missing_results_match_no_query_that_matches_nothing(self):
        assert ranks_of_truth(np.array([[-1, -1]]), np.array([-1])).tolist() == [0]

    def test_recall(self):
        figures = measure(IDS, DISTANCES, TRUTH, ks=(3, 1, 2), resamples=0)
        assert {k: one.value for k, one in figures.overall.at.items()} == pytest.approx({1: 1 / 3, 2: 2 / 3, 3: 2 / 3})
        assert (figures.overall.queries, figures.matching, figures.queries) == (3, 3, 4)

    def test_average_precision(self):
        """In order of distance: 0.1 match, 0.2, 0.3, 0.35, 0.4 match: 1/3 of the recall at 1/1 and 1/3 at 2/5."""
        figures = measure(IDS, DISTANCES, TRUTH, ks=(1,), resamples=0)
        assert figures.average_precision.value == pytest.approx((1 + 2 / 5) / 3)

    def test_recall_at_precision(self):
        figures = measure(IDS, DISTANCES, TRUTH, ks=(1,), resamples=0)
        assert (figures.recall_at_precision.value, figures.distance_at_precision) == (pytest.approx(1 / 3), 0.1)

    def test_nine_of_ten_are_precise_enough_and_the_threshold_is_the_nearest(self):
        """Nine matches, a miss, nothing more: 90 % at the tenth too, but the ninth gives the same recall."""
        ids = np.arange(10)[:, None]
        distances = np.arange(10.0)[:, None]
        truth = np.append(np.arange(9), -1)
        figures = measure(ids, distances, truth, ks=(1,), resamples=0)
        assert (figures.recall_at_precision.value, figures.distance_at_precision) == (1, 8)
        behind = measure(ids, distances[::-1] * -1.0, truth, ks=(1,), resamples=0)  # negative distances are distances
        assert behind.distance_at_precision == -1

    def test_a_miss_in_front_is_forgiven_once_nine_matches_follow(self):
        ids, distances = np.arange(10)[:, None], np.arange(10.0)[:, None]
        truth = np.append(-1, np.arange(1, 10))
        figures = measure(ids, distances, truth, ks=(1,), resamples=0)
        assert (figures.recall_at_precision.value, figures.distance_at_precision) == (1, 9)
        assert measure(ids[:9], distances[:9], truth[:9], ks=(1,)).distance_at_precision is None

    def test_equal_distances_are_accepted_together(self):
        figures = measure(np.array([[1], [2]]), np.zeros((2, 1)), np.array([1, 3]), ks=(1,), resamples=0)
        assert figures.average_precision.value == 0.25  # half the recall, at a precision of a half
        assert figures.recall_at_precision.value == 0

    def test_groups(self):
        figures = measure(
            IDS, DISTANCES, TRUTH, ks=(1, 3), families=["a", "a", "b", "c"], kinds=["a1", "a2", "b1", "c1"], resamples=0
        )
        assert {name: (one.at[1].value, one.at[3].value, one.queries) for name, one in figures.by_family.items()} == {
            "a": (0.5, 1.0, 2),
            "b": (0.0, 0.0, 1),
        }
        assert list(figures.by_kind) == ["a1", "a2", "b1"]


class TestOracles:
    def test_loops(self, search):
        figures = measure(*search, ks=(1,), resamples=0)
        average, recall, distance = loops(*search)
        assert 0 < recall < 1
        assert figures.average_precision.value == pytest.approx(average)
        assert (figures.recall_at_precision.value, figures.distance_at_precision) == (pytest.approx(recall), distance)

    def test_scikit_learn(self, search):
        ids, distances, truth = search
        ids = np.where(np.arange(8) < 5, ids, -1)  # so that some matches are not found at all
        distances = np.where(ids < 0, np.inf, distances)
        kept = ids >= 0
        is_match = (ids == truth[:, None])[kept]
        share = is_match.sum() / (truth >= 0).sum()
        assert share < 0.9
        figures = measure(ids, distances, truth, ks=(1,), resamples=0)
        expected = average_precision_score(is_match, -distances[kept]) * share
        assert figures.average_precision.value == pytest.approx(expected)
        precision, recall, _ = precision_recall_curve(is_match, -distances[kept])
        assert figures.recall_at_precision.value == pytest.approx(recall[precision >= 0.9].max() * share)

    def test_recall_is_a_mean_over_loops(self, search):
        ids, distances, truth = search
        figures = measure(ids, distances, truth, ks=(1, 4), resamples=0)
        for k in (1, 4):
            hits = [truth[i] in ids[i, :k] for i in range(len(ids)) if truth[i] != -1]
            assert figures.overall.at[k].value == pytest.approx(np.mean(hits))

    @settings(max_examples=60)
    @given(st.data())
    def test_properties(self, data):
        n, k = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 5))
        rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
        ids = np.stack([rng.permutation(8)[:k] for _ in range(n)])
        distances = np.sort(rng.integers(0, 6, (n, k)), axis=1).astype(np.float64)
        truth = rng.integers(-1, 8, n)
        truth[0] = ids[0, 0]
        figures = measure(ids, distances, truth, ks=range(1, k + 1), resamples=0)
        recalls = [figures.overall.at[one].value for one in range(1, k + 1)]
        assert recalls == sorted(recalls)
        assert 0 <= figures.average_precision.value <= recalls[-1] + 1e-12
        assert 0 <= figures.recall_at_precision.value <= recalls[-1] + 1e-12
        order = rng.permutation(n)
        again = measure(ids[order], distances[order] * 3 + 1, truth[order], ks=(1,), resamples=0)
        assert again.average_precision.value == pytest.approx(figures.average_precision.value)
        assert again.recall_at_precision.value == pytest.approx(figures.recall_at_precision.value)


class TestIntervals:
    def test_they_are_those_of_drawing_originals(self):
        """Twenty originals of 30 queries, all of an original alike: the width is that of 20 draws, not of 600."""
        truth = np.repeat(np.arange(20), 30)
        ids = np.where(truth < 10, truth, 99)[:, None]
        figures = measure(ids, np.ones((600, 1)), truth, ks=(1,), resamples=2000)
        one = figures.overall.at[1]
        expected = 1.96 * np.sqrt(0.25 / 20)
        assert one.low < 0.5 < one.high
        assert (one.high - one.low) / 2 == pytest.approx(expected, rel=0.15)

    def test_queries_on_their_own_are_a_binomial(self):
        rng = np.random.default_rng(0)
        truth = np.arange(500)
        ids = np.where(rng.random(500) < 0.8, truth, 999)[:, None]
        one = measure(ids, np.ones((500, 1)), truth, ks=(1,), resamples=2000).overall.at[1]
        assert (one.high - one.low) / 2 == pytest.approx(1.96 * np.sqrt(one.value * (1 - one.value) / 500), rel=0.12)

    def test_queries_that_match_nothing_are_drawn_by_what_they_were_made_from(self):
        """One foreign original gives every false accept: a draw has all of them or none."""
        truth = np.append(np.arange(40), np.full(40, -1))
        ids, distances = np.arange(80)[:, None], np.append(np.full(40, 2.0), np.full(40, 1.0))[:, None]
        alone = measure(ids, distances, truth, ks=(1,)).average_precision
        together = measure(ids, distances, truth, ks=(1,), originals=np.append(truth[:40], [77] * 40)).average_precision
        assert alone.value == together.value == pytest.approx(0.5)
        assert together.high == 1  # a third of the draws leave it out
        assert alone.high < 0.65

    def test_same_seed_same_interval(self, search):
        assert measure(*search, ks=(1,), resamples=99) == measure(*search, ks=(1,), resamples=99)
        assert measure(*search, ks=(1,), resamples=99) != measure(*search, ks=(1,), resamples=99, seed=2)

    def test_no_interval_of_one_original(self):
        figures = measure(IDS, DISTANCES, TRUTH, ks=(1,), families=["a", "a", "b", "c"])
        assert figures.by_family["b"].at[1] == Estimate(0.0)
        assert figures.by_family["a"].at[1].low is not None
        assert measure(IDS[:1], DISTANCES[:1], TRUTH[:1], ks=(1,)).average_precision == Estimate(1.0)
        assert measure(IDS, DISTANCES, TRUTH, ks=(1,), resamples=0).overall.at[1] == Estimate(1 / 3)


class TestBadInput:
    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"truth": np.full(4, -1)}, "at least one query whose original"),
            ({"truth": TRUTH[:3]}, r"truth \(queries,\)"),
            ({"ids": IDS[:, :2]}, "must be"),
            ({"distances": DISTANCES[:, ::-1]}, "ascend"),
            ({"distances": np.where(DISTANCES == 0.5, np.nan, DISTANCES)}, "NaN"),
            ({"distances": np.where(DISTANCES == 0.9, np.inf, DISTANCES)}, "finite"),
            ({"ids": np.where(IDS == 3, 2, IDS)}, "twice"),
            ({"ks": (0,)}, "between 1 and the 3"),
            ({"ks": (4,)}, "between 1 and the 3"),
            ({"ks": ()}, "between 1 and the 3"),
            ({"families": ["a"]}, "families must have one entry a query, got 1 for 4"),
            ({"originals": np.arange(5)}, "originals"),
            ({"resamples": -1}, "resamples"),
        ],
    )
    def test_it_is_said(self, change, words):
        given = {"ids": IDS, "distances": DISTANCES, "truth": TRUTH, "ks": (1,)} | change
        with pytest.raises(InputError, match=words):
            measure(given.pop("ids"), given.pop("distances"), given.pop("truth"), **given)
