"""The verbs of features and similarity, as a script calls them."""

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from imagescape.collection.store import Collection


def picture(seed):
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((40, 40), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for seed in range(24):
        (folder / f"kind{seed % 2}").mkdir(exist_ok=True)
        picture(seed).save(folder / f"kind{seed % 2}" / f"{seed:02}.png")
    return folder


@pytest.fixture
def scape(run, photos, tmp_path):
    assert run("ingest", photos, "-o", tmp_path / "c.scape")[0] == 0
    assert run("embed", tmp_path / "c.scape", "--encoder", "dhash64")[1] == (
        "features_dhash64: 24 images encoded, 24 in all\n"
    )
    return tmp_path / "c.scape"


def test_embed_says_what_it_did(run, scape):
    code, out, _ = run("embed", scape, "--encoder", "phash64", "--name", "p", "--json")
    assert (code, json.loads(out)) == (0, {"name": "p", "encoded": 24, "covered": 24})
    assert json.loads(run("embed", scape, "--encoder", "phash64", "--name", "p", "--json")[1])["encoded"] == 0


def test_search_prints_nearest_first(run, scape, photos):
    code, out, _ = run("search", scape, photos / "kind1" / "07.png", "-k", 3, "--features", "dhash64", "--json")
    found = json.loads(out)
    assert code == 0
    assert [list(one) for one in found] == [["image_id", "uri", "distance"]] * 3
    assert found[0]["uri"] == str(photos / "kind1" / "07.png")
    assert found[0]["distance"] == 0
    assert [one["distance"] for one in found] == sorted(one["distance"] for one in found)
    lines = run("search", scape, photos / "kind1" / "07.png", "-k", 3)[1].splitlines()
    assert [line.split("\t")[1] for line in lines] == [one["image_id"] for one in found]


def test_search_of_a_folder_is_by_file(run, scape, photos, tmp_path, monkeypatch):
    queries = tmp_path / "queries"
    queries.mkdir()
    shutil.copy(photos / "kind0" / "04.png", queries / "a.png")
    (queries / "bad.jpg").write_bytes(b"no image")
    monkeypatch.chdir(tmp_path / "c.scape")
    code, out, err = run("search", scape, "../queries", "-k", 2, "--json", "--html", tmp_path / "page.html")
    assert code == 0
    assert list(json.loads(out)) == ["a.png"]
    assert "bad.jpg is left out" in err
    assert "a.png" in (tmp_path / "page.html").read_text()


def test_search_by_id_and_condition(run, scape):
    own = Collection.open(scape).read(["image_id"])["image_id"][3].as_py()
    found = json.loads(run("search", scape, own, "-k", 50, "--where", "label = 'kind1'", "--json")[1])
    assert len(found) in (11, 12)  # all of that kind, without itself
    assert all("/kind1/" in one["uri"] for one in found)
    assert own not in [one["image_id"] for one in found]


def test_neighbors_and_export(run, scape, tmp_path):
    assert run("neighbors", scape, "-k", 4)[1] == "neighbors_dhash64: the 4 nearest of each of 24 images\n"
    assert len(Collection.open(scape).read(["neighbors_dhash64"])["neighbors_dhash64"][0]) == 4
    assert run("export", scape, "-o", tmp_path / "f.npy")[1].split() == [
        str(tmp_path / "f.npy"),
        str(tmp_path / "f.csv"),
    ]
    assert np.load(tmp_path / "f.npy").shape == (24, 8)
    with (tmp_path / "f.csv").open() as file:
        assert [row["image_id"] for row in csv.DictReader(file)] == (
            Collection.open(scape).read(["image_id"])["image_id"].to_pylist()
        )


def test_attack_and_experiment(run, scape, tmp_path):
    code, out, _ = run("attack", scape, "-o", tmp_path / "q.scape", "--kinds", "jpeg,flip", "--seed", 0, "--json")
    assert (code, json.loads(out)["added"]) == (0, 24 * 5)
    arguments = ("experiment", scape, tmp_path / "q.scape", "--features", "dhash64", "-o", tmp_path / "results")
    code, out, _ = run(*arguments)
    assert code == 0
    assert "dhash64, exact, hamming, k 10" in out
    result = json.loads((tmp_path / "results" / "results.json").read_text())
    assert result["recall_at_k"]["overall"]["1"] > 0.5
    assert set(result["recall_at_k"]["by_family"]) == {"jpeg", "flip"}
    assert json.loads(run(*arguments, "--json")[1])["version"] == result["version"]
    code, out, _ = run("experiment", "--replot", tmp_path / "results")
    assert code == 0
    assert str(tmp_path / "results" / "families.png") in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["search", "SCAPE", "nothing.jpg"], "no such query: 'nothing.jpg'"),
        (["search", "SCAPE", "00112233445566ff"], "has the id 00112233445566ff"),
        (["search", "SCAPE", "bad.jpg"], "the content is no known image format"),
        (["search", "SCAPE", "good.png", "--features", "clip"], "no features are called 'clip'"),
        (["search", "SCAPE", "good.png", "--metric", "l2"], "metric must be one of"),
        (["search", "SCAPE", "good.png", "--where", "label = 'none'"], "meets the condition"),
        (["search", "SCAPE", "good.png", "--engine", "IVFx"], "IVFx"),
        (["search", "SCAPE", "good.png", "--engine", "binary:IVF4096"], "vectors to train on"),
        (["attack", "SCAPE", "-o", "q.scape", "--kinds", "magic"], "a kind of attack must be"),
        (["experiment", "SCAPE", "SCAPE", "-o", "results"], "need a column 'original_id'"),
        (["experiment", "SCAPE"], "needs NAME.scape, Q.scape and --output"),
        (["experiment", "SCAPE", "SCAPE", "-o", "r", "--ks", "ten"], "--ks takes whole numbers"),
        (["convert"], "needs a CHECKPOINT, or --download"),
        (["convert", "nowhere", "-o", "m"], "nowhere"),
        (["convert", "--download", "r18_1x_sk0", "-o", "m"], "r18_1x_sk0"),
        (["export", "SCAPE", "-o", "f.csv"], "ends in .npy"),
    ],
)  # fmt: skip
def test_mistakes(fails, scape, tmp_path, monkeypatch, arguments, message):
    pytest.importorskip("faiss")
    monkeypatch.chdir(tmp_path)
    picture(1).save("good.png")
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    assert message in fails(*[scape if one == "SCAPE" else one for one in arguments])


def test_k_beyond_the_rows_gives_all_and_says_so(run, scape, photos):
    code, out, err = run("search", scape, photos / "kind0" / "00.png", "-k", 99, "--json")
    assert (code, len(json.loads(out))) == (0, 24)
    assert "24 images have features, fewer than the 99 asked for" in err


def test_info_says_who_made_the_features(run, scape):
    (made,) = json.loads(run("info", scape, "--json")[1])["features"]
    assert (made["name"], made["encoder"], made["dimensions"], made["type"]) == ("dhash64", "dhash64", 8, "uint8")
    assert "features: dhash64 (8, by dhash64)" in run("info", scape)[1]
