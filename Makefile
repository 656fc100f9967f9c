# Every target makes its own environment (.venv) when there is none.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
RUN := $(BIN)/python -m svp_lightning

.DEFAULT_GOAL := help
.PHONY: help install demo test lint format bench notebooks docs wheel clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing (a few minutes the first time) …"
	@$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

install: $(STAMP)  ## Make the environment in .venv

demo: $(STAMP)  ## The whole pipeline on simulated data, with and without synthetic images (CPU, minutes)
	$(RUN) --multirun +experiment=demo
	$(RUN) +experiment=demo task=report

test: lint  ## Lint, types and all tests
	$(BIN)/pytest -n 2 --dist worksteal

lint: $(STAMP)  ## Style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)  ## Apply the style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP)  ## Speed of simulator, store, classifier and sampler, and both recipes side by side (half an hour)
	$(BIN)/python experiments/speed/run.py

notebooks: $(STAMP)  ## Execute the notebooks and keep their pictures (CPU, a quarter of an hour)
	$(BIN)/python notebooks/execute.py

docs: $(STAMP)  ## Build the documentation into build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

wheel: $(STAMP)  ## Build the wheel into dist/
	$(BIN)/python -m build --wheel

clean:  ## Remove caches and builds (keeps .venv, artifacts and outputs)
	rm -rf dist build .ruff_cache .mypy_cache .pytest_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
