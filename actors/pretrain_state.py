"""What a pretraining run is made of, its checkpoints, and the teacher that comes out of it."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch.distributed.checkpoint as dcp
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_state_dict,
    set_state_dict,
)
from torch.optim import Optimizer

from models.clip import Clip
from models.moment_dino import MomentDino

METRICS = "metrics.jsonl"
TEACHER = "teacher.safetensors"
MODEL = "model.json"

Figures = dict[str, float]
"""One row of metrics.jsonl."""


class TrainState:
    """All that a restart needs; DCP calls both methods and reshards for a new worker count."""

    def __init__(self, model: MomentDino, optimizer: Optimizer) -> None:
        self.model, self.optimizer = model, optimizer
        self.step = 0
        """Steps done."""
        self.skipped = 0
        """Steps among them that changed nothing, because their loss or gradient was not finite."""
        self.skipped_in_a_row = 0

    def state_dict(self) -> dict[str, Any]:
        model, optimizer = get_state_dict(self.model, self.optimizer)
        counts = {name: getattr(self, name) for name in ("step", "skipped", "skipped_in_a_row")}
        return {"model": model, "optimizer": optimizer, **counts}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        tensors = {"model_state_dict": saved["model"], "optim_state_dict": saved["optimizer"]}
        set_state_dict(self.model, self.optimizer, **tensors)
        self.step, self.skipped = saved["step"], saved["skipped"]
        self.skipped_in_a_row = saved["skipped_in_a_row"]


def write_checkpoint(folder: Path, state: TrainState, metrics: list[Figures], rank: int) -> None:
    """Every worker writes its own shard; the first one also writes the metrics so far."""
    dcp.save({"state": state}, checkpoint_id=folder)
    if rank == 0:
        (folder / METRICS).write_text("".join(json.dumps(row) + "\n" for row in metrics))


def read_checkpoint(folder: Path, state: TrainState) -> list[Figures]:
    """Fills the state, on any number of workers; returns the metrics so far."""
    dcp.load({"state": state}, checkpoint_id=folder)
    return [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]


def write_teacher(folder: Path, state: TrainState, backbone: Clip, rank: int) -> None:
    """The teacher whole, as `models.moment_adapter.load_teacher` reads it. All workers call it."""
    whole = get_model_state_dict(
        state.model, options=StateDictOptions(full_state_dict=True, cpu_offload=True)
    )
    if rank != 0:
        return
    teacher = {
        name.removeprefix("teacher."): tensor.contiguous()
        for name, tensor in whole.items()
        if name.startswith("teacher.") and isinstance(tensor, Tensor)
    }
    save_file(teacher, folder / TEACHER)
    config = dataclasses.asdict(state.model.config)
    facts = {
        "backbone": backbone.backbone,
        "weights_hash": backbone.weights_hash,
        "dim": backbone.embed_dim,
        "steps": state.step,
        "skipped": state.skipped,
    }
    (folder / MODEL).write_text(json.dumps(facts | config, indent=1))
