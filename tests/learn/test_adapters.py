"""Adapters beside the layers of a small network of transformers: what they learn ends in the weights."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

pytest.importorskip("transformers", reason="transformers is not installed")
pytest.importorskip("peft", reason="peft is not installed")

from imagescape.learn.adapters import add_adapters, has_adapters, without_adapters
from imagescape.learn.backbones.transformers_hub import build
from imagescape.learn.encoder import Architecture, Encoder
from imagescape.learn.finetuning import Finetune
from imagescape.learn.preprocessing import Preprocessing
from imagescape.learn.watch import weights_path

OPTIONS = {
    "config": {
        "model_type": "vit",
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "image_size": 32,
        "patch_size": 8,
    },
    "pooling": "class_token",
}
IMAGES = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build(OPTIONS).eval()


def test_fresh_adapters_change_nothing_and_are_all_that_is_trained(network):
    before = network(IMAGES)
    add_adapters(network, 4)
    assert has_adapters(network)
    assert_close(network.eval()(IMAGES), before)
    trained = [name for name, value in network.named_parameters() if value.requires_grad]
    assert trained
    assert all("lora_" in name for name in trained)
    assert sum(p.numel() for p in network.parameters() if p.requires_grad) < 0.5 * sum(
        p.numel() for p in network.parameters()
    )


def test_a_copy_without_them_gives_the_same(network):
    names = network.state_dict().keys()
    add_adapters(network, 4)
    with torch.no_grad():
        for name, value in network.named_parameters():
            if "lora_" in name:
                value.normal_(0, 0.3, generator=torch.Generator().manual_seed(1))
    plain = without_adapters(network).eval()
    assert not has_adapters(plain)
    assert has_adapters(network)
    assert plain.state_dict().keys() == names
    assert_close(plain(IMAGES), network.eval()(IMAGES), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("recipe", ["copies", "simclr"])
def test_fine_tuned_with_adapters_and_loaded_without_peft(network, tmp_path, recipe):
    way = Preprocessing(size_px=32, cache_px=32, fit="crop", mean=(0.5,) * 3, std=(0.5,) * 3)
    architecture = Architecture(backbone="hf:small", options=OPTIONS)
    old = Encoder(architecture.build(network), architecture, way, device="cpu", precision="fp32")
    pixels = np.random.default_rng(0).integers(0, 256, (24, 40, 40, 3), dtype=np.uint8)
    settings = {"epochs": 2, "batch_size": 8, "looks": 1, "device": "cpu", "precision": "fp32", "dimensions": 8}
    model = Finetune(old, recipe=recipe, adapter_rank=2, learning_rate=0.01, **settings).fit(
        pixels, run_folder=tmp_path / "run"
    )
    model.save(tmp_path / "model")
    loaded = Encoder.load(tmp_path / "model", device="cpu", precision="fp32")
    assert_close(loaded.encode(pixels)[0], model.transform(pixels))
    assert np.abs(loaded.encode(pixels)[0][:, :8] - old.encode(pixels)[0][:, :8]).max() > 1e-4
    assert weights_path(tmp_path / "run", 2).exists()
