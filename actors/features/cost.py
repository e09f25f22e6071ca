"""What encoding will take, before it starts: bytes on disk, and time."""

import shutil
import time

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from pyarrow.fs import FileSelector, LocalFileSystem

from actors.features.encoder import Encoder, EncoderConfig
from cluster.artifacts import Draft
from cluster.errors import ConfigError

WARM_UP_ROWS = 4


def feature_bytes(plan: pa.Table, image: tuple[int, int]) -> int:
    """Bytes of the arrays that a plan's rows become. image: tokens per view, channels."""
    tokens, channels = image
    return (pc.sum(plan["views"]).as_py() or 0) * tokens * channels * np.float16().nbytes


def require_room(work: Draft, table: str, features: int, storage: str) -> None:
    """Refuses storage on a local disk that has no room for encoding; an object store is not asked.

    The working table and the features made from it are there together; what an earlier run has left
    of the table counts. features: bytes; the table is as large, for float16 numbers of a network
    hardly compress. Raises ConfigError, naming `storage`.
    """
    fs, folder = work.filesystem()
    if not isinstance(fs, LocalFileSystem):
        return
    left = fs.get_file_info(FileSelector(f"{folder}/{table}", allow_not_found=True))
    need = 2 * features - min(features, sum(file.size or 0 for file in left))
    free = shutil.disk_usage(folder).free
    if free < need:
        raise ConfigError(
            f"storage: {storage!r} has {free / 1e9:.1f} GB free, and encoding needs "
            f"{need / 1e9:.1f} GB, half of them until it is done; allowed: a disk with that room"
        )


def warm_up_seconds(config: EncoderConfig, plan: pa.Table) -> float:
    """Seconds per view on one thread of this machine, of some rows spread over a plan."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    encoder = Encoder(config)
    places = np.linspace(0, len(plan) - 1, min(WARM_UP_ROWS, len(plan)), dtype=int)
    rows = plan.take(places).sort_by("place").to_pylist()
    batch = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    encoder(batch)
    started = time.perf_counter()
    encoder(batch)
    seconds = time.perf_counter() - started
    torch.set_num_threads(threads)
    return seconds / sum(row["views"] for row in rows)
