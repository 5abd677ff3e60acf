"""Ingest: what is new comes in, what is known stays, what is gone is told, and nothing is lost whatever happens."""

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from imagescape.collection import ingest as ingest_module
from imagescape.collection.identity import NOT_FOUND, REPLACED
from imagescape.collection.ingest import ingest
from imagescape.collection.known import Known
from imagescape.collection.ordered import ordered_map
from imagescape.collection.readers.item import Item
from imagescape.collection.store import Collection
from imagescape.errors import CollectionError, ImagescapeError, InputError, Interrupted
from imagescape.images.decode import Decoded
from tests.collection.broken_files import write_broken_files


def png(seed: int, size_px: int = 8) -> bytes:
    """A picture that is another for every seed."""
    buffer = BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (size_px, size_px, 3), np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write(folder: Path, **seeds: int) -> Path:
    """Files `<name>.png`, each with the picture of its seed, and a modification time of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, seed in seeds.items():
        path = folder / f"{name}.png"
        path.write_bytes(png(seed))
        stamp = next(_clock)
        os.utime(path, ns=(stamp, stamp))
    return folder


_clock = iter(range(1_700_000_000_000_000_000, 1_900_000_000_000_000_000, 1_000_000_000))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "photos", a=1, b=2, c=3)


@pytest.fixture
def scape(tmp_path: Path) -> Path:
    return tmp_path / "photos.scape"


def counts(summary) -> dict[str, int]:
    """The counts that are not zero."""
    names = ("added", "unchanged", "moved", "changed", "vanished")
    return {name: getattr(summary, name) for name in names if getattr(summary, name)}


def by_name(scape: Path, column: str) -> dict[str, object]:
    """A column by file name; of several rows from one file, the one that is ok."""
    table = Collection.open(scape).read(["uri", "status", column])
    table = table.take(sorted(range(len(table)), key=lambda row: table["status"][row].as_py() == "ok"))
    return {
        Path(uri).stem: value for uri, value in zip(table["uri"].to_pylist(), table[column].to_pylist(), strict=True)
    }


def whole(scape: Path) -> list[dict]:
    return Collection.open(scape).read().to_pylist()


# -- what a row says --------------------------------------------------------------------------------------------------


def test_a_row_describes_its_image(folder, scape):
    buffer = BytesIO()
    Image.new("RGB", (300, 200), "red").save(buffer, "JPEG")
    (folder / "d.jpg").write_bytes(buffer.getvalue())
    summary = ingest(folder, scape)
    assert counts(summary) == {"added": 4}
    assert (summary.rows, summary.flagged) == (4, 0)
    row = whole(scape)[3]
    assert row["uri"] == str(folder / "d.jpg")
    assert (row["width"], row["height"], row["format"], row["status"], row["reason"]) == (300, 200, "JPEG", "ok", "")
    assert (row["bytes"], row["modified_ns"]) == (len(buffer.getvalue()), (folder / "d.jpg").stat().st_mtime_ns)
    thumbnail = Image.open(BytesIO(row["thumbnail"]))
    assert (thumbnail.format, thumbnail.size) == ("WEBP", (96, 64))
    assert row["folder"] == ""
    assert "image" not in row


def test_embedding_stores_the_bytes(folder, scape):
    ingest(folder, scape, embed=True)
    assert [row["image"] for row in whole(scape)] == [png(1), png(2), png(3)]


def test_images_from_memory_are_always_stored(scape):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 9, 7), np.uint8)
    assert counts(ingest(pixels, scape)) == {"added": 5}
    rows = whole(scape)
    assert [row["format"] for row in rows] == ["ARRAY"] * 5
    assert (rows[0]["width"], rows[0]["height"], rows[0]["bytes"], rows[0]["modified_ns"]) == (7, 9, 63, None)
    stored = np.stack([np.asarray(Image.open(BytesIO(row["image"])).convert("L")) for row in rows])
    assert np.array_equal(stored, pixels)
    assert counts(ingest(pixels, scape)) == {"unchanged": 5}


def test_two_arrays_of_one_name_do_not_push_each_other_out(scape):
    one, two = np.random.default_rng(0).integers(0, 256, (2, 3, 8, 8), np.uint8)
    assert counts(ingest([one, two], scape)) == {"added": 6}
    assert counts(ingest(one, scape)) == {"unchanged": 3}
    assert Collection.open(scape).count("status = 'ok'") == 6


def test_bad_images_are_rows_with_a_reason_and_cost_no_other(tmp_path, scape):
    source = tmp_path / "source"
    source.mkdir()
    expected = write_broken_files(source)
    summary = ingest(source, scape)
    rows = whole(scape)
    assert summary.added == summary.rows == len(rows)
    seen = [row["status"] for row in rows]
    wanted = [status for name, status in expected.items()]
    assert sorted(seen) == sorted(wanted)
    assert summary.flagged == len([status for status in wanted if status != "ok"])
    for row in rows:
        assert (row["thumbnail"] is not None) == (row["status"] == "ok"), row["uri"]
        assert row["status"] == "ok" or row["reason"], row["uri"]
    assert any("two\nlines" in row["uri"] for row in rows)
    assert len({row["image_id"] for row in rows}) == len(rows)
    again = ingest(source, scape)
    assert again.rows == summary.rows
    assert again.flagged == summary.flagged
    assert not again.added
    assert not again.changed


def test_an_image_that_breaks_the_decoder_itself_is_flagged(folder, scape, monkeypatch):
    from imagescape.collection import examine

    def decode(data, **options):
        if data == png(2):
            raise MemoryError("too much")
        return real(data, **options)

    real = examine.decode
    monkeypatch.setattr(examine, "decode", decode)
    ingest(folder, scape)
    assert by_name(scape, "status") == {"a": "ok", "b": "unreadable", "c": "ok"}
    assert by_name(scape, "reason")["b"] == "cannot be processed: MemoryError: too much"


def test_labels_and_splits_become_columns(tmp_path, scape):
    for split in ("train", "test"):
        for label, seed in (("cat", 1), ("dog", 2)):
            write(tmp_path / "set" / split / label, x=seed + 10 * (split == "test"))
    ingest(tmp_path / "set", scape)
    rows = [(row["split"], row["label"], row["folder"]) for row in whole(scape)]
    assert rows == [("test", "cat", "test/cat"), ("test", "dog", "test/dog"), ("train", "cat", "train/cat"),
                    ("train", "dog", "train/dog")]  # fmt: skip


def test_source_columns_named_like_fixed_ones_are_kept_aside(tmp_path, folder, scape):
    (tmp_path / "list.csv").write_text(f"path,width,exif.iso\n{folder}/a.png,7,100\n{folder}/b.png,,200\n")
    ingest(tmp_path / "list.csv", scape)
    assert [(row["width"], row["source_width"], row["exif_iso"]) for row in whole(scape)] == [
        (8, 7, 100),
        (8, None, 200),
    ]


# -- ingesting again --------------------------------------------------------------------------------------------------


def test_unchanged_files_are_not_even_read(folder, scape, monkeypatch):
    ingest(folder, scape)
    before, version = whole(scape), Collection.open(scape).version

    def read_file(path):
        raise AssertionError(f"{path} was read")

    monkeypatch.setattr("imagescape.collection.examine.read_file", read_file)
    assert counts(ingest(folder, scape)) == {"unchanged": 3}
    assert whole(scape) == before
    assert Collection.open(scape).version == version


def test_a_touched_file_is_read_once_more_and_then_known(folder, scape, monkeypatch):
    ingest(folder, scape)
    os.utime(folder / "b.png", ns=(5, 5))
    assert counts(ingest(folder, scape)) == {"unchanged": 3}
    assert by_name(scape, "modified_ns")["b"] == 5
    monkeypatch.setattr("imagescape.collection.examine.read_file", lambda path: pytest.fail("was read"))
    ingest(folder, scape)


def test_new_files_are_added_behind(folder, scape):
    ingest(folder, scape)
    write(folder, aa=4)
    assert counts(ingest(folder, scape)) == {"added": 1, "unchanged": 3}
    assert [Path(row["uri"]).stem for row in whole(scape)] == ["a", "b", "c", "aa"]


def test_a_changed_file_is_a_new_row_and_its_old_one_is_told(folder, scape):
    ingest(folder, scape)
    write(folder, b=20)
    summary = ingest(folder, scape)
    assert counts(summary) == {"unchanged": 2, "changed": 1}
    assert summary.rows == 4
    old, new = [row for row in whole(scape) if row["uri"].endswith("b.png")]
    assert (old["status"], old["reason"]) == ("vanished", REPLACED)
    assert new["status"] == "ok"
    assert new["image_id"] != old["image_id"]
    assert new["sha256"] != old["sha256"]
    assert counts(ingest(folder, scape)) == {"unchanged": 3}


def test_a_changed_file_that_changes_back_is_its_old_row_again(folder, scape):
    ingest(folder, scape)
    first = by_name(scape, "image_id")["b"]
    write(folder, b=20)
    ingest(folder, scape)
    write(folder, b=2)
    summary = ingest(folder, scape)
    assert summary.rows == 4
    assert summary.added == 0
    assert by_name(scape, "image_id")["b"] == first
    assert Collection.open(scape).count("status = 'ok'") == 3


def test_a_deleted_file_is_told_and_welcomed_back(folder, scape):
    ingest(folder, scape)
    before = whole(scape)
    (folder / "b.png").rename(folder / "b.hidden")
    assert counts(ingest(folder, scape)) == {"unchanged": 2, "vanished": 1}
    assert Collection.open(scape).flagged_rows() == [
        {"uri": str(folder / "b.png"), "status": "vanished", "reason": NOT_FOUND}
    ]
    assert counts(ingest(folder, scape)) == {"unchanged": 2}  # told once
    (folder / "b.hidden").rename(folder / "b.png")
    assert counts(ingest(folder, scape)) == {"unchanged": 3}
    assert whole(scape) == before


def test_a_moved_file_keeps_its_row(folder, scape):
    ingest(folder, scape)
    collection = Collection.open(scape)
    before = by_name(scape, "image_id")
    collection.add_columns(collection.ok_ids(), {"x_map": [1.0, 2.0, 3.0]})
    (folder / "sub").mkdir()
    (folder / "b.png").rename(folder / "sub" / "z.png")
    assert counts(ingest(folder, scape)) == {"unchanged": 2, "moved": 1}
    rows = whole(scape)
    assert [Path(row["uri"]).name for row in rows] == ["a.png", "z.png", "c.png"]
    assert (rows[1]["image_id"], rows[1]["x_map"], rows[1]["folder"]) == (before["b"], 2.0, "sub")
    assert counts(ingest(folder, scape)) == {"unchanged": 3}


def test_a_file_that_vanished_and_turns_up_elsewhere_has_moved(folder, scape):
    ingest(folder, scape)
    before = by_name(scape, "image_id")["b"]
    (folder / "b.png").rename(folder / "b.hidden")
    ingest(folder, scape)
    (folder / "b.hidden").rename(folder / "z.png")
    assert counts(ingest(folder, scape)) == {"unchanged": 2, "moved": 1}
    assert by_name(scape, "image_id")["z"] == before
    assert by_name(scape, "status") == {"a": "ok", "z": "ok", "c": "ok"}


def test_files_that_swap_names_keep_their_rows(folder, scape):
    ingest(folder, scape)
    before = by_name(scape, "image_id")
    for old, new in (("a", "t"), ("b", "a"), ("t", "b")):
        (folder / f"{old}.png").rename(folder / f"{new}.png")
        os.utime(folder / f"{new}.png")
    assert counts(ingest(folder, scape)) == {"unchanged": 1, "moved": 2}
    assert by_name(scape, "image_id") == {"a": before["b"], "b": before["a"], "c": before["c"]}


def test_when_a_file_takes_anothers_name_the_lost_picture_is_told(folder, scape):
    ingest(folder, scape)
    before = by_name(scape, "image_id")
    (folder / "b.png").replace(folder / "a.png")
    os.utime(folder / "a.png")
    assert counts(ingest(folder, scape)) == {"unchanged": 1, "moved": 1, "vanished": 1}
    assert by_name(scape, "image_id") == {"a": before["b"], "c": before["c"]}


def test_a_copy_is_a_row_of_its_own(folder, scape):
    ingest(folder, scape)
    (folder / "copy.png").write_bytes(png(1))
    assert counts(ingest(folder, scape)) == {"added": 1, "unchanged": 3}
    rows = [row for row in whole(scape) if row["sha256"] == whole(scape)[0]["sha256"]]
    assert len(rows) == 2
    assert rows[0]["image_id"] != rows[1]["image_id"]


def test_of_many_copies_each_moved_one_keeps_a_row(tmp_path, scape, monkeypatch):
    """Scraped collections hold one placeholder a thousand times: looking for moved ones must not take squares of it."""
    folder = write(tmp_path / "photos", **{f"n{i}": 7 for i in range(30)})
    ingest(folder, scape)
    before = {row["image_id"] for row in whole(scape)}
    for i in range(10):
        (folder / f"n{i}.png").rename(folder / f"m{i}.png")
    write(folder, **{f"o{i}": 7 for i in range(20)})
    stats = []
    real = Known._still_there
    monkeypatch.setattr(Known, "_still_there", lambda self, row: stats.append(row) or real(self, row))
    assert counts(ingest(folder, scape)) == {"unchanged": 20, "moved": 10, "added": 20}
    assert before < {row["image_id"] for row in whole(scape)}
    assert len(stats) <= 30 * ingest_module.CHUNKS_IN_FLIGHT
    assert Collection.open(scape).count("status = 'ok'") == 50


def test_a_picture_put_back_where_a_moved_one_came_from_gets_an_id_of_its_own(folder, scape):
    ingest(folder, scape)
    (folder / "b.png").rename(folder / "z.png")
    ingest(folder, scape)
    write(folder, b=2)
    assert counts(ingest(folder, scape)) == {"added": 1, "unchanged": 3}
    assert len({row["image_id"] for row in whole(scape)}) == 4
    assert Collection.open(scape).count("status = 'ok'") == 4


def test_a_file_given_twice_is_one_row(folder, scape):
    files = [folder / "a.png", folder / "b.png", folder / "a.png"]
    assert counts(ingest(files, scape)) == {"added": 2, "unchanged": 1}
    assert counts(ingest([folder, *files], scape)) == {"added": 1, "unchanged": 5}


def test_a_narrower_source_lets_no_other_row_vanish(folder, scape):
    ingest(folder, scape)
    assert counts(ingest(folder, scape, glob="a*")) == {"unchanged": 1}
    assert counts(ingest([folder / "b.png"], scape)) == {"unchanged": 1}
    other = write(folder.parent / "other", x=9)
    assert counts(ingest(other, scape)) == {"added": 1}
    assert Collection.open(scape).count("status = 'ok'") == 4


def test_only_rows_of_the_sources_given_can_vanish(folder, scape, tmp_path):
    other = write(tmp_path / "photos2", x=9)  # its path begins with that of the other folder
    ingest([folder, other], scape)
    (other / "x.png").unlink()
    assert counts(ingest(folder, scape)) == {"unchanged": 3}
    (folder / "a.png").unlink()
    assert counts(ingest(folder, scape)) == {"unchanged": 2, "vanished": 1}


def test_a_file_that_a_list_names_and_that_is_not_there(folder, scape):
    files = [folder / "a.png", folder / "later.png"]
    summary = ingest(files, scape)
    assert counts(summary) == {"added": 2}
    assert summary.flagged == 1
    first = by_name(scape, "image_id")["later"]
    assert counts(ingest(files, scape)) == {"unchanged": 1}
    write(folder, later=7)
    assert counts(ingest(files, scape)) == {"unchanged": 1, "changed": 1}
    rows = whole(scape)
    assert [row["status"] for row in rows] == ["ok", "ok"]
    assert rows[1]["image_id"] == first
    assert rows[1]["width"] == 8
    assert rows[1]["thumbnail"]
    assert len(rows[1]["sha256"]) == 64
    (folder / "later.png").unlink()
    assert counts(ingest(files, scape)) == {"unchanged": 1, "vanished": 1}


def test_when_a_changed_file_goes_missing_its_latest_row_is_the_one_that_vanishes(folder, scape):
    files = [folder / "a.png", folder / "b.png"]
    ingest(files, scape)
    write(folder, b=20)
    ingest(files, scape)
    (folder / "b.png").unlink()
    assert counts(ingest(files, scape)) == {"unchanged": 1, "vanished": 1}
    assert [row["status"] for row in whole(scape)] == ["ok", "vanished", "vanished"]


def test_what_a_killed_run_did_not_come_to_flag_or_move_is_done_by_the_next(folder, scape, monkeypatch):
    """New rows are stored before old ones are updated; a kill in between must leave nothing to guess."""
    write(folder, d=4, e=5)
    ingest(folder, scape)
    before = by_name(scape, "image_id")
    write(folder, a=10)  # changed
    (folder / "b.png").unlink()  # gone
    (folder / "c.png").rename(folder / "f.png")  # moved
    (folder / "d.png").replace(folder / "e.png")  # moved over another

    def killed(*arguments):
        raise RuntimeError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(Collection, "update", killed)
        with pytest.raises(RuntimeError, match="killed"):
            ingest(folder, scape)
    assert len(Collection.open(scape)) == 6
    ingest(folder, scape)
    rows = {(Path(row["uri"]).stem, row["status"], row["reason"]): row["image_id"] for row in whole(scape)}
    new = by_name(scape, "image_id")["a"]
    assert rows == {
        ("a", "vanished", REPLACED): before["a"],
        ("a", "ok", ""): new,
        ("b", "vanished", NOT_FOUND): before["b"],
        ("f", "ok", ""): before["c"],
        ("e", "ok", ""): before["d"],
        ("e", "vanished", NOT_FOUND): before["e"],
    }


def test_texts_of_one_hash_are_told_apart(folder, scape, monkeypatch):
    from imagescape.collection import known

    monkeypatch.setattr(known, "hash", lambda text: 7, raising=False)
    ingest(folder, scape)
    assert counts(ingest(folder, scape)) == {"unchanged": 3}
    (folder / "b.png").rename(folder / "z.png")
    assert counts(ingest(folder, scape)) == {"unchanged": 2, "moved": 1}
    assert sorted(by_name(scape, "status")) == ["a", "c", "z"]


def parquet(path: Path, *seeds: int) -> Path:
    images = pa.array([{"bytes": png(seed), "path": None} for seed in seeds])
    pa.parquet.write_table(pa.table({"image": images, "label": list(seeds)}), path)
    return path


def test_rows_of_a_table_follow_the_same_rules(tmp_path, scape):
    import pyarrow.parquet  # noqa: F401

    source = parquet(tmp_path / "set.parquet", 1, 2, 3)
    assert counts(ingest(source, scape)) == {"added": 3}
    assert counts(ingest(source, scape)) == {"unchanged": 3}
    parquet(source, 1, 20)
    assert counts(ingest(source, scape)) == {"unchanged": 1, "changed": 1, "vanished": 1}
    source.rename(tmp_path / "renamed.parquet")
    assert counts(ingest(tmp_path / "renamed.parquet", scape)) == {"moved": 2}
    assert sorted(row["label"] for row in whole(scape) if row["status"] == "ok") == [1, 20]


# -- flagged rows and settings ----------------------------------------------------------------------------------------


@pytest.fixture
def flawed(folder) -> Path:
    """b.png is cut short, c.png is no image."""
    (folder / "b.png").write_bytes(png(2, 64)[:-2000])
    (folder / "c.png").write_bytes(b"hello")
    return folder


def test_flagged_rows_stay_until_something_changes(flawed, scape):
    assert ingest(flawed, scape).flagged == 2
    before = whole(scape)
    assert counts(ingest(flawed, scape)) == {"unchanged": 3}
    assert whole(scape) == before


def test_a_flagged_row_is_tried_again_when_the_settings_may_help(flawed, scape):
    ingest(flawed, scape)
    first = by_name(scape, "image_id")["b"]
    summary = ingest(flawed, scape, salvage_truncated=True)
    assert counts(summary) == {"unchanged": 2, "changed": 1}
    assert summary.flagged == 1
    row = next(row for row in whole(scape) if row["image_id"] == first)
    assert row["status"] == "ok"
    assert row["reason"]
    assert row["thumbnail"]
    assert row["width"] == 64
    assert counts(ingest(flawed, scape)) == {"unchanged": 3}


def test_a_file_that_could_not_be_read_is_tried_again_each_time(folder, scape, monkeypatch):
    from imagescape.collection import examine

    def locked(path):
        return Decoded(None, "unreadable", "no permission") if path.stem == "b" else real(path)

    real = examine.read_file
    with monkeypatch.context() as patched:
        patched.setattr(examine, "read_file", locked)
        assert ingest(folder, scape).flagged == 1
        assert counts(ingest(folder, scape)) == {"unchanged": 3}
    first = by_name(scape, "image_id")["b"]
    assert counts(ingest(folder, scape)) == {"unchanged": 2, "changed": 1}
    assert by_name(scape, "status")["b"] == "ok"
    assert by_name(scape, "image_id")["b"] == first
    os.utime(folder / "b.png", ns=(5, 5))
    with monkeypatch.context() as patched:
        patched.setattr(examine, "read_file", locked)
        assert counts(ingest(folder, scape)) == {"unchanged": 2, "changed": 1}
    row = next(row for row in whole(scape) if row["image_id"] == first)
    assert (row["status"], row["reason"], row["width"]) == ("unreadable", "no permission", 8)


def test_an_image_too_large_comes_in_when_the_limit_is_raised(folder, scape):
    (folder / "b.png").write_bytes(png(2, 64))
    assert ingest(folder, scape, max_pixels=100).flagged == 1
    assert counts(ingest(folder, scape, max_pixels=64 * 64 - 1)) == {"unchanged": 3}
    summary = ingest(folder, scape, max_pixels=64 * 64)
    assert counts(summary) == {"unchanged": 2, "changed": 1}
    assert summary.flagged == 0


def test_a_repaired_file_is_a_new_picture(flawed, scape):
    ingest(flawed, scape)
    write(flawed, c=3)
    summary = ingest(flawed, scape)
    assert counts(summary) == {"unchanged": 2, "changed": 1}
    assert by_name(scape, "status")["c"] == "ok"


def test_a_flagged_image_that_vanished_and_came_back_is_flagged_for_its_own_reason(flawed, scape):
    ingest(flawed, scape)
    before = whole(scape)
    (flawed / "b.png").rename(flawed / "b.hidden")
    ingest(flawed, scape)
    (flawed / "b.hidden").rename(flawed / "b.png")
    ingest(flawed, scape)
    assert whole(scape) == before


# -- any history ------------------------------------------------------------------------------------------------------

names = st.sampled_from("abcde")
edits = st.one_of(
    st.tuples(st.just("write"), names, st.integers(1, 6)),
    st.tuples(st.just("delete"), names, st.none()),
    st.tuples(st.just("move"), names, names),
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=st.lists(st.lists(edits, max_size=5), min_size=1, max_size=4))
def test_after_any_history_the_ok_rows_are_the_files_and_no_id_is_lost(tmp_path_factory, history):
    folder = write(tmp_path_factory.mktemp("any") / "photos", keep=0)  # a folder without images is refused
    scape = folder.parent / "x.scape"
    known: set[str] = set()
    for changes in history:
        for what, name, argument in changes:
            path = folder / f"{name}.png"
            if what == "write":
                write(folder, **{name: argument})
            elif what == "delete":
                path.unlink(missing_ok=True)
            elif path.exists():
                path.replace(folder / f"{argument}.png")
        ingest(folder, scape)
        rows = whole(scape)
        ok = sorted((row["uri"], row["sha256"]) for row in rows if row["status"] == "ok")
        from imagescape.collection.identity import content_sha256

        assert ok == sorted((str(path), content_sha256(path.read_bytes())) for path in folder.iterdir())
        ids = {row["image_id"] for row in rows}
        assert len(ids) == len(rows)
        assert known <= ids
        known = ids


# -- streaming, killing, several at once ------------------------------------------------------------------------------


class Counting:
    """A source that counts how far it is drawn ahead of what was stored."""

    schema = pa.schema([])

    def __init__(self, total: int, scape: Path) -> None:
        self.total, self.scape, self.drawn, self.ahead = total, scape, 0, 0

    def __iter__(self) -> Iterator[Item]:
        for n in range(self.total):
            self.drawn += 1
            stored = len(Collection.open(self.scape)) if n % 20 == 0 else 0
            if stored or n == 0:
                self.ahead = max(self.ahead, self.drawn - stored)
            yield Item(f"numbers#{n}", data=png(n), refetchable=False)


def test_memory_does_not_grow_with_the_source(scape, monkeypatch):
    source = Counting(600, scape)
    monkeypatch.setattr(ingest_module, "open_source", lambda given, **options: given)
    monkeypatch.setattr(ingest_module, "BATCH_ROWS", 40)
    Collection.create(scape)
    ingest(source, scape)
    window = ingest_module.CHUNKS_IN_FLIGHT * ingest_module.CHUNK_ITEMS
    assert len(Collection.open(scape)) == 600
    assert source.ahead <= window + 40 + ingest_module.CHUNK_ITEMS + 1 < 600


def test_the_parallel_map_keeps_order_and_its_bound():
    from concurrent.futures import ThreadPoolExecutor

    drawn, yielded, ahead = 0, 0, 0
    lock = threading.Lock()

    def inputs() -> Iterator[int]:
        nonlocal drawn
        for n in range(200):
            drawn += 1
            yield n

    def work(n: int) -> int:
        time.sleep(random.random() * 1e-3)
        with lock:
            return n * n

    results = []
    with ThreadPoolExecutor(4) as pool:
        for result in ordered_map(pool, work, inputs(), in_flight=7):
            yielded += 1
            ahead = max(ahead, drawn - yielded)
            results.append(result)
    assert results == [n * n for n in range(200)]
    assert ahead < 7


def test_a_source_that_fails_half_way_loses_nothing_of_what_came_before(folder, scape, monkeypatch):
    class Failing(Counting):
        def __iter__(self) -> Iterator[Item]:
            yield from (Item(f"numbers#{n}", data=png(n), refetchable=False) for n in range(13))
            raise InputError("the archive ends early")

    monkeypatch.setattr(ingest_module, "open_source", lambda given, **options: given)
    with pytest.raises(InputError, match="ends early"):
        ingest(Failing(20, scape), scape)
    assert len(Collection.open(scape)) == 13


def test_an_interrupted_ingest_stores_what_it_read_and_says_how_to_go_on(scape, monkeypatch):
    class Stopped(Counting):
        def __iter__(self) -> Iterator[Item]:
            yield from (Item(f"numbers#{n}", data=png(n), refetchable=False) for n in range(100))
            raise KeyboardInterrupt

    monkeypatch.setattr(ingest_module, "open_source", lambda given, **options: given)
    with pytest.raises(Interrupted, match=r"images are stored.*run the same again"):
        ingest(Stopped(200, scape), scape)
    stored = len(Collection.open(scape))
    assert 0 < stored <= 100
    summary = ingest(Counting(100, scape), scape)
    assert counts(summary) == {"added": 100 - stored, "unchanged": stored}


def test_a_bad_source_makes_no_collection(tmp_path, scape):
    with pytest.raises(InputError):
        ingest(tmp_path / "nowhere", scape)
    assert not scape.exists()


def test_columns_that_clash_are_told_before_any_work(tmp_path, folder, scape):
    (tmp_path / "one.csv").write_text(f"path,label\n{folder}/a.png,7\n")
    (tmp_path / "two.csv").write_text(f"path,label\n{folder}/b.png,cat\n")
    ingest(tmp_path / "one.csv", scape)
    with pytest.raises(ImagescapeError, match="column 'label' holds int64"):
        ingest(tmp_path / "two.csv", scape)
    assert len(Collection.open(scape)) == 1


def test_a_folder_that_is_no_collection_is_refused(folder, tmp_path):
    with pytest.raises(CollectionError, match="not a collection"):
        ingest(folder, folder)


def test_many_small_batches_are_joined_at_the_end(folder, scape, monkeypatch):
    monkeypatch.setattr(ingest_module, "BATCH_ROWS", 1)
    monkeypatch.setattr(ingest_module, "CHUNK_ITEMS", 1)
    write(folder, **{f"n{i}": i for i in range(20)})
    ingest(folder, scape)
    assert len(Collection.open(scape)._latest().get_fragments()) == 1
    assert [Path(row["uri"]).stem for row in whole(scape)] == sorted(["a", "b", "c", *(f"n{i}" for i in range(20))])


_KILLED = """
import sys
from imagescape.collection import ingest
ingest.BATCH_ROWS, ingest.CHUNK_ITEMS = 7, 3
ingest.ingest(sys.argv[1], sys.argv[2])
"""


def test_killed_at_any_moment_a_run_resumes_to_the_same_table(tmp_path, scape):
    folder = write(tmp_path / "photos", **{f"n{i:03}": i for i in range(400)})
    (folder / "n100.png").write_bytes(b"broken")
    reference = tmp_path / "reference.scape"
    ingest(folder, reference)
    command = [sys.executable, "-c", _KILLED, str(folder), str(scape)]
    chance = random.Random(time.time_ns())
    stored, kills = [0], 0
    while kills < 4:
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while process.poll() is None and (not scape.exists() or len(Collection.open(scape)) <= stored[-1]):
            time.sleep(0.002)
        time.sleep(chance.random() * 0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
        if scape.exists():
            stored.append(len(Collection.open(scape)))
    assert stored == sorted(stored)
    assert stored[1] < 400
    summary = ingest(folder, scape)
    assert summary.added == 400 - stored[-1]
    assert whole(scape) == whole(reference)


def _ingest(folder: Path, scape: Path) -> None:
    ingest(folder, scape)


def test_two_ingests_at_once_lose_and_repeat_nothing(tmp_path, scape):
    one = write(tmp_path / "one", **{f"a{i}": i for i in range(30)})
    two = write(tmp_path / "two", **{f"b{i}": 100 + i for i in range(30)})
    context = multiprocessing.get_context("spawn")
    work = [(one, scape), (two, scape), (one, scape)]
    processes = [context.Process(target=_ingest, args=arguments) for arguments in work]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    uris = [row["uri"] for row in whole(scape)]
    assert sorted(uris) == sorted(str(path) for folder in (one, two) for path in folder.iterdir())
