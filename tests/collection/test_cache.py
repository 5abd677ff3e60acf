"""The pixel cache: the right pixels for the right id, decoded once, whatever happened to table, files and process."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from imagescape.collection import cache, decoding
from imagescape.collection.cache import Rows, cached_pixels
from imagescape.collection.identity import REPLACED
from imagescape.collection.ingest import ingest
from imagescape.collection.store import Collection
from imagescape.errors import CollectionError, InputError
from imagescape.images.decode import square
from imagescape.images.pixels import as_pixels

SIZE = 12


def picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (20, 16, 3), np.uint8))


def write(folder: Path, *seeds: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        picture(seed).save(folder / f"{seed:03}.png")
    return folder


def pixels_of(seed: int, size: int = SIZE, fit: str = "crop") -> np.ndarray:
    return square(picture(seed), size, fit)


def check(collection: Collection, *seeds: int) -> None:
    """The cache holds these pictures, in this order, each under its own id."""
    cached = cached_pixels(collection, SIZE)
    assert cached.pixels.shape == (len(seeds), SIZE, SIZE, 3)
    assert cached.ids.tolist() == collection.ok_ids().tolist()
    uris = collection.read(["uri"], "status = 'ok'")["uri"].to_pylist()
    assert [Path(uri).stem for uri in uris] == [f"{seed:03}" for seed in seeds]
    for pixels, seed in zip(np.asarray(cached.pixels), seeds, strict=True):
        assert np.array_equal(pixels, pixels_of(seed))


def decoded_rows(collection: Collection) -> int:
    return json.loads((collection.path / "cache" / f"pixels-{SIZE}px-crop" / "progress.json").read_text())["rows"]


@pytest.fixture
def collection(tmp_path: Path) -> Collection:
    ingest(write(tmp_path / "photos", *range(5)), tmp_path / "photos.scape")
    return Collection.open(tmp_path / "photos.scape")


@pytest.fixture
def folder(collection: Collection) -> Path:
    return collection.path.parent / "photos"


def test_pixels_are_memory_mapped_and_in_table_order(collection):
    pixels = collection.pixels(SIZE)
    assert isinstance(pixels, np.memmap)
    assert pixels.dtype == np.uint8
    assert not pixels.flags.writeable
    check(collection, 0, 1, 2, 3, 4)
    assert collection.pixel_ids(SIZE).tolist() == collection.ok_ids().tolist()
    assert as_pixels(collection, SIZE) is not None


@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
@pytest.mark.parametrize("size", [7, 24])
def test_each_size_and_fit_has_its_own_cache(collection, size, fit):
    pixels = collection.pixels(size, fit)
    assert np.array_equal(pixels, np.stack([pixels_of(seed, size, fit) for seed in range(5)]))


def test_a_second_call_decodes_nothing(collection, monkeypatch):
    collection.pixels(SIZE)
    monkeypatch.setattr(cache, "_fill", lambda *arguments: pytest.fail("built again"))
    check(collection, 0, 1, 2, 3, 4)


def test_new_rows_are_added_behind(collection, folder, monkeypatch):
    collection.pixels(SIZE)
    ingest(write(folder, 5, 6), collection.path)
    decoded = []
    real = decoding._picture
    monkeypatch.setattr(decoding, "_picture", lambda row, *rest: decoded.append(row["uri"][-7:-4]) or real(row, *rest))
    check(collection, 0, 1, 2, 3, 4, 5, 6)
    assert sorted(decoded) == ["005", "006"]
    assert isinstance(collection.pixels(SIZE), np.memmap)


def test_rows_that_vanished_or_were_deleted_are_left_out(collection, folder):
    collection.pixels(SIZE)
    (folder / "001.png").unlink()
    ingest(folder, collection.path)
    check(collection, 0, 2, 3, 4)
    collection.delete(collection.ok_ids()[:1])
    check(collection, 2, 3, 4)
    write(folder, 1)
    ingest(folder, collection.path)
    check(collection, 1, 2, 3, 4, 0)  # 0 was deleted from the table, and comes in anew
    assert decoded_rows(collection) == 5  # the same file at the same place has the same id, and its pixels


def test_files_that_are_gone_or_changed_are_flagged_and_left_out(collection, folder):
    (folder / "001.png").unlink()
    write(folder.parent / "other", 9)
    shutil.copy(folder.parent / "other" / "009.png", folder / "003.png")
    check(collection, 0, 2, 4)
    assert isinstance(collection.pixels(SIZE), np.memmap)  # they never came in, so no index is needed
    flagged = {Path(row["uri"]).stem: (row["status"], row["reason"]) for row in collection.flagged_rows()}
    assert flagged == {"001": ("vanished", "the file is gone"), "003": ("vanished", REPLACED)}


def test_an_image_that_breaks_the_decoder_itself_costs_no_other(collection, monkeypatch):
    def broken(image, **settings):
        if np.array_equal(np.asarray(image), np.asarray(picture(3))):
            raise ZeroDivisionError("oops")
        return square(image, **settings)

    monkeypatch.setattr(cache, "square", broken)
    check(collection, 0, 1, 2, 4)
    assert collection.flagged_rows()[0]["reason"] == "cannot be processed: ZeroDivisionError: oops"


def test_a_moved_file_needs_no_new_decoding(collection, folder):
    collection.pixels(SIZE)
    (folder / "002.png").rename(folder / "070.png")
    ingest(folder, collection.path)
    uris = collection.read(["uri"])["uri"].to_pylist()
    assert Path(uris[2]).stem == "070"
    assert decoded_rows(collection) == 5
    assert np.array_equal(collection.pixels(SIZE)[2], pixels_of(2))


def test_stored_images_need_no_source(tmp_path):
    folder = write(tmp_path / "photos", *range(4))
    ingest(folder, tmp_path / "x.scape", embed=True)
    ingest(write(tmp_path / "more", 8), tmp_path / "x.scape")  # referred to only
    shutil.rmtree(folder)
    check(Collection.open(tmp_path / "x.scape"), 0, 1, 2, 3, 8)


def test_arrays_come_back_pixel_by_pixel(tmp_path):
    images = np.random.default_rng(1).integers(0, 256, (4, SIZE, SIZE, 3), np.uint8)
    ingest(images, tmp_path / "memory.scape")
    np.save(tmp_path / "images.npy", images)
    ingest(tmp_path / "images.npy", tmp_path / "file.scape")
    for name in ("memory", "file"):
        assert np.array_equal(Collection.open(tmp_path / f"{name}.scape").pixels(SIZE), images)


def test_a_salvaged_image_is_salvaged_again(collection, folder):
    path = folder / "005.jpg"
    Image.linear_gradient("L").resize((300, 200)).save(path, quality=95)
    path.write_bytes(path.read_bytes()[:-1500])
    ingest(folder, collection.path)
    assert collection.count("status = 'truncated'") == 1
    ingest(folder, collection.path, salvage_truncated=True)
    assert len(collection.pixels(SIZE)) == 6


def test_what_a_killed_run_left_half_written_is_cut_off(collection):
    collection.pixels(SIZE)
    folder = collection.path / "cache" / f"pixels-{SIZE}px-crop"
    row_bytes = SIZE * SIZE * 3
    with (folder / "pixels.u8").open("r+b") as file:
        file.truncate(4 * row_bytes + 100)
        file.seek(3 * row_bytes)
        file.write(b"\0" * (row_bytes + 100))
    (folder / "progress.json").write_text('{"rows": 3}')
    check(collection, 0, 1, 2, 3, 4)
    (folder / "ids.s16").write_bytes((folder / "ids.s16").read_bytes()[:-3])
    check(collection, 0, 1, 2, 3, 4)
    (folder / "progress.json").write_text("")
    check(collection, 0, 1, 2, 3, 4)


_KILLED = """
import sys
from imagescape.collection import cache
from imagescape.collection.store import Collection
cache.CHUNK_ROWS = 5
Collection.open(sys.argv[1]).pixels(40)
"""


def test_killed_at_any_moment_the_cache_resumes(tmp_path):
    seeds = range(250)
    ingest(write(tmp_path / "photos", *seeds), tmp_path / "x.scape")
    collection = Collection.open(tmp_path / "x.scape")
    progress = collection.path / "cache" / "pixels-40px-crop" / "progress.json"
    chance, before = random.Random(time.time_ns()), None
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", _KILLED, str(collection.path)], stderr=subprocess.DEVNULL)
        while process.poll() is None and (progress.read_text() if progress.exists() else None) == before:
            time.sleep(0.001)
        time.sleep(chance.random() * 0.03)
        process.send_signal(signal.SIGKILL)
        process.wait()
        before = progress.read_text() if progress.exists() else None
    pixels = collection.pixels(40)
    assert np.array_equal(pixels, np.stack([pixels_of(seed, 40) for seed in seeds]))


def test_two_at_once_decode_once(collection, monkeypatch):
    results, decoded = [], []
    real = decoding._picture
    monkeypatch.setattr(decoding, "_picture", lambda row, *rest: decoded.append(1) or real(row, *rest))
    threads = [threading.Thread(target=lambda: results.append(collection.pixels(SIZE))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(decoded) == 5
    assert all(np.array_equal(result, results[0]) for result in results)


def test_only_a_bounded_amount_is_held(collection, folder, monkeypatch):
    ingest(write(folder, *range(5, 60)), collection.path)
    held: list[int] = []
    real = cache.RowsFile.append
    monkeypatch.setattr(cache, "CHUNK_BYTES", SIZE * SIZE * 3 * 7)
    monkeypatch.setattr(
        cache.RowsFile, "append", lambda self, ids, *rest: held.append(len(ids)) or real(self, ids, *rest)
    )
    check(collection, *range(60))
    assert max(held) == 7
    assert sum(held) == 60


def test_images_are_fetched_in_chunks_of_bounded_size():
    import pyarrow as pa

    sizes = [10, 20 << 20, 50 << 20, 100 << 20, 1, 1]
    chunks = [[row["bytes"] for row in chunk] for chunk in decoding._chunks(pa.table({"bytes": sizes}))]
    assert chunks == [[10, 20 << 20], [50 << 20], [100 << 20], [1, 1]]


def test_a_disk_too_small_is_told_before_the_work(collection, monkeypatch):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(5 * SIZE * SIZE * 3 - 1))
    with pytest.raises(CollectionError, match=r"needs .* MB more in .*, the disk has"):
        collection.pixels(SIZE)


def test_a_disk_that_fills_up_is_told(collection, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(CollectionError, match=r"full.*stays.*run the same again"):
            collection.pixels(SIZE)
    check(collection, 0, 1, 2, 3, 4)


@pytest.mark.parametrize(("size", "fit"), [(0, "crop"), (-3, "pad"), (10, "stretch")])
def test_what_makes_no_sense_is_refused(collection, size, fit):
    with pytest.raises(InputError, match="pixels need"):
        collection.pixels(size, fit)


def test_a_collection_without_usable_images_gives_none(tmp_path):
    assert Collection.create(tmp_path / "x.scape").pixels(SIZE).shape == (0, SIZE, SIZE, 3)


array = np.arange(6 * 4 * 5, dtype=np.uint8).reshape(6, 4, 5)
keys = st.one_of(
    st.integers(-4, 3),
    st.slices(4),
    st.lists(st.integers(-4, 3), max_size=6).map(lambda key: np.array(key, np.int64)),
    st.lists(st.booleans(), min_size=4, max_size=4).map(np.array),
    st.tuples(st.integers(-4, 3), st.slices(4)),
    st.tuples(st.slices(4), st.integers(-4, 3), st.slices(5)),
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(positions=st.permutations(range(6)).map(lambda order: np.array(order[:4])), key=keys)
def test_rows_are_indexed_like_the_array_they_stand_for(positions, key):
    rows, expected = Rows(array, positions), array[positions]
    assert rows.nbytes == expected.nbytes
    assert np.array_equal(rows[key], expected[key])
    assert (rows.shape, rows.dtype, rows.ndim, len(rows)) == (expected.shape, expected.dtype, expected.ndim, 4)
    assert np.array_equal(np.asarray(rows), expected)
    assert np.asarray(rows, np.float32).dtype == np.float32
