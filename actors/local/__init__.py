"""Few-shot learning and discovery in one process, without Ray: for notebooks and small scripts."""

from actors.local.datasets import LocalDataset, embedded, folder, unlabelled
from actors.local.discovery import NamedImages, discover
from actors.local.encoded import Encoded
from actors.local.few_shot import accuracy, fit, predict, table
from models.backbones import load_clip

__all__ = [
    "Encoded",
    "LocalDataset",
    "NamedImages",
    "accuracy",
    "discover",
    "embedded",
    "fit",
    "folder",
    "load_clip",
    "predict",
    "table",
    "unlabelled",
]
