"""The estimators: same in, same out; any images, stages, networks; stopped or killed, they end the same."""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from sklearn.base import clone
from torch import nn

from imagescape.errors import CheckpointError, InputError, Interrupted, NotFitted
from imagescape.learn import estimator, train
from imagescape.learn.estimator import OtherRun
from imagescape.learn.recipe import Stage
from imagescape.learn.simclr import SimCLR
from imagescape.learn.train import read_metrics
from imagescape.learn.tsimcne import TSimCNE

ROOT = Path(__file__).parents[2]
SMALL = {"backbone": "resnet10", "stem": "strided", "width": 4, "hidden": 16, "batch_size": 16, "device": "cpu"}


def blobs(n=64, size=16, seed=0):
    """Noisy squares of four colours, in no order."""
    rng = np.random.default_rng(seed)
    colours = np.array([[220, 40, 40], [40, 220, 40], [40, 40, 220], [200, 200, 40]])[rng.integers(0, 4, n)]
    return np.clip(colours[:, None, None] + rng.normal(0, 30, (n, size, size, 3)), 0, 255).astype(np.uint8)


def small(**changes):
    return TSimCNE(**({"epochs": (2, 1, 1), "seed": 0} | SMALL | changes))


def weights(model):
    return {name: tensor.clone() for name, tensor in model.encoder_.network.state_dict().items()}


def assert_same_weights(a, b):
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Sums in another order differ in the last bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class SlowSteps:
    """A clock that goes on by what training steps take, and nothing else; a step is measured to take a minute."""

    now, seconds = 0.0, 60.0

    def monotonic(self):
        return self.now

    def update(self, real, *arguments):
        self.now += self.seconds
        return real(*arguments)


@pytest.fixture
def slow_steps(monkeypatch):
    clock = SlowSteps()
    monkeypatch.setattr(train, "time", clock)
    monkeypatch.setattr(train, "_update", partial(clock.update, train._update))
    monkeypatch.setattr(estimator, "seconds_per_step", lambda *_, **__: 60.0)
    return clock


@pytest.fixture(scope="module")
def images():
    return blobs()


@pytest.fixture(scope="module")
def fitted(images):
    """A small map; tests must leave it as it is."""
    return small().fit(images)


class TestFitAndTransform:
    def test_what_fit_leaves_behind(self, fitted):
        assert fitted.coords_.shape == (64, 2)
        assert fitted.features_.shape == (64, 32)  # resnet10 of width 4: 4 * 2**3
        assert fitted.coords_.dtype == fitted.features_.dtype == np.float32
        assert {line["stage"] for line in fitted.history_} == {1, 2, 3}
        assert all(np.isfinite(line["loss"]) for line in fitted.history_)
        assert (fitted.recipe_.batch_size, fitted.recipe_.size_px, fitted.recipe_.stem) == (16, 16, "strided")

    def test_it_learns(self, images):
        stages = (Stage(epochs=16, dimension=16, kernel="cosine", learning_rate=0.5),)
        history = SimCLR(stages=stages, **SMALL).fit(images).history_
        assert history[-1]["loss"] < history[0]["loss"] - 0.2

    def test_transform_agrees_with_the_coordinates_in_any_order(self, fitted, images):
        coords, features = fitted.transform(images, return_features=True)
        assert_allclose(coords, fitted.coords_, rtol=1e-4, atol=1e-4 * np.abs(fitted.coords_).max())
        assert_allclose(features, fitted.features_, rtol=1e-5, atol=1e-6)
        order = np.random.default_rng(1).permutation(64)
        some = fitted.transform(images[order[:10]])
        assert_allclose(some, fitted.coords_[order[:10]], rtol=2e-2, atol=2e-2 * np.abs(fitted.coords_).max())
        assert_array_equal(fitted.transform(images), coords)

    def test_fit_transform_is_fit_then_transform(self, fitted, images):
        assert_array_equal(small().fit_transform(images, np.zeros(64)), fitted.coords_)

    def test_the_map_is_centred_on_its_principal_axes(self, fitted, images):
        xy = fitted.coords_.astype(np.float64)
        spread = xy.std(0)
        assert (np.abs(xy.mean(0)) < 1e-4 * spread).all()
        covariance = np.cov(xy.T)
        assert abs(covariance[0, 1]) < 1e-4 * covariance[1, 1]
        assert covariance[0, 0] >= covariance[1, 1] > 0
        assert (((xy - xy.mean(0)) ** 3).sum(0) > 0).all()
        again = fitted.transform(images).astype(np.float64)
        assert (np.abs(again.mean(0)) < 1e-3 * spread).all()

    def test_features_are_not_rotated_by_simclr(self, images):
        model = SimCLR(epochs=1, **SMALL).fit(images)
        assert model.coords_.shape == (64, 128)
        assert np.abs(model.coords_.mean(0)).max() > 1e-3

    def test_before_fit_there_is_nothing_to_transform_or_save(self, images, tmp_path):
        for use in (lambda: small().transform(images), lambda: small().save(tmp_path / "model")):
            with pytest.raises(NotFitted, match="this TSimCNE has learned nothing yet: call fit"):
                use()

    def test_global_randomness_is_neither_used_nor_changed(self, fitted, images):
        torch.manual_seed(7)
        expected = torch.rand(3)
        torch.manual_seed(7)
        assert_array_equal(small().fit(images).coords_, fitted.coords_)
        assert torch.equal(torch.rand(3), expected)

    def test_seeds_settle_everything(self, fitted, images):
        named_otherwise = TSimCNE(epochs=(2, 1, 1), random_state=0, **SMALL).fit(images)
        assert_same_weights(weights(named_otherwise), weights(fitted))
        assert np.abs(small(seed=1).fit(images).coords_ - fitted.coords_).max() > 1e-2


class TestImages:
    def test_mixed_sizes_and_shapes_as_pillow_images(self):
        rng = np.random.default_rng(0)
        sizes = [(20, 33), (47, 16), (16, 16), (90, 21)] * 8
        images = [Image.fromarray(rng.integers(0, 256, (h, w, 3), dtype=np.uint8)) for w, h in sizes]
        model = small(size_px=16, epochs=(1, 1, 0)).fit(images)
        assert model.coords_.shape == (32, 2)
        assert model.encoder_.preprocessing.cache_px == 20
        assert_allclose(model.transform(images[:4]), model.coords_[:4], rtol=0.05, atol=0.05 * np.ptp(model.coords_))

    def test_non_square_arrays_and_how_they_are_made_square(self):
        images = blobs(32, 24)[:, :16]
        images[:, :, :4] = 255  # a stripe at the left that "crop" cuts away and "pad" and "squash" keep
        maps = {fit: small(size_px=12, epochs=(1, 1, 0), fit=fit).fit(images) for fit in ("crop", "pad", "squash")}
        means = {fit: model.encoder_.preprocessing.mean for fit, model in maps.items()}
        assert means["squash"][0] > means["crop"][0]
        assert means["pad"] != means["squash"]

    def test_a_dataset_of_images_with_labels(self, fitted, images):
        class Labelled(torch.utils.data.Dataset):
            def __len__(self):
                return len(images)

            def __getitem__(self, i):
                return images[i], int(i)

        model = small(size_px=16, epochs=(1, 1, 0)).fit(Labelled())
        assert model.coords_.shape == (64, 2)

    def test_an_unreadable_image_is_named(self, fitted, tmp_path):
        (tmp_path / "bad.jpg").write_bytes(b"")
        with pytest.raises(InputError, match=r"image 0 .*bad\.jpg"):
            fitted.transform([tmp_path / "bad.jpg"])

    def test_no_images_give_no_coordinates(self, fitted, images):
        assert fitted.transform(images[:0]).shape == (0, 2)

    def test_fewer_images_than_a_batch(self):
        with pytest.raises(InputError, match="a batch of 80 images needs at least as many images, got 64"):
            small(batch_size=80).fit(blobs())

    def test_one_image_has_no_other_to_be_told_from(self):
        with pytest.raises(InputError, match="needs at least 2 images to contrast, got 1"):
            small().fit(blobs(1))

    def test_images_of_one_colour_do_not_divide_by_zero(self):
        model = small(epochs=(1, 1, 0)).fit(np.full((32, 16, 16, 3), 77, np.uint8))
        assert model.encoder_.preprocessing.std == (1.0, 1.0, 1.0)
        assert np.isfinite(model.coords_).all()


class TestSettings:
    @pytest.mark.parametrize("out_dim", [1, 3, 5])
    def test_maps_of_any_dimension(self, images, out_dim):
        model = small(out_dim=out_dim, epochs=(1, 1, 1)).fit(images)
        assert model.coords_.shape == (64, out_dim)
        covariance = np.cov(model.coords_.astype(np.float64).T).reshape(out_dim, out_dim)
        assert np.abs(covariance - np.diag(np.diag(covariance))).max() <= 1e-3 * covariance.max()

    @pytest.mark.parametrize(
        "stages",
        [
            (Stage(epochs=1, dimension=2),),
            (Stage(epochs=1, dimension=8, kernel="cosine"), Stage(epochs=1, dimension=4, kernel="gaussian")),
            (
                Stage(epochs=1, dimension=2, kernel="student_t", decay="linear"),
                Stage(epochs=1, dimension=2, trains="readout"),
                Stage(epochs=1, dimension=3, trains="readout", decay="constant"),
                Stage(epochs=1, dimension=3),
            ),
        ],
        ids=["one", "two", "four"],
    )
    def test_any_list_of_stages(self, images, stages, tmp_path):
        model = TSimCNE(stages=stages, **SMALL).fit(images)
        assert model.coords_.shape == (64, stages[-1].dimension)
        assert {line["stage"] for line in model.history_} == set(range(1, len(stages) + 1))
        model.save(tmp_path / "model")
        assert TSimCNE.load(tmp_path / "model", device="cpu").recipe.stages == stages

    def test_a_stage_of_no_epochs_is_left_out(self):
        assert [stage.dimension for stage in small(epochs=(3, 0, 2)).recipe.stages] == [128, 2]

    def test_a_readout_stage_leaves_the_rest_as_it_was(self, images):
        learned = small(epochs=(2, 0, 0)).fit(images)
        placed = small(epochs=(2, 3, 0)).fit(images)
        before, after = weights(learned), weights(placed)
        same = [name for name in before if name in after and torch.equal(before[name], after[name])]
        assert sorted(before.keys() - same) == ["projector.readout.bias", "projector.readout.weight"]
        assert all(parameter.requires_grad for parameter in placed.encoder_.network.parameters())

    def test_the_last_stage_refines_everything(self, images):
        placed, refined = (weights(small(epochs=(2, 1, last)).fit(images)) for last in (0, 2))
        assert not torch.equal(placed["backbone.stem.0.weight"], refined["backbone.stem.0.weight"])

    def test_ready_pairs_from_a_dataset(self, images):
        class Pairs(torch.utils.data.Dataset):
            """A picture and its mirror image."""

            asked = 0

            def __len__(self):
                return len(images)

            def __getitem__(self, i):
                Pairs.asked += 1
                view = torch.from_numpy(images[i]).permute(2, 0, 1) / 255
                return view, view.flip(2)

        model = small(augment=Pairs()).fit(images)
        assert model.coords_.shape == (64, 2)
        assert Pairs.asked >= 64 * 3
        with pytest.raises(InputError, match="the dataset of pairs has 64 items for 32 images"):
            small(augment=Pairs()).fit(images[:32])

    def test_neighbours_as_positives_come_to_lie_together(self, images):
        """The graph pairs red with green and blue with yellow: nothing in the pixels does."""
        colour = np.random.default_rng(0).integers(0, 4, 64)  # as `blobs` draws them
        partner = np.array([1, 0, 3, 2])[colour]
        graph = np.stack([np.flatnonzero(colour == other)[:5] for other in partner])
        stages = (Stage(epochs=10, dimension=8, kernel="cosine", learning_rate=0.02),)
        settings = {"stages": stages, "epochs": None, "optimizer": "adamw", "augment": "medical"}
        together = []
        for changes, given in (({}, None), ({"neighbor_fraction": 0.5}, lambda: graph)):
            coords = small(**settings, **changes).fit(images, graph=given).coords_
            means = np.stack([coords[colour == one].mean(0) for one in range(4)])
            means /= np.linalg.norm(means, axis=1, keepdims=True)
            together.append(means[0] @ means[1] + means[2] @ means[3])
        assert together[1] > together[0] + 0.5

    def test_stages_of_the_head_see_neighbours_too(self, images):
        graph = np.roll(np.arange(64), 1)[:, None]
        alone = small(epochs=(1, 3, 0), seed=1).fit(images)
        mixed = small(epochs=(1, 3, 0), seed=1, neighbor_fraction=1).fit(images, graph=graph)
        assert np.abs(alone.coords_ - mixed.coords_).max() > 0.01

    @pytest.mark.parametrize(
        ("fraction", "given", "message"),
        [
            (0.5, None, "need both, a graph and a neighbor_fraction above 0"),
            (0, np.zeros((64, 1), int), "need both"),
            (0.5, np.zeros((32, 1), int), "a graph of 64 images has 64 lists"),
        ],
    )
    def test_a_graph_and_a_fraction_belong_together(self, images, fraction, given, message):
        with pytest.raises(InputError, match=message):
            small(neighbor_fraction=fraction).fit(images, graph=given)

    def test_ready_pairs_take_no_neighbours(self, images):
        with pytest.raises(InputError, match="takes no neighbor_fraction"):
            small(augment=[(0, 0)] * 64, neighbor_fraction=0.5).fit(images, graph=np.zeros((64, 1), int))

    def test_a_run_of_other_neighbours_is_another_run(self, images, tmp_path):
        graph = np.roll(np.arange(64), 1)[:, None]
        model = small(neighbor_fraction=0.5).fit(images, graph=graph, run_folder=tmp_path)
        again = small(neighbor_fraction=0.5).fit(images, graph=graph, run_folder=tmp_path)
        assert_array_equal(model.coords_, again.coords_)
        with pytest.raises(OtherRun):
            small(neighbor_fraction=0.5).fit(images, graph=graph[::-1], run_folder=tmp_path)

    def test_an_augmentation_of_ones_own(self, images, tmp_path):
        seen = []

        def noise(pixels, generator):
            seen.append((pixels.dtype, tuple(pixels.shape)))
            views = pixels.permute(0, 3, 1, 2) / 255
            return views + 0.1 * torch.randn(views.shape, generator=generator)

        model = small(augment=noise).fit(images)
        assert set(seen) == {(torch.uint8, (16, 16, 16, 3)), (torch.uint8, (64, 16, 16, 3))}
        model.save(tmp_path / "model")
        loaded = TSimCNE.load(tmp_path / "model", device="cpu")
        assert_array_equal(loaded.transform(images), model.transform(images))

    @pytest.mark.parametrize(
        ("changes", "name", "end"),
        [
            ({"kernel": "cosine", "temperature": 0.4, "learn_temperature": True}, "temperature", "elsewhere"),
            ({"kernel": "cauchy", "temperature": 0.4}, "temperature", 0.4),
            ({"kernel": "gaussian", "temperature": 0.4, "final_temperature": 0.1}, "temperature", 0.1),
            ({"kernel": "student_t", "dof": 0.4, "learn_dof": True}, "dof", "elsewhere"),
            ({"kernel": "student_t", "dof": 0.4}, "dof", 0.4),
            ({"kernel": "student_t", "dof": 0.4, "final_dof": 2}, "dof", 2),
        ],
    )
    def test_temperature_and_dof_stay_are_learned_or_led(self, images, tmp_path, changes, name, end):
        TSimCNE(stages=(Stage(epochs=3, dimension=8, **changes),), **SMALL).fit(images, run_folder=tmp_path)
        state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["model"]
        (value,) = (tensor.exp().item() for key, tensor in state.items() if key.endswith(f"{name}.logarithm"))
        assert abs(value - 0.4) > 1e-5 if end == "elsewhere" else value == pytest.approx(end)

    def test_a_decoupled_stage_is_trained_so(self, images):
        """From the same start, the first step's loss lacks the positive's share."""
        stage = {"epochs": 1, "dimension": 8, "kernel": "cosine"}
        coupled, decoupled = (
            TSimCNE(stages=(Stage(**stage, decoupled=choice),), **SMALL).fit(images).history_[0]["loss"]
            for choice in (False, True)
        )
        assert decoupled < coupled - 0.01

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"preset": "huge"}, "preset must be one of paper, fast, tiny"),
            ({"epochs": (1, 2)}, "epochs must be 3 numbers"),
            ({"epochs": 20}, "epochs must be 3 numbers"),
            ({"epochs": ("a", "b", "c")}, "epochs must be 3 numbers"),
            ({"epochs": (0, 0, 0)}, "epochs must be 3 numbers"),
            ({"stages": ()}, "give either stages, or epochs and out_dim"),
            ({"out_dim": 0}, "at least 1 dimension, got 0"),
            ({"out_dim": "2"}, "dimension must be a whole number, got '2'"),
            ({"batch_size": 1}, "batch_size must be at least 2"),
            ({"batch_size": "64"}, "batch_size must be a whole number, got '64'"),
            ({"width": 0}, "width must be at least 1, got 0"),
            ({"size_px": 0}, "size_px must be at least 1, got 0"),
            ({"hidden": 2.5}, "hidden must be a whole number, got 2.5"),
            ({"seed": "x"}, "seed must be a whole number, got 'x'"),
            ({"width": None}, "width must be a whole number, got None"),
            ({"clip_gradient": "four"}, "clip_gradient must be a number, got 'four'"),
            ({"minutes": 0}, "minutes must be above 0"),
            ({"fit": "stretch"}, "fit must be 'crop', 'pad' or 'squash'"),
            ({"stem": "big"}, "stem must be one of auto"),
            ({"augment": "none"}, "augment must be one of contrastive"),
            ({"neighbor_fraction": 2}, "neighbor_fraction must be 0 to 1, got 2"),
            ({"widht": 3}, "there is no setting 'widht'; there are stages, backbone,"),
        ],
        ids=str,
    )
    def test_bad_settings_are_told_at_once(self, settings, message):
        with pytest.raises(InputError, match=message):
            small(**settings)

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"epochs": 0}, "at least 1 epoch"),
            ({"epochs": [1, 2, 3]}, "epochs must be a whole number"),
            ({"temperature": "warm"}, "temperature must be a number"),
            ({"temperature": 0}, "temperature must be above 0"),
            ({"preset": "fast"}, "preset must be one of paper, tiny, got 'fast'"),
        ],
        ids=str,
    )
    def test_bad_settings_of_simclr(self, settings, message):
        with pytest.raises(InputError, match=message):
            SimCLR(**(SMALL | settings))

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"backbone": "resnet9"}, "backbone must be one of resnet10, resnet18"),
            ({"backbone": nn.Identity()}, "a backbone must say how wide its features are"),
            ({"device": "abacus"}, "device must be 'auto' or one of"),
            ({"optimizer": "lbfgs"}, "optimizer must be one of sgd"),
        ],
        ids=str,
    )
    def test_bad_settings_that_fit_finds(self, images, settings, message):
        with pytest.raises(InputError, match=message):
            small(**settings).fit(images)

    def test_the_first_stage_cannot_only_place(self):
        with pytest.raises(InputError, match="the first stage cannot train only the readout"):
            small(epochs=(0, 2, 2))


class TestWhileItLearns:
    def test_the_map_after_each_stage(self, fitted, images):
        model = small().fit(images, keep_stages=True)
        assert_same_weights(weights(model), weights(fitted))
        assert [coords.shape for coords in model.stage_coords_] == [(64, 2)] * 3
        assert_allclose(model.stage_coords_[-1], fitted.coords_, atol=1e-4 * np.abs(fitted.coords_).max())
        assert np.abs(model.stage_coords_[1] - model.stage_coords_[2]).max() > 0
        features = small(epochs=(2, 0, 0)).fit(images).coords_.astype(np.float64)
        centred = features - features.mean(0)
        _, _, axes = np.linalg.svd(centred, full_matrices=False)
        expected = np.abs(centred @ axes[:2].T)
        assert_allclose(np.abs(model.stage_coords_[0]), expected, atol=1e-3 * expected.max())

    def test_stages_of_an_earlier_process_are_kept_too(self, images, tmp_path):
        whole = small().fit(images, keep_stages=True)
        small().fit(images, run_folder=tmp_path)
        (tmp_path / "stage-3.safetensors").unlink()
        again = small().fit(images, run_folder=tmp_path, keep_stages=True)
        for ours, theirs in zip(again.stage_coords_, whole.stage_coords_, strict=True):
            assert_array_equal(ours, theirs)

    def test_snapshots_are_saved_and_told_and_change_nothing(self, images, tmp_path):
        told = []
        epochs = (2, 3, 4)
        model = small(epochs=epochs).fit(
            images,
            run_folder=tmp_path,
            snapshot_epochs=2,
            callback=lambda stage, epoch, coords: told.append((stage, epoch, coords)),
        )
        plain = small(epochs=epochs).fit(images)
        assert_same_weights(weights(model), weights(plain))
        assert_array_equal(model.coords_, plain.coords_)
        assert [one[:2] for one in told] == [(2, 2), (3, 2), (3, 4)]  # not of 128 dimensions
        for stage, epoch, coords in told:
            assert_array_equal(np.load(tmp_path / "snapshots" / f"stage-{stage}-epoch-{epoch}.npy"), coords)
            assert coords.shape == (64, 2)
        # After the last epoch only the turn to the principal axes is left: distances are the map's.
        last, final = (np.linalg.norm(c[:, None] - c[None], axis=-1) for c in (told[-1][2], plain.coords_))
        assert_allclose(last, final, rtol=1e-3, atol=1e-3 * final.max())

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"snapshot_epochs": 0}, "snapshot_epochs must be a whole number of at least 1, got 0"),
            ({"keep_stages": "all"}, "keep_stages must be true or false, got 'all'"),
            ({"snapshot_epochs": 3}, "snapshots go to a callback or a run folder"),
            ({"callback": print}, "a callback is given the map every snapshot_epochs: say how many"),
        ],
        ids=str,
    )
    def test_options_that_cannot_be(self, images, options, message):
        with pytest.raises(InputError, match=message):
            small().fit(images, **options)


class Pooled(nn.Module):
    """A backbone of the user's own."""

    out_features = 12

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 12, 3, 2), nn.ReLU())

    def forward(self, images):
        return self.layers(images).mean((2, 3))


class TestNetworks:
    def test_a_module_of_ones_own_and_loading_it_back(self, images, tmp_path):
        torch.manual_seed(0)
        module = Pooled()
        start = {name: tensor.clone() for name, tensor in module.state_dict().items()}
        model = small(backbone=module).fit(images)
        assert model.features_.shape == (64, 12)
        assert_same_weights(module.state_dict(), start)  # trained is a copy, so a second fit is the first again
        assert_array_equal(small(backbone=module).fit(images).coords_, model.coords_)
        model.save(tmp_path / "model")
        loaded = TSimCNE.load(tmp_path / "model", backbone=Pooled(), device="cpu")
        assert_array_equal(loaded.transform(images), model.transform(images))
        with pytest.raises(CheckpointError, match="pass the module as backbone="):
            TSimCNE.load(tmp_path / "model")

    def test_a_module_that_has_learned_something_may_begin_with_its_readout(self, images, tmp_path):
        stages = (Stage(epochs=2, dimension=2, trains="readout"),)
        model = TSimCNE(stages=stages, **SMALL | {"backbone": Pooled()}).fit(images)
        model.save(tmp_path / "model")
        loaded = TSimCNE.load(tmp_path / "model", backbone=Pooled(), device="cpu")
        assert_array_equal(loaded.transform(images), model.transform(images))

    def test_warm_start_from_a_saved_model(self, fitted, images, tmp_path):
        fitted.save(tmp_path / "model")
        stages = (Stage(epochs=1, dimension=2, trains="readout"),)
        warm = TSimCNE(stages=stages, **SMALL | {"backbone": str(tmp_path / "model"), "width": 64}).fit(images)
        body = {name: tensor for name, tensor in weights(warm).items() if name.startswith("backbone.")}
        assert_same_weights(body, {name: t for name, t in weights(fitted).items() if name.startswith("backbone.")})
        assert warm.encoder_.preprocessing.mean == fitted.encoder_.preprocessing.mean
        assert warm.encoder_.architecture.width == 4
        warm.save(tmp_path / "warm")
        (tmp_path / "model").rename(tmp_path / "moved")  # the new model stands on its own
        loaded = TSimCNE.load(tmp_path / "warm", device="cpu")
        assert_array_equal(loaded.transform(images), warm.transform(images))


class TestSaving:
    def test_a_loaded_model_is_the_saved_one_bit_for_bit(self, fitted, images, tmp_path):
        fitted.save(tmp_path / "model")
        loaded = TSimCNE.load(tmp_path / "model", device="cpu")
        for ours, theirs in zip(*(m.transform(images, return_features=True) for m in (fitted, loaded)), strict=True):
            assert_array_equal(ours, theirs)
        assert loaded.recipe.stages == fitted.recipe.stages
        assert loaded.recipe.as_json() == fitted.recipe_.as_json()
        loaded.save(tmp_path / "again")
        for name in ("config.json", "weights.safetensors"):
            assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "model" / name).read_bytes()

    def test_a_loaded_model_can_be_fitted_again(self, fitted, images, tmp_path):
        fitted.save(tmp_path / "model")
        again = TSimCNE.load(tmp_path / "model", device="cpu").fit(images)
        assert_same_weights(weights(again), weights(fitted))

    def test_a_model_of_another_method_is_refused(self, fitted, tmp_path):
        fitted.save(tmp_path / "model")
        with pytest.raises(CheckpointError, match="is a TSimCNE, not a SimCLR"):
            SimCLR.load(tmp_path / "model")

    def test_what_is_no_model_is_refused(self, tmp_path):
        with pytest.raises(CheckpointError, match="is not a saved model"):
            TSimCNE.load(tmp_path)


class TestScikitLearn:
    def test_arguments_come_back_by_name(self):
        model = TSimCNE(epochs=(3, 2, 1), preset="tiny", width=8)
        assert model.get_params() == {
            "epochs": (3, 2, 1), "out_dim": 2, "preset": "tiny", "random_state": None, "width": 8
        }  # fmt: skip
        assert SimCLR(epochs=3, seed=2).get_params() == {
            "epochs": 3, "temperature": 0.5, "preset": "paper", "random_state": None, "seed": 2
        }  # fmt: skip

    @pytest.mark.parametrize(
        "model",
        [
            TSimCNE(epochs=[3, 2, 1], preset="tiny", random_state=3, width=8),
            TSimCNE(stages=(Stage(epochs=1, dimension=2),), backbone=Pooled()),
            SimCLR(epochs=2, temperature=0.2),
        ],
        ids=["map", "stages", "simclr"],
    )
    def test_clone(self, model):
        copy = clone(model)
        assert copy is not model
        assert copy.recipe.as_json() == model.recipe.as_json()
        assert copy.get_params().keys() == model.get_params().keys()

    def test_a_clone_has_learned_nothing(self, fitted):
        assert clone(fitted).encoder_ is None
        assert clone(fitted).recipe == fitted.recipe

    def test_set_params_goes_through_the_constructor(self):
        model = TSimCNE(preset="tiny").set_params(epochs=(7, 1, 1), width=16, out_dim=3)
        assert model.recipe == TSimCNE(preset="tiny", epochs=(7, 1, 1), width=16, out_dim=3).recipe
        assert model.set_params(preset="fast").recipe.backbone == "resnet18"
        with pytest.raises(InputError, match="preset must be one of"):
            model.set_params(preset="huge")
        assert model.get_params()["preset"] == "fast"


class TestRuns:
    def test_the_folder_says_what_was_run(self, images, tmp_path):
        model = small().fit(images, run_folder=tmp_path / "run")
        config = json.loads((tmp_path / "run" / "config.json").read_text())
        assert config["run"] == json.loads(json.dumps(model.recipe_.as_json()))
        assert config["asked"]["images"].startswith("64 images, ")
        assert {"torch", "imagescape", "numpy"} <= config["versions"].keys()
        assert read_metrics(tmp_path / "run" / "metrics.jsonl") == model.history_

    def test_recording_changes_nothing(self, fitted, images, tmp_path):
        assert_same_weights(weights(small().fit(images, run_folder=tmp_path)), weights(fitted))

    def test_a_finished_run_is_not_run_again(self, images, tmp_path, monkeypatch):
        first = small().fit(images, run_folder=tmp_path)
        monkeypatch.setattr(estimator, "fit", None)
        again = small().fit(images, run_folder=tmp_path)
        assert_same_weights(weights(again), weights(first))
        assert_array_equal(again.coords_, first.coords_)
        assert again.history_ == first.history_

    @pytest.mark.parametrize("other", [{"seed": 1}, {"epochs": (2, 1, 2)}, {"width": 8}, "images"], ids=str)
    def test_a_folder_of_another_run_is_refused(self, images, tmp_path, other):
        small().fit(images, run_folder=tmp_path)
        run, seen = (small(), images[:48]) if other == "images" else (small(**other), images)
        with pytest.raises(OtherRun, match="other settings or other images; overwrite it"):
            run.fit(seen, run_folder=tmp_path)

    @pytest.mark.parametrize(
        ("minutes", "step_seconds", "epochs"), [(40, 60, (5, 1, 3)), (64, 60, (9, 1, 5)), (64, 90, (6, 1, 3))]
    )
    def test_minutes_scale_the_epochs(self, images, slow_steps, minutes, step_seconds, epochs):
        """At a minute a step an epoch takes 4. Caches take 5.3 and the head 4; two thirds of the rest are stage 1's."""
        slow_steps.seconds = step_seconds
        model = small(minutes=minutes).fit(images)
        assert tuple(stage.epochs for stage in model.recipe_.stages) == epochs
        trained = [line["epoch"] for line in model.history_ if line["stage"] == 3]
        assert trained[-1] == epochs[2]

    def test_time_is_parted_among_the_stages_once(self, images, tmp_path, slow_steps, monkeypatch):
        def stop(stage, epoch, _):
            if (stage, epoch) == (3, 1):
                raise Interrupted("as Ctrl-C would")

        with pytest.raises(Interrupted):
            small(minutes=40).fit(images, run_folder=tmp_path, snapshot_epochs=1, callback=stop)
        monkeypatch.setattr(estimator, "seconds_per_step", None)  # the run has begun
        model = small(minutes=40).fit(images, run_folder=tmp_path)
        assert [stage.epochs for stage in model.recipe_.stages] == [5, 1, 3]

    def test_the_epochs_that_were_run_are_on_record(self, images, tmp_path, slow_steps):
        slow_steps.seconds = 30
        model = small(minutes=40).fit(images, run_folder=tmp_path)
        run = json.loads((tmp_path / "config.json").read_text())["run"]
        assert [stage["epochs"] for stage in run["stages"]] == [10, 1, 5]
        assert run == json.loads(json.dumps(model.recipe_.as_json()))

    @pytest.mark.parametrize("minutes", [0, -1, float("nan")])
    def test_a_stage_has_more_than_no_time(self, minutes):
        with pytest.raises(InputError, match="minutes of a stage must be above 0"):
            Stage(epochs=1, dimension=2, minutes=minutes)

    def test_a_stage_of_minutes_needs_none_of_the_recipe(self, images, slow_steps):
        """12 minutes are three epochs of four steps of a minute, whatever was guessed."""
        stages = (Stage(epochs=2, dimension=2, minutes=12),)
        assert TSimCNE(stages=stages, **SMALL).fit(images).recipe_.stages[0].epochs == 3

    def test_too_few_minutes_are_an_epoch_each(self, images):
        model = small(minutes=1e-9).fit(images)
        assert [stage.epochs for stage in model.recipe_.stages] == [1, 1, 1]

    def test_a_checkpoint_of_another_shape_is_refused(self, images, tmp_path):
        small().fit(images, run_folder=tmp_path)
        (tmp_path / "stage-3.safetensors").unlink()
        state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
        state["model"]["network.projector.readout.weight"] = torch.zeros(7, 16)
        torch.save(state, tmp_path / "checkpoint.pt")
        with pytest.raises(CheckpointError, match="is of another network"):
            small().fit(images, run_folder=tmp_path)


# Trains in children of one process that has imported everything, one thread each. A child with a moment
# (stage, steps done in it) kills itself with SIGKILL before the next step; "3, 0" is after stage 2 is stored.
KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from imagescape.learn import train
from imagescape.learn.tsimcne import TSimCNE

folder, images = Path(sys.argv[1]), np.load(sys.argv[2])

def in_child(work):
    child = os.fork()
    if not child:
        try:
            work()
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def fit(name):
    model = TSimCNE(epochs=(3, 3, 3), seed=5, backbone="resnet10", stem="strided", width=4, hidden=16, batch_size=16,
                    device="cpu")
    model.fit(images, run_folder=folder / name)
    model.save(folder / name / "model")

def fit_until(name, stage, steps):
    update = train._update
    def fatal(objective, optimizer, pairs, batches, clip, step, fabric):
        if (batches.seed[1], step) == (stage, steps):
            os.kill(os.getpid(), signal.SIGKILL)
        return update(objective, optimizer, pairs, batches, clip, step, fabric)
    train._update = fatal
    due = iter(range(1, 1000))
    train.Record.is_due = lambda self: next(due) % 3 == 0  # so that a kill loses steps
    fit(name)

assert in_child(lambda: fit("whole")) == 0
for moment in ((1, 7), (2, 7), (3, 0), (3, 8)):
    name = "{}-{}".format(*moment)
    assert in_child(lambda: fit_until(name, *moment)) == -signal.SIGKILL
    assert in_child(lambda: fit(name)) == 0
"""


def test_a_run_killed_at_any_moment_ends_as_one_that_was_not(images, tmp_path):
    np.save(tmp_path / "images.npy", images)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(tmp_path / "images.npy")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    whole = tmp_path / "whole"
    steps = [(line["stage"], line["step"], line["loss"]) for line in read_metrics(whole / "metrics.jsonl")]
    assert len(steps) == 36
    for moment in ("1-7", "2-7", "3-0", "3-8"):
        run = tmp_path / moment
        weights = "model/weights.safetensors"
        assert (run / weights).read_bytes() == (whole / weights).read_bytes(), moment
        resumed = [(line["stage"], line["step"], line["loss"]) for line in read_metrics(run / "metrics.jsonl")]
        assert resumed == steps, moment


@pytest.mark.parametrize(("epochs", "views"), [(1, 2), (3, 6), (9, 8)])
def test_a_stage_of_the_head_makes_no_more_views_than_it_can_use(images, monkeypatch, epochs, views):
    made = []
    cache_views = estimator.cache_views

    def remember(*arguments, **options):
        made.append(options["views"])
        return cache_views(*arguments, **options)

    monkeypatch.setattr(estimator, "cache_views", remember)
    small(epochs=(1, epochs, 0)).fit(images)
    assert made == [views]
