# make run: environment, then the demo song live, through the default device or none.
# make test: everything the pipeline checks.  A second run installs nothing.
SHELL := /bin/bash
.DEFAULT_GOAL := help

VENV ?= .venv
BIN := $(VENV)/bin
# The interpreter the environment is made with; `make run PYTHON=/path/to/python3.12` chooses one.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
# Further arguments of every `pip install` (an index, a proxy).
PIP_ARGS ?=
# What `make run` plays and `make render` separates, and where to.
INPUT ?= demo/mixture.flac
OUT ?= out

# Recursive on purpose: computed only where a target needs it.
INPUTS_HASH = $(shell cat pyproject.toml constraints.txt .ci/peers.txt | cksum | tr -d ' ')
STAMP = $(VENV)/.stemrack-$(INPUTS_HASH)
STAMP_DEV = $(VENV)/.stemrack-dev-$(INPUTS_HASH)

.NOTPARALLEL:
.PHONY: help env env-dev system run render test lint format types layers pytest slow docs clean distclean

help:
	@echo 'make run        play the demo song live until Ctrl-C (INPUT=song.mp3 for another, ARGS=... for run)'
	@echo 'make render     separate it into $(OUT)/ (INPUT=song.mp3 OUT=folder)'
	@echo 'make test       system packages, environment, lint, types, layers, tests'
	@echo 'make lint format types layers pytest slow    one of them'
	@echo 'make docs       write docs/ from the messages of the protocol'
	@echo 'make env        the environment of `make run`; make env-dev: the one of `make test`'
	@echo 'make clean      caches and build products; make distclean: $(VENV)/ and $(OUT)/ as well'

run: env
	@$(BIN)/stemrack run --input $(INPUT) --output auto $(ARGS)

render: env
	$(BIN)/stemrack render $(INPUT) -o $(OUT)

test: system lint types layers pytest

system:
	@.ci/system-packages "$(PYTHON)"

env:
	@[ -e '$(STAMP)' ] || [ -e '$(STAMP_DEV)' ] || .ci/environment '$(PYTHON)' '$(VENV)' '$(STAMP)' . $(PIP_ARGS)

env-dev:
	@[ -e '$(STAMP_DEV)' ] || .ci/environment '$(PYTHON)' '$(VENV)' '$(STAMP_DEV)' '.[train,dev]' $(PIP_ARGS)

lint: env-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: env-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: env-dev
	$(BIN)/pyright

layers: env-dev
	$(BIN)/lint-imports

pytest: env-dev
	@failed=0; \
	$(BIN)/python -m pytest -m 'not slow and not realtime' -n auto --maxprocesses 4 --dist loadfile || failed=1; \
	$(BIN)/python -m pytest -m 'not slow and realtime' || failed=1; \
	exit $$failed

docs: env-dev
	$(BIN)/python -m stemrack.rt.control.documentation docs

slow: env-dev
	$(BIN)/python -m pytest -m slow

clean:
	rm -rf build dist *.egg-info .pytest_cache .hypothesis .ruff_cache .import_linter_cache
	find models rt latency clients tests -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean
	rm -rf '$(VENV)' '$(OUT)'
