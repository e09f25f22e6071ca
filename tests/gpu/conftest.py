"""What only a GPU can show: `make test-gpu` on a machine that has one."""

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def gpu() -> None:
    """Skips every test of this folder where there is none, before anything is set up for it."""
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
