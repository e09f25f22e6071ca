"""Trials: one configuration of one cell fitted, for the search or to be kept."""

import asyncio
import contextlib
import dataclasses
import json
import tempfile
import time
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
import torch
from pyarrow.fs import FileType
from ray import tune
from ray.actor import ActorHandle

from actors.cells import Cell
from actors.tasks import Tasks, TaskSource
from cluster.artifacts import plain
from cluster.storage import filesystem, join, read, write
from models.methods import METHODS
from models.methods.adapted import CARD, TENSORS, Adapted, Report

FIT = "fit.json"
MODELS, TRIED = "models", "tried"
"""Folders of a search: final fits, and the models of trials while it goes on."""
LONGEST_GATHERING_SECONDS = 60


@dataclasses.dataclass(frozen=True)
class Fit:
    """How one model was fitted."""

    cell: str
    dataset: str
    name: str
    """Of the method, as result tables show it."""
    method: str
    concepts: str
    shots: int
    seed: int
    split_hash: str
    """Of the drawn shots; of the dataset's whole split where none are drawn."""
    hyper: dict[str, Any]
    val_accuracy: float | None
    val_loss: float | None
    wall_s: float


class Gathering:
    """Lets the first workers of a search begin together.

    Tune gives a waiting trial to the worker that has just finished one and ends the process that
    was starting for it. Where a trial takes less time than a process needs to start, a search would
    have one worker, and always another one starting.
    """

    def __init__(self, workers: int) -> None:
        self.missing, self.complete = workers, asyncio.Event()

    async def arrive(self) -> None:
        """Returns when all are there, or after LONGEST_GATHERING_SECONDS."""
        self.missing -= 1
        if self.missing <= 0:
            self.complete.set()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.complete.wait(), LONGEST_GATHERING_SECONDS)


def run_trial(
    config: Mapping[str, Any],
    source: TaskSource,
    cells: Mapping[str, Cell],
    folder: str,
    gathering: ActorHandle | None,
) -> None:
    """One Tune trial. config: cell, seed, searched values, and its number (None: a final fit).

    Reports at every evaluation point, and at the end with `final` set. folder: URI; a final fit is
    kept in its `models`, a trial in its `tried/{number}`, until the best is known. gathering: of
    the search's workers.
    """
    _gather(gathering)
    torch.set_num_threads(
        1
    )  # one CPU per trial; set here, for Tune runs this in a thread of its own
    cell = cells[config["cell"]]
    try:
        adapted, fit = fit_cell(_tasks(source), cell, config["seed"], config["values"], tune.report)
    except (ArithmeticError, ValueError) as error:
        if config["number"] is None:
            raise
        tune.report({"final": True, "error": f"{type(error).__name__}: {error}"})
        return  # a configuration that cannot be fitted is a result of the search, not a fault
    number = config["number"]
    keep(adapted, fit, join(folder, MODELS if number is None else tried(number)))
    figures = {"val_accuracy": fit.val_accuracy, "val_loss": fit.val_loss, "wall_s": fit.wall_s}
    tune.report({"final": True, **figures})


def fit_cell(
    tasks: Tasks, cell: Cell, seed: int, values: Mapping[str, Any], report: Report | None = None
) -> tuple[Adapted, Fit]:
    """Fits the cell's method on the shots of this seed; values: searched hyper-parameters."""
    started = time.monotonic()
    split, hyper = tasks.split(cell, seed), cell.with_values(values)
    teacher = tasks.teacher.adapter_state if cell.config.teacher and tasks.teacher else None
    method = METHODS[cell.config.method]
    adapted = method.fit(tasks.task(cell, split), hyper, seed, teacher, report)
    fit = Fit(
        cell=cell.key,
        dataset=cell.dataset,
        name=cell.name,
        method=cell.config.method,
        concepts=cell.config.concepts,
        shots=cell.shots,
        seed=seed,
        split_hash=split.hash if split else tasks.encoded[cell.dataset].dataset.split_hash,
        hyper=plain(hyper),
        val_accuracy=adapted.card.selection.val_accuracy,
        val_loss=adapted.card.selection.val_loss,
        wall_s=time.monotonic() - started,
    )
    return adapted, fit


def keep(adapted: Adapted, fit: Fit, models: str) -> None:
    """Writes models/{cell}/{seed}."""
    with tempfile.TemporaryDirectory() as made:
        adapted.save(made)
        (Path(made) / FIT).write_text(json.dumps(dataclasses.asdict(fit), indent=1))
        _copy(made, join(models, fit.cell, str(fit.seed)))


def adopt(folder: str, number: int, cell: str, seed: int) -> None:
    """Makes a trial's model the final fit of its seed: it has the same shots and values."""
    place = (cell, str(seed))
    _copy(join(folder, tried(number), *place), join(folder, MODELS, *place))


def tried(number: int) -> str:
    """Folder of the models of all cells' trials of this number."""
    return f"{TRIED}/{number}"


def kept(models: str, cell: str, seed: int) -> Fit | None:
    """How a kept model was fitted; None if it is not complete."""
    fs, folder = filesystem(join(models, cell, str(seed)))
    if fs.get_file_info(f"{folder}/{CARD}").type != FileType.File:
        return None
    return Fit(**json.loads(read(fs, f"{folder}/{FIT}")))


def fits_table(models: str, which: Iterable[tuple[str, int]]) -> pa.Table:
    """One row per kept model of these cells and seeds, with `hyper` as JSON."""
    fits = [kept(models, cell, seed) for cell, seed in which]
    rows = [dataclasses.asdict(fit) | {"hyper": json.dumps(fit.hyper)} for fit in fits if fit]
    return pa.Table.from_pylist(rows)


def _copy(source: str, target: str) -> None:
    """The files of a model; the card comes last, and with it the model is complete."""
    (from_fs, from_folder), (to_fs, to_folder) = filesystem(source), filesystem(target)
    to_fs.create_dir(to_folder, recursive=True)
    for name in (TENSORS, FIT, CARD):
        write(to_fs, f"{to_folder}/{name}", read(from_fs, f"{from_folder}/{name}"))


@lru_cache(maxsize=1)
def _gather(gathering: ActorHandle | None) -> None:
    """Once in a process."""
    if gathering is not None:
        ray.get(gathering.arrive.remote())


@lru_cache(maxsize=1)
def _tasks(source: TaskSource) -> Tasks:
    """Trials of one search share a process, and what it has opened."""
    return Tasks(source)
