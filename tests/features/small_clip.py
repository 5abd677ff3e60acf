"""A CLIP in small: random weights, its own tokenizer, and pictures that lie where some words do."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

VIT = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "patch_size": 8}
TEXT = {"hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}


def clip_tokenizer(transformers):
    """Of single bytes: CLIP's own kind, without merges."""
    from tokenizers.pre_tokenizers import ByteLevel

    letters = sorted(ByteLevel.alphabet())
    tokens = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return transformers.CLIPTokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=[])


def small_clip(transformers, seed=0):
    """Model, tokenizer and image processor."""
    tokenizer = clip_tokenizer(transformers)
    text = TEXT | {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "max_position_embeddings": 40,
    }
    torch.manual_seed(seed)
    config = transformers.CLIPConfig(vision_config=VIT | {"image_size": 32}, text_config=text, projection_dim=20)
    model = transformers.CLIPModel(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
        model.logit_scale.fill_(np.log(100))
    return model, tokenizer, transformers.CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=32)


def text_features(model, tokenizer, text):
    """By transformers' own means, one text alone."""
    with torch.inference_mode():
        found = model.get_text_features(**tokenizer([text], return_tensors="pt"))
    found = found if isinstance(found, torch.Tensor) else found.pooler_output
    return torch.nn.functional.normalize(found, dim=1)[0].numpy()


def plant(model, tokenizer, processor, pictures, words, prompts):
    """Set the projection of the image side so that pictures lie in the direction of their word.

    Args:
        pictures: Lists of pictures, by word; those of None lie in a direction that no word has a part in.
        words: All that there are to choose from.
        prompts: That words will be put into.
    """
    vectors = {
        word: np.mean([text_features(model, tokenizer, one.format(word)) for one in prompts], axis=0) for word in words
    }
    middle = np.mean(list(vectors.values()), axis=0)
    nowhere = np.linalg.svd(np.array(list(vectors.values())))[2][-1]  # at right angles to all
    inputs, targets = [], []
    for word, some in pictures.items():
        pixels = torch.cat([processor(one, return_tensors="pt")["pixel_values"] for one in some])
        with torch.inference_mode():
            inputs.append(model.vision_model(pixel_values=pixels).pooler_output.numpy())
        direction = nowhere if word is None else vectors[word] - middle
        targets.append(np.tile(direction / np.linalg.norm(direction), (len(some), 1)))
    weights = np.linalg.lstsq(np.concatenate(inputs), np.concatenate(targets), rcond=1e-3)[
        0
    ]  # small weights: nothing is blown up
    with torch.no_grad():
        model.visual_projection.weight.copy_(torch.from_numpy(np.ascontiguousarray(weights.T, np.float32)))


def save(folder, *parts):
    """As the hub has it."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    for part in parts:
        part.save_pretrained(folder)
    return folder


def coloured(color, seed, side=32):
    pixels = np.array(color) + np.random.default_rng(seed).normal(0, 12, (side, side, 3))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def static(seed, side=32):
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return Image.fromarray(pixels)
