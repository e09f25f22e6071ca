"""python -m jobs.discover --config jobs/recipes/embedded_discovery.yaml --storage runs …

Names for concepts without a single labelled image: unlabelled images are clustered, clusters get
names of a list of candidates, and the names are learned (ZSNL).
"""

import dataclasses
import tempfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
import torch
from jsonargparse.typing import NonNegativeInt
from pyarrow.fs import FileType

from actors.cells import Cell, MethodConfig, declared_cells
from actors.discoverer import (
    DiscoveryCell,
    DiscoveryConfig,
    discover,
    read_candidates,
    require_runnable,
)
from actors.discovery_metrics import (
    ASSIGNMENTS,
    CLUSTERS,
    METRICS,
    assignment_rows,
    baseline_rows,
    cluster_rows,
    discovery_rows,
    reference_rows,
)
from actors.tasks import Tasks, TaskSource
from actors.trial import MODELS
from cluster.artifacts import Artifact, Draft, draft
from cluster.job import run_job
from cluster.progress import already_done, stage
from cluster.rows import slug
from cluster.storage import ConfigError, resolve
from models.methods.adapted import CARD, TENSORS, Adapted

SCHEMAS = {"clusters": CLUSTERS, "assignments": ASSIGNMENTS, "metrics": METRICS}
Part = tuple[dict[str, pa.Table], dict[str, bytes]]
"""Tables by name, and the files of a saved model."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiscoverConfig:
    """What is discovered, and what it is compared with."""

    storage: str
    """Root of runs and artifacts: a local path, or a URI such as s3://bucket/prefix."""
    datasets: list[str]
    """Artifacts of kind "dataset": paths or URIs. Their training images are unlabelled, but for
    those that `labelled` of a discovery takes; of one without classes (`jobs.dataset --images`)
    nothing can be measured."""
    features: list[str]
    """Artifacts of kind "features", one of each dataset, in any order."""
    discoveries: dict[str, DiscoveryConfig]
    """Ways to discover, by their name in result tables."""
    baselines: dict[str, MethodConfig] = dataclasses.field(default_factory=dict)
    """Methods of `jobs.search` to compare with, by their name; with `trials` 0."""
    seeds: list[NonNegativeInt] = dataclasses.field(default_factory=lambda: [0, 1, 2])
    """Each draws other labelled images, and other starts of everything that is random."""


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
            return f"{self.baseline.key}-baseline-{self.seeds[0]}"
        return f"{slug(self.dataset)}-references"


def discover_all(cfg: DiscoverConfig) -> Artifact:
    """Writes a "discovery" artifact: tables `clusters`, `assignments` and `metrics` (see
    `actors.discovery_metrics`), and models/CELL/ as `jobs.predict` takes them."""
    source = TaskSource(
        datasets=tuple(map(resolve, cfg.datasets)),
        features=tuple(map(resolve, cfg.features)),
        teacher=None,
        val_policy="full",
        templates="hand",
    )
    tasks = Tasks(source)
    works = list(_works(cfg, tasks))
    inputs = {f"features {name}": e.store.artifact for name, e in tasks.encoded.items()}
    content = {name: getattr(cfg, name) for name in ("discoveries", "baselines", "seeds")}
    content["names"] = {w.discovery.name: w.discovery.names for w in works if w.discovery}
    out = draft(cfg.storage, "discovery", "discovery", content=content, config=cfg, inputs=inputs)
    if out.artifact:
        already_done("discover", out.artifact)
        return out.artifact
    missing = [work for work in works if not _is_there(out, work)]
    with stage("discover", len(works), "cells", done=len(works) - len(missing)) as progress:
        for work, (tables, files) in _parts(source, missing):
            for name, data in files.items():
                out.write_bytes(f"{MODELS}/{work.key}/{name}", data)
            for name, table in tables.items():  # metrics come last, and with them a cell is done
                out.write_table(f"{name}/{work.key}", table)
            progress.advance(1, cell=work.key)
    found = Artifact(out.uri, out.manifest)
    return out.publish({name: len(found.read_table(name)) for name in SCHEMAS})


def _works(cfg: DiscoverConfig, tasks: Tasks) -> Iterator[Work]:
    """All cells; ConfigError if one cannot be run, before anything is computed."""
    if not cfg.discoveries or not cfg.seeds:
        raise ConfigError("discoveries: one way and one of seeds at least are needed")
    for name, config in cfg.discoveries.items():
        where = f"discoveries.{name}"
        names = read_candidates(config.candidates, f"{where}.candidates")
        for dataset in tasks.encoded:
            for seed in cfg.seeds:
                cell = DiscoveryCell(dataset, name, seed, config, names)
                require_runnable(tasks, cell, where)
                yield Work(dataset, (seed,), discovery=cell)
    labelled = [name for name, encoded in tasks.encoded.items() if encoded.dataset.labelled]
    for baseline in declared_cells(labelled, cfg.baselines, {}):
        where = f"baselines.{baseline.name}"
        if baseline.config.trials or baseline.config.teacher:
            raise ConfigError(f"{where}: trials or a teacher; allowed: a method without them")
        for seed in baseline.seeds(cfg.seeds):
            tasks.split(baseline, seed)
            yield Work(baseline.dataset, (seed,), baseline=baseline)
    yield from (Work(dataset, tuple(cfg.seeds)) for dataset in labelled)


def _parts(source: TaskSource, works: list[Work]) -> Iterator[tuple[Work, Part]]:
    """What each piece of work gave, as they come; all at once as far as there are CPUs."""
    task = ray.remote(num_cpus=1)(run_work)
    running = {task.remote(source, work): work for work in works}
    while running:
        (done,), _ = ray.wait(list(running), num_returns=1)
        yield running.pop(done), _result(done)


def _result(done: Any) -> Part:
    try:
        return ray.get(done)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, ConfigError):
            raise error.cause from error
        raise


def run_work(source: TaskSource, work: Work) -> Part:
    """On a worker. A discovery is made first, of what has no label in it, and then measured."""
    torch.set_num_threads(1)
    tasks = _tasks(source)
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


@lru_cache(maxsize=1)
def _tasks(source: TaskSource) -> Tasks:
    """Cells that a worker computes one after the other share what it has opened."""
    return Tasks(source)


def _tables(rows: dict[str, list[dict[str, Any]]]) -> dict[str, pa.Table]:
    return {name: pa.Table.from_pylist(part, SCHEMAS[name]) for name, part in rows.items()}


def _saved(model: Adapted) -> dict[str, bytes]:
    """The files of a saved model by name, the card last."""
    with tempfile.TemporaryDirectory() as folder:
        model.save(folder)
        return {name: Path(folder, name).read_bytes() for name in (TENSORS, CARD)}


def _is_there(out: Draft, work: Work) -> bool:
    fs, folder = out.filesystem()
    path = f"{folder}/metrics/{work.key}/part-0.parquet"
    return fs.get_file_info(path).type == FileType.File


if __name__ == "__main__":
    run_job(DiscoverConfig, discover_all)
