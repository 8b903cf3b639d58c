# Llumdeck. `make up` sets everything up and runs it; `make help` lists the rest.

PYTHON          ?= python3.11
VENV            := .venv
FLAVOUR         ?= auto
# CPU builds of torch, used where pip's own places (index, extra indexes, wheel folders) have none.
TORCH_CPU_INDEX ?= https://download.pytorch.org/whl/cpu
# For `make lock`: a folder or page of links that holds the CPU build of torch.
WHEELS          ?= $(TORCH_CPU_INDEX)/torch/

# Options of `make up` and `make demo`; empty means the default (see `make help`).
ENGINES ?=
MODEL ?=
KV_MEMORY_MIB ?=
MAX_MODEL_LEN ?=
HOST ?=
CONSOLE_PORT ?=
GATEWAY_PORT ?=
STATE_DIR ?=
ARGS ?=
# REDIS_URL, DATABASE_URL and RAY_ADDRESS go on by themselves, from the environment or from make's arguments.

OPTIONS = $(if $(ENGINES),--engines $(ENGINES)) $(if $(MODEL),--model '$(MODEL)') $(if $(HOST),--host $(HOST)) \
          $(if $(KV_MEMORY_MIB),--kv-memory-mib $(KV_MEMORY_MIB)) $(if $(MAX_MODEL_LEN),--max-model-len $(MAX_MODEL_LEN)) \
          $(if $(CONSOLE_PORT),--console-port $(CONSOLE_PORT)) $(if $(GATEWAY_PORT),--gateway-port $(GATEWAY_PORT)) \
          $(ARGS)
RUN     = exec $(if $(STATE_DIR),env LLUMDECK_STATE_DIR='$(STATE_DIR)') $(VENV)/bin/python manage.py

.DEFAULT_GOAL := help
.PHONY: help python setup setup-dev up demo test test-all lint format types unit paced integration browser frontend faults soak bench-paper lock clean

help:
	@echo "make up      set up what is missing and run everything here: console, gateway, two engines"
	@echo "make demo    the same with a bursty workload running against it"
	@echo "make setup   the set-up alone (fast when there is nothing to do)"
	@echo "make test    lint, types, contracts, unit, integration and browser tests (PART=name for one of them, LANES=2 for two at a time)"
	@echo "make test-all  the same with the tests that take long"
	@echo "make lint, format, types, unit, paced, integration, browser, frontend   single parts"
	@echo "make faults SEEDS=3   every fault with so many seeds on real engines and many more on paced ones; writes faults.json"
	@echo "make soak MINUTES=10   random faults under load, every invariant checked; writes soak.json"
	@echo "make bench-paper   the Llumnix paper's figures, cell by cell, paper and ours; writes paper.json (ARGS=--quick)"
	@echo "make lock    make the locks under requirements/ again (UPGRADE=--upgrade takes newer versions)"
	@echo "make clean   delete what was built or installed here (.venv, frontend output); data in .llumdeck stays"
	@echo
	@echo "options of up and demo: ENGINES=2 MODEL=folder-or-hub-name CONSOLE_PORT=8800 GATEWAY_PORT=8801"
	@echo "  KV_MEMORY_MIB=64 MAX_MODEL_LEN=4096 HOST=127.0.0.1 STATE_DIR=.llumdeck REDIS_URL=... DATABASE_URL=... RAY_ADDRESS=... ARGS='--help'"

python:
	@command -v $(PYTHON) >/dev/null 2>&1 || { \
	  echo "$(PYTHON) was not found: apt-get install python3.11 python3.11-venv, or make PYTHON=/path/to/python3.11" >&2; exit 1; }

setup: python
	@$(PYTHON) requirements/install.py $(FLAVOUR) --torch-cpu-index '$(TORCH_CPU_INDEX)'
	@$(PYTHON) requirements/build_frontend.py

setup-dev: python
	@$(PYTHON) requirements/install.py dev --torch-cpu-index '$(TORCH_CPU_INDEX)'
	@$(PYTHON) requirements/build_frontend.py

up: setup
	@$(RUN) up $(OPTIONS)

demo: setup
	@$(RUN) demo $(OPTIONS)

TWO_LANES = $(if $(filter 2,$(LANES)),--two-lanes)

test: setup-dev
	@$(PYTHON) requirements/system_packages.py
	@exec $(VENV)/bin/python tests/run_parts.py $(TWO_LANES) $(PART)

test-all: setup-dev
	@$(PYTHON) requirements/system_packages.py
	@exec $(VENV)/bin/python tests/run_parts.py --all $(TWO_LANES) $(PART)

lint types unit paced integration browser frontend: setup-dev
	@exec $(VENV)/bin/python tests/run_parts.py $@

format: setup-dev
	@$(VENV)/bin/ruff format . && $(VENV)/bin/ruff check --fix .

# The long form of tests/faults; ARGS='-k case_04' for some of it.
faults: setup-dev
	@exec $(VENV)/bin/python -m tests.faults --seeds $(or $(SEEDS),3) --json faults.json $(ARGS)

# Random faults under load, all invariants checked; ARGS='--seed 2 --every 10'.
soak: setup-dev
	@exec $(VENV)/bin/python -m tests.faults.soak --minutes $(or $(MINUTES),10) --json soak.json $(ARGS)

bench-paper: setup-dev
	@exec $(VENV)/bin/python -m controlplane.simulator paper --figure all --json paper.json $(ARGS)

lock: setup
	@sh requirements/lock.sh $(VENV)/bin/uv '$(WHEELS)' $(UPGRADE)

clean:
	@rm -rf $(VENV) frontend/dist frontend/node_modules .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
