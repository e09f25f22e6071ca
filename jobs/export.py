"""python -m jobs.export images --images runs/images/sprites-… --folder ibase --layout webdataset
python -m jobs.export teacher --teacher runs/teacher/vit-b-16-openai-… --folder out
python -m jobs.export model --adapted runs/model/pets-… --folder out --name pets_16shot

Writes files that other programs read: a base set in ImagineFSL's view folders, WebDataset shards,
or Parquet for Hugging Face's `datasets`; a teacher, or an adapted model of method imaginefsl, as
ImagineFSL's own files, one of method fsnl as FSNL's.
"""

import dataclasses
from pathlib import Path

from jsonargparse.typing import PositiveInt
from pyarrow.fs import FileSelector

from actors.pictures.base_set import open_base_set_rows
from actors.pretraining.state import TEACHER
from actors.synthesis.base_sets.exporting import COLUMNS, WRITERS, Layout
from cluster.artifacts import open_artifact
from cluster.errors import ConfigError
from cluster.job import run_jobs
from cluster.progress import show_progress
from cluster.storage import filesystem, require_writable, resolve
from models.backbones import load_clip
from models.methods.adapted import read_card, read_saved
from models.methods.fsnl import Fsnl
from models.methods.imaginefsl import ImagineFsl
from models.moment_adapter import load_teacher
from models.released.fine_tuned import write_fine_tuned
from models.released.names import write_names
from models.released.teacher import write_teacher
from models.weights import read_safetensors

CHECKPOINT = "teacher_checkpoint.pth"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportImagesConfig:
    """What is copied, where to and how."""

    images: str
    """Artifact of kind "images": a path or URI."""
    curation: str | None = None
    """Artifact of kind "curation" of that base set; what it refuses is left out."""
    folder: str
    """An empty or missing folder: a local path, or a URI such as s3://bucket/prefix."""
    layout: Layout
    """views: view1/CLASS/file, …; webdataset: tar shards; parquet: data/train-*.parquet."""
    per_file: PositiveInt = 1000
    """Pictures in a shard or Parquet file."""


def export_images(cfg: ExportImagesConfig) -> None:
    """Writes every picture that was not refused. ConfigError if the folder is not empty, for what
    another base set left there would look like part of this one."""
    base_set, target = open_base_set_rows(cfg.images, cfg.curation), resolve(cfg.folder)
    require_writable(target, cfg.folder)
    fs, folder = filesystem(target)
    if fs.get_file_info(FileSelector(folder, allow_not_found=True)):
        raise _not_empty(cfg.folder)
    count = base_set.count_images()
    with show_progress("export", count, "images") as progress:
        pictures = base_set.good(COLUMNS)
        WRITERS[cfg.layout](pictures, fs, folder, cfg.per_file, progress.advance)
    print(f"{progress.done} images: {target}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportTeacherConfig:
    """Which teacher, and where its file goes."""

    teacher: str
    """Artifact of kind "teacher": a path or URI."""
    folder: str
    """An empty or missing local folder, for teacher_checkpoint.pth."""


def export_teacher(cfg: ExportTeacherConfig) -> None:
    """ConfigError if the folder is not empty, or the teacher does not fit the CLIP of its name."""
    source = open_artifact(cfg.teacher, "teacher").local_dir()
    folder = _empty_folder(cfg.folder)
    try:
        model = load_teacher(source).model
        clip = load_clip(model["backbone"])
    except ValueError as error:
        raise ConfigError(f"teacher: {error}") from error
    if clip.weights_hash != model["weights_hash"]:
        raise ConfigError(
            f"teacher: {cfg.teacher!r} was trained on weights {model['weights_hash']} of "
            f"{clip.backbone!r}, which now has {clip.weights_hash}; allowed: the CLIP that is there"
        )
    try:
        write_teacher(folder / CHECKPOINT, read_safetensors(source / TEACHER), clip)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    _print_files(folder)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportModelConfig:
    """Which adapted model, and where its files go."""

    adapted: str
    """Local folder of an adapted model: an artifact of kind "model", or models/CELL/SEED of a
    search. Makes NAME_adapter.pth, NAME_linear.pth, NAME_text.pth, and NAME.json, the --config with
    which `jobs.import_ model` reads them; of method fsnl NAME.pth.tar, which FSNL's code loads as
    its name_learner/model-best.pth.tar, and NAME.json for `jobs.import_ names`."""
    folder: str
    """An empty or missing local folder."""
    name: str = "model"
    """NAME in these file names; the original's are such as pets_16shot."""


def export_model(cfg: ExportModelConfig) -> None:
    """ConfigError if the folder is not empty, or the model has no place in the original's files."""
    adapted = resolve(cfg.adapted)
    if Path(cfg.name).name != cfg.name:
        raise ConfigError(f"name: {cfg.name!r}; allowed: the beginning of a file's name")
    folder = _empty_folder(cfg.folder)
    try:
        card = read_card(adapted)
        if card.method not in (ImagineFsl.name, Fsnl.name) or card.hyper.get("lora"):
            lora = " with LoRA" * bool(card.hyper.get("lora"))
            raise ConfigError(
                f"adapted: {cfg.adapted!r} is of method {card.method!r}{lora}; allowed: fsnl, and "
                "imaginefsl on a plain CLIP"
            )
        tensors = read_saved(adapted, clip := load_clip(card.backbone))[1]
        if card.method == Fsnl.name:
            write_names(folder, cfg.name, Fsnl.restore(card, tensors, clip))
        else:
            write_fine_tuned(folder, cfg.name, ImagineFsl.restore(card, tensors, clip))
    except ValueError as error:
        raise ConfigError(str(error)) from error
    _print_files(folder)


def _empty_folder(name: str) -> Path:
    folder = Path(resolve(name))
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise _not_empty(name)
    return folder


def _not_empty(folder: str) -> ConfigError:
    return ConfigError(f"folder: {folder!r} is not empty; allowed: an empty or missing one")


def _print_files(folder: Path) -> None:
    print("\n".join(str(path) for path in sorted(folder.iterdir())))


if __name__ == "__main__":
    run_jobs(
        {
            "images": (ExportImagesConfig, export_images),
            "teacher": (ExportTeacherConfig, export_teacher),
            "model": (ExportModelConfig, export_model),
        }
    )
