# `make demo` shows what the suite is for; `make test` checks that it works. Both install what they need into .venv once.
PYTHON ?= python3
BIN := .venv/bin
# An environment that uv made has no pip.
INSTALL = $(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip; \
	$(BIN)/python -m pip install --quiet --editable

.PHONY: demo test lint clean

demo: .venv/installed
	$(BIN)/python -m jepa_worlds.demo $(ARGS)

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto $(ARGS)

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache dist

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml
	@$(INSTALL) .
	@touch $@

.venv/installed-dev: .venv/bin/python pyproject.toml
	@$(INSTALL) '.[dev]'
	@touch $@ .venv/installed
