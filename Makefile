# Everything that a fresh machine needs: Python 3.11 to 3.13, git and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -c constraints.txt

.PHONY: quickstart test soak clean

quickstart: $(VENV)/.run
	$(BIN)/paredown run recipes/quickstart.yaml

test: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

soak: $(VENV)/.test
	$(BIN)/python -m pytest tests/soak --soak -s

$(VENV)/.base: constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) "$$(grep '^torch==' constraints.txt)"
	touch $@

$(VENV)/.run: $(VENV)/.base pyproject.toml
	$(PIP) -e ".[train,report,prune,vision,text,search]"
	touch $@

$(VENV)/.test: $(VENV)/.base pyproject.toml
	$(PIP) -e ".[train,report,prune,vision,text,search,llm,hub,ray,dev]"
	touch $@

clean:
	rm -rf $(VENV) .paredown
