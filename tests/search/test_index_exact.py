"""The exact engine in blocks of every size, its graph, and the folder that an index is saved to."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from imagescape.errors import CheckpointError, InputError
from imagescape.evaluate import all_pairs, distances, neighbors
from imagescape.evaluate.neighbors import Corpus, nearest_others
from imagescape.search.index import build_index, load_index
from imagescape.search.stored import write_index

METRICS = ("euclidean", "cosine", "inner_product", "manhattan", "jensen_shannon", "hamming")


def data(count, metric, seed=0, width=12):
    rng = np.random.default_rng(seed)
    if metric == "hamming":
        return rng.integers(0, 256, (count, width), dtype=np.uint8)
    return rng.gamma(1, 1, (count, width)).astype(np.float32)


def all_distances(metric, a, b):
    """By broadcasting in float64."""
    if metric == "hamming":
        return np.bitwise_count(a[:, None] ^ b).sum(axis=2, dtype=np.int64)
    a, b = a.astype(np.float64), b.astype(np.float64)
    if metric == "jensen_shannon":
        from scipy.spatial.distance import jensenshannon

        return jensenshannon(a[:, None], b[None], base=2, axis=2)
    name = {"euclidean": "euclidean", "cosine": "cosine", "manhattan": "cityblock"}.get(metric)
    if name is None:
        return -a @ b.T
    from scipy.spatial.distance import cdist

    return cdist(a, b, name)


@pytest.fixture(params=["small blocks", "one block"])
def blocks(request, monkeypatch):
    if request.param == "small blocks":
        monkeypatch.setattr(neighbors, "_BLOCK_ENTRIES", 900)
        monkeypatch.setattr(neighbors, "_BLOCK_QUERIES", 7)
        monkeypatch.setattr(neighbors, "_CONVERTED_BYTES", 2000)
        monkeypatch.setattr(neighbors, "_MEASURED_ENTRIES", 300)
        monkeypatch.setattr(distances, "_PAIRS_AT_ONCE", 100)
        monkeypatch.setattr(all_pairs, "_BLOCK", 64)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.usefixtures("blocks")
class TestBlocks:
    @pytest.mark.parametrize("dtype", [np.float32, np.float16])
    @pytest.mark.parametrize("share", [1.0, 0.8, 0.2])
    def test_nearest_and_within(self, metric, dtype, share):
        if metric == "hamming":
            dtype = np.uint8
        rows, queries = data(333, metric).astype(dtype), data(20, metric, 1).astype(dtype)
        visible = np.random.default_rng(0).random(333) < share
        truth = np.where(visible, all_distances(metric, queries, rows), np.inf)
        corpus = Corpus(rows, metric)
        found = corpus.nearest(queries, 9, visible=None if share == 1 else visible)
        np.testing.assert_allclose(found.distances, np.sort(truth, axis=1)[:, :9], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(np.take_along_axis(truth, found.indices, 1), found.distances, rtol=1e-5, atol=1e-5)
        radius = float(np.sort(truth.ravel())[200]) + 1e-4
        pairs = corpus.within(queries, radius, visible=None if share == 1 else visible)
        assert set(zip(*(side.tolist() for side in pairs[:2]), strict=True)) == set(
            zip(*(side.tolist() for side in np.nonzero(truth <= radius)), strict=True)
        )
        np.testing.assert_allclose(pairs[2], truth[pairs[0], pairs[1]], rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize("count", [333, 1200, 2])
    def test_graph(self, metric, count):
        if count == 1200 and metric in METRICS[3:]:
            pytest.skip("no product, so searched for row by row, as at any size")
        rows = data(count, metric, width=6)
        truth = all_distances(metric, rows, rows).astype(float)
        np.fill_diagonal(truth, np.inf)
        ids = np.random.default_rng(0).permutation(count) + 10
        found = build_index(rows, ids, metric=metric).graph(5)
        many = min(5, count - 1)
        assert (found.ids[:, many:] == -1).all()
        back = np.argsort(ids)[found.ids[:, :many] - 10]
        assert (back != np.arange(count)[:, None]).all()
        np.testing.assert_allclose(found.distances[:, :many], np.sort(truth, axis=1)[:, :many], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(np.take_along_axis(truth, back, 1), found.distances[:, :many], rtol=1e-5, atol=1e-5)


class TestLargest:
    @given(st.integers(1, 2000), st.integers(1, 40), st.integers(0, 9), st.sampled_from([3, 10**6]))
    @settings(max_examples=60)
    def test_is_topk(self, width, count, seed, levels):
        """Also with many ties, and in lines that are no multiple of the group."""
        values = torch.randint(levels, (3, width), generator=torch.Generator().manual_seed(seed)).float()
        found, columns = neighbors._largest(values, count)
        expected = values.topk(min(count, width), dim=1).values
        assert (found.sort(dim=1, descending=True).values == expected).all()
        assert (values.gather(1, columns) == found).all()
        assert all(len(set(line)) == len(line) for line in columns.tolist())


class TestGraph:
    @pytest.mark.parametrize("block", [8, 40, 264, 4096])
    def test_halves_are_the_whole(self, block, monkeypatch):
        monkeypatch.setattr(all_pairs, "_BLOCK", block)
        values = torch.randn(131, 9, generator=torch.Generator().manual_seed(0))
        found = all_pairs.nearest_of_all(lambda here: (values[here], values[here]), 131, 11)
        products = (values @ values.T).fill_diagonal_(-torch.inf)
        expected = products.topk(11).indices
        assert (found.sort(dim=1).values == expected.sort(dim=1).values).all()

    def test_neighbours_that_stand_together(self, monkeypatch):
        """Sorted data: each row's neighbours are all in its own block or the next."""
        monkeypatch.setattr(all_pairs, "_BLOCK", 128)
        line = np.arange(1100, dtype=np.float32)[:, None] * np.ones(5, np.float32)
        found = nearest_others(line, 4).indices
        assert sorted(found[500].tolist()) == [498, 499, 501, 502]
        assert sorted(found[639].tolist()) == [637, 638, 640, 641]

    def test_twins_far_apart(self):
        rows = data(1500, "euclidean")
        rows[1499] = rows[0]
        found = nearest_others(rows, 3)
        assert found.indices[[0, 1499], 0].tolist() == [1499, 0]
        assert found.distances[[0, 1499], 0].tolist() == [0, 0]

    def test_after_changes(self):
        rows = data(60, "euclidean")
        index = build_index(rows[:50], np.arange(50))
        index.delete(np.arange(10))
        index.add(rows[50:], np.arange(50, 60))
        found = index.graph(3)
        np.testing.assert_array_equal(index.ids(), np.arange(10, 60))
        np.testing.assert_array_equal(found.ids, nearest_others(rows[10:], 3).indices + 10)
        with pytest.raises(InputError, match="k must be at least 1, got 0"):
            index.graph(0)


class TestNumbers:
    def test_near_twins_keep_their_digits(self):
        """Jensen-Shannon and cosine of nearly equal rows, where 1 - x would leave nothing."""
        a = np.full((1, 8), 1.0, np.float32)
        b = a.copy()
        b[0, 0] += 1e-3
        for metric in ("jensen_shannon", "cosine"):
            found = build_index(b, np.array([1]), metric=metric).search(a, 1).distances[0, 0]
            assert found == pytest.approx(all_distances(metric, a, b)[0, 0], rel=1e-2)

    def test_far_from_the_origin(self):
        rows = data(400, "euclidean") * 0.01 + 50
        found = build_index(rows, np.arange(400)).search(rows[:20], 3)
        truth = np.sort(all_distances("euclidean", rows[:20], rows), axis=1)[:, :3]
        np.testing.assert_allclose(found.distances, truth, atol=1e-5)

    def test_twins_within_radius_zero(self):
        for metric in METRICS[:2] + METRICS[3:4] + METRICS[5:]:
            rows = data(300, metric)
            found = build_index(rows, np.arange(300), metric=metric).within(rows, 1e-7 if metric == "cosine" else 0)
            assert set(np.arange(300)) <= set(found.ids.tolist())

    def test_an_inner_product_radius_below_zero(self):
        rows = np.array([[1, 0], [2, 0], [3, 0]], np.float32)
        found = build_index(rows, np.array([1, 2, 3]), metric="inner_product").within(rows[:1], -2.0)
        assert found.ids.tolist() == [3, 2]
        assert found.distances.tolist() == [-3, -2]

    def test_the_given_array_is_not_written_to(self):
        rows = data(30, "euclidean")
        before = rows.copy()
        index = build_index(rows, np.arange(30))
        index.delete(np.arange(5))
        index.add(rows[:5] * 2, np.arange(5))
        index.delete(np.arange(10, 30))
        np.testing.assert_array_equal(rows, before)

    def test_a_memory_map_is_not_copied(self, tmp_path):
        np.save(tmp_path / "rows.npy", data(300, "euclidean"))
        mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
        index = build_index(mapped, np.arange(300))
        assert index._given_corpus._rows.data_ptr() == mapped.ctypes.data

    def test_float32_added_to_float16_keeps_its_digits(self, tmp_path):
        rows = data(20, "euclidean")
        index = build_index(rows[:10].astype(np.float16), np.arange(10))
        index.add(rows[10:] * 1e5, np.arange(10, 20))  # beyond float16
        index.save(tmp_path / "index")
        for one in (index, load_index(tmp_path / "index")):
            found = one.search(rows[10:] * 1e5, 1)
            assert found.ids[:, 0].tolist() == list(range(10, 20))
            assert (found.distances == 0).all()


class TestFolder:
    @pytest.fixture
    def folder(self, tmp_path):
        build_index(data(30, "euclidean"), np.arange(30)).save(tmp_path / "index")
        return tmp_path / "index"

    def test_a_kill_while_writing_leaves_the_old_one(self, folder):
        def killed(part):
            (part / "half").write_bytes(b"...")
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            write_index(folder, {"engine": "exact"}, killed)
        assert len(load_index(folder)) == 30
        assert len(list(folder.iterdir())) == 2

    def test_left_over_data_are_no_harm_and_go_with_the_next(self, folder):
        (folder / "data-0123456789ab").mkdir()
        (folder / "index.json.part-7").write_text("{")
        (folder / "built.json").write_text("{}")
        index = load_index(folder)
        index.save(folder)
        assert not (folder / "data-0123456789ab").exists()
        assert (folder / "built.json").exists()  # not ours

    def test_an_open_one_outlives_its_replacement(self, folder):
        index, queries = load_index(folder), data(3, "euclidean", 5)
        before = index.search(queries, 4)
        build_index(data(5, "euclidean", 9), np.arange(5)).save(folder)
        np.testing.assert_array_equal(index.search(queries, 4).ids, before.ids)
        assert len(load_index(folder)) == 5

    def test_newer(self, folder):
        path = folder / "index.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": 99}))
        with pytest.raises(CheckpointError, match="index format 99, this imagescape reads up to 1"):
            load_index(folder)

    def test_no_index(self, tmp_path):
        with pytest.raises(CheckpointError, match="is not a saved index"):
            load_index(tmp_path)
        (tmp_path / "index.json").write_text("[1]")
        with pytest.raises(CheckpointError, match="is not a saved index"):
            load_index(tmp_path)

    @pytest.mark.parametrize("engine", ["exact", "IVF4,Flat", "HNSW8"])
    def test_damaged(self, engine, tmp_path):
        pytest.importorskip("faiss", reason="FAISS is an extra")
        build_index(data(30, "euclidean"), np.arange(30), engine=engine).save(tmp_path / "index")
        content = next((tmp_path / "index").glob("data-*"))
        for path in content.iterdir():
            whole = path.read_bytes()
            path.write_bytes(whole[:-9])
            with pytest.raises(CheckpointError, match=f"{path.name} should have {len(whole)} bytes"):
                load_index(tmp_path / "index")
            path.unlink()
            with pytest.raises(CheckpointError, match=f"{path.name} should have .* it is missing"):
                load_index(tmp_path / "index")
            path.write_bytes(b"\0" * len(whole))
            if path.name != "alive.npy":
                with pytest.raises(CheckpointError, match="cannot be read"):
                    load_index(tmp_path / "index")
            path.write_bytes(whole)
        path = tmp_path / "index" / "index.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"count": 31}))
        with pytest.raises(CheckpointError, match="should hold 31 vectors and has 30"):
            load_index(tmp_path / "index")
