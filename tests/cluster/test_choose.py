"""The choice of k: known ones are found, figures against oracles, ranges, and what is refused."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import silhouette_score

from imagescape.cluster.choose import Candidate, Choice, _ranked, _Sweep, choose_k
from imagescape.errors import InputError
from tests.cluster.blobs import blobs


@pytest.mark.parametrize("k", [3, 8])
def test_the_number_that_is_there_comes_first(k):
    rows, _ = blobs([40 + 5 * number for number in range(k)], d=10, apart=12)
    choice = choose_k(rows, ks=range(2, 13), resamples=3, seed=0)
    assert choice.k == k
    assert k in choice.plausible
    best = choice.candidates[0]
    assert best.stability > 0.99
    assert best.score == pytest.approx(1, abs=0.01)


def test_figures_are_those_of_scikit_learn():
    rows = np.random.default_rng(0).normal(0, 1, (120, 4))
    choice = choose_k(rows, ks=[2, 5, 9], resamples=2, seed=0)
    for one in choice.candidates:
        labels = AgglomerativeClustering(one.k).fit_predict(rows)
        assert one.silhouette == pytest.approx(silhouette_score(rows, labels), abs=1e-5)
        shares = np.bincount(labels) / 120
        assert one.effective_k == pytest.approx(math.exp(-sum(p * math.log(p) for p in shares)))
        assert -1 <= one.stability < 0.9  # there is nothing to be found
        assert one.silhouette == pytest.approx(one.groupless_silhouette, abs=0.1)


def candidate(k, score, **figures):
    usual = {
        "silhouette": 0.5, "stability": 0.8, "stability_sd": 0.06, "groupless_silhouette": 0.1,
        "groupless_stability": 0.2, "effective_k": 2.0,
    }  # fmt: skip
    return Candidate(k=k, score=score, **(usual | figures))


def test_the_plausible_are_hardly_less_than_the_best():
    # An sd of 0.06 of a gain of 0.6 is a tenth of the score.
    candidates = (candidate(4, 1.0), candidate(3, 0.92), candidate(9, 0.88, stability_sd=0.5))
    choice = Choice(candidates, rows=100, total=200, resamples=4)
    assert (choice.k, choice.plausible) == (4, (3, 4))
    assert "plausible: 3, 4" in str(choice)
    assert choice.as_dict()["ranked"][1]["k"] == 3
    assert choice.finds_groups


def test_scores_worked_by_hand():
    found = _Sweep((2, 3), np.array([0.5, 0.3]), np.array([[0.8, 1.0], [0.6, 0.6]]), np.array([2.0, 3.0]))
    without = _Sweep((2, 3), np.array([0.4, 0.1]), np.array([[0.6, 0.6], [0.1, 0.3]]), np.array([2.0, 3.0]))
    # Gains of silhouette 0.1 and 0.2, of stability 0.3 and 0.4: scores 1/2 * 3/4, and 1.
    best, other = _ranked(found, without)
    assert (best.k, best.score) == (3, pytest.approx(1))
    assert (other.k, other.score) == (2, pytest.approx(0.375))
    assert other.stability_sd == pytest.approx(np.std([0.8, 1.0], ddof=1))


def test_a_long_cloud_has_no_groups_though_its_halves_are_stable():
    rows = np.random.default_rng(0).normal(0, 1, (400, 5)) * [9, 3, 1, 1, 1]
    choice = choose_k(rows, ks=[2, 3, 4, 6], resamples=4, seed=0)
    by_k = {one.k: one for one in choice.candidates}
    assert by_k[2].stability > 0.5
    assert abs(by_k[2].silhouette - by_k[2].groupless_silhouette) < 0.05
    nothing = (candidate(2, 0.0, stability=0.1),)
    assert not Choice(nothing, rows=9, total=9, resamples=2).finds_groups
    assert "a cloud without groups" in str(Choice(nothing, rows=9, total=9, resamples=2))


def test_very_many_rows_are_sampled_and_the_seed_settles_it():
    rows, _ = blobs([300, 200, 100])
    a, b, c = (choose_k(rows, ks=[2, 3, 4], max_rows=90, resamples=2, seed=seed) for seed in (0, 0, 1))
    assert (a.rows, a.total) == (90, 600)
    assert a == b
    assert a != c
    assert a.k == 3


def test_directions_and_bits():
    rng = np.random.default_rng(0)
    rows, _ = blobs([30, 30, 30], apart=15)
    longer = rows * rng.uniform(0.2, 20, (90, 1))
    assert choose_k(longer, ks=[2, 3, 4], metric="cosine", resamples=2).k == 3
    kinds = rng.integers(0, 256, (4, 8), dtype=np.uint8)
    packed = kinds[rng.integers(0, 4, 120)] ^ np.packbits(rng.random((120, 64)) < 0.05, axis=1)
    assert choose_k(packed, ks=[2, 3, 4, 5], metric="hamming", resamples=2).k == 4


def test_progress_is_told():
    done = []
    choose_k(np.random.default_rng(0).normal(0, 1, (30, 2)), ks=[2, 3], resamples=2, advance=done.append)
    assert sum(done) == 10


def test_the_usual_numbers():
    choice = choose_k(np.random.default_rng(0).normal(0, 1, (60, 2)), resamples=2)
    assert sorted(one.k for one in choice.candidates) == [2, 3, 4, 5, 6]
    assert_allclose(max(one.score for one in choice.candidates), choice.candidates[0].score)


@pytest.mark.parametrize(
    ("rows", "settings", "message"),
    [
        (np.eye(3), {}, "at least 4 rows that are not all equal, got 3"),
        (np.ones((9, 2)), {}, "not all equal"),
        (np.eye(9), {"ks": [9]}, "at most the 8 leaves"),
        (np.eye(9), {"ks": []}, "got none"),
        (np.eye(9), {"ks": [1]}, "at least 2, got 1"),
        (np.eye(9), {"resamples": 1}, "resamples must be a whole number of at least 2"),
        (np.full((9, 2), np.nan), {}, "must be finite"),
    ],
)
def test_what_cannot_be_chosen_from_is_refused(rows, settings, message):
    with pytest.raises(InputError, match=message):
        choose_k(rows, **settings)
