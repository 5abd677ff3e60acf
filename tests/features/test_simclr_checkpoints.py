"""SimCLR checkpoints against TensorFlow: small golden ones always, whole networks where there is a TensorFlow.

`data/simclr_v1` and `data/simclr_v2` are what `tensorflow_oracle.py network` wrote with TensorFlow 2.21 from the
`spec.json` beside them: random weights, images, and what TensorFlow's network makes of those. The images are of a size
at which all paddings matter (18 x 22 at the max-pool, 9 x 11 at the first strided shortcut).

The tests of the whole networks need an interpreter that has `tensorflow-cpu` and `tf_keras`: this one, or the one named
by the environment variable IMAGESCAPE_TENSORFLOW_PYTHON.
"""

import importlib.util
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from imagescape.errors import CheckpointError, InputError
from imagescape.features import simclr_checkpoints
from imagescape.features.simclr_checkpoints import convert, load_heads, read_checkpoint, save_heads
from imagescape.features.simclr_downloads import PUBLISHED, download
from imagescape.features.tensorflow_bundle import Bundle
from imagescape.fetch import DownloadError
from imagescape.learn.backbones import simclr_resnet
from imagescape.learn.backbones.simclr_resnet import SimCLRArchitecture
from imagescape.learn.encoder import Encoder
from tests.features.bundle_writer import write_bundle

DATA = Path(__file__).parent / "data"
V1, V2 = DATA / "simclr_v1", DATA / "simclr_v2"
TOLERANCE = 1e-4  # of the largest value; float32 sums in another order


def outputs(checkpoint, images):
    """Everything a checkpoint gives, by the oracle's names."""
    views = torch.from_numpy(np.float32(images) / 255).permute(0, 3, 1, 2)
    with torch.inference_mode():
        features = checkpoint.backbone(views)
        found = {"features": features, "logits": checkpoint.heads.classify(features)}
        if checkpoint.heads.projection is not None:
            found |= {f"nl_{i}": checkpoint.heads.projection(features, 0, i + 1) for i in range(3)}
    return {name: values.numpy() for name, values in found.items()}


def difference(found, expected):
    return np.abs(found - expected).max() / np.abs(expected).max()


def differences(folder, ema=None, **options):
    """How far our features and heads are from TensorFlow's, as a fraction of the largest value, by output."""
    golden = np.load(folder / "outputs.npz")
    checkpoint = read_checkpoint(folder, ema=ema, **options)
    copy = "raw" if ema is False or "ema_features" not in golden else "ema"
    assert checkpoint.is_averaged == (copy == "ema")
    found = outputs(checkpoint, golden["images"])
    assert {f"{copy}_{name}" for name in found} == {name for name in golden if name.startswith(copy)}
    return {name: difference(values, golden[f"{copy}_{name}"]) for name, values in found.items()}


def tensors(folder):
    bundle = Bundle(folder)
    return {name: bundle.read(name) for name in bundle.names()}


def changed(tmp_path, folder=V2, *, drop=(), **new):
    """A copy of a golden checkpoint with variables left out or put in."""
    kept = {name: values for name, values in tensors(folder).items() if name not in drop}
    return write_bundle(tmp_path / "changed" / "model.ckpt", kept | new)


class TestAgainstTensorFlow:
    @pytest.mark.parametrize(("folder", "ema"), [(V1, None), (V2, True), (V2, False), (V2, None)])
    def test_features_and_heads_are_those_of_tensorflow(self, folder, ema):
        found = differences(folder, ema)
        assert len(found) == (2 if folder == V1 else 5)
        assert max(found.values()) < TOLERANCE, found

    @pytest.mark.parametrize(
        ("layer", "as_pytorch_does"),
        [
            ("_SameMaxPool", lambda x: F.max_pool2d(x, 3, 2, 1)),
            ("_EdgeMean", lambda x: F.avg_pool2d(F.pad(x, (0, 1, 0, 1)), 2, 1)),
            ("_PaddedMean", lambda x: F.avg_pool2d(x, 2, 2, ceil_mode=True, count_include_pad=False)),
        ],
    )
    def test_every_padding_matters(self, monkeypatch, layer, as_pytorch_does):
        monkeypatch.setattr(getattr(simclr_resnet, layer), "forward", lambda self, x: as_pytorch_does(x))
        assert differences(V2)["features"] > 20 * TOLERANCE

    def test_padding_of_the_plain_network_matters(self, monkeypatch):
        monkeypatch.setattr(simclr_resnet._SameMaxPool, "forward", lambda self, x: F.max_pool2d(x, 3, 2, 1))
        assert differences(V1)["features"] > 20 * TOLERANCE

    def test_the_golden_networks_see_their_images(self):
        """Random weights may well give one that is dead."""
        for name, features in [*np.load(V1 / "outputs.npz").items(), *np.load(V2 / "outputs.npz").items()]:
            if name != "images":
                assert difference(features[0], features[1]) > 0.01, name

    def test_the_averages_are_other_weights(self):
        golden = np.load(V2 / "outputs.npz")
        averaged = outputs(read_checkpoint(V2), golden["images"])
        assert difference(averaged["features"], golden["raw_features"]) > 0.1

    @pytest.mark.parametrize("layers", [1, 2])
    def test_features_may_be_those_of_the_head(self, layers):
        golden = np.load(V2 / "outputs.npz")
        with pytest.raises(CheckpointError, match=r"3 layers and 128 projections; .* has 3 and 8"):
            read_checkpoint(V2, features_after=3)
        checkpoint = read_checkpoint(V2, features_after=layers)
        views = torch.from_numpy(np.float32(golden["images"]) / 255).permute(0, 3, 1, 2)
        with torch.inference_mode():
            features = checkpoint.backbone(views)
            assert features.shape[1] == checkpoint.backbone.out_features
            assert difference(features.numpy(), golden[f"ema_nl_{layers - 1}"]) < TOLERANCE
            assert difference(checkpoint.heads.project(features).numpy(), golden["ema_nl_2"]) < TOLERANCE
            if layers == 1:
                assert difference(checkpoint.heads.classify(features).numpy(), golden["ema_logits"]) < TOLERANCE

    def test_optimizer_slots_and_the_step_are_no_weights(self):
        assert any(name.endswith("/Momentum") for name in Bundle(V2).names())
        checkpoint = read_checkpoint(V2, ema=False)
        assert checkpoint.step == 3754
        assert read_checkpoint(V1).step == 939

    @pytest.mark.parametrize(
        ("folder", "architecture"),
        [
            (V1, SimCLRArchitecture(blocks=(2, 1, 1), channels=4)),
            (V2, SimCLRArchitecture(blocks=(2, 1), channels=4, selective_kernels=True)),
        ],
    )
    def test_the_architecture_is_found_from_the_variables(self, folder, architecture):
        assert read_checkpoint(folder).architecture == architecture


class FakeBundle(Bundle):
    """Names and shapes of a published checkpoint, without its gigabytes."""

    def __init__(self, name):
        with torch.device("meta"):
            network = simclr_resnet.simclr_resnet(name)
        self.path = Path(name)
        self.shapes, counts = {}, {"conv2d": 0, "batch_normalization": 0}
        for module in network.modules():
            kind = {torch.nn.Conv2d: "conv2d", torch.nn.BatchNorm2d: "batch_normalization"}.get(type(module))
            if kind is None:
                continue
            layer = f"base_model/{kind}_{counts[kind]}".removesuffix("_0")
            counts[kind] += 1
            if kind == "conv2d":
                self.shapes[f"{layer}/kernel"] = tuple(module.weight.shape[axis] for axis in (2, 3, 1, 0))
            else:
                self.shapes |= {f"{layer}/{part}": tuple(module.weight.shape) for part in ("gamma", "beta")}

    def names(self):
        return sorted(self.shapes)

    def shape(self, name):
        return self.shapes[name]

    def __contains__(self, name):
        return name in self.shapes


@pytest.mark.parametrize("name", sorted({model for models in PUBLISHED.values() for model in models}))
def test_every_published_size_is_told_from_its_shapes(name):
    variables = simclr_checkpoints._Variables(FakeBundle(name), None, verify=False)
    assert simclr_checkpoints._detect(variables).name == name


class TestRefusals:
    def check(self, source, message, **options):
        with pytest.raises(CheckpointError, match=message):
            read_checkpoint(source, **options)

    def test_a_missing_variable_is_named(self, tmp_path):
        source = changed(tmp_path, drop={"ema_model/base_model/batch_normalization_3/moving_mean"})
        self.check(source, r"no variable 'ema_model/base_model/batch_normalization_3/moving_mean' in .*model\.ckpt")

    def test_a_missing_layer_is_named(self, tmp_path):
        self.check(
            changed(tmp_path, V1, drop={"base_model/conv2d_4/kernel"}), r"lacks the variables of base_model/conv2d_4$"
        )

    def test_too_few_layers_are_counted(self, tmp_path):
        last = {
            f"base_model/batch_normalization_15/{part}" for part in ("gamma", "beta", "moving_mean", "moving_variance")
        }
        self.check(changed(tmp_path, V1, drop=last), "must have 16 layers batch_normalization, it has 15")

    @pytest.mark.parametrize(
        ("name", "shape", "needed"),
        [
            ("base_model/conv2d_2/kernel", (1, 1, 4, 3), r"\(1, 1, 4, 4\)"),
            ("base_model/batch_normalization_7/gamma", (3,), r"\(16,\)"),
            ("head_supervised/linear_layer/dense/kernel", (65, 3), r"\(64, 3\)"),
        ],
    )
    def test_wrong_shapes_are_refused_by_name(self, tmp_path, name, shape, needed):
        source = changed(tmp_path, V1, **{name: np.zeros(shape, np.float32)})
        self.check(source, f"'{name}' in .* must be {needed}, it is")

    def test_transposed_kernels_do_not_pass(self, tmp_path):
        name = "base_model/conv2d_1/kernel"
        turned = np.ascontiguousarray(tensors(V1)[name].transpose(0, 1, 3, 2))
        self.check(
            changed(tmp_path, V1, **{name: turned}), rf"'{name}' in .* must be \(1, 1, 4, 16\), it is \(1, 1, 16, 4\)"
        )

    def test_wrong_types(self, tmp_path):
        name = "base_model/batch_normalization/beta"
        self.check(
            changed(tmp_path, V1, **{name: np.zeros(4, np.int32)}), f"'{name}' in .* must be of floats, it is int32"
        )

    def test_what_belongs_to_another_network_is_named(self, tmp_path):
        new = {"base_model/conv2d_3/bias": np.zeros(4, np.float32)}  # squeeze-and-excitation has offsets
        self.check(changed(tmp_path, V1, **new), r"'base_model/conv2d_3/bias' in .* is no part of a SimCLR ResNet")

    def test_a_required_architecture_must_be_the_one(self):
        wider = SimCLRArchitecture(blocks=(2, 1, 1), channels=8)
        self.check(V1, r"dense/kernel' in .* must be \(128, 5\), it is \(64, 5\)", architecture=wider)
        deeper = SimCLRArchitecture(blocks=(2, 2, 1), channels=4)
        self.check(V1, "must have 19 layers conv2d, it has 16", architecture=deeper)
        assert read_checkpoint(V1, architecture=SimCLRArchitecture(blocks=(2, 1, 1), channels=4)).step == 939

    def test_a_classifier_must_fit_where_it_is_said_to_stand(self):
        self.check(V2, r"dense/kernel' in .* must be \(8, 5\), it is \(32, 5\)", classifier_after=3)

    def test_other_checkpoints(self, tmp_path):
        other = {"model/layer-0/kernel": np.zeros(1, np.float32), "step": np.zeros(1, np.float32)}
        self.check(
            write_bundle(tmp_path / "other", other),
            r"needs base_model/conv2d/kernel, it has model/layer-0/kernel, step",
        )

    @pytest.mark.parametrize(
        ("sides", "message"),
        [((3, 1, 1), r"begin with sides of \[3, 1, 1\].*CIFAR are not supported"), ((7, 1, 3), "ResNet-18 or 34")],
    )
    def test_networks_that_are_not_supported(self, tmp_path, sides, message):
        kernels = {
            f"base_model/conv2d_{i}/kernel".replace("_0", ""): np.zeros((side, side, 3, 64), np.float32)
            for i, side in enumerate(sides)
        }
        kernels["base_model/batch_normalization/beta"] = np.zeros(64, np.float32)
        self.check(write_bundle(tmp_path / "small", kernels), message)

    def test_stages_of_other_widths(self, tmp_path):
        kernels = tensors(V1) | {"base_model/conv2d_13/kernel": np.zeros((3, 3, 16, 17), np.float32)}
        self.check(write_bundle(tmp_path / "widths", kernels), r"stage 3 has no 3x3 kernels of 16 channels")

    def test_averages_that_were_not_kept(self):
        self.check(V1, "keeps no moving averages", ema=True)

    def test_a_head_without_averages_is_that_of_the_last_step(self, tmp_path):
        averaged = {name for name in tensors(V2) if name.startswith("ema_model/head_supervised")}
        checkpoint = read_checkpoint(changed(tmp_path, drop=averaged))
        kernel = tensors(V2)["head_supervised/linear_layer/dense/kernel"]
        np.testing.assert_array_equal(checkpoint.heads.classifier.weight.detach().numpy(), kernel.T)
        assert checkpoint.is_averaged

    def test_a_step_that_tells_nothing_of_the_classifier(self, tmp_path):
        source, golden = changed(tmp_path, global_step=np.int64(1000)), np.load(V2 / "outputs.npz")
        for place, expected in ((0, False), (1, True)):
            found = read_checkpoint(source, classifier_after=place)
            same = difference(outputs(found, golden["images"])["logits"], golden["ema_logits"]) < TOLERANCE
            assert same == expected
        for unknown in (source, changed(tmp_path, drop={"global_step"})):
            save_heads(read_checkpoint(unknown).heads, tmp_path)
            heads = load_heads(tmp_path)
            assert heads.classifier_after is None
            with pytest.raises(CheckpointError, match=r"none of the published checkpoints; set classifier_after to 0"):
                heads.classify(torch.zeros(1, 32))
            heads.classifier_after = 1
            assert heads.classify(torch.zeros(1, 32)).shape == (1, 5)

    @pytest.mark.parametrize("step", [250228, 37535, 28151])
    def test_the_other_published_classifiers_stand_on_the_backbone(self, tmp_path, step):
        assert read_checkpoint(changed(tmp_path, global_step=np.int64(step))).heads.classifier_after == 0

    def test_without_heads(self, tmp_path):
        heads = {name for name in tensors(V2) if "head_" in name}
        found = read_checkpoint(changed(tmp_path, drop=heads))
        assert (found.heads.projection, found.heads.classifier) == (None, None)
        save_heads(found.heads, tmp_path)
        assert not load_heads(tmp_path).state_dict()
        self.check(changed(tmp_path, drop=heads), "projections; .* has none", features_after=1)

    def test_layers_of_the_head_that_cannot_be(self):
        with pytest.raises(InputError, match="0 to 3 layers, got 4"):
            read_checkpoint(V2, features_after=4)

    def test_damage_is_seen_unless_nobody_looks(self, tmp_path):
        source = changed(tmp_path, V1)
        path = source.with_name("model.ckpt.data-00000-of-00001")
        content = bytearray(path.read_bytes())
        content[content.index(tensors(V1)["base_model/conv2d_5/kernel"].tobytes())] ^= 1
        path.write_bytes(content)
        self.check(source, r"'base_model/conv2d_5/kernel' in .* is damaged")
        assert read_checkpoint(source, verify=False).step == 939


@pytest.fixture(scope="module")
def resnet50(tmp_path_factory):
    """A network of a published size with random weights, as a v2 checkpoint, and its features of two images."""
    torch.manual_seed(0)
    network = simclr_resnet.simclr_resnet("r50_1x_sk0").eval()
    found, counts = {"global_step": np.int64(3754)}, {"conv2d": 0, "batch_normalization": 0}
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            parts = {"kernel": module.weight.permute(2, 3, 1, 0)}
        elif isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            parts = {
                "gamma": module.weight,
                "beta": module.bias,
                "moving_mean": module.running_mean,
                "moving_variance": module.running_var,
            }
        else:
            continue
        kind = "conv2d" if "kernel" in parts else "batch_normalization"
        layer = f"base_model/{kind}_{counts[kind]}".removesuffix("_0")
        counts[kind] += 1
        found |= {f"{layer}/{part}": values.detach().contiguous().numpy() for part, values in parts.items()}
    rng = np.random.default_rng(0)
    for i, width in enumerate((2048, 2048, 128)):
        scope = f"head_contrastive/nl_{i}"
        found[f"{scope}/dense/kernel"] = rng.normal(0, 0.02, (2048, width)).astype(np.float32)
        for part in ("gamma", "moving_mean", "moving_variance", *(("beta",) if i < 2 else ())):
            found[f"{scope}/batch_normalization/{part}"] = rng.uniform(0.5, 1.5, width).astype(np.float32)
    found["head_supervised/linear_layer/dense/kernel"] = rng.normal(0, 0.02, (2048, 10)).astype(np.float32)
    found["head_supervised/linear_layer/dense/bias"] = rng.normal(0, 1, 10).astype(np.float32)
    prefix = write_bundle(tmp_path_factory.mktemp("r50") / "model.ckpt-3754", found, checksums=False)
    pixels = rng.integers(0, 256, (2, 256, 256, 3)).astype(np.uint8)
    views = torch.from_numpy(np.float32(pixels[:, 16:240, 16:240]) / 255).permute(0, 3, 1, 2)
    with torch.inference_mode():
        return prefix, pixels, network(views).numpy()


@pytest.fixture(scope="module")
def converted(resnet50, tmp_path_factory):
    """The folder of its encoder."""
    folder = tmp_path_factory.mktemp("converted") / "simclr"
    encoder = convert(resnet50[0], folder, verify=False)
    assert encoder.architecture.backbone == "simclr:r50_1x_sk0"
    return folder


class TestConvert:
    def test_is_an_encoder_like_any_other(self, resnet50, converted):
        _, pixels, expected = resnet50
        loaded = Encoder.load(converted, device="cpu", precision="fp32")
        assert loaded.name == "simclr"
        features, projections = loaded.encode_pixels(pixels)
        assert difference(features, expected) < TOLERANCE
        assert projections.shape == (2, 0)
        way = loaded.preprocessing
        assert (way.size_px, way.cache_px, way.fit, way.resample) == (224, 256, "crop", "bicubic")
        counts = {name: n for name, n in loaded.network.state_dict().items() if name.endswith("num_batches_tracked")}
        assert len(counts) == 53
        assert not any(counts.values()), "left as memory had it"

    def test_says_where_it_comes_from(self, converted):
        assert sorted(path.name for path in converted.parent.iterdir()) == ["simclr"]
        assert json.loads((converted / "config.json").read_text())["recipe"] == {
            "converted_from": "model.ckpt-3754",
            "global_step": 3754,
            "ema": False,
            "classifier_after": 1,
        }

    def test_heads_are_kept_beside_it(self, resnet50, converted):
        heads = load_heads(converted)
        whole = read_checkpoint(resnet50[0], verify=False).heads
        features = torch.from_numpy(resnet50[2])
        with torch.inference_mode():
            assert heads.classify(features).shape == (2, 10)
            assert torch.equal(heads.classify(features), whole.classify(features))
            assert torch.equal(heads.project(features), whole.project(features))
        assert not heads.training
        assert not whole.training

    def test_features_of_a_head_layer(self, resnet50, tmp_path):
        prefix, pixels, expected = resnet50
        convert(prefix, tmp_path / "nl", features_after=1, verify=False)
        loaded = Encoder.load(tmp_path / "nl", device="cpu", precision="fp32")
        assert loaded.architecture.backbone == "simclr:r50_1x_sk0@nl_0"
        whole = read_checkpoint(prefix, verify=False).heads
        with torch.inference_mode():
            features = torch.from_numpy(loaded.encode_pixels(pixels)[0])
            logits = whole.classify(torch.from_numpy(expected))
            assert difference(load_heads(tmp_path / "nl").classify(features).numpy(), logits.numpy()) < TOLERANCE

    def test_a_failed_conversion_leaves_what_was_there(self, resnet50, converted, monkeypatch):
        with pytest.raises(CheckpointError, match=r"cannot be an encoder: .*got \(2, 1, 1\) blocks of 4 channels"):
            convert(V1, converted)

        def fail(*_):
            raise OSError("no space left")

        monkeypatch.setattr(simclr_checkpoints, "save_heads", fail)
        with pytest.raises(OSError, match="no space"):
            convert(resnet50[0], converted, features_after=1, verify=False)
        assert Encoder.load(converted).architecture.backbone == "simclr:r50_1x_sk0"
        assert load_heads(converted).features_after == 0
        assert [path.name for path in converted.parent.iterdir()] == ["simclr"]

    def test_heads_of_any_kind_come_back(self, tmp_path):
        for folder in (V1, V2):
            heads = read_checkpoint(folder).heads
            save_heads(heads, tmp_path)
            loaded = load_heads(tmp_path)
            features = torch.randn(3, heads.classifier.in_features)
            assert torch.equal(loaded.classify(features), heads.classify(features))
            assert (loaded.projection is None) == (heads.projection is None)

    def test_no_heads_or_broken_ones(self, tmp_path):
        with pytest.raises(CheckpointError, match=r"has no readable heads\.safetensors"):
            load_heads(tmp_path)
        (tmp_path / "heads.safetensors").write_bytes(b"nothing")
        with pytest.raises(CheckpointError, match=r"has no readable heads\.safetensors"):
            load_heads(tmp_path)


class Mirror:
    """A server of one golden checkpoint under the path of a published one, which cuts answers short."""

    def __init__(self, path, files, cut_after_bytes=None, cuts=0):
        self.files = {f"/{path.rpartition('/')[0]}/{name}": content for name, content in files.items()}
        self.cut_after_bytes, self.cuts, self.asked = cut_after_bytes, cuts, []

    def answer(self, request):
        wanted = request.headers.get("Range")
        self.asked.append((request.path.rpartition("/")[2], wanted))
        if request.path not in self.files:
            request.send_error(404)
            return
        content = self.files[request.path]
        begin = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        if begin and begin >= len(content):
            request.send_error(416)
            return
        request.send_response(206 if wanted else 200)
        request.send_header("Content-Length", str(len(content) - begin))
        request.end_headers()
        body = content[begin:]
        if self.cuts:
            self.cuts -= 1
            body = body[: self.cut_after_bytes]
        request.wfile.write(body)


PRETRAINED = PUBLISHED["finetuned_10pct"]["r50_1x_sk1"]
INDEX, TENSORS = "model.ckpt-3754.index", "model.ckpt-3754.data-00000-of-00001"


def golden_files():
    return {name: (V2 / name).read_bytes() for name in (INDEX, TENSORS)}


@pytest.fixture
def serve(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    running = []

    def start(mirror):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                mirror.answer(self)

            def log_message(self, *_):
                pass

        http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        running.append((http, thread))
        return f"http://127.0.0.1:{http.server_port}"

    yield start
    for http, thread in running:
        http.shutdown()
        http.server_close()
        thread.join(timeout=5)


class TestDownload:
    def fetch(self, address, cache_dir):
        return download("r50_1x_sk1", "finetuned_10pct", cache_dir, address=address, attempts=3, wait_seconds=0.001)

    def test_cut_downloads_are_taken_up_and_what_comes_is_the_checkpoint(self, serve, tmp_path):
        mirror = Mirror(PRETRAINED, golden_files(), cut_after_bytes=9000, cuts=4)
        address = serve(mirror)
        prefix = self.fetch(address, tmp_path)
        assert mirror.asked == [
            (INDEX, None),
            (INDEX, "bytes=9000-"),
            (TENSORS, None),
            (TENSORS, "bytes=9000-"),
            (TENSORS, "bytes=18000-"),
        ]
        assert prefix.with_name(TENSORS).read_bytes() == golden_files()[TENSORS]
        assert read_checkpoint(prefix).step == 3754
        assert self.fetch(address, tmp_path) == prefix
        assert len(mirror.asked) == 5

    def test_a_file_that_is_too_short_is_not_taken_for_whole(self, serve, tmp_path):
        short = golden_files() | {TENSORS: golden_files()[TENSORS][:-4]}
        with pytest.raises(DownloadError, match=r"not what it should be .*cut short: its tensors take \d+ bytes"):
            self.fetch(serve(Mirror(PRETRAINED, short)), tmp_path)
        assert not list(tmp_path.rglob(TENSORS))
        assert self.fetch(serve(Mirror(PRETRAINED, golden_files())), tmp_path).with_name(TENSORS).is_file()

    def test_a_web_page_is_no_index(self, serve, tmp_path):
        with pytest.raises(DownloadError, match=r"model.ckpt-3754.index is not what it should be .*last 8 of 13 bytes"):
            self.fetch(serve(Mirror(PRETRAINED, {INDEX: b"<html></html>"})), tmp_path)
        assert not list(tmp_path.rglob(INDEX))

    def test_what_is_gone_is_said_with_its_address(self, serve, tmp_path):
        address = serve(Mirror(PRETRAINED, {}))
        with pytest.raises(DownloadError, match=rf"{address}/simclrv2/finetuned_10pct/r50_1x_sk1/{INDEX} \(HTTP 404"):
            self.fetch(address, tmp_path)

    def test_what_was_never_published(self, tmp_path):
        with pytest.raises(InputError, match=r"no category 'pretraned'; did you mean 'pretrained'\?"):
            download("r50_1x_sk0", "pretraned", tmp_path)
        with pytest.raises(InputError, match=r"finetune_10pct has no model 'r50_2x_sk1'.*r50_4x_sk0\)"):
            download("r50_2x_sk1", "finetune_10pct", tmp_path)

    def test_the_list_is_that_of_the_publisher(self):
        assert {category: len(models) for category, models in PUBLISHED.items()} == {
            "pretrained": 13,
            "finetuned_100pct": 13,
            "finetuned_10pct": 13,
            "finetuned_1pct": 13,
            "supervised": 13,
            "pretrain": 3,
            "finetune_100pct": 3,
            "finetune_10pct": 3,
        }
        assert PUBLISHED["pretrained"]["r152_3x_sk1"] == "simclrv2/pretrained/r152_3x_sk1/model.ckpt-250228"
        assert PUBLISHED["pretrain"]["r50_4x_sk0"] == "simclrv1/pretrain/4x/model.ckpt-225206"
        assert PUBLISHED["finetune_100pct"]["r50_2x_sk0"] == "simclrv1/finetune_100pct/2x/model.ckpt-18768"
        assert PUBLISHED["finetune_10pct"]["r50_4x_sk0"] == "simclrv1/finetune_10pct/4x/model.ckpt-470"


def tensorflow_python():
    """An interpreter with TensorFlow, or None."""
    if named := os.environ.get("IMAGESCAPE_TENSORFLOW_PYTHON"):
        return named
    return sys.executable if importlib.util.find_spec("tensorflow") and importlib.util.find_spec("tf_keras") else None


WHOLE = {
    "v1 r50_1x_sk0": {"version": 1, "step": 225206},
    "r50_1x_sk0": {"step": 250228},
    "r50_1x_sk1": {"step": 751},
    "r101_1x_sk0": {"step": 37535},
    "r50_2x_sk1": {"step": 3754},
}


@pytest.mark.skipif(
    tensorflow_python() is None,
    reason="no TensorFlow: name an interpreter that has it in IMAGESCAPE_TENSORFLOW_PYTHON",
)
@pytest.mark.parametrize("model", WHOLE)
@pytest.mark.parametrize("size_px", [(224, 224), (161, 135)], ids=["224", "odd"])
def test_whole_networks_are_those_of_tensorflow(tmp_path, model, size_px):
    architecture = SimCLRArchitecture.parse(model.split()[-1])
    spec = {
        "version": 2,
        "blocks": architecture.blocks,
        "channels": architecture.channels,
        "selective_kernels": architecture.selective_kernels,
        "seed": 0,
        "gain": 1,
        "images": 2,
        "height_px": size_px[0],
        "width_px": size_px[1],
        "classes": 1000,
        "projection": 128,
    } | WHOLE[model]
    (tmp_path / "in.json").write_text(json.dumps(spec))
    oracle = [tensorflow_python(), Path(__file__).with_name("tensorflow_oracle.py"), "network"]
    done = subprocess.run([*oracle, tmp_path / "in.json", tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    for ema in (True, False) if spec["version"] == 2 else (None,):
        found = differences(tmp_path, ema, architecture=None)
        print(f"{model} {size_px} ema={ema}:", ", ".join(f"{name} {value:.1e}" for name, value in found.items()))
        assert max(found.values()) < TOLERANCE, found
        assert difference(*np.load(tmp_path / "outputs.npz")[f"{'ema' if ema else 'raw'}_features"]) > 100 * TOLERANCE
    assert read_checkpoint(tmp_path).architecture == architecture
    for path in tmp_path.glob("model.ckpt*"):
        path.unlink()  # gigabytes
