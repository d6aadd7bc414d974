# SAR-1M and SARMAE. Every target sets up .venv by itself, with what it needs and no more.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
PEERS := .venv-peers
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

REGION ?= sample
OUT ?=
CONFIG ?=
SCHEDULER ?=
PLAN ?=
ITEMS ?=
FINISH ?=
SET ?=
DATA ?=
ENCODER ?=
BUILDS ?=
VERSION ?=
PREVIOUS ?=
URL ?=
DATE ?=

# one test process a core, each with one thread; bytecode is kept, so that programs that tests start import faster
WORKERS ?= $(shell nproc 2>/dev/null || echo 2)
PYTEST := env -u PYTHONDONTWRITEBYTECODE OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 \
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --maxprocesses 8 --dist worksteal

.PHONY: help build-sar1m test test-campaigns test-long test-lowest check bench bench-loader bench-train bench-ablation pretrain evaluate release constraints clean

help:  ## this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

build-sar1m: $(VENV)/.pipeline  ## REGION=sample|portugal|w,s,e,n|safe:PATH|folder:PATH|simulated:N [OUT=build/<region>] [CONFIG=name|file] [SCHEDULER=tcp://...] [PLAN=plan.parquet] [ITEMS=3/64 or FINISH=1] [SET="a.b=c ..."]
	@$(BIN)/sar1m build --region "$(REGION)" $(if $(OUT),--out "$(OUT)") $(if $(CONFIG),--config "$(CONFIG)") \
		$(if $(SCHEDULER),--scheduler "$(SCHEDULER)") $(if $(PLAN),--plan "$(PLAN)") $(if $(ITEMS),--items "$(ITEMS)") \
		$(if $(FINISH),--finish) $(foreach pair,$(SET),--set "$(pair)")

release: $(VENV)/.pipeline  ## VERSION=0.1.0 BUILDS="build/a build/b" [OUT=releases/...] [PREVIOUS=releases/...] [URL=https://...] [DATE=2026-11-23]: a release of builds
	@$(BIN)/sar1m release $(BUILDS) --version "$(VERSION)" $(if $(OUT),--out "$(OUT)") $(if $(PREVIOUS),--previous "$(PREVIOUS)") \
		$(if $(URL),--url "$(URL)") $(if $(DATE),--date "$(DATE)")

pretrain: $(VENV)/.training  ## DATA=build/sample [CONFIG=smoke] [OUT=runs/<name>] [SET="a.b=c ..."]: pretrains, or goes on
	@$(BIN)/sarmae pretrain $(foreach store,$(DATA),--data "$(store)") $(if $(CONFIG),--config "$(CONFIG)") \
		$(if $(OUT),--out "$(OUT)") $(foreach pair,$(SET),--set "$(pair)")

evaluate: $(VENV)/.evaluate  ## DATA="folders:my/chips" ENCODER="run:runs/base", or CONFIG=study [OUT=studies/<name>]: what encoders are worth
	@$(BIN)/sarmae evaluate $(foreach place,$(DATA),"$(place)") $(foreach name,$(ENCODER),--encoder "$(name)") \
		$(if $(CONFIG),--config "$(CONFIG)") $(if $(OUT),--out "$(OUT)") $(foreach pair,$(SET),--set "$(pair)")

test: $(VENV)/.dev  ## the tests, some minutes on two cores; of each campaign one representative
	$(PYTEST)

test-campaigns: $(VENV)/.dev  ## the rest of every campaign: kills at many points, thousands of mutants; CI runs it after the tests
	HYPOTHESIS_PROFILE=ci $(PYTEST) -m 'campaign and not long'

test-long: $(VENV)/.dev  ## hours: a kill before every change of a build and at random times, ten times the examples
	HYPOTHESIS_PROFILE=long $(PYTEST) -m long

test-lowest:  ## the tests on the lowest versions that pyproject.toml allows, in .venv-lowest
	$(PYTHON) -m venv .venv-lowest
	$(PYTHON) tests/lowest_versions.py | .venv-lowest/bin/python -m pip install --quiet --requirement /dev/stdin
	.venv-lowest/bin/python -m pip install --quiet --no-deps --editable .
	.venv-lowest/bin/python -m pytest -W default -m 'not long'

check: $(VENV)/.dev  ## lint, format, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev  ## benchmarks of the pipeline and of the stream; tables in tests/benchmarks/results
	for name in registration registration_accuracy shift_field geometry radiometry geocoding truth safe pipeline shuffle transforms speckle remote; do \
		$(BIN)/python tests/benchmarks/bench_$$name.py || exit 1; done

bench-loader: $(VENV)/.dev $(PEERS)/.ready  ## streaming beside seven other loaders, warm and cold: 25 GB under build/bench, half an hour
	$(BIN)/python tests/benchmarks/bench_loader.py --python $(PEERS)/bin/python

bench-train: $(VENV)/.dev  ## the training step in its arms beside a plain one; --device cuda on a GPU
	$(BIN)/python tests/benchmarks/bench_train.py

bench-ablation: $(VENV)/.dev  ## what SARE and SARC add: the study `ablation` with its data, an hour and a half on two cores
	$(BIN)/python tests/benchmarks/bench_ablation.py

constraints: $(VENV)/.dev  ## writes constraints.txt anew from what .venv holds
	$(BIN)/python -m pip freeze --exclude-editable --exclude sar1m | sed 's/^\(torch==[0-9.]*\)+.*/\1/' > constraints.txt

clean:  ## removes .venv and caches; builds stay
	rm -rf $(VENV) .venv-lowest $(PEERS) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find pipeline training tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || { \
		echo "Python 3.11 to 3.13 is needed, $(PYTHON) is $$($(PYTHON) --version 2>&1). Give another: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "No venv module: on Debian and Ubuntu, apt-get install python3-venv"; rm -rf $(VENV); exit 1; }

$(VENV)/.pipeline: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Setting up $(VENV) (once, about a minute) ..."
	@$(PIP) --editable '.[pipeline,sample,stac]'
	@touch $@

$(VENV)/.training: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Setting up $(VENV) for training (once, some minutes: PyTorch) ..."
	@$(PIP) --editable '.[training]'
	@touch $@

$(VENV)/.evaluate: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Setting up $(VENV) for training and evaluation (once, some minutes: PyTorch) ..."
	@$(PIP) --editable '.[training,teacher,evaluate]'
	@touch $@ $(VENV)/.training

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Setting up $(VENV) with the development tools (once, about a minute) ..."
	@$(PIP) --editable '.[pipeline,sample,services,release,training,teacher,evaluate,dev]'
	@touch $@ $(VENV)/.pipeline $(VENV)/.training $(VENV)/.evaluate

# the other loaders want versions of their own; only what decides the reading is pinned alike
$(PEERS)/.ready: tests/benchmarks/requirements-peers.txt constraints.txt
	@$(PYTHON) -m venv $(PEERS)
	@$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $< \
		--constraint <(grep -E '^(google-crc32c|numcodecs|numpy|obstore|pillow|psutil|zarr)==' constraints.txt)
	@touch $@
