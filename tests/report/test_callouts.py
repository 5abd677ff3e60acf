"""Notes: read, matched to pictures, placed so that no line meets a box."""

import itertools

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from imagescape.errors import InputError
from imagescape.report.callouts import Note, pick_pictures, place_callouts, read_notes
from imagescape.report.geometry import Box, segments_cross

COORDS = np.array([[0.0, 0.0], [1.0, 2.0], [3.0, 4.0]])


@pytest.fixture
def notes_file(tmp_path):
    def write(text):
        path = tmp_path / "notes.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


class TestReadNotes:
    def test_all_three_ways_to_name_a_place(self, notes_file):
        path = notes_file(
            "- {text: one, tip: [1, -2.5]}\n- {text: two, row: 1, place: [9, 9]}\n- {text: ' three ', image_id: ccc}\n"
        )
        assert read_notes(path, COORDS, ["aaa", "bbb", "ccc"]) == [
            Note("one", (1.0, -2.5)),
            Note("two", (1.0, 2.0), (9.0, 9.0), row=1),
            Note("three", (3.0, 4.0), row=2),
        ]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("text: one", "must be a list of entries.*got dict"),
            ("- just words", "note 1 of .* must have text and tip, got str"),
            ("- {tip: [1, 2]}", "note 1 of .* needs a text, got None"),
            ("- {text: a, tip: [1, 2]}\n- {text: b}", "note 2 of .* needs one of tip, row, image_id, got none"),
            ("- {text: a, tip: [1, 2], row: 0}", "got tip and row"),
            ("- {text: a, tip: [1]}", r"tip of note 1 .* two numbers \[x, y\].*got \[1\]"),
            ("- {text: a, tip: [1, .nan]}", "two numbers"),
            ("- {text: a, row: 3}", "needs a row from 0 to 2, got 3"),
            ("- {text: a, image_id: zzz}", "'zzz', which is not on this map"),
            ("- {text: a, tpi: [1, 2]}", "unknown key 'tpi'; known are text"),
            ("- {text: a", "are not YAML"),
        ],
    )
    def test_what_is_wrong_is_said(self, notes_file, text, message):
        with pytest.raises(InputError, match=message):
            read_notes(notes_file(text), COORDS, ["aaa", "bbb", "ccc"])

    def test_a_missing_file(self, tmp_path):
        with pytest.raises(InputError, match="cannot read the notes"):
            read_notes(tmp_path / "none.yaml", COORDS)


class TestPictures:
    COORDS = np.stack([np.arange(100.0), np.zeros(100)], axis=1)

    def test_three_of_the_fifteen_nearest_with_a_picture(self):
        has_picture = np.arange(100) % 2 == 0
        seen = set()
        for seed in range(60):
            rows = pick_pictures(Note("a", (50.0, 1.0)), self.COORDS, has_picture, seed=seed)
            assert len(set(rows)) == 3
            seen.update(rows)
        assert seen == set(range(36, 65, 2))  # the fifteen even rows around 50

    def test_a_named_image_comes_first_and_only_once(self):
        for seed in range(20):
            rows = pick_pictures(Note("a", (50.0, 0.0), row=50), self.COORDS, np.ones(100, bool), seed=seed)
            assert rows[0] == 50
            assert len(set(rows)) == 3

    def test_repeatable(self):
        note, all_rows = Note("a", (3.0, 0.0)), np.ones(100, bool)
        assert pick_pictures(note, self.COORDS, all_rows) == pick_pictures(note, self.COORDS, all_rows)

    def test_fewer_pictures_than_three(self):
        assert pick_pictures(Note("a", (0.0, 0.0)), self.COORDS, np.arange(100) == 4) == [4]
        assert pick_pictures(Note("a", (0.0, 0.0)), self.COORDS, np.zeros(100, bool)) == []


INSIDE = Box(0, 0, 100, 80)


class TestPlacement:
    @given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 80), st.floats(6, 14)), min_size=1, max_size=9))
    def test_boxes_stand_beside_the_map_and_no_line_meets_one(self, tips):
        notes = [Note(f"note {i}", (x, y)) for i, (x, y, _) in enumerate(tips)]
        sizes = [(20.0, height) for *_, height in tips]
        callouts = place_callouts(notes, sizes, INSIDE, 2.0, 1.0)
        boxes = [callout.box for callout in callouts]
        assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
        assert not any(box.overlaps(INSIDE) for box in boxes)
        for note, callout in zip(notes, callouts, strict=True):
            assert not any(box.grown(-1e-6).hit_by(callout.start, note.tip) for box in boxes)

    @given(st.floats(-30, 130), st.floats(-20, 100))
    def test_a_box_placed_by_hand_stands_there(self, x, y):
        note = Note("a", (50.0, 40.0), (x, y))
        assume(not Box.around((x, y), 20, 10).grown(0.01).holds(Box(50, 40, 50, 40)))
        (callout,) = place_callouts([note], [(20, 10)], INSIDE, 2, 1)
        assert callout.box == Box.around((x, y), 20, 10)
        assert not callout.box.hit_by(callout.start, note.tip)

    def test_lines_of_one_side_do_not_cross(self):
        notes = [Note("lower", (95.0, 78.0)), Note("higher", (60.0, 78.5))]
        one, other = place_callouts(notes, [(20, 30)] * 2, INSIDE, 2, 1)
        assert min(one.box.x0, other.box.x0) > 100
        assert not segments_cross(one.start, notes[0].tip, other.start, notes[1].tip)
        assert one.box.y0 > other.box.y1  # by the heights of their tips alone they would cross

    def test_by_hand_and_in_the_way(self):
        hand = Note("by hand", (50.0, 70.0), (80.0, 40.0))
        with pytest.raises(InputError, match="line of note 2 runs through the box of note 1"):
            place_callouts([hand, Note("a", (60.0, 40.0))], [(20, 10)] * 2, INSIDE, 2, 1)
        with pytest.raises(InputError, match="boxes of notes 1 and 2 overlap"):
            place_callouts([hand, hand], [(20, 10)] * 2, INSIDE, 2, 1)
        with pytest.raises(InputError, match="box of note 1 covers its own tip"):
            place_callouts([Note("a", (50.0, 40.0), (51.0, 41.0))], [(20, 10)], INSIDE, 2, 1)

    def test_too_many(self):
        notes = [Note(str(i), (float(i), 40.0)) for i in range(20)]
        with pytest.raises(InputError, match="20 notes do not fit beside the map"):
            place_callouts(notes, [(20, 10)] * 20, INSIDE, 2, 1)
