# `make demo` and `make test` set up what they need in .venv; nothing else is required but Python 3.11 or newer.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lint gpu wheelhouse clean
# Python compiles and keeps the files that are imported, which takes seconds; pip would compile all that there are, for minutes.
unexport PYTHONDONTWRITEBYTECODE

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(VENV)/.installed
	$(BIN)/seal-bench run $(if $(wildcard runs/demo/benchmark.json),--resume runs/demo,--config demo --out runs/demo)

# A process for each core, a file of tests at a time, and one thread each: processes with several threads slow each other down.
test: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder

# On a GPU: everything proven and measured in ten minutes (docs/gpu.md). Where there is no .venv but a wheelhouse/, as on a machine
# without network, what $(PYTHON) lacks comes from there and the rest, torch above all, is what it has.
GPU_OUT ?= runs/gpu
OFFLINE := $(and $(wildcard wheelhouse/*.whl),$(if $(wildcard $(VENV)/.installed),,yes))
gpu: $(if $(OFFLINE),,$(VENV)/.installed)
	$(if $(OFFLINE),$(PYTHON) -m benchmarks.wheelhouse install)
	$(if $(OFFLINE),PYTHONPATH=wheelhouse/site $(PYTHON),$(BIN)/python) -m benchmarks.gpu --out $(GPU_OUT) $(GPU_ARGS)

# The wheels that a GPU machine without network lacks; WHEELHOUSE_ARGS says what it has (see --help).
wheelhouse: $(VENV)/.installed
	$(BIN)/python -m benchmarks.wheelhouse gather $(WHEELHOUSE_ARGS)

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) wheelhouse build *.egg-info
