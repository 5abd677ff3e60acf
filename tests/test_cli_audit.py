"""`audit`, and `export` of what it found, as a script calls them."""

import json

import numpy as np
import pytest
from PIL import Image


def picture(seed):
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((40, 40), Image.Resampling.BICUBIC)


@pytest.fixture
def scape(run, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed in range(12):
        picture(seed).save(folder / f"{seed:02}.png")
    picture(3).save(folder / "again.bmp")
    Image.new("RGB", (40, 40)).save(folder / "black.png")
    assert run("ingest", folder, "-o", tmp_path / "c.scape")[0] == 0
    return tmp_path / "c.scape"


def test_audit_says_what_is_wrong(run, scape, tmp_path):
    code, out, _ = run("audit", scape, "-o", tmp_path / "a.html")
    assert code == 0
    assert "1 groups of 2 of 14 rows" in out
    assert "not looked for: outliers and doubtful labels: there are no features" in out
    assert out.splitlines()[-1] == str(tmp_path / "a.html")
    assert "again.bmp" in (tmp_path / "a.html").read_text()


def test_audit_for_scripts(run, scape):
    code, out, _ = run("audit", scape, "--by", "hash", "--bits", 2, "--thresholds", "dark=.5,bright=0", "--json")
    found = json.loads(out)
    assert code == 0
    assert {"exact_groups", "near_groups", "outliers", "quality", "label_doubts", "leaks"} <= set(found)
    assert [len(one) for one in found["near_groups"]] == [2]
    assert len(found["quality"]["dark"]) >= 1
    assert found["quality"]["bright"] == []
    assert "duplicate_group" in found["columns"]


def test_lists_and_copies(run, scape, tmp_path):
    run("audit", scape)
    code, out, _ = run(
        "export", scape, "--keep-list", tmp_path / "k.txt", "--remove-list", tmp_path / "r.csv", "--without", "dark"
    )
    assert code == 0
    assert len((tmp_path / "k.txt").read_text().splitlines()) == 12
    assert len((tmp_path / "r.csv").read_text().splitlines()) == 3
    assert out.splitlines() == [str(tmp_path / "k.txt"), str(tmp_path / "r.csv"), "12 images to keep, 2 not"]
    assert "would be copied" in run("export", scape, "--to", tmp_path / "clean")[1]
    assert not (tmp_path / "clean").exists()
    told = json.loads(run("export", scape, "--to", tmp_path / "clean", "--apply", "--json")[1])
    assert (told["kept"], told["copied"]["images"], told["copied"]["is_done"]) == (13, 13, True)
    assert len(list((tmp_path / "clean").iterdir())) == 14


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["audit", "SCAPE", "--by", "eye"], "--by takes hash or features, got 'eye'"),
        (["audit", "SCAPE", "--keep", "best"], "keep must be one of largest, oldest, first, center, got 'best'"),
        (["audit", "SCAPE", "--by", "hash", "--similarity", ".9"], "--by hash takes no --similarity"),
        (["audit", "SCAPE", "--by", "features"], "no features"),
        (["audit", "SCAPE", "--thresholds", "dark"], "takes ISSUE=NUMBER"),
        (["audit", "SCAPE", "--thresholds", "dark=2"], "must lie in [0, 1]"),
        (["audit", "SCAPE", "--thresholds", "red=.2"], "a threshold is of one of dark"),
        (["audit", "SCAPE", "-o", "a.pdf"], "a page is FILE.html"),
        (["audit", "SCAPE", "--split", "fold"], "no column is called 'fold'"),
        (["export", "SCAPE"], "nothing to export"),
        (["export", "SCAPE", "--keep-list", "k.txt"], "first run: imagescape audit"),
        (["export", "SCAPE", "--keep-list", "k.xls"], "ends in .csv, .json, .txt"),
        (["export", "SCAPE", "--apply", "--keep-list", "k.txt"], "--apply and --link are of copies"),
        (["export", "SCAPE", "-o", "f.npy", "--without", "dark"], "--without is for"),
        (["export", "SCAPE", "--features", "f", "--keep-list", "k.txt"], "exported to -o FILE.npy"),
    ],
)
def test_mistakes_are_told_in_one_line(fails, scape, arguments, words):
    assert words in fails(*[scape if one == "SCAPE" else one for one in arguments])
