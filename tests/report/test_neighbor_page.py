"""Pages of neighbours: what is shown, in what order, that names stay text, and that a browser shows and filters it."""

import base64
import io
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from imagescape.errors import InputError
from imagescape.report.neighbor_page import (
    Answer,
    Case,
    Neighbor,
    choose_cases,
    write_contact_sheet,
    write_neighbor_page,
)

EVIL = (
    "</figure><script>document.title='broken in'</script><img src=x onerror=\"document.title='in'\">&{{script}}'\udc80"
)
VOID = {"meta", "img", "link", "br", "input"}


class Page(HTMLParser):
    """The page as elements: dicts of tag, attributes, own text, and the elements around."""

    def __init__(self, path):
        super().__init__()
        self.elements, self.open = [], []
        self.feed(path.read_text(encoding="utf-8"))
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.elements.append({"tag": tag, **dict(attributes), "text": "", "inside": list(self.open)})
        if tag not in VOID:
            self.open.append(self.elements[-1])

    def handle_endtag(self, tag):
        assert self.open.pop()["tag"] == tag

    def handle_data(self, data):
        for element in self.open:
            element["text"] += data

    def all(self, tag, inside=None, **wanted):
        found = (one for one in self.elements if one["tag"] == tag and wanted.items() <= one.items())
        return [one for one in found if inside is None or any(outer is inside for outer in one["inside"])]


def picture(number, size=(30, 20)):
    out = io.BytesIO()
    Image.new("RGB", size, (number % 256, 100, 200)).save(out, "WEBP", lossless=True)
    return out.getvalue()


def answer(query, ids, name="folder/query.png"):
    return Answer(query, name, [Neighbor(one, 0.125 * place, f"folder/{one}.png") for place, one in enumerate(ids)])


@pytest.fixture
def cases():
    """One query of each sort: first, third, not found, and two that match nothing."""

    def case(query, ids, family, truth):
        return Case(answer(query, ids), family, f"{family} 10", truth and Neighbor(truth, 0.75, f"folder/{truth}.png"))

    foreign = Case(Answer(6, "near", [Neighbor(9, -3.0, "nine")]), "blur", "blur", None)
    return [
        case(1, [10, 11, 12], "crop", 10),
        case(2, [10, 11, 12], "noise", 12),
        case(3, [10, 11, 12], "crop", 44),
        case(5, [10, 11], "crop", None),
        foreign,
    ]


def written(cases, path, **options):
    return Page(write_neighbor_page(path / "page.html", cases, query_picture=picture, picture=picture, **options))


class TestNeighborPage:
    def test_queries_are_sorted_into_what_became_of_them(self, cases, tmp_path):
        page = written(cases, tmp_path)
        sections = {one["id"]: one for one in page.all("section")}
        assert list(sections) == ["incorrect", "correct", "nothing"]
        heads = {name: [one["text"] for one in page.all("header", inside=of)] for name, of in sections.items()}
        assert heads["incorrect"] == [
            "crop 10croporiginal not among the 3 nearest",
            "noise 10noiseoriginal found at place 3",
        ]
        assert heads["correct"] == ["crop 10croporiginal found first"]
        # The nearest first, as it would be taken for a match; a kind that is its family is not said twice.
        assert heads["nothing"] == [
            "blurits original is not in the database; nearest -3",
            "crop 10cropits original is not in the database; nearest 0",
        ]
        assert [one["text"] for one in page.all("a")] == ["Incorrect 2", "Correct 1", "Match nothing 2"]
        assert [one["href"][1:] for one in page.all("a")] == list(sections)

    def test_a_query_shows_itself_its_original_and_its_neighbours_in_order(self, cases, tmp_path):
        page = written(cases, tmp_path)
        article = page.all("article", **{"data-family": "noise"})[0]
        captions = [one["text"] for one in page.all("figcaption", inside=article)]
        assert captions == ["queryquery.png", "original: 0.7512.png", "1: 010.png", "2: 0.12511.png", "✓ 3: 0.2512.png"]
        assert [one["alt"] for one in page.all("img", inside=article)] == [
            "query: noise 10",
            "folder/12.png",
            "folder/10.png",
            "folder/11.png",
            "the original: folder/12.png",
        ]
        assert page.all("bdi", inside=article)[0]["title"] == "folder/query.png"
        assert [one.get("class") for one in page.all("li", inside=article)] == [None, None, "right"]

    def test_pictures_are_in_the_file_small_and_the_right_ones(self, tmp_path):
        case = Case(answer(7, [20, 30]), "crop", "crop 10", Neighbor(20, np.nan, "x"))
        page = Page(
            write_neighbor_page(
                tmp_path / "page.html",
                [case],
                query_picture=lambda number: picture(number, (900, 450)),
                picture={20: picture(20), 30: None}.get,
            )
        )
        images = []
        for one in page.all("img"):
            head, data = one["src"].split(",")
            assert head == "data:image/webp;base64"
            images.append(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))
        assert [one.size for one in images] == [(144, 72), (30, 20), (30, 20)]
        assert [round(one.getpixel((5, 5))[0], -1) for one in images] == [10, 20, 20]
        assert [one["text"] for one in page.all("span", **{"class": "none"})] == ["no picture"]
        assert "original" in [one["text"] for one in page.all("b")]  # its distance is not known, and not shown

    def test_a_picture_is_asked_for_once(self, cases, tmp_path):
        asked = []
        write_neighbor_page(tmp_path / "page.html", cases, query_picture=picture, picture=lambda one: asked.append(one))
        assert sorted(asked) == sorted(set(asked)) == [9, 10, 11, 12, 44]

    def test_no_name_becomes_markup(self, tmp_path):
        one = Answer(1, EVIL, [Neighbor(2, 0.5, EVIL)])
        options = {"title": EVIL, "about": EVIL}
        page = written([Case(one, EVIL, EVIL + " ", Neighbor(2, 0.5, EVIL))], tmp_path, **options)
        assert len(page.all("script")) == 1
        assert len(page.all("img")) == 3
        shown = EVIL.encode("utf-8", "backslashreplace").decode()
        assert page.all("h1")[0]["text"] == page.all("option")[1]["text"] == page.all("title")[0]["text"] == shown
        assert page.all("article")[0]["data-family"] == shown
        assert page.all("bdi")[0]["title"] == shown

    def test_tiny_distances_are_not_written_as_powers(self, tmp_path):
        distances = [0.0, 3e-9, 0.00012345, 17, 123456.7]
        one = Answer(1, "q", [Neighbor(place, distance, "n") for place, distance in enumerate(distances)])
        page = written([Case(one, "f", "k", None)], tmp_path)
        expected = ["1: 0", "2: < 0.0001", "3: 0.0001234", "4: 17", "5: 1.235e+05"]
        assert [one["text"] for one in page.all("b")][1:] == expected

    def test_it_loads_nothing_and_runs_its_own_program_only(self, cases, tmp_path):
        page = written(cases, tmp_path)
        (policy,) = (one["content"] for one in page.all("meta", **{"http-equiv": "Content-Security-Policy"}))
        assert policy.startswith("default-src 'none'; img-src data:;")
        text = (tmp_path / "page.html").read_text()
        assert not re.search(r"(src|href)=\"(?!data:|#)", text)
        assert "{{" not in text

    def test_it_is_refused_what_it_cannot_show(self, cases, tmp_path):
        with pytest.raises(InputError, match="at least one query"):
            written([], tmp_path)
        with pytest.raises(InputError, match="does not exist"):
            written(cases, tmp_path / "missing")
        with pytest.raises(InputError, match="the picture of query 1 cannot be decoded"):
            write_neighbor_page(tmp_path / "p.html", cases[:1], query_picture=lambda _: b"no", picture=picture)


class TestContactSheet:
    def test_queries_keep_their_order(self, tmp_path):
        answers = [answer(5, [3, 4], name="z/one.png"), answer(2, [], name="two.png")]
        path = write_contact_sheet(
            tmp_path / "s.html", answers, query_picture=picture, picture=picture, title="T", about="cosine"
        )
        page = Page(path)
        assert [one["text"] for one in page.all("h2")] == ["z/one.png", "two.png"]
        first, second = page.all("article")
        assert [one["text"] for one in page.all("figcaption", inside=first)] == [
            "queryone.png",
            "1: 03.png",
            "2: 0.1254.png",
        ]
        assert "nothing found" in second["text"]
        assert page.all("header")[0]["text"].split("\n")[1:3] == ["  T", "  cosine · 2 queries"]
        assert not page.all("select") + page.all("nav")

    def test_transparency_stays(self, tmp_path):
        out = io.BytesIO()
        Image.new("RGBA", (400, 400), (255, 0, 0, 0)).save(out, "PNG")
        sheet = tmp_path / "s.html"
        page = Page(
            write_contact_sheet(sheet, [answer(1, [])], query_picture=lambda _: out.getvalue(), picture=picture)
        )
        data = base64.b64decode(page.all("img")[0]["src"].partition(",")[2])
        assert Image.open(io.BytesIO(data)).convert("RGBA").getpixel((3, 3))[3] == 0

    def test_nothing_to_show(self, tmp_path):
        with pytest.raises(InputError, match="at least one query"):
            write_contact_sheet(tmp_path / "s.html", [], query_picture=picture, picture=picture)


class TestChoose:
    def test_some_of_every_outcome_of_every_family(self):
        rng = np.random.default_rng(0)
        families = np.repeat(["a", "b"], 150)
        ids = np.tile([1, 2], (300, 1))
        truth = rng.choice([1, 2, 9, -1], 300)
        truth[:150] = np.where(truth[:150] == -1, 1, truth[:150])  # all of family a match something
        rows = choose_cases(ids, truth, families, each=3)
        assert (np.diff(rows) > 0).all()
        for family, counts in (("a", (3, 3, 0)), ("b", (3, 3, 3))):
            chosen = truth[rows[families[rows] == family]]
            assert ((chosen == 1).sum(), np.isin(chosen, [2, 9]).sum(), (chosen == -1).sum()) == counts

    def test_seeded_and_all_where_there_are_few(self):
        ids, truth = np.ones((40, 1), int), np.ones(40, int)
        one, two = (choose_cases(ids, truth, ["f"] * 40, each=5, seed=seed).tolist() for seed in (0, 1))
        assert one == choose_cases(ids, truth, ["f"] * 40, each=5).tolist() != two
        assert choose_cases(ids, truth, ["f"] * 40, each=50).tolist() == list(range(40))


def test_a_browser_shows_it_and_filters_by_family(cases, tmp_path):
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("needs chromium on the PATH")
    evil = Case(answer(8, [10], name=EVIL), EVIL, EVIL, None)
    path = write_neighbor_page(tmp_path / "page.html", [*cases, evil], query_picture=picture, picture=picture)
    # The page's policy lets no script in: the choice of a person is put into the page itself.
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("<option>noise", "<option selected>noise"), encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    address = ["--dump-dom", f"file://{path}"]
    done = subprocess.run([browser, *flags, *address], capture_output=True, text=True, timeout=60, check=False)
    path.write_text(done.stdout.replace("<!DOCTYPE html>", ""), encoding="utf-8")
    page = Page(path)
    assert page.all("title")[0]["text"] == "Correct and incorrect neighbours", done.stderr[-2000:]
    assert [one["data-family"] for one in page.all("article") if "hidden" not in one] == ["noise"]
    assert [one["id"] for one in page.all("section") if "hidden" not in one] == ["incorrect"]
    assert [one["text"] for one in page.all("a") if "hidden" not in one] == ["Incorrect 1"]
    assert page.all("output")[0]["text"] == "1 of 6 queries"
    assert "hidden" not in page.all("label", id="filter")[0]
