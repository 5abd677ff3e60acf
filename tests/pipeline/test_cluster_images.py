"""Clusters of whole images in a collection: the network that made the features learns them too."""

import json
import os
import signal
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from imagescape.collection.clusterings import cluster_labels, clustering_config
from imagescape.collection.ingest import ingest
from imagescape.collection.results import ids_of
from imagescape.collection.store import Collection
from imagescape.errors import CheckpointError, InputError, Interrupted
from imagescape.features.extract import NetworkEncoder
from imagescape.learn import train
from imagescape.learn.scan_images import ScanImages
from imagescape.pipeline.cluster_scores import evaluate_clusterings
from imagescape.pipeline.clustering import cluster, cluster_new, cluster_probabilities
from imagescape.pipeline.embedding import embed
from imagescape.show.cluster_report import write_cluster_report
from tests.learn.bars import bar, small_network

pytest.importorskip("faiss")

QUICK = {"heads": 2, "epochs": 2, "selflabel_epochs": 2, "device": "cpu", "seed": 0}
GOOD = 36


def write_images(folder, numbers):
    """Bars across, and every third down, of random colours."""
    folder.mkdir(exist_ok=True)
    for number in numbers:
        Image.fromarray(bar(number % 3 == 0, number)).save(folder / f"{number:03}.png")


@pytest.fixture
def scape(tmp_path):
    """36 images and a broken one, with the features `net` of a small network, and hashes."""
    write_images(tmp_path / "images", range(GOOD))
    (tmp_path / "images" / "broken.png").write_bytes(b"no picture")
    ingest([tmp_path / "images"], tmp_path / "c.scape")
    scape = Collection.open(tmp_path / "c.scape")
    embed(scape, small_network(), "net", dtype="float32", device="cpu")
    embed(scape, "phash64")
    return scape


def pixels_of(scape):
    """The good images in table order."""
    paths = scape.read(["uri"], where="status = 'ok'")["uri"].to_pylist()
    return np.stack([np.asarray(Image.open(path.removeprefix("file://"))) for path in paths])


def whole(scape, name="S", **settings):
    return cluster(scape, name, method="scan", whole_network=True, features_name="net", **{"k": 2, **QUICK, **settings})


def test_it_is_what_scan_of_the_same_images_finds(scape):
    done = whole(scape)
    labels, known = cluster_labels(scape, "S")
    status = np.array(scape.read(["status"])["status"].to_pylist())
    assert_array_equal(known, status == "ok")
    settings = {key: value for key, value in QUICK.items() if key != "seed"}
    alone = ScanImages(2, small_network(), random_state=0, **settings).fit(pixels_of(scape))
    assert_array_equal(labels[known], alone.labels_)
    sure = scape.read(["cluster_S_probability"])["cluster_S_probability"].to_numpy()[known]
    assert_allclose(sure, alone.probabilities_.max(1), atol=1e-5)
    assert (done.method, done.images, done.left_out) == ("scan", GOOD, 0)
    assert done.columns == {"cluster_S": (len(set(alone.labels_.tolist())), 0)}
    config = json.loads((scape.path / "models" / "S" / "config.json").read_text())
    assert config["features"] == "net"
    assert config["clustering"] == {"method": "scan", "metric": "", "where": None, "whole_network": True}
    assert config["recipe"]["selflabel"] is True
    assert (scape.path / "runs" / "S" / "finished").exists()


def test_the_features_and_their_model_stay(scape):
    before = (scape.path / "models" / "net" / "weights.safetensors").read_bytes()
    values = scape.read(["features_net"])["features_net"].to_pylist()
    whole(scape)
    assert (scape.path / "models" / "net" / "weights.safetensors").read_bytes() == before
    assert scape.read(["features_net"])["features_net"].to_pylist() == values


def test_only_images_that_meet_the_condition(scape):
    some = ids_of(scape)[:20]
    scape.add_columns(some, {"mine": [True] * 20})
    done = whole(scape, where="mine AND status = 'ok'", selflabel=False)
    assert done.images == 20
    assert_array_equal(cluster_labels(scape, "S")[1], np.isin(ids_of(scape), some))


def test_new_images_join_by_their_pictures_alone(scape):
    whole(scape)
    before = dict(zip(ids_of(scape).tolist(), cluster_labels(scape, "S")[0].tolist(), strict=True))
    write_images(scape.path.parent / "images", range(GOOD, GOOD + 6))
    ingest([scape.path.parent / "images"], scape.path)
    grown = Collection.open(scape.path)
    assert cluster_new(grown, "S", device="cpu") == 6
    assert cluster_new(grown, "S", device="cpu") == 0
    labels, known = cluster_labels(grown, "S")
    assert known.sum() == GOOD + 6
    after = dict(zip(ids_of(grown).tolist(), labels.tolist(), strict=True))
    assert all(after[one] == before[one] for one in before)
    model = ScanImages.load(grown.path / "models" / "S", device="cpu")
    assert_array_equal(model.predict(pixels_of(grown)), labels[known])


def test_what_evaluate_says_of_it(scape):
    whole(scape, k=6)
    labels, known = cluster_labels(scape, "S")
    found = cluster_probabilities(scape, "S", clustering_config(scape, "S"), device="cpu")
    assert found.shape == (GOOD + 1, 6)
    assert_array_equal(found[known].argmax(1), labels[known])
    assert np.isnan(found[~known]).all()
    kinds = np.arange(GOOD + 1) % 2
    scape.add_columns(ids_of(scape), {"kind": kinds.astype(str).tolist()})
    figures = evaluate_clusterings(scape, ["S"], label="kind", device="cpu").as_dict()
    assert 0 < figures["figures"]["top5_acc"] <= 1
    assert figures["features"] == "net"
    assert len(figures["figures"]["geometry"]["clusters"]) == len(set(labels[known].tolist()))
    page = write_cluster_report(scape, "S", scape.path.parent / "s.html", device="cpu").page.read_text(encoding="utf-8")
    assert "scan of the images, by the network of features &#x27;net&#x27;" in page


def test_stopped_and_taken_up_again_is_the_same(scape, monkeypatch):
    whole(scape, "W")
    update, steps = train._update, []

    def counted(*arguments):
        steps.append(1)
        if len(steps) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return update(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(train, "_update", counted)
        with pytest.raises(Interrupted, match="run the same command again to go on from there"):
            whole(scape)
    done = len(steps)
    assert not (scape.path / "runs" / "S" / "finished").exists()
    with monkeypatch.context() as patch:
        patch.setattr(train, "_update", counted)
        whole(scape)
    every = [
        json.loads(line)["step"] for line in (scape.path / "runs" / "S" / "metrics.jsonl").read_text().splitlines()
    ]
    assert len(steps) < 2 * done + max(every)  # it went on, and did not begin anew
    for column in ("cluster_{}", "cluster_{}_probability"):
        one, other = (scape.read([column.format(name)])[column.format(name)].to_pylist() for name in "WS")
        assert one == other


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"features_name": "phash64"}, "features 'phash64' are hashes: no network made them"),
        ({"features_name": None, "map_name": "M"}, "leave --map out"),
        ({"k": 1}, "k must be a whole number of at least 2, got 1"),
        ({"k": 99}, "99 clusters need at least 99 rows, got 36"),
        ({"epochs": 0}, "epochs must be a whole number of at least 1, got 0"),
        ({"where": "uri = 'none'"}, "no image has a picture that can be read and meets the condition"),
        ({"nearest": True}, "leaves no noise"),
    ],
)
def test_refused(scape, options, message):
    with pytest.raises(InputError, match=message):
        cluster(
            scape, "S", **{"method": "scan", "whole_network": True, "features_name": "net", "k": 2, **QUICK, **options}
        )
    assert not [column for column in scape.columns if column.startswith("cluster_")]


def test_features_that_nobody_signed(scape):
    good = scape.ok_ids()
    scape.add_columns(good, {"features_own": np.eye(GOOD, dtype=np.float32)})
    with pytest.raises(CheckpointError, match="nothing tells what made features 'own'"):
        cluster(scape, "S", method="scan", whole_network=True, features_name="own", k=2, **QUICK)


def test_a_network_that_could_not_be_built_again(scape, monkeypatch):
    own = small_network()
    own.architecture = replace(own.architecture, backbone="torchscript")
    monkeypatch.setattr("imagescape.pipeline.cluster_source.encoder_of", lambda *_: NetworkEncoder(own))
    with pytest.raises(InputError, match="by a network of your own, which could not be built again"):
        whole(scape)
