"""Experiments on small clouds: figures against loops, one index a method, widths, times, and what is refused."""

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

from imagescape.errors import InputError
from imagescape.evaluate.retrieval import measure
from imagescape.search import experiment as module
from imagescape.search.combined import Calibration, Combined, Method
from imagescape.search.experiment import Queries, Setting, Together, Vectors, run_experiment, sweep
from imagescape.search.index import Found, build_index


@pytest.fixture
def database():
    rng = np.random.default_rng(0)
    seen = rng.normal(size=(200, 16)).astype(np.float32)
    ids = rng.choice(10**9, 200, replace=False)
    return Vectors(ids, {"net": seen, "hash": np.packbits(rng.normal(size=(200, 64)) > 0, axis=1)})


@pytest.fixture
def queries(database):
    """150 altered copies: "near" moves the features little and scrambles the hash, "far" the reverse; 30 foreign."""
    rng = np.random.default_rng(1)
    source = rng.integers(0, 200, 150)
    family = np.where(rng.random(150) < 0.5, "near", "far")
    net = database.columns["net"][source] + rng.normal(size=(150, 16)) * np.where(family == "near", 0.1, 3)[:, None]
    scrambled = rng.integers(0, 256, (150, 8), dtype=np.uint8)
    hashes = np.where((family == "far")[:, None], database.columns["hash"][source], scrambled)
    foreign = np.arange(150) < 30
    net[foreign], hashes[foreign] = rng.normal(size=(30, 16)), rng.integers(0, 256, (30, 8))
    return Queries(
        ids=np.arange(150),
        columns={"net": net.astype(np.float32), "hash": hashes.astype(np.uint8)},
        truth=np.where(foreign, -1, database.ids[source]),
        families=family,
        kinds=[f"{name} {place % 2}" for place, name in enumerate(family)],
        originals=np.where(foreign, -2 - np.arange(150) // 3, database.ids[source]),
    )


NET = Setting(features="net", k=5)
HASH = Setting(features="hash", metric="hamming", k=5)


def run(database, queries, settings, **options):
    return run_experiment(database, queries, settings, device="cpu", **{"resamples": 20} | options)


class TestFigures:
    def test_they_are_those_of_looking_at_every_row(self, database, queries):
        outcome = run(database, queries, [NET])
        distances = np.linalg.norm(queries.columns["net"][:, None] - database.columns["net"][None], axis=2)
        order = np.argsort(distances, axis=1)[:, :5]
        found = outcome.found[0]
        assert (found.ids == database.ids[order]).all()
        hits = {
            k: [truth in row[:k] for truth, row in zip(queries.truth, database.ids[order], strict=True) if truth != -1]
            for k in (1, 2, 3, 5)
        }
        trial = outcome.experiment.trials[0]
        overall = trial.retrieval.overall
        assert {k: one.value for k, one in overall.at.items()} == {k: np.mean(one) for k, one in hits.items()}
        near = [hit for hit, name in zip(hits[1], queries.families[queries.truth != -1], strict=True) if name == "near"]
        assert trial.retrieval.by_family["near"].at[1].value == pytest.approx(np.mean(near))
        assert trial.retrieval == measure(
            found.ids,
            found.distances,
            queries.truth,
            ks=(1, 2, 3, 5),
            families=queries.families,
            kinds=queries.kinds,
            originals=queries.originals,
            resamples=20,
        )
        assert (trial.retrieval.queries, trial.retrieval.matching) == (150, 120)

    def test_everything_is_recorded(self, database, queries):
        outcome = run(database, queries, [NET, HASH], seed=4)
        net, hashes = outcome.experiment.trials
        assert net.method == ("net", "exact", "euclidean")
        assert hashes.method == ("hash", "exact", "hamming")
        assert (net.k, net.search_width, hashes.k) == (5, None, 5)
        assert net.vector_bytes >= 64 > hashes.vector_bytes >= 8
        assert net.build_seconds > 0
        for trial in (net, hashes):
            assert 0 < trial.single.slowest <= trial.single.median <= trial.single.fastest
            assert trial.single.median < trial.batch.median  # in a batch a query costs less
            assert (trial.batch.repeats, trial.single.repeats) == (5, 100)
        experiment = outcome.experiment
        assert (experiment.database_rows, experiment.seed, len(outcome.found)) == (200, 4, 2)
        assert experiment.threads >= 1
        assert experiment.machine

    def test_equal_distances_favour_no_row(self):
        """Every row looks the same and the originals come first: an original is first once in a hundred times."""
        database = Vectors(np.arange(100), {"hash": np.zeros((100, 8), np.uint8)})
        firsts = []
        for seed in range(30):
            queries = Queries(
                ids=np.arange(3),
                columns={"hash": np.zeros((3, 8), np.uint8)},
                truth=np.arange(3),
                families=["a"] * 3,
                kinds=["a"] * 3,
            )
            outcome = run(database, queries, [Setting(features="hash", metric="hamming", k=1)], seed=seed, resamples=0)
            firsts.append(outcome.found[0].ids[0, 0])
        assert len(set(firsts)) > 15
        assert np.mean(np.array(firsts) < 50) == pytest.approx(0.5, abs=0.3)


class TestTogether:
    def test_it_beats_both_and_its_calibration_can_be_used(self, database, queries, tmp_path):
        outcome = run(database, queries, [Together(methods=(HASH, NET), k=5), HASH, NET])
        both, hashes, net = outcome.experiment.trials
        recalls = [one.retrieval.overall.at[1].value for one in (both, hashes, net)]
        assert recalls[0] > 0.95 > 0.7 > max(recalls[1:])
        assert both.method == ("hash + net", "combined", "probability")
        assert both.vector_bytes == hashes.vector_bytes + net.vector_bytes
        assert both.build_seconds > hashes.build_seconds + net.build_seconds
        assert outcome.calibrations[1:] == (None, None)
        outcome.calibrations[0].save(tmp_path / "combined.json")
        methods = {
            name: Method(
                build_index(vectors, database.ids, metric="hamming" if name == "hash" else "euclidean", device="cpu"),
                database.ids,
                vectors,
            )
            for name, vectors in database.columns.items()
        }
        found = Combined(methods, Calibration.load(tmp_path / "combined.json")).search(queries.columns, 1)
        assert (found.ids[:, 0] == queries.truth)[queries.truth != -1].mean() > 0.95

    def test_queries_are_judged_by_others(self, database, queries, monkeypatch):
        """The results are those of cross-fitting with the originals, not of the calibration that is handed out."""
        asked = {}

        def cross_fitted(methods, columns, truth, k, **options):
            asked.update(options, k=k, truth=truth)
            return Found(np.tile(database.ids[:5], (150, 1)), np.tile(np.arange(5.0), (150, 1)))

        monkeypatch.setattr(module, "cross_fitted", cross_fitted)
        outcome = run(database, queries, [Together(methods=(HASH, NET), k=5, depth=7)], seed=9)
        assert (outcome.found[0].ids == database.ids[:5]).all()
        assert asked["originals"] is queries.originals
        assert asked["truth"] is queries.truth
        assert (asked["depth"], asked["seed"], asked["k"]) == (7, 9, 5)

    @pytest.mark.parametrize("methods", [(), (NET,), (NET, NET)])
    def test_it_needs_two(self, methods):
        with pytest.raises(InputError, match="two or more different features"):
            Together(methods=methods)


class FakeIndex:
    """Counts what is asked of it; finds the first rows."""

    made: ClassVar[list] = []

    def __init__(self, vectors, ids, *, engine, metric, device, seed):
        self.known, self.engine, self.metric, self.vector_bytes = ids, engine, metric, 4.0
        self.search_width = 8 if engine == "wide" else None
        self.widths: list = []
        self.sizes: list = []
        FakeIndex.made.append(self)

    def __len__(self):
        return len(self.known)

    def search(self, queries, k, *, among=None):
        self.widths.append(self.search_width)
        self.sizes.append(len(queries))
        return Found(np.tile(self.known[:k], (len(queries), 1)), np.tile(np.arange(float(k)), (len(queries), 1)))


@pytest.fixture
def fake(monkeypatch):
    FakeIndex.made = []
    monkeypatch.setattr(module, "build_index", FakeIndex)
    return FakeIndex.made


class TestIndexes:
    def test_one_is_built_for_all_k_and_widths(self, database, queries, fake):
        wide = Setting(features="net", engine="wide", k=5)
        settings = [wide, HASH, *sweep(wide, search_width=(1, 64), k=(1, 5)), wide]
        outcome = run(database, queries, settings, resamples=0)
        assert [(one.engine, one.metric) for one in fake] == [("wide", "euclidean"), ("exact", "hamming")]
        assert [one.search_width for one in outcome.experiment.trials] == [8, None, 1, 1, 64, 64, 8]
        assert list(dict.fromkeys(fake[0].widths)) == [8, 1, 64]
        assert fake[0].widths[-1] == 8  # and back to its own at the end
        assert [one.k for one in outcome.experiment.trials] == [5, 5, 1, 5, 1, 5, 5]

    def test_it_is_let_go_after_its_last_use(self, database, queries, fake):
        indexes = module._Indexes(database, [NET, HASH, NET], "cpu", 0)
        indexes.take(NET)
        indexes.take(HASH)
        assert list(indexes._built) == [("net", "exact", "euclidean")]
        indexes.take(NET)
        assert not indexes._built
        assert len(fake) == 2

    def test_all_at_once_and_one_at_a_time(self, database, queries, fake):
        run(database, queries, [NET], resamples=0)
        assert fake[0].sizes == [150] * 6 + [1] * 101

    def test_long_searches_are_not_repeated(self, database, queries, fake, monkeypatch):
        clock = iter(np.arange(0, 10**6, 11.0))
        monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
        outcome = run(database, queries, [NET], resamples=0)
        assert fake[0].sizes == [150, 1]
        trial = outcome.experiment.trials[0]
        assert (trial.batch.repeats, trial.single.repeats) == (1, 1)
        assert trial.batch.median == pytest.approx(150 / 11)
        assert trial.single.median == pytest.approx(1 / 11)

    def test_rates_are_of_the_median_time(self):
        rate = module._rate(100, [1.0, 2.0, 4.0])
        assert (rate.median, rate.slowest, rate.fastest, rate.repeats) == (50, 25, 100, 3)

    def test_a_width_where_there_is_none(self, database, queries):
        with pytest.raises(InputError, match="'exact' has no search width, got 4"):
            run(database, queries, sweep(NET, search_width=(4,)))


def test_a_sweep_of_faiss_finds_more_with_width(database, queries, tmp_path):
    pytest.importorskip("faiss", reason="needs the extra faiss")
    base = Setting(features="net", engine="IVF16,Flat", k=5)
    outcome = run(database, queries, [NET, *sweep(base, search_width=(1, 16))])
    exact, narrow, wide = (one.retrieval.overall.at[1].value for one in outcome.experiment.trials)
    assert narrow < wide == exact
    data = json.loads(outcome.experiment.save(tmp_path).read_text())
    assert data["recall_at_k"]["overall"]["1"] == exact


def test_sweeps():
    made = sweep(NET, metric=("euclidean", "cosine"), k=(1, 10))
    assert [(one.features, one.metric, one.k) for one in made] == [
        ("net", "euclidean", 1),
        ("net", "euclidean", 10),
        ("net", "cosine", 1),
        ("net", "cosine", 10),
    ]
    assert sweep(NET) == [NET]


class TestBadInput:
    def test_it_is_said(self, database, queries):
        with pytest.raises(InputError, match="at least one setting"):
            run(database, queries, [])
        with pytest.raises(InputError, match="database must have the features 'dino', got net, hash"):
            run(database, queries, [Setting(features="dino")])
        bare = replace(queries, columns={"hash": queries.columns["hash"]})
        with pytest.raises(InputError, match="queries must have the features 'net', got hash"):
            run(database, bare, [NET])
        few = Vectors(database.ids[:50], {"net": database.columns["net"][:50]})
        with pytest.raises(InputError, match="originals are not in the database, the first"):
            run(few, queries, [NET])
        with pytest.raises(InputError, match="net must have one entry a row of the database, got 200 for 50"):
            Vectors(database.ids[:50], {"net": database.columns["net"]})
        with pytest.raises(InputError, match="kinds must have one entry a query, got 1 for 2"):
            Queries(ids=np.arange(2), columns={}, truth=np.arange(2), families=["a", "b"], kinds=["a"])
        none = Queries(ids=np.arange(0), columns={"net": np.empty((0, 16))}, truth=np.arange(0), families=[], kinds=[])
        with pytest.raises(InputError, match="needs queries"):
            run(database, none, [NET])
