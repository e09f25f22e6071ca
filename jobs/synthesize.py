"""python -m jobs.synthesize --storage runs --factors runs/factors/embedded-… --writer.per_class 300
python -m jobs.synthesize --storage runs --factors runs/factors/embedded-… --painter null
python -m jobs.synthesize --storage runs --captions runs/captions/grammar-…

Captions for every class, and the imagined base set: some views of every caption. From factors it is
one pipeline: painters start while captions are still being written. Without a painter it ends with
the captions; from captions it begins with the pictures.
"""

import dataclasses
from collections.abc import Iterator

from actors.synthesis.captions.passes import (
    CaptionPlan,
    caption_pass,
    caption_plan,
    plan_pass,
    write_captions,
)
from actors.synthesis.captions.writer import WriterConfig
from actors.synthesis.painters.painter import (
    PAINTED,
    PainterConfig,
    image_draft,
    paint_rows,
)
from cluster.artifacts import Artifact, open_artifact
from cluster.compaction import compact
from cluster.content import unhashed
from cluster.errors import ConfigError
from cluster.job import run_job, show_made
from cluster.progress import already_done
from cluster.row_pipeline import committed_rows, count_refused, nothing_left, read_rows
from cluster.unions import only_one


@dataclasses.dataclass(frozen=True, kw_only=True)
class SynthesizeConfig:
    """Which classes are imagined, who writes and paints, and where the artifacts go."""

    storage: str = unhashed()
    """Root of runs and artifacts: a local path, or a URI such as s3://bucket/prefix."""
    factors: str | None = unhashed(None)
    """Artifact of kind "factors" to begin with: a path or URI."""
    captions: str | None = unhashed(None)
    """Artifact of kind "captions" to begin with, instead of factors: a path or URI."""
    # Both have places of their own in the hashes of the two artifacts.
    writer: WriterConfig = unhashed(default_factory=WriterConfig)
    """Who writes the captions."""
    painter: PainterConfig | None = unhashed(default_factory=PainterConfig)
    """Who paints them; null: nobody."""

    def __post_init__(self) -> None:
        start = only_one(self, ["factors", "captions"])
        if start is None:
            raise ConfigError("factors: none; allowed: an artifact of factors or of captions")
        if start == "captions" and self.painter is None:
            raise ConfigError("painter: null; allowed with captions: one that paints them")


def synthesize(cfg: SynthesizeConfig) -> Artifact:
    """Writes and paints what is not there yet; returns the base set, or without a painter the
    captions. What was refused stays as a row with its reason."""
    *_, last = artifacts(cfg)
    return last


def artifacts(cfg: SynthesizeConfig) -> Iterator[Artifact]:
    """The captions, unless they were given, and the base set, if there is a painter, as they become
    complete."""
    if cfg.factors is None:
        captions = open_artifact(str(cfg.captions), "captions")
    else:
        yield (captions := _captions(cfg, open_artifact(cfg.factors, "factors")))
    if cfg.painter:
        yield _images(cfg, cfg.painter, captions)


def _captions(cfg: SynthesizeConfig, factors: Artifact) -> Artifact:
    plan = caption_plan(cfg.storage, factors, cfg.writer, config=cfg)
    if plan.draft.artifact:
        already_done("captions", plan.draft.artifact)
        return plan.draft.artifact
    if cfg.painter:
        _stream(cfg, plan, cfg.painter)
    return write_captions(plan)


def _stream(cfg: SynthesizeConfig, plan: CaptionPlan, painter: PainterConfig) -> None:
    """One pass of captions into pictures: when all are asked for the first time, most are settled
    by it."""
    out = image_draft(cfg.storage, plan.draft, painter, config=cfg)
    if count := plan_pass(plan):
        total = count * painter.views + committed_rows(out, PAINTED)
        paint_rows(
            out,
            painter,
            lambda: caption_pass(plan),
            title="captions and images",
            total=total,
            beside=cfg.writer.pool.cpus,
        )


def _images(cfg: SynthesizeConfig, painter: PainterConfig, captions: Artifact) -> Artifact:
    out = image_draft(cfg.storage, captions, painter, config=cfg)
    if out.artifact:
        already_done("images", out.artifact)
        return out.artifact
    total = captions.manifest.rows["rows"] * painter.views
    if not nothing_left(out, PAINTED, captions.read_table("rows", ["caption_id"])["caption_id"]):
        paint_rows(out, painter, lambda: read_rows(captions, "rows"), title="images", total=total)
    compact(out, PAINTED, "rows")
    return out.publish({"rows": total, "refused": count_refused(out, "rows")})


def main(cfg: SynthesizeConfig) -> None:
    for artifact in artifacts(cfg):
        show_made(artifact)


if __name__ == "__main__":
    run_job(SynthesizeConfig, main)
