"""The text side of image-text encoders, against transformers' own, one text at a time."""

import sys

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from safetensors.torch import load_file, save_file

from imagescape.errors import CheckpointError, InputError, MissingExtraError
from imagescape.features.text import PROMPTS, open_text_encoder
from tests.features import small_clip

TEXTS = ["a photo of a cat.", "dog", "A Very Long Sentence about an elk", "köttur, 日本", "", "dog"]


@pytest.fixture(scope="module")
def transformers():
    return pytest.importorskip("transformers", reason="the extra 'transformers' is not installed")


@pytest.fixture(scope="module")
def clip(transformers, tmp_path_factory):
    parts = small_clip.small_clip(transformers)
    return *parts, small_clip.save(tmp_path_factory.mktemp("hub") / "clip", *parts)


@pytest.fixture(scope="module")
def siglip(transformers, tmp_path_factory):
    """With a tokenizer of whole words, saved as `tokenizer.json`."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["</s>", "<unk>", "a", "photo", "of", "cat", "dog", "."]
    built = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    built.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=built, pad_token="</s>", unk_token="<unk>")
    torch.manual_seed(0)
    config = transformers.SiglipConfig(
        vision_config=small_clip.VIT | {"image_size": 32},
        text_config=small_clip.VIT | {"vocab_size": len(words), "max_position_embeddings": 12, "projection_size": 32},
    )
    model = transformers.SiglipModel(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
        model.logit_scale.fill_(2.0)
    processor = transformers.SiglipImageProcessorPil(size={"height": 32, "width": 32})
    return model, tokenizer, small_clip.save(tmp_path_factory.mktemp("hub") / "siglip", model, tokenizer, processor)


def opened(folder):
    return open_text_encoder(f"hf:{folder}", device="cpu", precision="fp32")


class TestClip:
    def test_vectors_are_those_of_transformers(self, clip):
        model, tokenizer, _, folder = clip
        ours = opened(folder)
        expected = np.stack([small_clip.text_features(model, tokenizer, text) for text in TEXTS])
        assert_allclose(ours.encode(TEXTS), expected, atol=1e-5)
        assert ours.out_features == 20
        assert_allclose(ours.logit_scale, 100, rtol=1e-5)
        assert expected.std(axis=0).max() > 0.01  # texts do differ

    def test_batches_change_nothing(self, clip, monkeypatch):
        ours = opened(clip[-1])
        whole = ours.encode(TEXTS)
        monkeypatch.setattr("imagescape.features.text._BATCH", 2)
        assert_allclose(ours.encode(TEXTS), whole, atol=1e-5)

    def test_what_is_too_long_is_cut(self, clip):
        ours = opened(clip[-1])
        assert_allclose(ours.encode(["ab" * 200]), ours.encode(["ab" * 300]), atol=1e-6)

    def test_a_word_is_the_mean_of_its_sentences(self, clip):
        model, tokenizer, _, folder = clip
        prompts = ("a photo of a {}.", "{} and {}")
        found = opened(folder).encode_words(["cat", "dog"], prompts)
        for vector, word in zip(found, ("cat", "dog"), strict=True):
            said = [prompts[0].replace("{}", word), f"{word} and {word}"]
            mean = np.mean([small_clip.text_features(model, tokenizer, text) for text in said], axis=0)
            assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-5)

    def test_prompts_that_have_no_place(self, clip):
        ours = opened(clip[-1])
        with pytest.raises(InputError, match=r"a prompt needs \{\} where the word goes, .* got 'a photo'"):
            ours.encode_words(["cat"], ["{}", "a photo"])
        with pytest.raises(InputError, match="got none"):
            ours.encode_words(["cat"], [])
        with pytest.raises(InputError, match="there is no text to encode"):
            ours.encode([])
        assert all("{}" in prompt for prompt in PROMPTS)

    def test_half_precision_changes_little(self, clip):
        fast = open_text_encoder(f"hf:{clip[-1]}", device="cpu", precision="bf16").encode(TEXTS)
        assert (fast * opened(clip[-1]).encode(TEXTS)).sum(axis=1).min() > 0.99

    def test_weights_tell_it_from_others(self, clip, transformers, tmp_path):
        other = small_clip.small_clip(transformers, seed=1)
        small_clip.save(tmp_path, *other)
        assert opened(clip[-1]).weights_sha256 == opened(clip[-1]).weights_sha256 != opened(tmp_path).weights_sha256


class TestSiglip:
    def test_vectors_are_those_of_transformers(self, siglip):
        """Padded to the length it was trained with, without a mask, in lower case."""
        model, tokenizer, folder = siglip
        ours = opened(folder)
        for text in ("a photo of a cat.", "dog", "A photo of a Dog"):
            tokens = tokenizer([text.lower()], padding="max_length", max_length=12, return_tensors="pt")
            with torch.inference_mode():
                found = model.get_text_features(input_ids=tokens["input_ids"]).pooler_output
            expected = torch.nn.functional.normalize(found, dim=1)[0].numpy()
            assert_allclose(ours.encode([text])[0], expected, atol=1e-5)
        assert_array_equal(ours.encode(["DOG"]), ours.encode(["dog"]))
        assert_allclose(ours.logit_scale, np.exp(2), rtol=1e-5)

    def test_with_the_tokenizer_of_the_first_ones(self, siglip, transformers, tmp_path):
        """SentencePiece, as google/siglip-base-patch16-224 has it."""
        pieces = pytest.importorskip("sentencepiece")
        pytest.importorskip("google.protobuf")
        (tmp_path / "texts").write_text("a photo of a cat\nthe dog in a picture\n" * 9)
        pieces.SentencePieceTrainer.train(
            **{"input": tmp_path / "texts", "model_prefix": tmp_path / "spiece", "vocab_size": 40},
            **{"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1, "hard_vocab_limit": False, "minloglevel": 2},
        )
        tokenizer = transformers.SiglipTokenizer(str(tmp_path / "spiece.model"))
        text = siglip[0].config.text_config.to_dict() | {"vocab_size": len(tokenizer)}
        torch.manual_seed(1)
        model = transformers.SiglipModel(
            transformers.SiglipConfig(vision_config=siglip[0].config.vision_config.to_dict(), text_config=text)
        ).eval()
        ours = opened(small_clip.save(tmp_path / "model", model, tokenizer))
        tokens = tokenizer(["a dog"], padding="max_length", max_length=12, return_tensors="pt")
        with torch.inference_mode():
            found = model.get_text_features(input_ids=tokens["input_ids"]).pooler_output
        expected = torch.nn.functional.normalize(found, dim=1).numpy()
        assert_allclose(ours.encode(["A, dog."]), expected, atol=1e-5)

    def test_a_package_that_the_tokenizer_needs(self, siglip, transformers, monkeypatch):
        def refuse(*_, **__):
            raise ImportError("SiglipTokenizer requires the SentencePiece library but it was not found")

        monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", refuse)
        with pytest.raises(
            MissingExtraError, match=r"pip install 'imagescape\[transformers\]' \(SiglipTokenizer requires"
        ):
            opened(siglip[2])


class TestMistakes:
    @pytest.mark.parametrize("name", ["efficientnet_lite0", "phash64", "hf:", "timm:resnet50"])
    def test_encoders_of_images_alone(self, name):
        with pytest.raises(InputError, match=f"'{name}' has no text side: words need an encoder of images and texts"):
            open_text_encoder(name)

    def test_a_family_without_a_text_side(self, transformers, tmp_path):
        transformers.Dinov2Config(**small_clip.VIT).save_pretrained(tmp_path)
        with pytest.raises(InputError, match=r"is a 'dinov2', which has no text side .* one of clip, siglip"):
            opened(tmp_path)

    def test_the_image_side_alone(self, clip, tmp_path):
        clip[0].vision_model.save_pretrained(tmp_path)
        with pytest.raises(InputError, match="is a 'clip_vision_model', which has no text side"):
            opened(tmp_path)

    def test_weights_that_are_missing(self, clip, tmp_path):
        for file in clip[-1].iterdir():
            (tmp_path / file.name).write_bytes(file.read_bytes())
        weights = load_file(tmp_path / "model.safetensors")
        kept = {name: value for name, value in weights.items() if name != "text_projection.weight"}
        save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(CheckpointError, match=r"lacks weights of its text side: text_projection.weight$"):
            opened(tmp_path)

    def test_no_tokenizer(self, clip, tmp_path):
        clip[0].save_pretrained(tmp_path)
        with pytest.raises(InputError, match="has no tokenizer; put the tokenizer files of the model into its folder"):
            opened(tmp_path)
        (tmp_path / "tokenizer.json").write_text("broken")
        with pytest.raises(InputError, match=r"the tokenizer of '.*' cannot be read: .*; put the tokenizer files"):
            opened(tmp_path)

    def test_a_tokenizer_of_another_model(self, siglip, clip, tmp_path):
        siglip[0].save_pretrained(tmp_path)
        clip[1].save_pretrained(tmp_path)
        with pytest.raises(InputError, match="has 514 tokens and the model knows 8; put the tokenizer files"):
            opened(tmp_path)

    def test_weights_that_are_not_numbers(self, clip):
        ours = opened(clip[-1])
        with torch.no_grad():
            ours._tower.projection.weight.fill_(torch.nan)
        with pytest.raises(CheckpointError, match="values that are not finite"):
            ours.encode(["cat"])

    def test_without_transformers(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "transformers", None)
        with pytest.raises(MissingExtraError, match=r"pip install 'imagescape\[transformers\]'"):
            open_text_encoder("hf:openai/clip-vit-base-patch32")
