"""python -m jobs.images --storage runs --captions runs/captions/grammar-…

The imagined base set: four views of every caption, painted on Ray Data by a pool of painters.
"""

import dataclasses

import pyarrow as pa
from jsonargparse.typing import PositiveInt

from actors.painter import SpritePainter
from cluster.artifacts import Artifact, draft, open_artifact
from cluster.job import run_job
from cluster.progress import already_done
from cluster.row_pipeline import make_rows
from cluster.rows import row_id

RECIPE = "sprites-2"
"""Names how pictures are made; part of every row's id."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImagesConfig:
    """Which captions are painted, and where the base set goes."""

    storage: str
    """Root of runs and artifacts: a local path, or a URI such as s3://bucket/prefix."""
    captions: str
    """Artifact of kind "captions": a path or URI."""
    views: PositiveInt = 4
    """Pictures per caption. Source: ImagineFSL's iBase."""
    workers: PositiveInt = 2
    """Painters at most; Ray starts them as there is work and room."""


def images(cfg: ImagesConfig) -> Artifact:
    """Paints every accepted caption `views` times; what cannot be painted stays as a row with
    its reason."""
    captions = open_artifact(cfg.captions, "captions")
    content = {"recipe": RECIPE, "views": cfg.views}
    out = draft(
        cfg.storage, "images", "sprites", content=content, config=cfg, inputs={"captions": captions}
    )
    if out.artifact:
        already_done("images", out.artifact)
        return out.artifact
    plan = [
        {
            **row,
            "id": row_id(row["dataset"], row["class_name"], row["index"], view, RECIPE),
            "view": view,
        }
        for row in captions.read_table("rows").to_pylist()
        for view in range(cfg.views)
    ]
    refused = make_rows(
        out,
        "rows",
        pa.Table.from_pylist(plan),
        SpritePainter,
        title="images",
        unit="images",
        block_rows=128,
        workers=cfg.workers,
    )
    return out.publish({"rows": len(plan), "refused": refused})


if __name__ == "__main__":
    run_job(ImagesConfig, images)
