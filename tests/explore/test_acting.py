"""Acts, exports and selections over HTTP: what is written is in the table; what is exported is what was selected."""

import csv
import io
import zipfile

import pyarrow.parquet as pq
import pytest

from imagescape.explore.app import make_app
from imagescape.explore.explorer import Explorer
from tests.explore.conftest import NASTY, Page, encoded


class TestActs:
    def test_written_at_once_and_told(self, client, scape, ids):
        told = client.act("tag", ids=ids[:3], tag="<b>cat</b>")
        assert told["act"] == {"number": 1, "text": "tag 3 images '<b>cat</b>'", "changed": 3}
        assert told["version"] == scape.version
        assert told["undo"] == {"number": 1, "text": "tag 3 images '<b>cat</b>'"}
        assert scape.read(["tags"])["tags"].to_pylist()[:4] == [["<b>cat</b>"]] * 3 + [None]
        assert client.act("tag", ids=ids[:3], tag="<b>cat</b>")["act"] is None
        row = client.json(f"/api/row/{ids[0]}", order=client.order)
        assert row["tags"] == ["<b>cat</b>"]
        client.act("note", ids=[ids[0]], note="seen")
        client.act("mark", ids=[ids[0]], mark="remove")
        row = client.json(f"/api/row/{ids[0]}", order=client.order)
        assert (row["note"], row["mark"]) == ("seen", "remove")
        state = client.json("/api/state")
        assert (state["version"], state["undo"]["number"]) == (scape.version, 3)

    def test_undo_and_redo(self, client, scape, ids):
        before = scape.read(["image_id", "label"]).to_pylist()
        client.act("set", ids=ids[:5], column="label", value="lynx")
        undone = client.post("/api/undo").json()
        assert undone["act"]["text"] == "set label of 5 images to 'lynx'"
        assert (undone["undo"], undone["redo"]["number"]) == (None, 1)
        assert scape.read(["image_id", "label"]).to_pylist() == before
        assert client.post("/api/redo").json()["act"]["number"] == 1
        assert scape.read(["label"])["label"].to_pylist()[:5] == ["lynx"] * 5
        acts = client.json("/api/acts")["acts"]
        assert [(act["number"], act["undone"], act["changed"]) for act in acts] == [(1, False, 5)]

    def test_a_name_is_everywhere(self, client, scape):
        client.act("rename", clustering="C", cluster=2, name="lynx")
        assert client.json("/api/about")["clusterings"] == [{"name": "C", "column": "cluster_C", "named": True}]
        labels = client.json("/api/labels/M/cluster_C", order=client.order)["labels"]
        assert {one["value"]: (one["name"], one["named"]) for one in labels}[2] == ("lynx", True)
        assert scape.count("cluster_C_name = 'lynx'") == scape.count("cluster_C = 2")

    def test_changed_by_others_since(self, client, scape, ids, refused):
        client.act("mark", ids=ids[:2], mark="keep")
        scape.update([ids[0]], {"mark": ["remove"]})
        refused(client.post("/api/undo"), 409, "changed")
        assert scape.read(["mark"])["mark"].to_pylist()[:2] == ["remove", "keep"]

    @pytest.mark.parametrize(
        "content",
        [
            {},
            {"kind": "burn"},
            {"kind": ["tag"]},
            {"kind": "tag"},
            {"kind": "tag", "tag": "x"},
            {"kind": "tag", "tag": "x", "ids": "all"},
            {"kind": "tag", "tag": "x", "ids": [1]},
            {"kind": "tag", "tag": {"a": 1}, "ids": []},
            {"kind": "tag", "tag": "x", "ids": ["f" * 16]},
            {"kind": "mark", "mark": "burn", "ids": []},
            {"kind": "mark", "mark": ["keep"], "ids": []},
            {"kind": "note", "ids": []},
            {"kind": "set", "ids": [], "column": "status", "value": "ok"},
            {"kind": "set", "ids": [], "column": "label", "value": [1]},
            {"kind": "set", "ids": [], "column": "nothing", "value": "x"},
            {"kind": "rename", "clustering": "C", "cluster": "1", "name": "x"},
            {"kind": "rename", "clustering": "C", "cluster": True, "name": "x"},
            {"kind": "rename", "clustering": "../C", "cluster": 1, "name": "x"},
            {"kind": "rename", "clustering": "C", "cluster": 1, "name": 5},
        ],
        ids=str,
    )
    def test_nonsense(self, client, refused, scape, content):
        version = scape.version
        refused(client.post("/api/acts", content), 400, "input")
        assert scape.version == version

    def test_bodies_that_are_no_json(self, client, refused):
        headers = {"Content-Type": "application/json"}
        for body in (b"", b"[]", b"nonsense", b"[" * 100_000, b"\xff\xfe", b'"x"'):
            refused(client.http.post("/api/acts", content=body, headers=headers), 400, "input")
        for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
            answer = client.http.post("/api/acts", content=b"{}", headers={"Content-Type": kind})
            refused(answer, 415, "not_an_image")

    def test_read_only(self, scape, page, ids, refused):
        from starlette.testclient import TestClient

        app = make_app(Explorer(scape, read_only=True), page=page)
        client = Page(TestClient(app, base_url="http://localhost"))
        version = scape.version
        assert client.json("/api/about")["read_only"]
        for path, content in (
            ("/api/acts", {"kind": "tag", "ids": ids[:1], "tag": "x"}),
            ("/api/undo", {}),
            ("/api/redo", {}),
        ):
            client.refused(client.post(path, content), 403, "read_only")
        assert scape.version == version
        assert client.post("/api/export", {"ids": ids[:2], "format": "csv"}).status_code == 200


class TestExport:
    def fetched(self, client, ids, format, **more):
        asked = client.post("/api/export", {"ids": ids, "format": format, **more})
        assert asked.status_code == 200, asked.text
        told = asked.json()
        assert told["count"] == len(ids)
        answer = client.get("/" + told["url"])
        assert answer.headers["content-disposition"].endswith(told["filename"])
        return answer.content

    def test_csv_in_the_order_of_the_selection(self, client, scape, ids):
        some = [ids[7], ids[2], ids[16]]
        client.act("tag", ids=[ids[7]], tag="a,b")
        client.act("tag", ids=[ids[7]], tag="z")
        rows = list(csv.DictReader(io.StringIO(self.fetched(client, some, "csv").decode(), newline="")))
        assert [row["image_id"] for row in rows] == some
        assert [row["label"] for row in rows] == ["green", "blue", "green"]
        assert [row["tags"] for row in rows] == ["a,b|z", "", ""]
        assert float(rows[0]["weight"]) == scape.read(["weight"])["weight"][7].as_py()
        only = self.fetched(client, some, "csv", columns=["label"]).decode().splitlines()
        assert only[0] == "image_id,label"

    def test_parquet_with_the_types_of_the_table(self, client, scape, ids):
        table = pq.read_table(io.BytesIO(self.fetched(client, ids[::-1], "parquet")))
        assert table["image_id"].to_pylist() == ids[::-1]
        assert table["label"].to_pylist() == scape.read(["label"])["label"].to_pylist()[::-1]
        assert table.schema.field("cluster_C").type == scape.schema.field("cluster_C").type
        assert "thumbnail" not in table.column_names

    def test_paths_a_line_each(self, client, scape, ids):
        lines = self.fetched(client, ids, "paths").decode().split("\n")
        assert lines.pop() == ""
        assert len(lines) == len(ids)  # also with a line break in a name
        uris = scape.read(["uri"])["uri"].to_pylist()
        assert [line for line, uri in zip(lines, uris, strict=True) if uri.isprintable()] == [
            uri for uri in uris if uri.isprintable()
        ]
        assert sum(line.endswith("a%0Ab.png") for line in lines) == 1

    def test_zip_of_the_very_bytes(self, client, scape, ids):
        with zipfile.ZipFile(io.BytesIO(self.fetched(client, ids, "zip"))) as archive:
            assert archive.testzip() is None
            names = archive.namelist()
            by_id = {name.partition("_")[0]: name for name in names if "_" in name}
            uris = scape.read(["uri", "sha256"]).to_pylist()
            for image_id, row in zip(ids, uris, strict=True):
                content = archive.read(by_id[image_id])
                if not row["uri"].startswith("array#"):
                    import hashlib

                    assert hashlib.sha256(content).hexdigest() == row["sha256"]
            table = archive.read("selection.csv").decode().splitlines()
            assert len(list(csv.reader(table))) >= len(ids)
        assert all("/" not in name and ".." not in name and name.isprintable() for name in names)
        assert any("onerror" in name and "<" not in name for name in names)
        assert sum(name.endswith(".png.png") for name in names) == 0
        assert sum("rows.parquet" in name and name.endswith(".png") for name in names) == 3
        assert "missing.csv" not in names

    def test_what_is_missing_is_told_and_the_rest_is_there(self, client, scape, ids, tmp_path):
        from imagescape.collection.ingest import ingest

        path = tmp_path / "gone.png"
        path.write_bytes(encoded(60))
        ingest([path], scape.path)
        own = scape.read(["image_id"], where=f"uri = '{path}'")["image_id"][0].as_py()
        path.unlink()
        with zipfile.ZipFile(io.BytesIO(self.fetched(client, [ids[0], own], "zip"))) as archive:
            assert archive.read("missing.csv").decode().splitlines()[1] == f"{own},gone.png,the file is gone"
            assert sum(name.startswith(ids[0]) for name in archive.namelist()) == 1

    @pytest.mark.parametrize(
        ("content", "status"),
        [
            ({"ids": [], "format": "csv"}, 400),
            ({"ids": ["f" * 16], "format": "csv"}, 400),
            ({"ids": ["../x"], "format": "csv"}, 404),
            ({"ids": [], "format": "exe"}, 400),
            ({"ids": [], "format": ["csv"]}, 400),
            ({"ids": [], "format": "csv", "columns": ["thumbnail"]}, 400),
            ({"ids": [], "format": "csv", "columns": "label"}, 400),
        ],
        ids=str,
    )
    def test_nonsense(self, client, refused, content, status):
        refused(client.post("/api/export", content), status, "input" if status == 400 else "not_found")

    def test_a_key_cannot_be_guessed_and_does_not_last(self, client, refused, ids, monkeypatch):
        refused(client.get("/api/export/x"), 404, "not_found")
        told = client.post("/api/export", {"ids": ids[:1], "format": "csv"}).json()
        from imagescape.explore.routes import acting

        monkeypatch.setattr(acting, "_KEEP_SECONDS", -1)
        refused(client.get("/" + told["url"]), 404, "not_found")


class TestSelection:
    def test_what_is_selected(self, client, ids, refused):
        assert client.json("/api/selection") == {"ids": [], "number": 0}
        assert client.post("/api/selection", {"ids": ids[:3]}, method="PUT").json() == {"number": 1, "count": 3}
        assert client.json("/api/selection") == {"ids": ids[:3], "number": 1}
        refused(client.post("/api/selection", {"ids": [3]}, method="PUT"), 400, "input")
        refused(client.post("/api/selection", {"ids": ["../"]}, method="PUT"), 404, "not_found")
        assert client.json("/api/selection")["number"] == 1
        refused(client.post("/api/selection", {"ids": []}), 405, "method")


def test_names_of_images_are_never_markup(client, ids):
    """What is JSON says so, and no browser guesses otherwise."""
    for path in (f"/api/row/{ids[14]}?order={client.order}", f"/api/names?ids={ids[14]}"):
        answer = client.http.get(path)
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert NASTY in client.json("/api/names", ids=",".join(ids))["names"]
