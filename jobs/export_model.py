"""python -m jobs.export_model --folder out --teacher runs/teacher/vit-b-16-openai-…

Writes ImagineFSL's own files: of a teacher, or of an adapted model of method imaginefsl.
"""

import dataclasses
from pathlib import Path

from safetensors.torch import load_file

from actors.pretraining.state import TEACHER
from cluster.artifacts import open_artifact
from cluster.errors import ConfigError
from cluster.job import run_job
from models.backbones import load_clip
from models.methods.adapted import read_card, read_saved
from models.methods.imaginefsl import ImagineFsl
from models.moment_adapter import load_teacher
from models.released.fine_tuned import write_fine_tuned
from models.released.teacher import write_teacher

CHECKPOINT = "teacher_checkpoint.pth"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportModelConfig:
    """What is written, and where to."""

    folder: str
    """An empty or missing local folder."""
    teacher: str | None = None
    """Artifact of kind "teacher": makes teacher_checkpoint.pth."""
    adapted: str | None = None
    """Local folder of an adapted model: an artifact of kind "model", or models/CELL/SEED of a
    search. Makes NAME_adapter.pth, NAME_linear.pth, NAME_text.pth, and NAME.json, the --config with
    which `jobs.import_model` reads them."""
    name: str = "model"
    """NAME in these file names; the original's are such as pets_16shot."""


def export_model(cfg: ExportModelConfig) -> None:
    """ConfigError if the folder is not empty, or what is to be written does not fit its CLIP."""
    if (cfg.teacher is None) == (cfg.adapted is None):
        raise ConfigError(
            f"teacher: {cfg.teacher!r}; allowed: either a teacher or adapted, not both"
        )
    if Path(cfg.name).name != cfg.name:
        raise ConfigError(f"name: {cfg.name!r}; allowed: the beginning of a file's name")
    folder = Path(cfg.folder)
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise ConfigError(f"folder: {cfg.folder!r} is not empty; allowed: an empty or missing one")
    try:
        if cfg.teacher is not None:
            _export_teacher(cfg.teacher, folder / CHECKPOINT)
        elif cfg.adapted is not None:
            _export_adapted(cfg.adapted, folder, cfg.name)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    print("\n".join(str(path) for path in sorted(folder.iterdir())))


def _export_teacher(uri: str, path: Path) -> None:
    source = open_artifact(uri, "teacher").local_dir()
    model = load_teacher(source).model
    clip = load_clip(model["backbone"])
    if clip.weights_hash != model["weights_hash"]:
        raise ConfigError(
            f"teacher: {uri!r} was trained on weights {model['weights_hash']} of "
            f"{clip.backbone!r}, which now has {clip.weights_hash}; allowed: the CLIP that is there"
        )
    write_teacher(path, load_file(source / TEACHER), clip)


def _export_adapted(source: str, folder: Path, name: str) -> None:
    card = read_card(source)
    if card.method != ImagineFsl.name or card.hyper.get("lora"):
        lora = " with LoRA" * bool(card.hyper.get("lora"))
        raise ConfigError(
            f"adapted: {source!r} is of method {card.method!r}{lora}; allowed: imaginefsl on a "
            "plain CLIP"
        )
    tensors = read_saved(source, clip := load_clip(card.backbone))[1]
    write_fine_tuned(folder, name, ImagineFsl.restore(card, tensors, clip))


if __name__ == "__main__":
    run_job(ExportModelConfig, export_model)
