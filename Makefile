PYTHON ?= python3
PY := .venv/bin/python
# Every version that `make setup`, CI and the nodes of ray_cluster.yaml install.
LOCK := requirements.lock
# The environment of vLLM's engines on the nodes of ray_cluster.yaml; the tests' has vLLM for CPUs.
ENGINE_LOCK := requirements-vllm.lock
VLLM_LOCK := tests/vllm/requirements.lock
# Named after its files' checksum: a checkout or a touch reinstalls nothing, a change does.
STAMP := .venv/installed-$(firstword $(shell cat pyproject.toml $(LOCK) | cksum))
VLLM_STAMP := .venv-vllm/installed-$(firstword $(shell cksum < $(VLLM_LOCK)))

# Two at a time, for most of them wait for processes to start. A file's tests stay together: they share
# what is costly to make. tests/conftest.py says which files come first.
PYTEST := $(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations=15 --durations-min=5

.PHONY: setup setup-vllm lock lowest demo demo-check docs lint \
	test test-unit test-ray test-vllm test-faults test-services test-gpu clean

setup: $(STAMP)

$(STAMP):
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --constraint $(LOCK) --editable '.[dev]'
	rm -f .venv/installed-*
	touch $@

# Of vLLM's lock: their wheels do not match its torch, and nothing here needs them.
LEFT_OUT := torchvision torchaudio torchcodec
# A new lock keeps the versions of the old one where the bounds allow it. ARGS=--upgrade takes the newest,
# ARGS='--upgrade-package NAME' the newest of one package.
COMPILE := .venv-lock/bin/uv pip compile --quiet --no-annotate --python-version 3.11 \
	--python-platform x86_64-unknown-linux-gnu
.venv-lock/bin/uv:
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet uv

lock: .venv-lock/bin/uv
	$(COMPILE) pyproject.toml --extra dev --extra gpu --output-file $(LOCK) \
		--custom-compile-command 'make lock' $(ARGS)
	grep '^ray==' $(LOCK) | $(COMPILE) - tests/vllm/requirements.txt --output-file $(VLLM_LOCK) \
		--custom-compile-command 'make lock' $(ARGS) \
		$(LEFT_OUT:%=--no-emit-package %)
	{ grep '^ray==' $(LOCK) | sed 's/==/[data]==/'; echo vllm; } | $(COMPILE) - \
		--output-file $(ENGINE_LOCK) --custom-compile-command 'make lock' $(ARGS)

# The oldest versions that pyproject.toml allows, and the tests that need no Ray, on them.
lowest: .venv-lock/bin/uv
	$(PYTHON) -m venv --clear .venv-lowest
	$(COMPILE) pyproject.toml --extra dev --resolution lowest-direct \
		--output-file .venv-lowest/requirements.txt $(ARGS)
	.venv-lowest/bin/python -m pip install --quiet --requirement .venv-lowest/requirements.txt
	.venv-lowest/bin/python -m pip install --quiet --no-deps --editable .
	for room in kernels models cluster actors; do \
		.venv-lowest/bin/python -m pytest -m 'not ray' tests/$$room || exit 1; \
	done

demo: setup
	$(PY) -m jobs.demo $(ARGS)

# The table of `make demo` against the trusted one.
demo-check: demo
	$(PY) -m tests.trusted_run check runs/demo

# The site, into build/site; a broken link is an error. NO_MKDOCS_2_WARNING: mkdocs-material's notice.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build

lint: setup
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

test: setup
	$(PYTEST) $(ARGS)

# Those that start no Ray, seconds each; and those that start one, or are long.
test-unit: setup
	$(PYTEST) -m 'not ray and not long' $(ARGS)

test-ray: setup
	$(PYTEST) -m 'ray or long' $(ARGS)

setup-vllm: $(VLLM_STAMP)

# vLLM's engines in an environment of their own, with the Ray of .venv.
$(VLLM_STAMP): $(STAMP)
	$(PY) -m venv .venv-vllm
	.venv-vllm/bin/python -m pip install --quiet --no-deps --requirement $(VLLM_LOCK)
	rm -f .venv-vllm/installed-*
	touch $@

test-vllm: setup-vllm
	$(PY) -m pytest tests/vllm $(ARGS)

# The autoscaler's simulated nodes bear no other Ray beside them.
test-faults: setup
	$(PYTEST) tests/faults --ignore tests/faults/test_autoscaling.py $(ARGS)
	$(PY) -m pytest tests/faults/test_autoscaling.py $(ARGS)

# On an object store, databases and three nodes of this machine's own; Debian has the databases as `postgresql`,
# `mariadb-server-core` and `mariadb-client-core`.
test-services: setup
	$(PY) -m pytest tests/services $(ARGS)

# On a machine with a GPU; elsewhere all of tests/gpu is skipped. Each file's words are in a log of its own, with
# what its tests print, so that a run that is cut off leaves the others' whole. Ray's jobs come last, for they take longest.
GPU_LOGS := build/gpu
GPU_TESTS := $(filter-out %/test_jobs.py,$(sort $(wildcard tests/gpu/test_*.py))) tests/kernels tests/gpu/test_jobs.py
test-gpu: setup
	mkdir -p $(GPU_LOGS)
	failed=; for tests in $(GPU_TESTS); do \
		log=$(GPU_LOGS)/$$(basename $$tests .py).log; \
		timeout 300 $(PY) -m pytest -rA --showlocals --durations=5 $$tests $(ARGS) > $$log 2>&1 || failed="$$failed $$log"; \
		echo "$$log: $$(tail -n 1 $$log)"; \
	done; test -z "$$failed" || { echo "failed:$$failed"; exit 1; }

clean:
	rm -rf .venv .venv-vllm .venv-lock .venv-lowest .mypy_cache .ruff_cache .pytest_cache build *.egg-info
