# The daily commands; `make help` lists them. Everything is set up on the way.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV ?= .venv
OUT ?= runs/demo
# Workers of the tests: one for each core, at most four.
WORKERS ?= $(shell cores=$$(nproc 2>/dev/null || echo 2); echo $$((cores > 4 ? 4 : cores)))
PYTEST_ARGUMENTS ?=
export VENV

.PHONY: help setup setup-test demo test test-builds test-fast lint typecheck format clean

help: ## List the commands
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

setup: ## System packages, .venv and Python packages that the demo needs
	@scripts/setup.sh demo

setup-test: ## The same for the tests
	@scripts/setup.sh test

demo: setup ## The whole line on a virtual board; OUT=DIR says where the report goes
	@$(VENV)/bin/edgequant demo --out "$(OUT)"

test: setup-test test-builds ## All tests, with real builds, qemu and sshd
	@EDGEQUANT_TEST_BUILD=1 $(VENV)/bin/python -m pytest -n $(WORKERS) --dist loadfile $(PYTEST_ARGUMENTS)

# Before the tests and not in them, so that what takes minutes shows its progress.
test-builds:
	@$(VENV)/bin/edgequant build --target host >/dev/null
	@$(VENV)/bin/edgequant build --target rk3568 >/dev/null

test-fast: setup-test ## Tests that need no build, no qemu and no sshd
	@$(VENV)/bin/python -m pytest -n $(WORKERS) -m "not integration and not slow" $(PYTEST_ARGUMENTS)

lint: setup ## Style, common mistakes, and which room may import which
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@PYTHONPATH=. $(VENV)/bin/lint-imports

typecheck: setup ## Types, strictly
	@$(VENV)/bin/mypy
	@$(VENV)/bin/mypy --explicit-package-bases benchmarks/*.py

format: setup ## Rewrite the code in the project's style
	@$(VENV)/bin/ruff check --fix .
	@$(VENV)/bin/ruff format .

clean: ## Remove what tools leave in the checkout (not .venv, runs/ or the cache)
	@rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage *.egg-info
	@find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
