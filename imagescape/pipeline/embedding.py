"""`embed`: an encoder's vector of every image, as a column; stopped at any instant, it goes on where it was."""

import itertools
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from imagescape.collection.cache import contains
from imagescape.collection.decoding import Flaw, decoded, flag, wanted_rows
from imagescape.collection.locking import exclusive
from imagescape.collection.results import check_name, columns_of, features_identity, replace_columns, sign_features
from imagescape.collection.rows_file import RowsFile
from imagescape.collection.store import Collection
from imagescape.errors import CheckpointError, InputError, Interrupted
from imagescape.features.extract import ImageEncoder, NetworkEncoder, open_image_encoder, same_encoder
from imagescape.learn.encoder import Encoder
from imagescape.runtime import stop_requested, track

_WRITE_BATCHES = 8  # encoded before they are put on disk


@dataclass(frozen=True, slots=True)
class Embedded:
    """What `embed` did.

    Attributes:
        name: Of the column, `features_<name>`.
        encoded: Images that were encoded now.
        covered: Images that have features, in all.
    """

    name: str
    encoded: int
    covered: int

    def __str__(self) -> str:
        return f"features_{self.name}: {self.encoded} images encoded, {self.covered} in all"


def embed(
    scape: Collection,
    encoder: str | Encoder | ImageEncoder,
    name: str | None = None,
    *,
    dtype: str = "float16",
    overwrite: bool = False,
    device: str = "auto",
) -> Embedded:
    """Write the column `features_<name>`; where the encoder wrote it before, only for the images that lack it.

    The encoder is kept in `models/<name>`, and named with the hash of its weights in the column's metadata: queries
    are encoded as the table was, or not at all. What is encoded is on disk every few batches, in
    `cache/embed-<name>`; batches are cut at the same places in every run, so that a run that was killed and taken up
    again leaves the same column, bit for bit, as one that was not.

    Args:
        scape: The collection.
        encoder: A name, see `features.encoders`; or an encoder, such as `encoder_from_module` makes.
        name: Of the column; by default the encoder's.
        dtype: Of the column: "float16" or "float32". Hashes are uint8 always.
        overwrite: Replace a column that another encoder wrote, or encode every image anew.
        device: Where a network runs.

    Raises:
        InputError: no such encoder, no readable image, or a name that is taken.
        Interrupted: Ctrl-C; the same call goes on from there.
    """
    if dtype not in ("float16", "float32"):
        raise InputError(f"features are stored as float16 or float32, got '{dtype}'")
    if isinstance(encoder, str):
        model = open_image_encoder(encoder, models=scape.path / "models", device=device)
    else:
        model = NetworkEncoder(encoder) if isinstance(encoder, Encoder) else encoder
    if name is None:
        called = Path(encoder).name if isinstance(encoder, str) and Path(encoder).is_dir() else model.name
        name = re.sub(r"[^\w-]+", "_", called)
    check_name(name)
    column = f"features_{name}"
    goes_on = same_encoder(features_identity(scape, name), model.identity)
    # A column without a signature whose work is still there: a run of this encoder was killed between the two.
    unsigned = not features_identity(scape, name) and _is_under_way(scape, name, model)
    if columns_of(scape, name) and not (goes_on or overwrite or unsigned):
        raise InputError(
            f"'{scape.path.name}' has '{name}' already ({', '.join(columns_of(scape, name))}), and another encoder "
            "made it; choose another --name or --overwrite it"
        )
    stored = np.dtype(np.uint8) if model.dtype == np.uint8 else np.dtype(dtype)
    wanted = wanted_rows(scape)
    if not len(wanted):
        raise InputError(f"'{scape.path}' has no readable image; see: imagescape info --flagged")
    if goes_on and not overwrite:
        there = scape.read(["image_id"], where=f"`{column}` IS NOT NULL")["image_id"].combine_chunks()
        wanted = wanted.filter(pc.invert(pc.is_in(wanted["image_id"], value_set=there)))
        stored = np.dtype(scape.schema.field(column).type.value_type.to_pandas_dtype())
    if len(wanted):
        with exclusive(scape.path / "cache" / f"embed-{name}.lock", f"encoding '{name}'"):
            encoded = _encode_all(scape, model, name, wanted, stored, fills=goes_on and not overwrite)
    else:
        encoded = 0
    return Embedded(name, encoded, scape.count(f"`{column}` IS NOT NULL"))


def encoder_of(scape: Collection, name: str, device: str = "auto", *, own: Encoder | None = None) -> ImageEncoder:
    """What made the features `name`, and makes those of queries.

    Args:
        scape: The collection.
        name: Of the features.
        device: Where a network runs.
        own: The encoder, where it is a module of the user's own.

    Raises:
        CheckpointError: the collection does not have it any more, or has another one under its name.
    """
    identity = features_identity(scape, name)
    if not identity:
        raise CheckpointError(
            f"nothing tells what made features '{name}' of '{scape.path}'; "
            f"make them again: imagescape embed {scape.path.name} --name {name} --overwrite"
        )
    if own is None and identity["weights_sha256"] and not (scape.path / "models" / name).is_dir():
        raise CheckpointError(
            f"the model of '{name}' is not in {scape.path / 'models'}; put it back, or embed again with --overwrite"
        )
    called = name if identity["weights_sha256"] else identity["encoder"]
    encoder: ImageEncoder
    if own is not None:
        encoder = NetworkEncoder(own)
    else:
        encoder = open_image_encoder(called, models=scape.path / "models", device=device)
    if not same_encoder(identity, encoder.identity):
        which = "the encoder given" if own is not None else f"the model in '{scape.path / 'models' / name}'"
        raise CheckpointError(
            f"{which} is not the one that made the features '{name}', and would encode queries differently; "
            "put that one back, or embed again with --overwrite"
        )
    return encoder


def _encode_all(
    scape: Collection, model: ImageEncoder, name: str, wanted: pa.Table, stored: np.dtype, *, fills: bool
) -> int:
    """Encode the wanted rows and write their column; what is done already is found on disk."""
    folder = scape.path / "cache" / f"embed-{name}"
    done = _work_file(folder, model, stored)
    rows = before = done.cut()
    remaining = wanted.filter(pa.array(~contains(done.ids(), wanted["image_id"].to_numpy().astype("U16"))))
    flaws: list[tuple[str, Flaw]] = []
    ids: list[str] = []
    held: list[torch.Tensor] = []

    def write() -> None:
        nonlocal rows
        if ids:
            with np.errstate(over="ignore"):
                values = torch.cat([one.cpu() for one in held]).numpy().astype(stored)
            _check_finite(values, ids, model.name)
            done.append(ids, values, rows)
            rows += len(ids)
            ids.clear()
            held.clear()

    try:
        with (
            track(f"encode with {model.name}", before + len(remaining), done=before) as progress,
            stop_requested() as stopped,
        ):
            for batch in _batches(scape, remaining, model):
                good = [(image_id, result) for image_id, result in batch if not isinstance(result, Flaw)]
                flaws += [(image_id, result) for image_id, result in batch if isinstance(result, Flaw)]
                if len(held) >= _WRITE_BATCHES:
                    write()  # what is still under way on the device has had a batch's decoding to finish
                if good:
                    ids += [image_id for image_id, _ in good]
                    held.append(model.encode(np.stack([prepared for _, prepared in good])))
                progress.advance(len(batch))
                if stopped():
                    write()
                    raise Interrupted(f"{rows} images are encoded; run the same command again to go on from there")
            write()
    finally:
        flag(scape, flaws)
    if fills and not rows:
        return 0  # what was added since cannot be read any more, and its rows say so now
    if not rows:
        raise InputError(f"none of the images of '{scape.path}' can be read any more; see: imagescape info --flagged")
    _write_column(scape, model, name, done, fills=fills)
    shutil.rmtree(folder)
    return rows


def _plan(model: ImageEncoder, stored: np.dtype) -> str:
    return json.dumps(dict(model.identity) | {"dtype": str(stored)}, sort_keys=True)


def _is_under_way(scape: Collection, name: str, model: ImageEncoder) -> bool:
    mark = scape.path / "cache" / f"embed-{name}" / "plan.json"
    plan = mark.read_text(encoding="utf-8") if mark.exists() else ""
    return any(plan == _plan(model, np.dtype(stored)) for stored in ("float16", "float32", "uint8"))


def _work_file(folder: Path, model: ImageEncoder, stored: np.dtype) -> RowsFile:
    """The rows encoded so far; none of them if they are of another encoder."""
    plan = _plan(model, stored)
    mark = folder / "plan.json"
    if folder.exists() and (not mark.exists() or mark.read_text(encoding="utf-8") != plan):
        shutil.rmtree(folder)
    work = RowsFile(folder, "features", (model.out_features,), stored)
    mark.write_text(plan, encoding="utf-8")
    return work


def _batches(scape: Collection, wanted: pa.Table, model: ImageEncoder) -> Iterator[list[tuple[str, np.ndarray | Flaw]]]:
    """Prepared pictures in batches cut at fixed places of the table: the same ones whatever is done already."""
    places = (wanted["position"].to_numpy() // model.batch_size).tolist()
    prepared = decoded(scape, wanted, model.prepare, at_least_px=model.at_least_px)
    for _, pairs in itertools.groupby(zip(places, prepared, strict=True), key=lambda pair: pair[0]):
        yield [result for _, result in pairs]


def _check_finite(values: np.ndarray, ids: list[str], encoder: str) -> None:
    bad = ~np.isfinite(values).all(axis=1)
    if bad.any():
        raise InputError(
            f"encoder '{encoder}' gives values that are not finite as {values.dtype} for {bad.sum()} of {len(bad)} "
            f"images, first {ids[int(bad.argmax())]}; "
            + ("store them as float32" if values.dtype == np.float16 else "its weights or its preprocessing are wrong")
        )


def _write_column(scape: Collection, model: ImageEncoder, name: str, done: RowsFile, *, fills: bool) -> None:
    ids, column = done.ids(), f"features_{name}"
    values = done.array(len(ids))
    if fills:
        still = contains(scape.read(["image_id"])["image_id"].to_numpy().astype("U16"), ids)
        scape.update(ids[still], {column: values[still]})
        return
    again = same_encoder(features_identity(scape, name), model.identity)
    if not (again and (scape.path / "models" / name).is_dir()):  # a model that was trained here keeps its recipe
        model.save(scape.path / "models" / name)
    if column in scape.columns:
        scape.annotate(column, {})  # until the new values are signed, nobody may take them for the old ones
    if again:
        scape.add_columns(ids, {column: values}, overwrite=True)  # its map stays
    else:
        replace_columns(scape, name, ids, {column: values})
    sign_features(scape, name, model.identity)
