# Two commands for a fresh machine with Python 3.11+, make and git:
#   make quickstart   adapt the embedded voice to windowed attention
#   make test         lint, types, tests
# With programs and weights that are not installed by default (tests say what is missing):
#   make test-integrations
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: quickstart test test-integrations install clean

quickstart: install
	$(BIN)/wand fit --config quickstart

test: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest

test-integrations: install
	$(BIN)/pytest -m integration -rs

install: $(VENV)/.installed

# torch comes first and by exact version: a range would fetch a build with gigabytes of CUDA on machines without a GPU.
# encodec comes without its dependencies: torchaudio must not be installed (see pyproject.toml).
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[demo,dev,encodec]"
	$(BIN)/python -m pip install --no-deps encodec==0.1.1 --quiet --constraint constraints.txt
	touch $@

clean:
	rm -rf $(VENV)
