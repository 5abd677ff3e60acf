# Everything a fresh machine needs: `make demo`, `make test`. Python 3.11 or newer, nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: setup demo test lint bench docs clean

setup: $(READY)

# One rule for the environment: made again when what it is made from changes.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade-strategy only-if-needed -c constraints.txt -e '.[pretrained,demo,dev]'
	touch $(READY)

demo: $(READY)
	$(BIN)/imagescape demo

test: $(READY)
	$(BIN)/python -m pytest

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[bench]'
	for script in benchmarks/*.py; do $(BIN)/python $$script || exit 1; done

# The command line's reference is written from the command line itself.
docs: $(READY)
	$(BIN)/python -m imagescape.cli_reference > docs/cli.md

clean:
	rm -rf $(VENV) build *.egg-info
