"""Names of clusters in a collection: a small CLIP with planted words, metadata, persons, and what stays when."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pytest
from numpy.testing import assert_allclose

from imagescape.collection.clusterings import cluster_labels, clustering_names
from imagescape.collection.ingest import ingest
from imagescape.collection.results import features, ids_of
from imagescape.collection.store import Collection
from imagescape.errors import CheckpointError, InputError, MissingExtraError
from imagescape.features.text import PROMPTS, TextEncoder, open_text_encoder
from imagescape.pipeline import word_naming
from imagescape.pipeline.embedding import embed
from imagescape.pipeline.names_record import Naming
from imagescape.pipeline.naming import name_clusters, naming_of
from imagescape.pipeline.word_naming import Words, word_vectors
from tests.cluster.test_vocabulary import write_wordnet
from tests.features import small_clip

KINDS = {"tomato": (210, 40, 30), "forest": (30, 150, 40), "ocean": (30, 60, 200)}
WORDS = ["piano", *KINDS, "desk", "tiger"]
EACH = 24


def pictures(word, count=EACH):
    if word is None:  # what no word fits
        return [small_clip.static(900 + i) for i in range(count)]
    return [small_clip.coloured(KINDS[word], 100 * list(KINDS).index(word) + i) for i in range(count)]


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """The folder of a CLIP that sees the three colours where three words are."""
    transformers = pytest.importorskip("transformers", reason="the extra 'transformers' is not installed")
    parts = small_clip.small_clip(transformers)
    small_clip.plant(*parts, {word: pictures(word) for word in (*KINDS, None)}, WORDS, PROMPTS)
    return small_clip.save(tmp_path_factory.mktemp("hub") / "clip", *parts)


@pytest.fixture(scope="module")
def ingested(tmp_path_factory):
    folder = tmp_path_factory.mktemp("naming")
    for word in KINDS:
        (folder / "images" / f"{word} pictures").mkdir(parents=True)
        for i, picture in enumerate(pictures(word)):
            picture.save(folder / "images" / f"{word} pictures" / f"{i:02}.png")
    (folder / "images" / "broken.png").write_bytes(b"no picture")
    ingest([folder / "images"], folder / "c.scape", layout="flat")
    return folder / "c.scape"


@pytest.fixture
def scape(ingested, tmp_path):
    """Clustering "C": a cluster of each colour but for a few, one of all colours (7), noise, and a broken image.

    Its features, "toy", are points on a line: the clusters 0 and 7 lie side by side, the others apart.
    """
    shutil.copytree(ingested, tmp_path / "c.scape")
    scape = Collection.open(tmp_path / "c.scape")
    rows = scape.read(["image_id", "uri", "status"]).to_pylist()
    ids, labels, places = [], [], []
    for row in rows:
        if row["status"] != "ok":
            continue
        word, number = row["uri"].split("/")[-2].split()[0], int(row["uri"][-6:-4])
        label = list(KINDS).index(word) if number < 16 else 7 if number < 22 else -1
        ids.append(row["image_id"])
        labels.append(label)
        places.append([{0: 0.0, 7: 1.0, 1: 50.0, 2: 90.0, -1: 500.0}[label] + number % 16 / 16, 0.0])
    scape.add_columns(ids, {"cluster_C": np.array(labels, np.int64), "features_toy": np.array(places, np.float32)})
    write_config(scape, {"features": "toy", "clustering": {"method": "kmeans", "metric": "euclidean"}})
    return scape


def write_config(scape, config, name="C"):
    folder = scape.path / "models" / name
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"format_version": 2, **config}))


@pytest.fixture
def words(clip, tmp_path):
    (tmp_path / "words.txt").write_text("\n".join(WORDS))
    return Words(encoder=f"hf:{clip}", file=tmp_path / "words.txt")


def names(naming):
    return {group.id: group.name for group in naming.groups}


def group(naming, cluster):
    return next(one for one in naming.groups if one.id == cluster)


def stored(scape):
    """Names in the table by cluster, as sets."""
    rows = scape.read(["cluster_C", "cluster_C_name"]).to_pylist()
    found = {}
    for row in rows:
        found.setdefault(row["cluster_C"], set()).add(row["cluster_C_name"])
    return found


class TestWords:
    def test_planted_clusters_are_named_and_noise_is_not(self, scape, words):
        done = name_clusters(scape, "C", words=words, device="cpu")
        assert names(done) == {0: "tomato", 1: "forest", 2: "ocean", 7: None}
        assert [one.source for one in done.groups] == ["words"] * 3 + [None]
        assert "fit" in group(done, 7).reason
        assert stored(scape) == {0: {"tomato"}, 1: {"forest"}, 2: {"ocean"}, 7: {None}, -1: {None}, None: {None}}
        assert cluster_labels(scape, "C")[0].tolist().count(0) == 16  # ids stay
        assert scape.schema.field("cluster_C_name").type == pa.string()

    def test_static_that_no_word_fits_is_not_named(self, scape, words, tmp_path):
        (tmp_path / "more").mkdir()
        for i, picture in enumerate(pictures(None)):
            picture.save(tmp_path / "more" / f"{i:02}.png")
        ingest([tmp_path / "more"], scape.path, layout="flat")
        more = [row["image_id"] for row in scape.read(["image_id", "uri"]).to_pylist() if "/more/" in row["uri"]]
        scape.update(more, {"cluster_C": np.full(len(more), 9)})
        done = name_clusters(scape, "C", words=words, device="cpu")
        assert names(done) == {0: "tomato", 1: "forest", 2: "ocean", 7: None, 9: None}

    def test_what_is_told_of_each(self, scape, words):
        name_clusters(scape, "C", words=words, device="cpu")
        kept = json.loads((scape.path / "runs" / "C" / "naming.json").read_text())
        assert (kept["clusters"], kept["about"]["words"]["words"]) == ("C", 6)
        first = kept["groups"][0]
        assert (first["id"], first["size"], first["name"]) == (0, 16, "tomato")
        best = first["words"]["best"]
        assert [one["word"] for one in best][:1] == ["tomato"]
        assert len(best) == 5
        assert [one["score"] for one in best] == sorted((one["score"] for one in best), reverse=True)
        cluster_of = dict(zip(ids_of(scape).tolist(), cluster_labels(scape, "C")[0].tolist(), strict=True))
        for one in kept["groups"]:
            shown = [
                *one["prototypes"],
                *one["boundary"],
                *(i for word in one["words"]["best"] for i in word["exemplars"]),
            ]
            assert {cluster_of[image_id] for image_id in shown} == {one["id"]}

    def test_images_are_encoded_once(self, scape, words, clip):
        name_clusters(scape, "C", words=words, device="cpu")
        (column,) = [one for one in scape.columns if one.startswith("features_hf")]
        before = features(scape, column.removeprefix("features_"))
        again = name_clusters(scape, "C", words=words, device="cpu")
        assert [one for one in scape.columns if one.startswith("features_hf")] == [column]
        assert_allclose(features(scape, column.removeprefix("features_")), before)
        assert names(again)[0] == "tomato"

    @pytest.mark.parametrize("how", ["bare folder", "name of features"])
    def test_other_ways_to_say_the_encoder(self, scape, words, clip, how):
        embed(scape, f"hf:{clip}", "sees", device="cpu")
        said = str(clip) if how == "bare folder" else "sees"
        done = name_clusters(scape, "C", words=Words(encoder=said, file=words.file), device="cpu")
        assert names(done) == {0: "tomato", 1: "forest", 2: "ocean", 7: None}
        assert not [one for one in scape.columns if one.startswith("features_hf")]
        assert done.about["words"]["features"] == "sees"

    def test_wordnet_and_own_words(self, scape, words, tmp_path):
        """The words of the list join those of the files, and what is above them is known."""
        wordnet = write_wordnet(tmp_path / "wn")
        done = name_clusters(
            scape, "C", words=Words(encoder=words.encoder, file=words.file, wordnet=wordnet), device="cpu"
        )
        assert done.about["words"]["words"] == len(WORDS) + 11
        assert done.about["words"]["wordnet"] == str(wordnet)

    def test_words_are_encoded_once(self, scape, words, clip, monkeypatch):
        text = open_text_encoder(f"hf:{clip}", device="cpu", precision="fp32")
        first = word_vectors(scape, text, WORDS, PROMPTS)
        assert_allclose(first, text.encode_words(WORDS, PROMPTS), atol=1e-6)
        asked = []
        encode = TextEncoder.encode_words
        monkeypatch.setattr(
            TextEncoder, "encode_words", lambda self, new, by: asked.extend(new) or encode(self, new, by)
        )
        monkeypatch.setattr(word_naming, "_WORDS_AT_ONCE", 2)
        more = word_vectors(scape, text, ["zebra", *WORDS[::-1], "yak", "gnu"], PROMPTS)
        assert asked == ["zebra", "yak", "gnu"]
        assert_allclose(more[1:7], first[::-1], atol=1e-6)
        assert_allclose(more[7], encode(text, ["yak"], PROMPTS)[0], atol=1e-6)
        word_vectors(scape, text, WORDS, PROMPTS[:1])
        assert asked[3:] == WORDS  # in other sentences they are others

    def test_a_kill_leaves_the_words_that_are_done(self, scape, clip, monkeypatch):
        text = open_text_encoder(f"hf:{clip}", device="cpu", precision="fp32")
        monkeypatch.setattr(word_naming, "_WORDS_AT_ONCE", 2)
        encode = TextEncoder.encode_words

        def dies(self, new, by):
            if "desk" in new:
                raise KeyboardInterrupt
            return encode(self, new, by)

        monkeypatch.setattr(TextEncoder, "encode_words", dies)
        with pytest.raises(KeyboardInterrupt):
            word_vectors(scape, text, WORDS, PROMPTS)
        asked = []
        monkeypatch.setattr(
            TextEncoder, "encode_words", lambda self, new, by: asked.extend(new) or encode(self, new, by)
        )
        assert_allclose(word_vectors(scape, text, WORDS, PROMPTS), encode(text, WORDS, PROMPTS), atol=1e-6)
        assert asked == ["desk", "tiger"]

    def test_an_encoder_that_was_exchanged(self, scape, words, clip, tmp_path):
        transformers = pytest.importorskip("transformers")
        shutil.copytree(clip, tmp_path / "model")
        embed(scape, f"hf:{tmp_path / 'model'}", "sees", device="cpu")
        small_clip.save(tmp_path / "model", *small_clip.small_clip(transformers, seed=1))
        with pytest.raises(CheckpointError, match="is no longer the model that made features 'sees'"):
            name_clusters(scape, "C", words=Words(encoder="sees", file=words.file), device="cpu")

    @pytest.mark.parametrize(
        ("encoder", "message"),
        [
            ("dhash64", "'dhash64' is no encoder of images and texts: give hf:NAME .* there are: toy"),
            ("efficientnet_lite0", "'efficientnet_lite0' is no encoder of images and texts"),
            ("toy", "features 'toy' are by 'nobody knows whom', which has no text side"),
            ("hf:", "has no text side"),
        ],
    )
    def test_encoders_without_words(self, scape, words, encoder, message):
        with pytest.raises(InputError, match=message):
            name_clusters(scape, "C", words=Words(encoder=encoder, file=words.file))
        assert "cluster_C_name" not in scape.columns

    def test_no_words(self, scape, words, tmp_path):
        (tmp_path / "none.txt").write_text("\n# nothing\n")
        with pytest.raises(InputError, match="the vocabulary is empty"):
            name_clusters(scape, "C", words=Words(encoder=words.encoder, file=tmp_path / "none.txt"))
        with pytest.raises(InputError, match="an encoder needs words: give a file of them, the folder of WordNet"):
            name_clusters(scape, "C", words=Words(encoder=words.encoder))

    def test_without_transformers(self, scape, words, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "transformers", None)
        with pytest.raises(MissingExtraError, match="transformers"):
            name_clusters(scape, "C", words=words)


class TestMetadata:
    def test_folders(self, scape):
        done = name_clusters(scape, "C", metadata=["folder"])
        assert names(done) == {0: "tomato pictures", 1: "forest pictures", 2: "ocean pictures", 7: None}
        assert {one.source for one in done.groups} == {"metadata", None}
        assert group(done, 0).metadata.best[0]["images"] == 16

    def test_a_name_that_words_gave_already(self, scape, words):
        """No two clusters are called the same by the program, whatever its reasons."""
        labels = cluster_labels(scape, "C")[0]
        tags = ["tomato" if label == 7 else "Paprika" if label == 0 else None for label in labels]
        scape.add_columns(ids_of(scape), {"tag": tags})
        done = name_clusters(scape, "C", words=words, metadata=["tag"], device="cpu")
        assert names(done)[0] == "tomato"
        assert group(done, 7).metadata.name == "tomato"
        assert names(done)[7] is None
        assert group(done, 7).reason == "'tomato' names cluster 0"

    def test_lists_of_tags(self, scape):
        ids = ids_of(scape)
        tags = [
            ["red fruit", None] if label == 0 else [] if label == 1 else None for label in cluster_labels(scape, "C")[0]
        ]
        scape.add_columns(ids, {"tags": pa.array(tags, pa.list_(pa.string()))})
        assert names(name_clusters(scape, "C", metadata=["tags"])) == {0: "red fruit", 1: None, 2: None, 7: None}

    def test_columns_that_hold_no_text(self, scape):
        with pytest.raises(InputError, match="column 'width' holds int32, and names come from columns of text"):
            name_clusters(scape, "C", metadata=["folder", "width"])
        with pytest.raises(InputError, match=r"no column is called 'caption'; there are: .*folder"):
            name_clusters(scape, "C", metadata=["caption"])

    def test_words_come_before_metadata(self, scape, words):
        done = name_clusters(scape, "C", words=words, metadata=["folder"], device="cpu")
        assert names(done) == {0: "tomato", 1: "forest", 2: "ocean", 7: None}
        done = name_clusters(scape, "C", metadata=["folder"])  # what is not asked again stays
        assert names(done)[0] == "tomato"
        assert group(done, 0).metadata.name == "tomato pictures"


class TestPersons:
    def test_a_persons_word_stands(self, scape):
        name_clusters(scape, "C", names={"0": " Köttur, \n né 日本 "})
        done = name_clusters(scape, "C", metadata=["folder"])
        assert group(done, 0).name == "Köttur, \n né 日本"
        assert group(done, 0).source == "person"
        assert stored(scape)[0] == {"Köttur, \n né 日本"}
        assert names(done)[1] == "forest pictures"

    def test_persons_may_give_a_name_twice_and_no_other_does(self, scape):
        done = name_clusters(scape, "C", names={"0": "Forest pictures", "7": "Forest pictures"}, metadata=["folder"])
        assert names(done) == {0: "Forest pictures", 1: None, 2: "ocean pictures", 7: "Forest pictures"}
        assert group(done, 1).reason == "'forest pictures' names cluster 7"

    def test_no_name_is_a_persons_word_too(self, scape):
        done = name_clusters(scape, "C", names={"1": ""}, metadata=["folder"])
        assert group(done, 1).name is None
        assert group(done, 1).reason == "a person says that it has no name"
        assert names(name_clusters(scape, "C", metadata=["folder"], overwrite=True))[1] == "forest pictures"

    def test_one_image(self, scape):
        image_id = ids_of(scape)[np.flatnonzero(cluster_labels(scape, "C")[0] == 1)[3]]
        name_clusters(scape, "C", names={str(image_id): "moss"}, metadata=["folder"])
        rows = scape.read(["image_id", "cluster_C", "cluster_C_name"]).to_pylist()
        assert {row["image_id"] for row in rows if row["cluster_C_name"] == "moss"} == {image_id}
        assert stored(scape)[1] == {"moss", "forest pictures"}
        name_clusters(scape, "C", names={str(image_id): ""})
        assert stored(scape)[1] == {"forest pictures"}

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"4": "a"}, "there is no cluster '4' to call 'a'; there are: 0, 1, 2, 7"),
            ({"-1": "a"}, "there is no cluster '-1'"),
            ({"one": "a"}, "there is no cluster 'one'"),
            ({"0123456789abcdef": "a"}, "no image has the id 0123456789abcdef"),
            ({"0": "a\0b"}, r"the name of cluster 0 holds a sign that cannot be shown, '\\x00'"),
            ({"0": "a\ud800"}, "holds a sign that cannot be shown"),
        ],
    )
    def test_refused(self, scape, given, message):
        name_clusters(scape, "C", names={"0": "before"})
        with pytest.raises(InputError, match=message):
            name_clusters(scape, "C", names={"1": "other"} | given)
        assert names(naming_of(scape, "C")) == {0: "before", 1: None, 2: None, 7: None}


class TestPropagation:
    def test_to_the_cluster_beside(self, scape):
        done = name_clusters(scape, "C", names={"0": "red"}, propagate=True)
        assert names(done) == {0: "red", 1: None, 2: None, 7: "red"}
        assert group(done, 7).source == "propagated"
        assert stored(scape)[7] == {"red"}
        # and it follows what is said later
        assert names(name_clusters(scape, "C", names={"0": "crimson"}))[7] == "crimson"
        assert names(name_clusters(scape, "C", propagate=False))[7] is None

    def test_what_has_a_name_keeps_it(self, scape):
        done = name_clusters(scape, "C", names={"7": "mixed"}, metadata=["folder"], propagate=True)
        assert names(done)[0] == "tomato pictures"

    def test_to_the_images_near_one(self, scape):
        labels, ids = cluster_labels(scape, "C")[0], ids_of(scape)
        inside = np.flatnonzero(labels == 1)
        place = features(scape, "toy")[:, 0]
        done = name_clusters(scape, "C", names={str(ids[inside[0]]): "moss"}, metadata=["folder"], propagate=True)
        assert len(done.propagated) == 15
        assert {labels[ids == one].item() for one in done.propagated} == {1}
        assert stored(scape)[1] == {"moss"}
        assert np.isfinite(place[inside]).all()
        name_clusters(scape, "C", names={"1": "green"})  # what a person says of the cluster is no guess
        assert stored(scape)[1] == {"green", "moss"}
        done = name_clusters(scape, "C", propagate=False)
        assert (len(done.images), len(done.propagated)) == (1, 0)

    def test_needs_to_know_what_is_near(self, scape):
        write_config(scape, {"clustering": {"metric": "euclidean"}})
        with pytest.raises(InputError, match="nothing tells what 'C' was made from; say it with --features: toy"):
            name_clusters(scape, "C", names={"0": "red"}, propagate=True)
        assert names(name_clusters(scape, "C", names={"0": "red"}, propagate=True, features_name="toy"))[7] == "red"


class TestPrototypes:
    def test_in_the_features_that_were_clustered(self, scape):
        done = name_clusters(scape, "C")
        place = dict(zip(ids_of(scape).tolist(), features(scape, "toy")[:, 0].tolist(), strict=True))
        labels = dict(zip(ids_of(scape).tolist(), cluster_labels(scape, "C")[0].tolist(), strict=True))
        for one in done.groups:
            inside = np.array([place[image_id] for image_id in place if labels[image_id] == one.id])
            expected = np.sort(np.abs(inside - inside.mean()))[:5]
            assert_allclose([abs(place[i] - inside.mean()) for i in one.prototypes], expected, atol=1e-4)
        assert place[group(done, 0).boundary[0]] == max(place[i] for i in place if labels[i] == 0)

    def test_hashes_by_their_bits(self, scape):
        embed(scape, "dhash64")
        write_config(scape, {"features": "dhash64"})
        assert all(len(one.prototypes) == 5 for one in name_clusters(scape, "C").groups)

    def test_by_direction_where_that_was_clustered(self, scape):
        rng = np.random.default_rng(0)
        angles = (features(scape, "toy")[:, 0] + rng.uniform(0, 0.05, len(scape))) / 400
        turned = np.c_[np.cos(angles), np.sin(angles)]
        far = turned * rng.uniform(1, 100, (len(turned), 1))
        here = np.isfinite(far).all(axis=1)
        scape.add_columns(ids_of(scape)[here], {"features_turned": turned[here], "features_far": far[here]})
        shown = []
        for name in ("turned", "far"):
            write_config(scape, {"features": name, "clustering": {"method": "kmeans", "metric": "cosine"}})
            shown.append([(one.prototypes, one.boundary) for one in name_clusters(scape, "C").groups])
        assert shown[0] == shown[1]

    def test_on_the_map_that_was_clustered(self, scape):
        expected = [one.prototypes for one in name_clusters(scape, "C").groups]
        place = features(scape, "toy")
        here = np.isfinite(place).all(axis=1)
        scape.add_columns(ids_of(scape)[here], {"x_M": place[here, 0], "y_M": place[here, 1]})
        write_config(scape, {}, "M")
        write_config(scape, {"map": "M", "clustering": {"method": "hdbscan", "metric": "euclidean"}})
        assert [one.prototypes for one in name_clusters(scape, "C", overwrite=True).groups] == expected

    def test_features_that_are_gone(self, scape, caplog):
        write_config(scape, {"features": "lost"})
        done = name_clusters(scape, "C", metadata=["folder"])
        assert names(done)[0] == "tomato pictures"
        assert not group(done, 0).prototypes
        assert "what 'C' was made from, features 'lost', is gone" in caplog.text
        with pytest.raises(InputError, match="no features are called 'lost'"):
            name_clusters(scape, "C", features_name="lost")

    def test_of_a_cut_by_its_hierarchys(self, scape):
        labels = cluster_labels(scape, "C")[0]
        scape.add_columns(ids_of(scape), {"cluster_C_3": np.where(labels == 7, 0, labels)})
        assert clustering_names(scape) == ["C", "C_3"]
        done = name_clusters(scape, "C_3", metadata=["folder"])
        assert all(one.prototypes for one in done.groups)
        assert "cluster_C_3_name" in scape.columns
        assert clustering_names(scape) == ["C", "C_3"]


class TestClusteringsThatChange:
    def renumbered(self, scape, change):
        labels = cluster_labels(scape, "C")[0]
        scape.add_columns(ids_of(scape), {"cluster_C": change(labels)}, overwrite=True)

    def test_names_stay_with_the_same_images(self, scape, caplog):
        name_clusters(scape, "C", names={"0": "red", "1": "green"}, metadata=["folder"])
        self.renumbered(scape, lambda labels: np.where(labels == 0, 1, np.where(labels == 1, 0, labels)))
        done = name_clusters(scape, "C")
        assert names(done) == {0: "green", 1: "red", 2: "ocean pictures", 7: None}
        assert not caplog.text
        self.renumbered(scape, lambda labels: np.where(labels < 0, labels, np.arange(len(labels)) % 5))
        done = name_clusters(scape, "C")
        assert not {"red", "green"} & set(names(done).values())
        assert "these names are given up: 0 'green', 1 'red'" in caplog.text

    def test_two_that_became_one_are_called_as_the_one_that_has_a_name(self, scape, caplog):
        name_clusters(scape, "C", names={"1": "green"})
        self.renumbered(scape, lambda labels: np.where(labels == 1, 0, labels))
        assert names(name_clusters(scape, "C"))[0] == "green"
        assert not caplog.text

    def test_more_images_change_nothing(self, scape, caplog):
        name_clusters(scape, "C", names={"0": "red"})
        self.renumbered(scape, lambda labels: np.where(labels == -1, 0, labels))
        done = name_clusters(scape, "C")
        assert names(done)[0] == "red"
        assert group(done, 0).size == 16 + 7
        assert not caplog.text

    def test_a_cluster_that_is_gone(self, scape, caplog):
        name_clusters(scape, "C", names={"7": "mixed"})
        self.renumbered(scape, lambda labels: np.where(labels == 7, -1, labels))
        assert names(name_clusters(scape, "C")) == {0: None, 1: None, 2: None}
        assert "7 'mixed'" in caplog.text

    def test_deleted_images(self, scape):
        name_clusters(scape, "C", names={"0": "red"})
        scape.delete(ids_of(scape)[np.flatnonzero(cluster_labels(scape, "C")[0] == 0)[:8]])
        assert names(name_clusters(scape, "C"))[0] == "red"


class TestRecord:
    def test_it_comes_back_as_it_was(self, scape, words, tmp_path):
        done = name_clusters(
            scape, "C", words=words, metadata=["folder"], names={"7": "x"}, propagate=True, device="cpu"
        )
        assert Naming.load(scape.path / "runs" / "C" / "naming.json") == done
        assert names(naming_of(scape, "C")) == names(done)

    def test_damaged_and_newer(self, scape):
        name_clusters(scape, "C")
        path = scape.path / "runs" / "C" / "naming.json"
        content = json.loads(path.read_text())
        path.write_text(json.dumps(content | {"format_version": 99}))
        with pytest.raises(CheckpointError, match="has format 99, this imagescape reads up to 1"):
            name_clusters(scape, "C")
        for bad in ("{", "[]", "{}", json.dumps(content | {"groups": [{"id": 0}]})):
            path.write_text(bad)
            with pytest.raises(CheckpointError, match=r"is damaged .*; delete it"):
                name_clusters(scape, "C")
        name_clusters(scape, "C", overwrite=True)


@pytest.mark.parametrize("name", ["D", "C_name", ""])
def test_no_such_clustering(scape, name):
    with pytest.raises(InputError, match=f"no clustering is called '{name}' in .*; there are: C$"):
        name_clusters(scape, name)


def test_all_noise(scape):
    scape.add_columns(ids_of(scape), {"cluster_N": np.full(len(scape), -1)})
    with pytest.raises(InputError, match=r"the clustering 'N' of .* has no cluster"):
        name_clusters(scape, "N")
