"""Search and the graph of neighbours: right rows, filters, indexes older than the table, and what cannot be asked."""

import logging
import shutil

import numpy as np
import pyarrow as pa
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from test_embedding import encoder, picture, write

from imagescape.collection.ingest import ingest
from imagescape.collection.results import ids_of
from imagescape.collection.store import Collection
from imagescape.collection.vectors import Places, Vectors, ids_of_numbers, numbers_of
from imagescape.errors import InputError
from imagescape.pipeline.embedding import embed
from imagescape.pipeline.exporting import export_features
from imagescape.pipeline.maps import map_images
from imagescape.pipeline.similarity import Searcher, as_metric, neighbors, search_queries
from imagescape.show.searches import write_search_page

COUNT = 60
APPROXIMATE = ("Flat", "HNSW16", "IVF4,Flat")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("similar")
    ingest(write(folder / "images", *range(COUNT)), folder / "c.scape")
    scape = Collection.open(folder / "c.scape")
    scape.add_columns(scape.ok_ids(), {"label": [f"kind {number % 3}" for number in range(COUNT)]})
    embed(scape, "dhash64")
    embed(scape, encoder(), dtype="float32")
    return folder


@pytest.fixture
def scape(made, tmp_path):
    shutil.copytree(made / "c.scape", tmp_path / "c.scape")
    return Collection.open(tmp_path / "c.scape")


@pytest.fixture(scope="module")
def unchanged(made):
    return Collection.open(made / "c.scape")


def oracle(scape, query, name="colours", leave_out=()):
    """Ids by cosine distance, worked out by hand."""
    found = Vectors(scape, name)
    values = found.values().astype(float)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    distances = 1 - values @ (query / np.linalg.norm(query))
    order = [row for row in np.argsort(distances, kind="stable") if found.ids[row] not in leave_out]
    return found.ids[order], distances[order]


def test_numbers_of_ids_however_they_are_held(unchanged):
    texts = np.array(["0000000000000010", "fffffffffffffffe", "00ff00ff00ff00ff"])
    by_hand = [16, -2, 0x00FF00FF00FF00FF]
    assert numbers_of(texts).tolist() == by_hand
    chunks = pa.chunked_array([pa.array(texts[:1]), pa.array([], pa.string()), pa.array(["0" * 16, *texts[1:]])[1:]])
    assert numbers_of(chunks).tolist() == by_hand
    assert numbers_of(chunks.slice(1, 1)).tolist() == [-2]
    assert numbers_of(pa.chunked_array([], pa.string())).tolist() == []
    column = unchanged.read(["image_id"])["image_id"]
    assert_array_equal(numbers_of(column), numbers_of(column.to_numpy()))


class TestSearch:
    def test_vectors_find_what_is_nearest(self, unchanged):
        query = np.random.default_rng(0).random((1, 6), np.float32)
        found = Searcher(unchanged, "colours").search(query, 7)
        ids, distances = oracle(unchanged, query[0])
        assert_array_equal(found.ids[0], ids[:7])
        assert_allclose(found.distances[0], distances[:7], atol=1e-5)

    def test_an_image_finds_itself_first_and_hits_name_their_rows(self, scape):
        map_images(scape, "M", epochs=(1, 1, 1), backbone="resnet10", width=4, batch_size=16, seed=0, device="cpu")
        searcher = Searcher(scape, "M", device="cpu")
        hits = searcher.hits(searcher.search(searcher.encode([picture(7), picture(31)]), 3))
        assert [hit[0].uri[-7:] for hit in hits] == ["007.png", "031.png"]
        assert hits[0][0].image_id == ids_of(scape)[7]
        assert hits[0][0].distance == pytest.approx(0, abs=2e-3)  # features are stored as float16
        assert [one.distance for one in hits[1]] == sorted(one.distance for one in hits[1])

    def test_hashes_are_searched_by_bits_that_differ(self, unchanged):
        searcher = Searcher(unchanged, "dhash64")
        assert searcher.metric == "hamming"
        found = searcher.search(searcher.encode([picture(3)]), 2)
        assert ids_of_numbers(found.ids[0, :1])[0] == ids_of(unchanged)[3]
        assert found.distances[0, 0] == 0

    @pytest.mark.parametrize("engine", ["exact", "Flat"])
    def test_from_the_mean(self, scape, engine):
        pytest.importorskip("faiss")
        query = np.random.default_rng(2).random((1, 6), np.float32)
        values = Vectors(scape, "colours").values().astype(float)
        around, asked = values - values.mean(axis=0), query[0] - values.mean(axis=0)
        cosines = around @ asked / np.linalg.norm(around, axis=1) / np.linalg.norm(asked)
        for _ in range(2):  # built, then read back
            found = Searcher(scape, "colours", engine=engine, center=True).search(query, 5)
            assert_array_equal(found.ids[0], Vectors(scape, "colours").ids[np.argsort(-cosines)[:5]])
            assert_allclose(found.distances[0], 1 - np.sort(cosines)[::-1][:5], atol=1e-5)
        own = ids_of(scape)[4]
        nearest = Searcher(scape, "colours", engine=engine, center=True).neighbors_of([own], 1).ids[0, 0]
        unit = around / np.linalg.norm(around, axis=1, keepdims=True)
        assert nearest == Vectors(scape, "colours").ids[np.argsort(-(unit @ unit[4]))[1]]
        with pytest.raises(InputError, match="bits have no mean"):
            Searcher(scape, "dhash64", center=True)

    def test_the_last_features_unless_said(self, unchanged):
        assert Searcher(unchanged).name == "colours"

    def test_a_condition(self, unchanged):
        searcher = Searcher(unchanged, "dhash64")
        found = searcher.search(searcher.encode([picture(3)]), COUNT, where="label = 'kind 1'")
        rows = np.flatnonzero(np.isin(numbers_of(ids_of(unchanged)), found.ids))
        assert rows.tolist() == list(range(1, COUNT, 3))
        assert (found.ids[0, COUNT // 3 :] == -1).all()
        assert len(searcher.hits(found)[0]) == COUNT // 3
        with pytest.raises(InputError, match="no image with features 'dhash64' meets"):
            searcher.search(searcher.encode([picture(3)]), 3, where="label = 'none'")
        with pytest.raises(InputError, match="cannot be understood"):
            searcher.search(searcher.encode([picture(3)]), 3, where="label ==== 2")

    def test_rows_that_are_deleted_or_flagged_do_not_come_back(self, scape):
        ids = ids_of(scape)
        scape.delete([ids[5]])
        scape.update([ids[6]], {"status": ["vanished"]})
        searcher = Searcher(scape, "dhash64")
        assert len(searcher) == COUNT - 2
        assert not np.isin(numbers_of(ids[[5, 6]]), searcher.search(searcher.encode([picture(5)]), COUNT).ids).any()

    def test_rows_deleted_while_it_is_open(self, scape):
        searcher = Searcher(scape, "dhash64")
        found = searcher.search(searcher.encode([picture(40)]), COUNT)
        assert searcher.hits(found)[0][0].uri.endswith("040.png")
        scape.delete(ids_of(scape)[:30])
        hits = searcher.hits(found)[0]
        assert len(hits) == 30
        assert all(hit.uri[-7:-4] >= "030" for hit in hits)

    def test_no_features(self, made, tmp_path):
        ingest(made / "images", tmp_path / "new.scape")
        with pytest.raises(InputError, match=r"has no features yet; make some: imagescape embed new.scape"):
            Searcher(Collection.open(tmp_path / "new.scape"))


class TestQueries:
    def test_by_id_without_itself(self, unchanged):
        searcher = Searcher(unchanged, "colours")
        own = ids_of(unchanged)[9]
        answers = search_queries(searcher, own, 5)
        wanted, _ = oracle(unchanged, Vectors(unchanged, "colours").values()[9], leave_out=numbers_of(np.array([own])))
        assert [hit.image_id for hit in answers.hits[own]] == ids_of_numbers(wanted[:5]).tolist()
        assert not answers.is_folder

    def test_by_id_under_a_condition_that_it_does_not_meet_itself(self, unchanged):
        own = ids_of(unchanged)[9]  # of kind 0
        found = Searcher(unchanged, "colours").neighbors_of([own], 4, where="label = 'kind 1'")
        others = numbers_of(np.delete(ids_of(unchanged), np.arange(1, COUNT, 3)))
        wanted, _ = oracle(unchanged, Vectors(unchanged, "colours").values()[9], leave_out=others)
        assert_array_equal(found.ids[0], wanted[:4])

    def test_twins_of_an_image_are_its_neighbours(self, scape, made, tmp_path):
        copies = tmp_path / "copies"
        copies.mkdir()
        for number in range(4):
            shutil.copy(made / "images" / "009.png", copies / f"copy{number}.png")
        ingest(copies, scape.path)
        embed(scape, "dhash64")
        own = ids_of(scape)[9]
        hits = search_queries(Searcher(scape, "dhash64"), own, 4).hits[own]
        assert {hit.uri[-9:] for hit in hits} == {f"copy{number}.png" for number in range(4)}
        assert len(hits) == 4

    def test_a_file_and_a_folder(self, unchanged, made, tmp_path):
        queries = tmp_path / "queries"
        (queries / "deep").mkdir(parents=True)
        shutil.copy(made / "images" / "011.png", queries / "a.png")
        shutil.copy(made / "images" / "012.png", queries / "deep" / "b.png")
        (queries / "bad.png").write_bytes(b"\x89PNG but no more")
        searcher = Searcher(unchanged, "dhash64")
        one = search_queries(searcher, str(queries / "a.png"), 1)
        assert [hits[0].uri[-7:] for hits in one.hits.values()] == ["011.png"]
        many = search_queries(searcher, str(queries), 1)
        assert many.is_folder
        assert {name: hits[0].uri[-7:] for name, hits in many.hits.items()} == {
            "a.png": "011.png",
            "deep/b.png": "012.png",
        }
        assert list(many.bad) == ["bad.png"]
        write_search_page(searcher, many, tmp_path / "page.html")
        page = (tmp_path / "page.html").read_text()
        assert page.count("data:image/webp") >= 4
        assert "deep/b.png" in page
        with pytest.raises(InputError, match=r"bad.png' cannot be searched for: "):
            search_queries(searcher, str(queries / "bad.png"), 1)

    def test_what_is_not_there(self, unchanged):
        searcher = Searcher(unchanged, "dhash64")
        with pytest.raises(InputError, match="'nothing' is no file, no folder, and no image_id"):
            search_queries(searcher, "nothing", 1)
        with pytest.raises(InputError, match="no image with features 'dhash64' has the id 0123456789abcdef"):
            search_queries(searcher, "0123456789abcdef", 1)

    def test_metrics_by_name(self):
        assert as_metric(None) is None
        assert as_metric("manhattan") == "manhattan"
        with pytest.raises(InputError, match=r"metric must be one of euclidean.*got 'l2'"):
            as_metric("l2")


class TestIndexes:
    @pytest.mark.parametrize("engine", APPROXIMATE)
    def test_an_index_is_kept_and_finds_the_same(self, scape, engine):
        pytest.importorskip("faiss")
        query = np.random.default_rng(1).random((5, 6), np.float32)
        exact = Searcher(scape, "colours").search(query, 5)
        first = Searcher(scape, "colours", engine=engine, search_width=None if engine == "Flat" else 64)
        assert_array_equal(first.search(query, 5).ids, exact.ids)
        (folder,) = (path for path in (scape.path / "indexes" / "colours").iterdir() if path.is_dir())
        built = (folder / "built.json").stat().st_mtime_ns
        again = Searcher(scape, "colours", engine=engine, search_width=None if engine == "Flat" else 64)
        assert_array_equal(again.search(query, 5).ids, exact.ids)
        assert (folder / "built.json").stat().st_mtime_ns == built

    def test_older_than_the_table_it_says_so_and_the_rest_is_searched_exactly(self, scape, made, caplog):
        pytest.importorskip("faiss")
        Searcher(scape, "dhash64", engine="binary")
        gone = ids_of(scape)[20]
        scape.delete([gone])
        ingest(write(scape.path.parent / "more", 100, 101), scape.path)
        embed(scape, "dhash64")
        with caplog.at_level(logging.WARNING):
            searcher = Searcher(scape, "dhash64", engine="binary")
        assert "older than the table: the 2 images it lacks are searched exactly" in caplog.text
        found = searcher.search(searcher.encode([picture(101), picture(20), picture(4)]), COUNT + 5)
        exact = Searcher(scape, "dhash64")
        assert [hits[0].uri[-7:] for hits in (searcher.hits(found)[0], searcher.hits(found)[2])] == [
            "101.png",
            "004.png",
        ]
        assert numbers_of(np.array([gone]))[0] not in found.ids
        assert_array_equal(
            found.distances, exact.search(exact.encode([picture(101), picture(20), picture(4)]), COUNT + 5).distances
        )
        only_new = searcher.search(searcher.encode([picture(4)]), 3, where="uri LIKE '%more%'")
        assert sorted(uri.uri[-7:] for uri in searcher.hits(only_new)[0]) == ["100.png", "101.png"]

    def test_features_made_anew_have_it_built_again(self, scape, caplog):
        pytest.importorskip("faiss")
        Searcher(scape, "colours", engine="Flat")
        embed(scape, encoder(3.0), overwrite=True, dtype="float32")
        with caplog.at_level(logging.WARNING):
            searcher = Searcher(scape, "colours", engine="Flat", metric="euclidean")
            Searcher(scape, "colours", engine="Flat")
        assert "made anew since their index was built: building it again" in caplog.text
        query = Vectors(scape, "colours").values()[[8]]
        assert searcher.search(query, 1).distances[0, 0] == pytest.approx(0, abs=1e-3)


class TestNeighbors:
    def test_columns_are_the_graph(self, scape):
        assert neighbors(scape, "colours", k=4) == ("colours", COUNT, 4)
        table = scape.read(["image_id", "neighbors_colours", "distances_colours"]).to_pylist()
        values = Vectors(scape, "colours").values()
        for row, vector in zip(table, values, strict=True):
            wanted, distances = oracle(scape, vector, leave_out=numbers_of(np.array([row["image_id"]])))
            assert row["neighbors_colours"] == ids_of_numbers(wanted[:4]).tolist()
            assert_allclose(row["distances_colours"], distances[:4], atol=1e-5)

    def test_it_goes_with_the_features(self, scape):
        neighbors(scape, "colours", k=2)
        with pytest.raises(InputError, match="has neighbors_colours already"):
            neighbors(scape, "colours")
        assert neighbors(scape, "colours", k=500, overwrite=True)[2] == COUNT - 1
        embed(scape, encoder(2.0), overwrite=True)
        assert "neighbors_colours" not in scape.columns

    def test_flagged_rows_have_none(self, scape):
        ids = ids_of(scape)
        scape.update([ids[3]], {"status": ["vanished"]})
        neighbors(scape, "dhash64", k=3)
        column = scape.read(["neighbors_dhash64"])["neighbors_dhash64"].to_pylist()
        assert column[3] is None
        assert not any(ids[3] in found for found in column if found)


class TestPlacesAndExport:
    def test_rows_in_the_order_asked(self, scape):
        ids = numbers_of(ids_of(scape))
        places = Places(scape)
        assert [uri[-7:] for uri in places.take(ids[[9, 2, 30]], ["uri"])["uri"].to_pylist()] == [
            "009.png",
            "002.png",
            "030.png",
        ]
        scape.delete(ids_of(scape)[:5])
        assert places.take(ids[[9, 2, 30]], ["uri"])["uri"].to_pylist()[0].endswith("009.png")
        assert len(places.take(ids[[9, 2, 30]], ["uri"])) == 2

    def test_export(self, unchanged, tmp_path):
        array, table = export_features(unchanged, "colours", tmp_path / "deep" / "f.npy")
        assert_array_equal(np.load(array), Vectors(unchanged, "colours").values())
        lines = table.read_text().splitlines()
        assert lines[0] == "image_id,uri"
        assert lines[8].startswith(ids_of(unchanged)[7])
        assert lines[8].endswith("007.png")
        with pytest.raises(InputError, match=r"ends in .npy"):
            export_features(unchanged, "colours", tmp_path / "f.csv")
