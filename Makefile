# Two commands on a bare machine with Python 3.10+ and make:
#   make convert   int8 TFLite and ONNX of the shipped student in build/ (no torch)
#   make test      lint, types and the whole test suite (installs torch, CPU is enough)

PYTHON ?= python3
VENVS ?= .venv
CONVERT := $(VENVS)/convert
DEV := $(VENVS)/dev
TYPED := build/typed
PIP := -m pip --disable-pip-version-check --quiet
CHECK_PYTHON := $(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 10) else "edgedf needs Python 3.10 or newer: make PYTHON=python3.11 ...")'

.DEFAULT_GOAL := help
.PHONY: help convert test lint types tests dev clean

help:
	@sed -n '1,4p' Makefile

convert: $(CONVERT)/.installed
	$(CONVERT)/bin/edgedf convert --out build

test: lint types tests

dev: $(DEV)/.installed

lint: dev
	$(DEV)/bin/ruff check .
	$(DEV)/bin/ruff format --check .

# mypy does not see through an editable install's folder mapping, so it gets the package laid out.
types: dev
	@rm -rf $(TYPED) && mkdir -p $(TYPED)
	@cp -R edgedf $(TYPED)/ && cp -R distill quantize runtime $(TYPED)/edgedf/
	cd $(TYPED) && $(abspath $(DEV))/bin/mypy --config-file $(CURDIR)/pyproject.toml \
		--cache-dir $(CURDIR)/.mypy_cache -p edgedf

tests: dev
	$(DEV)/bin/python -m pytest -n 2 --dist loadfile

$(CONVERT)/.installed: pyproject.toml constraints.txt
	@$(CHECK_PYTHON)
	$(PYTHON) -m venv $(CONVERT)
	$(CONVERT)/bin/python $(PIP) install -c constraints.txt -e '.[convert]'
	@touch $@

# torch goes first and alone: a pinned version keeps a resolver from fetching another build of it.
$(DEV)/.installed: pyproject.toml constraints.txt
	@$(CHECK_PYTHON)
	$(PYTHON) -m venv $(DEV)
	$(DEV)/bin/python $(PIP) install torch==2.13.0
	$(DEV)/bin/python $(PIP) install -c constraints.txt -e '.[dev]'
	@touch $@

clean:
	rm -rf $(VENVS) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
