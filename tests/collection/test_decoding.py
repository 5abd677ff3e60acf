"""Images as they came: the very bytes, whatever they came in, and a word for each that is not there any more."""

import numpy as np
from PIL import Image

import imagescape as ims
from imagescape.collection.decoding import Flaw, originals, wanted_rows
from imagescape.images.decode import encode_png


def pixels(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (9, 7, 3), np.uint8)


def test_originals_are_the_bytes_of_the_files(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed, name in enumerate(("a.png", "b.jpg", "c.webp")):
        Image.fromarray(pixels(seed)).save(folder / name)
    scape = ims.ingest(str(folder), str(tmp_path / "p.scape"))
    wanted = wanted_rows(scape)
    found = list(originals(scape, wanted))
    assert [image_id for image_id, _ in found] == wanted["image_id"].to_pylist()
    assert {data for _, data in found} == {path.read_bytes() for path in folder.iterdir()}

    (folder / "a.png").unlink()
    (folder / "b.jpg").write_bytes((folder / "c.webp").read_bytes())
    uris = wanted["uri"].to_pylist()
    after = {uri[-5:]: data for uri, (_, data) in zip(uris, originals(scape, wanted), strict=True)}
    assert isinstance(after["a.png"], Flaw)
    assert after["a.png"].status == "vanished"
    assert after["b.jpg"] == Flaw("vanished", "the file now holds another picture")
    assert after["c.webp"[-5:]] == (folder / "c.webp").read_bytes()


def test_originals_of_memory_are_what_the_table_stores(tmp_path):
    scape = ims.ingest(np.stack([pixels(0), pixels(1)]), str(tmp_path / "m.scape"))
    assert [data for _, data in originals(scape, wanted_rows(scape))] == [
        encode_png(Image.fromarray(pixels(seed))) for seed in (0, 1)
    ]
