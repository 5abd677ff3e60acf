"""`finetune` on a collection: what is written when it helps, what is not when it does not, and going on."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from imagescape.collection.ingest import ingest
from imagescape.collection.results import feature_names, features_identity
from imagescape.collection.store import Collection
from imagescape.errors import CheckpointError, InputError
from imagescape.evaluate.looks import Copies
from imagescape.learn.encoder import Architecture, Encoder, read_config
from imagescape.learn.preprocessing import Preprocessing
from imagescape.learn.train import read_metrics
from imagescape.pipeline import finetuning
from imagescape.pipeline.embedding import embed
from imagescape.pipeline.finetuning import finetune
from imagescape.pipeline.finetuning_figures import finetuning_figures
from imagescape.pipeline.guarding import held_out_ids, make_guard

SETTINGS = {"epochs": 2, "looks": 2, "batch_size": 16, "size_px": 32, "dimensions": 16, "device": "cpu"}


def write_pictures(folder, count, seed=0):
    """Smooth pictures, all different, in folders of two kinds."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        kind = ("wide", "tall")[number % 2]
        (folder / kind).mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8))
        side = (70, 50) if kind == "wide" else (50, 70)
        coarse.resize(side, Image.Resampling.BICUBIC).save(folder / kind / f"{number:03}.png")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Folder of a collection of 60 pictures with a small network called "small"; tests leave it as it is."""
    folder = tmp_path_factory.mktemp("made")
    write_pictures(folder / "pictures", 60)
    ingest([folder / "pictures"], folder / "p.scape")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        architecture = Architecture(backbone="resnet10", stem="strided", width=4)
        way = Preprocessing(size_px=32, cache_px=32, fit="crop", mean=(0.5,) * 3, std=(0.25,) * 3)
        Encoder(architecture.build(), architecture, way, device="cpu").save(folder / "p.scape" / "models" / "small")
    return folder


@pytest.fixture
def scape(made, tmp_path):
    shutil.copytree(made / "p.scape", tmp_path / "p.scape")
    return Collection.open(tmp_path / "p.scape")


def only(patch, chosen):
    """Have the guard see real features where `chosen(name of the look)`, and noise elsewhere.

    Which of a few tiny pictures stand guard depends on their ids, and so does who wins; tests settle it themselves.
    """
    real = Copies.look

    def look(self, database, queries, *, name, **options):
        rows = queries if chosen(name) else np.random.default_rng(0).normal(size=queries.shape)
        return real(self, database, rows.astype(np.float32), name=name, **options)

    patch.setattr(Copies, "look", look)


@pytest.fixture(scope="module")
def done(made, tmp_path_factory):
    """A collection that was fine-tuned on, and what was said of it."""
    folder = tmp_path_factory.mktemp("done")
    shutil.copytree(made / "p.scape", folder / "p.scape")
    scape = Collection.open(folder / "p.scape")
    with pytest.MonkeyPatch.context() as patch:
        only(patch, lambda name: name != "before")
        return scape, finetune(scape, "better", encoder="small", held_out=0.2, **SETTINGS)


class TestWhatIsWritten:
    def test_features_are_the_kept_encoder_s_and_become_the_last(self, done):
        scape, result = done
        assert not result.regressed
        assert result.covered == 60
        assert feature_names(scape)[-1] == "better"
        assert embed(scape, "better", "better").encoded == 0  # `embed --encoder better` is the very same
        kept = Encoder.load(scape.path / "models" / "better")
        assert features_identity(scape, "better")["weights_sha256"] == kept.weights_sha256

    def test_the_model_knows_how_it_was_made(self, done):
        scape, result = done
        recipe = read_config(scape.path / "models" / "better")["recipe"]
        assert recipe["method"] == "Finetune"
        assert (recipe["recipe"], recipe["began_with"]) == ("copies", "small")
        assert recipe["kept"]["name"] == result.kept.name

    def test_metrics_and_looks_are_in_the_run(self, done):
        scape, result = done
        folder = scape.path / "runs" / "better"
        assert read_metrics(folder / "metrics.jsonl")[-1]["epoch"] == 2
        lines = [json.loads(line) for line in (folder / "looks.jsonl").read_text().splitlines()]
        assert [line["name"] for line in lines] == [look.name for look in result.looks]
        assert (folder / "epochs" / "epoch-0002.safetensors").exists()

    def test_images_of_the_guard_are_not_trained_on(self, done):
        _, result = done
        assert (result.trained, result.guarded) == (48, 12)

    def test_the_name_is_taken_then(self, done):
        scape, _ = done
        with pytest.raises(InputError, match=r"has 'better' already \(features_better, models/better\)"):
            finetune(scape, "better", encoder="small", **SETTINGS)


def test_a_regression_leaves_the_old_encoder_what_is_used(scape, monkeypatch):
    only(monkeypatch, lambda name: name == "before")
    embed(scape, "small", "old")
    result = finetune(scape, "worse", encoder="small", held_out=0.2, **SETTINGS)
    assert result.regressed
    assert "fine-tuning made 'small' worse" in result.warning
    assert "--encoder worse" in result.warning
    assert feature_names(Collection.open(scape.path)) == ["old"]
    assert (scape.path / "models" / "worse").is_dir()


def test_a_validation_collection_stands_guard(scape, tmp_path):
    write_pictures(tmp_path / "others", 8, seed=9)
    ingest([tmp_path / "others"], tmp_path / "v.scape")
    val = Collection.open(tmp_path / "v.scape")
    result = finetune(scape, "N", encoder="small", recipe="simclr", val=val, **{**SETTINGS, "epochs": 1})
    assert (result.trained, result.guarded) == (60, 8)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"unseen": ["crop"]}, "the recipe 'copies' shows crop, which cannot be unseen then"),
        ({"unseen": ["melt"]}, "families of attacks are .*; got melt"),
        ({"encoder": "dhash64"}, "a hash learns nothing"),
        ({"encoder": "nobody"}, "no encoder is called 'nobody'"),
        ({"held_out": 0.01}, "a guard needs at least 5 images that are not trained on"),
        ({"recipe": "dino"}, "recipe must be one of"),
        ({"name": "a b"}, "a name is made of letters"),
        ({"batch_size": 500}, "a batch of 500 images needs at least as many images"),
    ],
)
def test_mistakes_are_said(scape, changes, message):
    arguments = {"name": "N", "encoder": "small", **SETTINGS, **changes}
    with pytest.raises(InputError, match=message):
        finetune(scape, arguments.pop("name"), **arguments)


def test_other_settings_begin_anew_and_the_same_go_on(scape, monkeypatch):
    folder = scape.path / "runs" / "N"
    real = finetuning.Finetune.fit

    def stopped(self, *arguments, **options):
        real(self, *arguments, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(finetuning.Finetune, "fit", stopped)
    with pytest.raises(KeyboardInterrupt):
        finetune(scape, "N", encoder="small", held_out=0.2, **SETTINGS)
    written = (folder / "checkpoint.pt").stat().st_mtime_ns
    monkeypatch.setattr(finetuning.Finetune, "fit", real)
    finetune(scape, "N", encoder="small", held_out=0.2, **SETTINGS)
    assert (folder / "checkpoint.pt").stat().st_mtime_ns == written  # all of it was done
    finetune(scape, "N", encoder="small", held_out=0.2, overwrite=True, **{**SETTINGS, "epochs": 1})
    assert read_metrics(folder / "metrics.jsonl")[-1]["epoch"] == 1


class TestGuard:
    def test_copies_know_their_originals(self, made):
        scape = Collection.open(made / "p.scape")
        ids = held_out_ids(scape.ok_ids(), 0.2, 100, seed=0)
        others = np.setdiff1d(scape.ok_ids(), ids)
        way = Preprocessing(size_px=32, cache_px=32, fit="crop", mean=(0.0,) * 3, std=(1.0,) * 3)
        guard = make_guard(
            scape, ids, way, unseen=("shear",), families=("brightness", "jpeg", "shear"), each=3, others=(scape, others)
        )
        copies = guard.copies
        assert len(guard.queries) == 36
        assert len(guard.database) == 10 + 48  # two of twelve are left out
        assert (copies.truth == -1).sum() == 6
        assert set(copies.families) == {"brightness", "jpeg", "shear"}
        # JPEG changes so little that the original is the nearest by its pixels.
        for row in np.flatnonzero((copies.families == "jpeg") & (copies.truth >= 0)):
            apart = np.abs(guard.database.astype(int) - guard.queries[row]).mean((1, 2, 3))
            assert apart.argmin() == copies.truth[row]
        again = make_guard(
            scape, ids, way, unseen=("shear",), families=("brightness", "jpeg", "shear"), each=3, others=(scape, others)
        )
        np.testing.assert_array_equal(again.queries, guard.queries)

    def test_all_attacks_of_the_families(self, made):
        scape = Collection.open(made / "p.scape")
        way = Preprocessing(size_px=32, cache_px=32, fit="crop", mean=(0.0,) * 3, std=(1.0,) * 3)
        guard = make_guard(scape, scape.ok_ids()[:6], way, unseen=("flip",), families=("flip", "jpeg"), each=None)
        assert len(guard.queries) == 6 * 5


class TestFigures:
    def test_groups_are_pictures_and_their_copies(self, done):
        scape, result = done
        figures = finetuning_figures(scape, "better")
        assert list(figures.geometries)[:3] == ["before", "whitened", "epoch 1"]
        before = figures.geometries["before"]
        assert len(before.clusters) == 12
        assert before.size.sum() == 12 * 8 + 10  # eight copies each, and the originals that are there
        assert figures.looks == result.looks
        assert "epoch 2" in str(figures)
        assert json.loads(json.dumps(figures.as_dict()))["kept"] == result.kept.name

    def test_groups_are_classes_or_clusters(self, done):
        scape, _ = done
        figures = finetuning_figures(scape, "better", label="folder" if "folder" in scape.columns else "label")
        assert [len(one.clusters) for one in figures.geometries.values()] == [2] * len(figures.geometries)
        with pytest.raises(InputError, match="no clustering is called 'C'"):
            finetuning_figures(scape, "better", clusters="C")
        with pytest.raises(InputError, match="not both"):
            finetuning_figures(scape, "better", clusters="C", label="label")

    def test_what_is_no_run_is_said(self, done):
        with pytest.raises(InputError, match="'small' is no run of `imagescape finetune`"):
            finetuning_figures(done[0], "small")

    def test_weights_that_are_gone_are_said(self, done, tmp_path):
        shutil.copytree(done[0].path, tmp_path / "p.scape")
        for path in (tmp_path / "p.scape" / "runs" / "better" / "epochs").iterdir():
            path.unlink()
        with pytest.raises(CheckpointError, match="are not in"):
            finetuning_figures(Collection.open(tmp_path / "p.scape"), "better")
