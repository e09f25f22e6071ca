"""python -m jobs.captions --storage runs --factors runs/factors/embedded-… --writer.per_class 300

Captions for every class, written on Ray Data by a pool of writers.
"""

import dataclasses
from collections import Counter

from actors.synthesis.captions.passes import CaptionPlan, count_refusals, write_captions
from actors.synthesis.captions.writer import WriterConfig, writer_stage
from actors.synthesis.factors.drawing import MODE_SHARES
from cluster.artifacts import Artifact, draft, open_artifact
from cluster.content import unhashed
from cluster.job import run_job
from cluster.progress import already_done


@dataclasses.dataclass(frozen=True, kw_only=True)
class CaptionsConfig:
    """Which classes get captions, who writes them, and where they go."""

    storage: str = unhashed()
    """Root of runs and artifacts: a local path, or a URI such as s3://bucket/prefix."""
    factors: str = unhashed()
    """Artifact of kind "factors": a path or URI."""
    writer: WriterConfig = unhashed(default_factory=WriterConfig)


def captions(cfg: CaptionsConfig) -> Artifact:
    """Writes `per_class` captions for each class; one that is refused at every asking stays as a
    row with its reason."""
    plan = caption_plan(cfg)
    if plan.draft.artifact:
        already_done("captions", plan.draft.artifact)
        return plan.draft.artifact
    refused = write_captions(plan, writer_stage(cfg.writer, plan.factors.uri))
    refusals = count_refusals(plan.draft)
    plan.draft.write_table("refusals", refusals)
    kinds: Counter[str] = Counter()
    for row in refusals.to_pylist():
        kinds[row["reason"]] += row["count"]
    rows = {"rows": len(plan.classes()) * cfg.writer.per_class, "refused": refused}
    return plan.draft.publish(rows, extra={"refusals": dict(kinds)})


def caption_plan(cfg: CaptionsConfig) -> CaptionPlan:
    """The captions that a configuration stands for, done or not."""
    factors = open_artifact(cfg.factors, "factors")
    content = {**cfg.writer.content(), "modes": MODE_SHARES}
    inputs = {"factors": factors}
    out = draft(
        cfg.storage, "captions", cfg.writer.name, config=cfg, inputs=inputs, content=content
    )
    return CaptionPlan(out, factors, cfg.writer)


if __name__ == "__main__":
    run_job(CaptionsConfig, captions)
