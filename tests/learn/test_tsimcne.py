"""The recipe's presets and what it may be told."""

import pytest

from imagescape.errors import InputError
from imagescape.learn.recipe import Stage
from imagescape.learn.tsimcne import PAPER, PRESETS, QUICK, TSimCNE, stages_of


def test_the_default_is_the_paper_s_three_stages():
    recipe = TSimCNE().recipe
    assert [(s.epochs, s.dimension, s.trains) for s in recipe.stages] == [
        (1000, 128, "all"),
        (50, 2, "readout"),
        (450, 2, "all"),
    ]
    assert {s.kernel for s in recipe.stages} == {"cauchy"}
    rates = [recipe.schedule(s, 60_000).learning_rate for s in recipe.stages]
    assert rates == pytest.approx([0.12, 0.12, 1.2e-4])  # METHODS' table, at batch 1024
    assert recipe.schedule(recipe.stages[0], 60_000).batch_size == 1024


def test_warm_up_takes_at_most_a_quarter_of_a_stage():
    recipe = TSimCNE(epochs=(400, 25, 20)).recipe
    assert [recipe.schedule(s, 60_000).warmup_epochs for s in recipe.stages] == [10, 0, 5]


@pytest.mark.parametrize("preset", PRESETS)
def test_epochs_and_dimensions_replace_those_of_any_preset(preset):
    stages = TSimCNE(preset=preset, epochs=(4, 0, 2), out_dim=3).recipe.stages
    assert [(s.epochs, s.dimension) for s in stages] == [(4, 128), (2, 3)]


def test_small_collections_get_smaller_batches_and_presets_their_limit():
    assert [TSimCNE().recipe.batch_for(n) for n in (20, 100, 4495, 10**6)] == [20, 32, 512, 1024]
    assert TSimCNE(preset="tiny").recipe.batch_for(10**6) == 256
    assert TSimCNE(preset="tiny", batch_size=600).recipe.batch_for(10**6) == 600


@pytest.mark.parametrize("epochs", [(1, 2), (0, 0, 0), (1, -1, 1), (1.5, 1, 1), 20])
def test_epochs_must_be_three_whole_numbers(epochs):
    with pytest.raises(InputError, match=r"epochs must be 3 numbers, one a stage, such as 400,25,75; got"):
        stages_of(epochs, PAPER)


@pytest.mark.parametrize("said", [{"epochs": (1, 1, 1)}, {"out_dim": 3}])
def test_stages_and_what_they_would_make_void_are_refused_together(said):
    with pytest.raises(InputError, match="give either stages, or epochs and out_dim"):
        TSimCNE(stages=(Stage(epochs=1, dimension=2),), **said)


def test_unknown_presets_are_refused():
    with pytest.raises(InputError, match="paper, fast, tiny, got 'huge'"):
        TSimCNE(preset="huge")


def test_the_small_preset_unfolds_the_map_with_the_whole_head():
    assert [stage.trains for stage in QUICK] == ["all", "projector", "all"]


def test_the_fast_preset_learns_as_the_small_one_at_the_rate_of_its_own_batch():
    recipe = TSimCNE(preset="fast").recipe
    schedules = [recipe.schedule(stage, 60_000) for stage in recipe.stages]
    assert [schedule.batch_size for schedule in schedules] == [512] * 3
    assert [schedule.learning_rate for schedule in schedules] == pytest.approx([0.003, 0.01, 0.0006])
    assert {schedule.optimizer for schedule in schedules} == {"adamw"}
    assert [stage.trains for stage in recipe.stages] == ["all", "projector", "all"]
