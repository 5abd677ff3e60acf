"""The page: everything is in it, everything comes back out, and no name can become markup or code."""

import base64
import hashlib
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from imagescape.errors import InputError
from imagescape.report.html_map import MAX_LEGEND_CLASSES, html_map, script_json, write_html_map

EVIL = "</script><img src=x onerror=\"document.title='broken in'\"><!-- \u2028 & {{script}}"


class Page(HTMLParser):
    """Tags in order, and the text of the element with id 'data'."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self.attributes = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes.append(dict(attributes))
        self.texts.append("")

    def handle_data(self, data):
        if self.texts:
            self.texts[-1] += data

    def text_of(self, **wanted):
        return next(t for t, a in zip(self.texts, self.attributes, strict=True) if wanted.items() <= a.items())


def data_of(page):
    return json.loads(Page(page).text_of(id="data"))


def array(text, dtype):
    return np.frombuffer(base64.b64decode(text), dtype)


def sprite(data, row):
    sprites = data["sprites"]
    place, size = array(sprites["index"], "<i4")[row], array(sprites["sizes"], np.uint8).reshape(-1, 2)[row]
    each = sprites["columns"] ** 2
    header, _, body = sprites["sheets"][place // each].partition(",")
    assert header == "data:image/webp;base64"
    x, y = place % sprites["columns"] * sprites["tile"], place % each // sprites["columns"] * sprites["tile"]
    return Image.open(io.BytesIO(base64.b64decode(body))).convert("RGB").crop((x, y, x + size[0], y + size[1]))


def test_everything_comes_back_out(small_map):
    coords, names, thumbnails = small_map
    values = np.where(np.arange(300) == 4, np.nan, coords[:, 1])
    files = [f"{row}.jpg" for row in range(300)]
    data = data_of(html_map(coords, names=files, thumbnails=thumbnails, columns={"animal": names, "height": values}))
    np.testing.assert_array_equal(array(data["coords"], "<f4").reshape(-1, 2), coords.astype("<f4"))
    assert data["names"] == files
    animal, height = data["columns"]
    codes = array(animal["codes"], "<i4")
    assert [None if code < 0 else animal["names"][code] for code in codes] == names
    assert animal["missing"] == 1
    assert animal["counts"] == [names.count(name) for name in animal["names"]]
    np.testing.assert_array_equal(array(height["values"], "<f8"), values)
    assert data["color_by"] == "animal"


def test_each_row_has_its_own_picture(small_map):
    coords, _, thumbnails = small_map
    data = data_of(html_map(coords, thumbnails=thumbnails))
    assert array(data["sprites"]["index"], "<i4")[7] == -1
    for row in range(0, 300, 23):
        original = Image.open(io.BytesIO(thumbnails[row])).convert("RGB")
        shown = sprite(data, row)
        assert shown.size == original.size
        apart = np.abs(np.asarray(shown, int) - np.asarray(original, int))[4:-4, 4:-4].mean()
        assert apart < 12, row  # lossy; another row's colour is about 85 away


def test_pictures_that_need_several_sheets(picture):
    rng = np.random.default_rng(0)
    colors = rng.integers(0, 256, (40, 3))
    thumbnails = [picture(colors[row % 40], (8, 8)) for row in range(1100)]
    data = data_of(html_map(rng.normal(size=(1100, 2)), thumbnails=thumbnails))
    assert len(data["sprites"]["sheets"]) == 2
    for row in (0, 500, 1099):
        assert np.abs(np.asarray(sprite(data, row), int)[2:-2, 2:-2].mean((0, 1)) - colors[row % 40]).max() < 40


def test_no_name_can_leave_its_place():
    plain = Page(html_map(np.zeros((2, 2)), names=["a", "b"], columns={"c": ["x", "y"]}, title="t"))
    page = html_map(np.zeros((2, 2)), names=[EVIL, "b"], columns={EVIL: [EVIL, "y"]}, title=EVIL)
    evil = Page(page)
    assert evil.tags == plain.tags
    data = data_of(page)
    assert data["names"][0] == EVIL
    assert data["columns"][0]["name"] == EVIL
    assert evil.text_of(lang="en") is not None
    assert EVIL.strip() in [text.strip() for text in evil.texts]  # the title, as text


def test_script_json_holds_no_character_of_markup():
    text = script_json({"a": EVIL, "lone": "\ud800"})
    assert not set(text) & set("<>&\u2028\u2029")
    assert json.loads(text) == {"a": EVIL, "lone": "\ud800"}
    text.encode("utf-8")


def test_the_page_loads_nothing_and_runs_its_own_script_only(small_map):
    page = html_map(small_map[0], thumbnails=small_map[2])
    script = page[page.rindex("<script>") + 8 : page.rindex("</script>")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in page
    assert not re.search(r"https?://|//cdn|@import|url\(", page)
    assert "innerHTML" not in script
    assert "{{" not in page


def test_the_same_map_gives_the_same_page(small_map, tmp_path):
    coords, names, thumbnails = small_map
    first = html_map(coords, thumbnails=thumbnails, columns={"animal": names})
    path = write_html_map(tmp_path / "map.html", coords, thumbnails=thumbnails, columns={"animal": names})
    assert path.read_text(encoding="utf-8") == first


def test_text_with_too_many_values_is_shown_but_not_colored_by():
    count = MAX_LEGEND_CLASSES + 1
    data = data_of(html_map(np.zeros((count, 2)), columns={"uri": [None, *map(str, range(1, count))]}))
    assert data["columns"][0]["kind"] == "text"
    assert data["columns"][0]["values"][:2] == [None, "1"]
    assert data["color_by"] == ""
    assert data["sprites"] is None


def test_what_cannot_be_shown(tmp_path):
    with pytest.raises(InputError, match="names must have one entry an image, got 1 for 2"):
        html_map(np.zeros((2, 2)), names=["a"])
    with pytest.raises(InputError, match="one of c, got 'd'"):
        html_map(np.zeros((2, 2)), columns={"c": ["x", "y"]}, color_by="d")
    with pytest.raises(InputError, match="finite"):
        html_map(np.full((1, 2), np.inf))
    with pytest.raises(InputError, match="does not exist"):
        write_html_map(tmp_path / "none" / "map.html", np.zeros((1, 2)))


def test_a_browser_shows_it(small_map, tmp_path):
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("needs chromium on the PATH")
    coords, names, thumbnails = small_map
    files = [EVIL] + [f"{row}.jpg" for row in range(1, 300)]
    path = write_html_map(
        tmp_path / "map.html", coords, names=files, thumbnails=thumbnails, columns={"animal": names}, title="A map"
    )
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
    ]
    flags += ["--disable-sync", f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=3000", "--dump-dom"]
    address = f"{path.as_uri()}#pick=0&find=birds"
    done = subprocess.run([browser, *flags, address], capture_output=True, text=True, timeout=60, check=False)
    page = Page(done.stdout)
    assert 'data-ready="300"' in done.stdout, done.stderr[-2000:]
    assert page.text_of(id="name").strip() == EVIL
    assert "<title>A map</title>" in done.stdout
    matches = sum(name is not None and "birds" in name for name in names)
    assert page.text_of(id="found").strip() == f"{matches} matches"
    assert f"{names.count('fish1')}" in page.texts
