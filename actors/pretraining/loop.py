"""Moment-DINO pretraining: one worker's loop."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from actors.pictures.base_set import BaseSet
from actors.pretraining.config import PretrainerConfig
from actors.pretraining.shares import Worker, draw_share
from actors.pretraining.state import Metrics, TrainState
from models.clip import Clip
from models.moment_dino import MomentDino, Step
from models.precision import autocast
from models.schedules import cosine, linear


class DivergedError(RuntimeError):
    """Too many steps in a row whose loss or gradient was not finite."""


@dataclass(frozen=True, kw_only=True)
class Calls:
    """What the loop asks of its surroundings. Every worker calls each of them at the same steps."""

    start: Callable[[TrainState], list[Metrics]]
    """Puts the state where an earlier run left it; returns the metrics up to there."""
    save: Callable[[TrainState, list[Metrics]], None]
    save_every: int
    """Steps between saves; the last step is saved, too."""
    tell: Callable[[TrainState, Metrics], None] = lambda state, row: None
    """Called at the start (with no metrics) and at every row of metrics."""
    probe: Callable[[TrainState], Metrics] = lambda state: {}
    """Further metrics of the row, such as accuracies on labelled images."""
    probe_every: int = 0
    """Steps between probes; the last step is probed, too. 0 for no probes."""


def pretrain(
    cfg: PretrainerConfig, backbone: Clip, data: BaseSet, worker: Worker, calls: Calls
) -> TrainState:
    """Trains to the end of the last epoch, from wherever `calls.start` puts the state.

    Raises DivergedError, with the last checkpoint as it was.
    """
    per_epoch = len(data) // cfg.batch_size
    state = new_state(cfg, backbone, worker)
    metrics, steps = calls.start(state), cfg.epochs * per_epoch
    clock = Clock(state.step)
    calls.tell(state, {})
    while state.step < steps:
        now = schedule(cfg, state.step, per_epoch)
        share = draw_share(cfg, data, backbone, worker, state.step)
        with autocast(worker.device, cfg.precision):
            step = state.model(
                backbone, share.crops, share.masks, now.temperature, share.drop_path, share.local
            )
        state.scaler.scale(step.loss * share.weight).backward()
        state.scaler.unscale_(state.optimizer)
        losses = mean_over_workers(step, share.weight)
        if all(map(math.isfinite, [*losses.values(), *clip_gradients(cfg, state.model)])):
            set_schedule(state.optimizer, now)
            state.optimizer.step()
            state.model.move_teacher(step, now.momentum)
            state.skipped_in_a_row = 0
        else:
            state.skipped += 1
            state.skipped_in_a_row += 1
        state.scaler.update()
        state.optimizer.zero_grad()
        state.step += 1
        if state.skipped_in_a_row > cfg.max_skipped:
            raise DivergedError(f"{state.skipped_in_a_row} steps not finite, up to {state.step}")

        def due(every: int) -> bool:
            return every > 0 and (state.step % every == 0 or state.step == steps)

        if due(cfg.log_every) or due(calls.probe_every):
            speed = clock.per_second(state.step) * 2 * cfg.batch_size
            probed = calls.probe(state) if due(calls.probe_every) else {}
            metrics.append(metrics_row(state, per_epoch, losses | probed, now, speed))
            calls.tell(state, metrics[-1])
        if due(calls.save_every):
            calls.save(state, metrics)
    return state


@dataclass(frozen=True)
class Schedule:
    """Settings of one step that change over the run."""

    lr: float
    prototypes_lr: float
    weight_decay: float
    momentum: float
    temperature: float


def schedule(cfg: PretrainerConfig, step: int, per_epoch: int) -> Schedule:
    """The settings of a step, a function of the step alone; per_epoch: steps in an epoch."""
    steps = cfg.epochs * per_epoch
    lr = cosine(cfg.lr, cfg.lr_end, step, steps)
    return Schedule(
        lr=lr,
        prototypes_lr=0.0 if step < cfg.frozen_epochs * per_epoch else lr,
        weight_decay=cosine(cfg.weight_decay, cfg.weight_decay_end, step, steps),
        momentum=cosine(cfg.teacher_momentum, 1.0, step, steps),
        temperature=linear(
            cfg.teacher_temperature,
            cfg.teacher_temperature_end,
            step,
            round(cfg.teacher_temperature_epochs * per_epoch),
        ),
    )


def new_state(cfg: PretrainerConfig, backbone: Clip, worker: Worker) -> TrainState:
    """The model as drawn by the seed, equal on all workers, then sharded over them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(cfg.seed)
        model = MomentDino(backbone, cfg.model)
    model.to(worker.device)
    backbone.recompute = model.student.adapter.recompute = cfg.recompute
    if cfg.compile:
        backbone.compile_blocks()
        for block in [*model.student.adapter.blocks, *model.teacher.adapter.blocks]:
            block.compile()
    if dist.is_initialized():
        mesh = init_device_mesh(worker.device.type, (worker.count,))
        fully_shard(model.student, mesh=mesh)
        # No backward pass shards the teacher again, and its average is taken over shards.
        fully_shard(model.teacher, mesh=mesh, reshard_after_forward=True)
    weights_by_name = dict(model.student.named_parameters())
    prototypes = [weight for name, weight in weights_by_name.items() if ".last_layer." in name]
    others = [weight for name, weight in weights_by_name.items() if ".last_layer." not in name]
    groups = [{"params": others}, {"params": prototypes}]
    optimizer = torch.optim.AdamW(groups, lr=cfg.lr, betas=cfg.betas)
    # The cube root in the moments has steep gradients: from torch's own 2^16 on, most of the first
    # steps would be skipped.
    scaler = torch.amp.GradScaler(
        worker.device.type, init_scale=2.0**10, enabled=cfg.precision == "fp16"
    )
    return TrainState(model, optimizer, scaler)


def set_schedule(optimizer: torch.optim.Optimizer, now: Schedule) -> None:
    for group, lr in zip(optimizer.param_groups, (now.lr, now.prototypes_lr), strict=True):
        group["lr"], group["weight_decay"] = lr, now.weight_decay


def mean_over_workers(step: Step, weight: float) -> Metrics:
    """The losses of the whole batch, so that all workers agree whether the step counts."""
    losses = torch.stack([step.loss, step.dino, step.ibot, step.koleo]).detach().float() * weight
    if dist.is_initialized():
        dist.all_reduce(losses)
        losses /= dist.get_world_size()
    return dict(zip(("loss", "dino", "ibot", "koleo"), losses.tolist(), strict=True))


def clip_gradients(cfg: PretrainerConfig, model: MomentDino) -> list[float]:
    """Clips each component of the student on its own; returns their norms before."""
    norms = [
        torch.nn.utils.clip_grad_norm_(weights, cfg.clip)
        for weights in model.student.components().values()
    ]
    return [float(n.full_tensor() if hasattr(n, "full_tensor") else n) for n in norms]


class Clock:
    """Steps per second since it was last asked."""

    def __init__(self, step: int) -> None:
        self.step, self.seconds = step, time.perf_counter()

    def per_second(self, step: int) -> float:
        steps, seconds = step - self.step, time.perf_counter() - self.seconds
        self.step, self.seconds = step, time.perf_counter()
        return steps / seconds


def metrics_row(
    state: TrainState, per_epoch: int, losses: Metrics, now: Schedule, images_per_s: float
) -> Metrics:
    """One row of metrics; images are crops."""
    row = {"step": state.step, "epoch": state.step / per_epoch, **losses}
    return row | {
        "lr": now.lr,
        "momentum": now.momentum,
        "teacher_temperature": now.temperature,
        "skipped": state.skipped,
        "workers": dist.get_world_size() if dist.is_initialized() else 1,
        "images_per_s": images_per_s,
    }
