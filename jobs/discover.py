"""python -m jobs.discover --config jobs/recipes/embedded_discovery.yaml

Names for concepts without a single labelled image: unlabelled images are clustered, clusters get
names of a list of candidates, and the names are learned (ZSNL).
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import ray
from jsonargparse.typing import NonNegativeInt
from pyarrow.fs import FileType

from actors.discovery.discoverer import (
    DiscoveryCell,
    DiscoveryConfig,
    read_candidates,
    require_runnable,
)
from actors.discovery.metrics import REFERENCES
from actors.discovery.work import SCHEMAS, Part, Work, run_work
from actors.search.cells import MethodConfig, declared_cells
from actors.search.tasks import Tasks, TaskSource
from actors.search.trials import MODELS
from cluster.artifacts import Artifact, Draft, draft, open_artifact
from cluster.catalog.dataset import DatasetName
from cluster.job import run_job
from cluster.progress import already_done, stage
from cluster.storage import ConfigError, resolve
from jobs.report.gallery import data_uri
from jobs.report.job import PAGE, render
from jobs.report.pages import discovery as report_discovery
from jobs.world import WorldConfig, with_world


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiscoverConfig:
    """What is discovered, and what it is compared with."""

    storage: str
    """Root of runs and artifacts: a local path, or a URI such as s3://bucket/prefix."""
    world: WorldConfig | None = None
    """Embedded datasets and a base set to make first, instead of the next two."""
    leave_out: list[DatasetName] = dataclasses.field(default_factory=list)
    """Datasets of the world in which nothing is discovered."""
    datasets: list[str] = dataclasses.field(default_factory=list)
    """Artifacts of kind "dataset": paths or URIs. Their training images are unlabelled, but for
    those that `labelled` of a discovery takes; of one without classes (`jobs.dataset --images`)
    nothing can be measured."""
    features: list[str] = dataclasses.field(default_factory=list)
    """Artifacts of kind "features", one of each dataset, in any order."""
    discoveries: dict[str, DiscoveryConfig]
    """Ways to discover, by their name in result tables."""
    baselines: dict[str, MethodConfig] = dataclasses.field(default_factory=dict)
    """Methods of `jobs.search` to compare with, by their name; with `trials` 0."""
    seeds: list[NonNegativeInt] = dataclasses.field(default_factory=lambda: [0, 1, 2])
    """Each draws other labelled images, and other starts of everything that is random."""


def discover_all(cfg: DiscoverConfig) -> Artifact:
    """Writes a "discovery" artifact: tables `clusters`, `assignments` and `metrics` (see
    `actors.discovery.metrics`), and models/CELL/ as `jobs.predict` takes them, and the page
    report.html."""
    cfg = with_world(cfg)
    datasets, features = (
        [uri for uri in uris if open_artifact(uri, kind).manifest.name not in cfg.leave_out]
        for kind, uris in (("dataset", cfg.datasets), ("features", cfg.features))
    )
    source = TaskSource(
        datasets=tuple(map(resolve, datasets)),
        features=tuple(map(resolve, features)),
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
    out.write_bytes(PAGE, _page(found, tasks).encode())
    return out.publish({name: len(found.read_table(name)) for name in SCHEMAS})


def _page(found: Artifact, tasks: Tasks) -> str:
    metrics = found.read_table("metrics").to_pylist()
    clusters = found.read_table("clusters").slice(0, 1).to_pylist()
    shown = [
        {
            "dataset": of_dataset.dataset,
            "gallery": of_dataset.gallery,
            "pictures": {name: data_uri(png) for name, png in of_dataset.figures.items()},
        }
        for of_dataset in report_discovery.shown(found, tasks.encoded)
    ]
    facts = {
        "accuracy": report_discovery.accuracy_lines(metrics),
        "clustering": report_discovery.clustering_lines(metrics),
        "alone": report_discovery.alone_lines(metrics),
        "first": clusters[0],
        "shown": shown,
    }
    return render(facts, "discovery.html.j2")


def _works(cfg: DiscoverConfig, tasks: Tasks) -> Iterator[Work]:
    """All cells; ConfigError if one cannot be run, before anything is computed."""
    if not cfg.discoveries or not cfg.seeds:
        raise ConfigError("discoveries: one way and one of seeds at least are needed")
    for name in (*cfg.baselines, *REFERENCES):
        if name in cfg.discoveries or (name in REFERENCES and name in cfg.baselines):
            raise ConfigError(
                f"discoveries: {name!r} names two lines of the tables; allowed: a name for each, "
                f"none of {', '.join(REFERENCES)}"
            )
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


def _is_there(out: Draft, work: Work) -> bool:
    fs, folder = out.filesystem()
    path = f"{folder}/metrics/{work.key}/part-0.parquet"
    return fs.get_file_info(path).type == FileType.File


if __name__ == "__main__":
    run_job(DiscoverConfig, discover_all)
