"""Nearest neighbours against every distance written out, in both engines."""

import numpy as np
import pytest

from imagescape.errors import InputError
from imagescape.evaluate import neighbors
from imagescape.evaluate.neighbors import nearest, nearest_among, nearest_others


def by_loops(corpus, queries, k, metric, own=None):
    indices, distances = [], []
    for q, query in enumerate(queries.astype(np.float64)):
        row = []
        for c, item in enumerate(corpus.astype(np.float64)):
            if own is not None and own[q] == c:
                continue
            if metric == "euclidean":
                row.append((np.sqrt(((query - item) ** 2).sum()), c))
            else:
                row.append((1 - query @ item / np.sqrt((query @ query) * (item @ item)), c))
        row.sort()
        indices.append([c for _, c in row[:k]])
        distances.append([d for d, _ in row[:k]])
    return np.array(indices), np.array(distances)


@pytest.fixture(params=["one block", "many blocks"])
def blocks(request, monkeypatch):
    if request.param == "many blocks":
        monkeypatch.setattr(neighbors, "_BLOCK_ENTRIES", 200)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("width", [2, 7], ids=["tree", "products"])
@pytest.mark.usefixtures("blocks")
class TestAgainstLoops:
    def test_the_corpus_itself_as_queries_finds_itself(self, metric, width):
        rows = np.random.default_rng(0).normal(5, 1, (60, width))
        found = nearest(rows, rows, 2, metric=metric)
        np.testing.assert_array_equal(found.indices, by_loops(rows, rows, 2, metric)[0])
        np.testing.assert_array_equal(found.indices[:, 0], np.arange(60))

    def test_queries_elsewhere(self, metric, width):
        rng = np.random.default_rng(0)
        corpus, queries = rng.normal(5, 1, (60, width)), rng.normal(5, 1, (17, width))
        found = nearest(corpus, queries, 6, metric=metric)
        indices, distances = by_loops(corpus, queries, 6, metric)
        np.testing.assert_array_equal(found.indices, indices)
        np.testing.assert_allclose(found.distances, distances, atol=2e-6)

    def test_rows_among_the_others(self, metric, width):
        corpus = np.random.default_rng(1).normal(size=(40, width))
        rows = np.array([3, 39, 0])
        found = nearest_others(corpus, 5, rows=rows, metric=metric)
        indices, distances = by_loops(corpus, corpus[rows], 5, metric, own=rows)
        np.testing.assert_array_equal(found.indices, indices)
        np.testing.assert_allclose(found.distances, distances, atol=2e-6)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.usefixtures("blocks")
class TestAmong:
    def test_all_others_as_candidates_are_the_nearest_others(self, metric):
        x = np.random.default_rng(3).normal(2, 1, (50, 7))
        others = np.array([np.random.default_rng(row).permutation(np.delete(np.arange(50), row)) for row in range(50)])
        found, expected = nearest_among(x, others, 6, metric=metric), nearest_others(x, 6, metric=metric)
        np.testing.assert_array_equal(found.indices, expected.indices)
        np.testing.assert_allclose(found.distances, expected.distances, atol=2e-6)

    def test_only_candidates_are_found(self, metric):
        x = np.random.default_rng(4).normal(2, 1, (50, 7))
        candidates = np.stack([(np.arange(50) + shift) % 50 for shift in (1, 7, 20)], axis=1)
        found = nearest_among(x, candidates, 2, metric=metric)
        for row in range(50):
            indices, distances = by_loops(x[candidates[row]], x[[row]], 2, metric)
            np.testing.assert_array_equal(found.indices[row], candidates[row][indices[0]])
            np.testing.assert_allclose(found.distances[row], distances[0], atol=2e-6)


@pytest.mark.parametrize(("candidates", "k"), [((4, 3), 2), ((5, 3), 4), ((5,), 1), ((5, 3), 0)])
def test_too_few_candidates(candidates, k):
    with pytest.raises(InputError, match="candidates each"):
        nearest_among(np.eye(5), np.zeros(candidates, np.int64), k)


@pytest.mark.parametrize("width", [2, 7], ids=["tree", "products"])
class TestEdges:
    def test_every_row_finds_all_others_and_never_itself(self, width):
        x = np.random.default_rng(2).normal(size=(12, width))
        found = nearest_others(x, 11)
        for row in range(12):
            assert sorted(found.indices[row]) == [other for other in range(12) if other != row]

    def test_many_identical_rows_still_exclude_oneself(self, width):
        found = nearest_others(np.zeros((30, width)), 5)
        assert not (found.indices == np.arange(30)[:, None]).any()
        assert (found.distances == 0).all()

    def test_far_from_the_origin_nothing_is_lost_to_rounding(self, width):
        rng = np.random.default_rng(3)
        x = rng.normal(size=(50, width)) * 1e-2
        there = nearest_others(x + 300.0, 5)
        np.testing.assert_allclose(there.distances, nearest_others(x, 5).distances, atol=1e-4)

    def test_half_precision_is_accepted(self, width):
        x = np.random.default_rng(4).normal(size=(20, width)).astype(np.float16)
        np.testing.assert_array_equal(nearest_others(x, 3).indices, nearest_others(x.astype(np.float64), 3).indices)

    def test_no_queries(self, width):
        assert nearest(np.zeros((4, width)), np.zeros((0, width)), 2).indices.shape == (0, 2)

    def test_a_row_that_is_not_finite_is_named(self, width):
        x = np.zeros((4, width))
        x[2, 1] = np.nan
        with pytest.raises(InputError, match="row 2 is not"):
            nearest_others(x, 1)

    @pytest.mark.parametrize("k", [0, 4])
    def test_k_out_of_range(self, width, k):
        with pytest.raises(InputError, match=rf"between 1 and the 3 rows.*got {k}"):
            nearest_others(np.zeros((4, width)), k)


def test_equally_near_rows_come_in_their_order():
    assert nearest(np.ones((6, 5)), np.zeros((1, 5)), 3).indices.tolist() == [[0, 1, 2]]
    assert nearest(np.ones((4, 2)), np.zeros((1, 2)), 3).indices.tolist() == [[0, 1, 2]]


def test_near_twins_are_told_apart_among_large_vectors():
    x = np.full((3, 64), 1000.0, np.float32)
    x[1, 0] += 0.01
    x[2, 0] += 0.03
    x = np.concatenate([x, np.random.default_rng(0).normal(0, 1000, (200, 64)).astype(np.float32)])
    found = nearest_others(x, 2, rows=np.array([0, 2]))
    assert found.indices.tolist() == [[1, 2], [1, 0]]


def test_unequal_widths_and_wrong_metric():
    with pytest.raises(InputError, match="same width, got 2 and 3"):
        nearest(np.zeros((4, 2)), np.zeros((4, 3)), 1)
    with pytest.raises(InputError, match="'euclidean' or 'cosine', got 'manhattan'"):
        nearest(np.zeros((4, 2)), np.zeros((4, 2)), 1, metric="manhattan")
