"""How the driver of a pretraining run sees how far its workers are."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.actor import ActorHandle

from cluster.progress import show_progress, watched

SHOWN = ("loss", "dino", "ibot")

Note = tuple[int, dict[str, float]]
"""Images done, and the latest row of metrics."""


class Board:
    """Where the first worker leaves a note for the driver; a Ray actor."""

    def __init__(self) -> None:
        self.note: Note | None = None
        self.reason: str | None = None
        self.unreadable: dict[str, str] = {}

    def put(self, done: int, row: dict[str, float]) -> None:
        self.note = (done, row)

    def get(self) -> Note | None:
        """The latest note; None before the first."""
        return self.note

    def put_unreadable(self, place: str, reason: str) -> None:
        """An image that a worker was to train on and could not decode."""
        self.unreadable.setdefault(place, reason)

    def get_unreadable(self) -> dict[str, str]:
        """Place to reason of all images of `put_unreadable`; several workers may meet one."""
        return self.unreadable

    def refuse(self, reason: str) -> None:
        """Ends the run: what a user can mend has kept a worker from it."""
        self.reason = reason

    def refusal(self) -> str | None:
        """The reason of `refuse`; None if all is well."""
        return self.reason


@contextmanager
def show_board(board: ActorHandle, images: int) -> Iterator[None]:
    """Shows the board's notes as a progress line while `TorchTrainer.fit` keeps the main thread.

    images: crops to be trained on in the whole run.
    """
    first = True
    with show_progress("pretraining", images, "images") as bar:

        def look() -> None:
            nonlocal first
            note: Any = ray.get(board.get.remote())
            if note is None:
                return
            images_done, row = note
            if first:  # left by an earlier run: does not count for the rate
                bar.done = bar.earlier = images_done
                first = False
            metrics = {name: row[name] for name in SHOWN if name in row}
            bar.advance(images_done - bar.done, **metrics)

        with watched(look):
            yield
