# Every target installs what it needs, except Python 3.11 or newer. PYTHON=... chooses the interpreter.
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13 python3.14; do \
	$$p -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEV := $(VENV)/.ready-dev

.DEFAULT_GOAL := help
.PHONY: help setup bench test test-fast perf lint typecheck docs clean

help:  ## Show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

setup: $(READY)  ## Install condsim and what a run needs into the virtual environment .venv

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "found no Python 3.11 or newer with venv: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[plot]'
	@touch $@

$(DEV): $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

bench: $(READY)  ## Run the main methods on the embedded benchmark and write its leaderboard
	$(BIN)/condsim bench experiment=embedded

# Tests write bytecode even where the environment forbids it: each process that they start would compile all again.
# A file's tests run in one process, the files in the order of tests/conftest.py: they share imports and fixtures.
PYTEST_RUN := OMP_NUM_THREADS=1 HYPOTHESIS_NO_PLUGINS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

test: $(DEV)  ## Run all tests
	$(PYTEST_RUN) $(PYTEST)

test-fast: $(DEV)  ## Run the tests that are not slow: under a minute
	$(PYTEST_RUN) -m 'not slow'

perf: $(DEV)  ## Measure speed and memory, as ratios to a baseline in the same run
	$(BIN)/python benchmarks $(ONLY)

lint: $(DEV)  ## Check the style and the spelling, and that imports run one way
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/lint-imports --no-logo --no-cache

typecheck: $(DEV) build/typecheck/tests  ## Check types of the packages and of the tests with mypy --strict
	$(BIN)/mypy -p condsim -p tests

# mypy follows folders, not import hooks: give it the import roots as folders of links.
build/typecheck/tests:
	mkdir -p build/typecheck/condsim
	for part in __init__.py harness methods datasets conf; do ln -sfn ../../../$$part build/typecheck/condsim/$$part; done
	for part in tests/builders.py tests/chat_server.py tests/encoders.py tests/pretend_gpu.py tests/running.py tests; do ln -sfn ../../$$part build/typecheck; done

docs: $(READY)  ## Build the documentation site in site/
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	rm -rf build/docs && mkdir -p build/docs/packages/condsim && cp -r docs build/docs/pages
	for part in __init__.py harness methods datasets; do ln -s ../../../../$$part build/docs/packages/condsim/$$part; done
	cp README.md build/docs/pages/index.md && cp CONTRIBUTING.md CHANGELOG.md build/docs/pages
	sed -i.bak -E 's#(\.\./)?README\.md#index.md#g; s#(\]\(|src=")docs/#\1#g' build/docs/pages/*.md && rm build/docs/pages/*.bak
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

clean:  ## Remove .venv, build files and records (stored features: `condsim cache prune`)
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis results/runs results/errors
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
