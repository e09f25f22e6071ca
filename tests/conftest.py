"""Every test runs alone: no live Ray cluster is joined, no GPU is needed."""

import os

# Before torch, triton and Ray are imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("RAY_ADDRESS", None)

from collections.abc import Iterator

import pytest
import torch

from cluster.connect import connect

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """One local Ray for all tests that ask for it."""
    with connect():
        yield
