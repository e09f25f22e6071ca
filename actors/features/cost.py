"""What encoding will take, before it starts: bytes on disk, and time."""

import shutil
import time
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch
from pyarrow.fs import LocalFileSystem

from actors.features.encoder import Encoder, EncoderConfig
from actors.pictures.places import texts_of_ids
from cluster.artifacts import WORK, Draft
from cluster.errors import ConfigError
from cluster.files import listed

WARM_UP_ROWS = 4


def require_room(drafts: Sequence[Draft], features: int, storage: str) -> None:
    """Refuses storage on a local disk that has no room for encoding; an object store is not asked.

    features: bytes of all shards; what an earlier run has left of them in the drafts counts. Raises
    ConfigError, naming `storage`.
    """
    fs, folder = drafts[0].filesystem()
    if not isinstance(fs, LocalFileSystem):
        return
    files = [listed(*draft.filesystem(), without=WORK) for draft in drafts]
    need = features - sum(size for of_draft in files for size in of_draft.values())
    free = shutil.disk_usage(folder).free
    if free < need:
        raise ConfigError(
            f"storage: {storage!r} has {free / 1e9:.1f} GB free, and encoding needs "
            f"{need / 1e9:.1f} GB; allowed: a disk with that room"
        )


def warm_up_seconds(config: EncoderConfig, plan: pa.Table) -> float:
    """Seconds per view on one thread of this machine, of some rows spread over a plan."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    encoder = Encoder(config)
    places = np.linspace(0, len(plan) - 1, min(WARM_UP_ROWS, len(plan)), dtype=int)
    rows = texts_of_ids(plan.take(places)).sort_by("place").to_pylist()
    batch = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    encoder(batch)
    started = time.perf_counter()
    encoder(batch)
    seconds = time.perf_counter() - started
    torch.set_num_threads(threads)
    return seconds / sum(row["views"] for row in rows)
