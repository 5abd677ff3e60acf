"""Adding, deleting, saving, loading and searching in any order, against a dictionary and every distance computed."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from imagescape.errors import InputError
from imagescape.search.index import build_index, load_index

WIDTH = 8
IDS = st.integers(-6, 40).filter(lambda number: number != -1)  # few, so that they come again
SEEDS = st.integers(0, 2**16)


def rows(count, seed, packed):
    rng = np.random.default_rng(seed)
    if packed:
        return rng.integers(0, 256, (count, WIDTH), dtype=np.uint8)
    return rng.normal(3, 1, (count, WIDTH)).round(1).astype(np.float32)


class Changes(RuleBasedStateMachine):
    engine = "exact"
    metric = "euclidean"

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.model, self.saved = {}, None

    def teardown(self):
        shutil.rmtree(self.folder, ignore_errors=True)

    def vectors(self, count, seed):
        return rows(count, seed, self.metric == "hamming")

    @initialize(seed=SEEDS, mapped=st.booleans(), half=st.booleans())
    def build(self, seed, mapped, half):
        ids, values = np.arange(100, 112), self.vectors(12, seed)
        if half and self.metric != "hamming":
            values = values.astype(np.float16)
        if mapped:
            np.save(self.folder / "rows.npy", values)
            values = np.load(self.folder / "rows.npy", mmap_mode="r")
        self.index = build_index(values, ids, engine=self.engine, metric=self.metric)
        self.model = dict(zip(ids.tolist(), np.array(values), strict=True))

    @rule(ids=st.lists(IDS, max_size=9, unique=True), seed=SEEDS)
    def add(self, ids, seed):
        values = self.vectors(len(ids), seed)
        if set(ids) & self.model.keys():
            with pytest.raises(InputError, match="in the index already"):
                self.index.add(values, np.array(ids))
            return
        self.index.add(values, np.array(ids, np.int64))
        self.model |= dict(zip(ids, values, strict=True))

    @rule(data=st.data())
    def delete(self, data):
        ids = data.draw(st.lists(st.sampled_from([*self.model, 999]), unique=True, max_size=len(self.model)))
        if 999 in ids:
            with pytest.raises(InputError, match="999 is not in the index"):
                self.index.delete(np.array(ids))
            return
        self.index.delete(np.array(ids, np.int64))
        for number in ids:
            del self.model[number]

    @rule(data=st.data(), seed=SEEDS)
    @precondition(lambda self: self.model)
    def replace(self, data, seed):
        """The same ids with other vectors."""
        ids = data.draw(st.lists(st.sampled_from(sorted(self.model)), unique=True, min_size=1))
        values = self.vectors(len(ids), seed)
        self.index.delete(np.array(ids))
        self.index.add(values, np.array(ids))
        self.model |= dict(zip(ids, values, strict=True))

    @rule(where=st.sampled_from("ab"))
    def save(self, where):
        self.index.save(self.folder / where)
        self.saved = where, dict(self.model)

    @rule()
    @precondition(lambda self: self.saved)
    def load(self):
        where, self.model = self.saved[0], dict(self.saved[1])
        self.index = load_index(self.folder / where)

    @rule(seed=SEEDS, k=st.integers(1, 60))
    def search(self, seed, k):
        self.check(self.vectors(3, seed), k, self.model, None)

    @rule(seed=SEEDS, k=st.integers(1, 9), data=st.data())
    def search_among(self, seed, k, data):
        among = data.draw(st.lists(st.sampled_from([*self.model, 999]), unique=True, min_size=1))
        allowed = {number: self.model[number] for number in among if number != 999}
        self.check(self.vectors(3, seed), k, allowed, np.array(among))

    def check(self, queries, k, allowed, among):
        found = self.index.search(queries, k, among=among)
        many = min(k, len(allowed))
        assert (found.ids[:, many:] == -1).all()
        for query, ids, distances in zip(queries, found.ids[:, :many].tolist(), found.distances, strict=True):
            assert len(set(ids)) == many
            assert set(ids) <= allowed.keys()
            truth = {number: self.distance(query, row) for number, row in allowed.items()}
            np.testing.assert_allclose(distances[:many], [truth[number] for number in ids], atol=1e-2)
            np.testing.assert_allclose(distances[:many], sorted(truth.values())[:many], atol=1e-2)

    def distance(self, a, b):
        if self.metric == "hamming":
            return int(np.unpackbits(a ^ b).sum())
        return float(np.linalg.norm(a.astype(float) - b.astype(float)))

    @invariant()
    def holds_what_the_model_holds(self):
        if hasattr(self, "index"):
            assert sorted(self.index.ids().tolist()) == sorted(self.model)
            assert len(self.index) == len(self.model)


@pytest.mark.parametrize(
    ("engine", "metric", "examples"),
    [
        ("exact", "euclidean", 25),
        ("exact", "hamming", 10),
        ("Flat", "euclidean", 15),
        ("IVF2,Flat", "euclidean", 25),
        ("HNSW8", "euclidean", 25),
        ("IVF2,Flat,RFlat", "euclidean", 10),
        ("binary", "hamming", 10),
        ("binary:IVF2", "hamming", 10),
        ("binary:HNSW8", "hamming", 10),
        ("lance", "euclidean", 4),
    ],
)
def test_any_order(engine, metric, examples):
    pytest.importorskip("faiss", reason="FAISS is an extra")
    machine = type("Machine", (Changes,), {"engine": engine, "metric": metric})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=20,
            suppress_health_check=list(HealthCheck),
            derandomize=True,
        ),
    )
