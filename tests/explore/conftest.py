"""A small collection with everything a page asks for, and a client that speaks to the server as the page does."""

import io
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from starlette.testclient import TestClient

from imagescape.collection.ingest import ingest
from imagescape.collection.results import ids_of
from imagescape.collection.store import Collection
from imagescape.explore.app import make_app
from imagescape.explore.explorer import Explorer
from imagescape.learn.encoder import Architecture, Encoder, Preprocessing
from imagescape.pipeline.embedding import embed
from imagescape.pipeline.feature_maps import map_features

COLOURS = [(220, 40, 40), (40, 220, 40), (40, 40, 220)]
NASTY = "<img src=x onerror=alert(1)>&'\".png"  # a name, and nothing else
CELL = "a\nb.png"
PAGE = '<!doctype html><meta name="imagescape" content="server"><script type="module" src="./assets/a.js"></script>'


def picture(number, side=24):
    rng = np.random.default_rng(number)
    pixels = np.clip(np.array(COLOURS[number % 3]) + rng.normal(0, 40, (side, side, 3)), 0, 255).astype(np.uint8)
    return Image.fromarray(pixels)


def encoded(number, kind="PNG"):
    out = io.BytesIO()
    picture(number).save(out, kind)
    return out.getvalue()


def network():
    """An encoder that nobody trained: alike pictures are near each other all the same."""
    torch.manual_seed(0)
    architecture = Architecture(backbone="resnet10", stem="strided", width=4, hidden=8, out_features=2)
    way = Preprocessing(size_px=16, cache_px=16, fit="crop", mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    return Encoder(architecture.build(), architecture, way, name="net", device="cpu", precision="fp32")


def write_sources(folder):
    """18 files of several formats and names, one of them no picture; 3 rows of a Parquet file."""
    images = folder / "images"
    images.mkdir()
    for number in range(12):
        picture(number).save(images / f"{number:03}.png")
    picture(12).save(images / "012.jpg", quality=95)
    picture(13).save(images / "013.tif")
    picture(14).save(images / NASTY)
    picture(15).save(images / CELL)
    picture(16).save(images / "016.webp", lossless=True)
    (images / "broken.png").write_bytes(b"no picture")
    rows = [{"bytes": encoded(number), "path": None} for number in (20, 21, 22)]
    pq.write_table(pa.table({"image": rows}), folder / "rows.parquet")
    return [images, folder / "rows.parquet", np.stack([np.asarray(picture(number)) for number in (30, 31, 32)])]


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explored")
    ingest(write_sources(folder), folder / "c.scape")
    scape = Collection.open(folder / "c.scape")
    ids = scape.ok_ids()
    count = len(ids)
    scape.add_columns(
        ids,
        {
            "label": [("red", "green", "blue")[number % 3] for number in range(count)],
            "weight": np.linspace(0, 1, count),
            "cluster_C": pa.array([number % 3 if number % 7 else -1 for number in range(count)], pa.int64()),
        },
    )
    embed(scape, "dhash64")
    embed(scape, network(), "net")
    map_features(scape, "M", features_name="net", epochs=2, seed=0, device="cpu")
    return folder


@pytest.fixture
def scape(made, tmp_path):
    shutil.copytree(made / "c.scape", tmp_path / "c.scape")
    return Collection.open(tmp_path / "c.scape")


@pytest.fixture
def explorer(scape):
    return Explorer(scape, device="cpu")


@pytest.fixture
def page(tmp_path):
    """A page of two files, by address."""
    folder = tmp_path / "dist"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text(PAGE)
    (folder / "assets" / "a.js").write_text("export {}")
    return {"index.html": folder / "index.html", "assets/a.js": folder / "assets" / "a.js"}


@pytest.fixture
def client(explorer, page):
    return Page(
        TestClient(make_app(explorer, page=page), base_url="http://localhost:8170", raise_server_exceptions=False)
    )


@pytest.fixture
def ids(scape):
    return ids_of(scape).tolist()


class Page:
    """Requests as the page sends them, with the order it was given."""

    def __init__(self, http):
        self.http = http
        self.order = self.json("/api/about")["order"]

    def get(self, path, **query):
        return self.http.get(path, params=query)

    def json(self, path, **query):
        answer = self.get(path, **query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def rows(self, path, **query):
        """An Arrow answer in the page's order, as a table."""
        answer = self.get(path, order=self.order, **query)
        assert answer.status_code == 200, answer.text
        return pa.ipc.open_stream(answer.content).read_all()

    def post(self, path, content=None, method="POST"):
        return self.http.request(method, path, json={} if content is None else content)

    def act(self, kind, **content):
        answer = self.post("/api/acts", {"kind": kind, **content})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def refused(self, answer, status, code):
        """The message of an answer that must be a refusal."""
        assert answer.status_code == status, answer.text
        error = answer.json()["error"]
        assert error["code"] == code
        assert error["message"]
        assert "Traceback" not in error["message"]
        return error["message"]


@pytest.fixture
def refused(client):
    return client.refused
