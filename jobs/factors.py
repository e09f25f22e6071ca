"""python -m jobs.factors --storage runs --datasets '[runs/dataset/animals-…]'

Per class: the attributes, backgrounds, viewpoints, lightings and degradations that captions are
made of.
"""

import dataclasses

import pyarrow as pa

from actors.factors import factor_table
from cluster.artifacts import Artifact, draft
from cluster.catalog.dataset import Dataset, open_dataset
from cluster.job import run_job
from cluster.progress import already_done, stage


@dataclasses.dataclass(frozen=True, kw_only=True)
class FactorsConfig:
    """Whose classes get factors, and where the table goes."""

    storage: str
    """Root of runs and artifacts: a local path, or a URI such as s3://bucket/prefix."""
    datasets: list[str]
    """Artifacts of kind "dataset": paths or URIs."""


def factors(cfg: FactorsConfig) -> Artifact:
    """Writes one row per class with its lists of phrases, from the embedded factor table."""
    datasets = [open_dataset(uri) for uri in cfg.datasets]
    out = draft(
        cfg.storage,
        "factors",
        "embedded",
        content={"table": factor_table()},
        config=cfg,
        inputs={dataset.name: dataset.artifact for dataset in datasets},
    )
    if out.artifact:
        already_done("factors", out.artifact)
        return out.artifact
    rows = [row for dataset in datasets for row in class_rows(dataset)]
    with stage("factors", len(rows), "classes") as progress:
        out.write_table("classes", pa.Table.from_pylist(rows))
        progress.advance(len(rows))
    return out.publish({"classes": len(rows)})


def class_rows(dataset: Dataset) -> list[dict[str, object]]:
    """One row per class of a dataset; a dataset without backgrounds of its own takes all of
    them."""
    table = factor_table()
    places = table["dataset_backgrounds"].get(dataset.name, list(table["backgrounds"]))
    shared = {
        name: list(table[name])
        for name in ("attributes", "viewpoints", "lightings", "degradations")
    }
    return [
        {
            "dataset": dataset.name,
            "class_name": concept.name,
            "label": label,
            "group": concept.group,
            "hint": dataset.hint,
            "backgrounds": places,
            **shared,
        }
        for label, concept in enumerate(dataset.concepts)
    ]


if __name__ == "__main__":
    run_job(FactorsConfig, factors)
