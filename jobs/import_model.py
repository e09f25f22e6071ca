"""python -m jobs.import_model --storage runs --backbone ViT-B-16/openai --teacher FILE.pth

Makes an artifact of ImagineFSL's own files: of a pretrained teacher, or of a fine-tuned model.
"""

import dataclasses
import sys
import tempfile
from hashlib import blake2b
from pathlib import Path

from jsonargparse.typing import PositiveInt
from safetensors.torch import save

from actors.pretraining.state import METRICS, MODEL, TEACHER, teacher_facts
from cluster.artifacts import Artifact, Draft, draft
from cluster.content import unhashed
from cluster.errors import ConfigError
from cluster.job import run_job
from cluster.progress import already_done
from models.backbones import load_clip
from models.methods.adapted import CARD, TENSORS
from models.released.fine_tuned import OWN_CLIP, FineTunedConfig, read_fine_tuned
from models.released.teacher import Inventory, read_teacher


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImportModelConfig:
    """Which files, and the CLIP that they were made on."""

    storage: str = unhashed()
    """Root of runs and artifacts: a local path, or a URI such as s3://bucket/prefix."""
    backbone: str = unhashed()
    """CLIP: "tiny", "ARCH/TAG" of open_clip, or "ARCH:FILE"."""
    heads: PositiveInt | None = unhashed(None)
    """Attention heads of the adapter, which the files do not tell; by default its width / 64, as in
    all released models."""
    teacher: str | None = unhashed(None)
    """Local file teacher_checkpoint.pth: makes an artifact of kind "teacher"."""
    fine_tuned: FineTunedConfig | None = unhashed(None)
    """A set of fine-tuned files: makes an artifact of kind "model"."""


def import_model(cfg: ImportModelConfig) -> Artifact:
    """Writes a "teacher" as pretraining does, or a "model": an adapted model with, for a LoRA set,
    the CLIP that it runs on.

    The inventory of the tensors goes to stderr and into the manifest. ConfigError for files that do
    not fit in every tensor.
    """
    try:
        if cfg.teacher is not None and cfg.fine_tuned is None:
            return _import_teacher(cfg, cfg.teacher)
        if cfg.fine_tuned is not None and cfg.teacher is None:
            return _import_fine_tuned(cfg, cfg.fine_tuned)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    raise ConfigError(
        f"teacher: {cfg.teacher!r}; allowed: either a teacher or a fine_tuned set, not both"
    )


def _import_teacher(cfg: ImportModelConfig, file: str) -> Artifact:
    files, clip = _hashes({"teacher": file}), load_clip(cfg.backbone)
    state, model, inventory = read_teacher(Path(file), clip, cfg.heads)
    content = {"files": files, "weights": clip.weights_hash, "model": model}
    out = draft(cfg.storage, "teacher", cfg.backbone, config=cfg, inputs={}, content=content)
    if out.artifact is None:
        out.write_bytes(TEACHER, save(state))
        out.write_json(MODEL, teacher_facts(clip, model))
        out.write_bytes(METRICS, b"")  # of the pretraining itself nothing is known
    return _published(out, [inventory])


def _import_fine_tuned(cfg: ImportModelConfig, given: FineTunedConfig) -> Artifact:
    roles = ("adapter", "visual_head", "text_head", "visual_model")
    files = _hashes({role: file for role in roles if (file := getattr(given, role))})
    adapted, inventories = read_fine_tuned(given, load_clip(cfg.backbone), cfg.heads)
    content = {"files": files, "lora_alpha": given.lora_alpha, "card": adapted.card}
    content["log_temperature"] = adapted.model.log_temperature.item()
    out = draft(cfg.storage, "model", given.dataset, config=cfg, inputs={}, content=content)
    if out.artifact is None:
        if given.visual_model is not None:
            out.write_bytes(OWN_CLIP, save(adapted.clip.model.state_dict()))
            out.write_json(str(Path(OWN_CLIP).with_suffix(".json")), adapted.clip.config)
        with tempfile.TemporaryDirectory() as folder:
            adapted.save(folder)
            for name in (TENSORS, CARD):
                out.write_bytes(name, Path(folder, name).read_bytes())
    return _published(out, inventories)


def _hashes(files: dict[str, str]) -> dict[str, str]:
    """Files count by what is in them, not by where they lie; ConfigError for a missing one."""
    for role, file in files.items():
        if not Path(file).is_file():
            raise ConfigError(f"{role}: no file {file!r}; allowed: a local file")
    return {role: blake2b(Path(file).read_bytes()).hexdigest() for role, file in files.items()}


def _published(out: Draft, inventories: list[Inventory]) -> Artifact:
    if out.artifact:
        already_done("import", out.artifact)
        return out.artifact
    for inventory in inventories:
        print(inventory, file=sys.stderr)
    tensors = {inventory.file: sum(inventory.taken.values()) for inventory in inventories}
    return out.publish(tensors, extra={"reports": [dataclasses.asdict(r) for r in inventories]})


if __name__ == "__main__":
    run_job(ImportModelConfig, import_model)
