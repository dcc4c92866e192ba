# Every target sets up what it needs, from constraints.txt, in .venv of this folder.
PYTHON ?= python3
BIN := .venv/bin
RUN := $(BIN)/python

.DELETE_ON_ERROR:
.PHONY: help demo test test-slow check bench fuzz docs format clean

help:  ## what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

.venv/.base: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "delineate needs Python 3.11 or newer; got $$($(PYTHON) -V). Pass PYTHON=python3.12, say." >&2; exit 1; }
	@echo "setting up .venv (once; some minutes, most of it downloading PyTorch)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	@touch $@

.venv/.dev: .venv/.base
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

.venv/.bench: .venv/.dev
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[bench]'
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps pysodmetrics==1.4.3
	@touch $@

.venv/.fuzz: .venv/.dev
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[fuzz]'
	@touch $@

.venv/.docs: .venv/.base
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	@touch $@

demo: .venv/.base  ## train, evaluate, predict and report on built-in scenes, in minutes
	$(RUN) examples/demo.py

test: .venv/.dev  ## every test but the slow ones
	$(RUN) -m pytest -q -n 2 --dist worksteal

test-slow: .venv/.dev  ## every test
	$(RUN) -m pytest -q -n 2 --dist worksteal --slow

check: .venv/.dev  ## style, types, import arrows
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

bench: .venv/.bench  ## ratios to today's tools, measured in one run
	$(RUN) -m bench

fuzz: .venv/.fuzz  ## attack the parsers, a minute each
	$(RUN) tests/fuzz/fuzz_rle.py -max_total_time=60
	$(RUN) tests/fuzz/fuzz_coco_json.py -max_total_time=60

docs: .venv/.docs  ## the documentation site, into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "docs: site/index.html"

format: .venv/.dev  ## lay the code out
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove what was built, but no run
	rm -rf .venv site dist build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
