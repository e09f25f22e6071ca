"""Released files with something wrong in them: read all the same, or refused in one line."""

import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from models.clip import Clip
from models.released.fine_tuned import FineTunedConfig, read_fine_tuned
from models.released.lora import read_visual_model
from models.released.teacher import read_teacher
from tests.models.methods.tasks import NAMES, tiny_clip
from tests.models.released.test_released import (
    ALPHA,
    HEADS,
    TEACHER,
    clip,
    fine_tuned,
    lora_files,
)

__all__ = ["clip"]  # a fixture
MUTATIONS = 60
"""Of each file."""
VALUES: list[Callable[[Tensor], Any]] = [
    lambda t: torch.zeros(()),
    lambda t: torch.zeros(0),
    lambda t: torch.zeros(3, 0),
    lambda t: torch.zeros(0, 3),
    lambda t: t.flatten(),
    lambda t: t[None],
    lambda t: t.mT if t.ndim > 1 else t[:1],
    lambda t: t.half(),
    lambda t: t.to(torch.int64),
    lambda t: t > 0,
    lambda t: t * 1e30,
    lambda t: torch.full_like(t, math.nan),
    lambda t: torch.zeros(1).expand(10**9),
    lambda t: torch.zeros(t.shape, device="meta"),
    lambda t: t.to_sparse(),
    lambda t: None,
    lambda t: 7,
    lambda t: {"a": t},
]


def mutated(state: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """One tensor replaced, left out, renamed, or one added."""
    state, name = dict(state), rng.choice(sorted(state))
    edit = rng.choice(["replace"] * 4 + ["remove", "rename", "add"])
    if edit == "replace":
        state[name] = rng.choice(VALUES)(state[name])
    elif edit == "add":
        state[rng.choice(["", "a", f"{name}.x", "adapter.blocks.9.x", "adapter.blocks."])] = (
            rng.choice(VALUES)(state[name])
        )
    else:
        tensor = state.pop(name)
        if edit == "rename":
            state[rng.choice([name[:-1], f"module.{name}", name.replace(".0.", ".10000.")])] = (
                tensor
            )
    return state


def read_or_refused(read: Callable[[], Any]) -> str:
    """ "read", or the one line of the refusal; anything else is raised."""
    outcome = "read"
    try:
        read()
    except ValueError as error:
        outcome = str(error)
    assert "\n" not in outcome
    return outcome


def test_a_teacher_with_a_fault_is_read_or_refused_in_one_line(tmp_path: Path, clip: Clip) -> None:
    rng, path = random.Random("teachers"), tmp_path / "t.pth"
    teacher = torch.load(TEACHER, weights_only=True)["teacher"]
    outcomes = []
    for _ in range(MUTATIONS):
        torch.save({"teacher": mutated(teacher, rng)}, path)
        outcomes.append(read_or_refused(lambda: read_teacher(path, clip, HEADS)))
    assert len(set(outcomes)) > MUTATIONS / 3


@pytest.mark.parametrize("role", ["adapter", "visual_head", "text_head"])
def test_a_model_with_a_fault_is_read_or_refused_in_one_line(tmp_path: Path, role: str) -> None:
    rng, clip = random.Random(role), tiny_clip()
    settings = fine_tuned(tmp_path, NAMES, clip.embed_dim)
    content = torch.load(settings[role], weights_only=True)
    cfg = FineTunedConfig(**settings, log_temperature=4.5)
    outcomes = []
    for _ in range(MUTATIONS):
        torch.save(mutated(content.get("model", content), rng), settings[role])
        outcomes.append(read_or_refused(lambda: read_fine_tuned(cfg, clip, heads=2)))
    assert len(set(outcomes)) > 5


def test_a_lora_tower_with_a_fault_is_read_or_refused_in_one_line(
    tmp_path: Path, clip: Clip
) -> None:
    rng, (merged, _, _) = random.Random("towers"), lora_files(clip, tmp_path)
    content = torch.load(merged, weights_only=True)
    outcomes = []
    for _ in range(MUTATIONS):
        torch.save(mutated(content, rng), merged)
        outcomes.append(read_or_refused(lambda: read_visual_model(merged, clip, ALPHA)))
    assert len(set(outcomes)) > MUTATIONS / 3
