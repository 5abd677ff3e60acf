# All that a fresh machine needs: `make demo`, `make test`. Needs Python 3.11 or newer with venv (on Debian: python3-venv).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: setup demo test lint bench docs clean

setup: $(READY)

# One rule for the environment: made again when what it is made from changes.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade-strategy only-if-needed -c constraints.txt -e '.[pretrained,transformers,faiss,demo,explore,dev]'
	touch $(READY)

demo: $(READY)
	$(BIN)/imagescape demo

test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[bench]'
	$(BIN)/python benchmarks/augment.py
	$(BIN)/python benchmarks/train_step.py --batch-size 256 --backbone resnet10 --width 32 --stem strided
	@echo "benchmarks/tsimcne_cifar.py needs CIFAR-10; see its --help"

# The command line's reference is written from the command line itself.
docs: $(READY)
	$(BIN)/python -m imagescape.cli.reference > docs/cli.md

clean:
	rm -rf $(VENV) build *.egg-info
