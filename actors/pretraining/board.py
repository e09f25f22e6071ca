"""How the driver of a pretraining run sees how far its workers are."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.actor import ActorHandle

from cluster.progress import Stage, stage

SECONDS_BETWEEN_LOOKS = 1.0
SHOWN = ("loss", "dino", "ibot")

Note = tuple[int, dict[str, float]]
"""Images done, and the latest row of metrics."""


class Board:
    """Where the first worker leaves a note for the driver; a Ray actor."""

    def __init__(self) -> None:
        self.note: Note | None = None

    def put(self, done: int, row: dict[str, float]) -> None:
        self.note = (done, row)

    def get(self) -> Note | None:
        """The latest note; None before the first."""
        return self.note


def new_board() -> Any:
    """A board on the cluster, which takes no CPU of its own."""
    return ray.remote(Board).options(num_cpus=0).remote()


@contextmanager
def shown(board: ActorHandle, images: int) -> Iterator[None]:
    """Shows the board's notes as a stage, in a thread: `TorchTrainer.fit` keeps the main one.

    images: crops to be trained on in the whole run.
    """
    ended = threading.Event()
    with stage("pretraining", images, "images") as bar:
        watcher = threading.Thread(target=_watch, args=(board, bar, ended), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()


def _watch(board: ActorHandle, bar: Stage, ended: threading.Event) -> None:
    first = True
    while True:
        last = ended.wait(SECONDS_BETWEEN_LOOKS)
        note: Any = ray.get(board.get.remote())
        if note is not None:
            done, row = note
            if first:  # left by an earlier run: does not count for the rate
                bar.done = bar.earlier = done
                first = False
            bar.advance(done - bar.done, **{name: row[name] for name in SHOWN if name in row})
        if last:
            return
