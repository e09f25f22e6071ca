"""python -m jobs.dataset --storage runs --name animals
python -m jobs.dataset --storage runs --name garden --folder /data/garden --hint plant

Writes one dataset artifact: an embedded dataset, or images of the user's in folders train, val,
test / class / file.
"""

import dataclasses

from actors.image_folder import read_image_folder
from actors.target_scenes import PER_CLASS, RECIPE, target_concepts, target_hint, target_rows
from cluster.artifacts import Artifact, draft
from cluster.catalog.dataset import publish_dataset, require_known
from cluster.job import run_job
from cluster.progress import already_done, stage


@dataclasses.dataclass(frozen=True, kw_only=True)
class DatasetConfig:
    """Which dataset is written, and where."""

    storage: str
    """Root of runs and artifacts: a local path, or a URI such as s3://bucket/prefix."""
    name: str
    """One of the embedded datasets, or with `folder` a name of your own."""
    folder: str | None = None
    """Local folder with train/CLASS/*, val/CLASS/* and test/CLASS/*; none for an embedded
    dataset."""
    hint: str = "object"
    """What the classes of `folder` are, for prompts: "a photo of a {}, a type of {hint}."."""


def dataset(cfg: DatasetConfig) -> Artifact:
    """Writes the dataset unless it is there already. Raises ConfigError on an unknown name or
    an empty class."""
    return _embedded(cfg) if cfg.folder is None else _from_folder(cfg, cfg.folder)


def _embedded(cfg: DatasetConfig) -> Artifact:
    require_known([cfg.name], field="name")
    out = draft(
        cfg.storage,
        "dataset",
        cfg.name,
        content={"recipe": RECIPE, "per_class": PER_CLASS},
        config=cfg,
        inputs={},
    )
    if out.artifact:
        already_done(f"dataset {cfg.name}", out.artifact)
        return out.artifact
    rows = target_rows(cfg.name)
    hint = target_hint(cfg.name)
    template = f"a photo of a {{}}, a type of {hint}."
    with stage(f"dataset {cfg.name}", len(rows), "images") as progress:
        made = publish_dataset(out, rows, target_concepts(cfg.name), hint=hint, template=template)
        progress.advance(len(rows))
    return made.artifact


def _from_folder(cfg: DatasetConfig, folder: str) -> Artifact:
    found = read_image_folder(cfg.name, folder)
    out = draft(
        cfg.storage,
        "dataset",
        cfg.name,
        content={"images": found.content_hash, "hint": cfg.hint},
        config=cfg,
        inputs={},
    )
    if out.artifact:
        already_done(f"dataset {cfg.name}", out.artifact)
        return out.artifact
    out.write_table("rejected", found.rejected)
    template = f"a photo of a {{}}, a type of {cfg.hint}."
    rejected = len(found.rejected)
    made = publish_dataset(
        out, found.rows, found.concepts, hint=cfg.hint, template=template, rejected=rejected
    )
    return made.artifact


if __name__ == "__main__":
    run_job(DatasetConfig, dataset)
