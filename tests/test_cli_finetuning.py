"""The contract of `finetune` and of `evaluate --finetuning` for scripts."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from imagescape.evaluate.looks import Copies
from imagescape.learn.encoder import Architecture, Encoder
from imagescape.learn.preprocessing import Preprocessing

QUICK = ("--size", 32, "--batch-size", 16, "--dimensions", 16, "--device", "cpu", "--held-out", 0.2)


@pytest.fixture
def scape(tmp_path, run):
    rng = np.random.default_rng(0)
    (tmp_path / "pictures").mkdir()
    for number in range(50):
        coarse = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8))
        coarse.resize((60, 50), Image.Resampling.BICUBIC).save(tmp_path / "pictures" / f"{number:03}.png")
    assert run("ingest", tmp_path / "pictures", "-o", tmp_path / "p.scape")[0] == 0
    with torch.random.fork_rng():
        torch.manual_seed(0)
        architecture = Architecture(backbone="resnet10", stem="strided", width=4)
        way = Preprocessing(size_px=32, cache_px=32, fit="crop", mean=(0.5,) * 3, std=(0.25,) * 3)
        Encoder(architecture.build(), architecture, way, device="cpu").save(tmp_path / "p.scape" / "models" / "small")
    return tmp_path / "p.scape"


def test_the_contract(scape, run, tmp_path):
    code, out, err = run(
        "finetune", scape, "--encoder", "small", "--recipe", "copies", "--name", "N", *QUICK, "--jitter", 0.3,
        "--optimizer", "sgd", "--lr", 0.01, "--epochs", 2, "--temperature", 0.1, "--weight-decay", 1e-5,
        "--momentum", 0.8, "--nesterov", "--schedule", "linear", "--devices", 1, "--workers", 1, "--looks", 2,
        "--seed", 3, "--json",
    )  # fmt: skip
    assert code == 0, err
    result = json.loads(out)
    assert (result["name"], result["epochs"], result["trained"], result["guarded"]) == ("N", 2, 40, 10)
    assert {"before", "after", "looks", "regressed"} <= result.keys()
    lines = [json.loads(line) for line in (scape / "runs" / "N" / "metrics.jsonl").read_text().splitlines()]
    assert {"stage", "epoch", "step", "loss", "learning_rate"} <= lines[-1].keys()
    assert json.loads((scape / "models" / "N" / "config.json").read_text())["recipe"]["nesterov"] is True

    code, out, err = run("evaluate", scape, "--finetuning", "N", "--html", tmp_path / "n.html", "--json")
    assert code == 0, err
    figures = json.loads(out)
    assert list(figures["geometry"]["before"]) == [
        "diameter", "dispersion", "separation", "centroid_to_centroid", "sn1", "sn2"
    ]  # fmt: skip
    page = (tmp_path / "n.html").read_text()
    assert page.count("data:image/png;base64") == 4
    assert "default-src &#x27;none&#x27;" in page or "default-src 'none'" in page
    code, out, err = run("embed", scape, "--encoder", "N", "--name", "again")
    assert code == 0, err


def test_a_regression_is_said_on_stderr_and_nothing_is_embedded(scape, run, monkeypatch):
    real = Copies.look

    def look(self, database, queries, *, name, **options):
        rows = queries if name == "before" else np.random.default_rng(0).normal(size=queries.shape)
        return real(self, database, rows.astype(np.float32), name=name, **options)

    monkeypatch.setattr(Copies, "look", look)
    code, out, err = run("finetune", scape, "--encoder", "small", "--name", "N", "--epochs", 1, "--looks", 1, *QUICK)
    assert code == 0
    assert "imagescape: fine-tuning made 'small' worse" in err
    assert "features_N" not in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--optimizer", "lamb"), "optimizer must be one of sgd, adam, adamw, lars, got 'lamb'"),
        (("--optimizer", "adamw", "--nesterov"), "nesterov is a way of the momentum of sgd and lars"),
        (("--edits", ","), "--edits takes names with commas between"),
        (("--edits", "melt"), "edits are crop"),
        (("--schedule", "steps"), "decay must be one of"),
        (("--encoder", "phash64"), "a hash learns nothing"),
    ],
)
def test_mistakes_are_one_line(scape, fails, arguments, message):
    assert message in fails("finetune", scape, "--encoder", "small", *arguments)


def test_evaluate_takes_no_other_options_with_a_run(scape, fails):
    assert "--finetuning takes no --quality" in fails("evaluate", scape, "--finetuning", "N", "--quality")
    assert "--html is for --finetuning" in fails("evaluate", scape, "--html", "x.html")
    assert "no run of `imagescape finetune`" in fails("evaluate", scape, "--finetuning", "N")


def test_devices_start_as_many_processes_of_the_same_command(scape, run, monkeypatch):
    import os
    import sys

    started = []

    def become(program, command):
        started.append((program, command))
        raise SystemExit(0)

    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setattr(os, "execv", become)
    run("finetune", scape, "--encoder", "small", "--devices", 2)
    program, command = started[0]
    assert program == command[0] == sys.executable
    assert command[1:5] == ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    assert command[5:] == ["-m", "imagescape", "finetune", str(scape), "--encoder", "small", "--devices", "2"]


def test_workers_are_limited():
    from imagescape.errors import InputError
    from imagescape.runtime import limit_workers, worker_count

    try:
        limit_workers(1)
        assert worker_count() == 1
        with pytest.raises(InputError, match="workers must be at least 1, got 0"):
            limit_workers(0)
    finally:
        limit_workers(None)
    assert worker_count() >= 1
