"""Saved models as a job is given them: of a search, imported, or in a folder."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b, file_digest
from os.path import isfile
from pathlib import Path
from typing import Any

from actors.search.fits import FIT, MODELS, Fit
from actors.search.tables import read_fits
from cluster.artifacts import open_artifact, open_complete
from cluster.catalog.splits import ValPolicy
from cluster.errors import ConfigError, one_line
from cluster.manifest import MANIFEST
from cluster.storage import resolve
from models.methods.adapted import CARD, TENSORS, Card
from models.released.fine_tuned import OWN_CLIP

_TOLD: dict[str, Any] = {
    "name": str,
    "concepts": str,
    "shots": int,
    "seed": int,
    "split_hash": str,
    "hyper": dict,
    "val_accuracy": float | None,
    "wall_s": float | None,
}
"""Fields of a fit that tables show, and their types."""


@dataclass(frozen=True)
class SavedModel:
    """One saved model, by where it lies; it can be sent to any node."""

    uri: str
    """Of an artifact, or a local folder that all nodes see."""
    place: tuple[str, ...]
    """Folders below it."""
    kind: str | None
    """Of the artifact; None for a plain folder."""
    hash: str
    """Of what it is made of."""
    val_policy: ValPolicy | None
    """Of its search; None where it is not known."""

    def folder(self) -> Path:
        """On this node; copied there first if it lies elsewhere."""
        if self.kind is None:
            return Path(self.uri, *self.place)
        return open_artifact(self.uri, self.kind).local_dir(*self.place)


def saved_models(models: Sequence[str]) -> list[SavedModel]:
    """All models of "adapted" and "model" artifacts, and of folders that hold one.

    In the order given, those of a search in the order of its fits. Raises ConfigError for what is
    none of them.
    """
    return [model for name in models for model in _models_of(name)]


def _models_of(name: str) -> list[SavedModel]:
    uri = resolve(name)
    if isfile(Path(uri, CARD)) and not isfile(Path(uri, MANIFEST)):
        return [SavedModel(uri, (), None, _hash(Path(uri)), None)]
    artifact = open_complete(uri, "models")
    manifest = artifact.manifest
    if manifest.kind == "model":
        return [SavedModel(uri, (), "model", manifest.content_hash, None)]
    if manifest.kind != "adapted":
        raise ConfigError(
            f"models: {name!r} is of kind {manifest.kind!r}; allowed: kinds 'adapted' and 'model', "
            "and a folder of one saved model"
        )
    policy: ValPolicy = manifest.config["val_policy"]
    places = [(MODELS, fit.cell, str(fit.seed)) for fit in read_fits(artifact)]
    return [SavedModel(uri, place, "adapted", manifest.content_hash, policy) for place in places]


def _hash(folder: Path) -> str:
    """Of the bytes of a model in a plain folder, of its own CLIP's, and of how it was fitted."""
    state = blake2b(digest_size=16)
    for name in (CARD, TENSORS, OWN_CLIP, FIT):
        if isfile(folder / name):
            with (folder / name).open("rb") as stream:
                state.update(file_digest(stream, blake2b).digest())
    return state.hexdigest()


def fit_of(folder: Path, card: Card) -> Fit:
    """How a saved model was fitted, as far as it is told beside it.

    ConfigError if the file that tells it is none of a fit.
    """
    if not isfile(folder / FIT):
        return told_fit(card, shots=0)
    try:
        fit = Fit(**json.loads((folder / FIT).read_text()))
    except (ValueError, TypeError, RecursionError) as error:
        raise ConfigError(f"models: {folder / FIT} tells no fit ({one_line(error)})") from error
    for name, kind in _TOLD.items():
        if not isinstance(getattr(fit, name), kind):
            raise ConfigError(f"models: {folder / FIT} has no such {name} as a fit has")
    return fit


def told_fit(card: Card, shots: int) -> Fit:
    """The fit of a model that was fitted elsewhere. shots: training images per class, 0 if that is
    not known."""
    name = f"{card.method}_lora" if card.hyper.get("lora") else card.method
    return Fit(
        cell=name,
        dataset=card.dataset,
        name=name,
        method=card.method,
        concepts="all",
        shots=shots,
        seed=card.seed,
        split_hash="",
        hyper=card.hyper,
        val_accuracy=card.selection.val_accuracy,
        val_loss=card.selection.val_loss,
        wall_s=None,
        cpu_s=None,
        population=1,
    )
