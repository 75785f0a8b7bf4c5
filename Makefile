# `make run` needs Python 3.11 or later. `make help` lists all targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help run test coverage test-faults test-docs test-stack test-ui lint bench bench-gpu screenshots docs site ui lock

help:  ## List the targets.
	@sed -n 's/^\([a-z-]*\):.*##/\1:/p' Makefile

run: $(VENV)/installed  ## Set up, then compare losses on scikit-learn's digits.
	$(BIN)/kd run digits

TESTS := OMP_NUM_THREADS=1 $(BIN)/pytest -m "not fault and not stack and not docs and not ui" --numprocesses=2 --dist=loadfile --no-loadscope-reorder

test: $(VENV)/installed  ## Run all tests except those of test-faults, test-docs, test-stack and test-ui. KD_DATA names the folder that holds MNIST/raw.
	$(TESTS)

coverage: $(VENV)/installed  ## Run the same tests and report line coverage; takes a third longer.
	$(TESTS) --cov --cov-report=term:skip-covered

test-faults: $(VENV)/installed  ## Run the tests that interrupt, kill or race real processes, or take long.
	OMP_NUM_THREADS=1 $(BIN)/pytest -m fault --numprocesses=3 --dist=loadfile --no-loadscope-reorder tests

test-docs: $(VENV)/installed  ## Run every block of README.md and docs, or check that it says why it is not run.
	OMP_NUM_THREADS=1 $(BIN)/pytest -m "not fault" --numprocesses=2 --dist=worksteal tests/docs docs

test-stack: $(VENV)/installed  ## Start the services of docker-compose.yml as plain processes and test them; needs PostgreSQL and wget.
	@if ! ls /usr/lib/postgresql/*/bin/postgres > /dev/null 2>&1 || ! command -v wget > /dev/null; then \
		if [ "$$(id -u)" != 0 ] || ! command -v apt-get > /dev/null; then \
			echo "test-stack needs PostgreSQL in /usr/lib/postgresql and wget: apt-get install postgresql wget" >&2; exit 1; \
		fi; \
		apt-get update -qq && apt-get install -qq --yes --no-install-recommends postgresql wget > /dev/null || exit 1; \
	fi
	OMP_NUM_THREADS=1 $(BIN)/pytest -m stack tests/stack

test-ui: $(VENV)/installed  ## Look at the report, the MLflow UI and the Prefect UI of a real comparison in a browser; needs Chromium.
	@if ! test -x /usr/bin/chromium; then \
		if [ "$$(id -u)" != 0 ] || ! command -v apt-get > /dev/null; then \
			echo "test-ui needs /usr/bin/chromium: apt-get install chromium fonts-dejavu-core" >&2; exit 1; \
		fi; \
		apt-get update -qq && apt-get install -qq --yes --no-install-recommends chromium fonts-dejavu-core > /dev/null || exit 1; \
	fi
	$(BIN)/pytest -m ui tests/ui

lint: $(VENV)/installed  ## Check style, types and the direction of imports.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/installed  ## Run every benchmark and write benchmarks/results; over an hour. KD_DATA as for test.
	for name in mnist starting stacking step recording serving ledger knowledge fanout clusters large gate likeness "losses digits" "losses mnist"; do \
		$(BIN)/python -m benchmarks.$$name || exit 1; \
	done

bench-gpu: $(VENV)/installed  ## Measure training steps on a GPU, then run cifar10-full for at most 15 minutes. KD_DATA holds cifar10.zip.
	$(BIN)/python -m benchmarks.gpu
	timeout --signal=INT 900 $(BIN)/kd run cifar10-full || test $$? = 124

screenshots: $(VENV)/installed  ## Take the pictures of README.md and docs/ from a real comparison; needs Chromium, see test-ui.
	$(BIN)/python -m tests.ui.screenshots

docs: $(VENV)/installed  ## Write the pages and schemas of the reference in docs from the code.
	$(BIN)/python -m kdmodels.report.losses > docs/losses.md
	$(BIN)/python -m kdmodels.report.networks > docs/networks.md
	$(BIN)/python -m kdmodels.report.fields > docs/fields.md
	$(BIN)/python -m kdmodels.report.papers benchmarks/results/papers > docs/papers.md
	$(BIN)/python -m kd.cli_page > docs/cli.md
	$(BIN)/python -m kd.json_schemas docs/schemas

site: $(VENV)/installed  ## Build the documentation as web pages in build/site, which need no network.
	$(BIN)/python docs/build_site.py build/site

ui: $(VENV)/installed  ## Serve the MLflow UI.
	$(BIN)/kd ui

lock:  ## Resolve pyproject.toml into requirements.lock, with hashes and without index addresses.
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
