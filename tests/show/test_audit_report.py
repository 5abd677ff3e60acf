"""The page of an audit: every kind of find is there, names are text, nothing is loaded."""

import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "pipeline"))
from test_auditing import give_features, plant

from imagescape.collection.ingest import ingest
from imagescape.collection.store import Collection
from imagescape.errors import InputError
from imagescape.pipeline.auditing import AuditSettings, audit
from imagescape.show.audit_report import write_audit_page


@pytest.fixture(scope="module")
def scape(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audit-page")
    images = plant(folder / "images")
    (images / "05.png").rename(images / "05<b onclick='x'>.png")
    ingest([images], folder / "c.scape")
    return Collection.open(folder / "c.scape")


@pytest.fixture(scope="module")
def found(scape):
    give_features(scape)
    return audit(scape, AuditSettings(similarity=0.995, oddity=0.5))


def test_every_kind_of_find_has_its_place(scape, found, tmp_path):
    page = write_audit_page(scape, found, tmp_path / "a.html").read_text()
    for key in ("near", "exact", "leaks", "labels", "outliers", "dark"):
        assert f'<section id="{key}">' in page
    assert 'id="bright"' not in page  # there is none
    assert page.count('class="rows"') >= 6
    assert "default-src 'none'" in page
    assert set(re.findall(r'href="#([\w-]+)"', page)) == set(re.findall(r'<section id="([\w-]+)"', page))
    near = page.split('id="near"')[1].split("</section>")[0]
    assert near.count("<small>stays</small>") == len(found.groups)
    assert near.count("<img") == len(found.groups.rows)


def test_names_are_text(scape, found, tmp_path):
    page = write_audit_page(scape, found, tmp_path / "a.html", finds=100).read_text()
    assert "<b onclick" not in page
    assert "05&lt;b onclick=" in page


def test_the_first_finds_are_shown(scape, found, tmp_path):
    page = write_audit_page(scape, found, tmp_path / "a.html", finds=1).read_text()
    near = page.split('id="near"')[1].split("</section>")[0]
    assert f"<span>{len(found.groups)}</span>" in near
    assert "The first 1 are shown" in near
    assert near.count("<h4>") == 1


def test_no_folder(scape, found, tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        write_audit_page(scape, found, tmp_path / "none" / "a.html")
