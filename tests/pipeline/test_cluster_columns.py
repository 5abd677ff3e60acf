"""Clusters and probabilities as a collection keeps them."""

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from imagescape.collection.ingest import ingest
from imagescape.collection.results import ids_of
from imagescape.collection.store import Collection
from imagescape.errors import CheckpointError, InputError
from imagescape.pipeline.cluster_columns import (
    clustering_labels,
    clustering_names,
    read_probabilities,
    write_probabilities,
)


@pytest.fixture
def scape(tmp_path):
    """Six images without anything."""
    (tmp_path / "images").mkdir()
    for number in range(6):
        Image.new("RGB", (4, 4), (40 * number, 0, 0)).save(tmp_path / "images" / f"{number}.png")
    ingest([tmp_path / "images"], tmp_path / "c.scape")
    return Collection.open(tmp_path / "c.scape")


def test_whole_numbers_are_clusterings_and_what_is_known_of_them_is_none(scape):
    assert clustering_names(scape) == []
    with pytest.raises(InputError, match=r"no clustering is called 'C'.*none yet: make one with `imagescape cluster`"):
        clustering_labels(scape, "C")
    ids = ids_of(scape)
    labels = np.array([3, -1, 1, 3], np.int64)
    columns = {"cluster_C": labels, "cluster_C_probability": np.ones(4, np.float32), "cluster_C_name": list("abcd")}
    scape.add_columns(ids[:4], columns | {"cluster_C_400": labels})
    assert clustering_names(scape) == ["C", "C_400"]
    found, is_in = clustering_labels(scape, "C")
    assert found.tolist() == [3, -1, 1, 3, -1, -1]
    assert is_in.tolist() == [True] * 4 + [False] * 2
    assert found.dtype == np.int64
    with pytest.raises(InputError, match=r"no clustering is called 'D'.*there are: C, C_400"):
        clustering_labels(scape, "D")


def test_probabilities_come_back_to_their_images(scape):
    assert read_probabilities(scape, "C") is None
    ids = ids_of(scape)
    table = np.random.default_rng(0).random((4, 3)).astype(np.float16)
    write_probabilities(scape, "C", ids[[5, 0, 3, 2]], table)
    found = read_probabilities(scape, "C")
    assert found.dtype == np.float32
    assert found[[5, 0, 3, 2]].tolist() == table.astype(np.float32).tolist()
    assert np.isnan(found[[1, 4]]).all()
    scape.delete(ids[:1])
    assert read_probabilities(scape, "C")[[4, 2, 1]].tolist() == table[[0, 2, 3]].astype(np.float32).tolist()
    write_probabilities(scape, "C", ids[:0], table[:0])
    assert np.isnan(read_probabilities(scape, "C")).all()


@pytest.mark.parametrize("content", [b"no table", pa.table({"other": [1]})], ids=["bytes", "columns"])
def test_a_damaged_table_is_said(scape, content):
    write_probabilities(scape, "C", ids_of(scape), np.ones((6, 2)))
    path = scape.path / "runs" / "C" / "probabilities.parquet"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        pa.parquet.write_table(content, path)
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_probabilities(scape, "C")
