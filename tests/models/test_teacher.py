"""A teacher's files: read as they were written, or refused before anything of them is used."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from models.moment_adapter import AdapterConfig, MomentAdapter, load_teacher

CONFIG = AdapterConfig(depth=2, inner=8, heads=2)
DIM = 16


@pytest.fixture
def state() -> dict[str, Tensor]:
    """The adapter's weights, as in the file."""
    adapter = MomentAdapter(DIM, CONFIG).state_dict()
    return {f"adapter.{name}": tensor for name, tensor in adapter.items()}


def written(folder: Path, state: dict[str, Tensor], **sizes: Any) -> Path:
    adapter = dataclasses.asdict(CONFIG) | sizes
    (folder / "model.json").write_text(json.dumps({"dim": DIM, "adapter": adapter}))
    save_file(state | {"mask_token": torch.zeros(1)}, folder / "teacher.safetensors")
    return folder


def test_a_teacher_is_read_as_it_was_written(tmp_path: Path, state: dict[str, Tensor]) -> None:
    teacher = load_teacher(written(tmp_path, state))
    assert all(torch.equal(t, state[f"adapter.{n}"]) for n, t in teacher.adapter_state.items())
    assert all(torch.equal(t, state[f"adapter.{n}"]) for n, t in teacher.adapter.named_parameters())


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_teacher_that_is_no_numbers_is_refused(
    tmp_path: Path, state: dict[str, Tensor], value: float
) -> None:
    name = "adapter.blocks.1.mlp.fc2.bias"
    state[name] = torch.full_like(state[name], value)
    with pytest.raises(ValueError, match=rf"teacher.safetensors: \['{name}'\] hold infinite"):
        load_teacher(written(tmp_path, state))


@pytest.mark.parametrize(
    "sizes", [{"depth": 10**9}, {"depth": 1}, {"inner": 2 * 10**9}, {"mlp_ratio": 1e300}]
)
def test_sizes_that_are_not_the_weights_are_refused_unallocated(
    tmp_path: Path, state: dict[str, Tensor], sizes: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=r"does not fit its model\.json"):
        load_teacher(written(tmp_path, state, **sizes))
