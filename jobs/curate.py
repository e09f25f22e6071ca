"""python -m jobs.curate --storage runs --base_set runs/images/… --datasets '[runs/dataset/…]'

Decides which pictures of a base set are kept, and says why the others are not. Deletes nothing:
`jobs.pretrain`, `jobs.encode` and `jobs.export` leave out what a curation refuses.
"""

import dataclasses
from functools import partial

import pyarrow.parquet as pq

from actors.curation.critic import Critic, CriticConfig
from actors.curation.critique import TABLE, class_names, critique_plans
from actors.curation.decisions import Curation, CurationConfig
from actors.curation.parts import curate_parts
from actors.features.encoder import backbone, require_names
from cluster.artifacts import WORK, Artifact, Draft, draft, open_artifact
from cluster.catalog.dataset import Dataset, open_dataset
from cluster.compaction import compact
from cluster.content import unhashed
from cluster.errors import ConfigError
from cluster.job import run_job
from cluster.pool import Pool
from cluster.progress import already_done
from cluster.row_pipeline import make_rows
from jobs.computing import say_computing
from models.clip import Clip

LOOKS = f"{WORK}/looks"
"""Folder of a draft for what critics say, in the small files in which it is committed."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CurateConfig:
    """Which base set is curated, and how."""

    storage: str = unhashed()
    """Root of runs and artifacts: a local path, or a URI such as s3://bucket/prefix."""
    base_set: str = unhashed()
    """Artifact of kind "images": a path or URI."""
    datasets: list[str] = unhashed()
    """Artifacts of kind "dataset", whose test images the base set must not hold; their other images
    play no part."""
    critic: CriticConfig = unhashed(default_factory=CriticConfig)
    """What critics look with; it makes the hash of what they say."""
    rules: CurationConfig = dataclasses.field(default_factory=CurationConfig)
    pool: Pool = unhashed(default_factory=Pool)
    """Critics, and those who look for copies in a base set of several parts."""


def curate(cfg: CurateConfig) -> Artifact:
    """Writes a "curation" artifact: tables `decisions` and `contamination`, and `summary.json` (see
    `actors.curation.decisions.Curation`).

    What critics say of the pictures is an artifact of its own, of kind "critique", so that other
    settings of the curation do not look at a million pictures again.
    """
    base_set = open_artifact(cfg.base_set, "images")
    datasets = _opened(cfg.datasets)
    sources = {"base_set": base_set} | {f"dataset {d.name}": d.artifact for d in datasets}
    name = base_set.manifest.name
    clip = backbone(cfg.critic.backbone)
    weights = {"weights": clip.weights_hash}
    looks = draft(cfg.storage, "critique", name, config=cfg.critic, inputs=sources, content=weights)
    out = draft(cfg.storage, "curation", name, config=cfg, inputs=sources | {"critique": looks})
    if out.artifact:
        already_done("curate", out.artifact)
        return out.artifact
    critique = looks.artifact or _critique(cfg, looks, base_set, datasets, clip)
    result = curate_parts(out, critique, cfg.rules, cfg.pool)
    write_decisions(out, result)
    out.write_table("contamination", result.contamination)
    out.write_json("summary.json", result.summary)
    rows = {"decisions": result.summary["offered"], "contamination": len(result.contamination)}
    return out.publish(rows | {"kept": result.summary["kept"]})


def write_decisions(out: Draft, result: Curation) -> None:
    """Writes the table `decisions`, of which some rows at a time are in memory."""
    with (
        out.open_file("decisions/part-0.parquet") as stream,
        pq.ParquetWriter(stream, result.schema) as file,
    ):
        for rows in result.batches():
            file.write_table(rows)
            del rows  # or it would be there while the next ones are made


def _opened(uris: list[str]) -> list[Dataset]:
    datasets = [open_dataset(uri) for uri in uris]
    names = [dataset.name for dataset in datasets]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"datasets: two of them are {name!r}; allowed: each name once")
    return datasets


def _critique(
    cfg: CurateConfig, out: Draft, base_set: Artifact, datasets: list[Dataset], clip: Clip
) -> Artifact:
    require_names(clip, "base_set", class_names(base_set))
    say_computing("critique", [cfg.critic.precision], cfg.pool)
    rows = refused = 0
    for number, plan in enumerate(critique_plans(base_set, datasets)):
        rows += len(plan)
        refused += make_rows(
            out,
            f"{LOOKS}/{number:04d}",
            plan,
            partial(Critic, cfg.critic, cfg.pool.device),
            title=f"critique, part {number + 1}" if number else "critique",
            unit="images",
            block_rows=128,
            pool=cfg.pool,
        )
    compact(out, LOOKS, TABLE)
    return out.publish({"rows": rows, "refused": refused}, {"embed_dim": clip.embed_dim})


if __name__ == "__main__":
    run_job(CurateConfig, curate)
