"""Readers: every kind of source streams its items in order, and `fetch` finds the way back."""

import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from imagescape.collection.readers import Item, open_source
from imagescape.collection.readers import parquet as parquet_reader
from imagescape.collection.readers.fetch import fetch
from imagescape.collection.readers.item import as_text, file_uri, parse_uri, row_uri
from imagescape.errors import InputError
from imagescape.images.decode import Decoded
from tests.collection.broken_files import RED, noise, picture, png, write_broken_files


def put(root: Path, *names: str) -> Path:
    """Distinct small images under these names."""
    for i, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(Image.new("RGB", (2 + i, 2), RED)))
    return root


def check_reader(reader):
    """What every reader promises; returns its items."""
    items = list(reader)
    assert reader.total == len(items) > 0
    for item in items:
        assert sum(kind is not None for kind in (item.path, item.data, item.array)) == 1, item
        assert set(item.columns) == set(reader.schema.names)
        item.uri.encode()
    pa.Table.from_pylist([dict(item.columns) for item in items], schema=reader.schema)
    assert [item.uri for item in reader] == [item.uri for item in items], "the second pass differs"
    return items


def content(item: Item):
    return item.path.read_bytes() if item.path else item.data if item.data is not None else item.array


def check_fetch(items):
    """Going back gives what reading gave, in any order and with repeats."""
    order = [*range(len(items))[::-1], 0]
    for position, image in zip(order, fetch([items[i].uri for i in order]), strict=True):
        assert np.array_equal(np.asarray(content(items[position])), np.asarray(image))


def columns(items, name):
    return [item.columns[name] for item in items]


def names(items, root):
    return [os.path.relpath(item.path, root) for item in items]


# -- items and their uris ------------------------------------------------------------------------------------------


class TestUri:
    def test_of_plain_names_is_the_path(self):
        assert file_uri("/photos/ein Café #1 100%.jpg") == "/photos/ein Café #1 100%.jpg"
        assert row_uri("/a/b.parquet", 7) == "/a/b.parquet#row=7"

    def test_of_other_names_is_percent_encoded(self):
        assert file_uri("/p/caf\udce9.jpg") == "file:///p/caf%E9.jpg"
        assert file_uri("/p/a#row=3") == "file:///p/a%23row%3D3"

    @given(st.binary(min_size=1).filter(lambda name: not {0, 47} & set(name) and name not in (b".", b"..")))
    def test_is_text_and_leads_back_for_any_name(self, name):
        path = "/photos/" + os.fsdecode(name)
        assert parse_uri(file_uri(path)) == (Path(path), None)
        assert parse_uri(row_uri(path, 12)) == (Path(path), 12)
        file_uri(path).encode()
        as_text(os.fsdecode(name)).encode()

    def test_of_memory_leads_nowhere(self):
        assert parse_uri("array#7") == (None, None)
        assert fetch(["array#7"])[0].status == "vanished"


# -- folders -----------------------------------------------------------------------------------------------------


class TestFolder:
    def test_is_recursive_sorted_and_counts_what_it_skips(self, tmp_path):
        put(tmp_path, "b.png", "a.JPG", "sub/c.tiff", "sub/deeper/d.webp", ".hidden.png", ".git/e.png", "._a.jpg")
        put(tmp_path, "notes.txt", "Thumbs.db", "old.scape/runs/map.png", "no_extension")
        reader = open_source(tmp_path)
        items = check_reader(reader)
        assert names(items, tmp_path) == ["a.JPG", "b.png", "sub/c.tiff", "sub/deeper/d.webp"]
        assert columns(items, "folder") == ["", "", "sub", "sub/deeper"]
        assert reader.skipped == 5
        check_fetch(items)

    def test_broken_files_are_all_there(self, tmp_path):
        expected = write_broken_files(tmp_path)
        items = check_reader(open_source(tmp_path))
        assert sorted(names(items, tmp_path)) == sorted(expected)
        fetched = dict(zip(names(items, tmp_path), fetch([item.uri for item in items]), strict=True))
        assert fetched["latin1_caf\udce9.png"] == fetched["hash#row=3.png"] == png()
        for name, image in fetched.items():
            if isinstance(image, Decoded):
                assert image.status == expected[name]

    def test_classes_are_told_by_two_folders_one_level_down(self, tmp_path):
        items = check_reader(open_source(put(tmp_path, "cat/1.png", "dog/1.png", "dog/2.png")))
        assert columns(items, "label") == ["cat", "dog", "dog"]
        assert "split" not in items[0].columns

    def test_splits_are_told_by_their_names(self, tmp_path):
        put(tmp_path, "train/cat/1.png", "train/dog/2.png", "test/cat/3.png", "test/4.png")
        items = check_reader(open_source(tmp_path))
        assert columns(items, "split") == ["test", "test", "train", "train"]
        assert columns(items, "label") == [None, "cat", "cat", "dog"]

    def test_splits_without_classes(self, tmp_path):
        items = check_reader(open_source(put(tmp_path, "train/1.png", "val/1.png")))
        assert columns(items, "split") == ["train", "val"]
        assert "label" not in items[0].columns

    @pytest.mark.parametrize(
        "files", [["cat/1.png"], ["cat/1.png", "dog/1.png", "2.png"], ["cat/1.png", "dog/deep/1.png"], ["1.png"]]
    )
    def test_anything_else_is_flat_unless_told(self, tmp_path, files):
        put(tmp_path, *files)
        assert open_source(tmp_path).schema.names == ["folder"]
        labels = columns(check_reader(open_source(tmp_path, layout="classes")), "label") if len(files) > 1 else None
        assert labels in (None, [None, "cat", "dog"], ["cat", "dog"])

    def test_splits_with_deeper_folders_are_flat_unless_told(self, tmp_path):
        put(tmp_path, "train/a/b/1.png", "test/a/1.png")
        assert open_source(tmp_path).schema.names == ["folder"]
        items = check_reader(open_source(tmp_path, layout="classes"))
        assert columns(items, "split") == ["test", "train"]
        assert columns(items, "label") == ["a", "a"]

    def test_flat_ignores_folders(self, tmp_path):
        reader = open_source(put(tmp_path, "cat/1.png", "dog/1.png"), layout="flat")
        assert reader.schema.names == ["folder"]

    def test_loops_of_links_end_and_linked_folders_are_read_once(self, tmp_path):
        root = put(tmp_path / "root", "a/1.png")
        put(tmp_path / "elsewhere", "2.png")
        (root / "a" / "up").symlink_to(root)
        (root / "self").symlink_to("self")
        (root / "b").symlink_to(tmp_path / "elsewhere")
        (root / "c").symlink_to(tmp_path / "elsewhere")
        assert names(check_reader(open_source(root)), root) == ["a/1.png", "b/2.png"]

    def test_glob_takes_exactly_what_it_matches(self, tmp_path):
        put(tmp_path, "a.dat", "b.png", "sub/c.dat", "sub/.hidden/d.dat", "sub/e.DAT")

        def found(glob):
            return names(open_source(tmp_path, glob=glob), tmp_path)

        assert found("*.dat") == ["a.dat"]
        assert found("**/*.dat") == ["a.dat", "sub/.hidden/d.dat", "sub/c.dat"]
        assert found("sub/**") == ["sub/.hidden/d.dat", "sub/c.dat", "sub/e.DAT"]
        assert found("**/[bc].*") == ["b.png", "sub/c.dat"]
        with pytest.raises(InputError, match=r"no file in .* matches the glob '\*.gif' \(5 other files\)"):
            open_source(tmp_path, glob="*.gif")

    def test_a_folder_that_cannot_be_listed_is_an_item(self, tmp_path, monkeypatch):
        put(tmp_path, "1.png", "locked/2.png")
        listdir = os.listdir

        def refuse(path):
            if str(path).endswith("locked"):
                raise PermissionError(13, "Permission denied")
            return listdir(path)

        monkeypatch.setattr(os, "listdir", refuse)
        assert names(check_reader(open_source(tmp_path)), tmp_path) == ["1.png", "locked"]

    def test_names_beyond_utf8_become_text_in_columns(self, tmp_path):
        put(tmp_path, os.fsdecode(b"caf\xe9/1.png"), "dog/2.png")
        items = check_reader(open_source(tmp_path))
        assert columns(items, "label") == columns(items, "folder") == ["caf\N{REPLACEMENT CHARACTER}", "dog"]

    def test_without_any_image_is_refused(self, tmp_path):
        with pytest.raises(InputError, match=r"^no image in "):
            open_source(tmp_path)
        put(tmp_path, "notes.md")
        with pytest.raises(InputError, match=r"no image in .* \(1 other files\)"):
            open_source(tmp_path)

    def test_a_wrong_layout_is_refused(self, tmp_path):
        with pytest.raises(InputError, match="layout must be 'auto', 'classes' or 'flat', got 'tree'"):
            open_source(put(tmp_path, "1.png"), layout="tree")


# -- lists of paths ----------------------------------------------------------------------------------------------


class TestLists:
    def test_csv_keeps_columns_with_their_types(self, tmp_path):
        put(tmp_path, "a.png", "sub/two\nlines.png")
        text = 'path,label,age,when,note,nothing\na.png,NA,3,2024-05-06,,\n"sub/two\nlines.png",dog,NA,2024-05-07,x,\n'
        (tmp_path / "list.csv").write_text(text + f"{tmp_path}/gone.png,cat,5,,,\n,cat,6,,,\n")
        reader = open_source(tmp_path / "list.csv")
        types = {"label": pa.string(), "age": pa.int64(), "when": pa.date32(), "note": pa.string()}
        assert reader.schema == pa.schema(types | {"nothing": pa.string()})
        items = check_reader(reader)
        assert columns(items, "label") == ["NA", "dog", "cat", "cat"]
        assert columns(items, "age") == [3, None, 5, 6]
        assert columns(items, "note") == [None, "x", None, None]
        first, second, gone, nameless = items
        assert (first.uri, second.path) == (str(tmp_path / "a.png"), tmp_path / "sub/two\nlines.png")
        assert fetch([gone.uri])[0].status == "vanished"
        assert (nameless.data, nameless.refetchable) == (b"", False)
        check_fetch(items[:2])

    def test_csv_longer_than_a_block_with_line_breaks_in_names(self, tmp_path):
        name = "x\n" * 20 + "007"
        (tmp_path / "list.csv").write_text("path\n" + f'"{name}"\n' * 30_000)
        reader = open_source(tmp_path / "list.csv")
        assert reader.total == 30_000
        assert {str(item.path) for item in reader} == {str(tmp_path / name)}

    def test_csv_paths_that_look_like_numbers(self, tmp_path):
        (tmp_path / "list.csv").write_text("path\n007\n")
        assert [item.uri for item in open_source(tmp_path / "list.csv")] == [str(tmp_path / "007")]

    def test_csv_with_only_paths(self, tmp_path):
        (put(tmp_path, "a.png") / "list.csv").write_text("path\na.png\n")
        assert len(check_reader(open_source(tmp_path / "list.csv"))) == 1

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("file,label\na.png,1\n", "must have one column 'path', it has the columns: file, label"),
            ("path,a,a\nx.png,1,2\n", "several columns named a"),
            ("path,a\n", "a header and no rows"),
            ("", "is no table in CSV"),
            ("path,a\nx.png,1,2\n", "is no table in CSV.*Expected 2 columns, got 3"),
        ],
    )
    def test_a_bad_csv_is_refused(self, tmp_path, text, message):
        (tmp_path / "list.csv").write_text(text)
        with pytest.raises(InputError, match=message):
            open_source(tmp_path / "list.csv")

    def test_txt_is_relative_to_itself(self, tmp_path):
        root = put(tmp_path, "a b.png", os.fsdecode(b"caf\xe9.png"))
        lines = [b"a b.png", b"", b"caf\xe9.png", os.fsencode(root / "gone.png"), file_uri(root / "a b.png").encode()]
        (root / "list.txt").write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(lines))
        items = check_reader(open_source(root / "list.txt"))
        assert names(items, root) == ["a b.png", "caf\udce9.png", "gone.png", "a b.png"]
        (root / "empty.txt").write_text("\n \n")
        with pytest.raises(InputError, match="names no file"):
            open_source(root / "empty.txt")

    def test_python_list_and_single_image(self, tmp_path, monkeypatch):
        root = put(tmp_path, "a.png", "b.png")
        monkeypatch.chdir(root)
        assert names(check_reader(open_source(["b.png", root / "a.png"])), root) == ["b.png", "a.png"]
        assert names(check_reader(open_source("b.png")), root) == ["b.png"]
        with pytest.raises(InputError, match="list of paths is empty"):
            open_source([])


# -- tables in the Hugging Face layout ---------------------------------------------------------------------------


IMAGE = pa.struct({"bytes": pa.binary(), "path": pa.string()})


def table(first: int = 0, rows: int = 5, names: tuple[str, ...] = ("cat", "dog")) -> pa.Table:
    """Images told by their width, and labels 0, 1, -1, 0, 1, … with names as `datasets` writes them."""
    images = [{"bytes": png(picture((8 + first + i, 4))), "path": f"{first + i}.png"} for i in range(rows)]
    labels = [(0, 1, -1)[i % 3] for i in range(rows)]
    features = {"image": {"_type": "Image"}, "label": {"names": list(names), "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    data = {"image": pa.array(images, IMAGE), "label": pa.array(labels), "size": [1.5] * rows}
    return pa.table(data).replace_schema_metadata(metadata)


class TestParquet:
    def test_reads_rows_and_names_the_classes(self, tmp_path):
        pq.write_table(table(), tmp_path / "some.parquet", row_group_size=2)
        reader = open_source(tmp_path / "some.parquet")
        columns_of = {"label": pa.int64(), "size": pa.float64(), "label_name": pa.string()}
        assert reader.schema == pa.schema(columns_of)
        items = check_reader(reader)
        assert columns(items, "label") == [0, 1, None, 0, 1]
        assert columns(items, "label_name") == ["cat", "dog", None, "cat", "dog"]
        assert items[3].uri == f"{tmp_path}/some.parquet#row=3"
        assert [item.data for item in items] == [image["bytes"] for image in table()["image"].to_pylist()]
        check_fetch(items)

    def test_fetch_reads_every_row_group_once(self, tmp_path, monkeypatch):
        path = tmp_path / "some.parquet"
        pq.write_table(table(rows=9), path, row_group_size=3)
        groups = []
        read = pq.ParquetFile.read_row_group
        monkeypatch.setattr(
            pq.ParquetFile, "read_row_group", lambda self, i, **how: groups.append(i) or read(self, i, **how)
        )
        fetched = fetch([row_uri(path, row) for row in (8, 0, 7, 1, 8)])
        widths = [8 + row for row in (8, 0, 7, 1, 8)]
        assert fetched == [png(picture((width, 4))) for width in widths]
        assert groups == [0, 2]

    def test_fetch_says_what_is_gone(self, tmp_path):
        path = tmp_path / "some.parquet"
        pq.write_table(table(), path)
        (tmp_path / "bad.parquet").write_bytes(b"PAR1 nonsense PAR1")
        uris = [row_uri(path, 5), row_uri(tmp_path / "gone.parquet", 0), row_uri(tmp_path / "bad.parquet", 0)]
        beyond, gone, bad = fetch(uris)
        assert (beyond.status, beyond.reason) == ("vanished", "the file has 5 rows now")
        assert (gone.status, gone.reason) == ("vanished", "gone.parquet is gone")
        assert bad.status == "unreadable"

    def test_fetch_sees_a_file_that_was_replaced(self, tmp_path):
        path = tmp_path / "some.parquet"
        for images in ([b"a" * 10, b"b" * 20], [b"b" * 20, b"a" * 10]):  # equally large files with other offsets
            pq.write_table(
                pa.table({"image": images}), path, row_group_size=1, compression="none", use_dictionary=False
            )
            os.utime(path, ns=(len(images[0]), len(images[0])))
            assert fetch([row_uri(path, 1)]) == [images[1]]

    def test_a_folder_of_shards_is_one_source(self, tmp_path):
        (tmp_path / "data").mkdir()
        (tmp_path / "README.md").write_text("a dataset")
        pq.write_table(table(0, 3), tmp_path / "data" / "train-00000-of-00002.parquet")
        pq.write_table(table(3, 3), tmp_path / "data" / "train-00001-of-00002.parquet")
        pq.write_table(table(6, 2), tmp_path / "data" / "test-00000-of-00001.parquet")
        items = check_reader(open_source(tmp_path))
        assert columns(items, "split") == ["test"] * 2 + ["train"] * 6
        assert [item.data for item in items][2:] == [png(picture((8 + i, 4))) for i in range(6)]
        check_fetch(items)

    def test_a_folder_of_images_with_a_table_beside_is_a_folder_of_images(self, tmp_path):
        put(tmp_path, "1.png")
        pq.write_table(pa.table({"file_name": ["1.png"]}), tmp_path / "metadata.parquet")
        assert len(check_reader(open_source(tmp_path))) == 1

    def test_shards_must_agree(self, tmp_path):
        pq.write_table(table(), tmp_path / "a.parquet")
        pq.write_table(table().drop_columns("size"), tmp_path / "b.parquet")
        with pytest.raises(InputError, match=r"same columns; b.parquet has label \(int64\)"):
            open_source(tmp_path)

    @pytest.mark.parametrize(
        "column",
        [
            {"img": pa.array([{"bytes": b"x", "path": None}], IMAGE)},
            {"picture": pa.array([{"bytes": b"x"}])},
            {"image": pa.array([b"x"])},
            {"anything": pa.array([b"x"], pa.large_binary())},
            {"mask": pa.array([b"m"]), "image": pa.array([b"x"])},
            {"embedding": pa.array([b"m"]), "photo": pa.array([{"bytes": b"x"}])},
        ],
    )
    def test_finds_the_image_column(self, tmp_path, column):
        pq.write_table(pa.table({"label": [3]} | column), tmp_path / "a.parquet")
        items = check_reader(open_source(tmp_path / "a.parquet"))
        assert [item.data for item in items] == [b"x"]
        assert items[0].columns["label"] == 3

    def test_a_table_with_a_name_for_its_labels_keeps_it(self, tmp_path):
        named = table(rows=2).append_column("label_name", pa.array(["Katze", "Hund"]))
        pq.write_table(named, tmp_path / "a.parquet")
        assert columns(check_reader(open_source(tmp_path / "a.parquet")), "label_name") == ["Katze", "Hund"]

    def test_an_image_may_be_a_path_or_missing(self, tmp_path):
        put(tmp_path, "photo.png")
        images = [{"bytes": None, "path": "photo.png"}, None, {"bytes": None, "path": None}]
        pq.write_table(pa.table({"image": pa.array(images, IMAGE)}), tmp_path / "a.parquet")
        there, *missing = check_reader(open_source(tmp_path / "a.parquet"))
        assert there.path == tmp_path / "photo.png"
        assert [item.data for item in missing] == [b"", b""]

    def test_dictionaries_become_their_values(self, tmp_path):
        data = {"image": pa.array([b"x", b"y"]), "kind": pa.array(["a", "b"]).dictionary_encode()}
        pq.write_table(pa.table(data), tmp_path / "a.parquet")
        assert open_source(tmp_path / "a.parquet").schema.field("kind").type == pa.string()

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (pa.table({"text": ["a"]}), r"must have a column of images .* it has the columns: text \(string\)"),
            (table(rows=0), "has no rows"),
        ],
    )
    def test_a_table_without_images_is_refused(self, tmp_path, data, message):
        pq.write_table(data, tmp_path / "a.parquet")
        with pytest.raises(InputError, match=message):
            open_source(tmp_path / "a.parquet")

    def test_a_damaged_file_is_refused(self, tmp_path):
        (tmp_path / "a.parquet").write_bytes(b"nonsense")
        with pytest.raises(InputError, match="is no Parquet file, or damaged"):
            open_source(tmp_path / "a.parquet")

    def test_only_a_batch_is_held(self, tmp_path, monkeypatch):
        monkeypatch.setattr(parquet_reader, "_BATCH_ROWS", 2)
        pq.write_table(table(rows=7), tmp_path / "a.parquet", row_group_size=7)
        items = check_reader(open_source(tmp_path / "a.parquet"))
        assert [item.uri for item in items] == [row_uri(tmp_path / "a.parquet", row) for row in range(7)]
        check_fetch(items)


def save_to_disk(data: pa.Table, folder: Path, shards: int = 2) -> None:
    """What `datasets.Dataset.save_to_disk` leaves behind."""
    folder.mkdir(parents=True)
    files, rows = [], -(-len(data) // shards)
    for shard in range(shards):
        name = f"data-{shard:05}-of-{shards:05}.arrow"
        with pa.ipc.new_stream(str(folder / name), data.schema) as stream:
            stream.write_table(data.slice(shard * rows, rows), max_chunksize=2)
        files.append({"filename": name})
    (folder / "state.json").write_text(json.dumps({"_data_files": files, "_split": None}))
    (folder / "dataset_info.json").write_text("{}")


class TestArrow:
    def test_reads_a_saved_dataset(self, tmp_path):
        save_to_disk(table(rows=7), tmp_path / "saved")
        items = check_reader(open_source(tmp_path / "saved"))
        assert [item.data for item in items] == [png(picture((8 + i, 4))) for i in range(7)]
        assert columns(items, "label_name")[:3] == ["cat", "dog", None]
        assert items[-1].uri.endswith("saved/data-00001-of-00002.arrow#row=2")
        check_fetch(items)

    def test_reads_splits_in_their_order(self, tmp_path):
        save_to_disk(table(rows=3), tmp_path / "saved" / "train", 1)
        save_to_disk(table(3, rows=2), tmp_path / "saved" / "test", 1)
        (tmp_path / "saved" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
        items = check_reader(open_source(tmp_path / "saved"))
        assert columns(items, "split") == ["train"] * 3 + ["test"] * 2
        check_fetch(items)

    def test_images_may_be_paths(self, tmp_path):
        put(tmp_path, "photo.png")
        images = pa.array([{"bytes": None, "path": str(tmp_path / "photo.png")}], IMAGE)
        save_to_disk(pa.table({"image": images}), tmp_path / "saved", 1)
        assert [item.path for item in open_source(tmp_path / "saved")] == [tmp_path / "photo.png"]

    def test_reads_the_file_format_too(self, tmp_path):
        with pa.ipc.new_file(str(tmp_path / "a.arrow"), table().schema) as file:
            file.write_table(table())
        check_fetch(check_reader(open_source(tmp_path / "a.arrow")))

    def test_what_is_missing_is_named(self, tmp_path):
        save_to_disk(table(), tmp_path / "saved")
        (tmp_path / "saved" / "data-00001-of-00002.arrow").unlink()
        with pytest.raises(InputError, match=r"lacks data-00001-of-00002.arrow"):
            open_source(tmp_path / "saved")
        (tmp_path / "saved" / "state.json").write_text("[]")
        with pytest.raises(InputError, match="must hold a JSON object"):
            open_source(tmp_path / "saved")

    def test_a_selection_is_refused(self, tmp_path):
        save_to_disk(table(), tmp_path / "saved")
        state = {"_data_files": [], "_indices_data_files": [{"filename": "indices.arrow"}]}
        (tmp_path / "saved" / "state.json").write_text(json.dumps(state))
        with pytest.raises(InputError, match="flatten_indices"):
            open_source(tmp_path / "saved")

    def test_a_damaged_file_is_refused_and_flagged(self, tmp_path):
        (tmp_path / "a.arrow").write_bytes(b"nonsense" * 10)
        with pytest.raises(InputError, match="is no Arrow file, or damaged"):
            open_source(tmp_path / "a.arrow")
        assert fetch([row_uri(tmp_path / "a.arrow", 0)])[0].status == "unreadable"


# -- arrays and Datasets -----------------------------------------------------------------------------------------


class Samples(torch.utils.data.Dataset):
    """A map-style Dataset, as torchvision's are."""

    def __init__(self, samples, classes=None):
        self.samples = samples
        if classes:
            self.classes = classes

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, i):
        return self.samples[i]


class TestArrays:
    def test_npy_is_mapped_and_fetched(self, tmp_path):
        images = np.random.default_rng(0).integers(0, 256, (6, 4, 5, 3), dtype=np.uint8)
        np.save(tmp_path / "images.npy", images)
        items = check_reader(open_source(tmp_path / "images.npy"))
        assert np.array_equal([item.array for item in items], images)
        assert isinstance(items[0].array, np.memmap)
        check_fetch(items)
        assert fetch([row_uri(tmp_path / "images.npy", 6)])[0].reason == "the array has 6 images now"

    def test_arrays_in_memory_cannot_be_fetched(self):
        items = check_reader(open_source(np.zeros((3, 4, 5), np.uint16)))
        assert [item.uri for item in items] == ["array#0", "array#1", "array#2"]
        assert not any(item.refetchable for item in items)

    @pytest.mark.parametrize(
        ("array", "message"),
        [
            (np.zeros((4, 5), np.uint8), r"\(n, h, w\) .* got shape \(4, 5\)"),
            (np.zeros((4, 5, 3), np.uint8), r"looks like one colour image.*images\[None\]"),
            (np.zeros((0, 4, 5), np.uint8), "n > 0"),
            (np.full((2, 4, 5), 255.0), r"float pixels must lie in \[0, 1\]"),
            (np.zeros((2, 4, 5), np.int64), "got int64"),
        ],
    )
    def test_what_is_no_set_of_images_is_refused(self, array, message):
        with pytest.raises(InputError, match=message):
            open_source(array)

    def test_pickles_in_npy_are_never_loaded(self, tmp_path):
        np.save(tmp_path / "a.npy", np.array([{"a": 1}], object), allow_pickle=True)
        with pytest.raises(InputError, match=r"is no \.npy of numbers"):
            open_source(tmp_path / "a.npy")

    def test_datasets_of_any_kind_of_image(self, tmp_path):
        put(tmp_path, "1.png")
        array = np.asarray(noise((5, 4)))
        tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)
        samples = [(noise((5, 4)), 0), (array, np.int64(1)), (tensor, torch.tensor(1)), (png(noise((5, 4))), 7)]
        items = check_reader(open_source(Samples([*samples, (tmp_path / "1.png", 0)], classes=["cat", "dog"])))
        assert columns(items, "label") == [0, 1, 1, 7, 0]
        assert columns(items, "label_name") == ["cat", "dog", "dog", None, "cat"]
        assert all(np.array_equal(item.array, array) for item in items[:3])
        assert items[3].data == png(noise((5, 4)))
        assert (items[0].uri, items[0].refetchable) == ("Samples#0", False)
        assert (items[4].uri, items[4].refetchable) == (str(tmp_path / "1.png"), True)

    def test_datasets_without_labels_or_with_other_ones(self):
        assert open_source(Samples([noise((5, 4))])).schema.names == []
        assert open_source(Samples([(noise((5, 4)), {"boxes": []})])).schema.names == []
        assert open_source(Samples([(noise((5, 4)), "cat")])).schema == pa.schema({"label": pa.string()})

    def test_a_failing_sample_is_named(self):
        with pytest.raises(InputError, match=r"Samples\[0\] cannot be read as an image: float pixels"):
            open_source(Samples([torch.randn(3, 5, 4)]))
        reader = open_source(Samples([noise((5, 4)), torch.zeros(2, 2, 2, 2)]))
        with pytest.raises(InputError, match=r"Samples\[1\] cannot be read"):
            list(reader)
        with pytest.raises(InputError, match="Samples is empty"):
            open_source(Samples([]))


# -- finding the reader ------------------------------------------------------------------------------------------


class TestOpenSource:
    def test_a_missing_source_is_refused(self, tmp_path):
        with pytest.raises(InputError, match=r"no such file or folder: .*gone"):
            open_source(tmp_path / "gone")

    def test_an_unknown_kind_is_refused(self, tmp_path):
        (tmp_path / "a.docx").write_text("letter")
        with pytest.raises(InputError, match=r"no reader for .*a\.docx; needed a folder of images"):
            open_source(tmp_path / "a.docx")
        with pytest.raises(InputError, match=r"a source must be a path.*got int"):
            open_source(7)

    def test_glob_and_layout_are_for_folders(self, tmp_path):
        put(tmp_path, "a.png")
        with pytest.raises(InputError, match="glob and layout apply to a folder"):
            open_source(tmp_path / "a.png", glob="*.png")
        with pytest.raises(InputError, match="glob and layout apply to a folder"):
            open_source(np.zeros((1, 2, 2), np.uint8), layout="flat")

    def test_known_names_are_downloaded_unless_a_file_is_called_so(self, tmp_path, monkeypatch):
        from imagescape.collection.readers import download

        put(tmp_path / "downloaded", "a.png", "b.png")
        monkeypatch.setattr(download, "fetch_dataset", lambda name: tmp_path / "downloaded")
        monkeypatch.chdir(tmp_path)
        assert open_source("cifar10").total == 2
        put(tmp_path / "cifar10", "mine.png")
        assert open_source("cifar10").total == 1

    def test_home_is_expanded(self, tmp_path, monkeypatch):
        put(tmp_path / "photos", "a.png")
        monkeypatch.setenv("HOME", str(tmp_path))
        assert open_source("~/photos").total == 1
