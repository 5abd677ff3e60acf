"""Published archives, rebuilt small and byte by byte, read back; damage, malice and memory."""

import gzip
import io
import itertools
import os
import pickle
import struct
import tarfile
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from imagescape.collection.readers import cifar, idx, medmnist, reader_for, stl10
from imagescape.collection.readers.fetch import fetch
from imagescape.errors import InputError

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")  # Debian's package dataset-fashion-mnist


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


# -- builders of the formats, written from their descriptions -----------------------------------------


def idx_bytes(array: np.ndarray) -> bytes:
    header = struct.pack(">BBBB", 0, 0, 8, array.ndim) + b"".join(struct.pack(">I", size) for size in array.shape)
    return header + array.tobytes()


def write_idx(path: Path, array: np.ndarray) -> Path:
    data = idx_bytes(array)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def mnist_folder(folder: Path, images_mark: str = "-", gz: str = ".gz", prefix: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in (("train", 6), ("t10k", 4)):
        write_idx(folder / f"{prefix}{split}-images{images_mark}idx3-ubyte{gz}", noise(count, 5, 7, seed=count))
        write_idx(folder / f"{prefix}{split}-labels{images_mark}idx1-ubyte{gz}", np.arange(count, dtype=np.uint8))
    return folder


def short_string(text: str) -> bytes:
    """A `str` as Python 2 pickled it: opcode SHORT_BINSTRING."""
    return b"U" + bytes([len(text)]) + text.encode()


def python2_pickle(pixels: np.ndarray, numbers: dict[str, list[int]]) -> bytes:
    """A CIFAR batch as Python 2's cPickle wrote it (protocol 2), opcode by opcode."""
    shape = b"".join(b"J" + struct.pack("<i", size) for size in pixels.shape)
    dtype = b"cnumpy\ndtype\n" + short_string("u1") + b"K\x00K\x01\x87R"
    dtype += b"(K\x03" + short_string("|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    contents = b"T" + struct.pack("<i", pixels.nbytes) + pixels.tobytes()
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + short_string("b") + b"\x87R"
    array += b"(K\x01" + shape + b"\x86" + dtype + b"\x89" + contents + b"tb"
    lists = b"".join(
        short_string(key) + b"](" + b"".join(b"K" + bytes([number]) for number in values) + b"e"
        for key, values in numbers.items()
    )
    return b"\x80\x02}(" + short_string("data") + array + lists + b"u."


def cifar10_files(per_batch: int = 3) -> dict[str, bytes]:
    files = {}
    for number, name in enumerate(["data_batch_2", "data_batch_1", "test_batch"]):
        pixels = noise(per_batch, 3072, seed=number)
        files[name] = python2_pickle(pixels, {"labels": [(number + i) % 10 for i in range(per_batch)]})
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    files["batches.meta"] = pickle.dumps({"num_cases_per_batch": per_batch, "label_names": names}, protocol=2)
    files["readme.html"] = b"<html>"
    return files


def cifar100_files() -> dict[str, bytes]:
    files = {
        split: python2_pickle(noise(2, 3072, seed=seed), {"fine_labels": [99, 0], "coarse_labels": [19, 4]})
        for seed, split in enumerate(["train", "test"])
    }
    fine, coarse = [f"fine {i}" for i in range(100)], [f"coarse {i}" for i in range(20)]
    return {**files, "meta": pickle.dumps({"fine_label_names": fine, "coarse_label_names": coarse}, protocol=2)}


def stl10_files() -> dict[str, bytes]:
    files = {}
    for split, count in (("test", 3), ("train", 2), ("unlabeled", 4)):
        files[f"{split}_X.bin"] = noise(count, 27_648, seed=count).tobytes()
        if split != "unlabeled":
            files[f"{split}_y.bin"] = bytes(range(10, 10 - count, -1))  # published as 1 to 10
    names = ["airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"]
    return {**files, "class_names.txt": "\n".join(names).encode(), "fold_indices.txt": b"0 1"}


def write_folder(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def write_tar(path: Path, files: dict[str, bytes], inside: str) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        folder = tarfile.TarInfo(inside)
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, data in files.items():
            info = tarfile.TarInfo(f"{inside}/{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def write_npz(path: Path, image_shape: tuple[int, ...] = (28, 28), labels: int = 1, compressed: bool = True) -> Path:
    arrays = {}
    for split, count in (("train", 4), ("val", 2), ("test", 3)):
        arrays[f"{split}_images"] = noise(count, *image_shape, seed=count)
        arrays[f"{split}_labels"] = noise(count, labels, seed=count) % 2
    (np.savez_compressed if compressed else np.savez)(path, **arrays)
    return path


SOURCES = {
    "idx gz": lambda tmp: (idx, mnist_folder(tmp / "mnist")),
    "idx": lambda tmp: (idx, mnist_folder(tmp / "fashion-mnist", gz="")),
    "idx file": lambda tmp: (idx, mnist_folder(tmp / "mnist", gz="") / "t10k-images-idx3-ubyte"),
    "cifar10 tar": lambda tmp: (
        cifar,
        write_tar(tmp / "cifar-10-python.tar.gz", cifar10_files(), "cifar-10-batches-py"),
    ),
    "cifar10": lambda tmp: (cifar, write_folder(tmp / "cifar-10-batches-py", cifar10_files())),
    "cifar100 tar": lambda tmp: (
        cifar,
        write_tar(tmp / "cifar-100-python.tar.gz", cifar100_files(), "cifar-100-python"),
    ),
    "cifar100": lambda tmp: (cifar, write_folder(tmp / "cifar-100-python", cifar100_files())),
    "stl10 tar": lambda tmp: (stl10, write_tar(tmp / "stl10_binary.tar.gz", stl10_files(), "stl10_binary")),
    "stl10": lambda tmp: (stl10, write_folder(tmp / "stl10_binary", stl10_files())),
    "medmnist": lambda tmp: (medmnist, write_npz(tmp / "breastmnist.npz")),
    "medmnist many": lambda tmp: (medmnist, write_npz(tmp / "chestmnist_64.npz", (64, 64), labels=14)),
}


@pytest.fixture(params=SOURCES.values(), ids=SOURCES.keys())
def source(request, tmp_path):
    return request.param(tmp_path)


class TestEveryReader:
    """What the ingest relies on, whatever the format."""

    def test_knows_its_own_and_leaves_the_others(self, source, tmp_path):
        module, path = source
        assert [other for other in (medmnist, stl10, cifar, idx) if other.matches(path)] == [module]
        assert reader_for(path) is module
        photos = write_folder(
            tmp_path / "photos", {"train.jpg": b"\xff\xd8", "labels.csv": b"a,b", "notes.gz": b"\x1f\x8b"}
        )
        assert not any(module.matches(entry) for entry in (photos, *photos.iterdir(), tmp_path / "missing"))

    def test_counts_and_types_what_it_yields(self, source):
        module, path = source
        reader = module.open(path)
        items = list(reader)
        assert reader.total in (len(items), None)
        assert len(items) > 0
        table = pa.Table.from_pylist([dict(item.columns) for item in items], schema=reader.schema)
        assert all(set(item.columns) == set(reader.schema.names) for item in items)
        assert set(table["split"].to_pylist()) <= {"train", "val", "test", "unlabeled"}

    def test_gives_the_same_again(self, source):
        module, path = source
        reader = module.open(path)
        first, again = list(reader), list(reader)
        assert [(i.uri, i.columns) for i in first] == [(i.uri, i.columns) for i in again]
        assert all(np.array_equal(a.array, b.array) for a, b in zip(first, again, strict=True))

    def test_names_each_image_once_by_a_file_that_exists(self, source):
        module, path = source
        uris = [item.uri for item in module.open(path)]
        assert len(set(uris)) == len(uris)
        for uri in uris:
            container, _, row = uri.partition("#row=")
            assert os.path.isabs(container)
            assert Path(container).is_file()
            assert row.isdigit()

    def test_goes_back_to_what_it_says_it_can(self, source):
        module, path = source
        items = [item for item in module.open(path) if item.refetchable]
        assert bool(items) == (module in (idx, stl10) and "gz" not in str(next(iter(module.open(path))).uri))
        for _, group in itertools.groupby(items, lambda item: item.uri.partition("#row=")[0]):
            wanted = list(group)[::-1]
            images = fetch([item.uri for item in wanted])
            assert all(np.array_equal(image, item.array) for image, item in zip(images, wanted, strict=True))

    def test_images_are_contiguous_pixels(self, source):
        module, path = source
        for item in module.open(path):
            assert item.array.dtype == np.uint8
            assert item.array.flags.c_contiguous
            assert item.array.ndim == 2 or item.array.shape[2] == 3


class TestIdx:
    def test_reads_training_before_test_with_labels(self, tmp_path):
        items = list(idx.open(mnist_folder(tmp_path / "mnist")))
        assert [item.columns["split"] for item in items] == ["train"] * 6 + ["test"] * 4
        assert [item.columns["label"] for item in items] == [*range(6), *range(4)]
        assert np.array_equal([item.array for item in items[6:]], noise(4, 5, 7, seed=4))

    @pytest.mark.parametrize("mark", ["-", "."])
    @pytest.mark.parametrize("gz", ["", ".gz"])
    def test_both_spellings_packed_or_not(self, tmp_path, mark, gz):
        folder = mnist_folder(tmp_path / "mnist", mark, gz)
        assert idx.matches(folder)
        assert {item.columns["label"] for item in idx.open(folder)} == set(range(6))
        assert all(item.refetchable == (gz == "") for item in idx.open(folder))

    def test_an_unpacked_file_wins_over_its_packed_twin(self, tmp_path):
        folder = mnist_folder(mnist_folder(tmp_path / "raw", gz=""), gz=".gz")
        assert idx.open(folder).total == 10

    @pytest.mark.parametrize(
        ("place", "name"),
        [
            ("fashion-mnist", "Pullover"),
            ("FashionMNIST/raw", "Pullover"),
            ("kmnist", "su"),
            ("mnist", None),
            ("fashion-mnist-thesis/mnist", None),  # the nearest word counts
        ],
    )
    def test_names_labels_only_when_the_place_tells(self, tmp_path, place, name):
        items = list(idx.open(mnist_folder(tmp_path / place)))
        assert items[2].columns.get("label_name") == name
        assert ("label_name" in items[0].columns) == (name is not None)

    def test_emnist_is_turned_upright(self, tmp_path):
        folder = mnist_folder(tmp_path / "emnist", gz="", prefix="emnist-letters-")
        reader = idx.open(folder)
        items = list(reader)
        assert np.array_equal(items[0].array, noise(6, 5, 7, seed=6)[0].T)
        assert "label_name" not in reader.schema.names

    def test_several_data_sets_in_one_folder_are_refused(self, tmp_path):
        folder = mnist_folder(mnist_folder(tmp_path / "gzip", prefix="emnist-letters-"), prefix="emnist-digits-")
        with pytest.raises(InputError, match=r"several data sets \(emnist-digits, emnist-letters\)"):
            idx.open(folder)
        assert idx.open(folder / "emnist-digits-train-images-idx3-ubyte.gz").total == 6

    def test_a_lone_file_of_any_name_has_no_labels(self, tmp_path):
        path = write_idx(tmp_path / "stack", noise(3, 4, 4))
        assert idx.matches(path)
        assert [dict(item.columns) for item in idx.open(path)] == [{"split": None, "label": None}] * 3

    def test_more_labels_than_images(self, tmp_path):
        folder = mnist_folder(tmp_path / "mnist")
        write_idx(folder / "train-labels-idx1-ubyte.gz", np.zeros(7, np.uint8))
        with pytest.raises(InputError, match="7 labels for the 6 images"):
            idx.open(folder)

    def test_a_file_cut_short(self, tmp_path):
        folder = mnist_folder(tmp_path / "plain", gz="")
        images = folder / "train-images-idx3-ubyte"
        images.write_bytes(images.read_bytes()[:-1])
        with pytest.raises(InputError, match="must be 226 bytes for its 6 images, got 225"):
            list(idx.open(folder))
        with pytest.raises(InputError, match="must be 226 bytes"):
            idx.fetch_rows(images, [0])

    @pytest.mark.parametrize("name", ["train-labels-idx1-ubyte", "train-images-idx3-ubyte"])
    @pytest.mark.parametrize("keep", [2, 7])
    def test_a_file_cut_in_its_first_bytes(self, tmp_path, name, keep):
        folder = mnist_folder(tmp_path / "plain", gz="")
        (folder / name).write_bytes((folder / name).read_bytes()[:keep])
        with pytest.raises(InputError, match=f"{name} ends [1-9] bytes too early"):
            idx.open(folder)

    @pytest.mark.parametrize("keep", [30, -9])
    def test_a_packed_file_cut_short(self, tmp_path, keep):
        folder = mnist_folder(tmp_path / "mnist")
        images = folder / "t10k-images-idx3-ubyte.gz"
        images.write_bytes(images.read_bytes()[:keep])
        with pytest.raises(InputError, match=r"t10k-images-idx3-ubyte\.gz (is damaged|ends)"):
            list(idx.open(folder))

    def test_wrong_magic_number(self, tmp_path):
        folder = mnist_folder(tmp_path / "mnist", gz="")
        (folder / "train-images-idx3-ubyte").write_bytes(idx_bytes(noise(6, 5)))
        with pytest.raises(InputError, match=r"magic 00000803.*is 00000802"):
            idx.open(folder)

    def test_rows_that_are_gone(self, tmp_path):
        gone, here = idx.fetch_rows(write_idx(tmp_path / "stack", noise(3, 4, 4)), [3, 2])
        assert (gone.status, gone.reason) == ("vanished", "stack has 3 images now")
        assert np.array_equal(here, noise(3, 4, 4)[2])

    @pytest.mark.skipif(not FASHION_MNIST.is_dir(), reason="needs Debian's package dataset-fashion-mnist")
    def test_the_real_fashion_mnist(self):
        reader = idx.open(FASHION_MNIST)
        first = next(iter(reader))
        assert reader.total == 70_000
        assert first.array.shape == (28, 28)
        assert first.columns == {"split": "train", "label": 9, "label_name": "Ankle boot"}


class TestCifar:
    @pytest.mark.parametrize("kind", ["cifar10", "cifar10 tar"])
    def test_reads_pixels_labels_names_and_splits(self, tmp_path, kind):
        items = list(cifar.open(SOURCES[kind](tmp_path)[1]))
        by_split = {split: [i for i in items if i.columns["split"] == split] for split in ("train", "test")}
        assert {split: len(found) for split, found in by_split.items()} == {"train": 6, "test": 3}
        last = by_split["test"][2]
        assert last.columns == {"split": "test", "label": 4, "label_name": "deer"}
        flat = noise(3, 3072, seed=2)[2]  # the published order: 1024 red, row by row, then green, blue
        for row, column, channel in [(0, 0, 0), (0, 1, 0), (1, 0, 1), (31, 30, 2)]:
            assert last.array[row, column, channel] == flat[channel * 1024 + row * 32 + column]

    @pytest.mark.parametrize("kind", ["cifar100", "cifar100 tar"])
    def test_superclasses(self, tmp_path, kind):
        first = next(iter(cifar.open(SOURCES[kind](tmp_path)[1])))
        del first.columns["split"]
        assert first.columns == {
            "label": 99,
            "label_name": "fine 99",
            "superclass": 19,
            "superclass_name": "coarse 19",
        }

    def test_binary_versions_say_the_same(self, tmp_path):
        pixels = noise(2, 3072)
        ten = write_folder(
            tmp_path / "cifar-10-batches-bin",
            {
                "test_batch.bin": b"".join(bytes([i]) + p.tobytes() for i, p in enumerate(pixels)),
                "batches.meta.txt": b"a\nb\n\n",
            },
        )
        hundred = write_folder(
            tmp_path / "cifar-100-binary",
            {
                "train.bin": b"".join(bytes([i + 5, i]) + p.tobytes() for i, p in enumerate(pixels)),
                "fine_label_names.txt": b"x\ny\n",
            },
        )
        a, b = list(cifar.open(ten)), list(cifar.open(hundred))
        assert cifar.matches(ten)
        assert cifar.matches(hundred)
        assert a[1].columns == {"split": "test", "label": 1, "label_name": "b"}
        assert b[1].columns == {
            "split": "train",
            "label": 1,
            "label_name": "y",
            "superclass": 6,
            "superclass_name": None,
        }
        pickled = write_folder(tmp_path / "py", {"test_batch": python2_pickle(pixels, {"labels": [0, 1]})})
        for binary, other in zip(a, cifar.open(pickled), strict=True):
            assert np.array_equal(binary.array, other.array)

    def test_a_pickle_that_wants_to_run_something_is_refused(self, tmp_path):
        trace = tmp_path / "it ran"

        class Malice:
            def __reduce__(self):
                return os.mkdir, (str(trace),)

        folder = write_folder(tmp_path / "py", {"test_batch": pickle.dumps({"data": Malice()})})
        with pytest.raises(InputError, match=r"asks for posix\.mkdir|asks for nt\.mkdir"):
            cifar.open(folder)
        assert not trace.exists()

    def test_no_way_around_through_dotted_names_or_numpy(self, tmp_path):
        for module, name in [("numpy", "load"), ("builtins", "eval"), ("numpy", "ndarray.tofile"), ("os", "system")]:
            attack = b"\x80\x04" + short_string(module) + short_string(name) + b"\x93."
            folder = write_folder(tmp_path / "py", {"test_batch": attack})
            with pytest.raises(InputError, match=f"asks for {module}.{name}"):
                cifar.open(folder)

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (b"junk", "is not a CIFAR batch"),
            (pickle.dumps([1], 2), "must hold a dict, got 1 numbers"),
            (pickle.dumps({"labels": [1]}, 2), "must hold 'data'.*got nothing"),
            (python2_pickle(noise(2, 3071), {"labels": [1, 2]}), r"uint8 array \(n, 3072\), got uint8 \(2, 3071\)"),
            (python2_pickle(noise(2, 3072), {"labels": [1]}), "'labels', 2 numbers, got 1 numbers"),
            (python2_pickle(noise(2, 3072), {"fine_labels": [1, 2]}), "'coarse_labels', 2 numbers, got nothing"),
            (python2_pickle(noise(2, 3072), {"labels": [1, 2]})[:-2000], "is not a CIFAR batch"),
        ],
    )
    def test_damaged_batches(self, tmp_path, data, message):
        with pytest.raises(InputError, match=message):
            cifar.open(write_folder(tmp_path / "py", {"test_batch": data}))

    def test_a_label_without_a_name(self, tmp_path):
        files = cifar10_files() | {"test_batch": python2_pickle(noise(1, 3072), {"labels": [10]})}
        with pytest.raises(InputError, match="label 10 but names only 10"):
            list(cifar.open(write_folder(tmp_path / "py", files)))

    @pytest.mark.parametrize("keep", [20, 5000])
    def test_an_archive_cut_short(self, tmp_path, keep):
        path = SOURCES["cifar10 tar"](tmp_path)[1]
        path.write_bytes(path.read_bytes()[:keep])
        with pytest.raises(InputError, match="get it again"):
            cifar.open(path)

    def test_both_in_one_folder(self, tmp_path):
        with pytest.raises(InputError, match="mixes batches of CIFAR-10 and of CIFAR-100"):
            cifar.open(write_folder(tmp_path / "both", cifar10_files() | cifar100_files()))

    def test_an_archive_of_something_else(self, tmp_path):
        path = write_tar(tmp_path / "cifar-results.tar.gz", {"log.txt": b"loss"}, "runs")
        with pytest.raises(InputError, match="holds no CIFAR batches"):
            cifar.open(path)


class TestStl10:
    @pytest.mark.parametrize("kind", ["stl10", "stl10 tar"])
    def test_reads_columns_of_pixels_and_labels_from_one(self, tmp_path, kind):
        items = list(stl10.open(SOURCES[kind](tmp_path)[1]))
        assert [item.columns["split"] for item in items] == ["test"] * 3 + ["train"] * 2 + ["unlabeled"] * 4
        assert items[1].columns == {"split": "test", "label": 8, "label_name": "ship"}
        assert items[8].columns == {"split": "unlabeled", "label": None, "label_name": None}
        flat = noise(3, 27_648, seed=3)[1]  # the published order: planes, each column after column
        for row, column, channel in [(0, 0, 0), (0, 1, 0), (1, 0, 1), (95, 94, 2)]:
            assert items[1].array[row, column, channel] == flat[channel * 9216 + column * 96 + row]

    def test_one_split_by_its_file(self, tmp_path):
        folder = write_folder(tmp_path / "stl10_binary", stl10_files())
        items = list(stl10.open(folder / "train_X.bin"))
        assert [item.columns["label_name"] for item in items] == ["truck", "ship"]

    def test_what_is_missing_or_odd(self, tmp_path):
        files = stl10_files()
        with pytest.raises(InputError, match="none of STL-10's images"):
            stl10.open(write_folder(tmp_path / "a", {"train_y.bin": b"\x01"}))
        with pytest.raises(InputError, match=r"3 labels in test_y\.bin, got no such file"):
            stl10.open(write_folder(tmp_path / "b", {n: d for n, d in files.items() if n != "test_y.bin"}))
        with pytest.raises(InputError, match=r"2 labels in train_y\.bin, got 3"):
            stl10.open(write_folder(tmp_path / "c", files | {"train_y.bin": b"\x01\x02\x03"}))
        with pytest.raises(InputError, match="labels 1 to 10, got 0 to 1"):
            stl10.open(write_folder(tmp_path / "d", files | {"train_y.bin": b"\x00\x01"}))
        with pytest.raises(InputError, match="whole images of 27648 bytes"):
            stl10.open(write_folder(tmp_path / "e", files | {"unlabeled_X.bin": b"123"}))

    def test_rows_that_are_gone(self, tmp_path):
        folder = write_folder(tmp_path / "stl10_binary", stl10_files())
        gone, here = stl10.fetch_rows(folder / "unlabeled_X.bin", [4, 3])
        assert (gone.status, gone.reason) == ("vanished", "unlabeled_X.bin has 4 images now")
        assert here.shape == (96, 96, 3)

    def test_gigabytes_are_not_held(self, tmp_path):
        folder = write_folder(tmp_path / "stl10_binary", stl10_files())
        with (folder / "unlabeled_X.bin").open("r+b") as file:
            file.truncate(100_000 * 27_648)  # a hole: 2.7 GB that take no room on disk
        tracemalloc.start()
        reader = stl10.open(folder)
        for _ in zip(range(50), reader, strict=False):
            pass
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert reader.total == 100_005
        assert peak_bytes < 4e6


class TestMedMnist:
    @pytest.mark.parametrize("compressed", [True, False])
    @pytest.mark.parametrize("shape", [(28, 28), (28, 28, 3), (224, 224, 3)])
    def test_reads_all_splits(self, tmp_path, shape, compressed):
        path = write_npz(tmp_path / "any.npz", shape, compressed=compressed)
        items = list(medmnist.open(path))
        with np.load(path) as arrays:
            for split in ("train", "val", "test"):
                found = [item for item in items if item.columns["split"] == split]
                assert np.array_equal([item.array for item in found], arrays[f"{split}_images"])
                assert [item.columns["label"] for item in found] == arrays[f"{split}_labels"][:, 0].tolist()
        assert "label_name" not in items[0].columns

    def test_names_of_one_label(self, tmp_path):
        items = list(medmnist.open(write_npz(tmp_path / "breastmnist_128.npz")))
        assert {(i.columns["label"], i.columns["label_name"]) for i in items} == {
            (0, "malignant"),
            (1, "normal, benign"),
        }

    def test_many_labels_are_a_list_and_their_names_those_present(self, tmp_path):
        path = tmp_path / "chestmnist.npz"
        labels = np.zeros((2, 14), np.uint8)
        labels[1, [0, 13]] = 1
        np.savez(path, train_images=noise(2, 28, 28), train_labels=labels)
        none, two = medmnist.open(path)
        assert none.columns == {"split": "train", "label": [0] * 14, "label_name": []}
        assert two.columns["label"] == labels[1].tolist()
        assert two.columns["label_name"] == ["atelectasis", "hernia"]

    @pytest.mark.parametrize(
        ("images", "labels", "message"),
        [
            (noise(2, 28, 28, 28), noise(2, 1), r"volumes \(2, 28, 28, 28\)"),
            (noise(2, 8, 8, 8, 3), noise(2, 1), "volumes"),
            (noise(2, 28), noise(2, 1), r"must be uint8 \(n, h, w\)"),
            (noise(2, 28, 28) / 255, noise(2, 1), "got float64"),
            (np.asfortranarray(noise(2, 28, 28)), noise(2, 1), "C order"),
            (noise(2, 28, 28), noise(3, 1), "2 rows of integers, got uint8"),
            (noise(2, 28, 28), noise(2, 1) / 2, "2 rows of integers, got float64"),
            (noise(2, 28, 28), np.array([[None], [{}]]), "allow_pickle"),
        ],
    )
    def test_what_cannot_be_images_is_refused(self, tmp_path, images, labels, message):
        np.savez(tmp_path / "x.npz", train_images=images, train_labels=labels)
        with pytest.raises(InputError, match=message):
            medmnist.open(tmp_path / "x.npz")

    def test_images_without_labels(self, tmp_path):
        np.savez(tmp_path / "x.npz", train_images=noise(2, 28, 28))
        with pytest.raises(InputError, match="train_labels"):
            medmnist.open(tmp_path / "x.npz")

    def test_splits_that_do_not_agree(self, tmp_path):
        arrays = {"train_images": noise(2, 28, 28), "train_labels": noise(2, 1), "test_images": noise(2, 28, 28)}
        np.savez(tmp_path / "x.npz", **arrays, test_labels=noise(2, 3))
        with pytest.raises(InputError, match=r"same number of labels.*\[1, 3\]"):
            medmnist.open(tmp_path / "x.npz")

    def test_other_archives_are_not_taken_for_it(self, tmp_path):
        np.savez(tmp_path / "features.npz", features=noise(2, 2))
        (tmp_path / "broken.npz").write_bytes(b"PK")
        assert not medmnist.matches(tmp_path / "features.npz")
        assert not medmnist.matches(tmp_path / "broken.npz")

    def test_damage_inside_shows(self, tmp_path):
        path = write_npz(tmp_path / "any.npz", compressed=False)
        data = bytearray(path.read_bytes())
        start = data.find(noise(4, 28, 28, seed=4).tobytes()[:64])
        data[start : start + 64] = bytes(64)  # the zip keeps a checksum of every member
        path.write_bytes(data)
        with pytest.raises(InputError, match="cannot be read"):
            list(medmnist.open(path))
