"""The report of a clustering in a collection: what is on the page and in the tables, and what is said to be missing."""

import csv
import re

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from imagescape.collection.ingest import ingest
from imagescape.collection.results import ids_of
from imagescape.collection.store import Collection
from imagescape.errors import InputError
from imagescape.pipeline.clustering import cluster
from imagescape.report.cluster_plots import draw_matrix, draw_sizes
from imagescape.show.cluster_report import write_cluster_report
from imagescape.show.clusters import dendrogram

KINDS = np.repeat(["red", "green", "<i>blue</i>"], [12, 8, 4])


@pytest.fixture
def scape(tmp_path):
    """24 images in three clear groups of 12, 8 and 4, with features `v`, and one image without features."""
    (tmp_path / "images").mkdir()
    for number in range(25):
        Image.new("RGB", (8, 8), (10 * number, 90, 60)).save(tmp_path / "images" / f"{number:02}.png")
    ingest([tmp_path / "images"], tmp_path / "c.scape")
    scape = Collection.open(tmp_path / "c.scape")
    groups = np.repeat([0, 1, 2], [12, 8, 4])
    vectors = np.eye(3)[groups] * 9 + np.random.default_rng(0).normal(0, 0.2, (24, 3))
    scape.add_columns(ids_of(scape)[:24], {"features_v": vectors.astype(np.float32), "kind": KINDS.tolist()})
    return scape


def table(folder, name):
    with (folder / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert pq.read_table(folder / f"{name}.parquet").num_rows == len(lines)
    return lines


def page_of(report):
    return report.page.read_text(encoding="utf-8")


def test_a_hierarchy_with_names_and_classes(scape, tmp_path):
    cluster(scape, "W", method="ward", features_name="v", cuts=[6, 3, 2], k=3, metric="euclidean")
    names = ["<script>x</script>"] * 12 + ["moss"] * 8 + [None] * 5
    scape.add_columns(ids_of(scape), {"cluster_W_name": names})
    report = write_cluster_report(scape, "W", tmp_path / "w.html", label="kind", files=tmp_path / "files")
    page = page_of(report)
    assert "<script" not in page
    assert "<i>" not in page
    assert "&lt;script&gt;x&lt;/script&gt;" in page
    assert "&lt;i&gt;blue&lt;/i&gt;" in page
    for one in ("sizes", "diameters", "confusion", "iou", "tree", "cuts", "cluster0", "cluster2"):
        assert f'id="{one}"' in page
    assert 'id="map"' not in page
    assert "the collection has none of two dimensions" in page
    assert "1 images are not in the clustering" in page
    figures = {"sizes", "diameters", "confusion", "iou", "tree", "cuts"}
    tables = {"figures", "clusters", "assignment", "examples", "confusion", "cuts", "cut_clusters"}
    made = {f"{one}.{kind}" for one in figures for kind in ("png", "svg")}
    made |= {f"{one}.{kind}" for one in tables for kind in ("csv", "parquet")}
    assert {one.name for one in report.files} == {one.name for one in (tmp_path / "files").iterdir()} == made


def test_the_tables_say_what_is_in_the_collection(scape, tmp_path):
    cluster(scape, "W", method="ward", features_name="v", cuts=[6, 3], k=3, metric="euclidean")
    scape.add_columns(ids_of(scape), {"cluster_W_name": ["a, b"] * 12 + ["moss"] * 8 + [None] * 5})
    write_cluster_report(scape, "W", tmp_path / "w.html", label="kind", files=tmp_path)
    assigned = table(tmp_path, "assignment")
    assert [line["image_id"] for line in assigned] == ids_of(scape).tolist()
    assert [line["cluster"] for line in assigned] == ["0"] * 12 + ["1"] * 8 + ["2"] * 4 + [""]
    assert [line["name"] for line in assigned] == ["a, b"] * 12 + ["moss"] * 8 + [""] * 5
    stored = scape.read(["cluster_W_probability"])["cluster_W_probability"].to_pylist()
    probability = [float(line["probability"]) if line["probability"] else None for line in assigned]
    assert probability == pytest.approx(stored)
    clusters = table(tmp_path, "clusters")
    assert [(one["cluster"], one["name"], one["size"], one["class"]) for one in clusters] == [
        ("0", "a, b", "12", "red"), ("1", "moss", "8", "green"), ("2", "", "4", "<i>blue</i>"),
    ]  # fmt: skip
    vectors = np.array(scape.read(["features_v"])["features_v"].to_pylist()[:12])
    apart = np.linalg.norm(vectors[:, None] - vectors, axis=2)
    assert float(clusters[0]["diameter"]) == pytest.approx(apart.max())
    examples = [one for one in table(tmp_path, "examples") if (one["cluster"], one["kind"]) == ("0", "nearest")]
    order = np.argsort(np.linalg.norm(vectors - vectors.mean(axis=0), axis=1))
    assert [one["image_id"] for one in examples] == ids_of(scape)[order[:5]].tolist()
    examples = [one for one in table(tmp_path, "examples") if (one["cluster"], one["kind"]) == ("0", "farthest")]
    assert [one["image_id"] for one in examples] == ids_of(scape)[order[:-6:-1]].tolist()
    assert [(one["cut"], one["clusters"], one["largest"]) for one in table(tmp_path, "cuts")][-1] == ("3", "3", "12")
    assert [one["images"] for one in table(tmp_path, "confusion")] == ["12", "8", "4"]
    assert {one["iou"] for one in table(tmp_path, "confusion")} <= {"1", "1.0"}


def test_shares_of_classes_by_hand(scape, tmp_path, monkeypatch):
    """Cluster 0: 2 of a and 8 of b; cluster 3: 5 of a and one that has no class; so b stands first."""
    drawn = {}

    def noted(values, rows, columns, **about):
        drawn[about["measure"]] = (values, list(rows), list(columns))
        return draw_matrix(values, rows, columns, **about)

    monkeypatch.setattr("imagescape.show.cluster_report.draw_matrix", noted)
    found, kinds = [0] * 10 + [3] * 6 + [-1] * 9, ["a"] * 2 + ["b"] * 8 + ["a"] * 5 + [None] + ["b"] * 9
    scape.add_columns(ids_of(scape), {"cluster_O": np.array(found), "letter": kinds})
    write_cluster_report(scape, "O", tmp_path / "o.html", label="letter", files=tmp_path)
    shares, rows, columns = drawn["share of the cluster"]
    assert (rows, columns) == (["0", "3"], ["b", "a"])
    assert shares.tolist() == [[0.8, 0.2], [0, 1]]
    assert np.allclose(drawn["IoU"][0], [[8 / 19, 2 / 15], [0, 5 / 7]])
    assert [(one["cluster"], one["class"], one["images_of_class"]) for one in table(tmp_path, "clusters")] == [
        ("0", "b", "8"), ("3", "a", "5"),
    ]  # fmt: skip


def test_the_tree_is_that_of_the_page_with_its_names(scape, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("imagescape.show.clusters.draw_dendrogram", lambda tree, **about: drawn.append((tree, about)))
    cluster(scape, "W", method="ward", features_name="v", cuts=[6, 3], metric="euclidean")
    scape.add_columns(ids_of(scape), {"cluster_W_name": ["moss"] * 12 + [None] * 13})
    assert dendrogram(scape, "W", names={0: "moss", 1: "fern"}) is None
    tree, about = drawn.pop()
    assert (len(tree), tree.sizes.sum()) == (6, 24)
    assert about["names"] == ["moss", "fern", "2", "3", "4", "5"]
    dendrogram(scape, "W", leaves=3, names={0: "moss"})
    tree, about = drawn.pop()
    assert tree.sizes.tolist() == [12, 8, 4]
    assert about["names"] is None  # those are of clusters of another cut
    monkeypatch.undo()
    page = page_of(write_cluster_report(scape, "W_3", tmp_path / "w3.html"))
    assert 'id="tree"' not in page
    cluster(scape, "K", method="kmeans", features_name="v", k=3)
    assert 'id="tree"' not in page_of(write_cluster_report(scape, "K", tmp_path / "k.html"))


def test_the_map_is_coloured_by_cluster(scape, tmp_path):
    cluster(scape, "K", method="kmeans", features_name="v", k=3)
    (scape.path / "models" / "M").mkdir()
    places = np.random.default_rng(0).normal(size=(24, 2)).astype(np.float32)
    scape.add_columns(ids_of(scape)[:24], {"x_M": places[:, 0], "y_M": places[:, 1]})
    assert 'id="map"' in page_of(write_cluster_report(scape, "K", tmp_path / "k.html"))
    with pytest.raises(InputError, match="no map is called 'N'"):
        write_cluster_report(scape, "K", tmp_path / "k.html", map_name="N")


@pytest.mark.parametrize("labels", [[0] * 25, [-1] * 25, list(range(25)), [5] * 10 + [-1] * 15])
def test_odd_clusterings_without_a_model(scape, tmp_path, labels):
    """One cluster, only noise, one image a cluster, gaps; nobody knows what was clustered."""
    scape.add_columns(ids_of(scape), {"cluster_O": np.array(labels)})
    report = write_cluster_report(scape, "O", tmp_path / "o.html", label="kind", files=tmp_path / "files")
    page, kept = page_of(report), [one for one in labels if one >= 0]
    assert "neither geometry nor neighbours" in page
    assert 'id="diameters"' not in page
    assert page.count("<article") == len(set(labels))
    assert ('id="sizes"' in page) == bool(kept)
    assert ("there is no cluster to draw" in page) == (not kept)
    assert [int(one["size"]) for one in table(tmp_path / "files", "clusters")] == [
        kept.count(one) for one in sorted(set(kept))
    ]
    assert {one["probability"] for one in table(tmp_path / "files", "assignment")} == {""}


def test_features_that_are_gone(scape, tmp_path):
    cluster(scape, "K", method="kmeans", features_name="v", k=3)
    scape.drop_columns(["features_v"])
    page = page_of(write_cluster_report(scape, "K", tmp_path / "k.html"))
    assert "no features are called" in page
    assert "at random" in page
    assert "prototype</h4>" not in page


def test_images_without_thumbnails(scape, tmp_path):
    cluster(scape, "K", method="kmeans", features_name="v", k=3)
    scape.update(ids_of(scape), {"thumbnail": [None] * 25})
    page = page_of(write_cluster_report(scape, "K", tmp_path / "k.html"))
    assert "the images have no thumbnails" in page
    assert "no picture" in page


def test_random_images_are_as_many_as_asked_for(scape, tmp_path):
    scape.add_columns(ids_of(scape), {"cluster_O": np.zeros(25, np.int64)})
    page = page_of(write_cluster_report(scape, "O", tmp_path / "o.html", pictures=7))
    assert len(re.findall("data:image/webp", page)) == 7


def test_two_clusters_of_one_name_stay_two(scape, tmp_path, monkeypatch):
    names = []

    def noted(sizes, called):
        names.extend(called)
        return draw_sizes(sizes, called)

    monkeypatch.setattr("imagescape.show.cluster_report.draw_sizes", noted)
    cluster(scape, "K", method="kmeans", features_name="v", k=3)
    scape.add_columns(ids_of(scape), {"cluster_K_name": ["moss"] * 20 + [None] * 5})
    page = page_of(write_cluster_report(scape, "K", tmp_path / "k.html"))
    assert "0 · moss" in page
    assert "1 · moss" in page
    assert names == ["moss (0)", "moss (1)", "cluster 2"]


def test_it_is_refused_what_is_not_there(scape, tmp_path):
    scape.add_columns(ids_of(scape), {"cluster_O": np.zeros(25, np.int64)})
    with pytest.raises(InputError, match="no clustering is called 'P'"):
        write_cluster_report(scape, "P", tmp_path / "o.html")
    with pytest.raises(InputError, match="no column is called 'species'"):
        write_cluster_report(scape, "O", tmp_path / "o.html", label="species")
    with pytest.raises(InputError, match="does not exist"):
        write_cluster_report(scape, "O", tmp_path / "none" / "o.html")
