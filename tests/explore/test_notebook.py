"""The explorer in a notebook: a frame, and what is selected in it."""

import json
import re
import urllib.request

import pytest

import imagescape as ims
from tests.explore.test_server import built  # noqa: F401 - a fixture


@pytest.fixture
def view(scape, built):  # noqa: F811
    view = ims.view(scape, height_px=400, device="cpu")
    yield view
    view.stop()


def put(view, ids):
    body = json.dumps({"ids": ids}).encode()
    headers = {"Content-Type": "application/json"}
    asked = urllib.request.Request(view.url + "api/selection", body, headers, method="PUT")
    with urllib.request.urlopen(asked) as answer:
        return json.load(answer)


def test_a_frame_of_the_page(view):
    frame = view._repr_html_()
    assert re.match(r'<iframe src="http://localhost:\d+/" ', frame)
    assert "height: 400px" in frame
    with urllib.request.urlopen(view.url) as answer:
        assert "frame-ancestors 'self' http://localhost:*" in answer.headers["content-security-policy"]


def test_the_selection_of_the_page(view, ids):
    assert view.selection == []
    put(view, ids[3:6])
    assert view.selection == ids[3:6]
    put(view, [])
    assert view.selection == []


def test_it_ends(scape, built):  # noqa: F811
    view = ims.view(str(scape.path), device="cpu")
    assert repr(view).startswith(f"View('{scape.path}', at http://localhost:")
    view.stop()
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(view.url, timeout=5)


def test_where_a_proxy_leads_to_it(scape, built):  # noqa: F811
    view = ims.view(scape, address="/proxy/{port}/", names=["hub.example"], read_only=True)
    assert re.fullmatch(r"/proxy/\d+/\?token=[\w-]{32}", view.url)  # beyond this machine with a token
    view.stop()
