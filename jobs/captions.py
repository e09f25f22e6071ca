"""python -m jobs.captions --storage runs --factors runs/factors/embedded-… --per_class 300

Captions for every class, written on Ray Data by a pool of writers.
"""

import dataclasses

import pyarrow as pa
from jsonargparse.typing import PositiveInt

from actors.factors import MODE_SHARES
from actors.writer import GrammarWriter
from cluster.artifacts import Artifact, draft, open_artifact
from cluster.job import run_job
from cluster.progress import already_done
from cluster.row_pipeline import make_rows
from cluster.rows import row_id

RECIPE = "grammar-1"
"""Names how captions are made; part of every row's id."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CaptionsConfig:
    """Which classes get captions, how many, and where they go."""

    storage: str
    """Root of runs and artifacts: a local path, or a URI such as s3://bucket/prefix."""
    factors: str
    """Artifact of kind "factors": a path or URI."""
    per_class: PositiveInt = 300
    """Captions per class."""
    workers: PositiveInt = 2
    """Writers at most; Ray starts them as there is work and room."""


def captions(cfg: CaptionsConfig) -> Artifact:
    """Writes `per_class` captions for each class; a refused one stays as a row with its reason."""
    factors = open_artifact(cfg.factors, "factors")
    content = {"recipe": RECIPE, "per_class": cfg.per_class, "modes": MODE_SHARES}
    out = draft(
        cfg.storage, "captions", "grammar", content=content, config=cfg, inputs={"factors": factors}
    )
    if out.artifact:
        already_done("captions", out.artifact)
        return out.artifact
    plan = [
        {**row, "id": row_id(row["dataset"], row["class_name"], index, 0, RECIPE), "index": index}
        for row in factors.read_table("classes").to_pylist()
        for index in range(cfg.per_class)
    ]
    refused = make_rows(
        out,
        "rows",
        pa.Table.from_pylist(plan),
        GrammarWriter,
        title="captions",
        unit="captions",
        block_rows=512,
        workers=cfg.workers,
    )
    return out.publish({"rows": len(plan), "refused": refused})


if __name__ == "__main__":
    run_job(CaptionsConfig, captions)
