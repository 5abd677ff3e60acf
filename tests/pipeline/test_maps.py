"""The verbs: columns in, columns out, and what a name may be."""

import json
import shutil

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from imagescape.collection.ingest import ingest
from imagescape.collection.results import features, ids_of, map_coords, map_names, stage_coords, stage_names
from imagescape.collection.store import Collection
from imagescape.errors import CheckpointError, InputError
from imagescape.learn.estimator import OtherRun
from imagescape.learn.tsimcne import TSimCNE
from imagescape.pipeline import maps
from imagescape.pipeline.maps import evaluate_map, map_images, map_new_images, train_encoder, training_history

SMALL = {"backbone": "resnet10", "stem": "strided", "width": 4, "hidden": 16, "batch_size": 16, "device": "cpu"}
COLOURS = {"red": (220, 40, 40), "green": (40, 220, 40), "blue": (40, 40, 220)}


def write_images(folder, count, seed=0):
    """Noisy squares of one colour a class folder."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        name = list(COLOURS)[number % 3]
        (folder / name).mkdir(parents=True, exist_ok=True)
        pixels = np.clip(np.array(COLOURS[name]) + rng.normal(0, 30, (20, 20, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / name / f"{seed}-{number:03}.png")


def map_small(scape, name="M", **changes):
    return map_images(scape, name, **({"epochs": (2, 1, 1), "seed": 0} | SMALL | changes))


@pytest.fixture(scope="module")
def mapped(tmp_path_factory):
    """Folder of a collection of 48 good and 2 broken images with the map "M"; tests must leave it as it is."""
    folder = tmp_path_factory.mktemp("pipeline")
    write_images(folder / "images", 48)
    (folder / "images" / "red" / "empty.jpg").write_bytes(b"")
    (folder / "images" / "blue" / "letter.png").write_bytes(b"Dear editor,\n" * 50)
    ingest([folder / "images"], folder / "c.scape")
    map_small(Collection.open(folder / "c.scape"))
    return folder


@pytest.fixture
def scape(mapped, tmp_path):
    """A copy to change."""
    shutil.copytree(mapped / "c.scape", tmp_path / "c.scape")
    return Collection.open(tmp_path / "c.scape")


@pytest.fixture(scope="module")
def unchanged(mapped):
    return Collection.open(mapped / "c.scape")


class TestMap:
    def test_columns_model_and_run(self, unchanged):
        types = {field.name: str(field.type) for field in unchanged.schema}
        assert (types["x_M"], types["y_M"]) == ("float", "float")
        assert types["features_M"].startswith("fixed_size_list<")
        assert types["features_M"].endswith("halffloat>[32]")
        assert map_names(unchanged) == ["M"]
        assert {path.name for path in (unchanged.path / "models" / "M").iterdir()} == {
            "config.json",
            "weights.safetensors",
        }
        assert {line["stage"] for line in training_history(unchanged, "M")} == {1, 2, 3}

    def test_flagged_images_are_not_on_the_map(self, unchanged):
        flagged = np.array(unchanged.read(["status"])["status"].to_pylist()) != "ok"
        assert flagged.sum() == 2
        assert_array_equal(np.isnan(map_coords(unchanged, "M")).all(1), flagged)
        assert_array_equal(np.isnan(features(unchanged, "M")).all(1), flagged)
        assert unchanged.read(["x_M"])["x_M"].null_count == 2  # null in the table, not NaN

    def test_columns_are_what_the_saved_model_says_of_each_row(self, unchanged):
        table = unchanged.read(["uri", "status"]).to_pylist()
        rows = [i for i, row in enumerate(table) if row["status"] == "ok"]
        model = TSimCNE.load(unchanged.path / "models" / "M", device="cpu")
        coords, h = model.transform([table[i]["uri"] for i in rows], return_features=True)
        ours = map_coords(unchanged, "M")[rows]
        assert_allclose(ours, coords, atol=0.02 * np.ptp(ours))
        assert_allclose(features(unchanged, "M")[rows], h, rtol=0.02, atol=0.02 * h.max())

    def test_a_taken_name_is_refused_and_overwritten_when_asked(self, scape):
        before = map_coords(scape, "M")
        with pytest.raises(InputError, match=r"has 'M' already \(x_M, y_M, features_M\).*--overwrite"):
            map_small(scape)
        map_small(scape, overwrite=True, seed=1)
        assert np.nanmax(np.abs(map_coords(scape, "M") - before)) > 0.01
        map_small(scape, overwrite=True, seed=0)
        assert_array_equal(map_coords(scape, "M"), before)
        assert map_names(scape) == ["M"]

    def test_overwriting_trains_again_with_the_same_settings_too(self, scape, monkeypatch):
        from imagescape.learn import estimator

        stages, train = [], estimator.fit
        monkeypatch.setattr(estimator, "fit", lambda *args, **kw: stages.append(kw["stage"]) or train(*args, **kw))
        map_small(scape, overwrite=True)
        assert stages == [1, 2, 3]

    def test_overwriting_leaves_nothing_of_another_dimension(self, scape):
        for out_dim, columns in (
            (3, {"x_M", "y_M", "z_M"}),
            (2, {"x_M", "y_M"}),
            (5, {"coords_M"}),
            (2, {"x_M", "y_M"}),
        ):
            map_small(scape, out_dim=out_dim, overwrite=True, epochs=(1, 1, 0))
            here = {name for name in scape.columns if name.endswith("_M")}
            assert here == columns | {"features_M"}
            assert map_coords(scape, "M").shape == (50, out_dim)
            assert map_names(scape) == ["M"]

    def test_stages_are_kept_beside_the_map_and_go_with_it(self, scape):
        before = map_coords(scape, "M")
        map_small(scape, overwrite=True, keep_stages=True)
        assert_array_equal(map_coords(scape, "M"), before)
        assert map_names(scape) == ["M"]
        assert stage_names(scape, "M") == ["M_stage1", "M_stage2", "M_stage3"]
        first, _, last = stage_coords(scape, "M")
        assert first.shape == last.shape == (50, 2)
        assert_allclose(last, before, atol=1e-3 * np.nanmax(np.abs(before)))
        map_small(scape, overwrite=True)
        assert stage_names(scape, "M") == []
        assert not [column for column in scape.columns if "stage" in column]
        with pytest.raises(InputError, match="stages of 'M' were not kept; map with --keep-stages"):
            stage_coords(scape, "M")

    def test_a_map_that_is_called_like_a_stage_is_left_alone(self, scape):
        map_small(scape, "M_stage2", epochs=(1, 1, 0))
        with pytest.raises(InputError, match="the map M_stage2 has the columns of a stage of 'M'"):
            map_small(scape, overwrite=True, keep_stages=True)
        map_small(scape, overwrite=True)
        assert sorted(map_names(scape)) == ["M", "M_stage2"]

    def test_snapshots_are_in_the_run(self, scape):
        map_small(scape, overwrite=True, epochs=(1, 2, 1), snapshot_epochs=1)
        found = sorted(path.name for path in (scape.path / "runs" / "M" / "snapshots").iterdir())
        assert found == ["stage-2-epoch-1.npy", "stage-2-epoch-2.npy", "stage-3-epoch-1.npy"]
        assert np.load(scape.path / "runs" / "M" / "snapshots" / found[0]).shape == (len(scape.ok_ids()), 2)

    def test_maps_are_named_in_the_order_they_were_made(self, scape):
        for name in ("Z", "A"):
            map_small(scape, name, epochs=(1, 1, 0))
        assert map_names(scape) == ["M", "Z", "A"]

    def test_a_column_of_the_user_is_no_map_and_is_not_overwritten(self, scape):
        values = np.arange(48.0)
        scape.add_columns(scape.ok_ids(), {"x_pos": values, "y_pos": values})
        assert map_names(scape) == ["M"]
        with pytest.raises(InputError, match=r"has 'pos' already \(x_pos, y_pos\)"):
            map_small(scape, "pos")
        assert scape.read(["x_pos"], where="status = 'ok'")["x_pos"].to_pylist() == values.tolist()

    @pytest.mark.parametrize("name", ["", "a b", "../up", "a/b", "a.b", "'"])
    def test_names_are_letters_digits_and_dashes(self, unchanged, name):
        for verb in (map_small, train_encoder):
            with pytest.raises(InputError, match="a name is made of letters, digits, _ and -"):
                verb(unchanged, name)

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"method": "isomap"}, "got 'isomap'"),
            ({"widht": 3}, "no setting 'widht'"),
            ({"batch_size": 49}, "a batch of 49 images needs at least as many images, got 48"),
            ({"backbone": "resnet9"}, "backbone must be one of resnet10"),
        ],
        ids=str,
    )
    def test_bad_settings(self, scape, settings, message):
        with pytest.raises(InputError, match=message):
            map_small(scape, "N", **settings)
        assert "x_N" not in scape.columns
        map_small(scape, "N", epochs=(1, 1, 0), overwrite=True)  # the failed try does not stand in the way

    def test_no_readable_image(self, tmp_path):
        (tmp_path / "images").mkdir()
        (tmp_path / "images" / "empty.jpg").write_bytes(b"")
        ingest([tmp_path / "images"], tmp_path / "c.scape")
        with pytest.raises(InputError, match="no readable image; see: imagescape info"):
            map_small(Collection.open(tmp_path / "c.scape"))

    def test_an_unfinished_run_of_other_settings(self, scape):
        maps.METHODS["tsimcne"](epochs=(1, 1, 1), **SMALL).fit(
            maps._Images(scape), run_folder=scape.path / "runs" / "N"
        )
        with pytest.raises(OtherRun, match="other settings"):
            map_small(scape, "N")
        map_small(scape, "N", overwrite=True)
        assert json.loads((scape.path / "runs" / "N" / "config.json").read_text())["run"]["stages"][0]["epochs"] == 2

    def test_a_run_that_ended_before_its_columns_were_written_is_not_trained_again(self, scape, monkeypatch):
        from imagescape.learn import estimator

        before = map_coords(scape, "M")
        scape.drop_columns(["x_M", "y_M", "features_M"])
        monkeypatch.setattr(estimator, "fit", None)
        map_small(scape)
        assert_array_equal(map_coords(scape, "M"), before)


class TestNewImages:
    def test_new_images_are_placed_and_old_ones_stay(self, mapped, scape, tmp_path):
        assert map_new_images(scape, "M") == 0
        before, old = map_coords(scape, "M"), len(scape)
        write_images(tmp_path / "more", 7, seed=1)
        (tmp_path / "more" / "red" / "bad.jpg").write_bytes(b"")
        ingest([tmp_path / "more"], scape.path)
        assert map_new_images(scape, "M") == 7
        after = map_coords(scape, "M")
        assert_array_equal(after[:old], before)
        table = scape.read(["uri", "status"]).to_pylist()[old:]
        placed = [i for i, row in enumerate(table) if row["status"] == "ok"]
        assert_array_equal(np.isnan(after[old:, 0]), [row["status"] != "ok" for row in table])
        model = TSimCNE.load(scape.path / "models" / "M", device="cpu")
        coords = model.transform([table[i]["uri"] for i in placed])
        assert_allclose(after[old:][placed], coords, atol=0.02 * np.ptp(before[~np.isnan(before[:, 0])]))
        assert not np.isnan(features(scape, "M")[old:][placed]).any()
        assert map_new_images(scape, "M") == 0

    def test_maps_of_many_dimensions_too(self, scape, tmp_path):
        map_small(scape, "five", out_dim=5, epochs=(1, 1, 0))
        write_images(tmp_path / "more", 3, seed=1)
        ingest([tmp_path / "more"], scape.path)
        assert map_new_images(scape, "five") == 3
        assert np.isnan(map_coords(scape, "five")).all(1).sum() == 2

    def test_no_such_map_or_model(self, scape):
        with pytest.raises(InputError, match=r"no map is called 'N'.*there are: M"):
            map_new_images(scape, "N")
        (scape.path / "models" / "M" / "weights.safetensors").unlink()
        scape.update([ids_of(scape)[0]], {"x_M": [None], "y_M": [None]})
        with pytest.raises(CheckpointError, match="cannot be read"):
            map_new_images(scape, "M")


class TestTrainAndEmbed:
    def test_train_writes_features_and_a_model(self, scape):
        model = train_encoder(scape, "simclr", epochs=1, **SMALL)
        assert_allclose(
            features(scape, "simclr")[~np.isnan(features(scape, "simclr")[:, 0])],
            model.features_.astype(np.float16).astype(np.float32),
        )
        assert map_names(scape) == ["M"]
        with pytest.raises(InputError, match=r"has 'simclr' already \(features_simclr\)"):
            train_encoder(scape, "simclr", epochs=1, **SMALL)
        with pytest.raises(InputError, match="method must be one of simclr"):
            train_encoder(scape, "other", method="dino")


class TestEvaluate:
    def test_figures(self, unchanged):
        card, result = evaluate_map(unchanged, "M", label="label", device="cpu")
        assert result["n"] == 48
        assert result["split"] == {"kind": "stratified", "test_rows": 10, "repeats": 3, "seed": 0}
        for key in ("knn15_accuracy", "knn5_accuracy", "silhouette", "knn15_accuracy_features"):
            assert -1 <= result[key] <= 1
        assert result["knn5_accuracy"] == card.value("5-NN accuracy", "map", "stratified")
        assert result["knn15_accuracy_features"] == card.value("15-NN accuracy", "features", "stratified")
        json.dumps(result, allow_nan=False)

    def test_without_labels_there_is_recall(self, unchanged):
        card, result = evaluate_map(unchanged, "M", device="cpu")
        assert result["knn15_accuracy"] is None
        assert 0 < card.value("15-NN recall", "features in map") <= 1

    def test_a_column_of_lists_holds_no_classes(self, scape):
        ids = ids_of(scape)
        scape.add_columns(ids, {"findings": [[0, 1]] * len(ids)})
        with pytest.raises(InputError, match=r"column 'findings' holds list.*, and classes are text"):
            evaluate_map(scape, "M", label="findings", device="cpu")

    def test_unknown_names(self, unchanged):
        with pytest.raises(InputError, match=r"no column is called 'colour'; there are: .*label"):
            evaluate_map(unchanged, "M", label="colour")
        with pytest.raises(InputError, match="no map is called 'N'"):
            evaluate_map(unchanged, "N")
        with pytest.raises(InputError, match=r"no features are called 'N' in .*; there are: M"):
            features(unchanged, "N")
        with pytest.raises(InputError, match="no run is called 'N'"):
            training_history(unchanged, "N")
