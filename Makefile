# Two commands on a bare machine with Python 3.10 to 3.14 and make:
#   make convert   int8 TFLite and ONNX of the shipped student in build/ (no torch)
#   make test      lint, types and the whole test suite (installs torch, CPU is enough)

PYTHON ?= python3
VENVS ?= .venv
CONVERT := $(VENVS)/convert
DEV := $(VENVS)/dev
TYPED := build/typed
PIP := -m pip --disable-pip-version-check --quiet

# Runs on any Python. The pinned packages have wheels up to 3.14.
define CHECK_PYTHON
import sys
version, name = sys.version_info[:2], "Python %d.%d" % sys.version_info[:2]
if not (3, 10) <= version <= (3, 14):
    sys.exit("edgedf's packages have wheels for Python 3.10 to 3.14, not for %s: "
             "make convert PYTHON=python3.11, or another of them" % name)
if version < (3, 11):
    print("%s has no wheel of onnxruntime 1.32.0: an older one is used" % name)
endef
export CHECK_PYTHON

.DEFAULT_GOAL := help
.PHONY: help convert test lint types tests environments dev check-python clean

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
	$(DEV)/bin/python -m pytest -n 2 --dist loadfile --durations=25

# Virtual environments as a user has them, and emulated processors: some minutes.
environments: dev
	$(DEV)/bin/python -m pytest -n 2 --dist loadfile -m environments

$(CONVERT)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c "$$CHECK_PYTHON"
	$(PYTHON) -m venv $(CONVERT)
	$(CONVERT)/bin/python $(PIP) install -c constraints.txt -e '.[convert]'
	@touch $@

# Python compiles what is imported; pip would compile all of it, which takes as long as the rest.
$(DEV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c "$$CHECK_PYTHON"
	$(PYTHON) -m venv $(DEV)
	$(DEV)/bin/python $(PIP) install --no-compile -c constraints.txt -e '.[dev]'
	@touch $@

check-python:
	@$(PYTHON) -c "$$CHECK_PYTHON"

clean:
	rm -rf $(VENVS) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
