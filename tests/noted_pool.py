"""Pools whose workers note in how many threads they compute, or compute nothing."""

import dataclasses
import os
from pathlib import Path

import torch

from cluster.errors import ConfigError
from cluster.pool import Pool


@dataclasses.dataclass(frozen=True, kw_only=True)
class NotedPool(Pool):
    """notes: folder that gets a file per process."""

    notes: str

    def use_share(self) -> None:
        super().use_share()
        Path(self.notes, str(os.getpid())).write_text(str(torch.get_num_threads()))


def noted_threads(notes: Path) -> list[int]:
    """Of every worker."""
    return [int(note.read_text()) for note in notes.iterdir()]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RefusingPool(Pool):
    """A pool whose workers cannot use their setting."""

    def use_share(self) -> None:
        raise ConfigError("pool.cpus: 1; allowed on this node: none")
