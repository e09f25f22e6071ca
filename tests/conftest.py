"""Every test runs alone: no live Ray cluster is joined, no GPU is needed.

A test that starts a Ray has the marker `ray`: by itself where it asks for `local_ray`, by hand
where a program that it starts does. Any other cannot start one.
"""

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

NO_RAY = "/dev/null/a-test-that-starts-ray-has-the-marker-ray"
"""A folder for temporary files that Ray cannot make: its start fails at once, and quotes it."""


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "local_ray" in getattr(item, "fixturenames", ()):
            item.add_marker("ray")
    slow = {i.path for i in items if i.get_closest_marker("ray") or i.get_closest_marker("long")}
    # Files of seconds come last, and fill what the others leave; last of all, where the alphabet
    # begins, those of the rooms of actors/, which are short.
    items.sort(key=lambda item: str(item.path), reverse=True)
    items.sort(key=lambda item: item.path not in slow)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Around the test and all fixtures that are made for it; the programs that it starts inherit
    the environment."""
    with pytest.MonkeyPatch.context() as patch:
        if not item.get_closest_marker("ray"):
            patch.setenv("RAY_TMPDIR", NO_RAY)
        return (yield)


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """One local Ray for all tests that ask for it."""
    with connect():
        yield
