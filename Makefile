# The commands of this project; CI calls the same ones. `make help` lists them.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help run test check bench dev

help: ## list the commands
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 8

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml setup.cfg constraints.txt
	$(PIP) --editable .
	@touch $@

.venv/installed-test: .venv/installed
	$(PIP) --editable '.[test]'
	@touch $@

run: .venv/installed ## install and run the main job: from raw data to a gated champion
	$(BIN)/mlops-assets run

test: .venv/installed-test ## install with the test extra and run all tests, in two processes
	$(BIN)/python -m pytest -n 2 --dist worksteal

check: .venv/installed-test ## lint, types and import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q mlops_assets_tests/architecture

bench: .venv/installed-test ## run the benchmarks and print their tables
	$(BIN)/python -m mlops_assets_tests.benchmarks

dev: .venv/installed ## start Dagster and the MLflow UI
	$(BIN)/mlops-assets dev
