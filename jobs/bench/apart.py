"""Measuring in a process of its own, for a process never gives back its highest memory."""

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any


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


def _answer(
    to: Connection, measure: Callable[..., dict[str, float]], arguments: tuple[Any, ...]
) -> None:
    to.send(measure(*arguments))
