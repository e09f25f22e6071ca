"""python -m jobs.import_images --storage runs --folder /data/ibase --name ibase

Makes a base set of pictures that are there already: ImagineFSL's view folders, a folder per class,
or what `jobs.export` wrote.
"""

import dataclasses
from functools import partial

from actors.synthesis.base_sets.importing import RECIPE, FileReader, import_plan
from cluster.artifacts import Artifact, draft
from cluster.content import unhashed
from cluster.job import run_job
from cluster.pool import Pool
from cluster.progress import already_done
from cluster.row_pipeline import make_rows
from cluster.rows import digest
from cluster.storage import resolve


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImportConfig:
    """Which pictures, and where the base set goes."""

    storage: str = unhashed()
    """Root of runs and artifacts: a local path, or a URI such as s3://bucket/prefix."""
    folder: str = unhashed()
    """view1/CLASS/file, view2/CLASS/file, …, or CLASS/file; seen by all nodes."""
    name: str
    """Of the base set, and the dataset that its classes belong to: with a dataset's own name its
    pictures are imagined ones of that dataset. What `jobs.export` wrote keeps its own datasets."""
    pool: Pool = unhashed(default_factory=Pool)
    """Readers."""


def import_images(cfg: ImportConfig) -> Artifact:
    """Reads every picture; one that cannot be decoded stays as a row with its reason."""
    folder = resolve(cfg.folder)
    plan = import_plan(folder, cfg.name)
    files = digest(*(f"{row['file']} {row['bytes']} {row['id']}" for row in plan.to_pylist())).hex()
    content = {"recipe": RECIPE, "files": files}
    out = draft(cfg.storage, "images", cfg.name, config=cfg, inputs={}, content=content)
    if out.artifact:
        already_done("import", out.artifact)
        return out.artifact
    refused = make_rows(
        out,
        "rows",
        plan,
        partial(FileReader, folder),
        title="import",
        unit="images",
        block_rows=256,
        pool=cfg.pool,
    )
    return out.publish({"rows": len(plan), "refused": refused})


if __name__ == "__main__":
    run_job(ImportConfig, import_images)
