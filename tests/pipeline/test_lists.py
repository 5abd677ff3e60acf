"""What to keep, as lists and as copies: right images, originals untouched, nothing overwritten, killed runs go on."""

import csv
import json
import os
import shutil

import numpy as np
import pyarrow as pa
import pytest
from test_auditing import picture, plant, stem

from imagescape.collection.ingest import ingest
from imagescape.collection.store import Collection
from imagescape.errors import InputError
from imagescape.pipeline import lists
from imagescape.pipeline.audit_results import write_columns
from imagescape.pipeline.auditing import audit
from imagescape.pipeline.lists import choose, copy_images, write_list


@pytest.fixture
def images(tmp_path):
    return plant(tmp_path / "images")


@pytest.fixture
def scape(images, tmp_path):
    ingest([images], tmp_path / "c.scape")
    scape = Collection.open(tmp_path / "c.scape")
    write_columns(scape, audit(scape))
    return scape


def stems(rows):
    return [stem(uri) for uri in rows["uri"].to_pylist()]


def why(choice):
    return dict(zip(stems(choice.removed), choice.removed["reason"].to_pylist(), strict=True))


def snapshot(folder):
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


class TestChoice:
    def test_duplicates_and_broken_images_go(self, scape):
        choice = choose(scape)
        assert set(why(choice)) - {"00", "copy-of-00", "01", "01-other-file"} == {"02-small", "03-pressed", "broken"}
        assert why(choice)["broken"].startswith("cannot be used: ")
        assert why(choice)["02-small"].startswith("duplicate of ")
        assert len(choice.kept) + len(choice.removed) == len(scape)
        assert len(why(choice)) == 5

    def test_issues_go_where_that_is_asked(self, scape):
        assert "dark" in stems(choose(scape).kept)
        assert why(choose(scape, ["dark"]))["dark"] == "dark"

    def test_issues_that_were_not_looked_for(self, scape):
        with pytest.raises(InputError, match=r"looked for dark, .* and not for 'leak'"):
            choose(scape, ["leak"])

    def test_a_person_has_the_last_word(self, scape):
        rows = {stem(row["uri"]): row["image_id"] for row in scape.read(["image_id", "uri"]).to_pylist()}
        marked = ["02-small", "05", "broken"]
        scape.add_columns([rows[one] for one in marked], {"mark": ["keep", "remove", "keep"]})
        choice = choose(scape)
        assert "02-small" in stems(choice.kept)
        assert why(choice)["05"] == "marked by a person"
        assert "broken" in why(choice)  # there is nothing to keep

    def test_before_any_audit(self, images, tmp_path):
        ingest([images], tmp_path / "new.scape")
        with pytest.raises(InputError, match=r"first run: imagescape audit new\.scape"):
            choose(Collection.open(tmp_path / "new.scape"))

    def test_images_added_since_are_kept(self, scape, tmp_path):
        (tmp_path / "more").mkdir()
        picture(70).save(tmp_path / "more" / "70.png")
        ingest([tmp_path / "more"], scape.path)
        assert "70" in stems(choose(scape).kept)


class TestLists:
    def test_every_kind_names_the_same_images(self, scape, tmp_path):
        removed = choose(scape).removed
        for ending in ("csv", "json", "txt"):
            write_list(removed, tmp_path / f"r.{ending}")
        with (tmp_path / "r.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert rows == json.loads((tmp_path / "r.json").read_text()) == removed.to_pylist()
        assert (tmp_path / "r.txt").read_text().splitlines() == removed["uri"].to_pylist()

    def test_names_with_line_breaks_are_refused_as_lines(self, tmp_path):
        rows = pa.table({"image_id": ["0"], "uri": ["/a\nb"], "reason": [""]})
        with pytest.raises(InputError, match=r"cannot hold the name '/a\\nb'"):
            write_list(rows, tmp_path / "r.txt")
        write_list(rows, tmp_path / "r.csv")

    def test_where_no_list_can_be(self, scape, tmp_path):
        kept = choose(scape).kept
        with pytest.raises(InputError, match=r"ends in \.csv, \.json, \.txt"):
            write_list(kept, tmp_path / "list.xls")
        with pytest.raises(InputError, match="does not exist"):
            write_list(kept, tmp_path / "none" / "list.csv")


class TestCopies:
    def test_nothing_happens_unless_it_is_asked_for(self, scape, images, tmp_path):
        before = snapshot(images)
        said = copy_images(scape, choose(scape).kept, tmp_path / "clean")
        assert (said.is_done, said.images) == (False, 41)
        assert "nothing was done" in str(said)
        assert not (tmp_path / "clean").exists()
        assert snapshot(images) == before

    @pytest.mark.parametrize("link", [False, True])
    def test_files_are_those_of_the_source(self, scape, images, tmp_path, link):
        before, kept = snapshot(images), choose(scape).kept
        done = copy_images(scape, kept, tmp_path / "clean", apply=True, link=link)
        assert (done.is_done, done.images, done.failed) == (True, 41, {})
        copies = {path.name: path for path in (tmp_path / "clean").iterdir()}
        assert {name for name in copies if name != "images.csv"} == {uri.rsplit("/", 1)[1] for uri in
                                                                     kept["uri"].to_pylist()}  # fmt: skip
        assert all(path.read_bytes() == (images / name).read_bytes() for name, path in copies.items()
                   if name != "images.csv")  # fmt: skip
        assert os.path.samefile(copies["05.png"], images / "05.png") == link
        assert snapshot(images) == before
        with (tmp_path / "clean" / "images.csv").open(newline="") as file:
            listed = {row["image_id"]: row["file"] for row in csv.DictReader(file)}
        ids = dict(zip(kept["image_id"].to_pylist(), kept["uri"].to_pylist(), strict=True))
        assert {one: uri.rsplit("/", 1)[1] for one, uri in ids.items()} == listed

    def test_a_killed_run_goes_on(self, scape, tmp_path, monkeypatch):
        kept, real, put = choose(scape).kept, lists._put, []

        def killed(data, path, source):
            if len(put) == 7:
                raise KeyboardInterrupt
            put.append(path.name)
            real(data, path, source)

        monkeypatch.setattr(lists, "_put", killed)
        with pytest.raises(KeyboardInterrupt):
            copy_images(scape, kept, tmp_path / "clean", apply=True)
        monkeypatch.setattr(lists, "_put", lambda *rest: put.append(rest[1].name) or real(*rest))
        done = copy_images(scape, kept, tmp_path / "clean", apply=True)
        assert len(put) == len(set(put)) == done.images == 41

    def test_a_folder_with_something_else_is_refused(self, scape, tmp_path):
        (tmp_path / "clean").mkdir()
        (tmp_path / "clean" / "mine.txt").write_text("mine")
        with pytest.raises(InputError, match="is not empty, and holds other images"):
            copy_images(scape, choose(scape).kept, tmp_path / "clean", apply=True)
        assert [path.name for path in (tmp_path / "clean").iterdir()] == ["mine.txt"]

    def test_what_is_gone_is_told(self, scape, images, tmp_path):
        kept = choose(scape).kept
        (images / "05.png").unlink()
        shutil.copy(images / "06.png", images / "07.png")
        done = copy_images(scape, kept, tmp_path / "clean", apply=True)
        assert done.images == 39
        assert len(done.failed) == 2
        assert "2 could not be had" in str(done)
        assert not (tmp_path / "clean" / "07.png").exists()

    def test_names_that_are_one_where_case_is_not_told(self, tmp_path):
        for number, name in enumerate(("a/X.png", "b/x.png", "a/x.PNG")):
            (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
            picture(number).save(tmp_path / "in" / name)
        ingest([tmp_path / "in"], tmp_path / "c.scape")
        scape = Collection.open(tmp_path / "c.scape")
        copy_images(scape, scape.read(["image_id", "uri"]), tmp_path / "out", apply=True)
        found = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.[pP]*"))
        assert len(found) == 3
        assert len({name.casefold() for name in found}) == 3
        assert "b/x.png" in found

    def test_images_of_memory_get_their_id_as_a_name(self, tmp_path):
        pixels = np.random.default_rng(0).integers(0, 256, (3, 9, 8, 3), np.uint8)
        ingest([pixels], tmp_path / "c.scape")
        scape = Collection.open(tmp_path / "c.scape")
        rows = scape.read(["image_id", "uri"])
        copy_images(scape, rows, tmp_path / "out", apply=True)
        assert {path.stem for path in (tmp_path / "out").glob("*.png")} == set(rows["image_id"].to_pylist())
