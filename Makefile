# Every target makes its own environment (.venv) when there is none.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
RUN := $(BIN)/python -m svp_lightning
COMPILE := $(BIN)/uv pip compile --quiet --no-header --no-annotate --generate-hashes \
	--python-version 3.11.5 --python-platform x86_64-manylinux_2_28 --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help install demo test coverage mutation style lint format bench notebooks docs lock audit wheel clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# LOCKED=1: every file is checked against its hash (Linux on x86_64, as CI)
$(STAMP): pyproject.toml constraints.txt requirements.lock
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing (a few minutes the first time) …"
ifdef LOCKED
	@$(BIN)/pip install --quiet --require-hashes --requirement requirements.lock
	@$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
else
	@$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
endif
	@touch $@

install: $(STAMP)  ## Make the environment in .venv

demo: $(STAMP)  ## The whole pipeline on simulated data, with and without synthetic images (CPU, minutes)
	$(RUN) --multirun +experiment=demo
	$(RUN) +experiment=demo task=report

test: style  ## Style and all tests; one of them checks the types
	$(BIN)/pytest -n 2 --dist worksteal

coverage: $(STAMP)  ## Branch coverage of all tests, other processes included (half an hour)
	@mkdir -p build/coverage
	$(BIN)/pytest -n 2 --dist worksteal --cov --cov-report=html:build/coverage/html --cov-report=term:skip-covered \
		--cov-report=json:build/coverage/report.json
	@$(BIN)/python .ci/branches.py build/coverage/report.json

mutation: $(STAMP)  ## Share of small mistakes in the code that tests notice, where numbers are made (an hour and a half)
	@$(BIN)/uv pip install --quiet --python $(BIN)/python mutmut==3.8.1
	for part in numbers study artifacts importers instruments; do $(BIN)/python .ci/mutants.py $$part || exit 1; done

style: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

lint: style  ## Style and types
	$(BIN)/mypy

format: $(STAMP)  ## Apply the style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP)  ## Speed of simulator, store, classifier and sampler, and both recipes side by side (half an hour)
	$(BIN)/python experiments/speed/every_benchmark.py

notebooks: $(STAMP)  ## Execute the notebooks and keep their pictures (CPU, a quarter of an hour)
	$(BIN)/python notebooks/execute.py

docs: $(STAMP)  ## Build the documentation into build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

lock: $(STAMP)  ## Write requirements.lock, with the hashes of what constraints.txt pins
	$(COMPILE) --extra dev pyproject.toml --output-file requirements.lock

audit: $(STAMP)  ## Name known vulnerabilities of the locked versions, where their data can be had
	@mkdir -p build
	@$(BIN)/uv tool run --quiet pip-audit@2.10.1 --disable-pip --require-hashes --format json \
		--requirement requirements.lock --progress-spinner off >build/audit.json 2>build/audit.log || true
	@$(BIN)/python .ci/audited.py build/audit.json

wheel: $(STAMP)  ## Build the wheel into dist/, with a list of what it needs (SBOM, CycloneDX)
	$(BIN)/python -m build --wheel
	$(COMPILE) pyproject.toml | $(BIN)/uv tool run --quiet --from cyclonedx-bom==7.5.0 cyclonedx-py \
		requirements --pyproject pyproject.toml --output-file dist/svp_lightning.cdx.json -

clean:  ## Remove caches and builds (keeps .venv, artifacts and outputs)
	rm -rf dist build mutants .ruff_cache .mypy_cache .pytest_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
