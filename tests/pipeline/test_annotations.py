"""Acts of persons: what is written, that undo is exact, and that others are not overwritten."""

import json
import threading
import time

import lance
import numpy as np
import pyarrow as pa
import pytest
from lance.commit import CommitConflictError

from imagescape.collection import store
from imagescape.collection.clusterings import cluster_labels
from imagescape.collection.store import Collection
from imagescape.errors import CheckpointError, CollectionError, InputError
from imagescape.pipeline.annotations import Annotations, ChangedSince
from imagescape.pipeline.journal import Journal
from imagescape.pipeline.naming import name_clusters, naming_of, person_names

COUNT = 12
IDS = [f"{number:016x}" for number in range(COUNT)]


@pytest.fixture
def scape(tmp_path):
    scape = Collection.create(tmp_path / "c.scape")
    scape.append(
        pa.table(
            {
                "image_id": IDS,
                "status": ["ok"] * COUNT,
                "label": ["cat", "dog"] * (COUNT // 2),
                "year": pa.array(range(COUNT), pa.int32()),
                "good": [True, None] * (COUNT // 2),
                "cluster_C": pa.array([number % 3 - 1 for number in range(COUNT)], pa.int64()),
            }
        )
    )
    return scape


@pytest.fixture
def notes(scape):
    return Annotations(scape)


def values(scape, column):
    return scape.read([column])[column].to_pylist()


def everything(scape):
    return scape.read().to_pylist()


class TestActs:
    def test_tags_are_sorted_lists_and_each_is_there_once(self, scape, notes):
        notes.tag(IDS[:2], "lynx")
        act = notes.tag(IDS[1:3], "  ash ")
        assert (act.number, act.text, act.changed) == (2, "tag 2 images 'ash'", 2)
        assert notes.tag([IDS[1]], "ash") is None
        assert values(scape, "tags") == [["lynx"], ["ash", "lynx"], ["ash"]] + [None] * (COUNT - 3)
        assert scape.schema.field("tags").type == pa.list_(pa.string())
        notes.untag(IDS[:2], "lynx")
        assert values(scape, "tags")[:3] == [None, ["ash"], ["ash"]]
        assert notes.untag(IDS, "nothing") is None
        assert scape.count("array_has(tags, 'ash')") == 2

    def test_marks_and_notes(self, scape, notes):
        notes.mark(IDS[:3], "keep")
        notes.mark(IDS[2:4], "remove")
        notes.mark([IDS[0]], None)
        assert values(scape, "mark")[:5] == [None, "keep", "remove", "remove", None]
        notes.note([IDS[4]], "two\r\nlines ")
        assert values(scape, "note")[4] == "two\nlines"
        notes.note([IDS[4]], "")
        assert values(scape, "note")[4] is None
        assert len(scape) == COUNT  # a mark removes nothing

    def test_classes_of_the_users_own(self, scape, notes):
        notes.set_class(IDS[:2], "label", "lynx")
        notes.set_class([IDS[5]], "year", 2000)
        notes.set_class([IDS[1]], "good", False)
        notes.set_class([IDS[0]], "good", None)
        assert values(scape, "label")[:3] == ["lynx", "lynx", "cat"]
        assert values(scape, "year")[5] == 2000
        assert values(scape, "good")[:3] == [None, False, True]
        assert scape.schema.field("year").type == pa.int32()

    @pytest.mark.parametrize(
        ("column", "value", "message"),
        [
            ("year", "old", "holds int32, got 'old'"),
            ("label", 3, "holds string, got 3"),
            ("year", True, "holds int32, got True"),
            ("good", 1, "holds bool, got 1"),
            ("status", "ok", "imagescape made"),
            ("cluster_C", 1, "imagescape made"),
            ("nothing", "x", "no column of classes is called 'nothing'"),
            ("year", 2**40, "cannot be stored"),
        ],
    )
    def test_what_cannot_be_set(self, scape, notes, column, value, message):
        before = everything(scape)
        with pytest.raises(InputError, match=message):
            notes.set_class(IDS[:1], column, value)
        assert everything(scape) == before
        assert notes.last() is None  # an act that failed is none

    @pytest.mark.parametrize(
        ("act", "message"),
        [
            (lambda notes: notes.tag(IDS[:1], " "), "must not be empty"),
            (lambda notes: notes.tag(IDS[:1], "two\nlines"), "is one line"),
            (lambda notes: notes.tag(IDS[:1], "x" * 2001), "at most 2000 signs"),
            (lambda notes: notes.tag(IDS[:1], "bell\a"), "cannot be shown"),
            (lambda notes: notes.tag(["f" * 16], "cat"), "not in the collection, as 'ffffffffffffffff'"),
            (lambda notes: notes.tag([IDS[0], IDS[0]], "cat"), "twice"),
            (lambda notes: notes.mark(IDS[:1], "burn"), "keep, remove"),
            (lambda notes: notes.note(IDS[:1], 3), "is a text"),
        ],
    )
    def test_nonsense_changes_nothing(self, scape, notes, act, message):
        version = scape.version
        with pytest.raises(InputError, match=message):
            act(notes)
        assert scape.version == version
        assert notes.latest() == []

    def test_texts_are_texts(self, scape, notes):
        for tag in ("<script>alert(1)</script>", "{}", "{0.__class__}", "%s", "'; DROP", "日本", "👩‍🔬"):
            assert notes.tag([IDS[0]], tag).text == f"tag 1 image '{tag}'"
            assert tag in values(scape, "tags")[0]
            notes.undo()
        assert values(scape, "tags")[0] is None

    def test_a_column_of_another_kind_is_not_overwritten(self, scape, notes):
        scape.add_columns(IDS, {"tags": ["mine"] * COUNT})
        with pytest.raises(InputError, match=r"column 'tags' .* holds string"):
            notes.tag(IDS[:1], "cat")
        assert values(scape, "tags") == ["mine"] * COUNT


class TestUndo:
    def test_a_row_of_acts_taken_back_and_done_again(self, scape, notes):
        states, acts = [everything(scape)], []
        rng = np.random.default_rng(0)
        notes.tag(IDS, "seen")  # so that all columns are there from the start
        notes.mark(IDS, "keep")
        notes.note(IDS, "a note")
        states = [everything(scape)]
        for number in range(14):
            some = [IDS[row] for row in np.flatnonzero(rng.random(COUNT) < 0.5)] or IDS[:1]
            kind = number % 5
            acts.append(
                notes.tag(some, f"tag {number}")
                if kind == 0
                else notes.untag(some, "seen")
                if kind == 1
                else notes.mark(some, "remove")
                if kind == 2
                else notes.note(some, f"note {number}")
                if kind == 3
                else notes.set_class(some, "label", f"label {number}")
            )
            if acts[-1] is None:
                acts.pop()
            else:
                states.append(everything(scape))
        assert len(acts) > 10
        for act, state in zip(acts[::-1], states[-2::-1], strict=True):
            assert notes.last() == act
            assert notes.undo() == act
            assert everything(scape) == state
        for act, state in zip(acts, states[1:], strict=True):
            assert notes.redo() == act
            assert everything(scape) == state
        assert notes.redo() is None

    def test_nothing_to_undo(self, notes):
        assert notes.undo() is None
        assert notes.redo() is None

    def test_a_new_act_forgets_what_was_undone(self, scape, notes):
        notes.tag(IDS[:1], "a")
        notes.tag(IDS[:1], "b")
        notes.undo()
        notes.tag(IDS[:1], "c")
        assert notes.redo() is None
        assert notes.undo().text == "tag 1 image 'c'"
        assert notes.undo().text == "tag 1 image 'a'"
        assert [(act.number, act.undone) for act in notes.latest()] == [(5 - 1, True), (2, True), (1, True)]

    def test_it_outlives_the_process(self, scape, notes):
        notes.mark(IDS[:4], "remove")
        again = Annotations(Collection.open(scape.path))
        assert again.last().text == "mark 4 images 'remove'"
        again.undo()
        assert values(scape, "mark") == [None] * COUNT
        assert notes.last() is None  # and the first one sees that
        assert notes.redo().changed == 4

    def test_what_others_wrote_since_is_not_overwritten(self, scape, notes):
        notes.mark(IDS[:4], "remove")
        scape.update([IDS[2]], {"mark": ["keep"]})
        before = everything(scape)
        with pytest.raises(ChangedSince, match="1 image of 'mark 4 images 'remove'' were changed"):
            notes.undo()
        assert everything(scape) == before
        assert notes.last().number == 1
        scape.update([IDS[2]], {"mark": ["remove"]})
        notes.undo()
        assert values(scape, "mark") == [None] * COUNT

    def test_values_that_others_wrote_elsewhere_stay(self, scape, notes):
        notes.mark(IDS[:2], "remove")
        scape.update([IDS[7]], {"mark": ["keep"]})
        notes.undo()
        assert values(scape, "mark") == [None] * 7 + ["keep"] + [None] * 4

    def test_images_that_are_gone_are_passed_over(self, scape, notes):
        notes.tag(IDS[:3], "cat")
        scape.delete([IDS[1]])
        notes.undo()
        assert values(scape, "tags") == [None] * (COUNT - 1)

    def test_a_column_that_was_dropped(self, scape, notes):
        notes.tag(IDS[:3], "cat")
        scape.drop_columns(["tags"])
        with pytest.raises(ChangedSince, match="the column 'tags' is gone"):
            notes.undo()


class TestNames:
    def test_a_cluster_is_renamed_for_every_reader(self, scape, notes):
        act = notes.rename("C", 1, "lynx")
        assert act.text == "name cluster 1 of C 'lynx'"
        labels, _ = cluster_labels(scape, "C")
        assert values(scape, "cluster_C_name") == ["lynx" if one == 1 else None for one in labels]
        assert {group.id: group.name for group in naming_of(scape, "C").groups} == {0: None, 1: "lynx"}
        assert notes.rename("C", 1, "lynx") is None
        notes.rename("C", 1, "")
        assert person_names(scape, "C") == {0: None, 1: ""}
        notes.rename("C", 1, None)
        assert person_names(scape, "C") == {0: None, 1: None}

    def test_undo_gives_back_what_was_said(self, scape, notes):
        name_clusters(scape, "C", names={"0": "ash"})
        notes.rename("C", 0, "oak")
        notes.rename("C", 1, "elm")
        notes.undo()
        assert person_names(scape, "C") == {0: "oak", 1: None}
        notes.undo()
        assert person_names(scape, "C") == {0: "ash", 1: None}
        assert set(values(scape, "cluster_C_name")) == {"ash", None}
        notes.redo()
        assert person_names(scape, "C") == {0: "oak", 1: None}

    def test_what_others_named_since_stays(self, scape, notes):
        notes.rename("C", 0, "oak")
        name_clusters(scape, "C", names={"0": "birch"})
        with pytest.raises(ChangedSince, match="otherwise since"):
            notes.undo()
        assert person_names(scape, "C")[0] == "birch"

    @pytest.mark.parametrize(
        ("clustering", "cluster", "name", "message"),
        [
            ("D", 0, "x", "no clustering is called 'D'"),
            ("C", 7, "x", "has no cluster 7"),
            ("C", -1, "x", "has no cluster -1"),
            ("C", 0, "bell\a", "cannot be shown"),
            ("C", 0, "x" * 2001, "at most 2000"),
        ],
    )
    def test_nonsense(self, notes, clustering, cluster, name, message):
        with pytest.raises(InputError, match=message):
            notes.rename(clustering, cluster, name)
        assert notes.last() is None


class TestFailures:
    def test_an_act_that_the_table_refuses_is_none(self, scape, notes, monkeypatch):
        notes.tag(IDS[:1], "first")
        notes.tag(IDS[:1], "second")
        notes.undo()

        def full(*arguments):
            raise CollectionError("the disk is full")

        with monkeypatch.context() as patch:
            patch.setattr("imagescape.collection.store.rewrite_rows", full)
            for act in (lambda: notes.tag(IDS[:2], "cat"), notes.undo, notes.redo):
                with pytest.raises(CollectionError, match="full"):
                    act()
        for one in (notes, Annotations(scape)):
            assert [(act.text, act.undone) for act in one.latest()] == [
                ("tag 1 image 'second'", True),
                ("tag 1 image 'first'", False),
            ]
            assert one.last().text == "tag 1 image 'first'"
            assert one.last_undone().text == "tag 1 image 'second'"
        notes.redo()
        assert values(scape, "tags")[0] == ["first", "second"]

    def test_killed_between_the_journal_and_the_table(self, scape, notes, monkeypatch):
        """What a process leaves that ends there is an act that changed nothing; taking it back changes nothing."""
        notes.tag(IDS[:1], "first")
        before = everything(scape)

        def end(*arguments):
            raise SystemExit

        with monkeypatch.context() as patch:
            patch.setattr("imagescape.collection.store.rewrite_rows", end)
            with pytest.raises(SystemExit):
                notes.tag(IDS[:4], "cat")
        again = Annotations(scape)
        assert again.last().text == "tag 4 images 'cat'"
        assert again.undo().number == 2
        assert everything(scape) == before
        assert again.undo().text == "tag 1 image 'first'"

    def test_a_line_that_was_cut_is_no_act(self, scape, notes):
        notes.tag(IDS[:1], "first")
        path = scape.path / "runs" / "explore" / "acts.jsonl"
        whole = path.read_bytes()
        path.write_bytes(whole + whole[: len(whole) // 2])
        again = Annotations(scape)
        assert again.last().number == 1
        assert again.tag(IDS[:1], "second").number == 2
        assert [json.loads(line)["number"] for line in path.read_text().splitlines()] == [1, 2]

    def test_a_damaged_journal_is_told(self, scape, notes):
        notes.tag(IDS[:1], "first")
        path = scape.path / "runs" / "explore" / "acts.jsonl"
        path.write_bytes(b"nonsense\n" + path.read_bytes())
        with pytest.raises(CheckpointError, match=r"acts.jsonl' is damaged"):
            Annotations(scape).last()


class TestTogether:
    def test_a_writer_that_ignores_the_lock_between_the_look_and_the_change(self, scape, notes, monkeypatch):
        """What was there before the act is what undo gives back, also where it changed in the last moment."""
        real, calls = store.rewrite_rows, []

        def interrupted(dataset, table):
            calls.append(1)
            if len(calls) == 1:
                lance.dataset(str(scape.path / "data.lance")).update({"label": "'ash'"}, where=f"image_id = '{IDS[0]}'")
                raise CommitConflictError("another writer")
            return real(dataset, table)

        monkeypatch.setattr(store, "rewrite_rows", interrupted)
        act = notes.set_class(IDS[:2], "label", "lynx")
        assert len(calls) == 2
        assert (notes.last(), len(notes.latest())) == (act, 1)
        notes.undo()
        table = scape.read(["image_id", "label"]).to_pylist()
        assert {row["image_id"]: row["label"] for row in table}[IDS[0]] == "ash"

    def test_many_threads_and_two_holders(self, scape):
        """Every act is in the table and in the journal, whoever did it, and all can be taken back."""
        holders = [Annotations(scape), Annotations(Collection.open(scape.path))]
        before = everything(scape)
        errors = []

        def work(number):
            try:
                for turn in range(3):
                    holders[number % 2].tag(IDS[number % 3 :: 3], f"{number} {turn}")
            except Exception as error:
                errors.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors
        assert [act.number for act in holders[0].latest()] == list(range(18, 0, -1))
        for row, tags in enumerate(values(scape, "tags")):
            assert tags == sorted(
                f"{number} {turn}" for number in range(6) if number % 3 == row % 3 for turn in range(3)
            )
        while holders[1].undo():
            pass
        assert [{**row, "tags": None} for row in before] == everything(scape)

    def test_a_writer_of_another_column_does_not_disturb(self, scape, notes):
        stop = threading.Event()

        def writer():
            number = 0
            while not stop.is_set():
                scape.update([IDS[3]], {"year": [number]})
                number += 1
                time.sleep(0.02)  # or the others never get the lock

        thread = threading.Thread(target=writer)
        thread.start()
        try:
            for number in range(5):
                notes.tag(IDS[:6], f"t{number}")
        finally:
            stop.set()
            thread.join()
        assert values(scape, "tags")[:7] == [[f"t{number}" for number in range(5)]] * 6 + [None]


def test_a_journal_reads_only_what_is_new(tmp_path):
    one, other = Journal(tmp_path / "acts.jsonl"), Journal(tmp_path / "acts.jsonl")
    assert one.latest(5) == []
    first = one.add("first", 1, {"column": "tags", "changes": []})
    assert other.latest(5) == [first]
    second = other.add("second", 2, {"column": "mark", "changes": [1]})
    assert one.last() == second
    assert one.details(2)["changes"] == [1]
    assert one.latest(1) == [second]
