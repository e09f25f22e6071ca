"""python -m jobs.synthesize --storage runs --factors runs/factors/embedded-…

Captions and images as one pipeline: painters start while captions are still being written. Makes
the same artifacts as `jobs.captions` and then `jobs.images`.
"""

import dataclasses

from actors.synthesis.captions.passes import caption_pass, plan_pass
from actors.synthesis.captions.writer import WriterConfig, writer_stage
from actors.synthesis.painters.painter import PainterConfig, painter_stage
from cluster.artifacts import Artifact
from cluster.job import run_job
from cluster.row_pipeline import committed_rows, counted, write_committed
from jobs.captions import CaptionsConfig, caption_plan, captions
from jobs.images import ImagesConfig, image_draft, images


@dataclasses.dataclass(frozen=True, kw_only=True)
class SynthesizeConfig:
    """Which classes are imagined, who writes and paints, and where the artifacts go."""

    storage: str
    """Root of runs and artifacts: a local path, or a URI such as s3://bucket/prefix."""
    factors: str
    """Artifact of kind "factors": a path or URI."""
    writer: WriterConfig = dataclasses.field(default_factory=WriterConfig)
    painter: PainterConfig = dataclasses.field(default_factory=PainterConfig)


def synthesize(cfg: SynthesizeConfig) -> Artifact:
    """Streams all captions that were never asked for into pictures; then asks again for those that
    were refused, and paints what is left."""
    asked = CaptionsConfig(storage=cfg.storage, factors=cfg.factors, writer=cfg.writer)
    plan = caption_plan(asked)
    painted = ImagesConfig(storage=cfg.storage, captions=plan.draft.uri, painter=cfg.painter)
    out = image_draft(painted, plan.draft)
    if not plan.draft.artifact and (new := plan_pass(plan)):
        write = writer_stage(cfg.writer, plan.factors.uri)
        total, done = new * cfg.painter.views, committed_rows(out, "rows")
        with counted("captions and images", total + done, "images", done) as counter:
            write_committed(
                out,
                "rows",
                lambda: painter_stage(cfg.painter, caption_pass(plan, write), counter),
                key="caption_id",
            )
    captions(asked)
    return images(painted)


if __name__ == "__main__":
    run_job(SynthesizeConfig, synthesize)
