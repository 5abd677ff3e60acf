"""The table on disk: rows and columns go in and come out as they were, whoever else writes and whatever breaks."""

import errno
import json
import logging
import multiprocessing
import shutil
import threading
import time
from pathlib import Path

import lance
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lance.commit import CommitConflictError

from imagescape.collection import locking, store
from imagescape.collection.columns import as_arrow, castable, source_name
from imagescape.collection.identity import content_sha256, mint_id
from imagescape.collection.store import FORMAT_VERSION, Collection
from imagescape.errors import CollectionError, InputError

GOLDEN = Path(__file__).parent / "golden" / "format1"


def ids(*numbers: int) -> list[str]:
    return [f"{number:016x}" for number in numbers]


def rows(*numbers: int, **columns: list) -> pa.Table:
    """Rows with ids `numbers`, each number as its size in bytes, all ok."""
    return pa.table({"image_id": ids(*numbers), "bytes": numbers, "status": ["ok"] * len(numbers), **columns})


def numbers(collection: Collection, where: str | None = None) -> list[int]:
    return collection.read(["bytes"], where)["bytes"].to_pylist()


def values(collection: Collection, name: str) -> list:
    return collection.read([name])[name].to_pylist()


@pytest.fixture
def collection(tmp_path: Path) -> Collection:
    """Two fragments of three rows."""
    collection = Collection.create(tmp_path / "photos.scape")
    collection.append(rows(0, 1, 2))
    collection.append(rows(3, 4, 5))
    return collection


# -- the folder -------------------------------------------------------------------------------------------------------


def test_a_new_collection_is_empty_and_has_its_folders(tmp_path):
    collection = Collection.create(tmp_path / "deep" / "photos.scape")
    assert len(collection) == 0
    assert collection.columns[:3] == ["image_id", "uri", "sha256"]
    assert {entry.name for entry in collection.path.iterdir()} == {
        "data.lance",
        "models",
        "runs",
        "cache",
        "scape.json",
    }
    assert [entry.name for entry in collection.path.parent.iterdir()] == ["photos.scape"]  # no draft left behind


def test_creating_over_something_is_refused(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(CollectionError, match="not empty"):
        Collection.create(tmp_path)
    with pytest.raises(InputError, match="printable"):
        Collection.create(tmp_path / "a\nb.scape")


@pytest.mark.parametrize("name", ["with space", "ümläut 猫", "per%20cent#?&", 'it\'s "quoted"'])
def test_odd_folder_names_work(tmp_path, name):
    collection = Collection.create(tmp_path / name)
    collection.append(rows(1))
    assert numbers(Collection.open(tmp_path / name)) == [1]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [name]


@pytest.mark.parametrize(("make", "says"), [(None, "does not exist"), ("dir", "has no scape.json"), ("file", "folder")])
def test_a_folder_that_is_no_collection_is_told(tmp_path, make, says):
    path = tmp_path / "x"
    if make == "dir":
        path.mkdir()
    elif make == "file":
        path.touch()
    with pytest.raises(CollectionError, match=f"is not a collection.*{says}"):
        Collection.open(path)


def test_a_newer_format_is_refused_naming_both_versions(collection):
    header = collection.path / "scape.json"
    header.write_text(json.dumps({"format": FORMAT_VERSION + 1}))
    with pytest.raises(CollectionError, match=rf"format {FORMAT_VERSION + 1}.*up to format {FORMAT_VERSION}.*upgrade"):
        Collection.open(collection.path)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": "x"}', "\xff"])
def test_a_damaged_header_is_told(collection, text):
    (collection.path / "scape.json").write_text(text, encoding="latin-1")
    with pytest.raises(CollectionError, match=r"scape\.json"):
        Collection.open(collection.path)


def test_a_lost_table_is_told(collection):
    shutil.rmtree(collection.path / "data.lance")
    with pytest.raises(CollectionError, match="cannot be opened"):
        Collection.open(collection.path)


def test_a_collection_of_format_1_stays_readable(tmp_path):
    """Written once by the first release; if this fails, collections of users have become unreadable."""
    path = shutil.copytree(GOLDEN, tmp_path / "golden.scape")
    collection = Collection.open(path)
    assert collection.read(["image_id", "status", "width", "features", "tags"]).to_pylist() == [
        {"image_id": f"{n:016x}", "status": "ok", "width": n, "features": [n, 0.5], "tags": ["t"] * n} for n in range(3)
    ]
    collection.append(rows(9))
    collection.update(ids(1), {"status": ["vanished"]})
    assert values(collection, "status") == ["ok", "vanished", "ok", "ok"]


# -- reading ----------------------------------------------------------------------------------------------------------


def test_rows_come_in_table_order_and_by_condition(collection):
    assert numbers(collection) == [0, 1, 2, 3, 4, 5]
    assert numbers(collection, "bytes >= 2 AND bytes < 5") == [2, 3, 4]
    assert collection.count("bytes > 3") == 2
    batches = list(collection.scanner(["bytes"], "bytes != 3", batch_size=2))
    assert [n for batch in batches for n in batch["bytes"].to_pylist()] == [0, 1, 2, 4, 5]
    assert max(batch.num_rows for batch in batches) <= 2
    assert collection.take([5, 0, 5], ["bytes"])["bytes"].to_pylist() == [5, 0, 5]


def test_questions_that_make_no_sense_are_told(collection):
    with pytest.raises(InputError, match="no column is called 'nope'; there are: image_id"):
        collection.read(["nope"])
    for where in ("nope = 3", "bytes == == 3"):
        with pytest.raises(InputError, match="cannot be understood") as raised:
            collection.count(where)
        assert ".rs" not in str(raised.value)
        with pytest.raises(InputError):
            list(collection.scanner(["bytes"], where))


def test_summary_and_flagged_rows(collection):
    collection.update(ids(1, 4), {"status": ["truncated", "vanished"], "uri": ["/a", "/b"], "reason": ["cut", "gone"]})
    summary = collection.summary()
    assert (summary["rows"], summary["ok"], summary["flagged"]) == (6, 4, 2)
    assert summary["by_status"] == {"ok": 4, "truncated": 1, "vanished": 1}
    assert {"name": "bytes", "type": "int64"} in summary["columns"]
    assert summary["version"] == collection.version
    assert summary["bytes_on_disk"] > 1000
    flagged = [
        {"uri": "/a", "status": "truncated", "reason": "cut"},
        {"uri": "/b", "status": "vanished", "reason": "gone"},
    ]
    assert collection.flagged_rows() == flagged
    assert collection.flagged_rows(limit=1) == flagged[:1]
    assert collection.ok_ids().tolist() == ids(0, 2, 3, 5)


def test_a_reader_sees_what_another_handle_wrote(collection):
    other = Collection.open(collection.path)
    before = other.version
    collection.append(rows(6))
    assert len(other) == 7
    assert other.version > before


# -- appending --------------------------------------------------------------------------------------------------------


def test_missing_columns_are_null_and_new_ones_are_added(collection):
    collection.append(rows(6, species=["owl"]))
    collection.append(pa.table({"image_id": ids(7)}))
    assert values(collection, "species") == [None] * 6 + ["owl", None]
    assert values(collection, "bytes")[-1] is None


def test_values_join_their_column_only_if_they_keep_their_meaning(collection):
    collection.append(rows(6, label=pa.array([3], pa.int64()), rank=pa.array([None], pa.null())))
    collection.append(rows(7, label=pa.array([4], pa.int8()), rank=pa.array(["b"]).dictionary_encode()))
    assert values(collection, "label")[-2:] == [3, 4]
    assert values(collection, "rank")[-2:] == [None, "b"]
    with pytest.raises(InputError, match="column 'label' holds int64 in the collection, the new values are string"):
        collection.append(rows(8, label=["cat"]))
    with pytest.raises(InputError, match="column 'bytes' holds int64"):
        collection.append(pa.table({"image_id": ids(8), "bytes": [0.5]}))
    assert len(collection) == 8


@pytest.mark.parametrize("image_id", ["abc", "0123456789ABCDEF", "0123456789abcdef0", None])
def test_malformed_ids_are_refused(collection, image_id):
    with pytest.raises(InputError, match="16 hex digits"):
        collection.append(pa.table({"image_id": pa.array([image_id], pa.string())}))


@pytest.mark.parametrize("name", ["a.b", "a`b", "_rowid", ""])
def test_names_that_would_damage_the_table_are_refused(collection, name):
    with pytest.raises(InputError, match="column name"):
        collection.append(rows(7, **{name: [1]}))
    with pytest.raises(InputError, match="column name"):
        collection.add_columns(ids(1), {name: [1]})


@pytest.mark.parametrize("name", ["Label", "with space", "größe", 'a "quote"', "it's"])
def test_odd_column_names_work(collection, name):
    collection.add_columns(ids(2), {name: [7]})
    assert values(collection, name) == [None, None, 7, None, None, None]
    assert numbers(collection, f"`{name}` = 7") == [2]
    collection.drop_columns([name])
    assert name not in collection.columns


def test_source_columns_never_take_a_fixed_name():
    assert [source_name(name) for name in ("label", "status", "image", "exif.iso", "_rowid", "")] == [
        "label", "source_status", "source_image", "exif_iso", "source__rowid", "source_"
    ]  # fmt: skip


# -- adding columns ---------------------------------------------------------------------------------------------------


def test_values_find_their_rows_whatever_their_order(collection):
    collection.add_columns(ids(4, 0, 2), {"x": np.array([40.0, 0.0, 20.0]), "name": ["d", "a", "c"]})
    assert values(collection, "x") == [0.0, None, 20.0, None, 40.0, None]
    assert values(collection, "name") == ["a", None, "c", None, "d", None]


@pytest.mark.parametrize(
    ("given", "type", "second"),
    [
        (np.arange(6, dtype=np.float16).reshape(3, 2), "fixed_size_list<item: halffloat>[2]", [2.0, 3.0]),
        (np.arange(6, dtype=np.float32).reshape(3, 2), "fixed_size_list<item: float>[2]", [2.0, 3.0]),
        (np.arange(6, dtype=np.int64).reshape(2, 3).T, "fixed_size_list<item: int64>[2]", [1, 4]),
        (np.array([True, False, True]), "bool", False),
        (np.array([1, -2, 3], np.int32), "int32", -2),
        (np.array(["a", "bc", ""]), "string", "bc"),
        (["a", None, "c"], "string", None),
        ([[1], [1, 2], []], "list<item: int64>", [1, 2]),
        ([["x"], ["y", "z"], None], "list<item: string>", ["y", "z"]),
        ([b"1", b"\0\xff", b""], "binary", b"\0\xff"),
        (pa.chunked_array([["a"], ["b", "c"]]), "string", "b"),
    ],
)
def test_each_kind_of_value_keeps_its_type(collection, given, type, second):
    collection.add_columns(ids(5, 1, 3), {"new": given})
    assert str(collection.schema.field("new").type) == type
    assert values(collection, "new")[1] == second
    assert values(collection, "new")[0] is None


def test_columns_survive_deletes_appends_and_compaction(collection):
    collection.delete(ids(1, 3))
    collection.add_columns(ids(0, 2, 4, 5), {"f": np.array([[0], [2], [4], [5]], np.float16)})
    collection.append(rows(6))
    collection.compact()
    assert dict(zip(numbers(collection), values(collection, "f"), strict=True)) == {
        0: [0], 2: [2], 4: [4], 5: [5], 6: None
    }  # fmt: skip


def test_an_existing_column_is_only_overwritten_when_asked(collection):
    collection.add_columns(ids(0, 1), {"x": [1, 2]})
    with pytest.raises(CollectionError, match="column 'x' exists already"):
        collection.add_columns(ids(0), {"x": [5]})
    collection.add_columns(ids(1, 5), {"x": [7, 8], "y": ["new", "new"]}, overwrite=True)
    assert values(collection, "x") == [None, 7, None, None, None, 8]  # rows not named become null
    collection.add_columns(ids(2), {"x": ["another type"]}, overwrite=True)
    assert values(collection, "x") == [None, None, "another type", None, None, None]
    assert values(collection, "y")[5] == "new"


def test_overwriting_the_same_type_is_one_version(collection):
    """A reader must never find the column missing."""
    collection.add_columns(ids(0), {"x": [1]})
    before = collection.version
    collection.add_columns(ids(3), {"x": [2]}, overwrite=True)
    assert collection.version == before + 1


def test_what_does_not_fit_is_refused(collection):
    with pytest.raises(InputError, match="one value for each of the 2 image_ids, got 3"):
        collection.add_columns(ids(0, 1), {"x": [1, 2, 3]})
    with pytest.raises(InputError, match="once"):
        collection.add_columns(ids(0, 0), {"x": [1, 2]})
    with pytest.raises(InputError, match="none of the 2 image_ids"):
        collection.add_columns(ids(100, 101), {"x": [1, 2]})
    with pytest.raises(InputError, match="cannot be stored"):
        collection.add_columns(ids(0, 1), {"x": [object(), object()]})
    with pytest.raises(InputError, match="'status' is a column of every collection"):
        collection.add_columns(ids(0), {"status": ["ok"]}, overwrite=True)
    with pytest.raises(InputError, match="cannot be dropped"):
        collection.drop_columns(["uri"])
    assert "x" not in collection.columns


def test_rows_deleted_meanwhile_do_not_cost_the_others_their_result(collection):
    collection.delete(ids(2))
    collection.add_columns(ids(1, 2, 3), {"x": [1, 2, 3]})
    assert values(collection, "x") == [None, 1, 3, None, None]


# -- updating ---------------------------------------------------------------------------------------------------------


def test_an_update_changes_the_rows_named_and_moves_none(collection):
    collection.delete(ids(0))
    collection.update(ids(4, 1), {"status": ["bad", "worse"], "reason": ["b", "w"], "thumbnail": [None, b"x"]})
    assert numbers(collection) == [1, 2, 3, 4, 5]
    assert values(collection, "status") == ["worse", "ok", "ok", "bad", "ok"]
    assert values(collection, "thumbnail") == [b"x", None, None, None, None]
    collection.update([], {"status": []})


def test_an_update_of_lists_and_vectors(collection):
    collection.add_columns(ids(*range(6)), {"v": np.eye(6, dtype=np.float32), "tags": [[]] * 6})
    collection.update(ids(3), {"v": np.full((1, 6), 0.5, np.float32), "tags": [["a", "b"]]})
    assert values(collection, "v")[3] == [0.5] * 6
    assert values(collection, "v")[4] == [0, 0, 0, 0, 1, 0]
    assert values(collection, "tags")[2:4] == [[], ["a", "b"]]


class TestRevise:
    TYPES = {"tags": pa.list_(pa.string()), "bytes": pa.int64()}  # noqa: RUF012

    def test_values_are_made_of_those_that_are_there(self, collection):
        seen = []

        def change(found: pa.Table) -> dict:
            seen.append(found.to_pylist())
            return {"tags": [[str(one)] for one in found["bytes"].to_pylist()]}

        collection.revise(ids(4, 0), self.TYPES, change)
        assert seen == [[{"image_id": one, "tags": None, "bytes": int(one)} for one in ids(4, 0)]]
        assert values(collection, "tags") == [["0"], None, None, None, ["4"], None]
        assert collection.schema.field("tags").type == self.TYPES["tags"]
        collection.revise(
            ids(0), {"tags": self.TYPES["tags"]}, lambda found: {"tags": [[*found["tags"][0].as_py(), "x"]]}
        )
        assert values(collection, "tags")[0] == ["0", "x"]
        assert numbers(collection) == [0, 1, 2, 3, 4, 5]

    def test_none_leaves_all_as_it_is(self, collection):
        version = collection.version
        collection.revise(ids(1), self.TYPES, lambda found: None)
        assert (collection.version, "tags" in collection.columns) == (version, False)

    def test_nobody_comes_between(self, collection):
        """Counting up by many, where reading and writing apart would lose some."""

        def count() -> None:
            for _ in range(5):
                own = Collection.open(collection.path)
                own.revise(ids(2), {"bytes": pa.int64()}, lambda found: {"bytes": [found["bytes"][0].as_py() + 1]})

        threads = [threading.Thread(target=count) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert numbers(collection)[2] == 22

    def test_what_does_not_fit_is_told(self, collection):
        with pytest.raises(InputError, match="are not in the collection, as '0000000000000009'"):
            collection.revise(ids(1, 9), self.TYPES, lambda found: pytest.fail("not to be called"))
        with pytest.raises(InputError, match=r"column 'status' of .* holds string and no int64"):
            collection.revise(ids(1), {"status": pa.int64()}, lambda found: pytest.fail("not to be called"))
        with pytest.raises(InputError, match="one value for each"):
            collection.revise(ids(1), {"bytes": pa.int64()}, lambda found: {"bytes": [1, 2]})
        assert numbers(collection) == [0, 1, 2, 3, 4, 5]


def test_a_token_of_what_was_written_changes_with_it_and_with_nothing_else(collection):
    collection.add_columns(ids(0, 1, 2, 3, 4, 5), {"a": [1] * 6, "b": [["x"]] * 6})

    def tokens() -> tuple[str, str, str]:
        return collection.written(["a"]), collection.written(["b"]), collection.written(["a", "b"])

    first = tokens()
    assert tokens() == first
    collection.update(ids(3), {"b": [["y"]]})
    second = tokens()
    assert second[0] == first[0]
    assert second[1] != first[1]
    assert second[2] != first[2]
    collection.delete(ids(5))
    assert all(one != other for one, other in zip(tokens(), second, strict=True))
    third = tokens()
    collection.append(rows(9))
    assert all(one != other for one, other in zip(tokens(), third, strict=True))


def test_an_update_of_what_is_not_there_is_told(collection):
    with pytest.raises(InputError, match="1 of the 2 images are not in the collection, as '0000000000000063'"):
        collection.update(ids(1, 99), {"status": ["x", "x"]})
    with pytest.raises(InputError, match="no column is called 'nope'"):
        collection.update(ids(1), {"nope": [1]})
    with pytest.raises(InputError, match="'width' cannot be stored"):
        collection.update(ids(1), {"width": ["wide"]})
    assert values(collection, "status") == ["ok"] * 6


number_sets = st.lists(st.integers(0, 15), unique=True, max_size=6)
steps = st.one_of(
    st.tuples(st.just("append"), st.integers(1, 4)),
    st.tuples(st.just("delete"), number_sets),
    st.tuples(st.just("update"), number_sets),
    st.tuples(st.just("column"), number_sets),
    st.tuples(st.just("compact"), st.none()),
)


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(program=st.lists(steps, min_size=2, max_size=8))
def test_any_sequence_of_changes_equals_the_same_on_a_list_of_dicts(tmp_path_factory, program):
    collection = Collection.create(tmp_path_factory.mktemp("any") / "x.scape")
    collection.append(rows(0, 1, 2, x=[0, 0, 0]))
    model = [{"bytes": n, "x": 0} for n in range(3)]
    added = 3
    for step, (what, argument) in enumerate(program, start=1):
        present = [row["bytes"] for row in model]
        if what == "append":
            fresh = list(range(added, added + argument))
            added += argument
            collection.append(rows(*fresh, x=[step] * argument))
            model += [{"bytes": n, "x": step} for n in fresh]
        elif what == "compact":
            collection.compact()
        elif what == "delete":
            collection.delete(ids(*argument))
            model = [row for row in model if row["bytes"] not in argument]
        else:
            named = [n for n in argument if n in present][::-1]
            if what == "update" and named:
                collection.update(ids(*named), {"x": [step * n for n in named]})
                model = [{**row, "x": step * row["bytes"]} if row["bytes"] in named else row for row in model]
            elif what == "column" and named:
                collection.add_columns(ids(*named), {"x": [step + n for n in named]}, overwrite=True)
                model = [{**row, "x": step + row["bytes"] if row["bytes"] in named else None} for row in model]
        assert collection.read(["bytes", "x"]).to_pylist() == model


# -- several writers, full disks --------------------------------------------------------------------------------------


def _append_many(path: Path, first: int, count: int) -> None:
    collection = Collection.open(path)
    for number in range(first, first + count):
        collection.append(rows(number))
        if number % 5 == 0:
            collection.add_columns(ids(number), {f"column{number}": [number]})


def test_two_processes_writing_at_once_lose_nothing(tmp_path):
    collection = Collection.create(tmp_path / "x.scape")
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_append_many, args=(collection.path, first, 15)) for first in (0, 100)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        read = numbers(collection)  # readers never fail, and find each writer's rows in its order
        assert [n for n in read if n < 100] == list(range(sum(n < 100 for n in read)))
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert sorted(numbers(collection)) == [*range(15), *range(100, 115)]
    for number in (0, 5, 10, 100, 105, 110):
        assert collection.read(["bytes"], f"column{number} = {number}")["bytes"].to_pylist() == [number]


def test_a_writer_that_ignores_the_lock_is_coped_with(collection, monkeypatch):
    """Lance's own tools commit without asking."""
    real, calls = store.in_table_order, []

    def slow(*arguments):
        if not calls:
            calls.append(1)
            foreign = lance.dataset(str(collection.path / "data.lance"))
            foreign.add_columns({"foreign": "bytes + 1"})
        return real(*arguments)

    monkeypatch.setattr(store, "in_table_order", slow)
    collection.add_columns(ids(3), {"x": [1]})
    assert values(collection, "x")[3] == 1
    assert values(collection, "foreign")[3] == 4


def test_endless_conflicts_end_in_an_error(collection, monkeypatch):
    def conflict(*arguments, **options):
        raise CommitConflictError("Retryable commit conflict for version 5")

    monkeypatch.setattr(lance, "write_dataset", conflict)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with pytest.raises(CollectionError, match="another writer"):
        collection.append(rows(7))


@pytest.mark.parametrize(
    "error",
    [OSError("LanceError(IO): No space left on device (os error 28), /x.rs:1:1"), OSError(errno.ENOSPC, "full")],
)
def test_a_full_disk_says_what_became_of_the_data(collection, monkeypatch, error):
    def full(*arguments, **options):
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(lance, "write_dataset", full)
        with pytest.raises(CollectionError, match=r"full.*stays.*run the same again"):
            collection.append(rows(7))
    assert numbers(collection) == [0, 1, 2, 3, 4, 5]
    collection.append(rows(7))  # the lock was let go


@pytest.mark.parametrize("error", [PermissionError(errno.EACCES, "no"), OSError("LanceError(IO): no (os error 30)")])
def test_a_write_protected_collection_can_be_read_and_says_what_to_do(collection, monkeypatch, error):
    def denied(*arguments, **options):
        raise error

    monkeypatch.setattr(lance, "write_dataset", denied)
    with pytest.raises(CollectionError, match=r"cannot be written to.*permissions"):
        collection.append(rows(7))
    monkeypatch.setattr(locking.os, "open", denied)
    with pytest.raises(CollectionError, match="cannot be written to"):
        collection.append(rows(7))
    assert numbers(collection) == [0, 1, 2, 3, 4, 5]


def test_other_errors_of_the_system_pass_as_they_are(tmp_path):
    with pytest.raises(OSError, match="os error 5"), locking.storage_errors(tmp_path):
        raise OSError("LanceError(IO): broken disk (os error 5)")


def test_who_waits_for_the_lock_is_told_for_whom(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(locking, "TELL_AFTER_SECONDS", 0.05)
    order = []

    def second() -> None:
        with locking.exclusive(tmp_path / "lock", "waiting"):
            order.append("second")

    with caplog.at_level(logging.WARNING), locking.exclusive(tmp_path / "lock", "long work"):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.3)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    assert len(caplog.messages) == 1
    assert "(long work)" in caplog.messages[0]


# -- small parts ------------------------------------------------------------------------------------------------------


def test_ids_and_hashes_have_the_values_worked_out_elsewhere():
    # the SHA-256 of "abc" is worked out in FIPS 180-2; the id by: printf '/a.png\0ba7816bf…' | sha256sum
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert content_sha256(b"abc") == abc
    assert mint_id("/a.png", abc) == "91051948a61a21ac"
    assert mint_id("/a.png", abc, 1) not in (mint_id("/a.png", abc), mint_id("/a.png", abc, 2))


def test_arrays_differ_by_type_shape_and_pixels():
    base = np.zeros((2, 3), np.uint8)
    others = [base.reshape(3, 2), base.astype(np.int8), base + 1]
    assert content_sha256(base) == content_sha256(base.copy()) == content_sha256(np.zeros((3, 2), np.uint8, "F").T)
    assert len({content_sha256(array) for array in [base, *others]}) == 4


def test_which_types_join():
    assert castable(pa.int8(), pa.int64())
    assert castable(pa.large_string(), pa.string())
    assert castable(pa.null(), pa.bool_())
    assert not castable(pa.string(), pa.int64())
    assert not castable(pa.int64(), pa.string())
    assert as_arrow("x", [None, None], 2).type == pa.string()
