"""Finding images: each way against what the table says, worked out here by other means."""

import numpy as np
import pyarrow as pa
import pytest
from numpy.testing import assert_allclose

from imagescape.collection.results import features, map_coords
from imagescape.pipeline.embedding import embed
from imagescape.pipeline.similarity import neighbors
from tests.explore.conftest import NASTY, encoded, network, picture
from tests.features import small_clip

IMAGE = {"Content-Type": "image/png"}


def nearest(values, query, leave_out):
    """Rows by cosine distance, worked out with NumPy; the row itself is left out."""
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)
    distances = 1 - unit @ (query / np.linalg.norm(query))
    order = [row for row in np.argsort(distances, kind="stable") if row != leave_out and np.isfinite(distances[row])]
    return order, distances


def send(client, path, content=None, headers=IMAGE, **query):
    content = encoded(5) if content is None else content
    return client.http.post(path, params={"order": client.order, **query}, content=content, headers=headers)


class TestConditions:
    def test_rows_that_meet_a_condition(self, client, scape):
        for condition in ("label = 'red'", "weight > 0.5 AND width = 24", "cluster_C IS NULL", "status = 'ok'"):
            wanted = set(scape.read(["image_id"], where=condition)["image_id"].to_pylist())
            rows = client.rows("/api/find/where", q=condition)
            assert rows.schema == pa.schema({"row": pa.uint32()})
            every = scape.read(["image_id"])["image_id"].to_pylist()
            assert [every[row] for row in rows["row"].to_pylist()] == [one for one in every if one in wanted]
            assert wanted

    def test_tags_and_marks(self, client, ids):
        client.act("tag", ids=ids[2:5], tag="it's")
        client.act("mark", ids=ids[4:6], mark="keep")
        assert client.rows("/api/find/where", q="array_has(tags, 'it''s')")["row"].to_pylist() == [2, 3, 4]
        assert client.rows("/api/find/where", q="mark = 'keep'")["row"].to_pylist() == [4, 5]

    @pytest.mark.parametrize("condition", ["label ===== 3", "nothing = 1", "", "DROP TABLE x", "x" * 2001])
    def test_nonsense_is_told(self, client, refused, condition):
        message = refused(client.get("/api/find/where", order=client.order, q=condition), 400, "input")
        assert "condition" in message or "column" in message


class TestNames:
    def test_parts_of_names_whatever_the_case(self, client, ids):
        names = client.json("/api/names", ids=",".join(ids))["names"]
        for text in ("00", ".PNG", "ONERROR", "parquet 1", "array#", "<img", "%", "_", "(", "row", "t 2"):
            found = client.rows("/api/find/name", q=text)["row"].to_pylist()
            assert found == [row for row, name in enumerate(names) if text.lower() in name.lower()]
        assert client.rows("/api/find/name", q="onerror")["row"].to_pylist() == [names.index(NASTY)]

    def test_folders_are_no_names(self, client, made):
        assert client.rows("/api/find/name", q=made.name)["row"].to_pylist() == []

    def test_limits(self, client, refused):
        assert client.rows("/api/find/name", q="0", limit=3).num_rows == 3
        refused(client.get("/api/find/name", order=client.order, q=""), 400, "input")
        refused(client.get("/api/find/name", order=client.order, q="0", limit="many"), 400, "input")
        refused(client.get("/api/find/name", order=client.order, q="0", limit=0), 400, "input")


class TestNeighbors:
    def test_in_features_and_on_the_map(self, client, scape, ids):
        values, coords = features(scape, "net"), map_coords(scape, "M")
        for row in (0, 4, 20):
            told = client.json(f"/api/neighbors/{ids[row]}", order=client.order, k=5, features="net", map="M")
            expected, distances = nearest(values, values[row], row)
            assert [hit["row"] for hit in told["features"]["hits"]] == expected[:5]
            assert_allclose([hit["distance"] for hit in told["features"]["hits"]], distances[expected[:5]], atol=1e-5)
            away = np.linalg.norm(coords - coords[row], axis=1)
            order = [one for one in np.argsort(away, kind="stable") if one != row and np.isfinite(away[one])]
            assert [hit["row"] for hit in told["map"]["hits"]] == order[:5]
            assert [hit["id"] for hit in told["map"]["hits"]] == [ids[one] for one in order[:5]]
            assert told["features"]["metric"] == "cosine"

    def test_by_the_graph_in_the_table_where_it_has_as_many(self, client, scape, ids, monkeypatch):
        neighbors(scape, "net", k=4, device="cpu")
        values = features(scape, "net")
        searched = []
        import imagescape.explore.finding as finding

        made = finding.Searcher
        monkeypatch.setattr(finding, "Searcher", lambda *some, **more: searched.append(1) or made(*some, **more))
        for k, by_search in ((4, 0), (5, 1)):
            told = client.json(f"/api/neighbors/{ids[3]}", order=client.order, k=k, features="net")
            assert [hit["row"] for hit in told["features"]["hits"]] == nearest(values, values[3], 3)[0][:k]
            assert told["map"] is None
            assert len(searched) == by_search

    def test_an_image_without_features_or_off_the_map(self, client, ids, scape):
        broken = scape.read(["image_id"], where="status != 'ok'")["image_id"][0].as_py()
        told = client.json(f"/api/neighbors/{broken}", order=client.order, features="net", map="M")
        assert told["features"]["hits"] == told["map"]["hits"] == []
        assert "no features" in told["features"]["reason"]
        assert "not on the map" in told["map"]["reason"]

    def test_features_that_are_made_anew_are_searched_anew(self, client, scape, ids):
        first = client.json(f"/api/neighbors/{ids[3]}", order=client.order, k=3, features="net")["features"]["hits"]
        values = np.random.default_rng(0).random((24, scape.schema.field("features_net").type.list_size)).astype("f2")
        scape.add_columns(ids, {"features_net": values}, overwrite=True)
        scape.update([ids[4]], {"status": ["vanished"]})
        told = client.json(f"/api/neighbors/{ids[3]}", order=client.order, k=3, features="net")["features"]["hits"]
        values = values.astype(float)
        values[4] = np.nan
        broken = scape.read(["status"])["status"].to_pylist().index("not_an_image")
        values[broken] = np.nan
        assert [hit["row"] for hit in told] == nearest(values, values[3], 3)[0][:3] != [hit["row"] for hit in first]

    def test_what_cannot_be_asked(self, client, refused, ids):
        refused(client.get(f"/api/neighbors/{ids[0]}", order=client.order), 400, "input")
        refused(client.get(f"/api/neighbors/{ids[0]}", order=client.order, features="no"), 404, "not_found")
        refused(client.get(f"/api/neighbors/{ids[0]}", order=client.order, map="no"), 404, "not_found")
        refused(client.get(f"/api/neighbors/{ids[0]}", order=client.order, map="M", k=201), 400, "input")


class TestPictures:
    def test_an_image_finds_itself_first(self, client, ids):
        for number in (0, 7, 11):
            told = send(client, "/api/find/image", encoded(number), features="net", k=3).json()
            assert told["hits"][0]["row"] == number
            assert told["image"] == {"width": 24, "height": 24, "format": "PNG"}
        told = send(client, "/api/find/image", encoded(7), features="dhash64", k=1).json()
        assert (told["metric"], told["hits"][0]["row"], told["hits"][0]["distance"]) == ("hamming", 7, 0)

    def test_the_distances_are_those_of_the_tables_encoder(self, client, scape):
        values = features(scape, "net")
        vector = network().encode([picture(55)])[0][0]
        expected, distances = nearest(values, vector, -1)
        told = send(client, "/api/find/image", encoded(55), features="net", k=6).json()["hits"]
        assert [hit["row"] for hit in told] == expected[:6]
        assert_allclose([hit["distance"] for hit in told], distances[expected[:6]], atol=1e-3)

    @pytest.mark.parametrize(
        "content", [b"", b"no picture", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"\x89PNG\r\n\x1a\n"]
    )
    def test_what_is_no_image(self, client, refused, content):
        refused(send(client, "/api/find/image", content, features="net"), 415, "not_an_image")

    def test_forms_of_other_sites_are_not_taken(self, client, refused):
        for kind in ("text/plain", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded"):
            answer = send(client, "/api/find/image", features="net", headers={"Content-Type": kind})
            refused(answer, 415, "not_an_image")

    def test_features_without_their_encoder(self, client, scape, refused):
        import shutil

        shutil.rmtree(scape.path / "models" / "net")
        assert "net" in refused(send(client, "/api/find/image", features="net"), 503, "missing")
        told = {one["name"]: one for one in client.json("/api/about")["features"]}
        assert not told["net"]["by_image"]

    def test_texts_need_a_text_side(self, client, refused):
        message = refused(client.get("/api/find/text", order=client.order, q="cat", features="net"), 409, "cannot")
        assert "text side" in message


class TestTexts:
    def test_images_that_fit_a_text(self, client, scape, tmp_path, refused):
        """By a small CLIP: the same order as of vectors made by its own means."""
        transformers = pytest.importorskip("transformers", reason="the extra 'transformers' is not installed")
        model, tokenizer, processor = small_clip.small_clip(transformers)
        folder = small_clip.save(tmp_path / "clip", model, tokenizer, processor)
        embed(scape, f"hf:{folder}", "clip", device="cpu")
        assert client.json("/api/about")["features"][-1]["by_text"]
        texts = ["lynx", "a photo of a lynx.", "a picture of lynx."]
        query = np.mean([small_clip.text_features(model, tokenizer, text) for text in texts], axis=0)
        expected, distances = nearest(features(scape, "clip").astype(float), query, -1)
        told = client.json("/api/find/text", order=client.order, q=" lynx ", features="clip", k=5)
        assert_allclose([hit["distance"] for hit in told["hits"]], distances[expected[:5]], atol=3e-3)
        assert told["hits"][0]["row"] in expected[:2]
        assert (told["features"], told["metric"]) == ("clip", "cosine")
        refused(client.get("/api/find/text", order=client.order, q=" ", features="clip"), 400, "input")


class TestPlacing:
    def test_an_image_of_the_table_lands_where_it_is(self, client, scape):
        coords = map_coords(scape, "M")
        version = scape.version
        for number in (1, 8):
            told = send(client, "/api/place/M", encoded(number), k=4).json()
            away = np.linalg.norm(coords - (told["x"], told["y"]), axis=1)
            assert (told["map"], told["features"]) == ("M", "net")
            assert np.nanargmin(away) == told["hits"][0]["row"]
            spread = np.nanstd(coords)
            assert np.linalg.norm(coords[number] - (told["x"], told["y"])) < spread
        assert scape.version == version

    def test_maps_that_cannot(self, client, scape, refused):
        import json
        import shutil

        shutil.copytree(scape.path / "models" / "M", scape.path / "models" / "T")
        config = json.loads((scape.path / "models" / "T" / "config.json").read_text())
        config["recipe"]["method"] = "TSNE"
        (scape.path / "models" / "T" / "config.json").write_text(json.dumps(config))
        table = scape.read(["image_id", "x_M", "y_M"])
        scape.add_columns(table["image_id"], {"x_T": table["x_M"], "y_T": table["y_M"]})
        assert "TSNE" in refused(send(client, "/api/place/T"), 409, "cannot")
        told = {one["name"]: one for one in client.json("/api/about")["maps"]}
        assert (told["M"]["places"], told["T"]["places"]) == (True, False)
        assert "TSNE" in told["T"]["places_not"]
        refused(send(client, "/api/place/N"), 404, "not_found")
