# Each target sets itself up: a virtual environment in .venv, made once and again when pyproject.toml changes.
PYTHON ?= python3
VENV ?= .venv
RUN ?= runs/demo
SEED ?= 0
SEEDS ?= 0 1 2
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: help setup demo test check bench loop miniature clean

help: ## Show this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(INSTALLED) ## Make the virtual environment and install uniemo into it

$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "uniemo needs Python 3.10 or newer; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

demo: $(INSTALLED) ## Train the three stages on the miniature, generate, filter, retrain, and draw the results
	BIN=$(BIN) RUN=$(RUN) SEED=$(SEED) bash benchmarks/demo.sh

test: $(INSTALLED) ## Run the tests
	$(BIN)/python -m pytest --cov --cov-report=term:skip-covered

check: $(INSTALLED) ## Lint, formatting of imports, types
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(INSTALLED) ## Measure speed beside the released procedure and the bare arithmetic (half an hour on two idle cores)
	$(BIN)/python -m benchmarks.stage1 --json benchmarks/stage1.json
	$(BIN)/python -m benchmarks.stage2 --json benchmarks/stage2_miniature.json
	$(BIN)/python -m benchmarks.stage2 --shapes sd15 --json benchmarks/stage2_sd15.json
	$(BIN)/python -m benchmarks.generation --json benchmarks/generation.json
	$(BIN)/python -m benchmarks.start_command --json benchmarks/start_command.json
	$(BIN)/python -m benchmarks.memory --json benchmarks/memory.json
	$(BIN)/python -m benchmarks.decoding

loop: $(INSTALLED) ## Measure the whole loop on the miniature (SEEDS="0 1 2"; an hour for each seed)
	$(BIN)/python benchmarks/loop.py --seeds $(SEEDS)

miniature: $(INSTALLED) ## Rebuild the miniature's weights from a seed (hours on two cores; resumes)
	$(BIN)/python -m uniemo.miniature.recipe

clean: ## Remove runs and caches of tools, not the virtual environment
	rm -rf runs build .pytest_cache .mypy_cache .ruff_cache .coverage
