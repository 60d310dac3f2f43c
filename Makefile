# The front door. `make demo` and `make test` set up everything they need on a machine with Python >= 3.11, git and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Importing MMDetection needs OpenCV; the headless build needs no graphics libraries of the system.
OPENCV := $(shell sed -n 's/^opencv-python-headless==/opencv-python-headless==/p' constraints.txt)

.PHONY: help install demo test minimum lint types study clean

help:  ## this list
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/:.*## /\t/'

install: $(VENV)/.installed  ## one virtual environment with everything

$(VENV)/.installed: pyproject.toml setup.py constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python >= 3.11 is needed; name one with: make PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip uninstall --quiet --yes opencv-python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps $(OPENCV)
	@touch $@

demo: install  ## distil, fine-tune and compare on synthetic scenes
	$(BIN)/distill demo

test: install  ## the test suite
	$(BIN)/python -m pytest

# A second environment, with the lowest version of each dependency that pyproject.toml allows.
OLDEST := .venv-min/bin/python
AT_FLOORS := tests/packaging/test_floors.py tests/data tests/evaluation tests/tasks tests/training tests/teachers \
  tests/students/test_rs4d.py tests/students/scan/test_cpu.py tests/heads/mmdet/test_two_stage.py tests/cli/test_data.py

minimum: .venv-min/.installed  ## core tests at the lowest versions that pyproject.toml allows
	$(OLDEST) -m pytest $(AT_FLOORS)

.venv-min/.installed: pyproject.toml tests/packaging/floors.py
	$(PYTHON) -m venv .venv-min
	$(OLDEST) -m pip install --quiet --disable-pip-version-check packaging
	$(OLDEST) tests/packaging/floors.py > .venv-min/floors.txt
	$(OLDEST) -m pip install --quiet --disable-pip-version-check -r .venv-min/floors.txt
	$(OLDEST) -m pip uninstall --quiet --yes opencv-python
	grep '^opencv-python-headless' .venv-min/floors.txt | xargs \
	  $(OLDEST) -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps
	@touch $@

lint: install  ## ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install  ## mypy
	$(BIN)/mypy

study: install  ## slow studies, two hours: the demo over three seeds, the overfitting check of every head, compilation of all students, heads and GPU kernels, CPU kernels under AddressSanitizer
	$(BIN)/python -m pytest -m slow -n 0 -s

clean:  ## remove the environment and all runs
	rm -rf $(VENV) runs
