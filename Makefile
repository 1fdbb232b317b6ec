# Every command of the project. `make` alone lists them.

PYTHON ?= python3
UV_VERSION := 0.13.8
BIN := .venv/bin
LOCK_VENV := .cache/lock
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# --universal: one lock for every platform and every Python from 3.11. --no-config: nobody's own settings leak in.
UV_COMPILE := $(LOCK_VENV)/bin/uv pip compile --quiet --no-config --universal --python-version 3.11 \
	--generate-hashes --no-annotate --no-header --no-emit-index-url --no-emit-find-links $(UPGRADE)
SOURCES := $(sort $(dir $(wildcard src/allocation/__init__.py tests/*.py bench/*.py journey/*.py)))

SECONDS ?= 180
WORKERS ?= 2
QUICK := tests/unit tests/seed tests/architecture tests/contract

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z%-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: .venv/.setup-stamp ## create .venv with the locked dependencies and this package (PYTHON=python3.12 chooses another)

.PHONY: demo
demo: setup ## start the real service on a free port and play the two stories over HTTP
	$(BIN)/allocation demo

.PHONY: run
run: setup ## serve HTTP on the embedded store
	$(BIN)/allocation serve

.PHONY: test
test: setup ## run all tests in two processes, on a real PostgreSQL too (ARGS="-k name" chooses, WORKERS=1)
	$(BIN)/pytest --numprocesses=$(WORKERS) --dist=loadfile --max-worker-restart=1 $(ARGS)

.PHONY: test-quick
test-quick: setup ## run in a minute what needs no PostgreSQL, browser or process: unit, seed, architecture, contract
	$(BIN)/pytest --numprocesses=$(WORKERS) --dist=load -k 'not postgres' $(QUICK) $(ARGS)

.PHONY: torture
torture: setup ## kill, cut and pause everything under load; count what is lost or done twice (SECONDS=180, SEED=)
	$(BIN)/python -m tests.torture $(SECONDS) $(SEED)

.PHONY: simulate
simulate: SECONDS = 60
simulate: setup ## random histories in made-up time, with faults at every call; the shortest that fails (SECONDS=60, SEED=)
	$(BIN)/python -m tests.simulation $(SECONDS) $(SEED)

.PHONY: check
check: lint types imports ## everything CI checks besides the tests

.PHONY: lint
lint: setup ## format and lint rules (ruff)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

.PHONY: types
types: setup ## static types (mypy, strict)
	$(BIN)/mypy $(SOURCES)

.PHONY: imports
imports: setup ## the architecture: who may import whom (import-linter)
	$(BIN)/lint-imports

.PHONY: format
format: setup ## format the code and apply the safe fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: docs
docs: setup ## write the reference pages, the picture of the flow and the table of settings from the code
	$(BIN)/python docs/generate.py

.PHONY: screenshots
screenshots: setup ## take pictures of the console's pages into docs/img and tests/browser/out (needs Chromium)
	$(BIN)/python -m tests.browser.screenshots $(ARGS)

.PHONY: journey
journey: setup ## the main job on 1.47 million real order lines
	./journey/run

.PHONY: bench-setup
bench-setup: .venv/.bench-stamp ## add what the benchmarks need to .venv

.PHONY: bench
bench: bench-setup ## run every benchmark that the README quotes
	$(BIN)/python -m bench $(ARGS)

bench-%: bench-setup ## run one benchmark, for example bench-hot
	$(BIN)/python -m bench $* $(ARGS)

.PHONY: profile
profile: bench-setup ## flame graph of the service under load into bench/out (CASE=many, hot or sqlite)
	$(BIN)/python -m bench.profile $(CASE)

.PHONY: lock
lock: $(LOCK_VENV)/uv-$(UV_VERSION) ## pin the dependencies with hashes (UPGRADE=--upgrade takes newer ones)
	$(UV_COMPILE) --extra dev --constraints constraints.txt --output-file requirements.lock pyproject.toml
	$(UV_COMPILE) --extra bench --constraints requirements.lock --output-file bench/requirements.lock pyproject.toml
	$(UV_COMPILE) --output-file journey/requirements.lock journey/requirements.in

.PHONY: clean
clean: ## remove .venv and everything else that these targets made
	rm -rf .venv .cache .mypy_cache .ruff_cache .import_linter_cache .pytest_cache .hypothesis .schemathesis build dist bench/out journey/.venv journey/data journey/out
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/.setup-stamp: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo '$(PYTHON) is missing or older than 3.11. Name a newer one: make setup PYTHON=python3.12' >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null \
		|| { echo '$(PYTHON) cannot create virtual environments. On Debian and Ubuntu: apt-get install python3-venv' >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	$(PIP) install --require-hashes -r requirements.lock
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

.venv/.bench-stamp: .venv/.setup-stamp bench/requirements.lock
	$(PIP) install --require-hashes -r bench/requirements.lock
	@touch $@

$(LOCK_VENV)/uv-$(UV_VERSION):
	$(PYTHON) -m venv --clear $(LOCK_VENV)
	$(LOCK_VENV)/bin/python -m pip --disable-pip-version-check --quiet install uv==$(UV_VERSION)
	@touch $@
