"""Published data sets by name: fetched once, resumed when cut, checked against the published checksum.

Addresses and checksums are those of the publishers as torchvision, Keras, TensorFlow Datasets and
the `medmnist` package record them.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from imagescape.errors import InputError
from imagescape.fetch import RemoteFile, cache_folder, fetch


@dataclass(frozen=True, slots=True)
class Source:
    """A published data set: one file, or several that belong in one folder."""

    files: tuple[RemoteFile, ...]


def _mnist_like(servers: tuple[str, ...], *md5: str) -> Source:
    names = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    files = (f"{name}-ubyte.gz" for name in names)
    return Source(
        tuple(RemoteFile(f, tuple(s + f for s in servers), f"md5:{sum_}") for f, sum_ in zip(files, md5, strict=True))
    )


# data set -> MD5 at 28, 64, 128 and 224 px
_MEDMNIST_MD5 = {
    "pathmnist": "a8b06965200029087d5bd730944a56c1 55aa9c1e0525abe5a6b9d8343a507616"
    " ac42d08fb904d92c244187169d1fd1d9 2c51a510bcdc9cf8ddb2af93af1eadec",
    "chestmnist": "02c8a6516a18b556561a56cbdd36c4a8 9de6cd0b934ebb5b7426cfba5efbae16"
    " db107e5590b27930b62dbaf558aebee3 45bd33e6f06c3e8cdb481c74a89152aa",
    "dermamnist": "0744692d530f8e62ec473284d019b0c7 b70a2f5635c6199aeaa28c31d7202e1f"
    " 2defd784463fa5243564e855ed717de1 8974907d8e169bef5f5b96bc506ae45d",
    "octmnist": "c68d92d5b585d8d81f7112f81e2d0842 e229e9440236b774d9f0dfef9d07bdaf"
    " 0a97e76651ace45c5d943ee3f65b63ae abc493b6d529d5de7569faaef2773ba3",
    "pneumoniamnist": "28209eda62fecd6e6a2d98b1501bb15f 8f4eceb4ccffa70c672198ea285246c6"
    " 05b46931834c231683c68f40c47b2971 d6a3c71de1b945ea11211b03746c1fe1",
    "retinamnist": "bd4c0672f1bba3e3a89f0e4e876791e4 afda852cc34dcda56f86ad2b2457dbcc"
    " e48e916a24454daf90583d4e6efb1a18 eae7e3b6f3fcbda4ae613ebdcbe35348",
    "breastmnist": "750601b1f35ba3300ea97c75c52ff8f6 742edef2a1fd1524b2efff4bd7ba9364"
    " 363e4b3f8d712e9b5de15470a2aaadf1 b56378a6eefa9fed602bb16d192d4c8b",
    "bloodmnist": "7053d0359d879ad8a5505303e11de1dc 2b94928a2ae4916078ca51e05b6b800b"
    " adace1e0ed228fccda1f39692059dd4c b718ff6835fcbdb22ba9eacccd7b2601",
    "tissuemnist": "ebe78ee8b05294063de985d821c1c34b 123ece2eba09d0aa5d698fda57103344"
    " 61b955355d7425a89687b06cca3ce0c2 b077128c4a949f0a4eb01517f9037b9c",
    "organamnist": "68e3f8846a6bd62f0c9bf841c0d9eacc 2dcccc29b88e6da5a01161ef20cda288"
    " eeae80d0a227a8d099027e1b3cfd3b60 50747347e05c87dd3aaf92c49f9f3170",
    "organcmnist": "b9ceb9546e10131b32923c5bbeaea2b1 3ce34a8724ea6f548e6db4744d03b6a9"
    " 773c1f009daa3fe5d9a2a201b2a7ed94 050f5e875dc056f6768abf94ec9995d1",
    "organsmnist": "9ab87b696fb54e2a387ebe992d6ed5f1 53a6d115339d874c25e309a994ff46d3"
    " ded0c5fa01a95dc4978b956f613e9b8e b354719e553fbbb2513d5533f52a4cb1",
}


def _medmnist() -> dict[str, Source]:
    """`pathmnist` (28 px), `pathmnist_64`, `pathmnist_128`, `pathmnist_224`, and so on."""
    sources = {}
    for dataset, sums in _MEDMNIST_MD5.items():
        for size, md5 in zip(("", "_64", "_128", "_224"), sums.split(), strict=True):
            name = f"{dataset}{size}.npz"
            url = f"https://zenodo.org/records/10519652/files/{name}?download=1"
            sources[dataset + size] = Source((RemoteFile(name, (url,), f"md5:{md5}"),))
    return sources


DATASETS: Mapping[str, Source] = MappingProxyType(
    {
        "cifar10": Source(
            (
                RemoteFile(
                    "cifar-10-python.tar.gz",
                    ("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",),
                    "sha256:6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
                    170_498_071,
                ),
            )
        ),
        "cifar100": Source(
            (
                RemoteFile(
                    "cifar-100-python.tar.gz",
                    ("https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",),
                    "sha256:85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
                    169_001_437,
                ),
            )
        ),
        "stl10": Source(
            (
                RemoteFile(
                    "stl10_binary.tar.gz",
                    ("http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",),
                    "md5:91f7769df0f17e558f3565bffb0c7dfb",
                    2_640_397_119,
                ),
            )
        ),
        "mnist": _mnist_like(
            ("https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/"),
            "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "d53e105ee54ea40749a09fcbcd1e9432",
            "9fb629c4189551a2d022fa330f9573f3",
            "ec29112dd5afa0611ce80d1b7f02629c",
        ),
        "fashion-mnist": _mnist_like(
            ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "25c81989df183df01b3e8a0aad5dffbe",
            "bef4ecab320f06d8554ea6380940ec79",
            "bb300cfdad3c16e7a12a480ee83cd310",
        ),
        "kmnist": _mnist_like(
            ("http://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
            "bdb82020997e1d708af4cf47b453dcf7",
            "e144d726b3acfaa3e44228e80efcd344",
            "5c965bf0a639b31b8f53240b1b52f4d7",
            "7320c461ea6c1c855c0b718fb2a4b134",
        ),
        **_medmnist(),
    }
)


def fetch_dataset(
    name: str,
    cache_dir: str | Path | None = None,
    *,
    datasets: Mapping[str, Source] = DATASETS,
    attempts: int = 5,
    wait_seconds: float = 1.0,
) -> Path:
    """Download the data set `name` unless it is here already; the path can be given to `ingest`.

    Cut downloads go on from where they stopped; see `fetch`.

    Args:
        name: One of `DATASETS`.
        cache_dir: Where to keep it; `default_cache_dir()` when None.
        datasets: What can be asked for.
        attempts: Tries a server in a row without a single new byte before giving up on it.
        wait_seconds: Pause before the second try in a row; doubled before each further one.

    Returns:
        The file, or the folder when the data set is several files.

    Raises:
        InputError: there is no such data set.
        DownloadError: no server gave the file, or its checksum is wrong.
    """
    if name not in datasets:
        close = difflib.get_close_matches(name, datasets, n=1)
        raise InputError(
            f"there is no data set '{name}' to download{f'; did you mean {close[0]!r}?' if close else ''}"
            f" (known: {', '.join(datasets)})"
        )
    folder = cache_folder(name, cache_dir)
    source = datasets[name]
    for file in source.files:
        fetch(file, folder, attempts=attempts, wait_seconds=wait_seconds)
    return folder / source.files[0].name if len(source.files) == 1 else folder
