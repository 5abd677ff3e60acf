"""The verbs of names, as a script calls them."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from imagescape.collection.results import ids_of
from imagescape.collection.store import Collection


@pytest.fixture
def scape(run, tmp_path):
    """60 images in two folders, which are the clusters 0 and 1 but for noise."""
    for i in range(60):
        folder = tmp_path / "photos" / ("wild cats" if i < 30 else "harbour")
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 256, (5, 5, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((24, 24)).save(folder / f"{i:02}.png")
    assert run("ingest", tmp_path / "photos", "-o", tmp_path / "c.scape", "--layout", "flat")[0] == 0
    assert run("embed", tmp_path / "c.scape", "--encoder", "dhash64")[0] == 0
    scape = Collection.open(tmp_path / "c.scape")
    folders = scape.read(["folder"])["folder"].to_pylist()
    labels = np.array([0 if "cats" in folder else 1 for folder in folders])
    labels[[3, 40]] = -1
    scape.add_columns(ids_of(scape), {"cluster_C": labels})
    (scape.path / "models" / "C").mkdir()
    (scape.path / "models" / "C" / "config.json").write_text(json.dumps({"format_version": 2, "features": "dhash64"}))
    return scape.path


def test_there_and_back(run, scape, tmp_path):
    code, out, _ = run("name", scape, "--clusters", "C", "--metadata", "folder")
    assert code == 0
    assert "2 of 2 clusters of 'C' are named" in out
    assert "'wild cats' (metadata)" in out
    code, out, _ = run("export-names", scape, "--clusters", "C", "-o", tmp_path / "names.csv")
    assert code == 0
    assert "names.csv: 2 clusters" in out
    with (tmp_path / "names.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert [row[2] for row in rows] == ["name", "wild cats", "harbour"]
    rows[2][2] = "höfn, 港"
    with (tmp_path / "names.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    code, out, _ = run("import-names", scape, tmp_path / "names.csv", "--clusters", "C", "--json")
    found = json.loads(out)
    assert (code, found["changed"], found["unchanged"]) == (0, [1], 1)
    assert [group["name"] for group in found["groups"]] == ["wild cats", "höfn, 港"]
    table = Collection.open(scape).read(["cluster_C", "cluster_C_name"]).to_pylist()
    assert {(row["cluster_C"], row["cluster_C_name"]) for row in table} == {
        (0, "wild cats"),
        (1, "höfn, 港"),
        (-1, None),
    }


def test_set_and_propagate(run, scape):
    code, out, _ = run(
        "name", scape, "--clusters", "C", "--set", "0=big=cats", "--set", "1=sea", "--propagate", "--json"
    )
    found = json.loads(out)
    assert code == 0
    assert [(group["id"], group["name"], group["source"]) for group in found["groups"]] == [
        (0, "big=cats", "person"),
        (1, "sea", "person"),
    ]
    assert found["about"]["propagate"] is True
    code, out, _ = run("name", scape, "--clusters", "C", "--set", "0=", "--no-propagate")
    assert "- (a person says that it has no name)" in out
    assert "'big=cats'" not in run("name", scape, "--clusters", "C", "--overwrite")[1]


def test_words_by_a_small_clip(run, scape, tmp_path):
    transformers = pytest.importorskip("transformers")
    from tests.features import small_clip

    folder = small_clip.save(tmp_path / "clip", *small_clip.small_clip(transformers))
    (tmp_path / "words.txt").write_text("cat\nboat\nsea\n")
    arguments = (
        "--encoder",
        f"hf:{folder}",
        "--words",
        tmp_path / "words.txt",
        "--prompt",
        "a {}",
        "--prompt",
        "one {}",
    )
    code, out, _ = run("name", scape, "--clusters", "C", *arguments, "--margin", 0.25, "--device", "cpu", "--json")
    about = json.loads(out)["about"]["words"]
    assert code == 0
    assert (about["words"], about["prompts"], about["demands"]["margin"]) == (3, ["a {}", "one {}"], 0.25)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["name", "SCAPE", "--clusters", "D"], "no clustering is called 'D'"),
        (["name", "SCAPE", "--clusters", "C", "--set", "lynx"], "--set takes ID=NAME, such as 3=lynx, got 'lynx'"),
        (["name", "SCAPE", "--clusters", "C", "--set", "0=a", "--set", "0=b"], "--set names '0' twice"),
        (["name", "SCAPE", "--clusters", "C", "--set", "9=a"], "there is no cluster '9' to call 'a'; there are: 0, 1"),
        (["name", "SCAPE", "--clusters", "C", "--words", "words.txt"], "--words needs an --encoder"),
        (["name", "SCAPE", "--clusters", "C", "--encoder", "hf:x"], "an encoder needs words"),
        (["name", "SCAPE", "--clusters", "C", "--encoder", "hf:x", "--words", "none.txt"], "'none.txt' cannot be read"),
        (["name", "SCAPE", "--clusters", "C", "--encoder", "dhash64", "--words", "words.txt"], "has no text side"),
        (["name", "SCAPE", "--clusters", "C", "--encoder", "x/y", "--words", "words.txt", "--margin", "-1"], "margin"),
        (
            ["name", "SCAPE", "--clusters", "C", "--encoder", "hf:x", "--wordnet", "nowhere"],
            "data.noun' cannot be read",
        ),
        (["name", "SCAPE", "--clusters", "C", "--metadata", "caption"], "no column is called 'caption'"),
        (["export-names", "SCAPE", "--clusters", "C", "-o", "names.txt"], "ends in .csv"),
        (["export-names", "SCAPE", "--clusters", "D", "-o", "names.csv"], "no clustering is called 'D'"),
        (["import-names", "SCAPE", "none.csv", "--clusters", "C"], "'none.csv' cannot be read"),
        (["import-names", "SCAPE", "other.csv", "--clusters", "C"], "does not have (5)"),
        (["import-names", "SCAPE", "words.txt", "--clusters", "C"], "needs the columns id and name"),
    ],
)
def test_mistakes(fails, scape, tmp_path, monkeypatch, arguments, message):
    pytest.importorskip("transformers")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "words.txt").write_text("cat\n")
    (tmp_path / "other.csv").write_text("id,name\n5,cat\n")
    assert message in fails(*[scape if one == "SCAPE" else one for one in arguments])
    assert "cluster_C_name" not in Collection.open(scape).columns
