"""Weights in a file of torch's world: `torch:<file>`, a safetensors file, a pickled state dict, or a TorchScript.

ResNets of any depth and width are recognised by the names of their weights, as torchvision calls them, in the layouts
that self-supervised learning publishes: plain torchvision (also Barlow Twins, VICReg and converted SimCLR), MoCo v1 to
v3, DINO, SwAV, SimCLR, SupCon and SCAN (also with CIFAR's 3x3 stem), lightly. What belongs to training and not to the
features (heads, queues, prototypes, momentum twins) is left out, by name; any other weight that has no place, or a
place without a weight, is an error. The stride of a bottleneck is in its 3x3 convolution, as in torchvision.

How images are prepared is stated in `<file>.json` beside the file, for example

    {"resize_px": 256, "size_px": 224, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225],
     "resample": "bicubic", "fit": "crop"}

which is also what a ResNet with the 7x7 stem gets without it. Any part may be left out there; a network with a 3x3
stem, or a TorchScript, needs its size_px, mean and std said. Without `resize_px` the network sees the whole image.
"""

import argparse
import json
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from imagescape.errors import CheckpointError, InputError
from imagescape.learn.backbones import RESNETS
from imagescape.learn.backbones.torchscript import TorchScript
from imagescape.learn.encoder import Architecture, Encoder
from imagescape.learn.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from imagescape.runtime import Precision

_State = dict[str, Tensor]

# Where a checkpoint keeps its weights among optimizers and epochs. Of a teacher and a student, the teacher is the one
# to use afterwards (DINO).
_WRAPPERS = ("teacher", "state_dict", "model_state_dict", "model", "student", "net", "network", "encoder", "backbone")

# What may stand before the names of a ResNet's weights, once the "module." of DataParallel is out of them.
_PREFIXES = (
    "base_encoder.",  # MoCo v3
    "encoder_q.",  # MoCo v1 and v2
    "backbone.",  # DINO, SimCLR, lightly, SCAN
    "encoder.",  # SimCLR, SupCon
    "convnet.",  # SimCLR
    "f.",  # SimCLR
    "",
)
# Weights that serve only the training: heads, their classifiers and prototypes, momentum twins and MoCo's memory.
_TRAINING_ONLY = re.compile(
    r"(fc|linear|classifier|head|heads|projection|projection_head|projector|predictor|contrastive_head|cluster_head|g"
    r"|prototypes|encoder_k|momentum_encoder|queue|queue_ptr)(\.|$)"
)
_BATCH_NORM = r"(weight|bias|running_mean|running_var|num_batches_tracked)"
_OF_A_RESNET = re.compile(
    rf"(conv1\.weight|bn1\.{_BATCH_NORM}|layer[1-4]\.\d+\.(conv[1-3]\.weight|bn[1-3]\.{_BATCH_NORM}"
    rf"|downsample\.(0\.weight|1\.{_BATCH_NORM})))"
)
_EXAMPLE = '{"size_px": 32, "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}'


def torch_file_encoder(path: str | Path, *, device: str = "auto", precision: Precision = "auto") -> Encoder:
    """The encoder in a file; see the module's head.

    Raises:
        InputError: there is no such file, it is not of these kinds, or nobody says how images are prepared for it.
        CheckpointError: it is damaged, or a weight is missing, unknown or of another shape; the message names it.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no file '{path}'")
    stated = _stated(path)
    body: nn.Module
    if _is_torchscript(path):
        preprocessing = _preprocessing(stated, path, "a TorchScript")
        body = script = TorchScript(path.read_bytes(), preprocessing.size_px)
        architecture = Architecture(backbone="torchscript", options={"sha256": script.sha256})
    else:
        weights = resnet_weights(_read_state(path), path.name)
        architecture = _resnet_architecture(weights, path.name)
        if architecture.stem == "imagenet":
            stated = {"size_px": 224, "resize_px": 256, "mean": IMAGENET_MEAN, "std": IMAGENET_STD} | stated
        preprocessing = _preprocessing(stated, path, "a ResNet with a 3x3 stem")
        body = architecture.build().backbone
        _fill(body, weights, architecture, path.name)
    network = architecture.build(body)
    return Encoder(network, architecture, preprocessing, name=f"torch:{path.name}", device=device, precision=precision)


def resnet_weights(state: Mapping[str, Tensor], source: str) -> _State:
    """The weights of a ResNet by torchvision's names, out of any of the layouts above.

    Args:
        state: Weights by name.
        source: What they are called in messages.

    Raises:
        CheckpointError: there is no ResNet in it, or weights that have no place in one.
    """
    named = {re.sub(r"(?<![^.])(module|_orig_mod)\.", "", name): tensor for name, tensor in state.items()}
    for prefix in _PREFIXES:
        inside = _by_torchvision_names([name for name in named if name.startswith(prefix)], prefix)
        if "conv1.weight" in inside:
            break
    else:
        raise CheckpointError(
            f"'{source}' has no ResNet whose names are known (conv1.weight, layer1.0.conv1.weight, ...), "
            f"but {_some(state)}; save another network as TorchScript to use it"
        )
    unknown = named.keys() - inside.values()
    unknown = {name for name in unknown if not any(map(_TRAINING_ONLY.match, (name, name.removeprefix(prefix))))}
    if unknown:
        raise CheckpointError(
            f"'{source}' has weights that have no place in a ResNet: {_some(sorted(unknown))}; "
            "save its network as TorchScript to use it"
        )
    return {place: named[name] for place, name in inside.items()}


def _by_torchvision_names(names: list[str], prefix: str) -> dict[str, str]:
    """Torchvision's name -> the given one, of those that name a weight of a ResNet after `prefix`."""
    inside = {name.removeprefix(prefix): name for name in names}
    numbers = {int(found[1]) for name in inside if (found := re.match(r"(\d)\.", name))}
    # nn.Sequential(conv1, bn1, relu[, maxpool], layer1, layer2, layer3, layer4): what has weights, by its number.
    children = {"0": "conv1", "1": "bn1"}
    if numbers in ({0, 1, 3, 4, 5, 6}, {0, 1, 4, 5, 6, 7}):
        children |= {str(max(numbers) - 4 + layer): f"layer{layer}" for layer in (1, 2, 3, 4)}
    places = {}
    for name, given in inside.items():
        first, _, rest = name.partition(".")
        place = f"{children.get(first, first)}.{rest}".replace(".shortcut.", ".downsample.")
        if _OF_A_RESNET.fullmatch(place):
            places[place] = given
    return places


def _resnet_architecture(weights: _State, source: str) -> Architecture:
    """Which of our ResNets has these weights, by torchvision's names."""
    blocks = tuple(
        len({name.split(".")[1] for name in weights if name.startswith(f"layer{layer}.")}) for layer in (1, 2, 3, 4)
    )
    bottleneck = "layer1.0.conv3.weight" in weights
    depth = next((name for name, kind in RESNETS.items() if kind == (blocks, bottleneck)), None)
    width, _, *kernel = weights["conv1.weight"].shape
    stem = "imagenet" if kernel == [7, 7] else "small" if kernel == [3, 3] else None
    if depth is None or stem is None:
        kind = "bottleneck" if bottleneck else "basic"
        raise CheckpointError(
            f"'{source}' is a ResNet of {blocks} {kind} blocks with a first convolution of {kernel}, which is none of "
            f"{', '.join(RESNETS)} with one of [7, 7] or [3, 3]; save it as TorchScript to use it"
        )
    return Architecture(backbone=depth, stem=stem, width=width)  # type: ignore[arg-type]


def _fill(body: nn.Module, weights: _State, architecture: Architecture, source: str) -> None:
    """Load weights by torchvision's names into our ResNet; CheckpointError for any that does not fit."""
    blocks, bottleneck = RESNETS[architecture.backbone]
    theirs = dict(_modules(blocks, 3 if bottleneck else 2))
    ours = body.state_dict()
    places = {}
    for name in ours:
        module, _, leaf = name.rpartition(".")
        places[f"{theirs[module]}.{leaf}"] = name
    # Old checkpoints do not count their batches, and nothing is made of the count.
    missing = [place for place in places if place not in weights and not place.endswith("num_batches_tracked")]
    if missing:
        raise CheckpointError(f"'{source}' lacks weights of a {architecture.backbone}: {_some(missing)}")
    if unknown := sorted(weights.keys() - places.keys()):
        raise CheckpointError(
            f"'{source}' has weights that have no place in a {architecture.backbone}: {_some(unknown)}; "
            "save its network as TorchScript to use it"
        )
    for place, tensor in weights.items():
        wanted = ours[places[place]].shape
        if tensor.shape != wanted:
            raise CheckpointError(
                f"'{source}' is not a plain {architecture.backbone} of width {architecture.width}: '{place}' should be "
                f"{list(wanted)}, the file has {list(tensor.shape)}; save it as TorchScript to use it"
            )
    body.load_state_dict(ours | {places[place]: tensor for place, tensor in weights.items()})


def _modules(blocks: tuple[int, ...], convolutions: int) -> Iterator[tuple[str, str]]:
    """Our name of each module with weights, and torchvision's."""
    yield from (("stem.0", "conv1"), ("stem.1", "bn1"))
    numbered = [(layer, i) for layer, count in enumerate(blocks, 1) for i in range(count)]
    for position, (layer, i) in enumerate(numbered):
        ours, theirs = f"stages.{position}", f"layer{layer}.{i}"
        for k in range(convolutions):
            yield f"{ours}.residual.{3 * k}", f"{theirs}.conv{k + 1}"
            yield f"{ours}.residual.{3 * k + 1}", f"{theirs}.bn{k + 1}"
        for k in (0, 1):
            yield f"{ours}.shortcut.{k}", f"{theirs}.downsample.{k}"


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.split("/")[1:2] == ["code"] for name in archive.namelist())


def _read_state(path: Path) -> _State:
    """The weights in a safetensors file or a checkpoint of torch, out of whatever they are wrapped in."""
    try:
        with open(path, "rb") as file:
            is_safetensors = file.read(9)[8:] == b"{"
        if is_safetensors:
            return load_file(path)
        # Settings are kept beside the weights by many; a Namespace can do nothing when it is read.
        with torch.serialization.safe_globals([argparse.Namespace]):
            found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise CheckpointError(
            f"'{path}' is no checkpoint, or holds more than tensors, and is not read, since such a file can run any "
            f"program ({_reason(error)}); save the state dict alone: torch.save(module.state_dict(), ...)"
        ) from error
    except (OSError, RuntimeError, EOFError, SafetensorError) as error:
        raise CheckpointError(f"'{path}' cannot be read: {_reason(error)}") from error
    while isinstance(found, Mapping) and (
        inner := next((w for w in _WRAPPERS if isinstance(found.get(w), Mapping)), "")
    ):
        found = found[inner]
    if not isinstance(found, Mapping) or not found or not all(isinstance(value, Tensor) for value in found.values()):
        what = f"a dict of {_some(found)}" if isinstance(found, Mapping) else f"a {type(found).__name__}"
        raise CheckpointError(f"'{path}' holds {what}, and a state dict (weights by name) was needed")
    return dict(found)


def _stated(path: Path) -> dict[str, Any]:
    """What `<file>.json` says of the images."""
    beside = path.with_name(path.name + ".json")
    if not beside.exists():
        return {}
    try:
        stated = json.loads(beside.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"'{beside}' cannot be read as JSON: {error}") from error
    known = {"size_px", "resize_px", "mean", "std", "resample", "fit"}
    if not isinstance(stated, dict) or stated.keys() - known:
        raise InputError(
            f"'{beside}' must be an object of {', '.join(sorted(known))}, such as {_EXAMPLE}; got {stated}"
        )
    return stated


def _preprocessing(stated: Mapping[str, Any], path: Path, what: str) -> Preprocessing:
    if missing := [name for name in ("size_px", "mean", "std") if name not in stated]:
        raise InputError(
            f"'{path.name}' is {what}, and nothing says how its images are prepared: "
            f"write {path.name}.json beside it with {', '.join(missing)}, such as {_EXAMPLE}"
        )
    return Preprocessing(
        size_px=stated["size_px"],
        cache_px=stated.get("resize_px", stated["size_px"]),
        fit=stated.get("fit", "crop"),
        mean=stated["mean"],
        std=stated["std"],
        resample=stated.get("resample", "bicubic"),
        center_crop="resize_px" in stated,
    )


def _some(names: Iterable[str], most: int = 3) -> str:
    names = list(map(str, names))
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _reason(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
