# Each target sets up what it needs. Python 3.10+ and make are all that must be there.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin
PIP := $(RUN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# torch first and pinned, or a package that depends on it would bring another build of it.
TORCH := torch==$(shell sed -n 's/^torch==//p' constraints.txt)

.PHONY: setup demo test lint bench fuzz clean

setup: $(VENV)/.installed-dev

$(RUN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed-demo: pyproject.toml constraints.txt | $(RUN)/python
	$(PIP) $(TORCH)
	$(PIP) --editable '.[demo]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed-demo
	$(PIP) --editable '.[dev]'
	@touch $@

demo: $(VENV)/.installed-demo
	$(RUN)/speechtune demo

test: $(VENV)/.installed-dev
	$(RUN)/python -m pytest -n 2 --dist worksteal

lint: $(VENV)/.installed-dev
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy
	$(RUN)/python -m pytest tests/test_layers.py

bench: $(VENV)/.installed-dev
	$(RUN)/python benchmarks/run_all.py

# For example: make fuzz FUZZ='--seconds 60 --seed 7'
fuzz: $(VENV)/.installed-dev
	$(RUN)/python -m fuzz.run $(FUZZ)

clean:
	rm -rf $(VENV) build dist *.egg-info src/*.egg-info .pytest_cache .mypy_cache .ruff_cache
