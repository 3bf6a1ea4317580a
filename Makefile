# Two commands do everything on a machine with git, make and Python >= 3.11 (with venv).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: quickstart test format clean

quickstart: $(VENV)/.installed  ## install, then train, export and serve on embedded data
	$(BIN)/python -m experiments.quickstart --out runs/quickstart

test: $(VENV)/.installed-dev  ## install the test extra, then everything CI runs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest -n 2 --dist worksteal

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(BIN)/python:
	$(PYTHON) -c 'import sys; v = sys.version_info; assert (3, 11) <= v[:2] < (3, 14), "mmkeras needs Python 3.11-3.13: make PYTHON=python3.12 ..."'
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/.installed: setup.py | $(BIN)/python
	$(BIN)/python -m pip install --quiet -e '.[serving]'
	touch $@

$(VENV)/.installed-dev: setup.py | $(BIN)/python
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache
