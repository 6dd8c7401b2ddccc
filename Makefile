# make help lists the targets. All of them work in a fresh clone: they make .venv and install what
# they need, at the versions of constraints.txt. A repeat run installs nothing.

PYTHON ?= python3
VENV ?= .venv
BENCH_VENV ?= build/venv-bench
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALL := $(PIP) install --quiet --constraint constraints.txt
BENCH_PIP := $(BENCH_VENV)/bin/python -m pip --disable-pip-version-check install --quiet
BENCH_OPTIONS ?=
PYTEST ?= $(BIN)/python -m pytest

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow lint docs docs-generated examples notebooks bench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.installed ## train a small network on bundled data and show its Hessian spectrum
	$(BIN)/hessscope demo --folder demo

test: $(VENV)/.installed-test ## run the tests (all but the slow ones and those that need a GPU)
	OMP_NUM_THREADS=1 $(PYTEST) -m "not slow and not gpu" -n 2 --dist loadfile

test-slow: $(VENV)/.installed-test ## run the slow tests
	$(PYTEST) -m "slow and not gpu"

lint: $(VENV)/.installed-dev ## check style, formatting, types and import layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy docs/generate_commands.py docs/make_examples.py
	$(BIN)/lint-imports

docs: $(VENV)/.installed-dev ## build the documentation into site/; warnings are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

docs-generated: $(VENV)/.installed-dev ## write docs/commands.md anew from the commands
	$(BIN)/python docs/generate_commands.py

examples: $(VENV)/.installed-dev ## run the commands in README and docs, renew outputs and figures
	$(BIN)/python docs/make_examples.py

notebooks: $(VENV)/.installed-dev ## execute the notebooks in place
	$(BIN)/python docs/make_examples.py --notebooks

bench: $(BENCH_VENV)/.installed ## time hessscope beside its peers, renew the tables of docs/performance.md
	PYTHONPATH=tests $(BENCH_VENV)/bin/python -m benchmarks $(BENCH_OPTIONS)

clean: ## remove .venv, the demo's output and everything that was built
	rm -rf $(VENV) site build dist demo .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "Python 3.10 or newer is needed: make PYTHON=python3.11 ..." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "venv failed; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }

# What the build of the package itself needs is installed first and pinned too, hence without pip's
# isolated build environment, which the constraints would not reach.
$(VENV)/.installed: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "installing hessscope and what it needs into $(VENV) (some minutes the first time)"
	@$(INSTALL) hatchling
	@$(INSTALL) --no-build-isolation --editable .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	@echo "installing what the tests need"
	@$(INSTALL) --no-build-isolation --editable '.[test]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed-test
	@echo "installing linters, the type checker and the documentation's tools"
	@$(INSTALL) --no-build-isolation --editable '.[dev]'
	@touch $@

# The peers come without their dependencies: with these, pip would take another torch. What they
# import is listed in their place.
$(BENCH_VENV)/.installed: pyproject.toml constraints.txt tests/benchmarks/peers.txt
	@echo "installing hessscope and the programs it is compared with into $(BENCH_VENV)"
	@test -x $(BENCH_VENV)/bin/python || $(PYTHON) -m venv $(BENCH_VENV)
	@$(BENCH_PIP) --constraint constraints.txt hatchling
	@$(BENCH_PIP) --constraint constraints.txt --no-build-isolation --editable .
	@$(BENCH_PIP) --no-deps --requirement tests/benchmarks/peers.txt
	@touch $@
