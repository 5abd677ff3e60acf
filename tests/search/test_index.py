"""One contract for all engines, against every distance written out in float64."""

from pathlib import Path

import numpy as np
import pytest

from imagescape.errors import InputError
from imagescape.search.index import build_index, load_index, what_it_can

ROWS, QUERIES, WIDTH = 600, 23, 16
ALL = ("euclidean", "cosine", "inner_product", "manhattan", "jensen_shannon")
PRODUCTS = ALL[:3]
EXACT = 1e-4  # of distances, as a share of the largest
# Engine, metrics, search width, least recall, largest error of a distance as a share of the largest.
ENGINES = [
    ("exact", (*ALL, "hamming"), None, 1.0, 1e-5),
    ("Flat", ALL, None, 1.0, EXACT),
    ("IVF8,Flat", ALL, 8, 1.0, EXACT),
    ("IVF8_HNSW8,Flat", PRODUCTS, 8, 1.0, EXACT),
    ("HNSW16", ("euclidean", "cosine", "manhattan", "jensen_shannon"), 200, 0.95, EXACT),
    ("HNSW16", ("inner_product",), 200, 0.5, EXACT),  # a graph of large inner products has dead ends
    ("SQ8", PRODUCTS, None, 0.95, 0.02),
    ("HNSW16,SQ8", ("euclidean", "cosine"), 200, 0.9, 0.02),
    ("IVF8,PQ16", PRODUCTS, 8, 0.6, 0.1),
    ("PQ16", PRODUCTS, None, 0.6, 0.1),
    ("PQ8,RFlat", PRODUCTS, None, 0.95, EXACT),
    ("RR16,IVF4,Flat", PRODUCTS, 4, 1.0, EXACT),
    ("RR16,HNSW16", ("euclidean", "cosine"), 200, 0.95, EXACT),
    ("PCA16,Flat", ("euclidean",), None, 1.0, EXACT),
    ("binary", ("hamming",), None, 1.0, 0.0),
    ("binary:IVF8", ("hamming",), 8, 1.0, 0.0),
    ("binary:HNSW16", ("hamming",), 200, 0.95, 0.0),
    ("lance", PRODUCTS, None, 1.0, EXACT),
]
CASES = [(engine, metric, *rest) for engine, metrics, *rest in ENGINES for metric in metrics]


def oracle(metric, queries, rows):
    """All distances, one pair of rows at a time."""
    q, x = (side if metric == "hamming" else side.astype(np.float64) for side in (queries, rows))

    def entropy_bits(p):
        p = p[p > 0]
        return -(p * np.log2(p)).sum()

    def one(a, b):
        match metric:
            case "euclidean":
                return np.sqrt(((a - b) ** 2).sum())
            case "cosine":
                lengths = np.sqrt((a @ a) * (b @ b))
                return 1 - (a @ b / lengths if lengths else 0)
            case "inner_product":
                return -(a @ b)
            case "manhattan":
                return np.abs(a - b).sum()
            case "jensen_shannon":
                a, b = a / a.sum(), b / b.sum()
                return np.sqrt(max(0, entropy_bits((a + b) / 2) - (entropy_bits(a) + entropy_bits(b)) / 2))
            case "hamming":
                return (np.unpackbits(a) != np.unpackbits(b)).sum()

    return np.array([[one(a, b) for b in x] for a in q])


def clustered(count, seed, metric="euclidean"):
    """Non-negative vectors around 12 centres, with zeros in them; or hashes around 12 hashes."""
    rng, centers = np.random.default_rng(seed), np.random.default_rng(99)
    which = rng.integers(0, 12, count)
    if metric == "hamming":
        flips = rng.random((count, 64)) < 0.1
        return np.packbits(centers.integers(0, 2, (12, 64)).astype(bool)[which] ^ flips, axis=1)
    middle = centers.gamma(1.0, 2.0, (12, WIDTH))
    return np.maximum(middle[which] + rng.normal(0, 0.4, (count, WIDTH)), 0).astype(np.float32)


def some_ids(count, seed=0):
    """Of both signs and any size; never -1."""
    rng = np.random.default_rng(seed)
    ids = np.unique(rng.integers(-(2**63), 2**63 - 1, 2 * count))
    return rng.permutation(ids[ids != -1])[:count]


class Case:
    """One engine with one metric, built over the same data as the oracle knows."""

    def __init__(self, engine, metric, width, recall, error):
        self.engine, self.metric, self.recall = engine, metric, recall
        self.rows, self.queries = clustered(ROWS, 1, metric), clustered(QUERIES, 2, metric)
        self.ids = some_ids(ROWS)
        self.truth = oracle(metric, self.queries, self.rows)
        self.error = error * np.abs(self.truth).max()
        self.index = build_index(self.rows, self.ids, engine=engine, metric=metric, search_width=width)

    def check(self, found, k, allowed=None, index=None):
        """`found` is the nearest k of the allowed rows, as well as the engine promises."""
        truth = self.truth if allowed is None else np.where(allowed, self.truth, np.inf)
        many = min(k, int(np.isfinite(truth[0]).sum()))
        assert found.ids.shape == found.distances.shape == (QUERIES, k)
        assert found.ids.dtype == np.int64
        assert found.distances.dtype == np.float32
        assert (found.ids[:, many:] == -1).all()
        assert np.isinf(found.distances[:, many:]).all()
        ids, distances = found.ids[:, :many], found.distances[:, :many]
        assert np.isin(ids, self.ids if allowed is None else self.ids[allowed]).all()
        assert all(len(set(line)) == many for line in ids.tolist())
        assert (np.diff(distances, axis=1) >= 0).all()
        place = np.argsort(self.ids)[np.searchsorted(np.sort(self.ids), ids)]
        np.testing.assert_allclose(distances, np.take_along_axis(truth, place, 1), rtol=0, atol=self.error)
        farthest = np.sort(truth, axis=1)[:, many - 1 : many]
        near = np.take_along_axis(truth, place, 1) <= farthest + max(
            1e-6, min(self.error, 1e-3)
        )  # any of equals will do
        assert near.mean() >= self.recall


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[0]}-{case[1]}")
def case(request):
    pytest.importorskip("faiss", reason="FAISS is an extra")
    return Case(*request.param)


@pytest.fixture
def changing(case):
    """Another index over the same rows, to be changed."""
    return build_index(
        case.rows, case.ids, engine=case.engine, metric=case.metric, search_width=case.index.search_width
    )


class TestContract:
    @pytest.mark.parametrize("k", [1, 10])
    def test_finds_the_nearest(self, case, k):
        case.check(case.index.search(case.queries, k), k)

    def test_one_query_is_like_many(self, case):
        many, one = case.index.search(case.queries, 5), case.index.search(case.queries[3:4], 5)
        np.testing.assert_allclose(one.distances[0], many.distances[3], rtol=1e-3, atol=1e-3)

    def test_all_are_found_when_all_are_asked_for(self, case):
        found = case.index.search(case.queries[:4], ROWS + 3)
        assert (np.sort(found.ids[:, :ROWS], axis=1) == np.sort(case.ids)).all()
        assert (found.ids[:, ROWS:] == -1).all()

    @pytest.mark.parametrize("share", [0.005, 0.2, 0.9])
    def test_among_some(self, case, share):
        allowed = np.random.default_rng(5).random(ROWS) < share
        unknown = np.array([12345, 678])
        found = case.index.search(case.queries, 10, among=np.concatenate([case.ids[allowed], unknown]))
        case.check(found, 10, allowed)

    def test_among_unknown_ids_nothing_is_found(self, case):
        assert (case.index.search(case.queries, 2, among=np.array([12345])).ids == -1).all()

    def test_within_a_radius(self, case):
        radius = float(np.quantile(case.truth, 0.03)) + 0.01
        if not what_it_can(case.engine, case.index.dimensions).radius:
            with pytest.raises(InputError, match="cannot search within a radius; 'exact'"):
                case.index.within(case.queries, radius)
            return
        found = case.index.within(case.queries, radius)
        inside = case.truth <= radius
        assert len(found.offsets) == QUERIES + 1
        assert found.offsets[-1] == len(found.ids) == len(found.distances)
        assert (found.distances <= radius).all()
        good = 0
        for query in range(QUERIES):
            here = slice(found.offsets[query], found.offsets[query + 1])
            assert (np.diff(found.distances[here]) >= 0).all()
            assert len(set(found.ids[here].tolist())) == here.stop - here.start
            good += np.isin(found.ids[here], case.ids[inside[query]]).sum()
        assert good >= min(case.recall, 0.9 if "HNSW" in case.engine else 1) * inside.sum()
        assert good >= case.recall * len(found.ids)

    def test_within_a_radius_among_some(self, case):
        if not what_it_can(case.engine, case.index.dimensions).radius:
            pytest.skip("the engine has no radius")
        radius = float(np.quantile(case.truth, 0.03)) + 0.01
        everywhere = case.index.within(case.queries, radius)
        found = case.index.within(case.queries, radius, among=case.ids[::2])
        assert set(found.ids.tolist()) <= set(case.ids[::2].tolist())
        if "HNSW" not in case.engine:
            assert len(found.ids) == np.isin(everywhere.ids, case.ids[::2]).sum()

    def test_deleted_are_gone_and_added_are_there(self, case, changing):
        gone = np.zeros(ROWS, bool)
        gone[::3] = True
        changing.delete(case.ids[gone])
        assert len(changing) == len(changing.ids()) == (~gone).sum()
        assert set(changing.ids().tolist()) == set(case.ids[~gone].tolist())
        case.check(changing.search(case.queries, 10), 10, ~gone)
        case.check(changing.search(case.queries, 10, among=case.ids[:300]), 10, ~gone & (np.arange(ROWS) < 300))
        changing.add(case.rows[gone], case.ids[gone])
        case.check(changing.search(case.queries, 10), 10)

    def test_an_id_added_again_is_its_new_vector_only(self, case, changing):
        changing.delete(case.ids[:2])
        changing.add(case.rows[[1, 0]], case.ids[:2])
        everything = changing.search(case.rows[:2], ROWS)
        assert (np.sort(everything.ids, axis=1) == np.sort(case.ids)).all()
        distances = [everything.distances[i][everything.ids[i] == case.ids[1 - i]][0] for i in range(2)]
        expected = np.diag(oracle(case.metric, case.rows[:2], case.rows[:2]))
        np.testing.assert_allclose(distances, expected, atol=max(2e-3, 10 * case.error))

    def test_saved_is_loaded(self, case, changing, tmp_path):
        changing.delete(case.ids[5:9])
        before = changing.search(case.queries, 10)
        changing.save(tmp_path / "index")
        changing.delete(case.ids[100:200])  # not saved
        for _ in range(2):
            loaded = load_index(tmp_path / "index")
            assert (loaded.engine, loaded.metric, loaded.dimensions) == (case.engine, case.metric, case.rows.shape[1])
            assert (len(loaded), loaded.search_width) == (ROWS - 4, case.index.search_width)
            after = loaded.search(case.queries, 10)
            np.testing.assert_allclose(after.distances, before.distances, rtol=1e-4, atol=1e-5)
            loaded.delete(case.ids[10:20])  # a memory map is no obstacle, and what was saved stays as it is
            loaded.add(case.rows[5:9], case.ids[5:9])
            everything = loaded.search(case.queries[:2], ROWS).ids[:, : ROWS - 10]
            assert (np.sort(everything, axis=1) == np.sort(np.delete(case.ids, slice(10, 20)))).all()
        loaded.save(tmp_path / "index")
        again = load_index(tmp_path / "index")
        assert set(again.ids().tolist()) == set(np.delete(case.ids, slice(10, 20)).tolist())
        assert len([path for path in (tmp_path / "index").iterdir() if path.is_dir()]) == 1

    def test_everything_deleted_finds_nothing(self, case, changing, tmp_path):
        changing.delete(case.ids)
        assert len(changing) == 0
        assert (changing.search(case.queries, 3).ids == -1).all()
        changing.save(tmp_path / "empty")
        empty = load_index(tmp_path / "empty")
        assert (empty.search(case.queries, 3).ids == -1).all()
        empty.add(case.rows[:2], case.ids[:2])
        assert set(empty.search(case.queries[:1], 2).ids[0].tolist()) == set(case.ids[:2].tolist())

    def test_twins_are_all_found(self, case, changing):
        twins = some_ids(8, seed=7)
        changing.add(np.repeat(case.rows[:1], 8, axis=0), twins)
        if case.metric != "inner_product":
            found = changing.search(case.rows[:1], 9)
            assert set(twins.tolist()) <= set(found.ids[0].tolist()) or case.error > 1e-3

    def test_no_queries(self, case):
        assert case.index.search(case.queries[:0], 4).ids.shape == (0, 4)

    def test_vector_bytes(self, case):
        stored = case.rows.shape[1] * case.rows.itemsize
        assert 0.2 * stored < case.index.vector_bytes < 40 * stored + 500

    def test_it_says_what_it_can(self, case):
        able = what_it_can(case.engine, case.index.dimensions)
        assert case.metric in able.metrics
        assert (able.search_width is None) == (case.index.search_width is None)
        if case.index.search_width is None:
            with pytest.raises(InputError, match="no search width, got 3"):
                case.index.search_width = 3

    def test_half_precision(self, case):
        if case.metric == "hamming":
            pytest.skip("hashes are bits")
        half = case.rows.astype(np.float16)
        index = build_index(
            half, case.ids, engine=case.engine, metric=case.metric, search_width=case.index.search_width
        )
        found = index.search(half[:5], 1)
        place = np.argsort(case.ids)[np.searchsorted(np.sort(case.ids), found.ids[:, 0])]
        expected = oracle(case.metric, half[:5], half)
        atol = max(case.error, 2e-3 * np.abs(expected).max())
        np.testing.assert_allclose(found.distances[:, 0], expected[np.arange(5), place], atol=atol)

    def test_a_memory_map(self, case, tmp_path):
        np.save(tmp_path / "rows.npy", case.rows)
        mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
        index = build_index(
            mapped, case.ids, engine=case.engine, metric=case.metric, search_width=case.index.search_width
        )
        index.delete(case.ids[:400])
        index.add(case.rows[:100], case.ids[:100])
        allowed = (np.arange(ROWS) < 100) | (np.arange(ROWS) >= 400)
        case.check(index.search(case.queries, 10), 10, allowed)


class TestByHand:
    @pytest.mark.parametrize(
        ("metric", "a", "b", "distance"),
        [
            ("euclidean", [0, 0], [3, 4], 5),
            ("cosine", [1, 0], [3, 4], 0.4),
            ("cosine", [1, 0], [-2, 0], 2),
            ("cosine", [0, 0], [3, 4], 1),
            ("inner_product", [1, 2], [3, 4], -11),
            ("manhattan", [0, 0], [3, -4], 7),
            ("jensen_shannon", [2, 0], [0, 5], 1),
            ("jensen_shannon", [1, 1], [7, 0], 0.557923),  # sqrt(1.5 - 0.75 log2 3)
            ("jensen_shannon", [1, 3], [2, 6], 0),
        ],
    )
    @pytest.mark.parametrize("engine", ["exact", "Flat"])
    def test_distances(self, engine, metric, a, b, distance):
        index = build_index(np.array([b], np.float32), np.array([7]), engine=engine, metric=metric)
        assert index.search(np.array([a], np.float32), 1).distances[0, 0] == pytest.approx(distance, abs=1e-5)

    @pytest.mark.parametrize("engine", ["exact", "binary"])
    def test_bits(self, engine):
        index = build_index(np.array([[0b1011, 1]], np.uint8), np.array([7]), engine=engine, metric="hamming")
        assert index.search(np.array([[0b0010, 0xFF]], np.uint8), 1).distances[0, 0] == 2 + 7


class TestLanceIndexed:
    """Enough rows for Lance to build its index."""

    @pytest.fixture
    def case(self):
        rng = np.random.default_rng(0)
        rows = (rng.normal(0, 3, (40, 20))[rng.integers(0, 40, 4200)] + rng.normal(size=(4200, 20))).astype(np.float32)
        return rows, np.arange(4200) - 5000, rng.permutation(rows)[:40] + 0.1

    @pytest.mark.parametrize("metric", PRODUCTS)
    def test_recall_through_changes(self, case, metric, tmp_path):
        rows, ids, queries = case
        index = build_index(rows, ids, engine="lance", metric=metric)
        index.delete(ids[:500])
        index.add(rows[:100], np.arange(100))
        index.save(tmp_path / "index")
        index = load_index(tmp_path / "index")
        kept = np.concatenate([rows[500:], rows[:100]])
        kept_ids = np.concatenate([ids[500:], np.arange(100)])
        truth = kept_ids[np.argsort(oracle(metric, queries, kept), axis=1)[:, :10]]
        found = index.search(queries, 10).ids
        assert np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found, truth, strict=True)]) >= 0.95
        among = kept_ids[::50]
        truth = among[np.argsort(oracle(metric, queries, kept[::50]), axis=1)[:, :10]]
        found = index.search(queries, 10, among=among).ids
        assert np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found, truth, strict=True)]) >= 0.95


def vectors(count=10, width=4):
    return np.random.default_rng(0).random((count, width)).astype(np.float32)


@pytest.mark.parametrize("engine", ["exact", "Flat", "lance"])
class TestRefusals:
    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_values_that_are_not_finite(self, engine, value):
        bad = vectors()
        bad[6, 2] = value
        with pytest.raises(InputError, match="vectors must be finite, row 6 is not"):
            build_index(bad, np.arange(10), engine=engine)
        index = build_index(vectors(), np.arange(10), engine=engine)
        with pytest.raises(InputError, match="vectors must be finite, row 6 is not"):
            index.add(bad, np.arange(10) + 100)
        with pytest.raises(InputError, match="queries must be finite, row 6 is not"):
            index.search(bad, 1)

    def test_values_too_large_to_square(self, engine):
        bad = vectors()
        bad[2, 0] = 1e20
        with pytest.raises(InputError, match="row 2 is too large"):
            build_index(bad, np.arange(10), engine=engine)

    def test_another_width(self, engine):
        index = build_index(vectors(), np.arange(10), engine=engine)
        for use in (lambda: index.search(vectors(2, 5), 1), lambda: index.add(vectors(2, 5), np.array([20, 21]))):
            with pytest.raises(InputError, match=r"must have 4 dimensions.*got 5"):
                use()

    def test_k_and_radius(self, engine):
        index = build_index(vectors(), np.arange(10), engine=engine)
        with pytest.raises(InputError, match="k must be at least 1, got 0"):
            index.search(vectors(), 0)
        with pytest.raises(InputError, match="radius must be finite, got nan"):
            index.within(vectors(), np.nan)

    def test_among_nothing(self, engine):
        with pytest.raises(InputError, match="'among' names no ids"):
            build_index(vectors(), np.arange(10), engine=engine).search(vectors(), 1, among=np.array([], np.int64))

    def test_ids(self, engine):
        index = build_index(vectors(), np.arange(10), engine=engine)
        for ids, message in (
            ([3, 30], "id 3 is in the index already"),
            ([30, 30], "30 comes twice"),
            ([-1, 30], "-1 stands for"),
            ([30], "2 vectors and 1 ids"),
            ([0.5, 30.5], "line of int64, got float64"),
        ):
            with pytest.raises(InputError, match=message):
                index.add(vectors(2), np.array(ids))
            with pytest.raises(InputError, match=message.replace("id 3 is in the index already", "3 comes twice")):
                build_index(vectors(2), np.array([3, 3] if ids == [3, 30] else ids), engine=engine)
        with pytest.raises(InputError, match="id 30 is not in the index"):
            index.delete(np.array([3, 30]))
        with pytest.raises(InputError, match="3 comes twice"):
            index.delete(np.array([3, 3]))
        assert len(index) == 10

    def test_metrics(self, engine):
        with pytest.raises(InputError, match=r"metric must be one of .* got 'chebyshev'"):
            build_index(vectors(), np.arange(10), engine=engine, metric="chebyshev")
        with pytest.raises(InputError, match=r"'hamming' needs packed uint8|measures by .* got metric 'hamming'"):
            build_index(vectors(), np.arange(10), engine=engine, metric="hamming")
        with pytest.raises(InputError, match="needs floating-point vectors, got vectors of uint8"):
            build_index(np.zeros((4, 4), np.uint8), np.arange(4), engine=engine)

    def test_no_vectors_and_no_matrix(self, engine):
        with pytest.raises(InputError, match="at least 1 vector"):
            build_index(vectors(0), np.arange(0), engine=engine)
        with pytest.raises(InputError, match=r"must be a matrix.*got shape \(4,\)"):
            build_index(vectors()[0], np.arange(4), engine=engine)


class TestFaissRefusals:
    def test_more_training_vectors_than_rows(self):
        with pytest.raises(
            InputError, match=r"'IVF64,Flat' needs at least 64 vectors to train on, got 10; choose 'exact'"
        ):
            build_index(vectors(), np.arange(10), engine="IVF64,Flat")
        with pytest.raises(InputError, match="'PQ2' needs at least 256 vectors to train on, got 10"):
            build_index(vectors(), np.arange(10), engine="PQ2")

    @pytest.mark.parametrize("engine", ["Floot", "PQ3", "", "binary:Nope", "binary:Hash16"])
    def test_unknown_strings(self, engine):
        metric = "hamming" if "binary" in engine else "euclidean"
        with pytest.raises(InputError, match=f"engine must be .*got '{engine}'"):
            build_index(
                vectors() if metric == "euclidean" else np.zeros((9, 4), np.uint8), np.arange(10), engine=engine
            )

    @pytest.mark.parametrize(
        ("engine", "message"),
        [
            ("LSH", "no distances"),
            ("L2norm,Flat", "Normalization"),
            ("IDMap,Flat", "leave 'IDMap' out"),
            ("PCAW4,Flat", "changes distances"),
        ],
    )
    def test_strings_that_measure_something_else(self, engine, message):
        with pytest.raises(InputError, match=message):
            build_index(vectors(), np.arange(10), engine=engine)

    @pytest.mark.parametrize(
        ("engine", "metric"),
        [
            ("SQ8", "manhattan"),
            ("PCA2,Flat", "cosine"),
            ("IVF2,PQ2", "jensen_shannon"),
            ("HNSW8_PQ2", "inner_product"),
            ("lance", "manhattan"),
            ("binary", "euclidean"),
        ],
    )
    def test_metrics_that_it_lacks(self, engine, metric):
        with pytest.raises(InputError, match=f"'{engine}' measures by .*got metric '{metric}'; 'exact' has them all"):
            build_index(vectors(), np.arange(10), engine=engine, metric=metric)

    def test_search_width(self):
        index = build_index(vectors(), np.arange(10), engine="IVF2,Flat")
        with pytest.raises(InputError, match="at least 1, got 0"):
            index.search_width = 0
        index.search_width = 1
        assert index.search_width == 1

    def test_distributions(self):
        for bad in ([-1, 2, 0, 0], [0, 0, 0, 0]):
            rows = vectors()
            rows[4] = bad
            with pytest.raises(InputError, match="row 4 of vectors is none"):
                build_index(rows, np.arange(10), metric="jensen_shannon")

    def test_training_is_seeded(self):
        rows = clustered(400, 0)
        found = [
            build_index(rows, np.arange(400), engine="IVF16,PQ4", seed=seed).search(rows[:20], 5).distances
            for seed in (1, 1, 2)
        ]
        np.testing.assert_array_equal(found[0], found[1])
        assert (found[0] != found[2]).any()


class TestSearchWidth:
    @pytest.mark.parametrize(("engine", "widths"), [("IVF32,Flat", (1, 4, 32)), ("HNSW4", (10, 30, 300))])
    def test_wider_finds_more(self, engine, widths):
        rows = np.random.default_rng(0).normal(size=(2000, WIDTH)).astype(np.float32)
        truth = build_index(rows, np.arange(2000)).search(rows[:100] + 0.3, 10).ids
        index = build_index(rows, np.arange(2000), engine=engine)
        recall = []
        for width in widths:
            index.search_width = width
            found = index.search(rows[:100] + 0.3, 10).ids
            assert (found >= 0).all()  # however narrow, k are found
            recall.append(np.mean([len(set(a) & set(b)) for a, b in zip(found, truth, strict=True)]))
        assert recall[0] < recall[1] < recall[2]


def test_path_may_be_text(tmp_path):
    build_index(vectors(), np.arange(10)).save(str(tmp_path / "a" / "b"))
    assert len(load_index(str(Path(tmp_path) / "a" / "b"))) == 10
