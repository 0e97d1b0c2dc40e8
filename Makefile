# Every command sets up what it needs in $(VENV); nothing else on the machine is touched.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
# PyTorch without CUDA, for two of the peers
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

.PHONY: demo check test lint notebooks docs bench clean

demo: $(VENV)/.demo
	$(BIN)/python -m vijax --plot vijax-demo.png

# for daily work: the laws, the kernels against NumPy, the drivers' quick tests, the shape of the house
DAILY := architecture bad_input chunks exactness features fit fused many public_api stopping storage \
	streaming svi typing univariate

check: $(VENV)/.test
	JAX_ENABLE_X64=1 $(BIN)/python -m pytest -q -n auto --dist worksteal tests/laws \
		$(DAILY:%=tests/test_%.py)

test: $(VENV)/.test
	JAX_ENABLE_X64=1 $(BIN)/python -m pytest -q -n auto --dist worksteal
	JAX_ENABLE_X64=0 $(BIN)/python -m pytest -q -n auto --dist worksteal
	JAX_ENABLE_X64=0 XLA_FLAGS= $(BIN)/python -m pytest -q -n auto --dist worksteal

lint: $(VENV)/.lint $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

# NOTEBOOKS="00_first_fit.py 03_em.py" for some of them
notebooks: $(VENV)/.notebooks
	$(BIN)/python notebooks/execute.py --jobs 2 $(NOTEBOOKS)

# pages, notebooks as they are, and the reference; open build/docs/index.html
docs: $(VENV)/.docs
	$(BIN)/sphinx-build -W --keep-going --quiet -j 2 -c docs . build/docs

# ARGS="--only B" for a part of it; see benchmarks/README.md
bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks $(ARGS)

clean:
	rm -rf $(VENV) .cache .pytest_cache .ruff_cache .hypothesis build dist docs/reference

$(VENV)/.venv:
	@test -n "$(PYTHON)" || { echo "vijax needs Python 3.11 or newer: make PYTHON=/path/to/python"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade "pip>=25.1"
	@touch $@

$(VENV)/.demo: $(VENV)/.venv pyproject.toml
	$(PIP) --editable . "matplotlib>=3.9"
	@touch $@

# peers are optional; bnpy pins versions older than these, so it comes without its requirements
$(VENV)/.bench: $(VENV)/.venv pyproject.toml
	$(PIP) --editable . --group benchmarks --extra-index-url $(TORCH_INDEX)
	$(PIP) --no-deps --no-build-isolation bnpy==0.1.7 || echo "bnpy: could not be built, left out"
	@touch $@

$(VENV)/.test $(VENV)/.lint $(VENV)/.notebooks $(VENV)/.docs: $(VENV)/.%: $(VENV)/.venv pyproject.toml
	$(PIP) --editable . --group $*
	@touch $@
