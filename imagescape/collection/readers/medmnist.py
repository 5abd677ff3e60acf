"""MedMNIST: one .npz a data set, with train_images, train_labels, val_images, ... inside.

Source: Yang et al. 2023, "MedMNIST v2", Scientific Data 10, 41; label names from the `medmnist`
package's info (version 3.0). The 2-D sets at 28, 64, 128 or 224 px are read, grey or RGB; the
members are streamed image by image. Any .npz laid out this way will do.
"""

import os
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa

from imagescape.collection.readers.item import Item, Reader, row_uri
from imagescape.errors import InputError

_SPLITS = ("train", "val", "test")
_READ_HEADER = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}

_ORGANS = (
    *("bladder", "femur-left", "femur-right", "heart", "kidney-left", "kidney-right"),
    *("liver", "lung-left", "lung-right", "pancreas", "spleen"),
)
# RetinaMNIST is missing on purpose: its labels are grades 0 to 4 and have no names.
_LABEL_NAMES = {
    "pathmnist": (
        *("adipose", "background", "debris", "lymphocytes", "mucus", "smooth muscle", "normal colon mucosa"),
        *("cancer-associated stroma", "colorectal adenocarcinoma epithelium"),
    ),
    "chestmnist": (
        *("atelectasis", "cardiomegaly", "effusion", "infiltration", "mass", "nodule", "pneumonia"),
        *("pneumothorax", "consolidation", "edema", "emphysema", "fibrosis", "pleural", "hernia"),
    ),
    "dermamnist": (
        *("actinic keratoses and intraepithelial carcinoma", "basal cell carcinoma", "benign keratosis-like lesions"),
        *("dermatofibroma", "melanoma", "melanocytic nevi", "vascular lesions"),
    ),
    "octmnist": ("choroidal neovascularization", "diabetic macular edema", "drusen", "normal"),
    "pneumoniamnist": ("normal", "pneumonia"),
    "breastmnist": ("malignant", "normal, benign"),
    "bloodmnist": (
        *("basophil", "eosinophil", "erythroblast"),
        "immature granulocytes(myelocytes, metamyelocytes and promyelocytes)",
        *("lymphocyte", "monocyte", "neutrophil", "platelet"),
    ),
    "tissuemnist": (
        *("Collecting Duct, Connecting Tubule", "Distal Convoluted Tubule", "Glomerular endothelial cells"),
        *("Interstitial endothelial cells", "Leukocytes", "Podocytes"),
        *("Proximal Tubule Segments", "Thick Ascending Limb"),
    ),
    "organamnist": _ORGANS,
    "organcmnist": _ORGANS,
    "organsmnist": _ORGANS,
}


def matches(path: Path) -> bool:
    """Whether `path` is an .npz with the images of a train, val or test split inside."""
    if path.suffix.lower() != ".npz" or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return bool({f"{split}_images.npy" for split in _SPLITS} & set(archive.namelist()))


def open(path: Path) -> Reader:
    """Read the MedMNIST file at `path`.

    Columns: `split` ("train", "val", "test"); `label`, int64, or for a multi-label set (n, k > 1)
    a list of k zeros and ones; and `label_name` (for a multi-label set the list of those present)
    where the file's name tells which set it is.

    Raises:
        InputError: the file is damaged, holds volumes, or images and labels do not fit.
    """
    return _MedMnistReader(Path(os.path.abspath(path)))


@dataclass(frozen=True, slots=True)
class _Part:
    """One split: how its images lie in the file, and its labels, int64 (n, k)."""

    split: str
    shape: tuple[int, ...]  # (n, h, w) or (n, h, w, 3)
    labels: np.ndarray


class _MedMnistReader:
    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            with zipfile.ZipFile(path) as archive:
                held = set(archive.namelist())
                parts = [_part(archive, split) for split in _SPLITS if f"{split}_images.npy" in held]
        except _DAMAGE as error:
            raise _damaged(path, error) from error
        widths = {part.labels.shape[1] for part in parts}
        if len(widths) != 1:
            raise InputError(f"{path} must have the same number of labels an image in all splits, got {sorted(widths)}")
        self._parts = parts
        self._names = _LABEL_NAMES.get(path.stem.lower().partition("_")[0], ())
        self.total: int | None = sum(part.shape[0] for part in parts)

        multi_label = widths != {1}
        label, name = (pa.list_(pa.int64()), pa.list_(pa.string())) if multi_label else (pa.int64(), pa.string())
        named = [("label_name", name)] if self._names else []
        self.schema = pa.schema([("split", pa.string()), ("label", label), *named])

    def __iter__(self) -> Iterator[Item]:
        row = 0
        with zipfile.ZipFile(self._path) as archive:
            for part in self._parts:
                for image, labels in zip(_stream(archive, part), part.labels.tolist(), strict=True):
                    columns = self._columns(part.split, labels)
                    yield Item(row_uri(self._path, row), array=image, columns=columns, refetchable=False)
                    row += 1

    def _columns(self, split: str, labels: list[int]) -> dict[str, object]:
        multi_label = len(labels) > 1
        columns: dict[str, object] = {"split": split, "label": labels if multi_label else labels[0]}
        if self._names:
            present = [index for index, flag in enumerate(labels) if flag] if multi_label else labels
            if any(not 0 <= index < len(self._names) for index in present):
                raise InputError(f"{self._path} has label {max(present)}, {self._path.stem} has {len(self._names)}")
            names = [self._names[index] for index in present]
            columns["label_name"] = names if multi_label else names[0]
        return columns


# -- members of an .npz ------------------------------------------------------------------------------

_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, KeyError)


def _damaged(path: Path, error: BaseException) -> InputError:
    return error if isinstance(error, InputError) else InputError(f"{path} cannot be read ({error}); get it again")


def _part(archive: zipfile.ZipFile, split: str) -> _Part:
    with archive.open(f"{split}_images.npy") as file:
        shape, fortran_order, dtype = _header(file)
    name = f"{split}_images in {archive.filename}"
    if len(shape) == 5 or (len(shape) == 4 and shape[3] != 3):
        raise InputError(f"{name} holds volumes {shape}; only the 2-D MedMNIST sets can be read as images")
    if len(shape) not in (3, 4) or dtype != np.uint8 or fortran_order:
        raise InputError(f"{name} must be uint8 (n, h, w) or (n, h, w, 3) in C order, got {dtype} {shape}")

    with archive.open(f"{split}_labels.npy") as file:
        labels = np.lib.format.read_array(file, allow_pickle=False)
    if labels.ndim not in (1, 2) or len(labels) != shape[0] or not np.issubdtype(labels.dtype, np.integer):
        raise InputError(
            f"{split}_labels in {archive.filename} must be {shape[0]} rows of integers, "
            f"got {labels.dtype} {labels.shape}"
        )
    return _Part(split, shape, labels.reshape(shape[0], -1).astype(np.int64))


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(file)
    if version not in _READ_HEADER:
        raise ValueError(f"its arrays are stored in .npy version {version}, not 1.0 or 2.0")
    return _READ_HEADER[version](file)


def _stream(archive: zipfile.ZipFile, part: _Part) -> Iterator[np.ndarray]:
    """The images of a split one after another, uint8 (h, w) or (h, w, 3)."""
    count, *shape = part.shape
    image_bytes = int(np.prod(shape))
    with archive.open(f"{part.split}_images.npy") as file:
        _header(file)
        for _ in range(count):
            try:
                data = file.read(image_bytes)
                if len(data) < image_bytes:
                    raise EOFError(f"{part.split}_images ends early")
            except _DAMAGE as error:
                raise _damaged(Path(str(archive.filename)), error) from error
            yield np.frombuffer(data, np.uint8).reshape(shape)
