"""The combination against methods that fail in different places, and the promises of its curves."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from sklearn.linear_model import LogisticRegression

from imagescape.errors import CheckpointError, InputError
from imagescape.evaluate.retrieval import measure
from imagescape.search import combined
from imagescape.search.combined import Calibration, Combined, Curve, Evidence, Method, cross_fitted, fit_combined
from imagescape.search.index import Found, build_index

METRICS = ["euclidean", "cosine", "inner_product", "manhattan", "jensen_shannon", "hamming"]
SCIPY = {"manhattan": "cityblock", "jensen_shannon": "jensenshannon"}


def distances_of(a, b, metric):
    """All distances by SciPy and by counting bits."""
    if metric == "hamming":
        return np.unpackbits(a[:, None] ^ b[None], axis=2).sum(axis=2).astype(np.float64)
    if metric == "inner_product":
        return -(a.astype(np.float64) @ b.T.astype(np.float64))
    bits = np.sqrt(np.log(2)) if metric == "jensen_shannon" else 1.0
    return cdist(a.astype(np.float64), b.astype(np.float64), SCIPY.get(metric, metric)) / bits


class Brute:
    """An index that compares with everything."""

    def __init__(self, vectors, ids, metric="euclidean"):
        self.vectors, self.known, self.metric, self.vector_bytes = vectors, ids, metric, vectors[0].nbytes
        self.search_width = None

    def __len__(self):
        return len(self.known)

    def search(self, queries, k, *, among=None):
        distances = distances_of(queries, self.vectors, self.metric)
        order = np.argsort(distances, axis=1, kind="stable")[:, :k]
        return Found(self.known[order], np.take_along_axis(distances, order, 1).astype(np.float32))


def world(seed, noise, *, rows=300, count=400, width=12):
    """Pictures as two methods see them, and altered copies of them.

    Args:
        noise: For each family, how much of what each of the two methods sees of an altered copy is noise, in [0, 1].

    Returns:
        (methods, queries, truth, originals, family of each query); one original in eight is not in the database.
    """
    rng = np.random.default_rng(seed)
    ids = rng.permutation(10**6)[:rows].astype(np.int64)
    source, family = rng.integers(0, rows, count), rng.integers(0, len(noise), count)
    absent = np.arange(rows) % 8 == 0
    methods, queries = {}, {}
    for place, name in enumerate(("hash", "net")):
        seen = rng.normal(size=(rows, width))
        share = np.array([one[place] for one in noise])[family][:, None]
        altered = np.sqrt(1 - share**2) * seen[source] + share * rng.normal(size=(count, width))
        if name == "hash":
            vectors, queries[name] = (
                np.packbits(seen.repeat(4, 1) > 0, axis=1),
                np.packbits(altered.repeat(4, 1) > 0, 1),
            )
            metric = "hamming"
        else:
            vectors, queries[name], metric = seen.astype(np.float32), altered.astype(np.float32), "euclidean"
        methods[name] = Method(Brute(vectors[~absent], ids[~absent], metric), ids[~absent], vectors[~absent])
    return methods, queries, np.where(absent[source], -1, ids[source]), ids[source], family


def alone(methods, queries, truth):
    found = {name: method.index.search(queries[name], 10) for name, method in methods.items()}
    return {name: measure(one.ids, one.distances, truth, ks=(1,), resamples=0) for name, one in found.items()}


def together(methods, queries, truth, originals, **options):
    found = cross_fitted(methods, queries, truth, 10, originals=originals, **options)
    return measure(found.ids, found.distances, truth, ks=(1,), resamples=0)


def recall(figures):
    return figures.overall.at[1].value


class TestQuality:
    def test_it_beats_both_where_they_fail_in_different_places(self):
        """The hash is perfect on one family and blind on the other, the features the other way round."""
        methods, queries, truth, originals, family = world(0, [(0.0, 1.0), (1.0, 0.0)])
        single = alone(methods, queries, truth)
        assert max(map(recall, single.values())) < 0.7
        both = together(methods, queries, truth, originals)
        assert recall(both) > 0.97
        assert both.average_precision.value > 0.95
        assert both.recall_at_precision.value > 0.95
        assert {0, 1} == set(family)

    def test_it_beats_both_where_each_knows_a_little(self):
        methods, queries, truth, originals, _ = world(1, [(0.45, 0.6)], count=600)
        single = alone(methods, queries, truth)
        both = together(methods, queries, truth, originals)
        assert recall(both) > max(map(recall, single.values())) + 0.08
        assert both.average_precision.value > max(one.average_precision.value for one in single.values()) + 0.1

    def test_a_method_of_pure_noise_does_no_harm(self):
        methods, queries, truth, originals, _ = world(2, [(1.0, 0.5)], count=600)
        single = alone(methods, queries, truth)
        assert recall(single["hash"]) < 0.05
        assert recall(together(methods, queries, truth, originals)) > recall(single["net"]) - 0.03

    @settings(max_examples=12)
    @given(st.integers(0, 2**32 - 1), st.lists(st.tuples(*[st.floats(0, 1)] * 2), min_size=1, max_size=3))
    def test_it_is_never_much_worse_than_the_better(self, seed, noise):
        methods, queries, truth, originals, _ = world(seed, noise, rows=120, count=300)
        both = together(methods, queries, truth, originals)
        assert recall(both) > max(map(recall, alone(methods, queries, truth).values())) - 0.06

    def test_probabilities_are_those_that_happen(self):
        """Of candidates said to match with p about 0.3, about 0.3 do; none is judged by its own original."""
        methods, queries, truth, originals, _ = world(3, [(0.4, 0.9), (0.9, 0.6)], count=2000)
        found = cross_fitted(methods, queries, truth, 10, originals=originals)
        probability = 1 - found.distances[found.ids != -1]
        is_match = (found.ids == truth[:, None])[found.ids != -1]
        for low in (0.0, 0.2, 0.4, 0.6, 0.8):
            said = (probability >= low) & (probability < low + 0.2)
            assert said.sum() > 80
            assert is_match[said].mean() == pytest.approx(probability[said].mean(), abs=0.08)


class TestHonesty:
    def test_an_original_is_not_judged_by_curves_that_know_it(self, monkeypatch):
        methods, queries, truth, originals, _ = world(4, [(0.4, 0.5)])
        learned, judged = [], []

        def fit(methods, candidates, is_match, depth):
            learned.append(set(originals[candidates.queries]))
            return Spy()

        class Spy:
            def log_odds(self, distances, gaps):
                judged.append(len(distances["net"]))
                return np.zeros(judged[-1])

        kept = []
        only = combined._Candidates.only
        monkeypatch.setattr(combined, "_fit", fit)
        monkeypatch.setattr(combined._Candidates, "only", lambda *given: kept.append(only(*given)) or kept[-1])
        cross_fitted(methods, queries, truth, 10, originals=originals)
        seen = [set(originals[one.queries]) for one in kept[1::2]]
        assert len(learned) == len(seen) == 5
        for taught, asked in zip(learned, seen, strict=True):
            assert not taught & asked
            assert taught | asked == set(originals)
        assert sum(judged) == sum(len(one.queries) for one in kept[1::2])

    def test_matching_and_other_originals_are_dealt_evenly(self):
        truth = np.repeat([5, 6, 7, 8, -1, -1, -1, -1], 3)
        originals = np.repeat(np.arange(8), 3)
        folds = combined._folds(truth, originals, 4, seed=0)
        assert (folds.reshape(8, 3) == folds[::3, None]).all()
        assert sorted(folds[:12:3]) == sorted(folds[12::3]) == [0, 1, 2, 3]
        alone = combined._folds(truth, None, 12, seed=0)
        assert sorted(alone[12:]) == list(range(12))  # what matches nothing is by itself
        assert len(set(alone[:12].tolist())) == 4

    def test_random_truth_is_not_learned(self):
        """With the answers shuffled there is nothing to know; a fit that saw its own would find something."""
        methods, queries, truth, originals, _ = world(5, [(1.0, 1.0)], rows=60, count=500)
        assert recall(together(methods, queries, truth, originals)) < 0.08


class TestCurves:
    def test_log_odds_by_hand(self):
        curve, flat = Curve((0.0, 10.0, 20.0), (6.0, 1.0, 0.0)), Curve((0.0,), (0.0,))
        assert curve(np.array([-1.0, 0, 5, 10, 15, 20, 99])).tolist() == [6, 6, 3.5, 1, 0.5, 0, 0]
        methods = {
            "a": Evidence("hamming", curve, Curve((0.0, 4.0), (1.0, 0.0))),
            "b": Evidence("cosine", Curve((0.0, 1.0), (2.0, 0.0)), flat),
        }
        distances, gaps = {"a": np.array([5.0, 20]), "b": np.array([0.5, 2])}, {"a": np.array([2, 9]), "b": np.zeros(2)}
        calibration = Calibration(-4.0, methods, 5, 10, 5)
        assert calibration.log_odds(distances, gaps).tolist() == [-4 + 3.5 + 0.5 + 1, -4]

    def test_gaps_are_from_the_nearest_candidate_of_the_query(self):
        methods, queries, *_ = world(6, [(0.3, 0.9), (0.9, 0.4)], count=40)
        found = combined._candidates(methods, queries, 5)
        for name, method in methods.items():
            nearest = distances_of(queries[name], method.vectors, method.index.metric).min(axis=1)
            assert found.gaps[name] == pytest.approx(found.distances[name] - nearest[found.queries], abs=1e-4)

    def test_they_fall(self):
        methods, queries, truth, *_ = world(6, [(0.3, 0.9), (0.9, 0.4)])
        calibration = fit_combined(methods, queries, truth).calibration
        for one in calibration.methods.values():
            for curve in (one.by_distance, one.by_gap):
                assert (np.diff(curve.knots) > 0).all()
                assert (np.diff(curve.log_odds) < 0).all()
                assert curve.log_odds[-1] == 0
                assert curve.knots[0] == 0

    def test_between_two_knots_it_is_logistic_regression(self, monkeypatch):
        """With one straight step and hardly a penalty, scikit-learn finds the same line."""
        rng = np.random.default_rng(0)
        distances = np.append(rng.normal(3, 1, 200), rng.normal(5, 1, 2000)).clip(0, 8)
        is_match = np.arange(2200) < 200
        monkeypatch.setattr(combined, "_knots", lambda *_: np.array([0.0, 8.0]))
        monkeypatch.setattr(combined, "_RIDGE", 1e-6)
        monkeypatch.setattr(combined, "_SMALLEST_STEP", 0.0)
        columns = {"a": distances}, {"a": np.full(2200, 9.0)}
        found = combined._Candidates(1, np.zeros(2200, int), np.arange(2200), *columns)
        ids, vectors = np.zeros(1, np.int64), np.zeros((1, 1), np.float32)
        fitted = combined._fit({"a": Method(Brute(vectors, ids), ids, vectors)}, found, is_match, 5)
        judge = LogisticRegression(C=1e6, tol=1e-8).fit(distances[:, None], is_match)
        assert np.abs(fitted.log_odds(*columns) - judge.decision_function(distances[:, None])).max() < 0.05
        assert (fitted.pairs, fitted.matches) == (2200, 200)

    def test_many_pairs_are_sampled(self, monkeypatch):
        methods, queries, truth, *_ = world(7, [(0.3, 0.4)], count=1500)
        whole = fit_combined(methods, queries, truth)
        pairs, matches = whole.calibration.pairs, whole.calibration.matches
        monkeypatch.setattr(combined, "_MOST_PAIRS", pairs // 3)
        part = fit_combined(methods, queries, truth)
        assert part.calibration.pairs == pairs // 3
        assert part.calibration.matches == pytest.approx(matches / 3, rel=0.15)
        few = {name: rows[:200] for name, rows in queries.items()}
        firsts = [one.search(few, 1).ids[:, 0] for one in (part, whole)]
        assert (firsts[0] == firsts[1]).mean() > 0.97

    def test_they_bend_at_the_eighths_of_matches_and_of_others(self):
        values = np.append(np.arange(9.0), np.arange(10.0, 27.0, 2))
        assert combined._knots(values, values < 9).tolist() == values.tolist()
        assert combined._knots(values + 1, values < 9).tolist() == [0, *(values + 1)]
        assert combined._knots(values - 30, values < 9).tolist() == (values - 30).tolist()  # inner products
        assert combined._knots(np.zeros(4), np.arange(4) < 2).tolist() == [0]


class TestSearch:
    def test_order_distances_and_padding(self):
        methods, queries, truth, *_ = world(8, [(0.2, 0.3)], rows=40, count=200)
        combination = fit_combined(methods, queries, truth, depth=3)
        found = combination.search({name: rows[:7] for name, rows in queries.items()}, 30)
        assert found.ids.shape == found.distances.shape == (7, 30)
        assert found.ids.dtype == np.int64
        assert found.distances.dtype == np.float32
        assert (np.diff(np.where(np.isinf(found.distances), 9, found.distances), axis=1) >= 0).all()
        assert ((found.distances >= 0) & (found.distances <= 1) | (found.ids == -1)).all()
        assert (np.isinf(found.distances) == (found.ids == -1)).all()
        for row in range(7):
            got = found.ids[row][found.ids[row] != -1]
            assert len(set(got.tolist())) == len(got) >= 30

    def test_every_candidate_has_its_exact_distance_by_every_method(self):
        """Worked by loops over the union of what each method finds."""
        methods, queries, truth, *_ = world(9, [(0.5, 0.5)], rows=60, count=200)
        combination = fit_combined(methods, queries, truth, depth=4)
        few = {name: rows[:5] for name, rows in queries.items()}
        found = combination.search(few, 4)
        matrices = {name: distances_of(few[name], one.vectors, one.index.metric) for name, one in methods.items()}
        for row in range(5):
            union = {place for matrix in matrices.values() for place in np.argsort(matrix[row], kind="stable")[:4]}
            seen = {name: matrix[row] for name, matrix in matrices.items()}
            gaps = {name: one - one.min() for name, one in seen.items()}
            odds = combination.calibration.log_odds(seen, gaps)
            best = sorted(union, key=lambda place: -odds[place])[:4]
            expected = [1 / (1 + np.exp(odds[place])) for place in best]
            assert methods["net"].ids[best].tolist() == found.ids[row].tolist()
            assert found.distances[row] == pytest.approx(expected, abs=1e-4)

    def test_the_same_query_alone_or_among_others(self):
        methods, queries, truth, *_ = world(10, [(0.3, 0.6)])
        combination = fit_combined(methods, queries, truth)
        whole = combination.search(queries, 5)
        one = combination.search({name: rows[17:18] for name, rows in queries.items()}, 5)
        assert (one.ids[0] == whole.ids[17]).all()
        assert (one.distances[0] == whole.distances[17]).all()

    def test_rows_may_lie_in_any_order_in_each_method(self):
        methods, queries, truth, *_ = world(11, [(0.3, 0.6)])
        expected = fit_combined(methods, queries, truth).search(queries, 5)
        order = np.random.default_rng(0).permutation(len(methods["net"].ids))
        net = methods["net"]
        shuffled = Method(Brute(net.vectors[order], net.ids[order]), net.ids[order], net.vectors[order])
        got = fit_combined({**methods, "net": shuffled}, queries, truth).search(queries, 5)
        assert (got.ids == expected.ids).mean() > 0.99


class TestPairDistances:
    @pytest.mark.parametrize("metric", METRICS)
    @pytest.mark.parametrize("dtype", [np.float32, np.float16])
    def test_scipy_in_blocks(self, metric, dtype, monkeypatch):
        rng = np.random.default_rng(0)
        queries, items = rng.random((5, 4)).astype(dtype), rng.random((9, 4)).astype(dtype)
        if metric == "hamming":
            queries, items = (rng.integers(0, 256, (count, 4), dtype=np.uint8) for count in (5, 9))
        rows, places = rng.integers(0, 5, 33), rng.integers(0, 9, 33)
        monkeypatch.setattr(combined, "_BLOCK_ENTRIES", 4 * 7)
        got = combined._pair_distances(queries, rows, items, places, metric)
        assert got == pytest.approx(distances_of(queries, items, metric)[rows, places], rel=1e-5)

    @pytest.mark.parametrize("metric", METRICS)
    def test_the_distances_of_an_exact_index(self, metric):
        rng = np.random.default_rng(1)
        queries, items = rng.random((6, 16)).astype(np.float32), rng.random((50, 16)).astype(np.float32)
        if metric == "hamming":
            queries, items = (rng.integers(0, 256, (count, 16), dtype=np.uint8) for count in (6, 50))
        found = build_index(items, np.arange(50), metric=metric, device="cpu").search(queries, 50)
        got = combined._pair_distances(queries, np.repeat(np.arange(6), 50), items, found.ids.ravel(), metric)
        assert got == pytest.approx(found.distances.ravel(), rel=1e-5, abs=1e-6)


class TestSaved:
    def test_it_comes_back(self, tmp_path):
        methods, queries, truth, *_ = world(12, [(0.3, 0.6)])
        fitted = fit_combined(methods, queries, truth)
        fitted.calibration.save(tmp_path / "combined.json")
        loaded = Calibration.load(tmp_path / "combined.json")
        assert loaded == fitted.calibration
        assert (Combined(methods, loaded).search(queries, 5).ids == fitted.search(queries, 5).ids).all()

    def test_what_cannot_be_read_is_refused(self, tmp_path):
        path = tmp_path / "combined.json"
        with pytest.raises(InputError, match="no file"):
            Calibration.load(path)
        curve = Curve((0.0, 1.0), (1.0, 0.0))
        Calibration(-1.0, {"a": Evidence("hamming", curve, curve)}, 5, 10, 5).save(path)
        data = json.loads(path.read_text())
        for damaged in ("", "[]", json.dumps({**data, "methods": {"a": {}}}), json.dumps({**data, "bias": None})):
            path.write_text(damaged)
            with pytest.raises(CheckpointError, match="damaged"):
                Calibration.load(path)
        path.write_text(json.dumps({**data, "version": 2}))
        with pytest.raises(CheckpointError, match="version 2"):
            Calibration.load(path)


class TestBadInput:
    def test_it_is_said(self):
        methods, queries, truth, *_ = world(13, [(0.3, 0.6)], rows=60, count=80)
        with pytest.raises(InputError, match="none for net"):
            fit_combined(methods, {"hash": queries["hash"]}, truth)
        with pytest.raises(InputError, match="no method"):
            fit_combined({}, queries, truth)
        with pytest.raises(InputError, match="the same queries"):
            fit_combined(methods, {**queries, "net": queries["net"][:3]}, truth)
        with pytest.raises(InputError, match="one id a query"):
            fit_combined(methods, queries, truth[:3])
        with pytest.raises(InputError, match="no match"):
            fit_combined(methods, queries, np.full(80, -1))
        with pytest.raises(InputError, match="folds"):
            cross_fitted(methods, queries, truth, 5, folds=1)
        with pytest.raises(InputError, match="one id a vector"):
            Method(methods["net"].index, methods["net"].ids[:3], methods["net"].vectors)
        calibration = fit_combined(methods, queries, truth).calibration
        with pytest.raises(InputError, match="'net' is not given"):
            Combined({"hash": methods["hash"]}, calibration)
        with pytest.raises(InputError, match="calibrated with euclidean distances, its index has hamming"):
            Combined({**methods, "net": methods["hash"]}, calibration)
        fewer = Method(methods["net"].index, methods["net"].ids[:9], methods["net"].vectors[:9])
        with pytest.raises(InputError, match="has no vector for id"):
            fit_combined({**methods, "net": fewer}, queries, truth)
