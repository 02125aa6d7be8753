# Each target sets itself up: a virtual environment in .venv, made once and again when pyproject.toml changes.
PYTHON ?= python3
VENV ?= .venv
RUN ?= runs/demo
SEED ?= 0
# SEEDS of loop: seeds. Of reproduce and the tables and figures: how many, SEEDS=1 is seed 0 alone, or several seeds.
SEEDS ?=
STUDIES := table1 table2 table3 table4 table5 table6 table7 table8 fig5 fig6 fig7 fig8 fig9 fig10 learning_curve
SCALE ?= miniature
REPRODUCE = $(BIN)/uniemo reproduce --scale $(SCALE) $(if $(QUICK),--quick) $(if $(DATA),--data '$(DATA)') \
  $(if $(JOBS),--jobs $(JOBS)) \
  $(if $(word 2,$(SEEDS)),--seeds $(SEEDS),$(if $(SEEDS),--seeds $(shell seq 0 $$(($(SEEDS) - 1)))))
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: help setup demo test fuzz coverage check bench loop miniature clean reproduce $(STUDIES)

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

test: $(INSTALLED) ## Run the tests, on up to four cores at once
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

fuzz: $(INSTALLED) ## Random configuration values and damaged files of every kind, FUZZ_SECONDS each (60; twenty minutes)
	FUZZ_SECONDS=$(or $(FUZZ_SECONDS),60) $(BIN)/python -m pytest tests/fuzz --timeout 3600

coverage: $(INSTALLED) ## Run the tests in one process and tell which lines they leave out
	$(BIN)/python -m pytest --cov --cov-report=term:skip-covered

check: $(INSTALLED) ## Lint, types, direction of imports
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

bench: $(INSTALLED) ## Measure speed beside the released procedure and the bare arithmetic (half an hour on two idle cores)
	$(BIN)/python -m benchmarks.stage1 --json benchmarks/stage1.json
	$(BIN)/python -m benchmarks.stage2 --json benchmarks/stage2_miniature.json
	$(BIN)/python -m benchmarks.stage2 --shapes sd15 --json benchmarks/stage2_sd15.json
	$(BIN)/python -m benchmarks.generation --json benchmarks/generation.json
	$(BIN)/python -m benchmarks.start_command --json benchmarks/start_command.json
	$(BIN)/python -m benchmarks.decoding

reproduce: $(INSTALLED) ## All tables and figures of the paper (SEEDS=1 QUICK=1: a first look; SCALE=paper DATA=folder; JOBS)
	$(REPRODUCE) all

$(STUDIES): $(INSTALLED) # one of them: make table4, make fig6
	$(REPRODUCE) $@

loop: $(INSTALLED) ## Measure the whole loop on the miniature (SEEDS="0 1 2"; an hour for each seed)
	$(BIN)/python -m benchmarks.loop --seeds $(or $(SEEDS),0 1 2)

miniature: $(INSTALLED) ## Rebuild the miniature's weights from a seed (more than an hour on two idle cores; resumes)
	$(BIN)/python -m uniemo.miniature.recipe --difficulty 0 --stages clip vae unet \
	  --work build/miniature/plain --out build/miniature/plain/weights
	$(BIN)/python -m uniemo.miniature.recipe --start build/miniature/plain/weights --work build/miniature/hard \
	  --peak 0.4 --paintings 30000 --clip-steps 470 --vae-steps 750 --unet-steps 950

clean: ## Remove runs and caches of tools, not the virtual environment
	rm -rf runs build .pytest_cache .import_linter_cache .mypy_cache .ruff_cache .coverage
