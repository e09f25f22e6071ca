"""Fitting a method on a task, and what its model says of images."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from actors.local.encoded import Encoded
from actors.search.predictor import Predictor
from cluster.catalog.splits import Concepts
from cluster.errors import ConfigError
from models.methods import METHODS
from models.methods.adapted import Adapted
from models.task import Task

IMAGES_AT_ONCE = 1024


def fit(method: str, task: Task, seed: int = 0, **hyper: Any) -> Adapted:
    """Fits one of `models.methods.METHODS`; what it chooses, it chooses on the task's val images.

    hyper: those of the method's hyper-parameters that differ from its defaults. The model has
    `save`, and `actors.search.predictor.open_model` reads what that wrote. Raises ConfigError on an
    unknown method or hyper-parameter, and for a method that learns on pictures: a task of `Encoded`
    has tokens alone.
    """
    allowed = sorted(name for name, known in METHODS.items() if known.reads != "images")
    if method not in allowed:
        raise ConfigError(f"method: {method!r}; allowed: {', '.join(allowed)}")
    try:
        declared = METHODS[method].Hyper(**hyper)
    except TypeError as error:
        raise ConfigError(f"hyper of {method}: {error}") from error
    return METHODS[method].fit(task, declared, seed)


@torch.no_grad()
def accuracy(model: Adapted, encoded: Encoded, concepts: Concepts = "all") -> float:
    """Share of the test images of these classes that the model names right, in [0, 1].

    concepts: also the label space: the model chooses among the names of these classes. Raises
    ValueError if it cannot, because it has learned a classifier per class and they are others.
    """
    names, test = encoded.names(concepts), encoded.split("test", concepts)
    parts = [model.logits(part, names) for part in test.clean.split(IMAGES_AT_ONCE)]
    return (torch.cat(parts).argmax(dim=1) == test.labels).double().mean().item()


def predict(
    model: Adapted, files: Sequence[str], names: Sequence[str] | None = None, top: int = 5
) -> list[dict[str, Any]]:
    """A row per image file; see `actors.search.predictor.Predictor`."""
    return Predictor(model, names, top)(files)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as aligned text, a column per key of the first; numbers stand to the right.

    A float has one digit after the point.
    """
    if not rows:
        return ""
    keys = list(rows[0])
    lines = [keys, *([_text(row.get(key, "")) for key in keys] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(keys))]
    right = [isinstance(rows[0][key], int | float) for key in keys]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if numeric else cell.ljust(width)
            for cell, width, numeric in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    )


def _text(value: Any) -> str:
    return f"{value:.1f}" if isinstance(value, float) else str(value)
