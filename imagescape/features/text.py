"""Texts to vectors in the space of the images of the same model: the text side of CLIP and SigLIP, by transformers.

CLIP      text embedding after the projection, as `get_text_features`; texts are padded to the longest of a batch
SigLIP    output of the pooling head, as `get_text_features`; texts in lower case, padded to the length it was
          trained with, without a mask, as it was trained (Zhai et al. 2023, arXiv:2303.15343)
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from imagescape.errors import CheckpointError, InputError, MissingExtraError, require
from imagescape.learn.backbones.transformers_hub import quietly, said_plainly
from imagescape.learn.encoder import weights_sha256
from imagescape.runtime import Precision, autocast_dtype, resolve_device

MODELS = {"clip": "CLIPModel", "siglip": "SiglipModel"}
PROMPTS = ("a photo of a {}.", "a close-up photo of a {}.", "a picture of the {}.", "an image of some {}.")
"""A word is encoded in several sentences, whose mean tells more than one (Radford et al. 2021, arXiv:2103.00020)."""

_BATCH = 256
_VISION = ("vision_model", "visual_projection")


class TextTower(nn.Module):
    """The text side of a model of transformers."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.text = model.text_model
        self.projection = getattr(model, "text_projection", nn.Identity())

    def forward(self, input_ids: Int64[Tensor, "n t"]) -> Float[Tensor, "n d"]:
        # Without a mask: CLIP looks only back from the end of the text, and SigLIP was trained so.
        projected: Tensor = self.projection(self.text(input_ids=input_ids).pooler_output)
        return projected


class TextEncoder:
    """Texts in, vectors of length 1 out; to be compared by cosine with the features of the images.

    Args:
        tower: Gives (n, d) of tokens.
        tokenizer: Of transformers.
        name: What it was opened by.
        logit_scale: What the model multiplies cosines by before its softmax.
        max_tokens: Of a text; what is longer is cut.
        is_padded: Whether the model knows only texts of that length, as SigLIP.
        device, precision: Where and how it runs.
    """

    def __init__(
        self,
        tower: nn.Module,
        tokenizer: Any,
        *,
        name: str,
        logit_scale: float,
        max_tokens: int,
        is_padded: bool,
        device: str = "auto",
        precision: Precision = "auto",
    ) -> None:
        self.name, self.logit_scale = name, logit_scale
        self.device, self.precision = resolve_device(device), precision
        self._tower = tower.to(self.device).eval()
        self._tokenizer, self._max_tokens, self._is_padded = tokenizer, max_tokens, is_padded

    @cached_property
    def weights_sha256(self) -> str:
        """What tells this text side from any other, see `learn.encoder.weights_sha256`."""
        return weights_sha256(self._tower)

    @cached_property
    def out_features(self) -> int:
        """Entries of a vector."""
        return int(self.encode(["a"]).shape[1])

    def encode(self, texts: Sequence[str]) -> Float[np.ndarray, "n d"]:
        """Vectors of length 1, float32, in the order given."""
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # alike ones together need little padding
        parts = [self._encode([texts[i] for i in order[at : at + _BATCH]]) for at in range(0, len(order), _BATCH)]
        if not parts:
            raise InputError("there is no text to encode")
        vectors = np.concatenate(parts)
        vectors[order] = vectors.copy()
        return vectors

    def encode_words(self, words: Sequence[str], prompts: Sequence[str] = PROMPTS) -> Float[np.ndarray, "n d"]:
        """Vectors of length 1 of words: the mean over the sentences that each is put into.

        Args:
            words: As they are put in.
            prompts: Sentences with {} where the word goes.

        Raises:
            InputError: there is no prompt, or one has no place for the word.
        """
        if not prompts or (bad := [prompt for prompt in prompts if "{}" not in prompt]):
            got = f"'{bad[0]}'" if prompts else "none"
            raise InputError(f"a prompt needs {{}} where the word goes, as in '{PROMPTS[0]}'; got {got}")
        vectors = np.zeros(1)
        for prompt in prompts:
            vectors = vectors + self.encode([prompt.replace("{}", word) for word in words])
        return (vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)).astype(np.float32)

    @torch.inference_mode()
    def _encode(self, texts: list[str]) -> np.ndarray:
        tokens = self._tokenizer(
            [text.lower() for text in texts] if self._is_padded else texts,
            padding="max_length" if self._is_padded else True,
            truncation=True,
            max_length=self._max_tokens,
            return_tensors="pt",
        )
        dtype = autocast_dtype(self.device, self.precision)
        with torch.autocast(self.device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None):
            vectors = self._tower(tokens["input_ids"].to(self.device))
        vectors = nn.functional.normalize(vectors.float(), dim=1).cpu().numpy()
        if not np.isfinite(vectors).all():
            raise CheckpointError(
                f"the text side of '{self.name}' gives values that are not finite; its weights are damaged"
            )
        return vectors


def open_text_encoder(name: str, *, device: str = "auto", precision: Precision = "auto") -> TextEncoder:
    """The text side of the model called `name`.

    Args:
        name: "hf:<name of the hub, or folder>" of a CLIP or a SigLIP, with its tokenizer.
        device, precision: Where and how it runs.

    Raises:
        InputError: it cannot be had, or has no text side or no tokenizer.
        CheckpointError: weights are missing or of other shapes.
        MissingExtraError: transformers, or what its tokenizer needs, is not installed.
    """
    kind, _, source = name.partition(":")
    if kind != "hf" or not source:
        raise InputError(
            f"'{name}' has no text side: words need an encoder of images and texts, a CLIP or a SigLIP, as hf:NAME or "
            "hf:FOLDER"
        )
    transformers = require("transformers", extra="transformers")
    with quietly(transformers), said_plainly(source):
        config = transformers.AutoConfig.from_pretrained(source)
        if config.model_type not in MODELS:
            raise InputError(
                f"'{source}' is a '{config.model_type}', which has no text side that is known here; words need the "
                f"whole model of one of {', '.join(MODELS)}"
            )
        model, report = getattr(transformers, MODELS[config.model_type]).from_pretrained(
            source, dtype=torch.float32, output_loading_info=True
        )
    if missing := sorted(key for key in report["missing_keys"] if not key.startswith(_VISION)):
        raise CheckpointError(
            f"'{source}' lacks weights of its text side: {', '.join(missing[:3])}"
            f"{f' and {len(missing) - 3} more' if len(missing) > 3 else ''}"
        )
    return TextEncoder(
        TextTower(model),
        _tokenizer(transformers, source, config.text_config.vocab_size),
        name=name,
        logit_scale=float(model.logit_scale.detach().exp()),
        max_tokens=int(config.text_config.max_position_embeddings),
        is_padded=config.model_type == "siglip",
        device=device,
        precision=precision,
    )


def _tokenizer(transformers: Any, source: str, vocabulary: int) -> Any:
    advice = "put the tokenizer files of the model into its folder"
    try:
        with quietly(transformers):
            tokenizer = transformers.AutoTokenizer.from_pretrained(source)
    except ImportError as error:
        raise MissingExtraError(
            f"the tokenizer of '{source}' needs a package that is not installed; "
            f"run: pip install 'imagescape[transformers]' ({' '.join(str(error).split())[:120]})"
        ) from error
    except Exception as error:  # of many kinds, by what is missing or damaged
        said = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InputError(f"the tokenizer of '{source}' cannot be read: {said}; {advice}") from error
    if len(tokenizer) <= len(tokenizer.all_special_ids):  # what transformers makes of nothing
        raise InputError(f"'{source}' has no tokenizer; {advice}")
    if len(tokenizer) > vocabulary:
        raise InputError(
            f"the tokenizer of '{source}' has {len(tokenizer)} tokens and the model knows {vocabulary}; {advice}"
        )
    return tokenizer
