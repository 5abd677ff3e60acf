"""The page of files: what a plain file server gives is what the explorer's server would have said."""

import functools
import http.server
import json
import threading
import urllib.request

import numpy as np
import pyarrow as pa
import pytest
from numpy.testing import assert_array_equal

from imagescape.errors import InputError
from imagescape.explore import site
from imagescape.explore.site import write_site
from imagescape.pipeline.similarity import neighbors
from tests.explore.conftest import NASTY
from tests.explore.test_reading import unpacked


@pytest.fixture
def written(client, explorer, scape, page, ids, tmp_path, monkeypatch):
    monkeypatch.setattr(site, "SHEET_THUMBNAILS", 5)
    monkeypatch.setattr(site, "ROWS_PER_FILE", 7)
    monkeypatch.setattr(site, "_ROWS_AT_ONCE", 14)
    neighbors(scape, "net", k=4, device="cpu")
    client.act("rename", clustering="C", cluster=1, name="lynx")
    client.act("tag", ids=ids[:2], tag="<i>cat</i>")
    write_site(explorer, tmp_path / "site", page)
    return tmp_path / "site"


def table(path):
    return pa.ipc.open_stream(path.read_bytes()).read_all()


def test_the_page_says_that_it_is_of_files(written, page):
    html = (written / "index.html").read_text()
    assert '<meta name="imagescape" content="static"' in html
    assert html.replace("static", "server") == page["index.html"].read_text()
    assert (written / "assets" / "a.js").read_bytes() == page["assets/a.js"].read_bytes()


def test_arrow_files_are_the_answers_of_the_server(written, client):
    told = json.loads((written / "data" / "about.json").read_text())
    assert table(written / "data" / "ids.arrow").equals(client.rows("/api/ids"))
    for place, one in enumerate(told["maps"]):
        here, there = table(written / f"data/maps/{place}.arrow"), client.rows(f"/api/map/{one['name']}")
        for axis in "xy":
            assert_array_equal(here[axis].to_numpy(), there[axis].to_numpy())
    for place, one in enumerate(told["columns"]):
        here, there = table(written / f"data/columns/{place}.arrow"), client.rows(f"/api/column/{one['name']}")
        assert here.schema.equals(there.schema, check_metadata=True)
        assert str(here.to_pylist()) == str(there.to_pylist())  # as text, for NaN is not itself


def test_about(written, client):
    told, live = json.loads((written / "data" / "about.json").read_text()), client.json("/api/about")
    assert (told["read_only"], told["tiled"], told["undo"], told["redo"]) == (True, False, None, None)
    assert not any(one["places"] for one in told["maps"])
    assert not any(one["by_image"] or one["by_text"] for one in told["features"])
    for key in ("name", "order", "rows", "columns", "clusterings", "tags"):
        assert told[key] == live[key]
    static = told["static"]
    assert (static["sheet_thumbnails"], static["rows_per_file"], static["graphs"]) == (5, 7, ["net"])
    (of_map, column, file), *more = static["labels"]
    assert (of_map, column, more) == ("M", "cluster_C", [])
    labels = json.loads((written / file).read_text())
    assert labels == client.json("/api/labels/M/cluster_C", order=client.order)


def test_every_thumbnail_is_in_its_place(written, scape):
    sheets = table(written / "data" / "sheets.arrow")
    told = json.loads((written / "data" / "about.json").read_text())
    files = [unpacked((written / f"data/sheets/{n}.bin").read_bytes()) for n in range(told["static"]["sheets"])]
    assert [len(one) for one in files] == [5, 5, 5, 5, 3]
    for row, thumbnail in enumerate(scape.read(["thumbnail"])["thumbnail"].to_pylist()):
        sheet, place = sheets["sheet"][row].as_py(), sheets["place"][row].as_py()
        assert (None if sheet < 0 else files[sheet][place]) == thumbnail


def test_every_row_is_told_with_its_neighbours(written, client, ids, scape):
    told = []
    for number in range(4):
        told += json.loads((written / f"data/rows/{number}.json").read_text(encoding="utf-8"))
    assert [row["id"] for row in told] == ids
    assert not (written / "data/rows/4.json").exists()
    graph = scape.read(["neighbors_net", "distances_net"]).to_pylist()
    for row, image_id in enumerate(ids):
        live = client.json(f"/api/row/{image_id}", order=client.order)
        near = graph[row]["neighbors_net"]
        expected = (
            {}
            if near is None
            else {"net": [[ids.index(one), far] for one, far in zip(*graph[row].values(), strict=True)]}
        )
        assert told[row] == live | {"neighbors": expected}
    assert NASTY in {row["name"] for row in told}


def test_any_file_server_will_do(written):
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=written)
    handler.log_message = lambda *some: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{server.server_port}/"
        for path in ("", "data/about.json", "data/ids.arrow", "data/sheets/0.bin"):
            with urllib.request.urlopen(base + path) as answer:
                assert answer.status == 200
        server.shutdown()


def test_nothing_of_this_machine_but_what_the_table_says(written, scape):
    """No model, no original, no file of the collection."""
    names = {path.suffix for path in written.rglob("*") if path.is_file()}
    assert names == {".html", ".js", ".json", ".arrow", ".bin"}


def test_an_earlier_export_is_replaced_and_nothing_else(explorer, page, tmp_path, written):
    (written / "data" / "rows" / "99.json").write_text("old")
    write_site(explorer, written, page)
    assert not (written / "data" / "rows" / "99.json").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="holds something else"):
        write_site(explorer, tmp_path / "mine", page)
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "years of work"
    assert not list(tmp_path.glob(".mine.*"))
    write_site(explorer, tmp_path / "new" / "deeper", page)


def test_a_page_that_does_not_say_what_it_is_for(explorer, tmp_path, page):
    page["index.html"].write_text("<!doctype html>")
    with pytest.raises(InputError, match="build the page again"):
        write_site(explorer, tmp_path / "site", page)
    assert not (tmp_path / "site").exists()


def test_the_command(scape, page, tmp_path, run, fails, monkeypatch):
    monkeypatch.setattr("imagescape.explore.page.BUILT", page["index.html"].parent)
    code, out, _ = run("export", scape.path, "--static", tmp_path / "site")
    assert code == 0
    assert f"http.server --directory {tmp_path / 'site'}" in out
    assert (tmp_path / "site" / "data" / "about.json").is_file()
    assert "--static DIR" in fails("export", scape.path)
    code, out, _ = run("export", scape.path, "--static", tmp_path / "both", "-o", tmp_path / "x.npy", "--json")
    assert (code, json.loads(out)["site"]["files"]) == (0, sum(one.is_file() for one in (tmp_path / "both").rglob("*")))
    assert (tmp_path / "x.npy").is_file()


def test_a_collection_without_maps(made, tmp_path, page):
    from imagescape.collection.ingest import ingest
    from imagescape.collection.store import Collection
    from imagescape.explore.explorer import Explorer
    from tests.explore.conftest import encoded

    (tmp_path / "a.png").write_bytes(encoded(1))
    ingest([tmp_path / "a.png"], tmp_path / "one.scape")
    write_site(Explorer(Collection.open(tmp_path / "one.scape")), tmp_path / "site", page)
    told = json.loads((tmp_path / "site" / "data" / "about.json").read_text())
    assert (told["rows"], told["maps"], told["static"]["sheets"]) == (1, [], 1)
    assert np.array(table(tmp_path / "site" / "data" / "sheets.arrow")["sheet"]).tolist() == [0]
