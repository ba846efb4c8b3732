# Every verb sets up what it needs; a second call finds it done. `make help` lists them.
PYTHON ?= python3
KILLS ?= 20
SEED ?= 7
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# Processes of the tests, each with servers of its own; one that is done takes over from another.
# Four: live tests wait more than they compute, and two cores still keep up with their deadlines.
PROCESSES ?= 4
SHARED := --dist worksteal -n
# Kernels compiled with bounds checks: a cache of their own, for cached kernels ignore the flag. At
# a lower optimisation they compile and their tests run for 362 s of CPU instead of 430.
BOUNDS := NUMBA_BOUNDSCHECK=1 NUMBA_OPT=1 NUMBA_CACHE_DIR=$(CURDIR)/.make/numba-boundscheck
LOCK := $(BIN)/pip-compile --quiet --generate-hashes --no-emit-index-url --no-emit-find-links \
	--no-emit-trusted-host --allow-unsafe --strip-extras --no-header

# Some images say that Python should keep no bytecode: each of the suite's thousand processes would
# compile three hundred modules again, .6 s of CPU each time.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test quick check docs bench prove lock clean setup

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-6s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: setup ## Watch this machine become predictions and fused frames (Ctrl-C ends it)
	$(BIN)/soma demo

test: setup ## All checks and tests, on real servers
	@$(MAKE) --no-print-directory -j 3 check jars kernels
	$(BOUNDS) $(BIN)/pytest tests/unit/topics tests/unit/agents -m "not plain" -p no:cacheprovider $(SHARED) 2
	$(BIN)/pytest --bounds-ran -m "not proof" $(SHARED) $(PROCESSES)

quick: setup ## Units and contracts, without servers
	@$(BIN)/soma warm
	$(BIN)/pytest tests/unit tests/contract -m "not proof" $(SHARED) 2

check: setup ## Style, types, schemas, and the pages' links
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/soma schema check
	$(BIN)/mkdocs build --strict --quiet

docs: setup ## The pages as a site, in build/site
	$(BIN)/mkdocs build --strict

bench: setup .venv-bench/.done ## Measure this engine beside its peers; writes ops/bench/RESULTS.md
	$(BIN)/soma bench pipeline
	$(BIN)/soma bench recovery
	$(BIN)/soma bench latency
	$(BIN)/soma bench fusion
	$(BIN)/soma bench learning
	$(BIN)/soma bench chain
	$(BIN)/soma bench segmentation
	$(BIN)/soma bench outbox
	$(BIN)/soma bench recall
	$(BIN)/soma bench rebalance

prove: setup jars kernels ## Kill workers and keep answers back; verify records, rows, replays, rebuilds: make prove KILLS=20 SEED=7
	$(BIN)/pytest -m proof $(SHARED) 2
	$(BIN)/python -m ops.prove.driver --kills $(KILLS) --seed $(SEED)
	$(BIN)/python -m ops.prove.answers --seed $(SEED)
	$(BIN)/python -m ops.prove.rows --kills $(KILLS) --seed $(SEED)
	$(BIN)/python -m ops.prove.replay --kills $(KILLS) --seed $(SEED)
	$(BIN)/python -m ops.prove.rebuild --kills $(KILLS) --seed $(SEED) --alive 4
	$(BIN)/python -m ops.prove.copies --kills $(KILLS) --seed $(SEED)

lock: setup ## Pin the newest versions that pyproject.toml allows
	$(LOCK) --upgrade --extra stack --extra dev --extra quality -o requirements.txt pyproject.toml
	$(LOCK) --upgrade --constraint requirements.txt --extra build -o requirements-run.txt pyproject.toml
	$(LOCK) --upgrade --extra bench -o requirements-bench.txt pyproject.toml

clean: ## Remove what was built here (data of the local stack stays in ~/.soma)
	rm -rf .venv .venv-bench .make build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# What the verbs need.
.PHONY: jars kernels
setup: .venv/.done

# Both sorts at once, before tests begin: a test's time limit is for the test.
kernels: setup
	@echo "Compiling the kernels (after a change of sources only)"
	@$(BOUNDS) $(BIN)/soma warm --jobs 1 & bounds=$$!; $(BIN)/soma warm --jobs 1 && wait $$bounds

jars: setup
	@$(BIN)/python -c 'from ops.stack.jars import main; main()'
	@$(BIN)/python -m tests.live.apicurio

.venv/.done: requirements.txt pyproject.toml
	@echo "Setting up .venv from requirements.txt (the first time only, a few minutes)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=...")'
	@$(PYTHON) -m venv .venv
	@$(PIP) install --quiet --require-hashes -r requirements.txt
	@PYTHONWARNINGS=ignore $(PIP) install --quiet --no-deps --no-build-isolation -e .
	@touch $@

# The peers pin older clients than this project: an environment of their own.
.venv-bench/.done: requirements-bench.txt
	@echo "Setting up .venv-bench from requirements-bench.txt (the first time only)"
	@$(PYTHON) -m venv .venv-bench
	@.venv-bench/bin/python -m pip install --quiet --require-hashes -r requirements-bench.txt
	@touch $@
