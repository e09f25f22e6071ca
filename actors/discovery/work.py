"""Pieces of a discovery job: what one task on a worker does, and what comes back from it."""

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from actors.discovery.discoverer import DiscoveryCell, discover
from actors.discovery.metrics import (
    ASSIGNMENTS,
    CLUSTERS,
    METRICS,
    assignment_rows,
    baseline_rows,
    cluster_rows,
    discovery_rows,
    reference_rows,
)
from actors.search.cells import Cell
from actors.search.tasks import TaskSource, opened_tasks
from cluster.rows import slug
from models.methods.adapted import CARD, TENSORS, Adapted

SCHEMAS = {"clusters": CLUSTERS, "assignments": ASSIGNMENTS, "metrics": METRICS}
Part = tuple[dict[str, pa.Table], dict[str, bytes]]
"""Tables by name, and the files of a saved model."""


@dataclasses.dataclass(frozen=True)
class Work:
    """What one task does: a discovery's cell, a baseline's, or (neither) the reference figures.

    seeds: one, or all of them for the references.
    """

    dataset: str
    seeds: tuple[int, ...]
    discovery: DiscoveryCell | None = None
    baseline: Cell | None = None

    @property
    def key(self) -> str:
        if self.discovery:
            return self.discovery.key
        if self.baseline:
            return f"{self.baseline.key}--baseline--{self.seeds[0]}"
        return f"{slug(self.dataset)}--references"


def run_work(source: TaskSource, work: Work) -> Part:
    """On a worker. A discovery is made first, of what has no label in it, and then measured."""
    torch.set_num_threads(1)
    tasks = opened_tasks(source)
    if work.baseline:
        rows = {"metrics": baseline_rows(tasks, work.baseline, work.seeds[0])}
    elif not work.discovery:
        rows = {"metrics": reference_rows(tasks, work.dataset, work.seeds)}
    else:
        found = discover(tasks, work.discovery)
        rows = {
            "clusters": cluster_rows(work.discovery, found),
            "assignments": assignment_rows(work.discovery, found),
            "metrics": [],
        }
        if tasks.encoded[work.dataset].dataset.labelled:
            rows["metrics"] = discovery_rows(tasks, work.discovery, found)
        if found.learned:
            return _tables(rows), _saved(found.learned.model)
    return _tables(rows), {}


def _tables(rows: dict[str, list[dict[str, Any]]]) -> dict[str, pa.Table]:
    return {name: pa.Table.from_pylist(part, SCHEMAS[name]) for name, part in rows.items()}


def _saved(model: Adapted) -> dict[str, bytes]:
    """The files of a saved model by name, the card last."""
    with tempfile.TemporaryDirectory() as folder:
        model.save(folder)
        return {name: Path(folder, name).read_bytes() for name in (TENSORS, CARD)}
