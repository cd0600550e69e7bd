# One verb a task; CI calls only these. `make help` lists them.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
EXTRAS := heif,train,serve,tracing,annotate,postgres,experiment,batch,dev
PIP := $(BIN)/python -m pip --disable-pip-version-check install -q -c constraints.txt
SOURCES := $(shell git ls-files 'src/*.py' 'src/*.c' pyproject.toml setup.py constraints.txt 2>/dev/null)

.DEFAULT_GOAL := help
.PHONY: help demo test lint format gate load train clean

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

$(VENV)/bin/python:
	@command -v $(PYTHON) >/dev/null 2>&1 && $(PYTHON) -m venv $(VENV) || python3 -m venv $(VENV)

$(VENV)/.base: $(VENV)/bin/python pyproject.toml setup.py constraints.txt
	$(PIP) -e .
	@touch $@

$(VENV)/.all: $(VENV)/bin/python pyproject.toml setup.py constraints.txt
	$(PIP) -e '.[$(EXTRAS)]'
	@touch $@ $(VENV)/.base

demo: $(VENV)/.base  ## hide the plates on sample pictures rendered here
	$(BIN)/python -m platehide.demo demo-out

test: $(VENV)/.all  ## set up and run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q

lint: $(VENV)/.all  ## ruff, mypy --strict, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.all  ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix -q .

gate: $(VENV)/.all  ## judge the committed weights against the previous ones and the floors
	OMP_NUM_THREADS=1 $(BIN)/python scripts/gate_weights.py $(GATE)

load: $(VENV)/.all  ## load test of the service (docs/service.md)
	$(BIN)/python scripts/load_test.py

train: $(VENV)/.all  ## every stage of the released weights, from data to weights (hours on a CPU)
	scripts/train_release

clean:  ## remove the environment and everything made
	rm -rf $(VENV) demo-out build dist src/*.egg-info
