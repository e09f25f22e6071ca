"""python -m jobs.pretrain --config jobs/recipes/tiny.yaml --base_set runs/images/sprites-…

Moment-DINO pretraining of the adapter on a base set, with Ray Train and FSDP2.
"""

import dataclasses
import sys
from pathlib import Path
from typing import Any

import ray
from jsonargparse.typing import NonNegativeInt, PositiveInt
from ray.actor import ActorHandle
from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer

from actors.pictures.base_set import BaseSetRows, open_base_set_rows
from actors.pretraining.board import Board, show_board
from actors.pretraining.config import PretrainerConfig
from actors.pretraining.probe import HELD_OUT, ProbeConfig, key, require_probe
from actors.pretraining.state import Metrics, finished_steps, read_metrics, teacher_files
from actors.pretraining.trainable import require_trainable
from actors.pretraining.worker import pretrain_worker
from cluster.artifacts import WORK, Artifact, Draft, draft
from cluster.beside_driver import actor_beside_driver
from cluster.content import unhashed
from cluster.errors import ConfigError, printed
from cluster.job import run_job
from cluster.pool import Pool
from cluster.progress import already_done, say
from cluster.storage import resolve
from jobs.computing import say_computing

RUN = f"{WORK}/run"
"""Folder of the checkpoints inside the unfinished artifact: the same for every start of a run."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """Which base set teaches which CLIP, where it runs, and where the teacher goes."""

    storage: str = unhashed()
    """Root of runs and artifacts: a local path, or a URI such as s3://bucket/prefix."""
    base_set: str = unhashed()
    """Artifact of kind "images": a path or URI."""
    curation: str | None = unhashed(None)
    """Artifact of kind "curation" of that base set; what it refuses is left out."""
    backbone: str = unhashed("tiny")
    """CLIP: "tiny", "ARCH/TAG" of open_clip, or "ARCH:FILE"."""
    pool: Pool = unhashed(default_factory=lambda: Pool(workers=1, gpus=1))
    """Processes that share every batch."""
    workers_min: PositiveInt | None = unhashed(None)
    """Go on with as few as these while there is no room for all, and grow again when there is;
    by default only with all."""
    save_every: PositiveInt = unhashed(500)
    """Steps between checkpoints."""
    probe: ProbeConfig | None = unhashed(default_factory=ProbeConfig)
    """What else the teacher is tried on, and how often; null: it is not tried."""
    kept_bytes: NonNegativeInt = unhashed(50_000_000_000)
    """Of decoded images on a node's disk, at most; what is beyond is decoded in every epoch."""
    pretrainer: PretrainerConfig = dataclasses.field(default_factory=PretrainerConfig)

    def __post_init__(self) -> None:
        if self.workers_min and self.workers_min > self.pool.workers:
            raise ConfigError(
                f"workers_min: {self.workers_min}; allowed: at most pool.workers "
                f"({self.pool.workers})"
            )


def pretrain(cfg: PretrainConfig) -> Artifact:
    """The teacher of a base set; a run that was broken off goes on from its last checkpoint."""
    base_set = open_base_set_rows(cfg.base_set, cfg.curation)
    captions = base_set.count_captions()
    weights = require_trainable(cfg.pretrainer, cfg.backbone, captions, cfg.pool.workers)
    if cfg.probe:
        require_probe(cfg.probe)
    content = {"weights": weights}
    out = draft(
        cfg.storage, "teacher", cfg.backbone, config=cfg, inputs=base_set.inputs, content=content
    )
    if out.artifact:
        already_done("pretraining", out.artifact)
        return out.artifact
    say_computing("pretraining", [cfg.pretrainer.precision], cfg.pool)
    trained_on = captions - cfg.pretrainer.count_held_out(captions)
    steps = cfg.pretrainer.epochs * (trained_on // cfg.pretrainer.batch_size)
    board = actor_beside_driver(Board)
    cfg.pool.require_room(at_once=cfg.workers_min or cfg.pool.workers)
    with show_board(board, images=2 * steps * cfg.pretrainer.batch_size):
        checkpoint = _trainer(cfg, base_set, out, board).fit().checkpoint
        if reason := ray.get(board.refusal.remote()):
            raise ConfigError(reason)
        unreadable = ray.get(board.get_unreadable.remote())
    if checkpoint is None:
        raise _diverged(cfg, 0, "there is no checkpoint")
    with checkpoint.as_directory() as folder:
        done = finished_steps(Path(folder))
        if done < steps:
            raise _diverged(cfg, done, f"the last good checkpoint is in {out.file(RUN)}")
        _say_useless(read_metrics(Path(folder)))
        for file in teacher_files(Path(folder)):
            out.write_bytes(str(file.relative_to(folder)), file.read_bytes())
    if unreadable:
        _say_unreadable(unreadable)
    return out.publish(
        {"steps": steps},
        extra={"captions": trained_on, "unreadable": len(unreadable)},
        seeds={"pretrainer": cfg.pretrainer.seed},
    )


def _say_unreadable(images: dict[str, str]) -> None:
    """images: place to reason."""
    place, reason = min(images.items())
    print(
        f"pretraining: {len(images)} images cannot be decoded, others of their captions stood in "
        f"their place; the first: {printed(place)} ({printed(reason)})",
        file=sys.stderr,
        flush=True,
    )


def _say_useless(metrics: list[Metrics]) -> None:
    """A line if held-out captions are told apart no better than by CLIP's own tokens."""
    last = metrics[-1]
    teacher, raw = (last.get(key(HELD_OUT, features, "ncm")) for features in ("teacher", "raw"))
    if teacher is not None and raw is not None and teacher < raw:
        say(
            f"pretraining: of held-out captions' pictures class means of the teacher's features "
            f"name {teacher:.1%}, those of CLIP's own tokens {raw:.1%}: worse than no pretraining"
        )


def _diverged(cfg: PretrainConfig, steps: int, left: str) -> ConfigError:
    return ConfigError(
        f"pretrainer: more than {cfg.pretrainer.max_skipped} steps in a row were not finite, after "
        f"step {steps}, and {left}; allowed: settings that do not diverge, such as a smaller lr or "
        "precision fp32"
    )


def _trainer(
    cfg: PretrainConfig, base_set: BaseSetRows, out: Draft, board: ActorHandle
) -> TorchTrainer:
    fs, path = out.filesystem()
    probe = None  # else the teacher would be gathered from all workers for nothing
    if cfg.probe and cfg.probe.tries_anything(cfg.pretrainer):
        probe = dataclasses.replace(  # workers stand in another folder
            cfg.probe,
            base_sets=[resolve(uri) for uri in cfg.probe.base_sets],
            datasets=[resolve(uri) for uri in cfg.probe.datasets],
        )
    # Ray's annotation knows tuples only as choices of a search; its documentation has them.
    most = cfg.pool.workers
    workers: Any = (cfg.workers_min, most) if cfg.workers_min else most
    return TorchTrainer(
        pretrain_worker,
        train_loop_config={
            "cfg": cfg.pretrainer,
            "base_set": base_set.artifact.uri,
            "curation": base_set.curation and base_set.curation.uri,
            "kept_bytes": cfg.kept_bytes,
            "backbone": cfg.backbone,
            "pool": cfg.pool,
            "save_every": cfg.save_every,
            "probe": probe,
            "board": board,
        },
        scaling_config=ScalingConfig(
            num_workers=workers,
            use_gpu=bool(cfg.pool.gpus),
            resources_per_worker=cfg.pool.resources(),
        ),
        run_config=RunConfig(
            name=RUN.rpartition("/")[2],
            storage_path=f"{path}/{WORK}",
            storage_filesystem=fs,
            failure_config=FailureConfig(max_failures=3),
            checkpoint_config=CheckpointConfig(num_to_keep=2),
        ),
    )


if __name__ == "__main__":
    run_job(PretrainConfig, pretrain)
