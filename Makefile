# make demo    see it work, on stand-ins that run on this machine (make demo CONFIG=my.yaml: your own configuration)
# make test    formatting, lint, types and every test
# make bench   the figures of bench/RESULTS.md
SHELL := /bin/bash
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3.10 python3; do \
	command -v $$p >/dev/null && $$p -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test bench clean

$(VENV)/ready: requirements.txt requirements_dev.txt
	@test -n "$(PYTHON)" || { echo "tidegate needs Python 3.10 or newer, and none was found on PATH."; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
		echo "$(PYTHON) cannot make virtual environments: install its venv package (Debian: apt-get install python3-venv)."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements_dev.txt
	@touch $@

test: $(VENV)/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2

clean:
	rm -rf $(VENV) demo-data build src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
