PYTHON ?= python3
PY := .venv/bin/python
# Named after the requirements file's checksum: a checkout or a touch reinstalls nothing, a change does.
STAMP := .venv/installed-$(firstword $(shell cksum < pyproject.toml))

.PHONY: setup demo test lint clean

setup: $(STAMP)

$(STAMP):
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --editable '.[dev]'
	rm -f .venv/installed-*
	touch $@

demo: setup
	$(PY) -m jobs.demo $(ARGS)

lint: setup
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

test: lint
	$(PY) -m pytest $(ARGS)

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache build *.egg-info
