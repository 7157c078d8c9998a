# Two commands for a fresh machine with Python 3.11+, make and git:
#   make quickstart   adapt the embedded voice to windowed attention
#   make test         lint, types, tests
# For development: make test-integrations, the tests that need further packages.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: quickstart test test-integrations install develop clean

quickstart: install
	$(BIN)/wand fit --config quickstart

# Tests of one file run in one process, because they share what is slow to make.
test: develop
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --dist loadfile

# Reports are opened in the browser Chromium, if it is installed (Debian: apt-get install chromium).
# resemblyzer comes without its dependencies: only its weights are read. pesq needs a C compiler.
test-integrations: develop
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[ear,fidelity,mlx,naturalness,praat,ray]"
	$(BIN)/python -m pip install --no-deps resemblyzer==0.1.4 --quiet --constraint constraints.txt
	$(BIN)/pytest -m integration -rs

install: $(VENV)/.installed
develop: $(VENV)/.developed

# torch comes first and by exact version: a range would fetch a build with gigabytes of CUDA on machines without a GPU.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[demo]"
	touch $@

# encodec comes without its dependencies: torchaudio must not be installed (see pyproject.toml).
$(VENV)/.developed: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[demo,dev,encodec,serve]"
	$(BIN)/python -m pip install --no-deps encodec==0.1.1 --quiet --constraint constraints.txt
	touch $@

clean:
	rm -rf $(VENV)
