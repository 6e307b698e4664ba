# Needs GNU make and Python 3.11 or newer; everything else is installed into
# .venv (to use the tool) and .venv-dev (to work on it).

PYTHON ?= python3
JOBS ?= 2
ARGS ?=

DEV := .venv-dev/bin
PIP_INSTALL := -m pip install -qq --disable-pip-version-check --constraint constraints.txt
NEW_VENV = $(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit(f"shardrestore needs Python 3.11 or newer; {sys.executable} is {sys.version.split()[0]}. Name another one: make PYTHON=python3.11")' && $(PYTHON) -m venv

.DEFAULT_GOAL := help
.PHONY: help demo test lint format docs bench fuzz wheel clean distclean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

demo: .venv/.installed ## make two small checkpoints and restore one, step by step
	@echo "==> shardrestore demo"
	@.venv/bin/shardrestore demo

check: lint ## lint, then run the unit tests: what to run before each commit
	@echo "==> pytest tests/unit"
	@$(DEV)/pytest -n $(JOBS) tests/unit $(ARGS)

test: lint ## lint, then run every test (JOBS=2 at a time; ARGS goes to pytest)
	@echo "==> pytest"
	@$(DEV)/pytest -n $(JOBS) $(ARGS)

lint: .venv-dev/.installed ## style, formatting, types, import contracts
	@echo "==> ruff check"
	@$(DEV)/ruff check .
	@echo "==> ruff format --check"
	@$(DEV)/ruff format --check .
	@echo "==> mypy"
	@$(DEV)/mypy
	@echo "==> import contracts"
	@$(DEV)/lint-imports --no-logo

format: .venv-dev/.installed ## let ruff fix and format the tree
	@echo "==> ruff"
	@$(DEV)/ruff check --fix .
	@$(DEV)/ruff format .

docs: .venv-dev/.installed ## write docs/cli.md from the option table
	@echo "==> docs/cli.md"
	@$(DEV)/python -m shardrestore_cli.reference > docs/cli.md.new && mv docs/cli.md.new docs/cli.md

bench: .venv-dev/.installed ## run the benchmarks of the README (ARGS names others)
	@echo "==> benchmarks"
	@$(DEV)/python -m benchmarks $(or $(ARGS),all)

fuzz: .venv-dev/.installed ## compare the header parser with safetensors on mutated files, for a minute (ARGS)
	@echo "==> fuzz"
	@$(DEV)/python $(PIP_INSTALL) --editable '.[fuzz]' || echo "no atheris for this Python"
	@$(DEV)/python tests/trouble/fuzz/fuzz_header.py $(ARGS)

wheel: ## build the wheel into dist, install it into an empty environment, and try it there
	@echo "==> building the wheel"
	@rm -rf dist build/wheel
	@$(NEW_VENV) build/wheel
	@build/wheel/bin/python -m pip wheel -qq --disable-pip-version-check --no-deps --wheel-dir dist .
	@echo "==> installing $$(ls dist/*.whl) into an empty environment"
	@build/wheel/bin/python $(PIP_INSTALL) dist/*.whl
	@echo "==> trying it, away from the source tree"
	@cd build/wheel && bin/shardrestore --version && bin/shardrestore demo

clean: ## remove caches and build leftovers
	@echo "==> clean"
	@rm -rf build dist *.egg-info .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find benchmarks cli shardrestore tests -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## clean, and remove both environments and the demo
	@rm -rf .venv .venv-dev shardrestore-demo

.venv/.installed: pyproject.toml constraints.txt
	@echo "==> installing shardrestore into .venv"
	@$(NEW_VENV) .venv
	@.venv/bin/python $(PIP_INSTALL) --editable .
	@touch $@

# torch has a step of its own because it is by far the largest download.
.venv-dev/.installed: pyproject.toml constraints.txt
	@echo "==> installing torch into .venv-dev"
	@$(NEW_VENV) .venv-dev
	@.venv-dev/bin/python $(PIP_INSTALL) torch
	@echo "==> installing shardrestore and its tools into .venv-dev"
	@.venv-dev/bin/python $(PIP_INSTALL) --editable '.[dev]'
	@touch $@
