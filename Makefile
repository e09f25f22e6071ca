PYTHON ?= python3
PY := .venv/bin/python
# Named after the requirements file's checksum: a checkout or a touch reinstalls nothing, a change does.
STAMP := .venv/installed-$(firstword $(shell cksum < pyproject.toml))
VLLM_STAMP := .venv-vllm/installed-$(firstword $(shell cksum < tests/vllm/requirements.txt))

.PHONY: setup demo test test-vllm test-faults test-gpu lint clean

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

# vLLM's engines in an environment of their own, with the Ray of .venv. torchvision and its kin, which
# pip brings along, do not match its torch.
$(VLLM_STAMP): $(STAMP)
	$(PY) -m venv .venv-vllm
	.venv-vllm/bin/python -m pip install --quiet --requirement tests/vllm/requirements.txt \
		"ray[data]==$$($(PY) -c 'from importlib.metadata import version; print(version("ray"))')"
	.venv-vllm/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	rm -f .venv-vllm/installed-*
	touch $@

test-vllm: $(VLLM_STAMP)
	$(PY) -m pytest tests/vllm $(ARGS)

test-faults: setup
	$(PY) -m pytest tests/faults $(ARGS)

# On a machine with a GPU; elsewhere all of tests/gpu is skipped.
test-gpu: setup
	$(PY) -m pytest tests/gpu tests/kernels $(ARGS)

clean:
	rm -rf .venv .venv-vllm .mypy_cache .ruff_cache .pytest_cache build *.egg-info
