"""A pool whose workers note in how many threads they compute."""

import dataclasses
import os
from pathlib import Path

import torch

from cluster.pool import Pool


@dataclasses.dataclass(frozen=True, kw_only=True)
class NotedPool(Pool):
    """notes: folder that gets a file per process."""

    notes: str

    def use_cpus(self) -> None:
        super().use_cpus()
        Path(self.notes, str(os.getpid())).write_text(str(torch.get_num_threads()))


def noted_threads(notes: Path) -> list[int]:
    """Of every worker."""
    return [int(note.read_text()) for note in notes.iterdir()]
