"""Fits: how models were fitted, and where they are kept, by cell and seed."""

import dataclasses
import json
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pyarrow.fs import FileType

from actors.search.cells import Cell
from cluster.artifacts import WORK
from cluster.storage import filesystem, join, read, write
from models.methods.adapted import CARD, TENSORS, Adapted

FIT = "fit.json"
MODELS, TRIED = "models", f"{WORK}/tried"
"""Folders of a search: final fits, and the models of trials while it goes on."""


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
    wall_s: float | None
    """Of the population, over its members; None where it is not known, as of imported models."""
    cpu_s: float | None
    """Of the process in that time, over the members."""
    population: int
    """Members fitted together, this one among them."""

    @property
    def key(self) -> str:
        """A safe file name that no other fit of a search has."""
        return f"{self.cell}-{self.seed}"


def keep(adapted: Adapted, fit: Fit, models: str) -> None:
    """Writes a model and how it was fitted to `models`/{cell}/{seed}."""
    with tempfile.TemporaryDirectory() as folder:
        adapted.save(folder)
        (Path(folder) / FIT).write_text(json.dumps(dataclasses.asdict(fit), indent=1))
        _copy(folder, join(models, fit.cell, str(fit.seed)))


def adopt(folder: str, number: int, cell: str, seed: int) -> None:
    """Makes a trial's model the final fit of its seed: it has the same shots and values."""
    place = (cell, str(seed))
    _copy(join(folder, tried(number), *place), join(folder, MODELS, *place))


def tried(number: int) -> str:
    """Folder of the models of all cells' trials of this number."""
    return f"{TRIED}/{number}"


def read_fit(models: str, cell: str, seed: int) -> Fit | None:
    """How the model of a cell and seed was fitted; None if it is not complete."""
    fs, folder = filesystem(join(models, cell, str(seed)))
    if fs.get_file_info(f"{folder}/{CARD}").type != FileType.File:
        return None
    return Fit(**json.loads(read(fs, f"{folder}/{FIT}")))


def fitted_seeds(models: str, cells: Iterable[Cell], seeds: Sequence[int]) -> dict[str, list[int]]:
    """Key of each cell to those of the seeds whose model is there."""
    keys = [cell.key for cell in cells]
    return {key: [seed for seed in seeds if read_fit(models, key, seed)] for key in keys}


def _copy(source: str, target: str) -> None:
    """Copies the files of a model; the card comes last, and with it the model is complete."""
    (from_fs, from_folder), (to_fs, to_folder) = filesystem(source), filesystem(target)
    for name in (TENSORS, FIT, CARD):
        write(to_fs, f"{to_folder}/{name}", read(from_fs, f"{from_folder}/{name}"))
