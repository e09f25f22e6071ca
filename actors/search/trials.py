"""Trials: configurations of one cell fitted together, for the search or to be kept."""

import dataclasses
import math
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import ray
import torch
from ray import tune
from ray.actor import ActorHandle

from actors.search.cells import Cell
from actors.search.fits import MODELS, Fit, keep, tried
from actors.search.tasks import Tasks, TaskSource, opened_tasks
from cluster.content import plain
from cluster.errors import ConfigError, refusal
from cluster.pool import Pool
from cluster.storage import join
from cluster.worker_versions import require_driver_versions
from models.methods import METHODS
from models.methods.adapted import Adapted, val_metrics
from models.task import Reads, Task
from models.weights import not_finite

NUMERICAL = (ArithmeticError, torch.linalg.LinAlgError)
"""What a fit raises whose numbers have ended."""
REFUSED = "refused"
"""Key of the report of a trial that a bad setting has kept from being tried."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a member: "complete", "pruned", or "fail" with the error that says why.

    val_accuracy, val_loss: at its end, or of its last report. reports: val accuracy by step.
    """

    state: str
    val_accuracy: float | None
    val_loss: float | None
    reports: dict[int, float]
    wall_s: float
    cpu_s: float
    population: int
    error: str | None = None


def run_trial(
    config: Mapping[str, Any],
    source: TaskSource,
    cells: Mapping[str, Cell],
    folder: str,
    gathering: ActorHandle,
    pool: Pool,
) -> None:
    """One Tune trial: a population of a cell. config: see `CellStudy.next_config`.

    Reports once: the `outcomes` of all members, or as REFUSED what a user can mend, which
    is no outcome of a trial. folder: URI; a final fit is kept in its `models`, a trial in its
    `tried/{number}`, until the best is known. gathering: of the search's workers. pool: which
    device the task lies on, and so is learned, and in how many threads.
    """
    _gather(gathering)
    pool.use_share()  # here, for Tune runs this in a thread of its own
    try:
        require_driver_versions()
        outcomes = _population(config, opened_tasks(source), cells, folder, pool.device)
    except Exception as error:
        if (refused := refusal(error)) is None:
            raise
        tune.report({REFUSED: str(refused)})
    else:
        tune.report({"outcomes": [dataclasses.asdict(outcome) for outcome in outcomes]})


def _population(
    config: Mapping[str, Any], tasks: Tasks, cells: Mapping[str, Cell], folder: str, device: str
) -> list[Outcome]:
    """Fits the members of a population, and keeps those that have come to their end."""
    cell, members = cells[config["cell"]], config["members"]
    values = [member["values"] for member in members]
    final = members[0]["number"] is None
    medians = None if final else dict(config["medians"])
    fitted = fit_cell(tasks, cell, config["seed"], values, medians, device)
    for member, (adapted, outcome) in zip(members, fitted, strict=True):
        if final and outcome.error:
            raise RuntimeError(f"{cell.key}, seed {config['seed']}: {outcome.error}")
        if adapted is not None:
            fit = fit_of(tasks, cell, config["seed"], adapted, outcome)
            keep(adapted, fit, join(folder, MODELS if final else tried(member["number"])))
    return [outcome for _, outcome in fitted]


def fit_cell(
    tasks: Tasks,
    cell: Cell,
    seed: int,
    members: Sequence[Mapping[str, Any]],
    medians: Mapping[int, float] | None,
    device: str = "cpu",
) -> list[tuple[Adapted | None, Outcome]]:
    """Fits the cell's method on the shots of this seed, for every member's searched values.

    medians: a member whose val accuracy is below this at such a step is pruned; None: nobody
    watches, and val is asked at the end alone. Where one of the members cannot be fitted, all are
    fitted one by one: an error says nothing of the others.

    A member whose numbers end is a result of the search. Raises ConfigError for what a method
    refuses (ValueError): that is a fault of the settings, and no result.
    """
    wall, cpu = time.monotonic(), time.process_time()
    watched = _Watched(members, medians)
    teacher = tasks.teacher.adapter_state if cell.config.teacher and tasks.teacher else None
    hypers = [cell.with_values(values) for values in members]
    error = ""
    try:
        reads = METHODS[cell.config.method].reads
        task = _on(device, tasks.task(cell, tasks.split(cell, seed)), reads)
        adapted = METHODS[cell.config.method].fit_many(
            task, hypers, seed, teacher, None if medians is None else watched.goes_on
        )
    except NUMERICAL as failure:
        if len(members) > 1:
            alone = [fit_cell(tasks, cell, seed, [v], medians, device) for v in members]
            return [one for (one,) in alone]
        adapted, error = [None], f"{type(failure).__name__}: {failure}"
    except ValueError as fault:
        raise ConfigError(f"{cell.key}: {fault}") from fault
    wall_s = (time.monotonic() - wall) / len(members)
    cpu_s = (time.process_time() - cpu) / len(members)
    fitted = []
    for member, one in enumerate(adapted):
        error_of_one = error or (_not_finite(one) if one else "")
        fitted.append(
            (
                None if error_of_one else one,
                watched.outcome(member, one, error_of_one, wall_s, cpu_s),
            )
        )
    return fitted


class _Watched:
    """What the members of a population report while they are fitted."""

    def __init__(
        self, members: Sequence[Mapping[str, Any]], medians: Mapping[int, float] | None
    ) -> None:
        self.medians = medians or {}
        self.reports: list[dict[int, float]] = [{} for _ in members]
        self.last: list[dict[str, float]] = [{} for _ in members]

    def goes_on(self, member: int, metrics: dict[str, float]) -> bool:
        """See `models.methods.adapted.WatchMany`."""
        self.last[member] = metrics
        if "val_accuracy" not in metrics:
            return True
        step, value = int(metrics["step"]), metrics["val_accuracy"]
        self.reports[member][step] = value
        return value >= self.medians.get(step, -math.inf)

    def outcome(
        self, member: int, adapted: Adapted | None, error: str, wall_s: float, cpu_s: float
    ) -> Outcome:
        population = len(self.reports)
        if error:
            return Outcome("fail", None, None, {}, wall_s, cpu_s, population, error)
        at_end = val_metrics(adapted.card.selection) if adapted else self.last[member]
        return Outcome(
            state="complete" if adapted else "pruned",
            val_accuracy=at_end.get("val_accuracy"),
            val_loss=at_end.get("val_loss"),
            reports=self.reports[member],
            wall_s=wall_s,
            cpu_s=cpu_s,
            population=population,
        )


def _not_finite(adapted: Adapted) -> str:
    """Why a model is none whose numbers have ended; "" if it is one."""
    broken = not_finite(adapted.tensors())
    return f"{broken[0]} is not finite" if broken else ""


def fit_of(tasks: Tasks, cell: Cell, seed: int, adapted: Adapted, outcome: Outcome) -> Fit:
    """The Fit of a member that has come to its end."""
    split = tasks.split(cell, seed)
    return Fit(
        cell=cell.key,
        dataset=cell.dataset,
        name=cell.name,
        method=cell.config.method,
        concepts=cell.config.concepts,
        shots=cell.shots,
        seed=seed,
        split_hash=split.hash if split else tasks.encoded[cell.dataset].dataset.split_hash,
        hyper=plain(adapted.card.hyper),
        val_accuracy=outcome.val_accuracy,
        val_loss=outcome.val_loss,
        wall_s=outcome.wall_s,
        cpu_s=outcome.cpu_s,
        population=outcome.population,
    )


def _on(device: str, task: Task, reads: Reads) -> Task:
    """The task with the tensors there that are used whole; on the CPU nothing is copied.

    All tokens of all images may be more than a GPU holds: see `models.task.Features`.
    """
    return dataclasses.replace(
        task,
        train=task.train.to(device, reads),
        val=task.val and task.val.to(device, reads),
        imagined=task.imagined and task.imagined.to(device, "tokens"),
        clip=task.clip.to(device),
        text=task.text.to(device),
    )


@lru_cache(maxsize=1)
def _gather(gathering: ActorHandle) -> None:
    """Waits for the other workers, once in a process."""
    ray.get(gathering.arrive.remote())
