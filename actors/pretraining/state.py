"""What a pretraining run is made of, its checkpoints, and the teacher that comes out of it."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch.distributed.checkpoint as dcp
from safetensors.torch import save_file
from tensorboardX import SummaryWriter
from torch import Tensor
from torch.amp import GradScaler
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_state_dict,
    set_state_dict,
)
from torch.optim import Optimizer

from models.clip import Clip
from models.moment_dino import MomentDino, MomentDinoConfig

METRICS = "metrics.jsonl"
TENSORBOARD = "tensorboard"
TEACHER = "teacher.safetensors"
MODEL = "model.json"

Metrics = dict[str, float]
"""One row of metrics.jsonl."""


class TrainState:
    """All that a restart needs; DCP calls both methods and reshards for a new worker count."""

    def __init__(self, model: MomentDino, optimizer: Optimizer, scaler: GradScaler) -> None:
        self.model, self.optimizer, self.scaler = model, optimizer, scaler
        self.step = 0
        """Steps done."""
        self.skipped = 0
        """Steps that changed nothing, because their loss or gradient was not finite."""
        self.skipped_in_a_row = 0

    def state_dict(self) -> dict[str, Any]:
        model, optimizer = get_state_dict(self.model, self.optimizer)
        counts = {name: getattr(self, name) for name in ("step", "skipped", "skipped_in_a_row")}
        scaler = self.scaler.state_dict()  # empty but for float16
        return {"model": model, "optimizer": optimizer, "scaler": scaler, **counts}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        tensors = {"model_state_dict": saved["model"], "optim_state_dict": saved["optimizer"]}
        set_state_dict(self.model, self.optimizer, **tensors)
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(saved["scaler"])
        self.step, self.skipped = saved["step"], saved["skipped"]
        self.skipped_in_a_row = saved["skipped_in_a_row"]


def write_checkpoint(folder: Path, state: TrainState, metrics: list[Metrics], rank: int) -> None:
    """Writes this worker's shard; the first worker also writes the metrics so far.

    Those are rows and, beside them, for TensorBoard.
    """
    dcp.save({"state": state}, checkpoint_id=folder)
    if rank != 0:
        return
    (folder / METRICS).write_text("".join(json.dumps(row) + "\n" for row in metrics))
    with SummaryWriter(str(folder / TENSORBOARD)) as board:
        for row in metrics:
            for name, value in row.items():
                board.add_scalar(name, value, int(row["step"]))


def read_checkpoint(folder: Path, state: TrainState) -> list[Metrics]:
    """Fills the state, on any number of workers; returns the metrics so far."""
    dcp.load({"state": state}, checkpoint_id=folder)
    return read_metrics(folder)


def read_metrics(folder: Path) -> list[Metrics]:
    """The rows of a checkpoint's metrics."""
    return [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]


def whole_teacher(state: TrainState) -> dict[str, Tensor]:
    """The teacher's weights by their names in `Branch`, on the CPU of the first worker.

    The other workers get nothing, but all workers call it.
    """
    whole = get_model_state_dict(
        state.model, options=StateDictOptions(full_state_dict=True, cpu_offload=True)
    )
    return {
        name.removeprefix("teacher."): tensor.contiguous()
        for name, tensor in whole.items()
        if name.startswith("teacher.") and isinstance(tensor, Tensor)
    }


def write_teacher(folder: Path, state: TrainState, backbone: Clip, rank: int) -> None:
    """The teacher whole, as `models.moment_adapter.load_teacher` reads it. All workers call it."""
    teacher = whole_teacher(state)
    if rank != 0:
        return
    save_file(teacher, folder / TEACHER)
    counts = {"steps": state.step, "skipped": state.skipped}
    facts = teacher_facts(backbone, state.model.config) | counts
    (folder / MODEL).write_text(json.dumps(facts, indent=1))


def teacher_facts(backbone: Clip, config: MomentDinoConfig) -> dict[str, Any]:
    """What model.json says of a teacher, besides the counts of its training."""
    facts = {
        "backbone": backbone.backbone,
        "weights_hash": backbone.weights_hash,
        "dim": backbone.embed_dim,
    }
    return facts | dataclasses.asdict(config)


def finished_steps(folder: Path) -> int:
    """Steps of the training that a checkpoint's teacher has had."""
    return json.loads((folder / MODEL).read_text())["steps"]


def teacher_files(folder: Path) -> list[Path]:
    """What of a last checkpoint becomes the "teacher" artifact, in the same places."""
    return [
        *(folder / name for name in (TEACHER, MODEL, METRICS)),
        *(folder / TENSORBOARD).iterdir(),
    ]
