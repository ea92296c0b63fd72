# make demo   sets up and runs the main job on the lab          make test   sets up and runs every test
# make check  formatting, lint, types, layers                   make lab    makes the lab's models again (minutes)
# make torch  adds what tests of the transformers engine and of lm-evaluation-harness need: about 1.4 GB, on Linux with CUDA's
#             libraries several
# make vllm   adds a vLLM for the CPU, for tests of adapters on a server: 0.8 GB in a folder of its own, on Linux x86-64 only
PYTHON ?= python3
VENV ?= .venv
VLLM := .venv-vllm
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-virtualenv

.PHONY: demo test check torch vllm lab lock clean

demo: $(VENV)/.demo
	@mkdir -p build && rm -rf build/demo
	$(BIN)/assay watch examples/lab/checkpoints --base examples/lab/base --suite examples/lab/suite.yaml --once \
	  --workspace build/demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal

torch: $(VENV)/.torch

vllm: $(VLLM)/.vllm

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

lab: $(VENV)/.dev
	$(BIN)/python examples/lab/make_lab.py

# Pins for every platform, with hashes and without a registry's address; needs uv.
lock:
	uv pip compile pyproject.toml --group demo --universal --python-version 3.11 --generate-hashes \
	  --no-header --no-annotate --upgrade -o requirements/demo.txt
	uv pip compile pyproject.toml --extra llama --extra mlx --extra ssh --group dev --universal --python-version 3.11 \
	  --generate-hashes --no-header --no-annotate --upgrade -o requirements/dev.txt
	uv pip compile requirements/vllm.in --override requirements/vllm-without.in --universal --python-version 3.11 \
	  --generate-hashes --no-header --no-annotate --upgrade -o requirements/vllm.txt

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "assay needs Python 3.11 or newer; name one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "this Python lacks venv; install it (Debian: python3-venv) or name another: make PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# The development set contains the demo's.
$(VENV)/.demo: requirements/demo.txt pyproject.toml | $(BIN)/python
	@test -e $(VENV)/.dev || { echo "installing what the demo needs ..."; $(PIP) --require-hashes -r requirements/demo.txt; }
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: requirements/dev.txt pyproject.toml | $(BIN)/python
	@echo "installing what the tests need ..."
	@$(PIP) --require-hashes -r requirements/dev.txt
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

# torch first and with all that it needs, which differs by platform and device; the rest is pinned.
$(VENV)/.torch: requirements/torch.txt requirements/lm-eval.txt | $(VENV)/.dev
	@echo "installing torch ..."
	@$(PIP) torch==2.13.0
	@$(PIP) --no-deps --require-hashes -r requirements/torch.txt -r requirements/lm-eval.txt
	@touch $@

# Apart, for it wants other versions than the tests; but torch, which is as large again or much larger, is the tests' own.
$(VLLM)/.vllm: requirements/vllm.txt | $(VENV)/.torch
	@test "$$(uname -sm)" = "Linux x86_64" || { echo "vLLM for the CPU is made for Linux on x86-64 only" >&2; exit 1; }
	@echo "installing vLLM ..."
	@rm -rf $(VLLM) && $(BIN)/python -m venv --without-pip $(VLLM)
	@$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
	  > "$$($(VLLM)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/torch.pth"
	@$(BIN)/python -m pip --python $(VLLM) install --quiet --disable-pip-version-check --no-deps --require-hashes \
	  -r requirements/vllm.txt
	@touch $@

clean:
	rm -rf $(VENV) $(VLLM) build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
