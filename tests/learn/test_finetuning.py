"""Fine-tuning: the best network is kept, what is frozen stays, and a run that was stopped ends as one that was not."""

import json
import os
import signal

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from imagescape.errors import InputError, Interrupted
from imagescape.evaluate.looks import Copies
from imagescape.learn import finetuning
from imagescape.learn.descriptor import Described
from imagescape.learn.encoder import Architecture, Encoder
from imagescape.learn.finetuning import Finetune
from imagescape.learn.finetuning_recipe import FinetuneRecipe
from imagescape.learn.guard import Guard
from imagescape.learn.preprocessing import Preprocessing
from imagescape.learn.watch import read_looks, weights_path

QUICK = {"epochs": 2, "batch_size": 16, "looks": 2, "device": "cpu", "precision": "fp32", "size_px": 32}
COPIES = {"recipe": "copies", "dimensions": 16, **QUICK}


@pytest.fixture(scope="module")
def encoder():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        architecture = Architecture(backbone="resnet10", stem="strided", width=4)
        way = Preprocessing(size_px=32, cache_px=32, fit="crop", mean=(0.5,) * 3, std=(0.25,) * 3)
        network = architecture.build()
        return Encoder(network, architecture, way, name="small", device="cpu", precision="fp32")


def pictures(count, seed=0, side=40):
    """Smooth random pictures, all different."""
    coarse = torch.from_numpy(np.random.default_rng(seed).uniform(0, 255, (count, 3, 5, 5)).astype(np.float32))
    fine = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic").clamp(0, 255)
    return fine.permute(0, 2, 3, 1).round().to(torch.uint8).numpy()


def plain_body(model):
    """The network that was trained, without what stands on it."""
    backbone = model.encoder_.network.backbone
    return backbone.body.body if isinstance(backbone, Described) else backbone


@pytest.fixture(scope="module")
def images():
    return pictures(48)


def guard_of(seed=1):
    """Ten pictures, eight of them in the database; copies are dark (seen) or mirrored (unseen)."""
    originals = pictures(10, seed, 32)
    copies = np.concatenate([originals // 2, originals[:, :, ::-1]])
    which = np.tile(np.arange(10), 2)
    return Guard(
        database=np.concatenate([originals[:8], pictures(20, seed + 1, 32)]),
        queries=copies,
        copies=Copies(
            truth=np.where(which < 8, which, -1),
            originals=which,
            families=np.repeat(["brightness", "flip"], 10),
            unseen=("flip",),
        ),
    )


@pytest.fixture(scope="module")
def trained(encoder, images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return Finetune(encoder, **COPIES).fit(images, guard=guard_of(), run_folder=folder), folder


class TestWhatIsKept:
    def test_is_the_best_of_all_looks(self, trained):
        model, _ = trained
        assert [one.name for one in model.looks_][:4] == ["before", "whitened", "epoch 1", "epoch 2"]
        candidates = [one for one in model.looks_ if one.name != "before"]
        assert model.kept_.score == max(one.score for one in candidates)
        assert model.regressed_ == (model.kept_.score < model.looks_[0].score)

    def test_is_what_the_encoder_gives(self, trained):
        model, _ = trained
        again = guard_of().look(model.encoder_, name=model.kept_.name, epoch=model.kept_.epoch)
        assert again == model.kept_

    def test_survives_saving(self, trained, images, tmp_path):
        model, _ = trained
        model.save(tmp_path / "model", began_with="small")
        loaded = Encoder.load(tmp_path / "model", device="cpu", precision="fp32")
        assert loaded.out_features == 16
        assert_close(loaded.encode(images)[0], model.transform(images))
        rows = model.transform(images)
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)

    def test_looks_and_weights_are_on_disk(self, trained):
        model, folder = trained
        assert read_looks(folder) == model.looks_
        assert all(weights_path(folder, epoch).exists() for epoch in (0, 1, 2))

    def test_a_regression_is_one(self, encoder, images, monkeypatch):
        """A guard that likes the old encoder best, whatever comes."""
        real = Copies.look

        def look(self, *arrays, name, **options):
            found = real(self, *arrays, name=name, **options)
            worse = 0.9 if name == "before" else 0.1
            return type(found)(
                **{
                    **{field: getattr(found, field) for field in found.__slots__},
                    "figures": type(found.figures)(
                        recall_at_1=worse,
                        average_precision=worse,
                        recall_at_precision=worse,
                        distance_at_precision=None,
                    ),
                }
            )

        monkeypatch.setattr(Copies, "look", look)
        model = Finetune(encoder, **COPIES).fit(images, guard=guard_of())
        assert model.regressed_


@pytest.mark.parametrize("recipe", ["simclr", "copies", "neighbors"])
class TestEveryRecipe:
    def test_changes_what_it_may_and_nothing_else(self, encoder, images, recipe):
        before = {name: value.clone() for name, value in encoder.network.backbone.state_dict().items()}
        model = Finetune(encoder, recipe=recipe, freeze_parts=4, learning_rate=0.01, **QUICK).fit(images)
        body = plain_body(model)
        after = body.state_dict()
        assert_close(encoder.network.backbone.state_dict(), before)  # what was given is as it was
        changed = {name for name, value in before.items() if not value.equal(after[name])}
        last = {name for name, _ in encoder.network.backbone.stages[3].named_parameters()}
        assert changed == {f"stages.3.{name}" for name in last}

    def test_learned_batch_norm_follows_the_batches_of_what_learns(self, encoder, images, recipe):
        model = Finetune(encoder, recipe=recipe, freeze_parts=4, batch_norm="learned", **QUICK).fit(images)
        body = plain_body(model)
        old = encoder.network.backbone
        assert_close(body.stem[1].running_mean, old.stem[1].running_mean)
        moved = body.stages[3].residual[1].running_mean - old.stages[3].residual[1].running_mean
        assert moved.abs().max() > 1e-4

    def test_same_seed_same_network(self, encoder, images, recipe):
        one, other, third = (
            Finetune(encoder, recipe=recipe, random_state=seed, **QUICK).fit(images).transform(images)
            for seed in (1, 1, 2)
        )
        assert_close(one, other, atol=0, rtol=0)
        assert np.abs(one - third).max() > 1e-5

    def test_the_loss_falls(self, encoder, images, recipe):
        settings = {**QUICK, "epochs": 20, "looks": 1, "jitter": 0.1, "batch_norm": "learned", "warmup_epochs": 0.0}
        model = Finetune(encoder, recipe=recipe, freeze_parts=0, learning_rate=3e-3, **settings).fit(images)
        losses = [line["loss"] for line in model.history_]
        assert np.mean(losses[-20:]) < np.mean(losses[:3]) - 0.1

    def test_of_kept_views_of_the_frozen_parts(self, encoder, images, recipe):
        settings = {**QUICK, "mixed_fraction": 0.0, "cached_views": 4, "freeze_parts": 3, "learning_rate": 0.01}
        model = Finetune(encoder, recipe=recipe, **settings).fit(images)
        assert np.isfinite(model.transform(images)).all()
        body = plain_body(model)
        moved = body.stages[3].residual[0].weight - encoder.network.backbone.stages[3].residual[0].weight
        assert moved.abs().max() > 1e-4


def test_a_stopped_run_ends_as_an_uninterrupted_one(encoder, images, tmp_path, monkeypatch, trained):
    whole, _ = trained
    real, calls = finetuning.Watch.at_epoch, 0

    def stopping(self, new, epoch):
        nonlocal calls
        calls += 1
        real(self, new, epoch)
        if calls == 1:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(finetuning.Watch, "at_epoch", stopping)
    with pytest.raises(Interrupted):
        Finetune(encoder, **COPIES).fit(images, guard=guard_of(), run_folder=tmp_path)
    again = Finetune(encoder, **COPIES).fit(images, guard=guard_of(), run_folder=tmp_path)
    assert calls == 2
    assert again.looks_ == whole.looks_
    assert_close(again.transform(images), whole.transform(images), atol=0, rtol=0)


def test_mixed_copies_are_learned_from(encoder, images):
    settings = {**COPIES, "epochs": 12, "mixed_fraction": 0.5, "learning_rate": 3e-3, "looks": 1}
    model = Finetune(encoder, **settings).fit(images)
    assert (model.recipe_.cached_views, model.recipe_.mixed_fraction) == (0, 0.5)
    losses = [line["loss"] for line in model.history_]
    assert np.mean(losses[-6:]) < np.mean(losses[:3])


def test_views_are_kept_without_a_gpu_and_never_mixed_then(trained):
    model, _ = trained
    assert (model.recipe_.cached_views, model.recipe_.mixed_fraction) == (6, 0.0)


class TestMinutes:
    @pytest.fixture
    def planned(self, encoder, images, tmp_path):
        """A run whose plan an earlier process has left."""

        def run(plan):
            (tmp_path / "plan.json").write_text(json.dumps(plan))
            settings = {**COPIES, "minutes": 0.05}
            return Finetune(encoder, **settings).fit(images, guard=guard_of(), run_folder=tmp_path)

        return run

    def test_settle_the_epochs_and_leave_a_plan(self, encoder, images, tmp_path):
        model = Finetune(encoder, **COPIES, minutes=0.05).fit(images, run_folder=tmp_path)
        plan = json.loads((tmp_path / "plan.json").read_text())
        assert plan["epochs"] >= 1
        assert 0 <= plan["seconds"] < 3
        assert model.recipe_.epochs == model.history_[-1]["epoch"] >= 1

    def test_have_room_for_the_looks_on_the_way_and_after(self, encoder, images, monkeypatch):
        class Asked(Exception):
            pass

        def fit(network, pairs, loss, schedule, *, seconds, **rest):
            raise Asked(schedule.epochs, seconds)

        monkeypatch.setattr(finetuning, "fit", fit)
        monkeypatch.setattr(finetuning, "seconds_per_step", lambda *arguments, **rest: 0.1)
        monkeypatch.setattr(finetuning.Watch, "before", lambda watch: setattr(watch, "seconds_a_look", 10.0))
        with pytest.raises(Asked) as asked:
            Finetune(encoder, **COPIES, minutes=10).fit(images, guard=guard_of())
        epochs, seconds = asked.value.args
        assert seconds == pytest.approx(600 - 4 * 10 - 10, abs=9)  # three ways back, whitened again; measuring a step
        assert epochs == pytest.approx((seconds - 2 * 10) / 0.3, abs=1)  # two looks, three steps an epoch

    def test_are_kept_by_fewer_epochs_than_planned(self, planned):
        model = planned({"epochs": 30, "seconds": 0.0})
        assert model.recipe_.epochs == model.history_[-1]["epoch"] == 1
        assert "epoch 1" in [look.name for look in model.looks_]

    def test_are_used_up_by_more_epochs_than_planned(self, planned):
        model = planned({"epochs": 2, "seconds": 3.0})
        assert model.recipe_.epochs == model.history_[-1]["epoch"] > 2
        assert f"epoch {model.recipe_.epochs}" in [look.name for look in model.looks_]

    @pytest.mark.parametrize(
        ("looks", "epochs", "expected"), [(5, 10, [2, 4, 6, 8, 10]), (2, 5, [2, 5]), (5, 3, [1, 2, 3]), (1, 1, [1])]
    )
    def test_leave_looks_evenly_spread(self, looks, epochs, expected):
        recipe = FinetuneRecipe.of(looks=looks)
        assert [epoch for epoch in range(1, epochs + 1) if recipe.looks_after(epoch, epochs)] == expected


def test_descriptors_are_gone_on_from(encoder, images):
    first = Finetune(encoder, **COPIES).fit(images)
    second = Finetune(first.encoder_, **{**COPIES, "dimensions": 99}).fit(images)
    assert second.encoder_.out_features == 16


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"recipe": "dino"}, "recipe must be one of simclr, copies, neighbors"),
        ({"batch_norm": "none"}, "batch_norm must be"),
        ({"layer_decay": 1.5}, "layer_decay must be 0 to 1"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"nesterov": True}, "nesterov is a way of the momentum of sgd and lars"),
        ({"edits": ("fold",)}, "edits are crop, flip.* got fold"),
        ({"cached_views": 4, "mixed_fraction": 0.5}, "set mixed_fraction to 0"),
        ({"rate": 1}, "there is no setting 'rate'"),
    ],
)
def test_settings_out_of_range_are_refused(encoder, images, settings, message):
    with pytest.raises(InputError, match=message):
        Finetune(encoder, **{"recipe": "copies", **QUICK, **settings}).fit(images)


def test_more_frozen_than_there_is_is_refused(encoder, images):
    with pytest.raises(InputError, match="which has 5 parts, the first 0 to 4 can be frozen, got 5"):
        Finetune(encoder, freeze_parts=5, **QUICK).fit(images)


def test_adapters_need_a_network_of_transformers(encoder, images):
    with pytest.raises(InputError, match=r"adapters are for networks of transformers .*, got ResNet"):
        Finetune(encoder, recipe="simclr", adapter_rank=4, **QUICK).fit(images)
