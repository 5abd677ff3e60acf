"""Clusterings in a collection: figures that scripts rely on, what is told, what is compared, and what is missing."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from imagescape.cluster.geometry import cluster_geometry
from imagescape.cluster.partition import KMeans
from imagescape.collection.clusterings import cluster_labels, clustering_config, clustering_names
from imagescape.collection.ingest import ingest
from imagescape.collection.results import ids_of, sign_features
from imagescape.collection.store import Collection
from imagescape.errors import InputError
from imagescape.evaluate.clusterings import score_clustering
from imagescape.evaluate.metrics import purity_at
from imagescape.model_folder import FORMAT_VERSION
from imagescape.pipeline.cluster_scores import evaluate_clusterings
from imagescape.pipeline.clustering import cluster, cluster_probabilities

KEYS = {"acc", "majority_acc", "nmi", "ami", "ari", "effective_k", "coverage", "n"}
IDENTITY = {"encoder": "e", "version": "1", "weights_sha256": "abc", "preprocessing": "p"}
#                  red        green      blue
KINDS = np.repeat(["red", "green", "blue"], 8)
LABELS = np.array([1] * 8 + [4] * 6 + [-1, 9] + [9] * 8)  # one green is noise, one among the blue
CENTERS = {"red": (0, 0, 9), "green": (9, 0, 0), "blue": (0, 9, 0)}


@pytest.fixture(scope="module")
def clustered(tmp_path_factory):
    """24 images with features F, the clusterings C and D of them, and one image that has neither."""
    folder = tmp_path_factory.mktemp("clusters")
    rng = np.random.default_rng(0)
    (folder / "images").mkdir()
    for number in range(25):
        Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(folder / "images" / f"{number:02}.png")
    scape = ingest([folder / "images"], folder / "c.scape") and Collection.open(folder / "c.scape")
    ids = ids_of(scape)[:24]
    features = np.array([CENTERS[kind] for kind in KINDS]) + rng.normal(size=(24, 3))
    scape.add_columns(ids, {"features_F": features.astype(np.float32), "kind": KINDS.tolist()})
    sign_features(scape, "F", IDENTITY)
    scape.add_columns(ids, {"cluster_C": LABELS, "cluster_C_probability": np.ones(24, np.float32)})
    scape.add_columns(ids, {"cluster_D": np.arange(24) // 8})
    write_model(scape, "C")
    return folder / "c.scape"


@pytest.fixture
def scape(clustered, tmp_path):
    """A copy to change."""
    shutil.copytree(clustered, tmp_path / "c.scape")
    return Collection.open(tmp_path / "c.scape")


def write_model(scape, name, features="F", identity=IDENTITY):
    folder = scape.path / "models" / name
    folder.mkdir(exist_ok=True)
    config = {"format_version": FORMAT_VERSION, "features": features, "features_identity": identity}
    (folder / "config.json").write_text(json.dumps(config))


def stored_features(scape):
    return np.stack(scape.read(["features_F"])["features_F"].to_pylist()[:24])


def figures_of(scape, *names, **options):
    result = evaluate_clusterings(scape, names or ["C"], device="cpu", **options)
    return json.loads(json.dumps(result.as_dict(), allow_nan=False)), str(result)


def test_columns_of_whole_numbers_are_clusterings_whoever_wrote_them(scape):
    assert clustering_names(scape) == ["C", "D"]
    labels, is_in = cluster_labels(scape, "C")
    assert labels.tolist() == [*LABELS.tolist(), -1]
    assert is_in.tolist() == [True] * 24 + [False]
    scape.drop_columns(["cluster_C", "cluster_D"])
    with pytest.raises(InputError, match=r"no clustering is called 'C'.*none yet: make one with `imagescape cluster`"):
        cluster_labels(scape, "C")


class TestOne:
    def test_by_hand(self, clustered):
        result, text = figures_of(Collection.open(clustered), label="kind")
        assert set(result) >= KEYS
        assert (result["clusters"], result["label"], result["features"]) == ("C", "kind", "F")
        assert (result["n"], result["unlabelled"], result["outside"]) == (24, 0, 1)
        assert result["acc"] == result["majority_acc"] == 22 / 24  # all but the noise and the green among the blue
        assert result["figures"]["acc_covered"] == pytest.approx(22 / 23)
        assert result["coverage"] == pytest.approx(23 / 24)
        shares = np.array([8, 6, 9]) / 23
        assert result["effective_k"] == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))
        assert result["figures"]["k"] == 3
        assert result["figures"]["sizes"] == [{"cluster": c, "size": s} for c, s in ((1, 8), (4, 6), (9, 9))]
        assert result["figures"]["confusion"] == {
            "classes": ["blue", "green", "red"],
            "clusters": [1, 4, 9],
            "counts": [[0, 0, 8], [0, 6, 1], [8, 0, 0]],
            "noise": [0, 1, 0],
        }
        stands_for = {one["cluster"]: one["class"] for one in result["figures"]["matches"]}
        assert stands_for == {1: "red", 4: "green", 9: "blue"}
        assert result["notes"] == ["1 images are not in the clustering and take no part"]
        assert "ACC, one cluster a class               0.9167   0.9565" in text
        assert "note: 1 images are not in the clustering" in text

    def test_geometry_and_neighbours_are_of_the_features_it_was_made_from(self, clustered):
        scape = Collection.open(clustered)
        result, text = figures_of(scape, label="kind", diameter_quantile=0.9)
        vectors = stored_features(scape)
        expected = cluster_geometry(vectors, LABELS, quantile=0.9)
        geometry = result["figures"]["geometry"]
        assert [row["cluster"] for row in geometry["clusters"]] == [1, 4, 9]
        for name in ("diameter", "dispersion", "separation", "centroid_to_centroid", "sn1", "sn2"):
            assert [row[name] for row in geometry["clusters"]] == pytest.approx(getattr(expected, name).tolist())
            assert result["figures"][f"{name}_mean"] == pytest.approx(getattr(expected, name).mean())
        assert (geometry["quantile"], geometry["noise"]) == (0.9, 1)
        assert result["figures"]["purity_at_5"] == pytest.approx(purity_at(vectors, KINDS, 5).value)
        assert 0 < result["figures"]["cluster_purity_at_1"] <= 1
        assert 0.5 < result["figures"]["weighted_knn_accuracy"] <= 1
        assert "nearest of 24 images among 24, cosine, by features 'F'" in text
        assert "separation" in text

    def test_without_classes(self, clustered):
        result, text = figures_of(Collection.open(clustered))
        assert {name: result[name] for name in KEYS - {"n", "coverage", "effective_k"}} == dict.fromkeys(
            KEYS - {"n", "coverage", "effective_k"}
        )
        assert (result["n"], result["coverage"]) == (24, pytest.approx(23 / 24))
        assert "confusion" not in result["figures"]
        assert "purity_at_5" not in result["figures"]
        assert 0 < result["figures"]["cluster_purity_at_5"] <= 1
        assert "ACC" not in text

    def test_images_without_a_class_are_told_and_not_counted(self, scape):
        scape.update(ids_of(scape)[[0, 14]], {"kind": [None, None]})  # a red one, and the noise
        result, text = figures_of(scape, label="kind")
        assert (result["n"], result["unlabelled"]) == (22, 2)
        assert result["acc"] == 21 / 22
        assert result["coverage"] == 1
        assert result["figures"]["geometry"]["noise"] == 1  # which needs no class
        assert "note: 2 images have no 'kind' and take no part" in text

    def test_a_cut_of_a_hierarchy_has_the_features_of_the_whole(self, scape):
        scape.add_columns(ids_of(scape)[:24], {"cluster_C_2": np.arange(24) % 2})
        result, _ = figures_of(scape, "C_2")
        assert result["features"] == "F"
        assert len(result["figures"]["geometry"]["clusters"]) == 2

    def test_hashes_are_measured_by_their_bits(self, scape):
        ids = ids_of(scape)[:24]
        scape.add_columns(ids, {"features_H": np.full((24, 1), 0b11, np.uint8), "cluster_H": np.arange(24) // 12})
        scape.update(ids[:1], {"features_H": np.zeros((1, 1), np.uint8)})
        write_model(scape, "H", "H", {})
        rows = figures_of(scape, "H")[0]["figures"]["geometry"]["clusters"]
        assert [row["diameter"] for row in rows] == pytest.approx([2**0.5, 0])


class TestMade:
    """By `imagescape cluster`, whose model says more."""

    @pytest.fixture
    def made(self, scape):
        pytest.importorskip("faiss")
        cluster(scape, "K", method="kmeans", features_name="F", k=7, seed=0)
        cluster(scape, "W", method="ward", features_name="F", cuts=(8, 3), seed=0)
        return scape

    def test_top5_by_the_model(self, made):
        result, text = figures_of(made, "K", label="kind")
        scores = score_clustering(cluster_labels(made, "K")[0][:24], KINDS)
        model = KMeans.load(made.path / "models" / "K")
        nearest = np.argsort(-model.predict_proba(stored_features(made)), axis=1)[:, :5]
        stands_for = np.array([scores.classes[match] if match >= 0 else "" for match in scores.matches])
        assert result["figures"]["top5_acc"] == (stands_for[nearest] == KINDS[:, None]).any(axis=1).mean()
        assert result["acc"] == scores.acc < result["figures"]["top5_acc"]
        assert "ACC among the 5 most probable" in text

    def test_probabilities_belong_to_their_images(self, made):
        """Where the first image has no features, so that those of the others are not in the first rows."""
        made.update(ids_of(made)[:1], {"features_F": [None]})
        cluster(made, "L", method="kmeans", features_name="F", k=7, seed=0)
        found = cluster_probabilities(made, "L", clustering_config(made, "L"))
        assert np.isnan(found[[0, 24]]).all()
        assert found[1:24].argmax(axis=1).tolist() == cluster_labels(made, "L")[0][1:24].tolist()

    def test_cuts_have_the_geometry_and_no_probabilities(self, made):
        for name, k in (("W_8", 8), ("W_3", 3)):
            result, _ = figures_of(made, name, label="kind")
            assert len(result["figures"]["geometry"]["clusters"]) == k
            assert result["figures"]["top5_acc"] is None
            assert result["notes"] == ["1 images are not in the clustering and take no part"]
        assert figures_of(made, "W", label="kind")[0]["figures"]["top5_acc"] is not None

    def test_noise_alone_is_compared_with_nothing(self, made):
        made.add_columns(ids_of(made), {"cluster_Z": np.full(25, -1)})
        with pytest.raises(InputError, match="'Z' cannot be compared: all of the images in question are noise in it"):
            figures_of(made, "K", against=["Z"])

    def test_images_that_the_model_cannot_place(self, made):
        made.update(ids_of(made)[24:], {"cluster_K": np.array([0]), "kind": ["red"]})
        result, _ = figures_of(made, "K", label="kind")
        assert result["n"] == 25
        assert result["figures"]["top5_acc"] is None

    def test_damaged_weights_cost_only_what_they_know(self, made):
        (made.path / "models" / "K" / "weights.safetensors").write_bytes(b"")
        result, _ = figures_of(made, "K", label="kind")
        assert result["figures"]["top5_acc"] is None
        assert any("no top-5 accuracy" in note and "cannot be read" in note for note in result["notes"])
        assert "geometry" in result["figures"]

    def test_of_a_map(self, made):
        places = np.array([(10, 0), (0, 10), (-10, 0)])[np.arange(24) // 8] + np.arange(24)[:, None] % 8 / 10
        made.add_columns(ids_of(made)[:24], {"x_M": places[:, 0], "y_M": places[:, 1]})
        (made.path / "models" / "M").mkdir()
        cluster(made, "P", method="kmeans", map_name="M", k=3, seed=0)
        result, text = figures_of(made, "P", label="kind")
        assert (result["features"], result["map"], result["acc"]) == (None, "M", 1)
        diameters = [row["diameter"] for row in result["figures"]["geometry"]["clusters"]]
        assert diameters == pytest.approx([0.7 * 2**0.5] * 3, rel=1e-5)
        assert result["figures"]["neighbors"]["metric"] == "euclidean"
        assert "weighted_knn_accuracy" not in result["figures"]  # weighted by cosine, which means nothing there
        assert "euclidean, by map 'M'" in text


class TestSourceMissing:
    def missing(self, scape, name="C"):
        result, text = figures_of(scape, name, label="kind")
        assert result["acc"] is not None
        assert "geometry" not in result["figures"]
        (note,) = [note for note in result["notes"] if "neither geometry nor neighbours" in note]
        assert f"note: {note}" in text
        return note

    def test_no_model(self, scape):
        assert "it has no model in" in self.missing(scape, "D")

    def test_a_damaged_model(self, scape):
        (scape.path / "models" / "C" / "config.json").write_text("{")
        assert "is not a saved model" in self.missing(scape)

    def test_a_model_that_does_not_say(self, scape):
        write_model(scape, "C", None)
        assert "does not say what was clustered" in self.missing(scape)

    def test_features_that_are_gone(self, scape):
        write_model(scape, "C", "G")
        assert "no features are called 'G'" in self.missing(scape)

    def test_features_of_another_encoder(self, scape):
        write_model(scape, "C", identity=IDENTITY | {"weights_sha256": "abd"})
        assert "features 'F' are not what the clusters were made from" in self.missing(scape)

    def test_images_without_features(self, scape):
        scape.add_columns(ids_of(scape)[24:], {"features_G": np.zeros((1, 2), np.float32)})
        write_model(scape, "C", "G", {})
        assert "none of its images has features 'G'" in self.missing(scape)

    def test_mistakes_of_the_caller_are_no_notes(self, clustered):
        scape = Collection.open(clustered)
        with pytest.raises(InputError, match="quantile must lie between 0 and 1"):
            evaluate_clusterings(scape, ["C"], diameter_quantile=2)
        with pytest.raises(InputError, match="device must be"):
            evaluate_clusterings(scape, ["C"], device="abacus")


class TestSeveral:
    def test_mean_and_sd(self, clustered):
        scape = Collection.open(clustered)
        result, text = figures_of(scape, "C", "D", label="kind")
        each = [figures_of(scape, name, label="kind")[0] for name in "CD"]
        assert result["each"] == each
        assert result["clusters"] == ["C", "D"]
        for name in KEYS:
            values = [one[name] for one in each]
            assert result[name] == pytest.approx(np.mean(values))
            assert result["sd"][name] == pytest.approx(np.std(values, ddof=1))
        assert result["figures"]["k"] == 3
        assert result["figures"].get("diameter_mean") is None  # D has no features
        assert result["agreement"]["n"] == 24
        against = figures_of(scape, "C", against=["D"])[0]["against"][0]
        assert result["agreement"]["ari"] == {"mean": pytest.approx(against["ari"]), "sd": None}
        assert f"{result['acc']:.4f}" in text
        assert "note: 'D': neither geometry nor neighbours" in text

    def test_of_images_that_all_have(self, scape):
        scape.add_columns(ids_of(scape)[20:], {"cluster_E": np.zeros(5, int)})
        result, _ = figures_of(scape, "C", "E")
        assert result["agreement"]["n"] == 4
        scape.add_columns(ids_of(scape)[24:], {"cluster_E": np.zeros(1, int)}, overwrite=True)
        assert figures_of(scape, "C", "E")[0]["agreement"] is None


class TestAgainst:
    def test_by_hand(self, clustered):
        result, text = figures_of(Collection.open(clustered), against=["D"])
        (against,) = result["against"]
        assert (against["clusters"], against["n"]) == ("D", 24)
        assert against["iou"]["rows"] == [1, 4, 9]
        assert against["iou"]["columns"] == [0, 1, 2]
        assert against["iou"]["values"] == [[1, 0, 0], [0, 6 / 8, 0], [0, pytest.approx(1 / 16), pytest.approx(8 / 9)]]
        assert against["best"]["C"][2] == {"cluster": 9, "size": 9, "match": 2, "iou": pytest.approx(8 / 9)}
        assert [one["match"] for one in against["best"]["D"]] == [1, 4, 9]
        assert [one["iou"] for one in against["best"]["D"]] == pytest.approx([1, 6 / 8, 8 / 9])
        assert [one["size"] for one in against["best"]["D"]] == [8, 8, 8]
        assert against["mean_iou"]["D"] == pytest.approx((1 + 6 / 8 + 8 / 9) / 3)
        assert against["matching"][1] == {"C": 4, "D": 1, "iou": 0.75}
        assert against["covered"]["homogeneity"] < 1
        assert "'C' against 'D' (24 images)" in text

    def test_what_cannot_be_compared(self, scape):
        with pytest.raises(InputError, match="named once, got C, C"):
            evaluate_clusterings(scape, ["C"], against=["C"])
        with pytest.raises(InputError, match="one clustering is compared with others, got C, D against E"):
            evaluate_clusterings(scape, ["C", "D"], against=["E"])
        with pytest.raises(InputError, match=r"no clustering is called 'E'.*there are: C, D"):
            evaluate_clusterings(scape, ["C"], against=["E"])
        scape.add_columns(ids_of(scape)[24:], {"cluster_E": np.zeros(1, int)})
        with pytest.raises(InputError, match="'C' and 'E' have no image in common"):
            evaluate_clusterings(scape, ["C"], against=["E"])


class TestBadInput:
    def test_no_such_column(self, clustered):
        scape = Collection.open(clustered)
        with pytest.raises(InputError, match="no column is called 'species'"):
            evaluate_clusterings(scape, ["C"], label="species")
        with pytest.raises(InputError, match="classes are text"):
            evaluate_clusterings(scape, ["C"], label="cluster_C_probability")

    def test_no_class_at_all(self, scape):
        scape.update(ids_of(scape)[:24], {"kind": [None] * 24})
        with pytest.raises(InputError, match="none of the 24 rows has one"):
            evaluate_clusterings(scape, ["C"], label="kind")

    def test_an_empty_column(self, scape):
        scape.add_columns(ids_of(scape)[:0], {"cluster_E": np.empty(0, np.int64)})
        with pytest.raises(InputError, match="no image is in the clustering 'E'"):
            evaluate_clusterings(scape, ["E"])

    @pytest.mark.parametrize(
        ("label", "note"), [(0, "there is one cluster only: it tells nothing apart"), (-1, "every image is noise")]
    )
    def test_one_cluster_or_none(self, scape, label, note):
        scape.add_columns(ids_of(scape)[:24], {"cluster_E": np.full(24, label)})
        write_model(scape, "E")
        result, text = figures_of(scape, "E", label="kind")
        assert result["acc"] == (8 / 24 if label == 0 else 0)
        assert result["nmi"] == 0
        assert note in result["notes"]
        assert note in text

    def test_one_class(self, scape):
        scape.update(ids_of(scape)[:24], {"kind": ["red"] * 24})
        assert (
            "'kind' has one class only: there is nothing to tell apart" in figures_of(scape, label="kind")[0]["notes"]
        )
