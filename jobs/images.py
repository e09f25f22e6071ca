"""python -m jobs.images --storage runs --captions runs/captions/grammar-…

The imagined base set: four views of every caption, painted on Ray Data by a pool of painters.
"""

import dataclasses

from actors.synthesis.painters.painter import PainterConfig, painter_stage
from cluster.artifacts import Artifact, Draft, draft, open_artifact
from cluster.content import unhashed
from cluster.job import run_job
from cluster.progress import already_done
from cluster.row_pipeline import (
    committed_rows,
    count_refused,
    counted,
    read_rows,
    write_committed,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImagesConfig:
    """Which captions are painted, by whom, and where the base set goes."""

    storage: str = unhashed()
    """Root of runs and artifacts: a local path, or a URI such as s3://bucket/prefix."""
    captions: str = unhashed()
    """Artifact of kind "captions": a path or URI."""
    painter: PainterConfig = unhashed(default_factory=PainterConfig)


def images(cfg: ImagesConfig) -> Artifact:
    """Paints every accepted caption `views` times; what cannot be painted stays as a row with
    its reason."""
    captions = open_artifact(cfg.captions, "captions")
    out = image_draft(cfg, captions)
    if out.artifact:
        already_done("images", out.artifact)
        return out.artifact
    total = captions.manifest.rows["rows"] * cfg.painter.views
    with counted("images", total, "images", done=committed_rows(out, "rows")) as counter:
        write_committed(
            out,
            "rows",
            lambda: painter_stage(cfg.painter, read_rows(captions, "rows"), counter),
            key="caption_id",
        )
    return out.publish({"rows": total, "refused": count_refused(out, "rows")})


def image_draft(cfg: ImagesConfig, captions: Artifact | Draft) -> Draft:
    """The base set that a configuration stands for, done or not."""
    content, inputs = cfg.painter.content(), {"captions": captions}
    return draft(
        cfg.storage, "images", cfg.painter.name, config=cfg, inputs=inputs, content=content
    )


if __name__ == "__main__":
    run_job(ImagesConfig, images)
