"""Networks of the Hugging Face hub through transformers: `hf:<name>`, or offline `hf:<local folder>`.

What is taken as the feature of an image, for each family:

    CLIP                          image embedding after the projection, as `get_image_features`; not normalised
    SigLIP                        output of the attention-pooling head, as `get_image_features`; not normalised
    DINOv2, with registers or     class token after the last layer norm (`pooler_output`)
    not, DINOv3 ViT
    ViT, DeiT                     class token after the last layer norm; not the tanh pooler, which is trained for
                                  classification and missing in many checkpoints
    BEiT                          normalised mean of the patch tokens, or the class token (`pooler_output`)
    Swin, Swin v2                 mean of the normalised patch tokens (`pooler_output`)
    ResNet, RegNet, ConvNeXt 1    mean over the image (`pooler_output`), for ConvNeXt after a layer norm
    and 2, DINOv3 ConvNeXt

How images are prepared is read from the model's `preprocessor_config.json` and done by our own code, so torchvision is
not needed. Its pixels are those of transformers but for rounding: 19 of 20 are equal and the rest mostly differ by one
grey level, more only at hard edges. What is cut away of an oblong image is never resized, so Pillow may take the two
axes in another order; very large images are first reduced by whole numbers; DINOv3's are resized as uint8, not float.
"""

import contextlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from jaxtyping import Float
from safetensors import SafetensorError
from torch import Tensor, float32, nn

from imagescape.errors import CheckpointError, InputError, require
from imagescape.learn.backbones.published import Published
from imagescape.learn.preprocessing import Preprocessing


class _Family(NamedTuple):
    network: str  # class of transformers
    pooling: str
    arguments: Mapping[str, Any] = {}


_POOLED = "pooler_output"
_FAMILIES = {
    "clip": _Family("CLIPVisionModelWithProjection", "image_embeds"),
    "clip_vision_model": _Family("CLIPVisionModelWithProjection", "image_embeds"),
    "siglip": _Family("SiglipVisionModel", _POOLED),
    "siglip_vision_model": _Family("SiglipVisionModel", _POOLED),
    "dinov2": _Family("Dinov2Model", _POOLED),
    "dinov2_with_registers": _Family("Dinov2WithRegistersModel", _POOLED),
    "dinov3_vit": _Family("DINOv3ViTModel", _POOLED),
    "dinov3_convnext": _Family("DINOv3ConvNextModel", _POOLED),
    "vit": _Family("ViTModel", "class_token", {"add_pooling_layer": False}),
    "deit": _Family("DeiTModel", "class_token", {"add_pooling_layer": False}),
    "beit": _Family("BeitModel", _POOLED),
    "swin": _Family("SwinModel", _POOLED),
    "swinv2": _Family("Swinv2Model", _POOLED),
    "resnet": _Family("ResNetModel", _POOLED),
    "regnet": _Family("RegNetModel", _POOLED),
    "convnext": _Family("ConvNextModel", _POOLED),
    "convnextv2": _Family("ConvNextV2Model", _POOLED),
}
# Of a configuration: what says nothing of the network, or names the thousand classes of a head that we do not have.
_SAYS_NOTHING = {"_name_or_path", "architectures", "dtype", "id2label", "label2id", "torch_dtype"}


class PooledTransformer(nn.Module):
    """A network of transformers that gives one vector an image.

    Args:
        network: Takes `pixel_values`.
        pooling: The field of its output that is the vector; "class_token": the first of the last hidden state.
    """

    def __init__(self, network: nn.Module, pooling: str) -> None:
        super().__init__()
        self.network = network
        self.pooling = pooling
        config: Any = network.config
        width = getattr(config, "projection_dim", None) if pooling == "image_embeds" else None
        self.out_features = int(width or getattr(config, "hidden_size", None) or config.hidden_sizes[-1])

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n out_features"]:
        output = self.network(pixel_values=images)
        pooled: Tensor = output.last_hidden_state[:, 0] if self.pooling == "class_token" else output[self.pooling]
        return pooled.flatten(1)  # those of convolutional networks are (n, c, 1, 1)


def published(name: str) -> Published:
    """The image side of a model of the hub, or of a folder in its layout, in float32.

    Raises:
        InputError: it cannot be had, is of a family that is not listed above, or prepares images in a way of its own.
        CheckpointError: weights are missing or of other shapes.
        MissingExtraError: transformers is not installed.
    """
    transformers = require("transformers", extra="transformers")
    with quietly(transformers), said_plainly(name):
        config = transformers.AutoConfig.from_pretrained(name)
        family = _family(config.model_type, name)
        commit = getattr(config, "_commit_hash", None)
        if (vision := getattr(config, "vision_config", None)) is not None:
            # The width of the projection is the whole model's to say; its image side repeats a default, at times.
            vision.projection_dim = getattr(config, "projection_dim", None)
            config = vision
        processor, _ = transformers.ImageProcessingMixin.get_image_processor_dict(name)
        preprocessing = preprocessing_of(processor.get("image_processor", processor), config.model_type)
        network, report = getattr(transformers, family.network).from_pretrained(
            name, config=config, dtype=float32, output_loading_info=True, **family.arguments
        )
    if missing := sorted(report["missing_keys"]):
        raise CheckpointError(
            f"'{name}' lacks weights of a {family.network}: {', '.join(missing[:3])}"
            f"{f' and {len(missing) - 3} more' if len(missing) > 3 else ''}"
        )
    described = {key: value for key, value in config.to_dict().items() if key not in _SAYS_NOTHING}
    return Published(
        network=PooledTransformer(network, family.pooling),
        preprocessing=preprocessing,
        version=f"transformers {transformers.__version__}" + (f", commit {commit}" if commit else ""),
        options={"config": described, "pooling": family.pooling},
    )


def build(options: Mapping[str, Any]) -> PooledTransformer:
    """The network of `Published.options`, its weights still to be loaded.

    Raises:
        CheckpointError: the options are not such.
        MissingExtraError: transformers is not installed.
    """
    transformers = require("transformers", extra="transformers")
    try:
        described, pooling = dict(options["config"]), options["pooling"]
        family = _FAMILIES[described.pop("model_type")]
    except KeyError as error:
        raise CheckpointError(f"a saved network of transformers does not say its {error}; save it again") from error
    network = getattr(transformers, family.network)
    return PooledTransformer(network(network.config_class(**described), **family.arguments), pooling)


def _family(model_type: str, name: str) -> _Family:
    if model_type not in _FAMILIES:
        raise InputError(
            f"'{name}' is a '{model_type}', and nobody has said what of its output describes an image; "
            f"known are {', '.join(_FAMILIES)}; wrap any other in an nn.Module for features.encoder_from_module"
        )
    return _FAMILIES[model_type]


@contextlib.contextmanager
def said_plainly(name: str) -> Iterator[None]:
    """What goes wrong in fetching and reading a model, as our errors."""
    try:
        yield
    except (InputError, CheckpointError):
        raise
    except OSError as error:
        raise InputError(
            f"'{name}' is neither a folder of a model nor to be had from the hub: {_first_line(error)}; "
            "fetch it where there is a network (hf download NAME --local-dir FOLDER) and give hf:FOLDER"
        ) from error
    except (RuntimeError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"'{name}' cannot be read by transformers: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


@contextlib.contextmanager
def quietly(transformers: Any) -> Iterator[None]:
    """Without its bars and its list of the weights that we leave out on purpose."""
    logging = transformers.utils.logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


_NEAREST_FIRST = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")  # Pillow's numbers 0 to 5
# What a processor does where its file, often of an older release, does not say: as transformers has it.
_UNSAID: dict[str, dict[str, Any]] = {
    "ViT": {"resample": 2},
    "DINOv3ViT": {"resample": 2},
    "DeiT": {"resample": 3, "do_center_crop": True, "crop_size": 224},
    "Beit": {"resample": 3},
    "Siglip": {"resample": 3},
    "CLIP": {"resample": 3, "do_center_crop": True, "crop_size": 224},
    "Bit": {"resample": 3, "do_center_crop": True, "crop_size": 224},
    "ConvNext": {"resample": 3, "crop_pct": 224 / 256},
}
_KEEPS_PROPORTIONS = ("CLIP", "Bit", "ConvNext")  # where their file gives one number for the size
_HARMLESS = {"do_convert_rgb", "do_resize", "do_center_crop", "do_rescale", "do_normalize"}


def preprocessing_of(processor: Mapping[str, Any], model_type: str = "") -> Preprocessing:
    """What a `preprocessor_config.json` says, as our preprocessing.

    Args:
        processor: Its content.
        model_type: Of the model, only for messages.

    Raises:
        InputError: it does something that a `Preprocessing` cannot say, or leaves out what it must say.
    """
    named = str(processor.get("image_processor_type") or processor.get("feature_extractor_type") or "")
    kind = re.sub(r"(ImageProcessor(Fast|Pil)?|FeatureExtractor)$", "", named)
    if kind not in _UNSAID:
        raise InputError(
            f"how '{named or 'an unnamed processor'}' prepares images for a {model_type or 'model'} is not known here; "
            f"known are those of {', '.join(_UNSAID)}"
        )
    said = {"do_resize": True, "do_rescale": True, "do_normalize": True, "rescale_factor": 1 / 255}
    said |= _UNSAID[kind] | {key: value for key, value in processor.items() if value is not None}
    done = _HARMLESS - {"do_center_crop"} if kind == "ConvNext" else _HARMLESS  # it has a crop of its own already
    if other := sorted(key for key in said if key.startswith("do_") and said[key] and key not in done):
        raise InputError(f"this model's images need {', '.join(other)}, which is not done here")
    if not said["do_resize"]:
        raise InputError("this model takes images of any size, and a table needs them all of one")
    for key in ("size", "image_mean", "image_std"):
        if key not in said and (key == "size" or said["do_normalize"]):
            raise InputError(f"the model's preprocessor_config.json does not say its {key}")
    cache_px, fit = _resized(said["size"], kind)
    size_px, center_crop = cache_px, False
    if kind == "ConvNext" and cache_px < 384:  # its size is that of the crop, and from 384 px on nothing is cut away
        cache_px, center_crop = int(cache_px / said["crop_pct"]), True
    elif kind == "ConvNext":
        fit = "squash"
    elif said.get("do_center_crop"):
        size_px, center_crop = _side(said["crop_size"], ("height", "width")), True
    # (pixel * factor - mean) / std, with pixel * factor as our pixel / 255 * scale.
    scale = 255 * said["rescale_factor"] if said["do_rescale"] else 255.0
    mean, std = (said["image_mean"], said["image_std"]) if said["do_normalize"] else ((0.0,) * 3, (1.0,) * 3)
    mean, std = (value if isinstance(value, (list, tuple)) else (value,) * 3 for value in (mean, std))
    return Preprocessing(
        size_px=size_px,
        cache_px=cache_px,
        fit=fit,
        mean=tuple(value / scale for value in mean),  # type: ignore[arg-type]  # three, which it checks
        std=tuple(value / scale for value in std),  # type: ignore[arg-type]
        resample=_NEAREST_FIRST[int(said["resample"])],  # type: ignore[arg-type]
        center_crop=center_crop,
    )


def _resized(size: Any, kind: str) -> tuple[int, Any]:
    """The side of the square that an image is resized to, and how it is made a square."""
    if isinstance(size, Mapping):
        if set(size) == {"shortest_edge"}:
            return int(size["shortest_edge"]), "crop"
        return _side(size, ("height", "width")), "squash"
    return _side(size, ()), "crop" if kind in _KEEPS_PROPORTIONS else "squash"


def _side(size: Any, names: tuple[str, ...]) -> int:
    sides = [size.get(name) for name in names] if isinstance(size, Mapping) else [size]
    if len(set(sides)) != 1 or not isinstance(sides[0], int):
        raise InputError(f"this model's images need a size of {size}, and here they are squares")
    return sides[0]
