"""What a page reads is what the table and the sources hold, image by image."""

import io
import itertools
import json
import struct
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pytest
from numpy.testing import assert_array_equal
from PIL import Image

from imagescape.collection.results import map_coords
from imagescape.collection.vectors import numbers_of
from imagescape.explore.columns import Column
from imagescape.explore.kept import Kept
from imagescape.explore.labels import ROOM_X, ROOM_Y, labels_of
from tests.explore.conftest import CELL, NASTY, encoded, picture


def unpacked(content):
    """Pictures of a block of thumbnails, by the layout in docs/explorer.md."""
    (count,) = struct.unpack_from("<I", content)
    lengths = struct.unpack_from(f"<{count}I", content, 4)
    ends = 4 + 4 * count + np.cumsum([0, *lengths])
    assert len(content) == ends[-1]
    return [content[start:end] for start, end in itertools.pairwise(ends)]


class TestOrder:
    def test_ids_and_maps_in_table_order(self, client, scape, ids):
        assert_array_equal(client.rows("/api/ids")["id"].to_numpy().view(np.int64), numbers_of(np.array(ids)))
        table = client.rows("/api/map/M")
        assert table.schema == pa.schema({"x": pa.float32(), "y": pa.float32()})
        assert_array_equal(np.column_stack([table["x"], table["y"]]), map_coords(scape, "M"))
        assert int(np.isnan(table["x"].to_numpy()).sum()) == 1  # the broken image

    def test_about(self, client, scape):
        about = client.json("/api/about")
        assert (about["name"], about["rows"], about["usable"]) == ("c", 24, 23)
        assert about["version"] == scape.version
        assert not about["read_only"]
        assert not about["tiled"]
        assert [(one["name"], one["count"], one["features"], one["places"]) for one in about["maps"]] == [
            ("M", 23, "net", True)
        ]
        kinds = {one["name"]: (one["kind"], one["role"]) for one in about["columns"]}
        assert kinds["label"] == ("classes", "")
        assert kinds["weight"] == ("amounts", "")
        assert kinds["cluster_C"] == ("classes", "cluster")
        assert kinds["uri"] == ("texts", "source")
        assert not {"thumbnail", "image", "image_id", "x_M", "features_net", "sha256"} & set(kinds)
        assert about["clusterings"] == [{"name": "C", "column": "cluster_C", "named": False}]
        by_name = {one["name"]: one for one in about["features"]}
        assert by_name["net"]["by_image"]
        assert by_name["dhash64"]["by_image"]
        assert not by_name["net"]["by_text"]
        assert "text side" in by_name["net"]["by_text_not"]
        x0, y0, x1, y1 = about["maps"][0]["bounds"]
        coords = map_coords(scape, "M")
        assert [x0, y0] == pytest.approx(np.nanmin(coords, axis=0).tolist())
        assert [x1, y1] == pytest.approx(np.nanmax(coords, axis=0).tolist())

    def test_what_a_browser_has_is_not_sent_again(self, client, scape, ids):
        for path in ("/api/ids", "/api/map/M", "/api/column/label"):
            first = client.get(path, order=client.order)
            tag = {"If-None-Match": first.headers["etag"]}
            again = client.http.get(path, params={"order": client.order}, headers=tag)
            assert (again.status_code, again.content) == (304, b"")
        scape.update([ids[0]], {"label": ["blue"]})
        assert client.http.get(path, params={"order": client.order}, headers=tag).status_code == 200
        assert json.loads(client.rows(path).schema.metadata[b"counts"]) == [8, 8, 7]


class TestColumns:
    def test_classes(self, client, scape):
        table = client.rows("/api/column/label")
        about = {key.decode(): json.loads(value) for key, value in table.schema.metadata.items()}
        assert about["values"] == about["names"] == ["blue", "green", "red"]
        assert about["counts"] == [7, 8, 8]
        assert len(set(about["colors"])) == 3
        codes = table["code"].to_pylist()
        told = [about["values"][code] if code >= 0 else None for code in codes]
        assert told == scape.read(["label"])["label"].to_pylist()
        assert client.json("/api/summary/label", order=client.order) == about

    def test_clusters_are_called_by_their_names(self, client, scape):
        client.act("rename", clustering="C", cluster=1, name="lynx")
        table = client.rows("/api/column/cluster_C")
        about = {key.decode(): json.loads(value) for key, value in table.schema.metadata.items()}
        assert about["values"] == [0, 1, 2]
        assert about["names"] == ["cluster 0", "lynx", "cluster 2"]
        assert about["named"] == [False, True, False]
        clusters = scape.read(["cluster_C"])["cluster_C"].to_pylist()
        assert table["code"].to_pylist() == [-1 if one is None else one for one in clusters]  # noise and null alike

    def test_a_cluster_is_called_as_most_of_its_images_are(self, client, scape, ids):
        names = ["few", "many", "many", None, " ", "many \n more"]
        scape.add_columns(ids[:6], {"cluster_D": pa.array([4] * 6, pa.int64()), "cluster_D_name": pa.array(names)})
        told = client.json("/api/summary/cluster_D", order=client.order)
        assert (told["values"], told["names"], told["counts"]) == ([4], ["many"], [6])

    def test_amounts_texts_lists(self, client, scape, ids):
        weights = client.rows("/api/column/weight")["value"].to_numpy()
        assert_array_equal(weights, scape.read(["weight"])["weight"].to_numpy())
        assert client.rows("/api/column/uri")["value"].to_pylist() == scape.read(["uri"])["uri"].to_pylist()
        client.act("tag", ids=ids[3:5], tag="cat")
        table = client.rows("/api/column/tags")
        assert table.schema.field("value").type == pa.list_(pa.string())
        assert table["value"].to_pylist() == [None] * 3 + [["cat"]] * 2 + [None] * 19
        assert client.json("/api/tags") == {"tags": [{"name": "cat", "count": 2}]}
        assert client.json("/api/about")["tags"] == [{"name": "cat", "count": 2}]

    def test_kinds_by_their_values(self, client, scape, ids):
        scape.add_columns(
            ids,
            {
                "wide": pa.array([2**60 + number for number in range(24)], pa.int64()),
                "few": [number % 3 - 1 for number in range(24)],
                "yes": [True, None] * 12,
                "hole": [float("inf"), float("nan"), 1.0] * 8,
                "when": pa.array([1_700_000_000_000_000 + number for number in range(24)], pa.timestamp("us")),
                "words": pa.array([["b", "a"], None] * 12, pa.list_(pa.string())),
                "vector": np.zeros((24, 3), np.float32),
            },
        )
        kinds = {one["name"]: one["kind"] for one in client.json("/api/about")["columns"]}
        assert kinds["few"] == kinds["yes"] == "classes"
        assert kinds["hole"] == "amounts"
        assert kinds["words"] == "lists"
        assert kinds["wide"] == "classes"  # 24 different whole numbers are few
        assert "vector" not in kinds
        for name, kind in kinds.items():  # what is told beforehand is what the values then are
            assert client.json(f"/api/summary/{name}", order=client.order)["kind"] == kind
        hole = client.rows("/api/column/hole")
        assert np.isnan(hole["value"].to_numpy()).tolist() == [True, True, False] * 8
        assert json.loads(hole.schema.metadata[b"max"]) == 1.0
        assert client.rows("/api/column/few")["code"].to_pylist() == [-1, 0, 1] * 8  # -1 is none
        values = dict(client.json(f"/api/row/{ids[1]}", order=client.order)["values"])
        assert values["wide"] == str(2**60 + 1)  # no number of JavaScript
        assert values["hole"] is None
        assert values["when"].startswith("2023-11-14T22:13:20")

    def test_odd_names_of_columns(self, client, scape, ids):
        names = ["a/b", "c d", "é", "50%", "#1", "?x=1", "<b>"]
        scape.add_columns(ids, {name: [f"in {name}", None] * 12 for name in names})
        for name in names:
            told = client.json(f"/api/summary/{quote(name, safe='')}", order=client.order)
            assert told["values"] == [f"in {name}"]
            assert client.rows(f"/api/column/{quote(name, safe='')}")["code"].to_pylist() == [0, -1] * 12
        assert (
            client.json(f"/api/labels/M/{quote('a/b', safe='')}", order=client.order)["labels"][0]["name"] == "in a/b"
        )

    def test_many_texts_are_texts(self, scape, client, ids):
        rows = 200
        new = [f"{number:016x}" for number in range(rows)]
        scape.append(pa.table({"image_id": new, "uri": new, "caption": new, "kind": ["a", "b"] * (rows // 2)}))
        kinds = {one["name"]: one["kind"] for one in client.json("/api/about")["columns"]}
        assert (kinds["caption"], kinds["kind"]) == ("texts", "classes")

    @pytest.mark.parametrize(
        "name", ["nothing", "thumbnail", "image", "features_net", "x_M", "image_id", "..", "label%00"]
    )
    def test_what_is_not_shown(self, client, refused, name):
        refused(client.get(f"/api/column/{name}", order=client.order), 404, "not_found")


class TestPictures:
    def test_thumbnails_are_those_of_the_table_in_the_order_asked_for(self, client, scape, ids):
        wanted = [ids[5], ids[0], "f" * 16, ids[17], ids[5]]
        known = dict(zip(ids, scape.read(["thumbnail"])["thumbnail"].to_pylist(), strict=True))
        answer = client.get("/api/thumbnails", ids=",".join(wanted))
        assert unpacked(answer.content) == [known.get(one) or b"" for one in wanted]
        assert answer.headers["content-type"] == "application/octet-stream"
        assert client.post("/api/thumbnails", {"ids": wanted}).content == answer.content
        assert [bool(one) for one in unpacked(answer.content)] == [True, True, False, False, True]

    def test_each_is_the_picture_of_its_image(self, client, ids):
        pictures = unpacked(client.get("/api/thumbnails", ids=",".join(ids[:12])).content)
        for number, content in enumerate(pictures):
            shown = np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)
            errors = [np.abs(shown - np.asarray(picture(other)).astype(int)).mean() for other in range(12)]
            assert int(np.argmin(errors)) == number

    def test_names(self, client, ids, scape):
        told = client.json("/api/names", ids=",".join([*ids, "0" * 16]))["names"]
        assert set(told) >= {"000.png", NASTY, CELL, "rows.parquet 0", "array#2", "broken.png", None}
        assert told[-1] is None
        assert told == client.post("/api/names", {"ids": [*ids, "0" * 16]}).json()["names"]

    def test_originals_are_the_very_bytes(self, client, scape, made, ids):
        sources = dict(zip(ids, scape.read(["uri", "format"]).to_pylist(), strict=True))
        checked = set()
        for image_id, source in sources.items():
            if "#row=" in source["uri"]:
                expected = encoded(20 + int(source["uri"].rpartition("=")[2]))
            elif source["uri"].startswith("array#") or source["uri"].startswith("file://"):
                continue
            else:
                expected = Path(source["uri"]).read_bytes()
            answer = client.get(f"/api/image/{image_id}", original=1)
            assert (answer.status_code, answer.content) == (200, expected)
            assert answer.headers["content-type"] == "application/octet-stream"
            assert answer.headers["content-disposition"].startswith("attachment; filename*=UTF-8''")
            checked.add(source["format"])
        assert checked == {"PNG", "JPEG", "TIFF", "WEBP", ""}

    def test_shown_as_what_browsers_show(self, client, scape, ids):
        formats = scape.read(["format"])["format"].to_pylist()
        kinds = {
            "PNG": "image/png",
            "JPEG": "image/jpeg",
            "WEBP": "image/webp",
            "TIFF": "image/png",
            "ARRAY": "image/png",
        }
        for image_id, kind in zip(ids, formats, strict=True):
            if kind:
                answer = client.get(f"/api/image/{image_id}")
                assert answer.headers["content-type"] == kinds[kind]
                assert int(answer.headers["content-length"]) == len(answer.content)
                assert Image.open(io.BytesIO(answer.content)).size == (24, 24)
                assert "sandbox" in answer.headers["content-security-policy"]

    def test_a_file_that_changed_is_not_shown_as_the_image(self, client, scape, ids, tmp_path, refused):
        path = tmp_path / "mine.png"
        path.write_bytes(encoded(50))
        from imagescape.collection.ingest import ingest

        ingest([path], scape.path)
        own = scape.read(["image_id"], where=f"uri = '{path}'")["image_id"][0].as_py()
        assert client.get(f"/api/image/{own}").content == encoded(50)
        path.write_bytes(encoded(51))
        assert "another picture" in refused(client.get(f"/api/image/{own}"), 410, "vanished")
        path.write_bytes(encoded(50))  # the same again, of another time: told by its hash
        assert client.get(f"/api/image/{own}").content == encoded(50)
        path.unlink()
        assert "gone" in refused(client.get(f"/api/image/{own}"), 410, "vanished")
        path.mkdir()
        refused(client.get(f"/api/image/{own}"), 410, "vanished")

    def test_a_pipe_in_place_of_a_file_keeps_nobody_waiting(self, client, scape, tmp_path, refused):
        import os

        path = tmp_path / "mine.png"
        path.write_bytes(encoded(50))
        from imagescape.collection.ingest import ingest

        ingest([path], scape.path)
        own = scape.read(["image_id"], where=f"uri = '{path}'")["image_id"][0].as_py()
        path.unlink()
        os.mkfifo(path)
        refused(client.get(f"/api/image/{own}"), 410, "vanished")

    @pytest.mark.parametrize(
        "bad", ["f" * 16, "F" * 16, "../../etc/passwd", "%2e%2e%2fetc", "x", "0" * 17, "/etc/passwd"]
    )
    def test_only_ids_of_the_table(self, client, refused, bad):
        for path in (
            f"/api/image/{bad}",
            f"/api/row/{bad}?order={client.order}",
            f"/api/neighbors/{bad}?order={client.order}",
        ):
            refused(client.http.get(path), 404, "not_found")

    def test_too_many_at_once(self, client, refused, ids):
        refused(client.post("/api/thumbnails", {"ids": [ids[0]] * 513}), 400, "input")
        refused(client.get("/api/thumbnails", ids="../x"), 404, "not_found")
        refused(client.get("/api/thumbnails"), 400, "input")

    def test_a_row(self, client, scape, ids):
        row = client.json(f"/api/row/{ids[4]}", order=client.order)
        assert (row["row"], row["id"], row["name"]) == (4, ids[4], "004.png")
        assert dict(row["values"])["label"] == "green"
        assert [name for name, _ in row["values"]] == [one["name"] for one in client.json("/api/about")["columns"]]
        assert (row["tags"], row["mark"], row["note"]) == ([], None, "")


class TestLabels:
    def test_medians_by_hand(self):
        column = Column("classes", np.array([0, 0, 0, 0, 0, 1, -1, 1]), {"values": ["a", "b"], "names": ["a", "b"]})
        coords = np.array([[0, 0], [1, 1], [2, 2], [3, 3], [99, 99], [5, 0], [3, 3], [np.nan, np.nan]], np.float32)
        first, second = labels_of(column, coords)
        assert (first.name, first.x, first.y, first.count, first.level) == ("a", 2, 2, 5, 0)
        assert (second.name, second.x, second.y, second.count) == ("b", 5, 0, 1)

    @pytest.mark.parametrize(
        ("place", "level"),
        [
            ((100, 0), 0.0),  # beside: clear in x, whatever y
            ((0, 100), 0.0),  # above
            ((6.25, 0), 1.0),  # half the room in x, none in y: twice as large
            ((6.25, 1), 1.0),  # in y it would take twice that
            ((1, 2), 1.0),  # and here y is clear first
            ((0, 0), 16.0),  # one on the other: never, as far as a map is enlarged
        ],
    )
    def test_how_far_to_enlarge_by_hand(self, place, level):
        """Of a map of 100 by 100 a name takes 12.5 by 4."""
        column = Column("classes", np.array([0, 0, 1, -1, -1]), {"values": ["a", "b"], "names": ["a", "b"]})
        coords = np.array([[0, 0], [0, 0], place, [0, 0], [100, 100]], np.float32)
        assert [one.level for one in labels_of(column, coords)] == [0.0, level]

    def test_those_that_are_seen_together_have_room(self):
        rng = np.random.default_rng(0)
        codes = rng.integers(0, 60, 4000)
        middles = rng.normal(size=(60, 2))
        coords = (middles[codes] + rng.normal(0, 0.05, (4000, 2))).astype(np.float32)
        names = [str(code) for code in range(60)]
        found = labels_of(Column("classes", codes, {"values": names, "names": names}), coords)
        side = float((coords.max(axis=0) - coords.min(axis=0)).max())
        assert len(found) == 60
        assert found[0].level == 0
        assert len({one.level for one in found}) > 3
        assert [one.count for one in found] == sorted((one.count for one in found), reverse=True)
        for level in {one.level for one in found}:
            shown = [one for one in found if one.level <= level]
            for i, one in enumerate(shown):
                for other in shown[:i]:
                    apart_x, apart_y = abs(one.x - other.x) / side, abs(one.y - other.y) / side
                    assert apart_x >= 0.999 * ROOM_X / 2**level or apart_y >= 0.999 * ROOM_Y / 2**level

    def test_route(self, client, refused):
        labels = client.json("/api/labels/M/cluster_C", order=client.order)["labels"]
        assert {one["value"] for one in labels} == {0, 1, 2}
        assert not any(one["named"] for one in labels)
        assert {one["name"] for one in client.json("/api/labels/M/label", order=client.order)["labels"]} == {
            "red",
            "green",
            "blue",
        }
        refused(client.get("/api/labels/M/weight", order=client.order), 400, "input")
        refused(client.get("/api/labels/N/label", order=client.order), 404, "not_found")


class TestKept:
    def test_the_oldest_is_given_up(self):
        kept, made = Kept(100), []

        def get(key, size):
            return kept.get(key, lambda: made.append(key) or key, lambda _: size)

        for key in ("a", "b", "a", "c", "a", "b"):
            assert get(key, 40) == key
        assert made == ["a", "b", "c", "b"]
        assert kept.held_bytes == 80
        get("huge", 101)
        get("huge", 101)
        assert made[-2:] == ["huge", "huge"]

    def test_one_makes_it_and_all_have_it(self):
        import threading
        import time

        kept, made, got = Kept(100), [], []

        def make():
            made.append(1)
            time.sleep(0.05)
            return "value"

        threads = [threading.Thread(target=lambda: got.append(kept.get("k", make, len))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(made), got) == (1, ["value"] * 8)

    def test_what_fails_is_tried_again(self):
        kept = Kept(100)

        def fail():
            raise ValueError("no")

        for _ in range(2):
            with pytest.raises(ValueError, match="no"):
                kept.get("k", fail, len)
        assert kept.get("k", lambda: "yes", len) == "yes"
