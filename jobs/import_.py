"""python -m jobs.import_ images --storage runs --folder /data/ibase --name ibase
python -m jobs.import_ teacher --storage runs --backbone ViT-B-16/openai --file teacher.pth
python -m jobs.import_ model --storage runs --config pets_16shot.json
python -m jobs.import_ names --storage runs --config animals_4shot.json

Makes an artifact of other programs' files: a base set of pictures that are there already
(ImagineFSL's view folders, a folder per class, or what `jobs.export images` wrote); of
ImagineFSL's own files, a pretrained teacher or a fine-tuned model; of FSNL's, learned names.
"""

import dataclasses
import sys
import tempfile
from collections.abc import Mapping
from functools import partial
from hashlib import blake2b
from os.path import isfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from jsonargparse.typing import NonNegativeInt, PositiveInt
from safetensors.torch import save

from actors.pretraining.state import METRICS, MODEL, TEACHER, teacher_facts
from actors.search.fits import FIT
from actors.search.saved_models import told_fit
from actors.synthesis.base_sets.importing import RECIPE, FileReader, import_plan
from cluster.artifacts import WORK, Artifact, Draft, draft
from cluster.compaction import compact
from cluster.content import unhashed
from cluster.errors import ConfigError
from cluster.folder import Folder
from cluster.job import run_jobs
from cluster.picture_files import NAMES_SHOWN, unread_line
from cluster.pool import Pool
from cluster.progress import already_done, say
from cluster.row_pipeline import make_rows
from cluster.rows import digest
from cluster.storage import resolve
from cluster.text_files import read_lines
from models.backbones import load_clip
from models.methods.adapted import CARD, TENSORS, Adapted
from models.released.fine_tuned import OWN_CLIP, FineTunedConfig, read_fine_tuned
from models.released.names import NamesConfig, read_names
from models.released.teacher import Inventory, read_teacher

READ = f"{WORK}/read"
"""Folder of a draft for pictures in the small files in which they are committed."""
REJECTED = pa.schema([("file", pa.string()), ("reason", pa.string())])


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImportImagesConfig:
    """Which pictures, and where the base set goes."""

    storage: str = unhashed()
    """Root of runs and artifacts: a local path, or a URI such as s3://bucket/prefix."""
    folder: str = unhashed()
    """view1/CLASS/file, view2/CLASS/file, …, or CLASS/file; seen by all nodes. What is in it and
    is not read does not count: another such file changes no base set that is made already."""
    name: str
    """Of the base set, and the dataset that its classes belong to: with a dataset's own name its
    pictures are imagined ones of that dataset. What `jobs.export` wrote keeps its own datasets."""
    pool: Pool = unhashed(default_factory=Pool)
    """Readers."""


def import_images(cfg: ImportImagesConfig) -> Artifact:
    """Reads every picture; one that cannot be decoded stays as a row with its reason.

    What else is in the folder is named in the table `rejected` (`file`, `reason`).
    """
    folder = resolve(cfg.folder)
    plan = import_plan(folder, cfg.name)
    rows = plan.rows.to_pylist()
    files = digest(*(f"{row['file']} {row['bytes']} {row['id']}" for row in rows)).hex()
    content = {"recipe": RECIPE, "files": files}
    out = draft(cfg.storage, "images", cfg.name, config=cfg, inputs={}, content=content)
    if out.artifact:
        already_done("import", out.artifact)
        _say_left_out(out.artifact, plan.unread)
        return out.artifact
    refused = make_rows(
        out,
        READ,
        plan.rows,
        partial(FileReader, folder),
        title="import",
        unit="images",
        block_rows=256,
        pool=cfg.pool,
    )
    compact(out, READ, "rows")
    unread = {"file": list(plan.unread), "reason": list(plan.unread.values())}
    out.write_table("rejected", pa.table(unread, REJECTED))
    _say_left_out(out, plan.unread)
    return out.publish({"rows": len(rows), "refused": refused, "rejected": len(plan.unread)})


def _say_left_out(base_set: Folder, unread: Mapping[str, str]) -> None:
    rows = base_set.open_table("rows")
    refused = rows.to_table(columns=["file"], filter=pc.field("reason") != "")["file"].unique()
    if len(refused):
        names = ", ".join(refused[:NAMES_SHOWN].to_pylist())
        more = f", and {len(refused) - NAMES_SHOWN} more" if len(refused) > NAMES_SHOWN else ""
        say(f"import: {len(refused)} images refused: {names}{more}; why is in the table rows")
    if unread:
        say(f"import: {unread_line(unread)}; all of them are in the table rejected")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipConfig:
    """The CLIP that ImagineFSL's files were made on, and where the artifact goes."""

    storage: str = unhashed()
    """Root of runs and artifacts: a local path, or a URI such as s3://bucket/prefix."""
    backbone: str = unhashed()
    """CLIP: "tiny", "ARCH/TAG" of open_clip, or "ARCH:FILE"."""
    heads: PositiveInt | None = unhashed(None)
    """Attention heads of the adapter, which the files do not tell; by default its width / 64, as in
    all released models."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImportTeacherConfig(ClipConfig):
    """Which teacher, and the CLIP that it was pretrained on."""

    file: str = unhashed()
    """Local file teacher_checkpoint.pth."""


def import_teacher(cfg: ImportTeacherConfig) -> Artifact:
    """Writes a "teacher" as pretraining does.

    The inventory of the tensors goes to stderr and into the manifest. ConfigError for a file that
    does not fit in every tensor.
    """
    file = resolve(cfg.file)
    files = _hashes({"file": file})
    try:
        clip = load_clip(cfg.backbone)
        state, model, inventory = read_teacher(Path(file), clip, cfg.heads)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    content = {"files": files, "weights": clip.weights_hash, "model": model}
    out = draft(cfg.storage, "teacher", cfg.backbone, config=cfg, inputs={}, content=content)
    if out.artifact is None:
        out.write_bytes(TEACHER, save(state))
        out.write_json(MODEL, teacher_facts(clip, model))
        out.write_bytes(METRICS, b"")  # of the pretraining itself nothing is known
    return _published(out, [inventory])


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImportModelConfig(FineTunedConfig, ClipConfig):
    """Which fine-tuned files, what is told of them outside, and the CLIP they were made on."""

    shots: NonNegativeInt = 0
    """Training images per class that they were fine-tuned on, for tables; 0: not known."""


def import_model(cfg: ImportModelConfig) -> Artifact:
    """Writes a "model": an adapted model with, for a LoRA set, the CLIP that it runs on.

    The inventory of the tensors goes to stderr and into the manifest. ConfigError for files that do
    not fit in every tensor.
    """
    cfg = dataclasses.replace(cfg, names=_class_names(cfg.names))
    roles = ("adapter", "visual_head", "text_head", "visual_model")
    places: dict[str, Any] = {role: resolve(file) for role in roles if (file := getattr(cfg, role))}
    cfg, files = dataclasses.replace(cfg, **places), _hashes(places)
    try:
        adapted, inventories = read_fine_tuned(cfg, load_clip(cfg.backbone), cfg.heads)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    content = {"files": files, "lora_alpha": cfg.lora_alpha}
    content["log_temperature"] = adapted.model.log_temperature.item()
    out = _with_model(cfg, adapted, content)
    if out.artifact is None and cfg.visual_model is not None:
        out.write_bytes(OWN_CLIP, save(adapted.clip.model.state_dict()))
        out.write_json(str(Path(OWN_CLIP).with_suffix(".json")), adapted.clip.config)
    return _published(out, inventories)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImportNamesConfig(NamesConfig):
    """Which learned names, the CLIP they were learned with, and where the artifact goes."""

    storage: str = unhashed()
    """Root of runs and artifacts: a local path, or a URI such as s3://bucket/prefix."""
    backbone: str = unhashed()
    """CLIP: "tiny", "ARCH/TAG" of open_clip, or "ARCH:FILE"."""
    shots: NonNegativeInt = 0
    """Training images per class that they were learned from, for tables; 0: not known."""


def import_names(cfg: ImportNamesConfig) -> Artifact:
    """Writes a "model" of method "fsnl".

    The inventory of the tensors goes to stderr and into the manifest. ConfigError for a file that
    does not fit in every tensor.
    """
    cfg = dataclasses.replace(cfg, names=_class_names(cfg.names), file=resolve(cfg.file))
    files = _hashes({"file": cfg.file})
    try:
        adapted, inventory = read_names(cfg, load_clip(cfg.backbone))
    except ValueError as error:
        raise ConfigError(str(error)) from error
    return _published(_with_model(cfg, adapted, {"files": files}), [inventory])


@dataclasses.dataclass(frozen=True)
class _Told:
    """The settings of a model, of which none counts: what is in the files does."""

    model: ImportModelConfig | ImportNamesConfig = unhashed()


def _with_model(
    cfg: ImportModelConfig | ImportNamesConfig, adapted: Adapted, content: Mapping[str, Any]
) -> Draft:
    """A draft of kind "model" with the model in it; content: what of the files counts besides."""
    content = {**content, "card": adapted.card, "shots": cfg.shots}
    out = draft(cfg.storage, "model", cfg.dataset, config=_Told(cfg), inputs={}, content=content)
    if out.artifact is None:
        with tempfile.TemporaryDirectory() as folder:
            adapted.save(folder)
            for name in (TENSORS, CARD):
                out.write_bytes(name, Path(folder, name).read_bytes())
        out.write_json(FIT, dataclasses.asdict(told_fit(adapted.card, cfg.shots)))
    return out


def _class_names(names: list[str] | str) -> list[str]:
    """The names, or those of a file with one per line."""
    return read_lines(names, "names") if isinstance(names, str) else names


def _hashes(files: Mapping[str, str]) -> dict[str, str]:
    """Files count by what is in them, not by where they lie; ConfigError for a missing one."""
    for role, file in files.items():
        if not isfile(file):
            raise ConfigError(f"{role}: no file {file!r}; allowed: a local file")
    return {role: blake2b(Path(file).read_bytes()).hexdigest() for role, file in files.items()}


def _published(out: Draft, inventories: list[Inventory]) -> Artifact:
    if out.artifact:
        already_done("import", out.artifact)
        return out.artifact
    for inventory in inventories:
        print(inventory, file=sys.stderr)
    tensors = {inventory.file: sum(inventory.taken.values()) for inventory in inventories}
    return out.publish(tensors, extra={"reports": [dataclasses.asdict(i) for i in inventories]})


if __name__ == "__main__":
    run_jobs(
        {
            "images": (ImportImagesConfig, import_images),
            "teacher": (ImportTeacherConfig, import_teacher),
            "model": (ImportModelConfig, import_model),
            "names": (ImportNamesConfig, import_names),
        }
    )
