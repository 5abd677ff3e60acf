"""The verb `cluster`, as a script calls it."""

import json

import numpy as np
import pytest
from PIL import Image

from imagescape.collection.clusterings import cluster_labels, clustering_columns
from imagescape.collection.results import ids_of
from imagescape.collection.store import Collection

pytest.importorskip("faiss")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for number in range(45):
        Image.new("RGB", (12, 12), (5 * number, 90, 200)).save(folder / f"{number:02}.png")
    return folder


@pytest.fixture
def scape(run, photos, tmp_path):
    """45 images in three clear groups of 25, 15 and 5, with features `v`."""
    assert run("ingest", photos, "-o", tmp_path / "c.scape")[0] == 0
    scape = Collection.open(tmp_path / "c.scape")
    groups = np.repeat([0, 1, 2], [25, 15, 5])
    vectors = np.eye(3)[groups] * 5 + np.random.default_rng(0).normal(0, 0.2, (45, 3))
    scape.add_columns(ids_of(scape), {"features_v": vectors.astype(np.float16), "group": groups})
    return tmp_path / "c.scape"


def test_k_means(run, scape):
    code, out, err = run(
        "cluster", scape, "--method", "kmeans", "--features", "v", "--k", 3, "--name", "C", "--seed", 0
    )
    assert (code, out, err) == (0, "cluster_C: 3 clusters of 45 images\n", "")
    labels, _ = cluster_labels(Collection.open(scape), "C")
    assert labels.tolist() == [0] * 25 + [1] * 15 + [2] * 5


def test_json(run, scape):
    out = run("cluster", scape, "--method", "dbscan", "--eps", "0.02,0.5", "--metric", "cosine", "--json")[1]
    done = json.loads(out)
    assert (done["name"], done["method"], done["images"]) == ("dbscan", "dbscan", 45)
    assert list(done["columns"]) == ["cluster_dbscan", "cluster_dbscan_eps0_02", "cluster_dbscan_eps0_5"]
    assert done["columns"]["cluster_dbscan_eps0_5"] == {"clusters": 3, "noise": 0}


def test_a_hierarchy_with_its_picture(run, scape, tmp_path):
    code, out, _ = run(
        "cluster", scape, "--method", "ward", "--cuts", "9,3", "--linkage", "average", "-n", "W",
        "--plot", tmp_path / "tree.png",
    )  # fmt: skip
    assert code == 0
    assert out.splitlines()[1:] == ["cluster_W_9: 9 clusters of 45 images", "cluster_W_3: 3 clusters of 45 images"]
    assert Image.open(tmp_path / "tree.png").size[0] > 500


def test_k_is_chosen_and_drawn(run, scape, tmp_path):
    code, out, _ = run("cluster", scape, "--method", "ward", "--k", "auto", "--plot", tmp_path / "k.png")
    assert code == 0
    assert out.splitlines()[1].split()[0] == "3"
    assert out.splitlines()[-1] == "cluster_ward: 3 clusters of 45 images"
    assert (tmp_path / "k.png").exists()


def test_new_images(run, scape, photos, tmp_path):
    run("cluster", scape, "--method", "kmeans", "--k", 3, "--name", "C")
    assert run("cluster", scape, "--new")[1] == "0 images given to the clusters of 'C'\n"
    collection = Collection.open(scape)
    collection.update(ids_of(collection)[:2], {"cluster_C": [None, None]})
    assert json.loads(run("cluster", scape, "--new", "--name", "C", "--json")[1]) == {"name": "C", "assigned": 2}
    assert cluster_labels(Collection.open(scape), "C")[0].tolist() == [0] * 25 + [1] * 15 + [2] * 5


def test_a_condition(run, scape):
    run("cluster", scape, "--method", "kmeans", "--k", 2, "--where", "group < 2", "--name", "C")
    assert cluster_labels(Collection.open(scape), "C")[1].sum() == 40


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "kmeans"], "--method kmeans needs --k"),
        (["--method", "kmeans", "--k", "3", "--cuts", "4,3"], "--method kmeans takes no --cuts"),
        (["--method", "kmeans", "--k", "3", "--selflabel"], "--method kmeans takes no --selflabel"),
        (["--method", "hdbscan", "--k", "3"], "takes no --k"),
        (["--method", "ward", "--k", "3", "--min-cluster-size", "3"], "takes no --min-cluster-size"),
        (["--method", "kmeans", "--k", "many"], "--k takes a whole number, or auto, got 'many'"),
        (["--method", "kmeans", "--k", "3,4"], "--k takes one number of clusters, got '3,4'"),
        (["--method", "ward", "--cuts", "4;3"], "--cuts takes whole numbers with commas between, got '4;3'"),
        (["--method", "dbscan", "--eps", "x"], "--eps takes numbers with commas between, got 'x'"),
        (["--method", "kmeans", "--k", "99"], "k must be at most the 45 rows there are, got 99"),
        (["--method", "kmeans", "--k", "1"], "k must be a whole number of at least 2, got 1"),
        (["--method", "kmeans", "--k", "3", "--plot", "x.png"], "--plot draws the dendrogram of --method ward"),
        (["--method", "ward", "--k", "3", "--plot", "x.gif"], "a figure is written as .png, .svg or .pdf"),
        (["--new", "--name", "C"], "no clustering is called 'C'"),
        (["--new"], "has no clusters yet; find some: imagescape cluster c.scape"),
        (["--new", "--method", "kmeans"], "--new uses the clusters that are there; it takes no --method"),
        (["--new", "--name", "C", "--k", "3"], "it takes no --k"),
        (["--method", "kmeans", "--k", "3", "--map", "M"], "no map is called 'M'"),
    ],
)
def test_mistakes_are_one_line(fails, scape, arguments, message):
    assert message in fails("cluster", scape, *arguments)
    assert clustering_columns(Collection.open(scape), "C") == []


class TestReport:
    def test_a_page_and_its_files(self, run, scape, tmp_path):
        assert run("cluster", scape, "--method", "kmeans", "--features", "v", "--k", 3, "--name", "C")[0] == 0
        page, folder = tmp_path / "r.html", tmp_path / "files"
        code, out, _ = run("report", scape, "--clusters", "C", "--label", "group", "-o", page, "--files", folder)
        assert code == 0
        assert out.splitlines()[0] == str(page)
        assert set(out.splitlines()[1:]) == {str(one) for one in folder.iterdir()}
        assert "the clusters &#x27;C&#x27;" in page.read_text(encoding="utf-8")
        done = json.loads(run("report", scape, "--clusters", "C", "-o", page, "--json")[1])
        assert done == {"page": str(page), "files": []}

    def test_the_same_twice(self, run, scape, tmp_path):
        run("cluster", scape, "--method", "kmeans", "--features", "v", "--k", 3, "--name", "C")
        for name in ("a", "b"):
            run("report", scape, "--clusters", "C", "-o", tmp_path / f"{name}.html", "--seed", 3)
        assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()

    def test_mistakes(self, run, scape, tmp_path):
        code, out, err = run("report", scape, "--clusters", "C", "-o", tmp_path / "r.png")
        assert (code, out) == (2, "")
        assert "FILE.html" in err
        code, _, err = run("report", scape, "--clusters", "C", "-o", tmp_path / "r.html")
        assert code == 2
        assert "no clustering is called 'C'" in err
