"""Every tensor of one training step by name, so that two arithmetics or devices can be compared."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from actors.pictures.base_set import BaseSet
from actors.pretraining.config import PretrainerConfig
from actors.pretraining.loop import Calls, new_state, pretrain, schedule
from actors.pretraining.shares import Worker, draw_share
from actors.pretraining.state import Metrics, TrainState
from models.clip import Clip
from models.moment_dino import BranchOutput
from models.precision import autocast

MOMENTS = ("class token", "mean", "deviation", "skew")
BEFORE_SKEW = tuple(
    f"{branch} {part}"
    for branch in ("teacher", "student")
    for part in ("adapted tokens", *MOMENTS[:3])
)
"""What no cube root is in."""


def step_tensors(
    cfg: PretrainerConfig, backbone: Clip, data: BaseSet, device: str
) -> dict[str, Tensor]:
    """Tokens, adapted tokens, moments, logits, losses and gradients of the first step, float32, on
    the CPU, in the order in which they are computed."""
    tensors: dict[str, Tensor] = {}

    def note(name: str, tensor: Tensor) -> None:
        tensors[name] = tensor.detach().float().cpu()

    backbone, worker = copy.deepcopy(backbone).to(device), Worker(0, 1, torch.device(device))
    encode = backbone.encode_tokens

    def noted_tokens(
        images: Tensor, masks: Tensor | None = None, mask_token: Tensor | None = None
    ) -> Tensor:
        tokens = encode(images, masks, mask_token)
        note("clean tokens" if masks is None else "masked tokens", tokens)
        return tokens

    backbone.encode_tokens = noted_tokens  # type: ignore[method-assign]
    state = new_state(cfg, backbone, worker)
    for name, branch in (("teacher", state.model.teacher), ("student", state.model.student)):
        branch.adapter.register_forward_hook(
            lambda module, inputs, tokens, name=name: note(f"{name} adapted tokens", tokens)
        )
        branch.register_forward_hook(
            lambda module, inputs, outputs, name=name: _note_branch(note, name, outputs)
        )
    share, now = draw_share(cfg, data, backbone, worker, 0), schedule(cfg, 0, 1)
    with autocast(worker.device, cfg.precision):
        step = state.model(backbone, share.crops, share.masks, now.temperature, share.drop_path)
    for name in ("dino", "ibot", "loss"):
        note(f"loss {name}", getattr(step, name))
    step.loss.backward()
    for name, parameter in state.model.student.named_parameters():
        assert parameter.grad is not None, name
        note(f"gradient {name}", parameter.grad)
    return tensors


def losses_of_run(cfg: PretrainerConfig, backbone: Clip, data: BaseSet, device: str) -> list[float]:
    """The loss of every step of a whole run in this process."""
    losses: list[float] = []

    def tell(_: TrainState, row: Metrics) -> None:
        if row:
            losses.append(row["loss"])

    calls = Calls(start=lambda state: [], save=lambda state, rows: None, save_every=0, tell=tell)
    backbone, worker = copy.deepcopy(backbone).to(device), Worker(0, 1, torch.device(device))
    pretrain(replace(cfg, log_every=1), backbone, data, worker, calls)
    return losses


def _note_branch(note: Callable[[str, Tensor], None], name: str, outputs: BranchOutput) -> None:
    for part, moment in zip(MOMENTS, outputs.moments.chunk(4, dim=-1), strict=True):
        note(f"{name} {part}", moment)
    note(f"{name} dino logits", outputs.dino)
    note(f"{name} ibot logits", outputs.ibot)


def differences(tensors: Mapping[str, Tensor], exact: Mapping[str, Tensor]) -> dict[str, float]:
    """Norm of each tensor's difference over the tensor's norm."""
    assert tensors.keys() == exact.keys()
    return {
        name: float((tensors[name] - tensor).norm() / tensor.norm().clamp(min=1e-30))
        for name, tensor in exact.items()
    }


def table(columns: Mapping[str, Mapping[str, float]]) -> str:
    """A line per tensor, a column per way to compute it."""
    names = list(next(iter(columns.values())))
    width = max(map(len, names))
    head = " " * width + "".join(f"{column:>16}" for column in columns)
    lines = [
        f"{name:<{width}}" + "".join(f"{column[name]:>16.2e}" for column in columns.values())
        for name in names
    ]
    return "\n".join([head, *lines])
