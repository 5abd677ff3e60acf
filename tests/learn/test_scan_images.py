"""SCAN of whole images, on pictures that two colours tell apart: it learns, predicts, and is on disk what it was."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from imagescape.errors import CheckpointError, InputError
from imagescape.learn.estimator import NotFitted
from imagescape.learn.pairs import NeighborImages, WeakStrong
from imagescape.learn.scan_images import ImageScanRecipe, ScanImages
from tests.learn.bars import bar, small_network

pytest.importorskip("faiss")

QUICK = {
    "device": "cpu",
    "random_state": 0,
    "heads": 2,
    "epochs": 2,
    "batch_size": 16,
    "selflabel_epochs": 2,
    "selflabel_batch_size": 16,
}


def pictures(n, seed=0):
    """Bars across or down, and which they are."""
    kind = np.arange(n) % 2
    return np.stack([bar(down, (seed, number)) for number, down in enumerate(kind)]), kind


@pytest.fixture(scope="module")
def encoder():
    return small_network()


@pytest.fixture(scope="module")
def fitted(encoder):
    return ScanImages(2, encoder, **QUICK).fit(pictures(96)[0])


def test_what_it_says(fitted):
    assert fitted.labels_.dtype == np.int64
    assert fitted.probabilities_.shape == (96, 2)
    assert_allclose(fitted.probabilities_.sum(1), 1, rtol=1e-5)
    assert_array_equal(fitted.probabilities_.argmax(1), fitted.labels_)
    assert {line["stage"] for line in fitted.history_} == {1, 2}
    assert isinstance(fitted.rolled_back_, bool)


def test_it_predicts_the_same_of_the_images_it_learned_from(fitted):
    images, _ = pictures(96)
    assert_allclose(fitted.predict_proba(images), fitted.probabilities_, rtol=1e-3, atol=1e-4)
    assert fitted.predict(images[:0]).shape == (0,)


def test_true_neighbours_teach_the_network_what_its_features_did_not_say(encoder):
    """A graph of pictures of the same kind: the clusters become the kinds, on new pictures too."""
    images, kind = pictures(192)
    rng = np.random.default_rng(1)
    graph = np.stack([rng.choice(np.flatnonzero(kind == one), 5) for one in kind])
    settings = QUICK | {"epochs": 20, "selflabel": False, "learning_rate": 3e-3, "batch_size": 32}
    model = ScanImages(2, encoder, **settings).fit(images, graph=graph)
    new, truth = pictures(100, seed=5)
    right = (model.predict(new) == truth).mean()
    assert max(right, 1 - right) > 0.9
    before = ScanImages(2, encoder, **settings | {"epochs": 1, "learning_rate": 1e-9}).fit(images)
    chance = (before.predict(new) == truth).mean()
    assert max(right, 1 - right) > max(chance, 1 - chance) + 0.1


def test_the_encoder_given_stays_as_it_was(encoder):
    before = encoder.weights_sha256
    ScanImages(2, encoder, **QUICK).fit(pictures(32)[0])
    encoder._weights_sha256 = None
    assert encoder.weights_sha256 == before


def test_saved_and_loaded(fitted, tmp_path):
    new, _ = pictures(20, seed=3)
    fitted.save(tmp_path / "model", name="bars")
    again = ScanImages.load(tmp_path / "model", device="cpu")
    assert_allclose(again.predict_proba(new), fitted.predict_proba(new), rtol=1e-4, atol=1e-5)
    assert again.recipe == fitted.recipe
    (tmp_path / "model" / "weights.safetensors").write_bytes(b"no")
    with pytest.raises(CheckpointError, match="cannot be read"):
        ScanImages.load(tmp_path / "model")


def test_stopped_and_taken_up_again_is_the_same(encoder, tmp_path, stopped_after):
    images, _ = pictures(64)
    whole = ScanImages(2, encoder, **QUICK).fit(images)
    for steps in (3, 7):
        with stopped_after(steps):
            ScanImages(2, encoder, **QUICK).fit(images, run_folder=tmp_path / "run", checkpoint_minutes=0)
            pytest.fail("it was not stopped")
    resumed = ScanImages(2, encoder, **QUICK).fit(images, run_folder=tmp_path / "run", checkpoint_minutes=0)
    assert_array_equal(resumed.probabilities_, whole.probabilities_)


class TestPairs:
    pixels = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)

    @staticmethod
    def view(pixels, generator=None):
        return pixels[:, 0, 0, :1].float()

    def test_neighbours(self):
        graph = np.array([[1, 2], [3, 4], [0, 1], [0, 2], [0, 0]])
        pairs = NeighborImages(self.pixels, graph, self.view, torch.device("cpu"), items=np.array([1, 3]))
        assert len(pairs) == 2
        a, b = pairs.batch(np.array([0, 1] * 30), torch.Generator().manual_seed(0))
        assert {(int(x), int(y)) for x, y in zip(a, b, strict=True)} == {(1, 3), (1, 4), (3, 0), (3, 2)}

    def test_weak_and_strong(self):
        pairs = WeakStrong(
            self.pixels, self.view, lambda p, g: 10 * self.view(p), torch.device("cpu"), np.array([4, 2])
        )
        weak, strong = pairs.batch(np.array([1, 0]), torch.Generator())
        assert weak.tolist() == [[2], [4]]
        assert strong.tolist() == [[20], [40]]
        assert len(pairs) == 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda encoder: ScanImages(1, encoder), "k must be a whole number of at least 2"),
        (lambda encoder: ScanImages(2, encoder, epochs=0), "epochs must be a whole number of at least 1"),
        (lambda encoder: ScanImages(2, encoder, temperature=1), "no setting 'temperature' of SCAN of images"),
        (lambda encoder: ScanImages(5, encoder, **QUICK).fit(pictures(4)[0]), "5 clusters need at least 5 rows"),
        (lambda encoder: ScanImages(2, encoder, **QUICK).fit(np.zeros((9, 16, 16, 3), np.uint8)), "1 is different"),
    ],
)
def test_bad_input(encoder, call, message):
    with pytest.raises(InputError, match=message):
        call(encoder)


def test_nothing_learned_and_defaults(encoder):
    with pytest.raises(NotFitted):
        ScanImages(2, encoder).predict(pictures(2)[0])
    schedule = ImageScanRecipe(k=10).schedule(50_000)
    assert (schedule.epochs, schedule.batch_size, schedule.learning_rate) == (50, 128, 1e-4)
    assert ImageScanRecipe(k=10).selflabel_schedule(50_000).batch_size == 1000
