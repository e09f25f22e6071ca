"""Cells that can be run: what only the datasets can tell is checked before anything is computed."""

from collections.abc import Mapping, Sequence
from typing import Any

from actors.search.cells import Cell, MethodConfig, declared_cells
from actors.search.tasks import Tasks
from cluster.errors import ConfigError
from models.methods import METHODS
from models.text_classifier import OF_PROMPTS


def runnable_cells(
    tasks: Tasks, methods: Mapping[str, MethodConfig], seeds: Sequence[int]
) -> list[Cell]:
    """All cells of these methods, each of which can be run.

    Raises ConfigError, naming the field, if one has not the CLIP, classes, shots, prompts, tokens
    or pictures that it needs, or a class name is longer than CLIP reads.
    """
    shared: dict[str, Any] = {"templates": tasks.source.templates}
    if tasks.teacher:  # one without pretraining gets an adapter of the same size
        shared["adapter"] = tasks.teacher.model["adapter"]
    cells = list(declared_cells(list(tasks.encoded), methods, shared))
    tasks.require_fitting(cells)
    tasks.require_readable_names(cells)
    for cell in cells:
        _require_prompts(tasks, cell)
        if METHODS[cell.config.method].reads_patches(cell.hyper, cell.config.space):
            tasks.encoded[cell.dataset].store.require_patches(f"methods.{cell.name}")
        require_pictures(tasks, cell)
        for seed in cell.seeds(seeds):
            if drawn := tasks.split(cell, seed):
                tasks.encoded[cell.dataset].store.readable("train", drawn.train_ids)
    return cells


def _require_prompts(tasks: Tasks, cell: Cell) -> None:
    templates = tasks.source.templates
    asked = {templates, getattr(cell.hyper, "templates", templates)}
    if (asked & OF_PROMPTS) and not tasks.encoded[cell.dataset].prompts("all"):
        raise ConfigError(
            f"templates: {min(asked & OF_PROMPTS)!r}, but dataset {cell.dataset!r} came without "
            "prompts; allowed: hand, ensemble"
        )


def require_pictures(tasks: Tasks, cell: Cell) -> None:
    """ConfigError if the cell's method learns on pictures, and imagined ones are missing."""
    encoded = tasks.encoded[cell.dataset]
    if METHODS[cell.config.method].reads == "images" and encoded.ids("imagined", "all"):
        tasks.base_set(encoded)
