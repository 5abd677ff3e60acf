"""Clusters in a collection: columns, models, new images, names, and what is refused."""

import json

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image

from imagescape.cluster.partition import KMeans
from imagescape.collection.clusterings import cluster_labels, clustering_columns, made_clusterings
from imagescape.collection.ingest import ingest
from imagescape.collection.results import (
    columns_of,
    features,
    ids_of,
    map_coords,
    map_names,
)
from imagescape.collection.store import Collection
from imagescape.errors import CheckpointError, InputError
from imagescape.pipeline.clustering import cluster, cluster_new
from imagescape.pipeline.embedding import embed
from imagescape.pipeline.feature_maps import map_features
from imagescape.pipeline.naming import name_clusters
from imagescape.show.clusters import plot_dendrogram
from tests.cluster.blobs import same_partition

pytest.importorskip("faiss")


def write_images(folder, numbers):
    """Three kinds of pictures: bright on the left, at the top, in the middle; a little different each."""
    folder.mkdir(exist_ok=True)
    y, x = np.mgrid[:16, :16] / 15
    for number in numbers:
        kind = (x, y, 1 - np.hypot(x - 0.5, y - 0.5))[number % 3]
        noise = np.random.default_rng(number).normal(0, 0.02, (16, 16, 3))
        pixels = np.clip(255 * (kind[:, :, None] + noise), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:03}.png")


@pytest.fixture
def scape(tmp_path):
    """30 good images and a broken one, with hashes, and features `v` of three kinds."""
    write_images(tmp_path / "images", range(30))
    (tmp_path / "images" / "broken.png").write_bytes(b"no picture")
    ingest([tmp_path / "images"], tmp_path / "c.scape")
    scape = Collection.open(tmp_path / "c.scape")
    embed(scape, "phash64")
    add_vectors(scape)
    return scape


def kinds_of(scape):
    """Kind of each image by its name, -1 for the broken one."""
    names = [uri.rsplit("/", 1)[1].removesuffix(".png") for uri in scape.read(["uri"])["uri"].to_pylist()]
    return np.array([int(name) % 3 if name.isdigit() else -1 for name in names])


def add_vectors(scape):
    """Features `v` (n, 4): of each kind around a place of its own, sizes 10 each."""
    kinds, ids = kinds_of(scape), ids_of(scape)
    own = kinds >= 0
    places = np.array([[9.0, 1, 1, 1], [1, 9, 1, 1], [1, 1, 9, 1]])
    numbers = [int(uri[-7:-4]) for uri in scape.read(["uri"])["uri"].filter(own).to_pylist()]
    noise = np.array([np.random.default_rng(number).normal(0, 0.3, 4) for number in numbers])
    scape.add_columns(ids[own], {"features_v": (places[kinds[own]] + noise).astype(np.float16)}, overwrite=True)


def add_images(scape):
    images = scape.path.parent / "images"
    write_images(images, range(30, 36))
    ingest([images], scape.path)
    scape = Collection.open(scape.path)
    embed(scape, "phash64")
    add_vectors(scape)
    return scape


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("kmeans", {"k": 3}),
        ("ward", {"k": 3}),
        ("ward", {"k": 3, "linkage": "average"}),
        ("dbscan", {"eps": [0.05]}),
        ("hdbscan", {"min_cluster_size": 5, "metric": "euclidean"}),
    ],
)
def test_columns_and_model_of_every_method(scape, method, settings):
    done = cluster(scape, "C", method=method, features_name="v", seed=0, **settings)
    labels, known = cluster_labels(scape, "C")
    kinds = kinds_of(scape)
    assert_array_equal(known, kinds >= 0)
    assert same_partition(labels[labels >= 0], kinds[labels >= 0])
    assert (labels >= 0).sum() >= 27
    assert made_clusterings(scape) == ["C"]
    assert clustering_columns(scape, "C") == ["cluster_C", "cluster_C_probability"]
    schema = scape.schema
    assert str(schema.field("cluster_C").type) == "int64"
    assert str(schema.field("cluster_C_probability").type) == "float"
    sure = scape.read(["cluster_C_probability"])["cluster_C_probability"].to_numpy()
    assert (sure[labels >= 0] > 0.5).all()
    assert_array_equal(np.isnan(sure), ~known)
    assert done.columns == {"cluster_C": (3, int((labels[known] < 0).sum()))}
    assert (done.images, done.left_out) == (30, 0)
    config = json.loads((scape.path / "models" / "C" / "config.json").read_text())
    assert config["features"] == "v"
    assert config["clustering"]["method"] == method


def test_cosine_for_features_bits_for_hashes_places_for_maps(scape):
    def metric(name):
        return json.loads((scape.path / "models" / name / "config.json").read_text())["clustering"]["metric"]

    for name, options in (("A", {"features_name": "v"}), ("B", {"features_name": "phash64"})):
        cluster(scape, name, method="kmeans", k=3, **options)
    map_features(scape, "M", features_name="v", epochs=3, seed=0, device="cpu")
    cluster(scape, "D", method="kmeans", k=3, map_name="M")
    assert [metric(name) for name in "ABD"] == ["cosine", "hamming", "euclidean"]
    bits = np.unpackbits(features(scape, "phash64")[kinds_of(scape) >= 0].astype(np.uint8), axis=1)
    assert_array_equal(
        cluster_labels(scape, "B")[0][kinds_of(scape) >= 0], KMeans(k=3, random_state=0).fit(bits).labels_
    )
    coords = map_coords(scape, "M")[kinds_of(scape) >= 0]
    assert_array_equal(
        cluster_labels(scape, "D")[0][kinds_of(scape) >= 0], KMeans(k=3, random_state=0).fit(coords).labels_
    )


def test_cuts_are_columns_and_nested(scape):
    cluster(scape, "W", method="ward", features_name="v", cuts=[12, 6, 3])
    assert clustering_columns(scape, "W") == [
        "cluster_W", "cluster_W_12", "cluster_W_6", "cluster_W_3", "cluster_W_probability",
    ]  # fmt: skip
    fine, middle, coarse = (cluster_labels(scape, f"W_{k}")[0] for k in (12, 6, 3))
    for below, above in ((fine, middle), (middle, coarse)):
        assert len(set(zip(below.tolist(), above.tolist(), strict=True))) == len(set(below.tolist()))
    assert_array_equal(cluster_labels(scape, "W")[0], fine)
    cluster(scape, "W", method="ward", features_name="v", k=3, overwrite=True)
    assert clustering_columns(scape, "W") == ["cluster_W", "cluster_W_probability"]


def test_several_eps_are_columns(scape):
    done = cluster(scape, "D", method="dbscan", features_name="v", eps=[0.0001, 0.05, 1.9], nearest=True)
    assert list(done.columns) == ["cluster_D", "cluster_D_eps0_0001", "cluster_D_eps0_05", "cluster_D_eps1_9"]
    assert [k for k, _ in done.columns.values()] == [0, 0, 3, 1]
    assert "try --eps between" in str(done)
    assert set(cluster_labels(scape, "D_nearest")[0].tolist()) == {-1}


def test_noise_goes_to_the_nearest_where_asked(scape):
    cluster(scape, "D", method="dbscan", features_name="v", eps=[0.002], min_samples=4, nearest=True)
    labels, given = cluster_labels(scape, "D")[0], cluster_labels(scape, "D_nearest")[0]
    kinds = kinds_of(scape)
    assert ((labels < 0) & (kinds >= 0)).any()
    assert (given[kinds >= 0] >= 0).all()
    assert_array_equal(given[labels >= 0], labels[labels >= 0])


def test_only_images_that_meet_the_condition(scape):
    ids = ids_of(scape)
    scape.add_columns(ids, {"kind": kinds_of(scape).astype(str).tolist()})
    done = cluster(scape, "C", method="kmeans", features_name="v", k=2, where="kind != '2'")
    _labels, known = cluster_labels(scape, "C")
    kinds = kinds_of(scape)
    assert_array_equal(known, (kinds == 0) | (kinds == 1))
    assert done.images == 20
    scape = add_images(scape)
    new = ~np.isin(ids_of(scape), ids)
    scape.update(ids_of(scape)[new], {"kind": kinds_of(scape)[new].astype(str).tolist()})
    assert cluster_new(scape, "C") == 4
    assert_array_equal(cluster_labels(scape, "C")[1], np.isin(kinds_of(scape), (0, 1)))


def test_images_without_a_direction_are_left_out_and_told(scape):
    ids = ids_of(scape)[kinds_of(scape) >= 0]
    scape.update(ids[:1], {"features_v": [[0.0] * 4]})
    done = cluster(scape, "C", method="kmeans", features_name="v", k=3)
    assert (done.images, done.left_out) == (29, 1)
    assert "left out: 1 without features 'v' that can be compared" in str(done)
    assert not cluster_labels(scape, "C")[1][ids_of(scape) == ids[0]].any()


class TestNewImages:
    @pytest.mark.parametrize(
        ("method", "settings"),
        [
            ("kmeans", {"k": 3}),
            ("ward", {"k": 3, "cuts": [6, 2]}),
            ("dbscan", {"eps": [0.05, 1.9], "nearest": True}),
            ("hdbscan", {"min_cluster_size": 5, "metric": "euclidean", "nearest": True}),
        ],
    )
    def test_join_and_the_others_stay(self, scape, method, settings):
        cluster(scape, "C", method=method, features_name="v", **settings)
        columns = clustering_columns(scape, "C")
        before = dict(zip(ids_of(scape).tolist(), scape.read(columns).to_pylist(), strict=True))
        assert cluster_new(scape, "C") == 0
        scape = add_images(scape)
        assert cluster_new(scape, "C") == 6
        assert cluster_new(scape, "C") == 0
        after = dict(zip(ids_of(scape).tolist(), scape.read(columns).to_pylist(), strict=True))
        assert all(after[one] == before[one] for one in before)
        labels, kinds = cluster_labels(scape, "C")[0], kinds_of(scape)
        assert same_partition(labels[labels >= 0], kinds[labels >= 0])
        for row in (after[one] for one in after if one not in before):
            assert all(value is not None for value in row.values())

    def test_on_a_map(self, scape):
        map_features(scape, "M", features_name="v", epochs=3, seed=0, device="cpu")
        cluster(scape, "C", method="kmeans", map_name="M", k=3)
        map_features(scape, "M", features_name="v", epochs=3, seed=1, device="cpu", overwrite=True)
        with pytest.raises(CheckpointError, match="the map 'M' is not what the clusters were made from"):
            cluster_new(scape, "C")

    def test_need_the_features_that_made_the_clusters(self, scape):
        cluster(scape, "C", method="kmeans", features_name="phash64", k=3)
        embed(scape, "dhash64", "phash64", overwrite=True)
        with pytest.raises(CheckpointError, match="features 'phash64' are not what the clusters were made from"):
            cluster_new(scape, "C")

    def test_of_no_clustering(self, scape):
        with pytest.raises(InputError, match=r"no clustering is called 'C' in .*; there are: none yet"):
            cluster_new(scape, "C")


@pytest.mark.parametrize(
    ("method", "settings"), [("multihead", {"heads": 2}), ("scan", {"heads": 2, "selflabel": True, "neighbors": 5})]
)
def test_learned_methods_keep_a_run_and_place_new_images(scape, method, settings):
    cluster(scape, "L", method=method, features_name="v", k=3, seed=4, device="cpu", **settings)
    kinds = kinds_of(scape)
    labels, known = cluster_labels(scape, "L")
    assert same_partition(kinds[known], labels[known])
    assert np.bincount(labels[known]).tolist() == sorted(np.bincount(labels[known]), reverse=True)
    sure = scape.read(["cluster_L_probability"])["cluster_L_probability"].to_numpy()
    assert (sure[known] > 0.5).all()
    assert (scape.path / "runs" / "L" / "finished").exists()
    grown = add_images(scape)
    assert cluster_new(grown, "L", device="cpu") == 6
    labels, known = cluster_labels(grown, "L")
    assert same_partition(kinds_of(grown)[known], labels[known])


def test_k_may_be_chosen(scape):
    done = cluster(scape, "C", method="kmeans", features_name="v", k="auto", seed=0)
    assert done.choice is not None
    assert done.choice.k == 3
    assert done.columns == {"cluster_C": (3, 0)}
    assert str(done).splitlines()[0].split()[:3] == ["k", "score", "silhouette"]
    assert done.as_dict()["choice"]["k"] == 3


def test_the_dendrogram_is_drawn_of_any_cut(scape, tmp_path):
    cluster(scape, "W", method="ward", features_name="v", cuts=[12, 3])
    plot_dendrogram(scape, "W", tmp_path / "w.png", leaves=4)
    assert (tmp_path / "w.png").stat().st_size > 5000
    cluster(scape, "K", method="kmeans", features_name="v", k=3)
    with pytest.raises(InputError, match="'K' is no hierarchy"):
        plot_dendrogram(scape, "K", tmp_path / "k.png")


class TestNamesOfClusters:
    def test_images_added_since_get_the_name_of_their_cluster(self, scape):
        cluster(scape, "C", method="kmeans", features_name="v", k=3)
        name_clusters(scape, "C", names={"0": "bright", "2": "round"})
        grown = add_images(scape)
        assert cluster_new(grown, "C") == 6
        labels, known = cluster_labels(grown, "C")
        names = grown.read(["cluster_C_name"])["cluster_C_name"].to_pylist()
        assert [{0: "bright", 2: "round"}.get(label) for label in labels[known]] == [
            name for name, here in zip(names, known, strict=True) if here
        ]

    def test_what_a_person_said_outlives_a_run(self, scape):
        settings = {"method": "multihead", "features_name": "v", "k": 3, "heads": 2, "device": "cpu"}
        cluster(scape, "L", **settings)
        name_clusters(scape, "L", names={"0": "bright"})
        before = set(np.flatnonzero(cluster_labels(scape, "L")[0] == 0).tolist())
        cluster(scape, "L", overwrite=True, seed=1, **settings)
        naming = name_clusters(scape, "L")
        (named,) = [group for group in naming.groups if group.name == "bright"]
        assert set(np.flatnonzero(cluster_labels(scape, "L")[0] == named.id).tolist()) == before


class TestNames:
    def test_a_taken_one_is_refused(self, scape):
        cluster(scape, "C", method="kmeans", features_name="v", k=3)
        with pytest.raises(InputError, match="has a clustering 'C' already; choose another --name or --overwrite it"):
            cluster(scape, "C", method="kmeans", features_name="v", k=2)
        cluster(scape, "C", method="kmeans", features_name="v", k=2, overwrite=True)
        assert cluster_labels(scape, "C")[0].max() == 1

    def test_maps_and_features_are_not_replaced(self, scape):
        map_features(scape, "M", features_name="v", epochs=3, seed=0, device="cpu")
        for name in ("M", "v"):
            with pytest.raises(InputError, match=f"'{name}' is taken by other results"):
                cluster(scape, name, method="kmeans", features_name="v", k=2, overwrite=True)

    def test_a_map_does_not_take_that_of_a_clustering_by_itself(self, scape):
        cluster(scape, "C", method="kmeans", features_name="v", k=2)
        assert columns_of(scape, "C") == ["cluster_C", "cluster_C_probability"]
        assert map_names(scape) == []
        with pytest.raises(InputError, match="has 'C' already"):
            map_features(scape, "C", features_name="v", epochs=3, device="cpu")

    def test_parts_of_one_are_not_another(self, scape):
        cluster(scape, "W", method="ward", features_name="v", cuts=[6, 3])
        assert made_clusterings(scape) == ["W"]
        with pytest.raises(InputError, match="'W_6' is taken by other results"):
            cluster(scape, "W_6", method="kmeans", features_name="v", k=2)
        cluster(scape, "V_6", method="kmeans", features_name="v", k=2)
        with pytest.raises(InputError, match="the clustering 'V_6' has the column of a part of 'V'"):
            cluster(scape, "V", method="ward", features_name="v", cuts=[6, 3])
        assert clustering_columns(scape, "V") == []

    def test_of_wrong_letters(self, scape):
        with pytest.raises(InputError, match="letters, digits"):
            cluster(scape, "a b", method="kmeans", features_name="v", k=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "isomap"}, "method must be one of multihead, scan, kmeans, ward"),
        ({"method": "kmeans"}, "--method kmeans needs --k: a number of clusters, or auto"),
        ({"method": "kmeans", "k": 3, "eps": [1]}, "--method kmeans takes no --eps; it takes --k, --metric"),
        ({"method": "dbscan"}, "--method dbscan needs --eps"),
        ({"method": "ward"}, "--method ward needs --k"),
        ({"method": "kmeans", "k": 3, "metric": "hamming"}, "metric must be one of euclidean, cosine for features 'v'"),
        ({"method": "kmeans", "k": 31}, "k must be at most the 30 rows there are, got 31"),
        ({"method": "kmeans", "k": 1}, "k must be a whole number of at least 2"),
        ({"method": "kmeans", "k": 3, "features_name": "w"}, "no features are called 'w'"),
        ({"method": "kmeans", "k": 3, "map_name": "M"}, "cannot both be clustered"),
        ({"method": "kmeans", "k": 3, "where": "width > 900"}, "no image has features 'v' and meets the condition"),
        ({"method": "kmeans", "k": 3, "where": "nothing = 1"}, "cannot be understood"),
        ({"method": "kmeans", "k": 3, "nearest": True}, "leaves no noise"),
    ],
)
def test_what_cannot_be_done_is_refused_and_writes_nothing(scape, options, message):
    columns = scape.columns
    with pytest.raises(InputError, match=message):
        cluster(scape, "C", **{"features_name": "v", **options})
    assert scape.columns == columns
    assert not (scape.path / "models" / "C").exists()


def test_all_features_equal(scape):
    ids = ids_of(scape)[kinds_of(scape) >= 0]
    scape.add_columns(ids, {"features_one": np.ones((30, 3), np.float32)})
    for method, settings in (("kmeans", {"k": 2}), ("ward", {"k": 2}), ("ward", {"k": "auto"})):
        with pytest.raises(InputError, match="equal"):
            cluster(scape, "C", method=method, features_name="one", **settings)
    done = cluster(scape, "C", method="dbscan", features_name="one", eps=[0.1])
    assert done.columns == {"cluster_C": (1, 0)}
    assert done.hint == "nearly all images lie at one place, and nothing tells them apart"
    done = cluster(scape, "C", method="hdbscan", features_name="one", overwrite=True)
    assert done.columns == {"cluster_C": (0, 30)}
    assert "try a smaller --min-cluster-size" in str(done)
    scape.add_columns(ids, {"features_none": np.zeros((30, 3), np.float32)})
    with pytest.raises(InputError, match="features 'none' are all zeros and have no direction for cosine"):
        cluster(scape, "D", method="kmeans", features_name="none", k=2)


def test_clusters_without_an_image_are_not_counted(scape, monkeypatch):
    """A learned one may die: what it says of itself has a gap then."""
    from imagescape.learn.multihead import MultiHead

    def dying(self, features, **options):
        self.labels_ = np.repeat([0, 2], [20, 10])
        self.probabilities_ = np.eye(4, dtype=np.float32)[self.labels_]
        return self

    monkeypatch.setattr(MultiHead, "fit", dying)
    monkeypatch.setattr(MultiHead, "save", lambda self, folder, **about: None)
    done = cluster(scape, "C", method="multihead", features_name="v", k=4)
    assert done.columns == {"cluster_C": (2, 0)}


def test_evoc_and_plscan_say_what_to_install(scape, monkeypatch):
    import sys

    from imagescape.errors import MissingExtraError

    for method, package, extra in (("plscan", "fast_hdbscan", "hdbscan"), ("evoc", "evoc", "evoc")):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(MissingExtraError, match=rf"pip install 'imagescape\[{extra}\]'"):
            cluster(scape, "C", method=method, features_name="v")
