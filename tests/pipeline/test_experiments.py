"""Altered copies as a collection, and what an experiment makes of them."""

import json

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image
from test_embedding import encoder, picture

from imagescape.collection.ingest import ingest
from imagescape.collection.results import ids_of
from imagescape.collection.store import Collection
from imagescape.collection.vectors import numbers_of
from imagescape.errors import CheckpointError, InputError
from imagescape.images.decode import decode
from imagescape.pipeline.attacking import attack
from imagescape.pipeline.embedding import embed
from imagescape.pipeline.experiments import _settings, experiment
from imagescape.search.attacks import ATTACKS
from imagescape.search.experiment import Vectors
from imagescape.show.searches import plot_experiment, write_experiment

KINDS = ["flip_horizontal", "jpeg_90", "gaussian_noise_0.05"]


def write(folder, *seeds):
    folder.mkdir(exist_ok=True)
    for seed in seeds:
        picture(seed, side=48).save(folder / f"{seed:03}.png")
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Twenty originals, thirty others, and the originals altered; tests leave them as they are."""
    folder = tmp_path_factory.mktemp("experiments")
    ingest(write(folder / "images", *range(20)), folder / "c.scape")
    ingest(write(folder / "others", *range(100, 130)), folder / "d.scape")
    scape = Collection.open(folder / "c.scape")
    attack(scape, folder / "q.scape", KINDS, seed=3, folder=folder / "files")
    embed(scape, "dhash64")
    embed(scape, "phash64")
    return folder


@pytest.fixture(scope="module")
def scapes(made):
    return tuple(Collection.open(made / f"{name}.scape") for name in "cqd")


class TestAttack:
    def test_every_copy_knows_its_original(self, scapes):
        scape, queries, _ = scapes
        rows = queries.read(["original_id", "attack", "family", "strength", "seed", "status"]).to_pylist()
        assert len(rows) == 20 * len(KINDS)
        assert {(row["original_id"], row["attack"]) for row in rows} == {
            (image_id, kind) for image_id in ids_of(scape).tolist() for kind in KINDS
        }
        assert {(row["attack"], row["family"], row["strength"], row["seed"]) for row in rows} == {
            ("flip_horizontal", "flip", None, 3),
            ("jpeg_90", "jpeg", 90, 3),
            ("gaussian_noise_0.05", "gaussian_noise", 0.05, 3),
        }
        assert {row["status"] for row in rows} == {"ok"}

    def test_pictures_are_those_of_the_attack_stored_and_as_files(self, scapes, made):
        scape, queries, _ = scapes
        table = queries.read(["original_id", "attack", "image"]).to_pylist()
        originals = dict(zip(ids_of(scape).tolist(), range(20), strict=True))
        for row in table[:9]:
            seed = originals[row["original_id"]]
            wanted = ATTACKS[row["attack"]](picture(seed, side=48), seed=3, image_id=row["original_id"])
            assert_array_equal(np.asarray(decode(row["image"]).image), np.asarray(wanted))
            file = made / "files" / f"{seed:03}-{row['original_id']}" / f"{row['attack']}-seed3.png"
            assert_array_equal(np.asarray(Image.open(file)), np.asarray(wanted))

    def test_again_adds_only_what_is_missing(self, made, tmp_path):
        scape = Collection.open(made / "c.scape")
        assert attack(scape, tmp_path / "q.scape", ["flip"], where="uri LIKE '%00_.png'").added == 20
        assert attack(scape, tmp_path / "q.scape", ["flip"]).added == 20
        assert attack(scape, tmp_path / "q.scape", ["flip"], seed=1).added == 40
        assert Collection.open(tmp_path / "q.scape").count("status != 'ok'") == 0

    def test_files_of_copies_that_are_there_already(self, made, tmp_path):
        scape = Collection.open(made / "c.scape")
        attack(scape, tmp_path / "q.scape", ["flip_vertical"])
        assert attack(scape, tmp_path / "q.scape", ["flip_vertical"], folder=tmp_path / "files").added == 0
        assert len(list((tmp_path / "files").rglob("*.png"))) == 20

    def test_mistakes(self, scapes, tmp_path):
        with pytest.raises(InputError, match="need a collection of their own"):
            attack(scapes[0], scapes[0].path)
        with pytest.raises(InputError, match="a kind of attack must be"):
            attack(scapes[0], tmp_path / "q.scape", ["sharpen"])
        with pytest.raises(InputError, match="no readable image to attack"):
            attack(scapes[0], tmp_path / "q.scape", where="width > 999")

    def test_an_original_that_is_gone_costs_no_other(self, tmp_path):
        ingest(write(tmp_path / "images", *range(5)), tmp_path / "c.scape")
        (tmp_path / "images" / "002.png").unlink()
        scape = Collection.open(tmp_path / "c.scape")
        assert attack(scape, tmp_path / "q.scape", ["flip_vertical"]).added == 4
        assert [row["status"] for row in scape.flagged_rows()] == ["vanished"]


class TestExperiment:
    def test_figures_plots_and_page(self, scapes, tmp_path):
        scape, queries, others = scapes
        measured = experiment(
            scape, queries, features=["dhash64", "phash64"], distractors=[others], held_out=0.25, ks=(1, 5)
        )
        assert (measured.queries.truth == -1).sum() == 5 * len(KINDS)
        assert measured.outcome.experiment.database_rows == 15 + 30
        assert "features_phash64" in others.columns
        names = {path.name for path in write_experiment(scape, queries, measured, tmp_path / "results")}
        assert {"results.json", "k-recall.png", "time-recall.png", "families.png", "neighbors.html"} <= names
        result = json.loads((tmp_path / "results" / "results.json").read_text())
        recall = result["recall_at_k"]["by_family"]
        assert recall["jpeg"]["1"] == 1.0
        assert recall["flip"]["1"] < 0.5  # a hash knows nothing of mirrors
        assert [trial["engine"] for trial in result["trials"]] == ["exact"] * 4 + ["combined"]
        for path in (tmp_path / "results").glob("*.png"):
            path.unlink()
        assert all(path.exists() for path in plot_experiment(tmp_path / "results"))

    def test_truth_is_the_original(self, scapes):
        scape, queries, _ = scapes
        measured = experiment(scape, queries, features=["dhash64"], held_out=0)
        wanted = dict(
            zip(
                numbers_of(ids_of(queries)).tolist(),
                numbers_of(queries.read(["original_id"])["original_id"].to_numpy()).tolist(),
                strict=True,
            )
        )
        assert dict(zip(measured.queries.ids.tolist(), measured.queries.truth.tolist(), strict=True)) == wanted

    def test_engines_and_metrics_are_tried_where_they_fit(self, made, tmp_path):
        pytest.importorskip("faiss")
        ingest(made / "images", tmp_path / "c.scape")
        scape = Collection.open(tmp_path / "c.scape")
        attack(scape, tmp_path / "q.scape", ["flip"])
        queries = Collection.open(tmp_path / "q.scape")
        embed(scape, encoder(), dtype="float32")
        embed(scape, "dhash64")
        embed(queries, encoder())
        (scape.path / "models" / "colours").rename(tmp_path / "gone")
        with pytest.raises(CheckpointError, match="the model of 'colours' is not in"):
            experiment(scape, queries)
        settings = _settings(
            Vectors(np.arange(40), {"net": np.zeros((40, 8), np.float32), "hash": np.zeros((40, 8), np.uint8)}),
            *(["net", "hash"], ["SQ8", "exact", "binary"], ["cosine", "manhattan"], [5], [2, 3]),
        )
        assert [(one.features, one.engine, one.metric) for one in settings] == [
            ("net", "SQ8", "cosine"),
            ("net", "exact", "cosine"),
            ("net", "exact", "manhattan"),
            ("hash", "exact", "hamming"),
            ("hash", "binary", "hamming"),
        ]

    def test_originals_are_named_by_id(self, scapes, tmp_path):
        scape, queries, _ = scapes
        ingest(queries.path.parent / "images", tmp_path / "q.scape")
        other = Collection.open(tmp_path / "q.scape")
        embed(other, "dhash64")
        names = {"original_id": ["cat.jpg"] * 20, "family": ["x"] * 20, "attack": ["x"] * 20}
        other.add_columns(other.ok_ids(), names)
        with pytest.raises(InputError, match=r"must be the image_id .* got 'cat.jpg'"):
            experiment(scape, other, features=["dhash64"])

    def test_queries_that_another_encoder_made(self, made, tmp_path):
        ingest(made / "images", tmp_path / "c.scape")
        scape = Collection.open(tmp_path / "c.scape")
        attack(scape, tmp_path / "q.scape", ["flip"])
        queries = Collection.open(tmp_path / "q.scape")
        embed(scape, encoder())
        embed(queries, encoder(2.0))
        with pytest.raises(InputError, match="were made by another encoder"):
            experiment(scape, queries)

    def test_mistakes(self, scapes, tmp_path):
        scape, queries, others = scapes
        with pytest.raises(InputError, match="need a column 'original_id'"):
            experiment(scape, others, features=["dhash64"])
        with pytest.raises(InputError, match=r"held_out .* in \[0, 1\), got 1"):
            experiment(scape, queries, held_out=1)
        with pytest.raises(InputError, match="no features are called 'clip'"):
            experiment(scape, queries, features=["clip"])
        with pytest.raises(InputError, match="none of the engines Flat is for any of the features dhash64"):
            experiment(scape, queries, features=["dhash64"], engines=["Flat"])
        with pytest.raises(InputError, match="results of an experiment"):
            plot_experiment(tmp_path)
