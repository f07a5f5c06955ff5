# make book   environment, notebooks in the quick profile, book; prints the page to open
# make test   environment, tests
# make lint   environment, ruff, mypy, import-linter
# make bench  the efficiency notebooks at full size, then one line of JSON with the ratios
# make env    the environment alone, in .venv
#
# PYTHON=python3.12   the interpreter of .venv        PROFILE=standard   the size of the notebooks' runs
# JOBS=2              notebooks executed at once
# PIP_FLAGS=...       for pip, such as an index of torch builds without CUDA

PYTHON ?= python3
PROFILE ?= quick
JOBS ?= 2
PIP_FLAGS ?=
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) -c constraints.txt

# The programs of an environment name the folder they were made in. In a folder that was moved or copied they would fail,
# or run the source that stands at the old place.
MOVED := $(shell [ -e .venv/bin/pip ] && ! head -n 2 .venv/bin/pip | grep -qF "$(CURDIR)/.venv/" && echo yes)

.PHONY: env anew book test lint bench clean

env: .venv/installed

.venv/installed: pyproject.toml constraints.txt $(if $(MOVED),anew)
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python must be 3.11 or newer, got %d.%d: make PYTHON=python3.12" % sys.version_info[:2])'
	$(if $(MOVED),@echo "This folder was moved or copied: its environment is made anew.")
	$(PYTHON) -m venv $(if $(MOVED),--clear) .venv
	$(PIP) torch==2.13.0
	$(PIP) hatchling editables
	$(PIP) --no-build-isolation --editable '.[book,test,lint]'
	@touch $@

anew:

# Which notebooks would change, `hypernas grid` knows: by their sources, the library and the recorded rows.
book: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/hypernas grid book/grid.yml --profile $(PROFILE) --workers $(JOBS)
	$(BIN)/python book/generate.py
	$(BIN)/jupyter-book build book --quiet -W --keep-going
	@echo "Open $(CURDIR)/book/_build/html/index.html"

test: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadgroup

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/installed
	$(BIN)/hypernas run notebooks/training_cost.ipynb --profile standard --force -o bench
	$(BIN)/hypernas run notebooks/evaluation_cost.ipynb --profile standard --force -o bench
	$(BIN)/hypernas bench

clean:
	rm -rf book/_build book/notebooks book/rows.md book/notes_paper.md book/_static/rows.csv
