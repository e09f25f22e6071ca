"""Pieces of a discovery job: what one task on a worker does, and what comes back from it."""

import dataclasses
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from actors.discovery.discoverer import (
    DiscoveryCell,
    DiscoveryConfig,
    discover,
    read_candidates,
    require_runnable,
)
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
from actors.features.encoder import require_names
from actors.search.cells import Cell, MethodConfig, declared_cells
from actors.search.fits import MODELS
from actors.search.tasks import Tasks, TaskSource
from cluster.artifacts import Draft
from cluster.rows import slug
from models.methods.adapted import CARD, TENSORS, Adapted

SCHEMAS = {"clusters": CLUSTERS, "assignments": ASSIGNMENTS, "metrics": METRICS}
"""Tables of a piece; metrics come last, and with them it is complete."""


@dataclasses.dataclass(frozen=True)
class Work:
    """What one task does: a discovery's cell, a baseline's, or (neither) the references.

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


class Discovering:
    """Does pieces of work on a worker; the CLIP and the features are opened once."""

    def __init__(self, source: TaskSource, out: Draft, device: str = "cpu") -> None:
        """out: the draft that gets the learned names of a discovery, as models/KEY. device: "cpu"
        or "cuda", where all is computed but k-means and Ward's linkage."""
        self.tasks, self.out = Tasks(source), out
        self.tasks.clip.to(device)

    def __call__(self, work: Work) -> dict[str, pa.Table]:
        """The rows of a piece in the tables of SCHEMAS.

        A discovery is made first, of what has no label in it, and then measured.
        """
        tasks = self.tasks
        if work.baseline:
            return _tables(metrics=baseline_rows(tasks, work.baseline, work.seeds[0]))
        if not work.discovery:
            return _tables(metrics=reference_rows(tasks, work.dataset, work.seeds))
        discovered = discover(tasks, work.discovery)
        if discovered.learned:
            self._save(work.key, discovered.learned.model)
        labelled = tasks.encoded[work.dataset].dataset.labelled
        return _tables(
            clusters=cluster_rows(work.discovery, discovered),
            assignments=assignment_rows(work.discovery, discovered),
            metrics=discovery_rows(tasks, work.discovery, discovered) if labelled else [],
        )

    def _save(self, key: str, model: Adapted) -> None:
        """Writes a model, the card last: with it the model is complete."""
        with tempfile.TemporaryDirectory() as folder:
            model.save(folder)
            for name in (TENSORS, CARD):
                self.out.write_bytes(f"{MODELS}/{key}/{name}", Path(folder, name).read_bytes())


def declared_works(
    tasks: Tasks,
    discoveries: Mapping[str, DiscoveryConfig],
    baselines: Mapping[str, MethodConfig],
    seeds: Sequence[int],
) -> list[Work]:
    """All pieces of a job; ConfigError if one cannot be made, before anything is computed."""
    for encoded in tasks.encoded.values():
        encoded.store.require_all()
    labelled = [name for name, encoded in tasks.encoded.items() if encoded.dataset.labelled]
    cells = list(declared_cells(labelled, baselines, {}))
    tasks.require_fitting(cells)
    tasks.require_readable_names(cells)
    return [
        *_discoveries(tasks, discoveries, seeds),
        *_baselines(tasks, labelled, baselines, seeds),
        *(Work(dataset, tuple(seeds)) for dataset in labelled),
    ]


def _discoveries(
    tasks: Tasks, discoveries: Mapping[str, DiscoveryConfig], seeds: Sequence[int]
) -> Iterator[Work]:
    for name, config in discoveries.items():
        where = f"discoveries.{name}"
        names = read_candidates(config.candidates, f"{where}.candidates")
        require_names(tasks.clip, f"{where}.candidates", names or ())
        for dataset in tasks.encoded:
            for seed in seeds:
                cell = DiscoveryCell(dataset, name, seed, config, names)
                require_runnable(tasks, cell, where)
                yield Work(dataset, (seed,), discovery=cell)


def _baselines(
    tasks: Tasks, datasets: list[str], baselines: Mapping[str, MethodConfig], seeds: Sequence[int]
) -> Iterator[Work]:
    for cell in declared_cells(datasets, baselines, {}):
        for seed in cell.seeds(seeds):
            tasks.split(cell, seed)
            yield Work(cell.dataset, (seed,), baseline=cell)


def _tables(**rows: list[dict[str, Any]]) -> dict[str, pa.Table]:
    return {name: pa.Table.from_pylist(part, SCHEMAS[name]) for name, part in rows.items()}
