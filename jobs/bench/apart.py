"""Measuring in a process of its own, for a process never gives back its highest memory."""

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Event, Thread
from typing import Any

import psutil

LOOK_SECONDS = 0.01


def apart(measure: Callable[..., dict[str, float]], *arguments: Any) -> dict[str, float]:
    """What a function of a module returns, computed by a fresh process."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(theirs, measure, arguments))
    process.start()
    theirs.close()
    try:
        return ours.recv()
    finally:
        process.join()


def peak() -> float:
    """Highest resident memory of this process so far, in MiB."""
    return peak_bytes() / 2**20


def peak_bytes() -> int:
    """Largest resident size of this process so far; Linux counts it since the program started,
    where getrusage would also count the parent's."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/self/status has no VmHWM")


class OwnMemory:
    """Memory of this process that is in no file; see `own_memory`."""

    def __init__(self) -> None:
        self._before = _own_bytes()
        self._highest = self._before

    @property
    def highest(self) -> float:
        """Beyond what there was at first, in MiB."""
        return (self._highest - self._before) / 2**20

    def look(self) -> None:
        self._highest = max(self._highest, _own_bytes())


@contextmanager
def own_memory() -> Iterator[OwnMemory]:
    """Looks at this process's own memory some hundred times a second, while what is inside runs;
    pages of mapped files, which the system can drop, are none of it."""
    memory, ended = OwnMemory(), Event()

    def watch() -> None:
        while not ended.wait(LOOK_SECONDS):
            memory.look()

    thread = Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield memory
    finally:
        memory.look()
        ended.set()
        thread.join()


def _own_bytes() -> int:
    memory = psutil.Process().memory_info()
    return int(memory.rss - memory.shared)


def _answer(
    to: Connection, measure: Callable[..., dict[str, float]], arguments: tuple[Any, ...]
) -> None:
    to.send(measure(*arguments))
