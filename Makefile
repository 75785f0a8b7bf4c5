# make run: from nothing but Python 3.11+ and make to a champion in the registry. make help lists the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help run test coverage test-faults lint bench docs ui lock

help:  ## List what can be made.
	@sed -n 's/^\([a-z-]*\):.*##/\1:/p' Makefile

run: $(VENV)/installed  ## Set up, then compare losses on scikit-learn's digits.
	$(BIN)/kd run digits

TESTS := OMP_NUM_THREADS=1 $(BIN)/pytest -m "not fault" --numprocesses=2 --dist=loadfile --no-loadscope-reorder

test: $(VENV)/installed  ## Set up, then run every test, two files at a time, but for those of test-faults; KD_DATA names the folder that holds MNIST/raw, if any.
	$(TESTS)

coverage: $(VENV)/installed  ## The same tests, and which lines they reach; it takes a third longer.
	$(TESTS) --cov --cov-report=term:skip-covered

test-faults: $(VENV)/installed  ## The tests that interrupt, kill or race whole processes, or take long.
	OMP_NUM_THREADS=1 $(BIN)/pytest -m fault --numprocesses=2 --dist=loadfile --no-loadscope-reorder tests

lint: $(VENV)/installed  ## Style, types, and imports that point one way.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/installed  ## Every benchmark, side by side with what it is compared with (over an hour; KD_DATA as for test), written to benchmarks/results.
	for name in mnist starting stacking step recording serving ledger knowledge fanout large gate likeness "losses digits" "losses mnist"; do \
		$(BIN)/python -m benchmarks.$$name || exit 1; \
	done

docs: $(VENV)/installed  ## Write docs/losses.md and docs/networks.md from the tables of losses and networks.
	$(BIN)/python -m kdmodels.report.losses > docs/losses.md
	$(BIN)/python -m kdmodels.report.networks > docs/networks.md

ui: $(VENV)/installed  ## The MLflow UI over what has been recorded.
	$(BIN)/kd ui

lock:  ## Resolve pyproject.toml anew into requirements.lock, with hashes and without index addresses.
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes \
		--no-annotate --no-header -o requirements.lock

$(VENV)/installed: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"kdflow needs Python 3.11 or later, not {sys.version.split()[0]}")'
	$(PYTHON) -m venv $(VENV)
	awk '/^[^ ]/ { keep = /^uv==/ } keep' requirements.lock > $(VENV)/uv.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r $(VENV)/uv.lock
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip sync --quiet --compile-bytecode --require-hashes --only-binary :all: requirements.lock
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@
