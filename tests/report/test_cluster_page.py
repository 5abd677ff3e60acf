"""The page of a clustering: names are text, nothing is loaded, everything that was given is there."""

import io
import re
from html.parser import HTMLParser

import pytest
from PIL import Image

from imagescape.errors import InputError
from imagescape.report.cluster_page import Card, write_cluster_page
from imagescape.report.gallery import Fact, Panel, Picture, Row

EVIL = '<script>alert("1")</script>'
TAGS = {
    "html", "head", "meta", "title", "style", "body", "header", "h1", "h2", "h3", "h4", "p", "nav", "a", "main",
    "section", "dl", "div", "dt", "dd", "b", "small", "ul", "li", "figure", "img", "article", "span", "ol",
}  # fmt: skip


def picture(color, side=8):
    out = io.BytesIO()
    Image.new("RGB", (side, side), color).save(out, "PNG")
    return out.getvalue()


class Page(HTMLParser):
    """What a browser would find."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self.images, self.ids, self.links = set(), [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        found = dict(attributes)
        assert not [name for name in found if name.startswith("on")]
        self.ids += [found["id"]] if "id" in found else []
        if tag == "img":
            self.images.append(found["src"])
        if tag == "a":
            self.links.append(found["href"])

    def handle_data(self, data):
        self.words.append(data)


def written(path, **given):
    every = {"title": "t", "about": "a", "facts": [], "notes": [], "panels": [], "cards": []} | given
    text = write_cluster_page(path, **every).read_text(encoding="utf-8")
    return text, Page(text)


def test_everything_is_there(tmp_path):
    row = Row("nearest", [Picture("a.png", picture("red")), Picture("b.png", None)])
    first = Row("prototype", [Picture("p.png", picture("blue", 300))], is_large=True)
    text, page = written(
        tmp_path / "r.html",
        title="Twelve groups",
        facts=[Fact("images", "1,234", "all of them")],
        notes=["no map"],
        panels=[Panel("sizes", "Sizes", "how large", picture("white"))],
        cards=[Card(3, "lynx", 1, "wide", [first, row]), Card(4, "", 20, "", []), Card(-1, "", 5, "", [row])],
    )
    words = " ".join(page.words)
    for one in ("Twelve groups", "1,234", "all of them", "no map", "how large", "3 · lynx", "1 image", "cluster 4",
                "20 images", "noise", "wide", "no picture"):  # fmt: skip
        assert one in words
    assert [re.match(r"data:image/(\w+)", one)[1] for one in page.images] == ["png", "webp", "webp", "webp"]
    assert {"cluster3", "cluster4", "cluster-1", "sizes"} <= set(page.ids)
    assert {link.removeprefix("#") for link in page.links} <= set(page.ids)  # no link leads nowhere
    assert page.tags <= TAGS
    assert "default-src 'none'" in text


def test_names_are_text(tmp_path):
    data = picture("red")
    text, page = written(
        tmp_path / "r.html",
        title=EVIL,
        about=EVIL,
        facts=[Fact(EVIL, EVIL, EVIL)],
        notes=[EVIL],
        panels=[Panel("x", EVIL, EVIL, data)],
        cards=[Card(0, EVIL, 2, EVIL, [Row(EVIL, [Picture(EVIL + '" onload="x', data), Picture(EVIL, None)])])],
    )
    assert "<script" not in text
    assert page.tags <= TAGS
    assert "".join(page.words).count(EVIL) >= 12


def test_what_cannot_be_shown_is_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        written(tmp_path / "none" / "r.html")
    with pytest.raises(InputError, match="cannot be decoded"):
        written(tmp_path / "r.html", cards=[Card(0, "", 1, "", [Row("x", [Picture("x", b"no picture")])])])
