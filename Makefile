# Everything runs in .venv, built with plain venv and pip from the pinned constraints.txt.
PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help simulate test check audit engines bench clean

help: ## what can be made
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):[^#]*## /make \1\t/' | expand -t 16

.venv/installed: constraints.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0 -c constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

simulate: .venv/installed ## 20 people, 10 rounds, example-level DP, on the bundled sample diaries
	$(BIN)/healing simulate

test: .venv/installed ## the whole test suite
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal

check: .venv/installed ## every gate: lint, format, types, import directions, tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal

audit: .venv/installed ## every attack and every planted fault of the privacy audit (some minutes)
	HEALING_AUDIT=1 $(BIN)/python -m pytest tests/privacy/test_audit.py tests/simulation/test_audit_report.py
	$(BIN)/healing audit

engines: .venv/installed ## every aggregation on each of Flower's engines (some minutes)
	HEALING_ENGINES=1 $(BIN)/python -m pytest tests/server/test_strategies.py tests/simulation/test_run.py tests/simulation/test_deployment.py -k "engine or superlink"

bench: .venv/installed ## engine cost against a plain PyTorch loop and stock Flower
	$(BIN)/python benchmarks/engine.py

clean: ## remove the environment and caches (runs/ stays)
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
