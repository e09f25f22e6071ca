"""Moment-DINO pretraining: one worker's loop, and the same loop as Ray Train runs it."""

import functools
import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import ray
import ray.train.torch
import torch
import torch.distributed as dist
from jsonargparse.typing import (
    ClosedUnitInterval,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from actors.base_set import BaseSet, decode, open_base_set, open_base_set_rows
from actors.pretrain_state import (
    Figures,
    TrainState,
    read_checkpoint,
    write_checkpoint,
    write_teacher,
)
from models.block_masks import draw_masks
from models.clip import Clip, load_clip
from models.moment_adapter import draw_kept
from models.moment_dino import MomentDino, MomentDinoConfig, Step
from models.precision import Precision, autocast
from models.schedules import cosine, linear
from models.views import NUMBERS, ViewConfig, make_views


@dataclass(frozen=True, kw_only=True)
class PretrainerConfig:
    """What is trained and how; the defaults are the recipe released for ViT-B/16."""

    model: MomentDinoConfig = field(default_factory=MomentDinoConfig)
    views: ViewConfig = field(default_factory=ViewConfig)
    epochs: PositiveInt = 100
    """Passes over the captions of the base set; all schedules follow from its size."""
    batch_size: PositiveInt = 200
    """Captions per step over all workers, each in two views; a multiple of the workers."""
    lr: PositiveFloat = 1.953125e-5
    """AdamW's step size at the start (1e-4 for 1,024 captions, linear in the batch size)."""
    lr_end: PositiveFloat = 5e-6
    """At the end, by a cosine."""
    betas: tuple[ClosedUnitInterval, ClosedUnitInterval] = (0.9, 0.999)
    weight_decay: NonNegativeFloat = 0.04
    """At the start, on every trained weight."""
    weight_decay_end: NonNegativeFloat = 0.4
    """At the end, by a cosine."""
    clip: PositiveFloat = 3.0
    """Largest norm of the gradient, for each component of the student on its own."""
    teacher_momentum: ClosedUnitInterval = 0.996
    """Share of the old teacher in the new one at the start; 1 at the end, by a cosine."""
    teacher_temperature: PositiveFloat = 0.04
    """At the start."""
    teacher_temperature_end: PositiveFloat = 0.07
    """Reached on a straight line, then kept."""
    teacher_temperature_epochs: NonNegativeFloat = 30.0
    """Epochs to get there."""
    frozen_epochs: NonNegativeFloat = 1.0
    """Epochs in which the heads' prototypes stand still."""
    masked_share: ClosedUnitInterval = 0.5
    """Part of the crops that the student sees masked."""
    mask_ratio: tuple[ClosedUnitInterval, ClosedUnitInterval] = (0.1, 0.5)
    """Smallest and largest part of a masked crop's patches that are hidden."""
    precision: Precision = "auto"
    """Arithmetic of matrix products; "auto" takes bfloat16 where the hardware has it."""
    log_every: PositiveInt = 10
    """Steps between rows of metrics."""
    max_skipped: PositiveInt = 10
    """Steps in a row whose loss or gradient may be infinite or NaN before the run ends."""
    seed: NonNegativeInt = 0


@dataclass(frozen=True)
class Worker:
    """Which of the workers this is, and where it computes."""

    rank: int
    count: int
    device: torch.device


class DivergedError(RuntimeError):
    """Too many steps in a row whose loss or gradient was not finite."""


@functools.lru_cache(maxsize=1)
def epoch_rows(seed: int, epoch: int, rows: int, batch_size: int) -> np.ndarray:
    """Row numbers of one epoch, (steps, batch_size): no row twice, the remainder dropped.

    Raises ValueError if there are fewer rows than one batch.
    """
    if rows < batch_size:
        raise ValueError(f"batch_size: {batch_size}; allowed is at most {rows}, the captions")
    order = np.random.default_rng([seed, epoch]).permutation(rows)
    return order[: rows // batch_size * batch_size].reshape(-1, batch_size)


def pretrain(
    cfg: PretrainerConfig,
    backbone: Clip,
    data: BaseSet,
    worker: Worker,
    start: Callable[[TrainState], list[Figures]],
    save: Callable[[TrainState, list[Figures]], None],
    tell: Callable[[TrainState, Figures], None],
    save_every: int,
) -> TrainState:
    """Trains to the end of the last epoch, from wherever `start` puts the state.

    save: called every `save_every` steps and at the end; tell: at the start (with no figures) and
    at every row of metrics. Raises DivergedError, with the last checkpoint as it was.
    """
    per_epoch = len(data) // cfg.batch_size
    state = new_state(cfg, backbone, worker)
    metrics, steps = start(state), cfg.epochs * per_epoch
    clock = Clock(state.step)
    tell(state, {})
    while state.step < steps:
        now = schedule(cfg, state.step, per_epoch)
        crops, masks, kept = draw_batch(cfg, data, backbone, worker, state.step)
        with autocast(worker.device, cfg.precision):
            step = state.model(backbone, crops, masks, now.temperature, kept)
        step.loss.backward()
        losses = mean_over_workers(step)
        if all(map(math.isfinite, [*losses.values(), *clip_gradients(cfg, state.model)])):
            set_schedule(state.optimizer, now)
            state.optimizer.step()
            state.model.move_teacher(step, now.momentum)
            state.skipped_in_a_row = 0
        else:
            state.skipped += 1
            state.skipped_in_a_row += 1
        state.optimizer.zero_grad()
        state.step += 1
        if state.skipped_in_a_row > cfg.max_skipped:
            raise DivergedError(f"{state.skipped_in_a_row} steps not finite, up to {state.step}")
        if state.step % cfg.log_every == 0 or state.step == steps:
            speed = clock.per_second(state.step) * 2 * cfg.batch_size
            metrics.append(figures(state, per_epoch, losses, now, speed))
            tell(state, metrics[-1])
        if state.step % save_every == 0 or state.step == steps:
            save(state, metrics)
    return state


@dataclass(frozen=True)
class Schedule:
    """Settings of one step."""

    lr: float
    prototypes_lr: float
    weight_decay: float
    momentum: float
    temperature: float


def schedule(cfg: PretrainerConfig, step: int, per_epoch: int) -> Schedule:
    """A function of the step alone; per_epoch: steps in an epoch."""
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
    if dist.is_initialized():
        mesh = init_device_mesh(worker.device.type, (worker.count,))
        fully_shard(model.student, mesh=mesh)
        # No backward pass shards the teacher again, and its average is taken over shards.
        fully_shard(model.teacher, mesh=mesh, reshard_after_forward=True)
    named = dict(model.student.named_parameters())
    prototypes = [weight for name, weight in named.items() if ".last_layer." in name]
    others = [weight for name, weight in named.items() if ".last_layer." not in name]
    groups = [{"params": others}, {"params": prototypes}]
    return TrainState(model, torch.optim.AdamW(groups, lr=cfg.lr, betas=cfg.betas))


def set_schedule(optimizer: torch.optim.Optimizer, now: Schedule) -> None:
    for group, lr in zip(optimizer.param_groups, (now.lr, now.prototypes_lr), strict=True):
        group["lr"], group["weight_decay"] = lr, now.weight_decay


def draw_batch(
    cfg: PretrainerConfig, data: BaseSet, backbone: Clip, worker: Worker, step: int
) -> tuple[Tensor, Tensor, Tensor]:
    """This worker's share of a step: crops (2b, 3, R, R), masks (2b, N), drop path (depth, 2, 2b).

    Everything is drawn for the whole batch from (seed, step), or per caption from (seed, epoch),
    and then shared out, so a step is the same on any number of workers and after a crash.
    """
    epoch, place = divmod(step, len(data) // cfg.batch_size)
    mine = slice(worker.rank, None, worker.count)
    rows = epoch_rows(cfg.seed, epoch, len(data), cfg.batch_size)[place][mine]
    images, numbers = data.draw(rows, f"{cfg.seed}/{epoch}", NUMBERS)
    crops = torch.cat(
        [
            make_views(
                torch.from_numpy(images[view]).to(worker.device),
                torch.from_numpy(numbers[view]).to(worker.device),
                view,
                backbone.image_size,
                cfg.views,
            )
            for view in (0, 1)
        ]
    )
    rng = np.random.default_rng([cfg.seed, epoch, place + 1])
    masks = draw_masks(2 * cfg.batch_size, backbone.grid, cfg.masked_share, cfg.mask_ratio, rng)
    generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
    kept = draw_kept(2 * cfg.batch_size, cfg.model.adapter, generator)
    masks = torch.from_numpy(masks).unflatten(0, (2, -1))[:, mine].flatten(0, 1)
    kept = kept.unflatten(2, (2, -1))[..., mine].flatten(2)
    return backbone.normalise(crops), masks.to(worker.device), kept.to(worker.device)


def mean_over_workers(step: Step) -> Figures:
    """The losses, averaged over workers, so that all agree whether the step counts."""
    losses = torch.stack([step.loss, step.dino, step.ibot, step.koleo]).detach().float()
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


def figures(
    state: TrainState, per_epoch: int, losses: Figures, now: Schedule, images_per_s: float
) -> Figures:
    """One row of metrics; images are crops."""
    row = {"step": state.step, "epoch": state.step / per_epoch, **losses}
    return row | {
        "lr": now.lr,
        "momentum": now.momentum,
        "teacher_temperature": now.temperature,
        "skipped": state.skipped,
        "images_per_s": images_per_s,
    }


def pretrain_worker(config: dict[str, Any]) -> None:
    """The loop on a Ray Train worker; config: cfg, base_set, curation, backbone, save_every,
    board."""
    context = ray.train.get_context()
    worker = Worker(
        context.get_world_rank(), context.get_world_size(), ray.train.torch.get_device()
    )
    backbone = load_clip(config["backbone"]).to(worker.device)
    base_set = open_base_set_rows(config["base_set"], config["curation"])
    if context.get_local_rank() == 0:
        decode(base_set)
    if dist.is_initialized():
        dist.barrier()  # the others of this node wait for its pixels

    def start(state: TrainState) -> list[Figures]:
        checkpoint = ray.train.get_checkpoint()
        if checkpoint is None:
            return []
        with checkpoint.as_directory() as folder:
            return read_checkpoint(Path(folder), state)

    def save(state: TrainState, metrics: list[Figures]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            write_checkpoint(Path(folder), state, metrics, worker.rank)
            write_teacher(Path(folder), state, backbone, worker.rank)
            ray.train.report(metrics[-1], checkpoint=ray.train.Checkpoint.from_directory(folder))

    def tell(state: TrainState, row: Figures) -> None:
        if worker.rank == 0:
            images = 2 * config["cfg"].batch_size
            config["board"].put.remote(state.step * images, row)

    data = open_base_set(decode(base_set))
    pretrain(
        config["cfg"], backbone, data, worker, start, save, tell, save_every=config["save_every"]
    )
