# Every target sets up what it needs: a virtual environment with the package built from this tree.
# Needs Python 3.11 or newer with pip, a C compiler and cargo; a second run installs nothing again.
#
#   make demo       the three objects on the shipped model, with a table of what they gained
#   make test       every suite: Rust, Python
#   make test-long  the long statistical and fuzz runs, of which make test has a smaller share
#   make lint       formatters, clippy, ruff, mypy, the stub against the extension
#   make bench      measurements as JSON
#   make clean      remove the environment and everything built

PYTHON ?= python3
VENV ?= .venv
CARGO ?= cargo
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

# One interpreter for every build, so that cargo does not rebuild pyo3 between commands.
export PYO3_PYTHON := $(abspath $(BIN)/python)

# Property tests repeat the same cases, so that a red test stays red; any other number searches.
export PROPTEST_RNG_SEED ?= 1

# The package is installed as a user would, not in place: when a source changes, it is installed
# again, and cargo rebuilds what changed.
SOURCES := pyproject.toml Cargo.toml Cargo.lock README.md rust-toolchain.toml \
    $(shell find rust cuda -name target -prune -o -type f \( -name '*.rs' -o -name '*.toml' \
        -o -name '*.ptx' \) -print) \
    $(shell find python -name __pycache__ -prune -o -type f ! -name '*.so' -print)
DEMO := $(VENV)/.installed-demo
TEST := $(VENV)/.installed-test
# The test extras include the demo's.
ANY := $(if $(wildcard $(TEST)),$(TEST),$(DEMO))

# The CUDA sources also run on a simulated device, which is the one thing here that is C++.
HAS_CXX := $(shell command -v $${CXX:-c++} 2>/dev/null)
CRATES := --workspace $(if $(HAS_CXX),,--exclude trivium-cuda --exclude trivium-cuda-shim)
NEXTEST := $(shell $(CARGO) nextest --version >/dev/null 2>&1 && echo yes)

.PHONY: demo test test-rust test-python test-long lint bench clean

demo: $(ANY)
	$(BIN)/trivium demo

test: test-rust test-python

test-rust: $(TEST)
	$(if $(HAS_CXX),,@echo "no C++ compiler: the tests of the CUDA kernels are left out")
ifeq ($(NEXTEST),yes)
	$(CARGO) nextest run --locked $(CRATES) --exclude trivium-py
	$(CARGO) test --locked $(CRATES) --exclude trivium-py --doc
else
	$(CARGO) test --locked $(CRATES) --exclude trivium-py
endif

test-python: $(TEST)
	$(BIN)/python -m pytest

test-long: $(TEST)
	$(CARGO) test --locked --profile thin $(CRATES) --exclude trivium-py -- --ignored
	$(BIN)/python -m pytest -m slow

lint: $(TEST)
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked $(CRATES) --all-targets -- -D warnings
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest trivium._core

bench: $(ANY)
	$(BIN)/trivium bench

clean:
	rm -rf $(VENV) target .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find python -name '*.so' -delete

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python"; exit 1; }
	@command -v $(CARGO) >/dev/null || { echo "cargo is needed: https://rustup.rs"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(DEMO): $(SOURCES) | $(BIN)/python
	$(PIP) install '.[demo]'
	@touch $@

$(TEST): $(SOURCES) | $(BIN)/python
	$(PIP) install '.[test]'
	@touch $@
