"""Queues of review: which there are, what is in them, in which order, and when an item is decided."""

import numpy as np
import pyarrow as pa
import pytest

from imagescape.collection.ingest import ingest
from imagescape.pipeline.audit_results import write_columns
from imagescape.pipeline.auditing import AuditSettings, audit
from imagescape.pipeline.embedding import embed
from tests.explore.conftest import encoded, network


@pytest.fixture
def audited(scape, ids):
    """Two groups of copies, three dark images, two doubtful labels, a leak."""
    count = len(ids)

    def column(values, kind):
        return pa.array([values.get(row) for row in range(count)], kind)

    scape.add_columns(
        ids,
        {
            "duplicate_group": column({3: 5, 8: 5, 1: 2, 4: 2, 6: 2, 9: 7}, pa.int64()),
            "duplicate_of": column({8: ids[3], 4: ids[1], 6: ids[1]}, pa.string()),
            "audit_keep": column({3: True, 8: False, 1: True, 4: False, 6: False}, pa.bool_()),
            "is_dark_issue": pa.array([row in (2, 5, 7) for row in range(count)]),
            "dark_score": pa.array(np.where(np.isin(np.arange(count), [5]), 0.1, 0.4).astype(np.float32)),
            "is_label_doubt_issue": column({10: True, 11: True, 12: False}, pa.bool_()),
            "label_doubt_score": column({10: 0.3, 11: 0.2, 12: 0.9}, pa.float32()),
            "label_suggested": column({10: "blue", 11: "red"}, pa.string()),
            "label_doubt_reason": column({10: "its 5 neighbours are blue"}, pa.string()),
            "leak": column({2: ids[14], 14: ids[2], 0: "f" * 16}, pa.string()),
        },
    )
    return scape


def rows_of(answer):
    return [[image["row"] for image in item["images"]] for item in answer["items"]]


def test_no_audit_no_queues(client, refused):
    assert client.json("/api/queues") == {"queues": []}
    refused(client.get("/api/queues/dark", order=client.order), 404, "not_found")


def test_which_there_are(client, audited):
    told = {one["name"]: one for one in client.json("/api/queues")["queues"]}
    assert {name: (one["kind"], one["count"], one["open"]) for name, one in told.items()} == {
        "duplicates": ("groups", 2, 2),
        "leak": ("groups", 1, 1),
        "dark": ("images", 3, 3),
        "label_doubt": ("labels", 2, 2),
    }
    assert told["duplicates"]["title"] == "Duplicates"
    assert told["label_doubt"]["title"] == "Label doubt"
    assert all(one["text"].endswith(".") for one in told.values())


def test_groups_the_largest_first(client, audited, ids):
    answer = client.json("/api/queues/duplicates", order=client.order)
    assert answer["count"] == 2
    assert rows_of(answer) == [[1, 4, 6], [3, 8]]  # one that is alone in its group is none
    assert [item["group"] for item in answer["items"]] == [2, 5]
    first = answer["items"][0]["images"]
    assert [one["suggested"] for one in first] == ["keep", "remove", "remove"]
    assert (first[0]["id"], first[0]["name"], first[0]["width"]) == (ids[1], "001.png", 24)


def test_the_worst_first(client, audited):
    answer = client.json("/api/queues/dark", order=client.order)
    assert rows_of(answer) == [[5], [2], [7]]
    assert answer["items"][0]["images"][0]["score"] == pytest.approx(0.1)
    assert rows_of(client.json("/api/queues/dark", order=client.order, start=1, count=1)) == [[2]]


def test_labels_with_what_they_may_be(client, audited, refused):
    answer = client.json("/api/queues/label_doubt", order=client.order)
    assert rows_of(answer) == [[11], [10]]
    item = answer["items"][1]
    assert item["label_column"] == "label"
    image = item["images"][0]
    assert (image["label"], image["suggested_label"]) == ("green", "blue")
    assert image["reason"] == "its 5 neighbours are blue"
    refused(client.get("/api/queues/label_doubt", order=client.order, label="nothing"), 404, "not_found")


def test_a_leak_is_a_pair_once(client, audited):
    assert rows_of(client.json("/api/queues/leak", order=client.order)) == [[2, 14]]


def test_what_is_decided_leaves_the_open_ones(client, audited, ids):
    client.act("mark", ids=[ids[5]], mark="keep")
    client.act("mark", ids=[ids[4], ids[6], ids[3]], mark="remove")
    told = {one["name"]: one["open"] for one in client.json("/api/queues")["queues"]}
    assert told == {"duplicates": 0, "leak": 1, "dark": 2, "label_doubt": 2}
    assert rows_of(client.json("/api/queues/dark", order=client.order, open=1)) == [[2], [7]]
    answer = client.json("/api/queues/dark", order=client.order)
    assert [item["images"][0]["mark"] for item in answer["items"]] == ["keep", None, None]
    client.post("/api/undo")
    assert {one["name"]: one["open"] for one in client.json("/api/queues")["queues"]}["duplicates"] == 2


def test_a_label_is_corrected_by_an_act(client, audited, scape, ids):
    client.act("set", ids=[ids[10]], column="label", value="blue")
    assert scape.read(["label"])["label"][10].as_py() == "blue"
    client.post("/api/undo")
    assert scape.read(["label"])["label"][10].as_py() == "green"


def test_columns_of_an_audit_without_flags(client, scape, ids):
    scape.add_columns(ids[:2], {"label_doubt_score": [0.5, 0.2]})
    assert client.json("/api/queues")["queues"][0]["kind"] == "labels"
    answer = client.json("/api/queues/label_doubt", order=client.order)
    assert rows_of(answer) == [[1], [0]]
    assert answer["items"][0]["images"][0]["suggested_label"] is None


def test_what_a_real_audit_finds(client, scape, ids, tmp_path):
    """A copy of an image and a wrong label, found by `imagescape audit`, come in their queues."""
    (tmp_path / "copy.png").write_bytes(encoded(4))
    ingest([tmp_path / "copy.png"], scape.path)
    embed(scape, network(), "net", device="cpu")
    copy = scape.read(["image_id"], where=f"uri = '{tmp_path / 'copy.png'}'")["image_id"][0].as_py()
    write_columns(scape, audit(scape, AuditSettings(features="net", label="label", neighbors=5, device="cpu")))
    client.order = client.json("/api/about")["order"]
    queues = {one["name"]: one for one in client.json("/api/queues")["queues"]}
    assert {"duplicates", "dark", "blurry", "outlier", "label_doubt"} <= set(queues)
    groups = client.json("/api/queues/duplicates", order=client.order)["items"]
    pair = next(item["images"] for item in groups if copy in {one["id"] for one in item["images"]})
    assert {one["id"] for one in pair} >= {ids[4], copy}
    assert sorted(one["suggested"] for one in pair)[0] == "keep"
    for name, told in queues.items():
        answer = client.json(f"/api/queues/{name}", order=client.order, count=200)
        assert answer["count"] == told["count"] == len(answer["items"])
    roles = {one["name"]: one["role"] for one in client.json("/api/about")["columns"]}
    assert roles["duplicate_group"] == roles["is_dark_issue"] == roles["outlier_score"] == "audit"
    assert roles["label"] == ""
    told = client.post("/api/acts", {"kind": "set", "ids": ids[:1], "column": "label_suggested", "value": "red"})
    assert "imagescape made" in client.refused(told, 400, "input")


def test_images_that_are_gone(client, audited, scape, ids):
    scape.delete([ids[4], ids[2]])
    assert rows_of(client.json("/api/queues/duplicates", order=client.order)) == [[1, 6], [3, 8]]
    assert rows_of(client.json("/api/queues/dark", order=client.order)) == [[5], [7]]
