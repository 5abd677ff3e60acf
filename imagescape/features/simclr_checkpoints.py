"""SimCLR v1 and v2 checkpoints of TensorFlow, as encoders of imagescape.

Sources: Chen et al. 2020, arXiv:2002.05709 and arXiv:2006.10029; the published checkpoints are Google Research's,
under the Apache licence.
"""

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from imagescape.errors import CheckpointError, InputError
from imagescape.features.tensorflow_bundle import Bundle
from imagescape.learn.backbones.simclr_resnet import (
    PROJECTION_LAYERS,
    PROJECTIONS,
    ProjectionHead,
    SimCLRArchitecture,
    SimCLRHeads,
    SimCLRResNet,
)
from imagescape.learn.encoder import Architecture, Encoder, replace_folder
from imagescape.learn.heads import Network
from imagescape.learn.preprocessing import Preprocessing
from imagescape.runtime import track

PREPROCESSING = Preprocessing(
    size_px=224, cache_px=256, fit="crop", mean=SimCLRResNet.mean, std=SimCLRResNet.std, center_crop=True
)
"""As the published networks are evaluated: short side to 256 by bicubic, the middle 224, values in [0, 1]."""

HEADS_FILE = "heads.safetensors"
_AVERAGED, _PROJECTION, _CLASSIFIER = "ema_model/", "head_contrastive", "head_supervised/linear_layer/dense"
_LAYER = re.compile(r"(conv2d|batch_normalization)(?:_(\d+))?/(\w+)")
_BATCH_NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
_PARTS = {"conv2d": ("kernel",), "batch_normalization": tuple(_BATCH_NORM)}
_SLOTS = ("/Momentum", "/LARSOptimizer", "/Adam", "/Adam_1")  # of optimizers
# Steps at which v2's published fine-tuning on 1 % and 10 % of the labels ended: there the classifier stands on the
# first layer of the projection head. Everywhere else it stands on the backbone.
_ON_FIRST_LAYER = {751, 3754}
_PUBLISHED_STEPS = {250228, 37535, 28151} | _ON_FIRST_LAYER


@dataclass(frozen=True)
class SimCLRCheckpoint:
    """A checkpoint as networks in eval mode.

    Attributes:
        backbone: The network up to its features.
        heads: What stands on it.
        architecture: Of the backbone.
        step: The global step of its training, if it was kept.
        is_averaged: Whether the weights are the moving averages (EMA) of training, or its last ones.
    """

    backbone: SimCLRResNet
    heads: SimCLRHeads
    architecture: SimCLRArchitecture
    step: int | None
    is_averaged: bool


def convert(
    source: str | Path,
    folder: str | Path,
    *,
    ema: bool | None = None,
    features_after: int = 0,
    classifier_after: int | None = None,
    verify: bool = True,
) -> Encoder:
    """Turn a TensorFlow checkpoint of SimCLR v1 or v2 into a saved encoder.

    Args:
        source: The checkpoint: its prefix (`model.ckpt-250228`), its `.index`, or the folder it is alone in.
        folder: Where the encoder is saved, the heads beside it (`load_heads`); one that is there is replaced.
        ema, features_after, classifier_after, verify: As for `read_checkpoint`.

    Raises:
        CheckpointError: no SimCLR checkpoint, damaged, of another shape, or of a size that was never published.
    """
    bundle = Bundle(source)
    found = read_checkpoint(
        bundle, ema=ema, features_after=features_after, classifier_after=classifier_after, verify=verify
    )
    try:
        name = found.architecture.name
    except InputError as error:
        raise CheckpointError(f"{bundle.path} cannot be an encoder: {error}") from error
    encoder = Encoder(
        Network(found.backbone, None),
        Architecture(backbone=f"simclr:{name}"),
        PREPROCESSING,
        name=Path(folder).name,
        version=f"{bundle.path.name}{', moving averages' if found.is_averaged else ''}",
    )
    recipe = {
        "converted_from": bundle.path.name,
        "global_step": found.step,
        "ema": found.is_averaged,
        "classifier_after": found.heads.classifier_after,
    }

    def write(part: Path) -> None:
        encoder.save(part, recipe=recipe)
        save_heads(found.heads, part)

    replace_folder(Path(folder), write)
    return encoder


def read_checkpoint(
    source: str | Path | Bundle,
    *,
    architecture: SimCLRArchitecture | None = None,
    ema: bool | None = None,
    features_after: int = 0,
    classifier_after: int | None = None,
    verify: bool = True,
) -> SimCLRCheckpoint:
    """Read a TensorFlow checkpoint of SimCLR v1 or v2.

    Args:
        source: The checkpoint, as for `convert`.
        architecture: What it must be; None: found from the variables.
        ema: Take the moving averages of the weights, or the weights of the last step. None: the averages where there
            are any; v1 has none. A head of which no average was kept is taken from the last step.
        features_after: Layers of the projection head that belong to the features: 0 is what the papers evaluate.
        classifier_after: Layers of the projection head below the classifier. None: by the global step, which tells of
            the published checkpoints; of others the classifier is kept, but cannot be used before this is set.
        verify: Compare every tensor that is read with its checksum.

    Raises:
        CheckpointError: no SimCLR checkpoint, damaged, of another shape, or it does not have what was asked for.
    """
    if not 0 <= features_after <= PROJECTION_LAYERS:
        raise InputError(f"features_after must be 0 to {PROJECTION_LAYERS} layers, got {features_after}")
    variables = _Variables(source if isinstance(source, Bundle) else Bundle(source), ema, verify)
    architecture = replace(architecture or _detect(variables), head_layers=features_after)
    heads = _read_heads(variables, architecture.pooled_features, classifier_after)
    heads.features_after = features_after
    with torch.device("meta"):  # weights come from the file: none are drawn
        backbone = SimCLRResNet(architecture)
    backbone.to_empty(device="cpu")
    _load_base(variables, backbone)
    if features_after:
        backbone.head.load_state_dict(_first_layers(variables, heads.projection, features_after).state_dict())
    return SimCLRCheckpoint(backbone.eval(), heads.eval(), architecture, variables.step, variables.is_averaged)


def save_heads(heads: SimCLRHeads, folder: str | Path) -> None:
    """Write `heads.safetensors` into an encoder's folder."""
    places = {name: getattr(heads, name) for name in ("classifier_after", "features_after")}
    save_file(heads.state_dict(), Path(folder) / HEADS_FILE, {"places": json.dumps(places)})


def load_heads(folder: str | Path) -> SimCLRHeads:
    """The projection head and the classifier that `convert` kept beside an encoder, in eval mode.

    Raises:
        CheckpointError: there are none, or the file is damaged.
    """
    path = Path(folder) / HEADS_FILE
    try:
        with safe_open(path, "pt") as file:
            places = json.loads(file.metadata()["places"])
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        heads = SimCLRHeads(*_empty_heads(state), **places)
        heads.load_state_dict(state)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{folder} has no readable {HEADS_FILE}: only a converted SimCLR model has one"
        ) from error
    return heads.eval()


def _empty_heads(state: dict[str, Tensor]) -> tuple[ProjectionHead | None, nn.Linear | None]:
    """Modules of the sizes of these weights."""
    projection = classifier = None
    layers = [state[name] for name in sorted(state) if re.fullmatch(r"projection\.layers\.\d\.0\.weight", name)]
    if layers:
        projection = ProjectionHead(layers[0].shape[1], layers[-1].shape[0], len(layers))
    if "classifier.weight" in state:
        classes, width = state["classifier.weight"].shape
        classifier = nn.Linear(width, classes)
    return projection, classifier


class _Variables:
    """The variables of one copy of the network, and tensors made of them."""

    def __init__(self, bundle: Bundle, ema: bool | None, verify: bool) -> None:
        self.bundle, self._verify = bundle, verify
        has_averages = any(name.startswith(f"{_AVERAGED}base_model/") for name in bundle.names())
        if ema and not has_averages:
            raise CheckpointError(f"{bundle.path} keeps no moving averages (ema_model/…); convert it without --ema")
        self.is_averaged = has_averages if ema is None else ema
        self.layers = self._find_layers()
        self.step = int(bundle.read("global_step", verify=verify)) if "global_step" in bundle else None

    def name(self, name: str) -> str:
        """The variable's name in the copy that is read."""
        averaged = _AVERAGED + name
        is_kept = name.startswith("base_model/") or averaged in self.bundle
        return averaged if self.is_averaged and is_kept else name

    def has(self, name: str) -> bool:
        return self.name(name) in self.bundle

    def shape(self, name: str) -> tuple[int, ...]:
        return self.bundle.shape(self.name(name))

    def load(self, name: str, into: Tensor) -> None:
        """Copy a variable into a tensor of the same meaning, whose layout is PyTorch's.

        Raises:
            CheckpointError: it is missing, of another shape or type, or damaged.
        """
        order = {4: (3, 2, 0, 1), 2: (1, 0)}.get(into.dim(), (0,))  # HWIO to OIHW; (in, out) to (out, in)
        needed = tuple(into.shape[order.index(axis)] for axis in range(into.dim()))
        name = self.name(name)
        if self.bundle.shape(name) != needed:
            raise CheckpointError(f"'{name}' in {self.bundle.path} must be {needed}, it is {self.bundle.shape(name)}")
        if self.bundle.dtype(name) not in ("float32", "bfloat16", "float16"):
            raise CheckpointError(f"'{name}' in {self.bundle.path} must be of floats, it is {self.bundle.dtype(name)}")
        values = np.array(self.bundle.read(name, verify=self._verify).transpose(order), np.float32, order="C")
        with torch.no_grad():
            into.copy_(torch.from_numpy(values))

    def _find_layers(self) -> dict[str, list[str]]:
        """Kind ("conv2d", "batch_normalization") to the names of its layers, in the order they were created.

        Raises:
            CheckpointError: no SimCLR network, one is missing, or there is something else in it.
        """
        scope = self.name("base_model/")
        numbers: dict[str, set[int]] = {kind: set() for kind in _PARTS}
        for name in self.bundle.names():
            if not name.startswith(scope) or name.endswith(_SLOTS):
                continue
            match = _LAYER.fullmatch(name.removeprefix(scope))
            if match is None or match[3] not in _PARTS[match[1]]:
                raise CheckpointError(f"'{name}' in {self.bundle.path} is no part of a SimCLR ResNet")
            numbers[match[1]].add(int(match[2] or 0))
        if not numbers["conv2d"]:
            some = ", ".join(self.bundle.names()[:3]) or "nothing"
            raise CheckpointError(
                f"{self.bundle.path} is no SimCLR checkpoint of TensorFlow 1: it needs {scope}conv2d/kernel, it has "
                f"{some}, …"
            )
        for kind, found in numbers.items():
            if missing := sorted(set(range(max(found, default=0) + 1)) - found):
                raise CheckpointError(f"{self.bundle.path} lacks the variables of {scope}{_numbered(kind, missing[0])}")
        return {kind: [f"base_model/{_numbered(kind, i)}" for i in sorted(found)] for kind, found in numbers.items()}


def _numbered(kind: str, number: int) -> str:
    """TensorFlow gives the first layer of a kind no number."""
    return f"{kind}_{number}" if number else kind


def _detect(variables: _Variables) -> SimCLRArchitecture:
    """Depth, width and kind from the shapes of the convolutions.

    Raises:
        CheckpointError: not of the networks for large images that SimCLR was published with.
    """
    path = variables.bundle.path
    kernels = [variables.shape(f"{layer}/kernel") for layer in variables.layers["conv2d"]]
    sides = [kernel[0] for kernel in kernels]
    if sides[0] == 7:
        stem, selective = 1, False
    elif sides[:3] == [3, 3, 3]:
        stem, selective = 3, True
    else:
        raise CheckpointError(
            f"the kernels of {path} begin with sides of {sides[:3]}; SimCLR's networks for large images begin with one "
            "of 7 or three of 3 pixels, and those for CIFAR are not supported"
        )
    if sides[stem + 1 : stem + 2] != [1]:
        raise CheckpointError(f"{path} has blocks of two convolutions (ResNet-18 or 34), which are not supported")
    channels, blocks = kernels[stem - 1][3], list[int]()
    # Every block has one 3x3 convolution, and every stage twice the channels of the one before.
    spatial = [kernel[3] for kernel in kernels[stem:] if kernel[0] == 3]
    while spatial:
        out = channels * 2 ** len(blocks) * (2 if selective else 1)
        blocks.append(next((i for i, found in enumerate(spatial) if found != out), len(spatial)))
        if not blocks[-1]:
            raise CheckpointError(
                f"{path} is no SimCLR ResNet: stage {len(blocks)} has no 3x3 kernels of {out} channels"
            )
        del spatial[: blocks[-1]]
    return SimCLRArchitecture(blocks=tuple(blocks), channels=channels, selective_kernels=selective)


def _load_base(variables: _Variables, backbone: SimCLRResNet) -> None:
    modules: dict[str, list[nn.Module]] = {
        "conv2d": [module for module in backbone.modules() if isinstance(module, nn.Conv2d)],
        "batch_normalization": [module for module in backbone.modules() if isinstance(module, nn.BatchNorm2d)],
    }
    for kind, layers in variables.layers.items():
        if len(modules[kind]) != len(layers):
            raise CheckpointError(
                f"{variables.bundle.path} must have {len(modules[kind])} layers {kind}, it has {len(layers)}"
            )
    with track("convert", sum(map(len, variables.layers.values())), unit="layers") as progress:
        for kind, layers in variables.layers.items():
            for name, module in zip(layers, modules[kind], strict=True):
                _load_layer(variables, name, module)
                progress.advance()


def _load_layer(variables: _Variables, name: str, module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        variables.load(f"{name}/kernel", module.weight)
        return
    for theirs, ours in _BATCH_NORM.items():
        variables.load(f"{name}/{theirs}", getattr(module, ours))
    module.num_batches_tracked.zero_()  # type: ignore[operator]


def _read_heads(variables: _Variables, features: int, classifier_after: int | None) -> SimCLRHeads:
    projection = _read_projection(variables, features)
    if not variables.has(f"{_CLASSIFIER}/kernel"):
        return SimCLRHeads(projection, None)
    if classifier_after is None:
        classifier_after = _classifier_after(variables, projection)
    width, classes = variables.shape(f"{_CLASSIFIER}/kernel")
    if classifier_after is not None:
        width = projection.widths[classifier_after] if projection else features
    classifier = nn.Linear(width, classes)
    variables.load(f"{_CLASSIFIER}/kernel", classifier.weight)
    variables.load(f"{_CLASSIFIER}/bias", classifier.bias)
    return SimCLRHeads(projection, classifier, classifier_after=classifier_after)


def _classifier_after(variables: _Variables, projection: ProjectionHead | None) -> int | None:
    """Layers of the projection head below the classifier, which no shape tells; None where the step does not either."""
    if projection is None:
        return 0
    if variables.step not in _PUBLISHED_STEPS:
        return None
    return 1 if variables.step in _ON_FIRST_LAYER else 0


def _read_projection(variables: _Variables, features: int) -> ProjectionHead | None:
    count = 0
    while variables.has(f"{_PROJECTION}/nl_{count}/dense/kernel"):
        count += 1
    if not count:
        return None
    head = ProjectionHead(features, variables.shape(f"{_PROJECTION}/nl_{count - 1}/dense/kernel")[-1], count)
    for i, layer in enumerate(head.layers):
        linear, norm = layer[0], layer[1]  # type: ignore[index]
        variables.load(f"{_PROJECTION}/nl_{i}/dense/kernel", linear.weight)
        for theirs, ours in _BATCH_NORM.items():
            if theirs != "beta" or i < count - 1:
                variables.load(f"{_PROJECTION}/nl_{i}/batch_normalization/{theirs}", getattr(norm, ours))
    return head


def _first_layers(variables: _Variables, head: ProjectionHead | None, count: int) -> nn.ModuleList:
    """The layers of the projection head that belong to the features."""
    widths = head.widths if head else ()
    published = widths[:1] * PROJECTION_LAYERS + (PROJECTIONS,)
    if head is None or len(widths) != len(published) or widths[: count + 1] != published[: count + 1]:
        raise CheckpointError(
            f"features after {count} layers of the projection head need one of {PROJECTION_LAYERS} layers and "
            f"{PROJECTIONS} projections; {variables.bundle.path} has "
            + (f"{len(widths) - 1} and {widths[-1]}" if head else "none")
        )
    return head.layers[:count]
