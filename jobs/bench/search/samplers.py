"""What a sampler is worth over random search (`python -m jobs.bench search --part sampler`)."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import GPSampler, QMCSampler, RandomSampler, TPESampler
from optuna.trial import create_trial

from actors.search.cells import Cell, MethodConfig
from actors.search.proposals import NewSampler, Proposals, tpe
from actors.search.runnable import runnable_cells
from actors.search.spaces import Choice, Range
from actors.search.tasks import Tasks
from actors.search.trials import fit_cell
from cluster.content import canonical, plain
from cluster.rows import digest
from cluster.storage import filesystem, join, opened_whole, resolve
from jobs.report.statistics.scores import estimate

METHOD = MethodConfig(
    method="imaginefsl",
    shots=[4],
    hyper={"batch_real": 32, "batch_imagined": 16},
    space={
        "head_lr": Range(low=1e-3, high=1e-2, log=True),
        "head_steps": Range(low=100, high=400),
        "adapter_lr": Range(low=1e-4, high=1e-3, log=True),
        "steps": Choice(choices=[5, 10, 20, 40]),
        "real_weight": Range(low=0.8, high=0.99),
        "text_weight": Range(low=0.25, high=2.0, log=True),
        "weight_decay": Range(low=1e-4, high=1e-1, log=True),
    },
)
"""What is searched; the values of jobs/recipes/embedded_search.yaml, without a teacher."""
GENERATION = 4
TRIALS = (4, 8, 12, 16, 24, 32)
POPULATION = 8
"""Configurations fitted together."""


def _random(search: int) -> NewSampler:
    return lambda seed, generation: RandomSampler(seed)


def _tpe(search: int) -> NewSampler:
    return tpe


def _ten_first(search: int) -> NewSampler:
    """TPE as Optuna's default is."""
    return lambda seed, generation: TPESampler(seed=seed)


def _joint(search: int) -> NewSampler:
    """TPE of all hyper-parameters together."""
    return lambda seed, generation: TPESampler(
        seed=seed, n_startup_trials=generation, multivariate=True
    )


def _gaussian(search: int) -> NewSampler:
    return lambda seed, generation: GPSampler(seed=seed, n_startup_trials=generation)


def _sobol(search: int) -> NewSampler:
    """All trials of a search are points of one sequence, so they have one seed."""
    return lambda seed, generation: QMCSampler(seed=search, scramble=True)


SAMPLERS: Mapping[str, Callable[[int], NewSampler]] = {
    "tpe": _tpe,
    "tpe_ten_first": _ten_first,
    "tpe_joint": _joint,
    "gp": _gaussian,
    "sobol": _sobol,
}
"""Of a simulated search, by its number."""
FEWER_RUNS = {"gp": 10}
"""Simulated searches, where one proposal takes half a second."""


@dataclasses.dataclass(frozen=True)
class StoredFits:
    """Configurations of one cell that were fitted: places (N, D) in the unit cube, val (N,)."""

    places: np.ndarray
    val: np.ndarray

    def outcome(self, place: np.ndarray) -> float:
        """Val accuracy of the nearest configuration."""
        return float(self.val[np.square(self.places - place).sum(axis=1).argmin()])


def sampling(tasks: Tasks, fits: int, seeds: int, storage: str) -> dict[str, float]:
    """Best val accuracy after N trials minus that of random search, in points of percent.

    Simulated: a proposal gets the result of the nearest of `fits` configurations that were fitted
    once and lie in the storage. All samplers start from the declared values, and get generations of
    four; searches of one seed are compared. `NAME_gain_N`: mean over cells of the mean over seeds.
    `NAME_half_width_N`: half of the 95 % interval (Student's t over cells). `random_N`, `all`:
    random search's best, and the best of all that were fitted, in %.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    cells = runnable_cells(tasks, {METHOD.method: METHOD}, [0])
    random: list[np.ndarray] = []
    gains: dict[str, list[np.ndarray]] = {name: [] for name in SAMPLERS}
    highest = []
    for cell in cells:
        stored = _stored(tasks, cell, fits, storage)
        highest.append(stored.val.max())
        by_chance = _best_values(cell, seeds, _random, stored)
        random.append(by_chance.mean(axis=0))
        for name, of_search in SAMPLERS.items():
            runs = min(seeds, FEWER_RUNS.get(name, seeds))
            best = _best_values(cell, runs, of_search, stored)
            gains[name].append((best - by_chance[:runs]).mean(axis=0))
    measurements = {"cells": len(cells), "all": 100 * float(np.mean(highest))}
    for place, trials in enumerate(TRIALS):
        measurements[f"random_{trials}"] = 100 * float(np.mean([r[place] for r in random]))
        for name, of_cells in gains.items():
            gain = estimate([100 * float(values[place]) for values in of_cells])
            measurements[f"{name}_gain_{trials}"] = gain.mean
            if gain.half_width is not None:
                measurements[f"{name}_half_width_{trials}"] = gain.half_width
    return measurements


def _best_values(
    cell: Cell, runs: int, of_search: Callable[[int], NewSampler], stored: StoredFits
) -> np.ndarray:
    """Best val accuracy of simulated searches (runs, T) after each of TRIALS."""
    return np.array([_one_search(cell, seed, of_search(seed), stored) for seed in range(runs)])


def _one_search(cell: Cell, seed: int, new_sampler: NewSampler, stored: StoredFits) -> list[float]:
    of_seed = dataclasses.replace(cell, name=f"{cell.name} {seed}")  # seeds follow from the key
    proposals = Proposals(of_seed, GENERATION, new_sampler)
    trials: list[optuna.trial.FrozenTrial] = []
    for number in range(max(TRIALS)):
        start = number // GENERATION * GENERATION
        values = dict(proposals.values(number, trials[:start]))
        value = stored.outcome(_place(proposals.space, values))
        trials.append(create_trial(params=values, distributions=proposals.space, value=value))
    accuracies = [trial.values[0] for trial in trials]
    return [max(accuracies[:count]) for count in TRIALS]


def _stored(tasks: Tasks, cell: Cell, count: int, storage: str) -> StoredFits:
    """The fits of a cell at the points of a scrambled Sobol sequence; made once."""
    features = tasks.encoded[cell.dataset].store.artifact.manifest.content_hash
    key = digest(canonical(plain([cell, features, count])), size=6).hex()
    fs, path = filesystem(join(resolve(storage), "sampler_fits", f"{cell.key}-{key}.parquet"))
    space = cell.distributions()
    if not fs.get_file_info(path).is_file:
        rows = _fitted(tasks, cell, space, count)
        fs.create_dir(path.rpartition("/")[0], recursive=True)
        with opened_whole(fs, path) as stream:
            pq.write_table(pa.Table.from_pylist(rows), stream)
    rows = pq.read_table(path, filesystem=fs, partitioning=None).to_pylist()
    places = np.array([_place(space, row) for row in rows])
    return StoredFits(places, np.array([row["val_accuracy"] for row in rows]))


def _fitted(
    tasks: Tasks, cell: Cell, space: Mapping[str, BaseDistribution], count: int
) -> list[dict[str, Any]]:
    points = torch.quasirandom.SobolEngine(len(space), scramble=True, seed=0).draw(count)
    members = [_at(space, point) for point in points.tolist()]
    rows = []
    for start in range(0, count, POPULATION):
        part = members[start : start + POPULATION]
        fitted = fit_cell(tasks, cell, 0, part, None)
        for values, (_, outcome) in zip(part, fitted, strict=True):
            rows.append(values | {"val_accuracy": outcome.val_accuracy or 0.0})
    return rows


def _at(space: Mapping[str, BaseDistribution], point: Sequence[float]) -> dict[str, Any]:
    """The values at a point of the unit cube."""
    values: dict[str, Any] = {}
    for (name, of_name), u in zip(space.items(), point, strict=True):
        if isinstance(of_name, CategoricalDistribution):
            values[name] = of_name.choices[int(u * len(of_name.choices))]  # u < 1
            continue
        low, high, log = of_name.low, of_name.high, of_name.log  # type: ignore[attr-defined]
        value = low * (high / low) ** u if log else low + (high - low) * u
        values[name] = round(value) if isinstance(low, int) else value
    return values


def _place(space: Mapping[str, BaseDistribution], values: Mapping[str, Any]) -> np.ndarray:
    """The point of the unit cube at which values lie; a choice is its place in the list."""
    place = []
    for name, of_name in space.items():
        value = values[name]
        if isinstance(of_name, CategoricalDistribution):
            place.append(of_name.choices.index(value) / max(1, len(of_name.choices) - 1))
            continue
        low, high, log = of_name.low, of_name.high, of_name.log  # type: ignore[attr-defined]
        place.append(
            math.log(value / low) / math.log(high / low) if log else (value - low) / (high - low)
        )
    return np.array(place)
