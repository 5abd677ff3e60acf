"""Other libraries' maps behind our protocol; each is skipped where its library is not installed."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from imagescape.errors import InputError, MissingExtraError, NotFitted
from imagescape.evaluate.metrics import knn_recall
from imagescape.learn import other_maps
from imagescape.learn.other_maps import TSNE, UMAP, PaCMAP


def blobs(n, seed):
    centres = np.random.default_rng(7).normal(0, 4, (5, 12))
    rng = np.random.default_rng(seed)
    labels = rng.integers(5, size=n)
    return (centres[labels] + rng.normal(0, 1, (n, 12))).astype(np.float32), labels


@pytest.fixture(params=[TSNE, UMAP, PaCMAP], ids=lambda kind: kind.__name__)
def kind(request):
    pytest.importorskip(request.param.package, reason=f"{request.param.package} is not installed")
    return request.param


def test_keeps_neighbours_and_places_new_rows_among_their_own(kind):
    (features, labels), (new, new_labels) = blobs(200, 0), blobs(40, 1)
    model = kind(random_state=0).fit(features)
    assert model.coords_.shape == (200, 2)
    assert model.coords_.dtype == np.float32
    assert knn_recall(features, model.coords_, 15, device="cpu").value > 0.25
    places = model.transform(new)
    nearest = np.linalg.norm(places[:, None] - model.coords_[None], axis=2).argmin(1)
    assert (labels[nearest] == new_labels).mean() > 0.9


def test_the_seed_settles_the_map(kind):
    features, _ = blobs(100, 0)
    assert_array_equal(kind(random_state=3).fit(features).coords_, kind(random_state=3).fit(features).coords_)


def test_refused(kind):
    with pytest.raises(InputError, match="at least 4 rows"):
        kind().fit(np.zeros((3, 2)))
    with pytest.raises(NotFitted):
        kind().transform(np.zeros((3, 2)))


def test_a_library_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(other_maps.TSNE, "package", "no_such_library")
    with pytest.raises(MissingExtraError, match=r"pip install 'imagescape\[tsne\]'"):
        TSNE()
