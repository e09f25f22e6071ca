"""python -m jobs.bootstrap_clip --storage runs/bootstrap

Trains the tiny CLIP of the embedded world; it takes about an hour on two cores and goes on after a
kill. Its two files, tiny_clip.safetensors and tiny_clip.json, are what `models/assets/` holds.
"""

import dataclasses
from pathlib import Path

import torch
from safetensors.torch import save

from actors.embedded.scores import embedded_scores
from actors.embedded.trainer import ARCHITECTURE, ClipTrainer, ClipTrainerConfig
from cluster.artifacts import WORK, Artifact, draft
from cluster.content import unhashed
from cluster.job import run_job
from cluster.progress import already_done, show_progress
from models.building import clip_from_config


@dataclasses.dataclass(frozen=True, kw_only=True)
class BootstrapClipConfig:
    """Where the tiny CLIP goes and how it is trained."""

    storage: str = unhashed()
    """A local folder: the run's checkpoint and the artifact of kind "clip" are kept there."""
    trainer: ClipTrainerConfig = dataclasses.field(default_factory=ClipTrainerConfig)


def bootstrap_clip(cfg: BootstrapClipConfig) -> Artifact:
    """Trains to the last step and writes the averaged weights as fp16 safetensors beside their
    model config."""
    out = draft(cfg.storage, "clip", "tiny", config=cfg, inputs={})
    if out.artifact:
        already_done("tiny CLIP", out.artifact)
        return out.artifact
    trainer, saved = ClipTrainer(cfg.trainer), Path(out.uri, WORK, "training_state.pt")
    saved.parent.mkdir(exist_ok=True)
    if saved.exists():
        trainer.load(saved)
    with show_progress("tiny CLIP", cfg.trainer.steps, "steps", done=trainer.step) as progress:
        for metrics in trainer.train():
            progress.advance(loss=metrics["loss"], top1=metrics["top1"])
            if metrics["step"] % cfg.trainer.save_every == 0:
                trainer.save(saved)
    weights = {
        name: tensor.to(torch.float16).contiguous() for name, tensor in trainer.average.items()
    }
    out.write_json("tiny_clip.json", ARCHITECTURE)
    out.write_bytes("tiny_clip.safetensors", save(weights))
    extra = {"scores": embedded_scores(clip_from_config(ARCHITECTURE, weights))}
    return out.publish({"concepts": len(trainer.concepts)}, extra, {"trainer": cfg.trainer.seed})


if __name__ == "__main__":
    run_job(BootstrapClipConfig, bootstrap_clip)
