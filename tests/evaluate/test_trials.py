"""An experiment as a file: what is written, and that it comes back the same or is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest

from imagescape.errors import CheckpointError, InputError
from imagescape.evaluate.retrieval import measure
from imagescape.evaluate.trials import Experiment, Rate, Trial


@pytest.fixture(name="experiment")
def experiment_fixture():
    """Two trials of three queries: one correct, one at place 2, one that matches nothing."""
    ids, distances = np.array([[1, 2], [3, 2], [4, 5]]), np.array([[0.5, 1.0], [1.0, 2.0], [3.0, 4.0]])
    figures = measure(
        ids, distances, np.array([1, 2, -1]), ks=(1, 2), families=["a", "b", "b"], kinds=["a1", "b1", "b1"]
    )
    trial = Trial(
        features="dhash64",
        engine="exact",
        metric="hamming",
        search_width=None,
        k=2,
        build_seconds=0.25,
        batch=Rate(100.0, 90.0, 110.0, 5),
        single=Rate(10.0, 9.0, 11.0, 100),
        vector_bytes=8.0,
        retrieval=figures,
    )
    worse = measure(ids[::-1], distances, np.array([1, 2, -1]), ks=(1, 2))
    wide = replace(trial, features="net", engine="IVF4,Flat", metric="inner_product", search_width=4, retrieval=worse)
    return Experiment(trials=(trial, wide), database_rows=5, seed=3, machine="a machine", threads=2)


def test_the_keys_that_scripts_read(experiment, tmp_path):
    path = experiment.save(tmp_path / "new" / "folder")
    assert [one.name for one in path.parent.iterdir()] == ["results.json"]
    data = json.loads(path.read_text())
    assert data["version"] == 1
    assert data["recall_at_k"] == {
        "overall": {"1": 0.5, "2": 1.0},
        "by_family": {"a": {"1": 1.0, "2": 1.0}, "b": {"1": 0.0, "2": 1.0}},
        "by_kind": {"a1": {"1": 1.0, "2": 1.0}, "b1": {"1": 0.0, "2": 1.0}},
    }
    assert data["micro_average_precision"] == pytest.approx(0.5 * 1 + 0.5 * 0.5)
    assert (data["recall_at_90_precision"], data["distance_at_90_precision"]) == (0.5, 0.5)
    assert (data["queries"], data["matching_queries"]["overall"]) == (3, 2)
    assert data["recall_at_k_95"]["by_family"]["a"]["1"] is None
    assert data["recall_at_k_95"]["overall"]["1"] == [0.0, 1.0]
    assert [trial["search_width"] for trial in data["trials"]] == [None, 4]
    assert data["trials"][1]["batch_queries_per_second"] == {
        "median": 100.0,
        "slowest": 90.0,
        "fastest": 110.0,
        "repeats": 5,
    }


def test_it_comes_back(experiment, tmp_path):
    experiment.save(tmp_path)
    assert Experiment.load(tmp_path) == experiment


def test_it_reads_as_a_table(experiment):
    head, first, second = str(experiment).splitlines()
    assert head.split() == ["search", "R@1", "95", "%", "uAP", "R@P90", "batch/s", "bytes"]
    assert first.startswith("dhash64, exact, hamming, k 2")
    assert second.startswith("net, IVF4,Flat, inner product, width 4, k 2")
    assert first.split()[-6:] == ["-", "1.000", "0.750", "0.500", "100", "8"]


def test_what_cannot_be_read_is_refused(experiment, tmp_path):
    with pytest.raises(InputError, match=r"results\.json"):
        Experiment.load(tmp_path)
    path = experiment.save(tmp_path)
    data = json.loads(path.read_text())
    for damaged in (
        path.read_text()[:400],
        "[]",
        "{}",
        json.dumps({**data, "trials": [{}]}),
        json.dumps({**data, "trials": None}),
        json.dumps({**data, "trials": []}),
    ):
        path.write_text(damaged)
        with pytest.raises(CheckpointError, match="damaged"):
            Experiment.load(tmp_path)
    path.write_text(json.dumps({**data, "version": 2}))
    with pytest.raises(CheckpointError, match="of version 2"):
        Experiment.load(tmp_path)
