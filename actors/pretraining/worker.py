"""The pretraining loop as Ray Train runs it."""

import contextlib
import tempfile
from pathlib import Path
from typing import Any

import ray
import ray.train.torch

from actors.pictures.base_set import open_base_set, open_base_set_rows
from actors.pretraining.loop import Calls, DivergedError, pretrain
from actors.pretraining.probe import Probe
from actors.pretraining.shares import Worker
from actors.pretraining.state import (
    Metrics,
    TrainState,
    read_checkpoint,
    whole_teacher,
    write_checkpoint,
    write_teacher,
)
from cluster.errors import ConfigError, refusal
from cluster.worker_versions import require_driver_versions
from models.backbones import load_clip
from models.clip import Clip

THREADS_PER_CPU = 2
"""That read and decode images: about one of two waits for the disk or the network."""


def pretrain_worker(config: dict[str, Any]) -> None:
    """The pretraining loop on a Ray Train worker.

    config: cfg, base_set, curation, kept_bytes, backbone, pool, save_every, probe, board. Ray Train
    answers an error by starting all workers again. So what a user can mend is left on the board,
    and the workers that are started then end at once, without an error.
    """
    if ray.get(config["board"].refusal.remote()):
        return
    try:
        _pretrain(config)
    except Exception as error:
        if refused := refusal(error):
            ray.get(config["board"].refuse.remote(str(refused)))
        raise


def _pretrain(config: dict[str, Any]) -> None:
    """A run that diverges ends without an error; its last checkpoint has fewer steps than it
    should."""
    config["pool"].use_share()
    require_driver_versions()
    context = ray.train.get_context()
    worker = Worker(
        context.get_world_rank(), context.get_world_size(), ray.train.torch.get_device()
    )
    cfg, probing = config["cfg"], config["probe"]
    backbone = _loaded(config["backbone"]).to(worker.device)
    rows = open_base_set_rows(config["base_set"], config["curation"])
    base_set = open_base_set(
        rows,
        threads=THREADS_PER_CPU * config["pool"].threads,
        kept_bytes=config["kept_bytes"],
        tell=config["board"].put_unreadable.remote,
        held_out=cfg.count_held_out(rows.count_captions()),
    )
    probed = Probe(probing, backbone, cfg, rows) if probing and worker.rank == 0 else None

    def start(state: TrainState) -> list[Metrics]:
        checkpoint = ray.train.get_checkpoint()
        if checkpoint is None:
            return []
        with checkpoint.as_directory() as folder:
            return read_checkpoint(Path(folder), state)

    def save(state: TrainState, metrics: list[Metrics]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            write_checkpoint(Path(folder), state, metrics, worker.rank)
            write_teacher(Path(folder), state, backbone, worker.rank)
            ray.train.report(metrics[-1], checkpoint=ray.train.Checkpoint.from_directory(folder))

    def tell(state: TrainState, row: Metrics) -> None:
        if worker.rank == 0:
            config["board"].put.remote(state.step * 2 * cfg.batch_size, row)

    def probe(state: TrainState) -> Metrics:
        teacher = whole_teacher(state)  # by all workers together
        return probed.metrics(teacher) if probed else {}

    calls = Calls(
        start=start,
        save=save,
        save_every=config["save_every"],
        tell=tell,
        probe=probe,
        probe_every=probing.every if probing else 0,
    )
    with contextlib.suppress(DivergedError):
        pretrain(cfg, backbone, base_set, worker, calls)


def _loaded(backbone: str) -> Clip:
    """The CLIP, on this node; ConfigError if it cannot be loaded here."""
    try:
        return load_clip(backbone)
    except ValueError as error:
        raise ConfigError(str(error)) from error
